"""How often, at which level and from which seed everything in the report is resampled."""

import math
import zlib
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from vfcompare import statistics
from vfcompare.report.scoring import Task

SEED = 20_260_101
REPS = 2000
PAIR_REPS = 10_000
CLOSER = 100
"""How many times as many flips are drawn where chance in the first ones could decide a verdict."""
DOUBTFUL = 4.0
"""Standard errors of a p-value from its level within which it could."""
IN_TAIL = 0.005
"""Share of `PAIR_REPS` that is to lie beyond each end of an interval of differences."""
MOST = 10
"""How many times as many resamples that may take; beyond it the ends are near the extremes."""
ALPHA = 0.05


def generator(name: str) -> np.random.Generator:
    """A stream of its own for each number, so that adding an arm changes no other interval."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def units(tasks: Sequence[Task], seeds: Iterable[Iterable[int]]) -> statistics.Units | None:
    """What is drawn by itself: a seed, with all its runs on settings of one environment.

    Args:
      tasks: what is averaged over.
      seeds: those of the runs on each, in their order.
    """
    return statistics.units_of(
        [(task.env, seed) for seed in those] for task, those in zip(tasks, seeds, strict=True)
    )


def interval_reps(confidence: float, n: int) -> int:
    """Resamples for an interval of differences: more at high levels and of few seeds, with thin tails."""
    tail = statistics.expanded_tail(confidence, n=n) if n >= statistics.MIN_RUNS else IN_TAIL
    return PAIR_REPS * math.ceil(min(max(IN_TAIL / max(tail, 1e-300), 1.0), MOST))


def corrected(
    tests: Sequence[Callable[[int], float]],
) -> tuple[list[float], list[statistics.Decision]]:
    """p-values of tests that are corrected together, and Holm's decisions on them.

    Those whose decision the chance of the flips could turn are tested once more with `CLOSER` times as many,
    so that no verdict hangs on the name of a stream.

    Args:
      tests: p-values by number of flips.
    """
    p = [test(PAIR_REPS) for test in tests]
    again: set[int] = set()
    while True:
        decisions = statistics.holm(p, alpha=ALPHA)
        doubtful = {
            i
            for i, decision in enumerate(decisions)
            if abs(p[i] - (1.0 - decision.confidence))
            <= DOUBTFUL * statistics.sampling_error(p[i], reps=PAIR_REPS)
        } - again
        if not doubtful:
            return p, decisions
        for i in doubtful:
            p[i] = tests[i](CLOSER * PAIR_REPS)
        again |= doubtful
