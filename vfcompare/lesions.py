"""Damage done to values, to learn which of their errors hurt.

Each is `(value [B, G, T + 1], rollout, key) -> value`.
"""

import jax
import jax.numpy as jnp

from vfcompare.types import Array, Key, Rollout


def acting(rollout: Rollout) -> Array:
    """`[B, G, T + 1]`, one where a step is taken: beyond the last one nothing is left to be wrong about.

    Exact values are zero there, also where the clock ended the episode. An error would not only be part of a
    baseline then, but a reward for lasting until the clock.
    """
    return jnp.concatenate([rollout.mask, jnp.zeros_like(rollout.mask[..., :1])], -1)


def none(value: Array, rollout: Rollout, key: Key) -> Array:
    """Nothing."""
    del rollout, key
    return value


def bias(value: Array, rollout: Rollout, key: Key, *, by: float) -> Array:
    """A constant error: `V + β`. Harmless at λ = 1, where a value is only a baseline."""
    del key
    return value + by * acting(rollout)


def noise(value: Array, rollout: Rollout, key: Key, *, std: float) -> Array:
    """Independent errors: `V + τ ε`, `ε` normal, drawn anew for every visit."""
    return value + std * jax.random.normal(key, value.shape) * acting(rollout)


def shuffle(value: Array, rollout: Rollout, key: Key) -> Array:
    """Each step gets the value of another step of the same time, of another episode of the batch.

    At λ = 1 the advantage stays unbiased, because the other episode does not know of the action.
    """
    del rollout
    lanes = value.shape[0] * value.shape[1]
    shift = jax.random.randint(key, (), 1, max(lanes, 2))
    return jnp.roll(value.reshape(lanes, -1), shift, 0).reshape(value.shape)
