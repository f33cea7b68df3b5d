"""Scores per environment: every run, and what they amount to."""

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vfcompare.report.analysis import Arm, Results
from vfcompare.report.figures.contrasts import standing
from vfcompare.report.figures.drawing import (
    CROWDED,
    Picture,
    apart,
    canvas,
    dots,
    heading,
    mark,
    panels,
    right_texts,
    row_height,
    rows_axis,
    unit_lines,
    unseen,
)
from vfcompare.report.figures.looks import Look, appearance
from vfcompare.report.figures.names import brief_names, explained_rows, row_names, shortened
from vfcompare.report.figures.sizes import beside, inches, narrow, paper, stacked
from vfcompare.report.metrics import METRICS, SCORES
from vfcompare.report.prose.sentences import extents, failed_in, seeds
from vfcompare.report.scoring import Task, column
from vfcompare.report.table import Table, join, show_float
from vfcompare.statistics import Interval

COLUMNS, PANELS = 3, 12
FEW_TASKS = 4


def pictures(results: Results) -> Iterator[Picture]:
    """Area under the curve and final score of every run."""
    tasks = [task for task in results.tasks if not task.empty]
    if not tasks:
        return
    rows = tuple(
        (task.name, arm.name, item.seed, item.status, item.auc, item.final, item.greedy)
        for task in tasks
        for arm in results.arms
        for item in task.scores.get(arm.name, ())
    )
    heads = ("environment", "agent", "seed", "status", "auc", "final", "final greedy")
    yield Picture(
        "scores",
        "Scores per environment",
        _caption(results, len(tasks)),
        lambda: _draw(results, tasks),
        Table("scores-by-seed", "Scores of every run", heads, rows),
    )


def _caption(results: Results, tasks: int) -> str:
    """Who leads on which environment."""
    leaders = []
    for task in results.tasks:
        rows = [results.summary.get(("auc", task.name, arm.name)) for arm in results.shown.rows]
        known = {arm.name: x for arm, x in zip(results.shown.rows, rows, strict=True) if x}
        if known:
            name = max(known, key=lambda name: known[name].estimate)
            others = len(_best(rows)) - 1
            tied = f", {others} others reach it" if others > 1 else ", another reaches it" * others
            value = show_float(known[name].estimate)
            leaders.append(f"{results.called(name)} on {task.name} ({value}{tied})")
    if not leaders:
        return f"No scored runs. {failed_in(results)}"
    most = _most(results, tasks)
    cut = f"The first {most} of {tasks} environments are drawn. " if tasks > most else ""
    count = seeds(results, results.arms, (task.name for task in results.tasks))
    lows = [interval.low for interval in results.summary.values()]
    bars = extents("bars", "95% bootstrap intervals", lows)
    best = (
        "the best agent"
        if all(low is None for low in lows)
        else "interval overlaps that of the best agent"
    )
    numbers, bold = (" and numbers", f"; bold: {best}") if _numbered(results, tasks) else ("", "")
    return (
        f"Largest area under the curve: {join(leaders)}. Marks{numbers} are IQM over {count} seeds, {bars}, "
        f"dots are seeds{bold}. {cut}{explained_rows(results)}{_left(results)}"
        f"{failed_in(results)}"
    )


def _left(results: Results) -> str:
    text = unseen(results, "scores.csv")
    return f"{text} " if text else ""


def _by_columns(results: Results, tasks: int) -> bool:
    """Whether there is room for the area under the curve alone, and none for numbers."""
    return len(results.shown.rows) > CROWDED or tasks > FEW_TASKS


def _columns(results: Results, tasks: int) -> int:
    taken = inches(shortened(row_names(results, results.shown.rows)))
    return beside(tasks, COLUMNS, 1.15, taken)


def _most(results: Results, tasks: int) -> int:
    """Environments that are drawn."""
    height = 0.7 + row_height(len(results.shown.rows)) * len(results.shown.rows)
    columns = _columns(results, tasks) if _by_columns(results, tasks) else 1
    return min(PANELS, columns * stacked(height))


def _numbered(results: Results, tasks: int) -> bool:
    """Whether numbers stand behind the rows."""
    return not _by_columns(results, tasks) and not narrow()


def _draw(results: Results, tasks: Sequence[Task]) -> Figure:
    drawn = tasks[: _most(results, len(tasks))]
    if _by_columns(results, len(tasks)):
        return _draw_columns(results, drawn)
    return _draw_both(results, drawn)


def _draw_both(results: Results, tasks: Sequence[Task]) -> Figure:
    """One line of panels a task: area under the curve and final score."""
    arms = results.shown.rows
    height = len(tasks) * (0.6 + row_height(len(arms)) * len(arms)) + 0.35
    figure, grid = canvas(height, len(tasks), 2, sharey="row")
    apart(figure)
    for line, task in zip(grid, tasks, strict=True):
        for axes, metric in zip(line, SCORES, strict=True):
            _panel(axes, results, task, arms, metric)
            axes.set_xlabel(f"{METRICS[metric].axis} ({_scale(task)})")
            if _numbered(results, len(tasks)):
                rows = [results.summary.get((metric, task.name, arm.name)) for arm in arms]
                _numbers(axes, rows)
        said, color = standing(results, task)
        where = f"{said} in area under the curve" if said else ""
        heading(line[0], task.name, 26, where, color)
        line[1].tick_params(labelleft=False)
    return figure


def _draw_columns(results: Results, tasks: Sequence[Task]) -> Figure:
    """Many rows or many tasks: the area under the curve alone, tasks beside each other."""
    arms = results.shown.rows
    columns = _columns(results, len(tasks))
    lines = -(-len(tasks) // columns)
    names = brief_names([task.name for task in tasks])
    height = 0.35 + lines * (0.7 + row_height(len(arms)) * len(arms))
    figure, grid = canvas(height, lines, columns, broad=1.4, sharey=True)
    for place, (axes, task) in enumerate(zip(panels(grid, len(tasks)), tasks, strict=True)):
        _panel(axes, results, task, arms, "auc")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        heading(axes, names[task.name], 26, *standing(results, task))
        # in a paper, panels of one scale say so once
        alike = paper() and len({_scale(task) for task in tasks}) == 1
        if not alike or place + columns >= len(tasks):
            axes.set_xlabel(f"{METRICS['auc'].axis} ({_scale(task)})")
        axes.tick_params(labelleft=place % columns == 0)
    return figure


def _numbers(axes: Axes, rows: Sequence[Interval | None]) -> None:
    """The estimate of each row, in bold who may be the best."""
    texts = ["" if row is None else show_float(row.estimate) for row in rows]
    right_texts(axes, texts, _best(rows))


def _best(rows: Sequence[Interval | None]) -> set[int]:
    """Which rows may be the best: the largest, and those whose interval reaches its interval."""
    known = {y: row for y, row in enumerate(rows) if row is not None}
    if not known:
        return set()
    largest = max(known.values(), key=lambda row: row.estimate)
    return {y for y, row in known.items() if _reach(row)[1] >= _reach(largest)[0]}


def _reach(interval: Interval) -> tuple[float, float]:
    """The ends of an interval; the estimate where too few seeds have none."""
    low, high = interval.low, interval.high
    return (interval.estimate,) * 2 if low is None or high is None else (low, high)


def _scale(task: Task) -> str:
    return "normalised" if task.normalised else "return"


def _panel(axes: Axes, results: Results, task: Task, arms: Sequence[Arm], metric: str) -> None:
    looks = appearance(results)
    for y, arm in enumerate(arms):
        _row(axes, results, task, arm, y, metric, looks[arm.name])
    rows_axis(axes, row_names(results, arms), [looks[arm.name].color for arm in arms])
    unit_lines(axes, task)


def _row(
    axes: Axes, results: Results, task: Task, arm: Arm, y: int, metric: str, look: Look
) -> None:
    interval = results.summary.get((metric, task.name, arm.name))
    if interval is None:
        return
    values = column(task, arm.name, metric)
    lost = {item.seed for item in task.scores[arm.name] if item.status != "completed"}
    failed = np.array([seed in lost for seed in values])
    dots(axes, y, np.array(list(values.values())), look.color, failed)
    mark(axes, y, interval, look)
