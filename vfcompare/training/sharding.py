"""Seeds over devices, and side by side on each.

Seeds are sharded over the local devices and, on each, mapped one after another or a few side by side inside
one compiled program. Whole episodes are fastest one after another, where every seed takes just the steps that
its own episodes need; fragments, which all cost the same, gain a third from a few side by side.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from vfcompare.types import Array, Learner

LANE = "lane"
"""Name of the axis of seeds side by side."""

MOST_LANES = 5
"""Most seeds side by side on a device: with more, what they work on leaves the fast caches."""


def over_seeds(f: Callable[..., Any], devices: int, lanes: int) -> Callable[..., Any]:
    """Map `f` over a leading axis of seeds, sharded over devices, `lanes` at a time on each.

    The number of seeds must be a multiple of the number of devices times `lanes`.
    """

    def mapped(*args: Any) -> Any:
        if lanes == 1:
            return jax.lax.map(lambda xs: f(*xs), args)
        of_row = jax.vmap(f, axis_name=LANE)
        rows = jax.tree.map(lambda x: x.reshape(-1, lanes, *x.shape[1:]), args)
        found = jax.lax.map(lambda xs: of_row(*xs), rows)
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)

    mesh = Mesh(np.array(jax.local_devices()[:devices]), ("seed",))
    spec = PartitionSpec("seed")
    return jax.jit(jax.shard_map(mapped, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))


def count_side_by_side(condition: Array, lanes: int) -> Array:
    """In how many of the seeds side by side a condition holds: int32[], the same for all of them."""
    holds = condition.astype(jnp.int32)
    return holds if lanes == 1 else jax.lax.psum(holds, LANE)


def side_by_side(share: int) -> int:
    """The largest divisor of a device's share of the seeds that is not above `MOST_LANES`."""
    return max(lanes for lanes in range(1, MOST_LANES + 1) if share % lanes == 0)


def lanes_for(learner: Learner, seeds: int) -> int:
    """How many seeds a device trains side by side where a cell has so many, alone or among others."""
    devices = min(jax.local_device_count(), seeds)
    return side_by_side(-(-seeds // devices)) if learner.even_cost else 1
