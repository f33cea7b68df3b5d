"""Tables as files: CSV, Parquet, LaTeX, Markdown and JSON."""

import csv
import hashlib
import io
import math
import re
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vfcompare.report.table import MINUS, NONE, Table, show
from vfcompare.statistics import Interval

Scalar = str | int | float | None


def slug(name: str) -> str:
    """A file name for a name of unknown origin; equal only for equal names."""
    plain = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:40]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def as_json(value: Any) -> Any:
    """A value for JSON: intervals as objects, what is not finite as a word."""
    if isinstance(value, Interval):
        return {key: as_json(item) for key, item in value._asdict().items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def as_csv(table: Table) -> str:
    """Comma-separated values; intervals become three columns, and no text can start a formula."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    columns = flat(table)
    writer.writerow([safe_text(name) for name in columns])
    writer.writerows(
        zip(*[[_csv_cell(v) for v in column] for column in columns.values()], strict=True)
    )
    return stream.getvalue()


def _csv_cell(value: Scalar) -> object:
    return safe_text(value) if isinstance(value, str) else ("" if value is None else value)


def flat(table: Table) -> dict[str, list[Scalar]]:
    """The columns of a table; an interval is three of them."""
    columns: dict[str, list[Scalar]] = {}
    for index, name in enumerate(table.columns):
        values = [row[index] for row in table.rows]
        while name in columns:
            name = f"{name}'"
        if not any(isinstance(value, Interval) for value in values):
            columns[name] = [value for value in values if not isinstance(value, Interval)]
            continue
        parts = [v if isinstance(v, Interval) else (v, None, None) for v in values]
        for place, suffix in enumerate(("", " low", " high")):
            columns[f"{name}{suffix}"] = [part[place] for part in parts]
    return columns


def as_parquet(table: Table) -> bytes:
    """All rows, typed; a column that holds texts and numbers is text."""
    stream = pa.BufferOutputStream()
    columns = {name: _arrow(values) for name, values in flat(table).items()}
    pq.write_table(pa.table(columns), stream, compression="zstd")
    return stream.getvalue().to_pybytes()


def _arrow(values: list[Scalar]) -> Any:
    known = [value for value in values if value is not None]
    if any(isinstance(value, str) for value in known):
        texts = [v if v is None or isinstance(v, str) else show(v) for v in values]
        return pa.array(texts, pa.string())
    if known and all(isinstance(value, int) for value in known):
        return pa.array(values, pa.int64())
    return pa.array([None if v is None else float(v) for v in values], pa.float64())


LETTERS = {
    **{"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "η": "eta"},
    **{"θ": "theta", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "π": "pi", "ρ": "rho"},
    **{"σ": "sigma", "τ": "tau", "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega"},
    **{"Γ": "Gamma", "Δ": "Delta", "Θ": "Theta", "Λ": "Lambda", "Σ": "Sigma", "Ω": "Omega"},
}
"""Greek ones that stand in names of methods and settings."""

LATEX = str.maketrans(
    {
        **{letter: rf"$\{name}$" for letter, name in LETTERS.items()},
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\symbol{34}",
        "`": r"\textasciigrave{}",
        "'": r"\textquotesingle{}",
        MINUS: "$-$",
        NONE: "--",
        "\N{INFINITY}": r"$\infty$",
        "\N{MULTIPLICATION SIGN}": r"$\times$",
        "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}",
        "²": r"\textsuperscript{2}",
        "∇": r"$\nabla$",
        "·": r"$\cdot$",
        "±": r"$\pm$",
        "≈": r"$\approx$",
        "≥": r"$\geq$",
        "▸": r"$\triangleright$",
        "◂": r"$\triangleleft$",
    }
)
"""What has a meaning in TeX, and what the usual fonts lack."""


def escape_latex(text: str) -> str:
    """Text without TeX meaning; letters that pdfLaTeX does not know become question marks."""
    safe = text.translate(LATEX)
    return "".join(c if c.isascii() and (c.isprintable() or c == " ") else "?" for c in safe)


LINE = 120
"""Letters of a text beyond which a column of a LaTeX table breaks its lines."""


def as_latex(table: Table) -> str:
    """The printed rows as a `tabular` with the rules of booktabs; columns of long texts are a line wide."""
    texts = table.texts()
    longest = [max(map(len, column)) for column in zip(table.columns, *texts, strict=True)]
    broken = [length > LINE for length in longest]
    kinds = "".join(
        r"p{\linewidth}" if wide else ("r" if table.numeric(i) else "l")
        for i, wide in enumerate(broken)
    )
    head = [escape_latex(name) for name in table.columns]
    body = [
        [
            # ragged, as no width suits texts without spaces, and in a group, as it redefines a line's end
            rf"{{\raggedright {escape_latex(text)}\strut\par}}" if wide else escape_latex(text)
            for text, wide in zip(row, broken, strict=True)
        ]
        for row in texts
    ]
    # after a line's end, TeX takes [ and * for options of it
    lines = [
        "{}" * row[0].startswith(("[", "*")) + " & ".join(row) + r" \\" for row in [head, *body]
    ]
    return "\n".join(
        [
            f"% {_comment(table.title)}. {_cut(table)}Needs the package booktabs.",
            rf"\begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


SHORT = ("metric", "difference", "Holm's interval", "adjusted p", "verdict")
"""Columns of the differences that a paper has room for."""


def latex_files(table: Table) -> dict[str, bytes]:
    """A table in LaTeX by the name of its file; one of differences also as NAME-short, with fewer columns."""
    name = slug(table.id)
    files = {f"{name}.tex": as_latex(table).encode()}
    if {*SHORT} <= {*table.columns}:
        files[f"{name}-short.tex"] = as_latex(table.only(SHORT)).encode()
    return files


def _cut(table: Table) -> str:
    printed, every = len(table.printed), len(table.rows)
    return f"{printed:,} of {every:,} rows, the csv file has all. " if printed < every else ""


def _comment(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def safe_text(text: str) -> str:
    """Text that a spreadsheet will not run: a leading = + - @ or control character is quoted."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"} else text


def as_markdown(table: Table) -> str:
    """A pipe table."""
    head = [escape_markdown(name) for name in table.columns]
    rule = ["---:" if table.numeric(i) else "---" for i in range(len(head))]
    body = [[escape_markdown(text) for text in row] for row in table.texts()]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *body])


def escape_markdown(text: str) -> str:
    """Text without Markdown or HTML meaning."""
    for mark in "\\`*_[]|#$":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
