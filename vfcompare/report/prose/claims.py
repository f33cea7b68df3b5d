"""Which side of the question is ahead: claims, their evidence, and doubts for which nothing is claimed."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vfcompare import statistics
from vfcompare.report.analysis import Arm, Contrast, Results, resampling
from vfcompare.report.analysis.contrasts import difference, seeds_of
from vfcompare.report.metrics import LEADING, METRICS
from vfcompare.report.prose.budgets import favoured
from vfcompare.report.prose.learning import ahead, idle, unlearned
from vfcompare.report.prose.sentences import (
    KINDS,
    MOST,
    Sentence,
    enough,
    in_words,
    independent,
    on_scale,
    opening,
    pairing,
    seeds_for,
    show_p,
    signed,
    slight,
    unseen,
    whose_margin,
)
from vfcompare.report.scoring import Task
from vfcompare.report.table import join, show_float, show_interval


def leading(results: Results) -> list[Contrast]:
    """The contrasts of the sides over all environments, that of the study's own metric first."""
    own = results.study.metric
    order = (own, *(metric for metric in LEADING if metric != own))
    return [results.family[metric] for metric in order if metric in results.family]


def qualified(contrast: Contrast, results: Results) -> Sentence:
    """The claim about one metric, with what the best settings say of it; left open where there are doubts."""
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
    """Sentences for which a claim is not made; empty where nothing speaks against it."""
    doubts = []
    tasks = list(map(results.task, contrast.tasks))
    if any(_mixed(task, side) for task in tasks for side in results.sides.both):
        doubts.append("But a side is of other agents at other seeds.")
    if METRICS[contrast.metric].lower:
        few = join(favoured(results, contrast)) if contrast.better else ""
        text = f"But fewer of its policies were evaluated on {few}, and drawdowns grow with their number."
        told = (_unlearned(contrast, results), _noisy(contrast, results), text if few else "")
        return [*doubts, *filter(None, told)]
    if contrast.metric == "auc" or contrast.even:
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
    if contrast.even:
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
    """Whether no seed has all agents of a side, so that its mean is of different agents seed by seed."""
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
    if contrast.even:
        mixed = contrast.verdict == "mixed"
        claim = "Equal on average, and not on each environment" if mixed else "Equal in practice"
        text = (
            f"{claim}: the interval of the difference in {measure} lies within "
            f"±{results.study.margin:g}. {opening(results, minus)} {evidence}. "
            f"{unseen(results, contrast)[0]}."
        )
        return Sentence(text, "open" if mixed else "claim", title)
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
    return Sentence(f"{text}{_one_by_one(contrast, results)}", "claim", title)


def _one_by_one(contrast: Contrast, results: Results) -> str:
    """Which agents of the better side are ahead of which of the other; empty where each is of all."""
    sides = results.sides.both if contrast.verdict == "first" else results.sides.both[::-1]
    better, worse = ([arm.name for arm in side] for side in sides)
    found = {frozenset((c.first, c.second)): c.better for c in results.pairs[contrast.metric]}
    couples = [frozenset((a, b)) for a in better for b in worse]
    if not 1 < len(couples) <= MOST**2 or not all(couple in found for couple in couples):
        return ""
    behind = {a: [b for b in worse if found[frozenset((a, b))] == a] for a in better}
    if all(len(names) == len(worse) for names in behind.values()):
        return ""
    if not any(behind.values()):
        return " Taken one by one, no agent is decided to be ahead of another."
    told = []
    for arm, names in behind.items():
        those = join(map(results.called, names)) or "none of them"
        told.append(f"{results.called(arm)} is ahead of {those}")
    return f" Taken one by one, {join(told)}."


def _by_chance(contrast: Contrast) -> str:
    """Why the test does not agree with the interval."""
    level = statistics.attainable_level(contrast.units, 1.0 - contrast.interval.confidence)
    if level == 0.0:
        return "so few pairs could do so by chance (sign-flip test)"
    return (
        "the sign-flip test does not agree: exchanging the two of each pair at random gives as large a "
        f"difference with p = {contrast.p:.2g}, where Holm asks for {1.0 - contrast.interval.confidence:.2g}"
    )


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
        own = "which the study calls equal in practice"
        whose = own if results.study.decided else whose_margin(results)
        return f" It is small: within ±{margin:g}, {whose}."
    return ""


def _findable(contrast: Contrast, results: Results) -> str:
    """How large a difference would have been found, and what it takes to find one that matters.

    What differs between environments is spread, too: to the sign-flip test all pairs are draws of one kind.
    """
    told = "That is not evidence of equality"
    spread, alpha = _spread(contrast, results), 1.0 - contrast.interval.confidence
    tasks = contrast.environments
    least = statistics.minimum_detectable_effect(spread, contrast.units, alpha=alpha, tasks=tasks)
    if least == math.inf:
        wanted = enough(contrast, statistics.pairs_to_reject(alpha))
        return f"{told}: {independent(contrast)} cannot decide this; {wanted} are needed"
    if not least > 0.0:
        return told
    found = f"studies like this one find true differences of {show_float(least)} in {statistics.POWER:.0%}"
    margin = results.study.margin
    if least > margin and on_scale(results, contrast):
        pairs = statistics.pairs_needed(margin, spread, alpha=alpha, tasks=tasks)
        if pairs is not None:
            wanted = seeds_for(contrast, pairs)
            return f"{told}: {found} of cases, and those of {margin:g} if they have {wanted}"
    return f"{told}: {found} of cases"


def _spread(contrast: Contrast, results: Results) -> float:
    """Standard deviation of the differences, averaged first where drawn together."""
    tasks = [*map(results.task, contrast.tasks)]
    values = [np.array([*by_seed.values()]) for by_seed in contrast.values.values()]
    units = resampling.units(tasks, contrast.values.values())
    each = np.concatenate(values)
    if units is not None:
        each = contrast.units * statistics.weighted(values, units)
    return float(np.std(each, ddof=1))


def _noisy(contrast: Contrast, results: Results) -> str:
    """Of how many compared runs the noise of evaluations is not known, if of any."""
    arms = {arm.name for side in results.sides.both for arm in side}
    scores = [
        score
        for task in map(results.task, contrast.tasks)
        for arm in arms
        for score in task.scores.get(arm, ())
    ]
    noisy = sum(score.noisy for score in scores)
    if not noisy:
        return ""
    return (
        f"But the evaluations of {noisy} of {len(scores)} runs do not tell how noisy they are "
        "(`return_split`), and where returns vary more, the best so far is higher by luck."
    )


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
