"""What a user did wrong, said so that it can be put right: the field, the value, what is allowed."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input: exit code 2, no traceback, nothing left behind."""


class ClaimLost(Exception):
    """A run that this process had is another's by now, or its folder is gone; it was not touched."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """The closest valid choice as a clause, or nothing where none is close."""
    found = get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {found[0]!r}?" if found else ""
