"""How often, at which level and from which seed everything in the report is resampled."""

import zlib
from collections.abc import Iterable, Sequence

import numpy as np

from vfcompare import statistics
from vfcompare.report.scoring import Task

SEED = 20_260_101
REPS = 2000
PAIR_REPS = 10_000
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
