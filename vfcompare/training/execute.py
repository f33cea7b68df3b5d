"""Train cells and keep what they leave: begin or go on, evaluate, save, write down how it ended."""

import contextlib
import json
import math
import shlex
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from vfcompare import failure
from vfcompare.assemble import assemble
from vfcompare.runs import run_folder, store
from vfcompare.training import devices, judges, priors
from vfcompare.training.cell import Cell, at, build
from vfcompare.training.log import LANES, TRACED, Log
from vfcompare.training.progress import Progress
from vfcompare.training.stopping import ASKED, Listener, Stopped

if TYPE_CHECKING:
    from vfcompare.training.train import Trainer

SOON = 10.0
"""Seconds between checkpoints, at least, where no evaluation has ended."""


def execute(cells: Sequence[Cell], traced: Sequence[str] = ()) -> dict[str, str]:
    """Train cells unless they are done, all in one program, and leave their files.

    Args:
      cells: that differ in `traced` alone.
      traced: paths of numbers.

    Returns:
      `completed`, `skipped` (it was done before) or `diverged` (some seed did), by the name of the cell.
    """
    folders = {cell.id: run_folder.RunFolder(cell.study / cell.id) for cell in cells}
    outcomes = {cell.id: "skipped" for cell in cells}
    for cell in cells:
        if folders[cell.id].completed:
            print(f"{cell.id}: done before, kept as it is")
    open_cells = [cell for cell in cells if not folders[cell.id].completed]
    if open_cells:
        devices.prepare()
        priors.ensure(cell.config for cell in open_cells)
        judges.ensure(cell.config for cell in open_cells)
        with contextlib.ExitStack() as held, store.one_line_about_full_disks():
            mine = [cell for cell in open_cells if held.enter_context(folders[cell.id].claim())]
            for cell in open_cells:
                if cell not in mine:
                    print(f"{cell.id}: {folders[cell.id].owner} is training it, left alone")
            found = {cell.id: folders[cell.id].load_checkpoint() for cell in mine}
            for members, numbers in together(mine, found, traced):
                try:
                    with _progress(members) as progress:
                        outcomes |= _attempt(members, folders, found, numbers, progress)
                except run_folder.ClaimLost as lost:
                    print(lost, file=sys.stderr)
    return outcomes


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


def _attempt(
    cells: list[Cell],
    folders: Mapping[str, run_folder.RunFolder],
    checkpoints: Mapping[str, run_folder.Checkpoint | None],
    traced: list[str],
    progress: Progress,
) -> dict[str, str]:
    """Begin, train, and write down how it ended."""
    import jax

    watch, going_on = store.Stopwatch(), checkpoints[cells[0].id]
    trainer = _trainer(cells, going_on, traced)
    logs = _logs(cells, folders, trainer, traced)
    for log in logs:
        log.compare(checkpoints[log.cell.id])
    for log in logs:
        cell = log.cell
        begun = folders[cell.id].record
        before = begun.get("devices", trainer.devices)
        if going_on is not None and before != trainer.devices:
            told = f"{cell.id}: goes on over {trainer.devices} devices, before {before}; "
            told += (
                f"still {trainer.lanes} seeds side by side on each, so that no bit depends on it"
            )
            progress.clear()
            print(told, file=sys.stderr)
        folders[cell.id].begin(
            id=cell.id,
            study=cell.config["study"]["name"],
            agent=cell.agent,
            env=cell.env,
            settings=cell.settings,
            command=shlex.join(["vfcompare", *sys.argv[1:]]),
            config_hash=store.digest(cell.identity),
            traced=traced,
            devices=trainer.devices,
            bit_exact=log.exact and (going_on is None or begun.get("bit_exact", True)),
            damage=folders[cell.id].damage,
            versions=store.versions(),
            git=store.git_state(),
            reference=log.env.held_out().reference._asdict(),
            budget={"env_steps": cell.config["env_steps"]},
            env_steps=0 if going_on is None else begun.get("env_steps", 0),
            seeds={str(seed): {"status": "running"} for seed in cell.seeds},
        )
        text = yaml.safe_dump(cell.config, sort_keys=False, allow_unicode=True)
        store.write_bytes(folders[cell.id].path / "config.yaml", text.encode())
    try:
        outcomes = _train(logs, trainer, checkpoints, watch, progress)
        # Programs of cells that are done would fill the memory of a long sweep; the disk has them.
        jax.clear_caches()
        return outcomes
    except run_folder.ClaimLost:
        raise
    except KeyboardInterrupt as error:
        name = error.signal if isinstance(error, Stopped) else "SIGINT"
        for cell in unfinished(cells, folders):
            with contextlib.suppress(run_folder.ClaimLost):
                folders[cell.id].update(status=ASKED[name], ended=store.now(), message=name)
        raise
    except Exception as error:
        message, trace = failure.describe(error), traceback.format_exc()
        # Where the disk is full this cannot be written either, and the error itself matters more.
        for cell in unfinished(cells, folders):
            folder = folders[cell.id]
            with contextlib.suppress(OSError, run_folder.ClaimLost):
                folder.update(status="crashed", ended=store.now(), message=message)
                store.write_bytes(folder.path / "traceback.txt", trace.encode())
        raise


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
    cells: list[Cell],
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
    for log in logs:
        log.open()
    known = [checkpoints[log.cell.id] for log in logs]
    point = 0 if known[0] is None else known[0].point
    trainer.compile(start=known[0] is None)
    if known[0] is None:
        starting_points: dict[tuple[float, ...], dict[str, str]] = {}
        for log in logs:
            log.certificate(starting_points)
        evaluate(trainer, logs, 0)
    else:
        pairs = zip(logs, known, strict=True)
        trainer.restore([log.restore(found) for log, found in pairs if found is not None])
        progress.begun = int(trainer.standing("env_steps").sum())
    seconds, saved, most = 0.0, store.Stopwatch(), first.config["save_seconds"]

    def spent() -> dict[str, float]:
        return {"compile": trainer.compile_seconds, "train": seconds, "total": watch()}

    with Listener() as listener:
        for index in range(point + 1, evaluations + 1):
            target = -(-budget * index // evaluations)
            for chunk in trainer.chunks(target):
                for log in logs:
                    log.chunk(chunk)
                seconds += chunk.seconds
                steps = np.minimum(trainer.standing("env_steps"), budget)
                progress.show(int(steps.sum()), seconds)
                if listener.heard or saved() > max(most, SOON):
                    save(logs, index - 1, spent())
                    saved = store.Stopwatch()
                listener.check()
            evaluate(trainer, logs, index)
            if listener.heard or index == evaluations or saved() >= most:
                save(logs, index, spent())
                saved = store.Stopwatch()
            listener.check()
    outcomes = {}
    for log in logs:
        try:
            log.maps(evaluations)
            log.paths()
            outcomes[log.cell.id] = log.finish(spent(), devices.describe(trainer.devices))
        except run_folder.ClaimLost as error:
            print(error, file=sys.stderr)
    lost = int((~trainer.standing("finite")).sum())
    # Returns of several cells have no mean that means anything.
    final = logs[0].final if len(first.seeds) == len(trainer.seeds) else math.nan
    steps = int(trainer.standing("env_steps").sum())
    progress.done(place, steps, seconds, trainer.compile_seconds, final=final, diverged=lost)
    return outcomes


def evaluate(trainer: "Trainer", logs: list[Log], point: int) -> None:
    """Evaluate all seeds at once, and let each cell write its own."""
    metrics = trainer.evaluate(point)
    for log in logs:
        log.evaluation(point, {name: column[log.rows] for name, column in metrics.items()})


def save(logs: list[Log], point: int, seconds: Mapping[str, float]) -> None:
    """Save every cell; what another process has taken over is left to it, and is not in `logs` any more.

    Raises:
      ClaimLost: if none is left.
    """
    for log in list(logs):
        try:
            log.save(point, seconds)
        except run_folder.ClaimLost as lost:
            logs.remove(log)
            if not logs:
                raise
            print(lost, file=sys.stderr)
