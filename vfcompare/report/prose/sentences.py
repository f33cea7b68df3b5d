"""How sentences and captions say things: the sentence itself, and the words that they share."""

from collections.abc import Iterable
from dataclasses import dataclass

from vfcompare import statistics
from vfcompare.report.analysis import Arm, Contrast, Improvement, Results, resampling
from vfcompare.report.analysis.resampling import ALPHA
from vfcompare.report.metrics import SCORES
from vfcompare.report.scoring import Task
from vfcompare.report.table import join, show_float, show_p_value

MOST = 6
"""The most names, or changed verdicts, that a sentence lists."""

KINDS = ("agents with a critic", "outcome-only agents")


@dataclass(frozen=True)
class Sentence:
    """One statement; `tone` is `claim`, `open`, `warning` or `plain`."""

    text: str
    tone: str = "plain"
    title: str = ""


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def in_words(results: Results) -> tuple[str, str]:
    """The two sides, as a sentence calls them."""
    return results.sides.names if results.sides.chosen else KINDS


def opening(results: Results, text: str) -> str:
    """The text as it begins a sentence about the two sides; names of agents stay as they are."""
    return text if results.sides.chosen else capital(text)


def signed(value: float) -> str:
    """A difference, with its sign."""
    return ("+" if value > 0 else "") + show_float(value)


def show_p(p: float) -> str:
    """A p-value as a sentence has it: `= 0.004`, or `< 0.001`."""
    text = show_p_value(p)
    return text if text.startswith("<") else f"= {text}"


def pairing(contrasts: Iterable[Contrast]) -> str:
    """How runs are paired."""
    found = [task in contrast.strangers for contrast in contrasts for task in contrast.tasks]
    if not any(found):
        return "by seed"
    return "in the order of their seeds" + (
        ", of which none is shared" if all(found) else " where none is shared"
    )


def against(results: Results) -> str:
    """Which agent all others are held against; empty where all pairs are compared."""
    if results.baseline is None:
        return ""
    return f", each against {results.called(results.baseline.name)},"


def elsewhere(results: Results, pairs: Iterable[Contrast | Improvement]) -> str:
    """Which pairs are not over all environments, and over which; empty where all are."""
    found: dict[tuple[str, ...], list[str]] = {}
    for pair in pairs:
        if pair.tasks != results.pool:
            names = f"{results.called(pair.first)} against {results.called(pair.second)}"
            found.setdefault(pair.tasks, []).append(names)
    parts = [f"{join(names)} over {join(tasks) or 'none'}" for tasks, names in found.items()]
    more = f"; and more in {len(parts) - MOST} other ways" if len(parts) > MOST else ""
    return f"Not over all environments: {'; '.join(parts[:MOST])}{more}. " if parts else ""


def over(results: Results, pair: tuple[str, str], better: str | None, size: str) -> str:
    """The better arm over the other, and by how much."""
    one, other = map(results.called, pair if better == pair[0] else pair[::-1])
    return f"{one} over {other} ({size})"


def verdict_word(contrast: Contrast) -> str:
    """Whether a contrast is decided, in a caption."""
    if contrast.better is None:
        words = {"equal": "equal in practice", "mixed": "equal on average only"}
        return words.get(contrast.verdict, contrast.verdict)
    return f"{contrast.pairs} pairs, decided"


def independent(contrast: Contrast, pairs: str = "pairs") -> str:
    """What is drawn and exchanged by itself, in words, and how many there are."""
    if contrast.units == contrast.pairs:
        return f"{contrast.pairs} {pairs}"
    return f"{contrast.units} seeds, each with its pairs on all settings of an environment,"


def too_few(contrasts: Iterable[Contrast]) -> str:
    """That so few pairs could decide none of these contrasts, corrected together; empty otherwise."""
    tested = [contrast for contrast in contrasts if contrast.plain.sufficient]
    if not tested:
        return ""
    largest = max(tested, key=lambda contrast: contrast.units)
    level, reps = ALPHA / len(tested), resampling.CLOSER * resampling.PAIR_REPS
    if statistics.attainable_level(largest.units, level, reps=reps) > 0.0:
        return ""
    who = independent(largest, "pairs of seeds")
    what = f"any of {len(tested)} differences" if len(tested) > 1 else "the one difference"
    text = f"{who} are too few to decide {what}, whatever the scores"
    needed = statistics.pairs_to_reject(level)
    if statistics.attainable_level(needed, level, reps=reps) == 0.0:
        return f"{text}, and no number is enough, as p is never below 1/{reps + 1:,}"
    return f"{text}; {enough(largest, needed)} are needed"


def enough(contrast: Contrast, units: int) -> str:
    """How many pairs of seeds so many that are drawn by themselves are, and how many seeds that takes."""
    seeds = seeds_for(contrast, units)
    if contrast.environments == 1 or contrast.units != contrast.pairs:
        return seeds
    each = -(-units // contrast.environments)
    return f"{each * contrast.environments:,} pairs, that is {seeds},"


def seeds_for(contrast: Contrast, units: int) -> str:
    """How many seeds it takes that so many are drawn by themselves, and on how many environments."""
    places = contrast.environments
    each = f"{-(-units // places):,} seeds"
    return each if places == 1 else f"{each} on each of {places} environments"


def on_scale(results: Results, contrast: Contrast) -> bool:
    """Whether a contrast is in normalised scores, which is what a margin is in."""
    return contrast.metric in SCORES and all(
        results.task(name).normalised for name in contrast.tasks
    )


def slight(results: Results, contrasts: Iterable[Contrast]) -> int:
    """How many decided differences lie within the margin, so that they may be too small to matter."""
    margin = results.study.margin
    return sum(
        contrast.better is not None and contrast.within(margin) and on_scale(results, contrast)
        for contrast in contrasts
    )


def unseen(results: Results, contrast: Contrast) -> tuple[str, float]:
    """How many runs of each side collapsed and how many may, in words; and the larger of these rates.

    What is called equal was measured on the collapses that were drawn.
    """
    sides = dict(zip(results.sides.names, results.sides.both, strict=True))
    arms = {arm.name: (arm,) for arm in results.arms} | sides
    words = dict(zip(results.sides.names, in_words(results), strict=True))
    told, rates = [], []
    for name in (contrast.first, contrast.second):
        runs = [
            score.collapsed
            for task in map(results.task, contrast.tasks)
            for arm in arms[name]
            for score in task.scores.get(arm.name, ())
        ]
        rates.append(statistics.largest_rate(sum(runs), len(runs)))
        who = f"{sum(runs)} of {len(runs)} runs of {words.get(name, name)}"
        told.append(f"{who} collapsed: up to {rates[-1]:.1%} may, unseen")
    return "; ".join(told), max(rates)


def whose_margin(results: Results) -> str:
    """Where the margin comes from."""
    if results.study.unlike:
        return "the smallest margin of the studies"
    return "the study's margin" if results.study.decided else "the default margin"


def sizes(counts: Iterable[int]) -> str:
    """How many runs a group has, or from how many to how many; without empty groups."""
    found = sorted({count for count in counts if count}) or [0]
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def seeds(results: Results, arms: Iterable[Arm], tasks: Iterable[str]) -> str:
    """How many scored runs these arms have on an environment."""
    scores = [results.task(task).scores for task in tasks]
    return sizes(len(found.get(arm.name, ())) for arm in arms for found in scores)


def extents(kind: str, what: str, known: Iterable[object]) -> str:
    """What the bars or bands of a figure show, or that there are too few seeds for any."""
    return (
        f"{kind} are {what}"
        if any(low is not None for low in known)
        else f"too few seeds for {kind}"
    )


def failed_in(results: Results, *names: str) -> str:
    """How many runs failed or are left out, on some tasks or all."""
    fates = [
        fate
        for fate in results.attrition
        if fate.cell.planned and (not names or fate.cell.task in names)
    ]
    failed = sum(fate.failed for fate in fates)
    unknown = sum(fate.planned - fate.scored for fate in fates)
    if not failed and not unknown:
        return "No run failed or is missing."
    by_arm: dict[str, int] = {}
    for fate in fates:
        if fate.failed:
            by_arm[fate.cell.arm] = by_arm.get(fate.cell.arm, 0) + fate.failed
    who = f" ({join(f'{name} {count}' for name, count in by_arm.items())})" if by_arm else ""
    return f"Failed {failed}{who}; left out {unknown}."


def missing_references(tasks: Iterable[Task]) -> str:
    """Which of the two returns that make a scale are not known, and where."""
    found: dict[str, list[str]] = {}
    for task in tasks:
        lacks = {
            (False, True): "the optimal return",
            (True, False): "the random policy's return",
        }.get(
            (task.random is None, task.optimal is None),
            "neither return of random and optimal policy",
        )
        found.setdefault(lacks, []).append(task.name)
    parts = [
        f"{what} is {'' if what.startswith('neither') else 'not '}known for {join(names)}"
        for what, names in found.items()
    ]
    return "; ".join(parts)
