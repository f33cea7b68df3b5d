"""The names that cells have: one cell, one name, in whatever words it was typed."""

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from vfcompare.runs import plan
from vfcompare.runs.naming import hash_of
from vfcompare.training.cell import Cell
from vfcompare.words import counted


def as_known(found: Sequence[Cell]) -> list[Cell]:
    """The same cells, by the names that their study has for them: a typed default makes no other cell.

    Of those that are new and the same, all have the name of the first.

    Args:
      found: of one study.

    Raises:
      InputError: if the study's plan is damaged.
    """
    known: dict[str, dict[str, Any]] = {}
    # Who cannot read a place cannot write to it either, and is told so before anything begins.
    with suppress(OSError):
        known = plan.known(found[0].study)
    names: dict[tuple[str, ...], tuple[str, Any]] = {}
    for name, entry in known.items():
        who = str(entry.get("agent")), str(entry.get("env"))
        names.setdefault((*who, hash_of(name)), (name, entry.get("settings")))
    named = []
    for cell in found:
        own = cell.id
        first = names.setdefault((cell.agent, cell.env, hash_of(own)), (own, cell.settings))
        if own in known:
            # Long names are cut off, so that other words may have made it.
            first = own, known[own].get("settings")
        named.append(under_name(cell, *first))
    return named


def under_name(cell: Cell, name: str, settings: Any) -> Cell:
    """A cell by another name, where that is one of its names; else as it is.

    A name has settings in it as they were typed, and a hash of what they mean: see
    `vfcompare.runs.naming.cell_id`. Whoever types them otherwise makes another name of the same cell.

    Args:
      cell: of which it may be a name.
      name: of a cell.
      settings: of which the name was made, as a plan says; unless they are a mapping, the cell's own.
    """
    words = settings if isinstance(settings, dict) else cell.settings
    other = cell._replace(settings={key: str(value) for key, value in words.items()})
    return other if other.id == name else cell


def warn_of_copies(typed: Sequence[str], named: Sequence[str]) -> None:
    """Print which cells of a command line are the same as others of it, or of its study.

    Args:
      typed: their names by the words that were typed.
      named: the names that they have.
    """
    others = [(one, name) for one, name in zip(typed, named, strict=True) if one != name]
    if others:
        more = f"; {len(others) - 1} more cells likewise" if len(others) > 1 else ""
        told = f"{others[0][0]} is {others[0][1]} in other words, and is trained once{more}"
        print(f"vfcompare: {told}", file=sys.stderr)
    twice = [name for name, times in Counter(typed).items() if times > 1]
    if twice:
        more = f"; {counted(len(twice) - 1, 'more cell')} likewise" if len(twice) > 1 else ""
        print(
            f"vfcompare: {twice[0]} is typed more than once, and is trained once{more}",
            file=sys.stderr,
        )
