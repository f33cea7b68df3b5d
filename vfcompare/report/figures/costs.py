"""The learning curves against other costs than environment steps, from episodes to seconds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vfcompare.report.analysis import Curve, Results
from vfcompare.report.figures.drawing import Picture, apart, canvas, heading, legend, panels, steps
from vfcompare.report.figures.looks import PAPER, Look, looks
from vfcompare.report.figures.names import called, explained_rows, shorten
from vfcompare.report.figures.sizes import beside, lower, stacked
from vfcompare.report.prose.sentences import in_words
from vfcompare.report.reading.cells import Cell
from vfcompare.report.reading.files import Array
from vfcompare.report.scoring import Task
from vfcompare.report.table import Table, Value, join, show
from vfcompare.schema.tree import finite

TASKS = 4
"""Environments that are drawn."""

SECONDS = 5.0
"""Less is decided by a start, or by what else the machine does."""

LETTERS = 28
"""Of a name in the legend."""

Clock = Callable[[Cell, Task], Array | None]


def pictures(results: Results) -> Iterator[Picture]:
    """One line of panels an environment, one panel a cost that is recorded for every drawn curve."""
    tasks = [task for task in results.tasks if _curves(results, task)]
    costs = {name: _costs(results, tasks, clock) for name, clock in CLOCKS.items()}
    known = {name: found for name, found in costs.items() if found}
    if not known:
        return
    rows: list[tuple[Value, ...]] = []
    for task in tasks:
        for arm, curve in _curves(results, task).items():
            for i, step in enumerate(task.grid):
                passed = [float(found[task.name, arm][i]) for found in known.values()]
                value = task.as_return(float(curve.estimate[i]))
                rows.append((task.name, arm, float(step), *passed, value))
    title = "What else the steps cost"
    data = Table("costs", title, ("environment", "agent", "env_steps", *known, "iqm"), tuple(rows))
    _, each, height = _shape(known)
    most = min(TASKS, max(1, stacked(height) // each))
    caption = _caption(results, len(tasks), most, known)
    yield Picture("costs", title, caption, lambda: _draw(results, tasks[:most], known), data)


Costs = Mapping[tuple[str, str], Array]
"""`[points]` by task and arm, drawn or not: what had passed at each step of the task's grid."""


def _curves(results: Results, task: Task) -> dict[str, Curve]:
    """Of the arms that have a colour."""
    names = {arm.name for arm in results.shown.lines}
    return {c.arm: c for c in results.curves if c.task == task.name and c.arm in names}


def _costs(results: Results, tasks: Sequence[Task], clock: Clock) -> Costs:
    """Nothing, unless every curve that is drawn has it."""
    scored = [
        (task, curve.arm) for task in tasks for curve in results.curves if curve.task == task.name
    ]
    every = {(task.name, arm): clock(task.cells[arm], task) for task, arm in scored}
    found = {place: cost for place, cost in every.items() if cost is not None}
    drawn = [(task.name, arm) for task in tasks for arm in _curves(results, task)]
    return found if all(place in found for place in drawn) else {}


def _passed(cell: Cell, task: Task, clock: str) -> Array | None:
    """Mean over the completed seeds."""
    runs = cell.completed
    if not runs or not all(clock in run.clocks for run in runs):
        return None
    found = np.mean([np.interp(task.grid, run.steps, run.clocks[clock]) for run in runs], axis=0)
    return np.asarray(found) if np.isfinite(found).all() else None


def _gradient_steps(cell: Cell, task: Task) -> Array | None:
    updates = _passed(cell, task, "updates")
    if updates is None or cell.gradient_steps is None:
        return None
    return updates * cell.gradient_steps


def _seconds(cell: Cell, task: Task) -> Array | None:
    """In which all seeds together took these steps, at the mean speed of the training."""
    spent, total = cell.info.get("seconds"), finite(cell.info.get("env_steps"))
    trained = finite(spent.get("train")) if isinstance(spent, Mapping) else None
    if not trained or not total or trained < 0 or total < 0:
        return None
    return np.asarray(task.grid * (trained * len(cell.runs) / total))


def _flops(cell: Cell, task: Task) -> Array | None:
    """That the networks of one seed computed, at the mean of the training."""
    spent, total = finite(cell.info.get("flops")), finite(cell.info.get("env_steps"))
    if not spent or not total or spent < 0 or total < 0:
        return None
    return np.asarray(task.grid * (spent / total))


CLOCKS: Mapping[str, Clock] = {
    "episodes": lambda cell, task: _passed(cell, task, "episodes"),
    "gradient steps": _gradient_steps,
    "FLOPs": _flops,
    "seconds": _seconds,
}


def _shape(known: Mapping[str, Costs]) -> tuple[int, int, float]:
    """Panels beside each other, lines of them for one environment, and inches of a line."""
    columns = beside(len(known), len(known), 1.3)
    each = -(-len(known) // columns)
    return columns, each, lower(2.1 if each == 1 else 1.75)


def _caption(results: Results, tasks: int, most: int, known: Mapping[str, Costs]) -> str:
    """What the end of the range costs the agents."""
    parts = []
    drawn = [arm.name for arm in results.shown.lines]
    for name, costs in known.items():
        ends = [
            (float(x[-1]), f"{results.called(arm)} on {task}")
            for (task, arm), x in costs.items()
            if arm in drawn
        ]
        low, high = min(ends), max(ends)
        parts.append(f"{_number(low[0])} ({low[1]}) to {_number(high[0])} {name} ({high[1]})")
    timed = (
        " Seconds are those of all seeds together, at the mean speed of the training, without compiling; "
        f"they compare only runs on one machine under one load, and are set against each other "
        f"from {SECONDS:g} s on."
        if "seconds" in known
        else ""
    )
    cut = f" The first {most} of {tasks} environments are drawn." if tasks > most else ""
    those = "They" if results.shown.lines == results.arms else f"The {len(drawn)} that are drawn"
    return (
        f"{_told(results, known)}{those} took {join(parts)}. Heights are IQM over seeds of the return, as in "
        f"the learning curves.{timed}{cut} {explained_rows(results, LETTERS)}"
    ).strip()


def _ratios(results: Results, cost: str, costs: Costs) -> dict[str, float]:
    """What one side pays for the same environment steps, relative to the other, by environment.

    A side is all its agents, drawn or not; where one of them has not recorded the cost, or took fewer
    seconds than mean anything, there is no ratio.
    """
    least = SECONDS if cost == "seconds" else 0.0
    ratios = {}
    for name in dict.fromkeys(task for task, _ in costs):
        scored = results.task(name).scores
        first, second = (
            [(name, arm.name) for arm in side if scored.get(arm.name)]
            for side in (results.sides.first, results.sides.second)
        )
        if first and second and all(place in costs for place in (*first, *second)):
            ends = [[costs[place][-1] for place in side] for side in (first, second)]
            one, other = map(np.mean, ends)
            if one > 0 < other and min(map(min, ends)) >= least:
                ratios[name] = float(one / other)
    return ratios


def _told(results: Results, known: Mapping[str, Costs]) -> str:
    """The ratios in words."""
    ratios = {name: list(_ratios(results, name, costs).values()) for name, costs in known.items()}
    told = [f"{np.exp(np.mean(np.log(x))):.2f} times the {name}" for name, x in ratios.items() if x]
    if not told:
        return "Lines end where the compared environment steps are used up. "
    one, other = in_words(results)
    every = "" if results.shown.lines == results.arms else ", of all agents"
    return (
        f"For the same environment steps {one} took {join(told)} of {other} (geometric means over "
        f"environments{every}); lines end where the steps are used up. "
    )


def _number(value: float) -> str:
    if value >= 1e9:
        return steps(float(f"{value:.3g}"))
    return show(round(value)) if value >= 100 else show(value)


def _draw(results: Results, tasks: Sequence[Task], known: Mapping[str, Costs]) -> Figure:
    columns, each, height = _shape(known)
    rows = each * len(tasks)
    broad = 1.3 if len(known) > 1 else 1.0
    figure, grid = canvas(0.4 + height * rows, rows, columns, broad=broad, sharey="row")
    apart(figure)
    appearance = looks(results.shown.lines)
    ratios = {name: _ratios(results, name, costs) for name, costs in known.items()}
    sides = "/".join(shorten(name, 12) for name in results.sides.names)
    for place, task in enumerate(tasks):
        own = grid[place * each : (place + 1) * each]
        line = panels(own, len(known))
        for axes, (name, costs) in zip(line, known.items(), strict=True):
            for arm, curve in _curves(results, task).items():
                _line(axes, task, curve, costs[task.name, arm], appearance[arm])
            _frame(axes, name)
            ratio = ratios[name].get(task.name)
            # where an environment has several lines, they have no room for it
            told = ratio is not None and each == 1
            said = f"{sides}: \N{MULTIPLICATION SIGN}{ratio:.2f}" if told else ""
            heading(axes, task.name if axes is line[0] else "", 26, said)
        for axes in own[:, 0]:
            axes.set_ylabel("return")
    handles = [
        figure.axes[0].plot([], [], color=look.color, ls=look.line, marker=look.marker, ms=4.5)[0]
        for look in appearance.values()
    ]
    legend(figure, handles, list(called(results, appearance, LETTERS).values()))
    return figure


def _line(axes: Axes, task: Task, curve: Curve, cost: Array, look: Look) -> None:
    """A curve, with a mark where its budget ends."""
    height = [task.as_return(float(value)) for value in curve.estimate]
    axes.plot(cost, height, color=look.color, ls=look.line)
    end: dict[str, Any] = {"ms": 5.5, "mec": PAPER, "mew": 0.6, "zorder": 4, "clip_on": False}
    axes.plot(cost[-1:], height[-1:], look.marker, color=look.color, **end)


def _frame(axes: Axes, name: str) -> None:
    axes.set_xlim(left=0.0)
    axes.xaxis.set_major_formatter(FuncFormatter(steps))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.set_xlabel(name)
