"""What the policies do in the end: an episode of the median and of the worst run of each agent."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vfcompare.report.analysis import Results
from vfcompare.report.figures.drawing import Picture, canvas, cut
from vfcompare.report.figures.looks import INK, MUTED
from vfcompare.report.figures.names import explained, shortened
from vfcompare.report.figures.sizes import LEAST, TALL, WIDTH, beside, narrow, paper, points
from vfcompare.report.reading.cells import Cell
from vfcompare.report.reading.files import Pixels, read_pictures
from vfcompare.report.table import Table, Value, join, show_float
from vfcompare.runs.pictures import FRAMES, gif

RUNS = ("median", "worst")
MOST = 12
"""Rows that are drawn, two for each agent; files have all."""

FIGURES = 6
"""Environments that get a figure."""

SMALLEST, WORDS = 0.45, 1.05
"""Inches of a picture in a paper, and of what stands left of it in one column of two."""

WIDE = 3.0
"""Pictures that are wider than high by more than this are lines of text: the last one says all."""


@dataclass(frozen=True)
class Episode:
    """What one run did.

    Attributes:
      agent: whose.
      run: which of `RUNS`.
      seed: of the run.
      frames: `[F, height, width, 3]`.
      steps: `[F]`, after how many steps each was.
      length: steps of the episode.
      paid: its return.
    """

    agent: str
    run: str
    seed: int
    frames: Pixels
    steps: Sequence[int]
    length: int
    paid: float


def pictures(results: Results) -> Iterator[Picture]:
    """One figure for each environment that has pictures, as far as there is room."""
    shown = {arm.name for arm in results.shown.lines}
    planned = [cell for cell in results.study.cells if cell.planned and cell.arm in shown]
    tasks = list(dict.fromkeys(cell.task for cell in planned if cell.pictures is not None))
    drawn = 0
    for task in tasks:
        cells = [cell for cell in planned if cell.task == task]
        found = [episode for cell in cells for episode in episodes(cell, results)]
        if not found:
            continue
        drawn += 1
        name, title = f"paths-{drawn}", f"What the policies do in the end on {task}"
        yield Picture(
            name,
            title,
            _caption(found, _diverged(found, cells, results), len(tasks)),
            partial(_draw, found[:MOST], _agents(found)),
            Table(name, title, HEADS, tuple(_data(found))),
            {f"{row}.gif": partial(gif, e.frames) for row, e in enumerate(found, 1)},
        )
        if drawn == FIGURES:
            return


def episodes(cell: Cell, results: Results) -> list[Episode]:
    """The episodes of a cell; none where there are no pictures, or where they are not what they should be."""
    if cell.pictures is None:
        return []
    try:
        arrays = read_pictures(cell.pictures)
    except (OSError, ValueError):
        return []
    known = [_episode(results.called(cell.arm), run, arrays) for run in RUNS]
    return [episode for episode in known if episode is not None]


def _episode(agent: str, run: str, arrays: Mapping[str, Pixels]) -> Episode | None:
    of = {name: arrays.get(f"{run}_{name}") for name in ("frames", "steps", *NUMBERS)}
    known = {name: x for name, x in of.items() if x is not None and x.dtype.kind in "iuf"}
    if len(known) < len(of):
        return None
    frames, steps, numbers = known["frames"], known["steps"], [known[name] for name in NUMBERS]
    fits = frames.dtype == np.uint8 and frames.ndim == 4 and frames.shape[3] == 3
    fits = fits and steps.shape == frames.shape[:1] and all(x.shape == () for x in numbers)
    if not fits or not 1 <= len(frames) <= FRAMES:
        return None
    seed, length, paid = map(float, numbers)
    if not all(map(np.isfinite, (seed, length, paid, *steps))) or max(frames.shape) > 2000:
        return None
    return Episode(agent, run, int(seed), frames, [int(s) for s in steps], int(length), paid)


NUMBERED: dict[str, Any] = {
    "fontweight": "normal",
    "pad": 1.5,
    "color": MUTED,
    "loc": "center",
}
NUMBERS = ("seed", "length", "return")
HEADS = ("agent", "run", "seed", "picture", "after steps", "steps of the episode", "its return")


def _data(rows: Sequence[Episode]) -> Iterator[tuple[Value, ...]]:
    for e in rows:
        for picture, step in enumerate(e.steps, 1):
            yield e.agent, e.run, e.seed, picture, step, e.length, e.paid


def _diverged(rows: Sequence[Episode], cells: Sequence[Cell], results: Results) -> str:
    """How many seeds were there to be ordered, where some diverged, and who had none."""
    kept: dict[str, tuple[int, int]] = {}
    for cell in cells:
        well = sum(run.status != "diverged" for run in cell.runs)
        if well < len(cell.runs):
            kept[results.called(cell.arm)] = (well, len(cell.runs))
    drawn = {e.agent for e in rows}
    some = [f"{agent} {n} of {of}" for agent, (n, of) in kept.items() if n and agent in drawn]
    none = [agent for agent, (n, _) in kept.items() if not n]
    text = f"Seeds that diverged are not among them; {join(some)} did not. " if some else ""
    return text + (f"No episode of {join(none)}: every seed diverged. " if none else "")


def _agents(rows: Sequence[Episode]) -> list[str]:
    """What each row calls its agent."""
    return shortened([e.agent for e in rows], 14 if narrow() else 16)


def _caption(rows: Sequence[Episode], diverged: str, tasks: int) -> str:
    left = f"The first {FIGURES} of {tasks} environments are drawn. " if tasks > FIGURES else ""
    return (
        f"{_returns(rows)}. One episode of each run, the first of the batch that it would learn from next, "
        "with sampled actions; runs are the median and the worst of their seeds by the last evaluation, "
        f"chosen by this rule alone (n = 1 episode each, no interval). {diverged}"
        "Rows begin where their seeds do, so that their lengths are no comparison. "
        f"{cut(MOST, len(rows))}{explained([e.agent for e in rows], _agents(rows))}"
        f"{left}Small numbers: steps."
    )


def _returns(rows: Sequence[Episode]) -> str:
    """The range of what the episodes return, or how many return what where that takes two values at most."""
    by_return: dict[str, list[str]] = {}
    for e in sorted(rows, key=lambda e: -e.paid):
        by_return.setdefault(show_float(e.paid), []).append(f"{e.agent}, {e.run} run")
    if len(by_return) == 1:
        return f"All return {next(iter(by_return))}"
    (top, best), *_, (bottom, least) = by_return.items()
    if len(by_return) > 2:
        return f"Returns from {bottom} ({join(least, 3)}) to {top} ({join(best, 3)})"
    few = min(best, least, key=len)
    return (
        f"{len(best)} of {len(rows)} episodes return {top}, {len(least)} return {bottom} "
        f"({top if few is best else bottom}: {'; '.join(few[:4])}{'; ...' * (len(few) > 4)})"
    )


def _wide(rows: Sequence[Episode]) -> bool:
    return any(e.frames.shape[2] > WIDE * e.frames.shape[1] for e in rows)


def _draw(rows: Sequence[Episode], agents: Sequence[str]) -> Figure:
    width, most = paper() or WIDTH, max(len(e.frames) for e in rows)
    alone = _wide(rows)
    # Left of the pictures stands who, right of them how it ended; where it is narrow, all left or above.
    room = width - (0.0 if alone else WORDS) if narrow() else 0.68 * width
    columns = 1 if alone else beside(most, most, SMALLEST, width - room)
    shape = rows[0].frames.shape
    height = room / columns * min(shape[1] / shape[2], 1.5) + 0.2
    if paper():
        words = 0.0 if alone or not narrow() else 4.4 * LEAST / 72
        height = min(max(height, words), (TALL - 0.1) / len(rows))
    figure, grid = canvas(height * len(rows) + 0.1, len(rows), columns)
    pads: dict[str, Any] = {"w_pad": 0.01, "h_pad": 0.015, "wspace": 0.0, "hspace": 0.0}
    pads["rect"] = (0.015, 0.0, 0.97, 1.0)
    figure.get_layout_engine().set(**pads)  # type: ignore[union-attr]
    for line, e in enumerate(rows):
        last = len(e.frames) - 1
        spaced = np.linspace(0, last, min(last + 1, columns)).round().astype(int)
        chosen = [last] if columns == 1 else list(spaced)
        for axes in grid[line]:
            axes.set_axis_off()
        for axes, index in zip(grid[line], chosen, strict=False):
            axes.imshow(e.frames[index], interpolation="antialiased")
            if not (alone and narrow()):
                axes.set_title(str(e.steps[index]), **NUMBERED, fontsize=points(6.5))
        _words(grid[line][0], grid[line][-1], e, agents[line], alone=alone)
    if columns == 1 and not paper():
        # a picture keeps its shape: what is left for words beside it is known once it was laid out
        for _ in range(2):
            figure.get_layout_engine().execute(figure)  # type: ignore[union-attr]
    return figure


def _words(first: Axes, last: Axes, e: Episode, agent: str, *, alone: bool) -> None:
    who = [agent, f"{e.run}, seed {e.seed}"]
    end = [f"return {show_float(e.paid)}", f"{e.length} step{'s' * (e.length != 1)}"]
    if alone and narrow():
        first.set_title(", ".join(who + end), **NUMBERED | {"loc": "left"}, fontsize=LEAST)
        return
    beside: dict[str, Any] = {"va": "center", "fontsize": points(7.5), "color": INK}
    left, right = (who + end, []) if narrow() else (who, end)
    first.text(-0.08, 0.5, "\n".join(left), ha="right", transform=first.transAxes, **beside)
    if right:
        last.text(1.08, 0.5, "\n".join(right), ha="left", transform=last.transAxes, **beside)
