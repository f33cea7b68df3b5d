"""What counts and what does not: statistics of the entries that count, and a choice between two trees.

Entries are steps that were taken, or rollouts that could be scored.
"""

from typing import Any

import jax
import jax.numpy as jnp

from vfcompare.types import Array


def choose(condition: Array, x: Any, y: Any) -> Any:
    """`x` where the condition holds, else `y`, leaf by leaf.

    Args:
      condition: without axes it chooses a whole tree, `[N]` for each of `N` lanes.
      x: a tree of arrays that begin with the condition's axes.
      y: another.
    """
    condition = jnp.asarray(condition)

    def one(a: Array, b: Array) -> Array:
        axes = condition.shape + (1,) * (jnp.ndim(a) - condition.ndim)
        return jnp.where(condition.reshape(axes), a, b)

    return jax.tree.map(one, x, y)


def ratio(x: Array, y: Array) -> Array:
    """`x / y`, and zero where nothing counts: where `y` is not positive."""
    return jnp.where(y > 0, x / jnp.where(y > 0, y, 1.0), 0.0)


def mean(x: Array, mask: Array) -> Array:
    """Mean of the entries that count."""
    return (x * mask).sum() / mask.sum()


def moments(x: Array, mask: Array, *, ddof: int) -> tuple[Array, Array]:
    """Mean and variance of the entries that count; of equal ones, exactly themselves and zero.

    Numbers also where nothing counts, without meaning then.

    Args:
      x: any shape.
      mask: the same, zero or one.
      ddof: what is subtracted from their number in the variance.
    """
    # Around one of them, as in `vfcompare.baselines`: a rounding error here would be blown up by a division.
    one, count = x.reshape(-1)[mask.argmax()], jnp.maximum(mask.sum(), 1.0)
    mean = one + ((x - one) * mask).sum() / count
    return mean, (jnp.square(x - mean) * mask).sum() / jnp.maximum(count - ddof, 1.0)


def whitened(
    advantage: Array, mask: Array, *, ddof: int, eps: float = 0.0, eps_of_variance: float = 0.0
) -> Array:
    """Centre and scale over all taken steps: `(A - mean) / (sqrt(var + e_v) + e)`, zero off the mask.

    The normalisation of PPO's implementations (Huang et al., 2022). Computed once per batch, never per
    minibatch, so that it does not depend on how the batch is cut.
    """
    mean, variance = moments(advantage, mask, ddof=ddof)
    return (advantage - mean) / (jnp.sqrt(variance + eps_of_variance) + eps) * mask


CONSTANT = 1e-10
"""Variance of targets, relative to the squares they are made of, up to which it is rounding: see below."""


def explained_variance(
    value: Array, target: Array, mask: Array, *, floor: float = CONSTANT
) -> Array:
    """`1 - Var(target - value) / Var(target)` over all taken steps of the batch at once.

    Blind to a constant bias, and negative for a critic worse than a constant. NaN where the target is
    constant, as where no rollout is paid: there is nothing to explain. So is one with
    `Var(target) <= floor (E[target^2] + E[value^2])`. A float32 is rounded by up to `u = 6e-8` of its size; a
    target is a sum over an episode, of rewards and of values that cancel, and so is known to some `u sqrt(T)`
    of the larger of the two, 2e-6 after a thousand steps. The default stands for deviations of 1e-5, five
    times that: what is left above it was paid, however little it is.

    Args:
      value: any shape.
      target: the same.
      mask: the same, zero or one.
      floor: with zero only a target without any deviation is constant.
    """

    def variance(x: Array) -> Array:
        return mean(jnp.square(x - mean(x, mask)), mask)

    total = variance(target)
    size = mean(jnp.square(target), mask) + mean(jnp.square(value), mask)
    return jnp.where(total > floor * size, 1.0 - ratio(variance(target - value), total), jnp.nan)
