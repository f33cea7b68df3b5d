"""What `run.json` says of an attempt at a cell: by which code, how, and whether it goes on bit by bit."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from vfcompare.runs import run_folder, store
from vfcompare.training.cell import Cell
from vfcompare.training.log import Log

DECISIVE = ("vfcompare", "flax", "optax", "rlax")
"""Packages that decide bits of a result beside JAX, whose versions a checkpoint holds fast."""

PROGRAM_FIELDS = {"devices", "bit_exact", "begun_with", "reference", "env_steps"}
"""Fields of run.json known only once the program is built; else those of the last attempt are kept."""


def begin(cell: Cell, folder: run_folder.RunFolder, traced: Sequence[str], **fields: Any) -> None:
    """Record an attempt at a cell, and its configuration.

    Args:
      cell: to be trained.
      folder: of its run.
      traced: paths of numbers.
      fields: of `PROGRAM_FIELDS` what is known.
    """
    folder.begin(
        id=cell.id,
        study=cell.config["study"]["name"],
        agent=cell.agent,
        env=cell.env,
        settings=cell.settings,
        command=shlex.join(["vfcompare", *sys.argv[1:]]),
        config_hash=store.digest(cell.identity),
        traced=list(traced),
        damage=folder.damage,
        **_code(),
        budget={"env_steps": cell.config["env_steps"]},
        seeds={str(seed): {"status": "running"} for seed in cell.seeds},
        **fields,
    )
    text = yaml.safe_dump(cell.config, sort_keys=False, allow_unicode=True)
    store.write_bytes(folder.path / "config.yaml", text.encode())


def program_fields(log: Log, devices: int) -> dict[str, Any]:
    """`PROGRAM_FIELDS`, once the program of a cell was made.

    Args:
      log: of the cell.
      devices: over which it is spread.
    """
    goes_on = log.member.checkpoint is not None
    before = log.member.folder.record if goes_on else {}
    first = before.get("begun_with") or {name: before.get(name) for name in _code()}
    same = not goes_on or _decisive(first) == _decisive(_code())
    return {
        "devices": devices,
        "bit_exact": log.exact and same and before.get("bit_exact", True),
        "begun_with": first if goes_on else _code(),
        "reference": log.env.held_out().reference._asdict(),
        "env_steps": before.get("env_steps", 0),
    }


def carried_over(record: Mapping[str, Any]) -> dict[str, Any]:
    """`PROGRAM_FIELDS`, as far as earlier attempts have told."""
    return {name: record[name] for name in PROGRAM_FIELDS & record.keys()}


def _code() -> dict[str, Any]:
    """The code that this process runs."""
    return {"versions": store.versions(), "git": store.git_state()}


def _decisive(code: Mapping[str, Any]) -> list[Any]:
    """What of some code, see `_code`, decides bits of a result."""
    versions, git = (code.get(name) or {} for name in ("versions", "git"))
    return [git.get("commit"), *(versions.get(name) for name in DECISIVE)]
