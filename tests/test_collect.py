"""Collectors: what counts, what is padding, where the clock cuts, and what it costs."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from vfcompare import collect, masked
from vfcompare.envs.base import Task
from vfcompare.types import Charge, Collected, Collector, Policy

KEY = jax.random.key(5)


class Counter(Task):
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
        return collector.collect((), quits(probability), (), key, keep_state=keep_state)

    return run(KEY)


def test_a_choice_is_of_a_whole_tree_or_lane_by_lane():
    x = {"time": jnp.arange(2), "state": jnp.ones((2, 3, 2))}
    y = jax.tree.map(lambda leaf: leaf - 7, x)
    for first, second in np.ndindex(2, 2):
        found = masked.choose(jnp.array([first, second], bool), x, y)
        for name, leaf in found.items():
            want = [(x if chosen else y)[name][lane] for lane, chosen in enumerate((first, second))]
            np.testing.assert_array_equal(leaf, want)
    for whole, tree in ((True, x), (False, y)):
        found = masked.choose(jnp.array(whole), x, y)
        jax.tree.map(np.testing.assert_array_equal, found, tree)


def test_an_episode_has_one_end_and_counts_up_to_it():
    _, rollout, charge, metrics = episodes(0.3)
    ends = (rollout.terminated + rollout.truncated).sum(-1)
    assert (ends == 1).all()
    length = rollout.mask.sum(-1).astype(int)
    last = jnp.take_along_axis(rollout.terminated + rollout.truncated, length[..., None] - 1, -1)
    assert (last == 1).all()
    assert (rollout.reward == rollout.mask).all()
    assert charge == (length.sum(), 15)
    np.testing.assert_allclose(metrics["return"], length.mean(), rtol=1e-6)


def test_the_clock_truncates_and_does_not_terminate():
    rollout = episodes(0.0, horizon=10).rollout
    assert (rollout.mask == 1).all()
    assert (rollout.terminated == 0).all()
    assert (rollout.truncated[..., -1] == 1).all()
    assert (rollout.truncated[..., :-1] == 0).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 0.9])
def test_the_row_after_the_last_step_shows_the_final_observation(probability):
    rollout = episodes(probability).rollout
    length = rollout.mask.sum(-1).astype(int)
    final = jnp.take_along_axis(rollout.obs, length[..., None, None], 2)[:, :, 0]
    assert (final[..., 1] == length).all()
    assert (rollout.state[..., :2] == rollout.obs).all()


@pytest.mark.parametrize("chunk", [1, 3, 10, 64])
def test_the_chunk_changes_no_step_of_a_deterministic_policy(chunk):
    rollout = episodes(0.0, chunk=chunk).rollout
    other = episodes(0.0, chunk=4).rollout
    for one, two in zip(jax.tree.leaves(rollout), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(one, two)


def test_rollouts_of_a_group_share_their_start_only_when_told_to():
    shared = episodes(0.3, prompts=6).rollout
    starts = shared.obs[:, :, 0, 0]
    assert (starts == starts[:, :1]).all()
    assert len(np.unique(starts)) > 1
    independent = episodes(0.3, prompts=6, start="independent").rollout
    starts = independent.obs[:, :, 0, 0]
    assert (starts != starts[:, :1]).any()


def test_rollouts_of_a_group_act_independently():
    rollout = episodes(0.3, prompts=1, group=16).rollout
    assert len(np.unique(rollout.mask.sum(-1))) > 1


def test_simulated_episodes_respect_the_time_that_is_used_up():
    collector = collect.episodes(Counter(10), prompts=1, group=1, start="shared")
    state = jax.vmap(Counter().initial)(jax.random.split(KEY, 4))
    time = jnp.array([0, 3, 9, 10])
    rollout = collector.simulate(state, quits(0.0), (), KEY, time=time)
    assert rollout.mask.sum(-1)[:, 0].tolist() == [10, 7, 1, 0]


def fragments(probability, horizon, length=12, number=4, time_limit="truncates", times=1):
    collector = collect.fragments(
        Counter(horizon), number=number, length=length, time_limit=time_limit
    )
    policy = quits(probability)
    state, out = collector.init(KEY, policy), []
    step = jax.jit(lambda state, key: collector.collect(state, policy, (), key, keep_state=True))
    for index in range(times):
        out.append(step(state, jax.random.fold_in(KEY, index)))
        state = out[-1].state
    return out


def test_a_truncated_fragment_has_one_boundary_row_with_the_final_observation():
    ((_, rollout, *_),) = fragments(0.0, horizon=5)
    # Five steps, a boundary row, and again.
    assert rollout.mask[0, 0].tolist() == [1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0]
    assert rollout.truncated[0, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0]
    assert rollout.obs[0, 0, :, 1].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 0]
    assert rollout.first[0, 0].tolist() == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0]
    assert rollout.reward[0, 0, 5] == 0


def test_a_clock_that_terminates_needs_no_boundary_row():
    ((_, rollout, *_),) = fragments(0.0, horizon=5, time_limit="terminates")
    assert (rollout.mask == 1).all()
    assert rollout.terminated[0, 0].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0]
    assert rollout.obs[0, 0, :, 1].tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]


def test_fragments_go_on_where_the_last_ones_stopped():
    (_, first, *_), (_, second, charge, metrics) = fragments(0.0, horizon=20, length=12, times=2)
    assert first.obs[0, 0, -1, 1] == second.obs[0, 0, 0, 1] == 12
    assert (second.first[0, 0, 0], second.truncated[0, 0, 7]) == (0, 1)
    assert charge == (second.mask.sum(), 4)
    assert float(metrics["return"]) == 20
    assert float(metrics["length"]) == 20


def test_a_terminated_fragment_starts_the_next_episode_in_the_next_row():
    ((_, rollout, *_),) = fragments(0.4, horizon=100, length=50)
    ended = rollout.terminated[..., :-1] == 1
    assert ended.any()
    assert (rollout.first[..., 1:][ended] == 1).all()
    assert (rollout.obs[..., 1:-1, 1][ended] == 0).all()


def test_whole_episodes_of_cartpole_do_not_pay_for_the_horizon(build):
    env, learner = build("agent=reinforce", "env=cartpole")
    state = jax.jit(learner.init)(KEY)
    metrics = jax.jit(learner.update)(state, KEY, 0.0).metrics
    # Random play lasts about 20 of 500 steps, the longest of 32 episodes some 60: without an early end 95 %
    # of the steps would be padding.
    assert env.horizon == 500
    assert float(metrics["length"]) < 40
    assert float(metrics["padding"]) < 0.8


def drawn(returns):
    """A collector whose n-th batch has the n-th of the returns `[n, B, G]`; its length is that of the row."""
    rewards = jnp.asarray(returns, jnp.float32)
    template = episodes(0.0, horizon=3, prompts=rewards.shape[1], group=rewards.shape[2]).rollout

    def batch(number):
        mask = jnp.zeros_like(template.mask).at[..., : 1 + number % 3].set(1)
        reward = jnp.zeros_like(mask).at[..., 0].set(rewards[number])
        return template.replace(
            reward=reward, mask=mask, obs=jnp.full_like(template.obs, number), state=None
        )

    def make(env):
        batches = jax.tree.map(lambda *xs: jnp.stack(xs), *map(batch, range(len(rewards))))

        def draw(state, policy, params, key, *, keep_state):
            rollout = jax.tree.map(lambda x: x[state], batches)
            charge = Charge(rollout.mask.sum(), jnp.float32(4.0))
            return Collected(state + 1, rollout, charge, {"return": jnp.float32(state)})

        prompts, group, horizon = template.mask.shape
        plain = collect.episodes(env, prompts=prompts, group=group, start="shared")
        first = lambda key, policy: jnp.int32(0)  # noqa: E731
        return Collector(
            first, draw, plain.simulate, (prompts, group, horizon), whole_episodes=True
        )

    return make


def draw_again(returns, attempts):
    collector = collect.drawn_again(drawn(returns)(Counter()), attempts=attempts, gamma=1.0)
    run = jax.jit(lambda key: collector.collect(jnp.int32(0), None, (), key, keep_state=False))
    return run(KEY)


# Of three groups of two: the second one has a signal at once; then one, none, and all of them have one.
BATCHES = [
    [[0, 0], [1, 0], [1, 1]],
    [[0, 0], [2, 2], [3, 4]],
    [[5, 5], [6, 6], [7, 7]],
    [[8, 9], [10, 11], [12, 13]],
]


def test_informative_groups_stay_and_others_make_room_for_new_ones_in_their_order():
    drawings, rollout, *_ = draw_again(BATCHES, attempts=8)
    assert drawings == 4
    # The third group of the second batch came in first, into the first gap; then the first of the last one.
    assert rollout.reward[..., 0].tolist() == [[3, 4], [1, 0], [8, 9]]
    # All of a rollout comes along, not its rewards alone.
    assert rollout.obs[:, :, 0, 0].tolist() == [[1, 1], [0, 0], [3, 3]]
    assert rollout.mask.sum(-1).tolist() == [[2, 2], [1, 1], [1, 1]]


@pytest.mark.parametrize(("attempts", "drawings"), [(1, 1), (2, 2), (3, 3), (4, 4), (8, 4)])
def test_steps_of_everything_that_was_drawn_are_counted_up_to_the_last_attempt(attempts, drawings):
    made, _, charge, metrics = draw_again(BATCHES, attempts)
    assert made == metrics["attempts"] == drawings
    # Six rollouts a batch, of one, two, three steps and again one.
    assert charge == (6 * sum([1, 2, 3, 1][:drawings]), 4 * drawings)
    # What is reported is the policy's return, not that of the groups that were picked.
    assert metrics["return"] == 0


def test_after_the_last_attempt_the_batch_keeps_what_it_has():
    _, rollout, *_ = draw_again(BATCHES, attempts=3)
    assert rollout.reward[..., 0].tolist() == [[3, 4], [1, 0], [1, 1]]
    never = [[[0, 0], [1, 1], [2, 2]]] * 5
    drawings, rollout, charge, _ = draw_again(never, attempts=5)
    assert drawings == 5
    assert rollout.reward[..., 0].tolist() == never[0]
    # No group of the four batches after the first one was kept.
    assert charge.steps - rollout.mask.sum() == 6 * (2 + 3 + 1 + 2)


def test_a_batch_that_is_informative_at_once_is_drawn_once():
    drawings, rollout, charge, metrics = draw_again(BATCHES[3:] + BATCHES, attempts=8)
    assert (drawings, metrics["attempts"], charge.steps) == (1, 1, rollout.mask.sum())


def test_what_could_not_be_scored_hides_no_signal():
    nan = float("nan")
    drawings, *_ = draw_again([[[nan, 1, 0], [0, nan, 2]]] * 2, attempts=2)
    assert drawings == 1
    drawings, *_ = draw_again([[[nan, 1, 1], [nan, nan, nan]]] * 2, attempts=2)
    assert drawings == 2


@pytest.mark.parametrize("keep_state", [False, True])
def test_one_attempt_is_the_collector_within_bit_for_bit(keep_state):
    size: dict[str, Any] = {"prompts": 5, "group": 3, "start": "shared", "chunk": 4}
    plain = collect.episodes(Counter(), **size)
    again = collect.informative(Counter(), **size, attempts=1, gamma=1.0)
    one, other = (
        jax.jit(lambda key, c=c: c.collect((), quits(0.3), (), key, keep_state=keep_state))(KEY)
        for c in (plain, again)
    )
    assert float(other.metrics.pop("attempts")) == 1
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(x, y)
    assert again.shape == plain.shape
    starts = jax.vmap(Counter().initial)(jax.random.split(KEY, 5))
    one, other = (
        jax.jit(lambda key, c=c: c.simulate(starts, quits(0.3), (), key, keep_state=keep_state))(
            KEY
        )
        for c in (plain, again)
    )
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(x, y)


def test_new_groups_are_other_episodes_than_those_they_replace():
    # Every return is the length: groups of two of a policy that quits half the time agree in a third.
    collector = collect.informative(
        Counter(), prompts=12, group=2, start="shared", chunk=4, attempts=20, gamma=1.0
    )
    _, rollout, _, metrics = jax.jit(
        lambda key: collector.collect((), quits(0.5), (), key, keep_state=False)
    )(KEY)
    length = np.asarray(rollout.mask.sum(-1))
    assert float(metrics["attempts"]) > 1
    assert (length[:, 0] != length[:, 1]).all()
    np.testing.assert_array_equal(rollout.reward.sum(-1), length)


@pytest.mark.parametrize(("gamma", "drawings"), [(0.9, 1), (1.0, 3)])
def test_groups_whose_returns_differ_by_their_discount_have_a_signal(gamma, drawings):
    plain = collect.episodes(Counter(), prompts=1, group=2, start="shared")
    template = jax.eval_shape(
        lambda key: plain.collect((), quits(0.3), (), key, keep_state=False), KEY
    ).rollout
    template = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), template)
    # Both earn one, the second a step later.
    reward = template.reward.at[0, 0, 0].set(1.0).at[0, 1, 1].set(1.0)
    rollout = template.replace(reward=reward, mask=template.mask.at[..., :2].set(1.0))

    def make(env):
        def draw(state, policy, params, key, *, keep_state):
            charge = Charge(rollout.mask.sum(), jnp.float32(2.0))
            return Collected(state + 1, rollout, charge, {"return": jnp.float32(1.0)})

        return plain._replace(collect=draw)

    collector = collect.drawn_again(make(Counter()), attempts=3, gamma=gamma)
    made = collector.collect(jnp.int32(0), None, (), KEY, keep_state=False).state
    assert int(made) == drawings
