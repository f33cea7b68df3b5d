"""An agent from its parts, which are held against each other before any of them is used."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as nn
import optax

from vfcompare import collect, evaluation
from vfcompare.batching import Batching
from vfcompare.contract import require_critic
from vfcompare.oracle import exact, maps
from vfcompare.oracle.diagnostics import Lab, examine
from vfcompare.surrogates import Penalty
from vfcompare.types import Collector, Env, Judge, Learner, Policy, Prior, Spec
from vfcompare.valuation import Estimator

from .skeleton import Agent, Aggregate, Surrogate


class Parts(NamedTuple):
    """What factories made, each knowing the facts of those before it.

    Attributes:
      collector: how episodes are gathered.
      policy: who acts.
      estimator: what says how good each action was.
    """

    collector: Collector
    policy: Policy
    estimator: Estimator


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
    penalty: Penalty | None,
    optimizer: optax.GradientTransformationExtraArgs,
    rows_of: str,
    batching: Callable[..., Batching],
    entropy_coef: float,
    evaluation_episodes: int,
    evaluation_attempts: int,
    warmup: float,
    refresh: int,
    prior: Prior | None,
    judge: Judge | None,
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
      penalty: for leaving the initial policy, or None.
      optimizer: of the policy.
      rows_of: what minibatches are made of, `steps`, whole `episodes` or whole `groups`. Surrogates of whole
        episodes need episodes, and those that compare episodes groups. Networks with a memory read whole
        episodes: with one, be it the policy's or a critic's, `steps` becomes `episodes`.
      batching: `(dense) -> Batching`.
      entropy_coef: weight of the entropy bonus.
      evaluation_episodes: start states of one evaluation.
      evaluation_attempts: episodes by sampled actions from each of them; there is one greedy one.
      warmup: share of the budget in which the policy stays as it was initialised and only a critic learns.
      refresh: updates after which the policy that collects is brought up to date; 1 is on-policy.
      prior: what the policy has learned before, or None.
      judge: what pays in place of the task's verifier, or None; evaluation knows the truth.
      lab: how much to measure against the truth at each evaluation, or None.
    """
    parts = completed(env, judge, network, collector, policy, estimator)
    require_critic(parts.estimator)
    require_clock(env, parts)
    require_truth(env, parts, judged=judge is not None, examined=lab is not None)
    critics, whole_episodes = parts.estimator.critics, parts.collector.whole_episodes
    remembers = parts.policy.recurrent or any(critic.recurrent for critic in critics.values())
    rows_of = "episodes" if remembers and rows_of == "steps" else rows_of
    agent = Agent(
        env=env,
        gamma=gamma,
        policy=parts.policy,
        collector=parts.collector,
        estimator=parts.estimator,
        surrogate=surrogate,
        aggregate=aggregate,
        penalty=penalty,
        optimizers={"policy": optimizer} | {name: critics[name].optimizer for name in critics},
        rows_of=rows_of,
        batching=batching(dense=not whole_episodes or rows_of != "steps"),
        entropy_coef=entropy_coef,
        warmup=warmup,
        refresh=refresh,
        prior=prior,
    )
    examined = None if lab is None else (lab, agent.subject())
    return Learner(
        init=agent.init,
        update=agent.update,
        rollout=lambda params, state, key: (
            agent.gather(params, state, key, keep_state=True).rollout
        ),
        evaluate=lambda params, key: evaluation.evaluate(
            env.held_out(),
            parts.policy,
            params,
            key,
            number=evaluation_episodes,
            attempts=evaluation_attempts,
        ),
        even_cost=not whole_episodes,
        privileged=parts.estimator.privileged,
        examine=None if examined is None else partial(examine, *examined),
        work=agent.work,
        maps=None if examined is None or not maps.drawable(env) else partial(maps.draw, *examined),
    )


def completed(
    env: Env,
    judge: Judge | None,
    network: Callable[..., nn.Module],
    make_collector: Callable[..., Collector],
    make_policy: Callable[..., Policy],
    make_estimator: Callable[..., Estimator],
) -> Parts:
    """A policy that knows the facts of its task, and an estimator that knows those of the policy, too."""
    collector = make_collector(env)
    if judge is not None:
        collector = collect.judged(collector, judge)
    spec = Spec(
        observation_space=env.observation_space,
        action_space=env.action_space,
        shape=collector.shape,
        whole_episodes=collector.whole_episodes,
        shared=collector.shared,
        layout=env.layout,
    )
    policy = make_policy(spec=spec, network=network)
    spec = spec._replace(
        features=policy.features,
        sequential=policy.begin is not None,
        recurrent=policy.recurrent and policy.begin is None,
    )
    return Parts(collector, policy, make_estimator(spec=spec))


def require_clock(env: Env, parts: Parts) -> None:
    """Whole episodes, where exact values or steps that no reward teaches are known by their time in one.

    Raises:
      ValueError: for fragments.
    """
    if not parts.collector.whole_episodes and (parts.estimator.privileged or env.mute):
        raise ValueError(
            "agent.collector: exact values, and steps that no reward teaches, are known by their time in the "
            "episode; allowed: collector@agent.collector=episodes"
        )


def require_truth(env: Env, parts: Parts, *, judged: bool, examined: bool) -> None:
    """Parts with which exact values are known, where the estimator or the lab asks for them.

    Raises:
      ValueError: for a judge; for tasks and policies that cannot be enumerated.
    """
    asked = parts.estimator.privileged or examined
    if judged and asked:
        raise ValueError(
            "agent.judge: exact values are known of what the verifier pays; allowed: null with agent.lab and "
            "agents that know exact values"
        )
    if asked:
        exact.require_enumerable(env)
        exact.require_listed(parts.policy.log_probs)
