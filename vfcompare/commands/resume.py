"""Go on with what a study has planned and not finished, from what is on disk and nothing else."""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from vfcompare.commands.compose import recompose
from vfcompare.errors import InputError
from vfcompare.runs import run_folder, status, store
from vfcompare.runs.status import DONE, CellStatus
from vfcompare.training import devices
from vfcompare.training.cell import Cell
from vfcompare.training.execute import execute
from vfcompare.training.fuse import groups

MAX_SEEDS = 512
"""Seeds of one program, over all its cells."""


def unfinished(study: Path) -> list[Cell]:
    """The planned cells that are not completed, composed anew from their overrides: see `waiting`.

    Raises:
      InputError: if the plan names code that is not ours, or cells that the present code composes otherwise.
    """
    return rebuild(study, waiting(study))


def waiting(study: Path) -> list[str]:
    """Names of the planned cells that are neither completed nor anybody's; says what is odd about them.

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
    for cell in cells:
        run_folder.RunFolder(study / cell.id, {}).release(cell.gone)
    return [cell.id for cell in cells if is_open(cell)]


def is_open(cell: CellStatus) -> bool:
    """Whether a planned cell is neither done nor anybody's."""
    return cell.status not in (*DONE, "running", "damaged") and not cell.task


def rebuild(study: Path, names: Iterable[str]) -> list[Cell]:
    """Planned cells by name, see `unfinished`."""
    plan, names = store.planned(study), list(names)
    for name in names:
        if not plan.get(name, {}).get("overrides"):
            raise InputError(
                f"{study}/plan.json does not say what {name} is composed of; type its command again"
            )
    overrides = [[str(text) for text in plan[name]["overrides"]] for name in names]
    for text in (text for texts in overrides for text in texts):
        if "hydra" in text.split("=")[0]:
            # Where it looks for configurations, and what it calls on the way.
            raise foreign(study, text)
    cells = recompose(overrides)
    for path in foreigners(cells):
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
    here = {"root": str(place.parent)}
    name_of = {"name": place.name}
    return [
        cell._replace(config={**cell.config, **here, "study": {**cell.config["study"], **name_of}})
        for cell in cells
    ]


def foreigners(cells: Iterable[Cell]) -> Iterator[str]:
    """What cells name, `path=value`, that our own configuration does not."""
    ours = targets()
    for cell in cells:
        for path, key, value in everything(cell.config):
            strange = key == "_target_" and value not in ours
            # Gymnasium would import what stands before a colon.
            if strange or (key == "id" and ":" in str(value)):
                yield f"{path}={value}"


def foreign(study: Path, text: str) -> InputError:
    """Refuses what a plan asks for that only a user may."""
    return InputError(
        f"{study}/plan.json names {text[:200]}, which our own configuration does not; what is found on "
        "disk is never executed: type the command again"
    )


def targets() -> set[str]:
    """Functions and classes that our own configuration names: all that one found on disk may call."""
    found: set[str] = set()
    folders = [resources.files("vfcompare.conf")]
    while folders:
        for entry in folders.pop().iterdir():
            if entry.is_dir():
                folders.append(entry)
            elif entry.name.endswith(".yaml"):
                text = entry.read_text(encoding="utf-8")
                found |= set(re.findall(r"_target_: *(vfcompare\.[\w.]+)", text))
    return found


def everything(node: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every leaf of a configuration as `(path, key, value)`, also within lists."""
    if isinstance(node, list | tuple):
        node = dict(enumerate(node))
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from everything(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, path.rpartition(".")[2], node


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
