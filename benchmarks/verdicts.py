"""How often the report's verdicts are wrong, and how often they find what is there.

Part of `python -m benchmarks.coverage`. Studies are made of scores from known populations and go
through `vfcompare.report.analysis.analyse` as files would.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple
from unittest import mock

import numpy as np
from scipy import stats

from benchmarks.populations import NORMAL, POPULATIONS, SEED, in_parallel
from vfcompare import statistics as s
from vfcompare.report import analysis
from vfcompare.report.reading import data
from vfcompare.report.reading.cells import Cell, Run
from vfcompare.schema.families import CRITIC, OUTCOME_ONLY
from vfcompare.statistics import Array

LEVEL = 0.05
CRITICS = frozenset("bde")
REPS, PAIR_REPS = 20, 2048
"""Fewer than the report's: of what no verdict depends on, and of what all of them do."""

Count = Callable[[analysis.Results], bool]


class Arena(NamedTuple):
    """A study made of known scores, and which of its verdicts are counted.

    Attributes:
      name: of the study.
      scores: the population of the scores.
      seeds: of each agent.
      agents: population of each; those from `CRITICS` count as critics.
      counts: what is counted, by name.
      tasks: how many, all alike.
      stated: how often it should happen.
      asked: whether critics against others is the question; else there are pairs alone.
      episodes: of one evaluation, each of which passes or does not; None where evaluations are exact but for
        a little noise.
    """

    name: str
    scores: str
    seeds: int
    agents: Mapping[str, Array]
    counts: Mapping[str, Count]
    tasks: int = 1
    stated: float = LEVEL
    asked: bool = True
    episodes: int | None = None


STEPS = np.linspace(0.0, 1000.0, 11)
RISE = 1.0 - np.exp(-STEPS / 300.0)
AREA = s.area_under_curve(STEPS, RISE, 0.0, 1000.0)
"""Every run rises to its score by the same law, so that its area is its score times this."""
NOISE = 0.01
AREA_NOISE = NOISE * float(
    np.linalg.norm([s.area_under_curve(STEPS, one, 0.0, 1000.0) for one in np.eye(len(STEPS))])
)
"""Standard deviation of an evaluation, and of the area under a curve."""


def evaluated(rng: np.random.Generator, curves: Array, episodes: int | None) -> tuple[Array, Array]:
    """Mean returns of evaluations, and their splits."""
    if episodes is None:
        noise, split = NOISE * rng.standard_normal((2, *curves.shape))
        return curves + noise, split
    first, last = rng.binomial(episodes // 2, curves, (2, *curves.shape)) / (episodes // 2)
    return (first + last) / 2, (first - last) / 2


def cell(
    rng: np.random.Generator,
    agent: str,
    critic: bool,
    task: int,
    values: Array,
    episodes: int | None,
) -> Cell:
    """One agent on one task, a run for each score; evaluations are noisy."""
    unknown = np.full(len(STEPS), np.nan)
    found = zip(*evaluated(rng, values[:, None] * RISE, episodes), strict=True)
    runs = tuple(
        Run(i, "completed", steps=STEPS, sampled=curve, greedy=unknown, split=split)
        for i, (curve, split) in enumerate(found)
    )
    return Cell(
        id=f"{agent}-{task}",
        agent=agent,
        env=f"task {task}",
        settings={},
        family=CRITIC if critic else OUTCOME_ONLY,
        planned=True,
        runs=runs,
        info={},
        certificate=None,
        reference={"random": 0.0, "optimal": 1.0, "threshold": None},
        budget=float(STEPS[-1]),
        diagnostics={},
        problems=(),
        arm=agent,
        task=f"task {task}",
    )


def study(rng: np.random.Generator, arena: Arena) -> data.Study:
    """Its runs, all completed."""
    cells = tuple(
        cell(
            rng,
            name,
            name in CRITICS,
            task,
            rng.choice(population, arena.seeds),
            arena.episodes,
        )
        for task in range(arena.tasks)
        for name, population in arena.agents.items()
    )
    return data.Study("arena", "", True, "", cells, (), contrast=None if arena.asked else ((), ()))


def fight(arena: Arena, reps: int) -> tuple[int, ...]:
    """In how many of `reps` studies each counted claim is made."""
    name = f"{arena.name}/{arena.scores}/{arena.seeds}"
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    with mock.patch.multiple(analysis.resampling, REPS=REPS, PAIR_REPS=PAIR_REPS):
        found = [analysis.analyse(study(rng, arena)) for _ in range(reps)]
    return tuple(sum(map(count, found)) for count in arena.counts.values())


def by_pairs(results: analysis.Results) -> bool:
    """Whether any pair of agents is told apart by the area under their curves."""
    return any(contrast.better for contrast in results.pairs["auc"])


def by_pairs_apart(results: analysis.Results) -> bool:
    """Whether any pair is told apart by the area under the curve on any one environment."""
    return any(contrast.better for contrast in results.pairs_by_task["auc"])


def by_family(results: analysis.Results) -> bool:
    """Whether critics are told from outcome-only agents on any of the four metrics."""
    return any(contrast.better for contrast in results.family.values())


def anywhere(results: analysis.Results) -> bool:
    """Whether the report claims any difference at all."""
    contrasts = [
        *results.family.values(),
        *(contrast for by_task in results.by_task.values() for contrast in by_task.values()),
        *(contrast for pairs in results.pairs.values() for contrast in pairs),
        *(contrast for pairs in results.pairs_by_task.values() for contrast in pairs),
    ]
    return any(c.better for c in contrasts) or any(i.decided for i in results.improvement)


def null_arenas() -> list[Arena]:
    """Nothing to find: what is claimed is wrong."""
    pair: dict[str, Count] = {"the pair": by_pairs}
    every: dict[str, Count] = {
        "any pair": by_pairs,
        "critics against others": by_family,
        "anything in the report *": anywhere,
    }
    apart: dict[str, Count] = {"any pair on any task": by_pairs_apart}
    two = [
        Arena("two agents alike", law, n, dict.fromkeys("ab", p), pair, asked=False)
        for law, p in POPULATIONS.items()
        for n in (10, 20)
    ]
    five = [
        Arena("five agents alike, two tasks", law, 10, dict.fromkeys("abcde", p), every | apart, 2)
        for law, p in POPULATIONS.items()
    ]
    lone = [
        Arena("one critic, three others alike", law, 10, dict.fromkeys("abcf", p), every)
        for law, p in POPULATIONS.items()
    ]
    return [*two, *five, *lone]


def unlike_arenas() -> list[Arena]:
    """Equal means, but the scores of one agent hardly vary: the sign-flip test promises nothing."""
    return [
        Arena(
            "equal means, one agent steady",
            law,
            n,
            {"a": p, "b": p.mean() + 0.01 * NORMAL},
            {"the pair": by_pairs},
            asked=False,
        )
        for law, p in POPULATIONS.items()
        if law in ("bimodal", "skewed")
        for n in (10, 20, 30)
    ]


def steady_arenas() -> list[Arena]:
    """Agents that end at different heights, and never fall: neither is the more stable."""
    return [
        Arena(
            f"one ends at {one}, one at {other}",
            f"evaluations of {episodes} episodes",
            20,
            {"a": np.array([one]), "b": np.array([other])},
            {"Stability": by_stability},
            episodes=episodes,
        )
        for one, other in ((0.5, 0.95), (0.2, 0.95), (0.2, 0.5))
        for episodes in (32, 256)
    ]


def by_stability(results: analysis.Results) -> bool:
    """Whether one is said to fall less."""
    return results.family["drawdown"].better is not None


def planted_arenas() -> list[Arena]:
    """A difference is there, as large as `minimum_detectable_effect` or half of that."""
    arenas = []
    for law in ("normal", "bimodal"):
        p = POPULATIONS[law]
        spread = float(np.sqrt(2 * (p.var() * AREA**2 + AREA_NOISE**2)))
        for n in (6, 10, 20):
            least = s.minimum_detectable_effect(spread, n)
            for name, effect in (("the least detectable", least), ("half of it", least / 2)):
                agents = {"a": p, "b": p + effect / AREA}
                stated, better = s.power(effect, spread, n), {"b is better": right}
                arenas.append(Arena(name, law, n, agents, better, 1, stated, asked=False))
    return arenas


def right(results: analysis.Results) -> bool:
    """Whether `b` is found to be better."""
    return results.pairs["auc"][0].better == "b"


def tables(reps: int) -> list[str]:
    """Wrong claims and found differences, as Markdown."""
    bound = most_by_chance(reps)
    return [
        "\n## Claims where there is nothing to find\n",
        f"Each family of tests may claim a difference in {LEVEL:.0%} of studies; it then exceeds",
        f"{bound / reps:.1%} of {reps} once in a thousand times. Lines with * count all families together.\n",
        *_table(null_arenas(), reps),
        "\n## Claims where means are equal and agents are not alike\n",
        *_table(unlike_arenas(), reps),
        "\n## Claims of stability where nobody falls\n",
        *_table(steady_arenas(), reps),
        "\n## Planted differences that are found\n",
        *_table(planted_arenas(), reps, stated=True),
    ]


def most_by_chance(reps: int) -> int:
    """So many of `reps` are exceeded once in a thousand times."""
    return int(stats.binom.ppf(0.999, reps, LEVEL))


def _table(arenas: list[Arena], reps: int, *, stated: bool = False) -> list[str]:
    found = in_parallel(lambda i: fight(arenas[i], reps), range(len(arenas)))
    columns = ["study", "scores", "seeds", "claim", *["stated"] * stated, "measured"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for arena, counted in zip(arenas, found, strict=True):
        promise = [f"{arena.stated:.0%}"] * stated
        for claim, count in zip(arena.counts, counted, strict=True):
            row = [
                arena.name,
                arena.scores,
                str(arena.seeds),
                claim,
                *promise,
                f"{count / reps:.1%}",
            ]
            lines.append(f"| {' | '.join(row)} |")
    return lines
