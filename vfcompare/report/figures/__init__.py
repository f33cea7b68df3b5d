"""Figures: each answers one question, and is drawn from numbers that are written next to it.

One module, one question: what it draws, the sentence below it and the data beside it. `drawing` has what
they share, `output` writes them as files.
"""

from vfcompare.report.analysis import Results
from vfcompare.report.figures import (
    aggregate,
    costs,
    families,
    improvement,
    learning_curves,
    pairs,
    paths,
    phase,
    profile,
    scores,
    sensitivity,
    speed,
    stability,
)
from vfcompare.report.figures.drawing import Picture

ROOMS = (
    families,
    phase,
    learning_curves,
    costs,
    scores,
    aggregate,
    profile,
    sensitivity,
    speed,
    pairs,
    improvement,
    stability,
    paths,
)
"""Modules in the order of the page; each has `pictures(results)`."""

__all__ = ["ROOMS", "Picture", "build"]


def build(results: Results) -> list[Picture]:
    """All figures that the data allow, in the order of the page."""
    return [picture for room in ROOMS for picture in room.pictures(results)]
