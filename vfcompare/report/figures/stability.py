"""How steady the agents are: over seeds, within a run, and whether they keep what they learned."""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from vfcompare.report.analysis import Arm, Results
from vfcompare.report.figures.drawing import (
    CROWDED,
    Picture,
    canvas,
    cut,
    mark,
    row_height,
    rows_axis,
    rows_drawn,
    unseen,
)
from vfcompare.report.figures.looks import INK, appearance
from vfcompare.report.figures.names import explained_rows, row_names, shortened
from vfcompare.report.figures.sizes import beside, inches
from vfcompare.report.metrics import METRICS, STABILITY
from vfcompare.report.prose.sentences import capital, extents, failed_in, seeds
from vfcompare.report.table import Table, join, show_float

PANELS = ("collapse", "spread", "variation", "drawdown")


def pictures(results: Results) -> Iterator[Picture]:
    """Four quantities, left is better."""
    arms = [arm for arm in results.shown.rows if ("drawdown", arm.name) in results.stability]
    if not arms:
        return
    rows = tuple(
        (arm.name, results.runs(arm), key, results.stability[key, arm.name])
        for arm in arms
        for key in (*STABILITY, "collapse", "failure")
        if (key, arm.name) in results.stability
    )
    yield Picture(
        "stability",
        "How steady the agents are",
        _caption(results, arms),
        lambda: _draw(results, arms),
        Table("stability", "Stability", ("agent", "n", "quantity", "estimate"), rows),
    )


def _caption(results: Results, arms: Sequence[Arm]) -> str:
    """The extremes of each quantity."""
    found = {
        key: [
            (results.stability[key, arm.name].estimate, results.called(arm.name))
            for arm in arms
            if (key, arm.name) in results.stability
        ]
        for key in STABILITY
    }
    parts = []
    for key, name in (("spread", "spread over seeds"), ("drawdown", "drawdown")):
        if found[key]:
            low, high = min(found[key]), max(found[key])
            parts.append(
                f"{name} from {show_float(low[0])} ({low[1]}) to {show_float(high[0])} ({high[1]})"
            )
    counted = [(results.called(arm.name), *results.counts["collapse", arm.name]) for arm in arms]
    worst = sorted((item for item in counted if item[2]), key=lambda item: -item[1] / item[2])
    counts = join(f"{name} {count} of {n}" for name, count, n in worst)
    collapsed = (
        f"Collapsed: {counts}" if any(count for _, count, _ in worst) else "No run collapsed"
    )
    known = [results.stability["drawdown", arm.name].low for arm in arms]
    below = [
        f"Negative {key}s are noise: no {key}. "
        for key in ("drawdown", "variation")
        if any(estimate < 0.0 for estimate, _ in found[key])
    ]
    return (
        f"{collapsed}. {capital('; '.join(parts))}. Left is better, "
        f"{extents('bars', '95% intervals', known)}. {''.join(below)}"
        f"{seeds(results, arms, results.pool)} seeds per environment. {explained_rows(results)}"
        f"{unseen(results, 'settings.csv')} "
        f"{cut(_shape(results, arms)[2], len(arms))}"
        f"{failed_in(results, *results.pool)}"
    ).replace("  ", " ")


AROUND = 0.72
"""Inches of a line of panels that are not rows."""


def _shape(results: Results, arms: Sequence[Arm]) -> tuple[int, int, int]:
    """Panels beside each other, lines of them, and the rows that are drawn."""
    most = 4 if len(arms) > CROWDED else 2
    columns = beside(len(PANELS), most, 1.1, inches(shortened(row_names(results, arms))))
    lines = -(-len(PANELS) // columns)
    return columns, lines, rows_drawn(len(arms), lines, AROUND)


def _draw(results: Results, arms: Sequence[Arm]) -> Figure:
    crowded = len(arms) > CROWDED
    columns, lines, most = _shape(results, arms)
    arms = arms[:most]
    names = row_names(results, arms)
    height = lines * (AROUND + row_height(len(arms)) * len(arms))
    figure, grid = canvas(height, lines, columns, broad=1.4 if crowded else 1.0, sharey=True)
    looks = appearance(results)
    for axes, key in zip(grid.flat, PANELS, strict=True):
        for y, arm in enumerate(arms):
            if (key, arm.name) in results.stability:
                mark(axes, y, results.stability[key, arm.name], looks[arm.name])
        rows_axis(axes, names, [looks[arm.name].color for arm in arms])
        axes.xaxis.set_major_locator(MaxNLocator(3 if crowded else 5))
        # Of what is beyond noise the least is a little below zero.
        axes.set_xlim(*(1.04 * end for end in (min(0.0, axes.get_xlim()[0]), axes.get_xlim()[1])))
        axes.axvline(0.0, color=INK, lw=0.8, zorder=0)
        axes.set_title(METRICS[key].label)
        label = METRICS[key].axis
        axes.set_xlabel(label if crowded else label.replace("\n", " "))
        if key == "collapse":
            axes.xaxis.set_major_formatter(PercentFormatter(1))
    return figure
