"""Reproduce published returns: `make reproduce` prints the table that the README shows."""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vfcompare import main
from vfcompare.commands.compose import cells
from vfcompare.runs import store
from vfcompare.statistics import iqm


class Target(NamedTuple):
    """A published return and the range in which ours must fall.

    Attributes:
      env: preset of the environment.
      published: mean return over seeds, and its spread.
      low: of the range.
      high: of the range.
    """

    env: str
    published: str
    low: float
    high: float


TARGETS = (
    Target("cartpole", "490.0 ± 6.1", 480.0, 500.0),
    Target("acrobot", "-86.4 ± 1.3", -90.0, -82.0),
)
"""CleanRL's ppo.py after 500k steps (docs.cleanrl.dev, 3 seeds)."""


def final_returns(folder: Path) -> np.ndarray:
    """Mean return of each seed's last 100 training episodes, as CleanRL counts them."""
    table = store.read_table(folder / "metrics.parquet")
    finals = []
    for seed in np.unique(table["seed"]):
        rows = table["seed"] == seed
        return_, total = table["return"][rows], table["episodes"][rows]
        ended = np.diff(total, prepend=0)
        weight = np.minimum(ended, np.maximum(0, 100 - (total[-1] - total)))
        known = weight > 0
        finals.append(np.average(return_[known], weights=weight[known]))
    return np.array(finals)


def run() -> int:
    """Train, print the table, and say whether every range was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--env-steps", type=int, default=500_000)
    options = parser.parse_args()
    envs = ",".join(target.env for target in TARGETS)
    args = ["agent=ppo_cleanrl", f"env={envs}", "study.name=reproduce"]
    args += [f"seeds={options.seeds}", f"env_steps={options.env_steps}"]
    code = main.main(["-m", *args])
    if code:
        return code
    print(
        "| environment | published (CleanRL, 3 seeds) | vfcompare `ppo_cleanrl` | n | IQM | mean within |"
    )
    print("|---|---|---|---|---|---|")
    met = True
    for target in TARGETS:
        (cell,) = (cell for cell in cells(args, sweep=True) if cell.env == target.env)
        returns = final_returns(cell.study / cell.id)
        inside = target.low <= returns.mean() <= target.high
        met &= bool(inside)
        print(
            f"| {target.env} | {target.published} | {returns.mean():.1f} ± {returns.std(ddof=1):.1f} "
            f"| {len(returns)} | {iqm([returns]):.1f} "
            f"| {target.low:g} to {target.high:g}: {'met' if inside else 'MISSED'} |"
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(run())
