"""How far an estimate from few runs can be believed: bootstrap and exact intervals."""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from vfcompare.statistics.aggregates import iqm, performance_profile, trim_mean
from vfcompare.statistics.scores import (
    ROUNDING,
    Array,
    Scores,
    Statistic,
    as_scores,
    finite,
    smallest,
)
from vfcompare.statistics.units import Units, dependence, draw

MIN_RUNS = 3
"""Fewer runs than this give no interval: with two, a bootstrap has three distinct resamples."""
FEW_RUNS = 10
"""Below this, and beyond it for means of collapsing runs, `known_coverage` tells what 95% is worth."""


class Interval(NamedTuple):
    """An estimate with an interval; `low` and `high` are None where runs are too few.

    Attributes:
      estimate: the statistic of the runs themselves, not of the resamples.
      low: lower end.
      high: upper end.
      n: the smallest number of runs of any task.
      confidence: nominal coverage.
    """

    estimate: float
    low: float | None
    high: float | None
    n: int
    confidence: float = 0.95

    @property
    def sufficient(self) -> bool:
        """Whether there were enough runs for an interval."""
        return self.low is not None

    def excludes(self, value: float) -> bool:
        """Whether the interval exists and lies wholly on one side of `value`, by more than rounding."""
        if self.low is None or self.high is None:
            return False
        return self.low > value + ROUNDING or self.high < value - ROUNDING

    @property
    def negative(self) -> "Interval":
        """The interval of the negative statistic."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return self._replace(estimate=-self.estimate, low=low, high=high)


def resample(
    rng: np.random.Generator, scores: Scores, units: Units | None = None, *, reps: int
) -> list[Array]:
    """One `[reps, runs]` array per task: runs drawn with replacement within their task, units jointly."""
    draws = draw(rng, [task.shape[-1] for task in scores], units, reps=reps)
    return [np.asarray(task)[index] for task, index in zip(scores, draws, strict=True)]


def expanded_tail(confidence: float, *, n: int) -> float:
    """Share of resamples to leave out at each end, so that few runs give an interval wide enough.

    Phi(-sqrt(n / (n - 1)) t), with t the upper (1 - confidence) / 2 quantile of Student's t with
    n - 1 degrees, of the smallest task where there are several. Resamples of n runs vary
    (n - 1) / n too little, and normal quantiles ignore that the spread itself is estimated; this
    undoes both for a mean of normal scores, and keeps what a percentile interval is good for: it
    follows any monotone change of scale and stays within the range of the resamples.

    Hesterberg, 2015, "What Teachers Should Know About the Bootstrap", section 3.3.
    """
    quantile = special.stdtrit(n - 1, 0.5 + confidence / 2.0)
    return float(special.ndtr(-math.sqrt(n / (n - 1)) * quantile))


def percentile_interval(
    estimate: float,
    replicates: Array,
    *,
    n: int,
    confidence: float = 0.95,
) -> Interval:
    """Interval between two expanded percentiles of a statistic's replicates; none where `n < MIN_RUNS`.

    Quantiles are order statistics (no interpolation), so that infinite replicates, a median that
    some resamples never reach, are allowed.

    Args:
      estimate: the statistic of the runs themselves.
      replicates: the statistic of each resample.
      n: the smallest number of runs that was resampled.
      confidence: nominal coverage; `expanded_tail` is left out at each end.
    """
    if n < MIN_RUNS:
        return Interval(float(estimate), None, None, n, confidence)
    tail = expanded_tail(confidence, n=n)
    low, high = np.quantile(replicates, (tail, 1.0 - tail), method="inverted_cdf")
    return Interval(float(estimate), float(low), float(high), n, confidence)


def bootstrap(
    rng: np.random.Generator,
    scores: Scores,
    statistic: Statistic = iqm,
    *,
    units: Units | None = None,
    reps: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Stratified bootstrap interval of an aggregate (Agarwal et al., 2021).

    Its ends are expanded percentiles (`percentile_interval`). What they cover is measured in
    `docs/statistics.md`: their share from five runs on, unless scores are bimodal or very skewed
    and the statistic is a mean. Plain percentiles cover too little below twenty runs, and BCa no more.

    Args:
      rng: source of the resamples.
      scores: one `[runs]` array per task.
      statistic: maps `[..., runs]` arrays, one per task, to `[...]`.
      units: of runs of several tasks that are drawn together, as those of a seed in settings of one
        environment; None where each is drawn by itself.
      reps: number of resamples.
      confidence: nominal coverage.
    """
    tasks = as_scores(scores)
    n = smallest(tasks)
    estimate = float(statistic(tasks))
    if n < MIN_RUNS:
        return Interval(estimate, None, None, n, confidence)
    replicates = np.asarray(statistic(resample(rng, tasks, units, reps=reps)))
    return percentile_interval(estimate, replicates, n=n, confidence=confidence)


def curve_interval(
    rng: np.random.Generator, curves: npt.ArrayLike, *, reps: int = 2000, confidence: float = 0.95
) -> tuple[Array, Array | None, Array | None]:
    """IQM over runs at every evaluation point with a pointwise expanded percentile band.

    Whole runs are resampled, so the band keeps the dependence along a curve. It is pointwise: at
    each step 95%, not for the curve as a whole.

    Args:
      rng: source of the resamples.
      curves: `[runs, points]`.
      reps: number of resamples.
      confidence: nominal coverage at each point.

    Returns:
      Estimate, lower and upper end, each `[points]`; the ends are None where runs are too few.
    """
    values = finite(curves, "curves").T
    runs = values.shape[-1]
    estimate = trim_mean(values)
    if runs < MIN_RUNS:
        return estimate, None, None
    draws = rng.integers(runs, size=(reps, runs))
    tail = expanded_tail(confidence, n=runs)
    ends = np.stack(
        [
            np.quantile(trim_mean(point[draws]), [tail, 1.0 - tail], method="inverted_cdf")
            for point in values
        ]
    )
    return estimate, ends[:, 0], ends[:, 1]


def profile_interval(
    scores: Scores,
    thresholds: npt.ArrayLike,
    *,
    units: Units | None = None,
    confidence: float = 0.95,
) -> tuple[Array, Array | None, Array | None]:
    """Performance profile with a pointwise band of Wilson's intervals.

    A mean of the shares of k tasks is taken for the share of `effective_runs`, which is wider than
    need be where the tasks differ. A bootstrap band has no width where all runs are on one side.

    Args:
      scores: one `[runs]` array per task.
      thresholds: `[k]` levels.
      units: of runs that are taken to be alike, as those of a seed in settings of one environment.
      confidence: nominal coverage at each level.

    Returns:
      Estimate, lower and upper end, each `[thresholds]`; the ends are None where runs are too few.
    """
    tasks = as_scores(scores)
    share = performance_profile(tasks, thresholds)
    if smallest(tasks) < MIN_RUNS:
        return share, None, None
    low, high = wilson(share, effective_runs(tasks) / dependence(units), confidence)
    return share, low, high


def effective_runs(scores: Scores) -> float:
    """k^2 / sum(1 / n_t): so many runs of one task tell as much as `n_t` of each of k tasks."""
    return len(scores) ** 2 / sum(1.0 / task.shape[-1] for task in scores)


def rate_interval(
    count: int, n: int, *, units: Units | None = None, confidence: float = 0.95
) -> Interval:
    """A share with Wilson's score interval, which does not shrink to nothing at 0 or n of n.

    Runs of a unit are taken to be alike.
    """
    if n == 0:
        raise ValueError("a share of no runs is undefined")
    share = count / n
    if n < MIN_RUNS:
        return Interval(share, None, None, n, confidence)
    low, high = wilson(share, n / dependence(units), confidence)
    return Interval(share, float(low), float(high), n, confidence)


def largest_rate(count: int, n: int) -> float:
    """The largest true rate that `count` of `n` runs leave open, at 95%: how much may be there unseen.

    Where none is seen 1 - 0.05^(1/n), at which none of n is seen in one study of twenty; else the upper end
    of Wilson's interval.
    """
    if count == 0:
        return float(1.0 - 0.05 ** (1.0 / n))
    return float(wilson(count / n, n, 0.95)[1])


def wilson(share: npt.ArrayLike, n: float, confidence: float) -> tuple[Array, Array]:
    """Ends of Wilson's score interval of shares of `n` runs; `n` need not be whole.

    Wilson, 1927: (p + z^2/2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).
    """
    share = np.asarray(share, dtype=np.float64)
    z = float(special.ndtri(0.5 + confidence / 2.0))
    centre = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low, high = (centre - half) / scale, (centre + half) / scale
    # exact where rounding would leave 5e-17 of nothing
    return np.where(share > 0.0, low, 0.0), np.where(share < 1.0, high, 1.0)
