"""Cells of a study that differ in nothing but their seeds are one: seeds may be added later."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vfcompare.report.reading.cells import STATUSES, Cell, Run
from vfcompare.schema.settings import PRIVATE
from vfcompare.schema.tree import finite
from vfcompare.schema.untrusted import setting

SEEDING = frozenset({"first_seed", "seeds"})
"""Settings that say with which seeds a cell is trained, and nothing of how."""

IRRELEVANT = SEEDING | {*PRIVATE}
"""Parts of a configuration that say nothing of how a seed is trained either."""


def joined(cells: Sequence[Cell]) -> list[Cell]:
    """The cells of a study; planned ones that differ in their seeds alone are one cell with all seeds.

    A seed that several of them have counts once. Where the study says `seeds_apart`, all stay as they are:
    it compares an agent with itself, and its blocks of seeds are the two sides.
    """
    if any(setting(cell.config, "study.seeds_apart") is True for cell in cells):
        return list(cells)
    groups: list[list[Cell]] = []
    called: dict[Any, list[list[Cell]]] = {}
    for cell in cells:
        # Of a thousand cells few are called the same, and only those need be looked at.
        who = cell.study, cell.agent, cell.env, tuple(sorted(plain(cell.settings).items()))
        known = called.setdefault(who, [])
        mine = next((group for group in known if all(_alike(cell, it) for it in group)), None)
        if mine is None:
            groups.append([cell])
            known.append(groups[-1])
        else:
            mine.append(cell)
    return [_one(group) for group in groups]


def plain(settings: Mapping[str, str]) -> dict[str, str]:
    """The settings without those of the seeds."""
    return {key: value for key, value in settings.items() if key not in SEEDING}


def _alike(one: Cell, other: Cell) -> bool:
    """Whether two cells of one name differ in nothing but their seeds, as far as both are known."""
    if not one.planned or not other.planned:
        return False
    protocols = one.protocol, other.protocol
    shared = protocols[0].keys() & protocols[1].keys()
    if any(protocols[0][key] != protocols[1][key] for key in shared):
        return False
    return not one.config or not other.config or _training(one.config) == _training(other.config)


def _training(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in IRRELEVANT}


def _one(cells: Sequence[Cell]) -> Cell:
    """Some cells as one with all their seeds; its `parts` are these cells, with the runs that count."""
    first = cells[0]
    if len(cells) == 1:
        own = plain(first.settings)
        return first if own == first.settings else replace(first, settings=own, parts=(first,))
    owners, disputed = _owners(cells)
    parts = tuple(_with(cell, [seed for seed in owners if owners[seed] is cell]) for cell in cells)
    given = [cell for cell in cells if cell.info] or [first]
    trained = {seed: cell.trained[seed] for seed, cell in owners.items() if seed in cell.trained}
    whole = [cell for cell in cells if {run.seed for run in cell.runs} >= owners.keys()]
    return replace(
        given[0],
        settings=plain(first.settings),
        family=max(given, key=lambda cell: cell.told).family,
        runs=tuple(sorted((r for part in parts for r in part.runs), key=lambda run: run.seed)),
        info=_summed(given),
        budget=next((cell.budget for cell in cells if cell.budget is not None), None),
        diagnostics=median_over_seeds(trained) if trained else given[0].diagnostics,
        trained=trained,
        gradient_steps=_gradient_steps(parts),
        problems=tuple(dict.fromkeys(text for cell in cells for text in cell.problems)),
        config=next((cell.config for cell in cells if cell.config), {}),
        protocol={key: value for cell in cells for key, value in cell.protocol.items()},
        lab={seed: cell.lab[seed] for seed, cell in owners.items() if seed in cell.lab},
        maps=next((cell.maps for cell in cells if cell.maps), {}),
        # the median and the worst of some seeds are not those of all
        pictures=next((cell.pictures for cell in whole if cell.pictures is not None), None),
        parts=parts,
        disputed=disputed,
    )


def _owners(cells: Sequence[Cell]) -> tuple[dict[int, Cell], tuple[int, ...]]:
    """The cell whose run of each seed counts, and the seeds that ended differently in several cells.

    Of several runs of a seed the one with the best status counts, of equals the one planned first.
    """
    found: dict[int, list[tuple[Run, Cell]]] = {}
    for cell in cells:
        for run in cell.runs:
            found.setdefault(run.seed, []).append((run, cell))
    owners = {
        seed: min(runs, key=lambda pair: STATUSES.index(pair[0].status))[1]
        for seed, runs in sorted(found.items())
    }
    ended = {
        seed: [run for run, _ in runs if run.status in {"completed", "diverged"}]
        for seed, runs in found.items()
    }
    disputed = (seed for seed, runs in ended.items() if any(_differ(runs[0], r) for r in runs[1:]))
    return owners, tuple(sorted(disputed))


def _differ(one: Run, other: Run) -> bool:
    same = np.array_equal(one.steps, other.steps) and np.array_equal(one.sampled, other.sampled)
    return one.status != other.status or not same


def _with(cell: Cell, seeds: Sequence[int]) -> Cell:
    """A cell with the runs of these seeds alone."""
    return replace(cell, runs=tuple(run for run in cell.runs if run.seed in seeds))


def median_over_seeds(trained: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """Median of each metric, over the seeds that have it."""
    names = dict.fromkeys(name for found in trained.values() for name in found)
    return {
        name: float(np.median([found[name] for found in trained.values() if name in found]))
        for name in names
    }


def _gradient_steps(parts: Iterable[Cell]) -> float | None:
    """Gradient steps in one update: mean over the cells, weighted by their numbers of seeds."""
    known = [(p.gradient_steps, len(p.runs)) for p in parts if p.gradient_steps is not None]
    total = sum(seeds for _, seeds in known)
    return sum(steps * seeds for steps, seeds in known) / total if total else None


def _summed(cells: Sequence[Cell]) -> dict[str, Any]:
    """`run.json` of the first cell, with steps, FLOPs and seconds summed over all; None if one lacks it."""
    info = dict(cells[0].info)
    for name in ("env_steps", "flops"):
        known = [finite(cell.info.get(name)) for cell in cells]
        info[name] = None if None in known else sum(value for value in known if value is not None)
    spent = [cell.info.get("seconds") for cell in cells]
    trained = [finite(each.get("train")) if isinstance(each, Mapping) else None for each in spent]
    told = None if None in trained else sum(value for value in trained if value is not None)
    return info | {"seconds": {"train": told}}
