"""The contract every environment keeps, checked over every file of `conf/env`, and what each one claims."""

import functools
import itertools
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import hydra
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hydra.core.global_hydra import GlobalHydra

import vfcompare.envs
from vfcompare.envs.base import random_action, random_return
from vfcompare.envs.cartpole import CartPole
from vfcompare.envs.delayed import Delayed
from vfcompare.envs.garnet import Garnet
from vfcompare.envs.lock import Lock
from vfcompare.envs.maze import Maze
from vfcompare.envs.mountain_car import MountainCar
from vfcompare.envs.pendulum import Pendulum
from vfcompare.envs.tabular import Tables, Tabular
from vfcompare.envs.tokens.addition import Addition
from vfcompare.envs.tokens.reporting import Reporting
from vfcompare.envs.wrappers import OutcomeOnly, TimeAware

CONF = Path(vfcompare.envs.__file__).resolve().parent.parent / "conf"
NAMES = sorted(path.stem for path in (CONF / "env").glob("*.yaml"))
OUTCOMES = [name for name in NAMES if name.endswith("_outcome")]
IDS = sorted(str(name) for name in gymnasium.registry if str(name).startswith("vfcompare/"))
# Environments that share nearly everything with another one, for checks that take seconds.
ALIKE = ("Outcome", "Scratch", "ModularSum", "Sorting", "Reversal", "Brackets", "MazeText")
EPISODES = 4


class Episode(NamedTuple):
    """`[T + 1]` states and observations, `[T]` the rest."""

    state: object
    obs: jax.Array
    action: jax.Array
    reward: jax.Array
    terminal: jax.Array


@functools.cache
def config(name):
    """The resolved parameters of one file."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose(overrides=[f"+env={name}"]).env


@functools.cache
def task(name):
    return hydra.utils.instantiate(config(name))


def play(env, key, steps, choose=random_action):
    """One episode, not cut at its end."""

    def step(state, key):
        keys = jax.random.split(key, 5)
        action = choose(env, state, keys[0])
        new = env.transition(state, action, keys[1])
        reward = env.reward(state, action, new, keys[2])
        row = (new, env.observation(new, keys[4]), action, reward, env.terminal(new, keys[3]))
        return new, row

    start_key, obs_key, key = jax.random.split(key, 3)
    start = env.initial(start_key)
    _, (states, obs, action, reward, terminal) = jax.lax.scan(
        step, start, jax.random.split(key, steps)
    )
    first = env.observation(start, obs_key)
    join = functools.partial(jax.tree.map, lambda x, xs: jnp.concatenate([x[None], xs]))
    return Episode(join(start, states), join(first, obs), action, reward, terminal)


# These programs run once, so that optimising them would be most of the time of the tests.
quick = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def played(name):
    """`EPISODES` random episodes of full length under the strictest rules JAX has: `[EPISODES, T]`."""
    env = task(name)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        run = quick(jax.vmap(lambda key: play(env, key, env.horizon)))
        return jax.block_until_ready(run(jax.random.split(jax.random.key(7), EPISODES)))


def alive(terminal):
    """Which steps belong to the episode: bool[..., T]."""
    before = np.cumsum(terminal, -1) - terminal
    return before == 0


def returns(episodes):
    """Undiscounted return of each episode: float[...]."""
    return (np.asarray(episodes.reward) * alive(np.asarray(episodes.terminal))).sum(-1)


def assert_same(one, two, **tolerance):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_file_begins_with_what_its_task_isolates(name):
    first, *rest = (CONF / "env" / f"{name}.yaml").read_text().splitlines()
    assert first.startswith("# ")
    assert first.endswith(".")
    assert not any(line.startswith("#") for line in rest)


@pytest.mark.parametrize("name", NAMES)
def test_observations_are_inside_the_space_and_rewards_are_finite(name):
    env, episodes = task(name), played(name)
    obs = np.asarray(episodes.obs)[:, :-1][alive(np.asarray(episodes.terminal))]
    assert obs.dtype == env.observation_space.dtype
    assert obs.shape[1:] == env.observation_space.shape
    low, high = env.observation_space.low, env.observation_space.high
    # A sixth of a millionth: the cosine and sine of XLA may exceed one by a rounding.
    assert (obs >= low - 2e-7).all()
    assert (obs <= high + 2e-7).all()
    assert episodes.reward.dtype == jnp.float32
    assert episodes.terminal.dtype == jnp.bool_
    assert np.isfinite(returns(episodes)).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_time_left_is_zero_however_it_is_compiled(name):
    env, episodes = task(name), played(name)
    last = jax.tree.map(lambda x: x[0, -1], episodes.state)
    # As training is compiled: then XLA multiplies by the inverse of what should divide.
    seen = jax.jit(env.observation, compiler_options={"xla_backend_optimization_level": 3})
    obs = np.asarray(seen(last, jax.random.key(7)))
    assert (obs[env.observation_space.low == 0] >= 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_compiled_eager_and_mapped_steps_agree(name):
    env, episodes = task(name), played(name)
    start = jax.tree.map(lambda x: x[0, 0], episodes.state)
    new = jax.tree.map(lambda x: x[0, 1], episodes.state)
    action, key = episodes.action[0, 0], jax.random.key(7)
    keys = jax.random.split(key, EPISODES)
    start_key, _, step_key = jax.random.split(keys[0], 3)
    transition_key = jax.random.split(jax.random.split(step_key, env.horizon)[0], 5)[1]
    tolerance = {"rtol": 1e-5, "atol": 1e-6}
    assert_same(env.initial(start_key), start, **tolerance)
    with jax.disable_jit():
        assert_same(env.transition(start, action, transition_key), new, **tolerance)
        reward = jnp.asarray(env.reward(start, action, new, key))
        assert_same(reward, episodes.reward[0, 0], **tolerance)
        assert bool(env.terminal(new, key)) == bool(episodes.terminal[0, 0])


@pytest.mark.parametrize("name", NAMES)
def test_a_step_keeps_every_dtype_and_shape(name):
    env = task(name)
    state = jax.eval_shape(env.initial, jax.random.key(0))
    action = jax.eval_shape(lambda s, k: random_action(env, s, k), state, jax.random.key(0))
    new = jax.eval_shape(env.transition, state, action, jax.random.key(0))
    assert type(state) is type(new)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True):
        assert (before.shape, before.dtype) == (after.shape, after.dtype)
        assert before.dtype in (jnp.float32, jnp.int32, jnp.bool_)
        assert not after.weak_type


@pytest.mark.parametrize("name", NAMES)
def test_the_horizon_terminates_time_aware_tasks_and_no_others(name):
    env, terminal = task(name), np.asarray(played(name).terminal)
    assert terminal.shape[1] == env.horizon
    if env.time_aware:
        assert terminal.any(1).all()
    elif name in ("mountain_car", "pendulum"):
        assert not terminal.any()


@pytest.mark.parametrize("name", ["maze", "delayed", "frozen_lake", "taxi", "cartpole", "pendulum"])
def test_a_key_determines_the_episode_and_another_key_changes_it(name):
    env = task(name)
    run = jax.jit(lambda key: play(env, key, 8))
    one, same, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    assert_same(one, same, rtol=0, atol=0)
    leaves = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    assert any(not np.array_equal(a, b) for a, b in leaves)


@pytest.mark.parametrize("name", NAMES)
def test_the_references_are_numbers_in_order(name):
    random, optimal, threshold = task(name).reference
    assert random is not None
    assert optimal is None or random < optimal
    assert threshold is None or random < threshold


@pytest.mark.parametrize("name", OUTCOMES)
def test_the_outcome_twin_pays_the_same_total_and_only_at_the_end(name):
    twin, inner = task(name), task(name.removesuffix("_outcome"))
    episodes = played(name)
    reward, terminal = np.asarray(episodes.reward), np.asarray(episodes.terminal)
    living = alive(terminal)
    assert (reward[living & ~terminal] == 0).all()

    @jax.jit
    @jax.vmap
    @jax.vmap
    def paid(state, action, new):
        key = jax.random.key(0)
        return inner.reward(state.inner.inner, action, new.inner.inner, key)

    before = jax.tree.map(lambda x: x[:, :-1], episodes.state)
    after = jax.tree.map(lambda x: x[:, 1:], episodes.state)
    total = (np.asarray(paid(before, episodes.action, after), np.float64) * living).sum(1)
    np.testing.assert_allclose(returns(episodes), total, rtol=1e-5)
    assert twin.horizon == inner.horizon
    assert twin.reference == inner.reference


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shows_where_the_agent_is(name):
    env, episodes = task(name), played(name)
    states, pictures = jax.tree.map(np.asarray, episodes.state), []
    for episode, time in ((0, 0), *((e, min(8, env.horizon)) for e in range(EPISODES))):
        state = jax.tree.map(lambda x, place=(episode, time): x[place], states)
        render_state, image = env.render_image(state, env.render_init())
        assert render_state == ()
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        pictures.append(image)
    assert len(np.unique(pictures[0].reshape(-1, 3), axis=0)) > 3
    assert any((pictures[0] != image).any() for image in pictures[1:])


@pytest.mark.parametrize(
    "id",
    [pytest.param(id, marks=pytest.mark.slow if any(x in id for x in ALIKE) else ()) for id in IDS],
)
def test_gymnasium_accepts_the_environment(id):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # CartPole's speeds have no bound and Pendulum's torque is 2, as in Gymnasium's own.
        warnings.filterwarnings("ignore", message=".*infinity.*")
        warnings.filterwarnings("ignore", message=".*symmetric and normalized.*")
        env = gymnasium.make(id, render_mode="rgb_array")
        check_env(env.unwrapped, skip_render_check=True)
        obs, info = env.reset(seed=1)
        assert isinstance(obs, np.ndarray)
        assert obs in env.observation_space
        # The mask is one that Gymnasium's own sampling takes.
        obs, reward, terminated, _, info = env.step(
            env.action_space.sample(info.get("action_mask"))
        )
        assert type(reward) is float
        assert type(terminated) is bool
        assert np.asarray(env.render()).shape[2] == 3
        env.close()


@pytest.mark.parametrize(
    "id",
    [pytest.param(id, marks=pytest.mark.slow if any(x in id for x in ALIKE) else ()) for id in IDS],
)
def test_gymnasium_makes_several_at_once(id):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*infinity.*")
        envs = gymnasium.make_vec(f"vfcompare.envs:{id}", num_envs=2)
    _, info = envs.reset(seed=1)
    envs.action_space.seed(0)
    for _ in range(3):
        action = envs.action_space.sample()
        if "action_mask" in info:
            action = np.array([np.flatnonzero(mask)[0] for mask in info["action_mask"]])
        obs, reward, terminated, truncated, info = envs.step(action)
        assert obs in envs.observation_space
        assert reward.shape == terminated.shape == truncated.shape == (2,)
    envs.close()


@pytest.mark.parametrize(
    ("id", "options", "limit"),
    [
        ("CartPole", {}, 500),
        ("CliffWalking", {}, 200),
        ("FrozenLake", {"horizon": 3}, 3),
        ("FrozenLake", {"horizon": 300}, 300),
        ("TaxiOutcome", {}, None),
        ("Maze", {}, None),
    ],
)
def test_a_horizon_that_the_task_does_not_know_is_a_time_limit(id, options, limit):
    env = gymnasium.make(f"vfcompare/{id}-v0", **options)
    assert env.spec is not None
    assert env.spec.max_episode_steps == limit


def test_a_horizon_that_was_asked_for_truncates():
    env = gymnasium.make("vfcompare/CliffWalking-v0", horizon=3)
    env.reset(seed=0)
    assert [env.step(0)[2:4] for _ in range(3)] == [(False, False)] * 2 + [(False, True)]


def test_a_seeded_gymnasium_episode_repeats():
    env = gymnasium.make("vfcompare/Delayed-v0", distractors=6)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(10)]
    runs = []
    for _ in range(2):
        rows = [env.reset(seed=5)[0], *(env.step(action)[0] for action in actions)]
        runs.append(np.stack(rows))
    np.testing.assert_array_equal(runs[0], runs[1])


def chance(row):
    """Tables of one state and one action with such outcomes."""
    nothing, start = np.zeros((1, 1, len(row))), np.ones(1)
    probability = np.array([[row]])
    return Tables(probability, nothing, nothing, nothing, horizon=1, initial_distribution=start)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Maze(size=8), "size=8"),
        (lambda: Maze(size=3), "size=3"),
        (lambda: Maze(slip=1.5), "slip=1.5"),
        (lambda: Maze(slip=True), "slip=True"),
        (lambda: Addition(held_out=False), "held_out=False"),
        (lambda: Maze(loops=-0.1), "loops=-0.1"),
        (lambda: Maze(view="bird"), "view='bird'"),
        (lambda: Maze(reward="sparse"), "reward='sparse'"),
        (lambda: Maze(horizon=0), "horizon=0"),
        (lambda: Maze(radius=0), "radius=0"),
        (lambda: Lock(length=0), "length=0"),
        (lambda: Lock(actions=1), "actions=1"),
        (lambda: Lock(combination=-1), "combination=-1"),
        (lambda: Lock(combination=0.5), "combination=0.5"),  # type: ignore[arg-type]
        (lambda: Lock(reward="each", decisive=8), "decisive=8"),
        (lambda: Lock(reward="each", where="late"), "where='late'"),
        (lambda: Delayed(length=0), "length=0"),
        (lambda: Delayed(distractors=-1), "distractors=-1"),
        (lambda: Garnet(states=1), "states=1"),
        (lambda: Garnet(actions=1), "actions=1"),
        (lambda: Garnet(branching=0), "branching=0"),
        (lambda: Garnet(states=4, branching=5), "branching=5"),
        (lambda: Garnet(horizon=0), "horizon=0"),
        (lambda: Garnet(sparsity=1.1), "sparsity=1.1"),
        (lambda: Garnet(noise=-0.1), "noise=-0.1"),
        (lambda: Garnet(distractors=-1), "distractors=-1"),
        (lambda: Garnet(instance=-1), "instance=-1"),
        (lambda: Tabular("Blackjack-v1"), "id='Blackjack-v1'"),
        (lambda: Tabular("CliffWalking-v1"), "horizon=None"),
        (lambda: Tabular("Taxi-v4", fickle_passenger=True), "fickle_passenger=True"),
        (lambda: Tabular("Foo-v0"), "id='Foo-v0'"),
        (lambda: Tabular("FrozenLake-v99"), "id='FrozenLake-v99'"),
        (lambda: Tabular(horizon=0), "horizon=0"),
        (lambda: Tabular(horizon=-5), "horizon=-5"),
        (lambda: Tabular(horizon=2.5), "horizon=2.5"),  # type: ignore[arg-type]
        (lambda: Tabular(horizon=True), "horizon=True"),
        (lambda: Tabular(success_rate=2.0), "probability="),
        (lambda: chance([0.5, 0.4]), "probability=..0.5, 0.4.."),
        (lambda: chance([float("nan"), 1.0]), "probability="),
        (lambda: TimeAware(Addition()), "env='Addition'"),
        (lambda: OutcomeOnly("maze"), "env='maze'"),  # type: ignore[arg-type]
    ],
)
def test_a_bad_parameter_is_named_with_its_value(make, field):
    with pytest.raises(ValueError, match=field.replace("'", ".")):
        make()


@pytest.mark.parametrize("view", ["tokens", "one_hot"])
def test_a_twin_is_read_passed_and_taught_as_its_task(view):
    inner = Reporting(Addition(digits=1, view=view))
    twin = OutcomeOnly(inner)
    assert (twin.layout, twin.passes, twin.mute) == (inner.layout, 1.0, 1)
    assert (twin.layout is None) == (view == "one_hot")
    assert twin.report(True) == inner.report(True)
    plain = OutcomeOnly(CartPole())
    assert (plain.layout, plain.passes, plain.mute, plain.report) == (None, None, 0, None)


def test_the_lock_opens_only_for_the_whole_combination():
    env = Lock(length=5, actions=3)
    assert env.reference.random == pytest.approx(3**-5)

    def outcome(actions):
        state, total = env.initial(jax.random.key(0)), 0.0
        for action in actions:
            new = env.transition(state, action, None)
            total += float(env.reward(state, action, new, None))
            state = new
        assert bool(env.terminal(state, None))
        return total

    right = env.right_actions
    assert outcome(right) == 1.0
    for step in range(5):
        wrong = right.copy()
        wrong[step] = (wrong[step] + 1) % 3
        assert outcome(wrong) == 0.0


def test_the_lock_random_return_is_the_share_of_right_combinations():
    env = Lock(length=4, actions=2)
    wins = sum(tuple(env.right_actions) == c for c in itertools.product(range(2), repeat=4))
    assert wins / 16 == env.reference.random


@pytest.mark.parametrize("distractors", [0, 3])
def test_only_the_first_action_decides_the_delayed_outcome(distractors):
    env = Delayed(length=6, distractors=distractors)

    def first_matters(env, state, key):
        wanted = jnp.where(state.time == 0, state.need, 1 - state.need)
        return wanted.astype(jnp.int32)

    keys = jax.random.split(jax.random.key(0), 32)
    episodes = jax.jit(jax.vmap(lambda key: play(env, key, 6, first_matters)))(keys)
    np.testing.assert_array_equal(np.asarray(episodes.reward), [[0, 0, 0, 0, 0, 1]] * 32)
    assert 0 < float(episodes.state.need[:, 0].mean()) < 1


@pytest.mark.statistical
def test_distractors_do_not_tell_the_need_when_both_get_the_same_key():
    env = Delayed(distractors=4)
    keys = jax.random.split(jax.random.key(0), 2000)
    need, obs = jax.vmap(lambda k: (env.initial(k).need, env.observation(env.initial(k), k)))(keys)
    agreement = np.abs((np.asarray(obs[:, 3:]) == np.asarray(need)[:, None]).mean(0) - 0.5)
    assert (agreement < 4 * 0.5 / np.sqrt(2000)).all()  # four standard errors


def test_turning_one_knob_of_a_garnet_leaves_the_rest_of_the_instance():
    one = Garnet().env
    quiet, dense, long = (
        Garnet(**knob).env for knob in ({"noise": 0.0}, {"sparsity": 0.5}, {"horizon": 40})
    )
    np.testing.assert_array_equal(quiet.next_state[..., 0], one.next_state[..., 0])
    np.testing.assert_array_equal(dense.next_state, one.next_state)
    np.testing.assert_array_equal(dense.probability, one.probability)
    paying = one.prize > 0
    np.testing.assert_array_equal(dense.prize[paying], one.prize[paying])
    assert (paying.sum(), (dense.prize > 0).sum()) == (2, 10)
    np.testing.assert_array_equal(long.probability, one.probability)
    assert not np.array_equal(Garnet(instance=1).env.next_state, one.next_state)


@pytest.mark.statistical
def test_noise_of_a_garnet_is_the_weight_of_chance_against_one_outcome():
    quiet, half, full = (Garnet(noise=noise, branching=4).env for noise in (0.0, 0.5, 1.0))
    assert quiet.probability.shape == (20, 4, 1)
    np.testing.assert_allclose(half.probability, 0.5 * np.eye(4)[0] + 0.5 * full.probability)
    np.testing.assert_allclose(full.probability.sum(-1), 1.0)
    assert all(len(set(row)) == 4 for row in full.next_state.reshape(-1, 4))
    # Spacings of three uniform cuts have mean 1/4 and standard deviation 0.194; four standard errors.
    assert abs(full.probability.mean((0, 1)) - 0.25).max() < 4 * 0.194 / np.sqrt(80)


@pytest.mark.statistical
def test_a_distractor_changes_what_a_garnet_shows_and_nothing_it_is_worth():
    plain, busy = Garnet(), Garnet(distractors=3)
    assert busy.observation_space.shape == (20 + 3 + 1,)
    assert (busy.places, busy.spread) == (3 * plain.places, 3 * plain.spread)
    assert busy.reference[:2] == pytest.approx(plain.reference[:2], rel=1e-12)
    keys = jax.random.split(jax.random.key(0), 3000)
    new = jax.jit(jax.vmap(lambda key: busy.transition(busy.initial(key), jnp.int32(1), key)))(keys)
    share = np.bincount(np.asarray(new.inner.place) // 20, minlength=3) / 3000
    assert np.abs(share - 1 / 3).max() < 4 * np.sqrt(2 / 9 / 3000)  # four standard errors


@pytest.mark.parametrize(
    ("id", "options", "threshold"),
    [
        ("FrozenLake-v1", {}, 0.70),
        ("FrozenLake-v1", {"horizon": 20}, None),
        ("Taxi-v4", {}, None),
        ("CliffWalking-v1", {"horizon": 200}, None),
    ],
)
def test_a_threshold_that_nobody_reaches_is_none(id, options, threshold):
    assert Tabular(id, **options).reference.threshold == threshold


@pytest.mark.parametrize(
    ("id", "options", "optimal", "random"),
    [
        ("FrozenLake-v1", {}, 0.744190, 0.013940),
        ("FrozenLake8x8-v1", {}, 0.913220, 0.001901),
        ("FrozenLake-v1", {"success_rate": 0.8}, 0.893954, 0.013940),
        ("FrozenLake8x8-v1", {"success_rate": 0.8}, 0.996571, 0.001901),
        ("FrozenLake-v1", {"is_slippery": False}, 1.0, None),
        ("CliffWalking-v1", {"horizon": 200}, -13.0, None),
        ("Taxi-v4", {}, 7.93, None),
    ],
)
def test_dynamic_programming_finds_the_known_optimum(id, options, optimal, random):
    reference = Tabular(id, **options).reference
    assert reference.optimal == pytest.approx(optimal, abs=5e-7)
    if random is not None:
        assert reference.random == pytest.approx(random, abs=5e-7)


def greedy_table(env):
    """The best action for each time left and state: int32[horizon + 1, S]."""
    value, rows = np.zeros(len(env.probability)), [np.zeros(len(env.probability), int)]
    for _ in range(env.horizon):
        lookahead = np.where(env.legal, env._lookahead(value), -np.inf)
        rows.append(lookahead.argmax(1))
        value = lookahead.max(1)
    return jnp.asarray(np.stack(rows), jnp.int32)


@pytest.mark.parametrize("name", ["frozen_lake", "cliff_walking", "taxi"])
@pytest.mark.statistical
def test_the_optimal_tabular_policy_earns_the_optimum(name):
    env = TimeAware(task(name))
    best = greedy_table(env.env)

    def choose(env, state, key):
        return best[env.horizon - state.time, state.inner.place]

    keys = jax.random.split(jax.random.key(0), 4000)

    def outcome(key):
        return play(env, key, env.horizon, choose)._replace(obs=None, state=None)

    earned = returns(jax.jit(jax.vmap(outcome))(keys))
    error = earned.std() / np.sqrt(4000)
    assert earned.mean() == pytest.approx(env.reference.optimal, abs=4 * error + 1e-6)


@pytest.mark.statistical
def test_the_transition_frequencies_are_those_of_the_table():
    env = task("frozen_lake")
    state = env.initial(jax.random.key(0))._replace(place=jnp.int32(14))
    keys = jax.random.split(jax.random.key(1), 30_000)
    new = jax.jit(jax.vmap(lambda key: env.transition(state, jnp.int32(2), key)))(keys)
    counts = np.bincount(np.asarray(new.place), minlength=16) / 30_000
    expected = np.bincount(env.next_state[14, 2], weights=env.probability[14, 2], minlength=16)
    assert np.abs(counts - expected).max() < 4 * np.sqrt(0.25 / 30_000)  # four standard errors
    np.testing.assert_array_equal(np.asarray(new.ended), np.asarray(new.place) == 15)


def test_taxi_masks_are_those_of_gymnasium():
    env = task("taxi")
    base: Any = gymnasium.make("Taxi-v4").unwrapped
    state = env.initial(jax.random.key(0))
    for place in range(0, 500, 37):
        mask = env.state_info(state._replace(place=jnp.int32(place)))["action_mask"]
        np.testing.assert_array_equal(np.asarray(mask), base.action_mask(place).astype(bool))
    assert task("frozen_lake").state_info(state) == {}


def test_tabular_episodes_follow_gymnasium():
    env, base = task("cliff_walking"), gymnasium.make("CliffWalking-v1").unwrapped
    base.reset(seed=0)
    state = env.initial(jax.random.key(0))
    for action in np.random.default_rng(0).integers(4, size=200):
        place, reward, terminated, _, _ = base.step(int(action))
        new = env.transition(state, action, None)
        assert int(new.place) == place
        assert float(env.reward(state, action, new, None)) == reward
        assert bool(env.terminal(new, None)) == terminated
        state = new


def test_time_is_one_more_element_or_one_more_plane():
    vector, image = TimeAware(CartPole()), TimeAware(Maze(size=5))
    assert vector.observation_space.shape == (5,)
    assert image.observation_space.shape == (3, 3, 5)
    for env, length in ((vector, 500), (image, 16)):
        state = env.initial(jax.random.key(0))
        for action in (0, 1):
            state = env.transition(state, jnp.int32(action), jax.random.key(0))
        left = np.asarray(env.observation(state, jax.random.key(0)))[..., -1]
        np.testing.assert_allclose(left, 1 - 2 / length, rtol=1e-6)


def test_the_outcome_twin_of_a_time_aware_task_does_not_tell_the_time_twice():
    dense = Maze(reward="dense")
    assert OutcomeOnly(dense).observation_space == dense.observation_space
    assert not isinstance(OutcomeOnly(dense).env, TimeAware)


@pytest.mark.parametrize("make", [CartPole, MountainCar, Pendulum])
@pytest.mark.statistical
def test_measured_random_returns_can_be_measured_again(make):
    mean, error = random_return(make(), 2000, seed=3)
    assert mean == pytest.approx(make().reference.random, abs=4 * error + 0.1)


@pytest.mark.statistical
def test_a_simulated_random_policy_earns_the_computed_return():
    env = Tabular("CliffWalking-v1", horizon=50)
    mean, error = random_return(env, 4000)
    assert mean == pytest.approx(env.reference.random, abs=4 * error)
