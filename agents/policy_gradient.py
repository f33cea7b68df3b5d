"""The one skeleton of every agent: collect, estimate the advantage, improve the policy, fit the estimator."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct

from vfcompare import collect
from vfcompare.batching import Batching, Rows, descend, rows, summarise
from vfcompare.streams import stream
from vfcompare.types import (
    Array,
    Collector,
    Env,
    Estimator,
    Key,
    Learner,
    Metrics,
    Params,
    Policy,
    Rollout,
    Spec,
)

Surrogate = Callable[[Array, Array, Array], Array]
Aggregate = Callable[[Array], Array]


class State(struct.PyTreeNode):
    """What the learner carries from update to update."""

    params: Params
    opt_state: Any
    estimator: Any
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
    batching: Callable[..., Batching],
    entropy_coef: float,
    evaluation_episodes: int,
) -> Learner:
    """Assemble a learner from its parts.

    Args:
      env: the task.
      gamma: the agent's discount; the estimator's parts are bound to the same number.
      network: `(obs_ndim) -> body`, of the policy; a critic is given the same.
      policy: `(spec, network) -> Policy`.
      collector: `(env) -> Collector`.
      estimator: `(spec) -> Estimator`.
      surrogate: `(log_prob, behaviour_log_prob, advantage) -> loss`, per step.
      aggregate: `mask [B, G, T] -> weights [B, G, T]`.
      optimizer: of the policy.
      batching: `(dense) -> Batching`.
      entropy_coef: weight of the entropy bonus.
      evaluation_episodes: episodes of one evaluation, sampled and greedy each.
    """
    gatherer = collector(env)
    spec = Spec(env.observation_space, env.action_space, gatherer.shape, gatherer.dense)
    actor = policy(spec=spec, network=network)
    advisor = estimator(spec=spec)
    cut = batching(dense=gatherer.dense or actor.recurrent)

    def init(key: Key) -> State:
        start_key = stream(key, "example")
        obs = env.observation(env.initial(start_key), start_key)
        params = actor.init(stream(key, "policy"), obs)
        return State(
            params=params,
            opt_state=optimizer.init(params),
            estimator=advisor.init(stream(key, "estimator"), obs),
            collector=gatherer.init(stream(key, "collector"), actor),
        )

    def gather(
        params: Params, state: Any, key: Key, keep_state: bool = advisor.needs_state
    ) -> tuple[Any, Rollout, Metrics]:
        return gatherer.collect(state, actor, params, stream(key, "collect"), keep_state=keep_state)

    def values(params: Params, row: Rows) -> Array:
        log_prob, entropy = actor.evaluate(params, row["steps"])
        return surrogate(log_prob, row["log_prob"], row["advantage"]) - entropy_coef * entropy

    def step_sizes(params: Params, row: Rows) -> Metrics:
        log_prob, entropy = actor.evaluate(params, row["steps"])
        log_ratio = log_prob - row["log_prob"]
        excess = jnp.expm1(log_ratio)
        return {"entropy": entropy, "kl": excess - log_ratio, "ratio_deviation": abs(excess)}

    def improve(
        state: State, rollout: Rollout, advantage: Array, key: Key, progress: Array
    ) -> tuple[State, Metrics]:
        extra = {
            "log_prob": rollout.log_prob,
            "advantage": jax.lax.stop_gradient(advantage),
            "weight": aggregate(rollout.mask),
        }
        batch = rows(rollout, extra, recurrent=actor.recurrent)
        params, opt_state, metrics = descend(
            values, state.params, state.opt_state, optimizer, batch, key, cut, progress
        )
        metrics["policy_loss"] = metrics.pop("loss")
        metrics |= summarise(partial(step_sizes, params), batch, cut)
        return state.replace(params=params, opt_state=opt_state), metrics

    def update(state: State, key: Key, progress: Array) -> tuple[State, Metrics]:
        params = state.params
        collected, rollout, metrics = gather(params, state.collector, key)

        def simulate(states: Any, time: Array, alive: Array, key: Key) -> Rollout:
            return gatherer.simulate(states, time, alive, actor, params, key)

        advantage, estimated = advisor.advantage(
            state.estimator, rollout, simulate, stream(key, "advantage")
        )
        state, improved = improve(state, rollout, advantage, stream(key, "minibatch"), progress)
        fitted, fit = advisor.fit(state.estimator, rollout, stream(key, "fit"), progress)
        steps = rollout.mask.sum() + estimated.pop("simulated_steps", 0.0)
        metrics |= {"env_steps": steps, **estimated, **improved, **fit}
        metrics |= describe(advantage, rollout.mask)
        return state.replace(estimator=fitted, collector=collected), metrics

    return Learner(
        init=init,
        update=update,
        rollout=lambda params, state, key: gather(params, state, key, keep_state=True)[1],
        evaluate=lambda params, key: collect.evaluate(
            env, actor, params, key, number=evaluation_episodes
        ),
        parts=lambda state: {"policy": state.params, "critic": advisor.params(state.estimator)},
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
