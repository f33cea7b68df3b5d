"""What the numbers say, in sentences; nothing is claimed whose interval includes zero."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from vfcompare import statistics
from vfcompare.report.analysis import Arm, Contrast, Results
from vfcompare.report.analysis.contrasts import difference, seeds_of
from vfcompare.report.budgets import favoured
from vfcompare.report.fairness import tuned, unfair
from vfcompare.report.learning import ahead, idle, unlearned
from vfcompare.report.limits import alarms, caveats, incomplete, tried
from vfcompare.report.metrics import LEADING, METRICS
from vfcompare.report.planes import planes
from vfcompare.report.scoring import Task, given
from vfcompare.report.sentences import (
    KINDS,
    MOST,
    Sentence,
    in_words,
    missing_references,
    on_scale,
    opening,
    pairing,
    show_p,
    signed,
    slight,
    too_few,
)
from vfcompare.report.table import join, show_float, show_interval
from vfcompare.statistics import Interval
from vfcompare.statistics.intervals import ROUNDING


def verdicts(results: Results) -> list[Sentence]:
    """The answer, first; what limits it, after."""
    sentences = [*unfair(results), *alarms(results), *incomplete(results)]
    sentences += [*_undecidable(results), *tuned(results)]
    if all(task.empty for task in results.tasks):
        nothing = Sentence("No completed runs to compare: insufficient data.", "open")
        return [*sentences, nothing, *caveats(results)]
    if results.pool:
        sentences += [_qualified(contrast, results) for contrast in _leading(results)]
    else:
        sentences += _apart(results)
    sentences += _unscaled(results)
    sentences.append(_decided(results) if results.family else _one_sided(results))
    sentences += _neither(results)
    sentences += _predicted(results)
    where = _where(results)
    if where:
        sentences.append(where)
    best = _best(results)
    if best:
        sentences.append(best)
    return [*sentences, *caveats(results)]


def _undecidable(results: Results) -> Iterable[Sentence]:
    """Which comparisons had no chance."""
    places, pairs = results.family_by_task, results.pairs["auc"]
    families = {
        "Between the two sides": results.family.values() if results.pool else (),
        "On any one environment": places.values() if len(places) > 1 else (),
        "Between any two agents": pairs if len(pairs) > 1 or not results.sides.pair else (),
    }
    found = [f"{where} {told}." for where, within in families.items() if (told := too_few(within))]
    if found:
        yield Sentence(" ".join(found), "warning", "Too few seeds")


def _apart(results: Results) -> Iterable[Sentence]:
    """The claim on each environment, where there is no common scale; what is decided comes first."""
    found = sorted(results.apart.items(), key=lambda item: item[1].better is None)
    for name, contrast in found[:MOST]:
        sentence = _qualified(contrast, results)
        yield replace(sentence, title=f"{sentence.title} on {name}")
    if found[MOST:]:
        text = (
            f"The table of the two sides has the verdicts on {len(found) - MOST} more environments."
        )
        yield Sentence(text, "open")


def _unscaled(results: Results) -> Iterable[Sentence]:
    """Which numbers are missing, where no environment has a scale."""
    raw = [task for task in results.tasks if not task.empty]
    if any(task.normalised for task in raw):
        return
    several = " There is no common scale: each is judged by itself." if len(raw) > 1 else ""
    known: dict[str, set[float | None]] = {}
    for task in raw:
        known.setdefault(next(iter(task.cells.values())).env, set()).add(task.random)
    # Settings of one environment may have unlike random policies.
    alike = {env: found.pop() if len(found) == 1 else None for env, found in known.items()}
    pairs = ", ".join(
        f"{env}: [{'RANDOM' if random is None else f'{random:g}'}, OPTIMAL]"
        for env, random in alike.items()
    )
    text = (
        f"Scores are raw returns: {missing_references(raw)}.{several} A task says such numbers itself, or "
        f"a study before its first run: study.reference={{{pairs}}}."
    )
    yield Sentence(text, "open")


def _leading(results: Results) -> list[Contrast]:
    own = results.study.metric
    order = (own, *(metric for metric in LEADING if metric != own))
    return [results.family[metric] for metric in order if metric in results.family]


def _qualified(contrast: Contrast, results: Results) -> Sentence:
    """The claim, open where it says of a side what follows from having learned or been evaluated little."""
    sentence = _family_claim(contrast, results)
    if contrast.verdict == "insufficient":
        return sentence
    sentence = _beside_best(sentence, contrast, results)
    doubts = _doubts(contrast, results)
    return (
        replace(sentence, text=" ".join([sentence.text, *doubts]), tone="open")
        if doubts
        else sentence
    )


def _doubts(contrast: Contrast, results: Results) -> list[str]:
    """Why a claim is none."""
    doubts = []
    tasks = list(map(results.task, contrast.tasks))
    if any(_mixed(task, side) for task in tasks for side in results.sides.both):
        doubts.append("But a side is of other agents at other seeds.")
    if METRICS[contrast.metric].lower:
        few = join(favoured(results, contrast)) if contrast.better else ""
        text = f"But fewer of its policies were evaluated on {few}, and drawdowns grow with their number."
        return [*doubts, *filter(None, (_unlearned(contrast, results), text if few else ""))]
    if contrast.metric == "auc" or contrast.verdict == "equal":
        nothing = {task.name for task in unlearned(results)}
        if nothing.issuperset(contrast.tasks):
            doubts.append("But no agent has learned anything.")
    return doubts


def _beside_best(sentence: Sentence, contrast: Contrast, results: Results) -> Sentence:
    """The claim, with the difference of the best settings where there are several; open if they disagree."""
    first, second = (_best_settings(side, results) for side in results.sides.both)
    every, chosen = (
        len({arm.identity for side in sides for arm in side})
        for sides in (results.sides.both, (first, second))
    )
    tasks = list(map(results.task, contrast.tasks))
    size = difference(tasks, first, second, contrast.metric)
    if every == chosen or size is None:
        return sentence
    told = f"At each agent's best setting by area under the curve, chosen after looking, it is {signed(size)}"
    agree = contrast.better is None or size * contrast.interval.estimate > 0.0
    if contrast.verdict == "equal":
        agree = abs(size) < results.study.margin
    if agree:
        return replace(sentence, text=f"{sentence.text} {told}.")
    text = (
        f"This depends on the settings that were tried. {sentence.text} {told}: nothing is claimed."
    )
    return replace(sentence, text=text, tone="open")


def _best_settings(side: Sequence[Arm], results: Results) -> list[Arm]:
    """Of each agent the arms of its best setting."""
    best: dict[str, Arm] = {}
    for arm in sorted(side, key=lambda arm: results.standing[arm.name]):
        best[arm.agent] = arm
    return [arm for arm in side if arm.identity == best[arm.agent].identity]


def _mixed(task: Task, side: Sequence[Arm]) -> bool:
    """Whether a side's mean is of other agents at other seeds."""
    present = [arm for arm in side if task.scores.get(arm.name)]
    return bool(present) and not seeds_of(task, present)[1]


def _family_claim(contrast: Contrast, results: Results) -> Sentence:
    metric = METRICS[contrast.metric]
    title, measure = metric.claim, metric.prose
    one, other = _side(results, 0, contrast), _side(results, 1, contrast)
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
        why = f"The interval includes zero. {_findable(contrast, results)}."
        if contrast.interval.excludes(0.0):
            why = f"The interval excludes zero, but {_by_chance(contrast)}."
        text = f"Undecided between {one} and {other}: {measure}, {minus}, {evidence}. {why}"
        return Sentence(text, "open", title)
    first, second = (one, other) if contrast.verdict == "first" else (other, one)
    alone = results.sides.chosen and " + " not in contrast.better
    before = ahead(results, contrast)
    verbs = metric.neutral if before else metric.verbs
    claim = f"{opening(results, first)} {verbs[alone]} than {second}"
    text = f"{claim}: {measure}, {minus}, {evidence}.{before}{_small(contrast, results)}"
    return Sentence(text, "claim", title)


def _by_chance(contrast: Contrast) -> str:
    """Why the test does not agree with the interval."""
    level = statistics.attainable_level(contrast.pairs, 1.0 - contrast.interval.confidence)
    if level == 0.0:
        return "so few pairs could do so by chance (sign-flip test)"
    unlike = "a few large ones among unlike differences"
    if len(contrast.tasks) > 1:
        unlike = "unlike effects of environments"
    return f"the sign-flip test, to which {unlike} are chance, does not agree"


def _side(results: Results, number: int, contrast: Contrast) -> str:
    """One side of the question in words, with the arms that are compared."""
    sides, tasks = results.sides, list(map(results.task, contrast.tasks or results.pool))
    scored = [a for a in sides.both[number] if any(task.scores.get(a.name) for task in tasks)]
    members = _members(scored or sides.both[number])
    if not sides.chosen:
        return f"{KINDS[number]} ({members})"
    name = sides.names[number]
    return name if name == members else f"{name} ({members.removeprefix(f'{name}; ')})"


def _members(family: Sequence[Arm]) -> str:
    """Names of arms; where an agent has several settings, those of the agents."""
    agents = list(dict.fromkeys(arm.agent for arm in family))
    settings = {arm.identity for arm in family}
    if len(settings) == len(agents):
        return join(arm.name for arm in family)
    return f"{join(agents)}; mean of {len(settings)} settings"


def _evidence(contrast: Contrast, results: Results) -> str:
    level = f"{contrast.interval.confidence:.2%}".rstrip("0%").rstrip(".") + "%"
    tasks = [results.task(name) for name in contrast.tasks]
    number, envs = len(tasks), {cell.env for task in tasks for cell in task.cells.values()}
    environments = f"{number} environment" + ("s" if number > 1 else "")
    if len(envs) < number:
        environments = f"{number} settings of {join(sorted(envs))}"
    if results.pool and number < sum(not task.empty for task in results.tasks):
        environments += f" ({join(contrast.tasks)})"
    if not any(task.normalised for task in tasks):
        environments += ", in raw returns"
    pairs = "pairs of seeds" if not contrast.strangers else f"pairs {pairing([contrast])}"
    if contrast.unpaired:
        pairs += f" and {contrast.unpaired} without partner"
    return (
        f"{show_interval(contrast.interval)} ({level} interval, adjusted p "
        f"{show_p(contrast.p_adjusted)}, {contrast.pairs} {pairs}, {environments})"
    )


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
    if slight(results, [contrast]):
        return f" It is small: within ±{margin:g}, which the study calls equal in practice."
    return ""


def _findable(contrast: Contrast, results: Results) -> str:
    """How large a difference would have been found, and what it takes to find one that matters.

    What differs between environments is spread, too: to the sign-flip test all pairs are draws of one kind.
    """
    told = "That is not evidence of equality"
    pooled = [x for by_seed in contrast.values.values() for x in by_seed.values()]
    spread, alpha = float(np.std(pooled, ddof=1)), 1.0 - contrast.interval.confidence
    least = statistics.minimum_detectable_effect(spread, contrast.pairs, alpha=alpha)
    if least == math.inf:
        seeds = -(-statistics.pairs_to_reject(alpha) // len(contrast.tasks))
        return f"{told}: {contrast.pairs} pairs cannot decide this; {seeds} seeds are needed"
    if not least > 0.0:
        return told
    found = f"studies like this one find true differences of {show_float(least)} in {statistics.POWER:.0%}"
    margin = results.study.margin
    if least > margin and on_scale(results, contrast):
        pairs = statistics.pairs_needed(margin, spread, alpha=alpha)
        if pairs is not None:
            seeds = -(-pairs // len(contrast.tasks))
            return f"{told}: {found} of cases, and those of {margin:g} if they have {seeds:,} seeds"
    return f"{told}: {found} of cases"


def _unlearned(contrast: Contrast, results: Results) -> str:
    """Which side has learned nothing, how that shows, and where."""
    found: dict[str, list[str]] = {}
    for name, side in zip(in_words(results), results.sides.both, strict=True):
        where: dict[str, list[str]] = {}
        for task in map(results.task, contrast.tasks):
            if sign := idle(task, [arm.name for arm in side]):
                where.setdefault(sign, []).append(task.name)
        for sign, tasks in where.items():
            found.setdefault(sign, []).append(f"{name} on {join(tasks)}")
    if not found:
        return ""
    told = ", and ".join(f"{sign} for {'; '.join(names)}" for sign, names in found.items())
    return f"But the mean score {told}: who learns nothing loses nothing and varies little."


def _decided(results: Results) -> Sentence:
    study = results.study
    if study.unlike:
        text = f"The studies decided differently: {study.unlike}. Read every claim as a hint."
        return Sentence(text, "open", "Decided beforehand")
    if not study.decided:
        text = (
            "No metric and no margin were fixed before the first run: read every claim as a hint."
        )
        return Sentence(text, "open", "Decided beforehand")
    who = " against ".join(in_words(results))
    equal = f"normalised scores within ±{study.margin:g} of each other are equal in practice"
    if study.threshold:
        equal += f"; {study.threshold:.0%} of the way from random to optimal counts as arrived"
    if not any(task.normalised for task in results.tasks):
        equal = "raw returns, for which no margin is meant, are never called equal in practice"
    for task in results.tasks:
        scale = given([*task.cells.values()])
        if scale and scale == (task.random, task.optimal):
            random, optimal = map(show_float, scale)
            equal += f"; on {task.name} {random} counts as random and {optimal} as optimal"
    text = f"{opening(results, who)} on {METRICS[study.metric].prose}; {equal}. All else is a hint."
    return Sentence(text, "plain", "Decided beforehand")


def _one_sided(results: Results) -> Sentence:
    """That what was to be compared is not all there."""
    sides = zip(in_words(results), results.sides.both, strict=True)
    absent = join(name for name, arms in sides if not arms)
    if results.sides.chosen:
        text = f"{results.sides.title} was decided beforehand, but of {absent} nothing was planned."
        return Sentence(text, "warning", "Decided beforehand")
    text = (
        f"Which is better, agents with a critic or without, cannot be said: of {absent} nothing was planned. "
        "A study may name other sides (study.contrast)."
    )
    return Sentence(text, "open", "One side only")


def _neither(results: Results) -> Iterable[Sentence]:
    """Who is on neither side of the default question, and why."""
    found: dict[str, dict[str, None]] = {}
    for arm in results.arms:
        if not results.sides.chosen and arm.family not in results.sides.names:
            found.setdefault(arm.family, {})[arm.agent] = None
    if found:
        who = join(f"{join(agents)} ({family})" for family, agents in found.items())
        text = (
            f"On neither side: {who}. The values that their advantages read are not, or not only, a "
            "critic's. A study may name them (study.contrast)."
        )
        yield Sentence(text, "plain", "Sides")


def _predicted(results: Results) -> Iterable[Sentence]:
    """Whether learning has the border that theory draws."""
    for plane in planes(results):
        if told := plane.told:
            text = (
                f"Of {len(told)} decided settings of {plane.env} {sum(told)} are as theory (P3) predicts: "
                "who has the smaller variance of the gradient at the start is ahead."
            )
            yield Sentence(text, "plain", "Prediction")


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
    parts = [
        f"{verb} {join(_by_effect(results, names))}{_of_which(results, names)}"
        for verb, names in groups
        if names
    ]
    text = f"In area under the curve, {'; '.join(parts)}."
    if slight(results, found.values()):
        text += f" Within ±{results.study.margin:g} the study calls them equal in practice."
    return Sentence(text, "plain", "Where")


def _of_which(results: Results, names: Sequence[str]) -> str:
    """How many of these environments have a decided difference that is too little to matter."""
    few = slight(results, (results.family_by_task[name] for name in names))
    return f", of which {few} within ±{results.study.margin:g}" if few else ""


def _by_effect(results: Results, names: Iterable[str]) -> list[str]:
    """Environments with their effects, the largest first; raw returns, which have no order, come last."""
    effects = {name: results.family_by_task[name].interval.estimate for name in names}
    scaled = [name for name in effects if results.task(name).normalised]
    raw = [f"{n} ({signed(v)} in raw returns)" for n, v in effects.items() if n not in scaled]
    order = sorted(scaled, key=lambda name: -abs(effects[name]))
    return [*(f"{name} ({signed(effects[name])})" for name in order), *raw]


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
    level = [arm for arm, one in ranked if interval.estimate - one.estimate <= ROUNDING]
    compared = []
    for arm, _ in ranked[1:]:
        contrast = _between(results, top.name, arm.name)
        if contrast is not None and (contrast.better or arm not in level):
            compared.append(contrast)
            others[_against(contrast, top.name)].append(arm.name)
    parts = [f"{top.name} has the largest area under the curve, IQM {show_interval(interval)}"]
    if len(level) > 1:
        who = join(arm.name for arm in level)
        parts = [f"{who} have the same area under the curve, IQM {show_float(interval.estimate)}"]
        parts[0] += ", and none has a larger one" * (len(level) < len(ranked))
    parts += [f"{how} {join(names)}" for how, names in others.items() if names]
    text = "; ".join(parts)
    if any(others.values()):
        text += (
            f" (paired {pairing(compared)}, Holm-corrected over {_family_of(results, compared)})"
        )
    unranked = [
        arm.name for arm in results.shown.rows if ("iqm", "auc", arm.name) not in results.aggregate
    ]
    if unranked:
        text += f"; not ranked, without scores on every environment: {join(unranked)}"
    if max(tried(results).values()) > 1:
        best = (
            "Each agent is at its best setting of those tried, chosen on these very seeds: such scores are"
            if results.shown.picked
            else "The best of several settings, found on these very seeds, is"
        )
        text += f". {best} optimistic, and more so the more settings were tried"
    return Sentence(f"{text}.", "plain", "Agents")


def _family_of(results: Results, compared: Sequence[Contrast]) -> str:
    """What pairs are corrected with."""
    asked = [{contrast.first, contrast.second} == results.sides.pair for contrast in compared]
    if all(asked):
        return "the metrics"
    over = f"pairs with {results.baseline.name}" if results.baseline else "all pairs"
    return f"{over}; that of the question over the metrics" if any(asked) else over


def ranking(results: Results) -> list[tuple[Arm, Interval]]:
    """Arms that have an aggregate, by the IQM of the area under the curve."""
    found = [(arm, results.aggregate.get(("iqm", "auc", arm.name))) for arm in results.arms]
    known = [(arm, interval) for arm, interval in found if interval is not None]
    return sorted(known, key=lambda pair: -pair[1].estimate)


def _between(results: Results, a: str, b: str) -> Contrast | None:
    return next((c for c in results.pairs["auc"] if {c.first, c.second} == {a, b}), None)


def _against(contrast: Contrast, top: str) -> str:
    """How the agent with the largest IQM stands; the mean, which sees collapses, may say otherwise."""
    if contrast.better is not None:
        return "ahead of" if contrast.better == top else "in the mean behind"
    return "equal in practice to" if contrast.verdict == "equal" else "undecided against"
