"""Mazes are what they claim: connected, perfect without loops, with a known shortest path."""

import functools
from collections import deque

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vfcompare.envs.maze import MOVES, Maze

KEYS = 64


def starts(env, number=KEYS, seed=0):
    """`number` start states."""
    return jax.jit(jax.vmap(env.initial))(jax.random.split(jax.random.key(seed), number))


def row(states, index):
    return jax.tree.map(lambda x: x[index], states)


def search(walls, goal):
    """Breadth-first distances, written independently of the environment: {square: steps}."""
    distance, queue = {goal: 0}, deque([goal])
    while queue:
        here = queue.popleft()
        for step in MOVES:
            there = (here[0] + int(step[0]), here[1] + int(step[1]))
            if not walls[there] and there not in distance:
                distance[there] = distance[here] + 1
                queue.append(there)
    return distance


@pytest.mark.parametrize(("size", "loops"), [(5, 0.0), (9, 0.0), (9, 0.5), (21, 0.1), (11, 1.0)])
def test_mazes_are_connected_and_have_the_stated_number_of_passages(size, loops):
    env = Maze(size, loops=loops)
    states, side = starts(env), (size - 1) // 2
    # A spanning tree has rooms - 1 passages; of the 2 n (n - 1) inner walls (n - 1)^2 remain.
    squares = 2 * side**2 - 1 + round(loops * (side - 1) ** 2)
    for index in range(KEYS):
        state = row(states, index)
        walls = np.asarray(state.walls)
        assert (~walls).sum() == squares
        assert not walls[1::2, 1::2].any()
        assert walls[::2, ::2].all()
        distance = search(walls, (int(state.goal_row), int(state.goal_column)))
        assert len(distance) == squares
        expected = np.full((size, size), size * size)
        for square, steps in distance.items():
            expected[square] = steps
        np.testing.assert_array_equal(np.asarray(state.distance), expected)
        assert max(distance.values()) <= env.longest


def test_start_and_goal_are_distinct_open_squares():
    states = starts(Maze(5), 512)
    index = np.arange(512)
    assert not np.asarray(states.walls)[index, states.row, states.column].any()
    assert not np.asarray(states.walls)[index, states.goal_row, states.goal_column].any()
    assert ((states.row != states.goal_row) | (states.column != states.goal_column)).all()


@pytest.mark.statistical
def test_all_four_smallest_mazes_and_all_places_occur_evenly():
    # Four rooms have four spanning trees, each with one of the four passages closed.
    states = starts(Maze(5), 4000, seed=1)
    passages = np.asarray(states.walls)[:, [1, 2, 2, 3], [2, 1, 3, 2]]
    np.testing.assert_array_equal(passages.sum(1), 1)
    # Four standard errors here and below.
    assert (np.abs(passages.mean(0) - 0.25) < 4 * np.sqrt(0.1875 / 4000)).all()
    rooms = np.asarray(states.row) * 5 + np.asarray(states.column)
    corner = (rooms == 6).mean()
    assert abs(corner - 1 / 7) < 4 * np.sqrt(1 / 7 * 6 / 7 / 4000)


def test_different_keys_give_different_mazes():
    walls = np.asarray(starts(Maze(9)).walls).reshape(KEYS, -1)
    assert len(np.unique(walls, axis=0)) > KEYS - 3


@pytest.mark.parametrize("options", [{}, {"size": 13, "loops": 0.3}, {"reward": "dense"}])
def test_the_shortest_path_is_walked_in_exactly_that_many_steps(options):
    env = Maze(**options)
    states = starts(env)

    def nearest(state):
        distances = jnp.stack([state.distance[state.row + r, state.column + c] for r, c in MOVES])
        return jnp.argmin(distances).astype(jnp.int32)

    def step(carry, _):
        state, alive, total, steps = carry
        new = env.transition(state, nearest(state), jax.random.key(0))
        reward = env.reward(state, jnp.int32(0), new, jax.random.key(0))
        total, steps = total + alive * reward, steps + alive
        return (new, alive * (1 - env.terminal(new, None)), total, steps), None

    def walk(state):
        carry = (state, jnp.int32(1), jnp.float32(0), jnp.int32(0))
        return jax.lax.scan(step, carry, length=env.horizon)[0][2:]

    total, steps = jax.jit(jax.vmap(walk))(states)
    shortest = np.asarray(jax.vmap(env.shortest_path)(states))
    np.testing.assert_array_equal(np.asarray(steps), shortest)
    bonus = shortest / env.longest if options.get("reward") == "dense" else 0.0
    np.testing.assert_allclose(np.asarray(total), 1 + bonus, rtol=1e-5)


@functools.cache
def successors(reward):
    """Where each action leads without slip, and what it pays, from every square at every time."""
    env = Maze(5, reward=reward)

    def one(time, square, state, action):
        here = state._replace(row=square[0], column=square[1], time=time)
        new = env.transition(here, action, None)
        return (
            new.row * 5 + new.column,
            env.reward(here, action, new, None),
            env.terminal(new, None),
        )

    axes = ((None, None, None, 0), (0, None, None, None), (None, 0, None, None))
    for in_axes in axes:
        one = jax.vmap(one, in_axes)
    return jax.jit(one)


def best_actions(env, state, slip):
    """Optimal actions by enumerating every square and time: bool[horizon, squares, 4]."""
    squares = jnp.asarray(np.argwhere(~np.asarray(state.walls)), jnp.int32)
    value, rows = np.zeros(env.size**2), []
    times, actions = jnp.arange(env.horizon), jnp.arange(4)
    tables = successors(env.reward_kind)(times, squares, state, actions)
    tables = [np.asarray(table).swapaxes(0, 1) for table in tables]
    for place, reward, end in reversed(list(zip(*tables, strict=True))):
        moved = reward + np.where(end, 0.0, value[place])
        q = (1 - slip) * moved + slip * moved.mean(1, keepdims=True)
        rows.append(q >= q.max(1, keepdims=True) - 1e-5)
        value[np.asarray(squares[:, 0] * env.size + squares[:, 1])] = q.max(1)
    return np.stack(rows), value


@pytest.mark.parametrize("slip", [0.0, 0.3])
def test_dense_and_outcome_mazes_have_the_same_optimal_actions(slip):
    plain = Maze(5)
    outcome, dense = Maze(5, slip=slip), Maze(5, slip=slip, reward="dense")
    for index in range(3):
        state = row(starts(plain), index)
        actions, value = best_actions(outcome, state, slip)
        dense_actions, dense_value = best_actions(dense, state, slip)
        np.testing.assert_array_equal(actions, dense_actions)
        place = int(state.row) * 5 + int(state.column)
        bonus = int(plain.shortest_path(state)) / plain.longest
        assert dense_value[place] == pytest.approx(value[place] + bonus, abs=1e-5)
        # The environment's own dynamic programming says the same.
        own = outcome.values(state)[0][-1, state.row, state.column]
        assert float(own) == pytest.approx(value[place], abs=1e-5)


@pytest.mark.statistical
def test_a_slip_replaces_the_action_by_any_of_the_four_equally():
    env = Maze(5, slip=0.4)
    draws = jax.random.split(jax.random.key(0), 40_000)
    actions = np.asarray(jax.jit(jax.vmap(lambda key: env._slipped(jnp.int32(1), key)))(draws))
    share = np.bincount(actions, minlength=4) / len(actions)
    expected = np.array([0.1, 0.7, 0.1, 0.1])
    assert np.abs(share - expected).max() < 4 * np.sqrt(0.21 / 40_000)  # four standard errors


def test_walls_stop_and_open_squares_let_through():
    env = Maze(5)
    state = row(starts(env), 0)
    for action, (down, right) in enumerate(MOVES):
        new = env.transition(state, jnp.int32(action), None)
        blocked = bool(state.walls[state.row + down, state.column + right])
        assert int(new.row) == int(state.row) + (0 if blocked else int(down))
        assert int(new.column) == int(state.column) + (0 if blocked else int(right))


def test_the_full_view_shows_all_but_the_outer_walls():
    env = Maze(9, horizon=20)
    states = starts(env)._replace(time=jnp.full(KEYS, 5))
    planes = np.asarray(jax.jit(jax.vmap(lambda s: env.observation(s, None)))(states))
    assert planes.shape[1:] == env.observation_space.shape == (7, 7, 4)
    for index, (walls, agent, goal, left) in enumerate(np.moveaxis(planes, -1, 1)):
        state = row(states, index)
        np.testing.assert_array_equal(np.pad(walls, 1, constant_values=1), state.walls)
        assert np.argwhere(agent).tolist() == [[int(state.row) - 1, int(state.column) - 1]]
        assert np.argwhere(goal).tolist() == [[int(state.goal_row) - 1, int(state.goal_column) - 1]]
        assert agent.max() == goal.max() == 1
        assert (left == np.float32(0.75)).all()


def test_the_partial_view_is_a_window_of_the_full_one():
    full, partial = Maze(9), Maze(9, view="partial", radius=2)
    states = starts(full)
    both = jax.jit(jax.vmap(lambda s: (full.observation(s, None), partial.observation(s, None))))
    for index, (planes, window) in enumerate(zip(*map(np.asarray, both(states)), strict=True)):
        state = row(states, index)
        padded = np.pad(planes, ((3, 3), (3, 3), (0, 0)))  # the outer walls, and two squares beyond
        padded[..., 0] = np.pad(planes[..., 0], 3, constant_values=1)
        r, c = int(state.row), int(state.column)
        expected = padded[r : r + 5, c : c + 5]
        np.testing.assert_array_equal(window[..., 0], expected[..., 0])
        np.testing.assert_array_equal(window[..., 1], expected[..., 2])
        assert expected[2, 2, 1] == 1  # the agent is in the middle
        assert (window[..., 2] == 1).all()


def test_the_optimum_is_certain_without_slip_and_lower_with_much_of_it():
    assert Maze(7).reference.optimal == 1.0
    slippery = Maze(7, slip=0.8).reference
    assert slippery.random is not None
    assert slippery.optimal is not None
    assert slippery.random < slippery.optimal < 1.0


def test_settings_that_are_numbers_can_be_traced():
    def outcome(slip):
        env = Maze(5, slip=slip, loops=slip)
        state = env.initial(jax.random.key(0))
        return env.transition(state, jnp.int32(0), jax.random.key(1)), (~state.walls).sum()

    _, squares = jax.jit(jax.vmap(outcome))(jnp.array([0.0, 1.0]))
    np.testing.assert_array_equal(np.asarray(squares), [7, 8])
