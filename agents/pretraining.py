"""What a policy is before it is rewarded: supervised learning of demonstrations."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vfcompare import collect, evaluation, masked, play
from vfcompare.streams import stream
from vfcompare.types import Array, Key, Metrics, Params, Policy, Rollout, Steps

from . import supervised
from .networks import example
from .transformer import Transformer, sharpened


class Taught(supervised.Verified, Protocol):
    """A task in tokens that knows right answers."""

    prompt_length: int

    def demonstration(self, state: Any, key: Key) -> Array:
        """The tokens of a good episode from a start state, int32[L]."""

    def along(self, tokens: Array) -> tuple[Any, Array, Array]:
        """The states, actions and mask of an episode that is known."""


class Pretraining(NamedTuple):
    """A supervised learner as pure functions.

    Attributes:
      init: `(key) -> state`, whose first entry is the policy's parameters.
      update: `(state, key) -> (state, loss)`.
      measure: `(params, key) -> metrics`, on held-out prompts, see `vfcompare.evaluation.evaluate`.
      sharpen: `(params, factor) -> params` whose logits are `factor` times as large, or None where the
        network has no number for that.
    """

    init: Callable[[Key], tuple[Params, Any]]
    update: Callable[[tuple[Params, Any], Key], tuple[tuple[Params, Any], Array]]
    measure: Callable[[Params, Key], Metrics]
    sharpen: Callable[[Params, Array], Params] | None


def make(
    *,
    env: Taught,
    network: Callable[..., nn.Module],
    policy: Callable[..., Policy],
    optimizer: optax.GradientTransformationExtraArgs,
    batch: int,
    correct: float,
    prompts: int,
    attempts: int,
) -> Pretraining:
    """Maximum likelihood of demonstrations, `L = -Σ_t m_t log π(a_t | s_t) / Σ m`.

    Where the first step is a report of how the answer will come out (`env.report`), also that of the truth
    about the policy's own answers, so that it begins as calibrated as it can be.

    Args:
      env: a task in tokens; demonstrations are of the prompts that are not held out.
      network: `(obs_ndim) -> body`.
      policy: `(spec, network) -> Policy`.
      optimizer: of the policy.
      batch: demonstrations of one update.
      correct: share of them that are right. The others carry the answer to another prompt, which where few
        answers are possible may happen to be right.
      prompts: of one measurement.
      attempts: answers to each.

    Raises:
      ValueError: where the task has no demonstrations, or no answer that is right or wrong.
    """
    # A twin hands on what its task is passed with, but no demonstrations.
    if env.passes is None or not hasattr(env, "demonstration"):
        raise ValueError(
            "agent.prior needs demonstrations of answers that are right or wrong; allowed: tasks in tokens "
            "with a verifier, such as env=addition (`vfcompare list env`), or agent.prior=null"
        )
    actor, body = supervised.parts(env, network, policy, batch, 1)

    def init(key: Key) -> tuple[Params, Any]:
        obs = example(env, key)
        params = actor.init(stream(key, "policy"), obs)
        return params, optimizer.init(params)

    gather = collect.episodes(env, prompts=batch, group=1, start="shared").collect

    def loss(params: Params, lessons: list[tuple[Steps, Array]]) -> Array:
        each = []
        for taught, mask in lessons:
            log_prob, _ = actor.evaluate(params, taught)
            each.append(-masked.mean(log_prob, mask))
        return sum(each, start=jnp.float32(0.0))

    def update(state: tuple[Params, Any], key: Key) -> tuple[tuple[Params, Any], Array]:
        params, opt_state = state
        lessons = [taken(env, actor, demonstrations(env, key, batch, correct))]
        if env.report is not None:
            lessons.append(reported(env, gather((), actor, params, key, keep_state=False).rollout))
        params, opt_state, value = supervised.step(loss, optimizer, params, opt_state, lessons)
        return (params, opt_state), value

    measure = partial(evaluation.evaluate, env.held_out(), actor, number=prompts, attempts=attempts)
    return Pretraining(init, update, measure, sharpened if isinstance(body, Transformer) else None)


def demonstrations(env: Taught, key: Key, number: int, correct: float) -> Array:
    """Tokens of episodes, int32[number, L], of which a share `correct` is right, see `make`."""
    start = jax.vmap(env.initial)(jax.random.split(stream(key, "start"), number))
    tokens = jax.vmap(env.demonstration)(start, jax.random.split(stream(key, "answer"), number))
    right = jax.random.uniform(stream(key, "correct"), (number, 1)) < correct
    prompt = np.arange(tokens.shape[1]) < env.prompt_length
    return jnp.where(right | prompt, tokens, jnp.roll(tokens, 1, 0))


def reported(env: Taught, rollout: Rollout) -> tuple[Steps, Array]:
    """The policy's own answers, in which the first step says how they came out, and a mask of that step."""
    assert env.report is not None
    told, shown = rollout.steps, rollout.obs[:, :, -1]
    tokens = shown if env.layout is not None else shown.argmax(-1)
    truth = env.report(jax.vmap(jax.vmap(env.correct))(tokens))
    told = told.replace(action=told.action.at[:, :, 0].set(truth))
    return told, jnp.zeros_like(rollout.mask).at[:, :, 0].set(1.0)


def taken(env: Taught, actor: Policy, tokens: Array) -> tuple[Steps, Array]:
    """Demonstrations `[N, L]` as steps `[N, T]` of episodes, and the mask of those before their end."""
    states, action, mask = jax.vmap(env.along)(tokens)
    see = partial(play.observe, env, key=jax.random.key(0))
    obs, legal = jax.vmap(jax.vmap(see))(states)
    carry = play.in_each(actor.carry, len(tokens))
    first = jnp.zeros_like(mask).at[:, 0].set(1.0)
    return Steps(obs, action, first, legal, carry), mask
