"""One run on disk: who trains it, how far it has come, and where its training can go on."""

import contextlib
import hashlib
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vfcompare.errors import ClaimLost, InputError
from vfcompare.runs.store import (
    SCHEMA,
    age,
    digest,
    guard,
    make_folder,
    must_be_writable,
    now,
    read_json,
    read_table,
    slug,
    sweep_up,
    write_bytes,
    write_json,
)

LOST_AFTER = 600.0
"""Seconds without a heartbeat after which a running cell counts as lost."""

CLAIM_BYTES = 10_000
"""More than any claim has."""

CHECKPOINTS = 2
"""How many are kept: the newest, and one to go back to."""

TASK = "VFCOMPARE_TASK"
"""Variable that says which task of SLURM, and nobody else, runs in this process."""


def place() -> str:
    """Where the number of a process means something: a machine since its start, and a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started(pid: int) -> int | None:
    """When a process of this machine began, in ticks since the machine did; None where nobody tells."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        # The name of the program, in parentheses, may have blanks and parentheses in it.
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


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


def _claim(file: Path) -> dict[str, Any]:
    """What a claim says; studies may be of unknown origin, and a report would read a file of any size."""
    if file.stat().st_size > CLAIM_BYTES:
        raise ValueError("larger than any claim")
    return read_json(file)


def _here(claim: Mapping[str, Any]) -> bool:
    """Whether the process of a claim can be asked for."""
    return claim["host"] == socket.gethostname() and claim.get("place") in (None, place())


def _reused(claim: Mapping[str, Any]) -> bool:
    """Whether the number of a claim's process is by now that of one that began at another time."""
    began, now_there = claim.get("started"), started(int(claim["pid"]))
    return None not in (began, now_there) and began != now_there


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


class RunFolder:
    """One run on disk.

    Attributes:
      path: its folder.
      record: what `run.json` says.
      damage: files of checkpoints that could not be used.
      begun: whether an attempt was recorded since the run was claimed.
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
        self.begun = False
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
        self.begun = True

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the run for this process while the context is open; yields whether it could be had.

        A claim is a file that only one process can create. It is stale when its process is gone, also where
        another one has its number by now, or, on another machine, when it is older than `LOST_AFTER` and so
        is the heartbeat, or when it is that of an earlier attempt of the same task of SLURM; of several who
        find a stale one, one takes it over.

        Raises:
          InputError: if the folder cannot be written, or is a link.
        """
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "time": now()}
        mine |= {
            "task": os.environ.get(TASK, ""),
            "place": place(),
            "started": started(os.getpid()),
        }
        file = self.path / "claim.json"
        self._stay_inside()
        must_be_writable(self.path)
        make_folder(self.path)
        # Without the guard, who finds a claim stale could replace that of a process that was faster.
        with guard(self.path.parent):
            got = _create(file, mine)
            if not got and self._stale(file):
                write_json(file, mine)
                got = True
        try:
            if got:
                self._claim, self.begun = mine, False
                # What another process did before this one had the run.
                self.record = self._read()
                for folder in (self.path, self.path / "checkpoint"):
                    sweep_up(folder)
            yield got and not self.completed
        finally:
            self._claim = None
            if got and self._holds(mine):
                file.unlink(missing_ok=True)

    def renew(self) -> None:
        """Say in the claim that it is still held, if it is."""
        claim = self._claim
        with contextlib.suppress(OSError, ClaimLost):
            self.must_hold()
            if claim is not None:
                write_json(self.path / "claim.json", claim | {"time": now()})

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
            # A claim may have been renewed.
            return read_json(self.path / "claim.json") | {"time": None} == {**mine, "time": None}
        except (OSError, ValueError):
            return False

    def _stale(self, file: Path) -> bool:
        try:
            claim = _claim(file)
            if claim.get("task") and claim["task"] == os.environ.get(TASK):
                # SLURM runs a task once at a time.
                return not (_here(claim) and claim["pid"] == os.getpid())
            if not _here(claim):
                return age({"heartbeat": claim["time"]}) > LOST_AFTER and self._silent()
            # Another user's process may not be asked, and is there.
            with contextlib.suppress(PermissionError):
                os.kill(int(claim["pid"]), 0)
            return _reused(claim)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        except (ValueError, KeyError, TypeError, OverflowError):
            # Whoever created it was killed before it was written.
            return True

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

    @property
    def liveness(self) -> tuple[str, str]:
        """What a run is that says running, and why: `running`, `lost` or `damaged`.

        As far as files and the processes of this machine tell. Reasons have no age in them, so that a report
        on the same files stays the same.
        """
        try:
            silent = age(self.record) > LOST_AFTER
        except (ValueError, KeyError, TypeError) as error:
            return "damaged", f"heartbeat: {error}"
        if not (self.path / "claim.json").exists():
            if self._ended:
                return "running", ""
            return "lost", "its process ended and could not say why, as on a full disk"
        if self.abandoned and self._near:
            return "lost", "its process is gone"
        if silent:
            return "lost", f"silent for more than {LOST_AFTER / 60:.0f} minutes"
        return "running", ""

    @property
    def _ended(self) -> bool:
        """Whether a run has ended since its record was read."""
        try:
            return read_json(self.path / "run.json").get("status") != "running"
        except (OSError, ValueError):
            return False

    @property
    def _near(self) -> bool:
        """Whether the claim is not of another machine."""
        try:
            return _here(_claim(self.path / "claim.json"))
        except (OSError, ValueError, KeyError):
            return True

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


@contextlib.contextmanager
def kept(folders: Collection[RunFolder]) -> Iterator[None]:
    """Renew claims now and then while the context is open: there may be no heartbeat for long."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LOST_AFTER / 4):
            for folder in folders:
                folder.renew()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
