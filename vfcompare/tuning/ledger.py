"""What became of every trial: scores from the files of its run, and one line of a ledger for each."""

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vfcompare import failure, statistics
from vfcompare.runs import plan, status, store
from vfcompare.schema.validate import TUNING_SEEDS
from vfcompare.statistics import ScoreScale
from vfcompare.tuning.space import Values
from vfcompare.words import counted

if TYPE_CHECKING:
    from vfcompare.training.cell import Cell

LEDGER = "ledger.jsonl"

ENDED = (*status.DONE, "crashed", "out of memory")
"""How a trial ends that may be over; what else can be read of it is not the agent's fault."""

TRIES = 2
"""Attempts that the machine must end before that counts as the setting's own doing: what never fits in memory
would keep a search from ever ending."""

MACHINE = "search/machine.json"
"""Which attempts the machine ended, by run: `run.json` knows the last one only."""


def has_tuning_seeds(study: Path) -> bool:
    """Whether a study's seeds have chosen settings, so that they must not judge them, too.

    By its plan, and by what it trained where nobody can read that.
    """
    entries: list[Any] = []
    try:
        planned = store.read_json(study / "plan.json").get("cells")
        entries = planned if isinstance(planned, list) else entries
    except (OSError, ValueError):
        for folder in plan.runs(study):
            with contextlib.suppress(OSError, ValueError):
                entries.append(store.read_json(folder / "run.json"))
    return any(seed >= TUNING_SEEDS for entry in entries for seed in _seeds(entry))


def _seeds(entry: Any) -> Iterator[int]:
    """Whole numbers among the seeds of an entry of a plan, or of a `run.json`."""
    listed = entry.get("seeds") if isinstance(entry, dict) else None
    for seed in listed if isinstance(listed, list | dict) else ():
        with contextlib.suppress(ValueError):
            if isinstance(seed, int | str):
                yield int(seed)


class Trial(NamedTuple):
    """One setting of one agent on one environment.

    Attributes:
      number: in the search; 0 is the preset.
      values: what it sets, by path.
      cell: with all its seeds.
    """

    number: int
    values: Values
    cell: "Cell"

    @property
    def name(self) -> tuple[str, str]:
        """Agent and environment."""
        return self.cell.agent, self.cell.env


class Rated(NamedTuple):
    """A trial and what came of it.

    Attributes:
      trial: what was tried.
      status: as `vfcompare status` has it.
      scores: of each seed; of a failed one the worst, and none while the trial is not over.
      steps: taken at the environment, over all seeds.
      seconds: wall-clock, its share of the program that it was trained in.
      note: what is said of a trial that failed.
      machine: attempts that a full disk or the like has ended, and not the agent.
      again: whether the last attempt was one of these and too few were, so that the trial is open.
    """

    trial: Trial
    status: str
    scores: dict[int, float]
    steps: int | None
    seconds: float | None
    note: str
    machine: tuple[int, ...] = ()
    again: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return self.status in ENDED and not self.again

    @property
    def score(self) -> float | None:
        """Mean over seeds, which is what reports judge by: a median would not see two failures in five."""
        return float(np.mean(list(self.scores.values()))) if self.scores else None

    def row(self, metric: str) -> dict[str, Any]:
        """Its line of the ledger."""
        cell = self.trial.cell
        return {
            "agent": cell.agent,
            "env": cell.env,
            "trial": self.trial.number,
            "values": self.trial.values,
            "seeds": cell.seeds,
            "run": cell.id,
            "status": self.status,
            "metric": metric,
            "score": self.score,
            "scores": {str(seed): score for seed, score in self.scores.items()},
            "budget": cell.config["env_steps"],
            "env_steps": self.steps,
            "seconds": self.seconds,
            "note": self.note,
        }


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, float, float], float]] = {
    "auc": statistics.area_under_curve,
    "final": statistics.final,
}
"""What a trial can be judged by; named before it is trained.

Of a seed that completed it is the report's number. One that failed has the worst score throughout, where a
report keeps its curve up to the failure: a setting that fails is not to be chosen for how it began.
"""


def rate(
    study: Path, trials: Iterable[Trial], metric: str, scales: Mapping[str, ScoreScale]
) -> list[Rated]:
    """What became of trials, from files.

    A seed that diverged and every seed of a trial that crashed count, with the worst score: that of the
    random policy on the environment, or the lowest that any seed has there, whichever is lower. A trial
    that the machine ended is open and has no score, until it has done so `TRIES` times.
    """
    found = {cell.id: cell for cell in status.read(study)}
    before = _remembered(study)
    read = [
        _read(study, trial, found, metric, scales[trial.cell.env], before.get(trial.cell.id, ()))
        for trial in trials
    ]
    worst = {env: floor(scale) for env, scale in scales.items()}
    for rated in read:
        env = rated.trial.cell.env
        finite = [score for score in rated.scores.values() if math.isfinite(score)]
        worst[env] = min([worst[env], *finite])
    worst = {env: score if math.isfinite(score) else 0.0 for env, score in worst.items()}
    return [_filled(rated, worst[rated.trial.cell.env]) for rated in read]


def _read(
    study: Path,
    trial: Trial,
    found: Mapping[str, status.CellStatus],
    metric: str,
    scale: ScoreScale,
    before: tuple[int, ...],
) -> Rated:
    """One trial, with NaN for the score of each failed seed."""
    cell, now = trial.cell, found.get(trial.cell.id)
    scores = dict.fromkeys(cell.seeds, math.nan)
    if now is None or now.status not in ENDED:
        return Rated(trial, "planned" if now is None else now.status, {}, None, None, "")
    if now.status not in status.DONE:
        machine, again = _machine(study / cell.id, now, before)
        return Rated(
            trial, now.status, {} if again else scores, None, None, now.note, machine, again
        )
    try:
        record = store.read_json(study / cell.id / "run.json")
        table = store.read_table(study / cell.id / "evaluation.parquet")
        returns = scale.scores(table["return_sampled"])
        for seed in cell.seeds:
            rows = table["seed"] == seed
            if record["seeds"][str(seed)]["status"] == "completed":
                steps = np.asarray(table["env_steps"][rows], np.float64)
                budget = cell.config["env_steps"]
                scores[seed] = METRICS[metric](steps, returns[rows], 0.0, budget)
        seconds, steps_taken = record["seconds"]["total"], int(record["env_steps"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Rated(trial, "damaged", {}, None, None, failure.describe(error)[:200])
    failed = sum(math.isnan(score) for score in scores.values())
    note = f"{counted(failed, 'seed')} diverged" if failed else ""
    return Rated(trial, now.status, scores, steps_taken, float(seconds), note, before)


def _machine(
    folder: Path, now: status.CellStatus, before: tuple[int, ...]
) -> tuple[tuple[int, ...], bool]:
    """Attempts of a crashed run that the machine ended, and whether it is to be tried again."""
    message, attempt = now.note, 0
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        # The note is cut short.
        record = store.read_json(folder / "run.json")
        message, attempt = str(record["message"]), int(record["attempt"])
    if now.status != "out of memory" and not failure.of_machine(message):
        return before, False
    ended = tuple(sorted({*before, attempt}))
    return ended, len(ended) < TRIES


def _remembered(study: Path) -> dict[str, tuple[int, ...]]:
    """Attempts that the machine ended, by run; none where that cannot be read, which costs an attempt."""
    try:
        known = store.read_json(study / MACHINE)["attempts"]
        return {str(run): tuple(map(int, attempts)) for run, attempts in known.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def floor(scale: ScoreScale) -> float:
    """Score of the random policy, or infinity where that is not known."""
    return math.inf if scale.random is None else float(scale.scores(scale.random))


def _filled(rated: Rated, worst: float) -> Rated:
    scores = {s: x if math.isfinite(x) else worst for s, x in rated.scores.items()}
    return rated._replace(scores=scores)


def write(study: Path, rated: Sequence[Rated], metric: str) -> None:
    """Write one line for each trial, all or nothing, and which attempts the machine ended."""
    before = _remembered(study)
    known = {**before, **{one.trial.cell.id: one.machine for one in rated if one.machine}}
    if known != before:
        store.write_json(study / MACHINE, {"schema": store.SCHEMA, "attempts": known})
    lines = [json.dumps(one.row(metric)) + "\n" for one in rated]
    store.write_bytes(study / LEDGER, "".join(lines).encode())
