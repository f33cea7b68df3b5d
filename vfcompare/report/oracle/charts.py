"""Pictures: gradient variance, episodes that a good direction takes, and variance against bias."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from vfcompare.report.figures.drawing import ROW, Picture, canvas, legend, mark, rows_axis
from vfcompare.report.figures.looks import FAINT, INK, MUTED, Look, looks
from vfcompare.report.figures.names import shorten
from vfcompare.report.figures.sizes import WIDTH, lower, stacked
from vfcompare.report.oracle import crowd
from vfcompare.report.oracle.crowd import MOST_AGENTS, draw_crowd, families, name_edges
from vfcompare.report.oracle.findings import RELATIVE, Findings, Subject, measure
from vfcompare.report.oracle.points import (
    MAX_PANELS,
    Point,
    by_panel,
    capped,
    ceiling,
    drawn,
    hollow,
    left_out,
    log_ticks,
    most_panels,
    ordered,
    panel_grid,
    swept,
    unit,
)
from vfcompare.report.oracle.predictions import ROUNDING, Compared
from vfcompare.report.table import Table, join, show, show_interval
from vfcompare.statistics import Array, Interval

SWEEP = 2.5
"""Inches of a line of panels with a setting as their axis."""


def pictures(findings: Findings, compared: Compared) -> list[Picture]:
    """Variance, episodes that a good direction takes, and variance against bias."""
    if not findings.subjects:
        return []
    return [*_variance(findings, compared), *_episodes(findings), *_tradeoff(findings)]


def _variance(findings: Findings, compared: Compared) -> Iterator[Picture]:
    foretold = {
        id(row.subject): row.predicted for name in ("P2", "P3") for row in compared.get(name, ())
    }
    if findings.references:
        found = [(item, findings.relative(item)) for item in findings.subjects]
        first = next(iter(findings.references.values()))
        to = "that with the exact value of the start as baseline"
        label = f"gradient variance ({first.agent}: 1)"
    else:
        found = [(item, measure(item, RELATIVE)) for item in findings.subjects]
        to, label = "the squared true gradient", "gradient variance / |true gradient|²"
    points = [Point(item, x, foretold.get(id(item))) for item, x in found if x is not None]
    zero = [point.subject.name for point in points if point.interval.estimate <= ROUNDING]
    points = [point for point in points if point.interval.estimate > ROUNDING]
    others = [p for p in points if findings.references.get(p.subject.shared) is not p.subject]
    if not others:
        return
    caption = (
        f"{_least(points)}Variance of one episode's gradient relative to {to}: {_extremes(others)}. "
        f"{_sizes(points)}"
    )
    if foretold:
        caption += (
            " Hollow symbols: predicted. Less is better; what belongs to one tick stands beside it."
        )
    if zero:
        caption += f" Zero, and so not drawn: {join(zero)}."
    title = "How noisy each estimator's gradient is"
    yield _picture(findings, "oracle-variance", title, caption, points, label)


def _episodes(findings: Findings) -> Iterator[Picture]:
    found = [(item, measure(item, "episodes_to_cosine")) for item in findings.subjects]
    points = [Point(item, x) for item, x in found if x is not None and x.estimate > 0]
    if not points:
        return
    never = [p.subject.name for p in points if np.isinf(p.interval.estimate)]
    caption = (
        f"Episodes in a batch for its gradient to have cosine 0.9 with the true one: "
        f"{_extremes(points)}. {_sizes(points, 'Medians')}"
    )
    if never:
        caption += f" Never, because of bias: {join(never)} (arrows)."
    title = "How many episodes a good direction takes"
    yield _picture(findings, "oracle-cosine", title, caption, points, "episodes to cosine 0.9")


def _least(points: Sequence[Point]) -> str:
    """In how many settings each estimator has the least noise."""
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.subject.setting, []).append(point)
    rivals = [group for group in groups.values() if len(group) > 1]
    first = Counter(min(g, key=lambda p: p.interval.estimate).subject.agent for g in rivals)
    told = join(f"{agent} in {count}" for agent, count in first.most_common())
    return f"Of {len(rivals)} settings the least noise has {told}. " if rivals else ""


def _extremes(points: Sequence[Point]) -> str:
    finite = [point for point in points if np.isfinite(point.interval.estimate)]
    if not finite:
        return "nowhere finite"
    ends = [f(finite, key=lambda p: p.interval.estimate) for f in (min, max)]
    told = [f"{show_interval(p.interval)} ({p.subject.name})" for p in ends]
    return f"from {told[0]} to {told[1]}" if ends[0] is not ends[1] else told[0]


def _sizes(points: Sequence[Point], what: str = "Means") -> str:
    sizes = sorted({point.interval.n for point in points})
    n = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    bars = any(point.interval.sufficient for point in points)
    told = "bars are 95% bootstrap intervals" if bars else "too few for intervals"
    return f"{what} over n = {n} seeds, {told}."


def _picture(
    findings: Findings, name: str, title: str, caption: str, points: Sequence[Point], label: str
) -> Picture:
    rows = tuple(
        (p.subject.setting, p.subject.agent, p.interval.n, p.interval, p.predicted) for p in points
    )
    data = Table(name, title, ("setting", "agent", "n", label, "predicted"), rows)
    axis = swept(findings)
    caption += left_out(len(by_panel(points, axis)), _most(points, axis))

    def draw() -> Figure:
        if _crowded(points):
            return draw_crowd(findings, points, label, axis)
        if axis is None:
            return _draw_rows(findings, points, label)
        return _draw_sweep(findings, points, label, axis)

    return Picture(name, title, caption, draw, data)


def _crowded(points: Sequence[Point]) -> bool:
    return len({point.subject.agent for point in points}) > MOST_AGENTS


def _most(points: Sequence[Point], axis: str | None) -> int:
    """Panels that are drawn."""
    groups = by_panel(points, axis)
    if _crowded(points):
        return crowd.most(points, axis)
    if axis is None:
        return min(MAX_PANELS, stacked(_row_height(max(groups.values(), key=len))))
    return most_panels(len(groups), SWEEP)


def _row_height(group: Sequence[Point]) -> float:
    return 0.55 + lower(ROW) * len(group)


def _draw_sweep(findings: Findings, points: Sequence[Point], label: str, axis: str) -> Figure:
    groups, appearance = drawn(by_panel(points, axis), _most(points, axis)), looks(findings.arms)
    figure, panels, columns = panel_grid(len(groups), SWEEP, sharey=True)
    ticks = ordered(p.subject.settings.get(axis, show(None)) for p in points)
    agents = [arm.name for arm in findings.arms]
    top = ceiling(points)
    for index, (axes, (name, group)) in enumerate(zip(panels, groups.items(), strict=True)):
        for place, agent in enumerate(agents):
            shift = 0.5 * ((place + 0.5) / len(agents) - 0.5)
            mine = [point for point in group if point.subject.agent == agent]
            at = [ticks.index(p.subject.settings.get(axis, show(None))) + shift for p in mine]
            _line(axes, np.array(at), mine, appearance[agent], top)
        axes.set_yscale("log")
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        axes.set_xticks(range(len(ticks)), [shorten(t, 24).replace(", ", "\n") for t in ticks])
        axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
        axes.set_title(shorten(name, 30))
        axes.set_xlabel(axis)
        if index % columns == 0:
            axes.set_ylabel(label)
    if any(point.predicted for point in points):
        unit(panels, vertical=False)
    log_ticks(panels, "y")
    _legend(figure, findings, points)
    return figure


def _line(axes: Axes, at: Array, points: Sequence[Point], look: Look, top: float) -> None:
    if not points:
        return
    order = np.argsort(at)
    heights = np.minimum([p.interval.estimate for p in points], top)
    axes.plot(at[order], heights[order], color=look.color, ls=look.line, lw=0.9, alpha=0.55)
    for x, y, point in zip(at, heights, points, strict=True):
        low, high = point.interval.low, point.interval.high
        if low is not None and high is not None:
            axes.plot([x, x], np.minimum([low, high], top), color=look.color, lw=1.8, zorder=3)
        marker = "^" if np.isinf(point.interval.estimate) else look.marker
        axes.plot([x], [y], marker=marker, ms=5.2, ls="none", color=look.color, mew=0, zorder=4)
        if point.predicted:
            hollow(axes, x, point.predicted, look)


def _draw_rows(findings: Findings, points: Sequence[Point], label: str) -> Figure:
    """One panel an environment, one row an agent."""
    groups, appearance = drawn(by_panel(points, None), _most(points, None)), looks(findings.arms)
    heights = [_row_height(group) for group in groups.values()]
    figure, grid = canvas(sum(heights) + 0.3, len(groups), 1, height_ratios=heights)
    top = ceiling(points)
    for axes, (name, group) in zip(grid[:, 0], groups.items(), strict=True):
        agents = [point.subject.agent for point in group]
        rows_axis(axes, agents, [appearance[agent].color for agent in agents])
        axes.set_xscale("log")
        for y, point in enumerate(group):
            look = appearance[point.subject.agent]
            marker = ">" if np.isinf(point.interval.estimate) else look.marker
            mark(axes, y, capped(point.interval, top), replace(look, marker=marker))
            if point.predicted:
                hollow(axes, point.predicted, y, look)
        axes.set_title(shorten(name, 40))
    grid[-1, 0].set_xlabel(label)
    if label.endswith(tuple(arm.name for arm in findings.arms)):
        unit(list(grid[:, 0]), vertical=True)
    log_ticks(list(grid[:, 0]), "x")
    return figure


def _legend(figure: Figure, findings: Findings, points: Sequence[Point]) -> None:
    appearance = looks(findings.arms)
    present = {point.subject.agent for point in points}
    lines = [
        Line2D([], [], color=look.color, ls=look.line, marker=look.marker, ms=5, lw=1)
        for name, look in appearance.items()
        if name in present
    ]
    names = [name for name in appearance if name in present]
    if any(point.predicted for point in points):
        hollow: dict[str, Any] = {"mfc": "none", "mec": MUTED, "ls": "none"}
        lines.append(Line2D([], [], marker="o", ms=8, **hollow))
        names.append("predicted")
    columns = 6 if figure.get_figwidth() > WIDTH else 5
    legend(figure, lines, names, columns, handlelength=2.5, columnspacing=1.4)


def _tradeoff(findings: Findings) -> Iterator[Picture]:
    found = [
        (item, measure(item, "gradient_bias"), measure(item, RELATIVE))
        for item in findings.subjects
    ]
    noise = [(item, b, v) for item, b, v in found if b and v and v.estimate > 0]
    if not noise:
        return
    rows = tuple((item.setting, item.agent, bias.n, bias, noise_) for item, bias, noise_ in noise)
    heads = ("setting", "agent", "n", "relative bias", "relative variance")
    title = "Variance against bias"
    most = max(noise, key=lambda row: row[1].estimate)
    points = [Point(item, x) for item, _, x in noise]
    caption = (
        "Bias of the gradient and variance of one episode's, both relative to the true gradient (the "
        f"variance to its square). Largest bias: {show_interval(most[1])} ({most[0].name}). Variance: "
        f"{_extremes(points)}. "
        f"{_sizes([Point(item, bias) for item, bias, _ in noise])}"
    )
    if _crowded(points):
        caption += " Blue: agents that read values; orange: others; those at the edges are named."
    groups, height = _clouds(findings, points)
    caption += left_out(len(groups), most_panels(len(groups), height))
    data = Table("oracle-tradeoff", title, heads, rows)
    yield Picture("oracle-tradeoff", title, caption, lambda: _draw_tradeoff(findings, noise), data)


def _clouds(findings: Findings, points: Sequence[Point]) -> tuple[dict[str, list[Point]], float]:
    """Points by panel, and the height of a panel."""
    crowded = _crowded(points)
    return by_panel(points, swept(findings) if crowded else None), 2.6 if crowded else 1.9


def _draw_tradeoff(
    findings: Findings, found: Sequence[tuple[Subject, Interval, Interval]]
) -> Figure:
    biases = {id(item): bias for item, bias, _ in found}
    points = [Point(item, noise) for item, _, noise in found]
    crowded = _crowded(points)
    groups, height = _clouds(findings, points)
    groups = drawn(groups, most_panels(len(groups), height))
    figure, panels, columns = panel_grid(len(groups), height, sharex=True, sharey=True)
    appearance = families(findings) if crowded else looks(findings.arms)
    for index, (axes, (name, group)) in enumerate(zip(panels, groups.items(), strict=True)):
        for point in group:
            _cross(axes, biases[id(point.subject)], point.interval, appearance[point.subject.agent])
        axes.set_yscale("log")
        axes.axvline(0.0, color=INK, lw=0.7, zorder=1)
        axes.grid(color=FAINT, linewidth=0.4, alpha=0.6)
        axes.set_title(shorten(name, 30))
        if index % columns == 0:
            axes.set_ylabel("relative variance")
        if index + columns >= len(groups):
            axes.set_xlabel("relative bias")
            axes.tick_params(labelbottom=True)
    log_ticks(panels, "y")
    for axes, group in zip(panels, groups.values(), strict=True):
        if crowded:
            name_edges(axes, group, biases)
    if not crowded:
        _legend(figure, findings, points)
    return figure


def _cross(axes: Axes, x: Interval, y: Interval, look: Look) -> None:
    for ends, interval in (((True, False), x), ((False, True), y)):
        if interval.low is not None and interval.high is not None:
            along = [interval.low, interval.high]
            xs = along if ends[0] else [x.estimate] * 2
            ys = along if ends[1] else [y.estimate] * 2
            axes.plot(xs, ys, color=look.color, lw=1.4, zorder=3)
    shape: dict[str, Any] = {"marker": look.marker, "ms": 5.5, "mew": 0, "ls": "none"}
    axes.plot([x.estimate], [y.estimate], color=look.color, zorder=4, **shape)
