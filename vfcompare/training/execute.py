"""Train cells and write their files: begin or go on, evaluate, save checkpoints, record how it ended."""

import contextlib
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vfcompare import failure
from vfcompare.errors import ClaimLost, InputError, error_text, user_frame
from vfcompare.runs import claim, clock, disk, store
from vfcompare.schema.tree import at
from vfcompare.training import attempts, devices, judges, priors, stages
from vfcompare.training.cadence import Cadence
from vfcompare.training.cell import Cell, Member, build, whole
from vfcompare.training.circumstances import SIDE_BY_SIDE, TRACED
from vfcompare.training.log import Log, must_fit
from vfcompare.training.progress import Progress
from vfcompare.training.share import Share
from vfcompare.training.starts import Starts
from vfcompare.training.stopping import ASKED, Listener, Stopped

if TYPE_CHECKING:
    from vfcompare.training.trainer import Trainer

T = TypeVar("T")
R = TypeVar("R")

LEFT = "left alone"
"""The outcome of a cell that another process has."""


def execute(cells: Sequence[Cell], traced: Sequence[str] = ()) -> dict[str, str]:
    """Train cells unless they are done, all in one program, and leave their files.

    Args:
      cells: that differ in `traced` alone.
      traced: paths of numbers.

    Returns:
      `completed`, `skipped` (it was done before), `diverged` (some seed did), `left alone` (another process
      has it) or `damaged` (what is on disk), by the name of the cell.

    Raises:
      Exception: what made a program fail, once those of the other cells have ended.
    """
    # Launchers train in processes of their own.
    failure.say_where()
    outcomes = dict.fromkeys((cell.id for cell in cells), "damaged")
    opened = whole(cells)
    outcomes |= {m.cell.id: _passed(m) for m in opened if m.folder.completed}
    still_open = [member for member in opened if not member.folder.completed]
    if still_open:
        devices.prepare()
        failures: list[Exception] = []
        with contextlib.ExitStack() as held, disk.one_line_about_full_disks():
            mine = [member for member in still_open if held.enter_context(member.folder.hold())]
            outcomes |= {m.cell.id: _passed(m) for m in still_open if m not in mine}
            outcomes |= dict.fromkeys((member.cell.id for member in mine), LEFT)
            # Some wait for others, and compiling may take longer than a heartbeat.
            held.enter_context(claim.kept([member.folder.claim for member in mine]))
            loaded = [m._replace(checkpoint=m.folder.load_checkpoint()) for m in mine]
            for members, numbers in together(loaded, traced):
                try:
                    with _written_down(members, numbers):
                        priors.ensure(member.cell.config for member in members)
                        judges.ensure(member.cell.config for member in members)
                        outcomes |= _attempt(members, numbers)
                except ClaimLost as lost:
                    print(lost, file=sys.stderr)
                except Exception as error:
                    if disk.no_room(error):
                        # The others would find none, either.
                        raise
                    failures.append(error)
        for other in failures[1:]:
            print(f"vfcompare: {type(other).__name__}: {other}", file=sys.stderr)
        if failures:
            raise failures[0]
    return outcomes


def _passed(member: Member) -> str:
    """The outcome of a cell that is not trained here; says why."""
    if member.folder.completed:
        print(f"{member.cell.id}: done before, kept as it is")
        attempts.tell_of_code_since([member.folder])
        return "skipped"
    print(f"{member.cell.id}: {member.folder.claim.owner} is training it, left alone")
    return LEFT


def together(
    members: Sequence[Member], traced: Sequence[str]
) -> Iterator[tuple[list[Member], list[str]]]:
    """Cells that can go on in one program, and the numbers that are traced in it.

    Those that were cut off at different points cannot, and a number that was traced stays so, or not: what
    Python computes of it beforehand, such as `1 - x`, may differ in the last bit.
    """
    kinds: dict[Any, tuple[list[Member], list[str]]] = {}
    for member in members:
        checkpoint = member.checkpoint
        kind, numbers = None, list(traced)
        if checkpoint is not None:
            numbers = list(checkpoint.circumstances.get(TRACED, traced))
            alone = None if set(traced) <= set(numbers) else member.cell.id
            lanes = checkpoint.circumstances.get(SIDE_BY_SIDE)
            kind = (checkpoint.point, lanes, tuple(numbers), alone)
        kinds.setdefault(kind, ([], numbers))[0].append(member)
    yield from kinds.values()


def _progress(members: Sequence[Member]) -> Progress:
    """What is shown of cells that are trained in one program."""
    cells = [member.cell for member in members]
    name = cells[0].id if len(cells) == 1 else f"{len(cells)} cells like {cells[0].id}"
    budget = sum(len(cell.seeds) for cell in cells) * cells[0].config["env_steps"]
    return Progress(name, budget, sys.stderr)


@contextlib.contextmanager
def _written_down(members: Sequence[Member], traced: Sequence[str]) -> Iterator[None]:
    """Record in the folders of cells the signal or the error that ends their training, and raise it on.

    Raises:
      RuntimeError: in place of `SystemExit`, which a part has raised.
    """
    try:
        yield
    except ClaimLost:
        raise
    except KeyboardInterrupt as error:
        name = error.signal if isinstance(error, Stopped) else "SIGINT"
        for _, folder, _ in _unfinished(members):
            # One that was killed before says still that it runs.
            if folder.begun or folder.record.get("status") == "running":
                # Whatever cannot be written, a sweep is to stop.
                with contextlib.suppress(OSError, ClaimLost):
                    folder.update(status=ASKED[name], ended=clock.now(), message=name)
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, InputError) and not any(member.folder.begun for member in members):
            raise
        message, trace = failure.describe(error), traceback.format_exc()
        # Where the disk is full this cannot be written either, and the error itself matters more.
        for cell, folder, _ in _unfinished(members):
            with contextlib.suppress(OSError, ClaimLost):
                if not folder.begun:
                    attempts.begin(cell, folder, traced, **attempts.carried_over(folder.record))
                folder.update(status="crashed", ended=clock.now(), message=message)
                store.write_bytes(folder.path / "traceback.txt", trace.encode())
        if isinstance(error, SystemExit):
            raise RuntimeError(f"a part {error_text(error)}{user_frame(error)}") from error
        raise


def _unfinished(members: Sequence[Member]) -> list[Member]:
    """Those that have not been trained to their end; of the others nothing more is to be said."""
    return [member for member in members if not member.folder.completed]


def _attempt(members: list[Member], traced: list[str]) -> dict[str, str]:
    """Train cells in one program, from its building to how each ended; returns that by name."""
    import jax

    watch = clock.Stopwatch()

    def record(share: Share) -> None:
        cell, folder, checkpoint = share.member
        trainer = share.trainer
        before, now_over = folder.record.get("devices", trainer.devices), trainer.devices
        if checkpoint is not None and before != now_over:
            progress.clear()
            print(
                f"{cell.id}: goes on over {now_over} devices, before {before}; still {trainer.lanes} seeds "
                "side by side on each, so that no bit depends on it",
                file=sys.stderr,
            )
        attempts.begin(cell, folder, traced, **attempts.program_fields(share))

    attempts.tell_of_other_code(members)
    with _progress(members) as progress:
        trainer, shares = _made(members, traced)
        each(shares, must_fit)
        each(shares, record)
        if len(shares) < len(members):
            # Nothing is compiled yet, and what others train need not be trained here.
            trainer, shares = _made([share.member for share in shares], traced)
        outcomes = _train(shares, trainer, watch, progress)
        # Programs of cells that are done would fill the memory of a long sweep; the disk has them.
        jax.clear_caches()
    return outcomes


def _made(members: Sequence[Member], traced: Sequence[str]) -> tuple["Trainer", list[Share]]:
    """The trainer of cells, and the share of each in it."""
    trainer = _trainer(members, traced)
    shares: list[Share] = []
    begin = 0
    for member in members:
        rows = slice(begin, begin + len(member.cell.seeds))
        shares.append(Share(member, trainer, rows, traced))
        begin = rows.stop
    return trainer, shares


def _trainer(members: Sequence[Member], traced: Sequence[str]) -> "Trainer":
    """The trainer of all seeds of all cells, with as many side by side as before a kill."""
    from vfcompare.training.sharding import lanes_for
    from vfcompare.training.trainer import Trainer, Varied

    cells, checkpoint = [member.cell for member in members], members[0].checkpoint
    config = cells[0].config
    learner = build(config)
    numbers = {
        path: np.array([at(cell.config, path) for cell in cells for _ in cell.seeds], np.float32)
        for path in traced
    }
    agent = Varied(partial(build, config), numbers) if traced else learner
    seeds = [seed for cell in cells for seed in cell.seeds]
    # Not by how many cells there are: a cell has the same bits alone, among others, and after a kill.
    before = None if checkpoint is None else checkpoint.circumstances.get(SIDE_BY_SIDE)
    lanes = config["lanes"] or before or lanes_for(learner, len(cells[0].seeds))
    return Trainer(agent, seeds, config["env_steps"], lanes)


def _train(
    shares: list[Share], trainer: "Trainer", watch: clock.Stopwatch, progress: Progress
) -> dict[str, str]:
    """Train to the end, evaluating and saving on the way; returns how each cell ended, by name."""
    first, folder, _ = shares[0].member
    budget, evaluations = first.config["env_steps"], first.config["evaluations"]
    place = str(folder.path) if len(shares) == 1 else f"{len(shares)} cells in {first.study}"
    logs, point = _start(shares, trainer, progress)
    seconds, cadence = 0.0, Cadence(first.config["save_seconds"])

    def spent() -> dict[str, float]:
        return {"compile": trainer.compile_seconds, "train": seconds, "total": watch()}

    def save(point: int) -> None:
        with cadence.saving():
            each(logs, lambda log: stages.save(log, point, spent()))

    with Listener() as listener:
        for index in range(point + 1, evaluations + 1):
            target = -(-budget * index // evaluations)
            for chunk in trainer.chunks(target):
                for log in logs:
                    log.trained(chunk)
                seconds += chunk.seconds
                _show(progress, trainer, budget, seconds)
                if listener.heard or cadence.due_between_evaluations():
                    save(index - 1)
                listener.check()
            evaluate(trainer, logs, index)
            if listener.heard or index == evaluations or cadence.due_after_evaluation():
                save(index)
            listener.check()
    outcomes = _finish(logs, trainer, evaluations, spent)
    lost = sum(len(log.diverged) for log in logs)
    # Returns of several cells have no mean that means anything.
    final = logs[0].final if len(first.seeds) == len(trainer.seeds) else math.nan
    steps = int(trainer.counter("env_steps").sum())
    progress.done(place, steps, seconds, trainer.compile_seconds, final=final, diverged=lost)
    return outcomes


def _show(progress: Progress, trainer: "Trainer", budget: int, seconds: float) -> None:
    """Show how far all seeds are, after so many seconds of training."""
    steps = np.minimum(trainer.counter("env_steps"), budget)
    # A seed that has diverged goes no further.
    progress.total = int(np.where(trainer.counter("finite"), budget, steps).sum())
    progress.show(int(steps.sum()), seconds)


def _start(shares: list[Share], trainer: "Trainer", progress: Progress) -> tuple[list[Log], int]:
    """Compile, and begin or go on; returns the log of each cell, and the last evaluation that was made."""
    checkpoint = shares[0].member.checkpoint
    trainer.compile(start=checkpoint is None)
    if checkpoint is not None:
        # With those that others have taken over meanwhile: they are part of the program.
        trainer.restore([share.reached() for share in shares])
        progress.resumed_at = int(trainer.counter("env_steps").sum())
        return each(shares, Log), checkpoint.point
    logs, starts = each(shares, Log), Starts(trainer)
    each(logs, lambda log: stages.certify(log.share, starts))
    evaluate(trainer, logs, 0)
    return logs, 0


def _finish(
    logs: list[Log], trainer: "Trainer", point: int, spent: Callable[[], dict[str, float]]
) -> dict[str, str]:
    """Write what is left to write after the last evaluation; returns how each cell ended, by name."""
    outcomes: dict[str, str] = {}

    def finish(log: Log) -> None:
        stages.maps(log.share, point)
        stages.paths(log)
        device = devices.describe(trainer.devices)
        outcomes[log.share.member.cell.id] = stages.finish(log, spent(), device)

    each(logs, finish)
    return outcomes


def evaluate(trainer: "Trainer", logs: list[Log], point: int) -> None:
    """Evaluate all seeds at once, and let each cell write its own."""
    metrics = trainer.evaluate(point)
    each(
        logs,
        lambda log: log.evaluated(point, {name: x[log.share.rows] for name, x in metrics.items()}),
    )


def each(cells: list[T], act: Callable[[T], R]) -> list[R]:
    """Act for every cell; what another process has taken over is left to it, and taken out of `cells`.

    Returns:
      What `act` returned, for each of those that are left.

    Raises:
      ClaimLost: if none is left.
    """
    found = []
    for cell in list(cells):
        try:
            found.append(act(cell))
        except ClaimLost as lost:
            cells.remove(cell)
            if not cells:
                raise
            print(lost, file=sys.stderr)
    return found
