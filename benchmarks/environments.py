"""Every environment on one page, `docs/environments.md`, with a picture of each kind; a minute's work.

python -m benchmarks.environments
"""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from gymnasium.spaces import Discrete
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vfcompare.commands.catalogue import describe, files
from vfcompare.commands.compose import cells
from vfcompare.envs.base import Task, random_action
from vfcompare.oracle.exact import require_enumerable
from vfcompare.runs.store import write_bytes
from vfcompare.training import tasks

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "environments.md"
PICTURE = ROOT / "benchmarks" / "results" / "environments.png"

KINDS: Mapping[str, tuple[str, ...]] = {
    "Planning, with a new task each episode": ("maze", "maze_small", "maze_dense", "maze_partial"),
    "Chains and delays, one thing isolated": (
        *("lock", "lock_each", "lock_early", "lock_late", "delayed", "garnet"),
    ),
    "Tables of Gymnasium": (
        *("frozen_lake", "frozen_lake_8x8", "cliff_walking", "cliff_walking_outcome"),
        *("taxi", "taxi_outcome"),
    ),
    "Classic control of Gymnasium, step for step": (
        *("cartpole", "cartpole_outcome", "acrobot", "acrobot_outcome"),
        *("mountain_car", "mountain_car_outcome", "pendulum", "pendulum_outcome"),
    ),
    "Tokens, for a small transformer": (
        *("addition", "addition_scratch", "addition_report", "modular_sum", "sorting", "reversal"),
        *("brackets", "countdown", "maze_text", "gold_mold"),
    ),
}

BOARDS = (
    *("maze", "lock", "delayed", "garnet", "frozen_lake", "cliff_walking"),
    *("taxi", "cartpole", "acrobot", "mountain_car", "pendulum", "gold_mold"),
)
STRIPS = ("addition", "sorting", "brackets", "countdown", "maze_text", "modular_sum")
"""Of which a picture is shown, and of which it is a line of text."""

INTRODUCTION = """\
# Environments

Made by `python -m benchmarks.environments`. Each is a Gymnasium `FuncEnv`, a pure function that is jitted
and mapped; `vfcompare list envs NAME` shows its settings, and other programs make it with `gymnasium.make`
(`vfcompare.envs:vfcompare/Maze-v0`). The table has the defaults.

![A state of each of eighteen environments](../benchmarks/results/environments.png)

*Steps*: the most that an episode has; *limit* where the task does not show the time left, so that critics
bootstrap there. *Random* and *optimal*: undiscounted return of an episode, of the policy that is uniform
over the legal actions and of the best one, in tokens of the prompts that are evaluated; reports put scores
on this scale. *Solved*: the return from which the task counts as solved. A dash: nobody knows, or nothing is
agreed. *Exact*: whether its states can be listed, so that values, advantages and the policy gradient are
known by dynamic programming ([oracle.md](oracle.md)).

An `_outcome` twin pays the whole return R at the end, at step T. With a discount an agent is paid γ^(T-1) R,
which prefers late ends of bad episodes and early ends of good ones: with γ = 0.99 falling at step 100
of `cartpole_outcome` is worth 36.6 and standing to the end 3.3, and never arriving on `mountain_car_outcome`
is worth more than arriving. `agent.gamma=1` asks for the return itself.
"""

HEAD = """
| environment | asks for | observation | actions | steps | random | optimal | solved | exact |
|---|---|---|---|---|---|---|---|---|
"""


class Facts(NamedTuple):
    """What a reader wants to know of an environment, as printed."""

    observation: str
    actions: str
    steps: str
    exact: str


def make(name: str) -> Task:
    """An environment with its defaults."""
    (cell,) = cells([f"env={name}"], sweep=False)
    made: Task = tasks.make(cell.config["env"])
    return made


def facts(env: Task) -> Facts:
    """What its spaces and attributes say."""
    space: Any = env.observation_space
    seen = " x ".join(map(str, space.shape))
    seen += f" tokens of {env.layout.vocabulary}" if env.layout else ""
    choice: Any = env.action_space
    acts = (
        str(choice.n)
        if isinstance(choice, Discrete)
        else f"{choice.low[0]:g} to {choice.high[0]:g}"
    )
    try:
        require_enumerable(env)
        known = True
    except ValueError:
        known = False
    steps = f"{env.horizon}{'' if env.time_aware else ', limit'}"
    return Facts(seen, acts, steps, "yes" if known else "")


def row(name: str, text: str) -> str:
    """A line of the table."""
    env = make(name)
    told = facts(env)
    returns = ("-" if value is None else f"{value:.4g}" for value in env.held_out().reference)
    cells = (f"`{name}`", text, told.observation, told.actions, told.steps, *returns, told.exact)
    return f"| {' | '.join(cells)} |\n"


def page() -> str:
    """The page."""
    said = {name: describe(file.read_text("utf-8")) for name, file in files("env").items()}
    text = INTRODUCTION
    for heading, names in KINDS.items():
        text += f"\n## {heading}\n{HEAD}" + "".join(row(name, said[name]) for name in names)
    return text


def visited(env: Task, steps: int, seed: int) -> Iterator[Any]:
    """The states of an episode of random actions."""
    key = jax.random.key(seed)
    state = env.initial(key)
    for step in range(steps):
        yield state
        act, move = jax.random.split(jax.random.fold_in(key, step))
        state = env.transition(state, random_action(env, state, act), move)
        if bool(env.terminal(state, move)):
            break


def show(axes: Axes, name: str) -> None:
    """A state of an environment."""
    env = make(name)
    *_, state = visited(env, 3, seed=1)
    axes.imshow(np.asarray(env.draw(state)))
    axes.set_title(name, fontsize=8)
    axes.axis("off")


def picture() -> bytes:
    """A state of each kind, as a PNG."""
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(5, 2))
    above, below = parts
    for part, names, rows in ((above, BOARDS, 2), (below, STRIPS, 2)):
        panels = part.subplots(rows, len(names) // rows).flat
        for name, axes in zip(names, panels, strict=True):
            show(axes, name)
    file = BytesIO()
    figure.savefig(file, dpi=110, metadata={"Software": None})
    return file.getvalue()


def main() -> None:
    """Write both."""
    write_bytes(PICTURE, picture())
    write_bytes(PAGE, page().encode())


if __name__ == "__main__":
    main()
