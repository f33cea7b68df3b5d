"""Learned value functions."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import optax
from flax import struct

from vfcompare.batching import Batching, Rows, descend, over_time, rows
from vfcompare.types import Array, Critic, Key, Metrics, Params, Rollout, Spec

from .networks import Gru, Head, apply


class State(struct.PyTreeNode):
    """What a critic carries from update to update."""

    params: Params
    opt_state: Any


def scalar(
    *,
    spec: Spec,
    network: Callable[..., nn.Module],
    optimizer: optax.GradientTransformationExtraArgs,
    batching: Callable[..., Batching],
    gain: float,
    clip: float | None,
) -> Critic:
    """A network with one output, fitted by squared error: `½ (V(s_t) - target_t)²`.

    With `clip` the error is the larger one of the value and of the value kept within `±clip` of the value
    before the fit (PPO's implementations; Huang et al., 2022). It depends on the scale of the return.

    Args:
      spec: the facts of the task.
      network: `(obs_ndim) -> body`.
      optimizer: the critic's own.
      batching: `(dense) -> Batching`, how the batch is cut.
      gain: of the output layer's orthogonal initialisation.
      clip: range of a value's change in one fit, or None.
    """
    body = network(obs_ndim=len(spec.observation_space.shape or ()))
    module = Head(body, 1, gain)
    remembers = isinstance(body, Gru)
    cut = batching(dense=spec.dense or remembers)

    def init(key: Key, obs: Array) -> State:
        args = (obs[None], jnp.ones(1), body.initial()) if remembers else (obs,)
        params = module.init(key, *args)
        return State(params, optimizer.init(params))

    def value(state: State, rollout: Rollout) -> Array:
        if not remembers:
            feed = lambda obs: apply(module, state.params, obs)[..., 0]  # noqa: E731
            # All at once where nothing is padding: equal passes of one update are then computed once.
            return feed(rollout.obs) if spec.dense else over_time(feed, rollout.obs, rollout.mask)
        last = jnp.zeros_like(rollout.first[..., :1])
        first = jnp.concatenate([rollout.first, last], -1)
        return apply(module, state.params, rollout.obs, first, start(rollout))[..., 0]

    def start(rollout: Rollout) -> Array:
        # A fragment may begin in mid-episode, where a critic's memory is not known: it starts afresh.
        return jnp.zeros((*rollout.mask.shape[:2], *body.initial().shape))

    def fit(
        state: State, rollout: Rollout, target: Array, key: Key, progress: Array
    ) -> tuple[State, Metrics]:
        extra = {"target": target, "weight": rollout.mask / rollout.mask.sum()}
        if clip is not None:
            extra["old"] = value(state, rollout)[..., :-1]
        if remembers:
            rollout = rollout.replace(carry=start(rollout))
        batch = rows(rollout, extra, recurrent=remembers)

        def values(params: Params, row: Rows) -> Array:
            seen = row["steps"]
            args = (seen.obs, seen.first, seen.carry) if remembers else (seen.obs,)
            predicted = apply(module, params, *args)[..., 0]
            error = optax.squared_error(predicted, row["target"])
            if clip is not None:
                limited = row["old"] + jnp.clip(predicted - row["old"], -clip, clip)
                error = jnp.maximum(error, optax.squared_error(limited, row["target"]))
            return 0.5 * error

        params, opt_state, metrics = descend(
            values, state.params, state.opt_state, optimizer, batch, key, cut, progress
        )
        return State(params, opt_state), {
            "value_loss": metrics["loss"],
            "value_grad_norm": metrics["grad_norm"],
        }

    return Critic(init, value, fit, params=lambda state: state.params)
