"""From scores to what can be said: aggregates, contrasts, speed, stability, robustness.

Rooms, each importing only from those before it: `resampling`, `arms`, `matching`, `contrasts`, `decisions`,
`summaries`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vfcompare.report.analysis import contrasts, decisions, summaries
from vfcompare.report.analysis.arms import (
    Arm,
    Shown,
    Sides,
    arms_of,
    pooled,
    select,
    sides_of,
    standing,
)
from vfcompare.report.analysis.contrasts import Contrast, Improvement, partners
from vfcompare.report.analysis.matching import Matching, matching
from vfcompare.report.analysis.summaries import Curve, Speed
from vfcompare.report.fates import counted, failed, fate
from vfcompare.report.reading.cells import STATUSES, Cell
from vfcompare.report.reading.data import Study
from vfcompare.report.reading.files import Array
from vfcompare.report.scoring import Task, score
from vfcompare.statistics import Interval

__all__ = [
    "Arm",
    "Contrast",
    "Curve",
    "Fate",
    "Improvement",
    "Matching",
    "Results",
    "Shown",
    "Sides",
    "Speed",
    "analyse",
    "partners",
]


@dataclass(frozen=True)
class Fate:
    """What became of the runs of a cell.

    Attributes:
      cell: whose runs they are.
      counts: how many there are of each status.
      planned: number of runs; none where the plan does not list the cell.
      scored: how many of these enter the scores.
      failed: how many are known to have failed.
      reason: why runs were lost, in words.
    """

    cell: Cell
    counts: Mapping[str, int]
    planned: int
    scored: int
    failed: int
    reason: str


@dataclass(frozen=True)
class Results:
    """Everything the report says, as numbers.

    `summary` is keyed (metric, task, arm), `aggregate` (statistic, metric, arm), `stability`
    (quantity, arm), `standing` by arm; `family` and `pairs` are keyed by metric, `by_task` by metric and
    environment. Of arms that are not in `shown` there are scores and curves, no aggregates and no contrasts.
    Where there is a `baseline`, all pairs are with it. Where environments have no common scale, there are
    no pairs over all of them.
    """

    study: Study
    arms: tuple[Arm, ...]
    sides: Sides
    standing: Mapping[str, float]
    shown: Shown
    baseline: Arm | None
    tasks: tuple[Task, ...]
    pool: tuple[str, ...]
    attrition: tuple[Fate, ...]
    matching: tuple[Matching, ...]
    curves: tuple[Curve, ...]
    summary: Mapping[tuple[str, str, str], Interval]
    aggregate: Mapping[tuple[str, str, str], Interval]
    profile: Mapping[str, tuple[Array, Array | None, Array | None]]
    profile_thresholds: Array
    speed: tuple[Speed, ...]
    family: Mapping[str, Contrast]
    by_task: Mapping[str, Mapping[str, Contrast]]
    pairs: Mapping[str, tuple[Contrast, ...]]
    pairs_by_task: Mapping[str, tuple[Contrast, ...]]
    improvement: tuple[Improvement, ...]
    stability: Mapping[tuple[str, str], Interval]
    counts: Mapping[tuple[str, str], tuple[int, int]]
    rule_changes: tuple[str, ...]

    @property
    def family_by_task(self) -> Mapping[str, Contrast]:
        """The sides in area under the curve, by environment."""
        return self.by_task["auc"]

    @property
    def apart(self) -> Mapping[str, Contrast]:
        """The sides in the study's own metric, by environment, where these have no common scale."""
        return {} if self.pool else self.by_task[self.study.metric]

    def called(self, name: str) -> str:
        """What figures and captions call an arm; tables have its full name."""
        return self.shown.names.get(name, name)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def runs(self, arm: Arm) -> int:
        """How many scored runs an arm has on the environments of the pool."""
        return self.counts["failure", arm.name][1]

    def task(self, name: str) -> Task:
        """The task of that name."""
        return next(task for task in self.tasks if task.name == name)


def analyse(study: Study) -> Results:
    """All numbers of the report; the same files give the same numbers, since seeds are fixed."""
    tasks = score(study)
    found = arms_of(study)
    sides = sides_of(study, found)
    place = standing(found, tasks)
    shown = select(found, place)
    pool = pooled(tasks)
    baseline = contrasts.baseline_of(shown.compared, sides)
    couples = contrasts.couples_of(shown.compared, baseline, sides)
    judged = decisions.judge(study, tasks, sides, couples)
    thresholds = np.linspace(0.0, 1.0, 51)
    summary = summaries.scores(tasks, found)
    return Results(
        study=study,
        arms=found,
        sides=sides,
        standing=place,
        shown=shown,
        baseline=baseline,
        tasks=tuple(tasks),
        pool=tuple(task.name for task in pool),
        attrition=tuple(_attrition(study, tasks)),
        matching=tuple(matching(task) for task in tasks),
        curves=tuple(summaries.curves(tasks, found, shown.lines)),
        summary=summary,
        aggregate=summaries.aggregates(pool, shown.rows, summary),
        profile=summaries.profiles(pool, shown.lines, thresholds),
        profile_thresholds=thresholds,
        speed=tuple(summaries.speeds(tasks, shown.rows)),
        family=judged.family,
        by_task=judged.by_task,
        pairs=judged.pairs,
        pairs_by_task=judged.pairs_by_task,
        improvement=judged.improvement,
        stability=summaries.stability(pool, shown.rows),
        counts=summaries.counts(pool, shown.rows),
        rule_changes=tuple(decisions.rule_changes(study, sides, couples, judged)),
    )


def _attrition(study: Study, tasks: Sequence[Task]) -> list[Fate]:
    ends = {task.name: task.end for task in tasks}
    return [_fate(cell, ends.get(cell.task, 0.0)) for cell in study.cells]


def _fate(cell: Cell, end: float) -> Fate:
    statuses = [fate(run, end) if cell.planned else run.status for run in cell.runs]
    reasons = [run.reason for run in cell.runs if run.status != "completed" and run.reason]
    return Fate(
        cell=cell,
        counts={status: statuses.count(status) for status in STATUSES},
        planned=len(cell.runs) if cell.planned else 0,
        scored=sum(counted(run, end) for run in cell.runs) if cell.planned else 0,
        failed=sum(failed(run, end) for run in cell.runs),
        reason="; ".join(dict.fromkeys([*reasons, *cell.problems])),
    )
