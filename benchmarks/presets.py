"""What every preset learns on three tasks, as one page: `docs/presets.md`.

vfcompare -m +study=presets hydra/launcher=joblib hydra.launcher.n_jobs=2
python -m benchmarks.presets
"""

import argparse
from pathlib import Path

import numpy as np

from vfcompare import statistics
from vfcompare.report import fates, scoring
from vfcompare.report.reading.cells import Cell
from vfcompare.report.reading.data import load
from vfcompare.report.reading.files import read_table
from vfcompare.runs.store import write_bytes

PAGE = Path(__file__).parents[1] / "docs" / "presets.md"

INTRODUCTION = """\
# What every preset learns

Made by `vfcompare -m +study=presets` and `python -m benchmarks.presets`. {seeds} seeds, {budget:,}
environment steps each, the shared recipe: return of sampled actions at the end, interquartile mean over seeds
with 95 % bootstrap interval; a seed that failed has the random policy's return. No learning rate was tuned
for any of them, and the tasks are small: the table says that each preset works and where it does not, not
which method is better. `vfcompare list agents` says what each one is. Left out
are those that know exact values (`oracle_v0`, `oracle_v`, `oracle_td`, `mixed`; see oracle.md) and two
recipes of others (`ppo_cleanrl`, `a2c_sb3`; see the README).
"""

DIAGNOSIS = """\
## Those that fall behind, and why

Means over the updates of all seeds, from `metrics.parquet`: updates of a seed, KL divergence of an update,
share of groups (batches, for critics) with any advantage, norm of the policy's gradient before the clip.

| agent | task | return | updates | KL | signal | gradient | |
|---|---|---|---|---|---|---|---|
"""

REASONS = {
    ("vine", "lock"): "nine episodes from every state use up the budget within a few updates",
    ("vine", "maze_small"): "the same",
    ("vine", "cartpole"): "the same: not one update is over before the budget is",
    (
        "remax",
        "cartpole",
    ): "a greedy episode of each prompt is charged, which outlasts the sampled ones",
    (
        "reinforce",
        "cartpole",
    ): "no baseline: all returns are positive, whatever was done is pushed up",
    ("reinforce", "maze_small"): "the same: the policy is certain before it is right",
    (
        "passk",
        "lock",
    ): "only the best of a group has an advantage, and none if two are equally good",
    ("passk", "maze_small"): "the same: in most groups several rollouts succeed",
    ("passk", "cartpole"): "the same: the best of eight by its distance to the second",
    ("sft", "cartpole"): "every episode has a return above zero, so that every one is imitated",
    (
        "gpg",
        "maze_small",
    ): "no clip: four epochs on the same batch move the policy ten times as far as a clip does",
    (
        "gspo",
        "cartpole",
    ): "a clip range of 0.0004, made for long answers, lets an update move next to nothing",
    (
        "ppo_shared",
        "cartpole",
    ): "the critic's gradient, on the scale of returns, takes the shared body's clipped step",
    ("rloo_shared", "cartpole"): "the same, without even the critic's advice",
    (
        "reinforce_pp",
        "lock",
    ): "one seed of ten: whitening over steps subtracts the batch's mean, which success drives up",
    (
        "reinforce_running",
        "cartpole",
    ): "the mean of earlier returns lags behind a policy that improves",
    ("poise", "cartpole"): "the same: the probe learns as slowly as returns grow fast",
}
"""Why a preset falls behind; the numbers beside it are measured."""


def final(cell: Cell, task: scoring.Task) -> np.ndarray:
    """The last return of each seed whose end is known; of one that failed the floor, as in reports."""
    runs = [run for run in cell.runs if fates.counted(run, task.end)]
    lost = [fates.failed(run, task.end) for run in runs]
    return np.array(
        [
            scoring.sunk(run.sampled, task) if bad else run.sampled[-1]
            for run, bad in zip(runs, lost, strict=True)
        ]
    )


def show(cell: Cell, task: scoring.Task) -> str:
    """Interquartile mean and interval, and the number of seeds where not all count."""
    scores = final(cell, task)
    if not len(scores):
        return "none scored"
    lacking = "" if len(scores) == len(cell.runs) else f" (n = {len(scores)})"
    found = statistics.bootstrap(
        np.random.default_rng(0), [scores], lambda tasks: statistics.iqm(tasks), reps=2000
    )
    digits = 0 if abs(found.estimate) >= 10 else 2
    text = f"{found.estimate:.{digits}f}"
    if found.low is None or found.high is None:
        return text + lacking
    return f"{text} [{found.low:.{digits}f}, {found.high:.{digits}f}]{lacking}"


def diagnose(study: Path, cell: Cell, task: scoring.Task) -> list[str]:
    """The row of a preset that falls behind."""
    table = read_table(study / cell.id / "metrics.parquet")
    last = [table["update"][table["seed"] == seed].max() for seed in np.unique(table["seed"])]
    means = [f"{table[name].mean():.2g}" for name in ("kl", "signal_fraction", "policy_grad_norm")]
    reason = REASONS[cell.agent, cell.env]
    return [
        f"`{cell.agent}`",
        cell.env,
        show(cell, task),
        f"{np.mean(last) + 1:.0f}",
        *means,
        reason,
    ]


def page(folder: Path) -> str:
    """The page, as Markdown."""
    study = load(folder)
    cells = [cell for cell in study.cells if cell.planned]
    scored = {task.name: task for task in scoring.score(study)}
    agents, tasks = (
        list(dict.fromkeys(getattr(c, name) for c in cells)) for name in ("agent", "env")
    )
    found = {(cell.agent, cell.env): cell for cell in cells}
    seeds = max(len(cell.runs) for cell in cells)
    budget = int(cells[0].budget or 0)
    lines = [INTRODUCTION.format(seeds=seeds, budget=budget)]
    lines += [f"| agent | {' | '.join(tasks)} |", f"|---|{'---|' * len(tasks)}"]
    for agent in agents:
        mine = [found.get((agent, task)) for task in tasks]
        row = [show(cell, scored[cell.task]) if cell else "" for cell in mine]
        lines.append(f"| `{agent}` | {' | '.join(row)} |")
    lines += ["", DIAGNOSIS.rstrip("\n")]
    behind = [found[key] for key in REASONS if key in found]
    lines += [f"| {' | '.join(diagnose(folder, c, scored[c.task]))} |" for c in behind]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the study, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, nargs="?", default=Path("runs/presets"))
    write_bytes(PAGE, page(parser.parse_args().study).encode())
    print(PAGE)


if __name__ == "__main__":
    main()
