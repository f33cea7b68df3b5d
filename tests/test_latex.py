"""What the report exports for papers compiles, whatever the names: `make latex`."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.report_study import write_hostile_study
from vfcompare import report
from vfcompare.report.analysis import resampling

PAPER = r"""
\documentclass{article}
\usepackage{booktabs,graphicx}
\begin{document}
"""
"""The packages that docs/report.md asks for, and no others."""
FIGURE = r"""
\begin{{figure}}
\includegraphics[width=\linewidth]{{{path}}}
\caption{{\protect\input{{{name}-caption}}}}
\end{{figure}}
\clearpage"""


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("pdflatex") is None,
    reason="pdflatex is missing (Debian: texlive-latex-base texlive-latex-recommended)",
)
def test_a_paper_with_all_tables_and_figures_of_a_hostile_study_compiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "REPS", 50)
    monkeypatch.setattr(resampling, "PAIR_REPS", 50)
    study = write_hostile_study(tmp_path)
    folder = report.write(study).parent
    tables = sorted(path.relative_to(tmp_path) for path in folder.glob("tables/*.tex"))
    figures = sorted(path.relative_to(tmp_path) for path in folder.glob("figures/*.pdf"))
    for figure in figures:
        report.write_figure([study], figure.stem, tmp_path)
    assert {"scores", "attrition"} <= {path.stem for path in tables}
    assert figures
    body = [
        *(rf"\noindent\resizebox{{\linewidth}}{{!}}{{\input{{{path}}}}}\par" for path in tables),
        *(FIGURE.format(path=path, name=path.stem) for path in figures),
    ]
    paper = tmp_path / "paper.tex"
    paper.write_text("\n".join([PAPER.strip(), *body, r"\end{document}", ""]))
    command = ["pdflatex", "-no-shell-escape", "-halt-on-error", paper.name]
    made = subprocess.run(command, cwd=tmp_path, timeout=120, capture_output=True, check=False)
    log = made.stdout.decode(errors="replace")
    assert made.returncode == 0, log[-2000:]
    assert "Overfull" not in log
    assert paper.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
