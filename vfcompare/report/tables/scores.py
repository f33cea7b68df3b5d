"""How well each agent did: scores, speed, stability, and metrics of its training."""

import math
from collections import Counter

from vfcompare.report.analysis import Results
from vfcompare.report.metrics import AGGREGATES, METRICS, SCORES, STABILITY
from vfcompare.report.prose.sentences import seeds
from vfcompare.report.table import NONE, PRINTED, Table, Value, join
from vfcompare.statistics import MIN_RUNS

MOST_METRICS = 10
"""Metrics of training that a table has room for."""

CRITICS = ("explained_variance", "critic_loss", "critic_grad_norm", "gate")
"""Metrics that tell how good a critic is; half the agents of a comparison have none of them."""

HEALTH = ("return", "signal_fraction", "entropy", "kl", "policy_grad_norm", "advantage_std")
"""Metrics that tell of any agent whether it learns."""


def scores(results: Results) -> Table:
    """Scores per environment: IQM over seeds."""
    rows: list[tuple[Value, ...]] = []
    metrics = (*SCORES, "greedy")
    drawn = results.shown.rows
    others = [arm for arm in results.arms if arm not in drawn]
    for arms in (drawn, others):
        for task in results.tasks:
            for arm in (each for each in arms if each.name in task.cells):
                items = task.scores.get(arm.name, ())
                bad = sum(item.status != "completed" for item in items)
                found = [results.summary.get((metric, task.name, arm.name)) for metric in metrics]
                rows.append((task.name, arm.name, len(items), bad, *found))
    head = sum(arm.name in task.cells for task in results.tasks for arm in drawn)
    heads = ("environment", "agent", "n", "failed", *(METRICS[name].label for name in metrics))
    note = (
        "IQM over seeds, 95% bootstrap interval; of n scored runs, failed ones got the floor. A greedy score "
        "that is not of all n is left out."
    )
    title = "Scores per environment"
    return Table("scores", title, heads, tuple(rows), note, head=min(head, 3 * PRINTED))


def settings(results: Results) -> Table:
    """Every setting of every agent, best first."""
    found = [arm for arm in results.arms if arm.tuned]
    names = list(dict.fromkeys(key for arm in found for key in arm.settings))
    place = results.standing
    agents = list(dict.fromkeys(arm.agent for arm in found))
    order = sorted(found, key=lambda arm: (agents.index(arm.agent), -place[arm.name]))
    rows: list[tuple[Value, ...]] = []
    ranks: dict[str, int] = {}
    for arm in order:
        ranks[arm.agent] = ranks.get(arm.agent, 0) + 1
        means = [results.summary.get(("auc", task, arm.name)) for task in results.pool]
        over = place[arm.name] if results.pool and place[arm.name] > float("-inf") else None
        values = [None if mean is None else mean.estimate for mean in means]
        row = (arm.agent, ranks[arm.agent], *(arm.settings.get(n) for n in names), over, *values)
        rows.append(row)
    top = [row for row in rows if row[1] == 1]
    rows = [*top, *(row for row in rows if row[1] != 1)]
    heads = ("agent", "rank", *names, "IQM over all", *(f"on {task}" for task in results.pool))
    count = seeds(results, found, results.pool)
    note = (
        f"Area under the curve, IQM over {count} seeds (intervals are in the table of scores), of the best "
        "setting of each agent over all environments together. These seeds chose it, so its score is "
        "optimistic: run it again with fresh seeds."
    )
    return Table("settings", "Settings", heads, tuple(rows), note, head=len(top))


def aggregates(results: Results) -> Table:
    """Scores over all environments of one scale."""
    rows = tuple(
        (
            METRICS[metric].label,
            arm.name,
            results.runs(arm),
            *(results.aggregate.get((name, metric, arm.name)) for name in AGGREGATES),
        )
        for metric in SCORES
        for arm in results.shown.rows
        if results.aggregate
    )
    heads = ("metric", "agent", "n", *(each.label for each in AGGREGATES.values()))
    note = "n are runs on all environments. An agent that has no score on one of these is not aggregated."
    return Table("aggregates", "Scores over environments", heads, rows, note, head=len(rows))


def speed(results: Results) -> Table:
    """Steps to the threshold, with the runs that never got there."""
    rows = tuple(
        (
            item.task,
            item.arm,
            item.n,
            item.reached,
            item.n - item.reached,
            item.median,
            None if math.isnan(item.restricted_mean.estimate) else item.restricted_mean,
        )
        for item in results.speed
    )
    heads = (
        "environment",
        "agent",
        "n",
        "reached",
        "censored",
        "median steps",
        "restricted mean steps",
    )
    note = (
        "Kaplan-Meier median and restricted mean, 95% bootstrap intervals. Censored runs are kept."
    )
    means = [item.restricted_mean for item in results.speed if item.n >= MIN_RUNS]
    if any(mean.low is None and not math.isnan(mean.estimate) for mean in means):
        note += " A restricted mean that is the same in all resamples has no interval."
    if any(row[-1] is None for row in rows):
        note += (
            " There is no restricted mean where even the run watched longest was left below the threshold "
            "before the end of the range; 'never' is there of the time until then."
        )
    return Table("steps-to-threshold", "Steps to the threshold", heads, rows, note)


def stability(results: Results) -> Table:
    """How alike the seeds are, how steady each run is, and what is lost again."""
    rows = tuple(
        (
            arm.name,
            arm.family,
            *(results.stability.get((name, arm.name)) for name in STABILITY),
            *_rate(results, "collapse", arm.name),
            *_rate(results, "failure", arm.name),
        )
        for arm in results.shown.rows
        if ("collapse", arm.name) in results.stability
    )
    heads = (
        "agent",
        "family",
        *(METRICS[name].label for name in STABILITY),
        "collapsed",
        METRICS["collapse"].label,
        "failed",
        METRICS["failure"].label,
    )
    note = (
        "Lower is better throughout; means over environments on the scale of the scores. Within-run "
        "variation is of runs that did not fail."
    )
    return Table("stability", "Stability", heads, rows, note, head=len(rows))


def _rate(results: Results, quantity: str, arm: str) -> tuple[str, Value]:
    count, n = results.counts[quantity, arm]
    return f"{count} of {n}", results.stability.get((quantity, arm))


def diagnostics(results: Results) -> Table:
    """Training metrics at the end of training: of critics, of health, and those that most agents have."""
    cells = [cell for cell in results.study.cells if cell.diagnostics]
    known = Counter(name for cell in cells for name in cell.diagnostics)
    first = [name for name in (*CRITICS, *HEALTH) if name in known]
    ordered = list(dict.fromkeys([*first, *(name for name, _ in known.most_common())]))
    names, left = ordered[:MOST_METRICS], ordered[MOST_METRICS:]
    rows = tuple(
        (cell.task, cell.arm, *(cell.diagnostics.get(name) for name in names)) for cell in cells
    )
    note = (
        "Medians over seeds of the median over the last tenth of a seed's own updates, of whatever was "
        "finite: a health check."
    )
    if set(CRITICS) & set(names):
        note += f" Metrics of critics come first; {NONE} where an agent has none."
    if left:
        note += f" Not shown, and in each cell's metrics.parquet: {join(left, len(left))}."
    heads = ("environment", "agent", *names)
    return Table("diagnostics", "Training metrics at the end", heads, rows, note)
