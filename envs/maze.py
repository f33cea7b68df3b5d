"""Mazes: reach the goal before the time is up; every episode can have a maze of its own."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Discrete

from vfcompare.oracle.exact import Outcomes, deterministic

from . import drawing
from .base import Reference, Task, require, require_count, require_fraction

MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)], np.int32)
"""Row and column steps of the actions up, right, down, left."""


class State(NamedTuple):
    """Where the episode is; `S` is the size.

    Attributes:
      walls: bool[S, S].
      distance: int32[S, S], steps to the goal by the shortest path; `S * S` in walls.
      row: int32[], where the agent is.
      column: int32[].
      goal_row: int32[].
      goal_column: int32[].
      time: int32[], steps taken.
    """

    walls: jax.Array
    distance: jax.Array
    row: jax.Array
    column: jax.Array
    goal_row: jax.Array
    goal_column: jax.Array
    time: jax.Array


class Maze(Task):
    """Procedural mazes with a known shortest path.

    Isolates long-range planning with one outcome at the end: the shortest path grows with `size`, luck
    with `slip`, the number of alternative routes with `loops`, and memory is needed with `view="partial"`.

    *Maze.* `size` x `size` squares, rooms at odd coordinates. A depth-first walk with random turns (the
    "recursive backtracker") carves a spanning tree of the rooms, then the fraction `loops` of the walls
    that still part two rooms is opened. Start and goal are distinct open squares, uniformly drawn.
    *Action.* 0 up, 1 right, 2 down, 3 left; into a wall means staying. With probability `slip` the action
    is replaced by a uniformly random one.
    *Observation.* float32 planes in 0 to 1. `view="full"`: `[size - 2, size - 2, 4]` = walls, agent, goal,
    time left (constant plane), of all but the outer walls, which are the same in every maze.
    `view="partial"`: `[2 radius + 1, 2 radius + 1, 3]` = walls, goal, time left around the agent, so that the
    task is only solved by remembering.
    *Reward.* `"outcome"`: 1 on reaching the goal, else 0. `"dense"`: the same plus `phi(s') - phi(s)` with
    `phi = -distance / longest`, zero in terminal states, `longest = 2 rooms - 2` (Ng, Harada and Russell,
    1999). It adds exactly `distance(start) / longest` to the return of *every* episode, so at gamma = 1 the
    optimal policies are the same; for gamma < 1 their theorem asks for `gamma phi(s') - phi(s)`, which an
    environment that does not know the agent's gamma cannot pay.
    *End.* At the goal or after `horizon` steps (default `4 rooms = 2 longest + 4`; no
    shortest path is longer than `longest`).
    *Optimum.* `shortest_path(state)` steps; return 1 without slip if the horizon allows it.
    """

    action_space = Discrete(4)
    time_aware = True

    def __init__(
        self,
        size: int = 9,
        loops: float = 0.0,
        slip: float = 0.0,
        view: str = "full",
        radius: int = 2,
        horizon: int | None = None,
        reward: str = "outcome",
    ):
        super().__init__()
        require(size in range(5, 22, 2), "size", size, "an odd number from 5 to 21")
        require(view in ("full", "partial"), "view", view, "'full' or 'partial'")
        require_count("radius", radius, 1)
        require(reward in ("outcome", "dense"), "reward", reward, "'outcome' or 'dense'")
        if horizon is not None:
            require_count("horizon", horizon, 1)
        require_fraction("loops", loops)
        require_fraction("slip", slip)
        self.size, self.loops, self.slip = size, loops, slip
        self.view, self.radius, self.reward_kind = view, radius, reward
        self.rooms = ((size - 1) // 2) ** 2
        self.longest = 2 * self.rooms - 2
        self.horizon = 4 * self.rooms if horizon is None else horizon
        side = 2 * radius + 1
        shape = (size - 2, size - 2, 4) if view == "full" else (side, side, 3)
        self.observation_space = Box(0.0, 1.0, shape, np.float32)

    @functools.cached_property
    def reference(self) -> Reference:
        """Exact dynamic programming on each of 256 mazes (seeds 0 to 255 of `initial`), averaged.

        Without slip the optimum of the outcome is exactly 1 if the horizon reaches the longest path.
        Everything else is a sample of mazes: the exact values of 256 of them, standard error about 0.02.
        With `view="partial"` the optimum is that of an agent which knows the maze, an upper bound.
        """
        keys = jax.vmap(jax.random.key)(jnp.arange(256))
        solve = functools.partial(jax.lax.map, self._sample_values, batch_size=16)
        optimal, random, start = jax.jit(solve)(keys)
        bonus = float(start.mean()) / self.longest if self.reward_kind == "dense" else 0.0
        return Reference(float(random.mean()) + bonus, float(optimal.mean()) + bonus)

    def initial(self, rng, params=None):
        """A new maze with a start and a goal."""
        del params
        size, steps = self.size, 2 * self.rooms - 2
        inner = _inner_walls(size)
        # One draw for everything: many small ones cost more than the maze.
        draw = jax.random.uniform(rng, (steps + 2 + (len(inner) if self._has_loops else 0),))
        walls = _carve(draw[:steps], size)
        if self._has_loops:
            walls = _open_loops(draw[steps + 2 :], walls, inner, self.loops)
        start, goal = _two_open_squares(draw[steps : steps + 2], walls)
        distance = _distance_map(walls, goal)
        places = (start // size, start % size, goal // size, goal % size)
        return State(walls, distance, *places, jnp.int32(0))

    def transition(self, state, action, rng, params=None):
        """One step; into a wall means staying."""
        del params
        return self._moved(state, self._slipped(jnp.asarray(action, jnp.int32), rng))

    def _moved(self, state, action):
        # Arithmetic instead of a table look-up: it fuses when mapped.
        vertical = (action % 2 == 0).astype(jnp.int32)
        forward = jnp.where((action == 1) | (action == 2), 1, -1).astype(jnp.int32)
        row = state.row + vertical * forward
        column = state.column + (1 - vertical) * forward
        free = ~state.walls[row, column]
        return state._replace(
            row=jnp.where(free, row, state.row),
            column=jnp.where(free, column, state.column),
            time=state.time + 1,
        )

    def observation(self, state, rng, params=None):
        """Planes of walls, agent, goal and time left: float32 `[S - 2, S - 2, 4]`, or the partial window."""
        del rng, params
        left = (self.horizon - state.time).astype(jnp.float32) / self.horizon
        goal = self._one_hot(state.goal_row, state.goal_column)
        if self.view == "full":
            agent = self._one_hot(state.row, state.column)
            planes = (state.walls.astype(jnp.float32), agent, goal, jnp.full_like(goal, left))
            return jnp.stack(planes, axis=-1)[1:-1, 1:-1]
        window = functools.partial(self._window, row=state.row, column=state.column)
        walls = window(state.walls.astype(jnp.float32), outside=1.0)
        goal = window(goal, outside=0.0)
        return jnp.stack((walls, goal, jnp.full_like(goal, left)), axis=-1)

    def reward(self, state, action, next_state, rng, params=None):
        """One at the goal; with `reward="dense"` plus the change of potential: float32[]."""
        del action, params
        outcome = self._at_goal(next_state).astype(jnp.float32)
        if self.reward_kind == "outcome":
            return outcome
        return outcome + self._potential(next_state, rng) - self._potential(state, rng)

    def terminal(self, state, rng, params=None):
        """At the goal, or out of time."""
        del rng, params
        return self._at_goal(state) | (state.time >= self.horizon)

    def shortest_path(self, state) -> jax.Array:
        """Steps from the agent to the goal: int32[]."""
        return state.distance[state.row, state.column]

    def values(self, state) -> tuple[jax.Array, jax.Array]:
        """Probability of reaching the goal in time, by dynamic programming.

        V_k(s) = max_a or mean_a E[V_{k-1}(s')],  V(goal) = 1,  V_0 = 0 elsewhere.

        Returns:
          `(optimal, random)`, float32[horizon + 1, S, S] each; the first axis is the time that is left.
        """
        goal = state.distance == 0

        def backup(value, choose):
            moved = jnp.stack([self._after(value, move, state.walls) for move in range(4)])
            expected = (1.0 - self.slip) * moved + self.slip * moved.mean(0, keepdims=True)
            return jnp.where(goal, 1.0, jnp.where(state.walls, 0.0, choose(expected)))

        def step(carry, _):
            optimal, random = carry
            new = backup(optimal, lambda q: q.max(0)), backup(random, lambda q: q.mean(0))
            return new, new

        nothing = goal.astype(jnp.float32)
        _, (optimal, random) = jax.lax.scan(step, (nothing, nothing), length=self.horizon)
        return (
            jnp.concatenate([nothing[None], optimal]),
            jnp.concatenate([nothing[None], random]),
        )

    contextual = True

    @property
    def places(self) -> int:
        """Squares."""
        return self.size * self.size

    @property
    def spread(self) -> int:
        """With slip, any move may follow an action."""
        return 1 if self.slip == 0 else 4

    def place(self, state) -> jax.Array:
        """The square: int32[]."""
        return state.row * self.size + state.column

    def states(self, start, time) -> State:
        """The agent on every square, walls included."""
        square = jnp.arange(self.places, dtype=jnp.int32)
        alike = jax.tree.map(lambda x: jnp.broadcast_to(x, (self.places, *x.shape)), start)
        clock = jnp.full(self.places, time, jnp.int32)
        return alike._replace(row=square // self.size, column=square % self.size, time=clock)

    def outcomes(self, start, time) -> Outcomes:
        """Where the moves lead, and how probable each is for an action."""

        def move(state, move):
            after = self._moved(state, move)
            end = self.terminal(after, None)
            return self.place(after), self.reward(state, move, after, None), end.astype(float)

        each = jax.vmap(jax.vmap(move, (None, 0)), (0, None))
        place, reward, end = each(self.states(start, time), jnp.arange(4))
        if self.slip == 0:
            return deterministic(place, reward, end)
        chance = (1.0 - self.slip) * jnp.eye(4) + self.slip / 4
        shape = (self.places, 4, 4)
        return Outcomes(
            jnp.broadcast_to(chance, shape),
            *(jnp.broadcast_to(x[:, None, :], shape) for x in (place, reward, end)),
        )

    def draw(self, state) -> np.ndarray:
        """Walls, the goal (green) and the agent (blue)."""
        scale = max(360 // self.size, 12)
        image = drawing.canvas(self.size * scale, self.size * scale, drawing.FLOOR)
        for row, column in np.argwhere(np.asarray(state.walls)):
            drawing.cell(image, row, column, scale, drawing.INK)
        goal = (int(state.goal_row), int(state.goal_column))
        drawing.cell(image, *goal, scale, drawing.GREEN, inset=0.08, corner=0.15)
        centre = ((int(state.column) + 0.5) * scale, (int(state.row) + 0.5) * scale)
        drawing.disk(image, centre, 0.34 * scale, drawing.BLUE)
        return drawing.finish(image)

    @property
    def _has_loops(self) -> bool:
        return isinstance(self.loops, jax.Array) or self.loops > 0

    def _slipped(self, action, rng):
        """The action, or with probability `slip` a random one, from a single draw."""
        if not isinstance(self.slip, jax.Array) and self.slip == 0:
            return action
        draw = jax.random.uniform(rng)
        other = (draw / jnp.maximum(self.slip, 1e-6) * 4).astype(jnp.int32)
        return jnp.where(draw < self.slip, jnp.minimum(other, 3), action)

    def _at_goal(self, state):
        return (state.row == state.goal_row) & (state.column == state.goal_column)

    def _potential(self, state, rng):
        potential = -self.shortest_path(state).astype(jnp.float32) / self.longest
        return jnp.where(self.terminal(state, rng), 0.0, potential)

    def _one_hot(self, row, column):
        rows = jax.nn.one_hot(row, self.size, dtype=jnp.float32)
        columns = jax.nn.one_hot(column, self.size, dtype=jnp.float32)
        return rows[:, None] * columns[None, :]

    def _window(self, plane, row, column, outside):
        padded = jnp.pad(plane, self.radius, constant_values=outside)
        side = 2 * self.radius + 1
        return jax.lax.dynamic_slice(padded, (row, column), (side, side))

    def _after(self, value, move, walls):
        """Value of the square that a move leads to: float32[S, S]."""
        shift = (-int(MOVES[move, 0]), -int(MOVES[move, 1]))
        blocked = jnp.roll(walls, shift, (0, 1))
        return jnp.where(blocked, value, jnp.roll(value, shift, (0, 1)))

    def _sample_values(self, key):
        state = self.initial(key)
        optimal, random = self.values(state)
        place = (-1, state.row, state.column)
        return optimal[place], random[place], self.shortest_path(state)


def _inner_walls(size: int) -> np.ndarray:
    """Flat indices of the squares between two neighbouring rooms: int32[W]."""
    row, column = np.divmod(np.arange(size * size), size)
    inside = (row % (size - 1) > 0) & (column % (size - 1) > 0)
    return np.flatnonzero(inside & ((row + column) % 2 == 1)).astype(np.int32)


def _carve(draw: jax.Array, size: int) -> jax.Array:
    """Walls of a perfect maze: bool[size, size], from `2 rooms - 2` uniform numbers.

    A depth-first walk from a random room. It crosses each of the `rooms - 1` passages once in each
    direction, so its length is known, and the last room is entered after at most `2 rooms - 3` steps.
    """
    width = size + 2  # a ring that counts as visited, so that no border needs a test
    offsets = jnp.array([-2 * width, 2, 2 * width, -2], jnp.int32)
    origin = np.full((width, width), -1, np.int32)
    origin[[0, -1], :] = origin[:, [0, -1]] = 0
    side = (size - 1) // 2
    room = (draw[0] * side**2).astype(jnp.int32)
    start = 2 * width * (1 + room // side) + 2 * (1 + room % side)

    def walk(carry, draw):
        origin, here = carry
        new = origin[here + offsets] < 0
        count = jnp.cumsum(new.astype(jnp.int32))
        pick = (draw * count[-1].astype(jnp.float32)).astype(jnp.int32)
        offset = offsets[jnp.argmax(count > pick)]
        back = origin[here]
        can = count[-1] > 0
        there = jnp.where(can, here + offset, here)
        between = jnp.where(can, here + offset // 2, here)
        origin = origin.at[between].set(jnp.where(can, 0, back))
        origin = origin.at[there].set(jnp.where(can, here, back))
        return (origin, jnp.where(can, there, back)), None

    carry = (jnp.asarray(origin.ravel()).at[start].set(start), start)
    (carved, _), _ = jax.lax.scan(walk, carry, draw[1:])
    return carved.reshape(width, width)[1:-1, 1:-1] < 0


def _open_loops(draw, walls, inner, loops):
    """Walls with the fraction `loops` of those that still part two rooms opened: bool[size, size]."""
    flat = walls.ravel()
    score = jnp.where(flat[inner], draw, 2.0)
    removable = (score < 2.0).sum().astype(jnp.float32)
    count = jnp.round(loops * removable).astype(jnp.int32)
    limit = jnp.where(count > 0, jnp.sort(score)[jnp.maximum(count - 1, 0)], -1.0)
    return flat.at[inner].set(score > limit, mode="promise_in_bounds").reshape(walls.shape) & walls


def _two_open_squares(draw, walls):
    """Flat indices of two distinct open squares: int32[], int32[]."""
    rank = jnp.cumsum((~walls.ravel()).astype(jnp.int32))
    total = rank[-1]
    numbers = jnp.stack([total, total - 1]).astype(jnp.float32)
    first, second = (draw * numbers).astype(jnp.int32)
    second = second + (second >= first).astype(jnp.int32)
    return tuple(jnp.argmax(rank > n).astype(jnp.int32) for n in (first, second))


def _distance_map(walls, goal):
    """Steps to the goal from every square: int32[size, size], `size * size` in walls.

    Relaxed on the graph of rooms (two steps an edge) until nothing changes: eight times less work than
    on the squares, and this is the larger part of making a maze.
    """
    size = walls.shape[0]
    far = size * size
    squares = jnp.arange(far, dtype=jnp.int32).reshape(size, size)
    distance = _relax_once(jnp.where(squares == goal, 0, far).astype(jnp.int32), walls)
    east = jnp.where(walls[1:-1:2, 2:-1:2], far, 2).astype(jnp.int32)
    south = jnp.where(walls[2:-1:2, 1:-1:2], far, 2).astype(jnp.int32)
    rooms = _relax_rooms(distance[1::2, 1::2], east, south)
    return _relax_once(distance.at[1::2, 1::2].set(rooms), walls)


def _relax_once(distance, walls):
    """One step further on the open squares: int32[size, size]."""
    near = jnp.minimum(
        jnp.minimum(distance[:-2, 1:-1], distance[2:, 1:-1]),
        jnp.minimum(distance[1:-1, :-2], distance[1:-1, 2:]),
    )
    inner = distance[1:-1, 1:-1]
    better = jnp.where(walls[1:-1, 1:-1], inner, jnp.minimum(inner, near + 1))
    return distance.at[1:-1, 1:-1].set(better)


def _relax_rooms(rooms, east, south):
    """Shortest distances of the rooms `[n, n]`, given edges `[n, n - 1]` and `[n - 1, n]`."""
    far = jnp.iinfo(jnp.int32).max // 2

    def pad(array, *widths):
        return jnp.pad(array, widths, constant_values=far)

    def relax(carry):
        distance, _ = carry
        horizontal = jnp.minimum(
            pad(distance[:, 1:] + east, (0, 0), (0, 1)),
            pad(distance[:, :-1] + east, (0, 0), (1, 0)),
        )
        vertical = jnp.minimum(
            pad(distance[1:] + south, (0, 1), (0, 0)),
            pad(distance[:-1] + south, (1, 0), (0, 0)),
        )
        better = jnp.minimum(distance, jnp.minimum(horizontal, vertical))
        return better, (better < distance).any()

    return jax.lax.while_loop(lambda carry: carry[1], relax, (rooms, jnp.bool_(True)))[0]
