"""All verdicts of a report, and which of them would be others if failed runs were treated otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vfcompare.report.analysis import contrasts
from vfcompare.report.analysis.arms import Sides, pooled
from vfcompare.report.analysis.contrasts import Contrast, Couples, Improvement
from vfcompare.report.data import Study
from vfcompare.report.metrics import COMPARED
from vfcompare.report.scoring import Task, failed, score
from vfcompare.statistics import FailureRule

OTHER_RULES: tuple[FailureRule, ...] = ("last", "drop")


@dataclass(frozen=True)
class Judged:
    """Whatever a report decides.

    Attributes:
      family: one side of the question against the other, by metric.
      by_task: the same in area under the curve, by environment.
      apart: the same in the study's own metric, by environment, where these have no common scale.
      pairs: agents against each other, by metric; none where there is no common scale.
      improvement: P(first > second) of the same pairs.
    """

    family: Mapping[str, Contrast]
    by_task: Mapping[str, Contrast]
    apart: Mapping[str, Contrast]
    pairs: Mapping[str, tuple[Contrast, ...]]
    improvement: tuple[Improvement, ...]


def judge(study: Study, tasks: Sequence[Task], sides: Sides, couples: Couples) -> Judged:
    """The question, on all environments and on each, and the couples."""
    pool, margin = pooled(tasks), study.margin
    family = contrasts.families(pool, sides, margin)
    leading = family.get("auc") if len(pool) == 1 else None
    apart = {} if pool else contrasts.families_by_task(tasks, sides, margin, study.metric)
    pairs = {
        metric: tuple(
            _asked(pair, sides, family.get(metric))
            for pair in contrasts.pairs(pool, couples if pool else (), metric, margin)
        )
        for metric in COMPARED
    }
    return Judged(
        family=family,
        by_task=contrasts.families_by_task(tasks, sides, margin, leading=leading),
        apart=apart,
        pairs=pairs,
        improvement=tuple(contrasts.improvements(pool, couples)),
    )


def _asked(pair: Contrast, sides: Sides, question: Contrast | None) -> Contrast:
    """The pair; if the question is about it, as it was judged there.

    It has been judged among the metrics, and a second look among the pairs would be no other finding.
    """
    if question is None or {pair.first, pair.second} != sides.pair:
        return pair
    (first,), (second,) = sides.both
    named = replace(question, first=first.name, second=second.name)
    return named if named.first == pair.first else named.turned()


def rule_changes(study: Study, sides: Sides, couples: Couples, judged: Judged) -> list[str]:
    """Verdicts that would be others if failed runs were treated otherwise."""
    if not any(failed(run) for cell in study.cells if cell.planned for run in cell.runs):
        return []
    others = {
        rule: _told(judge(study, score(study, rule), sides, couples), sides) for rule in OTHER_RULES
    }
    changes = []
    for what, verdict in _told(judged, sides).items():
        found = {rule: told.get(what, "insufficient") for rule, told in others.items()}
        parts = [
            f"{other} under '{rule}'"
            for rule, other in found.items()
            if _claims(other) != _claims(verdict)
        ]
        if parts:
            changes.append(f"{what}: {verdict} under the rule 'floor', {', '.join(parts)}")
    return changes


def _told(judged: Judged, sides: Sides) -> dict[str, str]:
    """Each verdict once, by what it is about: of the question first, then of pairs on the leading metric."""
    leading = judged.family.get("auc")
    apart = [*judged.apart.items(), *judged.by_task.items()]
    asked = {_about(contrast): contrast for contrast in judged.family.values()}
    asked |= {f"{_about(c)} in {name}": c for name, c in apart if c is not leading}
    rest = {_about(c): c for found in judged.pairs.values() for c in found}
    rest = {what: c for what, c in rest.items() if {c.first, c.second} != sides.pair}
    told = {what: _says(contrast) for what, contrast in (asked | rest).items()}
    for item in judged.improvement:
        told[f"{item.first} against {item.second} on P(improvement)"] = _ahead(item)
    return told


def _about(contrast: Contrast) -> str:
    return f"{contrast.first} against {contrast.second} on {contrast.metric}"


def _says(contrast: Contrast) -> str:
    return f"{contrast.better} better" if contrast.better else contrast.verdict


def _ahead(item: Improvement) -> str:
    if not item.decided:
        return "undecided"
    return f"{item.first if item.interval.estimate > 0.5 else item.second} better"


def _claims(verdict: str) -> str:
    """What is claimed; `undecided` and `insufficient` both claim nothing."""
    return "" if verdict in {"undecided", "insufficient"} else verdict
