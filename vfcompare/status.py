"""What is planned, done and missing in a study, as a table of cells."""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from vfcompare import store


class CellStatus(NamedTuple):
    """One cell of a study.

    Attributes:
      id: its folder.
      status: `planned`, `running`, `lost`, `completed`, `crashed`, `interrupted` or `damaged`.
      seeds: planned.
      done: seeds that completed.
      diverged: seeds that diverged.
      note: a reason, or seconds.
    """

    id: str
    status: str
    seeds: int
    done: int
    diverged: int
    note: str


def read(study: Path) -> list[CellStatus]:
    """The status of every planned or found cell, from what is on disk."""
    planned = store.planned(study)
    found = {path.name: path for path in store.runs(study)}
    names = [*planned, *(name for name in found if name not in planned)]
    return [_cell(name, planned.get(name, {}), found.get(name)) for name in names]


def _cell(name: str, plan: dict[str, Any], path: Path | None) -> CellStatus:
    seeds = len(plan.get("seeds", []))
    if path is None:
        return CellStatus(name, "planned", seeds, 0, 0, "")
    try:
        record = store.read_json(path / "run.json")
        words = Counter(str(seed["status"]) for seed in record["seeds"].values())
        status = str(record["status"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return CellStatus(name, "damaged", seeds, 0, 0, f"{type(error).__name__}: {error}"[:60])
    if status == "running" and store.age(record) > store.LOST_AFTER:
        status = "lost"
    note = str(record.get("message") or "")[:60]
    if status == "completed":
        note = f"{record.get('seconds', {}).get('total', 0):.0f} s"
    seeds = seeds or sum(words.values())
    return CellStatus(name, status, seeds, words["completed"], words["diverged"], note)


def show(study: Path) -> bool:
    """Print the table; returns whether anything crashed, diverged, was lost or damaged."""
    cells = read(study)
    table = Table(title=f"{study} ({len(cells)} cells)", title_justify="left", box=None)
    for heading in ("cell", "status", "seeds done", "diverged", ""):
        table.add_column(heading)
    for cell in cells:
        table.add_row(
            cell.id, cell.status, f"{cell.done}/{cell.seeds}", str(cell.diverged or ""), cell.note
        )
    console = Console()
    console.print(table)
    counts = Counter(cell.status for cell in cells)
    console.print(", ".join(f"{number} {status}" for status, number in counts.items()) or "nothing")
    failed = ("crashed", "lost", "damaged")
    return any(cell.status in failed or cell.diverged for cell in cells)
