"""What is compared, and which of it a page has room for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vfcompare import statistics
from vfcompare.report.reading.cells import Names
from vfcompare.report.reading.data import Study
from vfcompare.report.reading.seeds import plain
from vfcompare.report.scoring import Task, column
from vfcompare.schema import families

ROWS = 45
"""Most arms that get a row of their own in a figure or a printed table."""
LINES = 8
"""Most arms that get a colour of their own; beyond, the leading ones of each family do."""
LEADERS = 3
"""Leading arms of a family that get a colour where there are more than `LINES`."""


@dataclass(frozen=True)
class Arm:
    """One of the things compared.

    Attributes:
      name: label, unique in the study.
      agent: name of the agent.
      family: one of those of `vfcompare.schema.families`.
      settings: those of its own that vary in the study, by short name.
      original: what the files call it, where a reader is shown other names.
    """

    name: str
    agent: str
    family: str
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)
    original: Names | None = None

    @property
    def preset(self) -> str:
        """What the files call its agent: what it is, and how it is drawn, go by that."""
        return self.original.agent if self.original else self.agent

    @property
    def key(self) -> str:
        """What the files call it: the streams of its intervals are named by that."""
        return self.original.arm if self.original else self.name

    @property
    def critic(self) -> bool:
        """Whether it learns a value function, and reads it."""
        return self.family == families.CRITIC

    @property
    def tuned(self) -> Mapping[str, str]:
        """Its settings without those of its seeds: arms that agree in these differ by their seeds alone."""
        return plain(self.settings)

    @property
    def identity(self) -> tuple[object, ...]:
        """Its agent and its settings without seeds: arms that agree in it are one, with more seeds."""
        return self.agent, *self.tuned.items()


@dataclass(frozen=True)
class Sides:
    """The two sides of the question, by default agents with a learned critic and outcome-only ones.

    Attributes:
      first: arms of the one.
      second: arms of the other; their mean is subtracted from the first's.
      names: what the two are called.
      keys: what the files of the study call them.
      chosen: whether the study named its agents.
    """

    first: tuple[Arm, ...]
    second: tuple[Arm, ...]
    names: tuple[str, str]
    keys: tuple[str, str]
    chosen: bool = False

    @property
    def both(self) -> tuple[tuple[Arm, ...], tuple[Arm, ...]]:
        """The arms of the one and of the other."""
        return self.first, self.second

    @property
    def pair(self) -> frozenset[str]:
        """Names of the two arms where each side is one, and the question about this pair; else none."""
        names = frozenset(arm.name for arm in (*self.first, *self.second))
        return names if len(self.first) == len(self.second) == 1 else frozenset()

    @property
    def minus(self) -> str:
        """What the difference is."""
        return f"{self.names[0]} minus {self.names[1]}"

    @property
    def better(self) -> tuple[str, str]:
        """What a difference above and below zero means."""
        return f"{self.names[0]} better", f"{self.names[1]} better"

    @property
    def title(self) -> str:
        """Heading of what is said about the two."""
        names = " against ".join(self.names)
        return names if self.chosen else "With and without a critic"


@dataclass(frozen=True)
class Shown:
    """Which arms are drawn, since no page can hold a thousand of them.

    Attributes:
      rows: arms with a row of their own.
      lines: arms with a colour of their own.
      compared: arms that are compared with each other; of each agent the best setting, where there are many.
      names: what they are called in figures; the tables have the full names.
      picked: of each agent with more settings than are drawn, its number of settings.
      left: number of arms that are not drawn.
    """

    rows: tuple[Arm, ...]
    lines: tuple[Arm, ...]
    compared: tuple[Arm, ...]
    names: Mapping[str, str]
    picked: Mapping[str, int]
    left: int


def arms_of(study: Study) -> tuple[Arm, ...]:
    """The arms of a study, those without a learned critic first."""
    cells = [cell for cell in study.cells if cell.planned]
    # What a cell that has not begun reads is a guess from its name, or from names of the user's own parts.
    reads = {cell.arm: cell.family for cell in sorted(cells, key=lambda cell: cell.told)}
    found = {c.arm: Arm(c.arm, c.agent, reads[c.arm], c.chosen, c.original) for c in cells}
    return tuple(sorted(found.values(), key=lambda arm: arm.critic))


def sides_of(study: Study, arms: Sequence[Arm]) -> Sides:
    """The two sides that a study has decided to compare; one of them may have no arm.

    They are called by those of their agents that were planned.
    """
    if study.contrast is None:
        first, second = (
            tuple(arm for arm in arms if arm.family == name) for name in families.SIDES
        )
        return Sides(first, second, families.SIDES, families.SIDES)
    first, second = (
        tuple(arm for arm in arms if {arm.preset, arm.family} & {*side}) for side in study.contrast
    )
    shown = {arm.family: arm.family for arm in arms} | {arm.preset: arm.agent for arm in arms}
    one, other = ([name for name in side if name in shown] or [*side] for side in study.contrast)
    keys = " + ".join(one), " + ".join(other)
    names = tuple(" + ".join(shown.get(name, name) for name in side) for side in (one, other))
    return Sides(first, second, (names[0], names[1]), keys, chosen=True)


def settings_in(arms: Iterable[Arm]) -> int:
    """How many settings these have; arms that differ in their seeds alone are one."""
    return len({frozenset(arm.tuned.items()) for arm in arms})


def pooled(tasks: Sequence[Task]) -> list[Task]:
    """Tasks on a common scale: the normalised ones, or a single task on its own scale."""
    scored = [task for task in tasks if not task.empty]
    return [task for task in scored if task.normalised] or (scored if len(scored) == 1 else [])


def standing(found: Sequence[Arm], tasks: Sequence[Task]) -> dict[str, float]:
    """How good an arm is, for choosing what is drawn: IQM of its area under the curve over the pool.

    Where there is no common scale, its mean rank within tasks. An arm that lacks a task stands below all
    that do not, for an average over other tasks is another number.
    """
    pool = pooled(tasks)
    over = pool or [task for task in tasks if not task.empty]
    columns = {
        arm.name: [np.array(list(column(task, arm.name, "auc").values())) for task in over]
        for arm in found
    }
    complete = {
        name: bool(over) and all(s.size for s in scores) for name, scores in columns.items()
    }
    if pool:
        return {
            name: float(statistics.iqm(scores)) if complete[name] else -np.inf
            for name, scores in columns.items()
        }
    means = np.array(
        [[s.mean() if s.size else -np.inf for s in scores] for scores in columns.values()]
    ).reshape(len(columns), len(over))
    ranks = np.argsort(np.argsort(means, axis=0, kind="stable"), axis=0).sum(axis=1)
    return {
        name: float(rank) if complete[name] else -np.inf
        for name, rank in zip(columns, ranks, strict=True)
    }


def select(found: Sequence[Arm], place: Mapping[str, float]) -> Shown:
    """All arms where there are few; else the best and the median setting of each agent.

    Settings are chosen over all environments together, by their `standing`.
    """
    names = {arm.name: arm.name for arm in found}
    everyone = tuple(found)
    if len(found) <= LINES:
        return Shown(everyone, everyone, everyone, names, {}, 0)
    ranked = sorted(found, key=lambda arm: -place[arm.name])
    by_agent: dict[str, list[Arm]] = {}
    for arm in ranked:
        by_agent.setdefault(arm.agent, []).append(arm)
    bests = [group[0] for group in by_agent.values()]
    lines = [
        arm
        for critic in (False, True)
        for arm in [best for best in bests if best.critic == critic][:LEADERS]
    ]
    if len(found) <= ROWS:
        return Shown(tuple(ranked), tuple(lines), everyone, names, {}, 0)
    rows = []
    with_median = 2 * len(by_agent) <= ROWS
    for agent, group in by_agent.items():
        best, middle = group[0], group[len(group) // 2]
        several = settings_in(group) > 1
        names[best.name] = f"{agent}, best of {settings_in(group)}" if several else best.name
        rows.append(best)
        if several and with_median:
            names[middle.name] = f"{agent}, median"
            rows.append(middle)
    rows = sorted(rows, key=lambda arm: -place[arm.name])[:ROWS]
    numbers = {agent: settings_in(group) for agent, group in by_agent.items()}
    picked = {agent: number for agent, number in numbers.items() if number > 1}
    compared = sorted((arm for arm in bests if arm in rows), key=found.index)
    left = len(found) - len(rows)
    return Shown(tuple(rows), tuple(lines), tuple(compared), names, picked, left)
