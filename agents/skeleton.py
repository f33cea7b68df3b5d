"""The one skeleton of every agent: collect, estimate the advantage, improve the policy and the critic."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from vfcompare import aggregates, flops, masked, play
from vfcompare.batching import Batching, Optimizers, descend, present, rows, summarise
from vfcompare.contract import noting, require_declared, require_lesson, require_shape
from vfcompare.oracle import exact
from vfcompare.oracle.diagnostics import Examined
from vfcompare.streams import stream
from vfcompare.surrogates import Penalty, k3
from vfcompare.types import (
    Access,
    Array,
    Batch,
    Collected,
    Collector,
    Env,
    Key,
    Metrics,
    Networks,
    Params,
    Policy,
    Prior,
    Rollout,
    Update,
    Work,
)
from vfcompare.valuation import Estimate, Estimator

from . import measures
from .inheritance import fitting, inheriting
from .networks import example
from .policies import squared_score

Surrogate = Callable[[Array, Array, Array, Array], Array]
Aggregate = Callable[[Array], Array]


class State(struct.PyTreeNode):
    """What the learner carries from update to update.

    Attributes:
      params: of each network: `policy`, and `critic` where there is one.
      opt_state: of each network's optimiser.
      collector: where the collector stands.
      memory: what the estimator remembers.
      moved: how far the last update moved the policy, see `vfcompare.types.Access`.
      behaviour: the policy that collects and its age in updates, where it may be an older one, else None.
      reference: the policy at the start, where a penalty holds on to it or it has a prior, else None.
    """

    params: Networks
    opt_state: dict[str, Any]
    collector: Any
    memory: Any
    moved: Array
    behaviour: tuple[Params, Array] | None
    reference: Params | None


class Experience(NamedTuple):
    """What an update learns from.

    Attributes:
      collected: by the policy.
      reference: `[B, G, T]` log-probabilities under the initial policy, or None.
      estimate: what the estimator says of it.
      metrics: what to log.
    """

    collected: Collected
    reference: Array | None
    estimate: Estimate
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class Agent:
    """Parts that fit together. One update is `experience`, then `to_batch`, then `improve`.

    Attributes:
      policy: who acts.
      collector: how episodes are gathered.
      estimator: what says how good each action was.
      optimizers: one for each network.
      rows_of: what rows of a batch are, see `vfcompare.batching.rows`.
      batching: how a batch is cut.

    The others are arguments of `vfcompare.agents.policy_gradient.make`, and say there what they are.
    """

    env: Env
    gamma: float
    policy: Policy
    collector: Collector
    estimator: Estimator
    surrogate: Surrogate
    aggregate: Aggregate
    penalty: Penalty | None
    optimizers: Optimizers
    rows_of: str
    batching: Batching
    entropy_coef: float
    warmup: float
    refresh: int
    prior: Prior | None

    def init(self, key: Key) -> State:
        """The state before the first update."""
        obs = example(self.env, key)
        params: Networks = {"policy": self.policy.init(stream(key, "policy"), obs)}
        prior = self.prior
        if prior is not None and prior.params is not None:
            params["policy"] = fitting(prior.params, params["policy"])
        for name, critic in self.estimator.critics.items():
            params[name] = critic.init(stream(key, name), params, obs)
            if prior is not None and prior.inherited:
                params[name] = inheriting(params[name], params["policy"])
        held = self.penalty is not None or prior is not None
        return State(
            params=params,
            opt_state={name: self.optimizers[name].init(params[name]) for name in params},
            collector=self.collector.init(stream(key, "collector"), self.policy),
            memory=self.estimator.init(params),
            moved=jnp.float32(0.0),
            behaviour=None if self.refresh == 1 else (params["policy"], jnp.int32(0)),
            reference=params["policy"] if held else None,
        )

    def update(self, state: State, key: Key, progress: Array) -> Update:
        """Collect, estimate the advantage, improve policy and critic, see `vfcompare.types.Learner`."""
        seen = self.experience(state, key, progress)
        collected, estimate = seen.collected, seen.estimate
        state = state.replace(params=state.params | estimate.renewed)
        batch = self.to_batch(seen)
        state, finite, improved = self.improve(state, batch, stream(key, "minibatch"), progress)
        metrics = seen.metrics | estimate.metrics | improved | self.counts(seen)
        metrics |= measures.advantages(estimate.advantage, collected.rollout.mask)
        simulated = 0.0 if estimate.charge is None else estimate.charge.steps
        return Update(
            state=state.replace(collector=collected.state, memory=estimate.memory),
            env_steps=collected.charge.steps + simulated,
            episodes=collected.charge.episodes,
            finite=finite,
            metrics=metrics,
        )

    def experience(self, state: State, key: Key, progress: Array) -> Experience:
        """Collect, and say how good each action was."""
        params = state.params["policy"]
        acting = params if state.behaviour is None else state.behaviour[0]
        collected = self.gather(acting, state.collector, key)
        rollout = collected.rollout
        reference, paid, metrics = self.held_to(state.reference, rollout)
        asked: set[str] = set()
        access = noting(self.access(params, progress, state.moved), asked)
        estimate = self.estimator.estimate(
            state.memory, state.params, paid, access, stream(key, "advantage")
        )
        require_shape("estimator", "the advantage", estimate.advantage, rollout.mask)
        require_declared(self.estimator, estimate, asked)
        require_lesson(self.estimator, estimate.lesson, rollout.mask)
        return Experience(collected, reference, estimate, collected.metrics | metrics)

    def held_to(
        self, reference: Params | None, rollout: Rollout
    ) -> tuple[Array | None, Rollout, Metrics]:
        """What was collected, held against the policy at the start, where there is one to hold on to.

        Returns:
          Its log-probabilities `[B, G, T]` or None, the rollout with what it is paid, and what to log.
        """
        if reference is None:
            return None, rollout, {}
        log_prob, _ = self.policy.evaluate(reference, rollout.steps)
        metrics = {"reference_kl": masked.mean(k3(rollout.log_prob, log_prob), rollout.mask)}
        penalty = self.penalty
        if penalty is None:
            return log_prob, rollout, metrics
        divergence = penalty.divergence(rollout.log_prob, log_prob) * rollout.mask
        metrics["penalty"] = masked.mean(divergence, rollout.mask)
        if penalty.on_reward:
            rollout = rollout.replace(reward=rollout.reward - penalty.coef * divergence)
        return log_prob, rollout, metrics

    def to_batch(self, seen: Experience) -> Batch:
        """What the networks are to learn, as rows of a batch."""
        rollout, estimate = seen.collected.rollout, seen.estimate
        # What no reward teaches keeps its place in the episode, and counts for nothing.
        mask = rollout.mask.at[:, :, : self.env.mute].set(0.0)
        of_critics = dict.fromkeys(self.estimator.critics, aggregates.steps(rollout.mask))
        batch = Batch(
            steps=rollout.steps,
            valid=present(rollout.mask, self.rows_of),
            mask=mask,
            log_prob=rollout.log_prob,
            advantage=estimate.advantage,
            weight={"policy": self.aggregate(mask)} | of_critics,
            reference=seen.reference,
            lesson=estimate.lesson,
        )
        return rows(batch, rows_of=self.rows_of)

    def improve(
        self, state: State, batch: Batch, key: Key, progress: Array
    ) -> tuple[State, Array, Metrics]:
        """Descend the losses of all networks over the rows of a batch.

        Returns:
          The state after it, whether all losses and gradients were finite, and what to log.
        """
        warm = progress < self.warmup
        losses = self.losses
        if self.warmup > 0:
            losses = partial(self.losses_in_warmup, state.params, warm)
        params, opt_state, learned = descend(
            losses,
            state.params,
            state.opt_state,
            self.optimizers,
            batch,
            key,
            self.batching,
            progress,
        )
        if self.warmup > 0:
            before = (state.params["policy"], state.opt_state["policy"])
            after = (params["policy"], opt_state["policy"])
            kept = masked.choose(warm, before, after)
            params["policy"], opt_state["policy"] = kept
        metrics = {
            f"{name}_{what}": number
            for name, numbers in learned.items()
            for what, number in numbers.items()
        }
        sizes = partial(measures.step_sizes, self.policy, params["policy"])
        moved, sized = summarise(sizes, batch, "policy", self.batching)
        state = state.replace(
            params=params,
            opt_state=opt_state,
            moved=moved,
            behaviour=refreshed(state.behaviour, params["policy"], self.refresh),
        )
        finite = jnp.isfinite(jnp.stack(jax.tree.leaves(learned))).all()
        return state, finite, metrics | sized

    def losses(self, params: Networks, row: Batch) -> dict[str, Array]:
        """The loss of each network for each row."""
        log_prob, entropy = self.policy.evaluate(params["policy"], row.steps)
        loss = self.surrogate(log_prob, row.log_prob, row.advantage, row.mask)
        require_shape("surrogate", "the loss", loss, log_prob)
        loss -= self.entropy_coef * entropy
        penalty = self.penalty
        if penalty is not None and row.reference is not None and not penalty.on_reward:
            loss += penalty.coef * penalty.divergence(log_prob, row.reference)
        critics = self.estimator.critics
        of_critics = {name: critics[name].loss(params, row) for name in critics}
        for made in of_critics.values():
            require_shape("estimator.critic", "the loss", made, log_prob)
        return {"policy": loss} | of_critics

    def losses_in_warmup(
        self, begun: Networks, warm: Array, params: Networks, row: Batch
    ) -> dict[str, Array]:
        """The losses; while the critic warms up it learns on features of the policy as that will stay."""
        policy = masked.choose(warm, begun["policy"], params["policy"])
        return self.losses({**params, "policy": policy}, row)

    def counts(self, seen: Experience) -> Metrics:
        """Steps that an update learns from, steps of its gradients, and episodes that were simulated."""
        mask, charge = seen.collected.rollout.mask, seen.estimate.charge
        count = present(mask, self.rows_of).sum().astype(jnp.int32)
        gradient_steps = self.batching.epochs * self.batching.pieces(count)
        simulated = {} if charge is None else {"simulated_episodes": charge.episodes}
        return simulated | {
            "collected_steps": mask.sum(),
            "gradient_steps": jnp.float32(gradient_steps),
        }

    def gather(
        self, params: Params, state: Any, key: Key, *, keep_state: bool | None = None
    ) -> Collected:
        """Collect by a policy; environment states are kept where the estimator needs them, or as told."""
        kept = self.estimator.needs_state if keep_state is None else keep_state
        key = stream(key, "collect")
        return self.collector.collect(state, self.policy, params, key, keep_state=kept)

    def access(self, params: Params, progress: Array, moved: Array) -> Access:
        """What estimators may ask of the policy with these parameters, and of the task."""
        policy, gamma = self.policy, self.gamma

        def simulate(states: Any, key: Key, *, greedy: bool = False, **clock: Array) -> Rollout:
            who = play.greedy(policy) if greedy else policy
            return self.collector.simulate(states, who, params, key, **clock)

        def exact_value(rollout: Rollout, sharpness: float) -> Array:
            chances = exact.sharpened(exact.listed(policy, params), sharpness)
            env = exact.require_enumerable(self.env)
            return exact.along(env, chances, rollout.state, gamma=gamma)

        def log_prob(rollout: Rollout) -> Array:
            return policy.evaluate(params, rollout.steps)[0]

        def squared(rollout: Rollout) -> Array:
            return squared_score(policy, params, rollout.steps)

        return Access(simulate, exact_value, log_prob, squared, progress, moved)

    def subject(self) -> Examined:
        """What the lab holds against the truth."""

        def rollouts(params: Params, starts: Any, key: Key) -> Rollout:
            return self.collector.simulate(starts, self.policy, params, key, keep_state=True)

        def access(params: Params, progress: Array) -> Access:
            return self.access(params, progress, jnp.float32(0.0))

        env = exact.require_enumerable(self.env)
        groups, shared = self.collector.shape[:2], self.collector.shared
        parts = env, self.policy, self.estimator
        return Examined(*parts, groups, shared, rollouts, access, self.gamma)

    def work(self) -> Work:
        """What the networks compute."""

        def sample(key: Key) -> tuple[State, Rollout, Batch]:
            state = self.init(key)
            seen = self.experience(state, key, jnp.float32(0.0))
            return state, seen.collected.rollout, self.to_batch(seen)

        state, rollout, batch = jax.eval_shape(sample, jax.random.key(0))
        act, begin = flops.acting(self.policy, state.params["policy"], rollout)
        learn = flops.learning(
            self.policy,
            self.losses,
            state.params,
            batch,
            epochs=self.batching.epochs,
            anchored=state.reference is not None,
        )
        return Work(act, begin, learn)


def refreshed(
    behaviour: tuple[Params, Array] | None, params: Params, refresh: int
) -> tuple[Params, Array] | None:
    """The policy that collects and its age, brought up to date every `refresh` updates."""
    if behaviour is None:
        return None
    age = behaviour[1] + 1
    due = age >= refresh
    return masked.choose(due, params, behaviour[0]), jnp.where(due, 0, age)
