"""What the report says, in which order: sentences, figures, tables and the method."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vfcompare.report import figures, oracle, tables
from vfcompare.report.analysis import Results, analyse
from vfcompare.report.figures import mazes
from vfcompare.report.figures.drawing import Picture
from vfcompare.report.metrics import METRICS
from vfcompare.report.prose import fairness
from vfcompare.report.prose.method import method, unmet
from vfcompare.report.prose.sentences import Sentence
from vfcompare.report.prose.verdicts import verdicts
from vfcompare.report.reading.data import Study
from vfcompare.report.table import Table

HEADLINE = "headline"

SECTIONS = (
    ("runs", "Runs", (), ("attrition", "reasons")),
    ("matching", "Matching", (), ("matching-",)),
    ("oracle", "Against the truth", ("oracle-", "maps-"), ("oracle-",)),
    ("effect", "", ("families", "phase-"), ("families",)),
    ("learning", "Learning curves", ("overview", "learning-", "costs"), ()),
    ("scores", "Scores", ("scores", "aggregate", "profile"), ("scores", "aggregates")),
    ("settings", "Settings", ("settings", "knobs", "sensitivity"), ("settings", "tuned-settings")),
    ("speed", "Speed", ("speed",), ("steps-to-threshold",)),
    (
        "pairs",
        "Agent against agent",
        ("pairs", "by-environment", "improvement"),
        ("pairs", "by-environment", "improvement"),
    ),
    ("stability", "Stability", ("stability",), ("stability",)),
    ("paths", "Episodes", ("paths-",), ()),
    ("health", "Training", (), ("diagnostics",)),
    ("provenance", "Provenance", (), ("environments", "provenance")),
)
"""Order of the page: id, heading, figures and tables; a name that ends in a dash is a prefix.

Figures that a study shows first stand before all that, and not again where they would be. The heading of
`effect` is what the study compares.
"""

PERFORMANCE = frozenset(
    {metric.claim for metric in METRICS.values()}
    | {"Where", "Where, at the end", "Agents", "Unequal tuning", ""}
)
STILL = frozenset({HEADLINE, "runs", "matching", "oracle", "provenance"})
"""Sections of a study in which no policy learned: the returns of its agents are not compared."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str
    title: str
    notes: tuple[Sentence, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Document:
    """A report, not yet written.

    Attributes:
      study: what was read.
      verdicts: the answer, and what limits it.
      sections: in the order of the page.
      method: terms and their definitions.
      unmet: definitions of what did not occur in the study.
    """

    study: Study
    verdicts: tuple[Sentence, ...]
    sections: tuple[Section, ...]
    method: tuple[tuple[str, str], ...]
    unmet: tuple[tuple[str, str], ...] = ()

    @property
    def pictures(self) -> dict[str, Picture]:
        """All figures, by name."""
        return {picture.id: picture for section in self.sections for picture in section.pictures}

    @property
    def tables(self) -> dict[str, Table]:
        """All tables, by name."""
        return {table.id: table for section in self.sections for table in section.tables}


def compose(study: Study) -> Document:
    """All that can be said about a study."""
    results = analyse(study)
    findings = oracle.find(study)
    compared = oracle.compare(findings)
    against = oracle.pictures(findings, compared)
    still = bool(findings.subjects) and findings.still
    built = tables.build(results) | oracle.tables(findings, compared)
    drawn = [*([] if still else figures.build(results)), *against, *mazes.pictures(study)]
    sections = _sections(results, drawn, built, oracle.notes(compared))
    said = [*oracle.verdicts(compared, against), *verdicts(results)]
    if still:
        sections = [section for section in sections if section.id in STILL]
        said = [item for item in said if item.title.partition(" on ")[0] not in PERFORMANCE]
    terms = (*method(results), *oracle.method(findings))
    return Document(study, tuple(said), tuple(sections), terms, tuple(unmet(results)))


def _sections(
    results: Results,
    pictures: Sequence[Picture],
    built: Mapping[str, Table],
    truths: Iterable[Sentence],
) -> list[Section]:
    by_id = {picture.id: picture for picture in pictures}
    notes: dict[str, tuple[Sentence, ...]] = {
        "oracle": tuple(truths),
        "matching": tuple(fairness.matching(results)),
        "runs": tuple(Sentence(text, "warning") for text in results.study.problems),
    }
    first = [item for name in results.study.figures for item in _picked(by_id, (name, f"{name}-"))]
    headline = Section(
        HEADLINE, "The answer", (), tuple(by_id.pop(item) for item in dict.fromkeys(first)), ()
    )
    found = [headline] + [
        Section(
            name,
            title or results.sides.title,
            notes.get(name, ()),
            tuple(by_id[item] for item in _picked(by_id, wanted)),
            tuple(built[item] for item in _picked(built, listed)),
        )
        for name, title, wanted, listed in SECTIONS
    ]
    return [section for section in found if section.notes or section.pictures or section.tables]


def _picked(names: Iterable[str], wanted: Sequence[str]) -> list[str]:
    known = list(names)
    return [
        name
        for want in wanted
        for name in known
        if name == want or (want.endswith("-") and name.startswith(want))
    ]
