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
    folder = report.write(write_hostile_study(tmp_path)).parent
    tables = sorted(path.relative_to(tmp_path) for path in folder.glob("tables/*.tex"))
    figures = sorted(path.relative_to(tmp_path) for path in folder.glob("figures/*.pdf"))
    assert {"scores", "attrition"} <= {path.stem for path in tables}
    assert figures
    body = [
        *(rf"\noindent\resizebox{{\linewidth}}{{!}}{{\input{{{path}}}}}\par" for path in tables),
        *(rf"\noindent\includegraphics[width=\linewidth]{{{path}}}\par" for path in figures),
    ]
    paper = tmp_path / "paper.tex"
    paper.write_text("\n".join([PAPER.strip(), *body, r"\end{document}", ""]))
    command = ["pdflatex", "-no-shell-escape", "-halt-on-error", paper.name]
    made = subprocess.run(command, cwd=tmp_path, timeout=120, capture_output=True, check=False)
    log = made.stdout.decode(errors="replace")
    assert made.returncode == 0, log[-2000:]
    assert "Overfull" not in log
    assert paper.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
