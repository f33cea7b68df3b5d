"""How steadily a run learns and how alike runs are.

Chan, Fishman, Canny, Korattikara & Guadarrama, 2020, "Measuring the Reliability of RL Algorithms".
For a fixed policy, `interquartile_range` and `cvar` of its returns are their dispersion and risk
across rollouts.
"""

import math
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from vfcompare.statistics.scores import ROUNDING, Array, finite

STANDS_OUT = 2.5
"""Standard deviations of evaluation noise that a fall must exceed to be one."""

COLLAPSE_WINDOW = 3
"""Fewest evaluations in a mean that says whether a run collapsed: one or two are mostly noise."""
COLLAPSE_GAIN = 0.1
"""Smallest gain, as a share of the scale, that a run can lose again."""
COLLAPSE_NOISE = 2.5
"""How many usual changes from one evaluation to the next a fall must exceed."""


def detrend(steps: npt.ArrayLike, values: npt.ArrayLike) -> Array:
    """`[..., points - 1]`, differences per step: (y_k - y_{k-1}) / (t_k - t_{k-1}).

    Of two values at one step the difference has no rate: it is left out.
    """
    change, passed = np.diff(finite(values, "values"), axis=-1), np.diff(finite(steps, "steps"))
    return np.asarray(change[..., passed != 0] / passed[passed != 0])


def interquartile_range(values: Array) -> Array:
    """`[..., n] -> [...]`, 75th minus 25th percentile, linearly interpolated; of nothing NaN."""
    if values.shape[-1] == 0:
        return np.full(values.shape[:-1], np.nan)
    high, low = np.quantile(values, [0.75, 0.25], axis=-1)
    return np.asarray(high - low)


def within_run_variation(steps: npt.ArrayLike, values: npt.ArrayLike) -> Array:
    """IQR of the differences per step over the whole run: how unsteadily it learns.

    Chan et al., 2020, "Measuring the Reliability of RL Algorithms", `IqrWithinRuns` with one
    window. Evaluation noise counts as variation, and more so where evaluations are denser: compare
    equal grids.
    """
    return interquartile_range(detrend(steps, values))


def variation_beyond_noise(
    steps: npt.ArrayLike, values: npt.ArrayLike, split: npt.ArrayLike
) -> float:
    """`within_run_variation` without that of evaluation noise, `√(IQR(Δy)² - IQR(Δd)²)`.

    Of a policy that stays as it is `y` and `d` have the same distribution about its return and about 0, for
    they are half the sum and half the difference of what two halves of the episodes returned: what is below
    the root is then as often below 0 as above, and so is what is returned, `-√(IQR(Δd)² - IQR(Δy)²)`. What
    varies by less than the noise comes out too small on average, for the root of a noisy number is.

    Args:
      steps: `[points]`, environment steps.
      values: `[points]`, `y`, mean returns.
      split: `[points]`, `d`, half of what one half of the episodes returned more than the other.
    """
    square = within_run_variation(steps, values) ** 2 - within_run_variation(steps, split) ** 2
    return float(np.sign(square) * np.sqrt(np.abs(square)))


def across_run_spread(curves: npt.ArrayLike) -> Array:
    """`[..., runs, points] -> [..., points]`, IQR over runs at each evaluation point.

    Chan et al., 2020, `IqrAcrossRuns`, without their low-pass filter: it assumes equal spacing, and
    evaluation noise is part of what a user meets.
    """
    return interquartile_range(np.swapaxes(finite(curves, "curves"), -1, -2))


def drawdown(values: npt.ArrayLike) -> Array:
    """`[..., points]`, how far below the best so far: max_{s <= t} y_s - y_t, never negative.

    Evaluation noise counts as drawdown: the best so far of noisy evaluations rises by luck alone.
    """
    y = finite(values, "values")
    return np.maximum.accumulate(y, axis=-1) - y


def cvar(values: npt.ArrayLike, *, alpha: float = 0.05, tail: Literal["lower", "upper"]) -> float:
    """Conditional value at risk: mean of the `1 + int(alpha (n - 1))` most extreme of n values.

    Of values that all differ these are the ones at or beyond the linearly interpolated quantile, as
    in rl-reliability-metrics (Chan et al., 2020). That takes all values tied with the quantile, here
    only as many count as fill the tail: most drawdowns are 0, and would thin out the one fall there
    is. Which tail is the risk depends on the quantity: the lower one for scores and differences, the
    **upper** one for drawdown. The example configuration that ships with rl-reliability-metrics
    takes the lower tail of drawdown, which is 0 for any run that sets new records at 5% of its
    evaluations, however deep its falls. This is not copied.
    """
    y = np.sort(finite(values, "values"))
    count = _tail(y.size, alpha)
    return float(np.mean(y[:count] if tail == "lower" else y[-count:]))


def _tail(size: int, alpha: float) -> int:
    """How many of `size` values are the most extreme `alpha`: at least one."""
    return 1 + math.floor(alpha * (size - 1) + 1e-9)


def drawdown_risk(values: npt.ArrayLike, *, alpha: float = 0.05) -> float:
    """Mean depth of the worst alpha of a run's drawdowns: upper-tail CVaR; 0 if it never falls."""
    return cvar(drawdown(values), alpha=alpha, tail="upper")


def drawdown_beyond_noise(
    values: npt.ArrayLike, split: npt.ArrayLike, *, alpha: float = 0.05
) -> float:
    """`drawdown_risk`, with falls that half of the episodes choose and the other half measures.

    Episodes that make one policy the best so far and another the worst were lucky and unlucky: they
    overrate the fall, others do not. Both halves choose in turn, `y ± d`, and the mean of both is
    returned. With `σ² = mean d²`, which is the variance of `y`, a difference of two evaluations by half
    of the episodes has the variance `4 σ²`: a fall of less than `STANDS_OUT` times its root counts as
    none, for in a curve that rises these would be measured as rises. The mean is over the other
    evaluations (all but the best and the one it falls to), since where the halves agree by chance both
    overrate alike. Few episodes often tie: of equal bests and of equal falls the mean counts, not the first.
    A run that never falls has 0 but for rare mistakes, which may be below 0.

    Args:
      values: `[points]`, `y`, mean returns.
      split: `[points]`, `d`, half of what one half of the episodes returned more than the other.
      alpha: share of the evaluations, those with the deepest drawdowns.
    """
    y, d = finite(values, "values"), finite(split, "split")
    return float(np.mean([_measured_depth(y + side, y - side, alpha) for side in (d, -d)]))


def _measured_depth(chooses: Array, measures: Array, alpha: float) -> float:
    depth, same = drawdown(chooses), ROUNDING * (1.0 + np.abs(chooses).max())
    count = _tail(depth.size, alpha)
    last = np.sort(depth)[-count]
    fall = partial(_measured_fall, chooses, measures, same=same)
    deeper = [fall(end) for end in np.flatnonzero(depth > last + same).tolist()]
    tied = [fall(end) for end in np.flatnonzero(np.abs(depth - last) <= same).tolist()]
    return float((sum(deeper) + (count - len(deeper)) * np.mean(tied)) / count)


def _measured_fall(chooses: Array, measures: Array, end: int, *, same: float) -> float:
    """A fall to `end` from the best before it, the mean over all that are best within `same`."""
    before = chooses[: end + 1]
    if before.max() - before[end] <= same:
        return 0.0
    bests = np.flatnonzero(before >= before.max() - same).tolist()
    square = np.square((chooses - measures) / 2)
    found = []
    for best in bests:
        noise = 2.0 * np.sqrt(np.delete(square, [best, end]).mean())
        real = before[best] - chooses[end] > STANDS_OUT * noise + same
        found.append(measures[best] - measures[end] if real else 0.0)
    return float(np.mean(found))


def successive_means(values: npt.ArrayLike, window: int = COLLAPSE_WINDOW) -> Array:
    """`[points] -> [points - width + 1]`, means of `width` successive values.

    `width` is `window`, at least `COLLAPSE_WINDOW` and at most all there are.
    """
    y = finite(values, "values")
    width = min(max(window, COLLAPSE_WINDOW), y.size)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(y, width).mean(axis=-1))


def collapsed(
    values: npt.ArrayLike,
    *,
    floor: float,
    span: float,
    window: int = COLLAPSE_WINDOW,
) -> bool:
    """Whether a run learned something and then lost it.

    With means of `window` successive evaluations, `best` the highest and `end` the last of them:
    `best - floor >= 0.1 span`, `end - floor < (best - floor) / 2` and
    `best - end > 2.5 mean |y_k - y_{k-1}|`. A run that never learned has not collapsed: the highest of
    many noisy evaluations is high by luck, so that means are compared, and a fall must be larger than
    what is usual from one evaluation to the next. In Gaussian noise of deviation s the
    usual change is 2 s / sqrt(pi), and 2.5 of these are 3.5 deviations of a difference of means of
    three. What rises and falls in fewer than eight evaluations is all change, and rarely counts.

    Args:
      values: `[points]`, evaluations of one run.
      floor: score of a run that knows nothing (the random policy).
      span: size of the scale, optimal minus random.
      window: evaluations in a mean, at least `COLLAPSE_WINDOW`.
    """
    y = finite(values, "values")
    if y.size < 2:
        return False
    means = successive_means(y, window)
    best, end = means.max(), means[-1]
    gain, usual = best - floor, np.abs(np.diff(y)).mean()
    lost = end < floor + gain / 2 and best - end > COLLAPSE_NOISE * usual
    return bool(gain >= COLLAPSE_GAIN * span and lost)
