"""A reward model: it learns to tell better answers from worse ones, and pays in place of the verifier."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vfcompare import collect
from vfcompare.streams import stream
from vfcompare.types import Array, Env, Key, Metrics, Params, Policy

from . import supervised
from .inheritance import with_body
from .networks import apply, linear
from .transformer import Transformer

BLOCK = 64
"""Prompts whose answers are read at once."""


class Scorer(nn.Module):
    """One number for a whole episode.

    Attributes:
      body: reads tokens.
    """

    body: Transformer

    def setup(self) -> None:
        """The output layer, zero at first."""
        self.last = linear(1, 0.0)

    def __call__(self, tokens: Array) -> Array:
        """`[..., L] -> [...]`."""
        return self.last(self.body.row(tokens))[..., 0]


class Judging(NamedTuple):
    """How a reward model is learned, as pure functions.

    Attributes:
      init: `(prior, key) -> state`, whose first entry is the model's parameters; the answers that it learns
        from are drawn here, once, from the policy with these parameters.
      update: `(state, key) -> (state, loss)`.
      finish: `(state) -> params`, with the unit of its scores, and how it does on what it has seen: they are
        one file, whose SHA-256 certificates know.
      measure: `(params, prior, key) -> metrics`, on held-out prompts.
      score: `(params, tokens [L]) -> float32[]`, in standard deviations from the mean of the answers that it
        learned from.
    """

    init: Callable[[Params, Key], Any]
    update: Callable[[Any, Key], tuple[Any, Array]]
    finish: Callable[[Any], Params]
    measure: Callable[[Params, Params, Key], Metrics]
    score: Callable[[Params, Array], Array]


def make(
    *,
    env: supervised.Verified,
    network: Callable[..., nn.Module],
    policy: Callable[..., Policy],
    optimizer: optax.GradientTransformationExtraArgs,
    prompts: int,
    attempts: int,
    batch: int,
) -> Judging:
    """Learn by `bradley_terry` from answers of a policy; the model begins with that policy's body.

    Args:
      env: a task in tokens with a verifier.
      network: `(obs_ndim) -> body`, of the policy and of the model alike.
      policy: `(spec, network) -> Policy`.
      optimizer: of the model.
      prompts: with answers that were judged, all there ever are: fewer make a model that is easier to fool.
      attempts: answers to each.
      batch: prompts of an update.

    Raises:
      ValueError: where the task has no answers that are right or wrong, the network reads no tokens, or a
        batch has more prompts than there are.
    """
    require_answers(env, prompts, batch)
    gather = partial(collect.episodes, prompts=prompts, group=attempts, start="shared")
    actor, body = supervised.parts(env, network, policy, prompts, attempts)
    if not isinstance(body, Transformer):
        raise ValueError("agent.judge needs a network that reads tokens; allowed: a transformer")
    module = Scorer(body)

    def answers(task: Env, prior: Params, key: Key) -> tuple[Array, Array]:
        rollout = gather(task).collect((), actor, prior, key, keep_state=False).rollout
        tokens = rollout.obs[:, :, -1]
        return tokens, jax.vmap(jax.vmap(env.correct))(tokens)

    def init(prior: Params, key: Key) -> Any:
        seen = answers(env, prior, stream(key, "answers"))
        params = with_body(module.init(stream(key, "model"), seen[0][0, 0]), prior)
        return params, optimizer.init(params), seen

    def read(params: Params, tokens: Array) -> Array:
        # A few prompts at a time: what many thousand answers leave behind does not fit into a small memory.
        return jax.lax.map(partial(apply, module, params), tokens, batch_size=BLOCK)

    def loss(params: Params, tokens: Array, right: Array) -> Array:
        return bradley_terry(apply(module, params, tokens), right)

    def update(state: Any, key: Key) -> tuple[Any, Array]:
        params, opt_state, seen = state
        chosen = jax.random.choice(key, prompts, (batch,), replace=False)
        examples = (x[chosen] for x in seen)
        params, opt_state, value = supervised.step(loss, optimizer, params, opt_state, *examples)
        return (params, opt_state, seen), value

    def finish(state: Any) -> Params:
        params, _, (tokens, right) = state
        scores = read(params, tokens)
        return {
            "model": params,
            "mean": scores.mean(),
            "deviation": scores.std(),
            "seen": accuracy(scores, right),
            "pairs": compared(scores, right)[1].sum(),
        }

    def measure(params: Params, prior: Params, key: Key) -> Metrics:
        tokens, right = answers(env.held_out(), prior, key)
        scores = read(params["model"], tokens)
        return {
            "accuracy": accuracy(scores, right),
            "accuracy_seen": params["seen"],
            "pairs": params["pairs"],
        }

    def score(params: Params, tokens: Array) -> Array:
        return (apply(module, params["model"], tokens) - params["mean"]) / params["deviation"]

    return Judging(init, update, finish, measure, score)


def require_answers(env: Env, prompts: int, batch: int) -> None:
    """Answers that are right or wrong, to as many prompts as a batch has.

    Raises:
      ValueError: where there are none.
    """
    # A twin hands on how its task is read and passed, but no verifier.
    if env.passes is None or env.layout is None or not hasattr(env, "correct"):
        raise ValueError(
            "agent.judge needs answers in tokens that are right or wrong; allowed: tasks in tokens with a "
            "verifier and env.view=tokens, or agent.judge=null"
        )
    if batch > prompts:
        raise ValueError(
            f"agent.judge.batch={batch} is not allowed; allowed: at most agent.judge.prompts={prompts}"
        )


def compared(scores: Array, right: Array) -> tuple[Array, Array]:
    """`r_i - r_j` of each two answers to a prompt, `[B, G, G]`, and whether `i` is right and `j` wrong."""
    return scores[:, :, None] - scores[:, None, :], right[:, :, None] & ~right[:, None, :]


def bradley_terry(scores: Array, right: Array) -> Array:
    """`-log σ(r_i - r_j)`: two answers to a prompt compare as in `P(i better than j) = σ(r_i - r_j)`.

    Averaged over the pairs of a right and a wrong answer to each prompt, and over the prompts that have any
    (Bradley & Terry, 1952; Christiano et al., 2017; Ouyang et al., 2022).

    Args:
      scores: `r`, `[B, G]`.
      right: `[B, G]`.
    """
    margins, pairs = compared(scores, right)
    each = (jax.nn.softplus(-margins) * pairs).sum((1, 2)) / jnp.maximum(pairs.sum((1, 2)), 1)
    return each.sum() / jnp.maximum(pairs.any((1, 2)).sum(), 1)


def accuracy(scores: Array, right: Array) -> Array:
    """Share of the pairs of a right and a wrong answer to one prompt in which the right one scores higher."""
    margins, pairs = compared(scores, right)
    return (pairs & (margins > 0)).sum() / jnp.maximum(pairs.sum(), 1)
