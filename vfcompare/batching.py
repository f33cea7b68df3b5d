"""Descend a loss over the steps of a rollout: epochs, minibatches, and no work on padding.

A batch is a tree of *rows*: steps for feed-forward networks, whole episodes for recurrent ones, whole groups
where the loss compares the episodes of a group. Every network has a loss for each row, and weights of them,
see `vfcompare.aggregates`. The loss of a minibatch is `pieces · Σ weight · loss` over its rows, `pieces` the
number of minibatches, so that those of an epoch average to the loss of the batch, however it is cut. All
networks learn from the same minibatches, each by its own optimiser.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from vfcompare.types import Array, Batch, Key, Metrics, Networks

Losses = Callable[[Networks, Batch], dict[str, Array]]
"""`(params, rows [n]) -> losses` of each network, `[n]`, `[n, T]` or `[n, G, T]` by what a row is."""

Optimizers = dict[str, optax.GradientTransformationExtraArgs]
"""One optimiser for each network."""

Sums = TypeVar("Sums")

SAMPLE = 128
"""Most rows that a summary reads: it costs a pass of the network, and is looked at, not learned from."""

AXES = {"steps": 3, "episodes": 2, "groups": 1}
"""What rows may be, and how many axes of `[B, G, T]` count them."""


class Trained(NamedTuple):
    """What gradient steps change, by network.

    Attributes:
      params: of each.
      opt_state: of its optimiser.
    """

    params: Networks
    opt_state: dict[str, Any]


class Batching(NamedTuple):
    """How a batch is cut.

    Attributes:
      epochs: passes over the batch.
      minibatches: gradient steps of one pass.
      size: rows of a minibatch, where their number is not given but follows from it: gradient steps are then
        proportional to the steps that were taken, whatever the length of episodes; else None.
      dense: whether nearly every row is valid. Of sparse batches the valid rows are gathered first, and
        blocks without a valid row are never computed.
      block: rows that are computed at once. What a block needs should fit into a core's own cache.
    """

    epochs: int
    minibatches: int
    dense: bool
    block: int = 64
    size: int | None = None

    def pieces(self, count: Array) -> Array | int:
        """Gradient steps of one pass over `count` valid rows.

        A Python number where it is known beforehand, so that programs hold it as a constant.
        """
        if self.size is None:
            return self.minibatches
        return jnp.maximum(-(-count // self.size), 1).astype(jnp.int32)


def flat(x: Any, axes: int) -> Any:
    """Merge the leading `axes` axes of every leaf into one."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), x)


def present(mask: Array, rows_of: str) -> Array:
    """Which rows are there: `mask [B, G, T]` to `[B, G, T]`, `[B, G]` or `[B]` by what a row is."""
    return mask.max(tuple(range(AXES[rows_of], 3)))


def rows(batch: Batch, *, rows_of: str) -> Batch:
    """A batch `[B, G, T]` as rows: every step by itself, whole episodes, or whole groups.

    Args:
      batch: `[B, G, T]`, with `valid` as `present` says.
      rows_of: `steps` `[B G T]`, `episodes` `[B G, T]`, or `groups` `[B, G, T]`.
    """
    if rows_of == "steps":
        batch = batch.replace(steps=batch.steps.replace(carry=()))
    return flat(batch, AXES[rows_of])


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


def permutation(key: Key, number: int) -> Array:
    """The numbers below `number` in random order, without a sort: int32[number].

    A Feistel network (Luby and Rackoff, 1988) on the halves of an index, `a ^= hash(b)`, `b ^= hash(a)`,
    takes every index to another; those that leave the range are sent on until they are back (cycle walking,
    Black and Rogaway, 2002). Its 24 rounds are those of Mitchell et al. (2021, arXiv:2106.06161).
    """
    # Its permutations are even: of 16 numbers that shows in the orders of the first four, of 64 it does not.
    bits = max((number - 1).bit_length(), 6)
    low = bits // 2
    rounds = jax.random.bits(key, (12, 2), jnp.uint32)

    def hashed(x: Array, salt: Array, size: int) -> Array:
        x = (x ^ salt) * jnp.uint32(0x7FEB352D)
        return (x ^ (x >> 15)) * jnp.uint32(0x846CA68B) >> (32 - size)

    def step(x: Array) -> Array:
        a, b = x >> low, x & ((1 << low) - 1)
        for left, right in rounds:
            a ^= hashed(b, left, bits - low)
            b ^= hashed(a, right, low)
        return a << low | b

    def outside(x: Array) -> Array:
        return x >= number

    found = step(jnp.arange(number, dtype=jnp.uint32))
    if number < 1 << bits:
        found = jax.lax.while_loop(
            lambda x: outside(x).any(), lambda x: jnp.where(outside(x), step(x), x), found
        )
    return found.astype(jnp.int32)


def descend(
    losses: Losses,
    params: Networks,
    opt_state: dict[str, Any],
    optimizers: Optimizers,
    batch: Batch,
    key: Key,
    batching: Batching,
    progress: Array,
) -> tuple[Networks, dict[str, Any], dict[str, Metrics]]:
    """Take `epochs · minibatches` gradient steps on `Σ_network Σ weight · loss`.

    Args:
      losses: of each network per row (or step of a row).
      params: what is learned, by network.
      opt_state: the optimisers' states, by network.
      optimizers: one for each network. They receive `progress` and `joint_norm`, the gradient's norm over all
        networks, as extra arguments.
      batch: rows; `valid` says which count, `weight` how much to each network.
      key: for the order of the rows.
      batching: how the batch is cut.
      progress: share of the budget that is used up.

    Returns:
      Parameters, optimiser states, and of each network `loss` and `grad_norm` as means over the last epoch.
    """
    number = batch.valid.shape[0]
    count = batch.valid.sum().astype(jnp.int32)
    pieces = batching.pieces(count)
    gradient = jax.grad(partial(joint_loss, losses, pieces), has_aux=True)
    step = partial(gradient_step, optimizers, progress)

    even = batching.dense and batching.size is None
    whole = even and batching.minibatches == 1

    def shuffled(key: Key) -> Array:
        # Steps are many, and all of them count: then no sort is needed.
        if even and batch.mask.ndim == 1:
            return permutation(key, number)
        # Minibatches of one size share the few rows that do not count, too.
        return order(key, jnp.ones_like(batch.valid) if even else batch.valid)

    def epoch(state: Trained, indices: Array) -> tuple[Trained, dict[str, Metrics]]:
        def dense(state: Trained, rows: Batch) -> tuple[Trained, dict[str, Metrics]]:
            return step(state, *add_up(partial(gradient, state.params), rows, batching.block))

        def sparse(state: Trained, index: Array) -> tuple[Trained, dict[str, Metrics]]:
            start, stop = edge(index, count, pieces), edge(index + 1, count, pieces)
            sum_of = partial(gradient, state.params)
            return step(state, *gather_up(sum_of, batch, indices, start, stop, batching.block))

        if whole:
            return dense(state, batch)
        if batching.size is not None:
            return repeat(sparse, state, pieces)
        if batching.dense:
            # One gather an epoch is cheaper than one a minibatch.
            cut = (batching.minibatches, number // batching.minibatches)
            shuffled = jax.tree.map(lambda x: x[indices].reshape(*cut, *x.shape[1:]), batch)
            state, metrics = jax.lax.scan(dense, state, shuffled)
        else:
            state, metrics = jax.lax.scan(sparse, state, jnp.arange(batching.minibatches))
        return state, jax.tree.map(lambda x: x.mean(0), metrics)

    keys = jax.random.split(key, batching.epochs)
    # Beforehand, or the compiler would make an order anew in each of the gathers.
    orders = keys if whole else jax.vmap(shuffled)(keys)
    trained, metrics = jax.lax.scan(epoch, Trained(params, opt_state), orders)
    return *trained, jax.tree.map(lambda x: x[-1], metrics)


def joint_loss(
    losses: Losses, pieces: Array | int, params: Networks, rows: Batch
) -> tuple[Array, dict[str, Array]]:
    """The loss of a minibatch, `pieces · Σ weight · loss` over its rows: of all networks, and of each."""
    found = losses(params, rows)
    parts = {name: pieces * (rows.weight[name] * loss).sum() for name, loss in found.items()}
    return sum(parts.values(), start=jnp.float32(0.0)), parts


def gradient_step(
    optimizers: Optimizers,
    progress: Array,
    state: Trained,
    grads: Networks,
    losses: dict[str, Array],
) -> tuple[Trained, dict[str, Metrics]]:
    """One step of every network by its own optimiser, and what to log of it, see `descend`."""
    # Of the flat gradient, as the optimisers clip it, so that it is computed once.
    norms = {name: optax.tree.norm(ravel_pytree(grad)[0]) for name, grad in grads.items()}
    joint_norm = optax.tree.norm(norms)
    params, opt_state = {}, {}
    for name, optimizer in optimizers.items():
        updates, opt_state[name] = optimizer.update(
            grads[name],
            state.opt_state[name],
            state.params[name],
            progress=progress,
            joint_norm=joint_norm,
        )
        params[name] = optax.apply_updates(state.params[name], updates)
    metrics = {n: {"loss": losses[n], "grad_norm": norms[n]} for n in losses}
    return Trained(params, opt_state), metrics


def edge(index: Array, count: Array, pieces: Array | int) -> Array:
    """Where piece `index` of `count` rows begins: `⌊index count / pieces⌋`, whose product needs 64 bits."""
    return index * (count // pieces) + index * (count % pieces) // pieces


def repeat(
    step: Callable[[Any, Array], tuple[Any, Sums]], state: Any, times: int | Array
) -> tuple[Any, Sums]:
    """`step(state, index)` a number of times that is not known beforehand, and the mean of what it says."""
    nothing = zeros(lambda index: step(state, index)[1], times)

    def body(index: Array, loop: tuple[Any, Sums]) -> tuple[Any, Sums]:
        state, more = step(loop[0], index)
        return state, jax.tree.map(jnp.add, loop[1], more)

    state, total = jax.lax.fori_loop(0, times, body, (state, nothing))
    return state, jax.tree.map(lambda x: x / times, total)


def summarise(
    measure: Callable[[Batch], Sums], batch: Batch, network: str, batching: Batching
) -> Sums:
    """Means of whatever `measure` says of the valid rows, a tree, by the weights of a network.

    `Σ weight · x / Σ weight`: not all aggregates have weights that sum to one. Of more than `SAMPLE` rows
    every second, every third, ... is read, so that they are few enough.
    """

    def sums(rows: Batch) -> tuple[Array, Sums]:
        weight = rows.weight[network]
        return weight.sum(), jax.tree.map(lambda x: (weight * x).sum(), measure(rows))

    number = batch.valid.shape[0]
    if batching.dense:
        sample = jax.tree.map(lambda x: x[:: -(-number // SAMPLE)], batch)
        total, found = add_up(sums, sample, batching.block)
    else:
        invalid = batch.valid == 0
        indices, count = jnp.argsort(invalid, stable=True), (~invalid).sum()
        stride = jnp.maximum(-(-count // SAMPLE), 1)
        spread = indices[jnp.minimum(stride * jnp.arange(min(SAMPLE, number)), number - 1)]
        stop = -(-count // stride)
        total, found = gather_up(sums, batch, spread, jnp.zeros_like(stop), stop, batching.block)
    return jax.tree.map(lambda x: x / jnp.where(total > 0, total, 1.0), found)


def add_up(sum_of: Callable[[Batch], Sums], rows: Batch, block: int) -> Sums:
    """Add up a sum over all rows, in equal blocks of at most `block` rows (at once if none fit well)."""
    number = rows.valid.shape[0]
    sizes = [size for size in range(block // 4, block + 1) if size and number % size == 0]
    if number <= block or not sizes:
        return sum_of(rows)
    blocks = number // max(sizes)
    cut = jax.tree.map(lambda x: x.reshape(blocks, -1, *x.shape[1:]), rows)

    def add(total: Sums, rows: Batch) -> tuple[Sums, None]:
        return jax.tree.map(jnp.add, total, sum_of(rows)), None

    first = jax.tree.map(lambda x: x[0], cut)
    return jax.lax.scan(add, zeros(sum_of, first), cut)[0]


def zeros(f: Callable[..., Sums], *args: Any) -> Sums:
    """Zeros of the shape of `f(*args)`, without computing it."""
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(f, *args))


def gather_up(
    sum_of: Callable[[Batch], Sums],
    batch: Batch,
    indices: Array,
    start: Array,
    stop: Array,
    block: int,
) -> Sums:
    """Add up a sum over the rows `indices[start:stop]`, block by block, and no block more.

    Args:
      sum_of: `rows [block] -> sums`; a row counts as much as its weights say.
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
        weight = {
            name: jnp.where(inside.reshape(-1, *(1,) * (weight.ndim - 1)), weight, 0.0)
            for name, weight in rows.weight.items()
        }
        return sum_of(rows.replace(weight=weight))

    def add(loop: tuple[Array, Sums]) -> tuple[Array, Sums]:
        row, total = loop
        return row + block, jax.tree.map(jnp.add, total, one(row))

    return jax.lax.while_loop(lambda loop: loop[0] < stop, add, (start, zeros(one, start)))[1]


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
