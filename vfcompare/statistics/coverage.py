"""What the nominal 95% intervals of a report really cover.

The numbers are in `coverage.json`, which `python -m benchmarks.coverage` measures and writes; what they
say is told in `docs/statistics.md`.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import NamedTuple

COVERAGE_RUNS = (3, 5, 10, 20, 30)
"""Numbers of runs at which coverage was measured."""


class Coverage(NamedTuple):
    """Measured coverage of one kind of nominal 95% interval.

    Attributes:
      kind: what has the interval.
      runs: the number of runs it was measured at.
      shares: by what the scores were like: `normal`, `bimodal` (a fifth collapsed), `heavy` tails,
        `skewed`; for rates, by the true rate.
    """

    kind: str
    runs: int
    shares: Mapping[str, float]


def known_coverage(kind: str, runs: int, *, tasks: int = 1) -> Coverage:
    """What a nominal 95% interval covers, measured at the next smaller of `COVERAGE_RUNS`.

    Args:
      kind: one of `coverage_kinds()`.
      runs: the smallest number of runs of any task, at least 3.
      tasks: number of tasks; what was measured with four stands for all of several.

    Raises:
      ValueError: an unknown kind, or runs too few for an interval.
    """
    known = _measured()
    if kind not in known:
        raise ValueError(f"kind: {kind!r} is none of {', '.join(known)}")
    if runs < COVERAGE_RUNS[0]:
        raise ValueError(f"runs: {runs} give no interval, {COVERAGE_RUNS[0]} are needed")
    at = max(i for i, size in enumerate(COVERAGE_RUNS) if size <= runs)
    sizes = known[kind]
    table = sizes.get("several" if tasks > 1 else "single") or next(iter(sizes.values()))
    return Coverage(kind, COVERAGE_RUNS[at], {law: row[at] for law, row in table.items()})


def coverage_kinds() -> tuple[str, ...]:
    """The kinds of intervals that were measured."""
    return tuple(_measured())


@cache
def _measured() -> dict[str, dict[str, dict[str, list[float]]]]:
    text = resources.files("vfcompare.statistics").joinpath("coverage.json").read_text("utf-8")
    return dict(json.loads(text))
