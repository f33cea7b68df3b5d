"""Policies: a network, a memory if it has one, and a head that fits the action space."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jax.scipy.stats import norm

from vfcompare.types import Array, Carry, Key, Params, Policy, Spec, Steps

from .networks import Gru, Head, MeanAndLogStd, Pair, Table, apply, build
from .transformer import Tied, Transformer

ILLEGAL = -1e9
"""Logit of an illegal action: finite, so that its gradient is zero and not NaN."""


class Distribution(NamedTuple):
    """A family of action distributions, as functions of the network's outputs.

    Attributes:
      outputs: number of the network's outputs.
      noise_shape: uniforms that one action consumes.
      sample: `(outputs, noise) -> action`.
      mode: `(outputs) -> action`.
      log_prob: `(outputs, action) -> [...]`.
      entropy: `(outputs) -> [...]`.
    """

    outputs: int
    noise_shape: tuple[int, ...]
    sample: Callable[[Array, Array], Array]
    mode: Callable[[Array], Array]
    log_prob: Callable[[Array, Array], Array]
    entropy: Callable[[Array], Array]


def categorical(space: gymnasium.spaces.Discrete) -> Distribution:
    """`π(a) = softmax(logits)_a`, sampled through its cumulative distribution, one uniform an action."""
    number = int(space.n)
    up_to = jnp.tril(jnp.ones((number, number), bool))

    def sample(logits: Array, noise: Array) -> Array:
        # Not normalised, so that the largest uniform lies below the last legal bin however sums are rounded.
        mass = jnp.exp(logits - logits.max(-1, keepdims=True))
        cumulative = jnp.where(up_to, mass[..., None, :], 0.0).sum(-1)
        return (cumulative <= (noise * cumulative[..., -1])[..., None]).sum(-1)

    def log_prob(logits: Array, action: Array) -> Array:
        chosen = jax.nn.one_hot(action, number)
        return (jax.nn.log_softmax(logits) * chosen).sum(-1)

    def entropy(logits: Array) -> Array:
        log_probs = jax.nn.log_softmax(logits)
        return -(jnp.exp(log_probs) * log_probs).sum(-1)

    return Distribution(number, (), sample, lambda logits: logits.argmax(-1), log_prob, entropy)


def gaussian(space: gymnasium.spaces.Box) -> Distribution:
    """`π(a) = Π_i N(μ_i, σ_i)`; the environment clips what it cannot do, the log-probability does not."""
    size = int(space.shape[0])

    def sample(outputs: Array, noise: Array) -> Array:
        mean, log_std = jnp.split(outputs, 2, -1)
        return mean + jnp.exp(log_std) * ndtri(noise)

    def log_prob(outputs: Array, action: Array) -> Array:
        mean, log_std = jnp.split(outputs, 2, -1)
        return norm.logpdf(action, mean, jnp.exp(log_std)).sum(-1)

    def entropy(outputs: Array) -> Array:
        log_std = jnp.split(outputs, 2, -1)[1]
        return (log_std + 0.5 * jnp.log(2 * jnp.pi * jnp.e)).sum(-1)

    return Distribution(
        size, (size,), sample, lambda outputs: jnp.split(outputs, 2, -1)[0], log_prob, entropy
    )


def distribution(head: str, space: gymnasium.Space) -> Distribution:
    """The distribution that fits an action space.

    Args:
      head: `auto`, `categorical` (discrete actions) or `gaussian` (continuous ones).
      space: the environment's.

    Raises:
      ValueError: if the head does not fit the space.
    """
    if isinstance(space, gymnasium.spaces.Discrete) and head in ("auto", "categorical"):
        return categorical(space)
    if isinstance(space, gymnasium.spaces.Box) and head in ("auto", "gaussian"):
        return gaussian(space)
    fits = {"Discrete": "auto or categorical", "Box": "auto or gaussian"}
    kind = type(space).__name__
    raise ValueError(
        f"agent.policy.head={head} does not fit the actions of this environment ({space}); "
        f"allowed: {fits.get(kind, 'none, this action space is not supported')}"
    )


def policy(
    *,
    spec: Spec,
    network: Callable[..., nn.Module],
    head: str,
    gain: float,
    temperature: float,
) -> Policy:
    """A policy for an environment's spaces.

    Args:
      spec: the facts of the task.
      network: `(obs_ndim) -> body`.
      head: `auto`, `categorical` or `gaussian`.
      gain: of the output layer's orthogonal initialisation; small, so that actions begin nearly uniform. A
        transformer has no such layer: its embedding reads its features, too.
      temperature: `τ` of `π(a) = softmax(logits / τ)_a`. It belongs to the policy: log-probabilities and
        entropies are those of the distribution that is sampled, so that ratios stay exact.

    Raises:
      ValueError: for a temperature of continuous actions.
    """
    family = distribution(head, spec.action_space)
    continuous = isinstance(spec.action_space, gymnasium.spaces.Box)
    if continuous and temperature != 1.0:
        raise ValueError(
            f"agent.policy.temperature={temperature} has no meaning for continuous actions; allowed: 1.0"
        )
    body = build(network, spec)
    if isinstance(body, Transformer):
        return assemble(family, reader(Tied(body)), listed=True, temperature=temperature)
    head_module = Head(body, family.outputs, gain)
    module = MeanAndLogStd(head_module) if continuous else head_module
    if isinstance(body, Gru):
        return assemble(family, recurrent(module, body), listed=False, temperature=temperature)
    return assemble(family, feed_forward(module), listed=not continuous, temperature=temperature)


def pair(*, spec: Spec, network: Callable[..., nn.Module], **settings: Any) -> Policy:
    """`policy` with two networks side by side, see `Pair`; `settings` are those of `policy`."""
    return policy(spec=spec, network=partial(Pair, part=network), **settings)


def table(
    *,
    spec: Spec,
    network: Callable[..., nn.Module],
    columns: int | None,
    success: float | None,
) -> Policy:
    """Logits from a table: one row for each of the first `columns` entries of a one-hot observation.

    Args:
      spec: the facts of the task.
      network: unused.
      columns: entries of the observation that are read; None means all.
      success: probability at the start that action 0 is taken in every row, one after the other; None means
        that all actions are equally probable.

    Raises:
      ValueError: for an observation that is no vector of numbers, for more columns than it has, and for a
        success without columns: how many rows an episode reads does not follow from the observation.
    """
    del network
    family = distribution("categorical", spec.action_space)
    shape = spec.observation_space.shape or ()
    if len(shape) != 1 or spec.layout is not None:
        raise ValueError(
            f"agent.policy=table is not allowed: it reads a one-hot vector, not {spec.observation_space}; "
            "allowed: policy@agent.policy=standard"
        )
    if columns is not None and columns > shape[0]:
        raise ValueError(
            f"agent.policy.columns={columns} is not allowed; allowed: 1 to {shape[0]}, the width of the "
            "observation, or null"
        )
    logit: float | Array = 0.0
    if success is not None:
        if columns is None:
            raise ValueError(
                f"agent.policy.success={success} is not allowed without agent.policy.columns, the number of "
                "rows that an episode reads; allowed: null, or with agent.policy.columns"
            )
        odds_against = jnp.expm1(-jnp.log(success) / columns)
        logit = jnp.log(family.outputs - 1.0) - jnp.log(odds_against)
    return assemble(family, feed_forward(Table(family.outputs, columns, logit)), listed=True)


def assemble(
    family: Distribution, forward: "Forward", *, listed: bool, temperature: float = 1.0
) -> Policy:
    """A policy from its parts.

    Args:
      family: of distributions.
      forward: the network.
      listed: whether the probabilities of all actions can be listed.
      temperature: that the network's outputs are divided by.
    """

    def masked(outputs: Array, legal: Array | None) -> Array:
        outputs = outputs / temperature
        return outputs if legal is None else jnp.where(legal, outputs, ILLEGAL)

    def act(
        params: Params, carry: Carry, obs: Array, legal: Array | None, noise: Array
    ) -> tuple[Carry, Array, Array]:
        carry, outputs = forward.step(params, carry, obs)
        outputs = masked(outputs, legal)
        action = family.sample(outputs, noise)
        return carry, action, family.log_prob(outputs, action)

    def mode(params: Params, carry: Carry, obs: Array, legal: Array | None) -> tuple[Carry, Array]:
        carry, outputs = forward.step(params, carry, obs)
        return carry, family.mode(masked(outputs, legal))

    def evaluate(params: Params, steps: Steps) -> tuple[Array, Array]:
        outputs = masked(forward.sequence(params, steps), steps.legal)
        return family.log_prob(outputs, steps.action), family.entropy(outputs)

    def log_probs(params: Params, obs: Array, legal: Array | None) -> Array:
        assert forward.row is not None
        return jax.nn.log_softmax(masked(forward.row(params, obs), legal))

    return Policy(
        init=forward.init,
        carry=forward.carry,
        noise_shape=family.noise_shape,
        act=act,
        mode=mode,
        evaluate=evaluate,
        log_probs=log_probs if listed else None,
        features=forward.features,
        begin=forward.begin,
    )


def squared_score(policy: Policy, params: Params, steps: Steps) -> Array:
    """`|∇ log π(a|s)|² = 1 - 2 π(a|s) + Σ_b π(b|s)²`, the gradient being that by the logits.

    Returns:
      Of the steps' leading shape.

    Raises:
      ValueError: for continuous actions and for policies with a memory.
    """
    if policy.log_probs is None:
        raise ValueError(
            "estimator: this baseline needs the score of each action, which is known for "
            "discrete actions of policies without a memory"
        )
    chances = jnp.exp(policy.log_probs(params, steps.obs, steps.legal))
    # Written out, the square of a nearly certain action would be a difference of rounding errors.
    return jnp.square(jax.nn.one_hot(steps.action, chances.shape[-1]) - chances).sum(-1)


class Forward(NamedTuple):
    """A network as functions, the same for those with a memory and those without.

    Attributes:
      init: `(key, obs) -> params`.
      carry: see `Policy`.
      step: `(params, carry, obs) -> (carry, outputs)`.
      sequence: `(params, steps) -> outputs`, of the steps' leading shape.
      row: `(params, obs [..., obs]) -> outputs`, where an observation tells all that the network reads.
      features: see `Spec`.
      begin: see `Policy`.
    """

    init: Callable[[Key, Array], Params]
    carry: Carry
    step: Callable[[Params, Carry, Array], tuple[Carry, Array]]
    sequence: Callable[[Params, Steps], Array]
    row: Callable[[Params, Array], Array] | None = None
    features: Callable[[Params, Array], Array] | None = None
    begin: Callable[[Params, Array], Carry] | None = None


def feed_forward(module: nn.Module) -> Forward:
    """A network that reads one observation at a time."""
    return Forward(
        init=lambda key, obs: module.init(key, obs),
        carry=(),
        step=lambda params, carry, obs: (carry, apply(module, params, obs)),
        sequence=lambda params, steps: apply(module, params, steps.obs),
        row=lambda params, obs: apply(module, params, obs),
        features=lambda params, obs: apply(module, params, obs, method="features"),
    )


def recurrent(module: nn.Module, body: Gru) -> Forward:
    """A network that remembers what it read in this episode."""
    carry = body.initial()
    return Forward(
        init=lambda key, obs: module.init(key, obs[None], jnp.ones(1), carry),
        carry=carry,
        step=lambda params, carry, obs: apply(module, params, carry, obs, method="step"),
        sequence=lambda params, steps: apply(module, params, steps.obs, steps.first, steps.carry),
    )


def reader(module: Tied) -> Forward:
    """A network that reads tokens: whole episodes at once, or what was written since the last step."""
    return Forward(
        init=lambda key, obs: module.init(key, obs[None], jnp.ones(1), ()),
        carry=(),
        step=lambda params, carry, obs: apply(module, params, carry, obs, method="step"),
        sequence=lambda params, steps: apply(module, params, steps.obs, steps.first, ()),
        row=lambda params, obs: apply(module, params, obs, method="row"),
        features=lambda params, obs: apply(module, params, obs, (), (), method="features"),
        begin=lambda params, obs: apply(module, params, obs, method="begin"),
    )
