"""When a checkpoint is due."""

import contextlib
from collections.abc import Iterator

from vfcompare.runs import claim, clock

SOON = 10.0
"""Seconds between checkpoints, at least, where no evaluation has ended."""

SPARE = 10.0
"""After a checkpoint that took s seconds, none is saved for `SPARE` * s, at most `LONGEST`."""

LONGEST = claim.LOST_AFTER / 4
"""Seconds after which a checkpoint is due however long it takes: it is the sign of life of a run."""


class Cadence:
    """When a checkpoint is due, by the time since the last one and by how long that one took."""

    def __init__(self, save_seconds: float) -> None:
        """Begin to count.

        Args:
          save_seconds: between checkpoints, at least; 0 asks for one at each evaluation.
        """
        self._asked, self._pause = save_seconds, 0.0
        self._since = clock.Stopwatch()

    def due_between_evaluations(self) -> bool:
        """Whether one is due where a chunk has ended, in the middle of training."""
        return self._since() > max(self._asked, self._pause, SOON)

    def due_after_evaluation(self) -> bool:
        """Whether one is due where an evaluation has ended, the last one aside, after which it always is."""
        return self._asked == 0 or self._since() >= max(self._asked, self._pause)

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Save a checkpoint, as a context that takes its time."""
        took = clock.Stopwatch()
        yield
        # Tables are written whole each time, which takes ever longer.
        self._since, self._pause = clock.Stopwatch(), min(SPARE * took(), LONGEST)
