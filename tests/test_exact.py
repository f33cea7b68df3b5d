"""Dynamic programming is the truth: it agrees with simulation, with known optima and with differentiation."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hydra.utils import instantiate
from jax.flatten_util import ravel_pytree

from tests.conftest import compose
from tests.helpers import optimum, start_value
from vfcompare.collect import episodes
from vfcompare.envs.cartpole import CartPole
from vfcompare.envs.delayed import Delayed
from vfcompare.envs.garnet import Garnet
from vfcompare.envs.lock import Lock
from vfcompare.envs.maze import Maze
from vfcompare.envs.tabular import Tabular
from vfcompare.envs.wrappers import OutcomeOnly, TimeAware
from vfcompare.errors import InputError
from vfcompare.oracle import exact
from vfcompare.types import Spec

TASKS = {
    "frozen_lake": ("env=frozen_lake", "env.horizon=30"),
    "frozen_lake_sure": ("env=frozen_lake", "env.horizon=30", "env.is_slippery=false"),
    "cliff_walking": ("env=cliff_walking", "env.horizon=30"),
    "taxi": ("env=taxi", "env.horizon=20"),
    "lock": ("env=lock",),
    "lock_late": ("env=lock", "env.decisive=3", "env.where=late", "env.actions=3"),
    "lock_each": ("env=lock", "env.reward=each"),
    "delayed": ("env=delayed",),
    "maze_small": ("env=maze_small",),
    "maze_slippery": ("env=maze_small", "env.slip=0.3"),
    "maze_dense": ("env=maze_dense", "env.size=5", "env.slip=0.3"),
    "garnet": ("env=garnet",),
    "garnet_sure": ("env=garnet", "env.noise=0"),
    "garnet_distracted": ("env=garnet", "env.noise=1", "env.distractors=3", "env.horizon=10"),
    "frozen_lake_timed": ("env=frozen_lake", "env.horizon=30"),
}
"""Name: overrides. Horizons are cut where nothing is learnt from more steps."""

CHANCY = (
    *("frozen_lake", "maze_slippery", "maze_dense"),
    *("garnet", "garnet_distracted", "frozen_lake_timed"),
)
SURE = tuple(name for name in TASKS if name not in CHANCY)


@functools.cache
def task(name: str) -> Any:
    """One environment of the list."""
    env = instantiate(compose(*TASKS[name])["env"])
    return TimeAware(env) if name.endswith("_timed") else env


def start_of(env: Any, seed: int = 0) -> Any:
    return jax.jit(env.initial)(jax.random.key(seed))


def uniform(obs: jax.Array, legal: jax.Array | None, *, actions: int) -> jax.Array:
    """`log π` of the policy that is uniform over the legal actions: [S, A]."""
    if legal is None:
        return jnp.full((obs.shape[0], actions), -jnp.log(actions))
    return jax.nn.log_softmax(jnp.where(legal, 0.0, -1e9))


def evaluate_uniform(env: Any, start: Any) -> exact.Exact:
    """The uniform policy from one start, undiscounted."""
    chances = functools.partial(uniform, actions=int(env.action_space.n))
    return jax.jit(lambda start: exact.evaluate(env, chances, start, gamma=1.0))(start)


class Acting(NamedTuple):
    """An environment, a policy network of ours and its parameters, far from uniform."""

    env: Any
    policy: Any
    params: Any

    def log_probs(self, params: Any) -> exact.LogProbs:
        return exact.listed(self.policy, params)


def acting(name: str) -> Acting:
    """The network of the recipe, narrower, with a large last layer."""
    env = task(name)
    agent = compose("agent=reinforce", "agent.policy.gain=2", "agent.network.hidden=[16,16]")[
        "agent"
    ]
    spec = Spec(env.observation_space, env.action_space, (1, 1, env.horizon), False)
    policy = instantiate(agent["policy"])(spec=spec, network=instantiate(agent["network"]))
    start = start_of(env)
    params = policy.init(jax.random.key(3), env.observation(start, jax.random.key(0)))
    return Acting(env, policy, params)


def sampled(env: Any, start: Any, time: jax.Array, number: int) -> tuple[jax.Array, ...]:
    """What `number` simulated steps from every place by every action do: each `[S, A, number]`.

    The last is the largest difference between what is seen of the next state and what is seen of the state
    that `states` lists for it.
    """
    states = env.states(start, time)
    later = env.states(start, time + 1)
    see = functools.partial(env.observation, rng=jax.random.key(0))
    seen = jax.vmap(see)(later)

    def one(state: Any, action: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
        keys = jax.random.split(key, 3)
        after = env.transition(state, action, keys[0])
        place = env.place(after)
        reward = env.reward(state, action, after, keys[1])
        gap = abs(see(after) - seen[place]).max()
        return place, reward, env.terminal(after, keys[2]), gap

    actions = int(env.action_space.n)
    keys = jax.random.split(jax.random.key(1), (env.places, actions, number))
    over_keys = jax.vmap(one, (None, None, 0))
    over_actions = jax.vmap(over_keys, (None, 0, 0))
    return jax.vmap(over_actions, (0, None, 0))(states, jnp.arange(actions), keys)


def shares(env: Any, start: Any, time: jax.Array, number: int) -> tuple[jax.Array, ...]:
    """Listed and simulated probability of everything that an outcome says, `[S, A, K]`, and the gap.

    Outcomes that lead to the same place with the same reward and end are one event.
    """
    table = env.outcomes(start, time)
    place, reward, end, gap = sampled(env, start, time, number)

    def same(place: jax.Array, reward: jax.Array, end: jax.Array) -> jax.Array:
        return (
            (table.place[..., None] == place[:, :, None])
            & (abs(table.reward[..., None] - reward[:, :, None]) < 1e-6)
            & (table.terminal[..., None] == end[:, :, None])
        )

    listed = (same(table.place, table.reward, table.terminal) * table.probability[:, :, None]).sum(
        -1
    )
    found = same(place, reward, end)
    possible = (found & (table.probability > 0)[..., None]).any(2)
    return listed, found.mean(-1), possible.all(), gap.max()


@pytest.mark.parametrize("name", TASKS)
def test_places_number_the_states_and_the_start_is_one_of_them(name):
    env = task(name)
    start = start_of(env)
    listed = jax.jit(lambda time: env.states(start, time))
    for time in (0, env.horizon // 2, env.horizon):
        states = listed(time)
        np.testing.assert_array_equal(jax.vmap(env.place)(states), np.arange(env.places))
        for many, one in zip(jax.tree.leaves(states), jax.tree.leaves(start), strict=True):
            assert many.shape == (env.places, *one.shape)
            assert many.dtype == one.dtype
    here = jax.tree.map(lambda x: x[env.place(start)], listed(0))
    jax.tree.map(np.testing.assert_array_equal, here, start)


@pytest.mark.parametrize("name", TASKS)
def test_the_probabilities_of_the_outcomes_of_an_action_sum_to_one(name):
    env = task(name)
    start = start_of(env)
    listed = jax.jit(lambda time: env.outcomes(start, time))
    for time in (0, env.horizon - 1):
        table = jax.tree.map(np.asarray, listed(time))
        assert {x.shape for x in table} == {(env.places, int(env.action_space.n), env.spread)}
        assert (table.probability >= 0).all()
        np.testing.assert_allclose(table.probability.sum(-1), 1.0, rtol=1e-6)
        assert table.place.dtype == np.int32
        assert ((table.place >= 0) & (table.place < env.places)).all()
        assert np.isin(table.terminal, (0.0, 1.0)).all()


@pytest.mark.parametrize("name", SURE)
def test_the_listed_outcome_is_what_a_deterministic_step_does(name):
    env = task(name)
    compare = jax.jit(functools.partial(shares, env, number=1))
    for time in (0, env.horizon // 2, env.horizon - 1):
        listed, found, possible, gap = compare(start_of(env), jnp.int32(time))
        np.testing.assert_array_equal(listed, 1.0)
        np.testing.assert_array_equal(found, 1.0)
        assert possible
        assert gap == 0


@pytest.mark.statistical
@pytest.mark.parametrize("name", CHANCY)
def test_simulated_steps_have_the_listed_outcomes_as_often_as_listed(name):
    env, number = task(name), 2000
    compare = jax.jit(functools.partial(shares, env, number=number))
    for time in (0, env.horizon - 1):
        listed, found, possible, gap = map(np.asarray, compare(start_of(env), jnp.int32(time)))
        # At most 2160 shares at a time: five standard errors, and five counts more where one is rare.
        tolerance = 5 * np.sqrt(listed * np.maximum(1 - listed, 0) / number) + 5 / number
        assert (abs(found - listed) < tolerance).all()
        # Together they see less: squares in units of the variance have mean 1 and variance 2, and those of
        # one action count as one. Five standard errors.
        common = number * listed * (1 - listed) > 5
        square = np.square(found - listed)[common] / (listed * (1 - listed))[common] * number
        assert square.mean() < 1 + 5 * np.sqrt(2 * env.spread / common.sum())
        assert possible
        assert gap == 0


@pytest.mark.parametrize(
    ("id", "options", "optimal"),
    [
        ("FrozenLake-v1", {}, 0.744190),
        ("FrozenLake8x8-v1", {}, 0.913220),
        ("FrozenLake-v1", {"success_rate": 0.8}, 0.893954),
        ("FrozenLake8x8-v1", {"success_rate": 0.8}, 0.996571),
        ("FrozenLake-v1", {"is_slippery": False}, 1.0),
        ("CliffWalking-v1", {"horizon": 200}, -13.0),
    ],
)
def test_the_optimum_is_the_known_one(id, options, optimal):
    env = Tabular(id, **options)
    assert env.horizon == (100 if id == "FrozenLake-v1" else 200)
    start = start_of(env)
    # In float32 a third is too much by 1e-8, three of them for 200 steps by 6e-6.
    with jax.enable_x64(True):
        value = jax.jit(lambda start: optimum(env, start, gamma=1.0))(start)
    assert value.dtype == jnp.float64
    # Half a unit of the sixth decimal, the last one that is known.
    assert float(value[0, start.place]) == pytest.approx(optimal, abs=5e-7)


@pytest.mark.parametrize("name", ["taxi", "garnet", "garnet_distracted", "frozen_lake_timed"])
def test_the_optimum_is_that_of_the_reference(name):
    env = task(name)
    start = start_of(env)
    value = jax.jit(lambda start: optimum(env, start, gamma=1.0))(start)
    tables = getattr(env, "env", env)
    mean = tables.initial_distribution @ np.asarray(value[0])
    assert mean == pytest.approx(env.reference.optimal, rel=1e-5)


# The reference of mazes is a mean over many; their own values are compared below.
@pytest.mark.parametrize("name", [name for name in TASKS if "maze" not in name])
def test_the_uniform_policy_is_worth_the_random_reference(name):
    env = task(name)
    tables = getattr(env, "env", env)
    start = start_of(env)
    value = np.asarray(evaluate_uniform(env, start).value[0])
    weight = getattr(tables, "initial_distribution", np.eye(env.places)[int(env.place(start))])
    assert weight @ value == pytest.approx(env.reference.random, rel=1e-5)


@pytest.mark.parametrize("name", ["maze_small", "maze_slippery", "maze_dense"])
def test_mazes_have_the_values_of_their_own_dynamic_programming(name):
    env = task(name)
    chances = functools.partial(uniform, actions=4)

    @jax.jit
    def all_values(start: Any) -> tuple[Any, Any]:
        best = optimum(env, start, gamma=1.0)
        return env.values(start), (best, exact.evaluate(env, chances, start, gamma=1.0).value)

    for seed in range(3):
        start = start_of(env, seed)
        walls, distance = np.asarray(start.walls), np.asarray(start.distance)
        # Dense reward adds the distance over the longest path to every return, if a step is left to earn it.
        bonus = distance / env.longest if env.reward_kind == "dense" else 0.0
        inside = ~walls & (distance > 0)
        for own, value in zip(*all_values(start), strict=True):
            expected = (np.asarray(own)[::-1] + bonus)[:-1, inside]
            found = np.asarray(value).reshape(-1, env.size, env.size)
            np.testing.assert_allclose(found[:-1, inside], expected, atol=1e-5)
            assert (found[-1] == 0).all()


@pytest.mark.parametrize(
    "name", ["frozen_lake", "maze_dense", "garnet_distracted", "lock_each", "delayed"]
)
def test_visits_only_fade_and_weigh_the_rewards_to_the_value(name):
    subject, gamma = acting(name), 0.9
    env, start = subject.env, start_of(subject.env)
    chances = subject.log_probs(subject.params)
    truth = jax.jit(lambda start: exact.evaluate(env, chances, start, gamma=gamma))(start)
    total = np.asarray(truth.visits).sum(-1)
    assert total[0] == 1
    assert (np.diff(total) <= 1e-6).all()
    assert (np.asarray(truth.visits) >= 0).all()
    table = jax.jit(jax.vmap(lambda time: env.outcomes(start, time)))(jnp.arange(env.horizon))
    reward = (table.probability * table.reward).sum(-1)
    rewards = (jnp.exp(truth.log_prob) * reward).sum(-1)
    value = (gamma ** np.arange(env.horizon) * (truth.visits * rewards).sum(-1)).sum()
    place = int(env.place(start))
    assert float(truth.value[0, place]) == pytest.approx(float(value), rel=1e-5)
    mean = (jnp.exp(truth.log_prob) * truth.advantage).sum(-1)
    # Advantages cancel to the rounding of values up to 20.
    np.testing.assert_allclose(mean, 0.0, atol=2e-5)


@pytest.mark.parametrize("name", ["frozen_lake", "maze_slippery", "garnet", "lock", "delayed"])
def test_the_policy_gradient_is_the_derivative_of_the_value(name):
    subject = acting(name)
    env, params, start = subject.env, subject.params, start_of(subject.env)

    @jax.jit
    def both(params: Any, gamma: float) -> tuple[jax.Array, jax.Array]:
        theorem = exact.policy_gradient(
            env, subject.log_probs, params, start, gamma=gamma, fade=gamma
        )

        def value(params: Any) -> jax.Array:
            return start_value(env, subject.log_probs(params), start, gamma=gamma)

        return ravel_pytree(theorem)[0], ravel_pytree(jax.grad(value)(params))[0]

    for gamma in (1.0, 0.9):
        theorem, derivative = map(np.asarray, both(params, gamma))
        assert np.linalg.norm(derivative) > 0
        # Two ways to the same sums in float32, which is enough: they differ by 3e-7.
        error = np.linalg.norm(theorem - derivative) / np.linalg.norm(derivative)
        assert error < 1e-5


def test_in_double_precision_the_two_gradients_are_one():
    subject = acting("garnet")
    env, start = subject.env, start_of(subject.env)
    run = functools.partial(exact.policy_gradient, env, subject.log_probs, gamma=0.9, fade=0.9)

    def value(params: Any) -> jax.Array:
        return start_value(env, subject.log_probs(params), start, gamma=0.9)

    with jax.enable_x64(True):
        params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), subject.params)
        both = jax.jit(lambda params: (run(params, start), jax.grad(value)(params)))(params)
        theorem, derivative = (np.asarray(ravel_pytree(x)[0]) for x in both)
    assert derivative.dtype == np.float64
    np.testing.assert_allclose(theorem, derivative, rtol=1e-9, atol=1e-12)


def test_the_usual_gradient_without_the_factor_of_time_is_another_direction():
    subject = acting("garnet")
    start = start_of(subject.env)
    run = functools.partial(
        exact.policy_gradient, subject.env, subject.log_probs, subject.params, start
    )

    @jax.jit
    def cosine() -> jax.Array:
        one, other = (ravel_pytree(run(gamma=0.9, fade=fade))[0] for fade in (0.9, 1.0))
        return one @ other / jnp.linalg.norm(one) / jnp.linalg.norm(other)

    assert float(cosine()) < 0.99


REPEATS, FACTOR, LEAST = 32, 16, 64
"""Independent samples of `FACTOR * LEAST` episodes, each cut into `FACTOR` of the smaller size."""


def deviations(subject: Acting, start: Any, gamma: float, key: jax.Array) -> dict[str, jax.Array]:
    """How far means over blocks of `LEAST` episodes are off, `[blocks, ...]`; their expectation is zero.

    With `1` for being at a place at a time (and taking an action), `G` the discounted return from there:
    `1 - d`, `1 (G - V)`, `1 (G - V - A)` and `Σ_t γ^t ∇log π G - ∇J`.
    """
    env, policy, params = subject
    blocks = REPEATS * FACTOR
    truth = exact.evaluate(env, subject.log_probs(params), start, gamma=gamma)
    gradient = exact.policy_gradient(env, subject.log_probs, params, start, gamma=gamma, fade=gamma)
    collector = episodes(env, prompts=1, group=LEAST, start="shared")
    states = jax.tree.map(lambda x: jnp.broadcast_to(x, (LEAST, *x.shape)), start)
    times = jnp.arange(env.horizon)

    def block(key: jax.Array) -> dict[str, jax.Array]:
        rollout = collector.simulate(states, policy, params, key, keep_state=True)
        rollout = jax.tree.map(lambda x: x[:, 0], rollout)
        weight = gamma**times

        def to_go(reward: jax.Array) -> jax.Array:
            return (reward * weight)[::-1].cumsum()[::-1] / weight

        return_ = jax.vmap(to_go)(rollout.reward)
        place = jax.vmap(jax.vmap(env.place))(rollout.state)[:, :-1]
        cell = (jnp.broadcast_to(times, place.shape), place)
        value, advantage = truth.value[cell], truth.advantage[*cell, rollout.action]

        def gather(x: jax.Array, *cell: jax.Array, like: jax.Array) -> jax.Array:
            return jnp.zeros(like.shape).at[cell].add(x * rollout.mask) / LEAST

        def objective(params: Any) -> jax.Array:
            log_probs = subject.log_probs(params)(rollout.obs[:, :-1], rollout.legal)
            taken = jnp.take_along_axis(log_probs, rollout.action[..., None], -1)[..., 0]
            return (taken * weight * return_ * rollout.mask).sum() / LEAST

        error = jax.tree.map(jnp.subtract, jax.grad(objective)(params), gradient)
        action = (*cell, rollout.action)
        return {
            "visits": gather(jnp.float32(1.0), *cell, like=truth.visits) - truth.visits,
            "value": gather(return_ - value, *cell, like=truth.visits),
            "advantage": gather(return_ - value - advantage, *action, like=truth.advantage),
            "gradient": ravel_pytree(error)[0],
        }

    return jax.lax.map(block, jax.random.split(key, blocks))


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["frozen_lake", "maze_slippery", "garnet", "lock", "delayed"])
def test_simulation_tends_to_the_truth_at_the_rate_of_one_over_root_n(name):
    subject = acting(name)
    start = start_of(subject.env)
    run = jax.jit(functools.partial(deviations, subject, gamma=0.9))
    found = run(start, key=jax.random.key(5))
    for what, blocks in found.items():
        blocks = np.asarray(blocks, np.float64).reshape(REPEATS * FACTOR, -1)
        sizes = np.array([1, 4, FACTOR])
        means = [blocks.reshape(-1, size, blocks.shape[1]).mean(1) for size in sizes]
        error = np.sqrt([np.square(mean).sum(1).mean() for mean in means])
        if (name, what) == ("delayed", "advantage"):
            # A state and an action settle this outcome: nothing is left to average but roundings.
            assert error[0] < 1e-6
            continue
        # The mean square of 32 errors has a standard error of at most a quarter (if they differ along one
        # line only), hence their root one of an eighth: three of these.
        assert error[0] / error[-1] == pytest.approx(4, rel=0.375), what
        slope = np.polyfit(np.log(sizes), np.log(error), 1)[0]
        # The logarithm of that root is off by at most 0.125, over a range of log 16.
        assert slope == pytest.approx(-0.5, abs=3 * 0.125 / np.log(FACTOR)), what
        # All 32 768 episodes: the mean is off by four standard errors at most.
        assert np.linalg.norm(blocks.mean(0)) < 4 * error[0] / np.sqrt(len(blocks)), what


@pytest.mark.parametrize("name", ["delayed", "maze_slippery", "taxi", "frozen_lake_timed"])
def test_values_along_episodes_are_those_of_each_episodes_own_start(name):
    subject = acting(name)
    env, policy, params = subject
    collector = episodes(env, prompts=2, group=2, start="independent")
    chances = subject.log_probs(params)

    @jax.jit
    def both(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        rollout = collector.collect((), policy, params, key, keep_state=True).rollout
        along = exact.along(env, chances, rollout.state, gamma=0.9)

        def own(states: Any) -> jax.Array:
            start = jax.tree.map(lambda x: x[0], states)
            table = exact.evaluate(env, chances, start, gamma=0.9).value
            return table[jnp.arange(env.horizon + 1), jax.vmap(env.place)(states)]

        flat = jax.tree.map(lambda x: x.reshape(4, *x.shape[2:]), rollout.state)
        return along, jax.lax.map(own, flat).reshape(along.shape)

    along, own = both(jax.random.key(0))
    np.testing.assert_allclose(along, own, rtol=1e-5, atol=1e-6)
    assert len(np.unique(np.asarray(own)[..., 0])) > 1 or name == "frozen_lake_timed"


@pytest.mark.parametrize("sharpness", [0.0, 1e-9, 0.5])
def test_a_policy_of_any_sharpness_takes_legal_actions_only(sharpness):
    subject = acting("taxi")
    start = start_of(subject.env)
    obs, legal = exact.observations(subject.env, start, jnp.int32(0))
    assert legal is not None
    chances = subject.log_probs(subject.params)
    probability = np.exp(exact.sharpened(chances, sharpness)(obs, legal))
    assert (probability[~np.asarray(legal)] == 0).all()
    np.testing.assert_allclose(probability.sum(-1), 1.0, rtol=1e-5)
    if sharpness < 1e-6:
        even = np.asarray(legal) / np.asarray(legal).sum(-1, keepdims=True)
        np.testing.assert_allclose(probability, even, rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [CartPole, lambda: TimeAware(CartPole()), lambda: OutcomeOnly(Lock()), lambda: Delayed(5, 2)],
)
def test_what_cannot_be_enumerated_is_refused_by_name(make):
    env = make()
    with pytest.raises(ValueError, match=f"env={type(env).__name__} cannot be enumerated"):
        exact.require_enumerable(env)


@pytest.mark.parametrize(
    ("make", "numbers"),
    [
        (
            lambda: Maze(21, slip=0.1, horizon=4000),
            "4000 steps x 441 places x 4 actions x 4 outcomes = 28,224,000, at most 20,000,000",
        ),
        (
            lambda: Garnet(horizon=100_000),
            "100000 steps x 20 places x 4 actions x 3 outcomes = 24,000,000, at most 20,000,000",
        ),
    ],
)
def test_what_is_too_large_is_refused_with_its_size(make, numbers):
    with pytest.raises(ValueError, match=f"is too large to be enumerated: {numbers}"):
        exact.require_enumerable(make())


@pytest.mark.parametrize("name", TASKS)
def test_what_can_be_enumerated_is_handed_back(name):
    assert exact.require_enumerable(task(name)) is task(name)


def test_a_policy_that_cannot_be_listed_is_refused():
    with pytest.raises(ValueError, match="need discrete actions and a policy without a memory"):
        exact.require_listed(None)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("env=cartpole",), "env=CartPole cannot be enumerated"),
        (("env=garnet", "env.horizon=100000"), "env=Garnet is too large"),
        (("env=lock", "network@agent.network=gru"), "a policy without a memory"),
    ],
)
def test_the_command_line_refuses_an_oracle_that_cannot_know(build, overrides, words):
    with pytest.raises(InputError, match=words):
        build("agent=oracle_v", *overrides)
