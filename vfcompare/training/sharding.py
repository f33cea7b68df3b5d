"""Seeds over devices, and side by side on each.

Seeds are sharded over the local devices and, on each, mapped one after another or a few side by side inside
one compiled program. Whole episodes are fastest one after another, where every seed takes just the steps that
its own episodes need; fragments, which all cost the same, gain a third from a few side by side.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from vfcompare.types import Learner

MOST_LANES = 5
"""Most seeds side by side on a device: with more, what they work on leaves the fast caches."""


def over_seeds(f: Callable[..., Any], devices: int, lanes: int) -> Callable[..., Any]:
    """Map `f` over a leading axis of seeds, sharded over devices, `lanes` at a time on each.

    The number of seeds must be a multiple of the number of devices.
    """

    def mapped(*args: Any) -> Any:
        if lanes == 1:
            return jax.lax.map(lambda xs: f(*xs), args)
        return jax.lax.map(lambda xs: f(*xs), args, batch_size=lanes)

    mesh = Mesh(np.array(jax.local_devices()[:devices]), ("seed",))
    spec = PartitionSpec("seed")
    return jax.jit(jax.shard_map(mapped, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))


def side_by_side(share: int) -> int:
    """The largest divisor of a device's share of the seeds that is not above `MOST_LANES`."""
    return max(lanes for lanes in range(1, MOST_LANES + 1) if share % lanes == 0)


def lanes_for(learner: Learner, seeds: int) -> int:
    """How many seeds a device trains side by side where a cell has so many, alone or among others."""
    devices = min(jax.local_device_count(), seeds)
    return side_by_side(-(-seeds // devices)) if learner.even_cost else 1
