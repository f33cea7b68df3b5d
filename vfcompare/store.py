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

import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = 1
"""Version of the layout and of what a configuration means; part of every run's name."""

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

    @property
    def point(self) -> int | None:
        """The evaluation point of the last sound checkpoint, or None."""
        found = self.load_checkpoint()
        return None if found is None else found[0]

    def update(self, **fields: Any) -> None:
        """Change fields of `run.json`."""
        self.record |= fields | {"heartbeat": now()}
        write_json(self.path / "run.json", self.record)

    def begin(self, **fields: Any) -> None:
        """Record a new attempt."""
        attempt = int(self.record.get("attempt", 0)) + 1
        self.record = {"schema": SCHEMA, **fields}
        self.update(status="running", attempt=attempt, started=now(), message="")

    def save_checkpoint(self, point: int, state: bytes) -> None:
        """Keep the training state after an evaluation point, with its hash."""
        folder = self.path / "checkpoint"
        write_bytes(folder / "state.msgpack", state)
        content = {"point": point, "sha256": hashlib.sha256(state).hexdigest()}
        write_json(folder / "state.json", content)

    def load_checkpoint(self) -> tuple[int, bytes] | None:
        """The evaluation point and state of the last checkpoint, or None if there is no sound one."""
        folder = self.path / "checkpoint"
        try:
            content = read_json(folder / "state.json")
            state = (folder / "state.msgpack").read_bytes()
        except (OSError, ValueError):
            return None
        sound = hashlib.sha256(state).hexdigest() == content.get("sha256")
        return (int(content["point"]), state) if sound else None


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
