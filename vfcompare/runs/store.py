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
import functools
import hashlib
import io
import json
import os
import re
import secrets
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vfcompare.errors import InputError

SCHEMA = 1
"""Version of the layout and of what a configuration means; part of every run's name."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system answers where a disk, a quota or the largest allowed file is full."""

TRANSIENT = tuple(
    getattr(errno, name) for name in ("ESTALE", "EIO", "EMFILE", "ENFILE") if hasattr(errno, name)
)
"""What the system answers for moments, over a network or where many files are open."""

PAUSES = (0.05, 0.2, 0.5)
"""Seconds between attempts at what may fail for a moment."""

JSON_BYTES = 64_000_000
"""More than any plan or record has."""

ABANDONED_AFTER = 600.0
"""Seconds after which nobody is writing a temporary file any more."""

PACKAGES = ("vfcompare", "jax", "jaxlib", "flax", "optax", "rlax", "gymnasium", "numpy")

Table = dict[str, np.ndarray]

T = TypeVar("T")


def patiently(act: Callable[[], T], passing: Collection[int] = TRANSIENT) -> T:
    """What a function returns, tried again a few times where the system refuses it for reasons that pass.

    Args:
      act: what is tried.
      passing: numbers of the errors that may pass.

    Raises:
      OSError: if it does not pass, or is another one.
    """
    for pause in PAUSES:
        try:
            return act()
        except OSError as error:
            if error.errno not in passing:
                raise
            time.sleep(pause)
    return act()


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


def stay_inside(*paths: Path, hint: str = "") -> None:
    """Refuse to write where links lead.

    Args:
      *paths: folders that are to be written to, and need not exist.
      hint: what else is allowed.

    Raises:
      InputError: that names the link.
    """
    for path in paths:
        if path.is_symlink():
            raise InputError(f"{path} is a link; allowed: folders within the study{hint}")


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


def no_room(error: BaseException | None) -> str:
    """What to do about a full disk, in one line; nothing for any other error."""
    if not isinstance(error, OSError) or error.errno not in FULL:
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
def refusing(place: object) -> Iterator[None]:
    """Say in one line that a place cannot be written; a full disk is another matter, see `no_room`.

    Args:
      place: in the words in which it was given.

    Raises:
      InputError: for what the system answers.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise
        raise InputError(
            f"{place} cannot be written: {error.strerror}; allowed: a folder that you may write to"
        ) from error


def must_be_writable(folder: Path, place: object = None) -> None:
    """Refuse a folder that cannot be made or written into, by trying; nothing is left of that.

    Args:
      folder: which need not exist.
      place: what to call it; itself if None.

    Raises:
      InputError: see `refusing`.
    """
    with refusing(folder if place is None else place):
        # Such as a name that is too long, which the folders above would not show.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(folder)
        where = folder.absolute()
        there = next(path for path in (where, *where.parents) if os.path.lexists(path))
        # Permissions alone do not say: nobody may write to /proc, and root may write to what is read-only.
        probe = there / f".{secrets.token_hex(4)}.tmp"
        try:
            probe.touch()
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()


@contextlib.contextmanager
def one_line_about_full_disks() -> Iterator[None]:
    """Keep threads from printing a traceback about a full disk: whoever waits for them hears of it, too."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not no_room(args.exc_value):
            before(args)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


@contextlib.contextmanager
def guard(folder: Path) -> Iterator[None]:
    """Let one process at a time look and write; the system ends it with the process, also after a kill.

    Others wait as long as it is held: for moments, or until a prior that many ask for is made. Where a file
    system has no locks it says so once; where Python has none for the system it does nothing.

    Raises:
      InputError: if the folder has no lock that may be opened.
    """
    make_folder(folder)
    handle = _open_lock(folder / ".lock")
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _open_lock(file: Path) -> int:
    """The file that is locked; that of a colleague may be one that only he writes to."""
    with refusing(file):
        try:
            return os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except PermissionError:
            with contextlib.suppress(FileNotFoundError):
                return os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
            raise


def _lock(handle: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
    except OSError as error:
        _say_unguarded(os.fspath(folder), str(error.strerror))


@functools.cache
def _say_unguarded(folder: str, why: str) -> None:
    told = "of commands that begin here together one may forget the cells of another"
    print(f"vfcompare: {folder} cannot be locked ({why}): {told}", file=sys.stderr)


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


def later(content: Mapping[str, Any]) -> str:
    """Which later version wrote a plan or a record, in words; nothing where this one knows its layout."""
    layout = content.get("schema")
    if not isinstance(layout, int) or layout <= SCHEMA:
        return ""
    return f"was written by a later version (layout {str(layout)[:20]}, this one reads {SCHEMA})"


def write_table(path: Path, table: Table) -> None:
    """Write columns of equal length as Parquet with page checksums."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(table)), sink, compression="zstd", write_page_checksum=True)
    write_bytes(path, sink.getvalue().to_pybytes())


def read_table(path: Path) -> Table:
    """Read the columns of a Parquet file, verifying its checksums."""
    table = patiently(lambda: pq.read_table(path, page_checksum_verification=True))
    return {name: table[name].to_numpy() for name in table.column_names}


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


def hash_of(name: str) -> str:
    """The hash in the name of a run."""
    return name.rpartition("-")[2]


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def age(time: str) -> float:
    """Seconds since a time that `now` wrote.

    Raises:
      ValueError, TypeError: if it is none.
    """
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages that numbers depend on, without importing them."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


@functools.cache
def git_state() -> dict[str, Any]:
    """Commit of the source tree and whether it was changed; empty where no repository has it.

    As it was when this process first asked: what it runs was read then.
    """

    def git(*args: str) -> str:
        here = Path(__file__).parent
        done = subprocess.run(
            ["git", "-C", here, *args], capture_output=True, text=True, timeout=10
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        # An environment within somebody's repository is not part of it.
        ours = git("ls-files", "--error-unmatch", Path(__file__).name)
        commit = git("rev-parse", "HEAD") if ours else ""
        return {"commit": commit, "dirty": bool(git("status", "--porcelain"))} if commit else {}
    except (OSError, subprocess.SubprocessError):
        return {}


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        """Start."""
        self._begin = time.monotonic()

    def __call__(self) -> float:
        """Read."""
        return time.monotonic() - self._begin
