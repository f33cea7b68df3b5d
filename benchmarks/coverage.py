"""What the report's intervals really cover, and how often its verdicts are wrong: `docs/statistics.md`.

    python -m benchmarks.coverage               # every table, some minutes on two cores
    python -m benchmarks.coverage --reps 100    # a rough look

Scores are drawn from four known populations; each interval is computed as the report computes it and asked
whether it holds the population's own number. Verdicts are those of `vfcompare.report.analysis.analyse` on
studies made of such scores.
"""

import argparse
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from benchmarks import rejected, verdicts
from benchmarks.populations import POPULATIONS, SEED, in_parallel
from vfcompare import statistics as s
from vfcompare.runs.store import write_bytes
from vfcompare.statistics import Array, Interval

RESULTS = Path(__file__).parent / "results"
PAGE = RESULTS / "coverage.md"
NUMBERS = Path(s.__file__).parent / "coverage.json"
"""Where `vfcompare.statistics.known_coverage` reads what was measured."""

SEEDS = s.COVERAGE_RUNS
RESAMPLES = 1000
NOMINAL, ENOUGH = 0.95, 0.92
TASKS = ((1.0, 0.0), (0.5, 0.2), (1.5, -0.2), (1.0, 0.1))
"""Scale and shift of the four tasks of a study of several."""


Trial = Callable[[np.random.Generator, int], Iterable[Interval]]
"""The intervals of one study with so many seeds."""


class Case(NamedTuple):
    """One row of a table.

    Attributes:
      kind: what has the interval.
      scores: the population of the scores.
      tasks: how many tasks.
      trial: makes a study, and its intervals.
      truth: what each of them should hold.
    """

    kind: str
    scores: str
    tasks: int
    trial: Trial
    truth: tuple[float, ...]


class Kind(NamedTuple):
    """An interval of scores: how it is made, and the number of whole populations it is meant for."""

    trial: Callable[[np.random.Generator, list[Array], list[Array]], Iterable[Interval]]
    truth: Callable[[list[Array], list[Array]], Iterable[float]]
    gap: float = 0.0


def over_tasks(population: Array, tasks: int) -> list[Array]:
    """The populations of the tasks of a study."""
    return [scale * population + shift for scale, shift in TASKS[:tasks]]


def aggregate(statistic: s.Statistic, interval: Callable[..., Interval] = s.bootstrap) -> Kind:
    """A statistic of one agent: summaries, aggregates, stability."""
    return Kind(
        lambda rng, x, _: [interval(rng, x, statistic, reps=RESAMPLES)],
        lambda x, _: [float(statistic(x))],
    )


def student(rng: np.random.Generator, x: list[Array], _: list[Array]) -> list[Interval]:
    """Student's interval of a mean, for comparison."""
    (values,) = x
    n, middle = values.size, float(values.mean())
    half = stats.t.ppf(0.5 + NOMINAL / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return [Interval(middle, middle - half, middle + half, n)]


def difference(rng: np.random.Generator, x: list[Array], y: list[Array]) -> list[Interval]:
    """A paired difference of two agents."""
    return [s.bootstrap(rng, s.differences(x, y), s.mean, reps=RESAMPLES)]


def beside_steady(rng: np.random.Generator, x: list[Array], _: list[Array]) -> list[Interval]:
    """A paired difference from an agent whose seeds all come out nearly the same."""
    return difference(rng, x, [0.5 + 0.01 * rng.standard_normal(task.size) for task in x])


def improvement(interval: Callable[..., Interval], gap: float) -> Kind:
    """P(improvement) over an agent that is `gap` standard deviations worse."""
    return Kind(
        lambda rng, x, y: [interval(rng, x, y)],
        lambda x, y: [float(np.mean([wins(*pair) for pair in zip(x, y, strict=True)]))],
        gap,
    )


def score(_: np.random.Generator, x: list[Array], y: list[Array]) -> Interval:
    """What the report says of P(improvement)."""
    return s.improvement_interval(x, y)


def wins(x: Array, y: Array) -> float:
    """P(x > y) + P(x = y) / 2 of whole populations."""
    ordered = np.sort(y)
    below = np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")
    return float(below.mean() / (2 * y.size))


def curve(rng: np.random.Generator, x: list[Array], _: list[Array]) -> Iterator[Interval]:
    """The band of a learning curve, an evaluation for each task."""
    yield from _band(s.curve_interval(rng, np.stack(x, axis=1), reps=RESAMPLES), x[0].size)


def profile(rng: np.random.Generator, x: list[Array], _: list[Array]) -> Iterator[Interval]:
    """The band of a performance profile at levels between its ends."""
    yield from _band(s.profile_interval(x, LEVELS), x[0].size)


def resampled_profile(
    rng: np.random.Generator, x: list[Array], _: list[Array]
) -> Iterator[Interval]:
    """The same by bootstrap, as rliable has it."""
    shares = s.performance_profile(s.resample(rng, x, reps=RESAMPLES), LEVELS)
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    yield from _band((s.performance_profile(x, LEVELS), low, high), x[0].size)


def _band(ends: tuple[Array, Array | None, Array | None], n: int) -> Iterator[Interval]:
    estimate, low, high = ends
    assert low is not None
    assert high is not None
    for middle, bottom, top in zip(estimate, low, high, strict=True):
        yield Interval(float(middle), float(bottom), float(top), n)


def spread(tasks: s.Scores) -> Array:
    """Interquartile range over seeds, mean over tasks."""
    return np.asarray(np.mean([s.interquartile_range(task) for task in tasks], axis=0))


def seed_median(tasks: s.Scores) -> Array:
    """Median over seeds, as the oracle's pages show it."""
    return np.asarray(np.median(tasks[0], axis=-1))


def ratio(rng: np.random.Generator, x: list[Array], y: list[Array]) -> list[Interval]:
    """Ratio of two means over the same seeds, as the oracle's pages show it."""
    top, bottom = x[0] + 1.0, y[0] + 1.0

    def statistic(rows: s.Scores) -> Array:
        picks = rows[0].astype(int)
        return np.asarray(top[picks].mean(-1) / bottom[picks].mean(-1))

    return [s.bootstrap(rng, [np.arange(float(top.size))], statistic, reps=RESAMPLES)]


def rate(rng: np.random.Generator, n: int, *, shares: Sequence[float]) -> list[Interval]:
    """The rate of collapse, pooled over tasks whose true rates differ."""
    return [s.rate_interval(int(rng.binomial(n, shares).sum()), n * len(shares))]


def arrival(
    rng: np.random.Generator, n: int, *, times: tuple[Array, s.Mask, float], which: int
) -> list[Interval]:
    """Kaplan-Meier's median (0) or the restricted mean (1) of the steps to a threshold."""
    time, seen, horizon = times
    picks = rng.integers(time.size, size=n)
    found = s.arrival_intervals(rng, time[picks], seen[picks], horizon=horizon, reps=RESAMPLES)
    return [found[which]]


def arrival_truth(times: tuple[Array, s.Mask, float]) -> tuple[float, float]:
    """What `arrival` should hold."""
    time, seen, horizon = times
    whole = s.kaplan_meier(time, seen)
    return s.survival_median(whole), s.restricted_mean(whole, horizon)


HORIZON = 1.5


def _times(time: Array) -> tuple[Array, s.Mask, float]:
    """Steps, whether they are seen, and the horizon; evaluations are on a grid of hundredths."""
    grid = np.ceil(np.clip(time, 0.01, None) * 100) / 100
    return np.minimum(grid, HORIZON), grid < HORIZON, HORIZON


ARRIVALS = {
    "normal": _times(POPULATIONS["normal"]),
    "bimodal": _times(np.where(POPULATIONS["bimodal"] > 0.5, POPULATIONS["bimodal"] - 0.4, 2.0)),
    "skewed": _times(1.5 * POPULATIONS["skewed"]),
}
"""All arrive; a fifth never does; late ones, one in nine, are cut off."""

LEVELS = np.array([0.2, 0.4, 0.6, 0.8, 0.95])

KINDS: dict[str, Kind] = {
    "IQM": aggregate(s.iqm),
    "mean": aggregate(s.mean),
    "median over tasks": aggregate(s.median),
    "optimality gap": aggregate(s.optimality_gap),
    "difference, agents alike": Kind(difference, lambda x, _: [0.0]),
    "difference, one agent steady": Kind(beside_steady, lambda x, _: [float(s.mean(x)) - 0.5]),
    "P(improvement), near 0.6": improvement(score, 0.35),
    "P(improvement), near 0.9": improvement(score, 1.8),
    "performance profile": Kind(profile, lambda x, _: s.performance_profile(x, LEVELS)),
    "spread over seeds": aggregate(spread),
    "learning curve": Kind(curve, lambda x, _: [float(s.iqm([task])) for task in x]),
    "oracle: median": aggregate(seed_median),
    "oracle: ratio of means": Kind(ratio, lambda x, _: [1.0]),
}
"""Every interval that the report draws of scores."""
SINGLE_ONLY = {"oracle: median", "oracle: ratio of means"}
SEVERAL_ONLY = {"median over tasks", "learning curve"}

WAYS: dict[str, Callable[..., Interval]] = {
    "expanded": s.bootstrap,
    **{name: partial(rejected.bootstrap, method=name) for name in rejected.METHODS},
}
"""Ways to make an interval of resamples; the first is the report's."""

OTHERS: dict[str, Kind] = {
    **{
        f"{name}, {way}": aggregate(statistic, interval)
        for name, statistic in {"mean": s.mean, "IQM": s.iqm}.items()
        for way, interval in WAYS.items()
    },
    "mean, Student's t": Kind(student, lambda x, _: [float(x[0].mean())]),
    "P(improvement) near 0.9, score": improvement(score, 1.8),
    "P(improvement) near 0.9, bootstrap": improvement(
        partial(rejected.improvement, reps=RESAMPLES), 1.8
    ),
    "performance profile, Wilson": Kind(profile, lambda x, _: s.performance_profile(x, LEVELS)),
    "performance profile, bootstrap": Kind(
        resampled_profile, lambda x, _: s.performance_profile(x, LEVELS)
    ),
}
"""Ways to make the same interval."""


def of_scores(kinds: Mapping[str, Kind], name: str, law: str, tasks: int) -> Case:
    """A kind of interval for one population."""
    kind, x = kinds[name], over_tasks(POPULATIONS[law], tasks)
    y = [population - kind.gap * population.std() for population in x]

    def trial(rng: np.random.Generator, n: int) -> Iterable[Interval]:
        first = [rng.choice(population, n) for population in x]
        second = [rng.choice(population, n) for population in y]
        return kind.trial(rng, first, second)

    return Case(name, law, tasks, trial, tuple(float(value) for value in kind.truth(x, y)))


def cases() -> list[Case]:
    """Every interval that the report draws."""
    rows = [
        of_scores(KINDS, name, law, tasks)
        for name in KINDS
        for tasks in (1, len(TASKS))
        for law in POPULATIONS
        if name not in (SEVERAL_ONLY if tasks == 1 else SINGLE_ONLY)
    ]
    for which, kind in enumerate(("median steps to threshold", "restricted mean of steps")):
        for law, times in ARRIVALS.items():
            trial = partial(arrival, times=times, which=which)
            rows.append(Case(kind, law, 1, trial, (arrival_truth(times)[which],)))
    for share in (0.05, 0.2, 0.5):
        for shares in ([share], [0.2 * share, share, share, 1.8 * share]):
            trial = partial(rate, shares=shares)
            rows.append(Case("rate", f"{share:.0%}", len(shares), trial, (share,)))
    return rows


def others() -> list[Case]:
    """Other ways to make an interval, on one task."""
    return [of_scores(OTHERS, name, law, 1) for name in OTHERS for law in POPULATIONS]


def measure(case: Case, n: int, reps: int, *, salt: int = 0) -> tuple[float, float]:
    """Share of intervals that hold the truth, and their median width; a `salt` draws anew."""
    name = f"{case.kind}/{case.scores}/{case.tasks}"
    rng = np.random.default_rng([SEED, n, zlib.crc32(name.encode()), salt])
    found = [list(case.trial(rng, n)) for _ in range(reps)]
    ends = np.array([[(i.low, i.high) for i in study] for study in found], dtype=np.float64)
    low, high = ends[..., 0], ends[..., 1]
    with np.errstate(invalid="ignore"):
        width = np.nanmedian(np.where(np.isinf(high), np.inf, high - low))
    return float(np.mean((low <= case.truth) & (case.truth <= high))), float(width)


class Row(NamedTuple):
    """A measured case: (coverage, median width) at each number of `SEEDS`."""

    kind: str
    scores: str
    tasks: int
    found: tuple[tuple[float, float], ...]


def rows_of(found: Sequence[Case], reps: int) -> list[Row]:
    """All cases at all numbers of seeds, on all cores."""
    jobs = [(i, n) for i in range(len(found)) for n in SEEDS]
    done = in_parallel(lambda job: measure(found[job[0]], job[1], reps), jobs)
    width = len(SEEDS)
    return [
        Row(case.kind, case.scores, case.tasks, tuple(done[width * i : width * (i + 1)]))
        for i, case in enumerate(found)
    ]


def numbers(rows: Iterable[Row]) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Coverage by kind, one or several tasks, and scores, at each number of `SEEDS`."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for row in rows:
        sizes = found.setdefault(row.kind, {})
        laws = sizes.setdefault("single" if row.tasks == 1 else "several", {})
        laws[row.scores] = [round(share, 3) for share, _ in row.found]
    return found


def coverage_table(rows: Iterable[Row]) -> list[str]:
    """Coverage in percent; what falls short of `ENOUGH` from ten seeds on is in bold."""
    lines = [f"| interval | scores | tasks | {_seeds()} |", "|---|---|---|" + "---|" * len(SEEDS)]
    for row in rows:
        shown = [
            f"**{share:.0%}**" if n >= s.FEW_RUNS and share < ENOUGH else f"{share:.0%}"
            for n, (share, _) in zip(SEEDS, row.found, strict=True)
        ]
        lines.append(f"| {row.kind} | {row.scores} | {row.tasks} | {' | '.join(shown)} |")
    return lines


def width_table(rows: Sequence[Row]) -> list[str]:
    """Coverage in percent, and width relative to the first of the ways with the same name."""
    lines = [f"| interval | scores | {_seeds()} |", "|---|---|" + "---|" * len(SEEDS)]
    first: dict[tuple[str, str], Row] = {}
    for row in rows:
        base = first.setdefault((row.kind.split(",")[0], row.scores), row)
        shown = [
            f"{share:.0%} ({_relative(width, usual)})"
            for (share, width), (_, usual) in zip(row.found, base.found, strict=True)
        ]
        lines.append(f"| {row.kind} | {row.scores} | {' | '.join(shown)} |")
    return lines


def _relative(width: float, usual: float) -> str:
    return f"{width / usual:.2f}" if usual > 0 else "-"


def _seeds() -> str:
    return " | ".join(f"{n} seeds" for n in SEEDS)


INTRODUCTION = """\
# What intervals cover, and what verdicts are worth

Made by `python -m benchmarks.coverage`: {reps:,} simulated studies a cell (standard error {error:.1%} at
95%), {resamples:,} resamples; {studies:,} a line of the verdicts. `docs/statistics.md` says what it means.

Scores: *normal*; *bimodal*, 80% at 0.9 and 20% collapsed at 0.1; *heavy*, Student's t with 3 degrees;
*skewed*, lognormal with sigma 1. Four tasks differ in scale and level. Steps to a threshold: all arrive
(normal), a fifth never does (bimodal), one in nine is cut off (skewed).

## Every interval of the report, nominal 95%

Bold: less than {enough:.0%} at ten seeds or more.
"""


def main() -> None:
    """Measure, and write the page and the numbers that the report quotes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reps", type=int, default=400, help="simulated studies a cell")
    parser.add_argument("--studies", type=int, default=150, help="studies a line of the verdicts")
    parser.add_argument("--print", action="store_true", help="write no files")
    options = parser.parse_args()
    rows = rows_of(cases(), options.reps)
    page = [
        INTRODUCTION.format(
            reps=options.reps,
            error=(NOMINAL * (1 - NOMINAL) / options.reps) ** 0.5,
            resamples=RESAMPLES,
            studies=options.studies,
            enough=ENOUGH,
        ),
        *coverage_table(rows),
        "\n## Other ways to make them\n\nIn brackets the median width, relative to the first of its kind.\n",
        *width_table(rows_of(others(), options.reps)),
        *verdicts.tables(options.studies),
    ]
    print("\n".join(page))
    if not options.print:
        write_bytes(NUMBERS, (json.dumps(numbers(rows), indent=1) + "\n").encode())
        write_bytes(PAGE, ("\n".join(page) + "\n").encode())


if __name__ == "__main__":
    main()
