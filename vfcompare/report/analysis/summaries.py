"""Arms one by one: curves, scores, profiles, steps to the threshold, stability; each with an interval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vfcompare import statistics
from vfcompare.report.analysis import resampling
from vfcompare.report.analysis.arms import Arm
from vfcompare.report.analysis.resampling import generator
from vfcompare.report.metrics import AGGREGATES, SCORES
from vfcompare.report.reading.files import Array
from vfcompare.report.scoring import Task, column, matrix
from vfcompare.statistics import Interval

SPREAD_POINTS = 20
"""About so many points of a curve, counted from the last one back, have their spread over seeds averaged."""
SPREAD_RUNS = 5
"""Fewest seeds whose spread has an interval."""


@dataclass(frozen=True)
class Speed:
    """Steps to the threshold of one arm on one task; a restricted mean that is not known is NaN."""

    task: str
    arm: str
    n: int
    reached: int
    median: Interval
    restricted_mean: Interval
    arrivals: tuple[tuple[int, float, bool], ...]


@dataclass(frozen=True)
class Curve:
    """IQM over seeds of one arm on one task, at the task's grid."""

    task: str
    arm: str
    n: int
    estimate: Array
    low: Array | None
    high: Array | None


def curves(tasks: Sequence[Task], arms: Sequence[Arm], banded: Sequence[Arm]) -> list[Curve]:
    """The curve of every arm, with a band for some."""
    result = []
    wanted = {arm.name for arm in banded}
    for task in tasks:
        for arm in arms:
            if not task.scores.get(arm.name):
                continue
            values = matrix(task, arm.name)
            if arm.name in wanted:
                rng = generator(f"curve/{task.key}/{arm.key}")
                curve = statistics.curve_interval(rng, values, reps=resampling.REPS)
            else:
                curve = statistics.trim_mean(values.T), None, None
            result.append(Curve(task.name, arm.name, len(values), *curve))
    return result


def _column(task: Task, arm: str, metric: str) -> Array:
    return np.array(list(column(task, arm, metric).values()))


def scores(tasks: Sequence[Task], arms: Sequence[Arm]) -> dict[tuple[str, str, str], Interval]:
    """IQM over seeds of each (metric, task, arm)."""
    result = {}
    for task in tasks:
        for arm in arms:
            for metric in (*SCORES, "greedy"):
                values = _column(task, arm.name, metric)
                # of those that have a greedy return at the end it would be another mean
                if values.size and values.size == len(task.scores[arm.name]):
                    rng = generator(f"summary/{metric}/{task.key}/{arm.key}")
                    result[metric, task.name, arm.name] = statistics.bootstrap(
                        rng, [values], statistics.iqm, reps=resampling.REPS
                    )
    return result


def aggregates(
    pool: Sequence[Task], arms: Sequence[Arm], single: Mapping[tuple[str, str, str], Interval]
) -> dict[tuple[str, str, str], Interval]:
    """Over environments, of each (statistic, metric, arm).

    Of one environment alone the IQM is that of the environment, and a median of means the mean: one number
    has one interval.

    Args:
      pool: environments on a common scale.
      arms: which have a row.
      single: what `scores` found, of each (metric, task, arm).
    """
    result: dict[tuple[str, str, str], Interval] = {}
    for arm in arms:
        for metric in SCORES:
            scores, units = _everywhere(pool, arm, metric)
            if not scores:
                continue
            for name, aggregate in AGGREGATES.items():
                if name == "optimality_gap" and not pool[0].normalised:
                    continue
                if len(pool) == 1 and name == "iqm":
                    result[name, metric, arm.name] = single[metric, pool[0].name, arm.name]
                    continue
                same = "mean" if len(pool) == 1 and name == "median" else name
                rng = generator(f"aggregate/{same}/{metric}/{arm.key}")
                result[name, metric, arm.name] = statistics.bootstrap(
                    rng, scores, aggregate.of, units=units, reps=resampling.REPS
                )
    return result


def _everywhere(
    pool: Sequence[Task], arm: Arm, metric: str
) -> tuple[list[Array], statistics.Units | None]:
    """The arm's scores on every task, or none: an average over other tasks is another number.

    With what is drawn together of them.
    """
    columns = [column(task, arm.name, metric) for task in pool]
    scores = [np.array([*values.values()]) for values in columns]
    return scores if all(columns) else [], resampling.units(pool, columns)


def profiles(
    pool: Sequence[Task], arms: Sequence[Arm], thresholds: Array
) -> dict[str, tuple[Array, Array | None, Array | None]]:
    """Share of runs above each threshold, with the ends of its band."""
    result: dict[str, tuple[Array, Array | None, Array | None]] = {}
    for arm in arms:
        scores, units = _everywhere(pool, arm, "final")
        if not scores or not pool[0].normalised:
            continue
        result[arm.name] = statistics.profile_interval(scores, thresholds, units=units)
    return result


def speeds(tasks: Sequence[Task], arms: Sequence[Arm]) -> list[Speed]:
    """Steps to the threshold, where there is one."""
    return [_speed(task, arm) for task in tasks for arm in arms if task.arrivals.get(arm.name)]


def _speed(task: Task, arm: Arm) -> Speed:
    arrivals = task.arrivals[arm.name]
    steps = [step for _, step, _ in arrivals]
    reached = [yes for _, _, yes in arrivals]
    median, area = statistics.arrival_intervals(
        generator(f"speed/{task.key}/{arm.key}"),
        steps,
        reached,
        horizon=task.end,
        reps=resampling.REPS,
    )
    return Speed(task.name, arm.name, len(steps), sum(reached), median, area, arrivals)


def stability(pool: Sequence[Task], arms: Sequence[Arm]) -> dict[tuple[str, str], Interval]:
    """Of each (quantity, arm): spread over seeds, variation, drawdown, rates of collapse and failure."""
    result: dict[tuple[str, str], Interval] = {}
    for arm in arms:
        for metric in ("variation", "drawdown"):
            scores, units = _everywhere(pool, arm, metric)
            if scores:
                rng = generator(f"stability/{metric}/{arm.key}")
                result[metric, arm.name] = statistics.bootstrap(
                    rng, scores, statistics.mean, units=units, reps=resampling.REPS
                )
        if pool and all(len(task.scores.get(arm.name, ())) > 1 for task in pool):
            result["spread", arm.name] = _spread(pool, arm)
    together = {arm.name: _together(pool, arm) for arm in arms}
    for (quantity, name), (count, n) in counts(pool, arms).items():
        if n:
            result[quantity, name] = statistics.rate_interval(count, n, units=together[name])
    return result


def _together(pool: Sequence[Task], arm: Arm) -> statistics.Units | None:
    """Which runs of an arm are drawn together, on the tasks where it has some."""
    found = [task for task in pool if task.scores.get(arm.name)]
    return resampling.units(found, [[s.seed for s in task.scores[arm.name]] for task in found])


def _spread(pool: Sequence[Task], arm: Arm) -> Interval:
    """IQR over seeds, averaged over evaluation points and then over tasks.

    Resamples of fewer than five seeds hardly ever spread as far as these do: no interval.
    """
    rng = generator(f"stability/spread/{arm.key}")
    sizes = [len(task.scores[arm.name]) for task in pool]
    draws = statistics.draw(rng, sizes, _together(pool, arm), reps=resampling.REPS)
    estimates, replicates = [], []
    for task, drawn in zip(pool, draws, strict=True):
        every = max(1, -(-task.grid.size // SPREAD_POINTS))
        curves = matrix(task, arm.name)[:, ::-1][:, ::every]
        estimates.append(statistics.across_run_spread(curves).mean())
        replicates.append(_fast_spread(curves, drawn))
    found = statistics.percentile_interval(
        float(np.mean(estimates)), np.mean(replicates, axis=0), n=min(sizes)
    )
    return found if found.n >= SPREAD_RUNS else found._replace(low=None, high=None)


def _fast_spread(curves: Array, draws: npt.NDArray[np.int64]) -> Array:
    spreads = [statistics.interquartile_range(point[draws]) for point in curves.T]
    return np.asarray(np.mean(spreads, axis=0))


def counts(pool: Sequence[Task], arms: Sequence[Arm]) -> dict[tuple[str, str], tuple[int, int]]:
    """Of each (quantity, arm), how many of how many runs collapsed and failed."""
    result = {}
    for arm in arms:
        runs = [item for task in pool for item in task.scores.get(arm.name, ())]
        result["collapse", arm.name] = (sum(item.collapsed for item in runs), len(runs))
        bad = sum(item.status != "completed" for item in runs)
        result["failure", arm.name] = (bad, len(runs))
    return result
