"""A report as one HTML page that needs and runs nothing, as Markdown, and as JSON."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from vfcompare.report.figures import output
from vfcompare.report.pages import formats
from vfcompare.report.pages.document import Document
from vfcompare.report.pages.formats import escape_markdown as escape
from vfcompare.report.pages.formats import slug
from vfcompare.report.prose.sentences import Sentence
from vfcompare.report.table import Table

FOLDED = frozenset({"pairs", "by-environment", "improvement", "diagnostics", "provenance"}) | {
    "oracle-gradient",
    "oracle-advantage",
    "oracle-values",
}
"""Tables that a reader opens."""


def as_json(document: Document) -> str:
    """What the page prints, with the full precision of its numbers; see `report.schema.json`."""
    content: dict[str, Any] = {
        "schema": 2,
        "study": document.study.name,
        "question": document.study.question,
        "created": document.study.created,
        "planned": document.study.has_plan,
        "verdicts": [_sentence(item) for item in document.verdicts],
        "notes": {
            s.id: [_sentence(item) for item in s.notes] for s in document.sections if s.notes
        },
        "tables": {name: _table(table) for name, table in document.tables.items()},
        "figures": {
            name: {
                "title": picture.title,
                "caption": picture.caption,
                "columns": list(picture.data.columns),
                "count": len(picture.data.rows),
                "file": f"figures/{name}.csv",
            }
            for name, picture in document.pictures.items()
        },
        "method": _method(document),
    }
    text = json.dumps(formats.as_json(content), ensure_ascii=False, indent=1, allow_nan=False)
    return text + "\n"


def schema() -> str:
    """The JSON Schema of `as_json`."""
    return (files("vfcompare.report.pages") / "templates" / "report.schema.json").read_text(
        encoding="utf-8"
    )


def _sentence(sentence: Sentence) -> dict[str, str]:
    return {"title": sentence.title, "text": sentence.text, "tone": sentence.tone}


def _method(document: Document) -> dict[str, str]:
    """All definitions by term, those of what did not occur behind the others."""
    found: dict[str, list[str]] = {}
    for term, text in (*document.method, *document.unmet):
        found.setdefault(term, []).append(text)
    return {term: " ".join(texts) for term, texts in found.items()}


def _table(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "note": table.note,
        "columns": list(table.columns),
        "rows": [list(row) for row in table.printed],
        "texts": table.texts(),
        "count": len(table.rows),
        "file": f"tables/{slug(table.id)}.csv",
    }


def as_markdown(document: Document) -> str:
    """The page's twin for places that show Markdown."""
    lines = [f"# {escape(document.study.name)}", ""]
    if document.study.question:
        lines += [f"*{escape(document.study.question)}*", ""]
    lines += [*map(_item, document.verdicts), ""]
    for section in document.sections:
        lines += [f"## {section.title}", ""]
        lines += map(_item, section.notes)
        for picture in section.pictures:
            lines += ["", f"![{escape(picture.title)}](figures/{picture.id}.png)", ""]
            lines += [f"**{escape(picture.title)}.** {escape(picture.caption)}", ""]
        for table in section.tables:
            note = f"{table.note} {table.rest}".strip()
            lines += ["", f"**{escape(table.title)}.** {escape(note)}".strip(), ""]
            lines += [formats.as_markdown(table), ""]
    lines += ["## Method", ""]
    lines += [f"- **{escape(name)}.** {escape(text)}" for name, text in _method(document).items()]
    return "\n".join(lines) + "\n"


def _item(sentence: Sentence) -> str:
    """A sentence as an item of a list, with its tone where it has one."""
    tone = "" if sentence.tone == "plain" else f"*{sentence.tone}:* "
    title = f"**{escape(sentence.title)}.** " if sentence.title else ""
    return f"- {tone}{title}{escape(sentence.text)}"


def as_html(document: Document, drawings: Mapping[str, bytes], listing: Sequence[str]) -> str:
    """The page.

    Args:
      document: what it says.
      drawings: SVG of each figure.
      listing: names of all files beside it.
    """
    environment = Environment(
        loader=PackageLoader("vfcompare.report.pages", "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["slug"] = slug
    inlined = {
        name: Markup(output.inline(drawings[name], name, picture.caption))
        for name, picture in document.pictures.items()
    }
    return environment.get_template("report.html.j2").render(
        study=document.study,
        verdicts=document.verdicts,
        sections=document.sections,
        drawings=inlined,
        folded=FOLDED,
        method=document.method,
        unmet=document.unmet,
        listing=listing,
    )
