"""Damage done to values, to learn which of their errors hurt, from a time of choice on.

Some lesions change the values that are read (`zero`, `constant`, `bias`, `noise`, `noise_to`, `shuffle`,
`another`), and leave the critic to learn as before; others change the critic itself (`freeze`, `reset`,
`delay`). `after` is the share of the budget after which the damage is done; a `critic` is the pair of its
parameters and the memory of its unit, see `vfcompare.valuation.Reading`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vfcompare import masked
from vfcompare.types import Access, Array, Key, Rollout
from vfcompare.valuation import Hurt, Lesion, Reading


def acting(rollout: Rollout) -> Array:
    """`[B, G, T + 1]`, one where a step is taken, and where a fragment is cut off from the one to come.

    Beyond the last step of an episode nothing is left to be wrong about. Exact values are zero there, also
    where the clock ended the episode. An error would not only be part of a baseline then, but a reward for
    lasting until the clock.
    """
    return jnp.concatenate([rollout.mask, rollout.trace[..., -1:]], -1)


def of_values(
    damage: Callable[[Array, Rollout, Access, Key], Array], after: float, privileged: bool = False
) -> Lesion:
    """A lesion that changes the values that are read."""

    def apply(memory: Any, reading: Reading, rollout: Rollout, access: Access, key: Key) -> Hurt:
        hurt = damage(reading.value, rollout, access, key)
        if after > 0:
            hurt = jnp.where(access.progress >= after, hurt, reading.value)
        return Hurt(hurt, memory)

    return Lesion(apply, privileged=privileged)


def none() -> Lesion:
    """Nothing."""
    return of_values(lambda value, rollout, access, key: value, 0.0)


def zero(*, after: float = 0.0) -> Lesion:
    """No value at all, nor anything to bootstrap from: `V = 0`. At λ = 1 the agent is REINFORCE."""
    return of_values(lambda value, rollout, access, key: jnp.zeros_like(value), after)


def constant(*, after: float = 0.0) -> Lesion:
    """Every state is worth the batch's mean value."""

    def damage(value: Array, rollout: Rollout, access: Access, key: Key) -> Array:
        taken = acting(rollout)
        return jnp.where(taken > 0, masked.mean(value, taken), value)

    return of_values(damage, after)


def bias(*, by: float, after: float = 0.0) -> Lesion:
    """A constant error: `V + β`. Harmless at λ = 1 of whole episodes, where a value is only a baseline."""
    return of_values(lambda value, rollout, access, key: value + by * acting(rollout), after)


def noise(*, std: float, after: float = 0.0) -> Lesion:
    """Independent errors: `V + τ ε`, `ε` normal, drawn anew for every visit."""

    def damage(value: Array, rollout: Rollout, access: Access, key: Key) -> Array:
        return value + std * jax.random.normal(key, value.shape) * acting(rollout)

    return of_values(damage, after)


def noise_to(*, explained: float, after: float = 0.0) -> Lesion:
    """Independent errors of such a size that what is read explains a given share of the values' variance.

    `V + τ ε` with `τ² = (1 - e) Var(V)`, the variance over the steps of the batch: `e = 1 - Var(error) /
    Var(V)`, of the truth where values are exact, and of what it says itself where a critic has learned them,
    whose own error comes on top. Below 0 the errors are larger than what there is to know.
    """

    def damage(value: Array, rollout: Rollout, access: Access, key: Key) -> Array:
        taken = acting(rollout)
        _, variance = masked.moments(value, taken, ddof=0)
        std = jnp.sqrt((1.0 - explained) * variance)
        return value + std * jax.random.normal(key, value.shape) * taken

    return of_values(damage, after)


def shuffle(*, after: float = 0.0) -> Lesion:
    """Each step gets the value of another step of the same time, of another episode of the batch.

    Episodes that act at a time are rolled among themselves; one that acts alone keeps its value. At λ = 1 the
    advantage stays unbiased, because the other episode does not know of the action.
    """

    def damage(value: Array, rollout: Rollout, access: Access, key: Key) -> Array:
        episodes = value.shape[0] * value.shape[1]
        shift = jax.random.randint(key, (), 1, max(episodes, 2))
        flat, taken = (x.reshape(episodes, -1) for x in (value, acting(rollout) > 0))
        # What a critic says of padding is the value of no step.
        moved = jnp.take_along_axis(flat, rolled(taken, shift), 0)
        return jnp.where(taken, moved, flat).reshape(value.shape)

    return of_values(damage, after)


def rolled(taken: Array, shift: Array) -> Array:
    """`[N, T]`, for each lane and time another lane that acts then, itself if there is none.

    Lane `i` of rank `r` among the `n_t` that act gets the one of rank `r - s_t mod n_t`, with
    `s_t = 1 + (shift - 1) mod (n_t - 1)`: `shift` itself where all act.

    Args:
      taken: `[N, T]`, whether a lane acts; what is returned for one that does not has no meaning.
      shift: from 1 to `N - 1`.
    """
    number = taken.sum(0)
    rank = jnp.cumsum(taken, 0) - 1
    by = 1 + (shift - 1) % jnp.maximum(number - 1, 1)
    ranked = jnp.argsort(~taken, 0, stable=True)
    return jnp.take_along_axis(ranked, (rank - by) % jnp.maximum(number, 1), 0)


def another(*, sharpness: float, after: float = 0.0) -> Lesion:
    """The exact value of another policy: the present one with its logits times `sharpness`.

    Args:
      sharpness: 0 is the uniform policy.
      after: when it begins.
    """

    def damage(value: Array, rollout: Rollout, access: Access, key: Key) -> Array:
        return access.exact_value(rollout, sharpness)

    return of_values(damage, after, privileged=True)


def freeze(*, after: float = 0.0) -> Lesion:
    """The critic stays as it was at that time: what it knows goes stale."""

    def apply(memory: Any, reading: Reading, rollout: Rollout, access: Access, key: Key) -> Hurt:
        held = masked.choose(access.progress >= after, memory, reading.critic)
        return Hurt(reading.read(held), held, held)

    return Lesion(apply, lambda critic: critic)


def reset(*, after: float) -> Lesion:
    """The critic starts again from its first parameters, once; its optimiser goes on from where it was."""

    def apply(memory: Any, reading: Reading, rollout: Rollout, access: Access, key: Key) -> Hurt:
        first, done = memory
        due = (access.progress >= after) & ~done
        critic = masked.choose(due, first, reading.critic)
        return Hurt(reading.read(critic), (first, done | due), critic)

    return Lesion(apply, lambda critic: (critic, jnp.bool_(False)))


def delay(*, updates: int, after: float = 0.0) -> Lesion:
    """Values are read from the critic as it was some updates ago, while it learns on."""

    def apply(memory: Any, reading: Reading, rollout: Rollout, access: Access, key: Key) -> Hurt:
        oldest, critic = jax.tree.map(lambda x: x[0], memory), reading.critic
        value = reading.read(masked.choose(access.progress >= after, oldest, critic))
        memory = jax.tree.map(lambda x, new: jnp.concatenate([x[1:], new[None]]), memory, critic)
        return Hurt(value, memory)

    def init(critic: Any) -> Any:
        return jax.tree.map(lambda x: jnp.repeat(x[None], updates, 0), critic)

    return Lesion(apply, init)
