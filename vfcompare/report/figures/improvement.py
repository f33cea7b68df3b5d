"""How likely one run beats another, for every pair of agents that is compared."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vfcompare.report.analysis import Arm, Improvement, Results
from vfcompare.report.figures.drawing import Picture, canvas
from vfcompare.report.figures.looks import FAINT, INK
from vfcompare.report.figures.names import explained, row_names, shortened
from vfcompare.report.figures.sizes import LEAST, inches, lower, paper, points
from vfcompare.report.prose.sentences import against, elsewhere, failed_in, over, sizes
from vfcompare.report.table import Table, join
from vfcompare.statistics import Interval

MOST = 10
"""Most agents that are drawn."""
LETTERS = 16
"""Of a name beside the matrix."""
LEVEL = 1e-9
"""What rounding makes of a half."""
ACROSS = 60
"""Letters that have room side by side; longer names of columns are turned."""
ROOM, ROOMY = 0.35, 0.65
"""Inches of a cell that has room for an interval in two lines, and in one."""


def pictures(results: Results) -> Iterator[Picture]:
    """A matrix: the row against the column; one column, where all are held against one agent."""
    if not results.improvement or len(results.shown.compared) > MOST:
        return
    rows = tuple((i.first, i.second, i.interval, i.decided) for i in results.improvement)
    yield Picture(
        "improvement",
        "How likely one run beats another",
        _caption(results),
        lambda: _draw(results),
        Table(
            "improvement", "Probability of improvement", ("first", "second", "P", "decided"), rows
        ),
    )


def _caption(results: Results) -> str:
    """How many pairs are decided, and the most certain one."""
    found = sorted(results.improvement, key=lambda item: -abs(item.interval.estimate - 0.5))
    decided = [item for item in found if item.decided]
    named = join(_in_words(results, item) for item in decided or found[:1])
    seeds = sizes(n for item in found for n in item.seeds.values())
    return (
        f"{len(decided)} of {len(found)} pairs{against(results)} decided after Holm's correction; "
        f"{'these' if decided else 'furthest apart'}: {named}. Probability that a run of the row has a "
        "larger area under the curve than one of the column, how often and not by how much; purple: the row "
        "is ahead, orange: the column, hatched: undecided. "
        f"{seeds} seeds per environment. {_explained(results)}"
        f"{elsewhere(results, found)}{failed_in(results, *results.pool)}"
    )


def _in_words(results: Results, item: Improvement) -> str:
    value = item.interval.estimate
    if abs(value - 0.5) < LEVEL:
        return f"{results.called(item.first)} and {results.called(item.second)} level (0.50)"
    ahead = item.first if value >= 0.5 else item.second
    return over(results, (item.first, item.second), ahead, f"{max(value, 1 - value):.2f}")


def _sides(results: Results) -> tuple[list[Arm], list[Arm]]:
    """Agents of the columns and of the rows."""
    rows = [arm for arm in results.shown.compared if arm != results.baseline]
    return [results.baseline] if results.baseline else rows, rows


def _explained(results: Results) -> str:
    sides = [row_names(results, arms) for arms in _sides(results)]
    told = (explained(names, shortened(names, LETTERS)) for names in sides)
    return next(filter(None, told), "")


def _draw(results: Results) -> Figure:
    columns, rows = _sides(results)
    across, down = (shortened(row_names(results, arms), LETTERS) for arms in (columns, rows))
    figure, grid = canvas(0.75 + lower(0.52) * len(rows))
    axes: Axes = grid[0, 0]
    width = paper()
    room = (width - inches(down)) / len(columns) if width else math.inf
    lines, places = ({arm.name: i for i, arm in enumerate(arms)} for arms in (rows, columns))
    for item in results.improvement:
        for flip in (False, True):
            first, second = (item.second, item.first) if flip else (item.first, item.second)
            if first in lines and second in places:
                at, value = (places[second], lines[first]), _flip(item.interval, flip)
                _cell(axes, at, value, decided=item.decided, room=room, small=len(columns) > 6)
    axes.set_xlim(-0.55, len(columns) - 0.45)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xticks(range(len(columns)), across)
    axes.set_yticks(range(len(rows)), down)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelcolor=INK)
    if len(across) * max(map(len, across)) > ACROSS or room < inches(across):
        for name in axes.get_xticklabels():
            name.set(rotation=45 if width else 30, ha="left", rotation_mode="anchor")
    axes.set_xlabel("P(row > column)")
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _cell(
    axes: Axes, at: tuple[int, int], value: Interval, *, decided: bool, room: float, small: bool
) -> None:
    """A probability and its interval, as far as there is room, on its colour."""
    column, row = at
    face = matplotlib.colormaps["PuOr"](0.5 + 0.55 * (value.estimate - 0.5)) if decided else "none"
    shape: dict[str, Any] = {
        "fc": face,
        "ec": FAINT,
        "hatch": None if decided else "////",
        "lw": 0.5,
    }
    axes.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, **shape))
    write = partial(axes.text, ha="center", va="center", color="#111111" if decided else INK)
    weight = "bold" if decided else "normal"
    if room < ROOM:
        write(column, row, f"{value.estimate:.2f}", weight=weight, fontsize=LEAST)
        return
    up, down, between = (0.12, 0.23, "–") if room >= ROOMY else (0.27, 0.17, "–\n")
    write(column, row - up, f"{value.estimate:.2f}", weight=weight)
    ends = f"{value.low:.2f}{between}{value.high:.2f}"
    write(column, row + down, ends, fontsize=points(5.5 if small else 7))


def _flip(interval: Interval, flip: bool) -> Interval:
    if not flip or interval.low is None or interval.high is None:
        return interval
    low, high = 1.0 - interval.high, 1.0 - interval.low
    return Interval(1.0 - interval.estimate, low, high, interval.n, interval.confidence)
