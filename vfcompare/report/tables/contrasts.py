"""Agents against each other: differences, their tests, and the probability of improvement."""

from vfcompare.report.analysis import Contrast, Improvement, Results
from vfcompare.report.analysis.decisions import MANY
from vfcompare.report.metrics import COMPARED, METRICS, SCORES
from vfcompare.report.prose.sentences import pairing, verdict_word
from vfcompare.report.table import MINUS, Table, Value

CONTRAST_HEADS = (
    "Holm's interval",
    "95% interval",
    "level",
    "adjusted p",
    "share of pairs above",
    "pairs",
    "without partner",
    "verdict",
)


def family(results: Results) -> Table:
    """One side of the question against the other."""
    difference = f" {MINUS} ".join(results.sides.names)
    everywhere = results.family.values() if results.pool else ()
    rows = [_contrast_row(c, f"{difference}, all") for c in everywhere]
    several = len(results.tasks) > 1 or not everywhere
    found = results.by_task.values() if several else ()
    where = [(name, contrast) for by_task in found for name, contrast in by_task.items()]
    rows += [_contrast_row(c, f"{difference}, {name}") for name, c in where]
    first, second = (
        results.sides.names
        if results.sides.chosen
        else ("the critic agents", "the outcome-only ones")
    )
    compared = [*everywhere, *(contrast for _, contrast in where)]
    strange = any(contrast.strangers for contrast in compared)
    how = f"paired {pairing(compared)}" if strange else "seed by seed"
    corrected = "metrics are corrected together, and so are, for each metric, the environments"
    if not everywhere:
        corrected = (
            "environments are corrected together, metric by metric; differences are in raw returns"
        )
    elif not where:
        corrected = "metrics are corrected together"
    note = f"Mean of {first} minus mean of {second}, {how}. The {corrected}."
    heads = ("metric", "difference", *CONTRAST_HEADS)
    return Table("families", results.sides.title, heads, tuple(rows), note)


def pairs(results: Results) -> Table:
    """Pairs of agents, run by run."""
    rows = tuple(
        _contrast_row(
            contrast, f"{contrast.first} {MINUS} {contrast.second}", _over(results, contrast)
        )
        for metric in COMPARED
        for contrast in results.pairs[metric]
    )
    note = f"{_against(results)}Each metric is one family of tests for Holm's correction."
    if any({c.first, c.second} == results.sides.pair for c in results.pairs["auc"]):
        note += " The pair that the question is about has its verdict, corrected over the metrics."
    if any(contrast.strangers for contrast in results.pairs["auc"]):
        note += f" Runs are paired {pairing(results.pairs['auc'])}."
    if len(results.tasks) * len(results.pairs["auc"]) > MANY:
        note += f" Pairs on single environments are more than {MANY}, and not compared."
    heads = ("metric", "difference", "environments", *CONTRAST_HEADS)
    return Table("pairs", "Paired differences between agents", heads, rows, note)


def pairs_by_task(results: Results) -> Table:
    """Pairs of agents on each environment."""
    found = [contrast for metric in SCORES for contrast in results.pairs_by_task[metric]]
    rows = tuple(
        _contrast_row(contrast, contrast.tasks[0], f"{contrast.first} {MINUS} {contrast.second}")
        for contrast in sorted(found, key=lambda c: SCORES.index(c.metric))
    )
    note = (
        f"{_against(results)}All pairs on all environments are one family of tests for Holm's correction, "
        "metric by metric."
    )
    heads = ("metric", "environment", "difference", *CONTRAST_HEADS)
    return Table("by-environment", "Agents, environment by environment", heads, rows, note)


def improvement(results: Results) -> Table:
    """Probability of improvement on the area under the curve."""
    rows = tuple(
        (
            item.first,
            item.second,
            _over(results, item),
            sum(item.seeds.values()),
            item.interval,
            round(item.interval.confidence, 4),
            item.p_adjusted,
            "decided" if item.decided else "undecided",
        )
        for item in results.improvement
    )
    heads = (
        "first",
        "second",
        "environments",
        "n",
        "P(first > second)",
        "level",
        "adjusted p",
        "verdict",
    )
    title = "Probability of improvement"
    note = f"{_against(results)}n: runs of each agent, over all environments together."
    return Table("improvement", title, heads, rows, note)


def _contrast_row(contrast: Contrast, *scope: str) -> tuple[Value, ...]:
    tested = contrast.plain.sufficient
    return (
        METRICS[contrast.metric].label,
        *scope,
        contrast.interval if contrast.pairs else None,
        contrast.plain if contrast.pairs else None,
        round(contrast.interval.confidence, 4) if tested else None,
        contrast.p_adjusted if tested else None,
        contrast.paired_wins if contrast.pairs else None,
        contrast.pairs,
        contrast.unpaired,
        f"{contrast.better} better" if contrast.better else verdict_word(contrast),
    )


def _over(results: Results, pair: Contrast | Improvement) -> str:
    """The environments that a pair is averaged over."""
    if pair.tasks == results.pool and len(pair.tasks) > 1:
        return f"all {len(pair.tasks)}"
    return ", ".join(pair.tasks) or "none"


def _against(results: Results) -> str:
    return f"Each agent is held against {results.baseline.name}. " if results.baseline else ""
