"""What must be the same for training to go on bit by bit, and what is said where it is not."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vfcompare.errors import InputError
from vfcompare.runs import naming, origin, run_folder
from vfcompare.training import devices
from vfcompare.training.cell import Cell

SIDE_BY_SIDE, TRACED, DEVICE = "seeds side by side", "traced numbers", "device"
"""Names of circumstances as a checkpoint has them."""


def current(held: Any, lanes: int, traced: Sequence[str]) -> dict[str, Any]:
    """The circumstances under which this process trains, by name.

    Args:
      held: the state of a cell's seeds.
      lanes: how many seeds a device trains side by side.
      traced: paths of the numbers that JAX traces.
    """
    import jax

    from vfcompare.training import compiler

    paths = jax.tree_util.tree_flatten_with_path(held)[0]
    tree = [[jax.tree_util.keystr(k), str(v.dtype), list(v.shape)] for k, v in paths]
    versions = origin.versions()
    return {
        "state": naming.digest(tree),
        "jax": versions["jax"],
        "jaxlib": versions["jaxlib"],
        DEVICE: devices.kind(),
        "double precision": bool(jax.config.values["jax_enable_x64"]),
        "random numbers": str(jax.config.values["jax_default_prng_impl"]),
        "compiler options": compiler.options(),
        SIDE_BY_SIDE: lanes,
        TRACED: list(traced),
    }


def compare(
    cell: Cell, checkpoint: run_folder.Checkpoint, now: Mapping[str, Any], held: Any
) -> bool:
    """Whether a cell goes on under the circumstances of its checkpoint; with `resume=anyway` it need not.

    Args:
      cell: that goes on.
      checkpoint: from which.
      now: circumstances, see `current`.
      held: the state that is to be replaced.

    Raises:
      InputError: that names what is different. What has another structure cannot go on at all.
    """
    before = checkpoint.circumstances
    if before.get("state") != now["state"]:
        raise InputError(
            f"{cell.id}: its checkpoint was made by other code and does not fit: "
            f"{misfit(held, checkpoint.state)}; allowed: the version that began it "
            "(run.json says which), or a new folder"
        )
    different = [
        f"{name} was {before.get(name)}, is {value}"
        for name, value in now.items()
        if before.get(name, value if name == TRACED else None) != value
        and not (name == DEVICE and devices.alike(before.get(name), value))
    ]
    if different and cell.config["resume"] != "anyway":
        raise InputError(
            f"{cell.id}: cannot go on bit by bit: {'; '.join(different)}; allowed: the former, "
            "a new folder, or resume=anyway, which the run will record"
        )
    return not different


def misfit(held: Any, state: bytes) -> str:
    """The first array in which a stored state differs from one in memory, in words."""
    from flax import serialization, traverse_util

    def arrays(tree: Any) -> dict[str, str]:
        flat = traverse_util.flatten_dict(tree, sep=".")
        return {path: f"{np.asarray(x).dtype}{list(np.shape(x))}" for path, x in flat.items()}

    stored = arrays(serialization.msgpack_restore(state))
    wanted = arrays(serialization.to_state_dict(held))
    for path in [*wanted, *stored]:
        if stored.get(path) != wanted.get(path):
            return f"{path} was {stored.get(path, 'absent')}, is {wanted.get(path, 'absent')}"
    return "its arrays stand in another order"
