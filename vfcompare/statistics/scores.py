"""Scores of runs: their shape, their scale, and what a run that failed is worth."""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Scores = Sequence[Array]
Statistic = Callable[[Scores], Array]
FailureRule = Literal["floor", "last", "drop"]


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


def smallest(scores: Scores) -> int:
    """The number of runs of the task that has fewest; 0 where there is no task."""
    return min((task.shape[-1] for task in scores), default=0)


def normalise(values: npt.ArrayLike, low: float, high: float) -> Array:
    """`(x - low) / (high - low)`; references are fixed, never extremes of the compared runs."""
    if not high > low:
        raise ValueError(f"the optimal return {high:g} is not above the random return {low:g}")
    return np.asarray((np.asarray(values, dtype=np.float64) - low) / (high - low))


def settle(
    curves: npt.ArrayLike, finite_until: npt.ArrayLike, rule: FailureRule, *, floor: float
) -> Array:
    """Curves of all runs, failed ones continued by a rule from their failure to the end.

    Args:
      curves: `[runs, points]`; what stands after a failure is not read.
      finite_until: `[runs, points]`, whether the run was alive and finite there. A run that fails
        does not recover: what follows its first false entry has failed.
      rule: `floor`, the failed points are worth `floor`; `last`, its last finite value, or `floor`
        where there is none; `drop`, the run is left out.
      floor: score of a policy that knows nothing.

    Returns:
      `[runs, points]`, or fewer runs under `drop`, all finite.

    Raises:
      ValueError: an unknown rule, shapes that differ, or a value that is not finite before the
        failure.
    """
    if rule not in get_args(FailureRule):
        raise ValueError(f"rule: {rule!r} is none of {', '.join(get_args(FailureRule))}")
    values = np.asarray(curves, dtype=np.float64)
    alive = np.logical_and.accumulate(np.asarray(finite_until, dtype=bool), axis=-1)
    if values.shape != alive.shape:
        raise ValueError(f"curves have shape {values.shape}, their mask {alive.shape}")
    finite(values[alive], "values before the failure")
    if rule == "drop":
        return np.asarray(values[alive.all(axis=-1)])
    last = np.full(len(values), floor)
    if rule == "last":
        some = alive.any(axis=-1)
        last[some] = values[some, alive[some].sum(axis=-1) - 1]
    return np.where(alive, values, last[:, None])


def settle_by_each_rule(
    curves: npt.ArrayLike, finite_until: npt.ArrayLike, *, floor: float
) -> dict[FailureRule, Array]:
    """`settle` under all three rules: a verdict that differs between them depends on the rule."""
    return {rule: settle(curves, finite_until, rule, floor=floor) for rule in get_args(FailureRule)}
