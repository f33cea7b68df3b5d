"""Words of messages."""


def counted(number: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
