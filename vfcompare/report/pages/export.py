"""A study for other programs: runs as tables, and the JSON that marl-eval reads."""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from vfcompare.report.fates import counted, fate
from vfcompare.report.pages import formats
from vfcompare.report.pages.document import compose
from vfcompare.report.ranges import GRID_POINTS
from vfcompare.report.reading.data import Study
from vfcompare.report.reading.files import Array
from vfcompare.report.scoring import Score, Task, score
from vfcompare.report.table import Table, Value
from vfcompare.schema.families import CRITIC
from vfcompare.schema.tree import finite

FORMATS = ("csv", "parquet", "latex", "marl-eval")


def export(study: Study, kind: str) -> dict[str, bytes]:
    """Files by name.

    `csv` and `parquet`: `runs`, one row a run, the failed ones included, and `evaluations`, one row an
    evaluation, as they were measured. `latex`: the tables of the report, for booktabs. `marl-eval`: its JSON.
    """
    if kind == "latex":
        printed = compose(study).tables.values()
        return {name: text for t in printed for name, text in formats.latex_files(t).items()}
    if kind == "marl-eval":
        return {"marl_eval.json": (json.dumps(marl_eval(study), indent=1) + "\n").encode()}
    tables = (runs(study), evaluations(study))
    if kind == "csv":
        return {f"{table.id}.csv": formats.as_csv(table).encode() for table in tables}
    return {f"{table.id}.parquet": formats.as_parquet(table) for table in tables}


def runs(study: Study) -> Table:
    """One row for each planned run, whatever became of it."""
    tasks = {task.name: task for task in score(study)}
    scores = {
        (task.name, arm, item.seed): item
        for task in tasks.values()
        for arm, items in task.scores.items()
        for item in items
    }
    rows: list[tuple[Value, ...]] = []
    planned = [cell for cell in study.cells if cell.planned]
    for cell, folder in [(whole, part) for whole in planned for part in whole.folders]:
        typed = {key: _typed(text) for key, text in folder.settings.items()}
        settings = json.dumps(typed, ensure_ascii=False)
        names = (cell.study, folder.id, cell.task, cell.arm, cell.env, cell.agent, settings)
        for run in folder.runs:
            item = scores.get((cell.task, cell.arm, run.seed))
            status = fate(run, tasks[cell.task].end)
            ended = (int(cell.family == CRITIC), run.seed, status, run.reason, run.failed_at)
            rows.append((*names, *ended, *_numbers(item), *_scale(tasks[cell.task])))
    heads = (
        *("study", "cell", "task", "arm", "env", "agent", "settings", "critic"),
        *("seed", "status", "reason", "failed_at", "auc", "final", "final_greedy"),
        *("drawdown", "variation", "collapsed"),
        *("scale", "random", "optimal", "first_step", "last_step"),
    )
    return Table("runs", "Runs", heads, tuple(rows))


def _typed(setting: str) -> str | float:
    """A number where a setting is a finite one, as JSON writes it; else the text."""
    with contextlib.suppress(ValueError):
        value: str | float = json.loads(setting)
        return setting if finite(value) is None else value
    return setting


def _numbers(item: Score | None) -> tuple[Value, ...]:
    if item is None:
        return (None,) * 6
    steady = (item.drawdown, item.variation, int(item.collapsed))
    return item.auc, item.final, item.greedy, *steady


def _scale(task: Task) -> tuple[Value, ...]:
    """What the numbers are in, and over which steps."""
    return task.scale, task.random, task.optimal, task.start, task.end


def evaluations(study: Study) -> Table:
    """One row for each evaluation, in returns; a failed run ends before its failure."""
    rows = tuple(
        (
            cell.study,
            folder.id,
            cell.task,
            cell.arm,
            run.seed,
            float(step),
            float(sampled),
            float(greedy),
        )
        for cell in study.cells
        if cell.planned
        for folder in cell.folders
        for run in folder.runs
        for step, sampled, greedy in zip(*run.evaluations, strict=True)
    )
    heads = (
        *("study", "cell", "task", "arm", "seed"),
        *("env_steps", "return_sampled", "return_greedy"),
    )
    return Table("evaluations", "Evaluations", heads, rows)


def marl_eval(study: Study) -> dict[str, Any]:
    """`{environment: {task: {algorithm: {run: {step_k: {step_count, metric: [...]}}}}}}`.

    The layout of instadeepai/marl-eval. It wants equally many runs and evaluations everywhere, so the
    runs that are scored are given at the steps that all of a task share, failed ones with the floor. Where
    they share none, values are interpolated, see `interpolated`. `absolute_metrics` is the mean of the last
    tenth, since no best policy is evaluated anew.
    """
    content: dict[str, Any] = {}
    tasks = score(study)
    known = interpolated(tasks)
    for task in tasks:
        env = next(iter(task.cells.values())).env
        grid = known.get(task.name, task.grid)
        algorithms = {
            arm: {f"seed_{item.seed}": _marl_run(task, item, grid) for item in items}
            for arm, items in task.scores.items()
            if items
        }
        if algorithms:
            content.setdefault(env, {})[task.name] = algorithms
    return content


def interpolated(tasks: Sequence[Task]) -> dict[str, Array]:
    """Steps at which marl-eval gets values between evaluations, of the tasks where runs share no steps.

    Evenly spaced, as many as the run with the fewest evaluations has: more would be no measurements.
    """
    apart = [task for task in tasks if not task.exact_grid and not task.empty]
    counts = [
        run.evaluations[0].size
        for task in apart
        for cell in task.cells.values()
        for run in cell.runs
        if run.status == "completed" and counted(run, task.end)
    ]
    points = max(min(counts, default=GRID_POINTS), 2)
    return {task.name: np.linspace(task.start, task.end, points) for task in apart}


def _marl_run(task: Task, item: Score, grid: Array) -> dict[str, Any]:
    points = zip(grid, np.interp(grid, item.steps, item.values), strict=True)
    steps = {
        f"step_{index}": {
            "step_count": round(float(step)),
            "return": [task.as_return(float(value))],
        }
        for index, (step, value) in enumerate(points)
    }
    return {**steps, "absolute_metrics": {"return": [task.as_return(item.final)]}}
