"""What the numbers say, in sentences; nothing is claimed whose interval includes zero."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vfcompare import statistics
from vfcompare.report.analysis import Arm, Contrast, Matching, Results
from vfcompare.report.analysis.arms import settings_in
from vfcompare.report.analysis.contrasts import ALL_PAIRS, LOWER_IS_BETTER, planned_seeds
from vfcompare.report.cells import held_still
from vfcompare.report.data import LEADING, STATUSES
from vfcompare.report.planes import planes
from vfcompare.report.scoring import Task, column, failed
from vfcompare.report.table import join, show_float, show_interval
from vfcompare.statistics import Interval

MOST = 6
"""Names, and changed verdicts, that a sentence lists."""
LEARNED, SOLVED = 0.1, 0.95
"""Final scores below which an agent has learned nothing, and above which it has no more to learn."""

CLAIMS = {
    "auc": ("Sample efficiency", "learn faster", "area under the learning curve"),
    "final": ("Final performance", "end higher", "final score"),
    "drawdown": ("Stability", "lose less of what they had learned", "upper-tail drawdown"),
    "variation": ("Steadiness", "vary less within a run", "within-run variation"),
}


SINGULAR = {
    "auc": "learns faster",
    "final": "ends higher",
    "drawdown": "loses less of what it had learned",
    "variation": "varies less within a run",
}
"""The verbs of `CLAIMS` for one agent."""

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


def verdicts(results: Results) -> list[Sentence]:
    """The answer, first; what limits it, after."""
    sentences = [*_alarms(results), *_tuned(results)]
    if not results.pool:
        return [*sentences, _nothing(results), *_limits(results)]
    sentences += [_qualified(contrast, results) for contrast in _leading(results)]
    if results.family:
        sentences.append(_decided(results))
    elif results.sides.chosen:
        sentences.append(_one_sided(results))
    sentences += _predicted(results)
    sentences += _incomplete(results)
    where = _where(results)
    if where:
        sentences.append(where)
    best = _best(results)
    if best:
        sentences.append(best)
    return [*sentences, *_limits(results)]


def _alarms(results: Results) -> Iterable[Sentence]:
    unfair: dict[tuple[str, ...], list[str]] = {}
    for match in results.matching:
        if match.different:
            unfair.setdefault(match.different, []).append(match.task)
    for items, names in unfair.items():
        text = f"On {join(names)} the runs differ where they should not: {join(items, 10)}."
        yield Sentence(text, "warning", "Not a fair comparison")
    if results.rule_changes:
        changes = results.rule_changes
        text = "A verdict depends on how failed runs are treated. " + "; ".join(changes[:MOST])
        more = f"; and {len(changes) - MOST} more verdicts" if len(changes) > MOST else ""
        yield Sentence(f"{text}{more}.", "warning", "Depends on a rule")
    idle = [name for name, finals in _finals(results).items() if max(finals) < LEARNED]
    if idle:
        text = (
            f"On {join(idle)} no agent ends {LEARNED:.0%} of the way from the random policy to the optimal "
            "one (IQM of the final score). Agents that have learned nothing are equal whatever they are."
        )
        yield Sentence(text, "warning", "Nothing learned")


def _tuned(results: Results) -> Iterable[Sentence]:
    """What differs because a search chose it for each agent."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for match in results.matching:
        if match.tuned:
            found.setdefault((match.search, match.tuned), []).append(match.task)
    for (search, items), names in found.items():
        yield Sentence(f"On {join(names)}: {chosen(search, items)}.", "plain", "Tuned")


def chosen(search: str, items: Sequence[str]) -> str:
    """Who tuned, and what differs therefore."""
    return (
        f"settings were tuned for each agent by {search}, with equally many trials, and differ therefore in "
        f"{join(items, 10)}"
    )


def _on_purpose(task: Task) -> bool:
    """Whether the policies were held still; of a cell that has not begun that is not known."""
    configs = [cell.config for cell in task.cells.values() if cell.config]
    return bool(configs) and all(map(held_still, configs))


def _finals(results: Results) -> dict[str, list[float]]:
    """IQM of the final score of every agent, on each environment with a scale where policies may learn."""
    found = {
        task.name: [
            results.summary["final", task.name, arm.name].estimate
            for arm in results.arms
            if ("final", task.name, arm.name) in results.summary
        ]
        for task in results.tasks
        if task.normalised and not _on_purpose(task)
    }
    return {name: finals for name, finals in found.items() if finals}


def _nothing(results: Results) -> Sentence:
    if all(task.empty for task in results.tasks):
        return Sentence("No completed runs to compare: insufficient data.", "open")
    return Sentence(
        "The environments have no common scale (random and optimal returns are unknown), so scores "
        "are compared within environments only.",
        "open",
    )


def _leading(results: Results) -> list[Contrast]:
    own = results.study.metric
    order = (own, *(metric for metric in LEADING if metric != own))
    return [results.family[metric] for metric in order if metric in results.family]


def _decided(results: Results) -> Sentence:
    study = results.study
    if not study.decided:
        text = (
            "No metric and no margin were fixed before the first run: read every claim as a hint."
        )
        return Sentence(text, "open", "Decided beforehand")
    who = " against ".join(in_words(results))
    arrived = (
        f"; {study.threshold:.0%} of the way from random to optimal counts as arrived"
        if study.threshold
        else ""
    )
    return Sentence(
        f"{opening(results, who)} on {CLAIMS[study.metric][2]}; "
        f"normalised scores within ±{study.margin:g} of each other are equal in practice{arrived}. All "
        "else is a hint.",
        "plain",
        "Decided beforehand",
    )


def _incomplete(results: Results) -> Iterable[Sentence]:
    """That a side's mean is not of all its agents everywhere, or that there is no difference at all."""
    sides = (results.sides.first, results.sides.second)
    scored = [task for task in results.tasks if not task.empty]
    left = [task.name for task in scored if all(sides) and task.name not in results.family_by_task]
    absent = [
        (results.called(arm.name), task.name)
        for side in sides
        for task in scored
        for arm in side
        if arm.name in task.cells and not task.scores[arm.name]
    ]
    parts = []
    if absent:
        parts.append(f"Without scores: {join(f'{arm} on {task}' for arm, task in absent)}.")
    if any(task not in left for _, task in absent):
        parts.append("Means of its side are of the other agents there.")
    if left:
        parts.append(f"No seed has scores on both sides on {join(left)}, which is left out.")
    if parts:
        yield Sentence(" ".join(parts), "warning", "Incomplete")
    uneven = [task.name for task in scored if any(_uneven(results, task, side) for side in sides)]
    if uneven:
        text = (
            f"Not every agent of a side was planned with every seed on {join(uneven)}: its mean is, seed "
            "by seed, of those that were."
        )
        yield Sentence(text, "warning", "Uneven seeds")


def _uneven(results: Results, task: Task, side: Sequence[Arm]) -> bool:
    """Whether a side's mean is not of the same agents at every seed that is compared."""
    contrast = results.family_by_task.get(task.name)
    arms = [arm for arm in side if task.scores.get(arm.name)]
    if contrast is None:
        return False
    every = {seed for arm in arms for seed in planned_seeds(task, arm.name)}
    used = every if contrast.strangers else contrast.values[task.name]
    members = {
        frozenset(
            (arm.agent, *arm.tuned.items()) for arm in arms if seed in planned_seeds(task, arm.name)
        )
        for seed in used
    }
    return len(members) > 1


def _unscored(results: Results) -> Iterable[Sentence]:
    """Environments of which no number of the report knows."""
    empty = [task for task in results.tasks if task.empty]
    lost = [task for task in empty if any(_failed(task))]
    if lost:
        text = (
            f"No run completed on {join(task.name for task in lost)} and no budget is recorded, so that "
            f"no range can be compared: {sum(map(sum, map(_failed, lost)))} failed runs are in no score."
        )
        yield Sentence(text, "warning", "Left out")
    others = [task.name for task in empty if task not in lost]
    if others and len(empty) < len(results.tasks):
        text = f"Of no run on {join(others)} the outcome is known: it is in no score."
        yield Sentence(text, "warning", "Left out")


def _failed(task: Task) -> list[bool]:
    return [failed(run) for cell in task.cells.values() for run in cell.runs]


def _one_sided(results: Results) -> Sentence:
    """That what was to be compared is not all there."""
    sides = zip(results.sides.names, (results.sides.first, results.sides.second), strict=True)
    absent = join(name for name, arms in sides if not arms)
    text = f"{results.sides.title} was decided beforehand, but of {absent} nothing was planned."
    return Sentence(text, "warning", "Decided beforehand")


def _side(results: Results, number: int) -> str:
    """One side of the question in words, with its arms."""
    sides = results.sides
    members = _members((sides.first, sides.second)[number])
    if not sides.chosen:
        return f"{KINDS[number]} ({members})"
    name = sides.names[number]
    return name if name == members else f"{name} ({members})"


def _members(family: Sequence[Arm]) -> str:
    """Names of arms; where there are many settings, how many."""
    if len(family) <= MOST:
        return join(arm.name for arm in family)
    agents = list(dict.fromkeys(arm.agent for arm in family))
    averaged = f"; mean of {len(family)} settings" if len(agents) < len(family) else ""
    return join(agents) + averaged


def _family_claim(contrast: Contrast, results: Results) -> Sentence:
    title, verb, measure = CLAIMS[contrast.metric]
    one, other = _side(results, 0), _side(results, 1)
    minus = results.sides.minus
    evidence = _evidence(contrast, results)
    if contrast.verdict == "insufficient":
        return Sentence(f"Insufficient: {_too_few(contrast)}.", "open", title)
    if contrast.verdict == "equal":
        text = (
            f"Equal in practice: the interval of the difference in {measure} lies within "
            f"±{results.study.margin:g}. {opening(results, minus)} {evidence}."
        )
        return Sentence(text, "claim", title)
    if contrast.better is None:
        why = (
            "The interval excludes zero, but so few pairs could do so by chance (sign-flip test)."
            if contrast.interval.excludes(0.0)
            else "The interval includes zero. That is not evidence of equality."
        )
        text = f"Undecided between {one} and {other}: {measure}, {minus}, {evidence}. {why}"
        return Sentence(text, "open", title)
    first, second = (one, other) if contrast.verdict == "first" else (other, one)
    if results.sides.chosen and " + " not in contrast.better:
        verb = SINGULAR[contrast.metric]
    claim = f"{opening(results, first)} {verb} than {second}"
    text = f"{claim}: {measure}, {minus}, {evidence}.{_small(contrast, results)}"
    return Sentence(text, "claim", title)


def _qualified(contrast: Contrast, results: Results) -> Sentence:
    """The claim, open where a side that is said to keep what it learned has learned nothing."""
    sentence = _family_claim(contrast, results)
    if contrast.metric not in LOWER_IS_BETTER or contrast.verdict == "insufficient":
        return sentence
    idle = _unlearned(contrast, results)
    return replace(sentence, text=f"{sentence.text} {idle}", tone="open") if idle else sentence


def _unlearned(contrast: Contrast, results: Results) -> str:
    """Which side ends below `LEARNED`, and where."""
    tasks = [task for task in map(results.task, contrast.tasks) if task.normalised]
    sides = (results.sides.first, results.sides.second)
    found = {
        name: [task.name for task in tasks if _final(task, side) < LEARNED]
        for name, side in zip(in_words(results), sides, strict=True)
    }
    parts = [f"{name} on {join(where)}" for name, where in found.items() if where]
    if not parts:
        return ""
    return (
        f"But the final score (IQM) is below {LEARNED:.0%} of the way from the random policy to the optimal "
        f"one for {'; '.join(parts)}: who learns nothing loses nothing and varies little."
    )


def _final(task: Task, side: Sequence[Arm]) -> float:
    """IQM of the final scores of a side, each of whose arms weighs the same."""
    scores = [np.array(list(column(task, arm.name, "final").values())) for arm in side]
    return float(statistics.iqm([values for values in scores if values.size]))


def _too_few(contrast: Contrast) -> str:
    """How many pairs there are where there are too few, for an interval needs enough everywhere."""
    needed = statistics.MIN_RUNS
    sizes = {task: len(by_seed) for task, by_seed in contrast.values.items()}
    few = {task: f"{n} pair{'s' * (n != 1)}" for task, n in sizes.items() if n < needed}
    if len(sizes) < 2:
        return f"{next(iter(few.values()), 'no pairs')} of seeds; {needed} are needed"
    where = join(f"{pairs} on {task}" for task, pairs in few.items())
    return f"{where}; {needed} are needed on each environment"


def _small(contrast: Contrast, results: Results) -> str:
    """What is decided may still be too little to matter."""
    margin = results.study.margin
    if contrast.within(margin) and all(results.task(name).normalised for name in contrast.tasks):
        return f" It is small: within ±{margin:g}, which the study calls equal in practice."
    return ""


def _evidence(contrast: Contrast, results: Results) -> str:
    level = f"{contrast.interval.confidence:.2%}".rstrip("0%").rstrip(".") + "%"
    tasks = [results.task(name) for name in contrast.tasks]
    number, envs = len(tasks), {cell.env for task in tasks for cell in task.cells.values()}
    environments = f"{number} environment" + ("s" if number > 1 else "")
    if len(envs) < number:
        environments = f"{number} settings of {join(sorted(envs))}"
    pairs = "pairs of seeds" if not contrast.strangers else f"pairs {pairing([contrast])}"
    return (
        f"{show_interval(contrast.interval)} ({level} interval, adjusted p "
        f"{show_p(contrast.p_adjusted)}, {contrast.pairs} {pairs}, {environments})"
    )


def pairing(contrasts: Iterable[Contrast]) -> str:
    """How runs are paired."""
    found = [task in contrast.strangers for contrast in contrasts for task in contrast.tasks]
    if not any(found):
        return "by seed"
    return "in the order of their seeds" + (
        ", of which none is shared" if all(found) else " where none is shared"
    )


def show_p(p: float) -> str:
    """A p-value, without false precision."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _where(results: Results) -> Sentence | None:
    found = results.family_by_task
    if len(found) < 2:
        return None
    above, below = ("the critic helps on", "it costs on")
    if results.sides.chosen:
        above, below = (f"{text} on" for text in results.sides.better)
    groups = (
        (above, [n for n, c in found.items() if c.verdict == "first"]),
        (below, [n for n, c in found.items() if c.verdict == "second"]),
        (
            "no practical difference on",
            [n for n, c in found.items() if c.verdict == "equal"],
        ),
        (
            "undecided on",
            [n for n, c in found.items() if c.verdict in {"undecided", "insufficient"}],
        ),
    )
    parts = [f"{verb} {join(_by_effect(results, names))}" for verb, names in groups if names]
    return Sentence("In area under the curve, " + "; ".join(parts) + ".", "plain", "Where")


def _by_effect(results: Results, names: Iterable[str]) -> list[str]:
    """Environments with their effects, the largest first; raw returns, which have no order, come last."""
    effects = {name: results.family_by_task[name].interval.estimate for name in names}
    scaled = [name for name in effects if results.task(name).normalised]
    raw = [f"{n} ({signed(v)} in raw returns)" for n, v in effects.items() if n not in scaled]
    order = sorted(scaled, key=lambda name: -abs(effects[name]))
    return [*(f"{name} ({signed(effects[name])})" for name in order), *raw]


def signed(value: float) -> str:
    """A difference, with its sign."""
    return ("+" if value > 0 else "") + show_float(value)


def over(results: Results, pair: tuple[str, str], better: str | None, size: str) -> str:
    """The better arm over the other, and by how much."""
    one, other = map(results.called, pair if better == pair[0] else pair[::-1])
    return f"{one} over {other} ({size})"


def _predicted(results: Results) -> Iterable[Sentence]:
    """Whether learning has the border that theory draws."""
    for plane in planes(results):
        if told := plane.told:
            text = (
                f"Of {len(told)} decided settings of {plane.env} {sum(told)} are as theory (P3) predicts: "
                "who has the smaller variance of the gradient at the start is ahead."
            )
            yield Sentence(text, "plain", "Prediction")


def _best(results: Results) -> Sentence | None:
    ranked = ranking(results)
    if len(ranked) < 2:
        return None
    top, interval = ranked[0]
    others: dict[str, list[str]] = {
        "ahead of": [],
        "equal in practice to": [],
        "undecided against": [],
        "in the mean behind": [],
    }
    compared = []
    for arm, _ in ranked[1:]:
        contrast = _between(results, top.name, arm.name)
        if contrast is not None:
            compared.append(contrast)
            others[_against(contrast, top.name)].append(arm.name)
    parts = [f"{top.name} has the largest area under the curve, IQM {show_interval(interval)}"]
    parts += [f"{how} {join(names)}" for how, names in others.items() if names]
    text = "; ".join(parts)
    if any(others.values()):
        against = results.shown.compared[0].name
        pairs = "all pairs" if len(results.shown.compared) <= ALL_PAIRS else f"pairs with {against}"
        text += f" (paired {pairing(compared)}, Holm-corrected over {pairs})"
    if max(tried(results).values()) > 1:
        best = (
            "Each agent is at its best setting of those tried, chosen on these very seeds: such scores are"
            if results.shown.picked
            else "The best of several settings, found on these very seeds, is"
        )
        text += f". {best} optimistic, and more so the more settings were tried"
    return Sentence(f"{text}.", "plain", "Agents")


def tried(results: Results) -> dict[str, int]:
    """The most settings that each agent has on one environment."""
    found: dict[str, int] = {}
    for task in results.tasks:
        groups: dict[str, list[Arm]] = {}
        for arm in results.arms:
            if arm.name in task.cells:
                groups.setdefault(arm.agent, []).append(arm)
        for agent, arms in groups.items():
            found[agent] = max(found.get(agent, 0), settings_in(arms))
    return found


def _against(contrast: Contrast, top: str) -> str:
    """How the agent with the largest IQM stands; the mean, which sees collapses, may say otherwise."""
    if contrast.better is not None:
        return "ahead of" if contrast.better == top else "in the mean behind"
    return "equal in practice to" if contrast.verdict == "equal" else "undecided against"


def ranking(results: Results) -> list[tuple[Arm, Interval]]:
    """Arms that have an aggregate, by the IQM of the area under the curve."""
    found = [(arm, results.aggregate.get(("iqm", "auc", arm.name))) for arm in results.arms]
    known = [(arm, interval) for arm, interval in found if interval is not None]
    return sorted(known, key=lambda pair: -pair[1].estimate)


def _between(results: Results, a: str, b: str) -> Contrast | None:
    return next((c for c in results.pairs["auc"] if {c.first, c.second} == {a, b}), None)


def _limits(results: Results) -> Iterable[Sentence]:
    yield failures(results)
    yield from _unscored(results)
    sizes = [len(task.scores.get(arm.name, ())) for task in results.tasks for arm in results.arms]
    few = min((size for size in sizes if size), default=0)
    if 0 < few < statistics.FEW_RUNS:
        text = f"The smallest group has n = {few}: {_covered(few)}"
        yield Sentence(text, "warning", "Few seeds")
    numbers = tried(results)
    if len(set(numbers.values())) > 1:
        each = join(f"{n} setting{'s' * (n > 1)} of {agent}" for agent, n in numbers.items())
        text = f"Unequal numbers were tried: {each}. The best of more is more optimistic."
        yield Sentence(text, "warning", "Unequal tuning")
    solved = [name for name, finals in _finals(results).items() if min(finals) > SOLVED]
    if solved:
        text = (
            f"On {join(solved)} every agent ends above {SOLVED:g}: only how fast can differ there."
        )
        yield Sentence(text, "plain", "Solved")
    unscaled = [
        task.name for task in results.tasks if not task.normalised and len(results.tasks) > 1
    ]
    if unscaled:
        text = f"No random and optimal returns are known for {join(unscaled)}: not aggregated."
        yield Sentence(text, "plain", "Scale")


def _covered(runs: int) -> str:
    """What an interval of so few runs is worth."""
    if runs < statistics.MIN_RUNS:
        return f"below {statistics.MIN_RUNS} there are no intervals."
    known = statistics.known_coverage("mean", runs)
    normal, bimodal = (f"{known.shares[law]:.0%}" for law in ("normal", "bimodal"))
    return (
        f"at {known.runs} runs a nominal 95% interval of a mean covers {normal} for normal scores, and "
        f"{bimodal} where a fifth of the runs collapse."
    )


def failures(results: Results) -> Sentence:
    """How many of the planned runs there are, and what became of the others."""
    planned = sum(row["planned"] for row in results.attrition)
    rows = [row for row in results.attrition if row["cell"].planned]
    counts = {status: sum(row[status] for row in rows) for status in STATUSES}
    done = counts.pop("completed")
    others = [f"{count} {status}" for status, count in counts.items() if count]
    noun = "planned" if results.study.planned else "found"
    text = f"{done} of {planned} {noun} runs completed"
    if others:
        text += f"; {', '.join(others)}"
    tone = "warning" if others else "plain"
    return Sentence(text + ".", tone, "Runs")


def matching(results: Results) -> list[Sentence]:
    """Whether the word may be used, for each environment; those of which the same is said, together."""
    found: dict[Sentence, list[str]] = {}
    for match in results.matching:
        found.setdefault(_matching_sentence(match), []).append(match.task)
    return [replace(sentence, title=join(names)) for sentence, names in found.items()]


def _matching_sentence(match: Matching) -> Sentence:
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
        return Sentence(f"Different where it should be equal: {items} ({counts}).", "warning")
    if match.uncompared:
        items = join(match.uncompared, 10)
        text = f"Not compared, as there are runs that share no seed with any other: {items} ({counts})."
        return Sentence(text, "warning")
    if match.tuned:
        text = f"{capital(chosen(match.search, match.tuned))}; else {counts}."
        return Sentence(text)
    return Sentence(f"Matched: {counts}.", "claim")


def sizes(counts: Iterable[int]) -> str:
    """How many runs a group has, or from how many to how many; without empty groups."""
    found = sorted({count for count in counts if count}) or [0]
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def failed_in(results: Results, *names: str) -> str:
    """How many runs failed or are left out, on some tasks or all."""
    rows = [
        row
        for row in results.attrition
        if row["cell"].planned and (not names or row["cell"].task in names)
    ]
    failed = sum(row["failed"] for row in rows)
    unknown = sum(row["planned"] - row["scored"] for row in rows)
    if not failed and not unknown:
        return "No run failed or is missing."
    by_arm: dict[str, int] = {}
    for row in rows:
        if row["failed"]:
            by_arm[row["cell"].arm] = by_arm.get(row["cell"].arm, 0) + row["failed"]
    who = f" ({join(f'{name} {count}' for name, count in by_arm.items())})" if by_arm else ""
    return f"Failed {failed}{who}; left out {unknown}."


def verdict_word(contrast: Contrast) -> str:
    """Whether a contrast is decided, in a caption."""
    if contrast.better is None:
        return {"equal": "equal in practice"}.get(contrast.verdict, contrast.verdict)
    return f"{contrast.pairs} pairs, decided"
