"""Sizes of figures for conferences and journals, from tueplots."""

from tueplots import figsizes

from vfcompare.errors import InputError, nearest


def width_of(venue: str | None) -> float | None:
    """Width of the text of a venue in inches; None for none.

    Args:
      venue: as tueplots names it, such as `neurips2024`, `icml2024_half` for one column of two, or
        `icml2024` for both.

    Raises:
      InputError: the venue is unknown.
    """
    if venue is None:
        return None
    names = [name for name in dir(figsizes) if not name.startswith("_")]
    known = [name for name in names if name[-1].isdigit() or name.endswith(("_full", "_half"))]
    name = venue if venue in known else f"{venue}_full"
    if name not in known:
        raise InputError(
            f"unknown venue {venue!r}; allowed: {', '.join(known)}{nearest(venue, known)}"
        )
    return float(getattr(figsizes, name)()["figure.figsize"][0])
