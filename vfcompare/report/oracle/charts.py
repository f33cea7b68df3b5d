"""Pictures: gradient variance, episodes that a good direction takes, and variance against bias."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from vfcompare.report import figures
from vfcompare.report.figures import FAINT, INK, MUTED, ROW, WIDTH, Look, Picture, looks, shorten
from vfcompare.report.oracle.findings import RELATIVE, Findings, Subject, measure
from vfcompare.report.oracle.predictions import ROUNDING, Compared
from vfcompare.report.sentences import join
from vfcompare.report.tables import Table, show, show_interval
from vfcompare.statistics import Array, Interval

MAX_PANELS = 9
PANEL_COLUMNS = 3


def pictures(findings: Findings, compared: Compared) -> list[Picture]:
    """Variance, episodes that a good direction takes, and variance against bias."""
    if not findings.subjects:
        return []
    return [*_variance(findings, compared), *_episodes(findings), *_tradeoff(findings)]


@dataclass(frozen=True)
class Point:
    """A number to be drawn, and the predicted one where there is one."""

    subject: Subject
    interval: Interval
    predicted: float | None = None


def _variance(findings: Findings, compared: Compared) -> Iterator[Picture]:
    foretold = {
        id(row.subject): row.predicted for name in ("P2", "P3") for row in compared.get(name, ())
    }
    if findings.references:
        found = [(item, findings.relative(item)) for item in findings.subjects]
        first = next(iter(findings.references.values()))
        to, label = "that with the exact value of the start as baseline", first.agent
    else:
        found = [(item, measure(item, RELATIVE)) for item in findings.subjects]
        to, label = "the squared true gradient", "|true gradient|²"
    points = [Point(item, x, foretold.get(id(item))) for item, x in found if x is not None]
    zero = [point.subject.name for point in points if point.interval.estimate <= ROUNDING]
    points = [point for point in points if point.interval.estimate > ROUNDING]
    others = [p for p in points if findings.references.get(p.subject.shared) is not p.subject]
    if not others:
        return
    caption = f"Variance of one episode's gradient relative to {to}: {_extremes(others)}. {_sizes(points)}"
    if foretold:
        caption += " Hollow symbols: predicted."
    if zero:
        caption += f" Zero, and so not drawn: {join(zero)}."
    title = "What an estimator adds to the noise of the gradient"
    label = f"gradient variance / {label}"
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
    return f"{what} over n = {n} seeds, bars are 95% bootstrap intervals."


def _picture(
    findings: Findings, name: str, title: str, caption: str, points: Sequence[Point], label: str
) -> Picture:
    rows = tuple(
        (p.subject.setting, p.subject.agent, p.interval.n, p.interval, p.predicted) for p in points
    )
    data = Table(name, title, ("setting", "agent", "n", label, "predicted"), rows)
    axis = _swept(findings)
    count = len(_panels(points, axis))
    if count > MAX_PANELS:
        caption += f" The first {MAX_PANELS} of {count} panels are drawn."

    def draw() -> Figure:
        if axis is None:
            return _draw_rows(findings, points, label)
        return _draw_sweep(findings, points, label, axis)

    return Picture(name, title, caption, draw, data)


def _swept(findings: Findings) -> str | None:
    """The setting with most values, which becomes the horizontal axis; the last one among equals."""
    values: dict[str, set[str]] = {}
    for item in findings.subjects:
        for key, value in item.settings.items():
            values.setdefault(key, set()).add(value)
    return max(reversed(values), key=lambda key: len(values[key])) if values else None


def _ordered(values: Iterable[str]) -> list[str]:
    """Numbers by size, words as they came."""
    found = list(dict.fromkeys(values))
    try:
        return sorted(found, key=float)
    except ValueError:
        return found


def _panels(points: Sequence[Point], axis: str | None) -> dict[str, list[Point]]:
    """Points by what is the same along the axis; the environment is named where there are several."""
    several = len({point.subject.env for point in points}) > 1
    groups: dict[str, list[Point]] = {}
    for point in points:
        rest = [f"{k}={v}" for k, v in point.subject.settings.items() if k != axis]
        env = [point.subject.env] if several or not rest else []
        groups.setdefault(" ".join(env + [", ".join(rest)] * bool(rest)), []).append(point)
    return groups


def _first(groups: dict[str, list[Point]]) -> dict[str, list[Point]]:
    return dict(list(groups.items())[:MAX_PANELS])


def _grid(number_: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    columns = min(PANEL_COLUMNS, number_)
    lines = -(-number_ // columns)
    figure, grid = figures._figure(0.5 + height * lines, lines, columns, **options)
    figure.set_figwidth(WIDTH if columns < PANEL_COLUMNS else 1.25 * WIDTH)
    for axes in list(grid.flat)[number_:]:
        axes.set_visible(False)
    return figure, list(grid.flat)[:number_]


def _draw_sweep(findings: Findings, points: Sequence[Point], label: str, axis: str) -> Figure:
    groups, appearance = _first(_panels(points, axis)), looks(findings.arms)
    figure, panels = _grid(len(groups), 2.5, sharey=True)
    ticks = _ordered(p.subject.settings.get(axis, show(None)) for p in points)
    agents = [arm.name for arm in findings.arms]
    top = _ceiling(points)
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
        if index % PANEL_COLUMNS == 0:
            axes.set_ylabel(label)
    if any(point.predicted for point in points):
        _unit(panels, vertical=False)
    _ticks(panels, "y")
    _legend(figure, findings, points)
    return figure


def _ticks(panels: Sequence[Axes], which: str) -> None:
    """Plain numbers on logarithmic axes that are drawn: 1, 2, 5 over decades, even steps within one."""
    for axes in panels:
        axis = axes.xaxis if which == "x" else axes.yaxis
        low, high = sorted(axis.get_view_interval())
        wide = low <= 0 or high > 8 * low
        axis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0), numticks=7) if wide else MaxNLocator(5)
        )
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        if not wide:
            axis.set_minor_locator(NullLocator())


def _unit(panels: Sequence[Axes], *, vertical: bool) -> None:
    for axes in panels:
        line = axes.axvline if vertical else axes.axhline
        line(1.0, color=INK, lw=0.7, zorder=1)


def _ceiling(points: Sequence[Point]) -> float:
    """Where what is infinite is drawn: above everything that is not."""
    ends = [x for p in points for x in (p.interval.estimate, p.interval.high or 0.0)]
    return 2.0 * max([x for x in ends if np.isfinite(x)], default=1.0)


def _capped(interval: Interval, top: float) -> Interval:
    low, high = (None if end is None else min(end, top) for end in (interval.low, interval.high))
    return interval._replace(estimate=min(interval.estimate, top), low=low, high=high)


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
            _hollow(axes, x, point.predicted, look)


def _hollow(axes: Axes, x: float, y: float, look: Look) -> None:
    shape: dict[str, Any] = {"mfc": "none", "mec": look.color, "mew": 1.0}
    axes.plot([x], [y], marker=look.marker, ms=9.0, ls="none", zorder=5, clip_on=False, **shape)


def _draw_rows(findings: Findings, points: Sequence[Point], label: str) -> Figure:
    """One panel an environment, one row an agent."""
    groups, appearance = _first(_panels(points, None)), looks(findings.arms)
    heights = [0.55 + ROW * len(group) for group in groups.values()]
    figure, grid = figures._figure(sum(heights) + 0.3, len(groups), 1, height_ratios=heights)
    top = _ceiling(points)
    for axes, (name, group) in zip(grid[:, 0], groups.items(), strict=True):
        agents = [point.subject.agent for point in group]
        figures._rows_axis(axes, agents, [appearance[agent].color for agent in agents])
        axes.set_xscale("log")
        for y, point in enumerate(group):
            look = appearance[point.subject.agent]
            marker = ">" if np.isinf(point.interval.estimate) else look.marker
            figures._mark(axes, y, _capped(point.interval, top), replace(look, marker=marker))
            if point.predicted:
                _hollow(axes, point.predicted, y, look)
        axes.set_title(shorten(name, 40))
    grid[-1, 0].set_xlabel(label)
    if label.endswith(tuple(arm.name for arm in findings.arms)):
        _unit(list(grid[:, 0]), vertical=True)
    _ticks(list(grid[:, 0]), "x")
    return figure


def _legend(figure: Figure, findings: Findings, points: Sequence[Point]) -> None:
    appearance = looks(findings.arms)
    present = {point.subject.agent for point in points}
    lines = [
        Line2D([], [], color=look.color, ls=look.line, marker=look.marker, ms=5, lw=1, label=name)
        for name, look in appearance.items()
        if name in present
    ]
    if any(point.predicted for point in points):
        hollow: dict[str, Any] = {"mfc": "none", "mec": MUTED, "ls": "none"}
        lines.append(Line2D([], [], marker="o", ms=8, label="predicted", **hollow))
    columns = 6 if figure.get_figwidth() > WIDTH else 5
    place: dict[str, Any] = {"loc": "outside upper left", "ncols": columns, "frameon": False}
    figure.legend(handles=lines, handlelength=2.5, columnspacing=1.4, **place)


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
    caption = (
        "Bias of the gradient and variance of one episode's, both relative to the true gradient (the "
        f"variance to its square). Largest bias: {show_interval(most[1])} ({most[0].name}). Variance: "
        f"{_extremes([Point(item, x) for item, _, x in noise])}. "
        f"{_sizes([Point(item, bias) for item, bias, _ in noise])}"
    )
    data = Table("oracle-tradeoff", title, heads, rows)
    yield Picture("oracle-tradeoff", title, caption, lambda: _draw_tradeoff(findings, noise), data)


def _draw_tradeoff(
    findings: Findings, found: Sequence[tuple[Subject, Interval, Interval]]
) -> Figure:
    biases = {id(item): bias for item, bias, _ in found}
    points = [Point(item, noise) for item, _, noise in found]
    groups = _first(_panels(points, None))
    figure, panels = _grid(len(groups), 1.9, sharex=True, sharey=True)
    appearance = looks(findings.arms)
    for index, (axes, (name, group)) in enumerate(zip(panels, groups.items(), strict=True)):
        for point in group:
            _cross(axes, biases[id(point.subject)], point.interval, appearance[point.subject.agent])
        axes.set_yscale("log")
        axes.axvline(0.0, color=INK, lw=0.7, zorder=1)
        axes.grid(color=FAINT, linewidth=0.4, alpha=0.6)
        axes.set_title(shorten(name, 30))
        if index % PANEL_COLUMNS == 0:
            axes.set_ylabel("relative variance")
        if index + PANEL_COLUMNS >= len(groups):
            axes.set_xlabel("relative bias")
            axes.tick_params(labelbottom=True)
    _ticks(panels, "y")
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
