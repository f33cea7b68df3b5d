"""What the lab measured of each agent in each setting, and which baseline of the theory an agent has.

A *setting* is an environment, a policy and a batch; agents that share one are compared by seed. Everything
is read from the files of the runs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from vfcompare import statistics
from vfcompare.report.analysis import Arm, partners, resampling
from vfcompare.report.analysis.resampling import generator
from vfcompare.report.chains import damaged, plain_baseline
from vfcompare.report.reading.cells import Cell, Names, held_still
from vfcompare.report.reading.data import Study
from vfcompare.report.reading.labels import short_names, short_values, varying
from vfcompare.schema.families import CRITIC, OUTCOME_ONLY
from vfcompare.schema.tree import finite
from vfcompare.schema.untrusted import part, setting, tree
from vfcompare.statistics import Interval

MEDIANS = frozenset({"episodes_to_cosine"})
"""Metrics that are infinite for some seeds: their median and its interval may be, a mean may not."""

RELATIVE = "relative_variance"
"""Of one episode's gradient, relative to the squared true gradient: the inverse of signal to noise."""

OWN = ("agent.estimator.", "agent.critic", "agent.optimizer", "agent.batching", "agent.surrogate")
"""Settings of how an agent estimates and learns; all others make the setting that agents share."""


@dataclass(frozen=True)
class Subject:
    """One agent in one setting.

    Attributes:
      agent: its name.
      env: the environment's name.
      settings: what varies in the study beside agent and environment, `short name: value`.
      shared: those of them that are not the agent's own, as a key.
      config: resolved, as data.
      lab: what was measured, by seed.
      own: what varies and is the agent's own, as a key.
      original: what the files call it, where a reader is shown other names.
    """

    agent: str
    env: str
    settings: Mapping[str, str]
    shared: tuple[Any, ...]
    config: Mapping[str, Any]
    lab: Mapping[int, Mapping[str, float]]
    own: tuple[Any, ...] = ()
    original: Names | None = None

    @property
    def setting(self) -> str:
        """Environment and settings, in words."""
        return self._on(self.env)

    @property
    def key(self) -> str:
        """Agent and setting, as the files call them: the streams of its intervals are named by that."""
        return f"{self.preset} on {self._on(self.original.env)}" if self.original else self.name

    @property
    def preset(self) -> str:
        """What the files call its agent."""
        return self.original.agent if self.original else self.agent

    def _on(self, env: str) -> str:
        shown = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{env} {shown}" if shown else env

    @property
    def name(self) -> str:
        """Agent and setting, in words."""
        return f"{self.agent} on {self.setting}"

    def values(self, metric: str) -> dict[int, float]:
        """By seed, without seeds for which it is not defined."""
        found = {seed: row[metric] for seed, row in self.lab.items() if metric in row}
        return {seed: value for seed, value in found.items() if not np.isnan(value)}

    def at(self, path: str) -> str | float | bool | None:
        """A value of the configuration, `agent.policy.success`; None where there is none."""
        return setting(self.config, path)

    def part(self, path: str) -> str:
        """Name of the function or class that stands there, without its package."""
        return part(self.config, path)


@dataclass(frozen=True)
class Findings:
    """All that the lab measured in a study.

    Attributes:
      subjects: in the order of the plan.
    """

    subjects: tuple[Subject, ...]

    @cached_property
    def references(self) -> dict[tuple[Any, ...], Subject]:
        """The agent with the exact value of the start as its baseline, by what subjects share."""
        found = [item for item in self.subjects if kind(item) == "start"]
        return {item.shared: item for item in reversed(found)}

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The agents; those that read values, learned or exact, are drawn as critics."""
        readers = {item.agent for item in self.subjects if item.values("value_rmse")}
        found = {item.agent: item.original for item in self.subjects}
        return tuple(
            Arm(
                name,
                name,
                CRITIC if name in readers else OUTCOME_ONLY,
                original=original and original._replace(arm=original.agent),
            )
            for name, original in found.items()
        )

    @property
    def still(self) -> bool:
        """Whether no policy learned, so that the returns of the agents say nothing about them."""
        return all(held_still(item.config) for item in self.subjects)

    def relative(self, item: Subject) -> Interval | None:
        """Variance of the gradient relative to that of the reference, seeds paired."""
        reference = self.references.get(item.shared)
        return None if reference is None else ratio(item, reference, "gradient_variance")


def find(study: Study) -> Findings:
    """What the planned runs of a study have of the lab; nothing where it was not switched on."""
    cells = [cell for cell in study.cells if cell.planned and cell.lab]
    brief, values = short_names(varying(cells)), short_values(cells)
    found = [_subject(cell, brief, values) for cell in cells]
    order = list(dict.fromkeys(item.setting for item in found))
    return Findings(tuple(sorted(found, key=lambda item: order.index(item.setting))))


def _subject(
    cell: Cell, brief: Mapping[str, str], values: Mapping[tuple[str, str], str]
) -> Subject:
    found = {key: cell.settings[key].strip("{}") for key in brief if key in cell.settings}
    shared = tuple((key, v) for key, v in sorted(found.items()) if not key.startswith(OWN))
    own = tuple((key, v) for key, v in sorted(found.items()) if key.startswith(OWN))
    settings = {brief[key]: _brief(values.get((key, value), value)) for key, value in found.items()}
    lab = {
        seed: {**row, RELATIVE: 1.0 / row["gradient_snr"]} if row.get("gradient_snr") else row
        for seed, row in cell.lab.items()
    }
    return Subject(
        cell.agent, cell.env, settings, (cell.env, *shared), cell.config, lab, own, cell.original
    )


def _brief(value: str) -> str:
    """A number of many digits, by the first three."""
    if len(value) <= 6:
        return value
    try:
        return f"{float(value):.3g}"
    except ValueError:
        return value


def measure(item: Subject, metric: str) -> Interval | None:
    """Mean over seeds, or median of `MEDIANS`, with a 95% bootstrap interval."""
    values = np.array(list(item.values(metric).values()))
    middle = np.median if metric in MEDIANS else np.mean
    if not values.size or (metric not in MEDIANS and not np.isfinite(values).all()):
        return None
    return _resampled(f"{metric}/{item.key}", len(values), lambda i: middle(values[i], axis=-1))


def ratio(item: Subject, other: Subject, metric: str) -> Interval | None:
    """`mean x / mean y` over the seeds of both, pairs kept when they are resampled."""
    x, y = item.values(metric), other.values(metric)
    pairs = [(x[mine], y[theirs]) for mine, theirs in partners(x, y)]
    top, bottom = np.array(pairs).reshape(-1, 2).T
    if not len(pairs) or not np.isfinite(pairs).all() or bottom.min() <= 0:
        return None
    name = f"{metric}/{item.key}/{other.preset}"
    return _resampled(name, len(pairs), lambda i: top[i].mean(-1) / bottom[i].mean(-1))


def mean_of(name: str, values: npt.ArrayLike) -> Interval:
    """Mean of one number a seed, with a 95% bootstrap interval."""
    found = np.asarray(values, dtype=np.float64)
    return _resampled(name, len(found), lambda i: found[i].mean(-1))


def _resampled(name: str, n: int, statistic: Callable[[Any], Any]) -> Interval:
    """Bootstrap of a statistic of the rows that are drawn: rows stay whole, and may be infinite."""
    return statistics.bootstrap(
        generator(f"lab/{name}"),
        [np.arange(n, dtype=np.float64)],
        lambda rows: np.asarray(statistic(rows[0].astype(int))),
        reps=resampling.REPS,
    )


def kind(item: Subject) -> str | None:
    """Which baseline of `vfcompare.oracle.theory` the estimator has, or None if it is another one.

    `none`, `group` (mean of the other rollouts), `start` (exact V of the start), `state` (exact V of the
    state, λ = 1) or `td` (λ = 0).
    """
    estimator, advantage = item.part("agent.estimator"), "agent.estimator.advantage"
    if estimator == "value_free":
        return plain_baseline(item.config)
    if estimator != "exact" or item.at("agent.estimator.sharpness") != 1:
        return None
    if damaged(item.config, "agent.estimator.lesion"):
        return None
    if item.part(advantage) == "above_start":
        return "start"
    decay = finite(item.at(f"{advantage}.lambda_"))
    return None if decay is None else {1.0: "state", 0.0: "td"}.get(decay)


def plain_kind(item: Subject) -> str | None:
    """`kind`, whatever was done to the values."""
    estimator = {**tree(item.config, "agent.estimator"), "lesion": {"_target_": "none"}}
    agent = {**tree(item.config, "agent"), "estimator": estimator}
    return kind(replace(item, config={**item.config, "agent": agent}))


def error(item: Subject, lesion: str, size: str) -> float | None:
    """Size of an error of this kind, None where it is of another."""
    if item.part("agent.estimator.lesion") != lesion:
        return None
    return finite(item.at(f"agent.estimator.lesion.{size}"))
