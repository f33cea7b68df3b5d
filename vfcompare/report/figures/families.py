"""What one side of the question has over the other, over all environments and in each."""

from collections.abc import Iterator

from vfcompare.report.analysis import Contrast, Results
from vfcompare.report.analysis.arms import ROWS
from vfcompare.report.figures import contrasts
from vfcompare.report.figures.drawing import Picture
from vfcompare.report.figures.names import brief_names
from vfcompare.report.prose.sentences import failed_in, opening, signed, too_few, verdict_word
from vfcompare.report.table import join


def pictures(results: Results) -> Iterator[Picture]:
    """The difference, by seed, where all environments have one scale."""
    found: dict[str, Contrast] = {}
    if len(results.pool) > 1 and "auc" in results.family:
        found["all environments"] = results.family["auc"]
    found.update(results.family_by_task)
    found = {name: contrast for name, contrast in found.items() if contrast.pairs}
    if not found or len(results.pool) < sum(not task.empty for task in results.tasks):
        return
    names = brief_names(list(results.family_by_task))
    drawn = {names.get(n, n): c for n, c in contrasts.largest(found, ROWS).items()}
    yield Picture(
        "families",
        f"{results.sides.title}, and where"
        if results.sides.chosen
        else "How far agents with a critic are ahead, and where",
        _caption(results, len(found) - len(drawn)),
        lambda: contrasts.draw(results, drawn, results.sides.better[::-1]),
        contrasts.data("families", found),
    )


def _caption(results: Results, left: int) -> str:
    names = brief_names(list(results.family_by_task))
    parts = [
        f"{names[name]} {signed(c.interval.estimate)} ({verdict_word(c)})"
        for name, c in results.family_by_task.items()
    ]
    pooled = "auc" in results.family and len(results.pool) > 1
    if pooled:
        c = results.family["auc"]
        parts.insert(0, f"all {signed(c.interval.estimate)} ({verdict_word(c)})")
    over_all = " (those of all environments the mean over a seed's)" if pooled else ""
    unseen = f"The {left} smallest effects are not drawn; families.csv has them. " if left else ""
    several = len(results.family_by_task) > 1
    told = too_few((results.family_by_task if several else results.family).values())
    chance = f"{'On any one environment' if several else 'On any metric'} {told}. " if told else ""
    return (
        f"{opening(results, results.sides.minus)} in area under the curve: {join(parts)}. Right of zero "
        f"{_ahead(results)}; dots are seeds{over_all}, bars intervals at the levels of Holm's correction. "
        f"{chance}{unseen}{failed_in(results)}"
    )


def _ahead(results: Results) -> str:
    chosen = results.sides.chosen
    return f"{results.sides.names[0]} is ahead" if chosen else "agents with a critic are ahead"
