"""What `run.json` says of an attempt at a cell: by which code, how, and whether it goes on bit by bit."""

import contextlib
import functools
import hashlib
import importlib.util
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from vfcompare.runs import naming, origin, run_folder, store
from vfcompare.schema.tree import made_by
from vfcompare.training import tasks
from vfcompare.training.cell import Cell, Member, saying_where
from vfcompare.training.share import Share
from vfcompare.words import counted

DECISIVE = ("vfcompare", "flax", "optax", "rlax")
"""Packages whose versions decide bits of a result; those of JAX are circumstances of a checkpoint."""

UNKNOWN = (ImportError, ValueError, OSError, LookupError)
"""What looking for the file of a module may raise where it has none."""

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
    first = _begun_with(before, now)
    same = not goes_on or not _changed(first, now)
    with saying_where(cell.config):
        known = tasks.reference(cell.config["env"])
    return {
        "devices": share.trainer.devices,
        "bit_exact": share.bit_exact and same and before.get("bit_exact", True),
        "begun_with": first if goes_on else now,
        "reference": known._asdict(),
        "env_steps": before.get("env_steps", 0),
    }


def _begun_with(record: Mapping[str, Any], now: Mapping[str, Any]) -> Mapping[str, Any]:
    """By which code, see `code`, the first attempt was made that a run goes on from."""
    return record.get("begun_with") or {name: record.get(name) for name in now}


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
        if digest := _digest(module):
            found[module] = digest
    return found


def tell_of_code_since(runs: Iterable[run_folder.RunFolder]) -> None:
    """Say what of the code has changed since completed runs were trained, a line for all alike.

    Args:
      runs: on disk.
    """
    for begun, alone in _alike((run.path.name, _since(run.record)) for run in runs):
        since, kept, folders = (
            ("it was", "it is", "its folder")
            if alone
            else ("they were", "they are", "their folders")
        )
        print(
            f"{begun} changed since {since} trained; kept as {kept}, trained anew without {folders}",
            file=sys.stderr,
        )


def _since(record: Mapping[str, Any]) -> list[str]:
    """What of the code has changed since a completed run was trained, see `_changed`."""
    own, versions = (_mapping(record.get(name)) for name in ("own", "versions"))
    first = {"source": record.get("source"), "own": own, "versions": versions}
    present = {module: _digest(module) or digest for module, digest in own.items()}
    return _changed(first, {"source": source(), "own": present, "versions": origin.versions()})


def _alike(changes: Iterable[tuple[str, list[str]]]) -> Iterator[tuple[str, bool]]:
    """Lines about cells and what has changed of their code, one for all of which it is the same.

    Returns:
      How each begins, `cell and 2 more cells: a, b have`, and whether it is of one cell alone.
    """
    found: dict[tuple[str, ...], list[str]] = {}
    for cell, names in changes:
        if names:
            found.setdefault(tuple(names), []).append(cell)
    for what, (first, *more) in found.items():
        others = f" and {counted(len(more), 'more cell')}" if more else ""
        verb = "has" if len(what) == 1 else "have"
        yield f"{first}{others}: {', '.join(what)} {verb}", not more


def _mapping(value: object) -> Mapping[str, Any]:
    """What was read from disk, if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _digest(module: str) -> str | None:
    """SHA-256 of the file of a module, None if it has none."""
    with contextlib.suppress(*UNKNOWN):
        return hashlib.sha256(_file(module).read_bytes()).hexdigest()
    return None


def _file(module: str) -> Path:
    """The file of a module, found without importing what it is in: a record may name any.

    Raises:
      ImportError: if there is none.
    """
    parts = module.split(".")
    place: Sequence[str] | None = None
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        found = (finder.find_spec(name, place) for finder in sys.meta_path)
        spec = next(filter(None, found), None)
        place = spec.submodule_search_locations if spec else None
        if place is None and end < len(parts):
            raise ImportError(f"{name} is no package")
    return Path((spec and spec.origin) or "")


def tell_of_other_code(members: Iterable[Member]) -> None:
    """Say what of the code has changed since runs were begun that go on, a line for all alike."""
    going_on = [(cell, folder, code(cell)) for cell, folder, checkpoint in members if checkpoint]
    changes = (
        (cell.id, _changed(_begun_with(folder.record, now), now)) for cell, folder, now in going_on
    )
    for begun, _ in _alike(changes):
        print(
            f"{begun} changed since training began; it goes on, perhaps to other bits, "
            "which run.json and the report say",
            file=sys.stderr,
        )


def _changed(first: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of two pieces of code, see `code`, differs so that bits may, in words.

    Of earlier records, which have no `source`, the commit tells; completed runs are not asked for it.
    """
    (was, own, versions), (is_, mine, present) = (
        [code.get(name) or {} for name in ("git", "own", "versions")] for code in (first, now)
    )
    source, commits = first.get("source"), {git.get("commit") for git in (was, is_)}
    edited = len(commits) > 1 if source is None else source != now["source"]
    ours = ["vfcompare's own code"] if edited else []
    modules = [name for name in sorted({*own, *mine}) if own.get(name) != mine.get(name)]
    packages = [
        f"{name} (was {versions.get(name)}, is {present.get(name)})"
        for name in DECISIVE
        if versions and versions.get(name) != present.get(name)
    ]
    return [*ours, *modules, *packages]
