"""What `run.json` says of an attempt at a cell: by which code, how, and whether it goes on bit by bit."""

import contextlib
import functools
import hashlib
import importlib.util
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vfcompare.runs import naming, origin, run_folder, store
from vfcompare.training.cell import Cell
from vfcompare.training.share import Share
from vfcompare.tree import made_by

DECISIVE = ("vfcompare", "flax", "optax", "rlax")
"""Packages whose versions decide bits of a result; those of JAX are circumstances of a checkpoint."""

PROGRAM_FIELDS = {"devices", "bit_exact", "begun_with", "reference", "env_steps"}
"""Fields of run.json known only once the program is built; one that fails before keeps earlier values."""


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
        config_hash=naming.digest(cell.identity),
        traced=list(traced),
        damage=folder.damage,
        **code(cell),
        budget={"env_steps": cell.config["env_steps"]},
        seeds={str(seed): {"status": "running"} for seed in cell.seeds},
        **fields,
    )
    text = yaml.safe_dump(cell.config, sort_keys=False, allow_unicode=True)
    store.write_bytes(folder.path / "config.yaml", text.encode())


def program_fields(share: Share) -> dict[str, Any]:
    """The values of `PROGRAM_FIELDS`, once the program of a cell is built."""
    cell, folder, checkpoint = share.member
    goes_on = checkpoint is not None
    before, now = folder.record if goes_on else {}, code(cell)
    first = before.get("begun_with") or {name: before.get(name) for name in now}
    same = not goes_on or _equal(first, now)
    return {
        "devices": share.trainer.devices,
        "bit_exact": share.bit_exact and same and before.get("bit_exact", True),
        "begun_with": first if goes_on else now,
        "reference": share.env.held_out().reference._asdict(),
        "env_steps": before.get("env_steps", 0),
    }


def carried_over(record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `PROGRAM_FIELDS` that the last attempt left in run.json.

    Args:
      record: what run.json says.
    """
    return {name: record[name] for name in PROGRAM_FIELDS & record.keys()}


def code(cell: Cell) -> dict[str, Any]:
    """The code that this process runs: versions, commit, and what our own and the user's modules hash to."""
    return {
        "versions": origin.versions(),
        "git": origin.git_state(),
        "source": source(),
        "own": own_code(cell.config),
    }


@functools.cache
def source() -> str:
    """SHA-256 of our own modules, as they were when this process first asked: what it runs was read then."""
    files = {}
    for package in ("vfcompare", "vfcompare.agents", "vfcompare.envs", "vfcompare.conf"):
        spec = importlib.util.find_spec(package)
        for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
            for file in folder.rglob("*.py"):
                # By the names that modules have in a wheel, also in a clone.
                name = f"{package.replace('.', '/')}/{file.relative_to(folder).as_posix()}"
                files[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    return naming.digest(files)


def own_code(config: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the files of modules that parts name by `_target_` and that are not ours, by module."""
    modules = {target.rpartition(".")[0] for target in made_by(config, lists=True).values()}
    found = {}
    for module in sorted(modules):
        if module.partition(".")[0] == "vfcompare":
            continue
        with contextlib.suppress(ImportError, ValueError, OSError):
            file = getattr(importlib.util.find_spec(module), "origin", None)
            found[module] = hashlib.sha256(Path(file or "").read_bytes()).hexdigest()
    return found


def warn_if_own_code_changed(cell: Cell) -> None:
    """Warn where modules of the user's own have changed since a completed cell was trained."""
    now = own_code(cell.config)
    # Of most cells, which have none, nothing need be read.
    before = run_folder.RunFolder(cell.study / cell.id).record.get("own") if now else None
    if not isinstance(before, Mapping):
        return
    for module in sorted(name for name in now if before.get(name, now[name]) != now[name]):
        print(
            f"{cell.id}: {module} has changed since it was trained; it is kept as it is, and trained anew "
            "without its folder",
            file=sys.stderr,
        )


def _equal(first: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether training by two states of the code, see `code`, gives the same bits.

    Earlier records have no `source`, and are equal in it to any.
    """
    edited = first.get("source") not in (None, now["source"])
    return not edited and _decisive(first) == _decisive(now)


def _decisive(code: Mapping[str, Any]) -> list[Any]:
    """What decides bits of a result in a state of the code, see `code`, beside `source`."""
    versions, git = (code.get(name) or {} for name in ("versions", "git"))
    return [git.get("commit"), code.get("own") or {}, *(versions.get(name) for name in DECISIVE)]
