"""All verdicts of a report, and which of them would be others if failed runs were treated otherwise."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from vfcompare.report.analysis import contrasts
from vfcompare.report.analysis.arms import Sides, pooled
from vfcompare.report.analysis.contrasts import Contrast, Couples, Improvement
from vfcompare.report.fates import failed
from vfcompare.report.metrics import COMPARED, SCORES
from vfcompare.report.reading.data import Study
from vfcompare.report.scoring import Task, score
from vfcompare.statistics import FailureRule

OTHER_RULES: tuple[FailureRule, ...] = ("last", "drop")


MANY = 400
"""Most comparisons of two agents on single environments that are made: each adds to the correction of all."""


@dataclass(frozen=True)
class Judged:
    """Whatever a report decides.

    Attributes:
      family: one side of the question against the other, by metric.
      by_task: the same by metric and environment: scores, and the study's own metric where environments
        have no common scale.
      pairs: agents against each other, by metric; none where there is no common scale.
      pairs_by_task: scores of agents against each other on one environment each, by metric; none where there
        is one environment, where the question says it all, or where there are more than `MANY`.
      improvement: P(first > second) of the same pairs.
    """

    family: Mapping[str, Contrast]
    by_task: Mapping[str, Mapping[str, Contrast]]
    pairs: Mapping[str, tuple[Contrast, ...]]
    pairs_by_task: Mapping[str, tuple[Contrast, ...]]
    improvement: tuple[Improvement, ...]


def judge(study: Study, tasks: Sequence[Task], sides: Sides, couples: Couples) -> Judged:
    """The question and the couples, on all environments and on each."""
    pool, margin = pooled(tasks), study.margin
    family = contrasts.families(pool, sides, margin)
    by_task, pairs, pairs_by_task = {}, {}, {}
    for metric in SCORES if pool else dict.fromkeys((*SCORES, study.metric)):
        leading = family.get(metric) if len(pool) == 1 else None
        by_task[metric] = contrasts.families_by_task(tasks, sides, margin, metric, leading)
    family = {m: _whole(c, by_task.get(m, {}).values(), margin) for m, c in family.items()}
    others = any({x.name, y.name} != sides.pair for x, y in couples)
    several = others and len(tasks) > 1 and len(tasks) * len(couples) <= MANY
    for metric in SCORES:
        asked = by_task[metric]
        pairs_by_task[metric] = tuple(
            _asked(pair, sides, asked.get(pair.tasks[0]))
            for pair in contrasts.pairs_by_task(tasks, couples if several else (), metric, margin)
        )
    for metric in COMPARED:
        apart = pairs_by_task.get(metric, ())
        pairs[metric] = tuple(
            _whole(_asked(pair, sides, family.get(metric)), _of(pair, apart), margin)
            for pair in contrasts.pairs(pool, couples if pool else (), metric, margin)
        )
    improvement = tuple(contrasts.improvements(pool, couples))
    return Judged(family, by_task, pairs, pairs_by_task, improvement)


def _of(pair: Contrast, apart: Iterable[Contrast]) -> list[Contrast]:
    """What was found for a pair on single environments."""
    return [one for one in apart if (one.first, one.second) == (pair.first, pair.second)]


def _whole(contrast: Contrast, apart: Iterable[Contrast], margin: float) -> Contrast:
    """The contrast; if it is equal over environments that it is averaged over and not on each, as `mixed`.

    What is decided on one of them, and larger than the margin, is no equality: others make up for it.
    """
    if contrast.verdict != "equal":
        return contrast
    there = [one for one in apart if {*one.tasks} <= {*contrast.tasks}]
    unlike = any(one.better and abs(one.interval.estimate) > margin for one in there)
    return replace(contrast, verdict="mixed") if unlike else contrast


def _asked(pair: Contrast, sides: Sides, question: Contrast | None) -> Contrast:
    """The pair; if the question is about it, as it was judged there.

    It has been judged among the metrics, or the environments, and a second look among the pairs would be no
    other finding.
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
    found = {_about(contrast): contrast for contrast in judged.family.values()}
    for metric, by_task in judged.by_task.items():
        leading = judged.family.get(metric)
        found |= {f"{_about(c)} in {name}": c for name, c in by_task.items() if c is not leading}
    for pairs in judged.pairs.values():
        found |= {_about(c): c for c in pairs if {c.first, c.second} != sides.pair}
    for pairs in judged.pairs_by_task.values():
        rest = [c for c in pairs if {c.first, c.second} != sides.pair]
        found |= {f"{_about(c)} in {c.tasks[0]}": c for c in rest}
    told = {what: _says(contrast) for what, contrast in found.items()}
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
