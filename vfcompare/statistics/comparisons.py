"""Two agents against each other: differences by seed, tests, multiplicity."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from vfcompare.statistics.aggregates import mean
from vfcompare.statistics.intervals import MIN_RUNS, Interval
from vfcompare.statistics.scores import Array, Scores, as_scores
from vfcompare.statistics.units import Units, dependence, weighted

_AT_ONCE = 20_000
"""Sign patterns that are held in memory together."""


def differences(first: Scores, second: Scores) -> list[Array]:
    """`first - second` for each task; the seeds must correspond.

    Equal seeds of two agents share initial policy and environment stream, so what the seeds have
    in common cancels.
    """
    pairs = list(zip(as_scores(first), as_scores(second), strict=True))
    for x, y in pairs:
        if x.shape != y.shape:
            raise ValueError(
                f"paired scores differ in length: {x.shape[-1]} and {y.shape[-1]} seeds"
            )
    return [x - y for x, y in pairs]


def sign_flip_test(
    rng: np.random.Generator,
    difference: Scores,
    *,
    units: Units | None = None,
    reps: int = 10_000,
) -> float:
    """p-value of "the two agents are interchangeable within each pair".

    The statistic is the mean over tasks of the mean paired difference; its null distribution comes
    from exchanging the two agents of each pair at random, which flips signs (Fisher's
    randomisation test). All sign patterns are enumerated where there are at most `reps`; otherwise
    the observed pattern is counted as one of the draws, so that p is never zero. Unlike a
    bootstrap, it cannot be fooled by few seeds: three pairs never give less than 0.25.

    It is exact for agents that are interchangeable, and so for differences symmetric about zero.
    Agents with equal means but differently shaped scores are not interchangeable: what it then does
    is measured in `docs/statistics.md`.

    Args:
      rng: source of the flips.
      difference: one `[seeds]` array per task.
      units: of pairs of several tasks that are exchanged together, as those of a seed in settings of one
        environment; None where each is exchanged by itself.
      reps: number of random sign patterns.
    """
    parts = weighted(as_scores(difference), units)
    n = parts.size
    exact = n <= int(math.log2(reps))
    total = 2**n if exact else reps
    observed = abs(parts.sum())
    slack = 1e-12 * (1.0 + np.abs(parts).sum())
    extreme = 0
    for begin in range(0, total, _AT_ONCE):
        rows = min(_AT_ONCE, total - begin)
        if exact:
            codes = np.arange(begin, begin + rows)[:, None] >> np.arange(n)
            signs = 1.0 - 2.0 * (codes & 1)
        else:
            signs = rng.choice((-1.0, 1.0), size=(rows, n))
        extreme += int((np.abs(signs @ parts) >= observed - slack).sum())
    return extreme / total if exact else (extreme + 1) / (total + 1)


def sampling_error(p: float, *, reps: int) -> float:
    """Standard error of a p-value that was found by so many random draws: `√(p (1 - p) / reps)`."""
    return math.sqrt(p * (1.0 - p) / reps)


def probability_of_improvement(first: Scores, second: Scores) -> float:
    """P(X > Y) + P(X = Y) / 2 for independent runs, averaged over tasks: Mann-Whitney U / (n m).

    Agarwal et al., 2021; Mann & Whitney, 1947.
    """
    return float(np.mean([np.mean(_wins(x, y)) for x, y in _couples(first, second)]))


def paired_probability_of_improvement(difference: Scores) -> float:
    """Share of pairs whose difference is above zero, ties one half, averaged over tasks."""
    return float(mean([(task > 0) + 0.5 * (task == 0) for task in difference]))


def improvement_interval(
    first: Scores, second: Scores, *, units: Units | None = None, confidence: float = 0.95
) -> Interval:
    """Probability of improvement with its score interval, `improvement_ends`.

    A bootstrap has no width where one agent wins every comparison, however few they are, and so
    covers too little where the truth is near 0 or 1 (`docs/statistics.md`); this keeps its width.

    Args:
      first: one `[n]` array per task.
      second: one `[m]` array per task.
      units: of pairs that are taken to be alike, as those of a seed in settings of one environment.
      confidence: nominal coverage.
    """
    sizes = [(x.size, y.size) for x, y in _couples(first, second)]
    share = probability_of_improvement(first, second)
    n = min((min(pair) for pair in sizes), default=0)
    if n < MIN_RUNS:
        return Interval(share, None, None, n, confidence)
    return Interval(
        share, *improvement_ends(share, sizes, confidence, dependence(units)), n, confidence
    )


def improvement_ends(
    share: float, sizes: Sequence[tuple[int, int]], confidence: float, raised: float = 1.0
) -> tuple[float, float]:
    """Score interval of a Mann-Whitney share: all theta with |share - theta| <= z sqrt(V(theta)).

    V = theta (1 - theta) (1 + ((n + m) / 2 - 1) ((1 - theta) / (2 - theta) + theta / (1 + theta)))
    / (n m), the variance under exponential scores (Hanley & McNeil, 1982) with n and m averaged;
    for the mean over k tasks, the sum over tasks divided by k^2.

    Newcombe, 2006, "Confidence intervals for an effect size measure based on the Mann-Whitney
    statistic. Part 2", method 5.

    Args:
      share: mean over tasks of U / (n m).
      sizes: (n, m) of each task.
      confidence: nominal coverage.
      raised: what V is multiplied by, see `dependence`.
    """
    from scipy.optimize import brentq

    z = special.ndtri(0.5 + confidence / 2.0)

    def excess(theta: float) -> float:
        dependence = (1.0 - theta) / (2.0 - theta) + theta / (1.0 + theta)
        variance = (
            sum((1.0 + ((n + m) / 2.0 - 1.0) * dependence) / (n * m) for n, m in sizes)
            / len(sizes) ** 2
        )
        return float((share - theta) ** 2 - z * z * theta * (1.0 - theta) * variance * raised)

    # at 0 and 1 V is zero, so that a share of 0 or 1 would solve the equation itself
    edge = 1e-9
    low = brentq(excess, 0.0, min(share, 1.0 - edge)) if share > edge else 0.0
    high = brentq(excess, max(share, edge), 1.0) if share < 1.0 - edge else 1.0
    return float(low), float(high)


def rank_differences(first: Scores, second: Scores) -> list[Array]:
    """Paired differences of pooled mid-ranks, scaled so that their mean is P(improvement) - 1/2.

    With pooled mid-ranks R, U = sum R(x) - n (n + 1) / 2, and exchanging the two agents of a pair
    only exchanges ranks. So `sign_flip_test` of these tests P(improvement) = 1/2.
    """
    from scipy.stats import rankdata

    result = []
    for x, y in zip(as_scores(first), as_scores(second), strict=True):
        ranks = rankdata(np.concatenate([x, y]))
        result.append((ranks[: x.size] - ranks[x.size :]) / (2.0 * x.size))
    return result


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


def _couples(first: Scores, second: Scores) -> list[tuple[Array, Array]]:
    return list(zip(as_scores(first), as_scores(second), strict=True))


def _wins(x: Array, y: Array) -> Array:
    return np.asarray((x[:, None] > y) + 0.5 * (x[:, None] == y))
