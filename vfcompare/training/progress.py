"""How far a run is: a bar on a terminal, a line now and then elsewhere."""

import math
import time
from typing import Self, TextIO

from vfcompare.words import counted

HEARTBEAT = 30.0
"""Seconds between two lines where there is no terminal."""


def duration(seconds: float) -> str:
    """A time in words, in the unit that makes it short."""
    for size, unit, most in ((1, "s", 90), (60, "minutes", 90), (3600, "hours", 48)):
        if round(seconds / size) < most:
            return f"{round(seconds / size)} {unit}"
    return f"{round(seconds / 86400)} days"


class Progress:
    """Shows that programs are compiled, then steps done, speed and the time left, compile time not counted.

    It is a context: what is shown on a terminal at its end is removed, so that no error is printed behind it.

    Attributes:
      total: environment steps that there are to do, of all seeds.
      resumed_at: steps that were done before, in other processes.
    """

    def __init__(self, name: str, total: int, out: TextIO) -> None:
        """Begin.

        Args:
          name: of the run.
          total: environment steps of all seeds.
          out: where to write.
        """
        self._name, self.total, self._out = name, total, out
        self.resumed_at = 0
        self._live = out.isatty()
        self._shown = time.monotonic()

    def __enter__(self) -> Self:
        """Say that programs are compiled: it takes up to a minute."""
        self._write(f"{self._name}: compiling ...", stays=False)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave an empty line on a terminal."""
        self.clear()

    def clear(self) -> None:
        """Remove what will be written over, on a terminal."""
        if self._live:
            self._write("", stays=False)

    def show(self, steps: int, seconds: float) -> None:
        """Say how far it is, if it is time to."""
        pause = 0.2 if self._live else HEARTBEAT
        if time.monotonic() - self._shown < pause:
            return
        self._shown = time.monotonic()
        rate = (steps - self.resumed_at) / max(seconds, 1e-9)
        left = (self.total - steps) / max(rate, 1e-9)
        line = f"{self._name}: {steps / max(self.total, 1):4.0%}  {rate:,.0f} steps/s  {duration(left)} left"
        self._write(line, stays=False)

    def done(
        self,
        place: str,
        steps: int,
        seconds: float,
        compile_seconds: float,
        *,
        final: float = math.nan,
        diverged: int = 0,
    ) -> None:
        """One line for a finished run.

        Args:
          place: where its files are.
          steps: of all seeds, those that were done before included.
          seconds: of training.
          compile_seconds: of compiling.
          final: return in the end; NaN where there is none to tell.
          diverged: number of seeds.
        """
        steps -= self.resumed_at
        rate = steps / max(seconds, 1e-9)
        line = (
            f"{place}: {steps:,} steps in {seconds:.1f} s ({rate:,.0f}/s), "
            f"compiled in {compile_seconds:.1f} s"
        )
        if math.isfinite(final):
            line += f", return {final:.3g}"
        if diverged:
            line += f", {counted(diverged, 'seed')} diverged"
        self._write(line, stays=True)

    def _write(self, line: str, *, stays: bool) -> None:
        """Write a line, on a terminal over the one before; `stays` is whether it is kept there."""
        over, end = ("\r\x1b[2K", "\n" if stays else "") if self._live else ("", "\n")
        self._out.write(f"{over}{line}{end}")
        self._out.flush()
