"""What a plan that is found on disk may call: our parts, and those in folders that the user names anew."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from vfcompare.errors import InputError
from vfcompare.schema.settings import SEARCHPATH, goes_along, key_of, value_of
from vfcompare.schema.tree import leaves

if TYPE_CHECKING:
    from vfcompare.training.cell import Cell

CONF = "vfcompare.conf"
"""Package of our own configuration."""

Parts = Mapping[str, Traversable]


def folders(own: Sequence[str]) -> Iterator[Traversable]:
    """The folders that a user names.

    Args:
      own: what `goes_along`, as typed.

    Raises:
      InputError: if it is anything else, or what it names is no folder, or has a part that is never read.
    """
    usual = (
        f"allowed: '{SEARCHPATH}[file:///FOLDER]', a folder like our conf/ with parts of your own"
    )
    for text in own:
        if goes_along(text) and not text.startswith(SEARCHPATH):
            continue
        places = None
        if text.startswith(SEARCHPATH):
            with suppress(HydraException):
                places = OverridesParser.create().parse_override(text).value()
        if not isinstance(places, list):
            why = "no list" if text.startswith(SEARCHPATH) else "a study goes on as planned"
            other = "" if text.startswith(SEARCHPATH) else "; resume=anyway"
            raise InputError(f"{text} is not allowed: {why}; {usual}{other}")
        for place in map(str, places):
            scheme, _, name = place.rpartition("://")
            folder: Traversable = Path(name)
            if scheme == "pkg":
                with suppress(ImportError, TypeError, ValueError):
                    folder = resources.files(name)
            if not folder.is_dir():
                raise InputError(f"{text} is not allowed: {place} is no folder; {usual}")
            # As with Hydra, what ours has is not replaced: a copy that was edited would do nothing.
            if hidden := [path for path in _ours() if folder.joinpath(*path.split("/")).is_file()]:
                raise InputError(
                    f"{hidden[0]} of {place} is not read: ours has the same name; allowed: another name"
                )
            yield folder


@cache
def _ours() -> tuple[str, ...]:
    """The paths of our own parts."""
    known = _walk(resources.files(CONF))
    return tuple(sorted(path for path, _ in known if path.endswith(".yaml")))


def targets(known: Parts) -> set[str]:
    """What parts call, ours and those in folders that a user names: all that a plan may have called."""
    found: set[str] = set()
    for path, entry in known.items():
        if path.endswith(".yaml") and entry.is_file():
            text = entry.read_bytes().decode(errors="replace")
            found |= set(re.findall(r"""_target_: *["']?([\w.]+)""", text))
    return found


def parts(own: Sequence[str] = ()) -> Parts:
    """All groups and their files by path, of our configuration and of the folders that a user names.

    Args:
      own: what `goes_along`, as typed.

    Raises:
      InputError: if it is anything else, or names what is no folder.
    """
    places = (resources.files(CONF), *folders(own))
    return {path: entry for place in places for path, entry in _walk(place)}


def _walk(folder: Traversable) -> Iterator[tuple[str, Traversable]]:
    # What Hydra's own groups name, such as launchers, is for Hydra alone.
    inside = (entry for entry in folder.iterdir() if entry.name != "hydra" and entry.is_dir())
    entries = [(entry.name, entry) for entry in inside]
    while entries:
        path, entry = entries.pop()
        yield path, entry
        if entry.is_dir():
            entries.extend((f"{path}/{inner.name}", inner) for inner in entry.iterdir())


def unknown_choices(texts: Iterable[str], known: Parts) -> Iterator[str]:
    """Those of some overrides that choose what is no part, such as a file elsewhere."""
    found = {path: entry.is_dir() for path, entry in known.items()}
    for text in texts:
        path, name = key_of(text), value_of(text).strip(" '\"")
        group = path.partition("@")[0]
        chooses = "=" in text and (group != path or "/" in path or found.get(path, False))
        if chooses and name != "null" and found.get(f"{group}/{name}.yaml", True):
            yield text


def resolves(text: str) -> bool:
    """Whether an override calls a resolver, such as `${oc.env:TOKEN}`, which may read what is not ours."""
    # Hydra reads `$\{` outside quotes as `${`.
    return re.search(r"\$\{.*:", text.replace("\\", ""), re.DOTALL) is not None


def foreign_targets(cells: "Iterable[Cell]", allowed: Collection[str]) -> Iterator[str]:
    """`path=value` of what cells would call or import that is not allowed: see `targets`."""
    for cell in cells:
        for path, key, value in leaves(cell.config, lists=True):
            # Gymnasium would import what stands before a colon.
            if (key == "_target_" and value not in allowed) or (key == "id" and ":" in str(value)):
                yield f"{path}={value}"


def foreign(study: Path, text: str) -> InputError:
    """The error for what a plan names and only a user may."""
    return InputError(
        f"{study}/plan.json names {text[:200]}, which neither our own configuration does nor a folder given "
        "here; what is found on disk is never executed: type the command again"
    )
