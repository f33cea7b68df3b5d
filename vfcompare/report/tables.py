"""Tables of the report: one definition, shown as HTML, Markdown, CSV and JSON."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vfcompare.report.analysis import METRICS, Contrast, Results
from vfcompare.report.data import STATUSES, Cell, clean, number
from vfcompare.statistics import Interval

METRIC_NAMES = {
    "auc": "AUC",
    "final": "Final score",
    "greedy": "Final, greedy",
    "drawdown": "Drawdown (upper tail)",
    "variation": "Within-run variation",
}
AGGREGATE_NAMES = {
    "iqm": "IQM",
    "mean": "Mean",
    "median": "Median",
    "optimality_gap": "Optimality gap",
}
STABILITY_NAMES = {
    "spread": "Spread over seeds",
    "variation": "Within-run variation",
    "drawdown": "Drawdown (upper tail)",
    "collapse": "Collapse rate",
    "failure": "Failure rate",
}
MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
VERDICTS = {"undecided": "undecided", "equal": "equal in practice", "insufficient": "insufficient"}

Value = str | int | float | Interval | None


@dataclass(frozen=True)
class Table:
    """A table with typed cells.

    Attributes:
      id: name of its file.
      title: what it shows.
      columns: headings.
      rows: texts, counts, numbers and intervals.
      note: what a reader must know to read it.
      marks: class of a row, by index: `bad` or `good`.
    """

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""
    marks: Mapping[int, str] = field(default_factory=dict)

    def texts(self) -> list[list[str]]:
        """What is printed in each cell."""
        return [[show(value) for value in row] for row in self.rows]

    def numeric(self, index: int) -> bool:
        """Whether a column holds numbers, and is set flush right."""
        return any(not isinstance(row[index], str | None) for row in self.rows)


def show(value: Value) -> str:
    """The one way a number is printed in this report."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if isinstance(value, Interval):
        return show_interval(value)
    if isinstance(value, int):
        return f"{value:,}"
    return show_float(value)


def show_float(value: float) -> str:
    """Three decimals where numbers are about one, four digits otherwise; a true minus sign."""
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "never" if value > 0 else f"{MINUS}\N{INFINITY}"
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= 0.0005 or size == 0:
        text = f"{value:.3f}"
    else:
        text = f"{value:.1e}"
    return text.replace("-", MINUS)


def show_interval(interval: Interval) -> str:
    """`estimate [low, high]`, or `estimate (insufficient)`."""
    if interval.low is None or interval.high is None:
        return f"{show_float(interval.estimate)} (insufficient)"
    ends = f"[{show_float(interval.low)}, {show_float(interval.high)}]"
    return f"{show_float(interval.estimate)} {ends}"


def as_json(value: Any) -> Any:
    """A value for JSON: intervals as objects, what is not finite as a word."""
    if isinstance(value, Interval):
        return {key: as_json(item) for key, item in value._asdict().items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if isinstance(value, Mapping):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return value


def as_csv(table: Table) -> str:
    """Comma-separated values; intervals become three columns, and no text can start a formula."""
    wide = [i for i in range(len(table.columns)) if _holds_interval(table, i)]
    heading: list[str] = []
    for i, name in enumerate(table.columns):
        heading += [name, f"{name} low", f"{name} high"] if i in wide else [name]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([safe_text(name) for name in heading])
    for row in table.rows:
        writer.writerow([part for i, v in enumerate(row) for part in _csv_parts(v, i in wide)])
    return stream.getvalue()


def _holds_interval(table: Table, index: int) -> bool:
    return any(isinstance(row[index], Interval) for row in table.rows)


def _csv_parts(value: Value, wide: bool) -> list[object]:
    if isinstance(value, Interval):
        return [value.estimate, _blank(value.low), _blank(value.high)]
    cell = safe_text(value) if isinstance(value, str) else _blank(value)
    return [cell, "", ""] if wide else [cell]


def _blank(value: float | None) -> object:
    return "" if value is None else value


def safe_text(text: str) -> str:
    """Text that a spreadsheet will not run: a leading = + - @ or control character is quoted."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r", "\n"} else text


def as_markdown(table: Table) -> str:
    """A pipe table."""
    head = [escape_markdown(name) for name in table.columns]
    rule = ["---:" if table.numeric(i) else "---" for i in range(len(head))]
    body = [[escape_markdown(text) for text in row] for row in table.texts()]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *body])


def escape_markdown(text: str) -> str:
    """Text without Markdown or HTML meaning."""
    for mark in "\\`*_[]|#$":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def build(results: Results) -> dict[str, Table]:
    """All tables, by id."""
    tables = [
        attrition(results),
        reasons(results),
        provenance(results),
        tasks(results),
        *matching(results),
        scores(results),
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
    """What became of every planned run."""
    always = {"completed", "diverged", "crashed", "running", "missing"}
    used = [s for s in STATUSES if s in always or any(row[s] for row in results.attrition)]
    rows: list[tuple[Value, ...]] = []
    for row in results.attrition:
        cell: Cell = row["cell"]
        label = cell.arm if cell.planned else f"{cell.arm} (not in the plan)"
        counts = [row[status] for status in used]
        rows.append((cell.task, label, row["planned"], *counts, row["scored"]))
    marks = {
        i: "bad" for i, row in enumerate(results.attrition) if row["completed"] < row["planned"]
    }
    total = [sum(row[key] for row in results.attrition) for key in ("planned", *used, "scored")]
    if rows:
        rows.append(("all", "", *total))
    heads = ("environment", "agent", "planned", *used, "scored")
    note = (
        "Planned is the denominator. Scored: finished, or failed and given the floor; runs whose "
        "outcome is unknown (running, interrupted, missing, damaged, short) are only counted."
    )
    return Table("attrition", "What became of every run", heads, tuple(rows), note, marks)


def reasons(results: Results) -> Table:
    """Why runs were lost, where something is known."""
    rows = tuple(
        (row["cell"].task, row["cell"].arm, row["reason"])
        for row in results.attrition
        if row["reason"]
    )
    return Table("reasons", "What went wrong", ("environment", "agent", "reason"), rows)


def provenance(results: Results) -> Table:
    """Where the runs came from."""
    rows = []
    for cell in results.study.cells:
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
            task.start if task.end else None,
            task.end or None,
            "normalised" if task.normalised else "raw return",
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
    tables: list[Table] = []
    for index, match in enumerate(results.matching):
        rows: list[tuple[Value, ...]] = []
        marks: dict[int, str] = {}
        order = {"different": 0, "by design": 1}
        for item, verdict, values in sorted(match.rows, key=lambda row: order.get(row[1], 2)):
            marks[len(rows)] = {"different": "bad", "by design": "design"}.get(verdict, "")
            rows.append((_short(item, 60), _short(verdict, 20), _value_list(match.arms, values)))
        title = f"Matching on {match.task}"
        heads = ("item", "verdict", "values")
        tables.append(Table(f"matching-{index + 1}", title, heads, tuple(rows), "", marks))
    return tables


def _value_list(arms: Sequence[str], values: Sequence[str]) -> str:
    shown = [_short(value, 72) for value in values]
    if len(set(shown)) == 1:
        return shown[0]
    groups: dict[str, list[str]] = {}
    for arm, value in zip(arms, shown, strict=True):
        groups.setdefault(value, []).append(arm)
    return " · ".join(f"{', '.join(names)}: {value or 'none'}" for value, names in groups.items())


def scores(results: Results) -> Table:
    """Scores per environment: IQM over seeds."""
    rows = []
    for task in results.tasks:
        for arm in results.arms:
            cells = [
                results.summary.get((metric, task.name, arm.name))
                for metric in ("auc", "final", "greedy")
            ]
            items = task.scores.get(arm.name, ())
            bad = sum(item.status != "completed" for item in items)
            if arm.name in task.cells:
                rows.append((task.name, arm.name, len(items), bad, *cells))
    heads = (
        "environment",
        "agent",
        "n",
        "failed",
        *(METRIC_NAMES[m] for m in ("auc", "final", "greedy")),
    )
    note = "IQM over seeds, 95% bootstrap interval; of n scored runs, failed ones got the floor."
    return Table("scores", "Scores per environment", heads, tuple(rows), note)


def aggregates(results: Results) -> Table:
    """Scores over all environments of one scale."""
    rows = tuple(
        (
            METRIC_NAMES[metric],
            arm.name,
            *(results.aggregate.get((name, metric, arm.name)) for name in AGGREGATE_NAMES),
        )
        for metric in ("auc", "final")
        for arm in results.arms
        if results.aggregate
    )
    heads = ("metric", "agent", *AGGREGATE_NAMES.values())
    note = "An agent that has no score on one of the environments is not aggregated."
    return Table("aggregates", "Scores over environments", heads, rows, note)


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
            item.restricted_mean,
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
    return Table("steps-to-threshold", "Steps to the threshold", heads, rows, note)


def verdict_text(contrast: Contrast) -> str:
    """Who is better, or why nobody is."""
    if contrast.better:
        return f"{contrast.better} better"
    return VERDICTS[contrast.verdict]


def _contrast_row(contrast: Contrast, scope: str) -> tuple[Value, ...]:
    tested = contrast.plain.sufficient
    return (
        METRIC_NAMES[contrast.metric],
        scope,
        contrast.interval if contrast.pairs else None,
        contrast.plain if contrast.pairs else None,
        round(contrast.interval.confidence, 4) if tested else None,
        contrast.p_adjusted if tested else None,
        contrast.paired_wins if contrast.pairs else None,
        contrast.pairs,
        contrast.unpaired,
        verdict_text(contrast),
    )


CONTRAST_HEADS = (
    "difference",
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
    """Critic agents against outcome-only agents."""
    rows = [_contrast_row(c, f"critic {MINUS} outcome-only, all") for c in results.family.values()]
    rows += [
        _contrast_row(c, f"critic {MINUS} outcome-only, {name}")
        for name, c in results.family_by_task.items()
    ]
    note = (
        "Mean of the critic agents minus mean of the outcome-only ones, seed by seed. The metrics "
        "are corrected together, and so are the environments."
    )
    return Table(
        "families", "With and without a critic", ("metric", *CONTRAST_HEADS), tuple(rows), note
    )


def pairs(results: Results) -> Table:
    """Every pair of agents, by seed."""
    rows = tuple(
        _contrast_row(contrast, f"{contrast.first} {MINUS} {contrast.second}")
        for metric in METRICS
        for contrast in results.pairs[metric]
    )
    note = "Each metric is one family of tests for Holm's correction."
    return Table(
        "pairs", "Paired differences between agents", ("metric", *CONTRAST_HEADS), rows, note
    )


def improvement(results: Results) -> Table:
    """Probability of improvement on the area under the curve."""
    rows = tuple(
        (
            item.first,
            item.second,
            item.interval,
            round(item.interval.confidence, 4),
            item.p_adjusted,
            "decided" if item.decided else "undecided",
        )
        for item in results.improvement
    )
    heads = ("first", "second", "P(first > second)", "level", "adjusted p", "verdict")
    return Table("improvement", "Probability of improvement", heads, rows)


def stability(results: Results) -> Table:
    """How alike the seeds are, how steady each run is, and what is lost again."""
    rows = tuple(
        (
            arm.name,
            arm.family,
            *(
                results.stability.get((key, arm.name))
                for key in ("spread", "variation", "drawdown")
            ),
            *_rate(results, "collapse", arm.name),
            *_rate(results, "failure", arm.name),
        )
        for arm in results.arms
        if ("collapse", arm.name) in results.stability
    )
    heads = (
        "agent",
        "family",
        STABILITY_NAMES["spread"],
        STABILITY_NAMES["variation"],
        STABILITY_NAMES["drawdown"],
        "collapsed",
        STABILITY_NAMES["collapse"],
        "failed",
        STABILITY_NAMES["failure"],
    )
    note = "Lower is better throughout; means over environments on the scale of the scores."
    return Table("stability", "Stability", heads, rows, note)


def _rate(results: Results, quantity: str, arm: str) -> tuple[str, Value]:
    count, n = results.counts[quantity, arm]
    return f"{count} of {n}", results.stability.get((quantity, arm))


def diagnostics(results: Results) -> Table:
    """Training metrics at the end of training."""
    cells = [cell for cell in results.study.cells if cell.diagnostics]
    names = sorted({name for cell in cells for name in cell.diagnostics})[:10]
    rows = tuple(
        (cell.task, cell.arm, *(cell.diagnostics.get(name) for name in names)) for cell in cells
    )
    note = "Means over seeds and the last tenth of updates, of whatever was finite: a health check."
    heads = ("environment", "agent", *names)
    return Table("diagnostics", "Training metrics at the end", heads, rows, note)
