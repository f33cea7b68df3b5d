"""Figures as files, and as a part of the page: the same numbers give the same bytes."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from vfcompare.report.figures.fitting import fit
from vfcompare.report.figures.looks import CRITIC, FAINT, INK, LETTERS, MUTED, OUTCOME, PAPER
from vfcompare.report.figures.sizes import BODY, on_paper, paper, points

FORMATS: dict[str, Any] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
"""What figures are written as, without dates and names of programs."""

STYLE: Any = {
    "text.parse_math": False,
    "text.usetex": False,
    "svg.hashsalt": "vfcompare",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": BODY,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": BODY,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": INK,
    "axes.unicode_minus": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "butt",  # a bar ends where its interval ends
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.linewidth": 0.5,
    "hatch.color": FAINT,
}

LETTER_SIZES = (
    "font.size",
    "axes.titlesize",
    "axes.labelsize",
    "xtick.labelsize",
    "ytick.labelsize",
)


@contextmanager
def style(width: float | None = None) -> Iterator[None]:
    """Settings of the report's figures, without Matplotlib's complaints about glyphs of foreign names.

    Args:
      width: of the text of a paper in inches, whose figures are drawn inside; None for the page.
    """
    with on_paper(width), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        changes: Any = {key: points(STYLE[key]) for key in LETTER_SIZES}
        if paper():
            # what was measured once is as wide in every format
            changes["text.hinting"] = "none"
        with matplotlib.rc_context(STYLE | changes):
            yield


def render(figure: Figure) -> dict[str, bytes]:
    """The figure, not yet laid out, in all `FORMATS`; the same figure gives the same bytes."""
    if paper():
        fit(figure)
    files = {}
    for kind, metadata in FORMATS.items():
        stream = io.BytesIO()
        behind = PAPER if kind == "png" else "none"
        figure.savefig(stream, format=kind, metadata=metadata, dpi=160, facecolor=behind)
        # laid out once: the other formats take the same places, in a third of the time
        figure.set_layout_engine("none")
        files[kind] = stream.getvalue()
    files["svg"] = _numbered(files["svg"])
    return files


def _numbered(svg: bytes) -> bytes:
    """An SVG whose ids are counted: Matplotlib's are hashes of places, to the last bit of the layout."""
    hashed = re.compile(rb'(?<=\sid=")[A-Za-z][0-9a-f]{10}(?=")')
    known = {
        name: b"i%d" % number for number, name in enumerate(dict.fromkeys(hashed.findall(svg)))
    }
    return re.sub(rb"\b[A-Za-z][0-9a-f]{10}\b", lambda found: known.get(found[0], found[0]), svg)


LEAST = 1.0
"""Pixels of the page for a point of a figure, at least: letters of 8 points are 8 pixels high."""
AGENTS = {
    **{color: f"--c{i}" for i, color in enumerate(CRITIC)},
    **{color: f"--o{i}" for i, color in enumerate(OUTCOME)},
}
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    FAINT: "--faint",
    PAPER: "--paper",
    **AGENTS,
    **{letters: f"{AGENTS[color]}-text" for color, letters in LETTERS.items()},
}


def inline(svg: bytes, name: str, label: str) -> str:
    """An SVG for the page: own ids, colours and font from the page's style, a label for readers."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"'DejaVu Sans'(, sans-serif)?", "var(--sans)", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    opening = f'<svg role="img" aria-label="{_attribute(label)}"'
    text = re.sub(r'<svg([^>]*?) width="([\d.]+)pt"', _legible, text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    return text.replace("<svg", opening, 1)


def _legible(found: re.Match[str]) -> str:
    """The page's width, whatever it is, but on a phone not so narrow that letters are too small."""
    return f'<svg{found[1]} style="--least: {LEAST * float(found[2]):.0f}px"'


def _attribute(text: str) -> str:
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(mark, entity)
    return text
