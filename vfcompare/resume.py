"""Go on with what a study has planned and not finished, from what is on disk and nothing else."""

import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from vfcompare import store
from vfcompare.cell import Cell, execute, prepare_devices
from vfcompare.compose import recompose
from vfcompare.errors import InputError
from vfcompare.fuse import groups
from vfcompare.validate import leaves

OURS = "vfcompare."
"""What a configuration that was found on disk may name; anything else must be typed again."""

MOST = 512
"""Seeds of one program, over all its cells."""


def unfinished(study: Path) -> list[Cell]:
    """The planned cells that are not completed, composed anew from their overrides.

    Raises:
      InputError: if the plan names code that is not ours, or cells that the present code composes otherwise.
    """
    plan = store.planned(study)
    if not plan:
        raise InputError(f"{study} has no plan.json; allowed: the folder of a study that was begun")
    return rebuild(study, [n for n in plan if not store.RunFolder(study / n).completed])


def rebuild(study: Path, names: Iterable[str]) -> list[Cell]:
    """Planned cells by name, see `unfinished`."""
    plan, names = store.planned(study), list(names)
    for name in names:
        if not plan.get(name, {}).get("overrides"):
            raise InputError(
                f"{study}/plan.json does not say what {name} is composed of; type its command again"
            )
    cells = recompose([[str(text) for text in plan[name]["overrides"]] for name in names])
    for name, cell in zip(names, cells, strict=True):
        for path, key, value in leaves(cell.config):
            if key == "_target_" and not str(value).startswith(OURS):
                raise InputError(
                    f"{study}/plan.json names {path}={value}, which is not code of vfcompare; what is "
                    "found on disk is never executed: type the command again"
                )
        if cell.id != name:
            raise InputError(
                f"{name} is composed as {cell.id} by the present code; allowed: the version that began "
                "it (run.json says which), or a new study"
            )
    # Where the plan is now, and not where it was: folders may be moved.
    here = {"root": str(study.absolute().parent)}
    name_of = {"name": study.name}
    return [
        cell._replace(config={**cell.config, **here, "study": {**cell.config["study"], **name_of}})
        for cell in cells
    ]


def train(cells: Sequence[Cell], most: int = MOST) -> dict[str, str]:
    """Train cells in this process, those that differ only in numbers together.

    Args:
      cells: of a sweep.
      most: seeds of one program, over all its cells.

    Returns:
      How each ended, by name: see `vfcompare.cell.execute`, or `refused`, or `crashed` by an exception.
    """
    prepare_devices()
    command = shlex.join(["vfcompare", *sys.argv[1:]])
    outcomes: dict[str, str] = {}
    for group in groups(cells, most):
        try:
            outcomes |= execute(group.cells, command, group.traced)
        except Exception as error:
            refused = isinstance(error, InputError)
            print(
                f"vfcompare: {'' if refused else type(error).__name__ + ': '}{error}",
                file=sys.stderr,
            )
            ended = "refused" if refused else "crashed"
            outcomes |= dict.fromkeys((cell.id for cell in group.cells), ended)
    return outcomes
