"""Against the truth: what the oracle lab measured, as tables and figures, and what theory had predicted.

A *setting* is an environment, a policy and a batch; agents that share one are compared by seed. Everything
is read from the files of the runs; which prediction applies is read from their resolved configurations.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from vfcompare import statistics, theory
from vfcompare.report import analysis, figures
from vfcompare.report.analysis import Arm, generator, partners
from vfcompare.report.data import Cell, Study, number
from vfcompare.report.figures import FAINT, INK, MUTED, ROW, WIDTH, Look, Picture, looks, shorten
from vfcompare.report.sentences import Sentence, join
from vfcompare.report.tables import MINUS, Table, Value, show, show_float, show_interval
from vfcompare.statistics import Array, Interval

GRADIENT = {
    "gradient_bias": "bias",
    "gradient_variance": "variance",
    "gradient_snr": "signal to noise",
    "gradient_cosine": "cosine",
    "episodes_to_cosine": "episodes to cosine 0.9",
}
ADVANTAGE = {
    "advantage_bias": "bias",
    "advantage_variance": "variance",
    "signal_share": "groups with signal",
    "score_return_correlation": "corr(score², R)",
    "lab_return": "return",
}
VALUES = {
    "value_rmse": "RMSE",
    "value_explained": "explained",
    "value_bias": "bias",
    "value_slope": "slope",
    "rank_accuracy": "rank accuracy",
}
MEDIANS = frozenset({"episodes_to_cosine"})
"""Metrics that are infinite for some seeds: their median and its interval may be, a mean may not."""

RELATIVE = "relative_variance"
"""Of one episode's gradient, relative to the squared true gradient: the inverse of signal to noise."""

OWN = ("agent.estimator.", "agent.critic", "agent.optimizer", "agent.batching", "agent.surrogate")
"""Settings of how an agent estimates and learns; all others make the setting that agents share."""

ROUNDING = 1e-6
MAX_LENGTH = 100_000
MAX_PANELS = 9
PANEL_COLUMNS = 3


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
    """

    agent: str
    env: str
    settings: Mapping[str, str]
    shared: tuple[Any, ...]
    config: Mapping[str, Any]
    lab: Mapping[int, Mapping[str, float]]

    @property
    def setting(self) -> str:
        """Environment and settings, in words."""
        shown = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.env} {shown}" if shown else self.env

    @property
    def name(self) -> str:
        """Agent and setting, in words."""
        return f"{self.agent} on {self.setting}"

    def values(self, metric: str) -> dict[int, float]:
        """By seed, without seeds for which it is not defined."""
        found = {seed: row[metric] for seed, row in self.lab.items() if metric in row}
        return {seed: value for seed, value in found.items() if not np.isnan(value)}

    def at(self, path: str) -> Any:
        """An entry of the configuration, `agent.policy.success`; None where there is none."""
        found: Any = self.config
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found

    def part(self, path: str) -> str:
        """Name of the function or class that stands there, without its package."""
        return str(self.at(f"{path}._target_") or "").rpartition(".")[2]


@dataclass(frozen=True)
class Comparison:
    """One predicted number and the measured one.

    Attributes:
      subject: of whom.
      predicted: by the formula.
      measured: mean over seeds, or ratio of means.
    """

    subject: Subject
    predicted: float
    measured: Interval

    @property
    def verdict(self) -> str:
        """Whether the prediction lies in the interval, in words."""
        if not self.measured.sufficient:
            return "insufficient"
        if abs(self.measured.estimate - self.predicted) < ROUNDING:
            return "agrees"
        return "disagrees" if self.measured.excludes(self.predicted) else "agrees"

    @property
    def deviation(self) -> float:
        """`measured / predicted - 1`."""
        return self.measured.estimate / self.predicted - 1.0 if self.predicted else np.nan


@dataclass(frozen=True)
class Prediction:
    """Something that theory says about numbers the lab measures.

    Attributes:
      name: `P1` and so on.
      quantity: what is predicted, in few words.
      sentence: what is claimed.
      source: of the formula.
      rows: which runs it applies to, and what it says of each.
    """

    name: str
    quantity: str
    sentence: str
    source: str
    rows: Callable[["Findings"], Iterable[Comparison]]


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
    def comparisons(self) -> dict[str, tuple[Comparison, ...]]:
        """Predicted and measured numbers, by the prediction's name."""
        found = {prediction.name: tuple(prediction.rows(self)) for prediction in PREDICTIONS}
        return {name: rows for name, rows in found.items() if rows}

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The agents; those that read values, learned or exact, are drawn as critics."""
        readers = {item.agent for item in self.subjects if item.values("value_rmse")}
        names = dict.fromkeys(item.agent for item in self.subjects)
        return tuple(Arm(name, name, name in readers) for name in names)

    @property
    def still(self) -> bool:
        """Whether no policy learned, so that the returns of the agents say nothing about them."""
        return all(item.at("agent.freeze_policy") is True for item in self.subjects)

    def relative(self, item: Subject) -> Interval | None:
        """Variance of the gradient relative to that of the reference, seeds paired."""
        reference = self.references.get(item.shared)
        return None if reference is None else ratio(item, reference, "gradient_variance")


def find(study: Study) -> Findings:
    """What the planned runs of a study have of the lab; nothing where it was not switched on."""
    cells = [cell for cell in study.cells if cell.planned and cell.lab]
    varying = [
        key
        for key in dict.fromkeys(key for cell in cells for key in cell.settings)
        if len({cell.settings.get(key) for cell in cells}) > 1
    ]
    found = [_subject(cell, varying) for cell in cells]
    order = list(dict.fromkeys(item.setting for item in found))
    return Findings(tuple(sorted(found, key=lambda item: order.index(item.setting))))


def _subject(cell: Cell, varying: Sequence[str]) -> Subject:
    brief = {key: key.rpartition(".")[2].partition("@")[0] for key in varying}
    if len(set(brief.values())) < len(brief):
        brief = {key: key for key in varying}
    found = {key: cell.settings[key].strip("{}") for key in varying if key in cell.settings}
    shared = tuple((key, v) for key, v in sorted(found.items()) if not key.startswith(OWN))
    settings = {brief[key]: _brief(value) for key, value in found.items()}
    lab = {
        seed: {**row, RELATIVE: 1.0 / row["gradient_snr"]} if row.get("gradient_snr") else row
        for seed, row in cell.lab.items()
    }
    return Subject(cell.agent, cell.env, settings, (cell.env, *shared), cell.config, lab)


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
    return _resampled(f"{metric}/{item.name}", len(values), lambda i: middle(values[i], axis=-1))


def ratio(item: Subject, other: Subject, metric: str) -> Interval | None:
    """`mean x / mean y` over the seeds of both, pairs kept when they are resampled."""
    x, y = item.values(metric), other.values(metric)
    pairs = [(x[mine], y[theirs]) for mine, theirs in partners(x, y)]
    top, bottom = np.array(pairs).reshape(-1, 2).T
    if not len(pairs) or not np.isfinite(pairs).all() or bottom.min() <= 0:
        return None
    name = f"{metric}/{item.name}/{other.agent}"
    return _resampled(name, len(pairs), lambda i: top[i].mean(-1) / bottom[i].mean(-1))


def _resampled(name: str, n: int, statistic: Callable[[Any], Any]) -> Interval:
    """Bootstrap of a statistic of the rows that are drawn: rows stay whole, and may be infinite."""
    return statistics.bootstrap(
        generator(f"lab/{name}"),
        [np.arange(n, dtype=np.float64)],
        lambda rows: np.asarray(statistic(rows[0].astype(int))),
        reps=analysis.REPS,
    )


def kind(item: Subject) -> str | None:
    """Which baseline of `vfcompare.theory` the estimator has, or None if it is another one.

    `none`, `start` (exact V of the start), `state` (exact V of the state, λ = 1) or `td` (λ = 0).
    """
    estimator, advantage = item.part("agent.estimator"), "agent.estimator.advantage"
    if estimator == "value_free" and item.part(advantage) == "relative":
        plain = item.part(f"{advantage}.scale") == "unscaled"
        return "none" if plain and item.part(f"{advantage}.baseline") == "none" else None
    if estimator != "exact" or item.at("agent.estimator.sharpness") != 1 or _damaged(item):
        return None
    if item.part(advantage) == "above_start":
        return "start"
    return {1.0: "state", 0.0: "td"}.get(item.at(f"{advantage}.lambda_"))


def plain_kind(item: Subject) -> str | None:
    """`kind`, whatever was done to the values."""
    estimator = {**(item.at("agent.estimator") or {}), "lesion": {"_target_": "none"}}
    agent = {**(item.at("agent") or {}), "estimator": estimator}
    return kind(replace(item, config={**item.config, "agent": agent}))


def _error(item: Subject, lesion: str, size: str) -> float | None:
    """Size of an error of this kind, None where it is of another."""
    if item.part("agent.estimator.lesion") != lesion:
        return None
    return number(item.at(f"agent.estimator.lesion.{size}"))


def _damaged(item: Subject) -> bool:
    size = {"none": None, "bias": "by", "noise": "std"}.get(item.part("agent.estimator.lesion"), "")
    return size is not None and item.at(f"agent.estimator.lesion.{size}") != 0


@dataclass(frozen=True)
class Chain:
    """The model of P1 to P3, as a run's configuration sets it up; see `vfcompare.theory`.

    Attributes:
      q: probability that a step is right.
      length: decisions.
      decisive: how many of them must be right.
      where: `early` or `late`.
      each: whether every right decision pays at once.
      group: rollouts from one start.
    """

    q: float
    length: int
    decisive: int
    where: str
    each: bool
    group: int

    @property
    def variance(self) -> dict[str, float]:
        """Of the gradient of one episode, by `kind`."""
        if self.each:
            return theory.additive_variance(self.q, self.length)
        if self.decisive < self.length:
            return theory.decisive_variance(self.q, self.length, self.decisive, self.where)
        return theory.lock_variance(self.q, self.length)


def chain(item: Subject) -> Chain | None:
    """The chain that a run was measured on; None if it is anything else, or the policy learned."""
    model = (
        item.at("env._target_") == "vfcompare.envs.lock.Lock"
        and item.at("env.combination") is None
        and item.at("env.actions") == 2
        and item.at("agent._target_") == "vfcompare.agents.policy_gradient.make"
        and item.at("agent.freeze_policy") is True
        and item.at("agent.gamma") == 1
        and item.part("agent.policy") == "table"
        and item.at("agent.policy.columns") == item.at("env.length")
    )
    success, length = number(item.at("agent.policy.success")), number(item.at("env.length"))
    group = number(item.at("agent.collector.group")) or 1
    if not model or success is None or length is None:
        return None
    if not (0 < success < 1 and 1 <= length <= MAX_LENGTH):
        return None
    decisive = number(item.at("env.decisive")) or length
    return Chain(
        q=success ** (1.0 / length),
        length=int(length),
        decisive=int(decisive),
        where=str(item.at("env.where")),
        each=item.at("env.reward") == "each",
        group=int(group),
    )


def signal(findings: Findings) -> Iterator[Comparison]:
    """P1, for agents that subtract a mean of the group."""
    for item in findings.subjects:
        model, measured = chain(item), measure(item, "signal_share")
        centred = item.part("agent.estimator.advantage.baseline") in {"group_mean", "leave_one_out"}
        if model is None or measured is None or model.each or not centred:
            continue
        share = theory.signal_share(model.q**model.decisive, model.group)
        yield Comparison(item, share, measured)


def variance(findings: Findings, applies: Callable[[Chain], bool]) -> Iterator[Comparison]:
    """P2 and P3: relative to the exact value of the start, on the chains that are meant."""
    for item in findings.subjects:
        model, baseline, measured = chain(item), kind(item), findings.relative(item)
        if model is None or measured is None or baseline in {None, "start"} or not applies(model):
            continue
        predicted = model.variance
        yield Comparison(item, predicted[str(baseline)] / predicted["start"], measured)


def _spread_out(model: Chain) -> bool:
    return model.each or model.decisive < model.length


def group_size(findings: Findings) -> Iterator[Comparison]:
    """P4: the two smallest groups settle what theory leaves open, the others are predicted."""
    sizes: dict[tuple[Any, ...], dict[int, Subject]] = {}
    for item in findings.subjects:
        baseline = item.part("agent.estimator.advantage.baseline")
        prompts, group = (number(item.at(f"agent.collector.{k}")) for k in ("prompts", "group"))
        if (
            baseline != "leave_one_out"
            or not prompts
            or not group
            or not item.values("gradient_between")
        ):
            continue
        sizes.setdefault((item.agent, item.env, prompts * group), {})[int(group)] = item
    for family in sizes.values():
        measured = {g: measure(item, "gradient_variance") for g, item in sorted(family.items())}
        between = [v for item in family.values() for v in item.values("gradient_between").values()]
        if len(family) < 3 or None in measured.values():
            continue
        found = {g: interval for g, interval in measured.items() if interval is not None}
        known = {g: found[g].estimate for g in list(found)[:2]}
        for group in list(found)[2:]:
            predicted = theory.group_variance(group, float(np.mean(between)), known)
            yield Comparison(family[group], predicted, found[group])


def noise(
    findings: Findings, predict: Callable[[str, Chain, float], float | None]
) -> Iterator[Comparison]:
    """P5 and P6: exact values with independent errors, relative to the same without."""
    clean = {
        (plain_kind(item), item.shared): item
        for item in findings.subjects
        if _error(item, "noise", "std") == 0
    }
    for item in findings.subjects:
        model, size, baseline = chain(item), _error(item, "noise", "std"), plain_kind(item)
        other = clean.get((baseline, item.shared))
        if model is None or model.each or not size or baseline is None or other is None:
            continue
        predicted, measured = (
            predict(baseline, model, size),
            ratio(item, other, "gradient_variance"),
        )
        if predicted is not None and measured is not None:
            yield Comparison(item, predicted, measured)


def residual(baseline: str, model: Chain, size: float) -> float | None:
    """P5, of the value of the start."""
    if baseline != "start":
        return None
    return theory.residual_variance(model.q**model.decisive, size)


def independent(baseline: str, model: Chain, size: float) -> float | None:
    """P6, on chains of which every step decides."""
    if _spread_out(model):
        return None
    return theory.noisy_variance(baseline, model.q, model.length, size)


def bias(findings: Findings) -> Iterator[Comparison]:
    """P6: a constant error of exact values enters at λ = 0, where it pays for going on."""
    for item in findings.subjects:
        size, baseline = _error(item, "bias", "by"), plain_kind(item)
        measured, gamma = measure(item, "gradient_bias"), number(item.at("agent.gamma"))
        if not size or measured is None or baseline not in {"state", "td"} or gamma != 1:
            continue
        survival, norm = (item.values(k) for k in ("survival_gradient", "gradient_norm"))
        share = float(np.mean([survival[seed] / norm[seed] for seed in survival]))
        yield Comparison(item, size * share if baseline == "td" else 0.0, measured)


CHANCE = (
    "Of true predictions one in twenty misses such an interval by chance, at five seeds one in six: read "
    "the deviation as well."
)

PREDICTIONS: tuple[Prediction, ...] = (
    Prediction(
        "P1",
        "groups with signal",
        "A group of G rollouts tells something only if they differ, with probability "
        f"1 {MINUS} (1 {MINUS} p)^G {MINUS} p^G.",
        "theory.signal_share",
        signal,
    ),
    Prediction(
        "P2",
        "variance ratio",
        "Where information is released evenly, a state value at most halves the variance of the "
        "gradient; where the decisive steps come early it gains more, where they come late only "
        "bootstrapping does.",
        "theory.additive_variance and theory.decisive_variance",
        lambda findings: variance(findings, _spread_out),
    ),
    Prediction(
        "P3",
        "variance ratio",
        "On all-or-nothing chains a perfect critic raises the variance of the gradient as soon as "
        "single steps are likely to be right, and no baseline at all has less.",
        "theory.lock_variance",
        lambda findings: variance(findings, lambda model: not _spread_out(model)),
    ),
    Prediction(
        "P4",
        "variance",
        "With the number of episodes fixed, larger groups have better baselines and fewer prompts: the "
        "variance is G c + a + b/(G - 1), with c what lies between start states, exactly, and a and b from "
        "the two smallest groups.",
        "theory.group_variance",
        group_size,
    ),
    Prediction(
        "P5",
        "variance ratio",
        "What a baseline leaves is one minus its explained variance, if score and return are "
        "uncorrelated; a group of G leaves G/(G - 1), so a critic beats it from there on.",
        "theory.residual_variance",
        lambda findings: noise(findings, residual),
    ),
    Prediction(
        "P6 noise",
        "variance ratio",
        "Independent errors of a critic add their variance times the squared score, at λ = 0 nearly "
        "twice.",
        "theory.noisy_variance",
        lambda findings: noise(findings, independent),
    ),
    Prediction(
        "P6 bias",
        "gradient bias",
        "A constant error of a critic is harmless at λ = 1; at λ = 0 it is a reward for going on, seen "
        "one step ahead.",
        "the lab's survival_gradient",
        bias,
    ),
)
"""To add one: a function `findings -> comparisons` that picks the runs it applies to, and an entry here."""


def tables(findings: Findings) -> dict[str, Table]:
    """Predicted against measured, and the three tables of what was measured."""
    middle = "Means over seeds with 95% bootstrap intervals. "
    built = [
        _predicted(findings),
        _measured(
            findings,
            "oracle-gradient",
            "The gradient",
            GRADIENT,
            middle
            + "Bias: |mean gradient - true gradient| relative to the true one, less what chance "
            "explains (negative: less than that). Variance: of one episode, summed over parameters. "
            "Signal to noise: squared true gradient over variance. Cosine: of one update's gradient with "
            "the true one. Episodes to cosine 0.9: median over seeds; never, where bias forbids it.",
        ),
        _measured(
            findings,
            "oracle-advantage",
            "The advantages",
            ADVANTAGE,
            middle
            + "Bias and variance given time, place and action, weighed by visits, in units of the "
            "return. Correlation: of an episode's squared score |∇ log π|² with its return.",
        ),
        _measured(
            findings,
            "oracle-values",
            "The values",
            VALUES,
            middle
            + "Explained: share of the variance of the exact values. Slope: of the truth on the "
            "values, below 1 they exaggerate. Rank accuracy: share of pairs of actions that the "
            "critic's lookahead orders as the truth does; a half is chance. Agents with exact values are "
            "left out.",
        ),
    ]
    return {table.id: table for table in built if table.rows}


def _measured(
    findings: Findings, name: str, title: str, metrics: Mapping[str, str], note: str
) -> Table:
    rows = []
    for item in findings.subjects:
        if metrics is VALUES and kind(item) in {"start", "state", "td"}:
            # exact values have no error to show
            continue
        found = [measure(item, metric) for metric in metrics]
        if any(interval is not None for interval in found):
            n = max(interval.n for interval in found if interval is not None)
            rows.append((item.setting, item.agent, n, *found))
    heads = ("setting", "agent", "n", *metrics.values())
    return Table(name, title, heads, tuple(rows), note)


def _predicted(findings: Findings) -> Table:
    rows: list[tuple[Value, ...]] = []
    marks: dict[int, str] = {}
    for prediction in PREDICTIONS:
        for item in findings.comparisons.get(prediction.name, ()):
            marks[len(rows)] = "bad" if item.verdict == "disagrees" else ""
            rows.append(
                (
                    prediction.name,
                    prediction.quantity,
                    item.subject.setting,
                    item.subject.agent,
                    item.predicted,
                    item.measured,
                    item.measured.n,
                    percent(item.deviation),
                    item.verdict,
                )
            )
    heads = ("", "quantity", "setting", "agent", "predicted", "measured", "n", "off by", "verdict")
    note = (
        f"Agrees: the prediction lies within the 95% interval over seeds. {CHANCE} "
        "Variance ratio: to the exact value of the start as baseline, seeds paired."
    )
    return Table(
        "oracle-predictions", "Predicted against measured", heads, tuple(rows), note, marks
    )


def percent(value: float) -> str:
    """A deviation, with its sign."""
    return show(None) if np.isnan(value) else f"{value:+.1%}".replace("-", MINUS)


def notes(findings: Findings) -> list[Sentence]:
    """What each prediction says, where it comes from and how it fared."""
    return [
        _fate(prediction, findings.comparisons[prediction.name])
        for prediction in PREDICTIONS
        if prediction.name in findings.comparisons
    ]


def _fate(prediction: Prediction, rows: Sequence[Comparison]) -> Sentence:
    agreed = sum(row.verdict == "agrees" for row in rows)
    text = f"{prediction.sentence} Measured: {agreed} of {len(rows)} agree"
    known = [row for row in rows if not np.isnan(row.deviation)]
    if known:
        sizes = [abs(row.deviation) for row in known]
        worst = known[int(np.argmax(sizes))]
        text += (
            f"; off by {np.median(sizes):.1%} in the median, at most by {percent(worst.deviation)} "
            f"({worst.subject.name}: predicted {show_float(worst.predicted)}, measured "
            f"{show_interval(worst.measured)}, n = {worst.measured.n})"
        )
    tone = "claim" if agreed == len(rows) else "open"
    return Sentence(f"{text}. Source: {prediction.source}.", tone, prediction.name)


def verdicts(findings: Findings) -> list[Sentence]:
    """The predictions in one line, for the top of the page."""
    found = findings.comparisons
    if not found:
        return [
            Sentence(picture.caption, "plain", "Against the truth")
            for picture in pictures(findings)[:1]
        ]
    rows = [row for each in found.values() for row in each]
    agreed = sum(row.verdict == "agrees" for row in rows)
    each = join(
        f"{name} {sum(row.verdict == 'agrees' for row in mine)} of {len(mine)}"
        for name, mine in found.items()
    )
    text = f"{agreed} of {len(rows)} predicted numbers lie within the 95% interval of the measured ones"
    known = [abs(row.deviation) for row in rows if not np.isnan(row.deviation)]
    off = f"; the median deviation is {np.median(known):.1%}" if known else ""
    tone = "claim" if 4 * agreed >= 3 * len(rows) else "open"
    return [Sentence(f"{text} ({each}){off}. {CHANCE}", tone, "Against the truth")]


def method(findings: Findings) -> list[tuple[str, str]]:
    """How the lab measures, for the appendix."""
    if not findings.subjects:
        return []
    text = (
        "At the last evaluation of each completed seed the policy is held still and batches are drawn "
        "from it; the agent's own estimator says its advantages, and these and the gradients they make "
        "are compared with exact dynamic programming. A batch is one sample. Ratios to the exact value "
        "of the start are ratios of means over seeds, resampled in pairs. Settings of the agent's own "
        "estimator do not part an agent from its reference."
    )
    return [("Against the truth", text)]


def pictures(findings: Findings) -> list[Picture]:
    """Variance, episodes that a good direction takes, and variance against bias."""
    if not findings.subjects:
        return []
    return [*_variance(findings), *_episodes(findings), *_tradeoff(findings)]


@dataclass(frozen=True)
class Point:
    """A number to be drawn, and the predicted one where there is one."""

    subject: Subject
    interval: Interval
    predicted: float | None = None


def _variance(findings: Findings) -> Iterator[Picture]:
    foretold = {
        id(row.subject): row.predicted
        for name in ("P2", "P3")
        for row in findings.comparisons.get(name, ())
    }
    if findings.references:
        found = [(item, findings.relative(item)) for item in findings.subjects]
        first = next(iter(findings.references.values()))
        to, label = "that with the exact value of the start as baseline", first.agent
    else:
        found = [(item, measure(item, RELATIVE)) for item in findings.subjects]
        to, label = "the squared true gradient", "|true gradient|²"
    points = [Point(item, x, foretold.get(id(item))) for item, x in found if x is not None]
    zero = [point.subject.name for point in points if point.interval.estimate <= ROUNDING]
    points = [point for point in points if point.interval.estimate > ROUNDING]
    others = [p for p in points if findings.references.get(p.subject.shared) is not p.subject]
    if not others:
        return
    caption = f"Variance of one episode's gradient relative to {to}: {_extremes(others)}. {_sizes(points)}"
    if foretold:
        caption += " Hollow symbols: predicted."
    if zero:
        caption += f" Zero, and so not drawn: {join(zero)}."
    title = "What an estimator adds to the noise of the gradient"
    label = f"gradient variance / {label}"
    yield _picture(findings, "oracle-variance", title, caption, points, label)


def _episodes(findings: Findings) -> Iterator[Picture]:
    found = [(item, measure(item, "episodes_to_cosine")) for item in findings.subjects]
    points = [Point(item, x) for item, x in found if x is not None and x.estimate > 0]
    if not points:
        return
    never = [p.subject.name for p in points if np.isinf(p.interval.estimate)]
    caption = (
        f"Episodes in a batch for its gradient to have cosine 0.9 with the true one: "
        f"{_extremes(points)}. {_sizes(points, 'Medians')}"
    )
    if never:
        caption += f" Never, because of bias: {join(never)} (arrows)."
    title = "How many episodes a good direction takes"
    yield _picture(findings, "oracle-cosine", title, caption, points, "episodes to cosine 0.9")


def _extremes(points: Sequence[Point]) -> str:
    finite = [point for point in points if np.isfinite(point.interval.estimate)]
    if not finite:
        return "nowhere finite"
    ends = [f(finite, key=lambda p: p.interval.estimate) for f in (min, max)]
    told = [f"{show_interval(p.interval)} ({p.subject.name})" for p in ends]
    return f"from {told[0]} to {told[1]}" if ends[0] is not ends[1] else told[0]


def _sizes(points: Sequence[Point], what: str = "Means") -> str:
    sizes = sorted({point.interval.n for point in points})
    n = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
    return f"{what} over n = {n} seeds, bars are 95% bootstrap intervals."


def _picture(
    findings: Findings, name: str, title: str, caption: str, points: Sequence[Point], label: str
) -> Picture:
    rows = tuple(
        (p.subject.setting, p.subject.agent, p.interval.n, p.interval, p.predicted) for p in points
    )
    data = Table(name, title, ("setting", "agent", "n", label, "predicted"), rows)
    axis = _swept(findings)
    count = len(_panels(points, axis))
    if count > MAX_PANELS:
        caption += f" The first {MAX_PANELS} of {count} panels are drawn."

    def draw() -> Figure:
        if axis is None:
            return _draw_rows(findings, points, label)
        return _draw_sweep(findings, points, label, axis)

    return Picture(name, title, caption, draw, data)


def _swept(findings: Findings) -> str | None:
    """The setting with most values, which becomes the horizontal axis; the last one among equals."""
    values: dict[str, set[str]] = {}
    for item in findings.subjects:
        for key, value in item.settings.items():
            values.setdefault(key, set()).add(value)
    return max(reversed(values), key=lambda key: len(values[key])) if values else None


def _ordered(values: Iterable[str]) -> list[str]:
    """Numbers by size, words as they came."""
    found = list(dict.fromkeys(values))
    try:
        return sorted(found, key=float)
    except ValueError:
        return found


def _panels(points: Sequence[Point], axis: str | None) -> dict[str, list[Point]]:
    """Points by what is the same along the axis; the environment is named where there are several."""
    several = len({point.subject.env for point in points}) > 1
    groups: dict[str, list[Point]] = {}
    for point in points:
        rest = [f"{k}={v}" for k, v in point.subject.settings.items() if k != axis]
        env = [point.subject.env] if several or not rest else []
        groups.setdefault(" ".join(env + [", ".join(rest)] * bool(rest)), []).append(point)
    return groups


def _first(groups: dict[str, list[Point]]) -> dict[str, list[Point]]:
    return dict(list(groups.items())[:MAX_PANELS])


def _grid(number_: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    columns = min(PANEL_COLUMNS, number_)
    lines = -(-number_ // columns)
    figure, grid = figures._figure(0.5 + height * lines, lines, columns, **options)
    figure.set_figwidth(WIDTH if columns < PANEL_COLUMNS else 1.25 * WIDTH)
    for axes in list(grid.flat)[number_:]:
        axes.set_visible(False)
    return figure, list(grid.flat)[:number_]


def _draw_sweep(findings: Findings, points: Sequence[Point], label: str, axis: str) -> Figure:
    groups, appearance = _first(_panels(points, axis)), looks(findings.arms)
    figure, panels = _grid(len(groups), 2.5, sharey=True)
    ticks = _ordered(p.subject.settings.get(axis, show(None)) for p in points)
    agents = [arm.name for arm in findings.arms]
    top = _ceiling(points)
    for index, (axes, (name, group)) in enumerate(zip(panels, groups.items(), strict=True)):
        for place, agent in enumerate(agents):
            shift = 0.5 * ((place + 0.5) / len(agents) - 0.5)
            mine = [point for point in group if point.subject.agent == agent]
            at = [ticks.index(p.subject.settings.get(axis, show(None))) + shift for p in mine]
            _line(axes, np.array(at), mine, appearance[agent], top)
        axes.set_yscale("log")
        axes.set_xlim(-0.5, len(ticks) - 0.5)
        axes.set_xticks(range(len(ticks)), [shorten(t, 24).replace(", ", "\n") for t in ticks])
        axes.grid(axis="y", color=FAINT, linewidth=0.4, alpha=0.6)
        axes.set_title(shorten(name, 30))
        axes.set_xlabel(axis)
        if index % PANEL_COLUMNS == 0:
            axes.set_ylabel(label)
    if any(point.predicted for point in points):
        _unit(panels, vertical=False)
    _ticks(panels, "y")
    _legend(figure, findings, points)
    return figure


def _ticks(panels: Sequence[Axes], which: str) -> None:
    """Plain numbers on logarithmic axes that are drawn: 1, 2, 5 over decades, even steps within one."""
    for axes in panels:
        axis = axes.xaxis if which == "x" else axes.yaxis
        low, high = sorted(axis.get_view_interval())
        wide = low <= 0 or high > 8 * low
        axis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0), numticks=7) if wide else MaxNLocator(5)
        )
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        if not wide:
            axis.set_minor_locator(NullLocator())


def _unit(panels: Sequence[Axes], *, vertical: bool) -> None:
    for axes in panels:
        line = axes.axvline if vertical else axes.axhline
        line(1.0, color=INK, lw=0.7, zorder=1)


def _ceiling(points: Sequence[Point]) -> float:
    """Where what is infinite is drawn: above everything that is not."""
    ends = [x for p in points for x in (p.interval.estimate, p.interval.high or 0.0)]
    return 2.0 * max([x for x in ends if np.isfinite(x)], default=1.0)


def _capped(interval: Interval, top: float) -> Interval:
    low, high = (None if end is None else min(end, top) for end in (interval.low, interval.high))
    return interval._replace(estimate=min(interval.estimate, top), low=low, high=high)


def _line(axes: Axes, at: Array, points: Sequence[Point], look: Look, top: float) -> None:
    if not points:
        return
    order = np.argsort(at)
    heights = np.minimum([p.interval.estimate for p in points], top)
    axes.plot(at[order], heights[order], color=look.color, ls=look.line, lw=0.9, alpha=0.55)
    for x, y, point in zip(at, heights, points, strict=True):
        low, high = point.interval.low, point.interval.high
        if low is not None and high is not None:
            axes.plot([x, x], np.minimum([low, high], top), color=look.color, lw=1.8, zorder=3)
        marker = "^" if np.isinf(point.interval.estimate) else look.marker
        axes.plot([x], [y], marker=marker, ms=5.2, ls="none", color=look.color, mew=0, zorder=4)
        if point.predicted:
            _hollow(axes, x, point.predicted, look)


def _hollow(axes: Axes, x: float, y: float, look: Look) -> None:
    shape: dict[str, Any] = {"mfc": "none", "mec": look.color, "mew": 1.0}
    axes.plot([x], [y], marker=look.marker, ms=9.0, ls="none", zorder=5, clip_on=False, **shape)


def _draw_rows(findings: Findings, points: Sequence[Point], label: str) -> Figure:
    """One panel an environment, one row an agent."""
    groups, appearance = _first(_panels(points, None)), looks(findings.arms)
    heights = [0.55 + ROW * len(group) for group in groups.values()]
    figure, grid = figures._figure(sum(heights) + 0.3, len(groups), 1, height_ratios=heights)
    top = _ceiling(points)
    for axes, (name, group) in zip(grid[:, 0], groups.items(), strict=True):
        agents = [point.subject.agent for point in group]
        figures._rows_axis(axes, agents, [appearance[agent].color for agent in agents])
        axes.set_xscale("log")
        for y, point in enumerate(group):
            look = appearance[point.subject.agent]
            marker = ">" if np.isinf(point.interval.estimate) else look.marker
            figures._mark(axes, y, _capped(point.interval, top), replace(look, marker=marker))
            if point.predicted:
                _hollow(axes, point.predicted, y, look)
        axes.set_title(shorten(name, 40))
    grid[-1, 0].set_xlabel(label)
    if label.endswith(tuple(arm.name for arm in findings.arms)):
        _unit(list(grid[:, 0]), vertical=True)
    _ticks(list(grid[:, 0]), "x")
    return figure


def _legend(figure: Figure, findings: Findings, points: Sequence[Point]) -> None:
    appearance = looks(findings.arms)
    present = {point.subject.agent for point in points}
    lines = [
        Line2D([], [], color=look.color, ls=look.line, marker=look.marker, ms=5, lw=1, label=name)
        for name, look in appearance.items()
        if name in present
    ]
    if any(point.predicted for point in points):
        hollow: dict[str, Any] = {"mfc": "none", "mec": MUTED, "ls": "none"}
        lines.append(Line2D([], [], marker="o", ms=8, label="predicted", **hollow))
    columns = 6 if figure.get_figwidth() > WIDTH else 5
    place: dict[str, Any] = {"loc": "outside upper left", "ncols": columns, "frameon": False}
    figure.legend(handles=lines, handlelength=2.5, columnspacing=1.4, **place)


def _tradeoff(findings: Findings) -> Iterator[Picture]:
    found = [
        (item, measure(item, "gradient_bias"), measure(item, RELATIVE))
        for item in findings.subjects
    ]
    noise = [(item, b, v) for item, b, v in found if b and v and v.estimate > 0]
    if not noise:
        return
    rows = tuple((item.setting, item.agent, bias.n, bias, noise_) for item, bias, noise_ in noise)
    heads = ("setting", "agent", "n", "relative bias", "relative variance")
    title = "Variance against bias"
    most = max(noise, key=lambda row: row[1].estimate)
    caption = (
        "Bias of the gradient and variance of one episode's, both relative to the true gradient (the "
        f"variance to its square). Largest bias: {show_interval(most[1])} ({most[0].name}). Variance: "
        f"{_extremes([Point(item, x) for item, _, x in noise])}. "
        f"{_sizes([Point(item, bias) for item, bias, _ in noise])}"
    )
    data = Table("oracle-tradeoff", title, heads, rows)
    yield Picture("oracle-tradeoff", title, caption, lambda: _draw_tradeoff(findings, noise), data)


def _draw_tradeoff(
    findings: Findings, found: Sequence[tuple[Subject, Interval, Interval]]
) -> Figure:
    biases = {id(item): bias for item, bias, _ in found}
    points = [Point(item, noise) for item, _, noise in found]
    groups = _first(_panels(points, None))
    figure, panels = _grid(len(groups), 1.9, sharex=True, sharey=True)
    appearance = looks(findings.arms)
    for index, (axes, (name, group)) in enumerate(zip(panels, groups.items(), strict=True)):
        for point in group:
            _cross(axes, biases[id(point.subject)], point.interval, appearance[point.subject.agent])
        axes.set_yscale("log")
        axes.axvline(0.0, color=INK, lw=0.7, zorder=1)
        axes.grid(color=FAINT, linewidth=0.4, alpha=0.6)
        axes.set_title(shorten(name, 30))
        if index % PANEL_COLUMNS == 0:
            axes.set_ylabel("relative variance")
        if index + PANEL_COLUMNS >= len(groups):
            axes.set_xlabel("relative bias")
            axes.tick_params(labelbottom=True)
    _ticks(panels, "y")
    _legend(figure, findings, points)
    return figure


def _cross(axes: Axes, x: Interval, y: Interval, look: Look) -> None:
    for ends, interval in (((True, False), x), ((False, True), y)):
        if interval.low is not None and interval.high is not None:
            along = [interval.low, interval.high]
            xs = along if ends[0] else [x.estimate] * 2
            ys = along if ends[1] else [y.estimate] * 2
            axes.plot(xs, ys, color=look.color, lw=1.4, zorder=3)
    shape: dict[str, Any] = {"marker": look.marker, "ms": 5.5, "mew": 0, "ls": "none"}
    axes.plot([x.estimate], [y.estimate], color=look.color, zorder=4, **shape)
