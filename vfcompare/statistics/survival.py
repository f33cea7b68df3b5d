"""Steps to a threshold that some runs never reach."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vfcompare.statistics.intervals import MIN_RUNS, Interval, percentile_interval
from vfcompare.statistics.scores import ROUNDING, Array, Mask, finite


class Arrival(NamedTuple):
    """When a run first reached a threshold, or how long it was watched in vain (right-censored)."""

    step: float
    reached: bool


def time_to_threshold(steps: npt.ArrayLike, values: npt.ArrayLike, threshold: float) -> Arrival:
    """The first evaluation at or above the threshold; censored at the last where there is none."""
    x, y = finite(steps, "steps"), finite(values, "values")
    above = np.flatnonzero(y >= threshold)
    if above.size:
        return Arrival(float(x[above[0]]), True)
    return Arrival(float(x[-1]) if x.size else 0.0, False)


class Survival(NamedTuple):
    """Kaplan-Meier estimate: the share of runs still below the threshold after each step.

    Attributes:
      steps: `[k]`, distinct steps at which a run arrived.
      surviving: `[k]`, share still below the threshold after that step.
      watched: largest step of arrival or censoring; what S is beyond it nobody knows, unless it is 0.
    """

    steps: Array
    surviving: Array
    watched: float


def kaplan_meier(steps: npt.ArrayLike, reached: npt.ArrayLike) -> Survival:
    """S(t) = prod over arrivals t_j <= t of (1 - d_j / n_j); censored runs just leave the risk set.

    Kaplan & Meier, 1958.

    Args:
      steps: `[runs]`, step of arrival or of censoring.
      reached: `[runs]`, whether it arrived.
    """
    time, event = finite(steps, "steps"), np.asarray(reached, dtype=bool)
    grid = np.unique(time[event])
    at_risk = (time >= grid[:, None]).sum(axis=1)
    arrived = ((time == grid[:, None]) & event).sum(axis=1)
    surviving = np.cumprod(1.0 - arrived / at_risk)
    return Survival(grid, surviving, float(time.max(initial=0.0)))


def survival_median(survival: Survival) -> float:
    """First step at which at most half of the runs are still below; infinite if there is none."""
    below = np.flatnonzero(survival.surviving <= 0.5 + 1e-12)
    return float(survival.steps[below[0]]) if below.size else math.inf


def restricted_mean(survival: Survival, horizon: float) -> float:
    """Mean steps spent below the threshold, up to `horizon`: the area under S on [0, horizon].

    Royston & Parmar, 2013. Defined also when most runs never arrive, where a median is not; NaN
    where S is not known up to the horizon.
    """
    left = survival.surviving[-1] if survival.surviving.size else 1.0
    if survival.watched < horizon and left > 0.0:
        return math.nan
    keep = survival.steps < horizon
    edges = np.concatenate([[0.0], survival.steps[keep], [horizon]])
    return float(np.sum(np.diff(edges) * np.concatenate([[1.0], survival.surviving[keep]])))


def arrival_intervals(
    rng: np.random.Generator,
    steps: npt.ArrayLike,
    reached: npt.ArrayLike,
    *,
    horizon: float,
    reps: int = 2000,
    confidence: float = 0.95,
) -> tuple[Interval, Interval]:
    """Kaplan-Meier median and restricted mean with bootstrap intervals (Efron, 1981).

    The median and the ends of its interval may be infinite: the threshold was not reached by half.
    The restricted mean is NaN, without an interval, where S is not known up to the horizon, and has none
    where all resamples have the same, as where nobody arrives: no width is not how well it is known.
    Resamples that were watched less long keep their last S.
    """
    time, event = finite(steps, "steps"), np.asarray(reached, dtype=bool)
    n = time.size
    survival = kaplan_meier(time, event)
    middle, area = survival_median(survival), restricted_mean(survival, horizon)
    if n < MIN_RUNS:
        return Interval(middle, None, None, n, confidence), Interval(
            area, None, None, n, confidence
        )
    grid, surviving = _survival_replicates(rng, time, event, reps)
    below = surviving <= 0.5 + 1e-12
    first = np.argmax(below, axis=1) if grid.size else np.zeros(reps, dtype=int)
    medians = np.where(below.any(axis=1), grid[first] if grid.size else math.inf, math.inf)
    half = percentile_interval(middle, medians, n=n, confidence=confidence)
    unknown = Interval(area, None, None, n, confidence)
    if math.isnan(area):
        return half, unknown
    keep = grid < horizon
    widths = np.diff(np.concatenate([[0.0], grid[keep], [horizon]]))
    areas = widths[0] + surviving[:, keep] @ widths[1:]
    if np.ptp(areas) <= ROUNDING * horizon:
        return half, unknown
    return half, percentile_interval(area, areas, n=n, confidence=confidence)


def _survival_replicates(
    rng: np.random.Generator, time: Array, event: Mask, reps: int
) -> tuple[Array, Array]:
    grid = np.unique(time[event])
    weights = rng.multinomial(time.size, np.full(time.size, 1.0 / time.size), size=reps)
    at_risk = weights @ (time[:, None] >= grid)
    arrived = weights @ ((time[:, None] == grid) & event[:, None])
    return grid, np.cumprod(1.0 - arrived / np.maximum(at_risk, 1), axis=1)
