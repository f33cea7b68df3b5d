"""Surrogate losses per step, and how steps are averaged: two separate, named choices.

A surrogate returns one value per step; an aggregation returns one weight per step. The loss is
`Σ weight · value`, a plain sum, so that any cut of the batch into minibatches or micro-batches adds up to it.
"""

import jax.numpy as jnp

from vfcompare.types import Array


def policy_gradient(log_prob: Array, behaviour_log_prob: Array, advantage: Array) -> Array:
    """`-A log π(a|s)`, whose gradient is the policy gradient (Williams, 1992).

    Args:
      log_prob: `[...]` under the policy that is learned.
      behaviour_log_prob: `[...]`, not used.
      advantage: `[...]`, taken as constant.

    Returns:
      `[...]`.
    """
    del behaviour_log_prob
    return -log_prob * advantage


def clipped(
    log_prob: Array,
    behaviour_log_prob: Array,
    advantage: Array,
    *,
    epsilon: float,
    epsilon_high: float | None,
) -> Array:
    """`-min(ρA, clip(ρ, 1 - ε, 1 + ε_high) A)` with `ρ = π/μ` (Schulman et al., 2017, arXiv:1707.06347).

    Args:
      log_prob: `[...]` under the policy that is learned.
      behaviour_log_prob: `[...]` under the policy that collected.
      advantage: `[...]`, taken as constant.
      epsilon: clip range.
      epsilon_high: upper clip range where it differs (DAPO, arXiv:2503.14476), else None.

    Returns:
      `[...]`.
    """
    ratio = jnp.exp(log_prob - behaviour_log_prob)
    above = epsilon if epsilon_high is None else epsilon_high
    limited = jnp.clip(ratio, 1.0 - epsilon, 1.0 + above)
    return -jnp.minimum(ratio * advantage, limited * advantage)


def token(mask: Array) -> Array:
    """Every step counts the same: `w = m / Σ m` (DAPO, arXiv:2503.14476; PPO's mean over the batch).

    Args:
      mask: `[B, G, T]`.

    Returns:
      `[B, G, T]` weights that sum to one.
    """
    return mask / mask.sum()


def sequence(mask: Array) -> Array:
    """Every episode counts the same: `w = m / (|o_i| N)` (GRPO, arXiv:2402.03300).

    Episodes without a step leave the count `N`.
    """
    length = mask.sum(-1, keepdims=True)
    return mask / jnp.maximum(length, 1.0) / (length > 0).sum()


def constant(mask: Array, *, length: float | None = None) -> Array:
    """Sums over a constant: `w = m / (L N)` (Dr. GRPO, arXiv:2503.20783).

    Args:
      mask: `[B, G, T]`.
      length: the constant `L`; by default the padded length `T`.
    """
    return mask / (mask.shape[-1] if length is None else length) / (mask.shape[0] * mask.shape[1])
