"""Surrogate losses, `(log_prob, behaviour_log_prob, advantage, mask) -> loss`: one value per step.

`vfcompare.aggregates` make one loss of them. `ρ_t = π(a_t|s_t) / μ(a_t|s_t)`, `μ` the policy that collected.

Surrogates of whole episodes look along the last axis and need minibatches of episodes (`rows_of=episodes`);
`preference` compares the episodes of a group and needs minibatches of groups (`rows_of=groups`).
`episode_clipped` and `preference` have the gradient of the whole episode at each of its steps: only weights
that sum to `1/N` over an episode (`aggregates.episodes`) count it once. `gspo` and `gmpo` divide it by the
number of steps, so that other weights only say how much a long episode counts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vfcompare.types import Array

LARGEST = 20.0
"""Logarithm of the largest ratio, as in verl."""


def likelihood_ratio(log_ratio: Array) -> Array:
    """`ρ = exp(log ρ)`, at most e^20, there with its gradient.

    A ratio that single precision cannot hold has no gradient even where the clip has cut it off: 0 · ∞.
    """
    beyond = jnp.maximum(log_ratio - LARGEST, 0.0)
    return jnp.exp(log_ratio - jax.lax.stop_gradient(beyond))


def policy_gradient(
    log_prob: Array, behaviour_log_prob: Array, advantage: Array, mask: Array
) -> Array:
    """`-A log π(a|s)`, whose gradient is the policy gradient (Williams, 1992).

    Args:
      log_prob: `[...]` under the policy that is learned.
      behaviour_log_prob: `[...]`, not used.
      advantage: `[...]`, taken as constant.
      mask: `[...]`, not used.

    Returns:
      `[...]`.
    """
    del behaviour_log_prob, mask
    return -log_prob * advantage


def clipped(
    log_prob: Array,
    behaviour_log_prob: Array,
    advantage: Array,
    mask: Array,
    *,
    epsilon: float,
    epsilon_high: float | None,
    dual: float | None = None,
    ceiling: float | None = None,
) -> Array:
    """`-min(ρA, clip(ρ, 1 - ε, 1 + ε_high) A)` with `ρ = π/μ` (Schulman et al., 2017, arXiv:1707.06347).

    Args:
      log_prob: `[...]` under the policy that is learned.
      behaviour_log_prob: `[...]` under the policy that collected.
      advantage: `[...]`, taken as constant.
      mask: `[...]`, not used.
      epsilon: clip range.
      epsilon_high: upper clip range where it differs (DAPO, arXiv:2503.14476), else None.
      dual: the loss of an action with negative advantage is at most `-dual A` (Ye et al., 2020,
        arXiv:1912.09729; verl always has 3), or None.
      ceiling: the unclipped ratio is at most this (TRL's `delta`), or None.

    Returns:
      `[...]`.
    """
    del mask
    ratio = likelihood_ratio(log_prob - behaviour_log_prob)
    above = epsilon if epsilon_high is None else epsilon_high
    limited = jnp.clip(ratio, 1.0 - epsilon, 1.0 + above)
    if ceiling is not None:
        ratio = jnp.minimum(ratio, ceiling)
    loss = -jnp.minimum(ratio * advantage, limited * advantage)
    if dual is not None:
        loss = jnp.where(advantage < 0, jnp.minimum(loss, -dual * advantage), loss)
    return loss


def episode_clipped(
    log_prob: Array,
    behaviour_log_prob: Array,
    advantage: Array,
    mask: Array,
    *,
    epsilon: float,
    epsilon_high: float | None,
) -> Array:
    """`clipped`, with the ratio of the episodes' probabilities, `Π_t ρ_t`, at each of their steps.

    As in TRL's RLOO trainer. Arguments are those of `clipped`, of whole episodes `[..., T]`.
    """
    total = ((log_prob - behaviour_log_prob) * mask).sum(-1, keepdims=True)
    return of_one_ratio(total, advantage, mask, epsilon=epsilon, epsilon_high=epsilon_high)


def gspo(
    log_prob: Array,
    behaviour_log_prob: Array,
    advantage: Array,
    mask: Array,
    *,
    epsilon: float,
    epsilon_high: float | None,
) -> Array:
    """`clipped`, with the geometric mean of the episode's ratios, `(Π_t ρ_t)^(1/|o|)`, at each of its steps.

    GSPO (arXiv:2507.18071). Arguments are those of `clipped`, of whole episodes `[..., T]`.
    """
    total = ((log_prob - behaviour_log_prob) * mask).sum(-1, keepdims=True)
    mean = total / jnp.maximum(mask.sum(-1, keepdims=True), 1.0)
    return of_one_ratio(mean, advantage, mask, epsilon=epsilon, epsilon_high=epsilon_high)


def of_one_ratio(
    log_ratio: Array, advantage: Array, mask: Array, *, epsilon: float, epsilon_high: float | None
) -> Array:
    """`clipped`, with one ratio for all steps of an episode, whose logarithm is `[..., 1]`."""
    whole = jnp.broadcast_to(log_ratio, advantage.shape)
    return clipped(
        whole, jnp.zeros_like(whole), advantage, mask, epsilon=epsilon, epsilon_high=epsilon_high
    )


def gmpo(
    log_prob: Array,
    behaviour_log_prob: Array,
    advantage: Array,
    mask: Array,
    *,
    epsilon: float,
    epsilon_high: float | None,
) -> Array:
    """`-A (Π_t ρ_t')^(1/|o|)`, each `log ρ_t` clipped on the side that `A` pushes it to.

    GMPO (arXiv:2507.20673).

    Args:
      log_prob: `[..., T]` under the policy that is learned.
      behaviour_log_prob: `[..., T]` under the policy that collected.
      advantage: `[..., T]`, taken as constant; its mean over the episode counts.
      mask: `[..., T]`.
      epsilon: clip range of the log-ratio.
      epsilon_high: upper clip range where it differs, else None.

    Returns:
      `[..., T]`, the episode's loss at each of its steps.
    """
    above = epsilon if epsilon_high is None else epsilon_high
    log_ratio, sign = log_prob - behaviour_log_prob, jnp.sign(advantage)
    kept = sign * jnp.minimum(sign * log_ratio, sign * jnp.clip(log_ratio, -epsilon, above))
    length = jnp.maximum(mask.sum(-1, keepdims=True), 1.0)
    ratio = likelihood_ratio((kept * mask).sum(-1, keepdims=True) / length)
    mean = (advantage * mask).sum(-1, keepdims=True) / length
    return jnp.broadcast_to(-mean * ratio, log_prob.shape)


def cispo(
    log_prob: Array,
    behaviour_log_prob: Array,
    advantage: Array,
    mask: Array,
    *,
    epsilon: float | None,
    epsilon_high: float,
) -> Array:
    """`-sg[clip(ρ, 1 - ε, 1 + ε_high)] A log π`: no step is ever without gradient (CISPO, arXiv:2506.13585).

    Args:
      log_prob: `[...]` under the policy that is learned.
      behaviour_log_prob: `[...]` under the policy that collected.
      advantage: `[...]`, taken as constant.
      mask: `[...]`, not used.
      epsilon: lower clip range; None leaves small ratios alone, as TRL does.
      epsilon_high: upper clip range.
    """
    del mask
    below = 0.0 if epsilon is None else 1.0 - epsilon
    ratio = jnp.clip(jnp.exp(log_prob - behaviour_log_prob), below, 1.0 + epsilon_high)
    return -jax.lax.stop_gradient(ratio) * advantage * log_prob


def sapo(
    log_prob: Array,
    behaviour_log_prob: Array,
    advantage: Array,
    mask: Array,
    *,
    tau: float,
    tau_negative: float,
) -> Array:
    """`-A · σ(τ (ρ - 1)) · 4/τ`: a soft clip (SAPO, arXiv:2511.20347).

    Args:
      log_prob: `[...]` under the policy that is learned.
      behaviour_log_prob: `[...]` under the policy that collected.
      advantage: `[...]`, taken as constant.
      mask: `[...]`, not used.
      tau: steepness where the advantage is positive.
      tau_negative: steepness elsewhere.
    """
    del mask
    ratio = likelihood_ratio(log_prob - behaviour_log_prob)
    steep = jnp.where(advantage > 0, tau, tau_negative)
    return -advantage * jax.nn.sigmoid(steep * (ratio - 1.0)) * 4.0 / steep


def preference(
    log_prob: Array,
    behaviour_log_prob: Array,
    advantage: Array,
    mask: Array,
    *,
    beta: float,
) -> Array:
    """`-log σ(β (Δ_w - Δ_l))`, the mean over all pairs of a group in which `w` has more advantage than `l`.

    DPO (Rafailov et al., 2023, arXiv:2305.18290) on pairs of the batch itself. `Δ = Σ_t log ρ_t`: the
    reference is the policy that collected, as in iterative DPO (Xu et al., 2023, arXiv:2312.16682; Yuan et
    al., 2024, arXiv:2401.10020), which makes each iteration's model the reference of the next. At the
    reference the gradient is that of `-β/2 (log π(w) - log π(l))`. How much more `w` has does not matter.

    Args:
      log_prob: `[..., G, T]` under the policy that is learned.
      behaviour_log_prob: `[..., G, T]` under the policy that collected.
      advantage: `[..., G, T]`, that of the first step counts: its return, for instance.
      mask: `[..., G, T]`.
      beta: `β`.

    Returns:
      `[..., G, T]`, the group's loss at each of its steps; zero where all are equal.
    """
    ratio = ((log_prob - behaviour_log_prob) * mask).sum(-1)
    score = advantage[..., 0]
    better = (score[..., :, None] > score[..., None, :]).astype(log_prob.dtype)
    margin = beta * (ratio[..., :, None] - ratio[..., None, :])
    lost = (better * jax.nn.softplus(-margin)).sum((-2, -1))
    loss = lost / jnp.maximum(better.sum((-2, -1)), 1.0)
    return jnp.broadcast_to(loss[..., None, None], log_prob.shape)


class Penalty(NamedTuple):
    """What leaving a reference policy costs.

    Attributes:
      divergence: `(log_prob, reference_log_prob) -> [...]` of the actions that were taken, `k1`, `k2` or
        `k3`.
      coef: its weight.
      on_reward: whether it is subtracted from the reward of each step, before advantages are estimated, or
        added to the loss.
    """

    divergence: Callable[[Array, Array], Array]
    coef: float
    on_reward: bool


def k1(log_prob: Array, reference_log_prob: Array) -> Array:
    """`d = log π - log π_ref`, unbiased for KL(π, π_ref) on samples of π (Schulman, 2020).

    As a reward its effect is right. As a loss its gradient is the score, zero in the mean: no information.
    """
    return log_prob - reference_log_prob


def k2(log_prob: Array, reference_log_prob: Array) -> Array:
    """`d² / 2`: a biased value, but as a loss its gradient `d · score` is that of the KL, on-policy."""
    return 0.5 * jnp.square(log_prob - reference_log_prob)


def k3(log_prob: Array, reference_log_prob: Array) -> Array:
    """`exp(-d) - 1 + d`: unbiased and never negative; as a loss its gradient `(1 - exp(-d)) score` is biased.

    GRPO's choice (arXiv:2402.03300).
    """
    difference = log_prob - reference_log_prob
    return jnp.expm1(-difference) + difference
