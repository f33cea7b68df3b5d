"""How many steps to the threshold, with the runs that never got there."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vfcompare.report.analysis import Results, Speed
from vfcompare.report.figures.drawing import (
    CROWDED,
    MUTED,
    PAPER,
    WIDTH,
    Look,
    Picture,
    appearance,
    brief_names,
    canvas,
    heading,
    jitter,
    right_texts,
    row_height,
    rows_axis,
    steps,
    unseen,
)
from vfcompare.report.sentences import failed_in
from vfcompare.report.table import Table, join, show, show_float

COLUMNS, PANELS = 3, 12
FEW_TASKS = 4


def pictures(results: Results) -> Iterator[Picture]:
    """Every run's first arrival, and the median of each arm."""
    if not results.speed:
        return
    rows = tuple(
        (item.task, item.arm, seed, step, "reached" if reached else "censored")
        for item in results.speed
        for seed, step, reached in item.arrivals
    )
    heads = ("environment", "agent", "seed", "step", "outcome")
    yield Picture(
        "speed",
        "How many steps to the threshold",
        _caption(results),
        lambda: _draw(results),
        Table("steps-by-seed", "Steps to the threshold of every run", heads, rows),
    )


def _caption(results: Results) -> str:
    """How many runs got there, and who first."""
    by_task: dict[str, list[Speed]] = {}
    for item in results.speed:
        by_task.setdefault(item.task, []).append(item)
    parts = [_fastest(results, name, items) for name, items in by_task.items()]
    more = f"; and {len(parts) - 6} more environments" if len(parts) > 6 else ""
    left = unseen(results, "scores.csv")
    half = np.isfinite([item.median.estimate for item in results.speed])
    marks = "Marks are Kaplan-Meier medians with 95% bootstrap intervals" if half.any() else ""
    if marks:
        marks += ". " if half.all() else "; without one, fewer than half got there. "
    return (
        f"{'; '.join(parts[:6])}{more}. One evaluation at or above it counts, as does the value at the end. "
        f"{marks}Runs that did not get there are kept, at the right edge, with how many did. {left} "
        f"{failed_in(results, *by_task)}"
    ).replace("  ", " ")


def _fastest(results: Results, task: str, items: Sequence[Speed]) -> str:
    total, reached = sum(item.n for item in items), sum(item.reached for item in items)
    first = _soonest(items)
    text = f"{task}: {reached} of {total} runs reached the threshold"
    if not first:
        return f"{text}, no agent with half of its seeds"
    median = show(round(first[0].median.estimate))
    return f"{text}, {_named(results, first)} first (by the median of {median} steps, untested)"


def _soonest(items: Sequence[Speed]) -> list[Speed]:
    """The arms of which half of the seeds are there first; none where no arm has so many."""
    least = min(item.median.estimate for item in items)
    return [item for item in items if item.median.estimate == least < np.inf]


def _named(results: Results, items: Sequence[Speed], most: int = 6) -> str:
    return join((results.called(item.arm) for item in items), most)


def _first(results: Results, group: Sequence[Speed]) -> str:
    """Who gets there first, as half of its seeds do."""
    first = _soonest(group)
    if not first:
        return ": no agent with half of its seeds"
    at = steps(float(f"{first[0].median.estimate:.2g}"))
    its = "its" if len(first) == 1 else "their"
    return f": {_named(results, first, 3)} first, half of {its} seeds by {at} steps"


def _draw(results: Results) -> Figure:
    names = list(dict.fromkeys(item.task for item in results.speed))[:PANELS]
    groups = [[item for item in results.speed if item.task == name] for name in names]
    most = max(len(group) for group in groups)
    crowded = most > CROWDED or len(names) > FEW_TASKS
    columns = min(COLUMNS, len(names)) if crowded else 1
    lines = -(-len(names) // columns)
    heights = [0.74 + row_height(most) * (most if crowded else len(g)) for g in groups[:lines]]
    figure, grid = canvas(sum(heights) + 0.2, lines, columns, height_ratios=heights)
    if crowded:
        figure.set_figwidth(1.4 * WIDTH)
    brief = brief_names(names)
    for place, axes in enumerate(grid.flat):
        if place >= len(names):
            axes.set_visible(False)
            continue
        _panel(axes, results, names[place], groups[place], named=place % columns == 0)
        level = show_float(results.task(names[place]).threshold or 0.0)
        said = f"return ≥ {level}{'' if crowded else _first(results, groups[place])}"
        heading(axes, brief[names[place]], 24 if crowded else 40, said)
        if place + columns >= len(names):
            axes.set_xlabel("environment steps (▸ not reached)")
        if crowded:
            axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def _panel(axes: Axes, results: Results, name: str, group: Sequence[Speed], *, named: bool) -> None:
    task, looks = results.task(name), appearance(results)
    for y, item in enumerate(group):
        _row(axes, y, item, looks[item.arm], task.end)
    called = [results.called(item.arm) for item in group]
    rows_axis(axes, called, [looks[item.arm].color for item in group])
    axes.tick_params(labelleft=named)
    axes.set_xlim(min(task.start, 0.0), task.end * 1.05)
    axes.axvline(task.end, color=MUTED, lw=0.7, ls=(0, (1, 2)), zorder=0)
    axes.xaxis.set_major_formatter(FuncFormatter(steps))
    right_texts(axes, [f"{item.reached}/{item.n} reached" for item in group])


def _row(axes: Axes, y: int, item: Speed, look: Look, end: float) -> None:
    heights = y + jitter(item.n)
    arrived = np.array([yes for _, _, yes in item.arrivals])
    steps = np.array([step for _, step, _ in item.arrivals])
    axes.plot(steps[arrived], heights[arrived], ".", ms=4.6, color=look.color, alpha=0.42, mew=0)
    late = steps[~arrived] >= 0.9 * end
    away: dict[str, Any] = {"marker": ">", "ls": "none", "color": look.color, "mew": 0}
    axes.plot(steps[~arrived][~late], heights[~arrived][~late], ms=3.6, alpha=0.75, **away)
    # Those that did not get there by the end stand for one another.
    if late.any():
        axes.plot([end * 1.02], [y], ms=5, **away)
    middle = item.median
    if middle.low is not None and middle.high is not None and np.isfinite(middle.low):
        axes.plot([middle.low, min(middle.high, end)], [y, y], color=look.color, lw=2.2, zorder=3)
    if np.isfinite(middle.estimate):
        shape: dict[str, Any] = {"mfc": look.color, "mec": PAPER, "mew": 0.6}
        axes.plot([middle.estimate], [y], marker=look.marker, ms=6.5, ls="none", zorder=4, **shape)
