"""Run the command line, and at one of its writes kill the process, put it to sleep or fill the disk.

python fail_point.py WHEN NUMBER LOG ARGUMENTS...

Writes are counted in the order in which they become visible below the working directory: files that are
replaced, created for one process alone, or removed. With `list` for WHEN, LOG takes their names.
"""

import os
import resource
import signal
import sys
from pathlib import Path


def watch(when: str, number: int, log: Path) -> None:
    """Count writes, and act before or after one of them; `full` leaves no room for any byte after it.

    `asleep` stops the process after it, until somebody wakes it.
    """
    here, count = Path.cwd(), 0

    def counted(name: str, does):
        original = getattr(os, name)

        def call(*args, **kwargs):
            nonlocal count
            path = Path(os.fspath(args[1 if name == "replace" else 0])).absolute()
            if "dir_fd" in kwargs or not path.is_relative_to(here) or not does(path, *args[1:]):
                return original(*args, **kwargs)
            count += 1
            if when == "list":
                with log.open("a") as file:
                    file.write(f"{path.name}\n")
            if (when, number) == ("before", count):
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*args, **kwargs)
            if (when, number) == ("after", count):
                os.kill(os.getpid(), signal.SIGKILL)
            if (when, number) == ("asleep", count):
                os.kill(os.getpid(), signal.SIGSTOP)
            if (when, number) == ("full", count):
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            return result

        setattr(os, name, call)

    counted("replace", lambda path, *_: True)
    counted("open", lambda path, flags=0, *_: bool(flags & os.O_EXCL))
    counted("unlink", lambda path, *_: path.exists() and path.suffix != ".tmp")


if __name__ == "__main__":
    watch(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]).absolute())
    sys.argv = ["vfcompare", *sys.argv[4:]]
    from vfcompare.main import main

    sys.exit(main())
