"""Reading studies from their files, however damaged: each planned run has a status and a reason.

Links that lead out of a study are refused, and names are cleaned of control characters.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vfcompare import failure
from vfcompare.columns import CURVE, LAB
from vfcompare.report.cells import STATUSES as STATUSES
from vfcompare.report.cells import Cell as Cell
from vfcompare.report.cells import Run as Run
from vfcompare.report.files import (
    Array,
    clean,
    number,
    read_arrays,
    read_json,
    read_table,
    read_yaml,
    why,
)
from vfcompare.report.labels import label
from vfcompare.report.metrics import LEADING
from vfcompare.report.seeds import joined, mean_over_seeds
from vfcompare.runs.claim import Claim

PROTOCOL = ("env_steps", "evaluations", "lanes")
"""Settings that no name of a run repeats."""

STOPPED = ("preempted", "cancelled")
"""How else a run was stopped from outside; it counts as interrupted."""

MARGIN = 0.05
"""Of studies that decided on none."""

CRITIC_AGENTS = frozenset({"a2c", "ppo", "reinforce_v"})
STEP_COLUMNS = ("seed", "update", "env_steps", "episodes", "gradient_steps")
DIAGNOSTICS = 64
"""Most training metrics that are read of a file."""


ADVANTAGES = ("advantage_mean", "advantage_std")
LOSSES = ("policy_loss", "critic_loss", "policy_grad_norm", "critic_grad_norm")
"""What training stops at where it is not finite; what it is made of comes first."""


class Told(NamedTuple):
    """What a cell's tables say of its seeds: evaluations, why there are none, what broke in training."""

    table: Mapping[str, Array]
    reason: str
    breaks: Mapping[int, str]


Contrasted = tuple[tuple[str, ...], tuple[str, ...]]
"""Names of agents on two sides."""


@dataclass(frozen=True)
class Study:
    """All cells of a study; the denominator is the plan where there is one.

    Attributes:
      name: name of the study.
      question: what it asks.
      has_plan: whether there was a readable plan.
      created: when the plan was made, as written.
      contrast: agents whose difference is judged, on two sides; None: those with a critic, and those without.
      metric: what is judged first, one of `LEADING`.
      margin: normalised scores that differ by less are equal in practice.
      threshold: share of the way from random to optimal that counts as arrived, or None.
      figures: that the study shows first.
      decided: whether the plan fixed metric and margin before its first run; several studies must agree.
      cells: planned cells first, in the plan's order.
      problems: what was wrong, in words.
    """

    name: str
    question: str
    has_plan: bool
    created: str
    cells: tuple[Cell, ...]
    problems: tuple[str, ...]
    metric: str = LEADING[0]
    margin: float = MARGIN
    threshold: float | None = None
    contrast: Contrasted | None = None
    figures: tuple[str, ...] = ()
    decided: bool = False


def load(study_dir: Path, *others: Path, places: bool = True) -> Study:
    """Reads a study, or several as one. Bad files become runs with a reason, never an exception.

    Args:
      study_dir: its folder.
      *others: those of further ones.
      places: whether studies of one name are told apart by the folders they are in, else by numbers.
    """
    folders = [Path(folder) for folder in (study_dir, *others)]
    studies = _apart([_study(folder) for folder in folders], folders, places=places)
    questions = dict.fromkeys(study.question for study in studies if study.question)
    cells, problems = label([cell for study in studies for cell in joined(study.cells)])
    several = len(studies) > 1
    agreed = len({(study.metric, study.margin, study.contrast) for study in studies}) == 1
    thresholds = {study.threshold for study in studies}
    return Study(
        name=clean(" + ".join(dict.fromkeys(study.name for study in studies))),
        question=clean(" ".join(questions), limit=600),
        has_plan=all(study.has_plan for study in studies),
        created=max(study.created for study in studies),
        cells=tuple(cells),
        problems=(
            *(f"{s.name}: {text}" if several else text for s in studies for text in s.problems),
            *problems,
        ),
        metric=studies[0].metric if agreed else LEADING[0],
        margin=min(study.margin for study in studies),
        threshold=studies[0].threshold if len(thresholds) == 1 else None,
        contrast=studies[0].contrast if agreed else None,
        figures=tuple(dict.fromkeys(name for study in studies for name in study.figures)),
        decided=agreed and all(study.decided for study in studies),
    )


def _apart(studies: Sequence[Study], folders: Sequence[Path], *, places: bool) -> list[Study]:
    """The studies under names of their own: `machine_b/compare`, or `compare 2` where places do not help."""
    names = [study.name for study in studies]
    parents = [folder.resolve().parent.name if places else "" for folder in folders]
    named = list(zip(parents, names, strict=True))
    result = []
    for place, (study, (parent, name)) in enumerate(zip(studies, named, strict=True)):
        if names.count(name) > 1:
            alone = named.count((parent, name)) == 1
            nth = names[: place + 1].count(name)
            name = clean(f"{parent}/{name}" if alone else f"{name} {nth}")
        cells = tuple(replace(cell, study=name) for cell in study.cells)
        result.append(replace(study, name=name, cells=cells))
    return result


def _study(root: Path) -> Study:
    problems: list[str] = []
    plan = _plan(root, problems)
    name = clean(plan.get("study") or root.resolve().name)
    cells = [_cell(root, entry, name, planned=True) for entry in plan.get("cells", [])]
    known = {cell.id for cell in cells}
    for found in _found(root):
        if clean(found) not in known:
            cells.append(_cell(root, {"id": found}, name, planned=not plan))
    if plan and any(not cell.planned for cell in cells):
        problems.append("Some folders are not in the plan; they are listed but not compared.")
    question, created = (
        clean(plan.get("question") or "", limit=600),
        clean(plan.get("created") or ""),
    )
    told = plan.get("decided")
    decided = told if isinstance(told, dict) else {}
    margin, metric = number(decided.get("margin")), decided.get("metric")
    share = number(decided.get("threshold"))
    fixed = margin is not None and margin > 0 and metric in LEADING
    figures = plan.get("figures")
    return Study(
        name=name,
        question=question,
        has_plan=bool(plan),
        created=created,
        cells=tuple(cells),
        problems=tuple(problems),
        metric=str(metric) if fixed else LEADING[0],
        margin=margin if fixed and margin is not None else MARGIN,
        threshold=share if fixed and share is not None and 0 < share <= 1 else None,
        contrast=_contrasted(decided.get("contrast")) if fixed else None,
        figures=tuple(map(clean, figures)) if isinstance(figures, list) else (),
        decided=fixed,
    )


def _contrasted(value: object) -> Contrasted | None:
    """The two sides of a contrast, or None where there are none."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    first, second = (tuple(map(clean, s if isinstance(s, list) else [s])) for s in value)
    return (first, second) if first and second else None


def _plan(root: Path, problems: list[str]) -> dict[str, Any]:
    path = root / "plan.json"
    try:
        plan = read_json(path)
        entries = plan.get("cells")
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise ValueError("no list of cells")
    except FileNotFoundError:
        problems.append("There is no plan.json: what was found on disk is the denominator.")
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"plan.json is damaged ({why(error)}): what was found is the denominator.")
        return {}
    return plan


def _found(root: Path) -> list[str]:
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return []
    return [path.name for path in folders if path.name != "report" and (path / "run.json").exists()]


def _folder(root: Path, name: str) -> Path | None:
    """The cell's folder, or None where the name is not a plain name or leads out of the study."""
    if name in {"", ".", ".."} or "\0" in name or Path(name).name != name or len(name) > 255:
        return None
    try:
        folder = (root / name).resolve()
        return folder if folder.parent == root.resolve() else None
    except (OSError, ValueError):
        return None


def _cell(root: Path, entry: Mapping[str, Any], study: str, *, planned: bool) -> Cell:
    name = str(entry.get("id", ""))
    problems: list[str] = []
    try:
        folder = _folder(root, name)
    except UnicodeError:
        folder = None
    if folder is None:
        problems.append("the id is not the name of a folder of this study")
    present = folder is not None and folder.is_dir()
    info = _read(folder, "run.json", read_json, problems) if present else None
    settings = entry.get("settings", (info or {}).get("settings"))
    agent = entry.get("agent", (info or {}).get("agent", "unknown"))
    config = _read(folder, "config.yaml", read_yaml, problems) if info is not None else None
    certificate = _read(folder, "certificate.json", read_json, problems) if present else None
    table, reason = _evaluation(folder) if present and info is not None else ({}, "")
    updates = _training(folder, problems) if present else {}
    told = Told(table, reason, _breaks(updates))
    runs, trouble = _runs(entry, _alive(folder, info), told, present=present)
    trained = _diagnostics(updates)
    drawn = folder is not None and (folder / "oracle.npz").exists()
    maps = (_read(folder, "oracle.npz", read_arrays, problems) or {}) if drawn else {}
    return Cell(
        id=clean(name),
        agent=clean(agent),
        env=clean(entry.get("env", (info or {}).get("env", "unknown"))),
        settings=_settings(settings),
        critic=_has_critic(str(agent), config),
        planned=planned,
        runs=runs,
        info=info or {},
        certificate=certificate,
        reference=_reference(info),
        budget=_budget(info),
        diagnostics=mean_over_seeds(trained),
        trained=trained,
        gradient_steps=_gradient_steps(updates),
        problems=tuple(problems + trouble),
        config=config or {},
        protocol=_protocol(entry, config or {}),
        lab=_lab(table, runs),
        maps=maps,
        study=study,
        pictures=_pictures(folder),
    )


def _alive(folder: Path | None, info: dict[str, Any] | None) -> dict[str, Any] | None:
    """What `run.json` says; where it says running but is not, what `vfcompare status` says of its files."""
    if folder is None or info is None or info.get("status") != "running":
        return info
    status, reason = Claim(folder).liveness(info)
    return info if status == "running" else {**info, "status": status, "message": reason}


def _pictures(folder: Path | None) -> Path | None:
    """Where a cell's pictures are, unless they are a link that leads out of its folder."""
    path = None if folder is None else folder / "paths.npz"
    return path if path is not None and path.is_file() and path.resolve() == path else None


def _read(folder: Path | None, name: str, reader: Any, problems: list[str]) -> Any:
    if folder is None:
        return None
    path = folder / name
    try:
        if path.resolve().parent != folder:
            raise ValueError("a link out of its folder")
        return reader(path)
    except FileNotFoundError:
        problems.append(f"{name} is missing")
    except (OSError, ValueError) as error:
        problems.append(f"{name}: {why(error)}")
    return None


def _settings(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {
        clean(key): clean(item) for key, item in sorted(value.items(), key=lambda kv: str(kv[0]))
    }


def _protocol(entry: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """What a run is called without, by the plan, else by its configuration or what was typed."""
    typed = entry.get("overrides")
    words = (
        [text.split("=", 1) for text in typed if isinstance(text, str) and "=" in text]
        if isinstance(typed, list)
        else []
    )
    told = {key.lstrip("+"): value for key, value in words} | {**config, **entry}
    return {key: clean(told[key]) for key in PROTOCOL if told.get(key) not in (None, "null")}


def _budget(info: Mapping[str, Any] | None) -> float | None:
    found = (info or {}).get("budget")
    steps = found.get("env_steps") if isinstance(found, dict) else None
    value = number(steps)
    return value if value is not None and value > 0 else None


def _reference(info: Mapping[str, Any] | None) -> dict[str, float | None]:
    found = (info or {}).get("reference")
    known = found if isinstance(found, dict) else {}
    return {key: number(known.get(key)) for key in ("random", "optimal", "threshold")}


def _has_critic(agent: str, config: Mapping[str, Any] | None) -> bool:
    part = (config or {}).get("agent")
    estimator = part.get("estimator") if isinstance(part, dict) else None
    if isinstance(estimator, dict):
        # A critic that is never read is a control.
        unread = str(estimator.get("_target_", "")).endswith(".auxiliary")
        return bool(estimator.get("critic")) and not unread
    return agent in CRITIC_AGENTS


def _seeds(value: object) -> list[int]:
    if isinstance(value, dict):
        value = [
            int(key) for key in value if str(key).lstrip("-").isdecimal() and len(str(key)) < 12
        ]
    if not isinstance(value, list):
        return []
    return sorted({s for s in value if isinstance(s, int) and not isinstance(s, bool)})


def _runs(
    entry: Mapping[str, Any],
    info: Mapping[str, Any] | None,
    told: Told,
    *,
    present: bool,
) -> tuple[tuple[Run, ...], list[str]]:
    planned, table, reason = _seeds(entry.get("seeds")), told.table, told.reason
    if not present:
        return tuple(Run(seed, "missing", "its folder was not found") for seed in planned), []
    if info is None:
        return tuple(Run(seed, "damaged", "run.json could not be read") for seed in planned), []
    listed = info.get("seeds")
    seeds = planned or _seeds(listed) or sorted({int(s) for s in table.get("seed", [])})
    problems = [f"evaluation.parquet: {reason}"] if reason else []
    extra = set(table.get("seed", np.zeros(0)).astype(int).tolist()) - set(seeds)
    if extra:
        problems.append(f"{len(extra)} seeds were evaluated that are not planned; they are ignored")
    per_seed = listed if isinstance(listed, dict) else {}
    return tuple(_run(s, info, per_seed.get(str(s)), told) for s in seeds), problems


def _evaluation(folder: Path | None) -> tuple[dict[str, Array], str]:
    problems: list[str] = []
    wanted = frozenset({*CURVE, *LAB})

    def read(path: Path) -> dict[str, Array]:
        return read_table(path, lambda names: [name for name in names if name in wanted])

    table = _read(folder, "evaluation.parquet", read, problems)
    if table is None:
        return {}, problems[0].removeprefix("evaluation.parquet").lstrip(": ")
    lacking = [name for name in ("seed", "env_steps", "return_sampled") if name not in table]
    if lacking:
        return {}, f"no column {', '.join(lacking)}"
    good = np.isfinite(table["seed"]) & np.isfinite(table["env_steps"])
    good &= np.abs(table["seed"]) < 2**53
    return {name: column[good] for name, column in table.items()}, ""


def _lab(table: Mapping[str, Array], runs: Sequence[Run]) -> dict[int, dict[str, float]]:
    """What was measured against the truth at the last evaluation of each completed seed."""
    if "gradient_variance" not in table:
        return {}
    found = {}
    for run in runs:
        curve = _curve(run.seed, table) if run.status == "completed" else None
        if curve is not None:
            found[run.seed] = {name: float(curve[name][-1]) for name in LAB if name in curve}
    return found


def _run(
    seed: int,
    info: Mapping[str, Any],
    listed: object,
    told: Told,
) -> Run:
    table, reason = told.table, told.reason
    detail = listed if isinstance(listed, dict) else {}
    overall = str(info.get("status"))
    overall = "interrupted" if overall in STOPPED else overall
    status = str(detail.get("status", overall))
    if status not in {"completed", "diverged"}:
        status = overall if overall in STATUSES and overall != "completed" else status
    if status not in STATUSES:
        status, reason = "damaged", reason or f"unknown status {clean(status)!r}"
    curve = _curve(seed, table)
    if curve is None:
        return Run(seed, *_without_curve(status, reason, info))
    return _with_curve(seed, status, curve, detail, info, told.breaks.get(seed))


def _without_curve(status: str, reason: str, info: Mapping[str, Any]) -> tuple[str, str]:
    if status in {"completed", "damaged"}:
        return "damaged", f"evaluation: {reason or 'no rows of this seed'}"
    return status, clean(info.get("message") or "", limit=200)


def _curve(seed: int, table: Mapping[str, Array]) -> dict[str, Array] | None:
    """The rows of one seed by step; of repeated points, which a resume leaves, the last.

    Several points at one step are several evaluations of one policy. Where points have no numbers, these
    cannot be told from repeats.
    """
    if "seed" not in table:
        return None
    rows = np.flatnonzero(table["seed"] == seed)
    if not rows.size:
        return None
    numbers = table.get("point", table["env_steps"])[rows]
    numbers = numbers if np.isfinite(numbers).all() else table["env_steps"][rows]
    _, last = np.unique(numbers[::-1], return_index=True)
    keep = rows[::-1][last]
    keep = keep[np.argsort(table["env_steps"][keep], kind="stable")]
    return {name: column[keep] for name, column in table.items()}


def _last_of_each(steps: Array) -> Array:
    """Where the last evaluation at each step is: between two updates a policy is the same.

    All evaluations of a policy are as good; a mean of two is less noisy than one, and curves of which some
    points are would be steadier there without any merit of the agent.
    """
    _, last = np.unique(steps[::-1], return_index=True)
    return np.asarray(steps.size - 1 - last)


def _with_curve(
    seed: int,
    status: str,
    curve: Mapping[str, Array],
    detail: Mapping[str, Any],
    info: Mapping[str, Any],
    broke: str | None = None,
) -> Run:
    steps, sampled = curve["env_steps"], curve["return_sampled"]
    greedy = curve.get("return_greedy", np.full(steps.shape, np.nan))
    reason = clean(info.get("message") or "", limit=200) if status != "completed" else ""
    failed_at = _failure_step(status, curve, detail)
    bad = np.flatnonzero(~np.isfinite(sampled))
    if bad.size and status in {"completed", "diverged", "crashed"}:
        status, reason = "diverged", broke or "a return that is not finite"
        failed_at = min(float(steps[bad[0]]), math.inf if failed_at is None else failed_at)
    if status == "diverged" and not bad.size:
        reason = broke or "reported by the run"
    good = np.isfinite(sampled)
    if failed_at is not None:
        good &= steps < failed_at
        failed_at = _clipped(failed_at, steps[good], _budget(info))
    clocks = {"updates": curve.get("update"), "episodes": curve.get("episodes")}
    measured = steps[good], sampled[good], greedy[good]
    last = _last_of_each(measured[0])
    passed = {name: clock[good][last] for name, clock in clocks.items() if clock is not None}
    outside = status == "crashed" and failure.of_machine(reason)
    steps, sampled, greedy = (column[last] for column in measured)
    return Run(seed, status, reason, steps, sampled, greedy, failed_at, passed, outside, measured)


def _failure_step(
    status: str, curve: Mapping[str, Array], detail: Mapping[str, Any]
) -> float | None:
    """Where a failed run failed: its reported update in steps, else where its next evaluation was due."""
    if status not in {"diverged", "crashed"}:
        return None
    steps, update = np.unique(curve["env_steps"]), number(detail.get("update"))
    updates = curve.get("update")
    if update is None or updates is None or not np.isfinite(updates).all():
        # A divergence that nobody placed may have come before the last evaluation.
        return _next_evaluation(steps) if status == "crashed" else None
    if update > updates[-1]:
        return _next_evaluation(steps)
    return float(np.interp(update, updates, curve["env_steps"]))


def _next_evaluation(steps: Array) -> float | None:
    """As far from the last one as that is from the one before; not known after a single one."""
    return float(2.0 * steps[-1] - steps[-2]) if steps.size > 1 else None


def _clipped(step: float, evaluated: Array, budget: float | None) -> float:
    """A failure lies between the last good evaluation and the end of the run."""
    after = float(np.nextafter(evaluated[-1], np.inf)) if evaluated.size else 0.0
    return max(min(step, math.inf if budget is None else budget), after)


def _training(folder: Path | None, problems: list[str]) -> dict[str, Array]:
    def read(path: Path) -> dict[str, Array]:
        return read_table(path, _metrics)

    table = _read(folder, "metrics.parquet", read, problems)
    return table if table and table.get("update", np.zeros(0)).size else {}


def _breaks(table: Mapping[str, Array]) -> dict[int, str]:
    """Of each seed whose losses did not stay finite, which number was it first, and when.

    Where a policy is no longer finite, its evaluations are not either, whatever the environment pays.
    """
    losses = [name for name in LOSSES if name in table]
    if "seed" not in table or not losses:
        return {}
    bad = ~np.all([np.isfinite(table[name]) for name in losses], axis=0)
    bad &= np.isfinite(table["seed"]) & np.isfinite(table["update"])
    found: dict[int, str] = {}
    for row in np.flatnonzero(bad)[np.argsort(table["update"][bad], kind="stable")]:
        # no episode may have ended in an update: a return that is NaN says nothing
        paid = ["return"] if "return" in table and np.isinf(table["return"][row]) else []
        wrong = [n for n in (*ADVANTAGES, *losses) if n in table and not np.isfinite(table[n][row])]
        text = f"{(paid + wrong)[0]} was not finite from update {table['update'][row]:.0f} on"
        found.setdefault(int(table["seed"][row]), text)
    return found


def _diagnostics(table: Mapping[str, Array]) -> dict[int, dict[str, float]]:
    """Of each seed, each training metric's mean over the last tenth of the seed's own updates.

    Seeds differ in their number of updates where a budget of steps is spent in whole episodes.
    """
    names = [name for name in table if name not in STEP_COLUMNS]
    return {
        seed: {
            clean(name): float(values.mean())
            for name in names
            if (values := _only_finite(table[name][rows])).size
        }
        for seed, rows in _last_tenths(table).items()
    }


def _last_tenths(table: Mapping[str, Array]) -> dict[int, Array]:
    """Rows of the last tenth of each seed's updates; all rows are one seed's where none is told."""
    if not table:
        return {}
    update = table["update"]
    seed = table.get("seed", np.zeros(update.shape))
    known = np.isfinite(update) & np.isfinite(seed)
    mine = {int(s): np.flatnonzero((seed == s) & known) for s in np.unique(seed[known])}
    return {s: rows[update[rows] >= 0.9 * update[rows].max()] for s, rows in mine.items()}


def _gradient_steps(table: Mapping[str, Array]) -> float | None:
    values = _only_finite(table.get("gradient_steps", np.zeros(0)))
    return float(values.mean()) if values.size else None


def _metrics(names: Sequence[str]) -> list[str]:
    """Those that can be read as numbers, of a file of unknown origin not all."""
    return [
        *(name for name in names if name in {"seed", "update", "gradient_steps"}),
        *[name for name in names if _shown(name)][:DIAGNOSTICS],
    ]


def _shown(name: str) -> bool:
    """Whether a metric can be read as a number by itself; of a histogram it cannot."""
    return name not in STEP_COLUMNS and not name.startswith("advantage_below_")


def _only_finite(values: Array) -> Array:
    return values[np.isfinite(values)]
