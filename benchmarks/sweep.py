"""How long a sweep takes: cell by cell, in several processes, and fused. Prints one table.

    python -m benchmarks.sweep                  # 4 agents x 16 settings x 10 seeds on maze: about an hour
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

from vfcompare.store import write_bytes

PAGE = Path(__file__).parent / "results" / "sweep.md"

LAUNCHERS = {
    "basic": [],
    "joblib": ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}"],
    "fused": ["hydra/launcher=fused"],
}

RATES = ("1e-4", "3e-4", "1e-3", "3e-3")
BONUSES = ("0.0", "0.003", "0.01", "0.03")


def sweep(launcher: str, settings: int, steps: int, env: str, seeds: int) -> float:
    """Wall-clock seconds of one sweep."""
    bonuses = BONUSES[: max(settings // len(RATES), 1)]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "vfcompare.main", "-m", f"env={env}", f"root={folder}/runs"),
            *("agent=rloo,grpo,a2c,ppo", f"agent.optimizer.learning_rate={','.join(RATES)}"),
            *(f"agent.entropy_coef={','.join(bonuses)}", f"seeds={seeds}", f"env_steps={steps}"),
            *("evaluations=5", *LAUNCHERS[launcher]),
        ]
        begin = time.monotonic()
        surroundings = {**os.environ, "XDG_CACHE_HOME": f"{folder}/cache"}
        subprocess.run(command, check=True, env=surroundings, stderr=subprocess.DEVNULL)
        return time.monotonic() - begin


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
        "| steps a seed | basic | joblib | fused | basic / fused | joblib / fused |",
        "|---|---|---|---|---|---|",
    ]
    for steps in options.steps:
        found = {}
        for launcher in LAUNCHERS:
            print(f"{steps} steps, {launcher}", file=sys.stderr, flush=True)
            found[launcher] = sweep(launcher, options.settings, steps, options.env, options.seeds)
        seconds = " | ".join(f"{found[name]:,.0f}" for name in LAUNCHERS)
        ratios = " | ".join(f"{found[name] / found['fused']:.1f}" for name in ("basic", "joblib"))
        lines.append(f"| {steps:,} | {seconds} | {ratios} |")
        write_bytes(PAGE, ("\n".join(lines) + "\n").encode())
    print("\n".join(lines))


if __name__ == "__main__":
    main()
