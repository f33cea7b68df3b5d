"""Writing the report: one page, its Markdown twin, every table, every figure, every number."""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from vfcompare.report import figures, maps, oracle, sentences, tables
from vfcompare.report.analysis import Results, analyse
from vfcompare.report.data import load
from vfcompare.report.figures import Picture
from vfcompare.report.method import method
from vfcompare.report.sentences import Sentence
from vfcompare.report.tables import Table

SECTIONS = (
    ("runs", "Runs", (), ("attrition", "reasons")),
    ("matching", "Matching", (), ("matching-",)),
    ("oracle", "Against the truth", ("oracle-", "maps-"), ("oracle-",)),
    ("effect", "With and without a critic", ("families",), ("families",)),
    ("learning", "Learning curves", ("overview", "learning-"), ()),
    ("scores", "Scores", ("scores", "aggregate", "profile"), ("scores", "aggregates")),
    ("speed", "Speed", ("speed",), ("steps-to-threshold",)),
    ("pairs", "Agent against agent", ("pairs", "improvement"), ("pairs", "improvement")),
    ("stability", "Stability", ("stability",), ("stability",)),
    ("health", "Training", (), ("diagnostics",)),
    ("provenance", "Provenance", (), ("environments", "provenance")),
)
"""Order of the page: id, heading, figures and tables; a name that ends in a dash is a prefix."""

FOLDED = frozenset({"pairs", "improvement", "families", "diagnostics", "provenance"}) | {
    "oracle-gradient",
    "oracle-advantage",
    "oracle-values",
}


PERFORMANCE = frozenset(
    {title for title, _, _ in sentences.CLAIMS.values()} | {"Where", "Agents", ""}
)
STILL = frozenset({"runs", "matching", "oracle", "provenance"})
"""Sections of a study in which no policy learned: the returns of its agents are not compared."""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    id: str
    title: str
    notes: tuple[Sentence, ...]
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]


def write(study_dir: Path, out: Path | None = None) -> Path:
    """Writes the report of a study from its files, and returns the path of the page.

    Args:
      study_dir: folder of the study, `runs/<study>`.
      out: folder of the report; `report` inside the study if None.
    """
    results = analyse(load(Path(study_dir)))
    folder = Path(study_dir) / "report" if out is None else Path(out)
    findings = oracle.find(results.study)
    compared = oracle.compare(findings)
    built = tables.build(results) | oracle.tables(findings, compared)
    against = oracle.pictures(findings, compared)
    still = bool(findings.subjects) and findings.still
    with figures.style():
        pictures = [] if still else figures.build(results)
        pictures += [*against, *maps.pictures(results.study)]
        files = _figure_files(pictures)
    files |= {f"tables/{slug(name)}.csv": tables.as_csv(t).encode() for name, t in built.items()}
    sections = _sections(results, pictures, built, oracle.notes(compared))
    verdicts = [*oracle.verdicts(compared, against), *sentences.verdicts(results)]
    if still:
        sections = [section for section in sections if section.id in STILL]
        verdicts = [item for item in verdicts if item.title not in PERFORMANCE]
    terms = [*method(results), *oracle.method(findings)]
    files["report.json"] = _json(results, verdicts, sections, terms)
    listing = sorted([*files, "report.md", "index.html"])
    files["report.md"] = _markdown(results, verdicts, sections, terms).encode()
    files["index.html"] = _html(results, verdicts, sections, terms, files, listing).encode()
    for name, content in files.items():
        _replace(folder / name, content)
    return folder / "index.html"


def slug(name: str) -> str:
    """A file name for a name of unknown origin; equal only for equal names."""
    plain = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:40]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=".", suffix=".tmp", delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)


def _figure_files(pictures: Sequence[Picture]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for picture in pictures:
        name = f"figures/{picture.id}"
        for kind, content in figures.render(picture.draw()).items():
            files[f"{name}.{kind}"] = content
        files[f"{name}.csv"] = tables.as_csv(picture.data).encode()
    return files


def _picked(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    return [
        name
        for want in wanted
        for name in names
        if name == want or (want.endswith("-") and name.startswith(want))
    ]


def _sections(
    results: Results,
    pictures: Sequence[Picture],
    built: Mapping[str, Table],
    truths: Sequence[Sentence],
) -> list[Section]:
    by_id = {picture.id: picture for picture in pictures}
    notes: dict[str, tuple[Sentence, ...]] = {
        "oracle": tuple(truths),
        "matching": tuple(sentences.matching(results)),
        "runs": tuple(Sentence(text, "warning") for text in results.study.problems),
    }
    found = [
        Section(
            name,
            title,
            notes.get(name, ()),
            tuple(by_id[item] for item in _picked(list(by_id), wanted)),
            tuple(built[item] for item in _picked(list(built), listed)),
        )
        for name, title, wanted, listed in SECTIONS
    ]
    return [section for section in found if section.notes or section.pictures or section.tables]


def _json(
    results: Results,
    verdicts: Sequence[Sentence],
    sections: Sequence[Section],
    terms: Sequence[tuple[str, str]],
) -> bytes:
    content: dict[str, Any] = {
        "schema": 1,
        "study": results.study.name,
        "question": results.study.question,
        "created": results.study.created,
        "planned": results.study.planned,
        "verdicts": [_sentence_json(item) for item in verdicts],
        "notes": {s.id: [_sentence_json(item) for item in s.notes] for s in sections if s.notes},
        "tables": {table.id: _table_json(table) for s in sections for table in s.tables},
        "figures": {
            picture.id: {
                "title": picture.title,
                "caption": picture.caption,
                "data": _table_json(picture.data),
            }
            for section in sections
            for picture in section.pictures
        },
        "method": dict(terms),
    }
    text = json.dumps(tables.as_json(content), ensure_ascii=False, indent=1, allow_nan=False)
    return (text + "\n").encode()


def _sentence_json(sentence: Sentence) -> dict[str, str]:
    return {"title": sentence.title, "text": sentence.text, "tone": sentence.tone}


def _table_json(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.rows],
        "texts": table.texts(),
    }


def _markdown(
    results: Results,
    verdicts: Sequence[Sentence],
    sections: Sequence[Section],
    terms: Sequence[tuple[str, str]],
) -> str:
    escape = tables.escape_markdown
    lines = [f"# {escape(results.study.name)}", ""]
    if results.study.question:
        lines += [f"*{escape(results.study.question)}*", ""]
    lines += [f"- {_bold(item)}{escape(item.text)}" for item in verdicts] + [""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        lines += [f"- {_bold(item)}{escape(item.text)}" for item in section.notes]
        for picture in section.pictures:
            lines += ["", f"![{escape(picture.title)}](figures/{picture.id}.png)", ""]
            lines += [f"**{escape(picture.title)}.** {escape(picture.caption)}", ""]
        for table in section.tables:
            lines += ["", f"**{escape(table.title)}.** {escape(table.note)}", ""]
            lines += [tables.as_markdown(table), ""]
    lines += ["## Method", ""]
    lines += [f"- **{escape(name)}.** {escape(text)}" for name, text in terms]
    return "\n".join(lines) + "\n"


def _bold(sentence: Sentence) -> str:
    return f"**{tables.escape_markdown(sentence.title)}.** " if sentence.title else ""


def _html(
    results: Results,
    verdicts: Sequence[Sentence],
    sections: Sequence[Section],
    terms: Sequence[tuple[str, str]],
    files: Mapping[str, bytes],
    listing: Sequence[str],
) -> str:
    environment = Environment(
        loader=PackageLoader("vfcompare", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    drawings = {
        picture.id: Markup(
            figures.inline(files[f"figures/{picture.id}.svg"], picture.id, picture.caption)
        )
        for section in sections
        for picture in section.pictures
    }
    return environment.get_template("report.html.j2").render(
        study=results.study,
        verdicts=verdicts,
        sections=sections,
        drawings=drawings,
        folded=FOLDED,
        method=terms,
        listing=listing,
    )
