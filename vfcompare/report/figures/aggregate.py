"""Scores over all environments of one scale."""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vfcompare.report.analysis import Arm, Results
from vfcompare.report.figures.drawing import (
    Picture,
    canvas,
    cut,
    mark,
    panels,
    row_height,
    rows_axis,
    rows_drawn,
    unseen,
)
from vfcompare.report.figures.looks import appearance
from vfcompare.report.figures.names import explained_rows, row_names, shortened
from vfcompare.report.figures.sizes import beside, inches
from vfcompare.report.metrics import AGGREGATES, SCORES
from vfcompare.report.prose.sentences import extents, failed_in, seeds
from vfcompare.report.prose.verdicts import ranking
from vfcompare.report.table import Table, join, show_interval

PANELS = (
    ("iqm", "auc", "IQM of area under curve"),
    ("iqm", "final", "IQM of final score"),
    ("mean", "final", "mean of final score"),
)


def pictures(results: Results) -> Iterator[Picture]:
    """Interquartile means and means, with intervals."""
    arms = [arm for arm in results.shown.rows if ("iqm", "auc", arm.name) in results.aggregate]
    if len(results.pool) < 2 or not arms:
        return
    rows = tuple(
        (arm.name, results.runs(arm), metric, name, results.aggregate[name, metric, arm.name])
        for arm in arms
        for metric in SCORES
        for name in AGGREGATES
        if (name, metric, arm.name) in results.aggregate
    )
    yield Picture(
        "aggregate",
        "Scores over all environments",
        _caption(results, arms),
        lambda: _draw(results, arms),
        Table("aggregate", "Aggregates", ("agent", "n", "metric", "statistic", "estimate"), rows),
    )


def _caption(results: Results, arms: Sequence[Arm]) -> str:
    """The order of the agents over all environments, and who leads in the other panels."""
    order = join(f"{results.called(arm.name)} {show_interval(x)}" for arm, x in ranking(results))
    count = len(results.pool)
    others = join(
        f"{_largest(results, arms, name, metric)} in {label}" for name, metric, label in PANELS[1:]
    )
    bars = extents("bars", "95% bootstrap intervals", (x.low for x in results.aggregate.values()))
    return (
        f"Area under the curve over {count} environments, IQM: {order}. Largest: {others}. "
        f"{seeds(results, arms, results.pool)} seeds per environment, {bars}. "
        f"{explained_rows(results)}{unseen(results, 'settings.csv')} "
        f"{cut(_shape(results, arms)[2], len(arms))}{failed_in(results, *results.pool)}"
    ).replace("  ", " ")


def _largest(results: Results, arms: Sequence[Arm], name: str, metric: str) -> str:
    found = {results.called(arm.name): results.aggregate[name, metric, arm.name] for arm in arms}
    return max(found, key=lambda arm: found[arm].estimate)


AROUND = 0.75
"""Inches of a line of panels that are not rows."""


def _shape(results: Results, arms: Sequence[Arm]) -> tuple[int, int, int]:
    """Panels beside each other, lines of them, and the rows that are drawn."""
    columns = beside(len(PANELS), len(PANELS), 1.0, inches(shortened(row_names(results, arms))))
    lines = -(-len(PANELS) // columns)
    return columns, lines, rows_drawn(len(arms), lines, AROUND)


def _draw(results: Results, arms: Sequence[Arm]) -> Figure:
    columns, lines, most = _shape(results, arms)
    arms = arms[:most]
    names = row_names(results, arms)
    height = lines * (AROUND + row_height(len(arms)) * len(arms))
    figure, grid = canvas(height, lines, columns, sharey=True)
    looks = appearance(results)
    for axes, (name, metric, label) in zip(panels(grid, len(PANELS)), PANELS, strict=True):
        for y, arm in enumerate(arms):
            mark(axes, y, results.aggregate[name, metric, arm.name], looks[arm.name])
        rows_axis(axes, names, [looks[arm.name].color for arm in arms])
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(label)
    for axes in grid[:, 1:].flat:
        axes.tick_params(labelleft=False)
    return figure
