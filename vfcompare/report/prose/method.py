"""The method appendix: every definition and every constant, from the code that used them."""

import itertools
from collections.abc import Iterable
from typing import NamedTuple

from vfcompare import statistics
from vfcompare.report import fates, ranges
from vfcompare.report.analysis import Results, contrasts, resampling
from vfcompare.report.analysis.arms import LEADERS, LINES, ROWS
from vfcompare.report.prose.sentences import whose_margin
from vfcompare.report.reading.labels import searches, tuned_settings
from vfcompare.report.table import join


class Clause(NamedTuple):
    """A part of a definition.

    Attributes:
      term: what is defined.
      text: sentences.
      applies: whether what it is about occurred in the study.
    """

    term: str
    text: str
    applies: bool = True


def method(results: Results) -> list[tuple[str, str]]:
    """(term, definition) pairs of what occurred in the study, in reading order."""
    return _joined(clause for clause in _clauses(results) if clause.applies)


def unmet(results: Results) -> list[tuple[str, str]]:
    """The same of what did not occur in it."""
    return _joined(clause for clause in _clauses(results) if not clause.applies)


def _joined(clauses: Iterable[Clause]) -> list[tuple[str, str]]:
    found: dict[str, list[str]] = {}
    for clause in clauses:
        found.setdefault(clause.term, []).append(clause.text)
    return [(term, " ".join(texts)) for term, texts in found.items()]


def _clauses(results: Results) -> list[Clause]:
    compared = [*results.family.values(), *(c for each in results.pairs.values() for c in each)]
    lost = any(fate.counts["completed"] < fate.planned for fate in results.attrition)
    sizes = [len(found) for task in results.tasks for found in task.scores.values() if found]
    few = min(sizes, default=0) < statistics.FEW_RUNS
    planned = [cell for cell in results.study.cells if cell.planned]
    uneven = len({frozenset(run.seed for run in cell.runs) for cell in planned}) > 1
    settings = any(contrast.units != contrast.pairs for contrast in compared)
    every = [score for task in results.tasks for found in task.scores.values() for score in found]
    return [
        Clause("Run", _RUN),
        *itertools.starmap(Clause, _names(results)),
        *itertools.starmap(Clause, _settings(results)),
        *_drawn(len(results.arms)),
        Clause("Compared range", _range(results)),
        Clause("Compared range", _SHORT, any(fate.counts["short"] for fate in results.attrition)),
        Clause("Area under the curve", _AUC),
        Clause("Final score", _final()),
        Clause("Normalisation", _NORMALISATION),
        Clause("Normalisation", _RAW, not all(task.normalised for task in results.tasks)),
        *([] if lost else [Clause("Failed runs", "All planned runs completed.")]),
        Clause("Failed runs", _failed(results), lost),
        Clause("IQM", _IQM),
        Clause("IQM", _UNEVEN, len(set(sizes)) > 1),
        Clause("Other aggregates", _AGGREGATES),
        Clause("Intervals", _intervals()),
        Clause("Intervals", _few(), few),
        Clause("Intervals", _SETTINGS, settings),
        Clause("Paired differences", _paired()),
        Clause("Paired differences", _STRANGERS, any(contrast.strangers for contrast in compared)),
        Clause("Paired differences", _SEEDS, uneven or lost),
        Clause("Paired differences", _FIVE, few),
        Clause("Multiplicity", _holm()),
        Clause("Multiplicity", _ALONE, len(results.tasks) == 1),
        Clause("Multiplicity", _against(), results.baseline is not None),
        Clause("Equal in practice", _equal(results)),
        Clause("Probability of improvement", _IMPROVEMENT),
        Clause("Performance profile", _PROFILE),
        Clause("Steps to the threshold", _THRESHOLD),
        Clause("Spread over seeds", _SPREAD),
        Clause("Within-run variation", _VARIATION),
        Clause("Drawdown", _DRAWDOWN),
        Clause("Drawdown", _UNSPLIT, any(score.noisy for score in every)),
        Clause("Collapse", _COLLAPSE),
        Clause("Sources", _SOURCES),
    ]


_RUN = (
    "One training seed of one agent on one environment with one setting: the unit of replication. "
    "Episodes and evaluations are averaged inside a run first. Evaluations use sampled actions "
    "unless greedy is said; returns are undiscounted."
)
_AUC = (
    "Trapezoid area under the return of sampled actions against environment steps over the "
    "compared range, divided by the length of the range: the mean height of the curve. It is "
    "computed from the run's own evaluations."
)
_NORMALISATION = (
    "(x - random) / (optimal - random), with the known returns of the random and of the optimal "
    "policy, never with extremes of the compared runs."
)
_RAW = (
    "Of an environment that does not know both returns the study may say them. Environments where either is "
    "unknown are shown in raw returns and are not aggregated with others."
)
_IQM = (
    "Interquartile mean: of the n pooled scores, int(n/4) are cut from each end and the rest are "
    "averaged; no fractional weights. The share kept depends on n: 3 keeps 100%, 5 keeps 60%, 8 "
    "keeps 50%, 10 keeps 60%, 20 keeps 50%. IQM is blind to a quarter of collapsed runs, so failures and "
    "collapses are counted beside it and contrasts use the mean."
)
_UNEVEN = (
    "Where environments have unequally many runs, each run weighs 1 / (runs of its environment), and the "
    "same share of the weight is cut."
)
_AGGREGATES = (
    "Mean: over environments of the mean over seeds. Median: over environments of the mean over "
    "seeds. Optimality gap: 1 - mean(min(x, 1)) over pooled runs, weighted as for the IQM; lower is better."
)
_IMPROVEMENT = (
    "P(X > Y) + P(X = Y)/2 over all pairs of runs of an environment (Mann-Whitney U / nm), "
    "averaged over environments. The interval is Newcombe's score interval (2006, method 5), by the "
    "variance of the placements of the runs; the test exchanges the ranks of the two agents within seeds. "
    "The share of pairs above, in the tables, compares equal seeds only."
)
_PROFILE = (
    "Share of runs with a final score strictly above each level, averaged over environments, with "
    "Wilson's band, pointwise."
)
_THRESHOLD = (
    "First evaluation at or above the threshold, the value at the end of the range among them; one "
    "suffices, and the true step lies before it by at most one interval between evaluations. "
    "Completed runs that never get there are censored at the end, failed runs also, unfinished ones "
    "where they stopped. S(t) is the "
    "product over arrivals of 1 - d/n (Kaplan-Meier); the median is the first t with S(t) at most "
    "1/2; the restricted mean is the area under S up to the end of the range, and there is none where "
    "even the run watched longest was left below the threshold before that. Intervals resample runs."
)
_SPREAD = (
    "Interquartile range over seeds of the scores at an evaluation point, averaged over points and "
    "then over environments (Chan et al. 2020, without their low-pass filter)."
)
_VARIATION = (
    "Interquartile range of the changes between evaluations per 1% of the range, of one run: "
    "differences remove a trend that is even (Chan et al. 2020); of one that is not, who learns more "
    "varies more. A failed run has none: until then it learned, and what follows does not change. "
    "Evaluation noise is taken out, as the root of the difference of two squares: of this range, and of that "
    "of half the differences between what two halves of the episodes of each evaluation returned, which "
    "noise alone makes as wide; minus the root where that is the wider. It compares only agents evaluated "
    "equally often. Where evaluations do not tell their halves noise counts as variation."
)
_DRAWDOWN = (
    "At each evaluation, the best so far minus the present score; of each run, the mean of the "
    "1 + int(0.05 (n - 1)) largest of n (upper-tail CVaR): the largest alone at up to 20 evaluations, "
    "so it compares only agents evaluated equally often. The best so far of noisy evaluations rises by "
    "luck alone: which falls are the deepest is therefore chosen by half of the episodes of each evaluation, "
    "if they exceed 2.5 standard deviations of noise, and the other half measures them; both ways round, and "
    "the mean of both. The example configuration of "
    "rl-reliability-metrics takes the lower tail, which is 0 for a run that sets records at 5% of "
    "its evaluations, whatever it loses in between; it is not used."
)
_UNSPLIT = (
    "Where evaluations do not tell their halves noise counts as drawdown, and nothing is claimed."
)
_COLLAPSE = (
    "A run collapsed if the highest mean of successive evaluations, as many as the final score has and at "
    f"least {statistics.COLLAPSE_WINDOW}, was at least {statistics.COLLAPSE_GAIN:g} span above the floor, "
    "and the mean of as many last ones is lower by more than half of that gain and by more than "
    f"{statistics.COLLAPSE_NOISE:g} times the mean change from one evaluation to the next: it had learned "
    "something, and lost more than noise can take. Span is optimal "
    "minus random (else the range of all returns seen on the environment), and floor is what a failed run "
    "gets. Of simulated policies that never change, at most 2% collapse at 32 episodes an evaluation; of "
    "fewer than eight evaluations hardly any run does. Rates are pooled over environments with Wilson's "
    "95% interval."
)
_SOURCES = (
    "Agarwal et al. 2021 (IQM, profiles, stratified bootstrap, probability of improvement); Chan "
    "et al. 2020 (reliability); Patterson et al. 2024 (paired seeds, multiplicity); Holm 1979; "
    "Fisher 1935; Kaplan and Meier 1958; Royston and Parmar 2013; Wilson 1927."
)


def _settings(results: Results) -> list[tuple[str, str]]:
    """Where the settings come from, if a search chose them."""
    cells = results.study.cells
    found = [(cell, name) for cell, name in zip(cells, searches(cells), strict=True) if name]
    tuned: dict[str, dict[str, list[dict[str, str]]]] = {}
    for cell, name in found:
        tuned.setdefault(name, {}).setdefault(cell.agent, []).append(tuned_settings(cell))
    texts = []
    for name, agents in tuned.items():
        several = any(len(mine) > 1 for mine in agents.values())
        same = all(one == mine[0] for mine in agents.values() for one in mine)
        how = "once for all environments" if several and same else "per environment"
        texts.append(
            f"Each agent ({join(agents)}) was tuned {how} by {name}, on seeds that are not reported."
        )
    note = "What was chosen is in the table of tuned settings and not in the names of the agents."
    return [("Settings", " ".join([*texts, note]))] if texts else []


def _names(results: Results) -> list[tuple[str, str]]:
    """What the files of the study call what readers are shown under other names."""
    pairs = [(arm.name, arm.key) for arm in results.arms]
    pairs += [(task.name, task.key) for task in results.tasks]
    other = [f"{shown} is {key}" for shown, key in pairs if shown != key]
    return [("Names", f"In the files of the study {join(other, len(other))}.")] if other else []


def _drawn(arms: int) -> list[Clause]:
    leaders = (
        f"Of more than {LINES} agents and settings, the leading {LEADERS} agents of each family have a "
        "colour, by the IQM of the area under the curve over all environments on a common scale (else by "
        "mean rank)."
    )
    rows = (
        f"Of more than {ROWS}, each agent is drawn and compared at its best setting, and drawn at its median "
        "one; families are means over all settings. Files have all."
    )
    return [
        Clause("What is drawn", f"All agents and settings where there are at most {LINES}."),
        Clause("What is drawn", leaders, arms > LINES),
        Clause("What is drawn", rows, arms > ROWS),
    ]


_SHORT = (
    "A run that says completed but did not reach its budget counts as short and is left out; where no budget "
    "is recorded, one that ends earlier than the other seeds of its agent by more than "
    f"{fates.SAME_END:.0%} and by more than one interval between its evaluations."
)


def _range(results: Results) -> str:
    interpolated = [task.name for task in results.tasks if not task.exact_grid]
    text = (
        "Per environment, the environment steps that every agent's completed runs cover, or were to cover "
        "where all its runs failed; nothing is extrapolated, and nothing is smoothed."
    )
    if interpolated:
        text += (
            f" Runs were evaluated at different steps on {', '.join(interpolated)}: there, curves "
            f"are aggregated at {ranges.GRID_POINTS} evenly spaced steps, linearly between a "
            "run's own evaluations."
        )
    return text


def _final() -> str:
    return (
        f"Mean of a run's evaluations in the last {statistics.FINAL_SHARE:.0%} of the compared range "
        "and of its value at the end, linear between evaluations, as budgets are overshot by what the "
        "last update collects. It is not the best of training."
    )


def _failed(results: Results) -> str:
    floors = "; ".join(
        f"{task.name}: {task.floor:.6g}, {task.floor_rule}" for task in results.tasks
    )
    changes = (
        "None of these differs between the rules."
        if not results.rule_changes
        else "Some of these differ between the rules; they are named at the top."
    )
    return (
        "A run that diverged (also: any evaluation that is not finite), or crashed after its first "
        "evaluation, keeps its curve up to the failure and scores the floor from there to the end "
        f"of the range ({floors}; its own last return where that is lower); where no update of the failure "
        "is recorded, that is where its next evaluation was due. One that failed after the range counts as "
        "completed. A crash before the first evaluation, or with a message of the machine (a full disk, no "
        "memory, a lost or preempted node, a timeout), and runs that are running, lost, interrupted, "
        "missing, damaged, short or late, have no known outcome: they are left out of scores and counted, "
        "and censored where they stopped in steps to the threshold. All verdicts (on the question, over all "
        "environments and on each; on pairs of agents; on probabilities of improvement) are also computed "
        "with two other rules: the "
        f"last finite evaluation is kept to the end, and failed runs are dropped. {changes}"
    )


def _intervals() -> str:
    return (
        f"95% bootstrap, {resampling.REPS:,} resamples, seeds drawn with replacement within each environment "
        "(stratified), with percentiles expanded for few seeds (Hesterberg 2015); bands around curves are "
        "pointwise. Every number has its own "
        f"generator, seeded with {resampling.SEED} and the CRC-32 of the number's name. Measured coverage on "
        f"one environment: {_covered()} "
        "(python -m benchmarks.coverage; docs/statistics.md has every interval). "
        "Intervals of means, and so of differences, are too narrow where runs collapse: this is why "
        "a difference also needs the sign-flip test."
    )


def _few() -> str:
    return (
        f"Fewer than {statistics.MIN_RUNS} runs give no interval (insufficient); below "
        f"{statistics.FEW_RUNS} a warning is shown."
    )


_SETTINGS = (
    "Where environments are settings of one, whose runs of a seed are alike, a seed is drawn with all its "
    "runs, and its agents are exchanged by the test on all of them at once; intervals of probabilities of "
    "improvement, rates and profiles are wide enough for that."
)


def _covered() -> str:
    """What intervals of means and IQMs really cover, in words."""
    rows = []
    for runs in statistics.COVERAGE_RUNS:
        kinds = [statistics.known_coverage(kind, runs).shares for kind in ("mean", "IQM")]
        normal, bimodal = (
            " and ".join(f"{shares[law]:.0%}" for shares in kinds) for law in ("normal", "bimodal")
        )
        rows.append(
            f"{normal} of normal scores, {bimodal} where a fifth of the runs collapse, at {runs}"
        )
    return f"of the mean and the IQM {'; '.join(rows)} runs."


def _paired() -> str:
    return (
        "Mean over environments of the mean over seeds of the difference between two agents on the "
        f"same seed; {resampling.PAIR_REPS:,} resamples of seeds, pairs kept, up to {resampling.MOST} times "
        "as many where an interval's level is high or seeds are few. The mean is used so "
        "that rare collapses count. For the families, agents are averaged within a seed first. A "
        "difference is decided only if both the sign-flip test (exact up to 13 pairs, else "
        f"{resampling.PAIR_REPS:,} random flips, and {resampling.CLOSER * resampling.PAIR_REPS:,} where p is "
        f"within {resampling.DOUBTFUL:g} standard errors of its level) and the interval say so. "
        "The test asks whether two agents are interchangeable: where their means are equal but one is "
        "steady and the other skewed or prone to collapse, it says different in up to 17% of simulated "
        "studies (python -m benchmarks.verdicts)."
    )


_STRANGERS = (
    "Agents that were planned with no seed in common are paired in the order of their seeds."
)
_SEEDS = (
    "Families are compared at the seeds that all agents and settings of the side were planned with (if there "
    "are none, those that some were; then nothing is claimed); seeds that one of these lost are left out and "
    "counted."
)
_FIVE = "With five pairs the test cannot fall below p = 0.0625, so few seeds decide nothing."


def _holm() -> str:
    return (
        f"Holm's step-down correction at {resampling.ALPHA:.0%} within each family of tests: the "
        "four family contrasts; for area under the curve and for final score, the family contrasts by "
        "environment, and all pairs of agents on all environments one by one; for each metric, all pairs "
        "of agents over all environments (one that the question is about has its verdict there, among "
        "the four); all probabilities of improvement. An interval is drawn at the level at which Holm "
        "judged its contrast, so it agrees with the verdict; these are not simultaneous 95% intervals. "
        "Over all families together, 7 to 16% of simulated studies of equal agents claim something "
        "somewhere: what was to be found out is best decided beforehand."
    )


_ALONE = "One environment alone is judged by the four family contrasts."


def _against() -> str:
    return (
        f"Of more than {contrasts.ALL_PAIRS} agents, each is held against the one that the question "
        "subtracts, or the first where that is not one agent."
    )


def _equal(results: Results) -> str:
    return (
        "Area under the curve and final score, normalised: the drawn interval of the difference "
        f"lies within {results.study.margin:g} of zero, {whose_margin(results)}, with at least "
        f"{statistics.FEW_RUNS} pairs. This is stricter than two one-sided tests at 5%. An "
        "undecided difference is never called equal. Collapses that were not drawn are not seen: an agent "
        "that loses 0.85 in one run of ten, which is 0.085 of difference, is called equal in 38% of "
        "simulated studies of 10 seeds, in 12% of 20 and 4% of 30, so that every such claim says how many "
        "runs may collapse unseen (of n without one, up to 1 - 0.05^(1/n), at 95%; else Wilson's upper end)."
    )
