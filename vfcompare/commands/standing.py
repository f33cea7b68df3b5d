"""What `vfcompare status` shows of a study."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vfcompare.runs import store
from vfcompare.runs.status import CellStatus
from vfcompare.words import counted, printable


def show(study: Path, cells: Sequence[CellStatus]) -> str:
    """A line for each cell, and a count."""
    rows = [("cell", "status", "seeds", "")]
    for cell in cells:
        seeds = f"{cell.done}/{cell.seeds}"
        rows.append((printable(cell.id, "?"), printable(cell.status, "?"), seeds, cell.note))
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = (
        "  ".join([*(t.ljust(w) for t, w in zip(row[:3], wide, strict=True)), row[3]]).rstrip()
        for row in rows
    )
    counts = Counter(printable(cell.status, "?") for cell in cells)
    total = ", ".join(f"{number} {status}" for status, number in counts.items()) or "nothing"
    if beside := sum(cell.beside for cell in cells):
        total += f"; {beside} not in the plan, to which their sweep, given again, adds them"
    return "\n".join([f"{study} ({counted(len(cells), 'cell')})", *lines, total])


def as_json(study: Path, cells: Sequence[CellStatus]) -> str:
    """The same for programs: keys stay, later versions may add some."""
    content = {
        "schema": store.SCHEMA,
        "study": str(study),
        "counts": Counter(cell.status for cell in cells),
        "cells": [
            {
                "id": cell.id,
                "status": cell.status,
                "seeds": cell.seeds,
                "completed": cell.done,
                "diverged": cell.diverged,
                "task": cell.task or None,
                "note": cell.note,
                "in_plan": not cell.beside,
            }
            for cell in cells
        ],
    }
    return json.dumps(content, indent=1)
