"""Which agents differ, seed by seed."""

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vfcompare.report.analysis import Contrast, Results
from vfcompare.report.analysis.arms import ROWS
from vfcompare.report.analysis.resampling import ALPHA
from vfcompare.report.figures import contrasts
from vfcompare.report.figures.drawing import (
    CROWDED,
    Picture,
    canvas,
    heading,
    panels,
)
from vfcompare.report.figures.names import shortened
from vfcompare.report.figures.sizes import BODY, beside, inches, points
from vfcompare.report.prose.sentences import (
    against,
    elsewhere,
    failed_in,
    over,
    pairing,
    sizes,
    too_few,
)
from vfcompare.report.table import Table, join, show_float

PLACES = 9
"""Most environments that have a panel each."""
SIDE = 11
"""Letters of a name above the axes, where two must fit."""


def pictures(results: Results) -> Iterator[Picture]:
    """One row a pair of agents, over all environments and on each."""
    yield from _over_all(results)
    yield from _on_each(results)


def _over_all(results: Results) -> Iterator[Picture]:
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


def _on_each(results: Results) -> Iterator[Picture]:
    compared = [contrast for contrast in results.pairs_by_task["auc"] if contrast.pairs]
    where = list(dict.fromkeys(contrast.tasks[0] for contrast in compared))
    couples = {(contrast.first, contrast.second) for contrast in compared}
    if not 1 < len(where) <= PLACES or len(couples) > CROWDED:
        return
    decided = [contrast for contrast in compared if contrast.better]
    apart = {task: [c for c in decided if c.tasks[0] == task] for task in where}
    told = [
        f"on {task} {join(_in_words(results, contrast) for contrast in found)}"
        for task, found in apart.items()
        if found
    ]
    text = f"{len(decided)} of {len(compared)} differences are decided at {ALPHA:.0%} after Holm's correction"
    text += f": {'; '.join(told)}" if told else ""
    rows = [
        (c.tasks[0], label, c.interval, c.p_adjusted, c.verdict)
        for c, label in zip(compared, contrasts.names(results, compared), strict=True)
    ]
    yield Picture(
        "by-environment",
        "Which agents differ, and where",
        f"{text}. {sizes(contrast.pairs for contrast in compared)} pairs of seeds each; bars are intervals "
        f"at Holm's levels, filled where decided. {failed_in(results, *where)}",
        lambda: _panels(results, compared, where),
        Table(
            "by-environment",
            "Paired differences on each environment",
            ("environment", "contrast", "difference", "adjusted p", "verdict"),
            tuple(rows),
        ),
    )


def _panels(results: Results, compared: Sequence[Contrast], where: Sequence[str]) -> Figure:
    # Named together: of one pair alone both names are told.
    named = list(zip(contrasts.names(results, compared), compared, strict=True))
    names = list(dict.fromkeys(name for name, _ in named))
    columns = beside(len(where), 3, 1.1, inches(contrasts.labels(names)))
    lines = -(-len(where) // columns)
    height = lines * (0.75 + contrasts.height(names))
    figure, grid = canvas(height, lines, columns, broad=1.4, sharey=True)
    for axes, task in zip(panels(grid, len(where)), where, strict=True):
        found = {name: contrast for name, contrast in named if contrast.tasks == (task,)}
        contrasts.rows(results, axes, found, names, seeds=False)
        axes.xaxis.set_major_locator(MaxNLocator(3))
        heading(axes, task, 24)
    left, right = _sides(results, compared)
    text = f"difference in area under the curve (◂ {left}, {right} ▸)"
    figure.supxlabel(text, fontsize=points(BODY))
    return figure
