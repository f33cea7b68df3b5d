"""How long commands take on a large study: 1,000 cells of 10 seeds. Prints one table.

    python -m benchmarks.scale                # a quarter of an hour
    python -m benchmarks.scale --settings 5   # 100 cells

The study is trained for real, on `lock`, with few steps; of a cell that trained for longer a report reads as
much, but for a longer table of updates.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from vfcompare.runs.store import read_json, write_bytes

PAGE = Path(__file__).parent / "results" / "scale.md"
AGENTS = ("rloo", "grpo", "a2c", "ppo")
BONUSES = ("0.0", "0.001", "0.003", "0.01", "0.03")
PATIENCE = 300.0
"""Seconds after which a sweep that has not begun to train is given up."""


def command(folder: str, *words: str) -> list[str]:
    """A command line on the study of a folder."""
    return [
        sys.executable,
        "-m",
        "vfcompare",
        *words,
        *([f"root={folder}"] if "-m" in words else []),
    ]


def sweep(folder: str, rates: Sequence[str]) -> list[str]:
    """The command that trains every agent with every rate and bonus."""
    return command(
        folder,
        "-m",
        "env=lock",
        f"agent={','.join(AGENTS)}",
        f"agent.optimizer.learning_rate={','.join(rates)}",
        f"agent.entropy_coef={','.join(BONUSES)}",
        *("seeds=10", "env_steps=4000", "evaluations=4", "hydra/launcher=fused"),
    )


def taken(words: Sequence[str]) -> float:
    """Seconds that a command takes; it must succeed."""
    begin = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - begin


def until_training(words: Sequence[str], study: Path) -> float:
    """Seconds from a command to the first cell that it calls running; it is stopped then.

    Raises:
      TimeoutError: after `PATIENCE`.
    """
    done = {folder.name for folder in study.iterdir()}
    begin = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while (seconds := time.monotonic() - begin) < PATIENCE:
            fresh = (file for file in study.glob("*/run.json") if file.parent.name not in done)
            if any(read_json(file)["status"] == "running" for file in fresh):
                return seconds
            time.sleep(0.05)
        raise TimeoutError(f"nothing was trained within {PATIENCE:.0f} s")
    finally:
        process.kill()
        process.wait()


def main() -> None:
    """Train, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=int, default=50, help="learning rates of each agent")
    options = parser.parse_args()
    rates = [f"{1e-4 * 1.1**i:.3g}" for i in range(options.settings)]
    with tempfile.TemporaryDirectory() as folder:
        study = Path(folder) / "scratch"
        rows = {"the sweep, `hydra/launcher=fused`": taken(sweep(folder, rates))}
        rows["`vfcompare status`"] = taken(command(folder, "status", str(study)))
        rows["`vfcompare report`"] = taken(command(folder, "report", str(study)))
        # Five old learning rates and five new ones.
        half = [*rates[:5], *(f"{2 + i / 10:g}e-5" for i in range(5))]
        cells = len(AGENTS) * len(BONUSES) * len(half)
        words = sweep(folder, half)
        rows[f"a sweep of {cells} cells of which half exist, to its training"] = until_training(
            words, study
        )
    number = len(AGENTS) * len(BONUSES) * len(rates)
    page = "\n".join(
        [
            f"{number:,} cells of 10 seeds on `lock`, {os.cpu_count()} cores; seconds from the command on.",
            "",
            "| | seconds |",
            "|---|---|",
            *(f"| {name} | {seconds:,.1f} |" for name, seconds in rows.items()),
        ]
    )
    write_bytes(PAGE, f"{page}\n".encode())
    print(page)


if __name__ == "__main__":
    main()
