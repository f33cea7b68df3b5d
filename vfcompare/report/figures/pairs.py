"""Which agents differ, seed by seed."""

from collections.abc import Iterator, Sequence

from vfcompare.report.analysis import Contrast, Results
from vfcompare.report.analysis.arms import ROWS
from vfcompare.report.analysis.resampling import ALPHA
from vfcompare.report.figures import contrasts
from vfcompare.report.figures.drawing import Picture
from vfcompare.report.figures.names import shortened
from vfcompare.report.sentences import against, elsewhere, failed_in, over, pairing, sizes, too_few
from vfcompare.report.table import join, show_float

SIDE = 11
"""Letters of a name above the axes, where two must fit."""


def pictures(results: Results) -> Iterator[Picture]:
    """One row a pair of agents."""
    compared = [contrast for contrast in results.pairs["auc"] if contrast.pairs]
    if not compared:
        return
    found = dict(zip(contrasts.names(results, compared), compared, strict=True))
    drawn = contrasts.largest(found, ROWS)
    sides = _sides(results, compared)
    strange = any(contrast.strangers for contrast in compared)
    yield Picture(
        "pairs",
        "Which agents differ, pair by pair" if strange else "Which agents differ, seed by seed",
        _caption(results, len(found) - len(drawn), list(drawn)),
        lambda: contrasts.draw(results, drawn, sides),
        contrasts.data("pairs", found),
    )


def _sides(results: Results, compared: Sequence[Contrast]) -> tuple[str, str]:
    """What left and right of zero mean."""
    names = compared[0].first, compared[0].second
    first, second = shortened(list(map(results.called, names)), SIDE)
    if len(compared) == 1:
        return f"{second} better", f"{first} better"
    if len({contrast.second for contrast in compared}) == 1:
        return f"{second} better", f"{second} worse"
    return "second better", "first better"


def _in_words(results: Results, contrast: Contrast) -> str:
    size = show_float(abs(contrast.interval.estimate))
    return over(results, (contrast.first, contrast.second), contrast.better, size)


def _caption(results: Results, left: int, drawn: Sequence[str]) -> str:
    """How many pairs are decided."""
    found = results.pairs["auc"]
    decided = [contrast for contrast in found if contrast.better]
    text = (
        f"{len(decided)} of {len(found)} pairs{against(results)} are decided at {ALPHA:.0%} after Holm's "
        "correction"
    )
    if decided:
        order = sorted(decided, key=lambda c: -abs(c.interval.estimate))
        text += f": {join(_in_words(results, contrast) for contrast in order)}"
    told = too_few(found) if len(found) > 1 or not results.sides.pair else ""
    text += f": {told}" if told and not decided else ""
    pairs = f"{sizes(contrast.pairs for contrast in found)} pairs of seeds each"
    dots = "dots are seeds"
    if any(contrast.strangers for contrast in found):
        pairs, dots = f"{pairs}, {pairing(found)}", "dots are pairs"
    unseen = f"The {left} smallest are not drawn; pairs.csv has them. " if left else ""
    return (
        f"{text}. {pairs}. {elsewhere(results, found)}Differences are means, which may order agents "
        f"otherwise than the IQM does; {dots}, bars the intervals at Holm's levels, filled where the "
        f"paired test agrees with the bar. {contrasts.explanation(drawn)}"
        f"{unseen}{failed_in(results, *results.pool)}"
    )
