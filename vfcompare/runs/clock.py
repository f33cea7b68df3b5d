"""The time as records have it, and how long something takes."""

import time
from datetime import UTC, datetime


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def age(time: str) -> float:
    """Seconds since a time that `now` wrote.

    Raises:
      ValueError, TypeError: if it is none.
    """
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        """Start."""
        self._begin = time.monotonic()

    def __call__(self) -> float:
        """Read."""
        return time.monotonic() - self._begin
