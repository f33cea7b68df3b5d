"""Initial weights."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from vfcompare.types import Array, Key


def orthogonal(gain: float = 1.0) -> jax.nn.initializers.Initializer:
    """What `jax.nn.initializers.orthogonal` gives, to rounding: `Q sign(diag R)` of a normal matrix `Q R`.

    That one decomposes by LAPACK, which hands its work to the pool of threads that waits for it: on two cores
    under load, seeds that were initialised side by side stood still for seconds, and mapped ones for ever.

    Saxe, McClelland & Ganguli, 2014 (arXiv:1312.6120).

    Args:
      gain: of the weights: columns, or rows where they are fewer, have this length.
    """

    def init(
        key: Key, shape: Sequence[int], dtype: Any = jnp.float32, out_sharding: Any = None
    ) -> Array:
        del out_sharding
        inputs, outputs = math.prod(shape[:-1]), shape[-1]
        tall = max(inputs, outputs), min(inputs, outputs)
        columns = orthonormal(jax.random.normal(key, tall, dtype))
        return gain * (columns if outputs <= inputs else columns.T).reshape(shape)

    return init


def orthonormal(matrix: Array) -> Array:
    """Orthonormal columns with the span of those of `[n, k]`, `n >= k`, by Gram and Schmidt's method, twice.

    Giraud, Langou & Rozloznik, 2005: that is enough for full precision.
    """

    def add(done: Array, index: Array) -> tuple[Array, None]:
        column = matrix[:, index]
        for _ in range(2):
            column = column - done @ (done.T @ column)
        return done.at[:, index].set(column / jnp.linalg.norm(column)), None

    return jax.lax.scan(add, jnp.zeros_like(matrix), jnp.arange(matrix.shape[1]))[0]
