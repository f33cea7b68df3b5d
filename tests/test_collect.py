"""Collectors: what counts, what is padding, where the clock cuts, and what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete

from vfcompare import collect
from vfcompare.types import Policy

KEY = jax.random.key(5)


class Counter(FuncEnv):
    """Counts steps from a random start below 4; action 1 ends the episode; a reward of 1 a step."""

    observation_space = Box(0.0, np.inf, (2,), np.float32)
    action_space = Discrete(2)

    def __init__(self, horizon=10):
        super().__init__()
        self.horizon = horizon

    def initial(self, rng, params=None):
        start = jax.random.randint(rng, (), 0, 4)
        return jnp.stack([start, 0, 0]).astype(jnp.int32)

    def transition(self, state, action, rng, params=None):
        return state.at[1].add(1).at[2].set(action)

    def observation(self, state, rng, params=None):
        return state[:2].astype(jnp.float32)

    def reward(self, state, action, next_state, rng, params=None):
        return jnp.float32(1.0)

    def terminal(self, state, rng, params=None):
        return state[2] == 1

    def state_info(self, state, params=None):
        return {}


def quits(probability):
    """A policy that ends the episode with this probability at each step."""

    def act(params, carry, obs, legal, noise):
        action = (noise < probability).astype(jnp.int32)
        return carry, action, jnp.log(jnp.where(action == 1, probability, 1 - probability))

    return Policy(
        init=lambda key, obs: (),
        carry=(),
        noise_shape=(),
        act=act,
        mode=lambda params, carry, obs, legal: (carry, jnp.int32(0)),
        evaluate=lambda params, steps: (steps.first, steps.first),
    )


def episodes(probability, horizon=10, prompts=5, group=3, start="shared", chunk=4, keep_state=True):
    collector = collect.episodes(
        Counter(horizon), prompts=prompts, group=group, start=start, chunk=chunk
    )

    @jax.jit
    def run(key):
        return collector.collect((), quits(probability), (), key, keep_state=keep_state)[1:]

    return run(KEY)


def test_an_episode_has_one_end_and_counts_up_to_it():
    rollout, metrics = episodes(0.3)
    ends = (rollout.terminated + rollout.truncated).sum(-1)
    assert (ends == 1).all()
    length = rollout.mask.sum(-1).astype(int)
    last = jnp.take_along_axis(rollout.terminated + rollout.truncated, length[..., None] - 1, -1)
    assert (last == 1).all()
    assert (rollout.reward == rollout.mask).all()
    assert float(metrics["episodes"]) == 15
    np.testing.assert_allclose(metrics["return"], length.mean(), rtol=1e-6)


def test_the_clock_truncates_and_does_not_terminate():
    rollout, _ = episodes(0.0, horizon=10)
    assert (rollout.mask == 1).all()
    assert (rollout.terminated == 0).all()
    assert (rollout.truncated[..., -1] == 1).all()
    assert (rollout.truncated[..., :-1] == 0).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.9])
def test_the_row_after_the_last_step_shows_the_final_observation(probability):
    rollout, _ = episodes(probability)
    length = rollout.mask.sum(-1).astype(int)
    final = jnp.take_along_axis(rollout.obs, length[..., None, None], 2)[:, :, 0]
    assert (final[..., 1] == length).all()
    assert (rollout.state[..., :2] == rollout.obs).all()


@pytest.mark.parametrize("chunk", [1, 3, 10, 64])
def test_the_chunk_changes_no_step_of_a_deterministic_policy(chunk):
    rollout, _ = episodes(0.0, chunk=chunk)
    other, _ = episodes(0.0, chunk=4)
    for one, two in zip(jax.tree.leaves(rollout), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_rollouts_of_a_group_share_their_start_only_when_told_to():
    shared, _ = episodes(0.3, prompts=6)
    starts = shared.obs[:, :, 0, 0]
    assert (starts == starts[:, :1]).all()
    assert len(np.unique(starts)) > 1
    independent, _ = episodes(0.3, prompts=6, start="independent")
    starts = independent.obs[:, :, 0, 0]
    assert (starts != starts[:, :1]).any()


def test_rollouts_of_a_group_act_independently():
    rollout, _ = episodes(0.3, prompts=1, group=16)
    assert len(np.unique(rollout.mask.sum(-1))) > 1


def test_simulated_episodes_respect_the_time_that_is_used_up():
    collector = collect.episodes(Counter(10), prompts=1, group=1, start="shared")
    state = jax.vmap(Counter().initial)(jax.random.split(KEY, 4))
    time = jnp.array([0, 3, 9, 10])
    rollout = collector.simulate(state, time, jnp.array([1, 1, 1, 1]), quits(0.0), (), KEY)
    assert rollout.mask.sum(-1)[:, 0].tolist() == [10, 7, 1, 0]


def fragments(probability, horizon, length=12, number=4, time_limit="truncates", times=1):
    collector = collect.fragments(
        Counter(horizon), number=number, length=length, time_limit=time_limit
    )
    policy = quits(probability)
    state, out = collector.init(KEY, policy), []
    step = jax.jit(lambda state, key: collector.collect(state, policy, (), key, keep_state=True))
    for index in range(times):
        state, rollout, metrics = step(state, jax.random.fold_in(KEY, index))
        out.append((rollout, metrics))
    return out


def test_a_truncated_fragment_has_one_boundary_row_with_the_final_observation():
    ((rollout, _),) = fragments(0.0, horizon=5)
    # Five steps, a boundary row, and again.
    assert rollout.mask[0, 0].tolist() == [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0]
    assert rollout.truncated[0, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0]
    assert rollout.obs[0, 0, :, 1].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0]
    assert rollout.first[0, 0].tolist() == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert rollout.reward[0, 0, 5] == 0


def test_a_clock_that_terminates_needs_no_boundary_row():
    ((rollout, _),) = fragments(0.0, horizon=5, time_limit="terminates")
    assert (rollout.mask == 1).all()
    assert rollout.terminated[0, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert rollout.obs[0, 0, :, 1].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]


def test_fragments_go_on_where_the_last_ones_stopped():
    (first, _), (second, metrics) = fragments(0.0, horizon=20, length=12, times=2)
    assert first.obs[0, 0, -1, 1] == second.obs[0, 0, 0, 1] == 12
    assert (second.first[0, 0, 0], second.truncated[0, 0, 7]) == (0, 1)
    assert float(metrics["episodes"]) == 4
    assert float(metrics["return"]) == 20
    assert float(metrics["length"]) == 20


def test_a_terminated_fragment_starts_the_next_episode_in_the_next_row():
    ((rollout, _),) = fragments(0.4, horizon=100, length=50)
    ended = rollout.terminated[..., :-1] == 1
    assert ended.any()
    assert (rollout.first[..., 1:][ended] == 1).all()
    assert (rollout.obs[..., 1:-1, 1][ended] == 0).all()


def test_whole_episodes_of_cartpole_do_not_pay_for_the_horizon(build):
    env, learner = build("agent=reinforce", "env=cartpole")
    state = jax.jit(learner.init)(KEY)
    _, metrics = jax.jit(learner.update)(state, KEY, 0.0)
    # Random play lasts about 20 of 500 steps, the longest of 32 episodes some 60: without an early end 95 %
    # of the steps would be padding.
    assert env.horizon == 500
    assert float(metrics["length"]) < 40
    assert float(metrics["padding"]) < 0.8
