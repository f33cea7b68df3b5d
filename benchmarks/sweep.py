"""How long a sweep takes: cell by cell, in several processes, and fused. Prints one table.

    python -m benchmarks.sweep                  # 4 agents x 16 settings x 10 seeds on maze: two hours
    python -m benchmarks.sweep --settings 4     # a quarter of the settings

Every sweep is a process of its own with an empty compilation cache; compile time is part of what it takes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from vfcompare.runs.store import read_json, write_bytes

PAGE = Path(__file__).parent / "results" / "sweep.md"

LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}"],
    "fused": ["hydra/launcher=fused"],
}

PROCESSES = {"basic": 1, "joblib": os.cpu_count() or 1, "fused": 1}

OTHERS = [name for name in LAUNCHERS if name != "fused"]

RATES = ("1e-4", "3e-4", "1e-3", "3e-3")
BONUSES = ("0.0", "0.003", "0.01", "0.03")


class Sweep(NamedTuple):
    """What a sweep took, in seconds.

    Attributes:
      wall: from the command to its end.
      compiling: of all processes together.
      training: the same; collecting, estimating and improving.
      beside: the same, of what cells do beside: evaluations, certificates, pictures, files.
    """

    wall: float
    compiling: float
    training: float
    beside: float

    def around(self, processes: int) -> float:
        """Of the processes, what is no cell's: starting Python, JAX and Hydra, and planning the sweep."""
        return self.wall * processes - self.compiling - self.training - self.beside


def sweep(launcher: str, settings: int, steps: int, env: str, seeds: int) -> Sweep:
    """Run one, and read what its cells took."""
    bonuses = BONUSES[: max(settings // len(RATES), 1)]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "vfcompare", "-m", f"env={env}", f"root={folder}/runs"),
            *("agent=rloo,grpo,a2c,ppo", f"agent.optimizer.learning_rate={','.join(RATES)}"),
            *(f"agent.entropy_coef={','.join(bonuses)}", f"seeds={seeds}", f"env_steps={steps}"),
            *("evaluations=5", *LAUNCHERS[launcher]),
        ]
        begin = time.monotonic()
        surroundings = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
        subprocess.run(command, check=True, env=surroundings, stderr=subprocess.DEVNULL)
        wall = time.monotonic() - begin
        spent = [read_json(file)["seconds"] for file in Path(folder).glob("runs/*/*/run.json")]
    compiling, training, total = (sum(of[n] for of in spent) for n in ("compile", "train", "total"))
    return Sweep(wall, compiling, training, total - compiling - training)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--settings", type=int, default=16, help="of each agent, a multiple of 4")
    parser.add_argument("--steps", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--env", default="maze")
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    lines = [
        f"4 agents x {options.settings} settings x {options.seeds} seeds on `{options.env}`, "
        f"{os.cpu_count()} cores, empty compilation cache; seconds of the whole sweep.",
        "",
        f"| steps a seed | {' | '.join(LAUNCHERS)} | {' | '.join(f'{name} / fused' for name in OTHERS)} |",
        "|" + "---|" * (1 + len(LAUNCHERS) + len(OTHERS)),
    ]
    profile = [
        "Where they go, in seconds of all processes together:",
        "",
        "| steps a seed | | compiling | training | beside, in cells | around cells |",
        "|---|---|---|---|---|---|",
    ]
    page = ""
    for steps in options.steps:
        found = {}
        for launcher in LAUNCHERS:
            print(f"{steps} steps, {launcher}", file=sys.stderr, flush=True)
            found[launcher] = sweep(launcher, options.settings, steps, options.env, options.seeds)
        walls = {name: one.wall for name, one in found.items()}
        seconds = " | ".join(f"{wall:,.0f}" for wall in walls.values())
        ratios = " | ".join(f"{walls[name] / walls['fused']:.1f}" for name in OTHERS)
        lines.append(f"| {steps:,} | {seconds} | {ratios} |")
        for name, one in found.items():
            parts = (one.compiling, one.training, one.beside, one.around(PROCESSES[name]))
            profile.append(f"| {steps:,} | {name} | {' | '.join(f'{x:,.0f}' for x in parts)} |")
        page = "\n".join([*lines, "", *profile]) + "\n"
        write_bytes(PAGE, page.encode())
    print(page)


if __name__ == "__main__":
    main()
