"""A lock on a folder, for those who read a file, decide, and write it."""

import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from vfcompare.runs.disk import refusing
from vfcompare.runs.store import make_folder


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
