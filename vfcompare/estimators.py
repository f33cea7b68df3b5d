"""Turn a function of a rollout into an `Estimator`: without a critic, with one, or by simulation."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vfcompare.returns import over_episodes
from vfcompare.types import (
    Array,
    Critic,
    Estimate,
    Estimator,
    Key,
    Params,
    Rollout,
    Simulate,
    Spec,
)

Advantage = Callable[[Rollout], Array]
ValueAdvantage = Callable[[Rollout, Array], Array]


def value_free(*, spec: Spec, advantage: Advantage) -> Estimator:
    """An estimator that learns nothing: `advantage(rollout) -> [B, G, T]`."""
    del spec

    def estimate(params: None, rollout: Rollout, simulate: Simulate, key: Key) -> Estimate:
        del params, simulate, key
        return Estimate(advantage(rollout), {}, {})

    return Estimator(estimate)


def value_based(
    *,
    spec: Spec,
    advantage: ValueAdvantage,
    target: ValueAdvantage,
    critic: Callable[..., Critic],
) -> Estimator:
    """An estimator that reads a critic, and says what the critic is to learn.

    Args:
      spec: the facts of the task.
      advantage: `(rollout, value [B, G, T + 1]) -> [B, G, T]`.
      target: `(rollout, value [B, G, T + 1]) -> [B, G, T]`, what the critic is fitted to. Apart from the
        advantage, because the two may use different λ (VC-PPO, arXiv:2503.01491).
      critic: `(spec) -> Critic`, the learned value function.
    """
    learned = critic(spec=spec)

    def estimate(params: Params, rollout: Rollout, simulate: Simulate, key: Key) -> Estimate:
        del simulate, key
        value = learned.value(params, rollout)
        goal, old = target(rollout, value), value[..., :-1]
        explained = explained_variance(old, goal, rollout.mask)
        return Estimate(
            advantage(rollout, value),
            {"target": goal, "old": old},
            {"explained_variance": explained},
        )

    return Estimator(estimate, learned)


def simulated(*, spec: Spec, advantage: ValueAdvantage, rollouts: int, gamma: float) -> Estimator:
    """Values by fresh episodes of the present policy from every visited state, charged to the budget.

    `V(s_t) = (1/K) Σ_k R_k`, VinePPO (Kazemnejad et al., 2024, arXiv:2410.01679; `K = 9`).

    Args:
      spec: the facts of the task.
      advantage: `(rollout, value [B, G, T + 1]) -> [B, G, T]`.
      rollouts: `K`, episodes from each state.
      gamma: the agent's discount.
    """
    del spec

    def estimate(params: None, rollout: Rollout, simulate: Simulate, key: Key) -> Estimate:
        del params
        rows = rollout.mask.shape[-1] + 1
        live = jnp.concatenate([rollout.mask[..., :1], rollout.mask * rollout.discount], -1)
        time = jnp.broadcast_to(jnp.arange(rows), live.shape)
        flat = jax.tree.map(
            lambda x: jnp.repeat(x.reshape(-1, *x.shape[3:]), rollouts, 0), rollout.state
        )
        alive = jnp.repeat(live.reshape(-1), rollouts)
        episodes = simulate(flat, jnp.repeat(time.reshape(-1), rollouts), alive, key)
        return_ = discounted_return(episodes, gamma=gamma).reshape(*live.shape, rollouts)
        value = return_.mean(-1) * live
        return Estimate(advantage(rollout, value), {}, {"simulated_steps": episodes.mask.sum()})

    return Estimator(estimate, needs_state=True)


def discounted_return(rollout: Rollout, *, gamma: float) -> Array:
    """`Σ_t γ^t r_t` of whole episodes, `[B, G]`."""
    weight = gamma ** jnp.arange(rollout.reward.shape[-1])
    return over_episodes(lambda reward: (reward * weight).sum())(rollout.reward)


def explained_variance(value: Array, target: Array, mask: Array) -> Array:
    """`1 - Var(target - value) / Var(target)` over all taken steps of the batch at once.

    Blind to a constant bias, and negative for a critic worse than a constant. Zero where the target is
    constant, as there is nothing to explain.
    """

    def variance(x: Array) -> Array:
        mean = (x * mask).sum() / mask.sum()
        return (jnp.square(x - mean) * mask).sum() / mask.sum()

    total = variance(target)
    return jnp.where(
        total > 0, 1.0 - variance(target - value) / jnp.where(total > 0, total, 1.0), 0.0
    )
