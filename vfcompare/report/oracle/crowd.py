"""More agents than a legend can tell apart: one row each, or no names but those at the edges."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vfcompare.report.analysis import Arm
from vfcompare.report.figures.drawing import canvas, mark, panels, row_height, rows_axis
from vfcompare.report.figures.looks import Look, looks
from vfcompare.report.figures.names import shorten, shortened
from vfcompare.report.figures.sizes import beside, inches, points, stacked
from vfcompare.report.oracle.findings import Findings
from vfcompare.report.oracle.points import (
    MAX_PANELS,
    PANEL_COLUMNS,
    Point,
    by_panel,
    capped,
    ceiling,
    drawn,
    hollow,
    log_ticks,
    unit,
)
from vfcompare.schema.families import CRITIC, OUTCOME_ONLY
from vfcompare.statistics import Array, Interval

MOST_AGENTS = 12
"""Agents that a legend can tell apart."""
NAMED, LINE_SHARE = 5, 0.07
"""Agents that are named in a crowded panel, and the share of its height that a name takes."""


def draw_crowd(
    findings: Findings, measured: Sequence[Point], label: str, axis: str | None
) -> Figure:
    """Many agents: one row each, environments beside each other, in the order of what is measured."""
    groups, appearance = drawn(by_panel(measured, axis), most(measured, axis)), families(findings)
    common = _common(measured, axis)
    named = [(row_name(point, axis, common), point) for group in groups.values() for point in group]
    rows = _rows(groups, axis, common)
    colors = {name: appearance[point.subject.agent].color for name, point in named}
    columns = _columns(len(groups), rows)
    lines = -(-len(groups) // columns)
    height = 0.3 + lines * _height(rows)
    broad = 1.4 if columns > 1 else 1.0
    figure, grid = canvas(height, lines, columns, broad=broad, sharey=True)
    top, drawn_in = ceiling(measured), panels(grid, len(groups))
    for place, (panel, (title, group)) in enumerate(zip(drawn_in, groups.items(), strict=True)):
        rows_axis(panel, rows, [colors[name] for name in rows])
        panel.set_xscale("log")
        for point in group:
            y, look = rows.index(row_name(point, axis, common)), appearance[point.subject.agent]
            marker = ">" if np.isinf(point.interval.estimate) else look.marker
            mark(panel, y, capped(point.interval, top), replace(look, marker=marker))
            if point.predicted:
                hollow(panel, point.predicted, y, look)
        panel.set_title(shorten(title, 26))
        panel.set_xlabel(label if place == len(groups) - 1 or columns == 1 else "")
        panel.tick_params(labelleft=place % columns == 0)
    if label.endswith(tuple(arm.name for arm in findings.arms)):
        unit(drawn_in, vertical=True)
    log_ticks(drawn_in, "x")
    return figure


def most(measured: Sequence[Point], axis: str | None) -> int:
    """Panels that are drawn."""
    groups = drawn(by_panel(measured, axis))
    rows = _rows(groups, axis, _common(measured, axis))
    return min(MAX_PANELS, _columns(len(groups), rows) * stacked(_height(rows)))


def _common(measured: Sequence[Point], axis: str | None) -> str | None:
    """The value of the axis that most points have."""
    usual = [point.subject.settings.get(axis or "") for point in measured]
    return max(dict.fromkeys(usual), key=usual.count)


def _rows(groups: Mapping[str, Sequence[Point]], axis: str | None, common: str | None) -> list[str]:
    """All rows, in the order of the medians of what is measured."""
    sizes: dict[str, list[float]] = {}
    for point in (point for group in groups.values() for point in group):
        sizes.setdefault(row_name(point, axis, common), []).append(point.interval.estimate)
    return sorted(sizes, key=lambda name: float(np.median(sizes[name])))


def _columns(count: int, rows: Sequence[str]) -> int:
    return beside(count, PANEL_COLUMNS, 1.2, inches(shortened(rows)))


def _height(rows: Sequence[str]) -> float:
    return 0.6 + row_height(len(rows)) * len(rows)


def row_name(point: Point, axis: str | None, common: str | None) -> str:
    """The agent; and its setting where that is not the common one."""
    value = point.subject.settings.get(axis or "")
    return point.subject.agent if value == common else f"{point.subject.agent}, {axis}={value}"


def families(findings: Findings) -> dict[str, Look]:
    """Two looks, for readers of values and for others, where there are too many agents for more."""
    kinds = looks([Arm("without values", "grpo", OUTCOME_ONLY), Arm("with values", "ppo", CRITIC)])
    return {
        arm.name: kinds["with values" if arm.critic else "without values"] for arm in findings.arms
    }


def name_edges(axes: Axes, group: Sequence[Point], biases: Mapping[int, Interval]) -> None:
    """Names of the agents with the extreme variances and the largest biases, where there is room."""

    def place(point: Point) -> Array:
        return np.array([biases[id(point.subject)].estimate, point.interval.estimate])

    by_noise = sorted(group, key=lambda point: point.interval.estimate)
    by_bias = sorted(group, key=lambda point: -abs(place(point)[0]))
    named: list[Array] = []
    for point in (by_noise[0], by_noise[-1], *by_bias):
        x, y = axes.transAxes.inverted().transform(axes.transData.transform(place(point)))
        if len(named) == NAMED or any(abs(y - other[1]) < LINE_SHARE for other in named):
            continue
        named.append(np.array([x, y]))
        right = x < 0.6
        axes.annotate(
            shorten(point.subject.agent, 16),
            tuple(place(point)),
            xytext=(5 if right else -5, 3),
            textcoords="offset points",
            ha="left" if right else "right",
            fontsize=points(6.5),
            zorder=6,
        )
