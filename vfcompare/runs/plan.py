"""The plan of a study: which cells there are going to be, and what was decided before the first run."""

import contextlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vfcompare import failure
from vfcompare.errors import InputError
from vfcompare.runs import store

DECIDED = ("contrast", "metric", "margin", "threshold")
"""What a study decides before its first run."""


def write(folder: Path, study: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> None:
    """Record what a sweep is going to do; cells planned before stay planned.

    Args:
      folder: of the study.
      study: its `name` and `question`, and what it has `DECIDED`.
      entries: what is said of cells to be trained, see `vfcompare.training.cell.Cell.planned`.

    Raises:
      InputError: if the study was begun with other decisions: results may be known by now.
    """
    # Two sweeps of a study that begin together would each write what it had read, and its own cells.
    with store.guard(folder):
        store.sweep_up(folder)
        planned = cells(folder) | {entry["id"]: dict(entry) for entry in entries}
        file = folder / "plan.json"
        before = store.read_json(file) if file.exists() else {}
        store.write_json(
            file,
            {
                "schema": store.SCHEMA,
                "study": study["name"],
                "question": study.get("question") or before.get("question"),
                "decided": _decisions(folder, before, study),
                "figures": list(study.get("figures") or before.get("figures") or []),
                "created": before.get("created") or store.now(),
                "cells": list(planned.values()),
            },
        )


def _decisions(folder: Path, before: Mapping[str, Any], study: Mapping[str, Any]) -> dict[str, Any]:
    """What a study decides now, if it has no plan yet; else what it was begun with.

    Args:
      folder: of the study.
      before: its plan, empty if there is none.
      study: as it is typed now.

    Raises:
      InputError: if the two differ; what comes too late is only told.
    """
    decided = {name: study[name] for name in DECIDED if name in study}
    if not before:
        return decided
    begun = dict(before.get("decided") or {})
    for name in begun.keys() & decided.keys():
        if decided[name] != begun[name]:
            raise InputError(
                f"study.{name}={decided[name]} is not allowed: {folder} was begun with {begun[name]}, and "
                f"its results may be known; allowed: study.{name}={begun[name]}, or another study.name"
            )
    late = [
        f"study.{name}={decided[name]}" for name in decided.keys() - begun.keys() if decided[name]
    ]
    if begun and late:
        told = f"{', '.join(sorted(late))} comes too late: {folder} was begun without"
        print(f"vfcompare: {told}, and its results may be known", file=sys.stderr)
    return begun


def cells(study: Path) -> dict[str, dict[str, Any]]:
    """The cells of a plan by name; none where there is no plan.

    Raises:
      InputError: if the plan is damaged, or names cells that are not folders of the study.
    """
    file = study / "plan.json"
    if not file.exists():
        return {}
    try:
        found = {str(cell["id"]): dict(cell) for cell in store.read_json(file)["cells"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({failure.describe(error)})") from error
    for name in found:
        if store.slug(name, len(name)) != name:
            raise InputError(
                f"{file} names a cell {name[:80]!r}, which cannot be a folder of a study"
            )
    return found


def runs(study: Path) -> list[Path]:
    """Folders below a study that hold a run."""
    return sorted(file.parent for file in study.glob("*/run.json"))


def known(study: Path) -> dict[str, dict[str, Any]]:
    """What a study has, by name: the cells of its plan, and runs beside them, as they describe themselves.

    Raises:
      InputError: see `cells`.
    """
    found = cells(study)
    for path in runs(study):
        if path.name not in found:
            with contextlib.suppress(OSError, ValueError):
                found[path.name] = store.read_json(path / "run.json")
    return found
