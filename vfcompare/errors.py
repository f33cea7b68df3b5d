"""What a user did wrong, said so that it can be put right: the field, the value, what is allowed."""

import sys
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


class InputError(ValueError):
    """Bad input: exit code 2, no traceback, nothing left behind."""


class Damaged(InputError):
    """A file is not what was written there: exit code 4, no traceback, and it is left as it is."""


class NotAllowed(ValueError):
    """A parameter that a part refuses, `field=value is not allowed`: where the part stands, others know."""


class ClaimLost(Exception):
    """A run that this process had is another's by now, or its folder is gone; it was not touched."""


def closest(word: str, choices: Iterable[str]) -> str | None:
    """The valid choice that a word was most likely meant to be; None where none is close.

    The same in other case, the initials (`lr` of `learning_rate`), or else by letters.
    """
    known = list(choices)
    for choice in known:
        if word.lower() in (choice.lower(), "".join(part[:1] for part in choice.split("_"))):
            return choice
    return next(iter(get_close_matches(word, known, n=1, cutoff=0.5)), None)


def nearest(word: str, choices: Iterable[str]) -> str:
    """The closest valid choice as a clause, or nothing where none is close."""
    found = closest(word, choices)
    return f"; did you mean {found!r}?" if found else ""


def called(error: BaseException) -> str:
    """What an error of somebody's code is, in a clause behind where it stands."""
    kind = f"{type(error).__name__}: {error}"
    return f"ends the program ({kind})" if isinstance(error, SystemExit) else kind


def elsewhere(error: BaseException) -> str:
    """Where the user's own code raised an error, or called what raised it; nothing if ours did."""
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module, file = str(frame.f_globals.get("__name__")), Path(frame.f_code.co_filename)
        top = module.partition(".")[0]
        if top == "vfcompare":
            return ""
        if top not in sys.stdlib_module_names and "site-packages" not in file.parts:
            return f" ({file}:{line}, in {frame.f_code.co_name})"
    return ""
