"""What TensorBoard's own server is given to show: one run a cell, and the columns in which cells differ."""

import contextlib
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorboard.plugins.hparams import summary_v2 as hparams

from vfcompare.errors import InputError
from vfcompare.runs.events import BANDS, TOGETHER, EventFile
from vfcompare.runs.store import read_json

HERE = "127.0.0.1"
"""Where to listen: other machines are not to hear."""

LOOK_SECONDS = 5.0
"""Between two looks for new cells, about as often as TensorBoard reads."""


def serve(study: Path, port: int, *, seeds: bool) -> int:
    """Show runs with TensorBoard's own server, to this machine only, until it is interrupted.

    Args:
      study: a folder with runs below it, or one run.
      port: where to listen.
      seeds: whether each seed is a run by itself; else there is one run a cell, which TensorBoard can colour
        and tick: of more than 40 it ticks none.

    Raises:
      InputError: for a port that cannot be had.
    """
    _must_be_free(port)
    # It takes long to import.
    from tensorboard import program

    with tempfile.TemporaryDirectory(prefix="vfcompare-") as name:
        shown = study
        if not seeds:
            shown = Path(name)
            _link(study, shown)
            _columns(list(_settings(shown)), shown)
            threading.Thread(target=_keep_linked, args=(study, shown), daemon=True).start()
        server = program.TensorBoard()
        server.configure(argv=["tb", "--logdir", str(shown), "--host", HERE, "--port", str(port)])
        return int(server.main() or 0)


def _must_be_free(port: int) -> None:
    """Refuse a port on which nobody can listen."""
    try:
        with socket.socket() as tried:
            # What a server has left a moment ago is free.
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((HERE, port))
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "no number of a port"
        raise InputError(
            f"--port {port} cannot be had: {why}; allowed: another one, or 0 for any that is free"
        ) from error


def _settings(shown: Path) -> Iterator[dict[str, Any]]:
    """Agent, environment and what else was set of each cell."""
    for link in shown.rglob("*"):
        if link.is_symlink():
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                run = read_json(link.resolve().parent.parent / "run.json")
                told = {"agent": run["agent"], "env": run["env"], **run["settings"]}
                yield {_text(name): value for name, value in told.items()}


def _columns(cells: Sequence[Mapping[str, Any]], shown: Path) -> None:
    """Let the page "HParams" show the settings in which cells differ, and the returns; else it shows all.

    Agents that begin later are on this page once the server is started again.
    """
    if not cells:
        return
    told = dict.fromkeys(name for cell in cells for name in cell)
    names = [
        name
        for name in told
        if name in ("agent", "env")
        or (
            name.startswith(("agent.", "env.")) and len({str(cell.get(name)) for cell in cells}) > 1
        )
    ]
    domains = {name: _domain([cell[name] for cell in cells if name in cell]) for name in names}
    config = hparams.hparams_config_pb(
        hparams=[hparams.HParam(name, domain) for name, domain in domains.items()],
        metrics=[hparams.Metric(f"evaluation/{name}") for name in BANDS],
    )
    file = EventFile(shown)
    file.record(config, 0)
    file.flush()


def _domain(values: Sequence[Any]) -> Any:
    """The range of some numbers, or the words that there are."""
    try:
        numbers = [float(value) for value in values]
        return hparams.RealInterval(min(numbers), max(numbers))
    except (TypeError, ValueError, OverflowError):
        return hparams.Discrete(sorted({_text(value) for value in values}))


def _text(value: Any) -> str:
    """A value as text that TensorBoard can store: not every JSON string is UTF-8."""
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _keep_linked(study: Path, shown: Path) -> None:
    """Cells that begin later are shown, too."""
    while shown.is_dir():
        time.sleep(LOOK_SECONDS)
        _link(study, shown)


def _link(study: Path, shown: Path) -> None:
    """Below `shown`, one folder for the seeds of each cell together, under the cell's name."""
    for depth in ("", "*/", "*/*/"):
        for folder in study.glob(f"{depth}tb/{TOGETHER}"):
            run = folder.parent.parent
            link = shown / (run.relative_to(study) if run != study else run.resolve().name)
            if not link.is_symlink():
                with contextlib.suppress(OSError):  # the server has ended, and this folder with it
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(folder.resolve())
