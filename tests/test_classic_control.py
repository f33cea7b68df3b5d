"""Our classic control against Gymnasium's own, step for step."""

import itertools
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.envs.phys2d.cartpole import CartPoleParams

from vfcompare.envs.acrobot import Acrobot
from vfcompare.envs.cartpole import CartPole, State
from vfcompare.envs.mountain_car import MountainCar
from vfcompare.envs.pendulum import Pendulum

TASKS = {
    "CartPole-v1": CartPole,
    "Acrobot-v1": Acrobot,
    "MountainCar-v0": MountainCar,
    "Pendulum-v1": Pendulum,
}
STEPS = 300
# Gymnasium computes in float64; four stages at Acrobot's top speeds lose more of float32.
TOLERANCE = {id: 1e-4 if id == "Acrobot-v1" else 2e-6 for id in TASKS}


def wide_states(id, generator):
    """States over the whole range, not only those that a random policy visits: float64[STEPS, ...]."""
    high = {
        "CartPole-v1": [2.5, 3.0, 0.25, 3.0],
        "Acrobot-v1": [np.pi, np.pi, 4 * np.pi, 9 * np.pi],
        "MountainCar-v0": [0.9, 0.07],
        "Pendulum-v1": [10.0, 8.0],
    }[id]
    states = generator.uniform(-np.array(high), high, (STEPS, len(high)))
    if id == "MountainCar-v0":
        states[:, 0] -= 0.3
    return states.astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("id", TASKS)
def test_a_step_from_any_state_is_that_of_gymnasium(id):
    env = TASKS[id]()
    theirs: Any = gymnasium.make(id).unwrapped
    theirs.reset(seed=0)
    kind = type(env.initial(jax.random.key(0)))

    @jax.jit
    def step(state, action):
        new = env.transition(state, action, None)
        reward = env.reward(state, action, new, None)
        return env.observation(new, None), reward, env.terminal(new, None)

    generator = np.random.default_rng(0)
    theirs.action_space.seed(0)
    for start in wide_states(id, generator):
        theirs.state = start.copy()
        theirs.steps_beyond_terminated = None
        action = theirs.action_space.sample()
        obs, reward, terminated, _, _ = theirs.step(action)
        state = kind(*(jnp.float32(x) for x in start))
        our_obs, our_reward, our_end = step(state, action)
        np.testing.assert_allclose(our_obs, obs, rtol=TOLERANCE[id], atol=TOLERANCE[id])
        assert float(our_reward) == pytest.approx(float(reward), rel=1e-5, abs=1e-6)
        assert bool(our_end) == terminated


@pytest.mark.parametrize("id", TASKS)
def test_an_episode_from_the_same_start_stays_with_gymnasium(id):
    env = TASKS[id]()
    theirs: Any = gymnasium.make(id).unwrapped
    theirs.reset(seed=0)
    state = env.initial(jax.random.key(0))
    theirs.state = np.array(state, np.float64)
    step = jax.jit(lambda s, a: env.transition(s, a, None))
    theirs.action_space.seed(1)
    for _ in range(15):
        action = theirs.action_space.sample()
        obs, *_ = theirs.step(action)
        state = step(state, action)
        # No resynchronisation: the difference of float32 and float64 may grow.
        ours = np.asarray(env.observation(state, None))
        np.testing.assert_allclose(ours, obs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("id", TASKS)
def test_spaces_horizon_and_threshold_are_those_of_gymnasium(id):
    env: Any = TASKS[id]()
    theirs: Any = gymnasium.make(id)
    assert env.action_space == theirs.action_space
    np.testing.assert_allclose(env.observation_space.high, theirs.observation_space.high, rtol=1e-6)
    np.testing.assert_allclose(env.observation_space.low, theirs.observation_space.low, rtol=1e-6)
    assert env.horizon == theirs.spec.max_episode_steps
    assert env.reference.threshold == theirs.spec.reward_threshold


@pytest.mark.parametrize("id", TASKS)
@pytest.mark.statistical
def test_start_states_have_the_spread_of_gymnasium(id):
    env = TASKS[id]()
    theirs: Any = gymnasium.make(id).unwrapped
    keys = jax.random.split(jax.random.key(0), 4000)
    ours = np.stack(jax.jit(jax.vmap(env.initial))(keys), -1)
    rows = np.stack([np.array(_reset(theirs, seed), np.float64) for seed in range(1000)])
    # Each component by its own range; one that is always the same is so here.
    width = np.ptp(rows, axis=0)
    assert (abs(ours.min(0) - rows.min(0)) <= 0.03 * width + 1e-9).all()
    assert (abs(ours.max(0) - rows.max(0)) <= 0.03 * width + 1e-9).all()
    # The error of a mean of n uniform numbers of range r is r / sqrt(12 n), here of 4000 against 1000; four.
    error = width / np.sqrt(12) * np.hypot(1 / np.sqrt(4000), 1 / np.sqrt(1000))
    assert (abs(ours.mean(0) - rows.mean(0)) <= 4 * error + 1e-9).all()


def _reset(env, seed):
    env.reset(seed=seed)
    return env.state


def test_the_shipped_default_parameters_of_phys2d_are_not_cartpole():
    # If this fails Gymnasium has repaired its default, and the correction in CartPole can go.
    assert CartPoleParams().polemass_length == pytest.approx(0.6)
    ours: Any = CartPole().default_params
    assert ours.polemass_length == pytest.approx(0.05)


def test_a_hand_made_controller_balances_the_pole_for_the_whole_horizon():
    env = CartPole()

    def step(state, _):
        lean = state.theta + 0.5 * state.theta_dot + 0.05 * state.x + 0.1 * state.x_dot
        state = env.transition(state, (lean > 0).astype(jnp.int32), None)
        return state, env.terminal(state, None)

    def episode(key):
        return jax.lax.scan(step, env.initial(key), length=env.horizon)[1]

    ended = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), 32))
    assert not np.asarray(ended).any()


def test_no_cartpole_falls_before_its_shortest_episode():
    env = CartPole()
    corners = jnp.array(list(itertools.product((-0.05, 0.05), repeat=4)), jnp.float32)
    plans = jnp.array(list(itertools.product((0, 1), repeat=env.shortest - 1)), jnp.int32)

    def falls(corner, plan):
        def step(state, action):
            state = env.transition(state, action, None)
            return state, env.terminal(state, None)

        return jax.lax.scan(step, State(*corner), plan)[1].any()

    found = jax.vmap(jax.vmap(falls, (None, 0)), (0, None))(corners, plans)
    assert not bool(found.any())
