"""What readers are shown in the place of names that the files of a study have."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vfcompare.errors import InputError, nearest
from vfcompare.report.reading.cells import Cell, Names
from vfcompare.report.reading.data import Study
from vfcompare.report.reading.files import clean, why
from vfcompare.report.reading.labels import label
from vfcompare.runs.yaml_files import read_yaml


def read_names(file: Path | None) -> dict[str, str]:
    """What a YAML file says, `{ppo: PPO, maze_small: Small mazes}`; nothing without a file.

    Raises:
      InputError: it cannot be read, or has something else than names.
    """
    if file is None:
        return {}
    try:
        # A file that was typed may be a link.
        found = read_yaml(file.resolve())
    except (OSError, ValueError) as error:
        raise InputError(
            f"--names={file}: {why(error)}; allowed: a YAML file of names, such as ppo: PPO"
        ) from error
    for name, shown in found.items():
        if not isinstance(shown, str | int | float) or not str(shown).strip():
            raise InputError(f"{file}: {name}={shown!r}; allowed: what {name} is to be called")
    return {clean(name, limit=100): clean(shown) for name, shown in found.items()}


def renamed(study: Study, names: Mapping[str, str]) -> Study:
    """The study under other names; no number of it changes, and every agent keeps its colour.

    Args:
      study: as it was read.
      names: what agents, environments, or these with their settings, as reports call them, are to be called.

    Raises:
      InputError: the study has nothing of any such name, or two would be called the same.
    """
    if not names:
        return study
    every = [name for cell in study.cells for name in cell.names]
    for name in (extra := sorted(names.keys() - every)):
        told = f"the study has no agent or environment {name!r}"
        if len(extra) == len(names):
            short = dict.fromkeys(
                x for cell in study.cells for x in (cell.names.agent, cell.names.env)
            )
            raise InputError(
                f"{told}; allowed: {', '.join(short)}, or one of these with its settings, as reports call it"
                f"{nearest(name, every)}"
            )
        # One file may be of several studies.
        print(f"vfcompare: {told}, which is passed over{nearest(name, every)}", file=sys.stderr)
    cells, _ = label([_called(cell, names) for cell in study.cells])
    cells = [
        replace(
            cell,
            arm=names.get(cell.names.arm, cell.arm),
            task=names.get(cell.names.task, cell.task),
        )
        for cell in cells
    ]
    _must_differ(cells)
    return replace(study, cells=tuple(cells))


def _called(cell: Cell, names: Mapping[str, str]) -> Cell:
    own = cell.names
    return replace(
        cell,
        agent=names.get(own.agent, own.agent),
        env=names.get(own.env, own.env),
        original=own,
        parts=tuple(_called(part, names) for part in cell.parts),
    )


def _must_differ(cells: Sequence[Cell]) -> None:
    """Refuse one name for two things."""
    for place in range(len(Names._fields)):
        meant: dict[str, str] = {}
        for cell in cells:
            shown, own = (cell.agent, cell.env, cell.arm, cell.task)[place], cell.names[place]
            if meant.setdefault(shown, own) != own:
                raise InputError(
                    f"{meant[shown]} and {own} would both be called {shown!r}; allowed: names of their own"
                )
