"""What no estimator and no loss may depend on: the order of rollouts, the horizon, what lies off the mask."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium.spaces import Box, Discrete
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import access
from vfcompare import lesions, scaling
from vfcompare.assemble import assemble
from vfcompare.types import Array, Charge, Collected, Collector, Rollout, Spec
from vfcompare.valuation import Critic, Estimate, Estimator

CONF = Path(__file__).resolve().parents[1] / "conf"
SHAPE = PROMPTS, GROUP, HORIZON = 3, 4, 6
KEY = jax.random.key(7)
few = settings(max_examples=20, derandomize=True)

# Every estimator with the parts it is shipped with, and the advantages that none of them has by default.
ESTIMATORS = sorted(path.stem for path in (CONF / "estimator").glob("*.yaml"))
ADAPTIVE = ("gae", "advantage@agent.estimator.advantage=length_adaptive_gae")
CASES = {name: (name,) for name in ESTIMATORS} | {"length_adaptive_gae": ADAPTIVE}

# MaxRL divides by the mean return, which is defined for outcomes that cannot be negative.
OUTCOMES_ONLY = {"group_mean_over_mean"}


class Data(NamedTuple):
    """A rollout, and all that could be asked about it; every leaf is `[B, G, ...]`."""

    rollout: Rollout
    value: Array
    log_prob: Array
    score: Array
    simulated: Array


def data(key, lengths=None):
    """Episodes of all lengths, of which some are cut by the clock; nothing but zeros off the mask."""
    keys = iter(jax.random.split(key, 16))
    normal = lambda *more: jax.random.normal(next(keys), (*SHAPE[:2], *more))  # noqa: E731
    length = jax.random.randint(next(keys), SHAPE[:2], 1, HORIZON + 1)
    time = jnp.arange(HORIZON + 1)
    mask = (time[:-1] < length[..., None]).astype(jnp.float32)
    last = (time[:-1] == length[..., None] - 1).astype(jnp.float32)
    cut = jax.random.bernoulli(next(keys), 0.4, SHAPE[:2])[..., None]
    # The row after a last step is the final observation, whose value counts where the clock cut.
    shown = (time < length[..., None] + cut).astype(jnp.float32)
    # Few different observations, so that bins are shared; each prompt begins in its own.
    obs = jax.random.randint(next(keys), (*SHAPE[:2], HORIZON + 1, 2), 0, 3).astype(jnp.float32)
    obs = obs.at[:, :, 0].set(jnp.arange(10.0, 10 + PROMPTS)[:, None, None])
    rollout = Rollout(
        obs=obs * shown[..., None],
        action=jax.random.randint(next(keys), SHAPE, 0, 2) * mask.astype(jnp.int32),
        log_prob=(-0.7 + 0.3 * normal(HORIZON)) * mask,
        reward=normal(HORIZON) * mask,
        terminated=last * ~cut,
        truncated=last * cut,
        mask=mask,
        first=jnp.zeros(SHAPE).at[..., 0].set(1.0),
        # Where a simulated episode starts decides what it pays, and which rollout it belongs to does not.
        state=normal(HORIZON + 1) * shown,
    )
    chance = jax.random.uniform(next(keys), SHAPE)
    return Data(
        rollout=rollout,
        value=normal(HORIZON + 1) * shown,
        log_prob=rollout.log_prob + 0.3 * normal(HORIZON) * mask,
        score=2.0 * jnp.square(1.0 - chance) * mask,
        simulated=jnp.zeros(SHAPE[:2]),
    )


def drawn(name, key):
    """Data of the kind that the case is defined for."""
    case = data(key)
    reward = case.rollout.reward
    reward = abs(reward) if name in OUTCOMES_ONLY else reward
    return case._replace(rollout=case.rollout.replace(reward=reward))


def shown(rollout):
    """`[B, G, T + 1]`, rows whose observation and value mean something."""
    mask = jnp.pad(rollout.mask, ((0, 0), (0, 0), (0, 1)))
    return jnp.maximum(mask, jnp.pad(rollout.truncated, ((0, 0), (0, 0), (1, 0))))


def soiled(case, key):
    """The same with garbage wherever nothing was done; rewards are zero there by contract."""
    keys = iter(jax.random.split(key, 16))
    rollout, rows = case.rollout, shown(case.rollout)

    def spoil(x, clean, size=1e3):
        extra = (1,) * (x.ndim - clean.ndim)
        return jnp.where(
            clean.reshape(*clean.shape, *extra) > 0,
            x,
            jnp.asarray(size * jax.random.normal(next(keys), x.shape), x.dtype),
        )

    taken = rollout.mask
    return case._replace(
        rollout=rollout.replace(
            obs=spoil(rollout.obs, rows),
            action=jnp.where(taken > 0, rollout.action, 1 - rollout.action),
            # Of probabilities between 1e-13 and 1: ratios become large, and stay numbers.
            log_prob=jnp.where(taken > 0, rollout.log_prob, spoil(rollout.log_prob, taken, 10.0)),
            state=spoil(rollout.state, rows),
        ),
        value=spoil(case.value, rows),
        log_prob=spoil(case.log_prob, taken, 10.0),
        score=spoil(case.score, taken),
    )


def padded(case, number):
    """The same under a longer horizon."""

    def pad(x):
        return jnp.pad(x, ((0, 0), (0, 0), (0, number), *((0, 0),) * (x.ndim - 3)))

    per_step = case._replace(simulated=())
    return jax.tree.map(pad, per_step)._replace(simulated=case.simulated)


def simulator(horizon):
    """Episodes of two steps whose rewards are functions of the state they start from."""

    def simulate(states, key, *, time=None, alive=True, greedy=False):
        number = len(states)
        blank = jnp.zeros((number, 1, horizon))
        live = jnp.broadcast_to(jnp.asarray(alive, jnp.float32), number)[:, None]
        reward = blank.at[..., 0].set(jnp.sin(states)[:, None] * live)
        mask = blank.at[..., :2].set(live[..., None])
        rows = jnp.zeros((number, 1, horizon + 1, 1))
        end = blank.at[..., 1].set(live)
        return Rollout(rows, blank.astype(int), blank, reward, end, blank, mask, blank)

    return simulate


def says_what_is_known():
    """A critic whose parameters are its values."""
    return lambda *, spec: Critic(
        init=lambda key, networks, obs: (),
        value=lambda networks, rollout: networks["critic"],
        loss=lambda networks, rows: rows.mask,
        optimizer=optax.with_extra_args_support(optax.sgd(0.0)),
        recurrent=False,
        scaling=scaling.unscaled(),
        lesion=lesions.none(),
    )


@pytest.fixture(scope="module")
def estimate(config):
    """`(name of a case) -> (data -> (advantage, what the critic is to learn))`, each compiled once."""
    made: dict[str, Any] = {}

    def get(name):
        if name in made:
            return made[name]
        estimator_name, *settings = CASES[name]
        chosen = (f"estimator@agent.estimator={estimator_name}", *settings)
        parts = config("agent=rloo", *chosen)["agent"]["estimator"]
        if "critic" in parts:
            parts = parts | {"critic": says_what_is_known()}
        spec = Spec(Box(0.0, 20.0, (2,), np.float32), Discrete(2), SHAPE, whole_episodes=True)
        estimator = assemble(parts, spec=spec)()

        @jax.jit
        def run(case):
            networks = {"critic": case.value}
            reach = access(
                simulate=simulator(case.rollout.mask.shape[-1]),
                exact_value=lambda rollout, sharpness: case.value,
                log_prob=lambda rollout: case.log_prob,
                squared_score=lambda rollout: case.score,
            )
            memory = estimator.init(networks)
            said = estimator.estimate(memory, networks, case.rollout, reach, KEY)
            target = jnp.zeros_like(said.advantage) if said.lesson is None else said.lesson.target
            return said.advantage, target * case.rollout.mask

        made[name] = run
        return run

    return get


# Sums of 72 numbers in another order: some units of 2^-24 of numbers up to 10, divided by deviations near 1.
ROUNDING = 2e-5


def agree(got, want):
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, atol=ROUNDING, rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
@few
@given(
    seed=st.integers(0, 1000),
    prompts=st.permutations(range(PROMPTS)),
    rollouts=st.permutations(range(GROUP)),
)
def test_the_order_of_prompts_and_rollouts_is_that_of_the_advantages(
    estimate, name, seed, prompts, rollouts
):
    run, case = estimate(name), drawn(name, jax.random.key(seed))
    order = np.ix_(prompts, rollouts)
    # Returns are drawn from a continuum, so that no two are equal where the best one is looked for.
    agree(run(jax.tree.map(lambda x: x[order], case)), [x[order] for x in run(case)])


@pytest.mark.parametrize("name", CASES)
@few
@given(seed=st.integers(0, 1000))
def test_what_lies_off_the_mask_has_no_influence_and_no_advantage(estimate, name, seed):
    run, case = estimate(name), drawn(name, jax.random.key(seed))
    want, got = run(case), run(soiled(case, jax.random.key(seed + 1)))
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (got[0] * (1.0 - case.rollout.mask) == 0).all()
    assert float(abs(got[0]).max()) > 0


@pytest.mark.parametrize("name", CASES)
def test_a_longer_horizon_changes_nothing_and_adds_nothing(estimate, name):
    run, case = estimate(name), drawn(name, KEY)
    longer = padded(case, 5)
    want = run(case)
    for padding in (longer, soiled(longer, KEY)):
        got = run(padding)
        agree([x[..., :HORIZON] for x in got], want)
        for x in got:
            np.testing.assert_array_equal(x[..., HORIZON:], 0.0)


class Nowhere:
    """Two numbers are seen and two actions can be taken; nothing else is ever asked of it."""

    observation_space = Box(-np.inf, np.inf, (2,), np.float32)
    action_space = Discrete(2)
    horizon = HORIZON
    mute = 0
    layout = None

    def initial(self, rng, params=None):
        return jnp.zeros(2)

    def observation(self, state, rng, params=None):
        return state


def held(env):
    """A collector that hands out the rollout that is its state."""

    def collect(state, policy, params, key, *, keep_state):
        return Collected(state, state, Charge(state.mask.sum(), jnp.float32(0.0)), {})

    return Collector(
        lambda key, policy: (), collect, simulator(HORIZON), SHAPE, whole_episodes=True
    )


def told(*, spec):
    """An estimator whose memory is the advantage."""
    return Estimator(
        lambda memory, networks, rollout, access, key: Estimate(memory, memory=memory),
        lambda networks: (),
    )


def adding_up():
    """An optimiser that takes no step and adds up the gradients: all of them are at one place."""
    return optax.GradientTransformationExtraArgs(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda grads, total, params=None, **known: (
            jax.tree.map(jnp.zeros_like, grads),
            jax.tree.map(jnp.add, total, grads),
        ),
    )


SURROGATES = sorted(path.stem for path in (CONF / "surrogate").glob("*.yaml"))
AGGREGATES = sorted(path.stem for path in (CONF / "aggregate").glob("*.yaml"))
ROWS_OF = dict.fromkeys(("gspo", "gmpo", "episode_clipped"), "episodes") | {"preference": "groups"}


def gradients(config, surrogate, aggregate, network="mlp"):
    """`(data, advantage) -> gradients` of the policy's loss: as written, and as the learner takes it.

    The learner's are those of the whole batch at once, and the mean over several minibatches of what each
    adds up from blocks of three rows (of what the surrogate looks at: steps, episodes or groups).
    """
    rows_of = ROWS_OF.get(surrogate, "episodes" if network == "gru" else "steps")
    parts = config(
        "agent=rloo",
        f"network@agent.network={network}",
        f"agent.network.hidden={5 if network == 'gru' else [5]}",
        f"surrogate@agent.surrogate={surrogate}",
        f"aggregate@agent.aggregate={aggregate}",
        f"agent.rows_of={rows_of}",
        # Steps of all sizes, not those of a policy that has yet to make up its mind.
        "agent.policy.gain=1.0",
        # Margins between episodes are of order one, as all else here.
        *(["agent.surrogate.beta=1.0"] if surrogate == "preference" else []),
    )["agent"]
    given = {"collector": held, "estimator": told, "optimizer": adding_up()}
    mine = {name: part for name, part in parts.items() if name not in given}

    def learned(case, advantage, minibatches, block):
        cut = {
            "batching": parts["batching"]
            | {"minibatches": minibatches, "block": block, "epochs": 1}
        }
        learner = assemble(mine | cut, env=Nowhere(), **given)
        state = learner.init(KEY).replace(collector=case.rollout, memory=advantage)
        made = learner.update(state, KEY, jnp.float32(0.0))
        state, metrics = made.state, made.metrics
        total = jax.tree.map(lambda x: x / minibatches, state.opt_state["policy"])
        return total, metrics["policy_loss"], state.params["policy"]

    def written(params, case, advantage):
        spec = Spec(Nowhere.observation_space, Nowhere.action_space, SHAPE, whole_episodes=True)
        policy = assemble(parts["policy"], spec=spec, network=assemble(parts["network"]))
        policy = policy()
        weight = assemble(parts["aggregate"])(case.rollout.mask)

        def loss(params):
            log_prob, entropy = policy.evaluate(params, case.rollout.steps)
            lost = assemble(parts["surrogate"])(
                log_prob, case.rollout.log_prob, advantage, case.rollout.mask
            )
            return (weight * (lost - parts["entropy_coef"] * entropy)).sum()

        return jax.grad(loss)(params), loss(params)

    @jax.jit
    def run(case, advantage):
        *at_once, params = learned(case, advantage, 1, 128)
        return {
            "written": written(params, case, advantage),
            "at once": tuple(at_once),
            "in pieces": learned(case, advantage, 3 if rows_of == "groups" else 4, 3)[:2],
        }

    return run


def remembering(case):
    """The same, of a policy with a memory that was empty at the start."""
    carry = jnp.zeros((*SHAPE[:2], 5))
    return case._replace(rollout=case.rollout.replace(carry=carry))


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_gradient_is_that_of_the_written_loss_however_it_is_cut(config, surrogate, aggregate):
    run, case = gradients(config, surrogate, aggregate), data(KEY)
    advantage = jax.random.normal(jax.random.key(8), SHAPE)
    found = run(case, advantage)
    # Sums over 72 steps in another order; numbers are below 1.
    for cut in ("at once", "in pieces"):
        for one, other in zip(*map(jax.tree.leaves, (found[cut], found["written"])), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6, rtol=1e-5, err_msg=cut)
    size = optax.tree.norm(found["at once"][0])
    assert 1e-3 < float(size) < 10
    # Nothing that lies off the mask is part of it, to the bit.
    for seed in range(3):
        key = jax.random.key(seed)
        dirt = 1e3 * jax.random.normal(key, SHAPE) * (1.0 - case.rollout.mask)
        dirty = run(soiled(case, key), advantage * case.rollout.mask + dirt)
        for one, other in zip(*map(jax.tree.leaves, (dirty, found)), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_memory_reads_nothing_off_the_mask(config):
    run, case = gradients(config, "clipped", "steps", "gru"), remembering(data(KEY))
    advantage = jax.random.normal(jax.random.key(8), SHAPE)
    found = run(case, advantage)
    for cut in ("at once", "in pieces"):
        for one, other in zip(*map(jax.tree.leaves, (found[cut], found["written"])), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6, rtol=1e-5, err_msg=cut)
    dirty = run(soiled(case, KEY), advantage)
    for one, other in zip(*map(jax.tree.leaves, (dirty, found)), strict=True):
        np.testing.assert_array_equal(one, other)
