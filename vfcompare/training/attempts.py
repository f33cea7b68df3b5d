"""What `run.json` says of an attempt at a cell: by which code, how, and whether it goes on bit by bit."""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec
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
    """SHA-256 of the files of the user's own modules, by module.

    Those that parts name by `_target_`, and what these import by a statement anywhere in them, and so on, as
    far as it is neither ours nor installed. Nothing is imported to find that out: what is there in one
    attempt and not in the next would else depend on what was imported by then.
    """
    named = {target.rpartition(".")[0] for target in made_by(config, lists=True).values()}
    first = [module for module in sorted(named) if module.partition(".")[0] != "vfcompare"]
    found: dict[str, str] = {}
    waiting = [*first, *_own(_upwards(first))]
    for module in waiting:
        with contextlib.suppress(*UNKNOWN):
            if module not in found:
                file = _file(module)
                content = file.read_bytes()
                found[module] = hashlib.sha256(content).hexdigest()
                if not _installed(module.partition(".")[0]):
                    package = module if file.stem == "__init__" else module.rpartition(".")[0]
                    waiting += _own(_upwards(_imports(content, package)))
    return dict(sorted(found.items()))


def _own(modules: Iterable[str]) -> list[str]:
    """Those of some modules that are the user's own."""
    tops = ((module, module.partition(".")[0]) for module in modules)
    return [name for name, top in tops if top != "vfcompare" and not _installed(top)]


def _upwards(modules: Iterable[str]) -> list[str]:
    """Modules and the packages that they are in, which importing them executes."""
    parts = (module.split(".") for module in modules)
    return [".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)]


@functools.cache
def _imports(content: bytes, package: str) -> tuple[str, ...]:
    """What a module's statements may import; of `from a import b` also `a.b`, which may be no module.

    Args:
      content: of its file.
      package: that it is in, or is.
    """
    found: list[str] = []
    # Not Python, such as a compiled module, or not to be read: then its own file is all that is known.
    with contextlib.suppress(SyntaxError, ValueError, RecursionError):
        for node in ast.walk(ast.parse(content)):
            if isinstance(node, ast.Import):
                found += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                place = "." * node.level + (node.module or "")
                with contextlib.suppress(ImportError):
                    base = importlib.util.resolve_name(place, package)
                    found += [base, *(f"{base}.{a.name}" for a in node.names if a.name != "*")]
    return tuple(dict.fromkeys(found))


@functools.cache
def _installed(top: str) -> bool:
    """Whether a package or module is Python's, or was installed: versions tell what it is."""
    if top in sys.stdlib_module_names:
        return True
    with contextlib.suppress(*UNKNOWN):
        spec = _spec(top)
        places = [spec.origin or "", *(spec.submodule_search_locations or ())] if spec else []
        return any({"site-packages", "dist-packages"} & {*Path(place).parts} for place in places)
    return False


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
    """The file of a module, see `_spec`.

    Raises:
      ImportError: if there is none.
    """
    spec = _spec(module)
    return Path((spec and spec.origin) or "")


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is, found without importing what it is in: a record may name any.

    Raises:
      ImportError: if what it is in is no package.
    """
    parts = module.split(".")
    spec: ModuleSpec | None = None
    place: Sequence[str] | None = None
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        found = (finder.find_spec(name, place) for finder in sys.meta_path)
        try:
            spec = next(filter(None, found), None)
            inside = spec.submodule_search_locations if spec else None
        except LookupError:
            # A folder without __init__.py asks the package that it is in, which was not imported.
            spec, inside = None, [str(Path(folder, parts[end - 1])) for folder in place or ()]
        place = inside
        if place is None and end < len(parts):
            raise ImportError(f"{name} is no package")
    return spec


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
    # Another version of ours may have looked at fewer modules.
    looked = {*own, *mine} if source == now.get("source") else own
    modules = [name for name in sorted(looked) if own.get(name) != mine.get(name)]
    packages = [
        f"{name} (was {versions.get(name)}, is {present.get(name)})"
        for name in DECISIVE
        if versions and versions.get(name) != present.get(name)
    ]
    return [*ours, *modules, *packages]
