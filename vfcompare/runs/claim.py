"""Who holds a run: of all processes, on this machine and on others, one at a time may write its files."""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from vfcompare.errors import ClaimLost
from vfcompare.runs.clock import age, now
from vfcompare.runs.disk import must_be_writable
from vfcompare.runs.lock import guard
from vfcompare.runs.naming import slug
from vfcompare.runs.store import make_folder, read_json, write_json

LOST_AFTER = 600.0
"""Seconds without a heartbeat after which a running cell counts as lost."""

CLAIM_BYTES = 10_000
"""More than any claim has."""

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


def _read(file: Path) -> dict[str, Any]:
    """What a claim says; studies may be of unknown origin, and a report would read a file of any size."""
    return read_json(file, CLAIM_BYTES)


def _here(claim: Mapping[str, Any]) -> bool:
    """Whether the process of a claim can be asked for."""
    return claim["host"] == socket.gethostname() and claim.get("place") in (None, place())


def _reused(claim: Mapping[str, Any]) -> bool:
    """Whether the number of a claim's process is by now that of one that began at another time."""
    began, now_there = claim.get("started"), started(int(claim["pid"]))
    return None not in (began, now_there) and began != now_there


class Claim:
    """The right of one process to write the files of a run: `claim.json`, which only one can create.

    It is stale when its process is gone, also where another one has its number by now, or, on another
    machine, when it is older than `LOST_AFTER` and so is the heartbeat, or when it is that of an earlier
    attempt of the same task of SLURM; of several who find a stale one, one takes it over.
    """

    def __init__(self, folder: Path) -> None:
        """Claim nothing yet.

        Args:
          folder: of the run, which need not exist.
        """
        self._folder, self._file = folder, folder / "claim.json"
        self._mine: dict[str, Any] | None = None

    @contextlib.contextmanager
    def hold(self) -> Iterator[bool]:
        """Hold the run for this process while the context is open; yields whether it could be had.

        Raises:
          InputError: if the folder cannot be written.
        """
        mine = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "time": now(),
            "task": os.environ.get(TASK, ""),
            "place": place(),
            "started": started(os.getpid()),
        }
        must_be_writable(self._folder)
        make_folder(self._folder)
        # Without the guard, who finds a claim stale could replace that of a process that was faster.
        with guard(self._folder.parent):
            got = _create(self._file, mine)
            if not got and self._stale():
                write_json(self._file, mine)
                got = True
        try:
            if got:
                self._mine = mine
            yield got
        finally:
            self._mine = None
            # One that cannot be read is left: it is stale with this process.
            with contextlib.suppress(OSError):
                if got and self._holds(mine):
                    self._file.unlink(missing_ok=True)

    def renew(self) -> None:
        """Say in the claim that it is still held, if it is."""
        mine = self._mine
        with contextlib.suppress(OSError, ClaimLost):
            self.must_hold()
            if mine is not None:
                write_json(self._file, mine | {"time": now()})

    def must_hold(self) -> None:
        """Refuse to write over the files of another process.

        One that slept for long, on a laptop or on a node that hung, may have been taken for lost.

        Raises:
          ClaimLost: if this process has claimed the run, and has it no longer.
          OSError: if the claim cannot be read: nobody need have taken it.
        """
        if self._mine is not None and not self._holds(self._mine):
            taken = self._file.exists()
            why = f"{self.owner} took it over" if taken else "somebody removed its claim"
            raise ClaimLost(f"{self._folder.name}: {why}; it is left alone from here on")

    def release(self, task: str) -> None:
        """Take the run from a task of SLURM that has ended, where that holds it still."""
        with contextlib.suppress(OSError, ValueError):
            if task and _read(self._file).get("task") == task:
                self._file.unlink()

    @property
    def owner(self) -> str:
        """Who holds the run, in words."""
        try:
            claim = _read(self._file)
            return f"process {int(claim['pid'])} on {slug(str(claim['host']))}"
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return "another process"

    @property
    def held(self) -> bool:
        """Whether a process holds the run, as far as is known."""
        return self._file.exists() and not self.abandoned

    @property
    def abandoned(self) -> bool:
        """Whether the process that held the run is known to be gone, and has not put it down."""
        return self._file.exists() and self._stale()

    def liveness(self, record: Mapping[str, Any]) -> tuple[str, str]:
        """What a run is that says running, and why: `running`, `lost` or `damaged`.

        As far as files and the processes of this machine tell. Reasons have no age in them, so that a report
        on the same files stays the same.

        Args:
          record: what its `run.json` says.
        """
        try:
            silent = self.silence(record) > LOST_AFTER
        except (ValueError, KeyError, TypeError) as error:
            return "damaged", f"heartbeat: {error}"
        if not self._file.exists():
            if self._ended():
                return "running", ""
            return "lost", "its process ended and could not say why, as on a full disk"
        if self.abandoned and self._near():
            return "lost", "its process is gone"
        if silent:
            return "lost", f"silent for more than {LOST_AFTER / 60:.0f} minutes"
        return "running", ""

    def silence(self, record: Mapping[str, Any]) -> float:
        """Seconds since the last sign of life: of the run, or of the claim, which is renewed meanwhile.

        Raises:
          ValueError, KeyError, TypeError: if the record has no heartbeat.
        """
        quiet = age(record["heartbeat"])
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            quiet = min(quiet, age(_read(self._file)["time"]))
        return quiet

    def _holds(self, mine: Mapping[str, Any]) -> bool:
        """Whether the claim is still that of this process: one that slept for long may have lost it.

        Raises:
          OSError: if that cannot be read.
        """
        try:
            # A claim may have been renewed.
            return _read(self._file) | {"time": None} == {**mine, "time": None}
        except (FileNotFoundError, ValueError):
            return False

    def _stale(self) -> bool:
        try:
            claim = _read(self._file)
            if claim.get("task") and claim["task"] == os.environ.get(TASK):
                # SLURM runs a task once at a time.
                return not (_here(claim) and claim["pid"] == os.getpid())
            if not _here(claim):
                return age(claim["time"]) > LOST_AFTER and self._silent()
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

    def _near(self) -> bool:
        """Whether the claim is not of another machine."""
        try:
            return _here(_read(self._file))
        except (OSError, ValueError, KeyError):
            return True

    def _silent(self) -> bool:
        """Whether the run itself has had no heartbeat for long.

        Raises:
          OSError: if that cannot be read.
        """
        try:
            return age(read_json(self._folder / "run.json")["heartbeat"]) > LOST_AFTER
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return True

    def _ended(self) -> bool:
        """Whether a run has ended since its record was read."""
        try:
            return read_json(self._folder / "run.json").get("status") != "running"
        except (OSError, ValueError):
            return False


@contextlib.contextmanager
def kept(claims: Collection[Claim]) -> Iterator[None]:
    """Renew claims now and then while the context is open: there may be no heartbeat for long."""
    over = threading.Event()

    def renew() -> None:
        while not over.wait(LOST_AFTER / 4):
            for claim in claims:
                claim.renew()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
