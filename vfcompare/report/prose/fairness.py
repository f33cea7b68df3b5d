"""Whether the comparison is fair, in sentences: what is matched, what was tuned, what differs."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vfcompare.report.analysis import Matching, Results
from vfcompare.report.analysis.matching import matching as matching_of
from vfcompare.report.prose.sentences import Sentence, capital, in_words, opening
from vfcompare.report.scoring import Task
from vfcompare.report.table import join, show_float


def unfair(results: Results) -> Iterable[Sentence]:
    """What differs where it should not."""
    found: dict[tuple[str, ...], list[str]] = {}
    others: dict[tuple[str, ...], list[str]] = {}
    for match in results.matching:
        if match.different:
            alarms = others if _sides_agree(results, match) else found
            alarms.setdefault(match.different, []).append(match.task)
    for items, names in found.items():
        text = f"On {join(names)} the runs differ where they should not: {join(items, 10)}."
        yield Sentence(text, "warning", "Not a fair comparison")
    for items, names in others.items():
        text = (
            f"On {join(names)} {' and '.join(in_words(results))} are alike but for what is compared; other "
            f"agents of the study differ from them in {join(items, 10)}, too."
        )
        yield Sentence(text, "warning", "Not matched throughout")
    for task in results.tasks:
        if parts := _unlike_returns(task):
            told = f"On {task.name} the runs record unlike returns: {'; '.join(parts)}"
            text = f"{told}. The first is used for all."
            yield Sentence(text, "warning", "Unlike scales")


def _sides_agree(results: Results, match: Matching) -> bool:
    """Whether the two sides are matched, and all that differs belongs to agents on neither of them."""
    sides = [{arm.name for arm in side} & {*match.arms} for side in results.sides.both]
    task, asked = results.task(match.task), set().union(*sides)
    cells = {arm: cell for arm, cell in task.cells.items() if arm in asked}
    # what all were swept over may be what these alone were swept over alike
    alone = matching_of(replace(task, cells=cells))
    return all(sides) and not (alone.reason or alone.different or alone.uncompared)


def _unlike_returns(task: Task) -> list[str]:
    """Which known returns of an environment are not the same in all its cells."""
    parts = []
    for key in ("random", "optimal", "threshold"):
        found: dict[float, list[str]] = {}
        for cell in task.cells.values():
            value = cell.reference.get(key)
            if value is not None:
                found.setdefault(value, []).append(cell.arm)
        if len(found) > 1:
            values = (f"{show_float(value)} of {join(arms)}" for value, arms in found.items())
            parts.append(f"{key} {', '.join(values)}")
    return parts


def tuned(results: Results) -> Iterable[Sentence]:
    """What differs because a search chose it for each agent."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for match in results.matching:
        if match.tuned:
            found.setdefault((match.search, match.tuned), []).append(match.task)
    for (search, items), names in found.items():
        yield Sentence(f"On {join(names)}: {_chosen(search, items)}.", "plain", "Tuned")


def _chosen(search: str, items: Sequence[str]) -> str:
    """In words, which search tuned the agents, and which settings differ for that."""
    return (
        f"settings were tuned for each agent by {search}, with equally many trials, and differ therefore in "
        f"{join(items, 10)}"
    )


def matching(results: Results) -> list[Sentence]:
    """Whether agents are matched, a sentence for all environments of which the same is true."""
    found: dict[Sentence, list[str]] = {}
    for match in results.matching:
        found.setdefault(_matching_sentence(results, match), []).append(match.task)
    return [replace(sentence, title=join(names)) for sentence, names in found.items()]


def _matching_sentence(results: Results, match: Matching) -> Sentence:
    if match.reason:
        return Sentence(f"Unchecked: {match.reason}.", "warning")
    verdict_counts = [verdict for _, verdict, _ in match.rows]
    equal, design = verdict_counts.count("equal"), verdict_counts.count("by design")
    counts = f"{equal} items equal, {design} different by design"
    swept = [item for item, verdict, _ in match.rows if verdict == "swept"]
    if swept:
        counts += f", swept alike for every agent: {join(swept)}"
    if match.tuned and (match.different or match.uncompared):
        counts += f", tuned for each agent: {join(match.tuned)}"
    if match.different:
        items = join(match.different, 10)
        if _sides_agree(results, match):
            sides = opening(results, " and ".join(in_words(results)))
            text = f"{sides} are matched; different with other agents: {items} ({counts})."
            return Sentence(text, "warning")
        return Sentence(f"Different where it should be equal: {items} ({counts}).", "warning")
    if match.uncompared:
        items = join(match.uncompared, 10)
        text = f"Not compared, as there are runs that share no seed with any other: {items} ({counts})."
        return Sentence(text, "warning")
    if match.tuned:
        text = f"{capital(_chosen(match.search, match.tuned))}; else {counts}."
        return Sentence(text)
    return Sentence(f"Matched: {counts}.", "claim")
