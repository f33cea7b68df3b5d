"""From runs to scores: which steps are compared, what a failed run is worth, and on which scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vfcompare import statistics
from vfcompare.report import ranges
from vfcompare.report.fates import counted, failed, late
from vfcompare.report.reading.cells import Cell, Run
from vfcompare.report.reading.data import Study
from vfcompare.report.reading.files import Array
from vfcompare.statistics import FailureRule, ScoreScale


@dataclass(frozen=True)
class Score:
    """What one run is worth, on the scale of its task.

    Attributes:
      seed: the training seed.
      status: as in `Run`; completed if it failed after the compared range.
      steps: `[points]` of the curve, which covers the compared range.
      values: `[points]`, after the rule for failed runs.
      auc: mean height of the curve over the compared range.
      final: mean of the evaluations in the last tenth of the range.
      greedy: the same of the greedy policy, or None where it was not measured, or not to the end.
      variation: IQR of the changes per percent of the range; None of a failed run, which changes no more.
      drawdown: upper-tail CVaR of the drawdowns.
      noisy: whether its evaluations do not tell how noisy they are; noise then counts in both of these.
      collapsed: whether it learned something and then lost it, beyond the noise of its evaluations.
      first: score of its untrained policy, or None where that was not evaluated.
      reached: its final score; if it collapsed, the highest mean of successive evaluations before.
    """

    seed: int
    status: str
    steps: Array
    values: Array
    auc: float
    final: float
    greedy: float | None
    variation: float | None
    drawdown: float
    noisy: bool
    collapsed: bool
    first: float | None
    reached: float


@dataclass(frozen=True)
class Task:
    """One environment of a study: its references, the compared range, the scores of each arm.

    Attributes:
      name: label of the environment.
      key: what the files of the study call it; it names the random streams of its intervals.
      cells: the cell of each arm.
      start: first compared environment step.
      end: last compared environment step.
      exact_grid: whether all runs were evaluated at the same steps.
      grid: `[points]` steps at which curves are aggregated.
      random: return of the random policy, or None.
      optimal: best possible return, or None.
      threshold: return that counts as arrived, or None.
      threshold_rule: where the threshold comes from.
      floor: what a failed run scores at most, in raw returns, see `sunk`.
      floor_rule: where the floor comes from.
      scores: the scored runs of each arm.
      arrivals: (seed, step, reached) of each arm; unfinished runs are censored where they stopped.
    """

    name: str
    key: str
    cells: Mapping[str, Cell]
    start: float
    end: float
    exact_grid: bool
    grid: Array
    random: float | None
    optimal: float | None
    threshold: float | None
    threshold_rule: str
    floor: float
    floor_rule: str
    scores: Mapping[str, tuple[Score, ...]]
    arrivals: Mapping[str, tuple[tuple[int, float, bool], ...]]

    @property
    def env(self) -> str:
        """The environment, as the files call it: tasks that are settings of one have it in common."""
        return next(iter(self.cells.values())).names.env

    @property
    def normalised(self) -> bool:
        """Whether fixed references put the scores on the scale random = 0, optimal = 1."""
        return self._scale.known

    @property
    def scale(self) -> str:
        """What the scores are in."""
        return "normalised" if self.normalised else "raw return"

    @property
    def empty(self) -> bool:
        """Whether no run of any arm could be scored."""
        return not any(self.scores.values())

    def rescale(self, values: npt.ArrayLike) -> Array:
        """Raw returns on the scale of the task's scores."""
        return self._scale.scores(values)

    def as_return(self, value: float) -> float:
        """A score as a raw return."""
        return self._scale.as_return(value)

    @property
    def _scale(self) -> ScoreScale:
        return ScoreScale(self.random, self.optimal)


def score(study: Study, rule: FailureRule = "floor") -> list[Task]:
    """Scores all planned cells, one task at a time.

    Args:
      study: what was read.
      rule: what a failed run is worth from its failure on. `floor`: the random policy's return (or the
        least return seen on the task), or its last finite evaluation where that is less. `last`: its
        last finite evaluation. `drop`: it is left out.
    """
    cells = [cell for cell in study.cells if cell.planned]
    names = list(dict.fromkeys(cell.task for cell in cells))
    return [
        _task(name, [cell for cell in cells if cell.task == name], rule, study.threshold)
        for name in names
    ]


def _task(name: str, cells: Sequence[Cell], rule: FailureRule, share: float | None) -> Task:
    random, optimal = ranges.references(cells)
    start, end = ranges.compared_range(cells)
    floor, floor_rule = ranges.floor(cells, random)
    threshold, threshold_rule = ranges.threshold(cells, random, optimal, share)
    grid, exact = ranges.grid(cells, start, end)
    task = Task(
        name=name,
        key=cells[0].names.task,
        cells={cell.arm: cell for cell in cells},
        start=start,
        end=end,
        exact_grid=exact,
        grid=grid,
        random=random,
        optimal=optimal,
        threshold=threshold,
        threshold_rule=threshold_rule,
        floor=floor,
        floor_rule=floor_rule,
        scores={},
        arrivals={cell.arm: _arrivals(cell, threshold, end) for cell in cells},
    )
    span = ranges.span(cells, random, optimal)
    scores = {cell.arm: _scores(cell, task, span, rule) for cell in cells}
    return replace(task, scores=scores)


def _arrivals(
    cell: Cell, threshold: float | None, end: float
) -> tuple[tuple[int, float, bool], ...]:
    """(seed, step, reached) of each run: where it first reached the threshold, else where it is censored.

    Failed runs are censored at the end of the range, unfinished ones at their last evaluation.
    """
    if threshold is None or end <= 0:
        return ()
    result = []
    for run in cell.runs:
        if late(run, end) or (not run.steps.size and not failed(run)):
            continue
        step, reached = 0.0, False
        if run.steps.size and run.steps[0] < end:
            first, last = float(run.steps[0]), min(float(run.steps[-1]), end)
            curve = statistics.restrict(run.steps, run.sampled, first, last)
            step, reached = statistics.time_to_threshold(*curve, threshold)
        if not reached and (failed(run) or run.steps[-1] >= end):
            step = end
        result.append((run.seed, step, reached))
    return tuple(result)


def _scores(cell: Cell, task: Task, span: float, rule: FailureRule) -> tuple[Score, ...]:
    runs = [run for run in cell.runs if counted(run, task.end)]
    if rule == "drop":
        runs = [run for run in runs if not failed(run, task.end)]
    return tuple(_score(run, task, span, rule) for run in runs)


def _score(run: Run, task: Task, span: float, rule: FailureRule) -> Score:
    steps, raw = _curve(run, task, rule)
    values = task.rescale(raw)
    final = statistics.rounded(statistics.final(steps, values, task.start, task.end))
    share = 1.0 if task.normalised else span
    floor = float(task.rescale(task.floor))
    knots, heights = statistics.restrict(steps, values, task.start, task.end)
    window = statistics.final_points(knots, task.start, task.end)
    lost = statistics.collapsed(heights, floor=floor, span=share or 1.0, window=window)
    percent = (knots - task.start) * 100.0 / (task.end - task.start)
    fell = failed(run, task.end)
    split = _split(run, steps, raw, task)
    return Score(
        seed=run.seed,
        status=run.status if fell else "completed",
        steps=steps,
        values=values,
        auc=statistics.rounded(statistics.area_under_curve(steps, values, task.start, task.end)),
        final=final,
        greedy=_greedy(run, task, rule),
        variation=None if fell else statistics.rounded(_variation(percent, heights, split)),
        drawdown=statistics.rounded(_drawdown(heights, split)),
        noisy=split is None,
        collapsed=lost,
        first=_first(run, task),
        reached=float(statistics.successive_means(heights, window).max()) if lost else final,
    )


def _split(run: Run, steps: Array, raw: Array, task: Task) -> Array | None:
    """The split of a run's evaluations as a score, at the points of its curve within the compared range.

    It is 0 where a failed run is continued; None where not all evaluations have one.
    """
    if run.split is None or not np.isfinite(run.split).all():
        return None
    found = np.zeros(steps.shape)
    found[np.isin(steps, run.steps)] = run.split
    halves = task.rescale(raw + found) - task.rescale(raw)
    return statistics.restrict(steps, halves, task.start, task.end)[1]


def _variation(percent: Array, heights: Array, split: Array | None) -> float:
    if split is None:
        return float(statistics.within_run_variation(percent, heights))
    return statistics.variation_beyond_noise(percent, heights, split)


def _drawdown(heights: Array, split: Array | None) -> float:
    if split is None:
        return statistics.drawdown_risk(heights)
    return statistics.drawdown_beyond_noise(heights, split)


def _first(run: Run, task: Task) -> float | None:
    """Score of the untrained policy, if it was evaluated at step 0: later policies have learned."""
    untrained = run.steps.size > 0 and run.steps[0] == 0
    return float(task.rescale(run.sampled[0])) if untrained else None


def sunk(returns: Array, task: Task) -> float:
    """What a failed run with these returns scores from its failure on: no failure makes up for a fall."""
    return min(task.floor, float(returns[-1])) if returns.size else task.floor


def _curve(run: Run, task: Task, rule: FailureRule) -> tuple[Array, Array]:
    """The run's curve; a failed run is continued from its failure to the end of the range.

    One that failed after the range keeps its last evaluation to the end of it.
    """
    steps, raw = run.steps, run.sampled
    if run.status == "completed":
        return steps, raw
    level = sunk(raw, task) if rule == "floor" or not raw.size else float(raw[-1])
    if not steps.size or steps[0] > task.start:
        steps = np.concatenate([[min(task.start, 0.0)], steps])
        raw = np.concatenate([[level], raw])
    if steps[-1] < task.end:
        due = _due(steps, task)
        fall = run.failed_at if run.failed_at is not None else float(due[0])
        level = level if failed(run, task.end) else float(raw[-1])
        tail = np.unique(np.concatenate([due[due >= fall], [task.end]]))
        if steps[-1] < fall < tail[0]:
            tail = np.concatenate([[fall], tail])
        steps = np.concatenate([steps, tail])
        raw = np.concatenate([raw, np.full(tail.shape, level)])
    return steps, raw


def _due(steps: Array, task: Task) -> Array:
    """`[points]`, when a run would have been evaluated after its last evaluation, up to the end.

    At the steps that all runs share; else as far apart as its own evaluations are on average.
    """
    if task.exact_grid or steps.size < 2:
        return task.grid[task.grid > steps[-1]]
    apart = (steps[-1] - steps[0]) / (steps.size - 1)
    count = max(1, round((task.end - steps[-1]) / apart))
    return np.linspace(steps[-1], task.end, count + 1)[1:]


def _greedy(run: Run, task: Task, rule: FailureRule) -> float | None:
    measured = np.isfinite(run.greedy)
    known, greedy = run.steps[measured], run.greedy[measured]
    if failed(run, task.end):
        # continued as the sampled one is
        known, greedy = _curve(replace(run, steps=known, sampled=greedy), task, rule)
    # as the last of the sampled policies; an earlier one is not final
    elif not known.size or known[-1] < min(task.end, run.steps[-1]):
        return None
    return statistics.rounded(statistics.final(known, task.rescale(greedy), task.start, task.end))


def on_grid(score_: Score, task: Task) -> Array:
    """`[points]`, the run's curve at the task's grid, linear between its own evaluations."""
    return np.asarray(np.interp(task.grid, score_.steps, score_.values))


def matrix(task: Task, arm: str) -> Array:
    """`[runs, points]`, the curves of an arm at the task's grid."""
    return np.stack([on_grid(item, task) for item in task.scores[arm]])


def column(task: Task, arm: str, name: str) -> dict[int, float]:
    """One number of each scored run, by seed."""
    values = {item.seed: getattr(item, name) for item in task.scores.get(arm, ())}
    return {s: float(v) for s, v in values.items() if v is not None and math.isfinite(v)}
