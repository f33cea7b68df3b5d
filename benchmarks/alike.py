"""Real trainings that are alike, and some that are not: what the report claims of them.

vfcompare -m agent=rloo env=cartpole,frozen_lake,maze_small seeds=400 env_steps=20000 evaluations=10 \
study.name=alike agent.optimizer.learning_rate=0.001,0.0005
vfcompare -m +study=aa study.name=twins first_seed=$(seq -s , 0 20 380)
python -m benchmarks.alike

The 400 seeds of each cell are cut into studies of 20: ten that compare the agent with itself on other seeds,
and twenty that compare it with one that learns at half its rate, on the same seeds. `twins` is the study `aa`
ten times over, each time with seeds of its own.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.populations import in_parallel
from benchmarks.verdicts import anywhere, by_pairs
from vfcompare import statistics
from vfcompare.report.analysis import Results, analyse
from vfcompare.report.analysis.contrasts import Contrast
from vfcompare.report.metrics import COMPARED
from vfcompare.report.reading.cells import Cell
from vfcompare.report.reading.data import Study, load
from vfcompare.report.scoring import column
from vfcompare.runs.store import write_bytes

PAGE = Path(__file__).parent / "results" / "alike.md"
BLOCK = 20
"""Seeds of a study."""

INTRODUCTION = """\
# Trainings that are alike, and some that are not

Made by the commands at the top of `benchmarks/alike.py`: {agent}, {seeds} seeds of {steps:,} environment
steps on each environment, cut into studies of {block} seeds. Scores are areas under normalised curves, judged
as a report judges them.
"""


class Arm(NamedTuple):
    """Some seeds of some cells, as one of the agents of a study."""

    name: str
    cells: Sequence[Cell]
    first: int


def main() -> None:
    """Read the study, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, nargs="?", default=Path("runs/alike"))
    parser.add_argument("twins", type=Path, nargs="?", default=Path("runs/twins"))
    options = parser.parse_args()
    write_bytes(PAGE, page(load(options.study), load(options.twins)).encode())
    print(PAGE)


def page(study: Study, pairs: Study) -> str:
    """All that was found, as Markdown."""
    rates = sorted({rate(cell) for cell in study.cells}, reverse=True)
    usual, slow = ([cell for cell in study.cells if rate(cell) == value] for value in rates)
    seeds = min(len(cell.runs) for cell in study.cells)
    facts = {"agent": usual[0].agent, "seeds": seeds, "steps": int(usual[0].budget or 0)}
    lines = [INTRODUCTION.format(**facts, block=BLOCK)]
    lines += ["## The same agent twice", "", *alike(study, usual, seeds)]
    lines += ["", f"## Learning rates {rates[0]:g} and {rates[1]:g}", ""]
    lines += [*unlike(study, usual, slow, seeds)]
    return "\n".join([*lines, "", "## The study `aa`, ten times", "", *twins(pairs)]) + "\n"


def rate(cell: Cell) -> float:
    """The learning rate of a cell."""
    return float(cell.config["agent"]["optimizer"]["learning_rate"])


def cut(arm: Arm) -> Iterator[Cell]:
    """The cells of an arm with its seeds alone."""
    for cell in arm.cells:
        runs = tuple(run for run in cell.runs if 0 <= run.seed - arm.first < BLOCK)
        yield replace(cell, runs=runs, agent=arm.name, arm=arm.name, task=cell.env, settings={})


def judged(study: Study, *arms: Arm) -> Results:
    """The verdicts on a study of these arms."""
    return analyse(replace(study, cells=tuple(cell for arm in arms for cell in cut(arm))))


def subsets(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Each environment by itself, and all together."""
    return {cell.env: [cell] for cell in cells} | {"all three": list(cells)}


def alike(study: Study, cells: Sequence[Cell], seeds: int) -> Iterator[str]:
    """How often a difference is claimed where there is none."""
    starts = range(0, seeds - BLOCK, 2 * BLOCK)
    yield "| environments | studies | area under the curve | anything in the report |"
    yield "|---|---|---|---|"
    for name, mine in subsets(cells).items():

        def compare(i: int, mine: Sequence[Cell] = mine) -> tuple[bool, bool]:
            arms = Arm("one", mine, starts[i]), Arm("other", mine, starts[i] + BLOCK)
            results = judged(study, *arms)
            return by_pairs(results), anywhere(results)

        found = in_parallel(compare, range(len(starts)))
        pairs, any_of = (sum(column) for column in zip(*found, strict=True))
        yield f"| {name} | {len(found)} | {pairs} | {any_of} |"
    yield ""
    yield (
        "Differences claimed. The nominal 5 % of ten studies is one or none; a report makes several families "
        "of claims, and in 7 to 16 % of simulated reports one of them is wrong."
    )


def unlike(study: Study, usual: Sequence[Cell], slow: Sequence[Cell], seeds: int) -> Iterator[str]:
    """How often the faster agent is found, and how often it should be."""
    starts = range(0, seeds, BLOCK)
    both = analyse(replace(study, cells=tuple(whole(usual, "usual")) + tuple(whole(slow, "slow"))))
    yield "| environment | difference | deviation of pairs | stated | found | studies |"
    yield "|---|---|---|---|---|---|"
    for fast, late in zip(usual, slow, strict=True):
        task = both.task(fast.env)
        x, y = column(task, "usual", "auc"), column(task, "slow", "auc")
        differences = np.array([x[seed] - y[seed] for seed in sorted(x.keys() & y.keys())])
        effect, spread = float(differences.mean()), float(differences.std(ddof=1))
        stated = statistics.power(effect, spread, BLOCK)

        better = "usual" if effect > 0 else "slow"

        def compare(i: int, fast: Cell = fast, late: Cell = late, better: str = better) -> bool:
            arms = Arm("usual", [fast], starts[i]), Arm("slow", [late], starts[i])
            return judged(study, *arms).pairs["auc"][0].better == better

        found = in_parallel(compare, range(len(starts)))
        yield (
            f"| {fast.env} | {effect:+.3f} | {spread:.3f} | {stated:.0%} | "
            f"{sum(found) / len(found):.0%} | {len(found)} |"
        )
    yield ""
    yield (
        "Difference and deviation are those of all seeds together, and what is stated is the power that "
        "`vfcompare.statistics.power` promises for them with so many pairs."
    )


def twins(study: Study) -> Iterator[str]:
    """What reports say of each measure where the same agent was trained twice, over all environments."""
    by_seed: dict[int, list[Cell]] = {}
    for cell in study.cells:
        by_seed.setdefault(int(cell.config["first_seed"]), []).append(cell)
    arms = [Arm(f"seeds from {first}", cells, first) for first, cells in sorted(by_seed.items())]

    def compare(i: int) -> dict[str, Contrast]:
        found = judged(study, arms[2 * i], arms[2 * i + 1]).pairs
        return {metric: contrasts[0] for metric, contrasts in found.items()}

    found = in_parallel(compare, range(len(arms) // 2))
    yield "| measure | comparisons | 95 % intervals without zero | differences claimed | smallest p |"
    yield "|---|---|---|---|---|"
    outside = 0
    for metric in COMPARED:
        mine = [contrasts[metric] for contrasts in found]
        without = sum(contrast.plain.excludes(0.0) for contrast in mine)
        claimed = sum(contrast.better is not None for contrast in mine)
        smallest = min(contrast.p for contrast in mine)
        outside += without
        yield f"| {metric} | {len(mine)} | {without} | {claimed} | {smallest:.3f} |"
    yield ""
    yield (
        f"{outside} of {len(found) * len(COMPARED)} intervals exclude zero; of intervals of 95 % that is "
        f"what chance does to {0.05 * len(found) * len(COMPARED):g}."
    )


def whole(cells: Sequence[Cell], name: str) -> Iterator[Cell]:
    """Cells with all their seeds under one name."""
    for cell in cells:
        yield replace(cell, agent=name, arm=name, task=cell.env, settings={})


if __name__ == "__main__":
    main()
