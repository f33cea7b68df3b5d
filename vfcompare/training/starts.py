"""Where seeds start, as hashes: what the certificates of matched cells have in common."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vfcompare.errors import InputError
from vfcompare.runs import certificate

if TYPE_CHECKING:
    from vfcompare.training.trainer import Numbers, Trainer
    from vfcompare.types import Array, LearnerState, Rollout


class Starts:
    """Where the seeds of a trainer that has not trained yet start; each different start is hashed once."""

    def __init__(self, trainer: "Trainer") -> None:
        """Begin with nothing hashed.

        Args:
          trainer: before its first update.
        """
        self._trainer = trainer
        self._known: dict[tuple[float, ...], dict[str, str]] = {}

    def hashes(self, rows: slice, *, time_aware: bool) -> dict[int, dict[str, str]]:
        """Hashes of where some seeds start, see `start_hashes`.

        Cells that differ only in numbers that are used after the first rollout, such as a learning rate,
        start alike: of them each seed is hashed once.

        Args:
          rows: which of the trainer's seeds.
          time_aware: whether their task ends at its horizon by itself, as it says.

        Returns:
          The hashes of each, by seed.

        Raises:
          InputError: where it does not: the certificate would say that the time limit is part of the task.
        """
        trainer = self._trainer
        found = {}
        for index, seed in enumerate(trainer.seeds[rows], rows.start):
            determined_by = (seed, *(float(trainer.numbers[n][index]) for n in self._decisive))
            if determined_by not in self._known:
                rollout = trainer.rollout(index)
                if time_aware and rollout.truncated.any():
                    raise InputError(
                        "env.time_aware=True does not hold: the clock had to end an episode; allowed: a "
                        "terminal that is true at the horizon, or time_aware = False"
                    )
                self._known[determined_by] = start_hashes(trainer.state(index), rollout)
            found[seed] = self._known[determined_by]
        return found

    @cached_property
    def _decisive(self) -> list[str]:
        """Those of the trainer's numbers on which initial states and first rollouts depend, by path."""
        from vfcompare.training import programs

        def first(numbers: "Numbers", seed: "Array") -> Any:
            learner = trainer.make(numbers)
            run = programs.init(learner, seed)
            return run, programs.rollout(learner, seed, run)

        trainer = self._trainer
        numbers = {name: x[0] for name, x in trainer.numbers.items()}
        used = depends(first, numbers, np.uint32(trainer.seeds[0])) if numbers else []
        return [name for name, matters in zip(sorted(numbers), used, strict=False) if matters]


def start_hashes(state: "LearnerState", rollout: "Rollout") -> dict[str, str]:
    """Hashes of a seed's initial policy, its first rollout, and the states in which that begins."""
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


def depends(f: Callable[..., Any], *args: Any) -> list[bool]:
    """On which leaves of its arguments a function's result depends, by the operations that are traced.

    An operation's results count as depending on all that it is given.
    """
    import jax
    from jax.extend.core import Var

    traced = jax.make_jaxpr(f)(*args).jaxpr
    needed = {x for x in traced.outvars if isinstance(x, Var)}
    for operation in reversed(traced.eqns):
        if needed.intersection(operation.outvars):
            needed.update(x for x in operation.invars if isinstance(x, Var))
    return [x in needed for x in traced.invars]
