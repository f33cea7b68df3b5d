"""How many steps to the threshold, with the runs that never got there."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vfcompare.report.analysis import Results, Speed
from vfcompare.report.figures.drawing import (
    CROWDED,
    Picture,
    canvas,
    heading,
    jitter,
    panels,
    right_texts,
    row_height,
    rows_axis,
    steps,
    unseen,
)
from vfcompare.report.figures.looks import MUTED, PAPER, Look, appearance
from vfcompare.report.figures.names import brief_names, called, explained_rows, shorten, shortened
from vfcompare.report.figures.sizes import beside, inches, narrow, paper, stacked
from vfcompare.report.prose.sentences import failed_in
from vfcompare.report.scoring import Task
from vfcompare.report.table import Table, join, show, show_float

COLUMNS, PANELS = 3, 12
FEW_TASKS = 4
WHO = 32
"""Letters above a panel that say who is first."""


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
    half = np.isfinite([item.median.estimate for item in results.speed])
    marks = "Marks are Kaplan-Meier medians with 95% bootstrap intervals" if half.any() else ""
    if marks:
        marks += "." if half.all() else "; without one, fewer than half got there."
    most = _shape(results)[0]
    said = (
        f"{'; '.join(parts[:6])}{more}.",
        "One evaluation at or above it counts, as does the value at the end.",
        marks,
        "Runs that did not get there are kept, at the right edge, with how many did.",
        f"The first {most} of {len(parts)} environments are drawn." * (len(parts) > most),
        explained_rows(results).strip(),
        unseen(results, "scores.csv"),
        failed_in(results, *by_task),
        _unfinished(results),
    )
    return " ".join(filter(None, said))


def _unfinished(results: Results) -> str:
    """How many runs are here though scores leave them out."""
    here = {(item.task, item.arm, seed) for item in results.speed for seed, _, _ in item.arrivals}
    scored = {
        (task.name, arm, item.seed)
        for task in results.tasks
        for arm, items in task.scores.items()
        for item in items
    }
    count = len(here - scored)
    if not count:
        return ""
    return f"Left out of scores and yet here, censored where they stopped: {count}."


def _fastest(results: Results, task: str, items: Sequence[Speed]) -> str:
    total, reached = sum(item.n for item in items), sum(item.reached for item in items)
    first = _soonest(items)
    text = f"{task}: {reached} of {total} runs reached the threshold"
    if not first:
        return f"{text}, no agent with half of its seeds"
    median = show(round(first[0].median.estimate))
    who = join(results.called(item.arm) for item in first)
    return f"{text}, {who} first (by the median of {median} steps, untested)"


def _soonest(items: Sequence[Speed]) -> list[Speed]:
    """The arms of which half of the seeds are there first; none where no arm has so many."""
    least = min(item.median.estimate for item in items)
    return [item for item in items if item.median.estimate == least < np.inf]


def _first(group: Sequence[Speed], names: Mapping[str, str]) -> str:
    """Who gets there first, as half of its seeds do."""
    first = _soonest(group)
    if not first:
        return ": no agent with half of its seeds"
    at = steps(float(f"{first[0].median.estimate:.2g}"))
    its = "its" if len(first) == 1 else "their"
    who = join((names[item.arm] for item in first), 3)
    if len(who) > WHO:
        who = f"{len(first)} agents" if len(first) > 1 else shorten(who, WHO)
    return f": {who} first, half of {its} seeds by {at} steps"


def _shape(results: Results) -> tuple[int, int, bool]:
    """Environments that are drawn, how many of them beside each other, and whether there are many of them."""
    tasks = list(dict.fromkeys(item.task for item in results.speed))[:PANELS]
    arms = _arms(results, tasks)
    crowded = len(arms) > CROWDED or len(tasks) > FEW_TASKS
    taken = inches(shortened(list(map(results.called, arms))))
    columns = beside(len(tasks), COLUMNS if crowded else 1, 1.4, taken)
    return min(PANELS, columns * stacked(_height(arms))), columns, crowded


def _arms(results: Results, tasks: Sequence[str]) -> list[str]:
    """The rows of every panel."""
    known = {item.arm for item in results.speed if item.task in tasks}
    return [arm.name for arm in results.shown.rows if arm.name in known]


def _height(arms: Sequence[str]) -> float:
    return 0.74 + row_height(len(arms)) * len(arms)


def _draw(results: Results) -> Figure:
    most, columns, crowded = _shape(results)
    tasks = list(dict.fromkeys(item.task for item in results.speed))[:most]
    drawn = [item for item in results.speed if item.task in tasks]
    arms = _arms(results, tasks)
    lines = -(-len(tasks) // columns)
    height = 0.2 + lines * _height(arms)
    figure, grid = canvas(height, lines, columns, broad=1.4 if crowded else 1.0, sharey=True)
    # in a paper, panels beside each other are narrow, too
    short = narrow() or (crowded and paper() is not None)
    brief, names = brief_names(tasks), called(results, arms)
    for place, axes in enumerate(panels(grid, len(tasks))):
        task = results.task(tasks[place])
        group = {item.arm: item for item in drawn if item.task == task.name}
        _panel(axes, results, task, arms, group)
        right_texts(axes, [_reached(group.get(name), short) for name in arms])
        axes.tick_params(labelleft=place % columns == 0)
        first = "" if crowded else _first(list(group.values()), names)
        said = f"return ≥ {show_float(task.threshold or 0.0)}{first}"
        heading(axes, brief[task.name], 24 if crowded else 40, said)
        if place + columns >= len(tasks):
            axes.set_xlabel(f"environment steps (▸ not reached{'; right: reached' * short})")
        if crowded:
            axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def _panel(
    axes: Axes, results: Results, task: Task, arms: Sequence[str], group: Mapping[str, Speed]
) -> None:
    looks = appearance(results)
    for y, name in enumerate(arms):
        if name in group:
            _row(axes, y, group[name], looks[name], task.end)
    # the same rows in every panel, for only the first of a line has their names
    rows_axis(axes, list(map(results.called, arms)), [looks[name].color for name in arms])
    axes.set_xlim(min(task.start, 0.0), task.end * 1.05)
    axes.axvline(task.end, color=MUTED, lw=0.7, ls=(0, (1, 2)), zorder=0)
    axes.xaxis.set_major_formatter(FuncFormatter(steps))


def _reached(item: Speed | None, short: bool) -> str:
    return "" if item is None else f"{item.reached}/{item.n}{'' if short else ' reached'}"


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
