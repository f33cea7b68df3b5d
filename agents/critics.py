"""Learned value functions."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import optax

from vfcompare.batching import over_time
from vfcompare.types import Array, Critic, Key, Params, Rollout, Rows, Spec

from .networks import Gru, Head, apply


def scalar(
    *,
    spec: Spec,
    network: Callable[..., nn.Module],
    optimizer: optax.GradientTransformationExtraArgs,
    gain: float,
    coef: float,
    clip: float | None,
) -> Critic:
    """A network with one output, fitted by squared error: `½ c (V(s_t) - target_t)²`.

    With `clip` the error is the larger one of the value and of the value kept within `±clip` of the value
    before the fit (PPO's implementations; Huang et al., 2022). It depends on the scale of the return.

    Args:
      spec: the facts of the task.
      network: `(obs_ndim) -> body`.
      optimizer: the critic's own.
      gain: of the output layer's orthogonal initialisation.
      coef: `c`, weight of the loss. Adam does not see it, unless gradients are clipped by their joint norm.
      clip: range of a value's change in one fit, or None.
    """
    body = network(obs_ndim=len(spec.observation_space.shape or ()))
    module = Head(body, 1, gain)
    remembers = isinstance(body, Gru)

    def init(key: Key, obs: Array) -> Params:
        args = (obs[None], jnp.ones(1), body.initial()) if remembers else (obs,)
        return module.init(key, *args)

    def read(params: Params, obs: Array, first: Array) -> Array:
        if not remembers:
            return apply(module, params, obs)[..., 0]
        # A fragment may begin in mid-episode, where a critic's memory is not known: it starts afresh.
        blank = jnp.zeros((*first.shape[:-1], *body.initial().shape))
        return apply(module, params, obs, first, blank)[..., 0]

    def value(params: Params, rollout: Rollout) -> Array:
        last = jnp.zeros_like(rollout.first[..., :1])
        first = jnp.concatenate([rollout.first, last], -1)
        if remembers or spec.dense:
            return read(params, rollout.obs, first)
        return over_time(lambda obs: read(params, obs, first), rollout.obs, rollout.mask)

    def loss(params: Params, rows: Rows) -> Array:
        predicted = read(params, rows["steps"].obs, rows["steps"].first)
        target, old = rows["critic"]["target"], rows["critic"]["old"]
        error = optax.squared_error(predicted, target)
        if clip is not None:
            limited = old + jnp.clip(predicted - old, -clip, clip)
            error = jnp.maximum(error, optax.squared_error(limited, target))
        return 0.5 * coef * error

    return Critic(init, value, loss, optimizer, remembers)
