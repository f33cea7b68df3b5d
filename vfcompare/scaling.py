"""The unit in which a critic learns: `V = shift + size · output`, from the returns seen so far.

Targets are handed to the critic in this unit and its outputs are read in it, so that one learning rate, and
one support of a histogram, fit tasks that pay 1 and tasks that pay 500.
"""

import jax.numpy as jnp

from vfcompare.returns import reward_to_go
from vfcompare.types import Array, Rollout, Scaling, Unit


def unscaled() -> Scaling:
    """The unit of returns itself."""
    return Scaling((), lambda memory: Unit(0.0, 1.0), lambda memory, rollout: memory)


def running_deviation(*, gamma: float, decay: float) -> Scaling:
    """Mean and standard deviation of the rewards-to-go, as exponential means over updates.

    `m ← d m + (1 - d) mean G`, likewise for `G²`, corrected for their start at zero (as PopArt without the
    correction of the output layer; van Hasselt et al., 2016, arXiv:1602.07714).

    Args:
      gamma: the agent's discount.
      decay: `d`.
    """

    def unit(memory: tuple[Array, Array, Array]) -> Unit:
        mean, square, weight = memory
        known = jnp.maximum(weight, 1e-8)
        deviation = jnp.sqrt(jnp.maximum(square / known - jnp.square(mean / known), 1e-8))
        return Unit(mean / known, jnp.where(weight > 0, deviation, 1.0))

    def update(memory: tuple[Array, Array, Array], rollout: Rollout) -> tuple[Array, ...]:
        to_go, count = reward_to_go(rollout, gamma=gamma), rollout.mask.sum()
        new = (to_go.sum() / count, jnp.square(to_go).sum() / count, jnp.float32(1.0))
        return tuple(decay * a + (1.0 - decay) * b for a, b in zip(memory, new, strict=True))

    zero = jnp.float32(0.0)
    return Scaling((zero, zero, zero), unit, update)


def running_range(*, gamma: float) -> Scaling:
    """The smallest and largest reward-to-go seen so far become 0 and 1.

    For heads with a bounded support: whatever was ever returned lies within it, and a task that pays 0 or 1
    at the end keeps its own unit.

    Args:
      gamma: the agent's discount.
    """

    def unit(memory: tuple[Array, Array]) -> Unit:
        low, high = memory
        known = high > low
        return Unit(jnp.where(known, low, 0.0), jnp.where(known, high - low, 1.0))

    def update(memory: tuple[Array, Array], rollout: Rollout) -> tuple[Array, Array]:
        to_go, taken = reward_to_go(rollout, gamma=gamma), rollout.mask > 0
        low = jnp.where(taken, to_go, jnp.inf).min()
        high = jnp.where(taken, to_go, -jnp.inf).max()
        return jnp.minimum(memory[0], low), jnp.maximum(memory[1], high)

    # Zero is within every range: it is what is left to be paid where an episode ends.
    return Scaling((jnp.float32(0.0), jnp.float32(0.0)), unit, update)
