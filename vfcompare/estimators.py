"""Turn a function of a rollout into an `Estimator`: without critic, with one, by simulation, by the truth."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vfcompare import masked
from vfcompare.advantages import Credit, Scale, relative
from vfcompare.baselines import fingerprint
from vfcompare.returns import discounted_return, outcome
from vfcompare.streams import stream
from vfcompare.types import (
    Access,
    Array,
    Charge,
    Key,
    Lesson,
    Metrics,
    Networks,
    Params,
    Rollout,
    Spec,
)
from vfcompare.valuation import Critic, Estimate, Estimator, Lesion, Reading

Advantage = Callable[[Rollout, Access], Array]
ValueAdvantage = Callable[[Rollout, Array], Array]


def value_free(*, spec: Spec, advantage: Advantage) -> Estimator:
    """An estimator that learns and remembers nothing: `advantage(rollout, access) -> [B, G, T]`."""
    require_whole_episodes(spec, "returns")

    def estimate(
        memory: tuple[()], networks: Networks, rollout: Rollout, access: Access, key: Key
    ) -> Estimate:
        del memory, networks, key
        return Estimate(advantage(rollout, access))

    return Estimator(estimate)


def greedy(*, spec: Spec, gamma: float, credit: Credit, scale: Scale) -> Estimator:
    """`A = R - R(greedy)`: the baseline is one more episode from the same start by the most probable actions.

    ReMax (Li et al., 2023, arXiv:2310.10505). The baseline knows nothing of the sample, so it is unbiased;
    the episode is charged to the budget. Rollouts that begin in the same state share one.

    Args:
      spec: the facts of the task.
      gamma: the agent's discount.
      credit: see `vfcompare.advantages.relative`.
      scale: see `vfcompare.advantages.relative`.
    """
    require_whole_episodes(spec, "greedy episodes from the same start")

    def estimate(
        memory: tuple[()], networks: Networks, rollout: Rollout, access: Access, key: Key
    ) -> Estimate:
        del networks
        prompts, group = rollout.mask.shape[:2]
        each = 1 if spec.shared else group
        starts = jax.tree.map(lambda x: x[:, :each, 0].reshape(-1, *x.shape[3:]), rollout.state)
        best = access.simulate(starts, key, greedy=True)
        baseline = discounted_return(best, gamma=gamma).reshape(prompts, each, 1)
        advantage = relative(
            rollout, access, gamma=gamma, credit=credit, baseline=lambda _: baseline, scale=scale
        )
        return Estimate(advantage, memory=memory, charge=charged(best))

    return Estimator(estimate, needs_state=True)


class Tracker(NamedTuple):
    """Sums that are remembered of each prompt; fields are `[slots]`.

    Attributes:
      total: of the returns.
      number: of the rollouts.
      moved: how far the policy went since the prompt was last met, see `Access`.
    """

    total: Array
    number: Array
    moved: Array


def tracked(
    *,
    spec: Spec,
    gamma: float,
    credit: Credit,
    scale: Scale,
    slots: int,
    prior_mean: float,
    prior_count: float,
    half: float,
    keep_low: float,
    keep_high: float,
) -> Estimator:
    """`A = R - b(prompt)`, `b` a mean of earlier returns of the same prompt that forgets as the policy moves.

    `b = S / N`, read before the update `S ← ρ S + Σ R`, `N ← ρ N + n` with `ρ = clip(2^(-D / half), low,
    high)` and `D` how far the policy went since. SPO (arXiv:2509.13232): with returns of 0 and 1 it is the
    mean of its Beta distribution. With one slot and `low = high` it is the running mean of REINFORCE
    (Williams, 1992). `D` is added up over the batches in between, a bound of SPO's, which asks the prompt's
    own last response again.

    Args:
      spec: the facts of the task.
      gamma: the agent's discount.
      credit: see `vfcompare.advantages.relative`.
      scale: see `vfcompare.advantages.relative`.
      slots: prompts are told apart by a hash of their first observation with so many values; prompts of one
        slot share their mean, so tasks with ever new prompts have a running mean.
      prior_mean: mean before any return.
      prior_count: how many returns that is worth.
      half: distance after which half is forgotten.
      keep_low: least share that is kept at a visit.
      keep_high: largest share that is kept at a visit.
    """
    require_whole_episodes(spec, "returns of a prompt")

    def init(networks: Networks) -> Tracker:
        del networks
        count = jnp.full(slots, prior_count)
        return Tracker(prior_mean * count, count, jnp.zeros(slots))

    def estimate(
        memory: Tracker, networks: Networks, rollout: Rollout, access: Access, key: Key
    ) -> Estimate:
        del networks, key
        first = rollout.obs[:, :, 0].reshape(*rollout.mask.shape[:2], -1)
        slot = fingerprint(first) % slots
        return_ = outcome(rollout, gamma=gamma)[..., 0]
        scored = jnp.isfinite(return_)
        met = jnp.zeros(slots).at[slot].add(scored.astype(jnp.float32))
        moved = memory.moved + access.moved
        known = jnp.maximum(memory.number, 1e-8)
        baseline = jnp.where(memory.number > 0, memory.total / known, 0.0)[slot][..., None]
        advantage = relative(
            rollout, access, gamma=gamma, credit=credit, baseline=lambda _: baseline, scale=scale
        )
        keep = jnp.where(met > 0, jnp.clip(2.0 ** (-moved / half), keep_low, keep_high), 1.0)
        memory = Tracker(
            total=(keep * memory.total).at[slot].add(jnp.where(scored, return_, 0.0)),
            number=keep * memory.number + met,
            moved=jnp.where(met > 0, 0.0, moved),
        )
        return Estimate(advantage, memory=memory)

    return Estimator(estimate, init)


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

    def advise(
        rollout: Rollout, value: Array, undamaged: Array, access: Access, key: Key
    ) -> Advice:
        del access, key
        return Advice(advantage(rollout, value), target(rollout, undamaged), value)

    return with_critic(critic(spec=spec), advise)


class Advice(NamedTuple):
    """What is made of values.

    Attributes:
      advantage: `[B, G, T]`.
      target: `[B, G, T]`, what the critic is to learn.
      value: `[B, G, T + 1]`, the values that the advantage was made of.
      metrics: what to log.
    """

    advantage: Array
    target: Array
    value: Array
    metrics: Metrics = {}  # noqa: RUF012 - never written to


def with_critic(
    critic: Critic,
    advise: Callable[[Rollout, Array, Array, Access, Key], Advice],
    *,
    privileged: bool = False,
) -> Estimator:
    """What all estimators with a learned critic have in common: its unit, its lesion, its lesson.

    Args:
      critic: the learned value function.
      advise: `(rollout, value, undamaged, access, key) -> Advice`; `value` is what is to be read, `undamaged`
        what the critic says without its lesion, or the one that has taken its place.
      privileged: whether exact values are asked for, beside what the lesion asks.
    """

    def init(networks: Networks) -> tuple[Any, Any]:
        scale = critic.scaling.init
        return scale, critic.lesion.init((networks["critic"], scale))

    def said(networks: Networks, scale: Any, rollout: Rollout) -> Array:
        return critic.scaling.unit(scale).up(critic.value(networks, rollout))

    def value(memory: tuple[Any, Any], networks: Networks, rollout: Rollout) -> Array:
        return said(networks, memory[0], rollout)

    def estimate(
        memory: tuple[Any, Any], networks: Networks, rollout: Rollout, access: Access, key: Key
    ) -> Estimate:
        # What a critic says depends on the unit it is read in, which an older critic brings along.
        def read(held: tuple[Params, Any]) -> Array:
            params, scale = held
            return said(networks | {"critic": params}, scale, rollout)

        scale, harm = memory
        present = networks["critic"], scale
        undamaged = read(present)
        hurt = critic.lesion.apply(harm, Reading(present, undamaged, read), rollout, access, key)
        renewed: Networks = {}
        if hurt.critic is not None:
            undamaged = read(hurt.critic)
            renewed["critic"], scale = hurt.critic
        advantage, target, used, metrics = advise(
            rollout, hurt.value, undamaged, access, stream(key, "advice")
        )
        explained = masked.explained_variance(undamaged[..., :-1], target, rollout.mask)
        # What the network puts out now: a clip of its steps begins there, whatever the unit becomes.
        old = critic.scaling.unit(scale).down(undamaged[..., :-1])
        scale = critic.scaling.update(scale, rollout)
        lesson = Lesson(critic.scaling.unit(scale).down(target), old, episode_index(target))
        metrics = {"explained_variance": explained, **metrics}
        memory = scale, hurt.memory
        return Estimate(advantage, lesson, metrics, value=used, memory=memory, renewed=renewed)

    asks = privileged or critic.lesion.privileged
    critics = {"critic": critic}
    return Estimator(estimate, init, critics, value, needs_state=asks, privileged=asks)


def episode_index(x: Array) -> Array:
    """`[B, G, T]`, the number of each step's episode in the batch."""
    number = jnp.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], 1)
    return jnp.broadcast_to(number, x.shape)


def gated(
    *,
    spec: Spec,
    advantage: ValueAdvantage,
    otherwise: Callable[..., Estimator],
    target: ValueAdvantage,
    critic: Callable[..., Critic],
) -> Estimator:
    """The critic's advantage while the critic explains anything, else one without a critic.

    EVPO (arXiv:2604.19485): per batch `EV = 1 - Var(G - V) / Var(G)`; `EV > 0` takes the critic, else the
    batch mean.

    Args:
      spec: the facts of the task.
      advantage: `(rollout, value) -> [B, G, T]`, with the critic.
      otherwise: `(spec) -> Estimator`, without; one that remembers nothing.
      target: `(rollout, value) -> [B, G, T]`, `G`: what the critic is fitted to and the gate holds it
        against.
      critic: `(spec) -> Critic`.

    Raises:
      ValueError: where the one without a critic has more than an advantage to say.
    """
    require_whole_episodes(spec, "returns")
    other = otherwise(spec=spec)
    if other.needs_state or other.critics or jax.tree.leaves(other.init({})):
        raise ValueError(
            "estimator.otherwise learns, remembers or simulates, for which there is no room here; allowed: "
            "one that does not, such as batch_mean"
        )

    def advise(
        rollout: Rollout, value: Array, undamaged: Array, access: Access, key: Key
    ) -> Advice:
        goal = target(rollout, undamaged)
        known = masked.explained_variance(value[..., :-1], goal, rollout.mask, floor=0.0) > 0
        choice = jnp.where(
            known, advantage(rollout, value), other.estimate((), {}, rollout, access, key).advantage
        )
        return Advice(choice, goal, value, {"gate": known.astype(jnp.float32)})

    return with_critic(critic(spec=spec), advise)


def auxiliary(
    *,
    spec: Spec,
    advantage: Advantage,
    target: ValueAdvantage,
    critic: Callable[..., Critic],
) -> Estimator:
    """A critic that learns and is never read: a control for its work, and for what a shared trunk learns.

    Args:
      spec: the facts of the task.
      advantage: `(rollout, access) -> [B, G, T]`, without the critic.
      target: `(rollout, value) -> [B, G, T]`: a value, or something that is none, such as `elapsed`.
      critic: `(spec) -> Critic`.
    """
    require_whole_episodes(spec, "returns")

    def advise(
        rollout: Rollout, value: Array, undamaged: Array, access: Access, key: Key
    ) -> Advice:
        del key
        return Advice(advantage(rollout, access), target(rollout, undamaged), value)

    return with_critic(critic(spec=spec), advise)


def off_policy(
    *, spec: Spec, advantage: Callable[..., tuple[Array, Array]], critic: Callable[..., Critic]
) -> Estimator:
    """Advantage and target corrected for experience of an older policy, see `vfcompare.advantages.vtrace`.

    Experience is old where `agent.refresh` is above 1, as that of IMPALA's actors.

    Args:
      spec: the facts of the task.
      advantage: `(rollout, value, ratio) -> (advantage, target)`.
      critic: `(spec) -> Critic`.
    """

    def advise(
        rollout: Rollout, value: Array, undamaged: Array, access: Access, key: Key
    ) -> Advice:
        del key
        ratio = jnp.exp((access.log_prob(rollout) - rollout.log_prob) * rollout.mask)
        made, goal = advantage(rollout, value, ratio)[0], advantage(rollout, undamaged, ratio)[1]
        return Advice(made, goal, value, {"off_policy_ratio": masked.mean(ratio, rollout.mask)})

    return with_critic(critic(spec=spec), advise)


def exact(*, spec: Spec, advantage: ValueAdvantage, lesion: Lesion, sharpness: float) -> Estimator:
    """Exact values of the present policy, from dynamic programming: what a perfect critic would say.

    Args:
      spec: the facts of the task.
      advantage: `(rollout, value [B, G, T + 1]) -> [B, G, T]`.
      lesion: what is done to the truth, see `vfcompare.lesions`.
      sharpness: of the policy whose values are taken: 1 is the present one, less is a stale one whose logits
        were smaller, 0 the uniform one.
    """
    require_whole_episodes(spec, "exact values")

    def estimate(
        memory: Any, networks: Networks, rollout: Rollout, access: Access, key: Key
    ) -> Estimate:
        del networks
        truth = access.exact_value(rollout, sharpness)
        reading = Reading((), truth, lambda _: truth)
        found = lesion.apply(memory, reading, rollout, access, key)
        advised = advantage(rollout, found.value)
        return Estimate(advised, value=found.value, memory=found.memory)

    return Estimator(estimate, lambda networks: lesion.init(()), needs_state=True, privileged=True)


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
      critic: `(spec) -> Critic`, the learned value function.
      eta: share of the truth, from 0 to 1.
    """
    require_whole_episodes(spec, "exact values")

    def advise(
        rollout: Rollout, value: Array, undamaged: Array, access: Access, key: Key
    ) -> Advice:
        del key
        value = (1.0 - eta) * value + eta * access.exact_value(rollout, 1.0)
        return Advice(advantage(rollout, value), target(rollout, undamaged), value)

    return with_critic(critic(spec=spec), advise, privileged=True)


def charged(episodes: Rollout) -> Charge:
    """What episodes of the estimator's own cost."""
    return Charge(episodes.mask.sum(), episodes.mask[..., 0].sum())


def require_whole_episodes(spec: Spec, what: str) -> None:
    """Whatever counts from an episode's start, which a fragment does not know."""
    if not spec.whole_episodes:
        raise ValueError(f"estimator: {what} need collector=episodes, not fragments")


def simulated(*, spec: Spec, advantage: ValueAdvantage, rollouts: int, gamma: float) -> Estimator:
    """Values by fresh episodes of the present policy from every visited state, charged to the budget.

    `V(s_t) = (1/K) Σ_k R_k`, VinePPO (Kazemnejad et al., 2024, arXiv:2410.01679; `K = 9`).

    Args:
      spec: the facts of the task.
      advantage: `(rollout, value [B, G, T + 1]) -> [B, G, T]`.
      rollouts: `K`, episodes from each state.
      gamma: the agent's discount.
    """
    require_whole_episodes(spec, "episodes that begin in the middle of another")
    if spec.recurrent:
        raise ValueError(
            "estimator: episodes that begin in the middle of another need a policy without a memory; "
            "allowed: network@agent.network=mlp, cnn or transformer"
        )

    def estimate(
        memory: tuple[()], networks: Networks, rollout: Rollout, access: Access, key: Key
    ) -> Estimate:
        del memory, networks
        rows = rollout.mask.shape[-1] + 1
        live = jnp.concatenate([rollout.mask[..., :1], rollout.mask * rollout.discount], -1)
        time = jnp.broadcast_to(jnp.arange(rows), live.shape)
        flat = jax.tree.map(
            lambda x: jnp.repeat(x.reshape(-1, *x.shape[3:]), rollouts, 0), rollout.state
        )
        alive = jnp.repeat(live.reshape(-1), rollouts)
        time = jnp.repeat(time.reshape(-1), rollouts)
        episodes = access.simulate(flat, key, time=time, alive=alive)
        return_ = discounted_return(episodes, gamma=gamma).reshape(*live.shape, rollouts)
        value = return_.mean(-1) * live
        return Estimate(advantage(rollout, value), charge=charged(episodes))

    return Estimator(estimate, needs_state=True)
