"""A cell's share of the trainer that trains it, alone or with others."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vfcompare.training import circumstances, tasks
from vfcompare.training.cell import Member

if TYPE_CHECKING:
    from vfcompare.training.programs import Run
    from vfcompare.training.trainer import Trainer


class Share:
    """A cell, and where its seeds stand.

    Attributes:
      member: the cell.
      trainer: of its seeds, and of others.
      rows: which of the trainer's seeds are the cell's.
      bit_exact: whether it goes on under the circumstances of its checkpoint.
    """

    def __init__(
        self, member: Member, trainer: "Trainer", rows: slice, traced: Sequence[str]
    ) -> None:
        """Refuse to go on under other circumstances than those of the checkpoint, if there is one.

        Args:
          member: the cell.
          trainer: of its seeds.
          rows: which these are.
          traced: paths of numbers.

        Raises:
          InputError: see `vfcompare.training.circumstances.compare`.
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
        """What it is trained in."""
        return tasks.shared(self.member.cell.config["env"])

    def held(self) -> "Run":
        """The present state of its seeds, on the host."""
        return self.trainer.held(self.rows)

    def reached(self) -> "Run":
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
        """Its share of what the trainer has spent, and what led to where that went on from."""
        checkpoint = self.member.checkpoint
        before = {} if checkpoint is None else checkpoint.seconds
        share = len(self.member.cell.seeds) / len(self.trainer.seeds)
        return {name: round(before.get(name, 0.0) + share * x, 3) for name, x in spent.items()}
