"""Where seeds start, as hashes: what the certificates of matched cells have in common."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from vfcompare.runs import certificate

if TYPE_CHECKING:
    from vfcompare.training.train import Trainer
    from vfcompare.types import LearnerState, Rollout


def hashes(
    trainer: "Trainer",
    seeds: Sequence[int],
    first: int,
    known: dict[tuple[float, ...], dict[str, str]],
) -> dict[int, dict[str, str]]:
    """Hashes of where every seed of a cell starts.

    Args:
      trainer: that has not trained yet.
      seeds: of the cell.
      first: place of their first among all seeds of the trainer.
      known: hashes of starting points, by what determines them; new ones are added. Cells of a sweep that
        differ in what is used later have them in common.
    """
    found = {}
    for index, seed in enumerate(seeds, first):
        beginning = trainer.beginning(index)
        if beginning not in known:
            known[beginning] = start_hashes(trainer.state(index), trainer.rollout(index))
        found[seed] = known[beginning]
    return found


def start_hashes(state: "LearnerState", rollout: "Rollout") -> dict[str, str]:
    """What a certificate says of where a seed starts."""
    import jax

    content = {name: getattr(rollout, name) for name in ("obs", "action", "reward", "mask")}
    return {
        "policy": hash_tree(state.params["policy"]),
        "environment": hash_tree(jax.tree.map(lambda x: x[:, :, 0], rollout.state)),
        "rollout": hash_tree(content),
    }


def hash_tree(tree: Any) -> str:
    """SHA-256 of the arrays of a tree, with their paths."""
    import jax

    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return certificate.hash_arrays((jax.tree_util.keystr(k), np.asarray(v)) for k, v in paths)
