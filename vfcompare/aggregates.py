"""How the losses of steps become one: aggregates, `mask [B, G, T] -> weights [B, G, T]`.

The loss is `Σ weight · loss` over steps, a plain sum, so that any cut of the batch into minibatches or
micro-batches adds up to it.
"""

import jax.numpy as jnp

from vfcompare.types import Array


def steps(mask: Array) -> Array:
    """Every step counts the same: `w = m / Σ m` (DAPO's token mean, arXiv:2503.14476; PPO's mean).

    Steps of groups without a signal stay in the denominator; `signal_fraction` says how many groups have one.

    Args:
      mask: `[B, G, T]`.

    Returns:
      `[B, G, T]` weights that sum to one.
    """
    return mask / mask.sum()


def episodes(mask: Array) -> Array:
    """Every episode counts the same: `w = m / (|o_i| N)` (GRPO's sequence mean, arXiv:2402.03300).

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
