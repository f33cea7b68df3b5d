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


def unread(file: Path, error: OSError) -> InputError:
    """Refuses a file that the system does not give, which says nothing about whether it is whole."""
    return InputError(
        f"{file} cannot be read ({error.strerror}); allowed: a file that you may read"
    )


class NotAllowed(ValueError):
    """A parameter that a part refuses, `field=value is not allowed`; who makes the part adds its path."""


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


def error_text(error: BaseException) -> str:
    """An error of the user's code in a clause: its type and message, or that it ends the program."""
    kind = f"{type(error).__name__}: {error}"
    return f"ends the program ({kind})" if isinstance(error, SystemExit) else kind


def user_frame(error: BaseException) -> str:
    """The innermost line of the user's own code that led to an error, as ` (file:line, in function)`.

    Nothing where a frame of ours is nearer to where it was raised, since then the error is ours.
    """
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module, file = str(frame.f_globals.get("__name__")), Path(frame.f_code.co_filename)
        top = module.partition(".")[0]
        if top == "vfcompare":
            return ""
        if top not in sys.stdlib_module_names and "site-packages" not in file.parts:
            return f" ({file}:{line}, in {frame.f_code.co_name})"
    return ""
