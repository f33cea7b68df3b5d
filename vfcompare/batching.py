"""Descend a loss over the steps of a rollout: epochs, minibatches, and no work on padding.

A batch is a tree of *rows* (steps for feed-forward networks, whole episodes for recurrent ones) whose
weights sum to one. The loss of a minibatch is `minibatches · Σ weight · value` over its rows, so that the
minibatches of an epoch add up to the loss of the batch, however it is cut.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from vfcompare.types import Array, Key, Metrics, Params, Rollout, Steps

Rows = dict[str, Any]
"""Arrays and trees with a leading axis of rows, among them `valid` and `weight`."""

Values = Callable[[Params, Rows], Array]
"""`(params, rows [n]) -> values [n]`, or `[n, T]` where a row is an episode."""

Sums = TypeVar("Sums")


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


def rows(rollout: Rollout, extra: dict[str, Array], *, recurrent: bool) -> Rows:
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
    batch: Rows,
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
      Parameters, optimiser state, and `loss` and `grad_norm` as means over the last epoch.
    """
    number = batch["valid"].shape[0]

    def loss(params: Params, rows: Rows) -> Array:
        return batching.minibatches * (rows["weight"] * values(params, rows)).sum()

    gradient = jax.value_and_grad(loss)

    def epoch(state: tuple[Params, Any], key: Key) -> tuple[tuple[Params, Any], Metrics]:
        def step(
            state: tuple[Params, Any], found: tuple[Array, Params]
        ) -> tuple[tuple[Params, Any], Metrics]:
            params, opt_state = state
            value, grads = found
            updates, opt_state = optimizer.update(grads, opt_state, params, progress=progress)
            # Of the flat gradient, as the optimiser clips it, so that it is computed once.
            metrics = {"loss": value, "grad_norm": optax.tree.norm(ravel_pytree(grads)[0])}
            return (optax.apply_updates(params, updates), opt_state), metrics

        def dense(state: tuple[Params, Any], rows: Rows) -> Any:
            return step(state, gradient(state[0], rows))

        def sparse(state: tuple[Params, Any], index: Array) -> Any:
            start = index * count // batching.minibatches
            stop = (index + 1) * count // batching.minibatches
            sum_of = partial(gradient, state[0])
            return step(state, accumulate(sum_of, batch, indices, start, stop, batching.block))

        if batching.dense and batching.minibatches == 1:
            state, metrics = dense(state, batch)
            return state, jax.tree.map(lambda x: x[None], metrics)
        indices = order(key, batch["valid"])
        if batching.dense:
            # One gather an epoch is cheaper than one a minibatch.
            cut = (batching.minibatches, number // batching.minibatches)
            shuffled = jax.tree.map(lambda x: x[indices].reshape(*cut, *x.shape[1:]), batch)
            return jax.lax.scan(dense, state, shuffled)
        count = batch["valid"].sum().astype(jnp.int32)
        return jax.lax.scan(sparse, state, jnp.arange(batching.minibatches))

    keys = jax.random.split(key, batching.epochs)
    (params, opt_state), metrics = jax.lax.scan(epoch, (params, opt_state), keys)
    return params, opt_state, jax.tree.map(lambda x: x[-1].mean(), metrics)


def summarise(values: Callable[[Rows], Metrics], batch: Rows, batching: Batching) -> Metrics:
    """Weighted means `Σ weight · value` of whatever `values` says of each valid row."""

    def sums(rows: Rows) -> Metrics:
        return {name: (rows["weight"] * x).sum() for name, x in values(rows).items()}

    if batching.dense:
        return sums(batch)
    invalid = batch["valid"] == 0
    indices = jnp.argsort(invalid, stable=True)
    stop = (~invalid).sum()
    return accumulate(sums, batch, indices, jnp.zeros_like(stop), stop, batching.block)


def accumulate(
    sum_of: Callable[[Rows], Sums],
    batch: Rows,
    indices: Array,
    start: Array,
    stop: Array,
    block: int,
) -> Sums:
    """Add up a sum over the rows `indices[start:stop]`, block by block, and no block more.

    Args:
      sum_of: `rows [block] -> sums`; a row counts as much as its weight says.
      batch: all rows.
      indices: which row is the i-th.
      start: first i.
      stop: one after the last i.
      block: rows of a block.
    """
    block = min(block, indices.shape[0])
    padded = jnp.concatenate([indices, jnp.zeros(block, indices.dtype)])

    def one(row: Array) -> Sums:
        chosen = jax.lax.dynamic_slice_in_dim(padded, row, block)
        rows = jax.tree.map(lambda x: x[chosen], batch)
        inside = row + jnp.arange(block) < stop
        weight = rows["weight"]
        rows["weight"] = jnp.where(inside.reshape(-1, *(1,) * (weight.ndim - 1)), weight, 0.0)
        return sum_of(rows)

    def add(loop: tuple[Array, Sums]) -> tuple[Array, Sums]:
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
