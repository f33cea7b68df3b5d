"""Untrusted files, read as plain data: sizes are bounded, nothing is composed, instantiated or unpickled."""

import hashlib
import json
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from vfcompare.runs import store

Array = npt.NDArray[np.float64]

Pixels = npt.NDArray[Any]

TEXT_BYTES = 8_000_000
TABLE_BYTES = 512_000_000
TABLE_ROWS = 20_000_000
TABLE_MEMORY = 4_000_000_000
NAME_LENGTH = 60
PICTURE_BYTES = 64_000_000
ARRAYS = 64


def clean(value: object, limit: int = NAME_LENGTH) -> str:
    """Text safe to print: one line, no control or direction characters, bounded, still unique."""
    text = str(value).encode("utf-8", "replace").decode("utf-8")
    text = text.replace("\N{FIRST STRONG ISOLATE}", "").replace("\N{POP DIRECTIONAL ISOLATE}", "")
    shown = "".join(c if c.isprintable() or c == " " else "\N{REPLACEMENT CHARACTER}" for c in text)
    if len(shown) > limit:
        shown = f"{shown[: limit - 9]}…{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if any(unicodedata.bidirectional(c) in {"R", "AL", "AN"} for c in shown):
        # isolated, or a right-to-left name would reorder the numbers beside it
        return f"\N{FIRST STRONG ISOLATE}{shown}\N{POP DIRECTIONAL ISOLATE}"
    return shown


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size; ValueError or OSError says what is wrong with it."""
    return store.read_json(path, TEXT_BYTES)


def read_record(path: Path) -> dict[str, Any]:
    """A plan or a `run.json`: the same of a layout that this version knows."""
    content = read_json(path)
    if told := store.later(content):
        raise ValueError(told)
    return content


def read_table(
    path: Path, choose: Callable[[Sequence[str]], Sequence[str]] = tuple
) -> dict[str, Array]:
    """Numeric columns of a Parquet file of bounded size; ValueError or OSError otherwise.

    Args:
      path: of the file.
      choose: which of its columns are read; all by default.
    """
    with (
        store.decoding(),
        store.opened(path, TABLE_BYTES) as opened,
        pq.ParquetFile(opened, page_checksum_verification=True) as file,
    ):
        rows = file.metadata.num_rows
        names = list(choose(file.schema_arrow.names))
        if rows > TABLE_ROWS:
            raise ValueError("claims more rows than the limit")
        if 8 * rows * len(names) > TABLE_MEMORY:
            raise ValueError("claims more numbers than the limit")
        table = file.read(columns=names, use_threads=False)
        return {name: _floats(table.column(name)) for name in names}


def read_arrays(path: Path) -> dict[str, Array]:
    """Numeric arrays of an npz file of bounded size, never pickled; ValueError or OSError otherwise."""
    return _npz(path, TABLE_BYTES, lambda array: np.asarray(array, dtype=np.float64))


def read_pictures(path: Path) -> dict[str, Pixels]:
    """Small arrays of an npz file, as they are, never pickled; ValueError or OSError otherwise."""
    return _npz(path, PICTURE_BYTES, np.asarray)


def _npz(path: Path, limit: int, make: Callable[[Pixels], Pixels]) -> dict[str, Pixels]:
    with store.decoding(), store.opened(path, limit) as opened:
        with zipfile.ZipFile(opened) as archive:
            sizes = [item.file_size for item in archive.infolist()]
        if len(sizes) > ARRAYS or sum(sizes) > limit:
            raise ValueError("larger than the limit")
        opened.seek(0)
        with np.load(opened, allow_pickle=False) as file:
            return {clean(name): make(file[name]) for name in file.files}


def _floats(column: Any) -> Array:
    values = column.to_numpy()
    if values.dtype.kind not in "iufb":
        return np.full(len(values), np.nan)
    return np.asarray(values, dtype=np.float64)


def why(error: Exception) -> str:
    """What is wrong with a file, in words."""
    if isinstance(error, json.JSONDecodeError):
        return "not JSON"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, OSError):
        return clean(error.strerror or type(error).__name__)
    return clean(error)


def read_inside(folder: Path | None, name: str, reader: Any, problems: list[str]) -> Any:
    """A file of a folder, None where it cannot be read; why is added to the problems."""
    if folder is None:
        return None
    path = folder / name
    try:
        if path.resolve().parent != folder:
            raise ValueError("a link out of its folder")
        return reader(path)
    except FileNotFoundError:
        problems.append(f"{name} is missing")
    except (OSError, ValueError) as error:
        problems.append(f"{name}: {why(error)}")
    return None
