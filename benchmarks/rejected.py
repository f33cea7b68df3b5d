"""Intervals that were tried and not taken: what they cover is measured beside the report's own."""

from typing import Literal, get_args

import numpy as np
from scipy import stats

from vfcompare import statistics as s
from vfcompare.statistics import Array, Interval

Method = Literal["percentile", "bca"]
METHODS: tuple[Method, ...] = get_args(Method)


def bootstrap(
    rng: np.random.Generator,
    scores: s.Scores,
    statistic: s.Statistic,
    *,
    reps: int,
    method: Method,
    confidence: float = 0.95,
) -> Interval:
    """What `vfcompare.statistics.bootstrap` would be without its expanded percentiles.

    Args:
      rng: source of the resamples.
      scores: one `[runs]` array per task.
      statistic: maps `[..., runs]` arrays, one per task, to `[...]`, finite.
      reps: number of resamples.
      method: `percentile` leaves out `(1 - confidence) / 2` at each end; `bca` is bias-corrected and
        accelerated (`bca_levels`).
      confidence: nominal coverage.
    """
    tasks = s.as_scores(scores)
    estimate = float(statistic(tasks))
    replicates = np.asarray(statistic(s.resample(rng, tasks, reps=reps)))
    tail = (1.0 - confidence) / 2.0
    levels = (tail, 1.0 - tail)
    if method == "bca":
        levels = bca_levels(estimate, replicates, jackknife(tasks, statistic), confidence)
    low, high = np.quantile(replicates, levels, method="inverted_cdf")
    return Interval(estimate, float(low), float(high), s.smallest(tasks), confidence)


def jackknife(scores: s.Scores, statistic: s.Statistic) -> list[Array]:
    """One `[runs]` array per task: the statistic without that run, everything else kept."""
    result = []
    for i, task in enumerate(scores):
        n = task.shape[-1]
        left = task[np.nonzero(~np.eye(n, dtype=bool))[1].reshape(n, n - 1)]
        others = [np.broadcast_to(other, (n, other.shape[-1])) for other in scores]
        result.append(np.asarray(statistic([*others[:i], left, *others[i + 1 :]])))
    return result


def bca_levels(
    estimate: float, replicates: Array, left_out: s.Scores, confidence: float = 0.95
) -> tuple[float, float]:
    """Quantiles of the replicates between which the BCa interval lies.

    Phi(z0 + (z0 + z) / (1 - a (z0 + z))) for z = -+ the normal quantile; z0 is the normal quantile
    of the share of replicates below the estimate, ties one half, and the acceleration a =
    sum l^3 / (6 (sum l^2)^1.5), with l = (n - 1) (mean - leave-one-out) / n of each task.

    Efron, 1987; Efron & Tibshirani, 1993, 14.3 and 22.5.
    """
    share = np.mean(replicates < estimate) + 0.5 * np.mean(replicates == estimate)
    edge = 0.5 / len(replicates)
    bias = stats.norm.ppf(np.clip(share, edge, 1.0 - edge))
    influence = np.concatenate([(1.0 - 1.0 / x.size) * (x.mean() - x) for x in left_out])
    spread = np.sum(influence**2)
    acceleration = np.sum(influence**3) / (6.0 * spread**1.5) if spread > 0 else 0.0
    shifted = bias + stats.norm.ppf([0.5 - confidence / 2.0, 0.5 + confidence / 2.0])
    low, high = stats.norm.cdf(bias + shifted / (1.0 - acceleration * shifted))
    return float(low), float(high)


def improvement(
    rng: np.random.Generator, first: s.Scores, second: s.Scores, *, reps: int
) -> Interval:
    """Probability of improvement with rliable's stratified bootstrap, with expanded percentiles."""
    wins = []
    for x, y in zip(s.as_scores(first), s.as_scores(second), strict=True):
        drawn = [
            rng.multinomial(task.size, np.full(task.size, 1 / task.size), size=reps)
            for task in (x, y)
        ]
        won = np.sign(x[:, None] - y) / 2.0 + 0.5
        wins.append(np.sum(drawn[0] @ won * drawn[1], axis=-1) / won.size)
    n = min(s.smallest(first), s.smallest(second))
    share = s.probability_of_improvement(first, second)
    return s.percentile_interval(share, np.mean(wins, axis=0), n=n)
