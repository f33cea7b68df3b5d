"""Words of messages."""


def shortened(text: str, limit: int) -> str:
    """The text, without its middle where it is longer: both ends of a path say more."""
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


def counted(number: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
