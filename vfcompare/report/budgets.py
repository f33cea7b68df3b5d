"""Whether runs did with their budget what a reader takes for granted, in sentences."""

from collections.abc import Iterable, Sequence

import numpy as np

from vfcompare.report.analysis import Results
from vfcompare.report.cells import Cell, Run
from vfcompare.report.scoring import Task
from vfcompare.report.sentences import Sentence

UNEVEN = 0.5
"""Policies that one agent was evaluated as more than another, on average, from which it is said."""


def cautions(results: Results) -> Iterable[Sentence]:
    """What a reader must know of budgets and evaluations."""
    yield from _unequal(results)


def _done(cell: Cell) -> list[Run]:
    return [run for run in cell.runs if run.status == "completed" and run.steps.size]


def _cells(results: Results, task: Task) -> list[tuple[str, list[Run]]]:
    """What each agent is called, and its completed runs, where it has some."""
    found = [(results.called(arm), _done(cell)) for arm, cell in task.cells.items()]
    return [(name, runs) for name, runs in found if runs]


def _unequal(results: Results) -> Iterable[Sentence]:
    """Evaluations that saw the same policy count once, and so not equally many for each agent."""
    told = [text for task in results.tasks if (text := _policies(_cells(results, task), task.name))]
    if told:
        text = (
            f"Evaluations of an unchanged policy count once. Policies evaluated in a run, on average: "
            f"{'; '.join(told)}. Drawdown and variation depend on how many there are."
        )
        yield Sentence(text, "warning", "Unequal evaluations")


def _policies(cells: Sequence[tuple[str, list[Run]]], task: str) -> str:
    """From how many policies to how many, where agents were evaluated equally often as unequally many."""
    means = [(float(np.mean([run.steps.size for run in runs])), name) for name, runs in cells]
    if not means or max(means)[0] - min(means)[0] < UNEVEN:
        return ""
    low, high = min(means), max(means)
    return f"on {task} {low[0]:.1f} ({low[1]}) to {high[0]:.1f} ({high[1]})"
