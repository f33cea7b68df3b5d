"""Scores of runs: their shape and their scale."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Scores = Sequence[Array]
Statistic = Callable[[Scores], Array]
ROUNDING = 1e-12
"""What rounding makes of zero: numbers within it of each other are no difference."""
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


def rounded(value: float) -> float:
    """A number without what rounding errors make of equal ones: 12 digits, and 0 within `ROUNDING` of it."""
    return 0.0 if abs(value) <= ROUNDING else float(f"{value:.12g}")


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


class ScoreScale(NamedTuple):
    """What scores of an environment are in: 0 the random policy, 1 the best; returns where unknown.

    Attributes:
      random: return of the random policy, or None.
      optimal: best possible return, or None.
    """

    random: float | None
    optimal: float | None

    @property
    def known(self) -> bool:
        """Whether both are known and differ; else scores are returns."""
        return self.random is not None and self.optimal is not None and self.optimal > self.random

    def scores(self, returns: npt.ArrayLike) -> Array:
        """Returns as scores, `normalise` where the scale is known."""
        if self.random is None or self.optimal is None or not self.known:
            return np.asarray(returns, dtype=np.float64)
        return normalise(returns, self.random, self.optimal)

    def as_return(self, score: float) -> float:
        """A score as a return: random + score (optimal - random) where the scale is known."""
        if self.random is None or self.optimal is None or not self.known:
            return score
        return self.random + score * (self.optimal - self.random)
