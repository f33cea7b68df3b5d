"""Damage to critics does what it says, to what it says, and not before its time."""

from collections.abc import Callable
from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.helpers import access
from vfcompare import advantages, estimators, lesions, returns, scaling, targets
from vfcompare.estimators import Advice, with_critic
from vfcompare.masked import explained_variance
from vfcompare.types import Rollout, Spec
from vfcompare.valuation import Critic, Lesion, Reading

KEY = jax.random.key(5)

OF_VALUES: dict[str, Callable[..., Lesion]] = {
    "zero": lesions.zero,
    "constant": lesions.constant,
    "bias": partial(lesions.bias, by=2.0),
    "noise": partial(lesions.noise, std=0.5),
    "noise_to": partial(lesions.noise_to, explained=0.5),
    "shuffle": lesions.shuffle,
    "another": partial(lesions.another, sharpness=0.25),
}
OF_CRITICS: dict[str, Callable[..., Lesion]] = {
    "freeze": lesions.freeze,
    "reset": lesions.reset,
    "delay": partial(lesions.delay, updates=3),
}
KEEPS_ENDS = ("constant", "bias", "noise", "noise_to", "shuffle")
"""Lesions that only touch values of states in which a step was taken."""


def batch(shape=(3, 4, 6)):
    """Episodes of random lengths, of which those that last until the clock are truncated; and values."""
    random = np.random.default_rng(0)
    length = random.integers(1, shape[2] + 1, shape[:2])
    length[0, 0] = shape[2]
    time = np.arange(shape[2])
    mask, last = time < length[..., None], time == length[..., None] - 1
    clock = (length == shape[2])[..., None]
    zeros = jnp.zeros(shape)
    rollout = Rollout(
        obs=jnp.zeros((*shape[:2], shape[2] + 1, 1)),
        action=zeros.astype(jnp.int32),
        log_prob=zeros,
        reward=zeros,
        terminated=jnp.asarray(last & ~clock, jnp.float32),
        truncated=jnp.asarray(last & clock, jnp.float32),
        mask=jnp.asarray(mask, jnp.float32),
        first=zeros.at[..., 0].set(1),
    )
    # Also beyond the ends, where a critic may say anything.
    value = jnp.asarray(random.normal(3.0, 2.0, (*shape[:2], shape[2] + 1)), jnp.float32)
    return rollout, value


ROLLOUT, VALUE = batch()
TAKEN = np.concatenate([np.asarray(ROLLOUT.mask), np.zeros((3, 4, 1))], -1) > 0
TRUTH = jnp.where(TAKEN, jnp.arange(84.0).reshape(3, 4, 7), 0.0)


def hurt(lesion, value=VALUE, rollout=ROLLOUT, progress=1.0, key=KEY):
    """The values that are left, of a critic that is nothing but them."""
    reach = access(progress=jnp.float32(progress), exact_value=lambda rollout, sharpness: TRUTH)
    memory = lesion.init(())
    found = lesion.apply(memory, Reading((), value, lambda params: value), rollout, reach, key)
    assert found.critic is None
    assert found.memory == memory
    return found.value


@pytest.mark.parametrize("name", OF_VALUES)
def test_values_are_left_alone_before_the_time(name):
    lesion = OF_VALUES[name](after=0.5)
    for progress in (0.0, 0.49):
        np.testing.assert_array_equal(hurt(lesion, progress=progress), VALUE)
    at_once = hurt(OF_VALUES[name](), progress=0.0)
    assert (at_once != VALUE).any()
    for progress in (0.5, 0.99):
        np.testing.assert_array_equal(hurt(lesion, progress=progress), at_once)


@pytest.mark.parametrize("name", KEEPS_ENDS)
def test_values_beyond_the_last_step_stay(name):
    got = hurt(OF_VALUES[name]())
    np.testing.assert_array_equal(got[~TAKEN], VALUE[~TAKEN])
    assert (got != VALUE)[TAKEN].all()


def test_an_error_at_the_clock_would_be_paid_for_lasting():
    # The reason why values beyond the last step stay: at λ = 1 a bias is but a baseline, also of an episode
    # that the clock ends.
    gae = partial(advantages.gae, ROLLOUT, gamma=1.0, lambda_=1.0)
    change = gae(hurt(lesions.bias(by=2.0))) - gae(VALUE)
    np.testing.assert_allclose(change, -2.0 * ROLLOUT.mask, atol=1e-5)


def test_none_does_nothing():
    np.testing.assert_array_equal(hurt(lesions.none()), VALUE)


def test_only_another_asks_for_the_truth():
    made = {name: make(after=0.5) for name, make in (OF_VALUES | OF_CRITICS).items()}
    assert {name for name, lesion in made.items() if lesion.privileged} == {"another"}
    assert not lesions.none().privileged
    for lesion in made.values():
        estimator = estimator_of(lesion)
        assert estimator.privileged is estimator.needs_state is lesion.privileged


def test_zero_makes_reinforce_of_lambda_1():
    # Some of these episodes are cut by the clock: nothing is left to bootstrap from there either.
    rollout = ROLLOUT.replace(reward=ROLLOUT.mask * VALUE[..., 1:])
    assert rollout.truncated.any()
    got = advantages.gae(rollout, hurt(lesions.zero(), rollout=rollout), gamma=0.9, lambda_=1.0)
    np.testing.assert_allclose(got, returns.reward_to_go(rollout, gamma=0.9), atol=1e-5)


def test_constant_is_the_mean_over_taken_steps():
    mean = np.asarray(VALUE, float)[TAKEN].mean()
    np.testing.assert_allclose(hurt(lesions.constant())[TAKEN], mean, rtol=1e-6)


def test_bias_is_one_number():
    np.testing.assert_allclose((hurt(lesions.bias(by=-0.75)) - VALUE)[TAKEN], -0.75, atol=1e-6)


MANY, MANY_VALUES = batch((20, 50, 20))
MANY_TAKEN = np.concatenate([np.asarray(MANY.mask), np.zeros((20, 50, 1))], -1) > 0
STEPS = MANY_TAKEN.sum()


@pytest.mark.statistical
def test_noise_is_normal_of_the_given_size_and_drawn_anew():
    def errors(std, key=KEY):
        found = hurt(lesions.noise(std=std), MANY_VALUES, MANY, key=key)
        return np.asarray(found - MANY_VALUES, float)[MANY_TAKEN]

    once, again = errors(0.5), errors(0.5, jax.random.key(6))
    # Four standard deviations of a mean, of a mean of squares, of fourth powers, and of a correlation.
    four = 4 / np.sqrt(STEPS)
    assert once.mean() / 0.5 == pytest.approx(0, abs=four)
    assert (once**2).mean() / 0.5**2 == pytest.approx(1, abs=four * np.sqrt(2))
    assert (once**4).mean() / 0.5**4 == pytest.approx(3, abs=four * np.sqrt(96))
    assert np.corrcoef(once, again)[0, 1] == pytest.approx(0, abs=four)
    assert np.corrcoef(once[1:], once[:-1])[0, 1] == pytest.approx(0, abs=four)
    # The same draw at another size; values near ten are rounded to 1e-6.
    np.testing.assert_allclose(errors(1.0), 2 * once, atol=1e-5)


@pytest.mark.statistical
@pytest.mark.parametrize("explained", [0.9, 0.5, 0.0, -3.0])
def test_noise_reaches_the_given_share_of_the_variance(explained):
    got = hurt(lesions.noise_to(explained=explained), MANY_VALUES, MANY)
    known = explained_variance(got[..., :-1], MANY_VALUES[..., :-1], MANY.mask)
    # Four standard deviations of the mean square of so many normal errors.
    spread = 4 * np.sqrt(2 / STEPS) * (1 - explained)
    assert float(known) == pytest.approx(explained, abs=spread)


def test_noise_leaves_values_alone_that_are_to_explain_everything_or_have_nothing_to_explain():
    np.testing.assert_array_equal(hurt(lesions.noise_to(explained=1.0)), VALUE)
    equal = jnp.full_like(VALUE, 0.5)
    np.testing.assert_array_equal(hurt(lesions.noise_to(explained=0.0), equal), equal)


def test_shuffle_hands_each_step_the_value_of_another_episode_that_acts_at_the_time():
    flat, acting = np.asarray(VALUE).reshape(12, 7), TAKEN.reshape(12, 7)
    assert len({*acting.sum(0)}) > 3
    owners = set()
    for seed in range(40):
        got = np.asarray(hurt(lesions.shuffle(), key=jax.random.key(seed))).reshape(12, 7)
        # Never of padding, and of each step once.
        for time in range(7):
            at = acting[:, time]
            np.testing.assert_array_equal(np.sort(got[at, time]), np.sort(flat[at, time]))
            assert (got != flat)[at, time].all() or at.sum() == 1
        owners.add(int(np.flatnonzero(flat[:, 0] == got[0, 0])[0]))
    # Of the same prompt and of others.
    assert owners & set(range(1, 4))
    assert owners & set(range(4, 12))


def test_shuffle_hands_over_whole_fragments():
    rollout = ROLLOUT.replace(mask=jnp.ones_like(ROLLOUT.mask))
    flat, owners = np.asarray(VALUE).reshape(12, 7), set()
    for seed in range(40):
        got = np.asarray(hurt(lesions.shuffle(), VALUE, rollout, key=jax.random.key(seed)))
        (shift,) = [s for s in range(1, 12) if (np.roll(flat, s, 0) == got.reshape(12, 7))[0, 0]]
        np.testing.assert_array_equal(got.reshape(12, 7)[:, :-1], np.roll(flat, shift, 0)[:, :-1])
        # Those that are cut off change among themselves what they go on to, the others keep what they have.
        cut = np.asarray(rollout.trace[..., -1]) > 0
        np.testing.assert_array_equal(got[..., -1][~cut], VALUE[..., -1][~cut])
        np.testing.assert_array_equal(np.sort(got[..., -1][cut]), np.sort(VALUE[..., -1][cut]))
        assert (got[..., -1] != VALUE[..., -1])[cut].all()
        owners.add(shift)
    assert len(owners) > 5


def test_shuffle_leaves_a_step_alone_that_nobody_else_takes():
    mask = jnp.array([[[1.0, 0.0, 0.0]], [[1.0, 1.0, 0.0]], [[1.0, 1.0, 1.0]]])
    rollout, value = batch((3, 1, 3))
    rollout = rollout.replace(mask=mask)
    for seed in range(6):
        got = hurt(lesions.shuffle(), value, rollout, key=jax.random.key(seed))
        assert (got != value)[:, 0, 0].all()
        np.testing.assert_array_equal(got[1:, 0, 1], value[:0:-1, 0, 1])
        np.testing.assert_array_equal(got[..., 2:], value[..., 2:])


def test_shuffle_leaves_an_episode_alone_that_has_no_other():
    rollout, value = batch((1, 1, 4))
    np.testing.assert_array_equal(hurt(lesions.shuffle(), value, rollout), value)


def test_another_is_the_exact_value_of_the_policy_that_it_names():
    asked = []

    def truth(rollout, sharpness):
        asked.append((rollout is ROLLOUT, sharpness))
        return TRUTH

    lesion = lesions.another(sharpness=0.25)
    found = lesion.apply(
        (), Reading((), VALUE, lambda params: VALUE), ROLLOUT, access(exact_value=truth), KEY
    )
    np.testing.assert_array_equal(found.value, TRUTH)
    assert asked == [(True, 0.25)]


def estimator_of(lesion):
    """An estimator whose critic is one number, and says it everywhere."""
    critic = Critic(
        init=lambda key, networks, obs: jnp.float32(0),
        value=lambda networks, rollout: jnp.full((3, 4, 7), networks["critic"]),
        loss=lambda networks, rows: jnp.zeros(()),
        optimizer=optax.with_extra_args_support(optax.identity()),
        recurrent=False,
        scaling=scaling.unscaled(),
        lesion=lesion,
    )
    return estimators.value_based(
        spec=Spec(
            gymnasium.spaces.Box(0, 1), gymnasium.spaces.Discrete(2), (3, 4, 6), whole_episodes=True
        ),
        advantage=partial(advantages.gae, gamma=1.0, lambda_=1.0),
        target=partial(targets.lambda_return, gamma=1.0, lambda_=1.0),
        critic=lambda spec: critic,
    )


def life(lesion):
    """What is read and what the critic itself says, less seven, in ten updates that add one to it each."""
    estimator = estimator_of(lesion)

    @jax.jit
    def update(memory, params, progress):
        reach = access(progress=progress)
        found = estimator.estimate(memory, {"critic": params}, ROLLOUT, reach, KEY)
        present = found.renewed.get("critic", params)
        return found.memory, present + 1.0, found.value[0, 0, 0], found.lesson.old[0, 0, 0]

    params = jnp.float32(7.0)
    memory, read, own = estimator.init({"critic": params}), [], []
    for number in range(10):
        memory, params, used, said = update(memory, params, jnp.float32(number / 10))
        read.append(int(used) - 7)
        own.append(int(said) - 7)
    return read, own


def test_what_a_fragment_is_cut_off_from_is_hurt_as_are_steps():
    cut = ROLLOUT.replace(truncated=jnp.zeros_like(ROLLOUT.truncated))
    goes_on = np.asarray(cut.trace[..., -1] > 0)
    assert 0 < goes_on.sum() < goes_on.size
    change = np.asarray(hurt(lesions.bias(by=2.0), rollout=cut) - VALUE)
    np.testing.assert_allclose(change[..., :-1], 2.0 * np.asarray(cut.mask), atol=1e-5)
    np.testing.assert_allclose(change[..., -1], 2.0 * goes_on, atol=1e-5)


GROWING = list(range(10))


@pytest.mark.parametrize("name", OF_CRITICS)
def test_critics_learn_as_ever_where_the_time_never_comes(name):
    assert life(OF_CRITICS[name](after=1.0)) == (GROWING, GROWING)


def test_a_frozen_critic_stays_as_it_was_last_read_before_the_time():
    held = [0, 1, 2, 3, 4, 4, 4, 4, 4, 4]
    assert life(lesions.freeze(after=0.5)) == (held, held)
    # From the start on it stays as it was born.
    assert life(lesions.freeze()) == ([0] * 10, [0] * 10)


def test_a_critic_that_is_reset_begins_again_once_and_learns_on():
    again = [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert life(lesions.reset(after=0.5)) == (again, again)


def test_a_delayed_critic_is_read_as_it_was_and_learns_on():
    assert life(lesions.delay(updates=3)) == ([0, 0, 0, 0, 1, 2, 3, 4, 5, 6], GROWING)
    assert life(lesions.delay(updates=3, after=0.5)) == ([0, 1, 2, 3, 4, 2, 3, 4, 5, 6], GROWING)
    assert life(lesions.delay(updates=1)) == ([0, *range(9)], GROWING)


@pytest.mark.parametrize("name", OF_VALUES)
def test_a_critic_whose_values_are_damaged_learns_on(name):
    estimator = estimator_of(OF_VALUES[name]())
    networks = {"critic": jnp.float32(7.0)}
    reach = access(exact_value=lambda rollout, sharpness: TRUTH)
    found = estimator.estimate(estimator.init(networks), networks, ROLLOUT, reach, KEY)
    # Its targets and its old values are its own.
    assert not found.renewed
    assert (found.lesson.old == 7.0).all()
    own = targets.lambda_return(ROLLOUT, jnp.full((3, 4, 7), 7.0), gamma=1.0, lambda_=1.0)
    np.testing.assert_array_equal(found.lesson.target, own)


@pytest.mark.parametrize("name", ["freeze", "delay"])
def test_an_old_critic_is_read_in_the_unit_of_its_time(name):
    lesion = {"freeze": lesions.freeze(), "delay": lesions.delay(updates=3)}[name]
    critic = Critic(
        init=lambda key, networks, obs: (),
        value=lambda networks, rollout: networks["critic"] * jnp.ones_like(VALUE),
        loss=lambda networks, rows: jnp.zeros(1),
        optimizer=optax.identity(),
        recurrent=False,
        scaling=scaling.running_range(gamma=1.0),
        lesion=lesion,
    )

    def advise(rollout, value, undamaged, access, key):
        return Advice(value[..., :-1], value[..., :-1], value)

    estimator = with_critic(critic, advise)
    networks = {"critic": jnp.float32(0.5)}
    memory, said = estimator.init(networks), []
    for paid in (10.0, 20.0, 30.0):
        rollout = ROLLOUT.replace(reward=ROLLOUT.mask * paid)
        reach = access(progress=jnp.float32(1.0))
        found = estimator.estimate(memory, networks, rollout, reach, KEY)
        memory = found.memory
        assert found.value is not None
        said.append(float(found.value[0, 0, 0]))
    # The unit of the first batch is that of returns itself, in which the critic says a half.
    assert said == [0.5, 0.5, 0.5]


def test_a_clip_of_values_begins_at_what_the_network_says_whatever_becomes_of_its_unit():
    critic = Critic(
        init=lambda key, networks, obs: (),
        value=lambda networks, rollout: 0.5 * jnp.ones_like(VALUE),
        loss=lambda networks, rows: jnp.zeros(1),
        optimizer=optax.identity(),
        recurrent=False,
        scaling=scaling.running_range(gamma=1.0),
        lesion=lesions.none(),
    )

    def advise(rollout, value, undamaged, access, key):
        return Advice(value[..., :-1], value[..., :-1], value)

    estimator = with_critic(critic, advise)
    memory, targets = estimator.init({"critic": ()}), []
    for paid in (10.0, 20.0, 30.0):
        rollout = ROLLOUT.replace(reward=ROLLOUT.mask * paid)
        found = estimator.estimate(memory, {"critic": ()}, rollout, access(), KEY)
        memory = found.memory
        assert found.lesson is not None
        np.testing.assert_allclose(found.lesson.old, 0.5, rtol=1e-6)
        targets.append(float(found.lesson.target[0, 0, 0]))
    # The same value is another number in each new unit.
    assert len(set(targets)) == 3
