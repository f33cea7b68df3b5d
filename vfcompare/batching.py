"""Descend a loss over the steps of a rollout: epochs, minibatches, and no work on padding.

A batch is a tree of *rows* (steps for feed-forward networks, whole episodes for recurrent ones) whose
weights sum to one. The loss of a minibatch is `minibatches · Σ weight · value` over its rows, so that the
minibatches of an epoch add up to the loss of the batch, however it is cut.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from vfcompare.types import Array, Key, Metrics, Params, Rollout, Steps

Values = Callable[[Params, Any], tuple[Array, Metrics]]
"""`(params, rows [n]) -> (values [n] or [n, T], metrics of the same shape)`."""


class Batching(NamedTuple):
    """How a batch is cut.

    Attributes:
      epochs: passes over the batch.
      minibatches: gradient steps of one pass.
      dense: whether nearly every row is valid. Dense minibatches are one static block; sparse ones are
        gathered in blocks, and blocks without a valid row are never computed.
      block: rows of a block, for sparse batches.
    """

    epochs: int
    minibatches: int
    dense: bool
    block: int = 64


def flat(x: Any, axes: int) -> Any:
    """Merge the leading `axes` axes of every leaf into one."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), x)


def steps(rollout: Rollout) -> Steps:
    """What the policy acted on, without the bootstrap row: leaves are `[B, G, T, ...]`."""
    return Steps(
        obs=rollout.obs[:, :, :-1],
        action=rollout.action,
        first=rollout.first,
        legal=rollout.legal,
        carry=rollout.carry,
    )


def rows(rollout: Rollout, extra: dict[str, Array], *, recurrent: bool) -> dict[str, Any]:
    """A rollout as rows: every step by itself, or whole episodes where the policy has a memory.

    Args:
      rollout: `[B, G, T]`.
      extra: per-step arrays `[B, G, T]` that go along.
      recurrent: whether rows are episodes, `[B G, T]`, rather than steps, `[B G T]`.
    """
    taken = steps(rollout)
    if recurrent:
        return flat({"steps": taken, "valid": rollout.mask.max(-1), **extra}, 2)
    return flat({"steps": taken.replace(carry=()), "valid": rollout.mask, **extra}, 3)


def order(key: Key, valid: Array) -> Array:
    """Indices of the valid rows in random order, then of the others.

    One sort of single words: invalid bit, random bits, index. Where the random bits of two rows agree the
    lower index comes first, which moves a row to another minibatch in at most one pair in `2^(31 - log2 n)`.
    """
    number = valid.shape[0]
    index_bits = (number - 1).bit_length()
    bits = jax.random.bits(key, (number,), jnp.uint32) >> (1 + index_bits) << index_bits
    invalid = (valid == 0).astype(jnp.uint32) << 31
    packed = invalid | bits | jnp.arange(number, dtype=jnp.uint32)
    return (jnp.sort(packed) & ((1 << index_bits) - 1)).astype(jnp.int32)


def descend(
    values: Values,
    params: Params,
    opt_state: Any,
    optimizer: optax.GradientTransformationExtraArgs,
    batch: dict[str, Any],
    key: Key,
    batching: Batching,
    progress: Array,
) -> tuple[Params, Any, Metrics]:
    """Take `epochs · minibatches` gradient steps on `Σ weight · value`.

    Args:
      values: the loss per row (or step of a row).
      params: what is learned.
      opt_state: the optimiser's state.
      optimizer: receives `progress` as an extra argument.
      batch: rows; `batch["valid"]` says which count, `batch["weight"]` how much.
      key: for the order of the rows.
      batching: how the batch is cut.
      progress: share of the budget that is used up.

    Returns:
      Parameters, optimiser state and metrics (weighted means over the last epoch, `loss`, `grad_norm`).
    """
    number = batch["valid"].shape[0]

    def loss(params: Params, rows: dict[str, Any]) -> tuple[Array, Metrics]:
        value, metrics = values(params, rows)
        weight = rows["weight"] * batching.minibatches
        weigh = lambda x: (weight * x).sum()  # noqa: E731
        return weigh(value), jax.tree.map(weigh, metrics | {"loss": value})

    gradient = jax.grad(loss, has_aux=True)

    def epoch(state: tuple[Params, Any], key: Key) -> tuple[tuple[Params, Any], Metrics]:
        def step(
            state: tuple[Params, Any], found: tuple[Params, Metrics]
        ) -> tuple[tuple[Params, Any], Metrics]:
            params, opt_state = state
            grads, metrics = found
            updates, opt_state = optimizer.update(grads, opt_state, params, progress=progress)
            # Of the flat gradient, as the optimiser clips it, so that it is computed once.
            metrics |= {"grad_norm": optax.tree.norm(ravel_pytree(grads)[0])}
            return (optax.apply_updates(params, updates), opt_state), metrics

        def dense(state: tuple[Params, Any], rows: dict[str, Any]) -> Any:
            return step(state, gradient(state[0], rows))

        def sparse(state: tuple[Params, Any], index: Array) -> Any:
            return step(state, sparse_gradient(gradient, state[0], batch, indices, index, batching))

        if batching.dense and batching.minibatches == 1:
            state, metrics = dense(state, batch)
            return state, jax.tree.map(lambda x: x[None], metrics)
        indices = order(key, batch["valid"])
        if batching.dense:
            # One gather an epoch is cheaper than one a minibatch.
            cut = (batching.minibatches, number // batching.minibatches)
            shuffled = jax.tree.map(lambda x: x[indices].reshape(*cut, *x.shape[1:]), batch)
            return jax.lax.scan(dense, state, shuffled)
        return jax.lax.scan(sparse, state, jnp.arange(batching.minibatches))

    keys = jax.random.split(key, batching.epochs)
    (params, opt_state), metrics = jax.lax.scan(epoch, (params, opt_state), keys)
    return params, opt_state, jax.tree.map(lambda x: x[-1].mean(), metrics)


def sparse_gradient(
    gradient: Callable[..., Any],
    params: Params,
    batch: dict[str, Any],
    indices: Array,
    index: Array,
    batching: Batching,
) -> tuple[Params, Metrics]:
    """The gradient of one minibatch of the valid rows, summed over as many blocks as they need."""
    count = batch["valid"].sum().astype(jnp.int32)
    block = min(batching.block, indices.shape[0])
    start = index * count // batching.minibatches
    stop = (index + 1) * count // batching.minibatches
    padded = jnp.concatenate([indices, jnp.zeros(block, indices.dtype)])

    def one(row: Array) -> tuple[Params, Metrics]:
        chosen = jax.lax.dynamic_slice_in_dim(padded, row, block)
        rows = jax.tree.map(lambda x: x[chosen], batch)
        inside = row + jnp.arange(block) < stop
        weight = rows["weight"]
        rows["weight"] = jnp.where(inside.reshape(-1, *(1,) * (weight.ndim - 1)), weight, 0.0)
        return gradient(params, rows)

    def add(loop: tuple[Array, Any]) -> tuple[Array, Any]:
        row, total = loop
        return row + block, jax.tree.map(jnp.add, total, one(row))

    zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, start))
    return jax.lax.while_loop(lambda loop: loop[0] < stop, add, (start, zero))[1]


def over_time(f: Callable[[Array], Array], obs: Array, mask: Array, *, block: int = 32) -> Array:
    """Apply a feed-forward `f` to the observations of a rollout, up to the last row that is needed.

    Args:
      f: `[n, ...] -> [n]`.
      obs: `[B, G, T + 1, ...]`.
      mask: `[B, G, T]`; rows after the last one any episode reached are left at zero.
      block: rows of a block.

    Returns:
      `[B, G, T + 1]`.
    """
    shape = obs.shape[:3]
    block = min(block, shape[2])
    needed = (mask.max((0, 1)) * (1 + jnp.arange(shape[2] - 1))).max().astype(jnp.int32) + 1
    blocks = -(-shape[2] // block)
    pad = ((0, 0), (0, 0), (0, blocks * block - shape[2]), *((0, 0),) * (obs.ndim - 3))
    padded = jnp.pad(obs, pad)

    def body(loop: tuple[Array, Array]) -> tuple[Array, Array]:
        row, out = loop
        part = jax.lax.dynamic_slice_in_dim(padded, row, block, 2)
        value = f(flat(part, 3)).reshape(*shape[:2], block)
        return row + block, jax.lax.dynamic_update_slice_in_dim(out, value, row, 2)

    start = (jnp.int32(0), jnp.zeros((*shape[:2], blocks * block)))
    return jax.lax.while_loop(lambda loop: loop[0] < needed, body, start)[1][:, :, : shape[2]]
