"""What theory says about numbers the lab measures, and how they compare.

Which prediction applies to a run is read from its resolved configuration.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vfcompare import statistics
from vfcompare.oracle import theory
from vfcompare.report import chains
from vfcompare.report.chains import Chain
from vfcompare.report.oracle.findings import (
    Findings,
    Subject,
    error,
    kind,
    mean_of,
    measure,
    plain_kind,
    ratio,
)
from vfcompare.report.table import MINUS
from vfcompare.schema.tree import finite
from vfcompare.statistics import Interval

ROUNDING = 1e-6

SIZE = ("agent.collector", "agent.collector.prompts", "agent.collector.group")
"""Settings that say how large a group is."""


@dataclass(frozen=True)
class Comparison:
    """One predicted number and the measured one.

    Attributes:
      subject: of whom.
      predicted: by the formula.
      measured: mean over seeds, or ratio of means.
      difference: measured less predicted, over the same seeds, where the prediction is made of what was
        measured: it errs by chance as well.
    """

    subject: Subject
    predicted: float
    measured: Interval
    difference: Interval | None = None

    @property
    def judged(self) -> Interval:
        """What the verdict is read from."""
        return self.measured if self.difference is None else self.difference

    @property
    def verdict(self) -> str:
        """Whether the prediction lies in the interval, or zero in that of the difference, in words."""
        if not self.judged.sufficient:
            return "insufficient"
        if abs(self.measured.estimate - self.predicted) < ROUNDING:
            return "agrees"
        expected = self.predicted if self.difference is None else 0.0
        return "disagrees" if self.judged.excludes(expected) else "agrees"

    @property
    def deviation(self) -> float:
        """`measured / predicted - 1`."""
        return self.measured.estimate / self.predicted - 1.0 if self.predicted else np.nan


def decided(rows: Iterable[Comparison]) -> list[Comparison]:
    """Those with an interval; of the others nothing is said."""
    return [row for row in rows if row.judged.sufficient]


def chance(rows: Iterable[Comparison]) -> str:
    """How often intervals of so few seeds miss what is true; that there are none, where there are none."""
    sizes = [row.judged.n for row in decided(rows)]
    if not sizes:
        return f"Fewer than {statistics.MIN_RUNS} seeds give no interval, and decide nothing."
    kinds = ("mean", "oracle: ratio of means")
    known = [statistics.known_coverage(kind, min(sizes)) for kind in kinds]
    missed = 1.0 - min(coverage.shares["normal"] for coverage in known)
    return (
        f"At {known[0].runs} seeds about {missed:.0%} of true predictions miss such an interval by chance "
        "(nominally 5%; measured with normal scores): read the deviation as well."
    )


Compared = Mapping[str, tuple[Comparison, ...]]
"""Predicted and measured numbers, by the prediction's name."""


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
    rows: Callable[[Findings], Iterable[Comparison]]


def chain(item: Subject) -> Chain | None:
    """The chain that a run was measured on; None if it is anything else, or the policy learned."""
    return chains.chain(item.config) if item.at("agent.warmup") == 1 else None


def signal(findings: Findings) -> Iterator[Comparison]:
    """P1, for agents that subtract a mean of the group."""
    for item in findings.subjects:
        model, measured = chain(item), measure(item, "signal_share")
        centred = item.part("agent.estimator.advantage.baseline") in {"group_mean", "leave_one_out"}
        if model is None or measured is None or model.each or not centred:
            continue
        share = theory.signal_share(model.q**model.decisive, model.group)
        yield Comparison(item, share, _of_groups(item, measured))


def _of_groups(item: Subject, share: Interval) -> Interval:
    """A share of groups with Wilson's interval over all that the lab drew, each by itself, of all seeds.

    A bootstrap over seeds has no width where it is 1 in all of them.
    """
    batches, prompts = (finite(item.at(f"agent.{k}")) for k in ("lab.batches", "collector.prompts"))
    if not share.sufficient or not batches or not prompts:
        return share
    low, high = statistics.wilson(share.estimate, share.n * batches * prompts, share.confidence)
    return share._replace(low=float(low), high=float(high))


def variance(findings: Findings, applies: Callable[[Chain], bool]) -> Iterator[Comparison]:
    """P2 and P3: relative to the exact value of the start, on the chains that are meant."""
    for item in findings.subjects:
        model, baseline, measured = chain(item), kind(item), findings.relative(item)
        if model is None or measured is None or baseline in (None, "start") or not applies(model):
            continue
        predicted = model.variance
        if baseline in predicted:
            yield Comparison(item, predicted[baseline] / predicted["start"], measured)


def group_size(findings: Findings) -> Iterator[Comparison]:
    """P4: the two smallest groups settle what theory leaves open, the others are predicted."""
    for family in _sizes(findings):
        sizes = sorted(family)
        for group in sizes[2:]:
            yield from _from_two(family, (sizes[0], sizes[1]), group)


def _sizes(findings: Findings) -> Iterable[Mapping[int, Subject]]:
    """Runs by the size of their groups, where all else is the same."""
    sizes: dict[tuple[Any, ...], dict[int, Subject]] = {}
    for item in findings.subjects:
        baseline = item.part("agent.estimator.advantage.baseline")
        prompts, group = (finite(item.at(f"agent.collector.{k}")) for k in ("prompts", "group"))
        if baseline != "leave_one_out" or not prompts or not group or group < 2:
            continue
        if item.values("gradient_between"):
            others = (entry for entry in item.shared[1:] if entry[0] not in SIZE)
            key = (item.agent, item.env, prompts * group, *others, *item.own)
            sizes.setdefault(key, {})[int(group)] = item
    return sizes.values()


def _from_two(
    family: Mapping[int, Subject], known: tuple[int, int], group: int
) -> Iterator[Comparison]:
    """What two sizes of groups say of a third, seed by seed.

    The formula is linear in what it is made of: the mean of what it says of each seed is what it says of the
    means, and the seeds of all three are resampled together.
    """
    sizes = (*known, group)
    variance = {g: family[g].values("gradient_variance") for g in sizes}
    between = {g: family[g].values("gradient_between") for g in sizes}
    found = [*variance.values(), *between.values()]
    seeds = [s for s in sorted(found[0]) if all(np.isfinite(x.get(s, np.nan)) for x in found)]
    if not seeds:
        return
    predicted = [
        theory.group_variance(
            group,
            float(np.mean([between[g][seed] for g in sizes])),
            {g: variance[g][seed] for g in known},
        )
        for seed in seeds
    ]
    measured = [variance[group][seed] for seed in seeds]
    item = family[group]
    yield Comparison(
        item,
        float(np.mean(predicted)),
        mean_of(f"gradient_variance/{item.key}", measured),
        mean_of(f"P4/{item.key}", np.subtract(measured, predicted)),
    )


def noise(
    findings: Findings, predict: Callable[[str, Chain, float], float | None]
) -> Iterator[Comparison]:
    """P5 and P6: exact values with independent errors, relative to the same without."""
    clean = {
        (plain_kind(item), item.shared): item
        for item in findings.subjects
        if error(item, "noise", "std") == 0
    }
    for item in findings.subjects:
        model, size, baseline = chain(item), error(item, "noise", "std"), plain_kind(item)
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
    if model.spread_out:
        return None
    return theory.noisy_variance(baseline, model.q, model.length, size)


def bias(findings: Findings) -> Iterator[Comparison]:
    """P6: a constant error of exact values enters at λ = 0, where it pays for going on."""
    for item in findings.subjects:
        size, baseline = error(item, "bias", "by"), plain_kind(item)
        measured, gamma = measure(item, "gradient_bias"), finite(item.at("agent.gamma"))
        if not size or measured is None or baseline not in {"state", "td"} or gamma != 1:
            continue
        survival, norm = (item.values(k) for k in ("survival_gradient", "gradient_norm"))
        shares = [survival[seed] / norm[seed] for seed in survival if norm.get(seed)]
        if shares:
            share = float(np.mean(shares)) if baseline == "td" else 0.0
            yield Comparison(item, size * share, measured)


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
        lambda findings: variance(findings, lambda model: model.spread_out),
    ),
    Prediction(
        "P3",
        "variance ratio",
        "On all-or-nothing chains a perfect critic raises the variance of the gradient as soon as "
        "single steps are likely to be right, and no baseline at all has less.",
        "theory.lock_variance and theory.lock_group_variance",
        lambda findings: variance(findings, lambda model: not model.spread_out),
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


def compare(findings: Findings) -> Compared:
    """Every prediction that applies to a run, against what was measured there."""
    found = {prediction.name: tuple(prediction.rows(findings)) for prediction in PREDICTIONS}
    return {name: rows for name, rows in found.items() if rows}
