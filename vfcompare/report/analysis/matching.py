"""Whether runs differ only where they should, from their certificates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vfcompare.report.reading.cells import Cell, own_code
from vfcompare.report.reading.files import clean
from vfcompare.report.reading.labels import TARGET, searches, tuned_settings
from vfcompare.report.scoring import Task
from vfcompare.report.table import NONE, join
from vfcompare.runs import certificate
from vfcompare.runs.naming import digest
from vfcompare.schema.tree import leaves
from vfcompare.schema.untrusted import tree

Row = tuple[str, str, tuple[str, ...]]

Field = tuple[str, tuple[str, ...]]

NEVER_TUNED = ("gamma", "network", "evaluation_episodes", "evaluation_attempts", "warmup")
"""Parts that make another comparison of it, whoever chose them."""


@dataclass(frozen=True)
class Matching:
    """How the runs of one task were matched, from their certificates.

    Attributes:
      task: label of the environment.
      cells: ids in the order of the columns.
      arms: their labels.
      rows: (item, verdict, values by column).
      different: items that are not equal, not different by design and not swept.
      uncompared: items of seeds, where some run shares none with any other.
      reason: why nothing could be compared, or empty.
      tuned: items that differ in nothing but what a search chose for each agent.
      search: its name.
      fields: of items that are not equal, the settings that differ: (path, values by column).
    """

    task: str
    cells: tuple[str, ...]
    arms: tuple[str, ...]
    rows: tuple[Row, ...]
    different: tuple[str, ...]
    reason: str
    uncompared: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()
    search: str = ""
    fields: Mapping[str, tuple[Field, ...]] = field(default_factory=dict)


def matching(task: Task) -> Matching:
    """Compares what is compared: the certificates of all cells of a task that have scores."""
    scored = [cell for cell in task.cells.values() if task.scores.get(cell.arm)]
    named = [(cell.arm, folder) for cell in scored for folder in _scored(cell, task)]
    cells = [cell for _, cell in named]
    # of two studies, folders may have the same name
    keys = tuple(f"{index}:{cell.id}" for index, cell in enumerate(cells))
    ids, arms = tuple(cell.id for cell in cells), tuple(arm for arm, _ in named)
    if len(set(arms)) < 2:
        return Matching(task.name, ids, arms, (), (), _alone(task, arms))
    lacking = [arm for arm, cell in named if cell.certificate is None]
    if lacking:
        return Matching(task.name, ids, arms, (), (), f"no certificate of {join(lacking)}")
    try:
        pairs = zip(keys, cells, strict=True)
        rows = certificate.compare({key: dict(cell.certificate or {}) for key, cell in pairs})
        table = tuple((str(r.item), str(r.verdict), _row_values(r.values, keys)) for r in rows)
        unlike = [item for item, verdict, _ in table if verdict != "equal"]
        fields = {item: found for item in unlike if (found := _fields(item, cells))}
    except Exception as error:
        # a certificate is data of unknown origin: whatever it provokes is a finding, not a crash
        return Matching(task.name, ids, arms, (), (), f"not comparable ({type(error).__name__})")
    planned = list(task.cells.values())
    search = _one_search(planned)
    table = tuple(_excused(row, cells, planned) for row in table)
    table = tuple(_chosen(row, planned) for row in table) if search else table
    table = (*table, *_own_code(cells))
    different, uncompared, tuned = (
        tuple(item for item, verdict, _ in table if verdict == wanted)
        for wanted in ("different", "not compared", "tuned")
    )
    return Matching(task.name, ids, arms, table, different, "", uncompared, tuned, search, fields)


def _alone(task: Task, arms: Sequence[str]) -> str:
    """Why nothing can be compared where fewer than two agents have scores."""
    if len(task.cells) < 2:
        return "one agent only, nothing to compare"
    return f"of {len(task.cells)} agents {f'only {arms[0]} has' if arms else 'none has'} scores"


def _scored(cell: Cell, task: Task) -> list[Cell]:
    """The cells that a cell was planned as, of which some run has a score."""
    seeds = {item.seed for item in task.scores[cell.arm]}
    return [folder for folder in cell.folders if seeds & {run.seed for run in folder.runs}]


def _fields(item: str, cells: Sequence[Cell]) -> tuple[Field, ...]:
    """The settings of a part that are not the same in all cells, by path.

    Certificates have a part's hash and its text in one line; its settings are in the configurations. Nothing
    where some configuration is not the one that was hashed, as none else says what differs.
    """
    parts = [_hashed(item, cell) for cell in cells]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return ()
    found = [{path: (key, value) for path, key, value in leaves(part)} for part in known]
    paths = sorted({path: key for each in found for path, (key, _) in each.items()}.items())
    rows = []
    for path, key in paths:
        values = tuple(str(each[path][1]) if path in each else NONE for each in found)
        if key == "_target_":
            brief = tuple(value.rpartition(".")[2] for value in values)
            values = brief if len({*brief}) == len({*values}) else values
        if len({*values}) > 1 and (key == "_target_" or not key.startswith("_")):
            rows.append((path.removesuffix(TARGET), values))
    return tuple(rows)


def _hashed(item: str, cell: Cell) -> Mapping[str, Any] | None:
    """A part of a cell's configuration by its name, empty where it has none; None if its hash is another."""
    parts, agent = tree(cell.certificate or {}, "parts"), tree(cell.config, "agent")
    config, name = (agent, f"agent.{item}") if f"agent.{item}" in parts else (cell.config, item)
    if name not in parts:
        return None if item in {*agent, *cell.config} else {}
    told = parts[name].get("sha256") if isinstance(parts[name], Mapping) else None
    return {item: config[item]} if item in config and digest(config[item]) == told else None


def _own_code(cells: Sequence[Cell]) -> list[Row]:
    """A row for each module of the user's own; cells that do not use it are no difference."""
    codes = [own_code(cell.info) for cell in cells]
    rows: list[Row] = []
    for module in sorted({module for code in codes for module in code}):
        seen = {digest for code in codes for digest in code.get(module, ())}
        values = (", ".join(digest[:8] for digest in code.get(module, ())) for code in codes)
        verdict = "equal" if len(seen) == 1 else "different"
        rows.append(
            (f"code of {clean(module)}", verdict, tuple(text or "not used" for text in values))
        )
    return rows


def _one_search(planned: Sequence[Cell]) -> str:
    """The search that all settings come from, if it is one: it gave each agent equally many trials."""
    found = set(searches(planned))
    return found.pop() if len(found) == 1 else ""


def _chosen(row: Row, planned: Sequence[Cell]) -> Row:
    """A part of the agents that is the same in all cells but for settings that were tuned is no alarm.

    Configurations are compared without these settings: what else differs in the part stays a difference.
    """
    item, verdict, values = row
    own = [f"agent.{item}", f"agent.{item}."]
    keys = {
        key
        for cell in planned
        for key in tuned_settings(cell)
        if key == own[0] or key.startswith(own[1])
    }
    if verdict != "different" or not keys or item in NEVER_TUNED:
        return row
    rests = [_without(cell, item, keys) for cell in planned if cell.config]
    same = all(rest == rests[0] for rest in rests)
    return item, "tuned" if same else verdict, values


def _without(cell: Cell, item: str, keys: set[str]) -> Any:
    """A part of a cell's configuration as `setting: value`, without some settings."""
    part = tree(cell.config, "agent").get(item)
    return {path: value for path, _, value in leaves({item: part}, "agent") if path not in keys}


def _row_values(values: Any, keys: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(values, Mapping):
        return tuple("" for _ in keys)
    return tuple(str(values.get(key, "")) for key in keys)


def _excused(row: Row, cells: Sequence[Cell], planned: Sequence[Cell]) -> Row:
    """An item that follows the settings that were swept, alike for every agent, is not a difference."""
    item, verdict, values = row
    if verdict != "different":
        return row
    keys = {key for cell in planned for key in cell.settings}
    swept = sorted(key for key in keys if len({cell.settings.get(key) for cell in planned}) > 1)
    part = next((name for name, made in certificate.MADE.items() if made == item), item)
    own = [key for key in swept if key.removeprefix("agent.").split(".")[0] == part]
    chosen = own or swept
    crossed = bool(chosen) and _crossed(chosen, planned)
    return item, "swept" if crossed and _follows(chosen, cells, values) else verdict, values


def _crossed(keys: Sequence[str], planned: Sequence[Cell]) -> bool:
    """Whether every agent was to have the same settings."""
    tried: dict[str, set[tuple[str | None, ...]]] = {}
    for cell in planned:
        tried.setdefault(cell.agent, set()).add(_point(keys, cell))
    return len({frozenset(points) for points in tried.values()}) == 1


def _follows(keys: Sequence[str], cells: Sequence[Cell], values: Sequence[str]) -> bool:
    """Whether values depend on these settings alone."""
    found: dict[tuple[str | None, ...], set[str]] = {}
    for cell, value in zip(cells, values, strict=True):
        found.setdefault(_point(keys, cell), set()).add(value)
    return all(len(texts) == 1 for texts in found.values())


def _point(keys: Sequence[str], cell: Cell) -> tuple[str | None, ...]:
    return tuple(cell.settings.get(key) for key in keys)
