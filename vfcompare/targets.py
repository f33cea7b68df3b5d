"""What a critic is fitted to: targets, `(rollout, value [B, G, T + 1]) -> [B, G, T]`."""

import jax.numpy as jnp

from vfcompare.advantages import gae
from vfcompare.baselines import mean_of_others
from vfcompare.returns import outcome
from vfcompare.types import Array, Rollout


def lambda_return(rollout: Rollout, value: Array, *, gamma: float, lambda_: float) -> Array:
    """The λ-return, a critic's target: `G_t = r_t + γ_t [(1 - λ) V_{t+1} + λ G_{t+1}]`.

    Sutton (1988). `lambda_=1` is the Monte-Carlo return, bootstrapped only where the clock or the fragment
    cut the episode; `lambda_=0` is the one-step TD target.

    Args:
      rollout: `[B, G, T]`.
      value: `[B, G, T + 1]`.
      gamma: the agent's discount.
      lambda_: mixing parameter in [0, 1].

    Returns:
      `[B, G, T]`, zero where the mask is zero.
    """
    return (gae(rollout, value, gamma=gamma, lambda_=lambda_) + value[..., :-1]) * rollout.mask


def others_mean(rollout: Rollout, value: Array, *, gamma: float) -> Array:
    """`mean_{j≠i} R_j` at each step of rollout `i`: a target that knows nothing of the rollout itself.

    Args:
      rollout: `[B, G, T]`, whole episodes.
      value: not used.
      gamma: the agent's discount.
    """
    del value
    return_ = outcome(rollout, gamma=gamma)[..., :1]
    return mean_of_others(return_) * rollout.mask


def elapsed(rollout: Rollout, value: Array) -> Array:
    """Share of the horizon that is used up: a target as regular as a value, which knows nothing of reward."""
    del value
    horizon = rollout.mask.shape[-1]
    return jnp.arange(horizon) / horizon * rollout.mask
