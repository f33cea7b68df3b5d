"""What settings do to an agent: all of them, one knob at a time, and what tuning each environment buys."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vfcompare import statistics
from vfcompare.report.analysis import Arm, Results
from vfcompare.report.analysis.arms import ROWS, settings_in
from vfcompare.report.figures.drawing import (
    Picture,
    canvas,
    jitter,
    legend,
    panels,
    right_texts,
    row_height,
    rows_axis,
    spread,
)
from vfcompare.report.figures.looks import FAINT, INK, MUTED, PAPER, Look, lettering, looks
from vfcompare.report.figures.names import shorten, shortened
from vfcompare.report.figures.sizes import beside, lower
from vfcompare.report.prose.sentences import seeds
from vfcompare.report.reading.files import Array
from vfcompare.report.scoring import column
from vfcompare.report.table import Table, Value, join, show_float

KNOBS, COLUMNS = 6, 3
TICK, PANEL = 10, 24
"""Letters that a value below an axis has at least, and that all of them share where they are few."""
COLOURED = 8
"""Most agents that are told apart by colour."""

Groups = Mapping[str, Sequence[Arm]]
"""The scored settings of each agent, best first."""


def pictures(results: Results) -> Iterator[Picture]:
    """Nothing where no agent has settings of its own, or the environments no common scale."""
    groups = _groups(results)
    if not results.pool or not groups:
        return
    yield _settings(results, groups)
    knobs = _knobs(groups)
    if knobs and len(groups) <= COLOURED:
        yield _by_knob(results, groups, knobs)
    scores = {agent: _scores(results, arms) for agent, arms in groups.items()}
    if len(results.pool) > 1 and len(groups) <= COLOURED:
        yield _plane(results, groups, scores)


def _groups(results: Results) -> dict[str, list[Arm]]:
    found: dict[str, list[Arm]] = {}
    for arm in sorted(results.arms, key=lambda arm: -results.standing[arm.name]):
        if arm.tuned and np.isfinite(results.standing[arm.name]):
            found.setdefault(arm.agent, []).append(arm)
    several = {
        agent: arms
        for agent, arms in found.items()
        if any(arm.tuned != arms[0].tuned for arm in arms)
    }
    agents = sorted(several, key=lambda agent: several[agent][0].critic)
    return {agent: several[agent] for agent in agents}


def _looks(results: Results, groups: Groups) -> dict[str, Look]:
    """One look per agent: that of its best setting with a colour of its own in other figures, if any."""
    lines = results.shown.lines
    arms = {
        agent: next((arm for arm in mine if arm in lines), mine[0])
        for agent, mine in groups.items()
    }
    known = looks([*lines, *(arm for arm in arms.values() if arm not in lines)])
    return {agent: known[arm.name] for agent, arm in arms.items()}


def _heights(results: Results, arms: Sequence[Arm]) -> Array:
    return np.array([results.standing[arm.name] for arm in arms])


def _settings(results: Results, groups: Groups) -> Picture:
    rows: list[tuple[Value, ...]] = [
        (agent, arm.name, results.standing[arm.name])
        for agent, arms in groups.items()
        for arm in arms
    ]
    parts = []
    for agent, arms in groups.items():
        heights = _heights(results, arms)
        parts.append(
            f"{agent} {show_float(heights[0])} ({_told(arms[0])}), "
            f"median {show_float(float(np.median(heights)))}"
        )
    left = len(groups) - ROWS
    more = f" The first {ROWS} of {len(groups)} agents are drawn." if left > 0 else ""
    caption = (
        f"Best setting and median of all: {'; '.join(parts[:4])}"
        f"{f'; and {len(parts) - 4} more agents' if len(parts) > 4 else ''}. A dot is a setting: its area "
        f"under the curve, IQM over {_runs(results, groups)}, without an interval. The best of many is "
        f"optimistic, since the same seeds chose it.{more}"
    )
    title = "What settings do"
    data = Table("settings", title, ("agent", "setting", "auc"), tuple(rows))
    return Picture("settings", title, caption, lambda: _draw_settings(results, groups), data)


def _runs(results: Results, groups: Groups) -> str:
    """How many seeds a setting has, on how many environments."""
    count = seeds(results, (arm for arms in groups.values() for arm in arms), results.pool)
    number = len(results.pool)
    return f"{count} seeds of {number} environment{'s' * (number > 1)}"


def _told(arm: Arm) -> str:
    """What is special about an arm, its seeds apart."""
    if arm.tuned == arm.settings:
        return arm.name.removeprefix(arm.agent).strip()
    return ", ".join(f"{key}={value}" for key, value in arm.tuned.items())


def _draw_settings(results: Results, groups: Groups) -> Figure:
    drawn = dict(list(groups.items())[:ROWS])
    figure, grid = canvas(0.8 + 1.25 * row_height(len(drawn)) * len(drawn))
    axes: Axes = grid[0, 0]
    known = _looks(results, groups)
    for y, (agent, arms) in enumerate(drawn.items()):
        heights, look = _heights(results, arms), known[agent]
        places = y + jitter(len(arms), 0.3)
        axes.plot(heights, places, ".", ms=5, color=look.color, alpha=0.45, mew=0)
        axes.plot([np.median(heights)] * 2, [y - 0.34, y + 0.34], color=INK, lw=1.4, zorder=3)
        axes.plot(
            heights[:1], [y], look.marker, ms=7, color=look.color, mec=PAPER, mew=0.6, zorder=4
        )
    rows_axis(axes, list(drawn), [known[agent].color for agent in drawn])
    right_texts(axes, [f"{settings_in(arms)} settings" for arms in drawn.values()])
    axes.set_xlabel("area under curve of a setting (mark: the best; line: the median)")
    return figure


def _knobs(groups: Groups) -> list[str]:
    """Settings of which some agent has tried several values."""
    tried: dict[str, set[str]] = {}
    for arms in groups.values():
        for arm in arms:
            for key, value in arm.tuned.items():
                tried.setdefault(key, set()).add(value)
    return [key for key, values in tried.items() if len(values) > 1][:KNOBS]


def _in_order(values: set[str]) -> list[str]:
    try:
        return sorted(values, key=lambda value: (float(value), value))
    except ValueError:
        return sorted(values)


def _best_by_value(results: Results, arms: Sequence[Arm], knob: str) -> dict[str, float]:
    """The best standing with each value of a knob, whatever the others are."""
    found: dict[str, float] = {}
    for arm in arms:
        if knob in arm.settings:
            value = arm.settings[knob]
            found[value] = max(found.get(value, -np.inf), results.standing[arm.name])
    return found


def _by_knob(results: Results, groups: Groups, knobs: Sequence[str]) -> Picture:
    rows: list[tuple[Value, ...]] = []
    widest: tuple[float, str, str] = (-1.0, "", "")
    for knob in knobs:
        for agent, arms in groups.items():
            found = _best_by_value(results, arms, knob)
            rows += [(knob, agent, value, found[value]) for value in _in_order(set(found))]
            reach = max(found.values()) - min(found.values()) if found else 0.0
            widest = max(widest, (reach, knob, agent))
    caption = (
        f"Area under the curve at each value of a setting, with the best values of the others. Most depends "
        f"on {widest[1]}: {widest[2]} differs by {show_float(widest[0])} over its range. Marks are IQM over "
        f"{_runs(results, groups)}, without intervals."
    )
    title = "One setting at a time"
    data = Table("knobs", title, ("setting", "agent", "value", "auc"), tuple(rows))
    return Picture("knobs", title, caption, lambda: _draw_knobs(results, groups, knobs), data)


def _draw_knobs(results: Results, groups: Groups, knobs: Sequence[str]) -> Figure:
    columns = beside(len(knobs), COLUMNS, 1.5)
    lines = -(-len(knobs) // columns)
    broad = 1.3 if columns > 1 else 1.0
    figure, grid = canvas(0.3 + lower(2.3) * lines, lines, columns, broad=broad, sharey=True)
    known = _looks(results, groups)
    for place, (axes, knob) in enumerate(zip(panels(grid, len(knobs)), knobs, strict=True)):
        _panel(axes, results, groups, knob, known)
        axes.set_ylabel("area under curve" if place % columns == 0 else "")
    handles = [
        grid[0, 0].plot([], [], color=look.color, ls=look.line, marker=look.marker, ms=4)[0]
        for look in known.values()
    ]
    legend(figure, handles, list(known), columns=5, handlelength=3)
    return figure


def _panel(
    axes: Axes, results: Results, groups: Groups, knob: str, known: Mapping[str, Look]
) -> None:
    found = {agent: _best_by_value(results, arms, knob) for agent, arms in groups.items()}
    ticks = _in_order({value for values in found.values() for value in values})
    for agent, look in known.items():
        mine = [value for value in ticks if value in found[agent]]
        at = [ticks.index(value) for value in mine]
        heights = [found[agent][value] for value in mine]
        axes.plot(at, heights, color=look.color, ls=look.line, marker=look.marker, ms=4, lw=1.2)
    every = max(1, -(-len(ticks) // 6))
    told = [_brief(tick) for tick in ticks[::every]]
    limit = max(TICK, PANEL // max(1, len(told)))
    axes.set_xticks(range(0, len(ticks), every), shortened(told, limit))
    axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
    axes.set_xlabel(shorten(knob, 26))


def _brief(value: str) -> str:
    """A value, its number by the first digits."""
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value


def _scores(results: Results, arms: Sequence[Arm]) -> Array:
    """`[envs, settings]`, mean over seeds."""
    tasks = [results.task(name) for name in results.pool]
    return np.array(
        [[np.mean(list(column(t, arm.name, "auc").values())) for arm in arms] for t in tasks]
    )


def _plane(results: Results, groups: Groups, scores: Mapping[str, Array]) -> Picture:
    found = {agent: statistics.sensitivity(values[None]) for agent, values in scores.items()}
    points = {a: (float(s.sensitivity[0]), float(s.per_env_tuned[0])) for a, s in found.items()}
    rows = tuple(
        (
            agent,
            settings_in(groups[agent]),
            float(s.per_env_tuned[0]),
            float(s.cross_env_tuned[0]),
            points[agent][0],
        )
        for agent, s in found.items()
    )
    heads = ("agent", "settings", "tuned per environment", "tuned once for all", "sensitivity")
    low, high = min(points, key=lambda a: points[a][0]), max(points, key=lambda a: points[a][0])
    caption = (
        "Area under the curve with the best setting of each environment, against how much of it is lost "
        "with the best one for all (Adkins et al. 2024); up and left is better. Means over "
        f"{_runs(results, groups)}, without intervals. Least lost: "
        f"{low} ({show_float(points[low][0])}); most: {high} ({show_float(points[high][0])}). A maximum over "
        "noisy means is optimistic, and more so the more settings an agent has: "
        f"{join(f'{settings_in(arms)} of {agent}' for agent, arms in groups.items())}."
    )
    title = "Performance and sensitivity"
    data = Table("sensitivity", title, heads, rows)
    known = _looks(results, groups)
    return Picture("sensitivity", title, caption, lambda: _draw_plane(known, points), data)


def _draw_plane(known: Mapping[str, Look], points: Mapping[str, tuple[float, float]]) -> Figure:
    figure, grid = canvas(lower(3.0))
    axes: Axes = grid[0, 0]
    for agent, look in known.items():
        axes.plot(*points[agent], look.marker, ms=9, color=look.color, mec=PAPER, mew=0.6)
    xs, ys = (np.array(values) for values in zip(*points.values(), strict=True))
    reach = max(float(np.ptp(ys)), 0.02)
    low, high = ys.min() - 0.25 * reach, ys.max() + 0.25 * reach
    axes.set_ylim(low, high)
    axes.set_xlim(-0.05 * max(xs.max(), 0.01), 1.35 * max(xs.max(), 0.01))
    order = sorted(points, key=lambda agent: points[agent][1])
    heights = spread(
        np.array([points[agent][1] for agent in order]), 0.08 * (high - low), low, high
    )
    for agent, height in zip(order, heights, strict=True):
        axes.annotate(
            shorten(agent, 18),
            points[agent],
            xytext=(points[agent][0] + 0.04 * axes.get_xlim()[1], float(height)),
            textcoords="data",
            va="center",
            color=lettering(known[agent].color),
            fontweight="bold",
        )
    axes.grid(color=FAINT, linewidth=0.4, alpha=0.6)
    axes.set_xlabel("sensitivity: what one setting for all environments loses")
    axes.set_ylabel("tuned per environment")
    axes.set_title("◂ ▴ better", color=MUTED, fontweight="normal", loc="left")
    return figure
