"""Sentences that warn where runs overran their budget, hardly learned, or were evaluated unequally often."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from vfcompare.report.analysis import Contrast, Results
from vfcompare.report.fates import OVERSHOT, late
from vfcompare.report.prose.sentences import Sentence, capital, sizes
from vfcompare.report.reading.cells import Run, held_still
from vfcompare.report.scoring import Task
from vfcompare.report.table import join

FEW_UPDATES = 20
"""Updates of a run below which it is said how few they are."""

UNCHANGED = 0.1
"""Share of evaluations of an unchanged policy above which it is said."""

UNEVEN = 0.5
"""From so many more evaluated policies of one agent than of another, on average, it is said."""


def cautions(results: Results) -> Iterable[Sentence]:
    """What a reader must know of budgets and evaluations."""
    yield from _overshot(results)
    yield from _few(results)
    yield from _unequal(results)


def _overshot(results: Results) -> Iterable[Sentence]:
    """Runs that took far more steps than their budget, as where one update alone collects that many."""
    told = [
        f"{results.called(arm)} on {task.name} took up to {max(taken):,.0f} of {cell.budget:,.0f} steps"
        for task in results.tasks
        for arm, cell in task.cells.items()
        if cell.budget
        and (taken := [float(run.steps[-1]) for run in cell.completed])
        and max(taken) > OVERSHOT * cell.budget
    ]
    unscored = [
        f"{results.called(arm)} on {task.name}"
        for task in results.tasks
        for arm, cell in task.cells.items()
        if any(late(run, task.end) for run in cell.runs)
    ]
    if told:
        text = f"Runs took far more than their budget: {join(told)}."
        if unscored:
            text += f" What was first evaluated after that has no score ({join(unscored)})."
        yield Sentence(text, "warning", "Over budget")


def _few(results: Results) -> Iterable[Sentence]:
    """Agents with few updates, or with evaluations between which no update happened."""
    told = [text for task in results.tasks if (text := _updates(_cells(results, task), task.name))]
    if told:
        yield Sentence(f"{capital('; '.join(told))}.", "warning", "Few updates")


def _updates(cells: Sequence[tuple[str, list[Run]]], task: str) -> str:
    """Agents with few updates and their number, and the share of evaluations of an unchanged policy."""
    few: dict[str, list[int]] = {}
    stale: dict[str, float] = {}
    for name, runs in cells:
        made = [round(float(run.clocks["updates"][-1])) for run in runs if "updates" in run.clocks]
        if made and min(made) < FEW_UPDATES:
            few[name] = made
        every = sum(run.evaluations[0].size for run in runs)
        share = 1.0 - sum(run.steps.size for run in runs) / every
        if share > UNCHANGED:
            stale[name] = share
    parts = []
    if few:
        made = [number for each in few.values() for number in each]
        parts.append(f"{join(few)} made {sizes(made)} update{'s' * (max(made) != 1)}")
    if stale:
        shares = [f"{share:.0%}" for share in (min(stale.values()), max(stale.values()))]
        theirs = "its" if len(stale) == 1 else "their"
        whose = f"{theirs} evaluations" if [*stale] == [*few] else f"evaluations of {join(stale)}"
        parts.append(
            f"{' to '.join(dict.fromkeys(shares))} of {whose} re-evaluated an unchanged policy"
        )
    return f"on {task} {', and '.join(parts)}" if parts else ""


def _cells(results: Results, task: Task) -> list[tuple[str, list[Run]]]:
    """What each agent is called, and its completed runs within the compared range, where it has some."""
    found = {arm: _compared(task, arm) for arm in task.cells}
    return [(results.called(arm), runs) for arm, runs in found.items() if runs]


def _compared(task: Task, arm: str) -> list[Run]:
    """Completed runs of an arm that was to learn, up to where the compared range ends.

    What lies beyond it is in no score, however much a larger budget holds.
    """
    cell = task.cells.get(arm)
    if cell is None or held_still(cell.config):
        return []
    return [_until(run, task.end) for run in cell.completed]


def _until(run: Run, end: float) -> Run:
    """The run up to its first evaluation at this step or later."""
    beyond = run.steps[run.steps >= end]
    if end <= 0 or beyond.size < 2:
        return run
    last = beyond[0]
    kept, every = run.steps <= last, run.evaluations[0] <= last
    return replace(
        run,
        steps=run.steps[kept],
        clocks={name: clock[kept] for name, clock in run.clocks.items()},
        measured=tuple(column[every] for column in run.evaluations),
    )


def _unequal(results: Results) -> Iterable[Sentence]:
    """Agents with unequally many evaluated policies: several evaluations of one policy count once."""
    told = [text for task in results.tasks if (text := _policies(_cells(results, task), task.name))]
    if told:
        text = (
            "Evaluations of an unchanged policy count once. Policies of a run that were evaluated within "
            f"the compared steps, on average: {'; '.join(told)}. Drawdown, variation and steps to the "
            "threshold depend on how many there are."
        )
        yield Sentence(text, "warning", "Unequal evaluations")


def _policies(cells: Sequence[tuple[str, list[Run]]], task: str) -> str:
    """The fewest and the most policies evaluated of an agent, and whose; empty where they hardly differ."""
    means = [(_evaluated(runs), name) for name, runs in cells]
    if not means or max(means)[0] - min(means)[0] < UNEVEN:
        return ""
    low, high = min(means), max(means)
    return f"on {task} {low[0]:.1f} ({low[1]}) to {high[0]:.1f} ({high[1]})"


def _evaluated(runs: Iterable[Run]) -> float:
    """Policies of a run that were evaluated, on average."""
    return float(np.mean([run.steps.size for run in runs]))


def favoured(results: Results, contrast: Contrast) -> list[str]:
    """Environments where the side with less drawdown had fewer policies evaluated.

    Drawdown grows with their number, so that the claim may rest on that alone.
    """
    sides = results.sides.both if contrast.verdict == "first" else results.sides.both[::-1]
    where = []
    for task in map(results.task, contrast.tasks):
        better, other = (
            [_evaluated(runs) for arm in side if (runs := _compared(task, arm.name))]
            for side in sides
        )
        if better and other and np.mean(other) - np.mean(better) >= UNEVEN:
            where.append(task.name)
    return where
