"""What a disk refuses, for a moment, for want of room or for good, and what to say of it."""

import contextlib
import errno
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import TypeVar

from vfcompare.errors import InputError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system answers where a disk, a quota or the largest allowed file is full."""

TRANSIENT = tuple(
    getattr(errno, name) for name in ("ESTALE", "EIO", "EMFILE", "ENFILE") if hasattr(errno, name)
)
"""What the system answers for moments, over a network or where many files are open."""

PAUSES = (0.05, 0.2, 0.5)
"""Seconds between attempts at what may fail for a moment."""

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


def of_no_room(message: str) -> bool:
    """Whether a message, see `vfcompare.failure.describe`, is of a full disk."""
    return message.startswith(tuple(f"OSError: [Errno {number}]" for number in FULL))


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
