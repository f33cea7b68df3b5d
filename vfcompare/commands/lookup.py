"""Where parts are: in our groups and in folders of the user's own, and the words that choose them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.resources.abc import Traversable

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra

from vfcompare.commands.catalogue import GROUPS, files
from vfcompare.commands.trust import folders
from vfcompare.errors import InputError
from vfcompare.schema.settings import SEARCHPATH


def or_own(own: Sequence[Traversable]) -> str:
    """How a part of the user's own would be found, as a clause; `own` as of `catalogue.files`."""
    if not own:
        return f", or one of your own with '{SEARCHPATH}[file:///FOLDER]'"
    return "".join(f"; {told}" for told in without_groups(own))


def without_groups(own: Sequence[Traversable]) -> Iterator[str]:
    """What to say of folders that hold no group of ours, such as the one above the folder that was meant."""
    for place in own:
        if not has_groups(place):
            meant = next((p for p in place.iterdir() if p.is_dir() and has_groups(p)), None)
            hint = f"; did you mean file://{meant}?" if meant else ""
            yield f"{place} holds none of our groups, such as agent/ or env/{hint}"


def has_groups(place: Traversable) -> bool:
    """Whether a folder is like `conf/`."""
    return any((place / group).is_dir() for group in GROUPS)


def own_folders(settings: Sequence[str], strict: bool = False) -> list[Traversable]:
    """The folders with parts of the user's own that settings name.

    Args:
      settings: as typed.
      strict: refuse what is no folder, of which Hydra only warns; else there are none then.

    Raises:
      InputError: that names it.
    """
    with suppress(*() if strict else (InputError,)):
        return list(folders([text for text in settings if text.startswith(SEARCHPATH)]))
    return []


def choices(group: str, own: Sequence[Traversable]) -> list[str]:
    """The names that a group has, also those of Hydra's plugins; `own` as of `catalogue.files`."""
    if not group.startswith("hydra/"):
        return [*files(group, own)]
    if GlobalHydra.instance().is_initialized():
        return GlobalHydra.instance().config_loader().get_group_options(group)
    with initialize_config_module("vfcompare.conf", version_base="1.3"):
        return choices(group, own)


def ways(group: str) -> list[str]:
    """How parts of a group are chosen, `key=NAME` or `+key=NAME`, each with what else that takes."""
    return list(GROUPS.get(group, ())[1:])


def chosen_by(group: str, name: str) -> str:
    """The words that choose a part, where there is such a group; else none."""
    words = (word.partition("=")[0] for way in ways(group) for word in way.split())
    own = (word for word in words if word.lstrip("+").partition("@")[0] == group)
    return next((f"{word}={name}" for word in own), "")


@cache
def places() -> Mapping[str, str]:
    """Where in a configuration parts stand that are chosen by name, and the words before the name."""
    found = {}
    for group in GROUPS:
        for way in ways(group):
            key = way.split()[-1].partition("=")[0]
            own, _, place = key.partition("@")
            if own.lstrip("+") == group and "." in place:
                found[place] = key
    return found
