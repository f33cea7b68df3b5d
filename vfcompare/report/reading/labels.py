"""What cells are called: the agent and the environment, and of their settings those that vary."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vfcompare.report.reading.cells import Cell
from vfcompare.report.reading.files import clean
from vfcompare.report.table import join

TARGET = "._target_"
"""End of a setting that chooses a function, by its module and its name."""

PROBLEM = ("env.", "agent.policy.success", "agent.prior.", "agent.judge.")
"""Beginnings of settings that belong to the problem, as the prior of a policy, and not to the agent."""


def label(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """Cells with their labels, and what a reader must know about these.

    Settings of the `PROBLEM` are the task's, others the arm's, but for those that a search chose for each
    task: see `searches`. Cells that would share a label are told apart by their study, by how long they train
    and how often they are evaluated, or numbered in the order of the plan.
    """
    brief, values = short_names(sorted(varying(cells))), short_values(cells)
    labelled = [_labelled(cell, brief, values) for cell in cells]
    chosen = searches(labelled)
    labelled = [
        _labelled(cell, brief, values, tuned=bool(search))
        for cell, search in zip(labelled, chosen, strict=True)
    ]
    studies: dict[tuple[str, str], set[str]] = {}
    for cell in labelled:
        studies.setdefault((cell.arm, cell.task), set()).add(cell.study)
    shared = {arm for (arm, _), names in studies.items() if len(names) > 1}
    labelled = [
        replace(c, arm=clean(f"{c.arm} ({c.study})", limit=90)) if c.arm in shared else c
        for c in labelled
    ]
    labelled = _by_protocol(labelled)
    numbered = list(_numbered(labelled))
    if numbered == labelled:
        return numbered, []
    note = (
        "Some agents were planned several times in one study with equal settings; "
        "they are numbered in the order of the plan."
    )
    return numbered, [note]


def searches(cells: Sequence[Cell]) -> list[str]:
    """For each cell the search of `vfcompare tune` that its agent's settings come from, else nothing.

    These are one agent, whatever was best where, if they all come from a search and the agent is on each
    task once. Of a cell that has not begun no configuration is known: it is as the others of its study.
    """
    told = [_told(cell) for cell in cells]
    studies: dict[str, set[str]] = {}
    for cell, search in zip(cells, told, strict=True):
        if cell.config:
            studies.setdefault(cell.study, set()).add(search)
    agents: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for cell, search in zip(cells, told, strict=True):
        known = studies.get(cell.study, set())
        whose = next(iter(known)) if not cell.config and len(known) == 1 else search
        if cell.planned:
            agents.setdefault((cell.study, cell.agent), []).append((cell.task, whose))
    tuned = {
        agent: join(dict.fromkeys(search for _, search in found))
        for agent, found in agents.items()
        if all(search for _, search in found) and len({task for task, _ in found}) == len(found)
    }
    return [tuned.get((cell.study, cell.agent), "") if cell.planned else "" for cell in cells]


def _told(cell: Cell) -> str:
    """The study of the search in `study.tuned`, without the folders of a path; empty where there is none."""
    study = cell.config.get("study")
    name = study.get("tuned") if isinstance(study, Mapping) else None
    return clean(Path(name).name) if isinstance(name, str) else ""


def tuned_settings(cell: Cell) -> dict[str, str]:
    """Settings that a search may have chosen."""
    return {key: value for key, value in cell.settings.items() if _may_be_tuned(key)}


def _may_be_tuned(key: str) -> bool:
    return key.startswith("agent.") and not key.startswith(PROBLEM)


def varying(cells: Sequence[Cell]) -> list[str]:
    """Settings that are not the same in all cells, in the order of the plan."""
    keys = dict.fromkeys(key for cell in cells for key in cell.settings)
    return [key for key in keys if len({cell.settings.get(key) for cell in cells}) > 1]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each name, or all of it where two would become one; `_target_` is its part's name."""
    brief = {key: _last(key.removesuffix(TARGET)).partition("@")[0] for key in keys}
    return brief if len(set(brief.values())) == len(brief) else {key: key for key in keys}


def short_values(cells: Sequence[Cell]) -> dict[tuple[str, str], str]:
    """By setting and value, functions without their modules, unless two would become one."""
    whole = {(k, v) for cell in cells for k, v in cell.settings.items() if k.endswith(TARGET)}
    times = Counter((key, _last(value)) for key, value in whole)
    return {(k, v): _last(v) for k, v in whole if times[k, _last(v)] == 1}


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _labelled(
    cell: Cell,
    brief: Mapping[str, str],
    values: Mapping[tuple[str, str], str],
    *,
    tuned: bool = False,
) -> Cell:
    own = {key: cell.settings[key] for key in brief if key in cell.settings}
    found = {key: values.get((key, value), value) for key, value in own.items()}
    if tuned:
        found = {key: value for key, value in found.items() if not _may_be_tuned(key)}
    posed = {brief[k]: v for k, v in found.items() if k.startswith(PROBLEM)}
    chosen = {brief[k]: v for k, v in found.items() if not k.startswith(PROBLEM)}
    return replace(
        cell,
        arm=_name(cell.agent, chosen),
        task=_name(cell.env, posed),
        chosen=chosen,
        posed=posed,
    )


def _name(base: str, settings: Mapping[str, str]) -> str:
    shown = ", ".join(f"{key}={value}" for key, value in settings.items())
    return clean(f"{base} {shown}" if shown else base, limit=90)


def _by_protocol(cells: Sequence[Cell]) -> list[Cell]:
    """Cells that would share a label and differ in their protocol, labelled with what differs."""
    alike: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.planned:
            alike.setdefault((cell.arm, cell.task), []).append(cell)
    differing: dict[str, dict[str, None]] = {}
    for (arm, _), group in alike.items():
        for key in dict.fromkeys(key for cell in group for key in cell.protocol):
            if len({cell.protocol.get(key) for cell in group}) > 1:
                differing.setdefault(arm, {})[key] = None
    return [_called_by(cell, differing.get(cell.arm, {})) for cell in cells]


def _called_by(cell: Cell, keys: Iterable[str]) -> Cell:
    told = [f"{key}={cell.protocol[key]}" for key in keys if key in cell.protocol]
    return replace(cell, arm=clean(f"{cell.arm} {', '.join(told)}", limit=90)) if told else cell


def _numbered(cells: Iterable[Cell]) -> Iterable[Cell]:
    """Planned cells that still share a label, numbered from the second on."""
    taken: set[tuple[str, str]] = set()
    for cell in cells:
        name, times = cell.arm, 1
        while cell.planned and (name, cell.task) in taken:
            times += 1
            name = clean(f"{cell.arm} ({times})", limit=100)
        if cell.planned:
            taken.add((name, cell.task))
        yield cell if name == cell.arm else replace(cell, arm=name)
