"""Turn a function of a rollout into an `Estimator`: without critic, with one, by simulation, by the truth."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vfcompare.returns import over_episodes
from vfcompare.types import (
    Access,
    Array,
    Critic,
    Estimate,
    Estimator,
    Key,
    Metrics,
    Params,
    Rollout,
    Spec,
)

Advantage = Callable[[Rollout], Array]
ValueAdvantage = Callable[[Rollout, Array], Array]
Lesion = Callable[[Array, Rollout, Key], Array]
Lesson = dict[str, Array]


def value_free(*, spec: Spec, advantage: Advantage) -> Estimator:
    """An estimator that learns nothing: `advantage(rollout) -> [B, G, T]`."""
    del spec

    def estimate(params: None, rollout: Rollout, access: Access, key: Key) -> Estimate:
        del params, access, key
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

    def estimate(params: Params, rollout: Rollout, access: Access, key: Key) -> Estimate:
        del access, key
        value = learned.value(params, rollout)
        return Estimate(advantage(rollout, value), *lesson(rollout, value, target), value)

    return Estimator(estimate, learned)


def lesson(rollout: Rollout, value: Array, target: ValueAdvantage) -> tuple[Lesson, Metrics]:
    """What a critic is to learn from a rollout, and how much of it it knew."""
    goal, old = target(rollout, value), value[..., :-1]
    explained = explained_variance(old, goal, rollout.mask)
    return {"target": goal, "old": old}, {"explained_variance": explained}


def exact(*, spec: Spec, advantage: ValueAdvantage, lesion: Lesion, sharpness: float) -> Estimator:
    """Exact values of the present policy, from dynamic programming: what a perfect critic would say.

    Args:
      spec: the facts of the task.
      advantage: `(rollout, value [B, G, T + 1]) -> [B, G, T]`.
      lesion: `(value, rollout, key) -> value`, what is done to the truth, see `vfcompare.lesions`.
      sharpness: of the policy whose values are taken: 1 is the present one, less is a stale one whose logits
        were smaller, 0 the uniform one.
    """
    require_whole_episodes(spec)

    def estimate(params: None, rollout: Rollout, access: Access, key: Key) -> Estimate:
        del params
        value = lesion(access.value(rollout, sharpness), rollout, key)
        return Estimate(advantage(rollout, value), {}, {}, value)

    return Estimator(estimate, needs_state=True, privileged=True)


def mixed(
    *,
    spec: Spec,
    advantage: ValueAdvantage,
    target: ValueAdvantage,
    critic: Callable[..., Critic],
    eta: float,
) -> Estimator:
    """Partly learned and partly exact values: `V = (1 - η) V_learned + η V_exact`.

    Args:
      spec: the facts of the task.
      advantage: `(rollout, value [B, G, T + 1]) -> [B, G, T]`.
      target: `(rollout, value [B, G, T + 1]) -> [B, G, T]`, what the critic is fitted to; it reads
        the learned values alone.
      critic: `(spec) -> Critic`.
      eta: share of the truth, from 0 to 1.
    """
    require_whole_episodes(spec)
    learned = critic(spec=spec)

    def estimate(params: Params, rollout: Rollout, access: Access, key: Key) -> Estimate:
        del key
        own = learned.value(params, rollout)
        value = (1.0 - eta) * own + eta * access.value(rollout, 1.0)
        return Estimate(advantage(rollout, value), *lesson(rollout, own, target), value)

    return Estimator(estimate, learned, needs_state=True, privileged=True)


def require_whole_episodes(spec: Spec) -> None:
    """Exact values count time from an episode's start, which a fragment does not know."""
    if spec.dense:
        raise ValueError("estimator: exact values need collector=episodes, not fragments")


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

    def estimate(params: None, rollout: Rollout, access: Access, key: Key) -> Estimate:
        del params
        rows = rollout.mask.shape[-1] + 1
        live = jnp.concatenate([rollout.mask[..., :1], rollout.mask * rollout.discount], -1)
        time = jnp.broadcast_to(jnp.arange(rows), live.shape)
        flat = jax.tree.map(
            lambda x: jnp.repeat(x.reshape(-1, *x.shape[3:]), rollouts, 0), rollout.state
        )
        alive = jnp.repeat(live.reshape(-1), rollouts)
        episodes = access.simulate(flat, jnp.repeat(time.reshape(-1), rollouts), alive, key)
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
