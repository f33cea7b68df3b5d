"""What the numbers say, in sentences; nothing is claimed whose interval includes zero."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vfcompare.report.analysis import Arm, Contrast, Results
from vfcompare.report.metrics import METRICS, SCORES
from vfcompare.report.planes import planes
from vfcompare.report.prose.claims import leading, qualified
from vfcompare.report.prose.fairness import tuned, unfair
from vfcompare.report.prose.limits import alarms, caveats, incomplete, tried
from vfcompare.report.prose.sentences import (
    MOST,
    Sentence,
    in_words,
    missing_references,
    opening,
    pairing,
    signed,
    slight,
    too_few,
    unseen,
    whose_margin,
)
from vfcompare.report.ranges import given
from vfcompare.report.reading.cells import held_still
from vfcompare.report.table import join, show_float, show_interval
from vfcompare.statistics import Interval
from vfcompare.statistics.scores import ROUNDING


def verdicts(results: Results) -> list[Sentence]:
    """The answer, first; what limits it, after."""
    sentences = [*unfair(results), *alarms(results), *incomplete(results)]
    sentences += [*_undecidable(results), *tuned(results)]
    if all(task.empty for task in results.tasks):
        nothing = Sentence("No completed runs to compare: insufficient data.", "open")
        return [*sentences, nothing, *caveats(results)]
    if results.pool:
        sentences += [qualified(contrast, results) for contrast in leading(results)]
    else:
        sentences += _apart(results)
    sentences += _unscaled(results)
    sentences += [_decided(results)] if results.family else _one_sided(results)
    sentences += _neither(results)
    sentences += _predicted(results)
    sentences += _where(results)
    best = _best(results)
    if best:
        sentences.append(best)
    return [*sentences, *caveats(results)]


def _undecidable(results: Results) -> Iterable[Sentence]:
    """Which comparisons had no chance, unless policies were held still on purpose."""
    configs = [cell.config for cell in results.study.cells if cell.config]
    if configs and all(map(held_still, configs)):
        return
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
        sentence = qualified(contrast, results)
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
    apart = (
        " There is no common scale: each is judged by itself, and nothing is averaged over them."
    )
    several = apart if len(raw) > 1 else ""
    known: dict[str, set[float | None]] = {}
    for task in raw:
        known.setdefault(task.env, set()).add(task.random)
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


def _one_sided(results: Results) -> Iterable[Sentence]:
    """That what was to be compared is not all there; of one agent alone nobody asked for a second side."""
    sides = zip(in_words(results), results.sides.both, strict=True)
    absent = join(name for name, arms in sides if not arms)
    if results.sides.chosen:
        text = f"{results.sides.title} was decided beforehand, but of {absent} nothing was planned."
        yield Sentence(text, "warning", "Decided beforehand")
    elif len({arm.agent for arm in results.arms}) > 1:
        text = (
            f"Which is better, agents with a critic or without, cannot be said: of {absent} nothing was "
            "planned. A study may name other sides (study.contrast)."
        )
        yield Sentence(text, "open", "One side only")


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
                "the side with the smaller variance of the gradient at the start is ahead there. How far "
                "ahead, theory does not say."
            )
            yield Sentence(text, "plain", "Prediction")


def _where(results: Results) -> Iterable[Sentence]:
    """On which environments each side is ahead, in area under the curve and at the end."""
    for metric, found in results.by_task.items():
        if len(found) < 2 or metric not in SCORES:
            continue
        where = "Where" if metric == "auc" else "Where, at the end"
        text = f"In {METRICS[metric].prose}, {'; '.join(_standing(results, found))}."
        yield Sentence(f"{text}{_unseen(results, found.values())}", "plain", where)


def _standing(results: Results, found: Mapping[str, Contrast]) -> Iterable[str]:
    """Environments by verdict, in words, each with its effect."""
    above, below = "agents with a critic are ahead", "behind"
    if results.sides.chosen:
        above, below = results.sides.better
    verbs = {
        "first": above,
        "second": below,
        "equal": "no practical difference",
        "undecided": "undecided",
        "insufficient": "too few seeds",
    }
    less = f"by less than {whose_margin(results)} of {results.study.margin:g},"
    for verdict, verb in verbs.items():
        names = [name for name, contrast in found.items() if contrast.verdict == verdict]
        small = [name for name in names if slight(results, [found[name]])]
        large = [name for name in names if name not in small]
        where = f" on {join(_by_effect(results, found, large))}" if large else ""
        if small:
            where += f"{' and' * bool(large)}, {less} on {join(_by_effect(results, found, small))}"
        if names:
            yield f"{verb}{where}"


def _unseen(results: Results, contrasts: Iterable[Contrast]) -> str:
    """How many runs may collapse unseen where something is called equal; empty where nothing is."""
    rates = [unseen(results, c)[1] for c in contrasts if c.even]
    if not rates:
        return ""
    return f" Of what is called equal up to {max(rates):.1%} of the runs may collapse, unseen."


def _by_effect(results: Results, found: Mapping[str, Contrast], names: Iterable[str]) -> list[str]:
    """Environments with their effects, the largest first; raw returns, which have no order, come last."""
    effects = {name: found[name].interval.estimate for name in names}
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
        "equal on average only to": [],
        "undecided against": [],
        "too few seeds against": [],
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
    tested = [contrast for contrast in compared if contrast.plain.sufficient]
    if tested:
        text += f" (paired {pairing(tested)}, Holm-corrected over {_family_of(results, tested)})"
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
    return Sentence(f"{text}.{_unseen(results, compared)}", "plain", "Agents")


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
    words = {
        "equal": "equal in practice to",
        "mixed": "equal on average only to",
        "insufficient": "too few seeds against",
    }
    return words.get(contrast.verdict, "undecided against")
