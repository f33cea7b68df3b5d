"""Reading a study from its files, however damaged: each planned run has a status and a reason.

Files are untrusted: sizes are bounded, links that lead out of the study are refused, names are
cleaned of control characters, and nothing is composed or instantiated.
"""

import hashlib
import json
import math
import unicodedata
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import yaml

Array = npt.NDArray[np.float64]

STATUSES = (
    "completed",
    "diverged",
    "crashed",
    "interrupted",
    "running",
    "missing",
    "damaged",
    "short",
)
"""What can become of a planned run. `short`: says completed, but ends before the others do."""

STOPPED = ("preempted", "cancelled")
"""How else a run was stopped from outside; it counts as interrupted."""

CRITIC_AGENTS = frozenset({"a2c", "ppo", "reinforce_v"})
TEXT_BYTES = 8_000_000
TABLE_BYTES = 512_000_000
TABLE_ROWS = 20_000_000
NAME_LENGTH = 60
STEP_COLUMNS = ("seed", "update", "env_steps", "episodes", "gradient_steps")
DIAGNOSTICS = 8
LAB = (
    *("gradient_bias", "gradient_variance", "gradient_snr", "gradient_cosine"),
    *("episodes_to_cosine", "gradient_norm", "gradient_scale"),
    *("gradient_between", "survival_gradient"),
    *("advantage_bias", "advantage_variance", "advantage_mse", "signal_share"),
    *("score_square", "score_return_correlation", "lab_return", "return_variance"),
    *("value_rmse", "value_bias", "value_explained", "value_slope", "rank_accuracy"),
    *(f"value_rmse_to_go_{part}_of_4" for part in range(1, 5)),
)
"""Columns of the evaluation that the lab writes, see `vfcompare.diagnostics`."""
ARRAYS = 64
PROBLEM = ("env.", "agent.policy.success")
"""Settings that say which problem is posed: what a tabular policy can do at the start is part of it."""


@dataclass(frozen=True)
class Run:
    """One seed of one cell.

    Attributes:
      seed: the training seed.
      status: one of `STATUSES`.
      reason: why, where it is not completed.
      steps: `[points]` environment steps of the evaluations, increasing.
      sampled: `[points]` mean return of sampled actions; finite up to a failure.
      greedy: `[points]` mean return of greedy actions, NaN where not measured.
      failed_at: environment step of the failure, or None.
    """

    seed: int
    status: str
    reason: str = ""
    steps: Array = field(default_factory=lambda: np.zeros(0))
    sampled: Array = field(default_factory=lambda: np.zeros(0))
    greedy: Array = field(default_factory=lambda: np.zeros(0))
    failed_at: float | None = None


@dataclass(frozen=True)
class Cell:
    """One agent on one environment with one setting, and all its seeds.

    Attributes:
      id: name of its folder, as data.
      agent: name of the agent.
      env: name of the environment.
      settings: flat overrides beyond these.
      arm: label of what is compared: the agent and its settings where they vary.
      task: label of what it is compared on: the environment and its settings where they vary.
      critic: whether its estimator has a learned critic.
      planned: whether the plan lists it.
      runs: one for each planned seed.
      info: run.json, as data.
      certificate: certificate.json, or None.
      reference: known returns: random, optimal, threshold.
      budget: environment steps that every seed was to take, or None where it is not recorded.
      diagnostics: mean of each training metric over the last tenth of training.
      problems: what was wrong with its files.
      config: config.yaml, as data.
      lab: what the lab measured at the last evaluation of each completed seed.
      maps: what the lab laid over the squares of a maze, see `vfcompare.maps`.
    """

    id: str
    agent: str
    env: str
    settings: Mapping[str, str]
    critic: bool
    planned: bool
    runs: tuple[Run, ...]
    info: Mapping[str, Any]
    certificate: Mapping[str, Any] | None
    reference: Mapping[str, float | None]
    budget: float | None
    diagnostics: Mapping[str, float]
    problems: tuple[str, ...]
    arm: str = ""
    task: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    lab: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    maps: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """All cells of a study; the denominator is the plan where there is one.

    Attributes:
      name: name of the study.
      question: what it asks.
      planned: whether there was a readable plan.
      created: when the plan was made, as written.
      cells: planned cells first, in the plan's order.
      problems: what was wrong, in words.
    """

    name: str
    question: str
    planned: bool
    created: str
    cells: tuple[Cell, ...]
    problems: tuple[str, ...]


def load(study_dir: Path) -> Study:
    """Reads a study. Bad files become runs with a status and a reason, never an exception."""
    root = Path(study_dir)
    problems: list[str] = []
    plan = _plan(root, problems)
    cells = [_cell(root, entry, planned=True) for entry in plan.get("cells", [])]
    known = {cell.id for cell in cells}
    for name in _found(root):
        if clean(name) not in known:
            cells.append(_cell(root, {"id": name}, planned=not plan))
    if plan and any(not cell.planned for cell in cells):
        problems.append("Some folders are not in the plan; they are listed but not compared.")
    return Study(
        name=clean(plan.get("study") or root.resolve().name),
        question=clean(plan.get("question") or "", limit=600),
        planned=bool(plan),
        created=clean(plan.get("created") or ""),
        cells=tuple(_label(cells)),
        problems=tuple(problems),
    )


def clean(value: object, limit: int = NAME_LENGTH) -> str:
    """Text safe to print: one line, no control or direction characters, bounded, still unique."""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    text = text.replace("\N{FIRST STRONG ISOLATE}", "").replace("\N{POP DIRECTIONAL ISOLATE}", "")
    shown = "".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in text)
    if len(shown) > limit:
        shown = f"{shown[: limit - 9]}…{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if any(unicodedata.bidirectional(c) in {"R", "AL", "AN"} for c in shown):
        # isolated, or a right-to-left name would reorder the numbers beside it
        return f"\N{FIRST STRONG ISOLATE}{shown}\N{POP DIRECTIONAL ISOLATE}"
    return shown


def number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


class _PlainLoader(yaml.SafeLoader):  # type: ignore[misc, unused-ignore]
    """Refuses aliases: a resolved config has none, and nested ones grow without bound."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Composes one node, unless it is an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are refused")
        return super().compose_node(parent, index)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size; ValueError or OSError says what is wrong with it."""
    try:
        value = json.loads(_bounded(path))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return _mapping(value)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of bounded size, parsed without any constructor beyond plain data."""
    try:
        value = _PlainLoader(_bounded(path)).get_single_data()
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("not plain YAML") from error
    return _mapping(value)


def read_table(path: Path, columns: Iterable[str] | None = None) -> dict[str, Array]:
    """Numeric columns of a Parquet file of bounded size; ValueError or OSError otherwise."""
    if path.stat().st_size > TABLE_BYTES:
        raise ValueError("larger than the limit")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if file.metadata.num_rows > TABLE_ROWS:
                raise ValueError("claims more rows than the limit")
            names = [n for n in file.schema_arrow.names if columns is None or n in columns]
            table = file.read(columns=names)
            return {name: _floats(table.column(name)) for name in names}
    except (OSError, ValueError):
        raise
    except Exception as error:
        # pyarrow raises many kinds for a damaged file, some of them not its own
        raise ValueError(f"damaged ({type(error).__name__})") from error


def read_arrays(path: Path) -> dict[str, Array]:
    """Numeric arrays of an npz file of bounded size, never pickled; ValueError or OSError otherwise."""
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = [item.file_size for item in archive.infolist()]
        if len(sizes) > ARRAYS or sum(sizes) > TABLE_BYTES:
            raise ValueError("larger than the limit")
        with np.load(path, allow_pickle=False) as file:
            return {clean(n): np.asarray(file[n], dtype=np.float64) for n in file.files}
    except (OSError, ValueError):
        raise
    except Exception as error:
        # a damaged archive fails in zipfile, zlib or numpy, each with kinds of its own
        raise ValueError(f"damaged ({type(error).__name__})") from error


def _floats(column: Any) -> Array:
    values = column.to_numpy()
    if values.dtype.kind not in "iufb":
        return np.full(len(values), np.nan)
    return np.asarray(values, dtype=np.float64)


def _bounded(path: Path) -> str:
    if path.stat().st_size > TEXT_BYTES:
        raise ValueError("larger than the limit")
    return path.read_text(encoding="utf-8")


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return value


def _plan(root: Path, problems: list[str]) -> dict[str, Any]:
    path = root / "plan.json"
    try:
        plan = read_json(path)
        entries = plan.get("cells")
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise ValueError("no list of cells")
    except FileNotFoundError:
        problems.append("There is no plan.json: what was found on disk is the denominator.")
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"plan.json is damaged ({_why(error)}): what was found is the denominator.")
        return {}
    return plan


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "not JSON"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, OSError):
        return clean(error.strerror or type(error).__name__)
    return clean(error)


def _found(root: Path) -> list[str]:
    try:
        folders = sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return []
    return [path.name for path in folders if path.name != "report" and (path / "run.json").exists()]


def _folder(root: Path, name: str) -> Path | None:
    """The cell's folder, or None where the name is not a plain name or leads out of the study."""
    if name in {"", ".", ".."} or "\0" in name or Path(name).name != name or len(name) > 255:
        return None
    try:
        folder = (root / name).resolve()
        return folder if folder.parent == root.resolve() else None
    except (OSError, ValueError):
        return None


def _cell(root: Path, entry: Mapping[str, Any], *, planned: bool) -> Cell:
    name = str(entry.get("id", ""))
    problems: list[str] = []
    try:
        folder = _folder(root, name)
    except UnicodeError:
        folder = None
    if folder is None:
        problems.append("the id is not the name of a folder of this study")
    present = folder is not None and folder.is_dir()
    info = _read(folder, "run.json", read_json, problems) if present else None
    settings = entry.get("settings", (info or {}).get("settings"))
    agent = entry.get("agent", (info or {}).get("agent", "unknown"))
    config = _read(folder, "config.yaml", read_yaml, problems) if info is not None else None
    certificate = _read(folder, "certificate.json", read_json, problems) if present else None
    runs, trouble = _runs(folder if present else None, entry, info)
    drawn = folder is not None and (folder / "oracle.npz").exists()
    maps = (_read(folder, "oracle.npz", read_arrays, problems) or {}) if drawn else {}
    return Cell(
        id=clean(name),
        agent=clean(agent),
        env=clean(entry.get("env", (info or {}).get("env", "unknown"))),
        settings=_settings(settings),
        critic=_has_critic(str(agent), config),
        planned=planned,
        runs=runs,
        info=info or {},
        certificate=certificate,
        reference=_reference(info),
        budget=_budget(info),
        diagnostics=_diagnostics(folder, problems) if present else {},
        problems=tuple(problems + trouble),
        config=config or {},
        lab=_lab(folder, runs) if present else {},
        maps=maps,
    )


def _read(folder: Path | None, name: str, reader: Any, problems: list[str]) -> Any:
    if folder is None:
        return None
    path = folder / name
    try:
        if path.resolve().parent != folder:
            raise ValueError("a link out of its folder")
        return reader(path)
    except FileNotFoundError:
        problems.append(f"{name} is missing")
    except (OSError, ValueError) as error:
        problems.append(f"{name}: {_why(error)}")
    return None


def _settings(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {
        clean(key): clean(item) for key, item in sorted(value.items(), key=lambda kv: str(kv[0]))
    }


def _budget(info: Mapping[str, Any] | None) -> float | None:
    found = (info or {}).get("budget")
    steps = found.get("env_steps") if isinstance(found, dict) else None
    value = number(steps)
    return value if value is not None and value > 0 else None


def _reference(info: Mapping[str, Any] | None) -> dict[str, float | None]:
    found = (info or {}).get("reference")
    known = found if isinstance(found, dict) else {}
    return {key: number(known.get(key)) for key in ("random", "optimal", "threshold")}


def _has_critic(agent: str, config: Mapping[str, Any] | None) -> bool:
    part = (config or {}).get("agent")
    estimator = part.get("estimator") if isinstance(part, dict) else None
    if isinstance(estimator, dict):
        # A critic that is never read is a control.
        unread = str(estimator.get("_target_", "")).endswith(".auxiliary")
        return bool(estimator.get("critic")) and not unread
    return agent in CRITIC_AGENTS


def _seeds(value: object) -> list[int]:
    if isinstance(value, dict):
        value = [
            int(key) for key in value if str(key).lstrip("-").isdecimal() and len(str(key)) < 12
        ]
    if not isinstance(value, list):
        return []
    return sorted({s for s in value if isinstance(s, int) and not isinstance(s, bool)})


def _runs(
    folder: Path | None, entry: Mapping[str, Any], info: Mapping[str, Any] | None
) -> tuple[tuple[Run, ...], list[str]]:
    planned = _seeds(entry.get("seeds"))
    if folder is None:
        return tuple(Run(seed, "missing", "its folder was not found") for seed in planned), []
    if info is None:
        reason = "run.json could not be read"
        return tuple(Run(seed, "damaged", reason) for seed in planned), []
    table, reason = _evaluation(folder)
    listed = info.get("seeds")
    seeds = planned or _seeds(listed) or sorted({int(s) for s in table.get("seed", [])})
    problems = [f"evaluation.parquet: {reason}"] if reason else []
    extra = set(table.get("seed", np.zeros(0)).astype(int).tolist()) - set(seeds)
    if extra:
        problems.append(f"{len(extra)} seeds were evaluated that are not planned; they are ignored")
    per_seed = listed if isinstance(listed, dict) else {}
    return tuple(_run(s, info, per_seed.get(str(s)), table, reason) for s in seeds), problems


def _evaluation(folder: Path) -> tuple[dict[str, Array], str]:
    problems: list[str] = []
    wanted = ("seed", "update", "env_steps", "return_sampled", "return_greedy")
    table = _read(folder, "evaluation.parquet", lambda path: read_table(path, wanted), problems)
    if table is None:
        return {}, problems[0].removeprefix("evaluation.parquet").lstrip(": ")
    lacking = [name for name in ("seed", "env_steps", "return_sampled") if name not in table]
    if lacking:
        return {}, f"no column {', '.join(lacking)}"
    good = np.isfinite(table["seed"]) & np.isfinite(table["env_steps"])
    good &= np.abs(table["seed"]) < 2**53
    return {name: column[good] for name, column in table.items()}, ""


def _lab(folder: Path | None, runs: Sequence[Run]) -> dict[int, dict[str, float]]:
    """What was measured against the truth at the last evaluation of each completed seed."""
    wanted = ("seed", "env_steps", *LAB)
    # what is wrong with this file has been said where its returns were read
    table = _read(folder, "evaluation.parquet", lambda path: read_table(path, wanted), [])
    if not table or not {"seed", "env_steps", "gradient_variance"} <= table.keys():
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
    table: Mapping[str, Array],
    reason: str,
) -> Run:
    detail = listed if isinstance(listed, dict) else {}
    overall = str(info.get("status"))
    overall = "interrupted" if overall in STOPPED else overall
    status = str(detail.get("status", overall))
    if status not in {"completed", "diverged"}:
        status = overall if overall in STATUSES and overall != "completed" else status
    if status not in STATUSES:
        status, reason = "damaged", reason or f"unknown status {clean(status)!r}"
    curve = _curve(seed, table)
    if curve is None:
        return Run(seed, *_without_curve(status, reason, info))
    return _with_curve(seed, status, curve, detail, info)


def _without_curve(status: str, reason: str, info: Mapping[str, Any]) -> tuple[str, str]:
    if status in {"completed", "damaged"}:
        return "damaged", f"evaluation: {reason or 'no rows of this seed'}"
    return status, clean(info.get("message") or "", limit=200)


def _curve(seed: int, table: Mapping[str, Array]) -> dict[str, Array] | None:
    """The rows of one seed by step; of repeated steps, which a resume leaves, the last."""
    if "seed" not in table:
        return None
    rows = np.flatnonzero(table["seed"] == seed)
    if not rows.size:
        return None
    _, last = np.unique(table["env_steps"][rows][::-1], return_index=True)
    keep = rows[::-1][last]
    return {name: column[keep] for name, column in table.items()}


def _with_curve(
    seed: int,
    status: str,
    curve: Mapping[str, Array],
    detail: Mapping[str, Any],
    info: Mapping[str, Any],
) -> Run:
    steps, sampled = curve["env_steps"], curve["return_sampled"]
    greedy = curve.get("return_greedy", np.full(steps.shape, np.nan))
    reason = clean(info.get("message") or "", limit=200) if status != "completed" else ""
    failed_at = _failure_step(status, curve, detail)
    bad = np.flatnonzero(~np.isfinite(sampled))
    if bad.size and status in {"completed", "diverged"}:
        status, reason = "diverged", "a return that is not finite"
        failed_at = min(float(steps[bad[0]]), math.inf if failed_at is None else failed_at)
    if status == "diverged" and not bad.size:
        reason = "reported by the run"
    good = np.isfinite(sampled)
    if failed_at is not None:
        good &= steps < failed_at
    return Run(seed, status, reason, steps[good], sampled[good], greedy[good], failed_at)


def _failure_step(
    status: str, curve: Mapping[str, Array], detail: Mapping[str, Any]
) -> float | None:
    """Where a failed run failed: its reported update in steps, else its last evaluation."""
    if status not in {"diverged", "crashed"}:
        return None
    steps, update = curve["env_steps"], number(detail.get("update"))
    updates = curve.get("update")
    if update is None or updates is None or not np.isfinite(updates).all():
        return float(np.nextafter(steps[-1], np.inf))
    if update > updates[-1]:
        return float(np.nextafter(steps[-1], np.inf))
    return float(np.interp(update, updates, steps))


def _diagnostics(folder: Path | None, problems: list[str]) -> dict[str, float]:
    """Mean of each training metric over rows and seeds of the last tenth of updates."""
    table = _read(folder, "metrics.parquet", read_table, problems)
    if not table or "update" not in table or not table["update"].size:
        return {}
    last = table["update"] >= 0.9 * np.nanmax(table["update"])
    names = [n for n in table if n not in STEP_COLUMNS and np.isfinite(table[n][last]).any()]
    picked = names[:DIAGNOSTICS]
    return {clean(n): float(np.nanmean(_only_finite(table[n][last]))) for n in picked}


def _only_finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _label(cells: list[Cell]) -> list[Cell]:
    """Names arms and tasks by what varies: settings of the `PROBLEM` are the task's, others the arm's."""
    varying = {
        key
        for cell in cells
        for key in cell.settings
        if len({other.settings.get(key) for other in cells}) > 1
    }
    labelled: list[Cell] = []
    taken: set[tuple[str, str]] = set()
    for cell in cells:
        chosen = {k: v for k, v in cell.settings.items() if k in varying}
        task = _name(cell.env, {k: v for k, v in chosen.items() if k.startswith(PROBLEM)})
        arm = _name(cell.agent, {k: v for k, v in chosen.items() if not k.startswith(PROBLEM)})
        if cell.planned and (arm, task) in taken:
            arm = clean(f"{arm} ({cell.id})", limit=90)
        taken.add((arm, task))
        labelled.append(replace(cell, arm=arm, task=task))
    return labelled


def _name(base: str, settings: Mapping[str, str]) -> str:
    shown = ", ".join(
        f"{key.removeprefix('env.').removeprefix('agent.policy.')}={value}"
        for key, value in settings.items()
    )
    return clean(f"{base} {shown}" if shown else base, limit=90)
