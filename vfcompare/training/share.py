"""A cell's share of the trainer that trains it, alone or with others."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vfcompare.training import circumstances, tasks
from vfcompare.training.cell import Member

if TYPE_CHECKING:
    from vfcompare.training.programs import SeedState
    from vfcompare.training.trainer import Trainer


class Share:
    """A cell among those that a trainer trains, and where its seeds stand.

    Attributes:
      member: the cell.
      trainer: of its seeds, and of those of other cells.
      rows: which of the trainer's seeds are the cell's.
      bit_exact: whether it goes on under the circumstances of its checkpoint, or has none.
    """

    def __init__(
        self, member: Member, trainer: "Trainer", rows: slice, traced: Sequence[str]
    ) -> None:
        """Take some of a trainer's seeds as those of a cell.

        Args:
          member: the cell.
          trainer: of its seeds, and of those of other cells.
          rows: which of the trainer's seeds are the cell's.
          traced: paths of the numbers that JAX traces.

        Raises:
          InputError: if it would go on under other circumstances than those of its checkpoint, see
            `vfcompare.training.circumstances.compare`.
        """
        self.member, self.trainer, self.rows, self._traced = member, trainer, rows, traced
        checkpoint, self.bit_exact = member.checkpoint, True
        if checkpoint is not None and checkpoint.circumstances:
            self.bit_exact = circumstances.compare(
                member.cell, checkpoint, self.circumstances, self.held()
            )

    @cached_property
    def circumstances(self) -> dict[str, Any]:
        """What must be the same for training to go on bit by bit."""
        return circumstances.current(self.held(), self.trainer.lanes, self._traced)

    @property
    def env(self) -> Any:
        """The environment in which it is trained."""
        return tasks.shared(self.member.cell.config["env"])

    def held(self) -> "SeedState":
        """The present state of its seeds, on the host."""
        return self.trainer.held(self.rows)

    def reached(self) -> "SeedState":
        """The state of its checkpoint."""
        from flax import serialization

        assert self.member.checkpoint is not None
        return serialization.from_bytes(self.held(), self.member.checkpoint.state)

    def counter(self, name: str) -> np.ndarray:
        """See `vfcompare.training.trainer.Trainer.counter`."""
        return self.trainer.counter(name)[self.rows]

    @property
    def taken(self) -> int:
        """Environment steps of all seeds together."""
        return int(self.counter("env_steps").sum())

    def seconds(self, spent: Mapping[str, float]) -> dict[str, float]:
        """Seconds spent on the cell so far: before its checkpoint, and in proportion to its seeds since then.

        Args:
          spent: by the trainer in this process, by kind.

        Returns:
          Seconds, by kind.
        """
        checkpoint = self.member.checkpoint
        before = {} if checkpoint is None else checkpoint.seconds
        share = len(self.member.cell.seeds) / len(self.trainer.seeds)
        return {name: round(before.get(name, 0.0) + share * x, 3) for name, x in spent.items()}
