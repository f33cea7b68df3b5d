"""The plan of a study: which cells there are going to be, and what was decided before the first run."""

import contextlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vfcompare import failure
from vfcompare.errors import Damaged, InputError, nearest, unread
from vfcompare.runs import clock, lock, naming, store

DECIDED = ("contrast", "metric", "margin", "threshold", "reference")
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
    with lock.guard(folder):
        # Of other files only what is old: a search may be writing its ledger beside this.
        store.sweep_up(folder, of=("plan.json",))
        store.sweep_up(folder, older=store.ABANDONED_AFTER)
        planned = cells(folder) | {entry["id"]: dict(entry) for entry in entries}
        before = _before(folder)
        store.write_json(
            folder / "plan.json",
            {
                "schema": store.SCHEMA,
                "study": study["name"],
                "question": study.get("question") or before.get("question"),
                "decided": _decisions(folder, before, study),
                "figures": list(study.get("figures") or before.get("figures") or []),
                "created": before.get("created") or clock.now(),
                "cells": list(planned.values()),
            },
        )


def check(folder: Path, study: Mapping[str, Any]) -> None:
    """Refuse what `write` would refuse of a study, and write nothing.

    Args:
      folder: of the study, which need not exist.
      study: as for `write`.

    Raises:
      InputError: see `write`.
    """
    cells(folder)
    _decisions(folder, _before(folder), study)


def _before(folder: Path) -> dict[str, Any]:
    """What the plan of a study says, once `cells` has found that it is one; nothing where there is none."""
    file = folder / "plan.json"
    return store.read_json(file) if file.exists() else {}


def drop(folder: Path, names: Iterable[str]) -> None:
    """Take cells out of a plan of which nothing has begun.

    Args:
      folder: of the study.
      names: of the cells.

    Raises:
      InputError: for a cell that is not planned, or has begun: what became of it belongs into every report.
    """
    with lock.guard(folder):
        planned = cells(folder)
        for name in names:
            if name not in planned:
                raise InputError(
                    f"{folder} plans no cell {name[:80]!r}; allowed: one of its {len(planned)}"
                    f"{nearest(name, planned)}"
                )
            begun = [file for file in ("run.json", "claim.json") if (folder / name / file).exists()]
            if begun:
                raise InputError(
                    f"{name} has begun ({begun[0]}): what became of it belongs into every report; allowed: "
                    "cells that are only planned, or another study.name"
                )
            del planned[name]
        content = store.read_json(folder / "plan.json") | {"cells": list(planned.values())}
        store.write_json(folder / "plan.json", content)


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
                f"study.{name}={_typed(decided[name])} is not allowed: {folder} was begun with "
                f"{_typed(begun[name])}, and its results may be known; allowed: "
                f"study.{name}={_typed(begun[name])}, or another study.name"
            )
    late = [
        f"study.{name}={_typed(decided[name])}"
        for name in decided.keys() - begun.keys()
        if decided[name]
    ]
    if begun and late:
        told = f"{', '.join(sorted(late))} comes too late: {folder} was begun without"
        print(f"vfcompare: {told}, and its results may be known", file=sys.stderr)
    return begun


def _typed(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_typed(each)}' for key, each in value.items())}}}"
    return "null" if value is None else str(value)


def cells(study: Path) -> dict[str, dict[str, Any]]:
    """The cells of a plan by name; none where there is no plan.

    Raises:
      InputError: if the plan cannot be read, is of a later version, or names cells that are not folders of
        the study.
      Damaged: if it is no plan.
    """
    file = study / "plan.json"
    try:
        content = store.read_json(file)
        told = store.later(content)
        found = {} if told else {str(cell["id"]): dict(cell) for cell in content["cells"]}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise unread(file, error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"{file} is damaged ({failure.describe(error)}); once it is removed the same sweeps plan "
            "anew, and keep what is trained; a contrast, margin or threshold that was decided is to be given "
            "again"
        ) from error
    if told:
        raise InputError(
            f"{file} {told}; allowed: the version that wrote it, or another study.name"
        )
    for name in found:
        if naming.slug(name, len(name)) != name:
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
