"""Signals that ask a run to stop: it finishes its chunk, saves where it stands, and goes."""

import contextlib
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any

from vfcompare.failure import describe

ASKED = {
    "SIGINT": "interrupted",
    "SIGHUP": "interrupted",
    "SIGTERM": "preempted",
    "SIGUSR2": "preempted",
}
"""Signals that ask a run to stop, and the status of one that did."""


def heard() -> tuple[str, ...]:
    """Signals that are heard: those that this system has, and no closing of a terminal behind `nohup`."""
    found = (name for name in ASKED if hasattr(signal, name))
    return tuple(name for name in found if name != "SIGHUP" or not _ignored(name))


def _ignored(name: str) -> bool:
    return signal.getsignal(getattr(signal, name)) is signal.SIG_IGN


HEARD = heard()
"""Signals that this process hears, whatever answers them later."""


HASTE = 1.0
"""Seconds that a second interrupt leaves the program to end by itself."""


STDOUT, STDERR = 1, 2
"""Written to without Python's buffer, which a signal may have caught half-way."""


class Stopped(KeyboardInterrupt):
    """A run stopped because a signal asked for it; the same command continues it.

    Attributes:
      signal: its name.
      elsewhere: whether other processes trained for this one, which has compiled nothing.
    """

    def __init__(self, name: str, *, elsewhere: bool = False) -> None:
        """Remember the signal."""
        super().__init__(name)
        self.signal, self.elsewhere = name, elsewhere


_early: list[str] = []
"""Signals that were heard before anybody listened."""


_obedient = False
"""Whether this process trains for another one, which is told of interrupts, too, and decides on a second."""


class Listener:
    """Listens while it is open: the first signal is remembered, a second interrupt ends the process."""

    def __init__(self) -> None:
        """Nothing was heard."""
        self.heard: str | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Listener":
        """Begin to listen; only a main thread can."""
        if _early:
            self.heard = _early.pop()
            _early.clear()
        if threading.current_thread() is threading.main_thread():
            self._before = answer(self._hear)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave signals as they were, or unheard where one is enough.

        Raises:
          Stopped: in place of an error, such as that of a last save, where it was asked for: what would go on
            with the next cells must not.
        """
        restore(self._before)
        if _obedient and self.heard is not None:
            _hear_nothing()
        if self.heard is not None and isinstance(error, Exception):
            print(f"\nvfcompare: ended by {describe(error)}", file=sys.stderr)
            raise Stopped(self.heard) from error

    def _hear(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        leave_terminal(name)
        if self.heard is not None and name == "SIGINT" and not _obedient:
            raise KeyboardInterrupt
        if name == "SIGINT" and not _obedient:
            os.write(STDERR, b"\nvfcompare: saves and ends; a second interrupt ends at once\n")
        self.heard = name

    def check(self) -> None:
        """Stop if it was asked for.

        Raises:
          Stopped: with the signal's name.
        """
        if self.heard is not None:
            raise Stopped(self.heard)


@contextlib.contextmanager
def ending_at_second_interrupt() -> Iterator[None]:
    """End the process with 130 at a second SIGINT, also while Python cannot hear it.

    Python's handlers wait until compiled code returns, which may take minutes where XLA compiles. Files are
    written whole or not at all, so that at any moment what was saved is whole. Only a main thread can ask.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_count_interrupts, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()


def _count_interrupts(reader: socket.socket) -> None:
    heard = 0
    with reader:
        while heard < 2:
            number = reader.recv(1)
            if not number:
                return
            heard += number[0] == signal.SIGINT
    # As a rule the main thread ends by itself meanwhile, and says more.
    time.sleep(HASTE)
    os.write(STDERR, b"vfcompare: ended at once; the same command continues\n")
    os._exit(128 + signal.SIGINT)


def leave_at_once(code: int) -> None:
    """End the process where JAX is loaded, with nothing cleaned up: what was to be saved has been.

    What XLA still does in threads of its own, after an interrupt, crashes while Python cleans up; and where
    it compiles, Python would wait for it.
    """
    if "jax" in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


def spare_until_training() -> None:
    """Ignore a notice of preemption while there is nothing to save: its default is to kill the process.

    Where what an interrupt raises is swallowed, as by callbacks of JAX while it collects garbage, training
    stops for it as soon as it begins.
    """
    _early.clear()
    if hasattr(signal, "SIGUSR2"):
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, interrupt)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Answer a signal while nothing is trained.

    Raises:
      Stopped: which is remembered until training, see `spare_until_training`.
    """
    name = signal.Signals(number).name
    _early.append(name)
    raise Stopped(name)


def remember_until_training() -> None:
    """Remember a notice of preemption until there is something to save; then training stops for it.

    Unlike `spare_until_training` this is not inherited by processes that are started meanwhile.
    """
    if hasattr(signal, "SIGUSR2"):
        signal.signal(signal.SIGUSR2, lambda number, frame: _early.append("SIGUSR2"))


@contextlib.contextmanager
def obeying() -> Iterator[None]:
    """Stop for the first signal and no other: it may come from a terminal and, again, from who passes it on.

    Before and after there is nothing to save, and nothing is heard. Only a main thread can ask.
    """
    global _obedient
    _obedient = True

    def stop(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        leave_terminal(name)
        _hear_nothing()
        raise Stopped(name)

    answer(stop)
    try:
        yield
    finally:
        _hear_nothing()


def _hear_nothing() -> None:
    answer(signal.SIG_IGN)


def leave_terminal(name: str) -> None:
    """Write nothing more to a terminal that was closed, which would be an error while a run is saved.

    Args:
      name: of the signal that was heard.
    """
    if name != "SIGHUP":
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (STDOUT, STDERR):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(number).st_mode):
                os.dup2(nowhere, number)
    os.close(nowhere)


def answer(handler: Any, names: Iterable[str] = HEARD) -> dict[int, Any]:
    """Answer signals; returns what answered them before, see `restore`.

    Only a main thread can.
    """
    numbers = [getattr(signal, name) for name in names]
    return {number: signal.signal(number, handler) for number in numbers}


def restore(before: Mapping[int, Any]) -> None:
    """Have signals answered as they were."""
    for number, handler in before.items():
        signal.signal(number, handler)
