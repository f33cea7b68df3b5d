"""What cells are called: the agent and the environment, and of their settings those that vary."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from vfcompare.report.cells import Cell
from vfcompare.report.files import clean

PROBLEM = ("env.", "agent.policy.success", "agent.prior.", "agent.judge.")
"""Settings that say which problem is posed: what a policy can do at first, and who pays, are part of it."""


def label(cells: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """Cells with their labels, and what a reader must know about these.

    Settings of the `PROBLEM` are the task's, others the arm's. Cells that would share a label are told
    apart by their study, or numbered in the order of the plan.
    """
    brief = short_names(_varying(cells))
    labelled = [_labelled(cell, brief) for cell in cells]
    studies: dict[tuple[str, str], set[str]] = {}
    for cell in labelled:
        studies.setdefault((cell.arm, cell.task), set()).add(cell.study)
    shared = {arm for (arm, _), names in studies.items() if len(names) > 1}
    labelled = [
        replace(c, arm=clean(f"{c.arm} ({c.study})", limit=90)) if c.arm in shared else c
        for c in labelled
    ]
    numbered = list(_numbered(labelled))
    if numbered == labelled:
        return numbered, []
    note = (
        "Some agents were planned several times with equal settings but other configurations; "
        "they are numbered in the order of the plan."
    )
    return numbered, [note]


def _varying(cells: Iterable[Cell]) -> list[str]:
    """Settings that are not the same in all cells."""
    cells = list(cells)
    keys = sorted({key for cell in cells for key in cell.settings})
    return [key for key in keys if len({cell.settings.get(key) for cell in cells}) > 1]


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each name, or all of it where two would become one."""
    brief = {key: key.rpartition(".")[2] for key in keys}
    return brief if len(set(brief.values())) == len(brief) else {key: key for key in keys}


def _labelled(cell: Cell, brief: Mapping[str, str]) -> Cell:
    found = {key: cell.settings[key] for key in brief if key in cell.settings}
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


def _numbered(cells: Iterable[Cell]) -> Iterable[Cell]:
    """Planned cells of one name, apart from the first of them, with a number."""
    taken: set[tuple[str, str]] = set()
    for cell in cells:
        name, times = cell.arm, 1
        while cell.planned and (name, cell.task) in taken:
            times += 1
            name = clean(f"{cell.arm} ({times})", limit=100)
        if cell.planned:
            taken.add((name, cell.task))
        yield cell if name == cell.arm else replace(cell, arm=name)
