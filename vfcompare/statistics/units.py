"""What is drawn and exchanged by itself, where tasks share seeds: a seed with all its runs.

Tasks that are settings of one environment are trained with the same seeds, whose initial policies and
starts they share: what a seed is worth in one, it is in part worth in the others. Units are one array of
integers per task, `[runs]`, equal where runs belong together; None where each run is by itself.
"""

from collections.abc import Hashable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from vfcompare.statistics.scores import Array, Scores

Indices = npt.NDArray[np.int64]
Units = Sequence[Indices]


def units_of(labels: Iterable[Iterable[Hashable]]) -> Units | None:
    """Units of runs that are labelled, task by task; None where no label occurs twice."""
    tasks = [list(task) for task in labels]
    numbers: dict[Hashable, int] = {}
    units = [np.array([numbers.setdefault(x, len(numbers)) for x in task], int) for task in tasks]
    return units if len(numbers) < sum(map(len, tasks)) else None


def draw(
    rng: np.random.Generator, sizes: Sequence[int], units: Units | None = None, *, reps: int
) -> list[Indices]:
    """One `[reps, runs]` array of indices per task: runs drawn with replacement, units jointly.

    Tasks that share units draw among all of these at once, and each again among its own where it lacks what
    was drawn: a draw of a task is uniform over its runs, whatever it lacks.

    Args:
      rng: source of the draws.
      sizes: number of runs of each task.
      units: those of each task.
      reps: number of resamples.
    """
    drawn: list[Indices] = [rng.integers(size, size=(reps, size)) for size in sizes]
    if units is None:
        return drawn
    for group in _sharing(units):
        every = np.unique(np.concatenate([units[task] for task in group]))
        common = every[rng.integers(every.size, size=(reps, every.size))]
        where = np.full(every[-1] + 1, -1)
        for task in group:
            where[every] = -1
            where[units[task]] = np.arange(sizes[task])
            found = where[common[:, : sizes[task]]]
            drawn[task] = np.where(found >= 0, found, drawn[task])
    return drawn


def _sharing(units: Units) -> list[list[int]]:
    """Tasks that share units, directly or by others between them; tasks that share none are left out."""
    groups: list[list[int]] = []
    for task, own in enumerate(units):
        apart = [group for group in groups if not any(np.isin(own, units[i]).any() for i in group)]
        joined = [i for group in groups if group not in apart for i in group]
        groups = [*apart, [*joined, task]]
    return [group for group in groups if len(group) > 1]


def weighted(values: Scores, units: Units | None = None) -> Array:
    """`[units]`, what each adds to the mean over tasks of the mean over runs."""
    flat = np.concatenate([task / (task.size * len(values)) for task in values])
    if units is None:
        return flat
    return np.bincount(np.concatenate(units), flat).astype(np.float64)


def dependence(units: Units | None) -> float:
    """By how much runs that are all alike within a unit raise the variance of a mean over tasks: 1 or more.

    The sum over units of the square of their weights, over that of the runs (Kish, 1965). What is not
    known of their correlation is so taken for the worst.
    """
    if units is None:
        return 1.0
    ones = [np.ones(task.size) for task in units]
    return float(np.sum(weighted(ones, units) ** 2) / np.sum(weighted(ones) ** 2))
