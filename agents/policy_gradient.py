"""The one skeleton of every agent: collect, estimate the advantage, improve the policy and the critic."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from vfcompare import collect, exact, maps
from vfcompare.batching import Batching, Rows, descend, rows, summarise
from vfcompare.diagnostics import Lab, Subject, examine
from vfcompare.streams import stream
from vfcompare.surrogates import token
from vfcompare.types import (
    Access,
    Array,
    Collector,
    Env,
    Estimate,
    Estimator,
    Key,
    Learner,
    Metrics,
    Params,
    Policy,
    Rollout,
    Spec,
)

Surrogate = Callable[[Array, Array, Array, Array], Array]
Aggregate = Callable[[Array], Array]


class State(struct.PyTreeNode):
    """What the learner carries from update to update.

    Attributes:
      params: of each network: `policy`, and `critic` where there is one.
      opt_state: of each network's optimiser.
      collector: where the collector stands.
    """

    params: dict[str, Params]
    opt_state: dict[str, Any]
    collector: Any


def make(
    *,
    env: Env,
    gamma: float,
    network: Callable[..., nn.Module],
    policy: Callable[..., Policy],
    collector: Callable[..., Collector],
    estimator: Callable[..., Estimator],
    surrogate: Surrogate,
    aggregate: Aggregate,
    optimizer: optax.GradientTransformationExtraArgs,
    rows_of: str,
    batching: Callable[..., Batching],
    entropy_coef: float,
    evaluation_episodes: int,
    freeze_policy: bool,
    lab: Lab | None,
) -> Learner:
    """Assemble a learner from its parts.

    Args:
      env: the task.
      gamma: the agent's discount; the estimator's parts are bound to the same number.
      network: `(obs_ndim) -> body`, of the policy; a critic is given the same.
      policy: `(spec, network) -> Policy`.
      collector: `(env) -> Collector`.
      estimator: `(spec) -> Estimator`.
      surrogate: `(log_prob, behaviour_log_prob, advantage, mask) -> loss`, per step.
      aggregate: `mask [B, G, T] -> weights [B, G, T]`.
      optimizer: of the policy.
      rows_of: what minibatches are made of, `steps` or whole `episodes`; networks with a memory and
        surrogates of whole episodes need episodes.
      batching: `(dense) -> Batching`.
      entropy_coef: weight of the entropy bonus.
      evaluation_episodes: episodes of one evaluation, sampled and greedy each.
      freeze_policy: whether the policy stays as it was initialised, so that only a critic learns.
      lab: how much to measure against the truth at each evaluation, or None.
    """
    gatherer = collector(env)
    spec = Spec(env.observation_space, env.action_space, gatherer.shape, gatherer.dense)
    actor = policy(spec=spec, network=network)
    advisor = estimator(spec=spec)
    critic = advisor.critic
    remembers = actor.recurrent or (critic is not None and critic.recurrent)
    whole = remembers or rows_of == "episodes"
    if advisor.privileged or lab is not None:
        exact.require_enumerable(env)
        exact.require_listed(actor.log_probs)
    cut = batching(dense=gatherer.dense or whole)
    optimizers = {"policy": optimizer} | ({} if critic is None else {"critic": critic.optimizer})

    def init(key: Key) -> State:
        start_key = stream(key, "example")
        obs = env.observation(env.initial(start_key), start_key)
        params = {"policy": actor.init(stream(key, "policy"), obs)}
        if critic is not None:
            params["critic"] = critic.init(stream(key, "critic"), obs)
        return State(
            params=params,
            opt_state={name: optimizers[name].init(params[name]) for name in params},
            collector=gatherer.init(stream(key, "collector"), actor),
        )

    def gather(
        params: Params, state: Any, key: Key, keep_state: bool = advisor.needs_state
    ) -> tuple[Any, Rollout, Metrics]:
        return gatherer.collect(state, actor, params, stream(key, "collect"), keep_state=keep_state)

    def access(params: Params) -> Access:
        def simulate(states: Any, time: Array, alive: Array, key: Key) -> Rollout:
            return gatherer.simulate(states, time, alive, actor, params, key)

        def value(rollout: Rollout, sharpness: float) -> Array:
            listed = exact.require_listed(actor.log_probs)
            chances = exact.sharpened(partial(listed, params), sharpness)
            return exact.along(env, chances, rollout.state, gamma=gamma)

        return Access(simulate, value)

    def values(params: dict[str, Params], row: Rows) -> dict[str, Array]:
        log_prob, entropy = actor.evaluate(params["policy"], row["steps"])
        loss = surrogate(log_prob, row["log_prob"], row["advantage"], row["mask"])
        loss -= entropy_coef * entropy
        if critic is None:
            return {"policy": loss}
        return {"policy": loss, "critic": critic.loss(params["critic"], row)}

    def step_sizes(params: Params, row: Rows) -> Metrics:
        log_prob, entropy = actor.evaluate(params, row["steps"])
        log_ratio = log_prob - row["log_prob"]
        excess = jnp.expm1(log_ratio)
        return {
            "entropy": entropy,
            "kl": excess - log_ratio,
            "ratio_deviation": abs(excess),
            "probability_before": jnp.exp(row["log_prob"]),
            "probability": jnp.exp(log_prob),
        }

    def improve(
        state: State, rollout: Rollout, estimate: Estimate, key: Key, progress: Array
    ) -> tuple[State, Metrics]:
        weight = {"policy": aggregate(rollout.mask), "critic": token(rollout.mask)}
        extra = {
            "log_prob": rollout.log_prob,
            "advantage": estimate.advantage,
            "mask": rollout.mask,
            "critic": estimate.lesson,
            "weight": {name: weight[name] for name in state.params},
        }
        batch = rows(rollout, jax.lax.stop_gradient(extra), whole=whole)
        params, opt_state, learned = descend(
            values, state.params, state.opt_state, optimizers, batch, key, cut, progress
        )
        if freeze_policy:
            params["policy"] = state.params["policy"]
        metrics = {
            f"{name}_{what}": number
            for name, numbers in learned.items()
            for what, number in numbers.items()
        }
        metrics |= summarise(partial(step_sizes, params["policy"]), batch, "policy", cut)
        return state.replace(params=params, opt_state=opt_state), metrics

    def update(state: State, key: Key, progress: Array) -> tuple[State, Metrics]:
        params = state.params["policy"]
        collected, rollout, metrics = gather(params, state.collector, key)

        estimate = advisor.estimate(
            state.params.get("critic"), rollout, access(params), stream(key, "advantage")
        )
        state, improved = improve(state, rollout, estimate, stream(key, "minibatch"), progress)
        steps = rollout.mask.sum() + estimate.metrics.pop("simulated_steps", 0.0)
        metrics |= {"env_steps": steps, **estimate.metrics, **improved}
        metrics |= describe(estimate.advantage, rollout.mask)
        return state.replace(collector=collected), metrics

    def rollouts(params: Params, starts: Any, key: Key) -> Rollout:
        number = len(jax.tree.leaves(starts)[0])
        time, alive = jnp.zeros(number, jnp.int32), jnp.ones(number, bool)
        return gatherer.simulate(starts, time, alive, actor, params, key, keep_state=True)

    subject = Subject(env, actor, advisor, gatherer.shape[:2], rollouts, access, gamma)
    return Learner(
        init=init,
        update=update,
        rollout=lambda params, state, key: gather(params, state, key, keep_state=True)[1],
        evaluate=lambda params, key: collect.evaluate(
            env, actor, params, key, number=evaluation_episodes
        ),
        dense=gatherer.dense,
        privileged=advisor.privileged,
        examine=None if lab is None else partial(examine, lab, subject),
        maps=None if lab is None or not maps.drawable(env) else partial(maps.draw, lab, subject),
    )


def describe(advantage: Array, mask: Array) -> Metrics:
    """Mean and deviation of the advantages, and the share of groups in which any step has one."""
    mean = (advantage * mask).sum() / mask.sum()
    variance = (jnp.square(advantage - mean) * mask).sum() / mask.sum()
    return {
        "advantage_mean": mean,
        "advantage_std": jnp.sqrt(variance),
        "signal_fraction": (abs(advantage) > 0).any((1, 2)).mean(),
    }
