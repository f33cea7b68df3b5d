"""How return grows with environment steps: one figure for each environment, and one of all."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vfcompare.report.analysis import Arm, Curve, Results
from vfcompare.report.analysis.arms import LINES
from vfcompare.report.fates import failed
from vfcompare.report.figures import contrasts
from vfcompare.report.figures.drawing import (
    MAX_LEADERS,
    Picture,
    canvas,
    heading,
    legend,
    panels,
    spread,
    steps,
)
from vfcompare.report.figures.looks import FAINT, MARKS, MUTED, PAPER, Look, lettering, looks
from vfcompare.report.figures.names import brief_names, called, explained_rows, shorten
from vfcompare.report.figures.sizes import beside, inches, lower, paper, points, stacked
from vfcompare.report.prose.sentences import capital, extents, failed_in, sizes
from vfcompare.report.scoring import Task
from vfcompare.report.table import Table, Value, join, show, show_float

OWN_FIGURES = 8
"""Most environments that have a figure of their own; more are small multiples."""
PANELS, COLUMNS = 24, 4
HEIGHT, LEAST = 2.3, 1.6
"""Inches of a small multiple: its height, and its least width in a paper."""
AT_ENDS = 0.35
"""Most of a paper's width that names at the ends of curves take; longer ones stand above."""
LETTERS = 28
"""Of a name at the end of a curve or in a legend."""
FADED = 60
"""Most curves without a colour that are drawn behind the others."""


def pictures(results: Results) -> Iterator[Picture]:
    """All environments beside each other, and each by itself."""
    tasks = [task for task in results.tasks if _drawable(results, task)]
    if len(tasks) > 1:
        yield _overview(results, tasks)
    for task in tasks if _own(tasks) else ():
        number = results.tasks.index(task) + 1
        name, title = f"learning-{number}", f"Learning curves on {task.name}"
        caption = _caption(results, task)
        yield Picture(
            name,
            title,
            caption,
            partial(_draw, results, task),
            _data(results, name, title, [task]),
        )


def _own(tasks: Sequence[Task]) -> bool:
    """Whether each environment has a figure of its own, and its seeds there."""
    return len(tasks) <= OWN_FIGURES


def _drawable(results: Results, task: Task) -> bool:
    return bool(_of(results, task)) or any(
        run.steps.size for cell in task.cells.values() for run in cell.runs
    )


def _of(results: Results, task: Task) -> list[Curve]:
    return [curve for curve in results.curves if curve.task == task.name]


def _data(results: Results, name: str, title: str, tasks: Sequence[Task]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for task in tasks:
        for curve in _of(results, task):
            ends = (curve.estimate, curve.low, curve.high)
            heights = [
                None if end is None else [task.as_return(float(v)) for v in end] for end in ends
            ]
            for i, step in enumerate(task.grid):
                values = [None if height is None else height[i] for height in heights]
                rows.append((task.name, curve.arm, float(step), curve.n, *values))
    heads = ("environment", "agent", "env_steps", "n", "iqm", "low", "high")
    return Table(name, title, heads, tuple(rows))


def _caption(results: Results, task: Task) -> str:
    """Where each agent ends on one environment."""
    curves = _of(results, task)
    if not curves:
        return f"{task.name}: no scored runs. {failed_in(results, task.name)}"
    lines = {arm.name for arm in results.shown.lines}
    order = sorted(
        (curve for curve in curves if curve.arm in lines), key=lambda curve: -_end(task, curve)
    )
    ends = join(f"{results.called(c.arm)} {show_float(_end(task, c))}" for c in order) or "none"
    shown = f"{show(round(task.start))} to {show(round(task.end))} steps"
    return (
        f"IQM over {sizes(c.n for c in curves)} seeds of the return of sampled actions, {shown}; "
        f"at the end {ends}. {explained_rows(results, LETTERS)}{_thin(results)}"
        f"{capital(_bands(curves))}. {_colourless(results, curves)}{failed_in(results, task.name)}"
    )


def _bands(curves: Iterable[Curve]) -> str:
    return extents("bands", "pointwise 95% bootstrap intervals", (curve.low for curve in curves))


def _overview_caption(results: Results, tasks: Sequence[Task]) -> str:
    """Between which agents the ends lie on each environment."""
    ends = []
    for task in tasks:
        curves = _of(results, task)
        if curves:
            heights = {curve.arm: show_float(_end(task, curve)) for curve in curves}
            extremes = [f(curves, key=lambda c: _end(task, c)).arm for f in (max, min)]
            said = []
            for height in dict.fromkeys(heights[arm] for arm in extremes):
                names = [results.called(arm) for arm, other in heights.items() if other == height]
                said.append(f"{height} ({join(names, 3)})")
            ends.append(f"{task.name} {' to '.join(said)}")
    text = f"At the end, highest to lowest: {join(ends)}. " if ends else "No scored runs. "
    text += (
        f"IQM over {sizes(curve.n for curve in results.curves)} seeds of the return of sampled "
        f"actions, {_bands(results.curves)}. {'' if _own(tasks) else _thin(results)}"
        if ends
        else ""
    )
    most = _most(tasks)
    if len(tasks) > most:
        text += f"The first {most} of {len(tasks)} environments are drawn; overview.csv has all. "
    text += explained_rows(results, LETTERS)
    return (_ahead(results, tasks) + text + _colourless(results, results.curves)).strip()


def _ahead(results: Results, tasks: Sequence[Task]) -> str:
    """Which side is ahead where, as the panels say it."""
    where: dict[str, list[str]] = {}
    for task in tasks:
        said, _ = contrasts.standing(results, task)
        if said:
            where.setdefault(said, []).append(task.name)
    order = sorted(where, key=lambda said: not said.endswith(" ahead"))
    parts = [f"{said} on {join(where[said])}" for said in order]
    return f"In area under the curve: {'; '.join(parts)}. " if parts else ""


def _colourless(results: Results, curves: Sequence[Curve]) -> str:
    """What is said of the arms that have no colour of their own."""
    grey = len({curve.arm for curve in curves}) - len(results.shown.lines)
    if grey <= 0:
        return ""
    lines = "are drawn in grey" if grey <= FADED else "are not drawn"
    settings = "best settings of the " if results.shown.picked else ""
    return (
        f"In colour: the {settings}leading agents of each family; {grey} others {lines}, and the data "
        "have them. "
    )


def _thin(results: Results) -> str:
    if not _few(results):
        return ""
    runs = ((r, task) for task in results.tasks for cell in task.cells.values() for r in cell.runs)
    cross = " (a cross: it failed there)" if any(failed(r, task.end) for r, task in runs) else ""
    return f"Thin lines are single seeds{cross}. "


def _few(results: Results) -> bool:
    """Whether there is room for the seeds, and not rather for the other agents."""
    return len(results.arms) <= LINES


def _end(task: Task, curve: Curve) -> float:
    return task.as_return(float(curve.estimate[-1]))


def _overview(results: Results, tasks: Sequence[Task]) -> Picture:
    title = "Learning curves on all environments"
    return Picture(
        "overview",
        title,
        _overview_caption(results, tasks),
        lambda: _draw_overview(results, tasks[: _most(tasks)]),
        _data(results, "overview", title, tasks),
    )


def _most(tasks: Sequence[Task]) -> int:
    """Panels that are drawn."""
    return min(PANELS, beside(len(tasks), COLUMNS, LEAST) * stacked(lower(HEIGHT)))


def _draw_overview(results: Results, tasks: Sequence[Task]) -> Figure:
    columns = beside(len(tasks), COLUMNS, LEAST)
    lines = -(-len(tasks) // columns)
    names = brief_names([task.name for task in tasks])
    figure, grid = canvas(0.5 + lower(HEIGHT) * lines, lines, columns, broad=1.5)
    for place, (panel, task) in enumerate(zip(panels(grid, len(tasks)), tasks, strict=True)):
        _curves(panel, results, task, seeds=not _own(tasks))
        _frame(panel, task, compact=True)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        heading(
            panel,
            names[task.name],
            26 if columns < COLUMNS else 20,
            *contrasts.standing(results, task),
        )
        if place % columns:
            panel.set_ylabel("")
        if place + columns < len(tasks):
            panel.set_xlabel("")
    _legend(figure, results)
    return figure


def _legend(figure: Figure, results: Results) -> None:
    shown = looks(results.shown.lines)
    mark: dict[str, Any] = {"ms": 4.5, "mec": PAPER, "mew": 0.5}
    handles = [
        figure.axes[0].plot([], [], color=x.color, ls=x.line, marker=x.marker, **mark)[0]
        for x in shown.values()
    ]
    legend(figure, handles, list(called(results, shown, LETTERS).values()))


def _draw(results: Results, task: Task) -> Figure:
    figure, grid = canvas(lower(3.3))
    axes: Axes = grid[0, 0]
    labels = _curves(axes, results, task, seeds=True)
    _frame(axes, task)
    if inches([name for _, name, _ in labels], 9) < AT_ENDS * (paper() or np.inf):
        _end_labels(axes, labels)
    else:
        _legend(figure, results)
    axes.set_title(shorten(task.name, 60))
    return figure


def _curves(
    axes: Axes, results: Results, task: Task, *, seeds: bool
) -> list[tuple[float, str, str]]:
    """Draws the curves of one environment; returns height, name and colour of each end."""
    appearance = looks(results.shown.lines)
    found = {curve.arm: curve for curve in _of(results, task)}
    _faded(axes, task, [curve for name, curve in found.items() if name not in appearance])
    for arm in results.shown.lines if seeds and _few(results) else ():
        _thin_lines(axes, task, arm, appearance[arm.name])
    names = called(results, appearance, LETTERS)
    labels: list[tuple[float, str, str]] = []
    for name, look in appearance.items():
        if name in found:
            height = _line(axes, task, found[name], look, len(labels))
            label = f"{MARKS[look.marker]} {names[name]}"
            labels.append((height, label, look.color))
    return labels


def _line(axes: Axes, task: Task, curve: Curve, look: Look, place: int) -> float:
    height = np.array([task.as_return(float(v)) for v in curve.estimate])
    if curve.low is not None and curve.high is not None:
        low, high = (np.array([task.as_return(v) for v in e]) for e in (curve.low, curve.high))
        axes.fill_between(task.grid, low, high, color=look.color, alpha=0.16, lw=0, zorder=2)
    axes.plot(
        task.grid,
        height,
        color=look.color,
        ls=look.line,
        marker=look.marker,
        markevery=(0.08 + 0.02 * place, 0.22),
        ms=4.5,
        mec=PAPER,
        mew=0.5,
        zorder=3,
    )
    return float(height[-1])


def _faded(axes: Axes, task: Task, curves: Sequence[Curve]) -> None:
    """Curves of arms without a colour, as a background."""
    if not 0 < len(curves) <= FADED:
        return
    heights = [[task.as_return(float(v)) for v in curve.estimate] for curve in curves]
    paths = [np.column_stack([task.grid, height]) for height in heights]
    axes.add_collection(LineCollection(paths, colors=FAINT, lw=0.9, zorder=1))
    axes.update_datalim(np.concatenate(paths))


def _thin_lines(axes: Axes, task: Task, arm: Arm, look: Look) -> None:
    cell = task.cells.get(arm.name)
    if cell is None:
        return
    runs = [run for run in cell.runs if run.steps.size]
    paths = [np.column_stack([run.steps, run.sampled]) for run in runs]
    axes.add_collection(LineCollection(paths, colors=look.color, lw=0.5, alpha=0.18, zorder=1))
    axes.update_datalim(np.concatenate(paths) if paths else np.zeros((0, 2)))
    lost = [path[-1] for run, path in zip(runs, paths, strict=True) if failed(run, task.end)]
    if lost:
        points = np.array(lost)
        axes.plot(points[:, 0], points[:, 1], "x", color=look.color, ms=7, mew=1.8, zorder=6)


def _frame(axes: Axes, task: Task, *, compact: bool = False) -> None:
    """Limits, levels to compare with and labels; a compact panel has no room for the threshold."""
    axes.autoscale_view()
    left, right = axes.get_xlim()
    if task.end > task.start:
        left, right = min(task.start, 0.0), task.end
    axes.set_xlim(left, right)
    threshold = None if compact else task.threshold
    references = ((task.optimal, "optimal"), (threshold, "threshold"), (task.random, "random"))
    levels = [level for level, _ in references if level is not None]
    if levels:
        low, high = axes.get_ylim()
        low, high = min(low, *levels), max(high, *levels)
        axes.set_ylim(low - 0.04 * (high - low), high + (0.11 if compact else 0.07) * (high - low))
    for level, name in references:
        if level is None:
            continue
        axes.axhline(level, color=MUTED, lw=0.7, ls=(0, (1, 2)), zorder=0)
        # Below its line, as the optimum's name may stand right above it.
        below = name == "threshold"
        axes.annotate(
            name,
            (0.0 if name != "random" else 1.0, level),
            xycoords=axes.get_yaxis_transform(),
            xytext=(3 if name != "random" else -2, -2 if below else 2),
            textcoords="offset points",
            ha="left" if name != "random" else "right",
            va="top" if below else "bottom",
            fontsize=points(7.5),
            color=MUTED,
            bbox={"facecolor": PAPER, "alpha": 0.75, "lw": 0, "pad": 0.6},
            zorder=6,
        )
    axes.xaxis.set_major_formatter(FuncFormatter(steps))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return, sampled actions")


def _end_labels(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names at the line ends, pushed apart so that none covers another."""
    if not labels:
        return
    low, high = axes.get_ylim()
    gap = 0.065 * (high - low)
    order = sorted(range(len(labels)), key=lambda i: labels[i][0])
    heights = spread(np.array([labels[i][0] for i in order]), gap, low + gap / 2, high - gap / 2)
    leader = {"arrowstyle": "-", "lw": 0.6, "shrinkA": 1, "shrinkB": 0, "relpos": (0.0, 0.5)}
    for i, height in zip(order, heights, strict=True):
        value, name, color = labels[i]
        axes.annotate(
            name,
            (1.0, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.035, height),
            textcoords=axes.get_yaxis_transform(),
            color=lettering(color),
            fontsize=points(9),
            fontweight="bold",
            va="center",
            arrowprops={**leader, "color": color} if len(labels) <= MAX_LEADERS else None,
        )
