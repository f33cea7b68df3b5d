"""One number for many runs of many tasks, and the distribution behind it."""

import numpy as np
import numpy.typing as npt

from vfcompare.statistics.scores import Array, Scores


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
    10 -> 60%, 20 -> 50%. Where tasks have unequally many runs, each weighs 1 / n_t, so that every task
    weighs the same, and the same share of the weight is cut (`trim_mean`). It ignores up to a quarter of
    collapsed runs by design: print the failures next to it.
    """
    return trim_mean(*_pooled(scores))


def _pooled(scores: Scores) -> tuple[Array, Array | None]:
    """`[..., n]`, runs of all tasks, and the weight 1 / n_t of each; None where all weigh the same."""
    runs = [np.shape(task)[-1] for task in scores]
    pooled = np.concatenate([np.asarray(task) for task in scores], axis=-1)
    if len(set(runs)) == 1:
        return pooled, None
    return pooled, np.concatenate([np.full(n, 1.0 / n) for n in runs])


def trim_mean(values: Array, weights: Array | None = None, *, share: float = 0.25) -> Array:
    """`[..., n] -> [...]`, mean without the `int(share * n)` smallest and largest (as scipy).

    With `weights` `[n]` it is the mean over the ranks between `int(share * n) / n` of their sum and as
    much from the other end: a run on the edge counts with what of its weight lies inside.
    """
    n = values.shape[-1]
    cut = int(share * n)
    if weights is not None:
        return _weighted_trim_mean(values, weights, cut / n)
    if cut == 0:
        return np.asarray(np.mean(values, axis=-1))
    parted = np.partition(values, (cut, n - cut - 1), axis=-1)
    return np.asarray(np.mean(parted[..., cut : n - cut], axis=-1))


def _weighted_trim_mean(values: Array, weights: Array, cut: float) -> Array:
    order = np.argsort(values, axis=-1, kind="stable")
    mass = (weights / weights.sum())[order]
    above = np.cumsum(mass, axis=-1)
    kept = np.clip(above, cut, 1.0 - cut) - np.clip(above - mass, cut, 1.0 - cut)
    ranked = np.take_along_axis(values, order, axis=-1)
    return np.asarray(np.sum(ranked * kept, axis=-1) / np.sum(kept, axis=-1))


def optimality_gap(scores: Scores, *, target: float = 1.0) -> Array:
    """`target - mean(min(x, target))` over the pooled runs: what is missing, lower is better.

    As in `iqm`, each run weighs 1 / n_t where tasks have unequally many.
    """
    pooled, weights = _pooled(scores)
    return np.asarray(target - np.average(np.minimum(pooled, target), axis=-1, weights=weights))


def performance_profile(scores: Scores, thresholds: npt.ArrayLike) -> Array:
    """`[..., thresholds]`, share of runs with a score above each threshold (strictly, as rliable).

    Mean over tasks of the share within the task; equal to the pooled share where tasks have equal
    runs.
    """
    tau = np.asarray(thresholds, dtype=np.float64)
    shares = [np.mean(np.asarray(task)[..., None] > tau, axis=-2) for task in scores]
    return np.asarray(np.mean(shares, axis=0))
