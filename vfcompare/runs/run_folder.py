"""One run on disk: how far it has come, and where its training can go on."""

import contextlib
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vfcompare.errors import Damaged, InputError
from vfcompare.runs.claim import TASK, Claim
from vfcompare.runs.clock import now
from vfcompare.runs.disk import patiently, stay_inside
from vfcompare.runs.naming import digest
from vfcompare.runs.store import (
    SCHEMA,
    later,
    opened,
    read_json,
    read_table,
    sweep_up,
    write_bytes,
    write_json,
)

CHECKPOINTS = 2
"""How many are kept: the newest, and one to go back to."""

MAGIC = b"PAR1"
"""Begins and ends a file of Parquet; between them stands the length of its footer, in as many bytes."""

ENDS = {"evaluation.parquet": MAGIC, "metrics.parquet": MAGIC, "config.yaml": b"\n"}
"""What files of a completed run end with; the evaluations are what is compared, and must be there."""


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


def torn(path: Path) -> str:
    """Which file of a completed run is missing or has lost its end, in words; empty if none has.

    By last bytes alone, which are written last, so that thousands of runs take no time: whatever else is
    wrong, the report finds.
    """
    for name, end in ENDS.items():
        try:
            with opened(path / name, sys.maxsize) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(-min(size, len(end)), os.SEEK_END)
                if (end == MAGIC and size <= 3 * len(MAGIC)) or file.read() != end:
                    return f"{name} has lost its end"
        except FileNotFoundError:
            if name == "evaluation.parquet":
                return f"{name} is missing"
        except ValueError as error:
            return f"{name}: {error}"
        except OSError:
            continue
    return ""


def seal(entry: Mapping[str, Any], state: bytes) -> str:
    """SHA-256 of a checkpoint and of all that is said about it."""
    said = {key: value for key, value in entry.items() if key != "sha256"}
    return hashlib.sha256(digest(said).encode() + state).hexdigest()


class RunFolder:
    """One run on disk.

    Attributes:
      path: its folder.
      claim: who may write there.
      record: what `run.json` says.
      damage: files of checkpoints that could not be used.
      begun: whether an attempt was recorded since the run was claimed.
    """

    def __init__(self, path: Path) -> None:
        """Open a folder, which need not exist yet."""
        self.path = path
        self.claim = Claim(path)
        self.record: dict[str, Any] = self._read()
        self.damage: list[str] = []
        self.begun = False

    def _read(self) -> dict[str, Any]:
        """What `run.json` says; nothing where there is none.

        Raises:
          InputError: if it is of a later version, or cannot be read, by which nothing is lost.
          Damaged: if it is not what was written.
        """
        file = self.path / "run.json"
        try:
            record = read_json(file)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except OSError as error:
            raise InputError(
                f"{file} cannot be read ({error.strerror}); allowed: a file that you may read, or the same "
                "command again where that passes"
            ) from error
        except ValueError as error:
            raise Damaged(
                f"{file} is damaged ({error}); remove its folder to begin the run anew"
            ) from error
        if told := later(record):
            raise InputError(
                f"{file} {told}; allowed: the version that wrote it, or another study.name"
            )
        return record

    @property
    def completed(self) -> bool:
        """Whether nothing is left to do here."""
        return self.record.get("status") == "completed"

    def update(self, **fields: Any) -> None:
        """Change fields of `run.json`; see `vfcompare.runs.claim.Claim.must_hold`."""
        self.claim.must_hold()
        self.record |= fields | {"heartbeat": now()}
        write_json(self.path / "run.json", self.record)

    def begin(self, **fields: Any) -> None:
        """Record a new attempt."""
        attempt = int(self.record.get("attempt", 0)) + 1
        self.record = {"schema": SCHEMA, **fields, "task": os.environ.get(TASK, "")}
        self.update(status="running", attempt=attempt, started=now(), message="")
        self.begun = True

    @contextlib.contextmanager
    def hold(self) -> Iterator[bool]:
        """Claim the run while the context is open; yields whether it is this process's to train.

        Raises:
          InputError: if the folder cannot be written, or is a link.
        """
        stay_inside(self.path, self.path / "checkpoint", self.path / "tb")
        with self.claim.hold() as got:
            if got:
                self.begun = False
                # What another process did before this one had the run.
                self.record = self._read()
                for folder in (self.path, self.path / "checkpoint"):
                    sweep_up(folder)
            yield got and not self.completed

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
          ClaimLost: see `vfcompare.runs.claim.Claim.must_hold`.
        """
        self.claim.must_hold()
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
                state = patiently((self.path / name).read_bytes)
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
