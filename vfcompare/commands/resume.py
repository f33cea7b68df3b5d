"""Go on with what a study has planned and not finished, from what is on disk and nothing else."""

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vfcompare.commands.compose import recompose
from vfcompare.commands.naming import under_name
from vfcompare.commands.trust import (
    Parts,
    foreign,
    foreign_targets,
    parts,
    resolves,
    targets,
    unknown_choices,
)
from vfcompare.errors import InputError
from vfcompare.runs import disk, naming, plan, status
from vfcompare.runs.claim import Claim
from vfcompare.runs.run_folder import RunFolder
from vfcompare.runs.status import DONE, CellStatus
from vfcompare.schema.settings import SEARCHPATH, key_of
from vfcompare.training import attempts
from vfcompare.training.cell import Cell
from vfcompare.words import counted


def unfinished(study: Path, own: Sequence[str] = (), *, release: bool = True) -> list[Cell]:
    """The planned cells that are not completed, composed anew from their overrides: see `waiting`.

    Args:
      study: its folder.
      own: what `goes_along`, as typed.
      release: see `waiting`.

    Raises:
      InputError: if the plan names code that no configuration does, or cells that the present code composes
        otherwise.
    """
    return rebuild(study, waiting(study, release=release), own)


def waiting(study: Path, *, release: bool = True) -> list[str]:
    """Names of the planned cells that are neither completed nor anybody's; says what is odd about them.

    Args:
      study: its folder.
      release: whether to take them from tasks of SLURM that have ended; else nothing is written.

    Raises:
      InputError: if there is no plan.
    """
    planned = plan.cells(study)
    if not planned:
        raise InputError(f"{study} has no plan.json; allowed: the folder of a study that was begun")
    cells = [cell for cell in status.read(study) if cell.id in planned]
    attempts.tell_of_code_since(RunFolder(study / c.id) for c in cells if c.status in DONE)
    cells = [cell for cell in cells if cell.status not in DONE]
    for cell in cells:
        if cell.status == "damaged":
            anew = "; without its folder it begins anew"
            hint = "" if cell.note.startswith(status.UNREAD) else anew
            print(f"{cell.id}: damaged ({cell.note}), left alone{hint}", file=sys.stderr)
    cells = [cell for cell in cells if cell.status != "damaged"]
    elsewhere = [cell for cell in cells if cell.task]
    if elsewhere:
        print(
            f"{study}: {counted(len(elsewhere), 'cell')} queued or running at SLURM, left alone; "
            "`vfcompare cancel` takes them back",
            file=sys.stderr,
        )
    here = [cell for cell in cells if cell.status == "running" and not cell.task]
    if here:
        told = f"{counted(len(here), 'cell')} being trained by other processes, left alone"
        print(f"{study}: {told}", file=sys.stderr)
    crashed = [cell for cell in cells if cell.status == "crashed"]
    full = [cell for cell in crashed if disk.of_no_room(cell.note)]
    again = "crashed and tried again; unless something changed that will end as before"
    room = "ended by a full disk and tried again; unless there is room now that will end as before"
    for found, told in (([c for c in crashed if c not in full], again), (full, room)):
        if found:
            print(
                f"{study}: {counted(len(found), 'cell')} {told}, like {found[0].id}: {found[0].note}",
                file=sys.stderr,
            )
    for cell in cells if release else ():
        Claim(study / cell.id).release(cell.gone)
    return [cell.id for cell in cells if is_open(cell)]


def is_open(cell: CellStatus) -> bool:
    """Whether a planned cell is neither done nor anybody's."""
    return cell.status not in (*DONE, "running", "damaged") and not cell.task


def rebuild(study: Path, names: Iterable[str], own: Sequence[str]) -> list[Cell]:
    """Planned cells composed anew, from the overrides that the plan has for them.

    Args:
      study: its folder.
      names: of the cells.
      own: what `goes_along`, as typed.

    Returns:
      The cells in the order of their names, with `root` and `study.name` as the folder is called now.

    Raises:
      InputError: for a cell that is not in the plan or is composed otherwise by the present code, for
        overrides and targets that are not ours and in no folder that `own` names, and for a folder whose name
        no study can have.
    """
    planned, names = plan.cells(study), list(names)
    overrides = [_overrides(study, planned, name) for name in names]
    known = parts(own)
    _refuse_foreign(study, overrides, known)
    cells = recompose(overrides, own)
    # By the names they were planned under, which hold the words that were typed first.
    pairs = zip(cells, names, strict=True)
    cells = [under_name(cell, name, planned[name].get("settings")) for cell, name in pairs]
    for path in foreign_targets(cells, targets(known)):
        raise foreign(study, path)
    for name, cell in zip(names, cells, strict=True):
        if cell.id != name:
            raise InputError(
                f"{name} is composed as {cell.id} by the present code; allowed: the version that began "
                "it (run.json says which), or a new study"
            )
    # Where the plan is now, and not where it was: folders may be moved.
    place = study.resolve()
    if naming.slug(place.name) != place.name:
        raise InputError(
            f"{place} cannot be the folder of a study; allowed: letters, digits and =._-"
        )
    return [
        cell._replace(
            config={
                **cell.config,
                "root": str(place.parent),
                "priors": priors(cell, planned[cell.id], place.parent),
                "study": {**cell.config["study"], "name": place.name},
            }
        )
        for cell in cells
    ]


def _overrides(study: Path, planned: Mapping[str, Any], name: str) -> list[str]:
    """The words that a planned cell is composed of."""
    words = planned.get(name, {}).get("overrides")
    if not isinstance(words, list) or not words:
        raise InputError(
            f"{study}/plan.json does not say what {name} is composed of; type its command again"
        )
    return [str(word) for word in words]


def _refuse_foreign(study: Path, overrides: Iterable[list[str]], known: Parts) -> None:
    """Words of a plan that would have us read or call what is not ours, nor in a folder the user names."""
    texts = list(dict.fromkeys(text for texts in overrides for text in texts))
    for text in texts:
        # Where it looks for configurations, and what it calls on the way.
        if "hydra" in key_of(text) or resolves(text):
            raise foreign(study, text)
    for text in unknown_choices(texts, known):
        raise InputError(
            f"{study}/plan.json chooses {text[:200]}, which our own configuration does not have; allowed: "
            f"the folder that has it behind this command, '{SEARCHPATH}[file:///FOLDER]'"
        )


def priors(cell: Cell, entry: Mapping[str, Any], root: Path) -> str:
    """Folder of the pretrained policies of a cell: as far from `root` as was planned, if it is there.

    Args:
      cell: composed anew, whose `priors` count where the study was moved without them.
      entry: what the plan says of it; `priors` is a path from `root`.
      root: folder of the study's folder.
    """
    usual = str(cell.config["priors"])
    if not isinstance(entry.get("priors"), str):
        return usual
    there = os.path.normpath(root / entry["priors"])
    return usual if Path(usual).is_dir() and not Path(there).is_dir() else there
