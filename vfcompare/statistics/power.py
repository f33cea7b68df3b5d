"""What a contrast can find: power, the smallest difference found, seeds needed.

The report tests paired differences with `sign_flip_test`. Agents without common seeds are paired in
order of their seeds, so the same formulas hold with the spread of `independent_spread`.
"""

import math

import numpy as np
from scipy import special

from vfcompare.statistics.comparisons import differences
from vfcompare.statistics.intervals import MIN_RUNS
from vfcompare.statistics.scores import Scores, as_scores

POWER = 0.8
"""What is usually wanted."""
MOST_PAIRS = 1_000_000
"""Where the search for the pairs needed gives up."""
_ENUMERABLE = 40
"""Beyond these pairs the smallest p-value is far below any alpha."""


def paired_spread(first: Scores, second: Scores) -> float:
    """Standard deviation of `first - second` within a task, root mean square over tasks."""
    return _pooled(differences(first, second))


def independent_spread(first: Scores, second: Scores) -> float:
    """The same for agents whose seeds have nothing in common: sqrt(var x + var y).

    The square of `paired_spread / independent_spread` is the share of seeds that pairing leaves to
    be run: one minus the correlation over seeds, where the agents vary equally.
    """
    return math.hypot(_pooled(as_scores(first)), _pooled(as_scores(second)))


def attainable_level(pairs: int, alpha: float = 0.05, *, reps: int | None = None) -> float:
    """The largest p-value at most `alpha` of a two-sided sign-flip test: a multiple of 2 / 2^pairs.

    0 where there is none: five pairs cannot reject at 5%, whatever they show.

    Args:
      pairs: pairs of seeds over all tasks.
      alpha: level.
      reps: the random sign patterns of `sign_flip_test`; where these are fewer than all patterns, p is a
        multiple of 1 / (reps + 1).
    """
    if reps is not None and pairs > int(math.log2(reps)):
        return math.floor(alpha * (reps + 1) + 1e-9) / (reps + 1)
    if pairs > _ENUMERABLE:
        return alpha
    patterns = 2.0**pairs
    return 2.0 * math.floor(alpha * patterns / 2.0 + 1e-9) / patterns


def pairs_to_reject(alpha: float = 0.05) -> int:
    """The fewest pairs whose smallest p-value, 2 / 2^pairs, is at most `alpha`."""
    return 1 + math.ceil(-math.log2(alpha) - 1e-9)


def power(
    effect: float, spread: float, pairs: int, *, alpha: float = 0.05, tasks: int = 1
) -> float:
    """Probability that a true mean difference is found by a two-sided sign-flip test and an interval.

    That of Student's paired test at the level that the sign-flip test can attain, P(|T| > t) with T
    noncentral, `pairs - 1` degrees and noncentrality `sqrt(pairs) effect / spread`: the two agree
    for normal differences but for a few points below eight pairs (`docs/statistics.md`). With several
    tasks t is the larger of that and of the interval's, which has the degrees of one task, see
    `expanded_tail`.

    Args:
      effect: true mean difference.
      spread: standard deviation of the differences within a task.
      pairs: pairs of seeds over all tasks.
      alpha: level; divide it by the number of contrasts for the first step of Holm's procedure.
      tasks: how many there are, each with as many pairs.
    """
    from scipy.stats import nct

    level = _level(pairs, alpha, tasks)
    if level == 0.0:
        return 0.0
    if spread == 0.0:
        # All differences are the same: the test has its smallest p-value, or, of zeros, its largest.
        return float(effect != 0.0)
    threshold = special.stdtrit(pairs - 1, 1.0 - level / 2.0)
    if tasks > 1:
        threshold = max(threshold, special.stdtrit(pairs // tasks - 1, 1.0 - alpha / 2.0))
    shift = math.sqrt(pairs) * abs(effect) / spread
    own = nct.sf(threshold, pairs - 1, shift)
    other = nct.cdf(-threshold, pairs - 1, shift)
    # Far out, where these are 1 and 0, SciPy has NaN.
    return float(np.nan_to_num(own, nan=1.0) + np.nan_to_num(other))


def _level(pairs: int, alpha: float, tasks: int) -> float:
    """That of the sign-flip test, see `attainable_level`, and zero where too few pairs have an interval."""
    return attainable_level(pairs, alpha) if pairs >= MIN_RUNS * tasks else 0.0


def minimum_detectable_effect(
    spread: float, pairs: int, *, share: float = POWER, alpha: float = 0.05, tasks: int = 1
) -> float:
    """The true mean difference that is found with probability `share`; infinite where none is.

    Args:
      spread: standard deviation of the differences within a task.
      pairs: pairs of seeds over all tasks.
      share: wanted power.
      alpha: level, as in `power`.
      tasks: as in `power`.
    """
    from scipy.optimize import brentq

    _check(share, alpha)

    def found(effect: float) -> float:
        return power(effect, 1.0, pairs, alpha=alpha, tasks=tasks)

    if _level(pairs, alpha, tasks) == 0.0:
        return math.inf
    high = 1.0
    while found(high) < share:
        high *= 2.0
    root = brentq(lambda x: found(x) - share, 0.0, high)
    return float(root * spread)


def pairs_needed(
    effect: float, spread: float, *, share: float = POWER, alpha: float = 0.05, tasks: int = 1
) -> int | None:
    """The fewest pairs that find a true mean difference with probability `share`.

    Args:
      effect: true mean difference, not zero.
      spread: standard deviation of the differences within a task.
      share: wanted power.
      alpha: level, as in `power`.
      tasks: as in `power`.

    Returns:
      Pairs over all tasks, or None where `MOST_PAIRS` are not enough.
    """
    _check(share, alpha)
    low, high = 1, 2
    while power(effect, spread, high, alpha=alpha, tasks=tasks) < share:
        if high > MOST_PAIRS:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if power(effect, spread, middle, alpha=alpha, tasks=tasks) < share:
            low = middle
        else:
            high = middle
    return high


def _check(share: float, alpha: float) -> None:
    if not alpha < share < 1.0:
        raise ValueError(f"power must be between alpha ({alpha:g}) and 1, not {share:g}")


def _pooled(tasks: Scores) -> float:
    return math.sqrt(np.mean([np.var(task, ddof=1) for task in tasks]))
