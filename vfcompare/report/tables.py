"""The tables of the report. Rows of arms that are drawn come first; the files have all."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from vfcompare.report.analysis import Arm, Contrast, Improvement, Results
from vfcompare.report.analysis.matching import Matching
from vfcompare.report.cells import STATUSES
from vfcompare.report.files import clean, number
from vfcompare.report.labels import searches, short_names, tuned_settings
from vfcompare.report.metrics import AGGREGATES, COMPARED, METRICS, SCORES, STABILITY
from vfcompare.report.sentences import pairing, seeds, verdict_word
from vfcompare.report.table import MINUS, NONE, PRINTED, Table, Value, join

MOST_VALUES = 8
MOST_METRICS = 10
"""Metrics of training that a table has room for."""


def build(results: Results) -> dict[str, Table]:
    """All tables, by id."""
    tables = [
        attrition(results),
        reasons(results),
        provenance(results),
        tasks(results),
        *matching(results),
        scores(results),
        settings(results),
        tuned(results),
        aggregates(results),
        speed(results),
        family(results),
        pairs(results),
        improvement(results),
        stability(results),
        diagnostics(results),
    ]
    return {table.id: table for table in tables if table.rows}


def attrition(results: Results) -> Table:
    """What became of every planned run; of many cells, the page prints totals and those that lost runs."""
    always = {"completed", "diverged"}
    used = [s for s in STATUSES if s in always or any(fate.counts[s] for fate in results.attrition)]
    keys = ("planned", *used, "scored")
    cells: list[tuple[Value, ...]] = []
    totals: dict[str, list[int]] = {}
    for fate in results.attrition:
        cell = fate.cell
        label = cell.arm if cell.planned else f"{cell.arm} (not in the plan)"
        counts = [fate.planned, *(fate.counts[status] for status in used), fate.scored]
        cells.append((cell.task, label, *counts))
        if cell.planned:
            before = totals.get(cell.task, [0] * len(keys))
            totals[cell.task] = [a + b for a, b in zip(before, counts, strict=True)]
    every = [sum(column) for column in zip(*totals.values(), strict=True)] or [0] * len(keys)
    whole = ("all planned", "", *every)
    if len(cells) > PRINTED:
        by_task = [(task, "all planned", *counts) for task, counts in totals.items()]
        cells.sort(key=lambda row: not _lost(row))
        head = 1 + len(by_task) + min(PRINTED, sum(map(_lost, cells)))
        rows = [whole, *by_task, *cells]
    else:
        rows = [*cells, whole] if cells else []
        head = len(rows)
    note = (
        "Planned is the denominator. Scored: finished, or failed and given the floor; runs whose "
        "outcome is unknown (running, lost, interrupted, missing, damaged, short, late) are only counted."
    )
    marks = {i: "bad" for i, row in enumerate(rows) if row is not whole and _lost(row)}
    heads = ("environment", "agent", *keys)
    return Table("attrition", "What became of every run", heads, tuple(rows), note, marks, head)


def _lost(row: Sequence[Value]) -> bool:
    """Whether fewer runs are complete than were planned."""
    planned, completed = row[2], row[3]
    return isinstance(planned, int) and isinstance(completed, int) and completed < planned


def reasons(results: Results) -> Table:
    """Why runs were lost, where something is known."""
    rows = tuple(
        (fate.cell.task, fate.cell.arm, fate.reason) for fate in results.attrition if fate.reason
    )
    return Table("reasons", "What went wrong", ("environment", "agent", "reason"), rows)


def provenance(results: Results) -> Table:
    """Where the runs came from."""
    rows = []
    for cell in (folder for every in results.study.cells for folder in every.folders):
        info = cell.info
        git = info.get("git") if isinstance(info.get("git"), dict) else {}
        seconds = info.get("seconds") if isinstance(info.get("seconds"), dict) else {}
        commit = str((git or {}).get("commit") or NONE)[:10]
        dirty = " + changes" if (git or {}).get("dirty") else ""
        rows.append(
            (
                cell.id,
                _short(info.get("config_hash"), 12),
                commit + dirty,
                _device(info.get("device")),
                _versions(info.get("versions")),
                number((seconds or {}).get("train")),
                _short(info.get("command"), 160),
            )
        )
    heads = ("cell", "config", "commit", "device", "versions", "train, s", "command")
    return Table("provenance", "Provenance", heads, tuple(rows))


def _short(value: object, limit: int) -> str:
    return NONE if value is None else clean(value, limit=limit)


def _device(value: object) -> str:
    if isinstance(value, dict):
        return _short(" ".join(str(item) for item in value.values()), 60)
    return _short(value, 60)


def _versions(value: object) -> str:
    if not isinstance(value, dict):
        return NONE
    wanted = [k for k in ("vfcompare", "python", "jax", "jaxlib", "flax", "optax") if k in value]
    return _short(", ".join(f"{key} {value[key]}" for key in wanted), 120) or NONE


def tasks(results: Results) -> Table:
    """The environments, and the scales scores are put on."""
    rows = tuple(
        (
            task.name,
            task.random,
            task.optimal,
            task.threshold,
            task.threshold_rule,
            round(task.start) if task.end else None,
            round(task.end) or None,
            task.scale,
            "shared by all runs" if task.exact_grid else "linear between a run's own evaluations",
        )
        for task in results.tasks
    )
    heads = (
        "environment",
        "random",
        "optimal",
        "threshold",
        "threshold is",
        "first step",
        "last step",
        "scale",
        "evaluation steps",
    )
    return Table("environments", "Environments and scales", heads, rows)


def matching(results: Results) -> list[Table]:
    """How the runs of each environment compare, item by item."""
    return [_matching(index, match) for index, match in enumerate(results.matching)]


def _matching(index: int, match: Matching) -> Table:
    order = {"different": 0, "not compared": 1, "tuned": 2, "swept": 3, "by design": 4}
    found = sorted(match.rows, key=lambda row: order.get(row[1], 5))
    rows = tuple((_short(i, 60), _short(v, 20), _value_list(match.arms, x)) for i, v, x in found)
    classes = {"different": "bad", "not compared": "bad"}
    classes |= dict.fromkeys(("by design", "swept", "tuned"), "design")
    marks = {i: classes.get(row[1], "") for i, row in enumerate(found)}
    title, heads = f"Matching on {match.task}", ("item", "verdict", "values")
    return Table(f"matching-{index + 1}", title, heads, rows, "", marks)


def _value_list(arms: Sequence[str], values: Sequence[str]) -> str:
    shown = [_short(value, 72) for value in values]
    if len(set(shown)) == 1:
        return shown[0]
    groups: dict[str, dict[str, None]] = {}
    for arm, value in zip(arms, shown, strict=True):
        groups.setdefault(value, {})[arm] = None
    texts = [f"{join(names, 4)}: {value or 'none'}" for value, names in groups.items()]
    more = len(texts) - MOST_VALUES
    return " · ".join(texts[:MOST_VALUES]) + (f" · {more} more values" if more > 0 else "")


def drawn_first(results: Results, arms: Iterable[Arm] | None = None) -> list[Arm]:
    """Arms in the order of their figures, then those that are not drawn."""
    every = list(results.arms if arms is None else arms)
    drawn = [arm for arm in results.shown.rows if arm in every]
    kept = {arm.name for arm in drawn}
    return [*drawn, *(arm for arm in every if arm.name not in kept)]


def scores(results: Results) -> Table:
    """Scores per environment: IQM over seeds."""
    rows: list[tuple[Value, ...]] = []
    metrics = (*SCORES, "greedy")
    drawn = {arm.name for arm in results.shown.rows}
    head = sum(arm in task.cells for task in results.tasks for arm in drawn)
    for part in (True, False):
        for task in results.tasks:
            for arm in drawn_first(results):
                if (arm.name in drawn) == part and arm.name in task.cells:
                    items = task.scores.get(arm.name, ())
                    bad = sum(item.status != "completed" for item in items)
                    found = [
                        results.summary.get((metric, task.name, arm.name)) for metric in metrics
                    ]
                    rows.append((task.name, arm.name, len(items), bad, *found))
    heads = ("environment", "agent", "n", "failed", *(METRICS[name].label for name in metrics))
    note = "IQM over seeds, 95% bootstrap interval; of n scored runs, failed ones got the floor."
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


def tuned(results: Results) -> Table:
    """What a search chose for each agent on each environment."""
    cells = results.study.cells
    found = [
        (cell, search, tuned_settings(cell))
        for cell, search in zip(cells, searches(cells), strict=True)
        if search
    ]
    brief = short_names(list(dict.fromkeys(key for _, _, chosen in found for key in chosen)))
    rows = tuple(
        (cell.arm, cell.task, search, *(chosen.get(key) for key in brief))
        for cell, search, chosen in found
    )
    note = (
        "Settings with which a search had the best score, on seeds that are not reported; what has no value "
        "is the preset's."
    )
    heads = ("agent", "environment", "tuned by", *brief.values())
    return Table("tuned-settings", "Tuned settings", heads, rows, note)


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
    if any(row[-1] is None for row in rows):
        note += (
            " There is no restricted mean where even the run watched longest was left below the threshold "
            "before the end of the range; 'never' is there of the time until then."
        )
    return Table("steps-to-threshold", "Steps to the threshold", heads, rows, note)


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
    where = [*results.family_by_task.items()] if len(results.tasks) > 1 else []
    where = [(n, c) for n, c in results.apart.items() if c.metric != "auc"] + where
    rows += [_contrast_row(c, f"{difference}, {name}") for name, c in where]
    first, second = (
        results.sides.names
        if results.sides.chosen
        else ("the critic agents", "the outcome-only ones")
    )
    compared = [*everywhere, *(contrast for _, contrast in where)]
    strange = any(contrast.strangers for contrast in compared)
    how = f"paired {pairing(compared)}" if strange else "seed by seed"
    corrected = "metrics are corrected together, and so are the environments"
    if not everywhere:
        corrected = "environments are corrected together; differences are in raw returns"
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
    heads = ("metric", "difference", "environments", *CONTRAST_HEADS)
    return Table("pairs", "Paired differences between agents", heads, rows, note)


def _over(results: Results, pair: Contrast | Improvement) -> str:
    """The environments that a pair is averaged over."""
    if pair.tasks == results.pool and len(pair.tasks) > 1:
        return f"all {len(pair.tasks)}"
    return ", ".join(pair.tasks) or "none"


def _against(results: Results) -> str:
    return f"Each agent is held against {results.baseline.name}. " if results.baseline else ""


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
    """Training metrics at the end of training."""
    cells = [cell for cell in results.study.cells if cell.diagnostics]
    known = Counter(name for cell in cells for name in cell.diagnostics)
    # those that most agents have, in the order of the files
    common = {name for name, _ in known.most_common(MOST_METRICS)}
    names = [name for name in known if name in common]
    left = [name for name in known if name not in common]
    rows = tuple(
        (cell.task, cell.arm, *(cell.diagnostics.get(name) for name in names)) for cell in cells
    )
    note = (
        "Means over seeds of the mean over the last tenth of a seed's own updates, of whatever was finite: "
        "a health check."
    )
    if left:
        note += f" Not shown, and in each cell's metrics.parquet: {join(left, len(left))}."
    heads = ("environment", "agent", *names)
    return Table("diagnostics", "Training metrics at the end", heads, rows, note)
