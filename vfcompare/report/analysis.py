"""From scores to what can be said: aggregates, contrasts, speed, stability, robustness."""

import importlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vfcompare import statistics
from vfcompare.report.data import STATUSES, Cell, Study
from vfcompare.report.scoring import Rule, Task, column, counted, failed, matrix, score
from vfcompare.statistics import Interval

Array = npt.NDArray[np.float64]

SEED = 20_260_101
REPS = 2000
PAIR_REPS = 10_000
ALPHA = 0.05
MARGIN = 0.05
ALL_PAIRS = 8
METRICS = ("auc", "final", "drawdown", "variation")
LOWER_IS_BETTER = frozenset({"drawdown", "variation"})
SPREAD_POINTS = 20
RULES: tuple[Rule, ...] = ("floor", "last", "drop")


@dataclass(frozen=True)
class Arm:
    """One of the things compared.

    Attributes:
      name: label, unique in the study.
      agent: name of the agent.
      critic: whether it learns a value function.
    """

    name: str
    agent: str
    critic: bool

    @property
    def family(self) -> str:
        """Which side of the question it stands on."""
        return "critic" if self.critic else "outcome-only"


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


@dataclass(frozen=True)
class Improvement:
    """P(first > second) on AUC, with the interval of its step in Holm's procedure."""

    first: str
    second: str
    interval: Interval
    p_adjusted: float
    decided: bool


@dataclass(frozen=True)
class Speed:
    """Steps to the threshold of one arm on one task."""

    task: str
    arm: str
    n: int
    reached: int
    median: Interval
    restricted_mean: Interval
    arrivals: tuple[tuple[int, float, bool], ...]


@dataclass(frozen=True)
class Curve:
    """IQM over seeds of one arm on one task, at the task's grid."""

    task: str
    arm: str
    n: int
    estimate: Array
    low: Array | None
    high: Array | None


@dataclass(frozen=True)
class Matching:
    """How the runs of one task were matched, from their certificates.

    Attributes:
      task: label of the environment.
      cells: ids in the order of the columns.
      arms: their labels.
      rows: (item, verdict, values by column).
      different: items that are not equal and not different by design.
      reason: why nothing could be compared, or empty.
    """

    task: str
    cells: tuple[str, ...]
    arms: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    different: tuple[str, ...]
    reason: str

    @property
    def holds(self) -> bool:
        """Whether the runs differ only where they should."""
        return not self.reason and not self.different


@dataclass(frozen=True)
class Results:
    """Everything the report says, as numbers.

    `summary` is keyed (metric, task, arm), `aggregate` (statistic, metric, arm), `stability`
    (quantity, arm); `family` and `pairs` are keyed by metric.
    """

    study: Study
    arms: tuple[Arm, ...]
    tasks: tuple[Task, ...]
    pool: tuple[str, ...]
    attrition: tuple[Mapping[str, Any], ...]
    matching: tuple[Matching, ...]
    curves: tuple[Curve, ...]
    summary: Mapping[tuple[str, str, str], Interval]
    aggregate: Mapping[tuple[str, str, str], Interval]
    profile: Mapping[str, tuple[Array, Array | None, Array | None]]
    profile_thresholds: Array
    speed: tuple[Speed, ...]
    family: Mapping[str, Contrast]
    family_by_task: Mapping[str, Contrast]
    pairs: Mapping[str, tuple[Contrast, ...]]
    improvement: tuple[Improvement, ...]
    stability: Mapping[tuple[str, str], Interval]
    counts: Mapping[tuple[str, str], tuple[int, int]]
    rule_changes: tuple[str, ...]

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def task(self, name: str) -> Task:
        """The task of that name."""
        return next(task for task in self.tasks if task.name == name)


def analyse(study: Study) -> Results:
    """All numbers of the report; the same files give the same numbers, since seeds are fixed."""
    tasks = score(study)
    arms = _arms(study)
    pool = _pool(tasks)
    family = _family_contrasts(pool, arms)
    pairs = {metric: _pair_contrasts(pool, arms, metric) for metric in METRICS}
    thresholds = np.linspace(0.0, 1.0, 51)
    return Results(
        study=study,
        arms=arms,
        tasks=tuple(tasks),
        pool=tuple(task.name for task in pool),
        attrition=tuple(_attrition(study, tasks)),
        matching=tuple(_matching(task) for task in tasks),
        curves=tuple(_curves(tasks, arms)),
        summary=_summaries(tasks, arms),
        aggregate=_aggregates(pool, arms),
        profile=_profiles(pool, arms, thresholds),
        profile_thresholds=thresholds,
        speed=tuple(_speeds(tasks, arms)),
        family=family,
        family_by_task=_family_by_task(tasks, arms),
        pairs=pairs,
        improvement=tuple(_improvements(pool, arms)),
        stability=_stability(pool, arms),
        counts=_counts(pool, arms),
        rule_changes=tuple(_rule_changes(study, arms, family, pairs)),
    )


def generator(name: str) -> np.random.Generator:
    """A stream of its own for each number, so that adding an arm changes no other interval."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])


def _arms(study: Study) -> tuple[Arm, ...]:
    cells = [cell for cell in study.cells if cell.planned]
    critics = {cell.arm for cell in cells if cell.critic}
    found = {cell.arm: Arm(cell.arm, cell.agent, cell.arm in critics) for cell in cells}
    return tuple(sorted(found.values(), key=lambda arm: arm.critic))


def _pool(tasks: Sequence[Task]) -> list[Task]:
    """Tasks on a common scale: the normalised ones, or a single task on its own scale."""
    scored = [task for task in tasks if not task.empty]
    return [task for task in scored if task.normalised] or (scored if len(scored) == 1 else [])


def _attrition(study: Study, tasks: Sequence[Task]) -> list[dict[str, Any]]:
    ends = {task.name: task.end for task in tasks}
    return [_cell_counts(cell, ends.get(cell.task, 0.0)) for cell in study.cells]


def _cell_counts(cell: Cell, end: float) -> dict[str, Any]:
    statuses = [
        "short" if run.status == "completed" and not counted(run, end) else run.status
        for run in cell.runs
    ]
    reasons = [run.reason for run in cell.runs if run.status != "completed" and run.reason]
    return {
        "cell": cell,
        "planned": len(cell.runs) if cell.planned else 0,
        **{status: statuses.count(status) for status in STATUSES},
        "scored": sum(counted(run, end) for run in cell.runs) if cell.planned else 0,
        "failed": sum(failed(run) for run in cell.runs),
        "reason": "; ".join(dict.fromkeys([*reasons, *cell.problems])),
    }


def _matching(task: Task) -> Matching:
    cells = list(task.cells.values())
    ids, arms = tuple(cell.id for cell in cells), tuple(cell.arm for cell in cells)
    if len(cells) < 2:
        return Matching(task.name, ids, arms, (), (), "one agent only, nothing to compare")
    lacking = [cell.arm for cell in cells if cell.certificate is None]
    if lacking:
        return Matching(task.name, ids, arms, (), (), f"no certificate of {', '.join(lacking)}")
    try:
        certificate = importlib.import_module("vfcompare.certificate")
        rows = certificate.compare({cell.id: dict(cell.certificate or {}) for cell in cells})
        table = tuple((str(r.item), str(r.verdict), _row_values(r.values, ids)) for r in rows)
    except Exception as error:
        # a certificate is data of unknown origin: whatever it provokes is a finding, not a crash
        return Matching(task.name, ids, arms, (), (), f"not comparable ({type(error).__name__})")
    different = tuple(item for item, verdict, _ in table if verdict == "different")
    return Matching(task.name, ids, arms, table, different, "")


def _row_values(values: Any, ids: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(values, Mapping):
        return tuple("" for _ in ids)
    return tuple(str(values.get(name, "")) for name in ids)


def _curves(tasks: Sequence[Task], arms: Sequence[Arm]) -> list[Curve]:
    result = []
    for task in tasks:
        for arm in arms:
            if not task.scores.get(arm.name):
                continue
            values = matrix(task, arm.name)
            rng = generator(f"curve/{task.name}/{arm.name}")
            ends = statistics.curve_interval(rng, values, reps=REPS)
            result.append(Curve(task.name, arm.name, len(values), *ends))
    return result


def _column(task: Task, arm: str, metric: str) -> Array:
    return np.array(list(column(task, arm, metric).values()))


def _summaries(tasks: Sequence[Task], arms: Sequence[Arm]) -> dict[tuple[str, str, str], Interval]:
    result = {}
    for task in tasks:
        for arm in arms:
            for metric in (*METRICS, "greedy"):
                values = _column(task, arm.name, metric)
                if values.size:
                    rng = generator(f"summary/{metric}/{task.name}/{arm.name}")
                    result[metric, task.name, arm.name] = statistics.bootstrap(
                        rng, [values], statistics.iqm, reps=REPS
                    )
    return result


AGGREGATES: Mapping[str, statistics.Statistic] = {
    "iqm": statistics.iqm,
    "mean": statistics.mean,
    "median": statistics.median,
    "optimality_gap": statistics.optimality_gap,
}


def _aggregates(pool: Sequence[Task], arms: Sequence[Arm]) -> dict[tuple[str, str, str], Interval]:
    result = {}
    for arm in arms:
        for metric in ("auc", "final"):
            scores = _everywhere(pool, arm, metric)
            if not scores:
                continue
            for name, statistic in AGGREGATES.items():
                if name == "optimality_gap" and not pool[0].normalised:
                    continue
                rng = generator(f"aggregate/{name}/{metric}/{arm.name}")
                result[name, metric, arm.name] = statistics.bootstrap(
                    rng, scores, statistic, reps=REPS
                )
    return result


def _everywhere(pool: Sequence[Task], arm: Arm, metric: str) -> list[Array]:
    """The arm's scores on every task, or nothing: an average over other tasks is another number."""
    scores = [_column(task, arm.name, metric) for task in pool]
    return scores if all(values.size for values in scores) else []


def _profiles(
    pool: Sequence[Task], arms: Sequence[Arm], thresholds: Array
) -> dict[str, tuple[Array, Array | None, Array | None]]:
    result: dict[str, tuple[Array, Array | None, Array | None]] = {}
    for arm in arms:
        scores = _everywhere(pool, arm, "final")
        if not scores or not pool[0].normalised:
            continue
        estimate = statistics.performance_profile(scores, thresholds)
        low = high = None
        if statistics.smallest(scores) >= statistics.MIN_RUNS:
            draws = statistics.resample(generator(f"profile/{arm.name}"), scores, reps=REPS)
            replicates = statistics.performance_profile(draws, thresholds)
            low, high = np.quantile(replicates, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
        result[arm.name] = (estimate, low, high)
    return result


def _speeds(tasks: Sequence[Task], arms: Sequence[Arm]) -> list[Speed]:
    return [_speed(task, arm.name) for task in tasks for arm in arms if task.arrivals.get(arm.name)]


def _speed(task: Task, arm: str) -> Speed:
    arrivals = task.arrivals[arm]
    steps = [step for _, step, _ in arrivals]
    reached = [yes for _, _, yes in arrivals]
    median, area = statistics.arrival_intervals(
        generator(f"speed/{task.name}/{arm}"), steps, reached, horizon=task.end, reps=REPS
    )
    return Speed(task.name, arm, len(steps), sum(reached), median, area, arrivals)


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


def _family_values(pool: Sequence[Task], arms: Sequence[Arm], metric: str) -> tuple[Values, int]:
    """Mean of the critic agents minus mean of the outcome-only ones, on seeds that all have."""
    values: Values = {}
    alone = 0
    for task in pool:
        columns = {arm: column(task, arm.name, metric) for arm in arms}
        critic = [c for arm, c in columns.items() if arm.critic and c]
        outcome = [c for arm, c in columns.items() if not arm.critic and c]
        if not critic or not outcome:
            continue
        present = [set(c) for c in critic + outcome]
        shared = sorted(set.intersection(*present))
        alone += len(set.union(*present)) - len(shared)
        if shared:
            values[task.name] = {
                seed: float(np.mean([c[seed] for c in critic]))
                - float(np.mean([c[seed] for c in outcome]))
                for seed in shared
            }
    return values, alone


def _contrast(
    first: str, second: str, metric: str, values: Values, alone: int, p: float
) -> tuple[Contrast, list[Array]]:
    tasks = [np.array(list(by_seed.values())) for by_seed in values.values()]
    none = Interval(float("nan"), None, None, 0)
    rng = generator(f"contrast/{metric}/{first}/{second}")
    plain = statistics.bootstrap(rng, tasks, statistics.mean, reps=PAIR_REPS) if tasks else none
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
        p = statistics.sign_flip_test(rng, tasks, reps=PAIR_REPS) if enough else 1.0
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
        generator(name), tasks, statistics.mean, reps=PAIR_REPS, confidence=decision.confidence
    )
    verdict = "undecided"
    if decision.rejected and interval.excludes(0.0):
        higher = interval.estimate > 0
        verdict = "first" if higher != (contrast.metric in LOWER_IS_BETTER) else "second"
    elif _may_be_equal(contrast) and _within(interval, margin):
        verdict = "equal"
    return Contrast(
        **{
            **contrast.__dict__,
            "interval": interval,
            "p": p,
            "p_adjusted": decision.p_adjusted,
            "verdict": verdict,
        }
    )


def _may_be_equal(contrast: Contrast) -> bool:
    """The margin is meant for scores; drawdowns and variations are too small for it."""
    return contrast.metric in {"auc", "final"} and contrast.plain.n >= statistics.FEW_RUNS


def _within(interval: Interval, margin: float) -> bool:
    if interval.low is None or interval.high is None:
        return False
    return -margin < interval.low and interval.high < margin


def _margin(pool: Sequence[Task]) -> float:
    """Differences inside this are of no practical interest; only on the normalised scale."""
    return MARGIN if pool and pool[0].normalised else 0.0


def _family_contrasts(pool: Sequence[Task], arms: Sequence[Arm]) -> dict[str, Contrast]:
    if len({arm.critic for arm in arms}) < 2:
        return {}
    drafts = [
        ("critic", "outcome-only", metric, *_family_values(pool, arms, metric))
        for metric in METRICS
    ]
    return {contrast.metric: contrast for contrast in _judge(drafts, _margin(pool))}


def _family_by_task(tasks: Sequence[Task], arms: Sequence[Arm]) -> dict[str, Contrast]:
    """The critic's effect on AUC in each environment, corrected over environments."""
    if len({arm.critic for arm in arms}) < 2:
        return {}
    drafts, names = [], []
    for task in tasks:
        values, alone = _family_values([task], arms, "auc")
        if values:
            names.append(task.name)
            drafts.append((f"critic on {task.name}", "outcome-only", "auc", values, alone))
    margin = MARGIN if all(task.normalised for task in tasks) else 0.0
    return dict(zip(names, _judge(drafts, margin), strict=True))


def couples(arms: Sequence[Arm]) -> list[tuple[Arm, Arm]]:
    """All pairs where there are few arms; otherwise each against the first."""
    if len(arms) > ALL_PAIRS:
        return [(arm, arms[0]) for arm in arms[1:]]
    return [(b, a) for i, a in enumerate(arms) for b in arms[i + 1 :]]


def _pair_contrasts(pool: Sequence[Task], arms: Sequence[Arm], metric: str) -> tuple[Contrast, ...]:
    drafts = [
        (x.name, y.name, metric, *_pair_values(pool, x.name, y.name, metric))
        for x, y in couples(arms)
    ]
    return tuple(_judge(drafts, _margin(pool)))


def _improvements(pool: Sequence[Task], arms: Sequence[Arm]) -> list[Improvement]:
    """P(first > second) for the same pairs, by the pairs of seeds that both have."""
    prepared = []
    for x, y in couples(arms):
        first, second = _aligned(pool, x.name, y.name)
        if first and statistics.smallest(first) >= statistics.MIN_RUNS:
            rng = generator(f"improvement/{x.name}/{y.name}")
            ranks = statistics.rank_differences(first, second)
            p = statistics.sign_flip_test(rng, ranks, reps=PAIR_REPS)
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
        reps=PAIR_REPS,
        confidence=decision.confidence,
    )
    decided = decision.rejected and interval.excludes(0.5)
    return Improvement(first, second, interval, decision.p_adjusted, decided)


def _stability(pool: Sequence[Task], arms: Sequence[Arm]) -> dict[tuple[str, str], Interval]:
    result: dict[tuple[str, str], Interval] = {}
    for arm in arms:
        for metric in ("variation", "drawdown"):
            scores = _everywhere(pool, arm, metric)
            if scores:
                rng = generator(f"stability/{metric}/{arm.name}")
                result[metric, arm.name] = statistics.bootstrap(
                    rng, scores, statistics.mean, reps=REPS
                )
        if all(task.scores.get(arm.name) for task in pool) and pool:
            result["spread", arm.name] = _spread(pool, arm.name)
    for (quantity, name), (count, n) in _counts(pool, arms).items():
        if n:
            result[quantity, name] = statistics.rate_interval(count, n)
    return result


def _spread(pool: Sequence[Task], arm: str) -> Interval:
    """IQR over seeds, averaged over evaluation points and then over tasks."""
    rng = generator(f"stability/spread/{arm}")
    estimates, replicates, sizes = [], [], []
    for task in pool:
        every = max(1, -(-task.grid.size // SPREAD_POINTS))
        curves = matrix(task, arm)[:, ::-1][:, ::every]
        draws = rng.integers(len(curves), size=(REPS, len(curves)))
        estimates.append(statistics.across_run_spread(curves).mean())
        replicates.append(_fast_spread(curves, draws))
        sizes.append(len(curves))
    return statistics.percentile_interval(
        float(np.mean(estimates)), np.mean(replicates, axis=0), n=min(sizes)
    )


def _fast_spread(curves: Array, draws: npt.NDArray[np.int64]) -> Array:
    spreads = [statistics.interquartile_range(point[draws]) for point in curves.T]
    return np.asarray(np.mean(spreads, axis=0))


def _counts(pool: Sequence[Task], arms: Sequence[Arm]) -> dict[tuple[str, str], tuple[int, int]]:
    result = {}
    for arm in arms:
        runs = [item for task in pool for item in task.scores.get(arm.name, ())]
        result["collapse", arm.name] = (sum(item.collapsed for item in runs), len(runs))
        bad = sum(item.status != "completed" for item in runs)
        result["failure", arm.name] = (bad, len(runs))
    return result


def _rule_changes(
    study: Study,
    arms: Sequence[Arm],
    family: Mapping[str, Contrast],
    pairs: Mapping[str, Sequence[Contrast]],
) -> list[str]:
    """Verdicts that would be others if failed runs were treated otherwise."""
    if not any(failed(run) for cell in study.cells if cell.planned for run in cell.runs):
        return []
    shown = [*family.values(), *pairs["auc"]]
    changes = []
    for rule in ("last", "drop"):
        pool = _pool(score(study, rule))
        others = [
            *_family_contrasts(pool, arms).values(),
            *_pair_contrasts(pool, arms, "auc"),
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
