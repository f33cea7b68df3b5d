"""Runs and cells as the report knows them, whatever they were read from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vfcompare.report.reading.files import Array
from vfcompare.schema.untrusted import setting

STATUSES = (
    "completed",
    "diverged",
    "crashed",
    "interrupted",
    "running",
    "lost",
    "missing",
    "damaged",
    "short",
    "late",
)
"""What can become of a planned run.

`lost`: its files say running, but `vfcompare status` finds that it is not. `short`: says completed, but ends
before the others do. `late`: completed, but its first evaluation after an update lies long after the
compared range.
"""


@dataclass(frozen=True)
class Run:
    """One seed of one cell.

    Attributes:
      seed: the training seed.
      status: one of `STATUSES`.
      reason: why, where it is not completed.
      steps: `[points]` environment steps at which policies were evaluated, increasing.
      sampled: `[points]` mean return of sampled actions, finite up to a failure; the last evaluation where
        one policy has several.
      greedy: `[points]` mean return of greedy actions, NaN where not measured.
      split: `[points]` half of what one half of the sampled episodes returned more than the other, NaN where
        not measured.
      failed_at: environment step of the failure, or None where that is not known.
      clocks: `[points]` of what else had passed at each evaluation: `updates`, `episodes`.
      measured: steps, sampled and greedy returns `[evaluations]`, also where one policy has several.
      outside: whether it crashed for a reason that is not the agent's, as a full disk.
    """

    seed: int
    status: str
    reason: str = ""
    steps: Array = field(default_factory=lambda: np.zeros(0))
    sampled: Array = field(default_factory=lambda: np.zeros(0))
    greedy: Array = field(default_factory=lambda: np.zeros(0))
    failed_at: float | None = None
    clocks: Mapping[str, Array] = field(default_factory=dict)
    outside: bool = False
    measured: tuple[Array, Array, Array] | None = None
    split: Array | None = None

    @property
    def evaluations(self) -> tuple[Array, Array, Array]:
        """Steps, sampled and greedy returns of each evaluation."""
        return self.measured or (self.steps, self.sampled, self.greedy)


class Names(NamedTuple):
    """What the files of a study call a cell."""

    agent: str
    env: str
    arm: str
    task: str


@dataclass(frozen=True)
class Cell:
    """One agent on one environment with one setting, and all its seeds.

    Attributes:
      id: name of its folder, as data.
      agent: name of the agent.
      env: name of the environment.
      settings: other overrides, value by dotted path.
      study: name of its study.
      arm: label of what is compared: the agent and its settings where they vary.
      task: label of what it is compared on: the environment and its settings where they vary.
      chosen: the agent's settings that vary in the study, by short name.
      posed: the environment's settings that vary, by short name.
      family: one of those of `vfcompare.schema.families`.
      planned: whether the plan lists it.
      runs: one for each planned seed.
      info: run.json, as data.
      certificate: certificate.json, or None.
      reference: known returns: random, optimal, threshold.
      budget: environment steps that every seed was to take, or None where it is not recorded.
      diagnostics: median over seeds of each training metric's median over the last tenth of a seed's own
        updates.
      gradient_steps: gradient steps in one update, on average, or None where that is not recorded.
      problems: what was wrong with its files.
      pictures: file of episodes, see `vfcompare.runs.pictures`, or None; large, and read where it is drawn.
      config: config.yaml, as data.
      protocol: how long it trains and how often it is evaluated, as far as that is known.
      trained: the diagnostics of each seed.
      parts: where seeds were added later, the planned cells that were joined into it, each with the runs
        that count; see `vfcompare.report.reading.seeds`.
      disputed: seeds that several of these trained, and that ended differently.
      original: what the files call it, where a reader is shown other names, see
        `vfcompare.report.reading.renaming`.
      lab: what the lab measured at the last evaluation of each completed seed.
      maps: what the lab laid over the squares of a maze, see `vfcompare.oracle.maps`.
    """

    id: str
    agent: str
    env: str
    settings: Mapping[str, str]
    family: str
    planned: bool
    runs: tuple[Run, ...]
    info: Mapping[str, Any]
    certificate: Mapping[str, Any] | None
    reference: Mapping[str, float | None]
    budget: float | None
    diagnostics: Mapping[str, float]
    problems: tuple[str, ...]
    study: str = ""
    arm: str = ""
    task: str = ""
    chosen: Mapping[str, str] = field(default_factory=dict)
    posed: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    lab: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    maps: Mapping[str, Array] = field(default_factory=dict)
    gradient_steps: float | None = None
    pictures: Path | None = None
    protocol: Mapping[str, str] = field(default_factory=dict)
    trained: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    parts: "tuple[Cell, ...]" = ()
    disputed: tuple[int, ...] = ()
    original: Names | None = None

    @property
    def names(self) -> Names:
        """What the files of the study call it, whatever a reader is shown."""
        return self.original or Names(self.agent, self.env, self.arm, self.task)

    @property
    def completed(self) -> list[Run]:
        """Its runs that completed and were evaluated."""
        return [run for run in self.runs if run.status == "completed" and run.steps.size]

    @property
    def told(self) -> tuple[bool, bool, bool]:
        """How much its `family` rests on: on its configuration, its certificate, what its training logged."""
        return bool(self.config), bool(self.certificate), bool(self.trained)

    @property
    def folders(self) -> "tuple[Cell, ...]":
        """The cells of which each has a folder."""
        return self.parts or (self,)


def own_code(info: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """SHA-256 of the user's own modules, by module: of a run's last attempt, and of its first if another.

    Args:
      info: run.json, as data.
    """
    first = info.get("begun_with")
    found: dict[str, dict[str, None]] = {}
    for code in (info, first if isinstance(first, Mapping) else {}):
        own = code.get("own")
        for module, digest in own.items() if isinstance(own, Mapping) else ():
            found.setdefault(str(module), {})[str(digest)] = None
    return {module: tuple(digests) for module, digests in found.items()}


def held_still(config: Mapping[str, Any]) -> bool:
    """Whether a policy was to stay as it was initialised: the warm-up is the whole budget."""
    return setting(config, "agent.warmup") == 1
