"""A study without what tells who ran it, and where."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vfcompare.report.data import Cell, Run, Study
from vfcompare.report.files import clean

KEPT = ("status", "seeds", "reference", "budget", "seconds", "versions", "config_hash")
"""What is kept of run.json; its command, commit, messages, machine and times are not."""

WITHHELD = "reason withheld"
NAMED = re.compile(
    r"""
    [\w.+-]+ @ [\w.-]+ (?: : [^\s'"]* )?         # user@host, and the path of a remote behind it
    | [a-z][a-z0-9+.-]* :// [^\s'"]+               # any address
    | (?<![\w.)]) ~? (?: / [\w.@+-]+ )+ /?        # a path from the root or from home
    | [A-Za-z]: \\ [^\s'"]+                        # a path with a drive
    """,
    re.VERBOSE,
)


def anonymous(study: Study) -> Study:
    """The study with neutral texts: no hosts, users, paths, commands, commits or dates."""
    return replace(
        study,
        name=scrub(study.name),
        question=scrub(study.question),
        created="",
        cells=tuple(_cell(cell) for cell in study.cells),
        problems=tuple(scrub(text) for text in study.problems),
    )


def scrub(text: str) -> str:
    """A text with an ellipsis in the place of every path, address and account."""
    return NAMED.sub("…", text)


def _cell(cell: Cell) -> Cell:
    device = cell.info.get("device")
    platform = device.get("platform") if isinstance(device, Mapping) else None
    info = {key: cell.info[key] for key in KEPT if key in cell.info}
    return replace(
        cell,
        info=info | ({"device": clean(platform)} if isinstance(platform, str) else {}),
        runs=tuple(_run(run) for run in cell.runs),
        problems=tuple(scrub(text) for text in cell.problems),
        certificate=None if cell.certificate is None else _scrubbed(cell.certificate),
        settings=_scrubbed(cell.settings),
        chosen=_scrubbed(cell.chosen),
        posed=_scrubbed(cell.posed),
        study=scrub(cell.study),
        arm=scrub(cell.arm),
        task=scrub(cell.task),
    )


def _run(run: Run) -> Run:
    return replace(run, reason=WITHHELD) if run.reason else run


def _scrubbed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _scrubbed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_scrubbed(item) for item in value]
    return scrub(value) if isinstance(value, str) else value
