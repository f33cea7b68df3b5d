"""Arms and families against each other, by seed: differences, tests, what is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vfcompare import statistics
from vfcompare.report.analysis import resampling
from vfcompare.report.analysis.arms import Arm, Sides, pooled
from vfcompare.report.analysis.resampling import ALPHA, generator
from vfcompare.report.data import Study
from vfcompare.report.files import Array
from vfcompare.report.scoring import Rule, Task, column, failed, score
from vfcompare.statistics import Interval

ALL_PAIRS = 8
METRICS = ("auc", "final", "drawdown", "variation")
LOWER_IS_BETTER = frozenset({"drawdown", "variation"})
OTHER_RULES: tuple[Rule, ...] = ("last", "drop")


@dataclass(frozen=True)
class Contrast:
    """`first` minus `second` on one metric, by seed.

    Attributes:
      first: what is compared.
      second: with what.
      metric: one of `METRICS`.
      interval: at the level at which Holm judged it.
      plain: the same at 95%.
      p: sign-flip p-value.
      p_adjusted: the same after Holm.
      verdict: `first`, `second`, `undecided`, `equal` or `insufficient`; who is better.
      tasks: environments it is averaged over.
      pairs: number of pairs of seeds over all environments.
      unpaired: scored runs that had no partner.
      paired_wins: paired probability that first has the higher number.
      values: differences by task and seed.
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

    @property
    def better(self) -> str | None:
        """Name of the better side, or None where that is open."""
        return {"first": self.first, "second": self.second}.get(self.verdict)

    def within(self, margin: float) -> bool:
        """Whether the whole interval lies within a margin, which is meant for scores alone.

        Drawdowns and variations are too small for it.
        """
        low, high = self.interval.low, self.interval.high
        if self.metric not in {"auc", "final"} or low is None or high is None:
            return False
        return -margin < low and high < margin


@dataclass(frozen=True)
class Improvement:
    """P(first > second) on AUC, with the interval of its step in Holm's procedure."""

    first: str
    second: str
    interval: Interval
    p_adjusted: float
    decided: bool


Values = dict[str, dict[int, float]]


def _pair_values(pool: Sequence[Task], first: str, second: str, metric: str) -> tuple[Values, int]:
    values: Values = {}
    alone = 0
    for task in pool:
        x, y = column(task, first, metric), column(task, second, metric)
        matches = partners(x, y)
        alone += len(x) + len(y) - 2 * len(matches)
        if matches:
            values[task.name] = {mine: x[mine] - y[other] for mine, other in matches}
    return values, alone


def partners(x: Mapping[int, float], y: Mapping[int, float]) -> list[tuple[int, int]]:
    """Which seeds are compared: each with itself; in order where two arms have none in common.

    Seeds that nobody shares are independent, so that any way to pair them is as good as another.
    """
    shared = sorted(x.keys() & y.keys())
    if shared:
        return [(seed, seed) for seed in shared]
    return list(zip(sorted(x), sorted(y), strict=False))


def _family_values(pool: Sequence[Task], sides: Sides, metric: str) -> tuple[Values, int]:
    """Mean of the arms on the first side minus mean of those on the second, on seeds that all have."""
    values: Values = {}
    alone = 0
    for task in pool:
        first, second = (
            [c for arm in side if (c := column(task, arm.name, metric))]
            for side in (sides.first, sides.second)
        )
        if not first or not second:
            continue
        present = [set(c) for c in first + second]
        shared = sorted(set.intersection(*present))
        alone += len(set.union(*present)) - len(shared)
        if shared:
            values[task.name] = {
                seed: float(np.mean([c[seed] for c in first]))
                - float(np.mean([c[seed] for c in second]))
                for seed in shared
            }
    return values, alone


def _contrast(
    first: str, second: str, metric: str, values: Values, alone: int, p: float
) -> tuple[Contrast, list[Array]]:
    tasks = [np.array(list(by_seed.values())) for by_seed in values.values()]
    none = Interval(float("nan"), None, None, 0)
    rng = generator(f"contrast/{metric}/{first}/{second}")
    plain = (
        statistics.bootstrap(rng, tasks, statistics.mean, reps=resampling.PAIR_REPS)
        if tasks
        else none
    )
    wins = float(statistics.mean([(d > 0) + 0.5 * (d == 0) for d in tasks])) if tasks else 0.5
    contrast = Contrast(
        first=first,
        second=second,
        metric=metric,
        interval=plain,
        plain=plain,
        p=p,
        p_adjusted=p,
        verdict="insufficient",
        tasks=tuple(values),
        pairs=sum(task.size for task in tasks),
        unpaired=alone,
        paired_wins=wins,
        values=values,
    )
    return contrast, tasks


def _judge(drafts: Sequence[tuple[str, str, str, Values, int]], margin: float) -> list[Contrast]:
    """Contrasts that are corrected together."""
    prepared = []
    for first, second, metric, values, alone in drafts:
        contrast, tasks = _contrast(first, second, metric, values, alone, 1.0)
        rng = generator(f"flip/{metric}/{first}/{second}")
        enough = contrast.plain.sufficient
        p = statistics.sign_flip_test(rng, tasks, reps=resampling.PAIR_REPS) if enough else 1.0
        prepared.append((contrast, tasks, p))
    decisions = iter(
        statistics.holm([p for c, _, p in prepared if c.plain.sufficient], alpha=ALPHA)
    )
    return [
        _decide(contrast, tasks, p, next(decisions), margin)
        if contrast.plain.sufficient
        else contrast
        for contrast, tasks, p in prepared
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
        verdict = "first" if higher != (contrast.metric in LOWER_IS_BETTER) else "second"
    elif contrast.plain.n >= statistics.FEW_RUNS and judged.within(margin):
        verdict = "equal"
    return replace(judged, verdict=verdict)


def _applied(margin: float, tasks: Sequence[Task]) -> float:
    """The study's margin where all scores are normalised, else none: it is meant for that scale."""
    return margin if tasks and all(task.normalised for task in tasks) else 0.0


def families(pool: Sequence[Task], sides: Sides, margin: float) -> dict[str, Contrast]:
    """One side of the question against the other, on each metric."""
    if not sides.first or not sides.second:
        return {}
    drafts = [(*sides.names, metric, *_family_values(pool, sides, metric)) for metric in METRICS]
    return {contrast.metric: contrast for contrast in _judge(drafts, _applied(margin, pool))}


def families_by_task(tasks: Sequence[Task], sides: Sides, margin: float) -> dict[str, Contrast]:
    """The difference in AUC in each environment, corrected over environments."""
    if not sides.first or not sides.second:
        return {}
    drafts, names = [], []
    for task in tasks:
        values, alone = _family_values([task], sides, "auc")
        if values:
            names.append(task.name)
            first, second = sides.names
            drafts.append((f"{first} on {task.name}", second, "auc", values, alone))
    return dict(zip(names, _judge(drafts, _applied(margin, tasks)), strict=True))


def couples(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """All pairs where there are few arms; otherwise each against the first."""
    if len(arms) > ALL_PAIRS:
        return [(arm, arms[0]) for arm in arms[1:]]
    return [(b, a) for i, a in enumerate(arms) for b in arms[i + 1 :]]


def pairs(
    pool: Sequence[Task], arms: Sequence[Arm], metric: str, margin: float
) -> tuple[Contrast, ...]:
    """The `couples` on one metric."""
    drafts = [
        (x.name, y.name, metric, *_pair_values(pool, x.name, y.name, metric))
        for x, y in couples(arms)
    ]
    return tuple(_judge(drafts, _applied(margin, pool)))


def improvements(pool: Sequence[Task], arms: Sequence[Arm]) -> list[Improvement]:
    """P(first > second) for the same pairs, by the pairs of seeds that both have."""
    prepared = []
    for x, y in couples(arms):
        first, second = _aligned(pool, x.name, y.name)
        if first and statistics.smallest(first) >= statistics.MIN_RUNS:
            rng = generator(f"improvement/{x.name}/{y.name}")
            ranks = statistics.rank_differences(first, second)
            p = statistics.sign_flip_test(rng, ranks, reps=resampling.PAIR_REPS)
            prepared.append((x.name, y.name, first, second, p))
    decisions = statistics.holm([item[-1] for item in prepared], alpha=ALPHA)
    return [
        _improvement(*item[:4], decision)
        for item, decision in zip(prepared, decisions, strict=True)
    ]


def _aligned(pool: Sequence[Task], first: str, second: str) -> tuple[list[Array], list[Array]]:
    xs, ys = [], []
    for task in pool:
        x, y = column(task, first, "auc"), column(task, second, "auc")
        matches = partners(x, y)
        if matches:
            xs.append(np.array([x[mine] for mine, _ in matches]))
            ys.append(np.array([y[other] for _, other in matches]))
    return xs, ys


def _improvement(
    first: str,
    second: str,
    x: list[Array],
    y: list[Array],
    decision: statistics.Decision,
) -> Improvement:
    interval = statistics.improvement_interval(
        generator(f"improvement-interval/{first}/{second}"),
        x,
        y,
        reps=resampling.PAIR_REPS,
        confidence=decision.confidence,
    )
    decided = decision.rejected and interval.excludes(0.5)
    return Improvement(first, second, interval, decision.p_adjusted, decided)


def rule_changes(
    study: Study,
    sides: Sides,
    compared: Sequence[Arm],
    family: Mapping[str, Contrast],
    by_pair: Mapping[str, Sequence[Contrast]],
) -> list[str]:
    """Verdicts that would be others if failed runs were treated otherwise."""
    if not any(failed(run) for cell in study.cells if cell.planned for run in cell.runs):
        return []
    shown = [*family.values(), *by_pair["auc"]]
    changes = []
    for rule in OTHER_RULES:
        pool = pooled(score(study, rule))
        others = [
            *families(pool, sides, study.margin).values(),
            *pairs(pool, compared, "auc", study.margin),
        ]
        changes += [
            f"{a.first} against {a.second} on {a.metric}: {_says(a)} under the rule 'floor', "
            f"{_says(b)} under '{rule}'"
            for a, b in zip(shown, others, strict=True)
            if _opposed(a, b)
        ]
    return changes


def _says(contrast: Contrast) -> str:
    return f"{contrast.better} better" if contrast.better else contrast.verdict


def _opposed(a: Contrast, b: Contrast) -> bool:
    return (a.better or "") != (b.better or "")
