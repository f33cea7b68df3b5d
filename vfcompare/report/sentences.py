"""What the numbers say, in sentences; nothing is claimed whose interval includes zero."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vfcompare import statistics
from vfcompare.report.analysis import (
    ALPHA,
    MARGIN,
    Arm,
    Contrast,
    Curve,
    Matching,
    Results,
    Speed,
)
from vfcompare.report.data import STATUSES
from vfcompare.report.tables import show, show_float, show_interval
from vfcompare.statistics import Interval

CLAIMS = {
    "auc": ("Sample efficiency", "learn faster", "area under the learning curve"),
    "final": ("Final performance", "end higher", "final score"),
    "drawdown": ("Stability", "lose less of what they had learned", "upper-tail drawdown"),
    "variation": ("Steadiness", "vary less within a run", "within-run variation"),
}


@dataclass(frozen=True)
class Sentence:
    """One statement; `tone` is `claim`, `open`, `warning` or `plain`."""

    text: str
    tone: str = "plain"
    title: str = ""


def join(names: Iterable[str]) -> str:
    """`a, b and c`."""
    items = list(names)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def verdicts(results: Results) -> list[Sentence]:
    """The answer, first; what limits it, after."""
    sentences = list(_alarms(results))
    if not results.pool:
        return [*sentences, _nothing(results), *_limits(results)]
    sentences += [_family_claim(contrast, results) for contrast in _leading(results)]
    where = _where(results)
    if where:
        sentences.append(where)
    best = _best(results)
    if best:
        sentences.append(best)
    return [*sentences, *_limits(results)]


def _alarms(results: Results) -> Iterable[Sentence]:
    for match in results.matching:
        if match.different:
            items = ", ".join(match.different)
            text = f"On {match.task} the runs differ where they should not: {items}."
            yield Sentence(text, "warning", "Not a fair comparison")
    if results.rule_changes:
        text = "A verdict depends on how failed runs are treated. " + "; ".join(
            results.rule_changes
        )
        yield Sentence(text + ".", "warning", "Depends on a rule")


def _nothing(results: Results) -> Sentence:
    if all(task.empty for task in results.tasks):
        return Sentence("No completed runs to compare: insufficient data.", "open")
    return Sentence(
        "The environments have no common scale (random and optimal returns are unknown), so scores "
        "are compared within environments only.",
        "open",
    )


def _leading(results: Results) -> list[Contrast]:
    order = ("auc", "final", "drawdown")
    return [results.family[metric] for metric in order if metric in results.family]


def _members(results: Results, critic: bool) -> str:
    return join(arm.name for arm in results.arms if arm.critic == critic)


def _family_claim(contrast: Contrast, results: Results) -> Sentence:
    title, verb, measure = CLAIMS[contrast.metric]
    critic = f"agents with a critic ({_members(results, True)})"
    outcome = f"outcome-only agents ({_members(results, False)})"
    evidence = _evidence(contrast)
    if contrast.verdict == "insufficient":
        text = f"Insufficient: {contrast.pairs} pairs of seeds; {statistics.MIN_RUNS} are needed."
        return Sentence(text, "open", title)
    if contrast.verdict == "equal":
        text = (
            f"Equal in practice: the interval of the difference in {measure} lies within "
            f"±{MARGIN:g}. Critic minus outcome-only {evidence}."
        )
        return Sentence(text, "claim", title)
    if contrast.better is None:
        why = (
            "The interval excludes zero, but so few pairs could do so by chance (sign-flip test)."
            if contrast.interval.excludes(0.0)
            else "The interval includes zero. That is not evidence of equality."
        )
        text = (
            f"Undecided between {critic} and {outcome}: difference in {measure} {evidence}. {why}"
        )
        return Sentence(text, "open", title)
    first, second = (critic, outcome) if contrast.verdict == "first" else (outcome, critic)
    claim = f"{capital(first)} {verb} than {second}"
    text = f"{claim}: {measure}, critic minus outcome-only, {evidence}."
    return Sentence(text, "claim", title)


def _evidence(contrast: Contrast) -> str:
    level = f"{contrast.interval.confidence:.2%}".rstrip("0%").rstrip(".") + "%"
    environments = f"{len(contrast.tasks)} environment" + ("s" if len(contrast.tasks) > 1 else "")
    return (
        f"{show_interval(contrast.interval)} ({level} interval, adjusted p "
        f"{show_p(contrast.p_adjusted)}, {contrast.pairs} pairs of seeds, {environments})"
    )


def show_p(p: float) -> str:
    """A p-value, without false precision."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def _where(results: Results) -> Sentence | None:
    found = results.family_by_task
    if len(found) < 2:
        return None
    groups = (
        ("the critic helps on", [n for n, c in found.items() if c.verdict == "first"]),
        ("it costs on", [n for n, c in found.items() if c.verdict == "second"]),
        (
            "it makes no practical difference on",
            [n for n, c in found.items() if c.verdict == "equal"],
        ),
        (
            "undecided on",
            [n for n, c in found.items() if c.verdict in {"undecided", "insufficient"}],
        ),
    )
    parts = [
        f"{verb} {join(f'{n} ({_signed(found[n].interval.estimate)})' for n in names)}"
        for verb, names in groups
        if names
    ]
    return Sentence("In area under the curve, " + "; ".join(parts) + ".", "plain", "Where")


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + show_float(value)


def _best(results: Results) -> Sentence | None:
    ranked = ranking(results)
    if len(ranked) < 2:
        return None
    top, interval = ranked[0]
    beaten: list[str] = []
    open_: list[str] = []
    for arm, _ in ranked[1:]:
        contrast = _between(results, top.name, arm.name)
        if contrast is not None:
            (beaten if contrast.better == top.name else open_).append(arm.name)
    parts = [f"{top.name} has the largest area under the curve, IQM {show_interval(interval)}"]
    if beaten:
        parts.append(f"ahead of {join(beaten)}")
    if open_:
        parts.append(f"undecided against {join(open_)}")
    text = "; ".join(parts) + " (paired by seed, Holm-corrected over all pairs)."
    return Sentence(text, "plain", "Agents")


def ranking(results: Results) -> list[tuple[Arm, Interval]]:
    """Arms that have an aggregate, by the IQM of the area under the curve."""
    found = [(arm, results.aggregate.get(("iqm", "auc", arm.name))) for arm in results.arms]
    known = [(arm, interval) for arm, interval in found if interval is not None]
    return sorted(known, key=lambda pair: -pair[1].estimate)


def _between(results: Results, a: str, b: str) -> Contrast | None:
    return next((c for c in results.pairs["auc"] if {c.first, c.second} == {a, b}), None)


def _limits(results: Results) -> Iterable[Sentence]:
    yield failures(results)
    sizes = [len(task.scores.get(arm.name, ())) for task in results.tasks for arm in results.arms]
    few = min((size for size in sizes if size), default=0)
    if 0 < few < statistics.FEW_RUNS:
        text = (
            f"The smallest group has n = {few}. Below {statistics.FEW_RUNS} a nominal 95% "
            "bootstrap interval is too narrow (83 to 89% at five seeds, less where runs collapse), and below "
            f"{statistics.MIN_RUNS} there is none."
        )
        yield Sentence(text, "warning", "Few seeds")
    unscaled = [
        task.name for task in results.tasks if not task.normalised and len(results.tasks) > 1
    ]
    if unscaled:
        text = f"No random and optimal returns are known for {join(unscaled)}: not aggregated."
        yield Sentence(text, "plain", "Scale")


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
    """Whether the word may be used, for each environment."""
    return [_matching_sentence(match.task, match) for match in results.matching]


def _matching_sentence(task: str, match: Matching) -> Sentence:
    if match.reason:
        return Sentence(f"Unchecked: {match.reason}.", "warning", task)
    verdict_counts = [verdict for _, verdict, _ in match.rows]
    equal, design = verdict_counts.count("equal"), verdict_counts.count("by design")
    counts = f"{equal} items equal, {design} different by design"
    if match.different:
        items = ", ".join(match.different)
        return Sentence(f"Different where it should be equal: {items} ({counts}).", "warning", task)
    return Sentence(f"Matched: {counts}.", "claim", task)


def overview_caption(results: Results) -> str:
    """Which agent ends highest on each environment."""
    ends = []
    for task in results.tasks:
        curves = [curve for curve in results.curves if curve.task == task.name]
        if curves:
            best = max(curves, key=lambda c: _end(results, c))
            ends.append(f"{best.arm} on {task.name} ({show_float(_end(results, best))})")
    sizes = _sizes(curve.n for curve in results.curves)
    return (
        f"Highest at the end: {', '.join(ends)}. IQM over {sizes} seeds of the return of sampled "
        "actions, bands are pointwise 95% bootstrap intervals, thin lines are single seeds."
    )


def curve_caption(results: Results, task_name: str) -> str:
    """Where each agent ends on one environment."""
    curves = [curve for curve in results.curves if curve.task == task_name]
    if not curves:
        return f"{task_name}: no scored runs. {_failed_in(results, task_name)}"
    order = sorted(curves, key=lambda c: -_end(results, c))
    ends = ", ".join(f"{c.arm} {show_float(_end(results, c))}" for c in order)
    band = (
        "bands are pointwise 95% bootstrap intervals"
        if any(curve.low is not None for curve in curves)
        else "too few seeds for bands"
    )
    task = results.task(task_name)
    shown = f"{show(round(task.start))} to {show(round(task.end))} steps"
    return (
        f"IQM over {_sizes(c.n for c in curves)} seeds of the return of sampled actions, {shown}; "
        f"at the end {ends}. Thin lines are single seeds (a cross: it failed there), {band}. "
        f"{_failed_in(results, task_name)}"
    )


def _end(results: Results, curve: Curve) -> float:
    return raw(results, curve.task, float(curve.estimate[-1]))


def raw(results: Results, task_name: str, value: float) -> float:
    """A score of a task as a return."""
    task = results.task(task_name)
    if task.random is None or task.optimal is None:
        return value
    return task.random + value * (task.optimal - task.random)


def _sizes(counts: Iterable[int]) -> str:
    found = sorted(set(counts))
    return str(found[0]) if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _failed_in(results: Results, *names: str) -> str:
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
    who = f" ({', '.join(f'{name} {count}' for name, count in by_arm.items())})" if by_arm else ""
    return f"Failed {failed}{who}; left out {unknown}."


def scores_caption(results: Results) -> str:
    """Who leads on which environment."""
    leaders = []
    for task in results.tasks:
        found = [
            (results.summary["auc", task.name, arm.name].estimate, arm.name)
            for arm in results.arms
            if ("auc", task.name, arm.name) in results.summary
        ]
        if found:
            value, name = max(found)
            leaders.append(f"{name} on {task.name} ({show_float(value)})")
    if not leaders:
        return f"No scored runs. {_failed_in(results)}"
    return (
        f"Largest area under the curve: {join(leaders)}. Marks are IQM over seeds with 95% "
        f"bootstrap intervals, dots are seeds. {_failed_in(results)}"
    )


def aggregate_caption(results: Results) -> str:
    """The order of the agents over all environments."""
    order = ", ".join(f"{arm.name} {show_interval(interval)}" for arm, interval in ranking(results))
    count = len(results.pool)
    return (
        f"Area under the curve over {count} environment{'s' if count > 1 else ''}, IQM: {order}. "
        f"{_failed_in(results, *results.pool)}"
    )


def profile_caption(results: Results) -> str:
    """What share of runs nearly solved their environment."""
    taus = results.profile_thresholds
    at = int(abs(taus - 0.9).argmin())
    shares = ", ".join(f"{name} {curve[0][at]:.0%}" for name, curve in results.profile.items())
    return (
        f"Share of runs whose final score is above each level; above {taus[at]:.1f}: {shares}. "
        f"Bands are 95% bootstrap intervals. {_failed_in(results, *results.pool)}"
    )


def family_caption(results: Results) -> str:
    """The critic's effect, over all and by environment."""
    parts = [
        f"{name} {_signed(c.interval.estimate)} ({_word(c)})"
        for name, c in results.family_by_task.items()
    ]
    if "auc" in results.family and len(results.pool) > 1:
        c = results.family["auc"]
        parts.insert(0, f"all {_signed(c.interval.estimate)} ({_word(c)})")
    return (
        f"Critic minus outcome-only in area under the curve: {', '.join(parts)}. Right of zero the "
        f"critic helps; dots are seeds. {_failed_in(results)}"
    )


def _word(contrast: Contrast) -> str:
    if contrast.better is None:
        return {"equal": "equal in practice"}.get(contrast.verdict, contrast.verdict)
    return f"{contrast.pairs} pairs, decided"


def pairs_caption(results: Results) -> str:
    """How many pairs are decided."""
    found = results.pairs["auc"]
    decided = [contrast for contrast in found if contrast.better]
    text = (
        f"{len(decided)} of {len(found)} pairs are decided at {ALPHA:.0%} after Holm's correction"
    )
    if decided:
        largest = max(decided, key=lambda c: abs(c.interval.estimate))
        text += (
            f"; the largest is {largest.better} over "
            f"{largest.second if largest.better == largest.first else largest.first}, "
            f"{show_float(abs(largest.interval.estimate))}"
        )
    sizes = _sizes(contrast.pairs for contrast in found)
    return (
        f"{text}. {sizes} pairs of seeds each; dots are seeds. {_failed_in(results, *results.pool)}"
    )


def improvement_caption(results: Results) -> str:
    """How many pairs are decided, and the most certain one."""
    found = results.improvement
    decided = sum(item.decided for item in found)
    strongest = max(found, key=lambda item: abs(item.interval.estimate - 0.5))
    flipped = strongest.interval.estimate < 0.5
    first, second = (
        (strongest.second, strongest.first) if flipped else (strongest.first, strongest.second)
    )
    value = max(strongest.interval.estimate, 1 - strongest.interval.estimate)
    sizes = _sizes(item.interval.n for item in found)
    return (
        f"Probability that a run of the row has a larger area under the curve than one of the "
        f"column; {decided} of {len(found)} pairs decided, hatched ones are not. Most certain: "
        f"{first} over {second}, {show_float(value)}. {sizes} seeds per environment. "
        f"{_failed_in(results, *results.pool)}"
    )


def speed_caption(results: Results) -> str:
    """How many runs got there, and who first."""
    by_task: dict[str, list[Speed]] = {}
    for item in results.speed:
        by_task.setdefault(item.task, []).append(item)
    parts = [_fastest(name, items) for name, items in by_task.items()]
    return (
        f"{'; '.join(parts)}. Marks are Kaplan-Meier medians with 95% bootstrap intervals; runs "
        f"that did not get there are kept, at the right edge. {_failed_in(results, *by_task)}"
    )


def _fastest(task: str, items: Sequence[Speed]) -> str:
    total, reached = sum(item.n for item in items), sum(item.reached for item in items)
    first = min(items, key=lambda item: item.median.estimate)
    text = f"{task}: {reached} of {total} runs reached the threshold"
    if first.median.estimate == float("inf"):
        return f"{text}, no agent with half of its seeds"
    return f"{text}, {first.arm} first (median {show(round(first.median.estimate))} steps)"


def stability_caption(results: Results) -> str:
    """The extremes of each quantity."""
    parts = []
    for key, name in (("spread", "spread over seeds"), ("drawdown", "drawdown")):
        found = [
            (results.stability[key, arm.name].estimate, arm.name)
            for arm in results.arms
            if (key, arm.name) in results.stability
        ]
        if found:
            low, high = min(found), max(found)
            parts.append(
                f"{name} from {show_float(low[0])} ({low[1]}) to {show_float(high[0])} ({high[1]})"
            )
    counts = ", ".join(
        f"{arm.name} {count} of {n}"
        for arm in results.arms
        for count, n in [results.counts["collapse", arm.name]]
        if n
    )
    return (
        f"{capital('; '.join(parts))}. Collapsed: {counts}. Left is better. "
        f"{_failed_in(results, *results.pool)}"
    )
