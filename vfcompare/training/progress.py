"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

import time
from typing import TextIO

HEARTBEAT = 30.0
"""Seconds between two lines where there is no terminal."""


def duration(seconds: float) -> str:
    """A time in words, in the unit that makes it short."""
    for size, unit, most in ((1, "s", 90), (60, "minutes", 90), (3600, "hours", 48)):
        if round(seconds / size) < most:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds / 86400)} days"


class Progress:
    """Shows steps done, speed and the time that is left, compile time not counted."""

    def __init__(self, name: str, total: int, out: TextIO, begun: int = 0) -> None:
        """Begin.

        Args:
          name: of the run.
          total: environment steps of all seeds.
          out: where to write.
          begun: steps that were done before, in other processes.
        """
        self._name, self._total, self._out, self._begun = name, total, out, begun
        self._live = out.isatty()
        self._shown = time.monotonic()

    def show(self, steps: int, seconds: float) -> None:
        """Say how far it is, if it is time to."""
        pause = 0.2 if self._live else HEARTBEAT
        if time.monotonic() - self._shown < pause:
            return
        self._shown = time.monotonic()
        rate = (steps - self._begun) / max(seconds, 1e-9)
        left = (self._total - steps) / max(rate, 1e-9)
        line = (
            f"{self._name}: {steps / self._total:4.0%}  {rate:,.0f} steps/s  {duration(left)} left"
        )
        self._out.write(f"\r\x1b[2K{line}" if self._live else f"{line}\n")
        self._out.flush()

    def done(self, steps: int, seconds: float, compile_seconds: float, diverged: int) -> None:
        """One line for a finished run."""
        steps -= self._begun
        rate = steps / max(seconds, 1e-9)
        line = (
            f"{self._name}: {steps:,} steps in {seconds:.1f} s ({rate:,.0f}/s), "
            f"compiled in {compile_seconds:.1f} s"
        )
        if diverged:
            line += f", {diverged} seeds diverged"
        self._out.write(f"\r\x1b[2K{line}\n" if self._live else f"{line}\n")
        self._out.flush()
