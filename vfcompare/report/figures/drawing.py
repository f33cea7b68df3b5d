"""What all figures are made of: canvas, panels, rows, legends, marks.

Figures are drawn without pyplot, so that nothing global is changed.
"""

import textwrap
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vfcompare.report.analysis import Results
from vfcompare.report.figures.looks import FAINT, INK, MUTED, PAPER, Look, lettering
from vfcompare.report.figures.names import shorten, shortened
from vfcompare.report.figures.sizes import BODY, TALL, WIDTH, inches, lower, paper, points
from vfcompare.report.reading.files import Array
from vfcompare.report.scoring import Task
from vfcompare.report.table import Table
from vfcompare.statistics import Interval

Mask = npt.NDArray[np.bool_]
ROW = 0.29
HANDLE, ACROSS = 7, 10.6
"""Letters that a legend's line takes, and that an inch of it has room for."""
MAX_LEADERS = 8
LEGEND = 28
"""Letters of a name in a legend."""
CROWDED = 15
"""Rows beyond which they are set closer."""
CORNER = (0, 1)
"""Where what is found stands in a panel."""


@dataclass(frozen=True)
class Picture:
    """A figure, not yet drawn.

    Attributes:
      id: name of its files.
      title: the question it answers.
      caption: the answer, in one generated passage.
      draw: makes it.
      data: the numbers in it.
      more: further files of it, such as animations, by the end of their names.
    """

    id: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    data: Table
    more: Mapping[str, Callable[[], bytes]] = field(default_factory=dict)


def heading(axes: Axes, name: str, limit: int, said: str = "", color: str = MUTED) -> None:
    """The name of a panel, in two lines where one is too short, and what is found there under it."""
    brief = shorten(name, 2 * limit)
    # in a paper, what is measured decides where a line ends
    lines = [brief] if paper() else textwrap.wrap(brief, limit) or [""]
    whole = [*lines[:1], shorten(" ".join(lines[1:]), limit)] if len(lines) > 1 else lines
    # what is said takes no room from the panel, its title has to be there
    axes.set_title("\n".join(whole) or " " * bool(said and paper()), pad=17 if said else None)
    if said:
        place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points"}
        note = axes.annotate(
            said,
            CORNER,
            xytext=(0, 4),
            va="bottom",
            fontsize=points(8),
            color=lettering(color),
            **place,
        )
        note.set_in_layout(not paper())


def steps(value: float, _position: object = None) -> str:
    """A number of steps, in thousands or millions."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def canvas(
    height: float,
    rows: int = 1,
    columns: int = 1,
    *,
    broad: float = 1.0,
    **options: Any,
) -> tuple[Figure, Any]:
    """A figure and its `[rows, columns]` of axes.

    Args:
      height: in inches.
      rows: of axes.
      columns: of axes.
      broad: how many times wider than other figures of the page; those of a paper are as wide as its text.
      options: of Matplotlib's subplots.
    """
    figure = Figure(figsize=(paper() or broad * WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)  # type: ignore[union-attr, call-arg]
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def panels(grid: Any, count: int) -> list[Axes]:
    """The first axes of a grid; the others are hidden."""
    for axes in list(grid.flat)[count:]:
        axes.set_visible(False)
    return list(grid.flat)[:count]


def apart(figure: Figure) -> None:
    """More room between the lines of panels, so that no title is taken for the label above it."""
    figure.get_layout_engine().set(h_pad=0.09)  # type: ignore[union-attr, call-arg]


def legend(
    figure: Figure,
    handles: Sequence[Any],
    names: Sequence[str],
    columns: int | None = None,
    **options: Any,
) -> None:
    """Names above all panels: in one row where there is room, else in rows of equal length.

    Args:
      figure: laid out later.
      handles: the marks.
      names: beside them.
      columns: on the page, where their number is not to follow from the letters.
      options: of Matplotlib's legend.
    """
    rows = -(-sum(len(name) + HANDLE for name in names) // int(ACROSS * figure.get_figwidth()))
    found = columns or -(-len(names) // max(rows, 1))
    if paper():
        names = shortened(names, LEGEND)
        found, options = _across(names, figure.get_figwidth()), options | {"columnspacing": 1.2}
        more = max(0, -(-len(names) // found) - 1)
        figure.set_figheight(figure.get_figheight() + more * 1.5 * points(BODY) / 72)
    where: dict[str, Any] = {"loc": "outside upper left", "ncols": found, "frameon": False}
    figure.legend(handles, names, **{"handlelength": 3.2} | options | where)


def _across(names: Sequence[str], width: float) -> int:
    """Most columns of a legend's names that a width has room for, the lines as equal as can be."""
    em = points(BODY) / 72
    sizes = [inches([name]) + 5.4 * em for name in names]
    for lines in range(1, len(names)):
        columns = -(-len(names) // lines)
        # a legend is filled column by column, the first ones with the lines that are left over
        ends = np.cumsum(
            [len(names) // columns + (i < len(names) % columns) for i in range(columns)]
        )
        if sum(max(part) for part in np.split(sizes, ends[:-1])) < width - em:
            return columns
    return 1


def row_height(count: int) -> float:
    """Inches of one of so many rows."""
    return lower(ROW if count <= CROWDED else 0.62 * ROW)


def rows_drawn(count: int, lines: int, around: float) -> int:
    """How many of so many rows each of some lines of panels has: in a paper those that fit on a page of it.

    Args:
      count: all rows.
      lines: of panels above each other.
      around: inches of a line that are not rows.
    """
    if paper() is None:
        return count
    return max(1, min(count, int(((TALL - 0.5) / lines - around) / row_height(count))))


def cut(most: int, count: int) -> str:
    """Says that not all rows are drawn."""
    return f"The first {most} of {count} rows are drawn. " if most < count else ""


def jitter(count: int, width: float = 0.2) -> Array:
    """Vertical offsets by the golden ratio: spread evenly, the same each time."""
    return np.asarray(((np.arange(count) * 0.618_033_988_7) % 1.0 - 0.5) * 2.0 * width, np.float64)


def rows_axis(axes: Axes, names: Sequence[str], colors: Sequence[str] | None = None) -> None:
    """One named row for each of the things compared."""
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_yticks(range(len(names)), shortened(names))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color=FAINT, linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    # the right one of two panels that share their rows has no labels
    for label, color in zip(axes.get_yticklabels(), colors or [INK] * len(names), strict=False):
        label.set_color(lettering(color))
        label.set_fontsize(points(8.5 if len(names) <= CROWDED else 6.8))


def mark(axes: Axes, y: float, interval: Interval, look: Look, **options: Any) -> None:
    """An estimate with its interval on a row."""
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [y, y], color=look.color, lw=2.2, zorder=3)
    inside = {"mfc": look.color, "mec": PAPER, "mew": 0.6}
    outside = {"mfc": PAPER, "mec": look.color, "mew": 1.3}
    shape: dict[str, Any] = {**(inside if look.filled else outside), **options}
    axes.plot(
        [interval.estimate],
        [y],
        marker=look.marker,
        ms=6.5,
        ls="none",
        zorder=4,
        clip_on=False,
        **shape,
    )


def dots(axes: Axes, y: float, values: Array, color: str, failed: Mask | None = None) -> None:
    """A dot for each run on a row; a cross, where it failed."""
    heights = y + jitter(values.size)
    good: Mask = np.ones(values.size, dtype=np.bool_) if failed is None else ~failed
    axes.plot(values[good], heights[good], ".", ms=4.6, color=color, alpha=0.4, mew=0, zorder=2)
    if not good.all():
        axes.plot(values[~good], heights[~good], "x", ms=5, color=color, mew=1.2, zorder=2)


def right_texts(axes: Axes, texts: Sequence[str], strong: Container[int] = ()) -> None:
    """What stands behind each row, some of them in bold."""
    size = points(8 if len(texts) <= CROWDED else 6.5)
    for y, text in enumerate(texts):
        axes.annotate(
            text,
            (1.0, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=size,
            color=INK if y in strong else MUTED,
            fontweight="bold" if y in strong else "normal",
        )


def spread(heights: Array, gap: float, low: float, high: float) -> Array:
    """Sorted heights moved as little as needed to be `gap` apart, kept inside where they fit."""
    gap = min(gap, (high - low) / max(1, heights.size - 1)) if heights.size > 1 else gap
    offsets = gap * np.arange(heights.size)
    wanted = heights - offsets
    blocks: list[list[float]] = []
    for value in wanted:
        blocks.append([float(value)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    level = np.array([np.mean(block) for block in blocks for _ in block])
    top = high - gap * (heights.size - 1)
    return np.asarray(np.clip(level, low, max(low, top)) + offsets)


def unit_lines(axes: Axes, task: Task) -> None:
    """Where the random and the optimal policy are."""
    levels = (0.0, 1.0) if task.normalised else (task.random, task.optimal)
    for level in levels:
        if level is not None:
            axes.axvline(level, color=MUTED, lw=0.7, ls=(0, (1, 2)), zorder=0)


def unseen(results: Results, file: str) -> str:
    """What is not drawn, and where it is; empty where everything is."""
    left = results.shown.left
    if not left:
        return ""
    return (
        f"Drawn: the best setting of each agent and its median one (hollow); {left:,} others are in {file}."
        if results.shown.picked
        else f"The {left:,} arms that stand lowest are not drawn; they are in {file}."
    )
