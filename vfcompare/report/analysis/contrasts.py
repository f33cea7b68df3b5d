"""Arms and families against each other, by seed: differences, tests, what is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from vfcompare import statistics
from vfcompare.report.analysis import resampling
from vfcompare.report.analysis.arms import Arm, Sides
from vfcompare.report.analysis.resampling import ALPHA, generator
from vfcompare.report.metrics import COMPARED, METRICS, SCORES
from vfcompare.report.reading.files import Array
from vfcompare.report.scoring import Task, column
from vfcompare.statistics import Interval

ALL_PAIRS = 8


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
      verdict: who is better, `first` or `second`; or `undecided`, `equal`, `mixed` (equal on average, while
        one is better by more than the margin on an environment) or `insufficient`.
      tasks: environments it is averaged over.
      pairs: number of pairs of seeds over all environments.
      units: how many of them are drawn and exchanged by themselves: all, but that the pairs of a seed on
        settings of one environment are one.
      environments: number of tasks, but that settings of one environment are one.
      unpaired: seeds with a score that had no partner.
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
    units: int
    environments: int
    unpaired: int
    paired_wins: float
    values: Mapping[str, Mapping[int, float]]
    strangers: frozenset[str] = frozenset()

    @property
    def better(self) -> str | None:
        """Name of the better side, or None where that is open."""
        return {"first": self.first, "second": self.second}.get(self.verdict)

    @property
    def even(self) -> bool:
        """Whether the two are equal in practice, be it only on average."""
        return self.verdict in {"equal", "mixed"}

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies within a margin, which is meant for scores alone.

        Drawdowns and variations are too small for it.
        """
        low, high = self.interval.low, self.interval.high
        if self.metric not in SCORES or low is None or high is None:
            return False
        return -margin < low and high < margin

    def turned(self) -> "Contrast":
        """The same, `second` minus `first`."""
        other = {"first": "second", "second": "first"}
        return replace(
            self,
            first=self.second,
            second=self.first,
            interval=self.interval.negative,
            plain=self.plain.negative,
            verdict=other.get(self.verdict, self.verdict),
            paired_wins=1.0 - self.paired_wins,
            values={
                task: {seed: -value for seed, value in by_seed.items()}
                for task, by_seed in self.values.items()
            },
        )


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


def partners(x: Mapping[int, float], y: Mapping[int, float]) -> list[tuple[int, int]]:
    """Which seeds are compared: each with itself; in order where two arms have none in common.

    Seeds that nobody shares are independent, so that any way to pair them is as good as another.
    """
    shared = sorted(x.keys() & y.keys())
    if shared:
        return [(seed, seed) for seed in shared]
    return list(zip(sorted(x), sorted(y), strict=False))


def _values(
    pool: Sequence[Task], first: Sequence[Arm], second: Sequence[Arm], metric: str
) -> Values:
    """Mean of some arms minus mean of others, on seeds that both have."""
    found, alone, strangers = {}, 0, set()
    for task in pool:
        x, y = (_side(task, arms, metric) for arms in (first, second))
        if not x.scored or not y.scored:
            continue
        matches = _matches(x, y)
        alone += len(x.scored | y.scored) - len({seed for match in matches for seed in match})
        if matches:
            found[task.name] = {
                seed: statistics.rounded(x.means[seed] - y.means[other]) for seed, other in matches
            }
        if matches and not x.planned & y.planned:
            strangers.add(task.name)
    return Values(found, alone, frozenset(strangers))


def difference(
    tasks: Sequence[Task], first: Sequence[Arm], second: Sequence[Arm], metric: str
) -> float | None:
    """Mean over tasks of the mean difference by seed between some arms and others, if any are compared."""
    found = _values(tasks, first, second, metric).found.values()
    return float(np.mean([np.mean([*by_seed.values()]) for by_seed in found])) if found else None


class _Side(NamedTuple):
    """Mean of a side by seed, the seeds that some arm of it has, and those that it was planned with."""

    means: dict[int, float]
    scored: frozenset[int]
    planned: frozenset[int]


def _side(task: Task, side: Sequence[Arm], metric: str) -> _Side:
    """The mean at the seeds that all agents were planned with, missing where one of these lost it.

    It would be of other agents there. Arms without any value on the task do not count.
    """
    columns = {arm: column(task, arm.name, metric) for arm in side}
    present = [arm for arm, found in columns.items() if found]
    some, every = seeds_of(task, present)
    means = {}
    for seed in sorted(every or some):
        those = [columns[arm] for arm in present if seed in planned_seeds(task, arm.name)]
        if all(seed in found for found in those):
            means[seed] = statistics.rounded(float(np.mean([found[seed] for found in those])))
    scored = frozenset(seed for found in columns.values() for seed in found)
    return _Side(means, scored, every or some)


def _matches(x: _Side, y: _Side) -> list[tuple[int, int]]:
    """The seeds that are compared.

    Runs are paired in order only where no seed was planned on both sides: a seed that lost a run is left
    out, and not replaced.
    """
    foreign = not x.planned & y.planned
    return partners(x.means, y.means) if foreign or x.means.keys() & y.means.keys() else []


def seeds_of(task: Task, arms: Sequence[Arm]) -> tuple[frozenset[int], frozenset[int]]:
    """The seeds with which any of some agents was to be trained on a task, and those with which all were."""
    found: dict[object, frozenset[int]] = {}
    for arm in arms:
        mine = found.get(arm.identity, frozenset())
        found[arm.identity] = mine | planned_seeds(task, arm.name)
    planned = list(found.values()) or [frozenset()]
    return frozenset.union(*planned), frozenset.intersection(*planned)


def planned_seeds(task: Task, arm: str) -> frozenset[int]:
    """The seeds with which an arm was to be trained on a task."""
    return frozenset(run.seed for run in task.cells[arm].runs) if arm in task.cells else frozenset()


class Draft(NamedTuple):
    """A contrast to be judged; `key` names the streams of its intervals."""

    first: str
    second: str
    metric: str
    values: Values
    key: str


class Differences(NamedTuple):
    """Paired differences, one `[seeds]` array per task, and which are drawn and exchanged together."""

    tasks: list[Array]
    units: statistics.Units | None

    def interval(self, key: str, confidence: float) -> Interval:
        """Of their mean over tasks, from the stream of that name."""
        return statistics.bootstrap(
            generator(f"contrast/{key}"),
            self.tasks,
            statistics.mean,
            units=self.units,
            reps=resampling.interval_reps(confidence, statistics.smallest(self.tasks)),
            confidence=confidence,
        )

    def p(self, stream: str, reps: int) -> float:
        """That of the sign-flip test, by so many flips from the stream of that name."""
        rng = generator(stream)
        return statistics.sign_flip_test(rng, self.tasks, units=self.units, reps=reps)


def _contrast(draft: Draft, tasks: Mapping[str, Task]) -> tuple[Contrast, Differences]:
    first, second, metric, values, key = draft
    found = [tasks[name] for name in values.found]
    columns = [np.array(list(by_seed.values())) for by_seed in values.found.values()]
    differences = Differences(columns, resampling.units(found, values.found.values()))
    none = Interval(float("nan"), None, None, 0)
    plain = differences.interval(key, 1.0 - ALPHA) if columns else none
    wins = statistics.paired_probability_of_improvement(columns) if columns else 0.5
    contrast = Contrast(
        first=first,
        second=second,
        metric=metric,
        interval=plain,
        plain=plain,
        p=1.0,
        p_adjusted=1.0,
        verdict="insufficient",
        tasks=tuple(values.found),
        pairs=sum(task.size for task in columns),
        units=len(statistics.weighted(*differences)) if columns else 0,
        environments=len({task.env for task in found}),
        unpaired=values.alone,
        paired_wins=wins,
        values=values.found,
        strangers=values.strangers,
    )
    return contrast, differences


def _judge(drafts: Sequence[Draft], tasks: Sequence[Task], margin: float) -> list[Contrast]:
    """Contrasts that are corrected together; each has the margin where its own tasks are normalised."""
    scaled = {task.name for task in tasks if task.normalised}
    named = {task.name: task for task in tasks}
    prepared = [(*_contrast(draft, named), draft.key) for draft in drafts]
    tested = [item for item in prepared if item[0].plain.sufficient]
    found = resampling.corrected([partial(each.p, f"flip/{key}") for _, each, key in tested])
    judged = iter(zip(*found, strict=True))
    return [
        _decide(*item, *next(judged), margin if scaled >= {*item[0].tasks} else 0.0)
        if item[0].plain.sufficient
        else item[0]
        for item in prepared
    ]


def _decide(
    contrast: Contrast,
    differences: Differences,
    key: str,
    p: float,
    decision: statistics.Decision,
    margin: float,
) -> Contrast:
    interval = differences.interval(key, decision.confidence)
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
    one, other = sides.keys
    drafts = [
        Draft(*sides.names, metric, _values(pool, *sides.both, metric), f"{metric}/{one}/{other}")
        for metric in COMPARED
    ]
    return {contrast.metric: contrast for contrast in _judge(drafts, pool, margin)}


def families_by_task(
    tasks: Sequence[Task],
    sides: Sides,
    margin: float,
    metric: str,
    leading: Contrast | None,
) -> dict[str, Contrast]:
    """The difference in one metric in each environment, corrected over environments.

    Where the leading contrast is of one environment alone, that is its contrast there, too: it has been
    judged, among the metrics, and a second look at a laxer level would be no other finding.
    """
    if not all(sides.both):
        return {}
    drafts = {}
    one, other = sides.keys
    for task in tasks:
        values = _values([task], *sides.both, metric)
        if values.found:
            key = f"{metric}/{one} on {task.key}/{other}"
            drafts[task.name] = Draft(*sides.names, metric, values, key)
    found = dict(zip(drafts, _judge([*drafts.values()], tasks, margin), strict=True))
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


def couples_of(arms: Sequence[Arm], baseline: Arm | None, sides: Sides) -> Couples:
    """Each arm against the baseline; all pairs where there is none, the question's first side first."""
    if baseline:
        return [(arm, baseline) for arm in arms if arm != baseline]
    found = [(b, a) for i, a in enumerate(arms) for b in arms[i + 1 :]]
    return [(a, b) if a in sides.first and b in sides.second else (b, a) for b, a in found]


def pairs(
    pool: Sequence[Task], couples: Couples, metric: str, margin: float
) -> tuple[Contrast, ...]:
    """The couples on one metric."""
    drafts = [
        Draft(x.name, y.name, metric, _values(pool, [x], [y], metric), f"{metric}/{x.key}/{y.key}")
        for x, y in couples
    ]
    return tuple(_judge(drafts, pool, margin))


def pairs_by_task(
    tasks: Sequence[Task], couples: Couples, metric: str, margin: float
) -> tuple[Contrast, ...]:
    """The couples on one metric in each environment, corrected over couples and environments together."""
    drafts = []
    for x, y in couples:
        for task in tasks:
            values = _values([task], [x], [y], metric)
            if values.found:
                key = f"{metric}/{x.key} on {task.key}/{y.key}"
                drafts.append(Draft(x.name, y.name, metric, values, key))
    return tuple(_judge(drafts, tasks, margin))


def improvements(pool: Sequence[Task], couples: Couples) -> list[Improvement]:
    """P(first > second) for the same pairs, by the pairs of seeds that both have."""
    prepared = []
    for x, y in couples:
        found = _aligned(pool, x, y)
        first, _ = found.sides
        if first and statistics.smallest(first) >= statistics.MIN_RUNS:
            ranks = Differences(statistics.rank_differences(*found.sides), found.units)
            test = partial(ranks.p, f"improvement/{x.key}/{y.key}")
            prepared.append((x.name, y.name, found, test))
    _, decisions = resampling.corrected([item[-1] for item in prepared])
    return [
        _improvement(*item[:3], decision)
        for item, decision in zip(prepared, decisions, strict=True)
    ]


class Aligned(NamedTuple):
    """Areas under the curve of the runs that are compared, by task, and which belong together."""

    found: dict[str, tuple[Array, Array]]
    units: statistics.Units | None

    @property
    def sides(self) -> tuple[list[Array], list[Array]]:
        """Those of the one and of the other, one array per task."""
        return [x for x, _ in self.found.values()], [y for _, y in self.found.values()]


def _aligned(pool: Sequence[Task], first: Arm, second: Arm) -> Aligned:
    found, tasks, seeds = {}, [], []
    for task in pool:
        x, y = (_side(task, [arm], "auc") for arm in (first, second))
        matches = _matches(x, y)
        if matches:
            mine = np.array([x.means[one] for one, _ in matches])
            found[task.name] = mine, np.array([y.means[other] for _, other in matches])
            tasks.append(task)
            seeds.append([one for one, _ in matches])
    return Aligned(found, resampling.units(tasks, seeds))


def _improvement(
    first: str,
    second: str,
    aligned: Aligned,
    decision: statistics.Decision,
) -> Improvement:
    interval = statistics.improvement_interval(
        *aligned.sides, units=aligned.units, confidence=decision.confidence
    )
    decided = decision.rejected and interval.excludes(0.5)
    seeds = {task: x.size for task, (x, _) in aligned.found.items()}
    return Improvement(first, second, interval, decision.p_adjusted, decided, seeds)
