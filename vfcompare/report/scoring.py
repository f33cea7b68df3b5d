"""From runs to scores: which steps are compared, what a failed run is worth, and on which scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vfcompare import statistics
from vfcompare.report.cells import Cell, Run
from vfcompare.report.data import Study
from vfcompare.report.files import Array, number, tree
from vfcompare.statistics import FailureRule, ScoreScale

GRID_POINTS = 60
"""Steps at which curves are aggregated, where runs were evaluated at different ones."""

SOLVED_SHARE = 0.9
"""Of the way from random to optimal: the threshold where neither study nor environment says one."""

SAME_END = 0.02
"""Share of the longest run by which another may end earlier and still count as ending with it."""

OVERSHOT = 1.5
"""How much of a budget, or of the compared range, a run may take before what it did within is not known."""


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


def usable(run: Run) -> bool:
    """Whether it is known how a run ends: it finished, or it failed by itself.

    A crash before the first evaluation says nothing about the agent, nor does one for a reason that is
    not the agent's; a divergence always does.
    """
    return run.status in {"completed", "diverged"} or (
        run.status == "crashed" and run.steps.size > 0 and not run.outside
    )


def failed(run: Run, end: float = math.inf) -> bool:
    """Whether a run is known to have failed by `end`, the last compared step."""
    return usable(run) and run.status != "completed" and not _outlived(run, end)


def _outlived(run: Run, end: float) -> bool:
    """Whether a run failed only after `end`.

    Without an evaluation at or beyond `end`, the failure must lie more than `SAME_END` beyond it: where runs
    overshoot and no budget is recorded, the end itself is not known more precisely.
    """
    if run.failed_at is None or not 0 < end < run.failed_at or not run.steps.size:
        return False
    return bool(run.steps[-1] >= end) or run.failed_at > (1.0 + SAME_END) * end


def _task(name: str, cells: Sequence[Cell], rule: FailureRule, share: float | None) -> Task:
    random, optimal = _references(cells)
    start, end = _range(cells)
    floor, floor_rule = _floor(cells, random)
    threshold, threshold_rule = _threshold(cells, random, optimal, share)
    grid, exact = _grid(cells, start, end)
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
    span = _span(cells, random, optimal)
    scores = {cell.arm: _scores(cell, task, span, rule) for cell in cells}
    return replace(task, scores=scores)


def counted(run: Run, end: float) -> bool:
    """Whether a run enters the scores of a task whose compared range ends at `end`."""
    if not usable(run) or not end > 0:
        return False
    ended = run.steps.size > 0 and bool(run.steps[-1] >= end)
    return run.status != "completed" or (ended and not late(run, end))


def late(run: Run, end: float) -> bool:
    """Whether the first policy that learned and was evaluated is from long after the compared range.

    A line from the first evaluation to that one would say nothing of the steps that are compared.
    """
    trained = run.steps[run.steps > 0]
    done = run.status == "completed" and trained.size > 0
    return bool(done and 0 < OVERSHOT * end < trained[0])


def fate(run: Run, end: float) -> str:
    """What became of a planned run: its status; `short` or `late` where it says nothing of the range."""
    if run.status != "completed" or counted(run, end):
        return run.status
    return "late" if late(run, end) else "short"


def _references(cells: Sequence[Cell]) -> tuple[float | None, float | None]:
    known = [cell.reference for cell in cells]
    random = next((r["random"] for r in known if r["random"] is not None), None)
    optimal = next((r["optimal"] for r in known if r["optimal"] is not None), None)
    if random is not None and optimal is not None and not optimal > random:
        optimal = None
    return (random, optimal) if None not in (random, optimal) else given(cells) or (random, optimal)


def given(cells: Sequence[Cell]) -> tuple[float, float] | None:
    """Random and optimal return of an environment as the study says them; None unless all its cells agree.

    A cell that began before the study said them has none in its configuration, and so does not agree: they
    could have been chosen knowing its results.
    """
    found = {_told(cell) for cell in cells if cell.config}
    return found.pop() if len(found) == 1 else None


def _told(cell: Cell) -> tuple[float, float] | None:
    pair = tree(cell.config, "study.reference").get(cell.names.env)
    random, optimal = map(number, pair if isinstance(pair, list) and len(pair) == 2 else (0, 0))
    if random is None or optimal is None or not random < optimal:
        return None
    return random, optimal


def _range(cells: Sequence[Cell]) -> tuple[float, float]:
    """The steps that all scored cells cover.

    A cell ends at its budget, which each completed seed has reached, and which is known though all its
    seeds failed. Where no budget is recorded it ends with nearly all its completed seeds: a seed that
    ends much earlier must not shorten the range for all, and is counted as short instead. The range
    begins with the last of the first evaluations, or at 0 where no run completed it. Where all runs are
    late there is a range, and nothing to compare.
    """
    known = [end for cell in cells if (end := _cell_end(cell)) is not None]
    end = min(known, default=0.0)
    runs = [r for cell in cells for r in cell.runs if counted(r, end) or late(r, end)]
    start = max((float(r.steps[0]) for r in runs if r.status == "completed"), default=0.0)
    return (start, end) if runs and end > start else (0.0, 0.0)


def _cell_end(cell: Cell) -> float | None:
    """The last step of a cell, or None where none of its runs is scored or no step is known."""
    done = _completed(cell)
    if cell.budget and (done or any(map(usable, cell.runs))):
        return cell.budget
    return _usual_end(done) if done else None


def _completed(cell: Cell) -> list[Run]:
    return [run for run in cell.runs if run.status == "completed" and run.steps.size]


def _usual_end(runs: Sequence[Run]) -> float:
    longest = max(float(run.steps[-1]) for run in runs)
    return min(float(r.steps[-1]) for r in runs if r.steps[-1] >= longest - _slack(r, longest))


def _slack(run: Run, longest: float) -> float:
    """Steps by which a run may end before the longest: each overshoots its budget by part of an update."""
    spacing = float(run.steps[-1] - run.steps[-2]) if run.steps.size > 1 else 0.0
    return max(SAME_END * longest, spacing)


def _floor(cells: Sequence[Cell], random: float | None) -> tuple[float, str]:
    if random is not None:
        return random, "the random policy's return"
    seen = [run.sampled.min() for cell in cells for run in cell.runs if run.sampled.size]
    if seen:
        return float(min(seen)), "the least return seen on the environment"
    return 0.0, "zero, since no return was seen"


def _threshold(
    cells: Sequence[Cell], random: float | None, optimal: float | None, share: float | None
) -> tuple[float | None, str]:
    given = [c.reference["threshold"] for c in cells if c.reference["threshold"] is not None]
    scaled = random is not None and optimal is not None
    if given and not (share and scaled):
        return given[0], "declared by the environment"
    if random is not None and optimal is not None:
        told = ", by the study" if share else ""
        share = share or SOLVED_SHARE
        level = random + share * (optimal - random)
        return level, f"{share:.0%} of the way from random to optimal{told}"
    return None, "unknown"


def _span(cells: Sequence[Cell], random: float | None, optimal: float | None) -> float:
    if random is not None and optimal is not None:
        return optimal - random
    seen = np.concatenate([run.sampled for cell in cells for run in cell.runs] or [np.zeros(0)])
    return float(np.ptp(seen)) if seen.size else 0.0


def _grid(cells: Sequence[Cell], start: float, end: float) -> tuple[Array, bool]:
    """The evaluation steps themselves where all runs share them, else evenly spaced ones."""
    if end <= start:
        return np.zeros(0), True
    done = [r for cell in cells for r in cell.runs if r.status == "completed" and counted(r, end)]
    inside = [run.steps[(run.steps >= start) & (run.steps <= end)] for run in done]
    # a single step is the beginning, which all share whatever they do later
    same = (
        bool(inside)
        and inside[0].size > 1
        and all(np.array_equal(inside[0], steps) for steps in inside[1:])
    )
    if same and inside[0].size <= 4 * GRID_POINTS and inside[0][0] == start:
        return np.unique([*inside[0], end]), True
    return np.linspace(start, end, GRID_POINTS), False


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
