"""Train cells and keep what they leave: begin or go on, evaluate, save, write down how it ended."""

import contextlib
import json
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from vfcompare import failure
from vfcompare.assemble import assemble
from vfcompare.errors import ClaimLost, InputError
from vfcompare.runs import run_folder, store
from vfcompare.training import attempts, devices, judges, priors
from vfcompare.training.cell import Cell, at, build
from vfcompare.training.log import LANES, TRACED, Log
from vfcompare.training.progress import Progress
from vfcompare.training.stopping import ASKED, Listener, Stopped

if TYPE_CHECKING:
    from vfcompare.training.train import Trainer

SOON = 10.0
"""Seconds between checkpoints, at least, where no evaluation has ended."""

SPARE = 10.0
"""How many times as long as it took to save a checkpoint nothing is saved after it, up to `LONGEST`."""

LONGEST = run_folder.LOST_AFTER / 4
"""Seconds after which a checkpoint is due however long it takes: it is the sign of life of a run."""

LEFT = "left alone"
"""The outcome of a cell that another process has."""


def execute(cells: Sequence[Cell], traced: Sequence[str] = ()) -> dict[str, str]:
    """Train cells unless they are done, all in one program, and leave their files.

    Args:
      cells: that differ in `traced` alone.
      traced: paths of numbers.

    Returns:
      `completed`, `skipped` (it was done before), `diverged` (some seed did) or `left alone` (another process
      has it), by the name of the cell.

    Raises:
      Exception: what made a program fail, once those of the other cells have ended.
    """
    folders = {cell.id: run_folder.RunFolder(cell.study / cell.id) for cell in cells}
    outcomes = {c.id: _passed(c, folders[c.id]) for c in cells if folders[c.id].completed}
    open_cells = [cell for cell in cells if cell.id not in outcomes]
    if open_cells:
        devices.prepare()
        failures: list[Exception] = []
        with contextlib.ExitStack() as held, store.one_line_about_full_disks():
            mine = [cell for cell in open_cells if held.enter_context(folders[cell.id].claim())]
            outcomes |= {c.id: _passed(c, folders[c.id]) for c in open_cells if c not in mine}
            outcomes |= dict.fromkeys((cell.id for cell in mine), LEFT)
            # Some wait for others, and compiling may take longer than a heartbeat.
            held.enter_context(run_folder.kept([folders[cell.id] for cell in mine]))
            found = {cell.id: folders[cell.id].load_checkpoint() for cell in mine}
            for members, numbers in together(mine, found, traced):
                try:
                    with _written_down(members, folders, numbers):
                        priors.ensure(cell.config for cell in members)
                        judges.ensure(cell.config for cell in members)
                        outcomes |= _attempt(members, folders, found, numbers)
                except ClaimLost as lost:
                    print(lost, file=sys.stderr)
                except Exception as error:
                    if isinstance(error, OSError) and store.no_room(error):
                        # The others would find none, either.
                        raise
                    failures.append(error)
        if failures:
            raise failures[0]
    return outcomes


def _passed(cell: Cell, folder: run_folder.RunFolder) -> str:
    """The outcome of a cell that is not trained here; says why."""
    if folder.completed:
        print(f"{cell.id}: done before, kept as it is")
        return "skipped"
    print(f"{cell.id}: {folder.owner} is training it, left alone")
    return LEFT


def together(
    cells: Sequence[Cell],
    checkpoints: Mapping[str, run_folder.Checkpoint | None],
    traced: Sequence[str],
) -> Iterator[tuple[list[Cell], list[str]]]:
    """Cells that can go on in one program, and the numbers that are traced in it.

    Those that were cut off at different points cannot, and a number that was traced stays so, or not: what
    Python computes of it beforehand, such as `1 - x`, may differ in the last bit.
    """
    kinds: dict[Any, tuple[list[Cell], list[str]]] = {}
    for cell in cells:
        begun = checkpoints[cell.id]
        kind, numbers = None, list(traced)
        if begun is not None:
            numbers = list(begun.circumstances.get(TRACED, traced))
            alone = None if set(traced) <= set(numbers) else cell.id
            kind = (begun.point, begun.circumstances.get(LANES), tuple(numbers), alone)
        kinds.setdefault(kind, ([], numbers))[0].append(cell)
    yield from kinds.values()


def _progress(cells: Sequence[Cell]) -> Progress:
    """What is shown of cells that are trained in one program."""
    name = cells[0].id if len(cells) == 1 else f"{len(cells)} cells like {cells[0].id}"
    budget = sum(len(cell.seeds) for cell in cells) * cells[0].config["env_steps"]
    return Progress(name, budget, sys.stderr)


@contextlib.contextmanager
def _written_down(
    cells: Sequence[Cell], folders: Mapping[str, run_folder.RunFolder], traced: Sequence[str]
) -> Iterator[None]:
    """Write into the folders of cells what cuts them off."""
    try:
        yield
    except ClaimLost:
        raise
    except KeyboardInterrupt as error:
        name = error.signal if isinstance(error, Stopped) else "SIGINT"
        for cell in unfinished(cells, folders):
            if folders[cell.id].begun:
                with contextlib.suppress(ClaimLost):
                    folders[cell.id].update(status=ASKED[name], ended=store.now(), message=name)
        raise
    except Exception as error:
        if isinstance(error, InputError) and not any(folders[cell.id].begun for cell in cells):
            raise
        message, trace = failure.describe(error), traceback.format_exc()
        # Where the disk is full this cannot be written either, and the error itself matters more.
        for cell in unfinished(cells, folders):
            folder = folders[cell.id]
            with contextlib.suppress(OSError, ClaimLost):
                if not folder.begun:
                    attempts.begin(cell, folder, traced, **attempts.known(folder.record))
                folder.update(status="crashed", ended=store.now(), message=message)
                store.write_bytes(folder.path / "traceback.txt", trace.encode())
        raise


def _attempt(
    cells: list[Cell],
    folders: Mapping[str, run_folder.RunFolder],
    checkpoints: Mapping[str, run_folder.Checkpoint | None],
    traced: list[str],
) -> dict[str, str]:
    """Begin and train."""
    import jax

    watch, going_on = store.Stopwatch(), checkpoints[cells[0].id]

    def begin(log: Log) -> None:
        name, folder = log.cell.id, folders[log.cell.id]
        before, now_over = folder.record.get("devices", trainer.devices), trainer.devices
        if going_on is not None and before != now_over:
            progress.clear()
            print(
                f"{name}: goes on over {now_over} devices, before {before}; still {trainer.lanes} seeds side "
                "by side on each, so that no bit depends on it",
                file=sys.stderr,
            )
        known = attempts.found(log, folder.record, now_over, going_on is not None)
        attempts.begin(log.cell, folder, traced, **known)

    with _progress(cells) as progress:
        trainer, logs = _made(cells, folders, checkpoints, traced)
        each(logs, begin)
        if len(logs) < len(cells):
            # Nothing is compiled yet, and what others train need not be trained here.
            left = [log.cell for log in logs]
            trainer, logs = _made(left, folders, checkpoints, traced)
        outcomes = _train(logs, trainer, checkpoints, watch, progress)
        # Programs of cells that are done would fill the memory of a long sweep; the disk has them.
        jax.clear_caches()
    return outcomes


def _made(
    cells: Sequence[Cell],
    folders: Mapping[str, run_folder.RunFolder],
    checkpoints: Mapping[str, run_folder.Checkpoint | None],
    traced: Sequence[str],
) -> tuple["Trainer", list[Log]]:
    """What trains cells and what writes of them, none of which goes on under other circumstances."""
    trainer = _trainer(cells, checkpoints[cells[0].id], traced)
    logs = _logs(cells, folders, trainer, traced)
    for log in logs:
        log.compare(checkpoints[log.cell.id])
    return trainer, logs


def _trainer(
    cells: Sequence[Cell], going_on: run_folder.Checkpoint | None, traced: Sequence[str]
) -> "Trainer":
    """What trains all seeds of all cells, as wide as it was before a kill."""
    from vfcompare.training.train import Trainer, Varied, lanes_for

    config = cells[0].config
    _, learner = build(config)
    varied = None
    if traced:
        each = {p: [at(cell.config, p) for cell in cells for _ in cell.seeds] for p in traced}
        numbers = {path: np.array(values, np.float32) for path, values in each.items()}
        varied = Varied(lambda numbers: build(config, numbers)[1], numbers)
    seeds = [seed for cell in cells for seed in cell.seeds]
    # Not by how many cells there are: a cell has the same bits alone, among others, and after a kill.
    begun = None if going_on is None else going_on.circumstances.get(LANES)
    lanes = config["lanes"] or begun or lanes_for(learner, len(cells[0].seeds))
    return Trainer(learner, seeds, config["env_steps"], lanes, varied=varied)


def unfinished(cells: Sequence[Cell], folders: Mapping[str, run_folder.RunFolder]) -> list[Cell]:
    """Those that have not been trained to their end; of the others nothing more is to be said."""
    return [cell for cell in cells if not folders[cell.id].completed]


@lru_cache(maxsize=8)
def environment(config: str) -> Any:
    """Make an environment, described in JSON: cells share it, and what was computed of it."""
    return assemble(json.loads(config))


def _logs(
    cells: Sequence[Cell],
    folders: Mapping[str, run_folder.RunFolder],
    trainer: "Trainer",
    traced: Sequence[str],
) -> list[Log]:
    """One for each cell, with its share of the trainer's seeds."""
    logs: list[Log] = []
    begin = 0
    for cell in cells:
        rows = slice(begin, begin + len(cell.seeds))
        env = environment(json.dumps(cell.config["env"]))
        logs.append(Log(cell, folders[cell.id], env, trainer, rows, traced))
        begin = rows.stop
    return logs


def _train(
    logs: list[Log],
    trainer: "Trainer",
    checkpoints: Mapping[str, run_folder.Checkpoint | None],
    watch: store.Stopwatch,
    progress: Progress,
) -> dict[str, str]:
    first = logs[0].cell
    budget, evaluations = first.config["env_steps"], first.config["evaluations"]
    place = logs[0].place if len(logs) == 1 else f"{len(logs)} cells in {first.study}"
    found = {log: begun for log in logs if (begun := checkpoints[log.cell.id]) is not None}
    point = next(iter(found.values())).point if found else 0
    each(logs, Log.open)
    trainer.compile(start=not found)
    if found:
        # With those that others have taken over meanwhile: they are part of the program.
        trainer.restore([log.reached(begun) for log, begun in found.items()])
        each(logs, lambda log: log.restore(found[log]))
        progress.begun = int(trainer.standing("env_steps").sum())
    else:
        starting_points: dict[tuple[float, ...], dict[str, str]] = {}
        each(logs, lambda log: log.certificate(starting_points))
        evaluate(trainer, logs, 0)
    seconds, most = 0.0, first.config["save_seconds"]
    saved, pause = store.Stopwatch(), 0.0

    def spent() -> dict[str, float]:
        return {"compile": trainer.compile_seconds, "train": seconds, "total": watch()}

    def save(point: int) -> None:
        nonlocal saved, pause
        took = store.Stopwatch()
        each(logs, lambda log: log.save(point, spent()))
        # Tables are written whole each time, which takes ever longer.
        saved, pause = store.Stopwatch(), min(SPARE * took(), LONGEST)

    with Listener() as listener:
        for index in range(point + 1, evaluations + 1):
            target = -(-budget * index // evaluations)
            for chunk in trainer.chunks(target):
                for log in logs:
                    log.chunk(chunk)
                seconds += chunk.seconds
                steps = np.minimum(trainer.standing("env_steps"), budget)
                # A seed that has diverged goes no further.
                progress.total = int(np.where(trainer.standing("finite"), budget, steps).sum())
                progress.show(int(steps.sum()), seconds)
                if listener.heard or saved() > max(most, SOON, pause):
                    save(index - 1)
                listener.check()
            evaluate(trainer, logs, index)
            # With 0 a checkpoint was asked for at each evaluation.
            if listener.heard or index == evaluations or saved() >= (most and max(most, pause)):
                save(index)
            listener.check()
    outcomes: dict[str, str] = {}

    def finish(log: Log) -> None:
        log.maps(evaluations)
        log.paths()
        outcomes[log.cell.id] = log.finish(spent(), devices.describe(trainer.devices))

    each(logs, finish)
    lost = int((~trainer.standing("finite")).sum())
    # Returns of several cells have no mean that means anything.
    final = logs[0].final if len(first.seeds) == len(trainer.seeds) else math.nan
    steps = int(trainer.standing("env_steps").sum())
    progress.done(place, steps, seconds, trainer.compile_seconds, final=final, diverged=lost)
    return outcomes


def evaluate(trainer: "Trainer", logs: list[Log], point: int) -> None:
    """Evaluate all seeds at once, and let each cell write its own."""
    metrics = trainer.evaluate(point)
    each(
        logs,
        lambda log: log.evaluation(point, {name: x[log.rows] for name, x in metrics.items()}),
    )


def each(logs: list[Log], act: Callable[[Log], None]) -> None:
    """Act for every cell; what another process has taken over is left to it, and is not in `logs` any more.

    Raises:
      ClaimLost: if none is left.
    """
    for log in list(logs):
        try:
            act(log)
        except ClaimLost as lost:
            logs.remove(log)
            if not logs:
                raise
            print(lost, file=sys.stderr)
