"""How the study was conducted: what became of its runs, where they came from, how alike they were."""

from collections.abc import Sequence

from vfcompare.report.analysis import Results
from vfcompare.report.analysis.matching import Matching
from vfcompare.report.reading.cells import STATUSES
from vfcompare.report.reading.files import clean
from vfcompare.report.reading.labels import searches, short_names, short_values, tuned_settings
from vfcompare.report.table import NONE, PRINTED, Table, Value, join
from vfcompare.schema.tree import finite

MOST_LETTERS = 4000
"""Of a command or a value in the files."""


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
        commit = _first(10, (git or {}).get("commit"))
        dirty = " + changes" if (git or {}).get("dirty") else ""
        rows.append(
            (
                cell.id,
                _first(12, info.get("config_hash")),
                commit + dirty,
                _device(info.get("device")),
                _versions(info.get("versions")),
                finite((seconds or {}).get("train")),
                _short(info.get("command"), MOST_LETTERS),
            )
        )
    heads = ("cell", "config", "commit", "device", "versions", "train, s", "command")
    letters = {"cell": 60, "command": 160}
    return Table("provenance", "Provenance", heads, tuple(rows), letters=letters)


def _first(letters: int, value: object) -> str:
    """As many letters of a hash."""
    return clean(str(value or NONE)[:letters])


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
    found = [
        (item, verdict, values)
        for whole, verdict, text in sorted(match.rows, key=lambda row: order.get(row[1], 5))
        for item, values in match.fields.get(whole, ((whole, text),))
    ]
    rows = tuple(
        (_short(i, MOST_LETTERS), _short(v, 20), _value_list(match.arms, x)) for i, v, x in found
    )
    classes = {"different": "bad", "not compared": "bad"}
    classes |= dict.fromkeys(("by design", "swept", "tuned"), "design")
    marks = {i: classes.get(row[1], "") for i, row in enumerate(found)}
    title, heads = f"Matching on {match.task}", ("item", "verdict", "values")
    note = ""
    if match.fields:
        parts = join(match.fields, 10)
        note = f"Of {parts} each setting that differs has a row; {NONE} where an agent has none."
    return Table(f"matching-{index + 1}", title, heads, rows, note, marks, head=len(rows))


def _value_list(arms: Sequence[str], values: Sequence[str]) -> str:
    shown = [_short(value, MOST_LETTERS) for value in values]
    if len(set(shown)) == 1:
        return shown[0]
    groups: dict[str, dict[str, None]] = {}
    for arm, value in zip(arms, shown, strict=True):
        groups.setdefault(value, {})[arm] = None
    texts = (f"{join(names, len(names))}: {value or 'none'}" for value, names in groups.items())
    return " · ".join(texts)


def tuned(results: Results) -> Table:
    """What a search chose for each agent on each environment."""
    cells = results.study.cells
    values = short_values(cells)
    found = [
        (cell, search, {k: values.get((k, v), v) for k, v in tuned_settings(cell).items()})
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
