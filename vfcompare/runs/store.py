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
import io
import json
import os
import secrets
import stat
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vfcompare.runs.disk import patiently

SCHEMA = 1
"""Version of the layout and of what a configuration means; part of every run's name."""

JSON_BYTES = 64_000_000
"""More than any plan or record has."""

ABANDONED_AFTER = 600.0
"""Seconds after which nobody is writing a temporary file any more."""

Table = dict[str, np.ndarray]


def later(content: Mapping[str, Any]) -> str:
    """Which later version wrote a plan or a record, in words; nothing where this one knows its layout."""
    layout = content.get("schema")
    if not isinstance(layout, int) or layout <= SCHEMA:
        return ""
    return f"was written by a later version (layout {str(layout)[:20]}, this one reads {SCHEMA})"


@contextlib.contextmanager
def opened(path: Path, limit: int) -> Iterator[BinaryIO]:
    """Open a file of unknown origin to read it: one that ends, of at most `limit` bytes, and no link.

    A pipe, a device or a folder would be waited for, or read without end.

    Raises:
      ValueError: that says why it is not read.
      OSError: if it cannot be opened.
    """
    wanted = ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in wanted)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError("a link") from error
        raise
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a regular file")
        if about.st_size > limit:
            raise ValueError("larger than the limit")
        with open(handle, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(handle)


def bounded(path: Path, limit: int) -> bytes:
    """The bytes of a file of unknown origin, at most `limit`; see `opened`.

    Raises:
      ValueError: that says why it is not read.
      OSError: if it cannot be read, also after some patience.
    """

    def read() -> bytes:
        with opened(path, limit) as file:
            return file.read(limit + 1)

    content = patiently(read)
    if len(content) > limit:
        # The size that a file states need not be the one it has.
        raise ValueError("larger than the limit")
    return content


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
        # Another machine may have made it a moment ago, and a network does not show it yet.
        patiently(lambda: path.mkdir(exist_ok=True), (errno.EEXIST,))
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


def sweep_up(folder: Path, *, older: float = 0.0, of: Collection[str] | None = None) -> None:
    """Remove what killed processes had begun to write.

    Args:
      folder: where nobody else is writing, or what is swept is old enough.
      older: seconds since it was written to.
      of: names of the files that it was to become; any if None.
    """
    for file in folder.glob(".*.tmp"):
        meant = file.name[1:].rsplit(".", 2)[0]
        with contextlib.suppress(FileNotFoundError):
            still = older and time.time() - file.lstat().st_mtime < older
            if not still and (of is None or meant in of):
                file.unlink()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object whole."""
    write_bytes(path, (json.dumps(content, indent=1, sort_keys=False) + "\n").encode())


def read_json(path: Path, limit: int = JSON_BYTES) -> dict[str, Any]:
    """Read a JSON object, see `bounded`.

    Raises:
      ValueError: if the file does not hold one.
      OSError: if it cannot be read.
    """
    try:
        content = json.loads(bounded(path, limit).decode("utf-8"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Replace an `npz` file in one step."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    write_bytes(path, content.getvalue())


def write_table(path: Path, table: Table) -> None:
    """Write columns of equal length as Parquet with page checksums."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(table)), sink, compression="zstd", write_page_checksum=True)
    write_bytes(path, sink.getvalue().to_pybytes())


@contextlib.contextmanager
def decoding() -> Iterator[None]:
    """Raise what a library finds wrong with a file as ValueError, whatever its kind; OSError stays.

    pyarrow, zipfile, zlib and numpy raise many kinds for a damaged file, some of them not their own.
    """
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise ValueError(f"damaged ({type(error).__name__})") from error


def read_table(path: Path) -> Table:
    """Read the columns of a Parquet file, verifying its checksums.

    Raises:
      ValueError: if it is damaged; some damage is an OSError to pyarrow.
      OSError: if it cannot be read.
    """
    with decoding():
        table = patiently(lambda: pq.read_table(path, page_checksum_verification=True))
        return {name: table[name].to_numpy() for name in table.column_names}
