"""A learned reward model: told better answers from worse ones, it pays in place of the verifier."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from vfcompare import collect
from vfcompare.streams import stream
from vfcompare.types import Array, Env, Key, Metrics, Params, Policy, Spec

from .networks import apply, build, dense
from .transformer import Transformer

BLOCK = 64
"""Prompts whose answers are read at once."""


class Judged(Env, Protocol):
    """A task in tokens that knows whether an answer is right."""

    def correct(self, tokens: Array) -> Array:
        """Whether whole tokens `[L]` hold a right answer: bool[]."""

    def held_out(self) -> "Judged":
        """The task as it is evaluated."""


class Scorer(nn.Module):
    """One number for a whole episode.

    Attributes:
      body: reads tokens.
    """

    body: Transformer

    def setup(self) -> None:
        """The output layer, zero at first."""
        self.last = dense(1, 0.0)

    def __call__(self, tokens: Array) -> Array:
        """`[..., L] -> [...]`."""
        return self.last(self.body.row(tokens))[..., 0]


class Judging(NamedTuple):
    """How a reward model is learned, as pure functions.

    Attributes:
      init: `(prior, key) -> state`, whose first entry is the model's parameters; the answers that it learns
        from are drawn here, once, from the policy with these parameters.
      update: `(state, key) -> (state, loss)`.
      finish: `(state) -> params`, with the unit of its scores.
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
    env: Judged,
    network: Callable[..., nn.Module],
    policy: Callable[..., Policy],
    optimizer: optax.GradientTransformationExtraArgs,
    prompts: int,
    attempts: int,
    batch: int,
) -> Judging:
    """The model of Bradley & Terry (1952): `P(i better than j) = σ(r_i - r_j)` for two answers to a prompt.

    The loss is `-log σ(r_i - r_j)`, averaged over the pairs of a right and a wrong answer to each prompt and
    over the prompts that have any (Christiano et al., 2017; Ouyang et al., 2022). The model begins with the
    body of the policy whose answers it judges.

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
    gather = partial(collect.episodes, group=attempts, start="shared")
    spec = Spec(
        env.observation_space,
        env.action_space,
        (prompts, attempts, env.horizon),
        False,
        layout=env.layout,
    )
    actor, body = policy(spec=spec, network=network), build(network, spec)
    if not isinstance(body, Transformer):
        raise ValueError("agent.judge needs a network that reads tokens; allowed: a transformer")
    module = Scorer(body)

    def answers(task: Judged, prior: Params, key: Key, number: int) -> tuple[Array, Array]:
        collected = gather(task, prompts=number).collect((), actor, prior, key, keep_state=False)
        tokens = collected[1].obs[:, :, -1]
        return tokens, jax.vmap(jax.vmap(env.correct))(tokens)

    def init(prior: Params, key: Key) -> Any:
        seen = answers(env, prior, stream(key, "answers"), prompts)
        params = module.init(stream(key, "model"), seen[0][0, 0])
        inner = {**params["params"], "body": prior["params"]["body"]}
        params = {**params, "params": inner}
        return params, optimizer.init(params), seen

    def read(params: Params, tokens: Array) -> Array:
        # A few prompts at a time: what many thousand answers leave behind does not fit into a small memory.
        return jax.lax.map(partial(apply, module, params), tokens, batch_size=BLOCK)

    def loss(params: Params, tokens: Array, right: Array) -> Array:
        margins, pairs = compared(apply(module, params, tokens), right)
        each = (jax.nn.softplus(-margins) * pairs).sum((1, 2)) / jnp.maximum(pairs.sum((1, 2)), 1)
        return each.sum() / jnp.maximum(pairs.any((1, 2)).sum(), 1)

    def update(state: Any, key: Key) -> tuple[Any, Array]:
        params, opt_state, seen = state
        chosen = jax.random.choice(key, prompts, (batch,), replace=False)
        value, gradient = jax.value_and_grad(loss)(params, *(x[chosen] for x in seen))
        norm, progress = optax.tree.norm(gradient), jnp.float32(0.0)
        change, opt_state = optimizer.update(
            gradient, opt_state, params, joint_norm=norm, progress=progress
        )
        return (optax.apply_updates(params, change), opt_state, seen), value

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
        tokens, right = answers(env.held_out(), prior, key, prompts)
        scores = read(params["model"], tokens)
        return {
            "accuracy": accuracy(scores, right),
            "accuracy_seen": params["seen"],
            "pairs": params["pairs"],
        }

    def score(params: Params, tokens: Array) -> Array:
        return (apply(module, params["model"], tokens) - params["mean"]) / params["deviation"]

    return Judging(init, update, finish, measure, score)


def compared(scores: Array, right: Array) -> tuple[Array, Array]:
    """`r_i - r_j` of each two answers to a prompt, `[B, G, G]`, and whether `i` is right and `j` wrong."""
    return scores[:, :, None] - scores[:, None, :], right[:, :, None] & ~right[:, None, :]


def accuracy(scores: Array, right: Array) -> Array:
    """Share of the pairs of a right and a wrong answer to one prompt in which the right one scores higher."""
    margins, pairs = compared(scores, right)
    return (pairs & (margins > 0)).sum() / jnp.maximum(pairs.sum(), 1)
