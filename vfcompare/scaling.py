"""The unit in which a critic learns: `V = shift + size · output`, from the returns seen so far.

Targets are handed to the critic in this unit and its outputs are read in it, so that one learning rate, and
one support of a histogram, fit tasks that pay 1 and tasks that pay 500.
"""

import jax.numpy as jnp

from vfcompare import masked
from vfcompare.returns import reward_to_go
from vfcompare.types import Array, Rollout
from vfcompare.valuation import Scaling, Unit


def unscaled() -> Scaling:
    """The unit of returns itself."""
    return Scaling((), lambda memory: Unit(0.0, 1.0), lambda memory, rollout: memory)


def running_deviation(*, gamma: float, decay: float) -> Scaling:
    """Mean and standard deviation of the rewards-to-go, as exponential means over updates.

    The weight of a batch is `1 - d` and decays by `d` with each later one, as PopArt's (van Hasselt et al.,
    2016, arXiv:1602.07714), without its correction of the output layer. Squares are summed around the mean
    (Chan et al., 1983): of returns near 500 that differ by little a difference of mean squares leaves none.

    Args:
      gamma: the agent's discount.
      decay: `d`.
    """

    def unit(memory: tuple[Array, Array, Array]) -> Unit:
        mean, squares, weight = memory
        deviation = jnp.sqrt(jnp.maximum(squares / jnp.maximum(weight, 1e-8), 1e-8))
        return Unit(mean, jnp.where(weight > 0, deviation, 1.0))

    def update(memory: tuple[Array, Array, Array], rollout: Rollout) -> tuple[Array, ...]:
        mean, squares, weight = memory
        center, variance = masked.moments(reward_to_go(rollout, gamma=gamma), rollout.mask, ddof=0)
        old, new = decay * weight, 1.0 - decay
        share, apart = new / (old + new), center - mean
        squares = decay * squares + new * variance + old * share * jnp.square(apart)
        return mean + share * apart, squares, old + new

    zero = jnp.float32(0.0)
    return Scaling((zero, zero, zero), unit, update)


def running_range(*, gamma: float) -> Scaling:
    """The smallest and largest reward-to-go seen so far become 0 and 1.

    For heads with a bounded support: whatever was ever returned lies within it, and a task that pays 0 or 1
    at the end keeps its own unit. Where the clock cuts an episode, what lies beyond is taken for the worst
    and the best seen so far, so that the range comes to hold what a critic is asked for there.

    Args:
      gamma: the agent's discount.
    """

    def unit(memory: tuple[Array, Array]) -> Unit:
        low, high = memory
        known = high > low
        return Unit(jnp.where(known, low, 0.0), jnp.where(known, high - low, 1.0))

    def update(memory: tuple[Array, Array], rollout: Rollout) -> tuple[Array, Array]:
        taken = rollout.mask > 0
        worst, best = (reward_to_go(rollout, gamma=gamma, beyond=end) for end in memory)
        low = jnp.where(taken, worst, jnp.inf).min()
        high = jnp.where(taken, best, -jnp.inf).max()
        return jnp.minimum(memory[0], low), jnp.maximum(memory[1], high)

    # Zero is within every range: it is what is left to be paid where an episode ends.
    return Scaling((jnp.float32(0.0), jnp.float32(0.0)), unit, update)
