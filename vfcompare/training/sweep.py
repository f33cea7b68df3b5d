"""Train the cells of a sweep, group by group."""

import sys
from collections.abc import Sequence

from vfcompare.errors import InputError
from vfcompare.runs import disk
from vfcompare.training import devices
from vfcompare.training.cell import Cell
from vfcompare.training.execute import execute
from vfcompare.training.fuse import groups

MAX_SEEDS = 512
"""Seeds of one program, over all its cells."""


def tell(begun: int, names: Sequence[str], total: int) -> None:
    """Say how far a sweep is, where it is one.

    Args:
      begun: cells that began before.
      names: of those that begin now.
      total: cells that there are to train.
    """
    first, last = begun + 1, begun + len(names)
    told = f"cell {first} of {total}:"
    if last > first:
        told = f"cells {first} to {last} of {total}: like"
    if total > 1:
        print(f"{told} {names[0]}", file=sys.stderr)


def train(cells: Sequence[Cell], max_seeds: int = MAX_SEEDS) -> dict[str, str]:
    """Train cells in this process, those that differ only in numbers together.

    Args:
      cells: of a sweep.
      max_seeds: of one program, over all its cells.

    Returns:
      How each ended, by name: see `vfcompare.training.execute`, or `refused`, or `crashed` by an exception.
      Where a group fails, those of its cells that are done are `completed`, and what is damaged stays so.
    """
    devices.prepare()
    outcomes: dict[str, str] = {}
    begun = 0
    for group in groups(cells, max_seeds):
        tell(begun, [cell.id for cell in group.cells], len(cells))
        begun += len(group.cells)
        try:
            outcomes |= execute(group.cells, group.traced)
        except Exception as error:
            if disk.no_room(error):
                # The others would find none, either.
                raise
            refused = isinstance(error, InputError)
            print(
                f"vfcompare: {'' if refused else type(error).__name__ + ': '}{error}",
                file=sys.stderr,
            )
            ended = "refused" if refused else "crashed"
            became = {"done": "completed", "damaged": "damaged", "": ended}
            outcomes |= {cell.id: became[cell.state] for cell in group.cells}
    return outcomes
