"""How much better than expected an action was: by returns alone (`relative`), or by values.

All but `relative` are `(rollout, value [B, G, T + 1]) -> [B, G, T]`; `vtrace` is also given the ratio to the
policy that collected, and says what the critic is to learn, too.
"""

from collections.abc import Callable

import jax.numpy as jnp
import rlax

from vfcompare import masked
from vfcompare.baselines import Sample, mean_of_others
from vfcompare.contract import require_baseline
from vfcompare.returns import outcome, over_episodes
from vfcompare.types import Access, Array, Rollout

Credit = Callable[..., Array]
Baseline = Callable[[Sample], Array]
Scale = Callable[[Array, Sample], Array]


def relative(
    rollout: Rollout,
    access: Access | None = None,
    *,
    gamma: float,
    credit: Credit,
    baseline: Baseline,
    scale: Scale,
) -> Array:
    """`A_t = (credit_t - baseline) / scale`.

    Three orthogonal choices: REINFORCE (Williams, 1992) is `none` and `unscaled`; RLOO is `leave_one_out`;
    Dr. GRPO is `group_mean`; GRPO is `group_mean` over `group_std`.

    Args:
      rollout: `[B, G, T]`, whole episodes.
      access: see `Sample`.
      gamma: the agent's discount.
      credit: what a step is credited with, `(rollout, gamma) -> [B, G, T]`, see `vfcompare.returns`.
      baseline: what is subtracted, see `vfcompare.baselines`.
      scale: what is done with the difference, see `vfcompare.scales`.

    Returns:
      `[B, G, T]`, zero where the mask is zero.

    Raises:
      ValueError: for a baseline that is neither one number nor of three axes that broadcast to these.
    """
    credited = credit(rollout, gamma=gamma)
    scored = jnp.isfinite(credited[..., :1])
    credited = jnp.where(scored, credited, 0.0)
    sample = Sample(credited, credited[..., :1], scored.astype(credited.dtype), rollout, access)
    mask = rollout.mask * sample.scored
    subtracted = baseline(sample)
    require_baseline(subtracted, rollout.mask)
    return scale((credited - subtracted) * mask, sample) * mask


def above_start(rollout: Rollout, value: Array, *, gamma: float) -> Array:
    """`R - V(s_0)`: what `relative` tends to as the group grows, if `value` is exact.

    Args:
      rollout: `[B, G, T]`, whole episodes.
      value: `[B, G, T + 1]`.
      gamma: the agent's discount.
    """
    return (outcome(rollout, gamma=gamma) - value[..., :1]) * rollout.mask


def above_others(rollout: Rollout, value: Array, *, gamma: float) -> Array:
    """`R_i - mean_{j≠i} v_j`, `v_j` the mean value along rollout `j` of the same prompt.

    POISE (arXiv:2605.07579): what is read off one rollout is the baseline of the others only, so that a value
    that knows the rollout's actions keeps the gradient unbiased.

    Args:
      rollout: `[B, G, T]`, whole episodes.
      value: `[B, G, T + 1]`.
      gamma: the agent's discount.
    """
    length = jnp.maximum(rollout.mask.sum(-1, keepdims=True), 1.0)
    along = (value[..., :-1] * rollout.mask).sum(-1, keepdims=True) / length
    return (outcome(rollout, gamma=gamma) - mean_of_others(along)) * rollout.mask


def gae(rollout: Rollout, value: Array, *, gamma: float, lambda_: float | Array) -> Array:
    """Generalised advantage estimate: `A_t = δ_t + γ_t λ A_{t+1}`, `δ_t = r_t + γ_t V_{t+1} - V_t`.

    Schulman et al., 2016 (arXiv:1506.02438). `lambda_=1` is the return minus the value, `lambda_=0` the TD
    error. A truncated step bootstraps from its final observation and ends the trace (SB3's treatment; not
    CleanRL's, which takes truncation for termination).

    Args:
      rollout: `[B, G, T]`.
      value: `[B, G, T + 1]`.
      gamma: the agent's discount.
      lambda_: mixing parameter in [0, 1], one or `[B, G, 1]`.

    Returns:
      `[B, G, T]`, zero where the mask is zero.
    """
    advantage = over_episodes(rlax.truncated_generalized_advantage_estimation)(
        rollout.reward, gamma * rollout.discount, lambda_ * rollout.trace, value
    )
    return advantage * rollout.mask


def length_adaptive_gae(rollout: Rollout, value: Array, *, gamma: float, alpha: float) -> Array:
    """GAE with `λ = 1 - 1 / (α l)`, `l` the length of the episode, kept within [0, 1].

    VAPO (arXiv:2504.05118, eq. 5; `α = 0.05`): the reward at the end reaches back about `α l` steps whatever
    the length. Below 20 steps that α gives less than zero, here zero; α = 1.5 suits short tasks.

    Args:
      rollout: `[B, G, T]`, whole episodes.
      value: `[B, G, T + 1]`.
      gamma: the agent's discount.
      alpha: `α`.
    """
    length = rollout.mask.sum(-1, keepdims=True)
    lambda_ = jnp.clip(1.0 - 1.0 / (alpha * jnp.maximum(length, 1.0)), 0.0, 1.0)
    return gae(rollout, value, gamma=gamma, lambda_=lambda_)


def whitened_gae(
    rollout: Rollout, value: Array, *, gamma: float, lambda_: float, ddof: int, eps: float
) -> Array:
    """`gae`, centred and scaled over the batch."""
    advantage = gae(rollout, value, gamma=gamma, lambda_=lambda_)
    return masked.whitened(advantage, rollout.mask, ddof=ddof, eps=eps)


def n_step(rollout: Rollout, value: Array, *, gamma: float, n: int) -> Array:
    """Advantage by n rewards and a bootstrap: `A_t = Σ_{k<n} γ^k r_{t+k} + γ^n V_{t+n} - V_t`.

    Mnih et al., 2016 (arXiv:1602.01783), with the same n at every step. Shorter where the episode ends.

    Args:
      rollout: `[B, G, T]`.
      value: `[B, G, T + 1]`.
      gamma: the agent's discount.
      n: number of rewards, at least 1.

    Returns:
      `[B, G, T]`, zero where the mask is zero.
    """

    def one(reward: Array, discount: Array, value: Array, trace: Array) -> Array:
        return rlax.n_step_bootstrapped_returns(reward, discount, value[1:], n, trace) - value[:-1]

    advantage = over_episodes(one)(rollout.reward, gamma * rollout.discount, value, rollout.trace)
    return advantage * rollout.mask


def vtrace(
    rollout: Rollout,
    value: Array,
    ratio: Array,
    *,
    gamma: float,
    lambda_: float,
    clip: float,
    clip_advantage: float,
    leak: float = 0.0,
) -> tuple[Array, Array]:
    """V-trace: targets and advantages for experience of another policy.

    `v_t = V_t + Σ_k γ^k (Π c) ρ δ`, `ρ = min(clip, π/μ)`, `c = λ min(1, π/μ)`, and `A_t = min(clip_advantage,
    π/μ) (r_t + γ [λ v_{t+1} + (1 - λ) V_{t+1}] - V_t)`; Espeholt et al., 2018 (arXiv:1802.01561), by rlax.
    With `π = μ` the advantage is `gae` and the target the λ-return. The advantage is not rlax's, which
    bootstraps a truncated step from the state after the reset.

    Args:
      rollout: `[B, G, T]`.
      value: `[B, G, T + 1]`.
      ratio: `[B, G, T]`, `π/μ`.
      gamma: the agent's discount.
      lambda_: mixing parameter in [0, 1].
      clip: largest ratio of a TD error.
      clip_advantage: largest ratio of an advantage.
      leak: `l`, of unclipped ratios in those of a target, `(1 - l) min(c, π/μ) + l π/μ` (leaky V-trace;
        Zahavy et al., 2020, arXiv:2002.12928).

    Returns:
      Advantage and target, `[B, G, T]`, zero where the mask is zero.
    """

    def one(value: Array, reward: Array, discount: Array, ratio: Array, trace: Array) -> Array:
        args = (value[:-1], value[1:], reward, discount, ratio)
        return rlax.leaky_vtrace(*args, 1.0 - leak, trace, clip)

    discount, trace = gamma * rollout.discount, lambda_ * rollout.trace
    errors = over_episodes(one)(value, rollout.reward, discount, ratio, trace)
    target = errors + value[..., :-1]
    following = jnp.concatenate([target[..., 1:], value[..., -1:]], -1)
    ahead = trace * following + (1.0 - trace) * value[..., 1:]
    advantage = jnp.minimum(ratio, clip_advantage) * (
        rollout.reward + discount * ahead - value[..., :-1]
    )
    return advantage * rollout.mask, target * rollout.mask
