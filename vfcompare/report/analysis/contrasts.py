"""Arms and families against each other, by seed: differences, tests, what is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from vfcompare import statistics
from vfcompare.report.analysis import resampling
from vfcompare.report.analysis.arms import Arm, Sides, pooled
from vfcompare.report.analysis.resampling import ALPHA, generator
from vfcompare.report.data import Study
from vfcompare.report.files import Array
from vfcompare.report.metrics import COMPARED, METRICS, SCORES
from vfcompare.report.scoring import Task, column, failed, score
from vfcompare.statistics import FailureRule, Interval

ALL_PAIRS = 8
OTHER_RULES: tuple[FailureRule, ...] = ("last", "drop")


@dataclass(frozen=True)
class Contrast:
    """`first` minus `second` on one metric, by seed.

    Attributes:
      first: what is compared.
      second: with what.
      metric: one of `COMPARED`.
      interval: at the level at which Holm judged it.
      plain: the same at 95%.
      p: sign-flip p-value.
      p_adjusted: the same after Holm.
      verdict: `first`, `second`, `undecided`, `equal` or `insufficient`; who is better.
      tasks: environments it is averaged over.
      pairs: number of pairs of seeds over all environments.
      unpaired: scored runs that had no partner.
      paired_wins: paired probability that first has the higher number.
      values: differences by task and seed; of runs without a seed in common, by the first's.
      strangers: tasks on which the two have no seed in common, so that runs are paired in order.
    """

    first: str
    second: str
    metric: str
    interval: Interval
    plain: Interval
    p: float
    p_adjusted: float
    verdict: str
    tasks: tuple[str, ...]
    pairs: int
    unpaired: int
    paired_wins: float
    values: Mapping[str, Mapping[int, float]]
    strangers: frozenset[str] = frozenset()

    @property
    def better(self) -> str | None:
        """Name of the better side, or None where that is open."""
        return {"first": self.first, "second": self.second}.get(self.verdict)

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies within a margin, which is meant for scores alone.

        Drawdowns and variations are too small for it.
        """
        low, high = self.interval.low, self.interval.high
        if self.metric not in SCORES or low is None or high is None:
            return False
        return -margin < low and high < margin


@dataclass(frozen=True)
class Improvement:
    """P(first > second) on AUC, with the interval of its step in Holm's procedure.

    `seeds` says on how many of them it is based on each environment.
    """

    first: str
    second: str
    interval: Interval
    p_adjusted: float
    decided: bool
    seeds: Mapping[str, int]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Environments it is averaged over."""
        return tuple(self.seeds)


class Values(NamedTuple):
    """Differences by task and seed, runs that had no partner, and tasks without a seed in common."""

    found: dict[str, dict[int, float]]
    alone: int
    strangers: frozenset[str]


def _pair_values(pool: Sequence[Task], first: str, second: str, metric: str) -> Values:
    found, alone, strangers = {}, 0, set()
    for task in pool:
        x, y = column(task, first, metric), column(task, second, metric)
        matches = partners(x, y)
        alone += len(x) + len(y) - 2 * len(matches)
        if matches:
            found[task.name] = {mine: x[mine] - y[other] for mine, other in matches}
        if matches and not x.keys() & y.keys():
            strangers.add(task.name)
    return Values(found, alone, frozenset(strangers))


def partners(x: Mapping[int, float], y: Mapping[int, float]) -> list[tuple[int, int]]:
    """Which seeds are compared: each with itself; in order where two arms have none in common.

    Seeds that nobody shares are independent, so that any way to pair them is as good as another.
    """
    shared = sorted(x.keys() & y.keys())
    if shared:
        return [(seed, seed) for seed in shared]
    return list(zip(sorted(x), sorted(y), strict=False))


def _family_values(pool: Sequence[Task], sides: Sides, metric: str) -> Values:
    """Mean of the arms on the first side minus mean of those on the second, on seeds that both have.

    Runs are paired in order only where no seed was planned on both sides: a seed that lost a run is left
    out, and not replaced.
    """
    found, alone, strangers = {}, 0, set()
    for task in pool:
        x, y = (_side(task, side, metric) for side in sides.both)
        if not x.scored or not y.scored:
            continue
        foreign = not x.planned & y.planned
        matches = partners(x.means, y.means) if foreign or x.means.keys() & y.means.keys() else []
        alone += len(x.scored | y.scored) - len({seed for match in matches for seed in match})
        if matches:
            found[task.name] = {seed: x.means[seed] - y.means[other] for seed, other in matches}
        if matches and foreign:
            strangers.add(task.name)
    return Values(found, alone, frozenset(strangers))


class _Side(NamedTuple):
    """Mean of a side by seed, the seeds that some arm of it has, and those that it was planned with."""

    means: dict[int, float]
    scored: frozenset[int]
    planned: frozenset[int]


def _side(task: Task, side: Sequence[Arm], metric: str) -> _Side:
    """The mean is over the arms that were planned with a seed, and missing where one of these lost it.

    It would be of other agents there. Arms without any value on the task do not count.
    """
    columns = {arm.name: column(task, arm.name, metric) for arm in side}
    asked = {name: planned_seeds(task, name) for name, found in columns.items() if found}
    means = {}
    for seed in sorted(frozenset().union(*asked.values())):
        those = [columns[name] for name, planned in asked.items() if seed in planned]
        if all(seed in found for found in those):
            means[seed] = float(np.mean([found[seed] for found in those]))
    scored = frozenset(seed for found in columns.values() for seed in found)
    return _Side(means, scored, frozenset().union(*asked.values()))


def planned_seeds(task: Task, arm: str) -> frozenset[int]:
    """The seeds with which an arm was to be trained on a task."""
    return frozenset(run.seed for run in task.cells[arm].runs) if arm in task.cells else frozenset()


def _contrast(
    first: str, second: str, metric: str, values: Values, p: float
) -> tuple[Contrast, list[Array]]:
    tasks = [np.array(list(by_seed.values())) for by_seed in values.found.values()]
    none = Interval(float("nan"), None, None, 0)
    rng = generator(f"contrast/{metric}/{first}/{second}")
    plain = (
        statistics.bootstrap(rng, tasks, statistics.mean, reps=resampling.PAIR_REPS)
        if tasks
        else none
    )
    wins = statistics.paired_probability_of_improvement(tasks) if tasks else 0.5
    contrast = Contrast(
        first=first,
        second=second,
        metric=metric,
        interval=plain,
        plain=plain,
        p=p,
        p_adjusted=p,
        verdict="insufficient",
        tasks=tuple(values.found),
        pairs=sum(task.size for task in tasks),
        unpaired=values.alone,
        paired_wins=wins,
        values=values.found,
        strangers=values.strangers,
    )
    return contrast, tasks


def _judge(
    drafts: Sequence[tuple[str, str, str, Values]], tasks: Sequence[Task], margin: float
) -> list[Contrast]:
    """Contrasts that are corrected together; each has the margin where its own tasks are normalised."""
    scaled = {task.name for task in tasks if task.normalised}
    prepared = []
    for first, second, metric, values in drafts:
        contrast, found = _contrast(first, second, metric, values, 1.0)
        rng = generator(f"flip/{metric}/{first}/{second}")
        enough = contrast.plain.sufficient
        p = statistics.sign_flip_test(rng, found, reps=resampling.PAIR_REPS) if enough else 1.0
        prepared.append((contrast, found, p))
    decisions = iter(
        statistics.holm([p for c, _, p in prepared if c.plain.sufficient], alpha=ALPHA)
    )
    return [
        _decide(contrast, found, p, next(decisions), margin if scaled >= {*contrast.tasks} else 0.0)
        if contrast.plain.sufficient
        else contrast
        for contrast, found, p in prepared
    ]


def _decide(
    contrast: Contrast,
    tasks: list[Array],
    p: float,
    decision: statistics.Decision,
    margin: float,
) -> Contrast:
    name = f"contrast/{contrast.metric}/{contrast.first}/{contrast.second}"
    interval = statistics.bootstrap(
        generator(name),
        tasks,
        statistics.mean,
        reps=resampling.PAIR_REPS,
        confidence=decision.confidence,
    )
    judged = replace(contrast, interval=interval, p=p, p_adjusted=decision.p_adjusted)
    verdict = "undecided"
    if decision.rejected and interval.excludes(0.0):
        higher = interval.estimate > 0
        verdict = "first" if higher != METRICS[contrast.metric].lower else "second"
    elif contrast.plain.n >= statistics.FEW_RUNS and judged.within(margin):
        verdict = "equal"
    return replace(judged, verdict=verdict)


def families(pool: Sequence[Task], sides: Sides, margin: float) -> dict[str, Contrast]:
    """One side of the question against the other, on each metric."""
    if not all(sides.both):
        return {}
    drafts = [(*sides.names, metric, _family_values(pool, sides, metric)) for metric in COMPARED]
    return {contrast.metric: contrast for contrast in _judge(drafts, pool, margin)}


def families_by_task(
    tasks: Sequence[Task],
    sides: Sides,
    margin: float,
    metric: str = "auc",
    leading: Contrast | None = None,
) -> dict[str, Contrast]:
    """The difference in one metric in each environment, corrected over environments.

    Where the leading contrast is of one environment alone, that is its contrast there, too: it has been
    judged, among the metrics, and a second look at a laxer level would be no other finding.
    """
    if not all(sides.both):
        return {}
    drafts, names = [], []
    for task in tasks:
        values = _family_values([task], sides, metric)
        if values.found:
            names.append(task.name)
            first, second = sides.names
            drafts.append((f"{first} on {task.name}", second, metric, values))
    judged = [replace(c, first=sides.names[0]) for c in _judge(drafts, tasks, margin)]
    found = dict(zip(names, judged, strict=True))
    return (
        found if leading is None or len(leading.tasks) != 1 else found | {leading.tasks[0]: leading}
    )


def baseline_of(arms: Sequence[Arm], sides: Sides) -> Arm | None:
    """The arm that all others are held against; none where there are few, and all pairs are compared.

    It is the study's own where its question is about one agent, and else the first.
    """
    if len(arms) <= ALL_PAIRS:
        return None
    own = [arm for arm in arms if arm in sides.second]
    return own[0] if len({arm.agent for arm in own}) == 1 else arms[0]


Couples = Sequence[tuple[Arm, Arm]]


def couples_of(arms: Sequence[Arm], baseline: Arm | None) -> Couples:
    """Each arm against the baseline; all pairs where there is none."""
    if baseline:
        return [(arm, baseline) for arm in arms if arm != baseline]
    return [(b, a) for i, a in enumerate(arms) for b in arms[i + 1 :]]


def pairs(
    pool: Sequence[Task], couples: Couples, metric: str, margin: float
) -> tuple[Contrast, ...]:
    """The couples on one metric."""
    drafts = [
        (x.name, y.name, metric, _pair_values(pool, x.name, y.name, metric)) for x, y in couples
    ]
    return tuple(_judge(drafts, pool, margin))


def improvements(pool: Sequence[Task], couples: Couples) -> list[Improvement]:
    """P(first > second) for the same pairs, by the pairs of seeds that both have."""
    prepared = []
    for x, y in couples:
        found = _aligned(pool, x.name, y.name)
        first, second = ([pair[side] for pair in found.values()] for side in (0, 1))
        if first and statistics.smallest(first) >= statistics.MIN_RUNS:
            rng = generator(f"improvement/{x.name}/{y.name}")
            ranks = statistics.rank_differences(first, second)
            p = statistics.sign_flip_test(rng, ranks, reps=resampling.PAIR_REPS)
            prepared.append((x.name, y.name, found, p))
    decisions = statistics.holm([item[-1] for item in prepared], alpha=ALPHA)
    return [
        _improvement(*item[:3], decision)
        for item, decision in zip(prepared, decisions, strict=True)
    ]


def _aligned(pool: Sequence[Task], first: str, second: str) -> dict[str, tuple[Array, Array]]:
    """Areas under the curve of the runs that are compared, by task."""
    found = {}
    for task in pool:
        x, y = column(task, first, "auc"), column(task, second, "auc")
        matches = partners(x, y)
        if matches:
            mine = np.array([x[one] for one, _ in matches])
            found[task.name] = mine, np.array([y[other] for _, other in matches])
    return found


def _improvement(
    first: str,
    second: str,
    found: Mapping[str, tuple[Array, Array]],
    decision: statistics.Decision,
) -> Improvement:
    interval = statistics.improvement_interval(
        *([pair[side] for pair in found.values()] for side in (0, 1)),
        confidence=decision.confidence,
    )
    decided = decision.rejected and interval.excludes(0.5)
    seeds = {task: x.size for task, (x, _) in found.items()}
    return Improvement(first, second, interval, decision.p_adjusted, decided, seeds)


def rule_changes(
    study: Study,
    sides: Sides,
    couples: Couples,
    family: Mapping[str, Contrast],
    apart: Mapping[str, Contrast],
    by_pair: Mapping[str, Sequence[Contrast]],
) -> list[str]:
    """Verdicts that would be others if failed runs were treated otherwise.

    Where each side is one arm, its contrast is also one of the pairs: a change of both is told once.
    """
    if not any(failed(run) for cell in study.cells if cell.planned for run in cell.runs):
        return []
    shown = [*family.values(), *by_pair["auc"]]
    changes: dict[object, str] = {}
    for rule in OTHER_RULES:
        tasks = score(study, rule)
        pool = pooled(tasks)
        others = [
            *families(pool, sides, study.margin).values(),
            *pairs(pool, couples, "auc", study.margin),
        ]
        compared = [("", a, b) for a, b in zip(shown, others, strict=True)]
        if apart:
            again = families_by_task(tasks, sides, study.margin, study.metric)
            for name, one in apart.items():
                other = again.get(name, replace(one, verdict="insufficient"))
                compared.append((f" in {name}", one, other))
        for where, a, b in compared:
            if _differ(a, b):
                key = frozenset({a.first, a.second}), a.metric, where, _says(a), _says(b), rule
                changes.setdefault(
                    key,
                    f"{a.first} against {a.second} on {a.metric}{where}: {_says(a)} under the rule "
                    f"'floor', {_says(b)} under '{rule}'",
                )
    return list(changes.values())


def _says(contrast: Contrast) -> str:
    return f"{contrast.better} better" if contrast.better else contrast.verdict


def _differ(a: Contrast, b: Contrast) -> bool:
    """Whether two verdicts claim different things; `undecided` and `insufficient` both claim nothing."""
    return (a.better, a.verdict == "equal") != (b.better, b.verdict == "equal")
