"""Advantage estimates that need no critic: credit, minus a baseline, over a scale.

Three orthogonal choices make every outcome-only method (`relative`):

* *credit*: what a step is credited with, `vfcompare.returns.outcome` or `reward_to_go`;
* *baseline*: what is subtracted (`none`, `batch_mean`, `group_mean`, `leave_one_out`);
* *scale*: what it is divided by (`unscaled`, `group_std`, `batch_std`).

Baselines and scales look at the credit of an episode's first step, which is its return: one number per
rollout, `[B, G]`, so that long episodes do not count more than short ones.
"""

from collections.abc import Callable

import jax.numpy as jnp

from vfcompare.returns import gae, outcome
from vfcompare.types import Array, Rollout

Credit = Callable[..., Array]
Baseline = Callable[[Array], Array]
Scale = Callable[[Array], Array]


def relative(
    rollout: Rollout, *, gamma: float, credit: Credit, baseline: Baseline, scale: Scale
) -> Array:
    """`A_t = (credit_t - baseline) / scale`.

    REINFORCE (Williams, 1992) is `none` and `unscaled`; RLOO is `leave_one_out`; Dr. GRPO is `group_mean`;
    GRPO is `group_mean` over `group_std`.

    Args:
      rollout: `[B, G, T]`, whole episodes.
      gamma: the agent's discount.
      credit: `(rollout, gamma) -> [B, G, T]`.
      baseline: `returns [B, G] -> [B, G]` or broadcastable.
      scale: `returns [B, G] -> [B, G]` or broadcastable.

    Returns:
      `[B, G, T]`, zero where the mask is zero.
    """
    credited = credit(rollout, gamma=gamma)
    return_ = credited[..., 0]
    advantage = (credited - baseline(return_)[..., None]) * scale(return_)[..., None]
    return advantage * rollout.mask


def above_start(rollout: Rollout, value: Array, *, gamma: float) -> Array:
    """`R - V(s_0)`: what `relative` tends to as the group grows, if `value` is exact.

    Args:
      rollout: `[B, G, T]`, whole episodes.
      value: `[B, G, T + 1]`.
      gamma: the agent's discount.
    """
    return (outcome(rollout, gamma=gamma) - value[..., :1]) * rollout.mask


def none(return_: Array) -> Array:
    """No baseline: `b = 0`."""
    return jnp.zeros_like(return_)


def batch_mean(return_: Array) -> Array:
    """Mean return of the batch, the sample itself included: `b = mean_{b,g} R`."""
    return jnp.broadcast_to(return_.mean(), return_.shape)


def group_mean(return_: Array) -> Array:
    """Mean return of the group, the sample itself included: `b = mean_g R`.

    Shao et al., 2024 (arXiv:2402.03300). The expected gradient is `(G - 1) / G` times the true one.
    """
    # Around the first return, so that equal returns have exactly themselves as mean: a rounding error
    # here would be blown up by a division by their deviation.
    first = return_[..., :1]
    return jnp.broadcast_to(first + (return_ - first).mean(-1, keepdims=True), return_.shape)


def leave_one_out(return_: Array) -> Array:
    """Mean return of the *other* rollouts of the group: `b_i = (Σ_g R - R_i) / (G - 1)`.

    Kool et al., 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al., 2024
    (arXiv:2402.14740). Unbiased. A group of one has no others: its baseline is then its own return, so
    that its advantage is zero (TRL's convention; verl's loop keeps the raw return).
    """
    others = return_.shape[-1] - 1
    if others == 0:
        return return_
    first = return_[..., :1]
    centred = return_ - first
    return first + (centred.sum(-1, keepdims=True) - centred) / others


def unscaled(return_: Array) -> Array:
    """Divide by nothing: the factor is one."""
    return jnp.ones_like(return_)


def group_std(return_: Array, *, ddof: int, eps: float) -> Array:
    """Divide by the group's standard deviation: the factor `1 / (std_g R + eps)`.

    Shao et al., 2024 (arXiv:2402.03300). Frameworks differ in both numbers: verl `ddof=1, eps=1e-6`, TRL
    `ddof=1, eps=1e-4`. A group of one has no deviation: its factor is `1 / (1 + eps)` (verl).
    """
    if return_.shape[-1] <= ddof:
        return jnp.full_like(return_, 1.0 / (1.0 + eps))
    std = return_.std(-1, ddof=ddof, keepdims=True)
    return jnp.broadcast_to(1.0 / (std + eps), return_.shape)


def batch_std(return_: Array, *, ddof: int, eps: float) -> Array:
    """Divide by the batch's standard deviation: the factor `1 / (std_{b,g} R + eps)`.

    Liu et al., 2025 (Lite PPO, arXiv:2508.08221), with `group_mean`.
    """
    return jnp.full_like(return_, 1.0) / (return_.std(ddof=ddof) + eps)


def whitened(advantage: Array, mask: Array, *, ddof: int, eps: float) -> Array:
    """Centre and scale over all taken steps: `(A - mean) / (std + eps)`, zero where the mask is zero.

    The normalisation of PPO's implementations (Huang et al., 2022). Computed once per batch, never per
    minibatch, so that it does not depend on how the batch is cut.
    """
    count = mask.sum()
    mean = (advantage * mask).sum() / count
    variance = (jnp.square(advantage - mean) * mask).sum() / (count - ddof)
    return (advantage - mean) / (jnp.sqrt(variance) + eps) * mask


def whitened_gae(
    rollout: Rollout, value: Array, *, gamma: float, lambda_: float, ddof: int, eps: float
) -> Array:
    """GAE, `whitened` over the batch."""
    advantage = gae(rollout, value, gamma=gamma, lambda_=lambda_)
    return whitened(advantage, rollout.mask, ddof=ddof, eps=eps)
