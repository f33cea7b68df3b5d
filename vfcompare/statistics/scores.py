"""Scores of runs: their shape and their scale."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Scores = Sequence[Array]
Statistic = Callable[[Scores], Array]
FailureRule = Literal["floor", "last", "drop"]
"""What a run that failed is worth from then on: nothing, what it had last, or it is left out."""


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
