"""What the runs of a task are held against: its returns of reference, the compared steps, the threshold."""

from collections.abc import Sequence

import numpy as np

from vfcompare.report.fates import SAME_END, counted, late, usable
from vfcompare.report.reading.cells import Cell, Run
from vfcompare.report.reading.files import Array
from vfcompare.schema.tree import finite
from vfcompare.schema.untrusted import tree

GRID_POINTS = 60
"""Steps at which curves are aggregated, where runs were evaluated at different ones."""

SOLVED_SHARE = 0.9
"""Of the way from random to optimal: the threshold where neither study nor environment says one."""


def references(cells: Sequence[Cell]) -> tuple[float | None, float | None]:
    """The returns of the random and of the best policy, where they are known."""
    known = [cell.reference for cell in cells]
    random = next((r["random"] for r in known if r["random"] is not None), None)
    optimal = next((r["optimal"] for r in known if r["optimal"] is not None), None)
    if random is not None and optimal is not None and not optimal > random:
        optimal = None
    return (random, optimal) if None not in (random, optimal) else given(cells) or (random, optimal)


def given(cells: Sequence[Cell]) -> tuple[float, float] | None:
    """Random and optimal return of an environment as the study says them; None unless all its cells agree.

    A cell that began before the study said them has none in its configuration, and so does not agree: they
    could have been chosen knowing its results.
    """
    found = {_told(cell) for cell in cells if cell.config}
    return found.pop() if len(found) == 1 else None


def _told(cell: Cell) -> tuple[float, float] | None:
    pair = tree(cell.config, "study.reference").get(cell.names.env)
    random, optimal = map(finite, pair if isinstance(pair, list) and len(pair) == 2 else (0, 0))
    if random is None or optimal is None or not random < optimal:
        return None
    return random, optimal


def compared_range(cells: Sequence[Cell]) -> tuple[float, float]:
    """The steps that all scored cells cover.

    A cell ends at its budget, which each completed seed has reached, and which is known though all its
    seeds failed. Where no budget is recorded it ends with nearly all its completed seeds: a seed that
    ends much earlier must not shorten the range for all, and is counted as short instead. The range
    begins with the last of the first evaluations, or at 0 where no run completed it. Where all runs are
    late there is a range, and nothing to compare.
    """
    known = [end for cell in cells if (end := _cell_end(cell)) is not None]
    end = min(known, default=0.0)
    runs = [r for cell in cells for r in cell.runs if counted(r, end) or late(r, end)]
    start = max((float(r.steps[0]) for r in runs if r.status == "completed"), default=0.0)
    return (start, end) if runs and end > start else (0.0, 0.0)


def _cell_end(cell: Cell) -> float | None:
    """The last step of a cell, or None where none of its runs is scored or no step is known."""
    done = cell.completed
    if cell.budget and (done or any(map(usable, cell.runs))):
        return cell.budget
    return _usual_end(done) if done else None


def _usual_end(runs: Sequence[Run]) -> float:
    longest = max(float(run.steps[-1]) for run in runs)
    return min(float(r.steps[-1]) for r in runs if r.steps[-1] >= longest - _slack(r, longest))


def _slack(run: Run, longest: float) -> float:
    """Steps by which a run may end before the longest: each overshoots its budget by part of an update."""
    spacing = float(run.steps[-1] - run.steps[-2]) if run.steps.size > 1 else 0.0
    return max(SAME_END * longest, spacing)


def floor(cells: Sequence[Cell], random: float | None) -> tuple[float, str]:
    """What a failed run scores at most, as a return, and where that comes from, in words."""
    if random is not None:
        return random, "the random policy's return"
    seen = [run.sampled.min() for cell in cells for run in cell.runs if run.sampled.size]
    if seen:
        return float(min(seen)), "the least return seen on the environment"
    return 0.0, "zero, since no return was seen"


def threshold(
    cells: Sequence[Cell], random: float | None, optimal: float | None, share: float | None
) -> tuple[float | None, str]:
    """The return that counts as arrived, or None, and where it comes from, in words.

    Args:
      cells: of the task.
      random: return of the random policy, or None.
      optimal: best possible return, or None.
      share: of the way from random to optimal, as the study decided, or None.
    """
    declared = [c.reference["threshold"] for c in cells if c.reference["threshold"] is not None]
    scaled = random is not None and optimal is not None
    if declared and not (share and scaled):
        return declared[0], "declared by the environment"
    if random is not None and optimal is not None:
        told = ", by the study" if share else ""
        share = share or SOLVED_SHARE
        level = random + share * (optimal - random)
        return level, f"{share:.0%} of the way from random to optimal{told}"
    return None, "unknown"


def span(cells: Sequence[Cell], random: float | None, optimal: float | None) -> float:
    """The size of the scale, as a return: from random to optimal, else all that was seen."""
    if random is not None and optimal is not None:
        return optimal - random
    seen = np.concatenate([run.sampled for cell in cells for run in cell.runs] or [np.zeros(0)])
    return float(np.ptp(seen)) if seen.size else 0.0


def grid(cells: Sequence[Cell], start: float, end: float) -> tuple[Array, bool]:
    """`[points]`, steps at which curves are aggregated, and whether all runs were evaluated there.

    The evaluation steps themselves where all runs share them, else evenly spaced ones.
    """
    if end <= start:
        return np.zeros(0), True
    done = [r for cell in cells for r in cell.runs if r.status == "completed" and counted(r, end)]
    inside = [run.steps[(run.steps >= start) & (run.steps <= end)] for run in done]
    # a single step is the beginning, which all share whatever they do later
    same = (
        bool(inside)
        and inside[0].size > 1
        and all(np.array_equal(inside[0], steps) for steps in inside[1:])
    )
    if same and inside[0].size <= 4 * GRID_POINTS and inside[0][0] == start:
        return np.unique([*inside[0], end]), True
    return np.linspace(start, end, GRID_POINTS), False
