"""From the files of a study to the files of its report."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vfcompare.errors import InputError, nearest
from vfcompare.report.figures import output
from vfcompare.report.figures.drawing import Picture
from vfcompare.report.pages import export, formats, page
from vfcompare.report.pages.document import Document, compose
from vfcompare.report.pages.formats import escape_latex, slug
from vfcompare.report.pages.venues import width_of
from vfcompare.report.reading.anonymous import anonymous as without_names
from vfcompare.report.reading.data import Study, load
from vfcompare.report.reading.renaming import read_names, renamed
from vfcompare.report.scoring import score
from vfcompare.report.table import Table, join
from vfcompare.runs.disk import must_be_writable, refusing, stay_inside
from vfcompare.runs.store import ABANDONED_AFTER, sweep_up, write_bytes


def write(
    studies: Path | Sequence[Path],
    out: Path | None = None,
    *,
    anonymous: bool = False,
    venue: str | None = None,
    names: Path | None = None,
) -> Path:
    """Writes the report of a study, or of several together, and returns the path of the page.

    Args:
      studies: their folders, `runs/<study>`.
      out: folder of the report; `report` inside the study if None.
      anonymous: leave out whatever tells who ran it where, see `vfcompare.report.reading.anonymous`.
      venue: a conference or journal whose width the figures take, such as `neurips2024`.
      names: a file that says what agents and environments are called, see
        `vfcompare.report.reading.renaming`.

    Raises:
      InputError: there are several studies and no `out`, the venue or a name is unknown, or the folder
        cannot be written, is a link that nobody typed, or has runs in it.
    """
    folders = [studies] if isinstance(studies, Path) else list(studies)
    if out is None and len(folders) > 1:
        raise InputError("--out is missing; allowed: the folder for the report of several studies")
    folder = folders[0] / "report" if out is None else Path(out)
    width = width_of(venue)
    if out is None:
        below = (folder / name for name in ("figures", "tables"))
        stay_inside(folder, *below, hint=", or --out=FOLDER")
    _must_take_files(folder)
    keep(folder, report_files(read(folders, anonymous=anonymous, names=names), width))
    return folder / "index.html"


def _must_take_files(out: Path) -> None:
    """Refuse a folder that cannot be written, or is a study's own or a cell's."""
    must_be_writable(out, f"--out={out}")
    for file in ("plan.json", "run.json"):
        if os.path.lexists(out / file):
            told = f"--out={out}: runs are kept there ({file})"
            raise InputError(f"{told}; allowed: a folder of its own, such as {out / 'report'}")


def keep(folder: Path, files: Mapping[str, bytes]) -> list[Path]:
    """Writes files by their names, and returns their paths; what a kill once left of these is swept up.

    Raises:
      InputError: one of them cannot be written.
    """
    for name, content in files.items():
        with refusing(folder / name):
            write_bytes(folder / name, content)
    paths = [folder / name for name in files]
    for place in {path.parent for path in paths}:
        sweep_up(place, older=ABANDONED_AFTER, of={path.name for path in paths})
    return paths


def read(folders: Sequence[Path], *, anonymous: bool = False, names: Path | None = None) -> Study:
    """The studies as one."""
    study = load(*folders, places=not anonymous)
    return renamed(without_names(study) if anonymous else study, read_names(names))


def report_files(study: Study, width: float | None = None) -> dict[str, bytes]:
    """Every file of a report by its name, as bytes that depend on the study alone."""
    # what captions say of a figure depends on its width, too
    with output.style(width):
        document = compose(study)
        files = figure_files(document.pictures.values())
    files |= table_files(document.tables.values())
    files["report.json"] = page.as_json(document).encode()
    files["report.schema.json"] = page.schema().encode()
    files["report.md"] = page.as_markdown(document).encode()
    listing = sorted([*files, "index.html"])
    drawings = {name: files[f"figures/{name}.svg"] for name in document.pictures}
    files["index.html"] = page.as_html(document, drawings, listing).encode()
    return files


def figure_files(pictures: Iterable[Picture]) -> dict[str, bytes]:
    """Each figure in all formats, and its data, in the style that is set."""
    files: dict[str, bytes] = {}
    for picture in pictures:
        name = f"figures/{picture.id}"
        for kind, content in output.render(picture.draw()).items():
            files[f"{name}.{kind}"] = content
        files |= {f"{name}-{end}": make() for end, make in picture.more.items()}
        files[f"{name}.csv"] = formats.as_csv(picture.data).encode()
    return files


def table_files(tables: Iterable[Table]) -> dict[str, bytes]:
    """Each table as CSV and Parquet, with all rows, and as LaTeX, as it is printed."""
    files: dict[str, bytes] = {}
    for table in tables:
        name = f"tables/{slug(table.id)}"
        files[f"{name}.csv"] = formats.as_csv(table).encode()
        files[f"{name}.parquet"] = formats.as_parquet(table)
        files |= {f"tables/{file}": text for file, text in formats.latex_files(table).items()}
    return files


def write_figure(
    studies: Sequence[Path],
    name: str,
    out: Path,
    *,
    anonymous: bool = False,
    venue: str | None = None,
    names: Path | None = None,
) -> list[Path]:
    """Writes one figure in all formats, with its data and, for LaTeX, its caption.

    `learning` is short for all figures whose name begins so.

    Raises:
      InputError: there is no such figure, the venue or a name is unknown, or the folder cannot be written,
        or has runs in it.
    """
    width = width_of(venue)
    _must_take_files(out)
    study = read(studies, anonymous=anonymous, names=names)
    with output.style(width):
        pictures = chosen(compose(study), name)
        files = figure_files(pictures)
    files |= {f"{p.id}-caption.tex": f"{escape_latex(p.caption)}\n".encode() for p in pictures}
    return keep(out, {Path(name).name: content for name, content in files.items()})


def chosen(document: Document, name: str) -> list[Picture]:
    """The figures of this name, or of this beginning before a dash."""
    known = document.pictures
    found = [picture for key, picture in known.items() if key == name or key.startswith(f"{name}-")]
    if not found:
        listed = ", ".join(known) or "none: no run is finished"
        raise InputError(f"no figure {name!r}; allowed: {listed}{nearest(name, known)}")
    return found


def write_export(
    studies: Sequence[Path], kind: str, out: Path, *, anonymous: bool = False
) -> list[Path]:
    """Writes a study for other programs, see `vfcompare.report.pages.export`.

    Raises:
      InputError: there is no such format, or the folder cannot be written, or has runs in it.
    """
    if kind not in export.FORMATS:
        allowed = ", ".join(export.FORMATS)
        raise InputError(
            f"unknown format {kind!r}; allowed: {allowed}{nearest(kind, export.FORMATS)}"
        )
    _must_take_files(out)
    study = read(studies, anonymous=anonymous)
    paths = keep(out, export.export(study, kind))
    between = export.interpolated(score(study)) if kind == "marl-eval" else {}
    if between:
        told = join(f"{name} ({len(steps)} steps)" for name, steps in between.items())
        print(
            "vfcompare: marl-eval wants equal steps; values are interpolated between a run's own evaluations "
            f"on {told}",
            file=sys.stderr,
        )
    return paths
