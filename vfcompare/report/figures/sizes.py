"""How much room figures have: on the page, or in a paper whose text is so many inches wide."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

WIDTH = 5.8
"""Inches of a figure on the page."""
BODY = 8.5
"""Points of most letters."""
LOWER, LEAST = 0.8, 7.0
"""Height in a paper of what is 1 high on the page, and points of the smallest letters there."""
TALL = 9.0
"""Inches of a page of a paper, of which a legend has half of one."""
ENDLESS = 1_000_000
NARROW = 4.0
"""Inches of a figure that has no room for words behind rows."""

_PAPER: ContextVar[float | None] = ContextVar("paper", default=None)


@contextmanager
def on_paper(width: float | None) -> Iterator[None]:
    """Figures that are drawn inside are `width` inches wide; as wide as on the page if None."""
    token = _PAPER.set(width)
    try:
        yield
    finally:
        _PAPER.reset(token)


def paper() -> float | None:
    """Inches of the text of the paper that figures are drawn for; None for the page."""
    return _PAPER.get()


def narrow() -> bool:
    """Whether there is no room for words behind rows: in one column of a paper that has two."""
    return (paper() or WIDTH) < NARROW


def lower(height: float) -> float:
    """Height of what is not text; in a paper, whose figures are narrower, it is `LOWER` times as high."""
    return height if paper() is None else LOWER * height


def points(size: float) -> float:
    """Size of letters; a paper, whose figures are narrower, has one point less, down to `LEAST`."""
    return size if paper() is None else max(LEAST, size - 1.0)


def inches(texts: Sequence[str], size: float = BODY) -> float:
    """How wide the widest of some texts is in a paper, in letters of so many points on the page.

    The page itself has room for all: 0.
    """
    if not paper():
        return 0.0
    font = FontProperties(size=points(size))
    paths = [TextPath((0.0, 0.0), text, prop=font) for text in texts if text.strip()]
    return max((float(path.get_extents().width) / 72 for path in paths), default=0.0)


def beside(count: int, most: int, least: float, taken: float = 0.0) -> int:
    """How many of `count` panels stand beside each other.

    Args:
      count: panels in all.
      most: beside each other.
      least: inches that each has in a paper; where that is fewer than `most`, lines are of equal length.
      taken: inches of the names left of all panels.
    """
    width, columns = paper(), min(count, most)
    if width is None:
        return columns
    columns = max(1, min(columns, int((width - taken) / least)))
    return -(-count // -(-count // columns))


def stacked(height: float) -> int:
    """Most lines of panels of a height above each other: in a paper those that fit on a page of it."""
    return max(1, int((TALL - 0.5) / height)) if paper() else ENDLESS
