"""What became of a run: whether it is known how it ends, when it failed, and whether it enters the scores."""

import math

from vfcompare.report.reading.cells import Run

SAME_END = 0.02
"""Share of the longest run by which another may end earlier and still count as ending with it."""

OVERSHOT = 1.5
"""How much of a budget, or of the compared range, a run may take before what it did within is not known."""


def usable(run: Run) -> bool:
    """Whether it is known how a run ends: it finished, or it failed by itself.

    A crash before the first evaluation says nothing about the agent, nor does one for a reason that is
    not the agent's; a divergence always does.
    """
    return run.status in {"completed", "diverged"} or (
        run.status == "crashed" and run.steps.size > 0 and not run.outside
    )


def failed(run: Run, end: float = math.inf) -> bool:
    """Whether a run is known to have failed by `end`, the last compared step."""
    return usable(run) and run.status != "completed" and not _outlived(run, end)


def _outlived(run: Run, end: float) -> bool:
    """Whether a run failed only after `end`.

    Without an evaluation at or beyond `end`, the failure must lie more than `SAME_END` beyond it: where runs
    overshoot and no budget is recorded, the end itself is not known more precisely.
    """
    if run.failed_at is None or not 0 < end < run.failed_at or not run.steps.size:
        return False
    return bool(run.steps[-1] >= end) or run.failed_at > (1.0 + SAME_END) * end


def counted(run: Run, end: float) -> bool:
    """Whether a run enters the scores of a task whose compared range ends at `end`."""
    if not usable(run) or not end > 0:
        return False
    ended = run.steps.size > 0 and bool(run.steps[-1] >= end)
    return run.status != "completed" or (ended and not late(run, end))


def late(run: Run, end: float) -> bool:
    """Whether the first policy that learned and was evaluated is from long after the compared range.

    A line from the first evaluation to that one would say nothing of the steps that are compared.
    """
    trained = run.steps[run.steps > 0]
    done = run.status == "completed" and trained.size > 0
    return bool(done and 0 < OVERSHOT * end < trained[0])


def fate(run: Run, end: float) -> str:
    """What became of a planned run: its status; `short` or `late` where it says nothing of the range."""
    if run.status != "completed" or counted(run, end):
        return run.status
    return "late" if late(run, end) else "short"
