"""How much tuning a method needs (Adkins, Bowling & White, 2024, arXiv 2412.07165)."""

from collections.abc import Iterable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vfcompare.statistics.scores import Array, finite


class Sensitivity(NamedTuple):
    """How much agents depend on their settings; each field is `[agents]`.

    Attributes:
      per_env_tuned: mean over environments of the best setting's score on each.
      cross_env_tuned: the same of the one setting that is best on average.
      sensitivity: the difference, what tuning on each environment buys.
    """

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


def percentile_scaled(scores: npt.ArrayLike) -> Array:
    """Γ = (x - p5) / (p95 - p5), percentiles of each environment over all agents and settings.

    Args:
      scores: `[agents, envs, settings]`.

    Raises:
      ValueError: where nearly all settings of an environment score the same.
    """
    values = finite(scores)
    low, high = np.percentile(values, [5, 95], axis=(0, 2), keepdims=True)
    if not (high > low).all():
        raise ValueError("on an environment nearly all settings score the same")
    return np.asarray((values - low) / (high - low))


def effective_dimensionality(scores: npt.ArrayLike, *, share: float = 0.95) -> float:
    """D = fewest parameters tuned per environment, others shared, for `share` of full tuning.

    The shared values are those of the best single setting, h* = argmax_h mean_e score. With a
    subset S of the parameters free, mean_e max over S of the score, the others at h*, and of each
    size the best subset: none is cross-environment tuned, all are per-environment tuned. Between
    two sizes D is where the straight line reaches the share.

    Args:
      scores: `[envs, values of parameter 1, values of parameter 2, ...]`, normalised, one agent.
      share: of the per-environment tuned score.

    Raises:
      ValueError: the per-environment tuned score is not positive, so a share of it says nothing.
    """
    values = finite(scores)
    parameters = values.ndim - 1
    best = np.unravel_index(np.argmax(values.mean(axis=0)), values.shape[1:])
    candidates = [
        [_tuned(values, best, free) for free in combinations(range(parameters), size)]
        for size in range(parameters + 1)
    ]
    reached = np.array([max(subsets) for subsets in candidates])
    goal = share * reached[-1]
    if not goal > 0:
        raise ValueError(f"the tuned score must be positive, not {reached[-1]:g}")
    count = int(np.argmax(reached >= goal))
    return 0.0 if count == 0 else float(np.interp(goal, reached[: count + 1], range(count + 1)))


def _tuned(values: Array, best: Iterable[np.intp], free: tuple[int, ...]) -> float:
    shared = tuple(slice(None) if i in free else at for i, at in enumerate(best))
    slices = values[(slice(None), *shared)]
    return float(slices.reshape(len(slices), -1).max(axis=-1).mean())
