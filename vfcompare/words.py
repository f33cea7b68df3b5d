"""Words of messages."""

import codecs
from io import TextIOWrapper
from typing import TextIO


def cut_middle(text: str, limit: float, *, end: int | None = None, gap: str = "…") -> str:
    """The beginning and the end of a text that has more letters than the limit.

    Args:
      text: any.
      limit: most letters, those of the gap included.
      end: letters that are kept of the end; as many as of the beginning if None.
      gap: what stands for the middle.
    """
    if len(text) <= limit:
        return text
    room = int(limit) - len(gap)
    end = room // 2 if end is None else end
    return f"{text[: room - end]}{gap}{text[-end:]}"


def counted(number: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def printable(text: str, instead: str) -> str:
    """A text with another letter in place of each that would not print, such as those that move a cursor."""
    return "".join(letter if letter.isprintable() else instead for letter in text)


def name_files(stream: TextIO | None) -> None:
    """Have a stream write names of files byte by byte as they are, where its encoding lacks their letters.

    Python does so on the output of such a terminal, and not where errors are told.
    """
    if isinstance(stream, TextIOWrapper) and stream.errors == "backslashreplace":
        codecs.register_error("vfcompare", _as_bytes)
        stream.reconfigure(errors="vfcompare")


def _as_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
