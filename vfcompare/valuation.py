"""What says how good an action was: a critic, the unit it learns in, what harms it, and an estimator.

Shapes are those of `vfcompare.types`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from vfcompare.types import (
    Access,
    Array,
    Batch,
    Charge,
    Key,
    Lesson,
    Metrics,
    Networks,
    Params,
    Rollout,
)


class Unit(NamedTuple):
    """`value = shift + size · output`."""

    shift: Array | float
    size: Array | float

    def up(self, output: Array) -> Array:
        """From the critic's unit to that of returns."""
        return self.shift + self.size * output

    def down(self, value: Array) -> Array:
        """From the unit of returns to the critic's."""
        return (value - self.shift) / self.size


class Scaling(NamedTuple):
    """How the unit is found.

    Attributes:
      init: memory at the start.
      unit: `(memory) -> Unit`.
      update: `(memory, rollout) -> memory`.
    """

    init: Any
    unit: Callable[[Any], Unit]
    update: Callable[[Any, Rollout], Any]


class Reading(NamedTuple):
    """What a critic says: one is its parameters and the memory of its unit, or `()` where values are exact.

    Attributes:
      critic: the present one.
      value: `[B, G, T + 1]`, what it says.
      read: `(critic) -> [B, G, T + 1]`, what another one would say.
    """

    critic: Any
    value: Array
    read: Callable[[Any], Array]


class Hurt(NamedTuple):
    """What a lesion leaves.

    Attributes:
      value: `[B, G, T + 1]`, what the policy's advantages are made of.
      memory: of the lesion.
      critic: what takes the critic's place, as in `Reading`, and learns on; None where it stays as it is.
    """

    value: Array
    memory: Any
    critic: Any = None


class Lesion(NamedTuple):
    """Damage to a critic, learned or exact (which has no parameters).

    Attributes:
      apply: `(memory, reading, rollout, access, key) -> Hurt`.
      init: `(critic) -> memory`.
      privileged: whether it asks for exact values.
    """

    apply: Callable[[Any, Reading, Rollout, Access, Key], Hurt]
    init: Callable[[Any], Any] = lambda critic: ()
    privileged: bool = False


class Critic(NamedTuple):
    """A learned value function. It is given the parameters of all networks, as it may share the policy's.

    Attributes:
      init: `(key, networks, obs) -> params`, the networks being those without a critic.
      value: `(networks, rollout) -> [B, G, T + 1]`.
      loss: `(networks, rows) -> losses`, one for each step, as `Batch.mask`; it reads `steps` and `lesson`.
      optimizer: its own.
      recurrent: whether values depend on more than the present observation.
      scaling: the unit it learns in.
      lesion: damage to what it says.
    """

    init: Callable[[Key, Networks, Array], Params]
    value: Callable[[Networks, Rollout], Array]
    loss: Callable[[Networks, Batch], Array]
    optimizer: optax.GradientTransformationExtraArgs
    recurrent: bool
    scaling: Scaling
    lesion: Lesion


class Estimate(NamedTuple):
    """What an estimator says of a rollout.

    Attributes:
      advantage: `[B, G, T]`.
      lesson: what the critic is to learn, `[B, G, T]` each, or None without one.
      metrics: what to log.
      value: `[B, G, T + 1]`, the values that were read, or None where there are none.
      memory: what the estimator remembers until the next update.
      renewed: parameters by network, where a lesion has changed a critic: it learns on from these.
      charge: what is counted against the budget of environment steps, None where it simulates nothing.
    """

    advantage: Array
    lesson: Lesson | None = None
    metrics: Metrics = {}  # noqa: RUF012 - never written to
    value: Array | None = None
    memory: Any = ()
    renewed: Networks = {}  # noqa: RUF012 - never written to
    charge: Charge | None = None


class Estimator(NamedTuple):
    """Where advantages come from.

    Attributes:
      estimate: `(memory, networks, rollout, access, key) -> Estimate`.
      init: `(networks) -> memory`, what is remembered from update to update.
      critics: what is learned beside the policy, by the name of its network: `critic`, or nothing.
      value: `(memory, networks, rollout) -> [B, G, T + 1]`, what the critic says in the unit of returns,
        without its lesion, or None.
      needs_state: whether the rollout must keep environment states.
      privileged: whether it asks for exact values, which no agent in earnest has.
    """

    estimate: Callable[[Any, Networks, Rollout, Access, Key], Estimate]
    init: Callable[[Networks], Any] = lambda networks: ()
    critics: Mapping[str, Critic] = {}
    value: Callable[[Any, Networks, Rollout], Array] | None = None
    needs_state: bool = False
    privileged: bool = False
