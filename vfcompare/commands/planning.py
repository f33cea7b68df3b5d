"""What a sweep is going to be, before anything of it is started."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from vfcompare.runs import store
from vfcompare.training import devices
from vfcompare.training.cell import Cell, rehearse
from vfcompare.training.progress import duration

COMPILE_SECONDS = 10.0
"""Of a cell whose like was never run here."""

BYTES_PER_SEED = 150_000
"""Files of a seed whose like was never run here."""


class Cost(NamedTuple):
    """What a cell takes.

    Attributes:
      seconds: wall-clock, on a machine like that of earlier runs; None where there were none.
      size: bytes on disk.
    """

    seconds: float | None
    size: float


def records(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Completed runs of all studies below a folder."""
    for file in root.glob("*/*/run.json"):
        try:
            record = store.read_json(file)
        except (OSError, ValueError):
            continue
        if record.get("status") == "completed":
            yield file.parent, record


def rates(root: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """Seconds and bytes of an environment step, by agent and environment, of the last such run."""
    found = {}
    for folder, record in sorted(records(root), key=lambda pair: str(pair[1].get("ended"))):
        try:
            steps = float(record["env_steps"])
            seconds = float(record["seconds"]["train"])
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            found[str(record["agent"]), str(record["env"])] = (seconds / steps, size / steps)
        except (KeyError, TypeError, ValueError, ZeroDivisionError, OSError):
            continue
    return found


def cost(cell: Cell, known: dict[tuple[str, str], tuple[float, float]]) -> Cost:
    """What a cell takes, by earlier runs of its agent on its environment."""
    steps = len(cell.seeds) * cell.config["env_steps"]
    rate = known.get((cell.agent, cell.env))
    if rate is None:
        return Cost(None, BYTES_PER_SEED * len(cell.seeds))
    return Cost(COMPILE_SECONDS + steps * rate[0], steps * rate[1])


def show(cells: Sequence[Cell]) -> None:
    """Print the cells, what is done, and time and disk of the rest."""
    known = rates(Path(cells[0].config["root"]))
    table = Table(title=f"{len(cells)} cells", title_justify="left", box=None)
    # What tells cells apart stands at the end of their names, which must not be cut off.
    table.add_column("cell", overflow="fold")
    for heading in ("seeds", "steps a seed", "", "seconds", "MB"):
        table.add_column(heading, justify="right" if heading in ("seconds", "MB") else "left")
    open_costs = []
    for cell in cells:
        what, done = cost(cell, known), cell.done
        if not done:
            open_costs.append(what)
        seconds = "?" if what.seconds is None else f"{what.seconds:,.0f}"
        shown = ("", "") if done else (seconds, f"{what.size / 1e6:.1f}")
        steps = f"{cell.config['env_steps']:,}"
        table.add_row(cell.id, str(len(cell.seeds)), steps, "done" if done else "", *shown)
    console = Console()
    console.print(table)
    console.print(_sum(open_costs, cells[0].config["study"].get("minutes")))


def _sum(costs: Sequence[Cost], minutes: float | None) -> str:
    """What is to go, in words; `minutes` is what the study's file reckons with."""
    known = [what.seconds for what in costs if what.seconds is not None]
    words = f"{len(costs)} cells to go, {sum(what.size for what in costs) / 1e6:,.0f} MB"
    if known:
        words += f", about {duration(sum(known))} one after another"
    if unknown := len(costs) - len(known):
        words += f"; of {unknown} cells no time is known, their like was never run below this root"
        if minutes:
            words += f" (the whole study reckons with {duration(60 * minutes)} on two cores)"
    return words


def write_plan(planned: Sequence[Cell]) -> None:
    """Trace the first cell that is not done, and write down what is going to be done."""
    first = next((cell for cell in planned if not cell.done), None)
    if first is not None:
        devices.prepare()
        rehearse(first.config)
    described = [cell.planned() for cell in planned]
    store.write_plan(planned[0].study, planned[0].config["study"], described)
