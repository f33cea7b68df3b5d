"""Numbers about many training runs, and how far they can be believed: estimates, intervals, tests.

Shapes: a *task* is one environment; `scores` of a study are a sequence with one `[..., runs]`
array per task, because tasks may have lost different numbers of runs. Leading axes are resamples.
A run is one training seed: average its episodes first, since episodes of one run are not
independent replications.

Nothing here accepts NaN. A run that failed must be given a score, or left out and counted, by the
caller.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Scores = Sequence[Array]
Statistic = Callable[[Scores], Array]

MIN_RUNS = 3
"""Fewer runs than this give no interval: with two, a bootstrap has three distinct resamples."""
FEW_RUNS = 10
"""Below this a nominal 95% interval covers 83-89% (5 normal runs), 65% (mean, a fifth collapse)."""


class Interval(NamedTuple):
    """An estimate with a percentile interval; `low` and `high` are None where runs are too few.

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
        """Whether the interval exists and lies wholly on one side of `value`."""
        return self.low is not None and self.high is not None and not self.low <= value <= self.high


def finite(values: npt.ArrayLike, name: str = "scores") -> Array:
    """`values` as floats, or a ValueError that says how many are not finite."""
    array = np.asarray(values, dtype=np.float64)
    bad = int(np.size(array) - np.isfinite(array).sum())
    if bad:
        raise ValueError(
            f"{name}: {bad} of {array.size} values are not finite; score or drop those runs first"
        )
    return array


def as_scores(scores: npt.ArrayLike | Scores) -> list[Array]:
    """One array per task from a `[runs, tasks]` matrix (as rliable) or a sequence of arrays."""
    if isinstance(scores, np.ndarray) and scores.ndim == 2:
        return [finite(column) for column in scores.T]
    return [finite(task) for task in scores]  # type: ignore[union-attr]


def mean(scores: Scores) -> Array:
    """Mean over tasks of the mean over runs: every task weighs the same."""
    return np.asarray(np.mean([np.mean(task, axis=-1) for task in scores], axis=0))


def median(scores: Scores) -> Array:
    """Median over tasks of the mean over runs.

    Agarwal et al., 2021, "Deep RL at the Edge of the Statistical Precipice" (rliable
    `aggregate_median`).
    """
    return np.asarray(np.median([np.mean(task, axis=-1) for task in scores], axis=0))


def iqm(scores: Scores) -> Array:
    """Interquartile mean: mean of what is left after cutting `int(n / 4)` values from each end.

    All runs of all tasks are pooled, as in rliable (`scipy.stats.trim_mean(x, 0.25, axis=None)`).
    There are no fractional weights, so the share kept depends on n: 3 -> 100%, 5 -> 60%, 8 -> 50%,
    10 -> 60%, 20 -> 50%. It ignores up to a quarter of collapsed runs by design: print the
    failures next to it.
    """
    return np.asarray(trim_mean(np.concatenate([np.asarray(task) for task in scores], axis=-1)))


def trim_mean(values: Array, share: float = 0.25) -> Array:
    """`[..., n] -> [...]`, mean without the `int(share * n)` smallest and largest (as scipy)."""
    n = values.shape[-1]
    cut = int(share * n)
    if cut == 0:
        return np.asarray(np.mean(values, axis=-1))
    parted = np.partition(values, (cut, n - cut - 1), axis=-1)
    return np.asarray(np.mean(parted[..., cut : n - cut], axis=-1))


def optimality_gap(scores: Scores, *, target: float = 1.0) -> Array:
    """`target - mean(min(x, target))` over the pooled runs: what is missing, lower is better."""
    pooled = np.concatenate([np.asarray(task) for task in scores], axis=-1)
    return np.asarray(target - np.mean(np.minimum(pooled, target), axis=-1))


def performance_profile(scores: Scores, thresholds: npt.ArrayLike) -> Array:
    """`[..., thresholds]`, share of runs with a score above each threshold (strictly, as rliable).

    Mean over tasks of the share within the task; equal to the pooled share where tasks have equal
    runs.
    """
    tau = np.asarray(thresholds, dtype=np.float64)
    shares = [np.mean(np.asarray(task)[..., None] > tau, axis=-2) for task in scores]
    return np.asarray(np.mean(shares, axis=0))


def task_profile(scores: Scores, thresholds: npt.ArrayLike) -> Array:
    """`[..., thresholds]`, share of tasks whose mean score is above each threshold."""
    tau = np.asarray(thresholds, dtype=np.float64)
    above = [np.mean(task, axis=-1)[..., None] > tau for task in scores]
    return np.asarray(np.mean(above, axis=0))


def resample(rng: np.random.Generator, scores: Scores, *, reps: int) -> list[Array]:
    """One `[reps, runs]` array per task: runs drawn with replacement within their task."""
    return [
        np.asarray(task)[rng.integers(task.shape[-1], size=(reps, task.shape[-1]))]
        for task in scores
    ]


def percentile_interval(
    estimate: float, replicates: Array, *, n: int, confidence: float = 0.95
) -> Interval:
    """Percentile interval from the replicates of a statistic; none where `n < MIN_RUNS`.

    Quantiles are order statistics (no interpolation), so that infinite replicates, a median that
    some resamples never reach, are allowed.
    """
    if n < MIN_RUNS:
        return Interval(float(estimate), None, None, n, confidence)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(replicates, [tail, 1.0 - tail], method="inverted_cdf")
    return Interval(float(estimate), float(low), float(high), n, confidence)


def bootstrap(
    rng: np.random.Generator,
    scores: Scores,
    statistic: Statistic = iqm,
    *,
    reps: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Stratified bootstrap percentile interval of an aggregate (Agarwal et al., 2021).

    Args:
      rng: source of the resamples.
      scores: one `[runs]` array per task.
      statistic: maps `[..., runs]` arrays, one per task, to `[...]`.
      reps: number of resamples.
      confidence: nominal coverage.
    """
    tasks = as_scores(scores)
    n = smallest(tasks)
    estimate = float(statistic(tasks))
    if n < MIN_RUNS:
        return Interval(estimate, None, None, n, confidence)
    replicates = np.asarray(statistic(resample(rng, tasks, reps=reps)))
    return percentile_interval(estimate, replicates, n=n, confidence=confidence)


def smallest(scores: Scores) -> int:
    """The number of runs of the task that has fewest; 0 where there is no task."""
    return min((task.shape[-1] for task in scores), default=0)


def curve_interval(
    rng: np.random.Generator, curves: npt.ArrayLike, *, reps: int = 2000, confidence: float = 0.95
) -> tuple[Array, Array | None, Array | None]:
    """IQM over runs at every evaluation point with a pointwise bootstrap band.

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
    tail = (1.0 - confidence) / 2.0
    ends = np.stack(
        [
            np.quantile(trim_mean(point[draws]), [tail, 1.0 - tail], method="inverted_cdf")
            for point in values
        ]
    )
    return estimate, ends[:, 0], ends[:, 1]


def paired_difference(
    rng: np.random.Generator,
    first: Scores,
    second: Scores,
    *,
    reps: int = 10_000,
    confidence: float = 0.95,
) -> Interval:
    """Mean over tasks of the mean of `first - second`; seeds are resampled, pairs kept.

    Equal seeds of two agents share initial policy and environment stream, so what the seeds have
    in common cancels. The mean is used, not the IQM, so that rare collapses count.

    Args:
      rng: source of the resamples.
      first: one `[seeds]` array per task.
      second: the same seeds in the same order.
      reps: number of resamples; more than elsewhere because Holm's intervals reach far into the
        tails.
      confidence: nominal coverage.
    """
    return bootstrap(rng, differences(first, second), mean, reps=reps, confidence=confidence)


def differences(first: Scores, second: Scores) -> list[Array]:
    """`first - second` for each task; the seeds must correspond."""
    pairs = list(zip(as_scores(first), as_scores(second), strict=True))
    for x, y in pairs:
        if x.shape != y.shape:
            raise ValueError(
                f"paired scores differ in length: {x.shape[-1]} and {y.shape[-1]} seeds"
            )
    return [x - y for x, y in pairs]


def sign_flip_test(rng: np.random.Generator, difference: Scores, *, reps: int = 10_000) -> float:
    """Two-sided p-value of "the two agents are interchangeable within each pair".

    The statistic is the mean over tasks of the mean paired difference; its null distribution comes
    from exchanging the two agents of each pair at random, which flips signs (Fisher's
    randomisation test). All sign patterns are enumerated where there are at most `reps`; otherwise
    the observed pattern is counted as one of the draws, so that p is never zero. Unlike a
    bootstrap, it cannot be fooled by few
    seeds: three pairs never give less than 0.25.

    Args:
      rng: source of the flips.
      difference: one `[seeds]` array per task.
      reps: number of random sign patterns.
    """
    tasks = as_scores(difference)
    weighted = np.concatenate([task / (task.size * len(tasks)) for task in tasks])
    observed = abs(weighted.sum())
    n = weighted.size
    exact = n <= int(math.log2(reps))
    if exact:
        codes = np.arange(2**n)[:, None] >> np.arange(n)
        signs = 1.0 - 2.0 * (codes & 1)
    else:
        signs = rng.choice((-1.0, 1.0), size=(reps, n))
    slack = 1e-12 * (1.0 + np.abs(weighted).sum())
    extreme = int((np.abs(signs @ weighted) >= observed - slack).sum())
    return extreme / 2**n if exact else (extreme + 1) / (reps + 1)


def probability_of_improvement(first: Scores, second: Scores) -> float:
    """P(X > Y) + P(X = Y) / 2 for independent runs, averaged over tasks: Mann-Whitney U / (n m).

    Agarwal et al., 2021; Mann & Whitney, 1947.
    """
    return float(np.mean([np.mean(_wins(x, y)) for x, y in _couples(first, second)]))


def paired_probability_of_improvement(first: Scores, second: Scores) -> float:
    """Share of seeds whose `first` beats its own `second`, ties one half, averaged over tasks."""
    return float(mean([_score_sign(task) for task in differences(first, second)]))


def improvement_interval(
    rng: np.random.Generator,
    first: Scores,
    second: Scores,
    *,
    paired: bool = False,
    reps: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Probability of improvement with a stratified bootstrap interval.

    Args:
      rng: source of the resamples.
      first: one `[n]` array per task.
      second: one `[m]` array per task.
      paired: compare seed with seed and resample seeds; else all with all, and resample each agent.
      reps: number of resamples.
      confidence: nominal coverage.
    """
    if paired:
        signs = [_score_sign(task) for task in differences(first, second)]
        return bootstrap(rng, signs, mean, reps=reps, confidence=confidence)
    couples = _couples(first, second)
    n = min((min(x.size, y.size) for x, y in couples), default=0)
    replicates = np.mean([_win_replicates(rng, x, y, reps) for x, y in couples], axis=0)
    estimate = probability_of_improvement(first, second)
    return percentile_interval(estimate, replicates, n=n, confidence=confidence)


def rank_differences(first: Scores, second: Scores) -> list[Array]:
    """Paired differences of pooled mid-ranks, scaled so that their mean is P(improvement) - 1/2.

    With pooled mid-ranks R, U = sum R(x) - n (n + 1) / 2, and exchanging the two agents of a pair
    only exchanges ranks. So `sign_flip_test` of these tests P(improvement) = 1/2.
    """
    result = []
    for x, y in zip(as_scores(first), as_scores(second), strict=True):
        ranks = stats.rankdata(np.concatenate([x, y]))
        result.append((ranks[: x.size] - ranks[x.size :]) / (2.0 * x.size))
    return result


def _couples(first: Scores, second: Scores) -> list[tuple[Array, Array]]:
    return list(zip(as_scores(first), as_scores(second), strict=True))


def _wins(x: Array, y: Array) -> Array:
    return np.asarray((x[:, None] > y) + 0.5 * (x[:, None] == y))


def _score_sign(difference: Array) -> Array:
    return np.asarray((difference > 0) + 0.5 * (difference == 0))


def _win_replicates(rng: np.random.Generator, x: Array, y: Array, reps: int) -> Array:
    weight_x = rng.multinomial(x.size, np.full(x.size, 1.0 / x.size), size=reps)
    weight_y = rng.multinomial(y.size, np.full(y.size, 1.0 / y.size), size=reps)
    return np.asarray(((weight_x @ _wins(x, y)) * weight_y).sum(axis=-1) / (x.size * y.size))


class Decision(NamedTuple):
    """What Holm's procedure says about one hypothesis.

    Attributes:
      p_adjusted: step-down adjusted p-value.
      rejected: whether it is at most alpha.
      confidence: level of the interval that belongs to the step at which it was judged.
    """

    p_adjusted: float
    rejected: bool
    confidence: float


def holm(p_values: Sequence[float], *, alpha: float = 0.05) -> list[Decision]:
    """Holm's step-down correction: the k-th smallest of m p-values against alpha / (m - k + 1).

    Holm, 1979. Adjusted p is the running maximum of `(m - k + 1) p_(k)`, at most 1. `confidence` is
    `1 - alpha / (m - k + 1)` at the step where the hypothesis was judged, and for those after the
    first acceptance, the level of that acceptance. The signs so declared are all right with
    probability 1 - alpha; the intervals are not simultaneous 95% intervals.
    """
    m = len(p_values)
    order = sorted(range(m), key=lambda i: p_values[i])
    decisions: dict[int, Decision] = {}
    running, confidence, open_ = 0.0, 1.0 - alpha, True
    for k, i in enumerate(order):
        running = min(1.0, max(running, (m - k) * p_values[i]))
        if open_:
            confidence = 1.0 - alpha / (m - k)
        open_ = open_ and running <= alpha
        decisions[i] = Decision(running, open_, confidence)
    return [decisions[i] for i in range(m)]


def area_under_curve(
    steps: npt.ArrayLike, values: npt.ArrayLike, start: float, end: float
) -> float:
    """Mean height of a learning curve over `[start, end]`: trapezoid area over the range of steps.

    The curve is linear between evaluations. It must cover the range: there is no extrapolation.
    """
    x, y = finite(steps, "steps"), finite(values, "values")
    if end <= start:
        raise ValueError(f"empty range of steps: {start} to {end}")
    if x.size == 0 or x[0] > start or x[-1] < end:
        covered = "nothing" if x.size == 0 else f"{x[0]:g} to {x[-1]:g}"
        raise ValueError(f"the curve covers {covered}, not {start:g} to {end:g}")
    inside = (x > start) & (x < end)
    knots = np.concatenate([[start], x[inside], [end]])
    heights = np.concatenate([[np.interp(start, x, y)], y[inside], [np.interp(end, x, y)]])
    return float(np.trapezoid(heights, knots) / (end - start))


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
      stderr: `[k]`, Greenwood's standard error.
    """

    steps: Array
    surviving: Array
    stderr: Array


def kaplan_meier(steps: npt.ArrayLike, reached: npt.ArrayLike) -> Survival:
    """S(t) = prod over arrivals t_j <= t of (1 - d_j / n_j); censored runs just leave the risk set.

    Kaplan & Meier, 1958; Greenwood, 1926: Var S = S^2 sum d_j / (n_j (n_j - d_j)).

    Args:
      steps: `[runs]`, step of arrival or of censoring.
      reached: `[runs]`, whether it arrived.
    """
    time, event = finite(steps, "steps"), np.asarray(reached, dtype=bool)
    grid = np.unique(time[event])
    at_risk = (time >= grid[:, None]).sum(axis=1)
    arrived = ((time == grid[:, None]) & event).sum(axis=1)
    surviving = np.cumprod(1.0 - arrived / at_risk)
    left = np.maximum(at_risk - arrived, 1)
    stderr = surviving * np.sqrt(
        np.cumsum(np.where(at_risk > arrived, arrived / (at_risk * left), 0.0))
    )
    return Survival(grid, surviving, stderr)


def survival_median(survival: Survival) -> float:
    """First step at which at most half of the runs are still below; infinite if there is none."""
    below = np.flatnonzero(survival.surviving <= 0.5 + 1e-12)
    return float(survival.steps[below[0]]) if below.size else math.inf


def restricted_mean(survival: Survival, horizon: float) -> float:
    """Mean steps spent below the threshold, up to `horizon`: the area under S on [0, horizon].

    Royston & Parmar, 2013. Defined also when most runs never arrive, where a median is not.
    """
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
    keep = grid < horizon
    widths = np.diff(np.concatenate([[0.0], grid[keep], [horizon]]))
    areas = widths[0] + surviving[:, keep] @ widths[1:]
    return (
        percentile_interval(middle, medians, n=n, confidence=confidence),
        percentile_interval(area, areas, n=n, confidence=confidence),
    )


def _survival_replicates(
    rng: np.random.Generator, time: Array, event: npt.NDArray[np.bool_], reps: int
) -> tuple[Array, Array]:
    grid = np.unique(time[event])
    weights = rng.multinomial(time.size, np.full(time.size, 1.0 / time.size), size=reps)
    at_risk = weights @ (time[:, None] >= grid)
    arrived = weights @ ((time[:, None] == grid) & event[:, None])
    return grid, np.cumprod(1.0 - arrived / np.maximum(at_risk, 1), axis=1)


def detrend(steps: npt.ArrayLike, values: npt.ArrayLike) -> Array:
    """`[..., points - 1]`, differences per step: (y_k - y_{k-1}) / (t_k - t_{k-1})."""
    return np.diff(finite(values, "values"), axis=-1) / np.diff(finite(steps, "steps"))


def interquartile_range(values: Array) -> Array:
    """`[..., n] -> [...]`, 75th minus 25th percentile, linearly interpolated."""
    high, low = np.quantile(values, [0.75, 0.25], axis=-1)
    return np.asarray(high - low)


def within_run_variation(steps: npt.ArrayLike, values: npt.ArrayLike) -> Array:
    """IQR of the differences per step over the whole run: how unsteadily it learns.

    Chan et al., 2020, "Measuring the Reliability of RL Algorithms", `IqrWithinRuns` with one
    window. Evaluation noise counts as variation, and more so where evaluations are denser: compare
    equal grids.
    """
    return interquartile_range(detrend(steps, values))


def windowed_variation(
    steps: npt.ArrayLike, values: npt.ArrayLike, *, window: float, at: npt.ArrayLike
) -> Array:
    """`[..., at]`, `within_run_variation` in the trailing windows `[t - window + 1, t]`."""
    change, stamp = detrend(steps, values), np.asarray(steps, dtype=np.float64)[1:]
    ends = np.asarray(at, dtype=np.float64)
    picks = [change[..., (stamp >= end - window + 1) & (stamp <= end)] for end in ends]
    return np.stack([interquartile_range(pick) for pick in picks], axis=-1)


def across_run_spread(curves: npt.ArrayLike) -> Array:
    """`[..., runs, points] -> [..., points]`, IQR over runs at each evaluation point.

    Chan et al., 2020, `IqrAcrossRuns`, without their low-pass filter: it assumes equal spacing, and
    evaluation noise is part of what a user meets.
    """
    return interquartile_range(np.swapaxes(finite(curves, "curves"), -1, -2))


def drawdown(values: npt.ArrayLike) -> Array:
    """`[..., points]`, how far below the best so far: max_{s <= t} y_s - y_t, never negative."""
    y = finite(values, "values")
    return np.maximum.accumulate(y, axis=-1) - y


def cvar(values: npt.ArrayLike, *, alpha: float = 0.05, tail: Literal["lower", "upper"]) -> float:
    """Conditional value at risk: mean of the values at or beyond the alpha-quantile of one tail.

    `lower` is the mean of values <= the alpha-quantile, `upper` of values >= the (1 -
    alpha)-quantile; quantiles are linearly interpolated. Which tail is the risk depends on the
    quantity: the lower one for scores and differences, the **upper** one for drawdown. The example
    configuration that ships with rl-reliability-metrics takes the lower tail of drawdown, which is
    0 for any run that sets new records at 5% of its evaluations, however deep its falls. This is
    not copied.
    """
    y = finite(values, "values")
    if tail == "lower":
        return float(np.mean(y[y <= np.quantile(y, alpha)]))
    return float(np.mean(y[y >= np.quantile(y, 1.0 - alpha)]))


def drawdown_risk(values: npt.ArrayLike, *, alpha: float = 0.05) -> float:
    """Mean depth of the worst alpha of a run's drawdowns: upper-tail CVaR; 0 if it never falls."""
    return cvar(drawdown(values), alpha=alpha, tail="upper")


def short_term_risk(steps: npt.ArrayLike, values: npt.ArrayLike, *, alpha: float = 0.05) -> float:
    """Mean of the worst alpha of a run's changes per step: lower-tail CVaR (Chan et al., 2020)."""
    return cvar(detrend(steps, values), alpha=alpha, tail="lower")


def collapsed(
    best: float,
    final: float,
    *,
    floor: float,
    span: float,
    share: float = 0.5,
    learned: float = 0.1,
) -> bool:
    """Whether a run learned something and then lost it.

    `best - floor >= learned * span` and `final < floor + share * (best - floor)`: the run's best
    evaluation was at least a tenth of the span above the floor, and its final score gave back more
    than half of that. A run that never learned has not collapsed.

    Args:
      best: highest evaluation of the run.
      final: final score of the run.
      floor: score of a run that knows nothing (the random policy).
      span: size of the scale, optimal minus random.
      share: what must remain of the gain.
      learned: smallest gain, as a share of the span, that can be lost.
    """
    gain = best - floor
    return bool(gain >= learned * span and final < floor + share * gain)


def rate_interval(count: int, n: int, *, confidence: float = 0.95) -> Interval:
    """A share with Wilson's score interval, which does not shrink to nothing at 0 or n of n.

    Wilson, 1927: (p + z^2/2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n).
    """
    if n == 0:
        raise ValueError("a share of no runs is undefined")
    p = count / n
    if n < MIN_RUNS:
        return Interval(p, None, None, n, confidence)
    z = float(stats.norm.ppf(0.5 + confidence / 2.0))
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)
    return Interval(p, max(0.0, low), min(1.0, high), n, confidence)


class Sensitivity(NamedTuple):
    """Adkins, Bowling & White, 2024; each field is `[agents]`."""

    per_env_tuned: Array
    cross_env_tuned: Array
    sensitivity: Array


def sensitivity(scores: npt.ArrayLike) -> Sensitivity:
    """Phi = mean_e max_h score - max_h mean_e score: what tuning per environment buys.

    The maximum over noisy means is biased upwards: rerun the winners on fresh seeds.

    Args:
      scores: `[agents, envs, settings]`, normalised.
    """
    values = finite(scores)
    per_env = values.max(axis=-1).mean(axis=-1)
    cross_env = values.mean(axis=-2).max(axis=-1)
    return Sensitivity(per_env, cross_env, per_env - cross_env)


def normalise(values: npt.ArrayLike, low: float, high: float) -> Array:
    """`(x - low) / (high - low)`; references are fixed, never extremes of the compared runs."""
    if not high > low:
        raise ValueError(f"the optimal return {high:g} is not above the random return {low:g}")
    return np.asarray((np.asarray(values, dtype=np.float64) - low) / (high - low))
