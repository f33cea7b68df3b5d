"""A study without what tells who ran it, and where."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vfcompare.report.reading.cells import Cell, Run, own_code
from vfcompare.report.reading.data import Study
from vfcompare.report.reading.files import clean
from vfcompare.report.reading.labels import label
from vfcompare.runs.naming import hash_of

KEPT = ("status", "seeds", "reference", "budget", "seconds", "versions", "config_hash")
"""What is kept of run.json, beside hashes of the user's own modules.

Its command, commit, messages, machine and times are not.
"""

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
    """The study with neutral texts: no hosts, users, paths, commands, commits or dates.

    Cells are labelled anew, so that what differs in a path alone stays two things.
    """
    ellipses = Ellipses()
    cells, _ = label([_cell(cell, ellipses) for cell in study.cells])
    return replace(
        study,
        name=ellipses.of(study.name),
        question=ellipses.of(study.question),
        created="",
        cells=tuple(cells),
        problems=tuple(map(ellipses.of, study.problems)),
        contrast=ellipses.inside(study.contrast),
        unlike=ellipses.of(study.unlike),
    )


@dataclass(frozen=True)
class Ellipses:
    """What stands in the place of every path, address and account: `…`, and `…2`, `…3` for further ones."""

    known: dict[str, str] = field(default_factory=dict)

    def of(self, text: str) -> str:
        """The text with an ellipsis for each of them."""
        return NAMED.sub(lambda found: self._one(found[0]), text)

    def inside(self, value: Any) -> Any:
        """The same of all texts in a value."""
        if isinstance(value, Mapping):
            return {key: self.inside(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(map(self.inside, value))
        return self.of(value) if isinstance(value, str) else value

    def _one(self, name: str) -> str:
        return self.known.setdefault(name, f"…{len(self.known) + 1}" if self.known else "…")


def _cell(cell: Cell, ellipses: Ellipses) -> Cell:
    device = cell.info.get("device")
    platform = device.get("platform") if isinstance(device, Mapping) else None
    info = {key: cell.info[key] for key in KEPT if key in cell.info}
    last, first = (
        {_hidden(name): shas[i] for name, shas in own_code(cell.info).items()} for i in (0, -1)
    )
    info |= {"own": last, "begun_with": {"own": first}}
    settings = ellipses.inside(cell.settings)
    return replace(
        cell,
        info=info | ({"device": clean(platform)} if isinstance(platform, str) else {}),
        runs=tuple(_run(run) for run in cell.runs),
        settings=settings,
        # the name of a folder repeats its settings
        id=cell.id if settings == cell.settings else f"…-{hash_of(cell.id)}",
        agent=ellipses.of(cell.agent),
        env=ellipses.of(cell.env),
        study=ellipses.of(cell.study),
        certificate=ellipses.inside(cell.certificate),
        # of the rest nothing is shown, and the search in it is known by its name
        config={k: ellipses.inside(v) if k == "agent" else v for k, v in cell.config.items()},
        problems=tuple(map(ellipses.of, cell.problems)),
        parts=tuple(_cell(part, ellipses) for part in cell.parts),
    )


def _hidden(module: str) -> str:
    """A module whose name may be a person's."""
    return f"module {hashlib.sha256(module.encode('utf-8', 'replace')).hexdigest()[:6]}"


def _run(run: Run) -> Run:
    return replace(run, reason=WITHHELD) if run.reason else run
