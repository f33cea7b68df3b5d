"""Train cells and keep what they leave: begin or go on, evaluate, save, write down how it ended."""

import contextlib
import json
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from vfcompare import devices, judges, priors, store
from vfcompare.assemble import assemble
from vfcompare.cell import Cell, at, build
from vfcompare.log import LANES, Log
from vfcompare.stopping import ASKED, Listener, Stopped

SOON = 10.0
"""Seconds between checkpoints, at least, where no evaluation has ended."""


def execute(cells: Sequence[Cell], command: str, traced: Sequence[str] = ()) -> dict[str, str]:
    """Train cells unless they are done, all in one program, and leave their files.

    Args:
      cells: that differ in `traced` alone.
      command: that asked for them.
      traced: paths of numbers.

    Returns:
      `completed`, `skipped` (it was done before) or `diverged` (some seed did), by the name of the cell.
    """
    folders = {cell.id: store.RunFolder(cell.study / cell.id) for cell in cells}
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
            # Cells that were cut off at different points cannot go on together.
            found = {cell.id: folders[cell.id].load_checkpoint() for cell in mine}
            points = {
                name: None if one is None else (one.point, one.circumstances.get(LANES))
                for name, one in found.items()
            }
            for point in dict.fromkeys(points.values()):
                members = [cell for cell in mine if points[cell.id] == point]
                try:
                    outcomes |= _attempt(members, folders, found, command, traced)
                except store.ClaimLost as lost:
                    print(lost, file=sys.stderr)
    return outcomes


def _attempt(
    cells: list[Cell],
    folders: Mapping[str, store.RunFolder],
    checkpoints: Mapping[str, store.Checkpoint | None],
    command: str,
    traced: Sequence[str],
) -> dict[str, str]:
    """Begin, train, and write down how it ended."""
    import jax

    from vfcompare.train import Trainer, Varied, lanes_for

    config = cells[0].config
    _, learner = build(config)
    watch = store.Stopwatch()
    varied = None
    if traced:
        each = {p: [at(cell.config, p) for cell in cells for _ in cell.seeds] for p in traced}
        numbers = {path: np.array(values, np.float32) for path, values in each.items()}
        varied = Varied(lambda numbers: build(config, numbers)[1], numbers)
    seeds = [seed for cell in cells for seed in cell.seeds]
    # Not by how many cells there are: a cell has the same bits alone, among others, and after a kill.
    going_on = checkpoints[cells[0].id]
    begun = None if going_on is None else going_on.circumstances.get(LANES)
    lanes = config["lanes"] or begun or lanes_for(learner, len(cells[0].seeds))
    trainer = Trainer(learner, seeds, config["env_steps"], lanes, varied=varied)
    logs = _logs(cells, folders, trainer)
    for log in logs:
        log.compare(checkpoints[log.cell.id])
    for log in logs:
        cell = log.cell
        before = folders[cell.id].record.get("devices", trainer.devices)
        if going_on is not None and before != trainer.devices:
            print(
                f"{cell.id}: goes on over {trainer.devices} devices, before {before}; still {lanes} seeds "
                "side by side on each, so that no bit depends on it",
                file=sys.stderr,
            )
        folders[cell.id].begin(
            id=cell.id,
            study=cell.config["study"]["name"],
            agent=cell.agent,
            env=cell.env,
            settings=cell.settings,
            command=command,
            config_hash=store.digest(cell.identity),
            traced=list(traced),
            devices=trainer.devices,
            bit_exact=log.exact,
            damage=folders[cell.id].damage,
            versions=store.versions(),
            git=store.git_state(),
            reference=log.env.held_out().reference._asdict(),
            budget={"env_steps": cell.config["env_steps"]},
            seeds={str(seed): {"status": "running"} for seed in cell.seeds},
        )
        text = OmegaConf.to_yaml(OmegaConf.create(cell.config))
        store.write_bytes(folders[cell.id].path / "config.yaml", text.encode())
    try:
        outcomes = _train(logs, trainer, checkpoints, watch)
        # Programs of cells that are done would fill the memory of a long sweep; the disk has them.
        jax.clear_caches()
        return outcomes
    except store.ClaimLost:
        raise
    except KeyboardInterrupt as error:
        name = error.signal if isinstance(error, Stopped) else "SIGINT"
        for cell in cells:
            with contextlib.suppress(store.ClaimLost):
                folders[cell.id].update(status=ASKED[name], ended=store.now(), message=name)
        raise
    except Exception as error:
        message, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
        # Where the disk is full this cannot be written either, and the error itself matters more.
        for cell in cells:
            folder = folders[cell.id]
            with contextlib.suppress(OSError, store.ClaimLost):
                folder.update(status="crashed", ended=store.now(), message=message)
                store.write_bytes(folder.path / "traceback.txt", trace.encode())
        raise


@lru_cache(maxsize=8)
def environment(config: str) -> Any:
    """Make an environment, described in JSON: cells share it, and what was computed of it."""
    return assemble(json.loads(config))


def _logs(cells: list[Cell], folders: Mapping[str, store.RunFolder], trainer: Any) -> list[Log]:
    """One for each cell, with its share of the trainer's seeds."""
    logs: list[Log] = []
    begin = 0
    for cell in cells:
        rows = slice(begin, begin + len(cell.seeds))
        env = environment(json.dumps(cell.config["env"]))
        logs.append(Log(cell, folders[cell.id], env, trainer, rows))
        begin = rows.stop
    return logs


def _train(
    logs: list[Log],
    trainer: Any,
    checkpoints: Mapping[str, store.Checkpoint | None],
    watch: store.Stopwatch,
) -> dict[str, str]:
    from vfcompare.progress import Progress

    first = logs[0].cell
    budget, evaluations = first.config["env_steps"], first.config["evaluations"]
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
    name = first.id if len(logs) == 1 else f"{len(logs)} cells like {first.id}"
    progress = Progress(name, len(trainer.seeds) * budget, sys.stderr)
    seconds, saved, most = 0.0, store.Stopwatch(), first.config["save_seconds"]
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
                    save(logs, index - 1)
                    saved = store.Stopwatch()
                listener.check()
            evaluate(trainer, logs, index)
            if listener.heard or index == evaluations or saved() >= most:
                save(logs, index)
                saved = store.Stopwatch()
            listener.check()
    outcomes = {}
    for log in logs:
        log.maps(evaluations)
        log.paths()
        share = len(log.cell.seeds) / len(trainer.seeds)
        times = {
            "compile": round(trainer.compile_seconds * share, 3),
            "train": round(seconds * share, 3),
            "total": round(watch() * share, 3),
        }
        outcomes[log.cell.id] = log.finish(times, devices.describe(trainer.devices))
    lost = int((~trainer.standing("finite")).sum())
    progress.done(int(trainer.standing("env_steps").sum()), seconds, trainer.compile_seconds, lost)
    return outcomes


def evaluate(trainer: Any, logs: list[Log], point: int) -> None:
    """Evaluate all seeds at once, and let each cell write its own."""
    metrics = trainer.evaluate(point)
    for log in logs:
        log.evaluation(point, {name: column[log.rows] for name, column in metrics.items()})


def save(logs: list[Log], point: int) -> None:
    """Save every cell; what another process has taken over is left to it, and is not in `logs` any more.

    Raises:
      ClaimLost: if none is left.
    """
    for log in list(logs):
        try:
            log.save(point)
        except store.ClaimLost as lost:
            logs.remove(log)
            if not logs:
                raise
            print(lost, file=sys.stderr)
