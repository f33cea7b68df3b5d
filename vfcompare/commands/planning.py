"""What a sweep is going to be, before anything of it is started."""

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from vfcompare.assemble import locate
from vfcompare.commands.trust import parts, targets
from vfcompare.errors import InputError
from vfcompare.runs import disk, naming, plan, store
from vfcompare.runs.run_folder import CHECKPOINTS, RunFolder
from vfcompare.schema.families import SIDES
from vfcompare.schema.tree import made_by
from vfcompare.training import devices
from vfcompare.training.cell import Cell, rehearse, saying_where, whole
from vfcompare.training.progress import duration
from vfcompare.training.tasks import own, reference
from vfcompare.words import counted

BYTES_PER_SEED = 150_000
"""Files of a seed whose like was never run here."""

BYTES_PER_VALUE = 3
"""Of a float32 in a long `metrics.parquet`, compressed; 2 to 3.3 were measured."""


class Cost(NamedTuple):
    """What a cell takes.

    Attributes:
      seconds: wall-clock, on a machine like that of earlier runs; None where there were none.
      size: bytes on disk.
    """

    seconds: float | None
    size: float


class Like(NamedTuple):
    """What a run took, by what it depends on.

    Attributes:
      steps: of a seed; who has more knows better.
      compile: seconds of compiling.
      beside: seconds of whatever else is not training.
      step: seconds of an environment step.
      cell: bytes of certificate, pictures, the view of all seeds together and the heads of tables.
      seed: bytes of a checkpoint, for each seed.
      point: bytes of the view of a seed, for each evaluation.
      row: bytes that a step adds to `metrics.parquet`.
    """

    steps: float
    compile: float
    beside: float
    step: float
    cell: float
    seed: float
    point: float
    row: float


def records(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Completed runs of all studies below a folder."""
    for file in root.glob("*/*/run.json"):
        try:
            record = store.read_json(file)
        except (OSError, ValueError):
            continue
        if record.get("status") == "completed":
            yield file.parent, record


def likes(root: Path) -> dict[tuple[str, str], Like]:
    """The longest run below a folder, by agent and environment; of several as long the last.

    Compiling is what it took at most: where programs were on the disk, from an earlier run, it took next to
    nothing, and where several cells were one program each of them says its share.
    """
    told, shared = list(_told(root)), defaultdict[Any, float](float)
    for _, program, this in told:
        shared[program] += this.compile
    found: dict[tuple[str, str], Like] = {}
    for name, program, this in told:
        before = found.get(name, this)
        longest = this if this.steps >= before.steps else before
        found[name] = longest._replace(compile=max(before.compile, shared[program]))
    return found


def _told(root: Path) -> Iterator[tuple[tuple[str, str], Any, Like]]:
    """Agent and environment of each run, what cells of one program have in common, and what it took."""
    for folder, record in sorted(records(root), key=lambda pair: str(pair[1].get("ended"))):
        with suppress(KeyError, TypeError, ValueError, ZeroDivisionError, OSError):
            this, traced = taken(folder, record), record.get("traced")
            # Shares are equal, and seconds have three digits.
            program = (folder.parent, *map(str, traced), this.compile) if traced else folder
            yield (str(record["agent"]), str(record["env"])), program, this


def taken(folder: Path, record: Mapping[str, Any]) -> Like:
    """What a completed run took."""
    seeds, steps, spent = len(record["seeds"]), float(record["env_steps"]), record["seconds"]
    size: Counter[str] = Counter()
    for file in folder.rglob("*"):
        if file.is_file():
            size[_kind(file.relative_to(folder))] += file.stat().st_size
    state = max(file.stat().st_size for file in folder.glob("checkpoint/state-*"))
    table = pq.read_metadata(folder / "metrics.parquet")
    rows = min(BYTES_PER_VALUE * table.num_rows * table.num_columns, size["metrics"])
    return Like(
        steps=steps / seeds,
        compile=float(spent["compile"]),
        beside=float(spent["total"]) - float(spent["train"]) - float(spent["compile"]),
        step=float(spent["train"]) / steps,
        cell=size["cell"] + size["metrics"] - rows,
        seed=state / seeds,
        point=size["view"] / seeds / int(record["point"]),
        row=rows / steps,
    )


def _kind(file: Path) -> str:
    """What the size of a file of a run depends on."""
    if file.parts[0] == "checkpoint":
        return "checkpoint"
    if file.name == "metrics.parquet":
        return "metrics"
    return "view" if file.parent.name.startswith("seed-") else "cell"


def cost(cell: Cell, known: Mapping[tuple[str, str], Like]) -> Cost:
    """What a cell takes, by the longest earlier run of its agent on its environment.

    Seconds are `compile + beside + step x steps of all seeds`, bytes
    `cell + seeds x (checkpoints x seed + evaluations x point) + row x steps of all seeds`, with two
    checkpoints where training takes longer than `save_seconds`, else one.
    """
    config, seeds = cell.config, len(cell.seeds)
    like, steps = known.get((cell.agent, cell.env)), seeds * config["env_steps"]
    if like is None:
        return Cost(None, BYTES_PER_SEED * seeds)
    train = steps * like.step
    checkpoints = CHECKPOINTS if train > config["save_seconds"] else 1
    each = checkpoints * like.seed + config["evaluations"] * like.point
    return Cost(like.compile + like.beside + train, like.cell + seeds * each + steps * like.row)


def show(cells: Sequence[Cell]) -> int:
    """Print the cells, what is done, and time and disk of the rest.

    Returns:
      How many are damaged, of each of which it says what helps.

    Raises:
      InputError: for what the run would refuse of the study, see `vfcompare.runs.plan.write`, and for a
        `_target_` that is not there.
    """
    plan.check(cells[0].study, cells[0].config["study"])
    must_be_there(cells)
    warn(cells)
    known = likes(Path(cells[0].config["root"]))
    states = dict.fromkeys((cell.id for cell in cells), "damaged")
    states |= {m.cell.id: "done" if m.folder.completed else "" for m in whole(cells)}
    costs = {cell.id: cost(cell, known) for cell in cells if not states[cell.id]}
    rows = [("cell", "seeds", "steps a seed", "", "seconds", "MB")]
    for cell in cells:
        steps, what = f"{cell.config['env_steps']:,}", costs.get(cell.id)
        shown = _shown(what) if what else ("", "")
        rows.append((cell.id, str(len(cell.seeds)), steps, states[cell.id], *shown))
    print(counted(len(cells), "cell"), *_table(rows), sep="\n")
    print(_sum(list(costs.values()), cells[0].config["study"].get("minutes")))
    for told in spared(cells):
        print(told)
    return list(states.values()).count("damaged")


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of a table whose last two columns are numbers.

    Names stay whole, however narrow a terminal: they are looked for, and given to other commands.
    """
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    just = [str.ljust] * (len(wide) - 2) + [str.rjust] * 2
    for row in rows:
        padded = (put(word, w) for put, word, w in zip(just, row, wide, strict=True))
        yield "  ".join(padded).rstrip()


def _shown(what: Cost) -> tuple[str, str]:
    """Seconds and megabytes, as a row has them."""
    seconds = "?" if what.seconds is None else f"{what.seconds:,.0f}"
    return seconds, f"{what.size / 1e6:.1f}"


def spared(cells: Sequence[Cell]) -> Iterator[str]:
    """How to train only the seeds that no other cell has trained which differs in its seeds alone."""
    study, found = cells[0].study, Counter[tuple[int, int]]()
    if cells[0].config["study"].get("seeds_apart"):
        return
    names = {naming.hash_of(name): name for name in plan.cells(study)}
    blocks = {(other[0], len(other)) for other in map(_seeds, plan.cells(study).values()) if other}
    for cell in cells:
        trained: set[int] = set()
        for first, number in blocks:
            config = {**cell.config, "first_seed": first, "seeds": number}
            name = names.get(naming.hash_of(cell._replace(config=config).id))
            with suppress(InputError):
                if name and RunFolder(study / name).completed:
                    trained.update(range(first, first + number))
        missing = [seed for seed in cell.seeds if seed not in trained]
        together = missing and missing[-1] - missing[0] == len(missing) - 1
        if together and len(missing) < len(cell.seeds):
            found[missing[0], len(missing)] += 1
    for (first, number), times in found.items():
        yield (
            f"first_seed={first} seeds={number} trains only what is missing of {counted(times, 'cell')}: the "
            "study has the other seeds, and a report puts them together"
        )


def _seeds(entry: Mapping[str, Any]) -> list[int]:
    """The seeds of a planned cell; none where the plan does not say them."""
    seeds = entry.get("seeds")
    return seeds if isinstance(seeds, list) and all(isinstance(s, int) for s in seeds) else []


def _sum(costs: Sequence[Cost], minutes: float | None) -> str:
    """What is to go, in words; `minutes` is what the study's file reckons with."""
    known = [what.seconds for what in costs if what.seconds is not None]
    words = f"{counted(len(costs), 'cell')} to go, {sum(what.size for what in costs) / 1e6:,.1f} MB"
    if known:
        words += f", about {duration(sum(known))} one after another"
    if unknown := len(costs) - len(known):
        words += f"; of {counted(unknown, 'cell')} no time is known, their like was never run below this root"
        if minutes:
            words += f" (the whole study reckons with {duration(60 * minutes)} on two cores)"
    return words


def must_be_there(cells: Iterable[Cell]) -> None:
    """Refuse a `_target_` that is not there, of whichever open cell, before the first of them is trained.

    What our own configuration names is there, and not imported for it: that takes a second.

    Raises:
      InputError: that names the nearest one.
    """
    there = targets(parts())
    for cell in cells:
        for path, name in made_by(cell.config, lists=True).items():
            if name not in there and not cell.state:
                # A module of the user's own may make arrays, and with the first one JAX starts.
                devices.prepare()
                locate(name, path.removesuffix("._target_"))
                there.add(name)


def warn(planned: Sequence[Cell]) -> None:
    """Say what of a study's decisions has no effect by the cells that are planned so far."""
    for told in chain(absent(planned), unscaled(planned)):
        print(f"vfcompare: {told}", file=sys.stderr)


def absent(planned: Sequence[Cell]) -> Iterator[str]:
    """Agents that a study contrasts and that nothing is planned of; they may be in a later command."""
    known = {str(entry.get("agent")) for entry in plan.known(planned[0].study).values()}
    known |= {*SIDES, *(cell.agent for cell in planned)}
    sides = planned[0].config["study"].get("contrast") or ()
    named = [name for side in sides for name in (side if isinstance(side, list) else [side])]
    if lacking := [name for name in dict.fromkeys(named) if name not in known]:
        yield (
            f"study.contrast names {', '.join(lacking)}, and no such run is planned yet; until one is, the "
            "report cannot make the comparison that was decided"
        )


def unscaled(planned: Sequence[Cell]) -> Iterator[str]:
    """Environments of the user's own without a scale: a study takes none once it is begun.

    Ours are not asked: the optimum of some takes seconds, and the report says what is not known.

    Raises:
      InputError: if one cannot be made, or says no scale, see `vfcompare.training.cell.saying_where`.
    """
    study = planned[0].config["study"]
    tasks_of = {cell.env: cell.config for cell in planned if own({"env": cell.config["env"]})}
    for name, config in tasks_of.items():
        with saying_where(config):
            known = reference(config["env"])
        if name in (study.get("reference") or {}):
            continue
        if known.random is None or known.optimal is None:
            random = "RANDOM" if known.random is None else f"{known.random:g}"
            optimal = "OPTIMAL" if known.optimal is None else f"{known.optimal:g}"
            where = ", of another study: this one is begun" if plan.cells(planned[0].study) else ""
            yield (
                f"{name} has no known random and optimal return: scores are raw returns, and study.margin "
                "and study.threshold have no effect; allowed: `reference` of the task, or "
                f"study.reference={{{name}:[{random},{optimal}]}}{where}"
            )


def begin(planned: Sequence[Cell]) -> None:
    """Write cells of one study into its plan, if its folder can be written and the first open one traced.

    Raises:
      InputError: for the folder, before anything is traced; for a `_target_` that is not there; for what
        parts refuse of each other; and see `vfcompare.runs.plan.write`.
    """
    study, config = planned[0].study, planned[0].config
    disk.must_be_writable(study, str(study) if os.path.lexists(study) else f"root={config['root']}")
    must_be_there(planned)
    first_open = next((cell for cell in planned if not cell.state), None)
    if first_open is not None:
        devices.prepare()
        rehearse(first_open.config)
        warn(planned)
    plan.write(study, config["study"], [cell.planned() for cell in planned])
