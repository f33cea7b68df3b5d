"""Heads of critics: what the outputs that fit best are read as, and which critic learns from which rows."""

from functools import partial

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.stats import norm

from vfcompare import estimators, lesions, scaling
from vfcompare.agents import critics, value_heads
from vfcompare.agents.networks import Mlp
from vfcompare.types import Batch, Lesson, Rollout, Spec, Steps

HEADS = {
    "scalar": value_heads.scalar(clip=None),
    "bounded": value_heads.bounded(low=0.0, high=1.0),
    "hl_gauss": value_heads.hl_gauss(bins=51, low=-0.25, high=1.25, sigma=0.75),
    "two_hot": value_heads.two_hot(bins=51, low=0.0, high=1.0),
    "categorical": value_heads.categorical(bins=51, low=0.0, high=1.0),
    "quantile_linear": value_heads.quantile(quantiles=51, huber=0.0),
    "quantile_huber": value_heads.quantile(quantiles=51, huber=1.0),
}
"""For values within [0, 1], with the numbers of the presets."""

FITTED = 1e-3
"""A thousandth of the range: what fitting and reading in single precision lose, at most.

Targets at the end of a support are fitted by outputs that grow for ever, until Adam no longer sees their
gradient: below 1e-8, which for `bounded` is the square of what is missing, 1e-4. The inverse of the squeezing
of `two_hot` divides a rounding of 1e-7 by 2e-3, and squares the sum: 1e-4. Errors that count by their size
alone are fitted to the last steps of the schedule, less than 1e-4.
"""


@partial(jax.jit, static_argnums=(0,))
def fitted(head, samples):
    """The outputs that minimise the mean loss of `samples [n, S]`, each row by itself: `[n, outputs]`."""
    steps = 3000
    # Nothing is random, so a short memory does: a long one of large gradients is what small ones stall by.
    adam = optax.adam(optax.cosine_decay_schedule(0.1, steps), b2=0.9)

    def loss(outputs):
        every = jnp.broadcast_to(outputs[:, None], (*samples.shape, head.outputs))
        return head.loss(every, samples, jnp.zeros_like(samples)).mean(1).sum()

    def step(carry, _):
        outputs, state = carry
        updates, state = adam.update(jax.grad(loss)(outputs), state)
        return (optax.apply_updates(outputs, updates), state), None

    outputs = jnp.zeros((len(samples), head.outputs))
    return jax.lax.scan(step, (outputs, adam.init(outputs)), None, steps)[0][0]


@pytest.mark.parametrize("name", HEADS)
def test_what_fits_a_constant_best_is_read_as_that_constant(name):
    head, target = HEADS[name], jnp.array([0.0, 0.3, 1.0])
    got = head.decode(fitted(head, target[:, None]))
    np.testing.assert_allclose(got, target, atol=FITTED)


LUCK = jnp.array([[0.0, 0.0, 0.0, 0.0, 1.0]])
"""A return that is one in a fifth of all cases."""


@pytest.mark.parametrize("name", ["scalar", "bounded", "hl_gauss", "categorical"])
def test_what_fits_a_chance_best_is_read_as_its_mean(name):
    got = HEADS[name].decode(fitted(HEADS[name], LUCK))
    np.testing.assert_allclose(got, 0.2, atol=FITTED)


def test_two_hot_reads_a_chance_as_the_mean_of_what_it_squeezes():
    def squeeze(x):
        return np.sign(x) * (np.sqrt(abs(x) + 1) - 1) + 1e-3 * x

    got = HEADS["two_hot"].decode(fitted(HEADS["two_hot"], LUCK))
    # Less than the mean, as the squeezing is concave: about 0.17.
    assert got < 0.2 - 10 * FITTED
    np.testing.assert_allclose(squeeze(np.float64(got)), 0.2 * squeeze(1.0), atol=FITTED)


def test_quantiles_of_a_chance_are_quantiles_and_with_a_large_huber_expectiles():
    levels = (np.arange(51) + 0.5) / 51
    straight = HEADS["quantile_linear"]
    outputs = fitted(straight, LUCK)
    np.testing.assert_allclose(outputs[0], levels > 0.8, atol=FITTED)
    # Ten of 51 levels lie above 0.8.
    np.testing.assert_allclose(straight.decode(outputs), 10 / 51, atol=FITTED)

    # Where no error is larger than `huber`, all are squared: τ p (1 - e) = (1 - τ) (1 - p) e.
    rounded = HEADS["quantile_huber"]
    outputs = fitted(rounded, LUCK)
    expectiles = 0.2 * levels / (0.2 * levels + 0.8 * (1 - levels))
    np.testing.assert_allclose(outputs[0], expectiles, atol=FITTED)
    # Their mean is not that of the returns, but 0.28.
    np.testing.assert_allclose(rounded.decode(outputs), expectiles.mean(), atol=FITTED)


@pytest.mark.parametrize(
    "make", [value_heads.hl_gauss, value_heads.two_hot, value_heads.categorical]
)
def test_one_bin_says_the_middle_whatever_it_is_told(make):
    options = {"sigma": 0.75} if make is value_heads.hl_gauss else {}
    head = make(bins=1, low=-1.0, high=2.0, **options)
    assert head.outputs == 1
    outputs, target = jnp.array([[-3.0], [0.0], [7.0]]), jnp.array([-1.0, 0.2, 2.0])
    np.testing.assert_allclose(head.decode(outputs), 0.5, atol=1e-6)
    loss, gradient = jax.value_and_grad(lambda x: head.loss(x, target, target).sum())(outputs)
    assert loss == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("ends", [(1.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
@pytest.mark.parametrize("name", ["bounded", "hl_gauss", "two_hot", "categorical"])
def test_a_head_whose_ends_are_not_in_order_is_refused(name, ends):
    options: dict[str, float] = {} if name == "bounded" else {"bins": 5}
    options |= {"sigma": 0.75} if name == "hl_gauss" else {}
    with pytest.raises(ValueError, match=f"low={ends[0]} is not allowed; .*high={ends[1]}"):
        getattr(value_heads, name)(low=ends[0], high=ends[1], **options)


def test_one_quantile_is_the_median():
    head = value_heads.quantile(quantiles=1, huber=0.0)
    samples = jnp.array([[0.0, 0.1, 0.2, 0.9, 1.0]])
    np.testing.assert_allclose(head.decode(fitted(head, samples)), 0.2, atol=FITTED)


@pytest.mark.parametrize("name", HEADS)
def test_leading_axes_do_not_matter(name):
    head = HEADS[name]
    outputs = jax.random.normal(jax.random.key(0), (2, 3, head.outputs))
    target = jax.random.uniform(jax.random.key(1), (2, 3))
    value, loss = head.decode(outputs), head.loss(outputs, target, target)
    assert value.shape == loss.shape == (2, 3)
    for where in np.ndindex(2, 3):
        np.testing.assert_allclose(value[where], head.decode(outputs[where]), atol=FITTED)
        one = head.loss(outputs[where], target[where], target[where])
        np.testing.assert_allclose(loss[where], one, rtol=1e-5)


def said_by_the_best_fit(head, target):
    """What is read where the probabilities are those that cross-entropy is least for."""
    outputs = jnp.zeros((*target.shape, head.outputs))
    gradient = jax.grad(lambda x: head.loss(x, target, target).sum())(outputs)
    return head.decode(jnp.log(jnp.maximum(jax.nn.softmax(outputs) - gradient, 1e-30)))


def test_hl_gauss_is_biased_inwards_at_the_ends_of_its_support_and_not_three_deviations_within():
    bins, sigma = 51, 0.75
    bias = []
    for padding in range(4):
        # The values 0 and 1 lie so many deviations within the support.
        width = 1.0 / (bins - 2 * padding * sigma)
        edge = padding * sigma * width
        head = value_heads.hl_gauss(bins=bins, low=-edge, high=1.0 + edge, sigma=sigma)
        low, middle, high = np.asarray(said_by_the_best_fit(head, jnp.array([0.0, 0.5, 1.0])))
        assert middle == pytest.approx(0.5, abs=1e-6)
        assert low == pytest.approx(1.0 - high, abs=1e-6)
        bias.append(low / width)
    assert bias == sorted(bias, reverse=True)
    # Half of the distribution is cut off at the end: its mean is 0.6 bins away, and bins are coarse.
    assert 0.5 < bias[0] < 1.0
    # What lies beyond three deviations, with the mean that it has there and half a bin more.
    beyond = norm.sf(3.0)
    assert 0 < bias[3] < (norm.pdf(3.0) * sigma + beyond / 2) / (1 - beyond)


@pytest.mark.parametrize("name", ["hl_gauss", "two_hot", "categorical"])
def test_targets_beyond_the_support_are_learned_as_its_ends(name):
    head = HEADS[name]
    ends = {"hl_gauss": (-0.25, 1.25)}.get(name, (0.0, 1.0))
    outputs = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, head.outputs), (4, head.outputs))
    beyond = jnp.array([-100.0, ends[0] - 0.2, ends[1] + 0.2, 100.0])
    at = jnp.array([ends[0], ends[0], ends[1], ends[1]])

    def gradient(target):
        return jax.grad(lambda x: head.loss(x, target, target).sum())(outputs)

    np.testing.assert_allclose(gradient(beyond), gradient(at), atol=1e-6)
    assert (abs(gradient(beyond)).max(-1) > 0.1).all()


def test_bounded_never_leaves_its_bounds():
    head = value_heads.bounded(low=-1.0, high=3.0)
    outputs = 10.0 ** jnp.linspace(-3, 30, 200)
    outputs = jnp.concatenate([-outputs, jnp.zeros(1), outputs])[:, None]
    value = head.decode(outputs)
    assert value.min() == -1.0
    assert value.max() == 3.0
    assert head.decode(jnp.zeros(1)) == 1.0
    gradient = jax.grad(lambda x: head.loss(x, jnp.ones(401), jnp.ones(401)).sum())(outputs)
    assert jnp.isfinite(gradient).all()


def test_a_clipped_value_stops_at_the_edge_in_one_fit_and_arrives_in_several():
    head = value_heads.scalar(clip=0.2)
    slope = jax.jit(jax.grad(lambda value, old: head.loss(value[None], jnp.float32(1.0), old)))
    old = jnp.float32(0.0)
    assert slope(jnp.float32(0.1), old) == pytest.approx(-0.9)
    # From 0.2 on the value at the edge is the worse one, until its own error is worse on the other side.
    assert slope(jnp.float32(0.3), old) == 0
    assert slope(jnp.float32(1.7), old) == 0
    assert slope(jnp.float32(2.0), old) == pytest.approx(1.0)

    value, visited = old, []
    for _ in range(10):
        old = value
        for _ in range(100):
            value = value - 0.1 * slope(value, old)
        visited.append(float(value))
    # A step of 0.1 leads at most 0.1 times the error beyond the edge.
    assert 0.2 <= visited[0] <= 0.2 + 0.1
    # What is missing in the last fit shrinks to 0.9^100 of it.
    assert visited[-1] == pytest.approx(1.0, abs=1e-4)


SPEC = Spec(
    gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(2), (3, 4, 5), whole_episodes=True
)
PART = partial(
    critics.learned,
    network=partial(Mlp, hidden=(8,)),
    trunk="own",
    head=HEADS["scalar"],
    optimizer=optax.with_extra_args_support(optax.sgd(0.1)),
    gain=1.0,
    coef=1.0,
    scaling=scaling.unscaled(),
    lesion=lesions.none(),
)


class TestHalves:
    both = critics.halves(spec=SPEC, part=PART)
    one = PART(spec=SPEC)
    params = both.init(jax.random.key(0), {"policy": ()}, jnp.zeros(2))
    obs = jax.random.uniform(jax.random.key(1), (12, 2))

    def gradient(self, critic, params, rows):
        obs = self.obs[rows]
        zero = jnp.zeros(len(rows))
        data = Batch(
            steps=Steps(obs, zero.astype(jnp.int32), zero),
            valid=zero,
            mask=zero,
            log_prob=zero,
            advantage=zero,
            weight={},
            lesson=Lesson(target=obs.sum(-1), old=zero, episode=rows),
        )
        return jax.grad(lambda params: critic.loss({"critic": params}, data).sum())(params)

    def test_the_two_begin_apart(self):
        weights = zip(*(jax.tree.leaves(each) for each in self.params), strict=True)
        assert any((a != b).any() for a, b in weights)

    @pytest.mark.parametrize("parity", [0, 1])
    def test_episodes_of_one_parity_move_their_own_critic_alone(self, parity):
        rows = jnp.arange(parity, 12, 2)
        found = self.gradient(self.both, self.params, rows)
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(found[1 - parity]))
        alone = self.gradient(self.one, self.params[parity], rows)
        assert max(abs(leaf).max() for leaf in jax.tree.leaves(alone)) > 0.01
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), found[parity], alone)

    def test_together_each_learns_what_it_would_alone(self):
        found = self.gradient(self.both, self.params, jnp.arange(12))
        for parity in range(2):
            alone = self.gradient(self.one, self.params[parity], jnp.arange(parity, 12, 2))
            # A sum over twelve rows, half of them zeros, in another order.
            close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6)
            jax.tree.map(close, found[parity], alone)

    def test_even_and_odd_episodes_halve_the_rollouts_of_each_prompt(self):
        index = estimators.episode_index(jnp.zeros(SPEC.shape))
        assert len(np.unique(index)) == 12
        assert (index == index[..., :1]).all()
        assert ((index[..., 0] % 2).sum(1) == 2).all()

    def test_the_value_is_their_mean(self):
        shape = SPEC.shape
        zeros = jnp.zeros(shape)
        rollout = Rollout(
            obs=jax.random.uniform(jax.random.key(2), (*shape[:2], shape[2] + 1, 2)),
            action=zeros.astype(jnp.int32),
            log_prob=zeros,
            reward=zeros,
            terminated=zeros,
            truncated=zeros,
            mask=zeros + 1,
            first=zeros.at[..., 0].set(1),
        )
        values = [self.one.value({"critic": params}, rollout) for params in self.params]
        got = self.both.value({"critic": self.params}, rollout)
        assert (abs(values[0] - values[1]) > 1e-3).any()
        np.testing.assert_allclose(got, (values[0] + values[1]) / 2, rtol=1e-6)
