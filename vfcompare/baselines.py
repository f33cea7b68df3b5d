"""What is subtracted from a credit without a critic: baselines, `(sample) -> [B, G, T]` or broadcastable.

Most, and most scales, look at the credit of an episode's first step, which is its return: one number per
rollout, so that long episodes do not count more than short ones. A rollout whose return is not a number could
not be scored: it is left out of all of them and has no advantage (TRL's convention).

Means are taken around the first return, so that equal returns have exactly themselves as mean, and no
advantage: what rounding leaves would be blown up by a division by their deviation, or by Adam. Only
`mean_of_others` is not: it is held against numbers that it is not made of.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vfcompare import masked
from vfcompare.types import Access, Array, Rollout


class Sample(NamedTuple):
    """What baselines and scales look at.

    Attributes:
      credit: `[B, G, T]`, zero where the return is not a number.
      return_: `[B, G, 1]`, credit of the first step.
      scored: `[B, G, 1]`, one where the return is a number.
      rollout: the episodes.
      access: to what is not in the rollout, or None.
    """

    credit: Array
    return_: Array
    scored: Array
    rollout: Rollout
    access: Access | None


def none(sample: Sample) -> Array:
    """No baseline: `b = 0`."""
    return jnp.zeros_like(sample.return_)


def batch_mean(sample: Sample) -> Array:
    """Mean return of the batch, the sample itself included: `b = mean_{b,g} R`."""
    return masked.moments(sample.return_, sample.scored, ddof=0)[0]


def group_mean(sample: Sample) -> Array:
    """Mean return of the group, the sample itself included: `b = mean_g R`.

    Shao et al., 2024 (arXiv:2402.03300). The expected gradient is `(G - 1) / G` times the true one.
    """
    return _weighted_group_mean(sample, sample.return_, sample.scored)


def _weighted_group_mean(sample: Sample, x: Array, weight: Array, eps: float = 0.0) -> Array:
    """`f + Σ_g w (x - f) / (Σ_g w + eps)`, `f` the first return, also where nothing weighs anything."""
    first = first_scored(sample)
    total = ((x - first) * weight).sum(1, keepdims=True)
    return first + masked.ratio(total, weight.sum(1, keepdims=True) + eps)


def leave_one_out(sample: Sample) -> Array:
    """Mean return of the *other* rollouts of the group: `b_i = (Σ_g R - R_i) / (G - 1)`.

    Kool et al., 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al., 2024
    (arXiv:2402.14740). Unbiased. A group of one has no others: its baseline is then its own return, so
    that its advantage is zero (TRL's convention; verl's loop keeps the raw return).
    """
    return _mean_of_scored_others(sample, sample.return_, sample.scored, sample.return_)


def _mean_of_scored_others(sample: Sample, x: Array, counts: Array, alone: Array | float) -> Array:
    """Mean of `x` over the other rollouts of the group where it `counts`, and `alone` where none does."""
    first = first_scored(sample)
    centred = (x - first) * counts
    others = counts.sum(1, keepdims=True) - counts
    mean = (centred.sum(1, keepdims=True) - centred) / jnp.maximum(others, 1.0)
    return jnp.where(others > 0, first + mean, alone)


def first_scored(sample: Sample) -> Array:
    """`[B, 1, 1]`, the return of the first rollout of each group that could be scored."""
    return jnp.take_along_axis(sample.return_, sample.scored.argmax(1, keepdims=True), 1)


def length_weighted(sample: Sample) -> Array:
    """Mean return of the group, weighed by length: `b = Σ_g l R / Σ_g l`.

    OPO (Hao et al., 2025, arXiv:2505.23585): the variance-optimal constant `E[s² R] / E[s²]`, if the squared
    score `s²` grows with the length `l`. The sample itself is included, so the gradient is biased as in
    `group_mean`.
    """
    length = sample.rollout.mask.sum(-1, keepdims=True) * sample.scored
    return _weighted_group_mean(sample, sample.return_, length)


def optimal_token(sample: Sample, *, eps: float) -> Array:
    """A baseline for each time step: `b_t = Σ_g W_t C_t / (Σ_g W_t + eps)`, `W_t = Σ_{k≤t} s_k²`.

    The optimal token baseline (verl's `optimal_token_baseline`): credits `C_t` weighed by the squared score
    that has accumulated, `s² = 1 - 2 π(a) + Σ π²` of a softmax. The sample itself is included. Where nobody
    else acts any more the baseline is zero (verl's `handle_zero_tail`): the longest rollout would be its own,
    and learn nothing from its end.
    """
    assert sample.access is not None
    mask = sample.rollout.mask * sample.scored
    weight = jnp.cumsum(sample.access.squared_score(sample.rollout) * mask, -1) * mask
    others = mask.sum(1, keepdims=True) - mask
    return jnp.where(others > 0, _weighted_group_mean(sample, sample.credit, weight, eps), 0.0)


def step_mean(sample: Sample) -> Array:
    """Mean credit at the same time step of the *other* rollouts of the group that still act.

    Token-level REINFORCE with a baseline of the group at each step; with `reward_to_go` a value function of
    time alone. Where nobody else acts any more, the baseline is zero, the credit of those that have ended.
    """
    acting = sample.rollout.mask * sample.scored
    return _mean_of_scored_others(sample, sample.credit, acting, 0.0)


def bin_mean(sample: Sample, *, width: int, resolution: float, slots: int) -> Array:
    """Mean credit of steps of *other* episodes that saw nearly the same, at nearly the same time.

    Groups within groups (compare GiGPO, Feng et al., 2025, arXiv:2505.10978): a value function by counting.
    Bins that no other episode of the batch has visited fall back on `leave_one_out`.

    Args:
      sample: of the batch.
      width: time steps of a bin.
      resolution: bins of a unit of observation.
      slots: bins are told apart by a hash with so many values.
    """
    rollout, mask = sample.rollout, sample.rollout.mask * sample.scored
    seen = rollout.obs[:, :, :-1].reshape(*mask.shape, -1)
    time = jnp.arange(mask.shape[-1], dtype=jnp.uint32) // width
    index = (fingerprint(jnp.round(seen * resolution)) ^ (time * jnp.uint32(2654435761))) % slots
    prompt = jnp.arange(mask.shape[0])[:, None, None]
    episode = jnp.arange(mask.shape[1])[:, None]
    cell = (prompt, episode, index)
    empty = jnp.zeros((*mask.shape[:2], slots))
    first = sample.return_.reshape(-1)[sample.scored.argmax()]
    centred = (sample.credit - first) * mask
    count, total = empty.at[cell].add(mask), empty.at[cell].add(centred)

    def others(x: Array) -> Array:
        return (x.sum((0, 1)) - x)[cell]

    fallback = jnp.broadcast_to(leave_one_out(sample), mask.shape)
    found = others(count)
    return jnp.where(found > 0, first + others(total) / jnp.maximum(found, 1.0), fallback)


def fingerprint(x: Array) -> Array:
    """A 32-bit hash of the last axis: `[..., n] -> [...]`, equal for equal numbers."""
    # -0.0 and 0.0 are equal numbers of different bits.
    bits = jax.lax.bitcast_convert_type(jnp.float32(x) + 0.0, jnp.uint32)
    odd = 2 * jax.random.bits(jax.random.key(0), (x.shape[-1],), jnp.uint32) + 1
    mixed = (bits ^ (bits >> 16)) * odd
    return (mixed ^ (mixed >> 15)).sum(-1, dtype=jnp.uint32)


def second_best(sample: Sample) -> Array:
    """Its own return, but for the best of the group: for this one it is the second best return.

    pass@k training (arXiv:2503.19595): of all rollouts only the best has an advantage, `R_max - R_2nd`. Among
    equals the first one counts as the best, and has none.
    """
    return_ = jnp.where(sample.scored > 0, sample.return_, -jnp.inf)
    ranked = jnp.sort(return_, 1)
    second = ranked[:, -2:-1] if return_.shape[1] > 1 else jnp.full_like(ranked, -jnp.inf)
    best = jnp.arange(return_.shape[1])[:, None] == return_.argmax(1, keepdims=True)
    return jnp.where(best & jnp.isfinite(second), second, sample.credit)


def mean_of_others(x: Array) -> Array:
    """Mean over the other rollouts of the group, of numbers that all are known; `x` is `[B, G, 1]`."""
    return (x.sum(1, keepdims=True) - x) / max(x.shape[1] - 1, 1)
