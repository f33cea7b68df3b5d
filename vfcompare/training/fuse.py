"""Which cells one compiled program can train: those that differ only in numbers that JAX can trace."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from vfcompare.runs.naming import digest
from vfcompare.schema.tree import at, is_number, leaves
from vfcompare.training.cell import Cell, build

PARTS = ("env", "agent")
"""Where numbers may differ; budgets, seeds and lanes shape the program."""


NUMBER = ["a number"]
"""Stands in the place of each number in a `shape`; no value of a configuration, such as null, equals it."""

COPIES = 4
"""How many copies of a seed's state are in memory at the same time, see `room`."""


class Group(NamedTuple):
    """Cells that are trained together.

    Attributes:
      cells: one or more.
      traced: paths of the numbers in which they differ.
    """

    cells: list[Cell]
    traced: list[str]


def groups(cells: Sequence[Cell], max_seeds: int) -> Iterator[Group]:
    """Split cells into groups, in the order in which they come; a cell that cannot be built is one by itself.

    Each is examined when it is asked for, so that the first need not wait for the others.

    Args:
      cells: of a sweep.
      max_seeds: of one program, over all its cells.
    """
    alike: dict[str, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(digest(shape(cell.identity)), []).append(cell)
    for members in alike.values():
        yield from _split(members, max_seeds)


def shape(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the numbers of its environment and agent."""

    def blank(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: blank(item) for key, item in value.items()}
        return NUMBER if is_number(value) else value

    return {key: blank(value) if key in PARTS else value for key, value in config.items()}


def _split(cells: list[Cell], max_seeds: int) -> Iterator[Group]:
    paths = differing(cells)
    fixed = untraceable(cells[0].config, paths)
    traced = [path for path in paths if path not in fixed]
    same: dict[str, list[Cell]] = {}
    for cell in cells:
        same.setdefault(digest([at(cell.config, path) for path in fixed]), []).append(cell)
    for members in same.values():
        try:
            most = min(max_seeds, room(members[0].config))
        except Exception:  # whatever a part does while it is built
            # Its training will say so, and fail alone.
            yield from (Group([cell], []) for cell in members)
            continue
        size = max(int(most) // len(members[0].seeds), 1)
        for begin in range(0, len(members), size):
            part = members[begin : begin + size]
            moving = differing(part)
            yield Group(part, [path for path in traced if path in moving])


def room(config: Mapping[str, Any]) -> float:
    """How many seeds fit into half of the free memory.

    A seed is there before a chunk of training and after it, on the host, and in a checkpoint in the making;
    what it works on is there for one seed of each device at a time, and no matter of their number.
    """
    import jax

    learner = build(config, rehearsal=True)
    state = jax.eval_shape(learner.init, jax.random.key(0))
    size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
    return free_memory() / 2 / (COPIES * size)


def free_memory() -> float:
    """Bytes that may still be taken here, by what the kernel says, control groups and SLURM.

    Without bound where nobody tells. What SLURM gave a task is all of it, without what the task has taken.
    """
    found = [float("inf"), *_left_in_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))]
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable:"))
        found.append(float(available.split()[1]) * 2**10)
    given = os.environ.get
    if limit := given("SLURM_MEM_PER_NODE"):
        found.append(float(limit) * 2**20)
    elif limit := given("SLURM_MEM_PER_CPU"):
        found.append(float(limit) * 2**20 * float(given("SLURM_CPUS_ON_NODE") or 1))
    return min(found)


def _left_in_groups(membership: Path, root: Path) -> Iterator[float]:
    """What each control group (version 2) of this process has left; one without a limit tells nothing."""
    with suppress(OSError, StopIteration):
        lines = membership.read_text().splitlines()
        folder = root / next(line for line in lines if line.startswith("0::/")).removeprefix("0::/")
        for place in (folder, *(p for p in folder.parents if p.is_relative_to(root))):
            with suppress(OSError, ValueError):
                limit = float((place / "memory.max").read_text())
                yield max(limit - float((place / "memory.current").read_text()), 0.0)


def differing(cells: Sequence[Cell]) -> list[str]:
    """Paths of the numbers in which cells differ."""
    chosen = {part: cells[0].config[part] for part in PARTS}
    numbers = [path for path, _, value in leaves(chosen) if is_number(value)]
    return [path for path in numbers if len({at(cell.config, path) for cell in cells}) > 1]


def untraceable(config: Mapping[str, Any], paths: Sequence[str]) -> list[str]:
    """Those of some numbers that JAX cannot trace; mostly there are none, which one attempt shows."""
    if not paths or traceable(config, paths):
        return []
    if len(paths) == 1:
        return list(paths)
    return [path for path in paths if not traceable(config, [path])]


def traceable(config: Mapping[str, Any], paths: Sequence[str]) -> bool:
    """Whether JAX can trace numbers: whether the program's shape, and no Python of ours, depends on them.

    Found by trying: an update, an evaluation and what the lab measures are traced with the numbers unknown.
    """
    import jax
    import jax.numpy as jnp

    def attempt(number: Any, key: Any) -> Any:
        learner = build(config, dict.fromkeys(paths, number), rehearsal=True)
        made = learner.update(learner.init(key), key, jnp.float32(0.0))
        examined = None
        if learner.examine is not None:
            examined = learner.examine(made.state, key, jnp.float32(0.0))
        return made.metrics, learner.evaluate(made.state.params["policy"], key), examined

    try:
        jax.eval_shape(attempt, jnp.float32(0.0), jax.random.key(0))
    except Exception:  # whatever a part does with a number that has no value yet
        return False
    return True
