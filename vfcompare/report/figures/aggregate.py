"""Scores over all environments of one scale."""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vfcompare.report.analysis import Arm, Results
from vfcompare.report.figures.drawing import (
    Picture,
    appearance,
    canvas,
    mark,
    row_height,
    row_names,
    rows_axis,
    unseen,
)
from vfcompare.report.metrics import AGGREGATES, SCORES
from vfcompare.report.sentences import extents, failed_in, seeds
from vfcompare.report.table import Table, join, show_interval
from vfcompare.report.verdicts import ranking

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
        f"{unseen(results, 'settings.csv')} {failed_in(results, *results.pool)}"
    ).replace("  ", " ")


def _largest(results: Results, arms: Sequence[Arm], name: str, metric: str) -> str:
    found = {results.called(arm.name): results.aggregate[name, metric, arm.name] for arm in arms}
    return max(found, key=lambda arm: found[arm].estimate)


def _draw(results: Results, arms: Sequence[Arm]) -> Figure:
    figure, grid = canvas(0.75 + row_height(len(arms)) * len(arms), 1, len(PANELS), sharey=True)
    looks = appearance(results)
    for axes, (name, metric, label) in zip(grid[0], PANELS, strict=True):
        for y, arm in enumerate(arms):
            mark(axes, y, results.aggregate[name, metric, arm.name], looks[arm.name])
        rows_axis(axes, row_names(results, arms), [looks[arm.name].color for arm in arms])
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(label)
    for axes in grid[0, 1:]:
        axes.tick_params(labelleft=False)
    return figure
