"""Files of a run: written whole or not at all, and read as data that is never executed.

<root>/<study>/plan.json              what was planned: the denominator of every report
<root>/<study>/<cell>-<hash>/
  run.json                            status, versions, times, command
  config.yaml                         resolved
  certificate.json                    what makes two runs comparable
  metrics.parquet                     a row per seed and update
  evaluation.parquet                  a row per seed and evaluation
  paths.npz                           what the median and the worst run do in the end, in pictures
  oracle.npz                          maps of mazes, where the lab is on
  checkpoint/                         where training stands
  tb/                                 a view for TensorBoard, made from the tables
"""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vfcompare.errors import InputError

SCHEMA = 1
"""Version of the layout and of what a configuration means; part of every run's name."""

LOST_AFTER = 600.0
"""Seconds without a heartbeat after which a running cell counts as lost."""

CHECKPOINTS = 2
"""How many are kept: the newest, and one to go back to."""

TASK = "VFCOMPARE_TASK"
"""Variable that says which task of SLURM, and nobody else, runs in this process."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system answers where a disk, a quota or the largest allowed file is full."""

PACKAGES = ("vfcompare", "jax", "jaxlib", "flax", "optax", "rlax", "gymnasium", "numpy")

Table = dict[str, np.ndarray]


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Replace an `npz` file in one step."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_bytes(path, content.getvalue())


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader sees the old bytes or the new ones, also after a power cut."""
    name = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        make_folder(path.parent)
        with open(name, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
        sync_folder(path.parent)
    except OSError as error:
        # A full disk does not say which file it had no room for.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        name.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, so that a power cut does not lose them."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Bring the names of a folder to the disk: a new name is in its folder, not in its file.

    Nothing is done where folders cannot be opened, as on Windows, or the file system does not know how.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


def no_room(error: OSError) -> str:
    """What to do about a full disk, in one line; nothing for any other error."""
    if error.errno not in FULL:
        return ""
    where = Path(str(error.filename or ".")).absolute()
    what = where if error.filename else f"a file below {where}"
    there = next(folder for folder in (where, *where.parents) if folder.exists())
    mount = next(folder for folder in (there, *there.parents) if os.path.ismount(folder))
    room = ""
    with contextlib.suppress(OSError, AttributeError):
        disk = os.statvfs(mount)
        room = (
            f" with {disk.f_bavail * disk.f_frsize / 1e6:,.1f} MB and {disk.f_favail:,} files free"
        )
    return (
        f"{what} could not be written: {error.strerror} (file system {mount}{room}); what was saved before "
        "is whole: make room, or raise the quota, and the same command goes on from there"
    )


@contextlib.contextmanager
def one_line_about_full_disks() -> Iterator[None]:
    """Keep threads from printing a traceback about a full disk: whoever waits for them hears of it, too."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, OSError) or not no_room(args.exc_value):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


@contextlib.contextmanager
def guard(folder: Path) -> Iterator[None]:
    """Let one process at a time look and write; the system ends it with the process, also after a kill.

    It is held for moments. Where a file system has no locks, or Python none for the system, it does nothing.
    """
    make_folder(folder)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    try:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def sweep_up(folder: Path) -> None:
    """Remove what killed processes had begun to write; nobody else may be writing there."""
    for file in folder.glob(".*.tmp"):
        file.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole."""
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
      ValueError: if the file does not hold one.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return content


def write_table(path: Path, table: Table) -> None:
    """Write columns of equal length as Parquet with page checksums."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(table)), sink, compression="zstd", write_page_checksum=True)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_table(path: Path) -> Table:
    """Read the columns of a Parquet file, verifying its checksums."""
    table = pq.read_table(path, page_checksum_verification=True)
    return {name: table[name].to_numpy() for name in table.column_names}


def concatenate(tables: list[Table]) -> Table:
    """Stack tables of the same columns."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def order(table: Table, *keys: str) -> Table:
    """Sort rows by the given columns, the first one foremost."""
    rows = np.lexsort([table[key] for key in reversed(keys)])
    return {name: column[rows] for name, column in table.items()}


def digest(content: Any) -> str:
    """SHA-256 of anything that JSON can say, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def slug(text: str, limit: int = 80) -> str:
    """A name that is safe as a folder: letters, digits, `=._-`; anything else becomes a dash."""
    return re.sub(r"[^A-Za-z0-9=._-]+", "-", text).strip("-.")[:limit] or "run"


def cell_id(agent: str, env: str, settings: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """The folder of a run: what it is, in words, and a hash of its whole configuration."""
    words = [env, agent, *(f"{key}={value}" for key, value in sorted(settings.items()))]
    return f"{slug('-'.join(words))}-{digest([SCHEMA, config])[:10]}"


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def age(record: Mapping[str, Any]) -> float:
    """Seconds since the last sign of life in a `run.json`."""
    beat = datetime.fromisoformat(str(record["heartbeat"]))
    return (datetime.now(UTC) - beat).total_seconds()


def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on, without importing them."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def git_state() -> dict[str, Any]:
    """Commit of the source tree and whether it was changed; empty outside of a repository."""

    def git(*args: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(
            ["git", "-C", here, *args], capture_output=True, text=True, timeout=10
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(git("status", "--porcelain"))} if commit else {}
    except (OSError, subprocess.SubprocessError):
        return {}


def place() -> str:
    """Where the number of a process means something: a machine since its start, and a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _create(file: Path, content: Mapping[str, Any]) -> bool:
    """Create a file that must not exist yet; whether it could be."""
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            json.dump(dict(content), opened)
    except OSError as error:
        file.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(file)) from error
    return True


class Checkpoint(NamedTuple):
    """Where training stood.

    Attributes:
      point: the last evaluation that had been made.
      state: bytes, verified.
      circumstances: under which it was made.
      seconds: spent on what led there, by kind; what a kill threw away is not in them.
    """

    point: int
    state: bytes
    circumstances: dict[str, Any]
    seconds: dict[str, float]


def seal(entry: Mapping[str, Any], state: bytes) -> str:
    """SHA-256 of a checkpoint and of all that is said about it."""
    said = {key: value for key, value in entry.items() if key != "sha256"}
    return hashlib.sha256(digest(said).encode() + state).hexdigest()


class ClaimLost(Exception):
    """A run that this process trained is another's by now, or its folder is gone; it was not touched."""


class RunFolder:
    """One run on disk.

    Attributes:
      path: its folder.
      record: what `run.json` says.
      damage: files of checkpoints that could not be used.
    """

    def __init__(self, path: Path, record: dict[str, Any] | None = None) -> None:
        """Open a folder, which need not exist yet.

        Args:
          path: of the folder.
          record: what `run.json` says, where it was read before.
        """
        self.path = path
        self.record: dict[str, Any] = self._read() if record is None else record
        self.damage: list[str] = []
        self._claim: dict[str, Any] | None = None

    def _read(self) -> dict[str, Any]:
        file = self.path / "run.json"
        try:
            return read_json(file) if file.exists() else {}
        except (OSError, ValueError) as error:
            raise InputError(
                f"{file} is damaged ({error}); remove its folder to begin the run anew"
            ) from error

    @property
    def completed(self) -> bool:
        """Whether nothing is left to do here."""
        return self.record.get("status") == "completed"

    def update(self, **fields: Any) -> None:
        """Change fields of `run.json`; see `must_hold`."""
        self.must_hold()
        self.record |= fields | {"heartbeat": now()}
        write_json(self.path / "run.json", self.record)

    def begin(self, **fields: Any) -> None:
        """Record a new attempt."""
        attempt = int(self.record.get("attempt", 0)) + 1
        self.record = {"schema": SCHEMA, **fields, "task": os.environ.get(TASK, "")}
        self.update(status="running", attempt=attempt, started=now(), message="")

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the run for this process while the context is open; yields whether it could be had.

        A claim is a file that only one process can create. It is stale when its process is gone, or, on
        another machine, when it is older than `LOST_AFTER` and so is the heartbeat, or when it is that of an
        earlier attempt of the same task of SLURM; of several who find a stale one, one takes it over.
        """
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "time": now()}
        mine |= {"task": os.environ.get(TASK, ""), "place": place()}
        file = self.path / "claim.json"
        self._stay_inside()
        make_folder(self.path)
        # Without the guard, who finds a claim stale could replace that of a process that was faster.
        with guard(self.path.parent):
            got = _create(file, mine)
            if not got and self._stale(file):
                write_json(file, mine)
                got = True
        try:
            if got:
                self._claim = mine
                # What another process did before this one had the run.
                self.record = self._read()
                for folder in (self.path, self.path / "checkpoint"):
                    sweep_up(folder)
            yield got and not self.completed
        finally:
            self._claim = None
            if got and self._holds(mine):
                file.unlink(missing_ok=True)

    def must_hold(self) -> None:
        """Refuse to write over the files of another process.

        One that slept for long, on a laptop or on a node that hung, may have been taken for lost.

        Raises:
          ClaimLost: if this process has claimed the run, and has it no longer.
        """
        if self._claim is not None and not self._holds(self._claim):
            taken = (self.path / "claim.json").exists()
            why = f"{self.owner} took it over" if taken else "somebody removed its claim"
            raise ClaimLost(f"{self.path.name}: {why}; it is left alone from here on")

    def _stay_inside(self) -> None:
        """Refuse to write where links lead.

        Raises:
          InputError: that names the link.
        """
        for path in (self.path, self.path / "checkpoint", self.path / "tb"):
            if path.is_symlink():
                raise InputError(f"{path} is a link; allowed: folders within the study")

    def _holds(self, mine: Mapping[str, Any]) -> bool:
        """Whether the claim is still that of this process: one that slept for long may have lost it."""
        try:
            return read_json(self.path / "claim.json") == mine
        except (OSError, ValueError):
            return False

    def _stale(self, file: Path) -> bool:
        try:
            claim = read_json(file)
            here = claim["host"] == socket.gethostname() and claim.get("place") in (None, place())
            if claim.get("task") and claim["task"] == os.environ.get(TASK):
                # SLURM runs a task once at a time.
                return not (here and claim["pid"] == os.getpid())
            if not here:
                return age({"heartbeat": claim["time"]}) > LOST_AFTER and self._silent()
            os.kill(int(claim["pid"]), 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        except (ValueError, KeyError, TypeError, OverflowError):
            # Whoever created it was killed before it was written.
            return True
        return False

    def _silent(self) -> bool:
        try:
            return age(read_json(self.path / "run.json")) > LOST_AFTER
        except (OSError, ValueError, KeyError):
            return True

    @property
    def abandoned(self) -> bool:
        """Whether the process that held the run is known to be gone, and has not put it down."""
        file = self.path / "claim.json"
        return file.exists() and self._stale(file)

    def release(self, task: str) -> None:
        """Take the run from a task of SLURM that has ended, where that holds it still."""
        file = self.path / "claim.json"
        with contextlib.suppress(OSError, ValueError):
            if task and read_json(file).get("task") == task:
                file.unlink()

    @property
    def owner(self) -> str:
        """Who holds the run, in words."""
        try:
            claim = read_json(self.path / "claim.json")
            return f"process {int(claim['pid'])} on {slug(str(claim['host']))}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def save_checkpoint(
        self,
        point: int,
        state: bytes,
        circumstances: Mapping[str, Any] | None = None,
        seconds: Mapping[str, float] | None = None,
    ) -> None:
        """Keep the training state after an evaluation point, and the one before it.

        The state is written first, then the list of what there is, so that a kill between the two leaves the
        list as it was.

        Args:
          point: the last evaluation that was made.
          state: of the training.
          circumstances: what must be the same for the training to go on bit by bit.
          seconds: that led there.

        Raises:
          ClaimLost: see `must_hold`.
        """
        self.must_hold()
        folder = self.path / "checkpoint"
        try:
            known = self._checkpoints()
        except (OSError, ValueError, KeyError, TypeError):
            known = []
        known = [entry for entry in known if f"checkpoint/{entry['file']}" not in self.damage]
        number = 1 + max((int(entry["number"]) for entry in known), default=0)
        name = f"state-{number}.msgpack"
        write_bytes(folder / name, state)
        entry = {
            "number": number,
            "file": name,
            "point": point,
            "circumstances": dict(circumstances or {}),
            "seconds": dict(seconds or {}),
        }
        entry["sha256"] = seal(entry, state)
        kept = [entry, *known][:CHECKPOINTS]
        write_json(folder / "checkpoints.json", {"schema": SCHEMA, "newest_first": kept})
        self._keep(kept)

    def _keep(self, entries: list[dict[str, Any]]) -> None:
        """Remove the checkpoints that are not listed."""
        names = {str(entry["file"]) for entry in entries}
        for file in (self.path / "checkpoint").glob("state-*.msgpack"):
            if file.name not in names:
                file.unlink(missing_ok=True)

    def _checkpoints(self) -> list[dict[str, Any]]:
        file = self.path / "checkpoint" / "checkpoints.json"
        if not file.exists():
            return []
        content = read_json(file)
        if content["schema"] != SCHEMA:
            raise InputError(
                f"{file} has layout {content['schema']!r}, this version reads {SCHEMA}; allowed: the version "
                "that wrote it, or a new folder"
            )
        found = [dict(entry) for entry in content["newest_first"]]
        if not all(re.fullmatch(r"state-\d+\.msgpack", str(entry["file"])) for entry in found):
            raise ValueError("it names files that are not checkpoints")
        return found

    def load_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint whose bytes are those that were written, or None if there is none.

        What is damaged is named on the standard error stream, and the checkpoint before it taken. With none
        left, and also where the tables that led to it are damaged, training begins anew: it ends with the
        same bits, only later.

        Raises:
          InputError: if they were written by another version, in another layout.
        """
        self.damage = []
        try:
            known = self._checkpoints()
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            self._distrust("checkpoint/checkpoints.json", f"cannot be read ({error})")
            known = []
        for entry in known:
            name = f"checkpoint/{entry['file']}"
            try:
                state = (self.path / name).read_bytes()
                if seal(entry, state) != entry["sha256"]:
                    raise ValueError("it is not what was written")
                circumstances, seconds = entry["circumstances"], entry.get("seconds", {})
                found = Checkpoint(int(entry["point"]), state, dict(circumstances), dict(seconds))
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._distrust(name, f"cannot be used ({error})")
            else:
                # A kill may have come between the list and what it no longer needs.
                self._keep(known)
                if self._tables_whole():
                    return found
                break
        if self.damage:
            told = "no whole checkpoint is left, training begins anew"
            print(f"vfcompare: {self.path.name}: {told}", file=sys.stderr)
        return None

    def _tables_whole(self) -> bool:
        for name in ("metrics.parquet", "evaluation.parquet"):
            try:
                read_table(self.path / name)
            except (OSError, ValueError) as error:
                self._distrust(name, f"cannot be read ({error})")
        return not any(name.endswith(".parquet") for name in self.damage)

    def _distrust(self, name: str, problem: str) -> None:
        self.damage.append(name)
        print(f"vfcompare: {self.path / name} {problem}", file=sys.stderr)


DECIDED = ("contrast", "metric", "margin", "threshold")
"""What a study decides before its first run."""


def write_plan(folder: Path, study: Mapping[str, Any], cells: list[dict[str, Any]]) -> None:
    """Record what a sweep is going to do; cells planned before stay planned.

    Args:
      folder: of the study.
      study: its `name` and `question`, and what it has `DECIDED`.
      cells: to be trained.

    Raises:
      InputError: if the study was begun with other decisions: results may be known by now.
    """
    # Two sweeps of a study that begin together would each write what it had read, and its own cells.
    with guard(folder):
        sweep_up(folder)
        known = planned(folder) | {cell["id"]: cell for cell in cells}
        decided = {name: study[name] for name in DECIDED if name in study}
        if (folder / "plan.json").exists():
            begun = dict(read_json(folder / "plan.json").get("decided") or {})
            for name in begun.keys() & decided.keys():
                if decided[name] != begun[name]:
                    raise InputError(
                        f"study.{name}={decided[name]} is not allowed: {folder} was begun with "
                        f"{begun[name]}, and its results may be known; allowed: "
                        f"study.{name}={begun[name]}, or another study.name"
                    )
            late = [
                f"study.{name}={decided[name]}"
                for name in decided.keys() - begun.keys()
                if decided[name]
            ]
            if begun and late:
                told = f"{', '.join(sorted(late))} comes too late: {folder} was begun without"
                print(f"vfcompare: {told}, and its results may be known", file=sys.stderr)
            decided = begun
        write_json(
            folder / "plan.json",
            {
                "schema": SCHEMA,
                "study": study["name"],
                "question": study.get("question"),
                "decided": decided,
                "figures": list(study.get("figures") or []),
                "created": now(),
                "cells": list(known.values()),
            },
        )


def planned(study: Path) -> dict[str, dict[str, Any]]:
    """The cells of a plan by name; none where there is no plan.

    Raises:
      InputError: if the plan is damaged, or names cells that are not folders of the study.
    """
    file = study / "plan.json"
    if not file.exists():
        return {}
    try:
        cells = {str(cell["id"]): dict(cell) for cell in read_json(file)["cells"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged ({type(error).__name__}: {error})") from error
    for name in cells:
        if slug(name, len(name)) != name:
            raise InputError(
                f"{file} names a cell {name[:80]!r}, which cannot be a folder of a study"
            )
    return cells


def runs(study: Path) -> list[Path]:
    """Folders below a study that hold a run."""
    return sorted(file.parent for file in study.glob("*/run.json"))


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        """Start."""
        self._begin = time.monotonic()

    def __call__(self) -> float:
        """Read."""
        return time.monotonic() - self._begin
