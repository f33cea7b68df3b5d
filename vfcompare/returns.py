"""Sums of rewards along an episode, with and without bootstrapping from a value function.

Each function is rlax's, mapped over prompts and rollouts. What this module adds are the discounts and
traces that make them right for padded episodes and for fragments with resets in the middle: the trace is
cut wherever an episode ends, and the discount is zero only where it *terminated*.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import rlax

from vfcompare.types import Array, Rollout


def over_episodes(f: Callable[..., Array]) -> Callable[..., Array]:
    """Lift a function of one episode, `[T] -> [T]`, to a batch, `[B, G, T] -> [B, G, T]`."""
    return jax.vmap(jax.vmap(f))


def reward_to_go(rollout: Rollout, *, gamma: float) -> Array:
    """Discounted sum of the rewards from each step to the end of its episode.

    `G_t = r_t + γ G_{t+1}` (Sutton and Barto, 2018, eq. 3.9). Nothing is bootstrapped: where the clock or
    the fragment cut the episode, the sum ends.

    Returns:
      `[B, G, T]`, zero where the mask is zero.
    """
    zeros = jnp.zeros_like(rollout.reward)
    return_ = over_episodes(rlax.lambda_returns)(
        rollout.reward, gamma * rollout.discount, zeros, rollout.trace
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


def gae(rollout: Rollout, value: Array, *, gamma: float, lambda_: float) -> Array:
    """Generalised advantage estimate: `A_t = δ_t + γ_t λ A_{t+1}`, `δ_t = r_t + γ_t V_{t+1} - V_t`.

    Schulman et al., 2016 (arXiv:1506.02438). `lambda_=1` is the return minus the value, `lambda_=0` the TD
    error. A truncated step bootstraps from its final observation and ends the trace (SB3's treatment; not
    CleanRL's, which takes truncation for termination).

    Args:
      rollout: `[B, G, T]`.
      value: `[B, G, T + 1]`.
      gamma: the agent's discount.
      lambda_: mixing parameter in [0, 1].

    Returns:
      `[B, G, T]`, zero where the mask is zero.
    """
    advantage = over_episodes(rlax.truncated_generalized_advantage_estimation)(
        rollout.reward, gamma * rollout.discount, lambda_ * rollout.trace, value
    )
    return advantage * rollout.mask


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
