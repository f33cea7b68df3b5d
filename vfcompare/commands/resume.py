"""Go on with what a study has planned and not finished, from what is on disk and nothing else."""

import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from vfcompare.commands.compose import SEARCHPATH, called, folders, recompose
from vfcompare.errors import InputError
from vfcompare.runs import run_folder, status, store
from vfcompare.runs.status import DONE, CellStatus
from vfcompare.training import devices
from vfcompare.training.cell import Cell
from vfcompare.training.execute import execute
from vfcompare.training.fuse import groups
from vfcompare.validate import leaves

MAX_SEEDS = 512
"""Seeds of one program, over all its cells."""


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
    plan = store.planned(study)
    if not plan:
        raise InputError(f"{study} has no plan.json; allowed: the folder of a study that was begun")
    cells = [cell for cell in status.read(study) if cell.id in plan]
    cells = [cell for cell in cells if cell.status not in DONE]
    for cell in cells:
        if cell.status == "damaged":
            print(
                f"{cell.id}: run.json is damaged, left alone; without its folder it begins anew",
                file=sys.stderr,
            )
    cells = [cell for cell in cells if cell.status != "damaged"]
    elsewhere = [cell for cell in cells if cell.task]
    if elsewhere:
        print(
            f"{study}: {len(elsewhere)} cells are queued or running at SLURM and left alone; "
            "`vfcompare cancel` takes them back",
            file=sys.stderr,
        )
    here = [cell for cell in cells if cell.status == "running" and not cell.task]
    if here:
        told = f"{len(here)} cells are being trained by other processes and left alone"
        print(f"{study}: {told}", file=sys.stderr)
    crashed = [cell for cell in cells if cell.status == "crashed"]
    if crashed:
        print(
            f"{study}: {len(crashed)} cells crashed and are tried again; unless something changed "
            f"they will again, like {crashed[0].id}: {crashed[0].note}",
            file=sys.stderr,
        )
    for cell in cells if release else ():
        run_folder.RunFolder(study / cell.id, {}).release(cell.gone)
    return [cell.id for cell in cells if is_open(cell)]


def is_open(cell: CellStatus) -> bool:
    """Whether a planned cell is neither done nor anybody's."""
    return cell.status not in (*DONE, "running", "damaged") and not cell.task


def rebuild(study: Path, names: Iterable[str], own: Sequence[str] = ()) -> list[Cell]:
    """Planned cells by name, see `unfinished`."""
    allowed = targets(own)
    plan, names = store.planned(study), list(names)
    for name in names:
        if not plan.get(name, {}).get("overrides"):
            raise InputError(
                f"{study}/plan.json does not say what {name} is composed of; type its command again"
            )
    overrides = [[str(text) for text in plan[name]["overrides"]] for name in names]
    texts = list(dict.fromkeys(text for texts in overrides for text in texts))
    for text in texts:
        if "hydra" in text.split("=")[0]:
            # Where it looks for configurations, and what it calls on the way.
            raise foreign(study, text)
    for text in strange(texts, own):
        raise InputError(
            f"{study}/plan.json chooses {text[:200]}, which our own configuration does not have; allowed: "
            f"the folder that has it behind this command, '{SEARCHPATH}[file:///FOLDER]'"
        )
    cells = recompose(overrides, own)
    # By the names they were planned under, which hold the words that were typed first.
    pairs = zip(cells, names, strict=True)
    cells = [called(cell, name, plan[name].get("settings")) for cell, name in pairs]
    for path in foreigners(cells, allowed):
        raise foreign(study, path)
    for name, cell in zip(names, cells, strict=True):
        if cell.id != name:
            raise InputError(
                f"{name} is composed as {cell.id} by the present code; allowed: the version that began "
                "it (run.json says which), or a new study"
            )
    # Where the plan is now, and not where it was: folders may be moved.
    place = study.resolve()
    if store.slug(place.name) != place.name:
        raise InputError(
            f"{place} cannot be the folder of a study; allowed: letters, digits and =._-"
        )
    return [
        cell._replace(
            config={
                **cell.config,
                "root": str(place.parent),
                "priors": priors(cell, plan[cell.id], place.parent),
                "study": {**cell.config["study"], "name": place.name},
            }
        )
        for cell in cells
    ]


def priors(cell: Cell, entry: Mapping[str, Any], root: Path) -> str:
    """Where pretrained policies are: as far from `root` as was planned, unless the study alone has moved."""
    usual = str(cell.config["priors"])
    if not isinstance(entry.get("priors"), str):
        return usual
    there = os.path.normpath(root / entry["priors"])
    return usual if Path(usual).is_dir() and not Path(there).is_dir() else there


def strange(texts: Iterable[str], own: Sequence[str] = ()) -> Iterator[str]:
    """Those of some overrides that choose what is no part, such as a file elsewhere: see `parts`."""
    found = {path: entry.is_dir() for path, entry in parts(own)}
    for text in texts:
        key, told, name = text.lstrip("+~").partition("=")
        group, name = key.partition("@")[0], name.strip(" '\"")
        chooses = told and (group != key or "/" in key or found.get(key, False))
        if chooses and name != "null" and found.get(f"{group}/{name}.yaml", True):
            yield text


def foreigners(cells: Iterable[Cell], allowed: Collection[str]) -> Iterator[str]:
    """What cells name, `path=value`, that is not allowed: see `targets`."""
    for cell in cells:
        for path, key, value in leaves(cell.config, lists=True):
            # Gymnasium would import what stands before a colon.
            if (key == "_target_" and value not in allowed) or (key == "id" and ":" in str(value)):
                yield f"{path}={value}"


def foreign(study: Path, text: str) -> InputError:
    """Refuses what a plan asks for that only a user may."""
    return InputError(
        f"{study}/plan.json names {text[:200]}, which neither our own configuration does nor a folder given "
        "here; what is found on disk is never executed: type the command again"
    )


def targets(own: Sequence[str] = ()) -> set[str]:
    """What parts call, ours and those in folders that a user names: all that a plan may have called.

    Args:
      own: what `goes_along`, as typed.

    Raises:
      InputError: if it is anything else, or names what is no folder.
    """
    found: set[str] = set()
    for path, entry in parts(own):
        if path.endswith(".yaml") and entry.is_file():
            text = entry.read_bytes().decode(errors="replace")
            found |= set(re.findall(r"""_target_: *["']?([\w.]+)""", text))
    return found


def parts(own: Sequence[str] = ()) -> Iterator[tuple[str, Traversable]]:
    """All groups and their files by path, of our configuration and of the folders that a user names.

    Args:
      own: as of `targets`.

    Raises:
      InputError: see `targets`.
    """
    for folder in (resources.files("vfcompare.conf"), *folders(own)):
        # What Hydra's own groups name, such as launchers, is for Hydra alone.
        inside = (entry for entry in folder.iterdir() if entry.name != "hydra" and entry.is_dir())
        entries = [(entry.name, entry) for entry in inside]
        while entries:
            path, entry = entries.pop()
            yield path, entry
            if entry.is_dir():
                entries.extend((f"{path}/{inner.name}", inner) for inner in entry.iterdir())


def train(cells: Sequence[Cell], max_seeds: int = MAX_SEEDS) -> dict[str, str]:
    """Train cells in this process, those that differ only in numbers together.

    Args:
      cells: of a sweep.
      max_seeds: of one program, over all its cells.

    Returns:
      How each ended, by name: see `vfcompare.training.execute`, or `refused`, or `crashed` by an exception.
    """
    devices.prepare()
    outcomes: dict[str, str] = {}
    for group in groups(cells, max_seeds):
        try:
            outcomes |= execute(group.cells, group.traced)
        except Exception as error:
            if isinstance(error, OSError) and store.no_room(error):
                # The others would find none, either.
                raise
            refused = isinstance(error, InputError)
            print(
                f"vfcompare: {'' if refused else type(error).__name__ + ': '}{error}",
                file=sys.stderr,
            )
            ended = "refused" if refused else "crashed"
            outcomes |= dict.fromkeys((cell.id for cell in group.cells), ended)
    return outcomes
