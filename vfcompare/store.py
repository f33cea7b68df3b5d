"""Files of a run: written whole or not at all, and read as data that is never executed.

<root>/<study>/plan.json              what was planned: the denominator of every report
<root>/<study>/<cell>-<hash>/
  run.json                            status, versions, times, command
  config.yaml                         resolved
  certificate.json                    what makes two runs comparable
  metrics.parquet                     a row per seed and update
  evaluation.parquet                  a row per seed and evaluation
  oracle.npz                          maps of mazes, where the lab is on
  checkpoint/                         where training stands
  tb/                                 a view for TensorBoard, made from the tables
"""

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = 1
"""Version of the layout and of what a configuration means; part of every run's name."""

LOST_AFTER = 600.0
"""Seconds without a heartbeat after which a running cell counts as lost."""

CHECKPOINTS = 2
"""How many are kept: the newest, and one to go back to."""

PACKAGES = ("vfcompare", "jax", "jaxlib", "flax", "optax", "rlax", "gymnasium", "numpy")

Table = dict[str, np.ndarray]


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader sees the old bytes or the new ones, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole."""
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
      ValueError: if the file does not hold one.
    """
    content = json.loads(path.read_text(encoding="utf-8"))
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


def _create(file: Path, content: Mapping[str, Any]) -> bool:
    """Create a file that must not exist yet; whether it could be."""
    try:
        handle = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(handle, "w", encoding="utf-8") as opened:
        json.dump(dict(content), opened)
    return True


class Checkpoint(NamedTuple):
    """Where training stood.

    Attributes:
      point: the last evaluation that had been made.
      state: bytes, verified.
      circumstances: under which it was made.
    """

    point: int
    state: bytes
    circumstances: dict[str, Any]


class RunFolder:
    """One run on disk.

    Attributes:
      path: its folder.
      record: what `run.json` says.
    """

    def __init__(self, path: Path) -> None:
        """Open a folder, which need not exist yet."""
        self.path = path
        file = path / "run.json"
        self.record: dict[str, Any] = read_json(file) if file.exists() else {}

    @property
    def completed(self) -> bool:
        """Whether nothing is left to do here."""
        return self.record.get("status") == "completed"

    def update(self, **fields: Any) -> None:
        """Change fields of `run.json`."""
        self.record |= fields | {"heartbeat": now()}
        write_json(self.path / "run.json", self.record)

    def begin(self, **fields: Any) -> None:
        """Record a new attempt."""
        attempt = int(self.record.get("attempt", 0)) + 1
        self.record = {"schema": SCHEMA, **fields}
        self.update(status="running", attempt=attempt, started=now(), message="")

    @contextlib.contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the run for this process while the context is open; yields whether it could be had.

        A claim is a file that only one process can create. It is stale when its process is gone, or, on
        another machine, when it has not been renewed for `LOST_AFTER`; of several who find a stale one, one
        can move it away.
        """
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "time": now()}
        file = self.path / "claim.json"
        self.path.mkdir(parents=True, exist_ok=True)
        got = _create(file, mine)
        if not got and self._stale(file):
            with contextlib.suppress(FileNotFoundError):
                os.replace(file, self.path / f".claim.{mine['host']}.{mine['pid']}")
                got = _create(file, mine)
            (self.path / f".claim.{mine['host']}.{mine['pid']}").unlink(missing_ok=True)
        if got:
            # What another process did before this one had the run.
            record = self.path / "run.json"
            self.record = read_json(record) if record.exists() else {}
        try:
            yield got and not self.completed
        finally:
            if got:
                file.unlink(missing_ok=True)

    def _stale(self, file: Path) -> bool:
        try:
            claim = read_json(file)
            if claim["host"] != socket.gethostname():
                return age({"heartbeat": claim["time"]}) > LOST_AFTER and self._silent()
            os.kill(int(claim["pid"]), 0)
        except ProcessLookupError:
            return True
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return False

    def _silent(self) -> bool:
        try:
            return age(read_json(self.path / "run.json")) > LOST_AFTER
        except (OSError, ValueError, KeyError):
            return True

    @property
    def owner(self) -> str:
        """Who holds the run, in words."""
        try:
            claim = read_json(self.path / "claim.json")
            return f"process {int(claim['pid'])} on {slug(str(claim['host']))}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def save_checkpoint(
        self, point: int, state: bytes, circumstances: Mapping[str, Any] | None = None
    ) -> None:
        """Keep the training state after an evaluation point, and the one before it.

        The state is written first, then the list of what there is, so that a kill between the two leaves the
        list as it was.

        Args:
          point: the last evaluation that was made.
          state: of the training.
          circumstances: what must be the same for the training to go on bit by bit.
        """
        folder = self.path / "checkpoint"
        known = self._checkpoints()
        number = 1 + max((int(entry["number"]) for entry in known), default=0)
        name = f"state-{number}.msgpack"
        write_bytes(folder / name, state)
        entry = {
            "number": number,
            "file": name,
            "point": point,
            "sha256": hashlib.sha256(state).hexdigest(),
            "circumstances": dict(circumstances or {}),
        }
        kept = [entry, *known][:CHECKPOINTS]
        write_json(folder / "checkpoints.json", {"schema": SCHEMA, "newest_first": kept})
        names = {str(entry["file"]) for entry in kept}
        for file in folder.glob("state-*.msgpack"):
            if file.name not in names:
                file.unlink(missing_ok=True)

    def _checkpoints(self) -> list[dict[str, Any]]:
        try:
            found = read_json(self.path / "checkpoint" / "checkpoints.json")["newest_first"]
            return [entry for entry in found if re.fullmatch(r"state-\d+\.msgpack", entry["file"])]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def load_checkpoint(self) -> Checkpoint | None:
        """The newest checkpoint whose bytes are those that were written, or None if there is none.

        A damaged one is named on the standard error stream, and the one before it taken.
        """
        for entry in self._checkpoints():
            file = self.path / "checkpoint" / str(entry["file"])
            try:
                state = file.read_bytes()
                if hashlib.sha256(state).hexdigest() == entry["sha256"]:
                    return Checkpoint(int(entry["point"]), state, dict(entry["circumstances"]))
                problem = "is not what was written"
            except (OSError, ValueError, KeyError, TypeError) as error:
                problem = f"cannot be read ({error})"
            print(f"vfcompare: {file} {problem}; going back to the one before", file=sys.stderr)
        return None


def write_plan(folder: Path, study: str, question: str | None, cells: list[dict[str, Any]]) -> None:
    """Record what a sweep is going to do; cells planned before stay planned."""
    file = folder / "plan.json"
    known = {}
    if file.exists():
        known = {cell["id"]: cell for cell in read_json(file).get("cells", [])}
    known |= {cell["id"]: cell for cell in cells}
    write_json(
        file,
        {
            "schema": SCHEMA,
            "study": study,
            "question": question,
            "created": now(),
            "cells": list(known.values()),
        },
    )


def planned(study: Path) -> dict[str, dict[str, Any]]:
    """The cells of a plan by name; none where there is no plan.

    Raises:
      ValueError: if the plan is damaged.
    """
    file = study / "plan.json"
    if not file.exists():
        return {}
    cells = read_json(file).get("cells", [])
    return {str(cell["id"]): dict(cell) for cell in cells}


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
