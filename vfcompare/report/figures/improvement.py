"""How likely one run beats another, for every pair of agents that is compared."""

from collections.abc import Iterator

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vfcompare.report.analysis import Improvement, Results
from vfcompare.report.figures.drawing import FAINT, INK, Picture, canvas, row_names, shortened
from vfcompare.report.sentences import against, elsewhere, failed_in, over, sizes
from vfcompare.report.table import Table, join
from vfcompare.statistics import Interval

MOST = 10
"""Most agents that are drawn."""
LEVEL = 1e-9
"""What rounding makes of a half."""
ACROSS = 60
"""Letters that have room side by side; longer names of columns are turned."""


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
        f"{seeds} seeds per environment. {elsewhere(results, found)}{failed_in(results, *results.pool)}"
    )


def _in_words(results: Results, item: Improvement) -> str:
    value = item.interval.estimate
    if abs(value - 0.5) < LEVEL:
        return f"{results.called(item.first)} and {results.called(item.second)} level (0.50)"
    ahead = item.first if value >= 0.5 else item.second
    return over(results, (item.first, item.second), ahead, f"{max(value, 1 - value):.2f}")


def _draw(results: Results) -> Figure:
    rows = [arm for arm in results.shown.compared if arm != results.baseline]
    columns = [results.baseline] if results.baseline else rows
    figure, grid = canvas(0.75 + 0.52 * len(rows))
    axes: Axes = grid[0, 0]
    colors = matplotlib.colormaps["PuOr"]
    lines, places = ({arm.name: i for i, arm in enumerate(arms)} for arms in (rows, columns))
    small = 8 if len(columns) <= 6 else 6.5
    for item in results.improvement:
        for flip in (False, True):
            first, second = (item.second, item.first) if flip else (item.first, item.second)
            if first not in lines or second not in places:
                continue
            row, col = lines[first], places[second]
            value = _flip(item.interval, flip)
            hatch = None if item.decided else "////"
            face = colors(0.5 + 0.55 * (value.estimate - 0.5)) if item.decided else "none"
            axes.add_patch(
                Rectangle(
                    (col - 0.48, row - 0.46), 0.96, 0.92, fc=face, ec=FAINT, hatch=hatch, lw=0.5
                )
            )
            ink = "#111111" if item.decided else INK
            weight = "bold" if item.decided else "normal"
            ends = f"{value.low:.2f}–{value.high:.2f}"
            axes.text(
                col,
                row - 0.12,
                f"{value.estimate:.2f}",
                ha="center",
                va="center",
                color=ink,
                weight=weight,
            )
            axes.text(
                col, row + 0.23, ends, ha="center", va="center", color=ink, fontsize=small - 1
            )
    across, down = (shortened(row_names(results, arms), 16) for arms in (columns, rows))
    axes.set_xlim(-0.55, len(columns) - 0.45)
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.set_xticks(range(len(columns)), across)
    axes.set_yticks(range(len(rows)), down)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelcolor=INK)
    if len(across) * max(map(len, across)) > ACROSS:
        for name in axes.get_xticklabels():
            name.set(rotation=30, ha="left", rotation_mode="anchor")
    axes.set_xlabel("P(row > column)")
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _flip(interval: Interval, flip: bool) -> Interval:
    if not flip or interval.low is None or interval.high is None:
        return interval
    low, high = 1.0 - interval.high, 1.0 - interval.low
    return Interval(1.0 - interval.estimate, low, high, interval.n, interval.confidence)
