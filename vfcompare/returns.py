"""Sums of rewards along an episode, with and without bootstrapping from a value function.

Each function is rlax's, mapped over prompts and rollouts. What this module adds are the discounts and
traces that make them right for padded episodes and for fragments with resets in the middle: the trace is
cut wherever an episode ends, and the discount is zero only where it *terminated*.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import rlax

from vfcompare.types import Array, Rollout


def over_episodes(f: Callable[..., Array]) -> Callable[..., Array]:
    """Lift a function of one episode, `[T] -> [T]`, to a batch, `[B, G, T] -> [B, G, T]`."""
    return jax.vmap(jax.vmap(f))


def reward_to_go(rollout: Rollout, *, gamma: float, beyond: float | Array = 0.0) -> Array:
    """Discounted sum of the rewards from each step to the end of its episode.

    `G_t = r_t + γ G_{t+1}` (Sutton and Barto, 2018, eq. 3.9). Nothing is bootstrapped: where the clock or
    the fragment cut the episode, the sum ends, unless something is taken for what lies beyond.

    Args:
      rollout: `[B, G, T]`.
      gamma: the agent's discount.
      beyond: value of every state at which an episode was cut.

    Returns:
      `[B, G, T]`, zero where the mask is zero.
    """
    cut = jnp.full_like(rollout.reward, beyond)
    return_ = over_episodes(rlax.lambda_returns)(
        rollout.reward, gamma * rollout.discount, cut, rollout.trace
    )
    return return_ * rollout.mask


def outcome(rollout: Rollout, *, gamma: float) -> Array:
    """The return of the whole episode, at each of its steps: one number per rollout.

    `R = Σ_t γ^t r_t`, as language-model recipes credit every token with the reward of the answer. Defined
    for whole episodes, which start at row 0.

    Returns:
      `[B, G, T]`, zero where the mask is zero.
    """
    return reward_to_go(rollout, gamma=gamma)[..., :1] * rollout.mask


def success(rollout: Rollout, *, gamma: float, above: float) -> Array:
    """`1{R > above}` at every step: whether the episode succeeded.

    As the weight of `-log π` it makes maximum likelihood of the rollouts that succeeded, which is rejection
    sampling, expert iteration or supervised fine-tuning on own successes: STaR (Zelikman et al., 2022,
    arXiv:2203.14465), RAFT (Dong et al., 2023, arXiv:2304.06767), ReST (Gulcehre et al., 2023,
    arXiv:2308.08998).

    Args:
      rollout: `[B, G, T]`, whole episodes.
      gamma: the agent's discount.
      above: the return that a success exceeds.

    Returns:
      `[B, G, T]`; not a number where the return is none.
    """
    return_ = outcome(rollout, gamma=gamma)
    return jnp.where(jnp.isnan(return_), return_, (return_ > above) * rollout.mask)


def pass_at(passed: Array, attempts: int, k: int) -> Array:
    """pass@k, `1 - C(n - c, k) / C(n, k)`: the chance that one of `k` attempts out of `n` passes.

    Unbiased for `1 - (1 - p)^k` (Chen et al., 2021, arXiv:2107.03374), as the product
    `1 - Π_{i<k} (n - c - i) / (n - i)`.

    Args:
      passed: `c`, of any shape.
      attempts: `n`.
      k: at most `n`.
    """
    i = np.arange(k)
    left = jnp.maximum(attempts - passed[..., None] - i, 0) / (attempts - i)
    return 1.0 - left.prod(-1)


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
