"""A maze in text: its squares are the prompt, the moves are the answer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import require, require_count
from ..maze import MOVES, Maze
from .base import EOS, FIRST, TokenTask, Verdict

WALL, OPEN, START, GOAL = range(FIRST, FIRST + 4)
ARROWS = "↑→↓←"
FIRST_MOVE = GOAL + 1


class MazeText(TokenTask):
    """A maze row by row, such as `A.. #.# B..`, and an answer such as `→↓↓←<eos>` that ends on the goal.

    Isolates planning that must be done before the first token, since nothing on the way is seen: the same
    mazes as `Maze`, without feedback.

    *Prompt.* The squares inside the outer walls: `#` wall, `.` open, `A` start, `B` goal.
    *Answer.* Moves; into a wall means staying. Right is any walk that ends on the goal.
    *Partial credit.* The share of the way that is behind the walker at the end, `1 - distance / distance of
    the start`, not below 0.
    *Optimum.* 1: there is room for the longest shortest path. *Source.* `Maze`.
    """

    def __init__(self, size: int = 5, loops: float = 0.0, spare: int = 2, **options: Any):
        """A maze.

        Args:
          size: as in `Maze`; 5 has two by two rooms.
          loops: as in `Maze`.
          spare: moves beyond the longest shortest path.
          **options: of `TokenTask`.
        """
        require_count("spare", spare, 0)
        require(not isinstance(loops, jax.Array), "loops", loops, "a number that is known")
        self.maze = Maze(size, loops=loops)
        self.side = size - 2
        symbols = ["#", ".", "A", "B", *ARROWS]
        super().__init__(
            symbols=symbols,
            answers=ARROWS,
            prompt_length=self.side**2,
            answer_length=self.maze.longest + spare + 1,
            **options,
        )

    def prompt(self, key) -> jax.Array:
        """A maze with a start and a goal."""
        maze = self.maze.initial(key)
        squares = jnp.where(maze.walls, WALL, OPEN).astype(jnp.int32)
        squares = squares.at[maze.row, maze.column].set(START)
        return squares.at[maze.goal_row, maze.goal_column].set(GOAL)[1:-1, 1:-1].ravel()

    def judge(self, prompt, answer) -> Verdict:
        """Follow the moves."""
        after, start, goal = self._graph(prompt)
        here = start
        for token in answer:
            is_move = token >= FIRST_MOVE
            here = jnp.where(is_move, after[here, jnp.maximum(token - FIRST_MOVE, 0)], here)
        distance = self._distance(after, goal)
        behind = 1.0 - distance[here].astype(jnp.float32) / distance[start].astype(jnp.float32)
        return Verdict(here == goal, jnp.maximum(behind, 0.0))

    def solve(self, prompt, key) -> jax.Array:
        """A shortest path; where there are several, each turn is drawn."""
        after, start, goal = self._graph(prompt)
        distance = self._distance(after, goal)

        def step(here, key):
            ahead = distance[after[here]]
            best = jnp.where(ahead < distance[here], 0.0, -jnp.inf)
            move = jax.random.categorical(key, best).astype(jnp.int32)
            arrived = distance[here] == 0
            there = jnp.where(arrived, here, after[here, move])
            return there, jnp.where(arrived, EOS, FIRST_MOVE + move)

        keys = jax.random.split(key, self.answer_length)
        tokens = jax.lax.scan(step, start, keys)[1]
        ends = jnp.cumsum((tokens == EOS).astype(jnp.int32))
        return jnp.where(ends <= 1, tokens, 0)

    def chance(self, prompt) -> jax.Array:
        """A fifth of the expected visits to the goal, of a walk that stops with probability 1/5 a step."""
        after, start, goal = self._graph(prompt)

        def step(mass, _):
            spread = jnp.broadcast_to(mass[:, None] / 5.0, after.shape)
            return jnp.zeros_like(mass).at[after].add(spread), mass[goal] / 5.0

        mass = jnp.zeros(self.side**2).at[start].set(1.0)
        return jax.lax.scan(step, mass, length=self.answer_length)[1].sum()

    def _graph(self, prompt):
        """Where each move leads from each square, int32[squares, 4], and start and goal."""
        row, column = np.divmod(np.arange(self.side**2), self.side)
        rows, columns = (x[:, None] + MOVES[:, i][None] for i, x in enumerate((row, column)))
        inside = (rows.clip(0, self.side - 1) == rows) & (columns.clip(0, self.side - 1) == columns)
        here = np.arange(self.side**2, dtype=np.int32)[:, None]
        there = np.where(inside, rows * self.side + columns, here).astype(np.int32)
        after = jnp.where(prompt[there] == WALL, here, there)
        start, goal = (jnp.argmax(prompt == token).astype(jnp.int32) for token in (START, GOAL))
        return after, start, goal

    def _distance(self, after, goal):
        """Moves to the goal from each square, by relaxation: int32[squares]."""
        far = self.side**2

        def relax(distance, _):
            return jnp.minimum(distance, distance[after].min(1) + 1), None

        begin = jnp.full(far, far, jnp.int32).at[goal].set(0)
        return jax.lax.scan(relax, begin, length=self.maze.longest)[0]
