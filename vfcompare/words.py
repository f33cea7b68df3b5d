"""Words of messages."""

import codecs
from io import TextIOWrapper
from typing import TextIO


def shortened(text: str, limit: int) -> str:
    """The text, where it is longer without what is before its last third: the end of a path says most."""
    end = limit // 3
    return text if len(text) <= limit else f"{text[: limit - 3 - end]}...{text[-end:]}"


def counted(number: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


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
