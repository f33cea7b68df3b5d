"""Processes that train for this one, as joblib's do: told of an interrupt they save, and they end with it.

A launcher would kill them at an interrupt, in the middle of a checkpoint, and leave them behind when it is
killed itself.
"""

import _thread
import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from vfcompare.training.stopping import (
    HEARD,
    STDERR,
    Stopped,
    answer,
    interrupt,
    leave_terminal,
    obeying,
    restore,
)

STOP = "stop"
"""Name of the file that tells those who begin later."""

LOOK = 0.2
"""Seconds between looks for those that still save."""

WATCH = 1.0
"""Seconds between looks for the process that launched this one."""

TO_BE_CONTINUED = "left to be continued"
"""Outcome of a cell that was told to stop, or not begun for that."""

_busy = threading.Lock()
"""Held while this process, as one of a crew, trains."""

_watching: set[int] = set()
"""Processes, by number, with whose end this one ends."""


class Hand:
    """Trains a cell, in whatever process a launcher chooses to call it.

    In the launching process itself it trains as if there were no crew; so it does in a process that is no
    child of it, such as a job of a cluster, whose end the cluster decides.
    """

    def __init__(self, run: Callable[[Any], Any], folder: Path) -> None:
        """Remember who launches.

        Args:
          run: trains a cell.
          folder: of the crew, see `Crew`.
        """
        self._run, self._folder, self._parent = run, folder, os.getpid()

    def __call__(self, config: Any) -> Any:
        """Train a cell, and end its training where the one who launched it says so or is gone."""
        orphan = os.getppid() != self._parent
        if os.getpid() == self._parent or (orphan and self._parent not in _watching):
            return self._run(config)
        if self._parent not in _watching:
            _watching.add(self._parent)
            whose = self._parent, self._folder
            threading.Thread(target=_end_with, args=whose, daemon=True).start()
        if orphan:
            return TO_BE_CONTINUED
        mine = self._folder / str(os.getpid())
        with _busy:
            try:
                with obeying():
                    # In this order, so that either this process sees the word or is seen by who gives it.
                    mine.touch()
                    if (self._folder / STOP).exists():
                        return TO_BE_CONTINUED
                    return self._run(config)
            except KeyboardInterrupt:
                # Raised on, it would make the launcher kill the others while they save.
                return TO_BE_CONTINUED
            finally:
                mine.unlink(missing_ok=True)


def _end_with(parent: int, folder: Path) -> None:
    """End this process when the one that launched it has ended, and what it trains is saved."""
    while os.getppid() == parent:
        time.sleep(WATCH)
    os.kill(os.getpid(), signal.SIGTERM)
    with _busy:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(128 + signal.SIGTERM)


class Crew:
    """Passes the first interrupt on to those that train for this process, and waits until they have saved.

    Without any it is raised at once, and so is a second SIGINT in any case.
    """

    def __init__(self, folder: Path) -> None:
        """Nobody trains yet.

        Args:
          folder: empty; has a file for each process that trains, by its number.
        """
        self._folder = folder
        self._heard: str | None = None
        self._saved = threading.Event()
        self._over = threading.Event()
        self._before: dict[int, Any] = {}
        self._waiting = threading.Thread(target=self._wait, daemon=True)

    def __enter__(self) -> "Crew":
        """Begin to listen; only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._before = answer(self._hear, [name for name in HEARD if name != "SIGUSR2"])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave signals as they were; whatever the launcher made of an interrupt, it was one.

        Raises:
          Stopped: if one was heard.
        """
        self._over.set()
        if self._waiting.ident is not None:
            self._waiting.join()
        restore(self._before)
        if self._heard is not None and not isinstance(error, KeyboardInterrupt):
            raise Stopped(self._heard, elsewhere=True) from error

    def _hear(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._over.is_set():
            return
        leave_terminal(name)
        if self._saved.is_set():
            raise Stopped(str(self._heard), elsewhere=True)
        if self._heard is not None:
            if name == "SIGINT":
                raise KeyboardInterrupt
            return
        (self._folder / STOP).touch()
        crew = self._crew()
        if not crew:
            interrupt(number, frame)
        self._heard = name
        told = f"\nvfcompare: {len(crew)} processes save and end; a second interrupt ends them at once\n"
        os.write(STDERR, told.encode())
        for pid in crew:
            # One may have ended since.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        self._waiting.start()

    def _crew(self) -> list[int]:
        """Those that train and live."""
        found = []
        for file in self._folder.iterdir():
            if file.name.isdecimal():
                try:
                    os.kill(int(file.name), 0)
                except ProcessLookupError:
                    continue
                found.append(int(file.name))
        return found

    def _wait(self) -> None:
        """Interrupt the launcher, which waits, when all have saved."""
        while self._crew():
            if self._over.wait(LOOK):
                return
        self._saved.set()
        # Not as SIGINT, which would count as the second.
        _thread.interrupt_main(signal.SIGTERM)
