"""The runs of a cell, from its tables: what became of each, its curve, and what training logged."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vfcompare import failure
from vfcompare.columns import CURVE, LAB, LOSSES
from vfcompare.report.reading.cells import STATUSES, Run
from vfcompare.report.reading.files import Array, clean, read_inside, read_table
from vfcompare.schema.tree import finite

STOPPED = ("preempted", "cancelled")
"""How else a run was stopped from outside; it counts as interrupted."""

STEP_COLUMNS = ("seed", "update", "env_steps", "episodes", "gradient_steps")

DIAGNOSTICS = 64
"""The most training metrics that are read from a file."""

ADVANTAGES = ("advantage_mean", "advantage_std")
"""What losses are made of, and so told first where neither stays finite."""


class Told(NamedTuple):
    """What a cell's tables say of its seeds.

    Attributes:
      table: the evaluations, by column.
      reason: why there are none.
      breaks: by seed, what was first not finite in training.
    """

    table: Mapping[str, Array]
    reason: str
    breaks: Mapping[int, str]


def runs_of(
    entry: Mapping[str, Any],
    info: Mapping[str, Any] | None,
    told: Told,
    *,
    present: bool,
) -> tuple[tuple[Run, ...], list[str]]:
    """The runs of a cell, one for each planned seed, and what is wrong with its tables.

    Args:
      entry: the cell, as the plan has it.
      info: `run.json`, None if it could not be read.
      told: what its tables say.
      present: whether it has a run, be it one that cannot be read.
    """
    planned, table = _seeds(entry.get("seeds")), told.table
    if not present:
        return tuple(Run(seed, "missing", "no run.json was found") for seed in planned), []
    if info is None:
        return tuple(Run(seed, "damaged", "run.json could not be read") for seed in planned), []
    listed = info.get("seeds")
    seeds = planned or _seeds(listed) or sorted({int(s) for s in table.get("seed", [])})
    problems = [told.reason] if told.reason else []
    extra = set(table.get("seed", np.zeros(0)).astype(int).tolist()) - set(seeds)
    if extra:
        problems.append(f"{len(extra)} seeds were evaluated that are not planned; they are ignored")
    per_seed = listed if isinstance(listed, dict) else {}
    return tuple(_run(s, info, per_seed.get(str(s)), told) for s in seeds), problems


def _seeds(value: object) -> list[int]:
    if isinstance(value, dict):
        value = [
            int(key) for key in value if str(key).lstrip("-").isdecimal() and len(str(key)) < 12
        ]
    if not isinstance(value, list):
        return []
    return sorted({s for s in value if isinstance(s, int) and not isinstance(s, bool)})


def evaluation(folder: Path | None) -> tuple[dict[str, Array], str]:
    """The evaluations of a cell by column, and why there are none."""
    problems: list[str] = []
    wanted = frozenset({*CURVE, *LAB})

    def read(path: Path) -> dict[str, Array]:
        return read_table(path, lambda names: [name for name in names if name in wanted])

    table = read_inside(folder, "evaluation.parquet", read, problems)
    if table is None:
        return {}, problems[0]
    lacking = [name for name in ("seed", "env_steps", "return_sampled") if name not in table]
    if lacking:
        return {}, f"evaluation.parquet: no column {', '.join(lacking)}"
    good = np.isfinite(table["seed"]) & np.isfinite(table["env_steps"])
    good &= np.abs(table["seed"]) < 2**53
    return {name: column[good] for name, column in table.items()}, ""


def lab(table: Mapping[str, Array], runs: Sequence[Run]) -> dict[int, dict[str, float]]:
    """What was measured against the truth at the last evaluation of each completed seed."""
    if "gradient_variance" not in table:
        return {}
    found = {}
    for run in runs:
        curve = _curve(run.seed, table) if run.status == "completed" else None
        if curve is not None:
            found[run.seed] = {name: float(curve[name][-1]) for name in LAB if name in curve}
    return found


def _run(
    seed: int,
    info: Mapping[str, Any],
    listed: object,
    told: Told,
) -> Run:
    table, reason = told.table, told.reason
    detail = listed if isinstance(listed, dict) else {}
    overall = str(info.get("status"))
    overall = "interrupted" if overall in STOPPED else overall
    status = str(detail.get("status", overall))
    if status not in {"completed", "diverged"}:
        status = overall if overall in STATUSES and overall != "completed" else status
    if status not in STATUSES:
        status, reason = "damaged", reason or f"run.json: unknown status {clean(status)!r}"
    curve = _curve(seed, table)
    if curve is None:
        return Run(seed, *_without_curve(status, reason, info))
    return _with_curve(seed, status, curve, detail, info, told.breaks.get(seed))


def _without_curve(status: str, reason: str, info: Mapping[str, Any]) -> tuple[str, str]:
    if status in {"completed", "damaged"}:
        return "damaged", reason or "evaluation.parquet: no rows of this seed"
    return status, clean(info.get("message") or "", limit=200)


def _curve(seed: int, table: Mapping[str, Array]) -> dict[str, Array] | None:
    """The rows of one seed by step; of repeated points, which a resume leaves, the last.

    Several points at one step are several evaluations of one policy. Where points have no numbers, these
    cannot be told from repeats.
    """
    if "seed" not in table:
        return None
    rows = np.flatnonzero(table["seed"] == seed)
    if not rows.size:
        return None
    numbers = table.get("point", table["env_steps"])[rows]
    numbers = numbers if np.isfinite(numbers).all() else table["env_steps"][rows]
    _, last = np.unique(numbers[::-1], return_index=True)
    keep = rows[::-1][last]
    keep = keep[np.argsort(table["env_steps"][keep], kind="stable")]
    return {name: column[keep] for name, column in table.items()}


def _last_of_each(steps: Array) -> Array:
    """Where the last evaluation at each step is: between two updates a policy is the same.

    All evaluations of a policy are as good; a mean of two is less noisy than one, and curves of which some
    points are would be steadier there without any merit of the agent.
    """
    _, last = np.unique(steps[::-1], return_index=True)
    return np.asarray(steps.size - 1 - last)


def _with_curve(
    seed: int,
    status: str,
    curve: Mapping[str, Array],
    detail: Mapping[str, Any],
    info: Mapping[str, Any],
    broke: str | None = None,
) -> Run:
    steps, sampled = curve["env_steps"], curve["return_sampled"]
    greedy = curve.get("return_greedy", np.full(steps.shape, np.nan))
    reason = clean(info.get("message") or "", limit=200) if status != "completed" else ""
    failed_at = _failure_step(status, curve, detail)
    bad = np.flatnonzero(~np.isfinite(sampled))
    if bad.size and status in {"completed", "diverged", "crashed"}:
        status, reason = "diverged", broke or "a return that is not finite"
        failed_at = min(float(steps[bad[0]]), math.inf if failed_at is None else failed_at)
    if status == "diverged" and not bad.size:
        reason = broke or "reported by the run"
    split = curve.get("return_split")
    good = np.isfinite(sampled)
    if failed_at is not None:
        good &= steps < failed_at
        failed_at = _clipped(failed_at, steps[good], budget(info))
    clocks = {"updates": curve.get("update"), "episodes": curve.get("episodes")}
    measured = steps[good], sampled[good], greedy[good]
    last = _last_of_each(measured[0])
    passed = {name: clock[good][last] for name, clock in clocks.items() if clock is not None}
    outside = status == "crashed" and failure.of_machine(reason)
    steps, sampled, greedy = (column[last] for column in measured)
    return Run(
        seed,
        status,
        reason,
        steps,
        sampled,
        greedy,
        failed_at,
        passed,
        outside,
        measured,
        None if split is None else split[good][last],
    )


def budget(info: Mapping[str, Any] | None) -> float | None:
    """The steps that each run of a cell has, None where they are not recorded."""
    found = (info or {}).get("budget")
    steps = found.get("env_steps") if isinstance(found, dict) else None
    value = finite(steps)
    return value if value is not None and value > 0 else None


def _failure_step(
    status: str, curve: Mapping[str, Array], detail: Mapping[str, Any]
) -> float | None:
    """Where a failed run failed: its reported update in steps, else where its next evaluation was due."""
    if status not in {"diverged", "crashed"}:
        return None
    steps, update = np.unique(curve["env_steps"]), finite(detail.get("update"))
    updates = curve.get("update")
    if update is None or updates is None or not np.isfinite(updates).all():
        # A divergence that nobody placed may have come before the last evaluation.
        return _next_evaluation(steps) if status == "crashed" else None
    if update > updates[-1]:
        return _next_evaluation(steps)
    return float(np.interp(update, updates, curve["env_steps"]))


def _next_evaluation(steps: Array) -> float | None:
    """As far from the last one as that is from the one before; not known after a single one."""
    return float(2.0 * steps[-1] - steps[-2]) if steps.size > 1 else None


def _clipped(step: float, evaluated: Array, budget: float | None) -> float:
    """A failure lies between the last good evaluation and the end of the run."""
    after = float(np.nextafter(evaluated[-1], np.inf)) if evaluated.size else 0.0
    return max(min(step, math.inf if budget is None else budget), after)


def training(folder: Path | None, problems: list[str]) -> dict[str, Array]:
    """What training logged, by column; empty where it logged nothing."""

    def read(path: Path) -> dict[str, Array]:
        return read_table(path, _metrics)

    table = read_inside(folder, "metrics.parquet", read, problems)
    return table if table and table.get("update", np.zeros(0)).size else {}


def breaks(table: Mapping[str, Array]) -> dict[int, str]:
    """By seed whose losses did not stay finite, which metric was the first, and when.

    Where a policy is no longer finite, its evaluations are not either, whatever the environment pays.
    """
    losses = [name for name in LOSSES if name in table]
    if "seed" not in table or not losses:
        return {}
    bad = ~np.all([np.isfinite(table[name]) for name in losses], axis=0)
    bad &= np.isfinite(table["seed"]) & np.isfinite(table["update"])
    found: dict[int, str] = {}
    for row in np.flatnonzero(bad)[np.argsort(table["update"][bad], kind="stable")]:
        # no episode may have ended in an update: a return that is NaN says nothing
        paid = ["return"] if "return" in table and np.isinf(table["return"][row]) else []
        wrong = [n for n in (*ADVANTAGES, *losses) if n in table and not np.isfinite(table[n][row])]
        text = f"{(paid + wrong)[0]} was not finite from update {table['update'][row]:.0f} on"
        found.setdefault(int(table["seed"][row]), text)
    return found


def diagnostics(table: Mapping[str, Array]) -> dict[int, dict[str, float]]:
    """By seed, the median of each training metric over the last tenth of the seed's own updates.

    A mean would be that of the few updates whose explained variance is told from next to no variance. Seeds
    differ in their number of updates where a budget of steps is spent in whole episodes.
    """
    names = [name for name in table if name not in STEP_COLUMNS]
    return {
        seed: {
            clean(name): float(np.median(values))
            for name in names
            if (values := _only_finite(table[name][rows])).size
        }
        for seed, rows in _last_tenths(table).items()
    }


def _last_tenths(table: Mapping[str, Array]) -> dict[int, Array]:
    """Rows of the last tenth of each seed's updates; all rows are one seed's where none is told."""
    if not table:
        return {}
    update = table["update"]
    seed = table.get("seed", np.zeros(update.shape))
    known = np.isfinite(update) & np.isfinite(seed)
    mine = {int(s): np.flatnonzero((seed == s) & known) for s in np.unique(seed[known])}
    return {s: rows[update[rows] >= 0.9 * update[rows].max()] for s, rows in mine.items()}


def gradient_steps(table: Mapping[str, Array]) -> float | None:
    """Gradient steps in an update, on average; None where they are not recorded."""
    values = _only_finite(table.get("gradient_steps", np.zeros(0)))
    return float(values.mean()) if values.size else None


def _metrics(names: Sequence[str]) -> list[str]:
    """The metrics that are read: at most `DIAGNOSTICS`, since files may be of any origin."""
    return [
        *(name for name in names if name in {"seed", "update", "gradient_steps"}),
        *[name for name in names if _shown(name)][:DIAGNOSTICS],
    ]


def _shown(name: str) -> bool:
    """Whether a metric is a number by itself, and not a bin of a histogram or a count of steps."""
    return name not in STEP_COLUMNS and not name.startswith("advantage_below_")


def _only_finite(values: Array) -> Array:
    return values[np.isfinite(values)]
