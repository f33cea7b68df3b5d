"""Agents that are told exact values, whole, mixed or damaged, and the judges of those that learn them."""

import functools
from functools import partial
from itertools import product
from math import sqrt
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box
from jax.flatten_util import ravel_pytree

from tests.helpers import access, ask
from tests.test_theory import Chain, act_out, generalised, regroup, spread
from vfcompare import advantages, columns, estimators, lesions
from vfcompare.agents.policies import policy as standard_policy
from vfcompare.agents.policies import squared_score, table
from vfcompare.batching import flat
from vfcompare.envs.lock import Lock
from vfcompare.envs.tabular import Tabular
from vfcompare.errors import InputError
from vfcompare.oracle import diagnostics, exact
from vfcompare.types import Spec
from vfcompare.valuation import Reading

KEY = jax.random.key(7)
SMALL = (
    "env=frozen_lake",
    "env.horizon=20",
    "agent.collector.prompts=2",
    "agent.collector.group=4",
    "agent.network.hidden=[8]",
    "+lab@agent.lab=standard",
)


@pytest.fixture(scope="module")
def observed(build):
    """`(overrides) -> (subject, params, rollout, estimate)`: what an agent says of its own episodes."""

    @functools.cache
    def observe(*overrides):
        _, learner = build(*SMALL, *overrides)
        _, subject = learner.examine.args
        state = learner.init(jax.random.key(1))

        @jax.jit
        def read(state):
            policy = state.params["policy"]
            rollout = learner.rollout(policy, state.collector, jax.random.key(2))
            known = subject.access(policy, jnp.float32(1.0))
            return rollout, ask(subject.estimator, rollout, known, state.params)

        return subject, state.params, *read(state)

    return observe


def unread(**options) -> Any:
    """In place of a network that nobody runs."""


class TestMixed:
    """The two ends of `V = (1 - η) V_learned + η V_exact`, and what lies between."""

    @pytest.mark.parametrize(("agent", "lambda_"), [("oracle_v", 1.0), ("oracle_td", 0.0)])
    def test_all_truth_is_the_oracle_agent_to_the_bit(self, observed, agent, lambda_):
        mix = ("agent.estimator.eta=1.0", f"agent.estimator.advantage.lambda_={lambda_}")
        *_, rollout, got = observed("agent=mixed", *mix)
        *_, same, want = observed(f"agent={agent}")
        np.testing.assert_array_equal(rollout.action, same.action)
        np.testing.assert_array_equal(got.value, want.value)
        np.testing.assert_array_equal(got.advantage, want.advantage)
        assert float(abs(want.value).max()) > 0

    def test_no_truth_is_the_learned_critic_to_the_bit(self, observed):
        *_, got = observed("agent=mixed", "agent.estimator.eta=0.0")
        *_, want = observed("agent=ppo")
        np.testing.assert_array_equal(got.value, want.value)
        np.testing.assert_array_equal(got.advantage, want.advantage)
        np.testing.assert_array_equal(got.lesson.target, want.lesson.target)

    def test_half_the_truth_is_half_way_and_the_critic_learns_from_its_own_values(self, observed):
        share = "agent.estimator.eta={}"
        none, half, whole = (
            observed("agent=mixed", share.format(eta))[-1] for eta in (0.0, 0.5, 1.0)
        )
        between = 0.5 * (none.advantage + whole.advantage)
        np.testing.assert_allclose(half.advantage, between, atol=1e-6)
        for other in (half, whole):
            np.testing.assert_array_equal(other.lesson.target, none.lesson.target)


class TestRefusals:
    """Where there is no exact value, an agent that needs one is not built."""

    @pytest.mark.parametrize("agent", ["oracle_v", "oracle_td", "oracle_v0", "mixed"])
    @pytest.mark.parametrize(
        ("setting", "reason"),
        [
            (
                ("env=lock", "collector@agent.collector=fragments"),
                "exact values need collector=episodes, not fragments",
            ),
            (("env=cartpole",), "CartPole cannot be enumerated"),
            (("env=pendulum",), "Pendulum cannot be enumerated"),
            (
                ("env=lock", "network@agent.network=gru"),
                "exact values need discrete actions and a policy without a memory",
            ),
        ],
    )
    def test_an_oracle_agent_is_refused_with_the_reason(self, build, agent, setting, reason):
        with pytest.raises(InputError, match=reason):
            build(f"agent={agent}", *setting)

    def test_probabilities_of_continuous_actions_are_not_listed(self):
        spec = Spec(Box(0.0, 1.0, (3,)), Box(-1.0, 1.0, (2,)), (1, 1, 4), whole_episodes=True)
        gaussian = standard_policy(
            spec=spec, network=unread, head="auto", gain=0.01, temperature=1.0
        )
        with pytest.raises(ValueError, match="discrete actions"):
            exact.listed(gaussian, {})


def test_the_oracle_at_lambda_0_is_the_reward_and_the_gain_of_exact_value(observed):
    subject, params, rollout, estimate = observed("agent=oracle_td")
    start = jax.tree.map(lambda x: x[0, 0, 0], rollout.state)
    chances = exact.listed(subject.policy, params["policy"])
    truth = exact.evaluate(subject.env, chances, start, gamma=subject.gamma)
    value, place = np.asarray(truth.value, float), np.asarray(rollout.state.place)
    rows, ends = np.asarray(rollout.mask), np.asarray(rollout.terminated)
    seen = {"terminated": 0, "truncated": 0, "between": 0}
    for b, g, t in np.argwhere(rows > 0):
        # At the horizon the table is zero: nothing is bootstrapped where the clock ends.
        after = 0.0 if ends[b, g, t] else value[t + 1, place[b, g, t + 1]]
        error = rollout.reward[b, g, t] + subject.gamma * after - value[t, place[b, g, t]]
        assert float(estimate.advantage[b, g, t]) == pytest.approx(float(error), abs=1e-6)
        cut = rollout.truncated[b, g, t] > 0
        seen["terminated" if ends[b, g, t] else "truncated" if cut else "between"] += 1
    assert (np.asarray(estimate.advantage)[rows == 0] == 0).all()
    assert seen["terminated"] > 0
    assert seen["between"] > 0


class Lake:
    """Every episode of six steps on a lake without slipping, that ends in holes, at the goal or by the clock.

    The policy is a table of random logits, so that nothing is symmetric; γ is 0.9.
    """

    gamma = 0.9
    horizon = 6

    def __init__(self):
        self.env = Tabular("FrozenLake-v1", horizon=self.horizon, is_slippery=False)
        shape = (1, 1, self.horizon)
        self.spec = Spec(
            self.env.observation_space, self.env.action_space, shape, whole_episodes=True
        )
        self.policy = table(spec=self.spec, network=unread, columns=None, success=None)
        self.start = self.env.initial(KEY)
        params = self.policy.init(KEY, self.env.observation(self.start, KEY))
        flat, unravel = ravel_pytree(params)
        self.params = unravel(jax.random.normal(KEY, flat.shape))
        actions = jnp.array(list(product(range(4), repeat=self.horizon)))
        self.rollout = act_out(self.env, self.start, actions)
        # Actions after the end are weighed too, so that endings that many sequences share count once.
        self.probability = jnp.exp(self.log_prob(self.params).sum((1, 2)))
        chances = self.log_probs(self.params)
        self.truth = exact.evaluate(self.env, chances, self.start, gamma=self.gamma)
        along = jax.jit(lambda x: exact.along(self.env, chances, x, gamma=self.gamma))
        self.value = along(self.rollout.state)

        @jax.jit
        def expected(advantage):
            weight = self.probability[:, None, None] * advantage * self.rollout.mask
            found = jax.grad(lambda p: (self.log_prob(p) * weight).sum())(self.params)
            return ravel_pytree(found)[0]

        self.expected = expected

    def log_prob(self, params):
        return self.policy.evaluate(params, self.rollout.steps)[0]

    def log_probs(self, params):
        return exact.listed(self.policy, params)

    @functools.cached_property
    def true_gradient(self):
        arguments = (self.env, self.log_probs, self.params, self.start)
        found = exact.policy_gradient(*arguments, gamma=self.gamma, fade=1.0)
        return ravel_pytree(found)[0]

    def gradient(self, lesion, lambda_, key=KEY):
        """The expected gradient of an oracle agent."""
        estimator = estimators.exact(
            spec=self.spec,
            advantage=lambda rollout, value: advantages.gae(
                rollout, value, gamma=self.gamma, lambda_=lambda_
            ),
            lesion=lesion,
            sharpness=1.0,
        )
        known = access(exact_value=lambda rollout, sharpness: self.value)
        return self.expected(ask(estimator, self.rollout, known, key=key).advantage)

    def effect(self, by):
        """`E[∇log π γ β]` over steps after which another is taken, from the exact visits."""

        def surrogate(params):
            total = 0.0
            for time in range(self.horizon - 1):
                outcomes = self.env.outcomes(self.start, time)
                going = (outcomes.probability * (1.0 - outcomes.terminal)).sum(-1)
                seen = exact.observations(self.env, self.start, jnp.int32(time))
                chosen = jnp.exp(self.log_probs(params)(*seen)) * self.gamma * by * going
                total += (self.truth.visits[time][:, None] * chosen).sum()
            return total

        return ravel_pytree(jax.jit(jax.grad(surrogate))(self.params))[0]


@pytest.fixture(scope="module")
def lake():
    return Lake()


def test_the_squared_score_is_the_squared_length_of_the_gradient_by_the_logits(lake):
    taken = jax.tree.map(lambda x: x[::97], flat(lake.rollout.steps.replace(carry=()), 3))

    def by_hand(one):
        # A row of the table is the logits of a state.
        found = jax.grad(lambda params: lake.policy.evaluate(params, one)[0])(lake.params)
        return jnp.square(ravel_pytree(found)[0]).sum()

    found = squared_score(lake.policy, lake.params, taken)
    np.testing.assert_allclose(found, jax.vmap(by_hand)(taken), atol=1e-5)


def test_the_squared_score_of_a_certain_action_is_not_lost_to_rounding():
    logits = np.array([10.0, 0.0, 0.0, 0.0])
    chances = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    policy: Any = SimpleNamespace(
        log_probs=lambda params, obs, legal: jnp.log(jnp.float32(chances))
    )
    steps: Any = SimpleNamespace(obs=None, legal=None, action=jnp.int32(0))
    true = (1 - chances[0]) ** 2 + np.square(chances[1:]).sum()
    assert true < 1e-7
    # The largest chance is known to its own last bit alone: 6e-8 of 1.4e-4.
    assert float(squared_score(policy, None, steps)) == pytest.approx(true, rel=2e-3)


def hurt(lesion, value, rollout, key=KEY):
    """What a lesion makes of values."""
    reading = Reading((), value, lambda params: value)
    return lesion.apply(lesion.init(()), reading, rollout, access(), key).value


class TestBias:
    """A constant error of exact values, by all episodes of a task that may end early, or by the clock."""

    def test_the_episodes_are_all_there_are_and_end_in_each_way(self, lake):
        assert float(lake.probability.sum()) == pytest.approx(1.0, abs=1e-5)
        paid = (lake.probability[:, None, None] * lake.rollout.reward).sum()
        assert float(paid) > 1e-5
        for end in (lake.rollout.terminated, lake.rollout.truncated):
            assert 0.05 < float((lake.probability[:, None, None] * end).sum()) < 0.95

    @pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
    def test_without_error_the_gradient_is_the_true_one(self, lake, lambda_):
        np.testing.assert_allclose(
            lake.gradient(lesions.none(), lambda_), lake.true_gradient, atol=1e-6
        )

    @pytest.mark.parametrize("by", [0.5, -2.0])
    def test_it_is_harmless_at_lambda_1_also_where_the_clock_cuts(self, lake, by):
        got = lake.gradient(lesions.bias(by=by), 1.0)
        np.testing.assert_allclose(got, lake.true_gradient, atol=2e-6)

    @pytest.mark.parametrize("by", [0.5, -2.0])
    def test_at_lambda_0_it_enters_as_a_reward_for_going_on(self, lake, by):
        effect = lake.effect(by)
        assert float(abs(effect).max()) > 0.01
        got = lake.gradient(lesions.bias(by=by), 0.0) - lake.true_gradient
        np.testing.assert_allclose(got, effect, atol=2e-6)

    def test_noise_leaves_every_gradient_as_it_is_on_average(self, lake):
        # The same noise with both signs has the mean zero exactly, and the gradient is linear in it.
        for lambda_ in (0.0, 1.0):
            both = [lake.gradient(lesions.noise(std=std), lambda_) for std in (1.0, -1.0)]
            np.testing.assert_allclose(sum(both) / 2, lake.true_gradient, atol=2e-6)

    def test_an_error_after_the_last_step_is_not_made(self, lake):
        value = jnp.zeros((*lake.rollout.mask.shape[:2], lake.horizon + 1))
        for lesion in (lesions.bias(by=1.0), lesions.noise(std=1.0)):
            error = hurt(lesion, value, lake.rollout)
            assert ((error[..., :-1] != 0) == (lake.rollout.mask > 0)).all()
            assert (error[..., -1] == 0).all()


class TestShuffle:
    """Values of another episode of the batch, by all pairs and triples of episodes of a short lock."""

    q = 0.7

    def gradients(self, length, lanes, lambda_, seeds):
        """The expected gradient of all batches of `lanes` episodes; the batch is what is shuffled."""
        chain = Chain("lock", length, self.q)
        estimator = estimators.exact(
            spec=chain.spec(),
            advantage=generalised(lambda_),
            lesion=lesions.shuffle(),
            sharpness=1.0,
        )
        index = np.array(list(product(range(2**length), repeat=lanes)))
        probability = chain.probability[index].prod(1)

        @jax.jit
        @partial(jax.vmap, in_axes=(0, None))
        def advantage(rollout, key):
            whole = jax.tree.map(lambda x: x[None], rollout)
            return ask(estimator, whole, chain.access(), key=key).advantage[0]

        for seed in seeds:
            found = advantage(regroup(chain.rollout, index), jax.random.key(seed))
            yield spread((chain.score[index] * np.asarray(found, float)).mean(1), probability)[0]

    @pytest.mark.parametrize(("length", "lanes", "seeds"), [(4, 2, 1), (2, 3, 4)])
    def test_at_lambda_1_the_gradient_stays_unbiased(self, length, lanes, seeds):
        true = np.full(length, (1 - self.q) * self.q**length)
        # Two episodes swap their values; of three each may get those of either other.
        for mean in self.gradients(length, lanes, 1.0, range(seeds)):
            np.testing.assert_allclose(mean, true, atol=1e-6)

    def test_at_lambda_0_only_the_step_that_pays_learns(self):
        # E[s_t (V' - V)] is zero where V and V' are another episode's: what remains is E[s_t r_t].
        (mean,) = self.gradients(3, 2, 0.0, [0])
        np.testing.assert_allclose(mean, [0, 0, (1 - self.q) * self.q**3], atol=1e-6)

    @pytest.mark.parametrize("lanes", [2, 5])
    def test_each_step_gets_the_value_of_another_episode_at_the_same_time(self, lanes):
        value = jnp.arange(lanes)[:, None, None] * 100.0 + jnp.arange(4)
        rollout = jax.tree.map(lambda x: x[:lanes], Chain("lock", 3, self.q).rollout)
        for seed in range(6):
            whole = hurt(lesions.shuffle(), value, rollout, jax.random.key(seed))
            # Nothing is done to the value after the last step.
            np.testing.assert_array_equal(whole[..., -1], value[..., -1])
            got, own = whole[..., :-1], value[..., :-1]
            np.testing.assert_array_equal(got % 100, own % 100)
            assert (got // 100 != own // 100).all()
            np.testing.assert_array_equal(np.sort(got, 0), own)


@pytest.mark.statistical
@pytest.mark.parametrize("agent", ["oracle_v", "oracle_td"])
def test_noise_of_values_adds_its_variance_times_the_squared_score(build, agent):
    length, q, std = 4, 0.7, 0.5
    settings = (
        f"agent={agent}",
        "+study=horizon",
        f"env.length={length}",
        f"agent.policy.success={q**length}",
        "agent.lab.batches=400",
    )
    seeds = range(6)

    def variances(*lesion):
        _, learner = build(*settings, *lesion)
        state = learner.init(jax.random.key(0))
        run = jax.jit(partial(learner.examine, progress=jnp.float32(1.0)))
        return np.array(
            [float(run(state, jax.random.key(seed))["gradient_variance"]) for seed in seeds]
        )

    noisy = variances("lesion@agent.estimator.lesion=noise", f"agent.estimator.lesion.std={std}")
    # The same keys, and so the same episodes: what they have in common drops out.
    added = noisy - variances()
    # Two logits in each step. At λ = 0 the noise of the next value enters too, except after the last step.
    errors = length if agent == "oracle_v" else 2 * length - 1
    predicted = std**2 * 2 * q * (1 - q) * errors
    error = added.std(ddof=1) / sqrt(len(added))
    assert abs(added.mean() - predicted) < 4 * error
    assert error < 0.05 * predicted


class TestJudges:
    """Measures against cases whose answer is known."""

    true = jnp.array([[[4.0, 1.0, 3.0, 0.0, 2.0, 5.0, 6.0, 9.0]]])
    whole = jnp.ones_like(true)

    def value(self, value, mask=None):
        mask = self.whole if mask is None else mask
        found = diagnostics.summarise_value(diagnostics.value_sums(value, self.true, mask))
        return {name: float(x) for name, x in found.items()}

    def test_values_that_exaggerate_have_a_slope_below_one(self):
        found = self.value(2 * self.true + 1)
        # The error is V + 1, of which the variance is that of V itself.
        error = np.asarray(self.true) + 1
        assert found["value_slope"] == pytest.approx(0.5, rel=1e-5)
        assert found["value_bias"] == pytest.approx(error.mean(), rel=1e-5)
        assert found["value_rmse"] == pytest.approx(sqrt(np.square(error).mean()), rel=1e-5)
        assert found["value_explained"] == pytest.approx(0.0, abs=1e-5)

    def test_a_constant_error_is_bias_and_explains_everything(self):
        found = self.value(self.true - 3)
        assert found["value_bias"] == pytest.approx(-3, rel=1e-5)
        assert found["value_rmse"] == pytest.approx(3, rel=1e-5)
        assert found["value_explained"] == pytest.approx(1, abs=1e-5)
        assert found["value_slope"] == pytest.approx(1, rel=1e-5)

    def test_a_constant_value_explains_nothing(self):
        found = self.value(jnp.full_like(self.true, 3.75))
        assert found["value_bias"] == pytest.approx(0.0, abs=1e-5)
        assert found["value_explained"] == pytest.approx(0.0, abs=1e-5)
        # There is no line through points above one another.
        assert np.isnan(found["value_slope"])

    @pytest.mark.parametrize("true", [0.0, 0.999, 1.0, -1000.0])
    def test_of_a_constant_truth_nothing_is_explained_and_nothing_left_unexplained(self, true):
        random = np.random.default_rng(0)
        same = jnp.full((4, 8, 6), true, jnp.float32)
        # Each sum over time rounds a little differently.
        same = same + 1e-6 * true * jnp.asarray(random.random(same.shape), jnp.float32)
        value = same + jnp.asarray(0.3 * random.standard_normal(same.shape), jnp.float32)
        found = diagnostics.summarise_value(
            diagnostics.value_sums(value, same, jnp.ones_like(same))
        )
        assert np.isnan(found["value_explained"])
        assert np.isnan(found["value_slope"])
        assert float(found["value_rmse"]) == pytest.approx(0.3, rel=0.2)

    def test_many_batches_are_pooled_without_losing_a_small_variance(self):
        random = np.random.default_rng(0)
        shape, mask = (400, 4, 8, 6), jnp.ones((4, 8, 6))
        true = jnp.asarray(1.0 + 0.003 * random.standard_normal(shape), jnp.float32)
        error = 0.7 + 0.5 * (true - 1.0)

        def batch(sums, x):
            return diagnostics.added(sums, diagnostics.value_sums(x[0] + x[1], x[0], mask)), None

        zeros = jax.tree.map(jnp.zeros_like, diagnostics.value_sums(true[0], true[0], mask))
        found = diagnostics.summarise_value(jax.lax.scan(batch, zeros, (true, error))[0])
        assert float(found["value_explained"]) == pytest.approx(0.75, abs=1e-3)
        assert float(found["value_slope"]) == pytest.approx(1 / 1.5, abs=1e-3)
        exact_ = np.asarray(error, np.float64)
        assert float(found["value_rmse"]) == pytest.approx(sqrt((exact_**2).mean()), rel=1e-5)

    def test_there_is_no_error_where_no_episode_came(self):
        found = self.value(self.true + 2.0, self.whole.at[..., 3:].set(0.0))
        parts = [found[f"value_rmse_to_go_{n}_of_4"] for n in (1, 2, 3, 4)]
        np.testing.assert_allclose(parts, [np.nan, np.nan, 2, 2], rtol=1e-5)
        assert found["value_rmse"] == pytest.approx(2.0)

    def test_errors_are_told_by_time_to_go_and_padding_does_not_count(self):
        error = jnp.array([[[1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 99.0, 4.0]]])
        found = self.value(self.true + error, self.whole.at[..., 6].set(0.0))
        parts = [found[f"value_rmse_to_go_{n}_of_4"] for n in (1, 2, 3, 4)]
        np.testing.assert_allclose(parts, [4, 3, 2, 1], rtol=1e-5)
        assert found["value_rmse"] == pytest.approx(sqrt((2 + 8 + 18 + 16) / 7), rel=1e-5)

    def test_a_small_error_of_large_values_is_not_lost_in_rounding(self):
        true = self.true - 1000.0
        found = diagnostics.summarise_value(diagnostics.value_sums(true + 0.25, true, self.whole))
        assert float(found["value_rmse"]) == pytest.approx(0.25, rel=1e-5)
        assert float(found["value_explained"]) == pytest.approx(1.0, abs=1e-4)

    def sums(self, gradients, true):
        each = jax.vmap(lambda g: diagnostics.gradient_sums(g, true))(gradients)
        return jax.tree.map(lambda x: x.sum(0), each)

    def test_four_gradients_by_hand(self):
        # True (3, 4), mean (6, 8) + (0, 5), deviations ±(2, 0) and ±(0, 1).
        true, mean = jnp.array([3.0, 4.0]), jnp.array([6.0, 13.0])
        off = jnp.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        found = diagnostics.summarise_gradient(self.sums(mean + off, true), true, 4, (2, 3))
        variance = (4 + 4 + 1 + 1) / 3
        along = (6 * 3 + 13 * 4) / 5
        square = 36 + 169 - variance / 4
        want = {
            "gradient_norm": 5,
            "gradient_bias": sqrt(9 + 81 - variance / 4) / 5,
            "gradient_scale": along / 5,
            "gradient_variance": 6 * variance,
            "gradient_snr": 25 / (6 * variance),
            "gradient_cosine": np.mean([(g @ true) / (5 * jnp.linalg.norm(g)) for g in mean + off]),
            "episodes_to_cosine": 6 * variance / ((along / 0.9) ** 2 - square),
        }
        for name, number in want.items():
            assert float(found[name]) == pytest.approx(float(number), rel=1e-5), name

    def test_a_mean_too_far_from_the_truth_never_agrees_with_it(self):
        true = jnp.array([1.0, 0.0])
        stream = jnp.array([[1.0, 1.1], [1.0, 0.9]])
        found = diagnostics.summarise_gradient(self.sums(stream, true), true, 2, (1, 1))
        assert float(found["episodes_to_cosine"]) == np.inf
        against = diagnostics.summarise_gradient(self.sums(-stream, true), true, 2, (1, 1))
        assert float(against["episodes_to_cosine"]) == np.inf

    @pytest.mark.statistical
    def test_a_stream_of_known_covariance_has_no_bias_and_its_own_variance(self):
        size, batches, episodes = 200, 4000, 8
        std = jnp.linspace(0.5, 1.5, size)
        true = jnp.sin(jnp.arange(size))
        draws = true + std * jax.random.normal(KEY, (batches, size))
        found = diagnostics.summarise_gradient(self.sums(draws, true), true, batches, (2, 4))
        variance, norm = float(jnp.square(std).sum()), float(jnp.linalg.norm(true))
        # Var(|g|²) is 2 Σ σ^4: a standard error of 0.2 % here.
        assert float(found["gradient_variance"]) == pytest.approx(episodes * variance, rel=0.01)
        # The squared bias has a standard error of √(2 Σ σ^4) / batches.
        limit = 4 * sqrt(2 * float((std**4).sum())) / batches / norm**2
        assert float(jnp.square(found["gradient_bias"])) < limit
        assert float(found["gradient_scale"]) == pytest.approx(1.0, abs=0.01)
        # A mean over so many episodes agrees with the truth as promised; E cos is not cos E: 0.01.
        number = float(found["episodes_to_cosine"])
        assert number == pytest.approx(episodes * variance / (norm**2 * (0.9**-2 - 1)), rel=0.02)
        noise = jax.random.normal(jax.random.key(8), (2000, size)) * std
        mean = true + noise * sqrt(episodes / number)
        cosine = (mean @ true) / (jnp.linalg.norm(mean, axis=1) * norm)
        assert float(cosine.mean()) == pytest.approx(0.9, abs=0.01)

    def advantage(self, errors, places, mask=None):
        errors, places = (jnp.asarray(x)[None, None] for x in (errors, places))
        mask = jnp.ones(errors.shape) if mask is None else jnp.asarray(mask, float)[None, None]
        cell = (jnp.zeros_like(places), jnp.zeros_like(places), places, jnp.zeros_like(places))
        sums = diagnostics.cell_sums((1, 1, 3, 1), cell, errors, mask)
        return {name: float(x) for name, x in diagnostics.summarise_advantage(sums).items()}

    def test_an_error_that_each_cell_makes_always_is_bias(self):
        found = self.advantage([2.0, 2.0, -2.0, -2.0], [0, 0, 1, 1])
        want = {"advantage_bias": 2.0, "advantage_variance": 0.0, "advantage_mse": 4.0}
        assert found == pytest.approx(want)

    def test_an_error_that_a_cell_makes_both_ways_is_variance(self):
        # Sample variances 8/3 and 2 of four and two visits; the mean is what chance makes of them: below 0.
        found = self.advantage([2.0, -2.0, 0.0, 0.0, 1.0, -1.0], [0, 0, 0, 0, 1, 1])
        square = -(4 * (8 / 3) / 4 + 2 * 2 / 2) / 6
        assert found["advantage_variance"] == pytest.approx((4 * 8 / 3 + 2 * 2) / 6)
        assert found["advantage_bias"] == pytest.approx(-sqrt(-square))
        assert found["advantage_mse"] == pytest.approx(10 / 6)

    def test_cells_seen_once_and_padding_say_nothing_of_variance(self):
        found = self.advantage([3.0, 3.0, 5.0, 77.0], [0, 0, 1, 0], mask=[1, 1, 1, 0])
        assert found["advantage_bias"] == pytest.approx(3.0)
        assert found["advantage_variance"] == 0.0
        assert found["advantage_mse"] == pytest.approx((9 + 9 + 25) / 3)

    def test_scores_and_returns_that_grow_together_are_correlated(self):
        x = jnp.array([1.0, 2.0, 3.0])
        found = diagnostics.summarise_score(diagnostics.pair_moments(x, 4 - x, jnp.float32(1.0)))
        assert float(found["score_square"]) == pytest.approx(2.0)
        assert float(found["score_return_correlation"]) == pytest.approx(-1.0, abs=1e-5)
        assert float(found["return_variance"]) == pytest.approx(2 / 3, rel=1e-5)


@pytest.mark.parametrize(
    ("critic", "accuracy"),
    [
        # The order of the last step follows from the reward alone, whatever the critic says.
        (lambda right, left, q: right * q**left, 1.0),
        (lambda right, left, q: -right, 0.0),
        (lambda right, left, q: 0.0 * right, 0.5),
    ],
)
def test_a_critic_orders_actions_by_where_they_lead(build, critic, accuracy):
    length, q = 4, 0.7
    _, learner = build(
        "agent=oracle_v", "+study=horizon", f"env.length={length}", f"agent.policy.success={q**length}"
    )  # fmt: skip
    _, subject = learner.examine.args
    assert isinstance(subject.env, Lock)
    params = learner.init(KEY).params
    start = jax.tree.map(lambda x: x[None], subject.env.initial(KEY))
    truth = diagnostics.solve(subject, params["policy"], start)

    def read(start, time):
        obs = exact.observations(subject.env, start, time)[0]
        return critic(obs[..., -1], length - obs[..., :-1] @ jnp.arange(length), q)

    got = float(diagnostics.rank_accuracy(subject, read, start, truth))
    # Only where all was right do actions differ: there the lock is at time t with probability q^t.
    alive = q ** np.arange(length)
    want = (accuracy * alive[:-1].sum() + alive[-1]) / alive.sum()
    assert got == pytest.approx(want, abs=1e-6)


def test_what_illegal_actions_would_be_worth_is_not_ranked(build):
    _, learner = build("agent=oracle_v", "env=taxi", "env.horizon=30", "+lab@agent.lab=standard")
    _, subject = learner.examine.args
    params = learner.init(KEY).params
    start = jax.tree.map(lambda x: x[None], subject.env.initial(KEY))
    truth = diagnostics.solve(subject, params["policy"], start)

    def read(start, time):
        return jax.random.normal(jax.random.fold_in(KEY, time), truth.tables.value.shape[-1:])

    times = jnp.arange(subject.env.horizon)
    one = jax.tree.map(lambda x: x[0], start)
    seen: Any = jax.vmap(lambda time: exact.observations(subject.env, one, time)[1])(times)
    legal = seen[None]
    assert 0.1 < float((legal > 0).mean()) < 0.9
    worth = truth.tables.action_value
    noise = jnp.where(legal > 0, worth, jax.random.normal(KEY, worth.shape))
    other = truth._replace(tables=truth.tables._replace(action_value=noise))
    found = [float(diagnostics.rank_accuracy(subject, read, start, x)) for x in (truth, other)]
    assert found[0] == found[1]
    assert 0 < found[0] < 1


def test_nothing_is_worth_going_on_for_when_the_clock_has_run_out(build):
    _, learner = build(
        "agent=oracle_v", "env=frozen_lake", "env.horizon=5", "+lab@agent.lab=standard"
    )
    _, subject = learner.examine.args
    going, start = diagnostics.PaysForGoingOn(subject.env), subject.env.initial(KEY)
    for time in range(5):
        found, inner = (x.outcomes(start, jnp.int32(time)) for x in (going, subject.env))
        paid = 0.0 if time == 4 else 1.0 - inner.terminal
        np.testing.assert_array_equal(found.reward, jnp.broadcast_to(paid, found.reward.shape))


def test_the_lab_begins_the_rollouts_of_a_group_as_the_collector_does(build):
    found = {}
    for start in ("shared", "independent"):
        _, learner = build(
            *(
                "agent=rloo",
                "env=maze_small",
                "env.size=5",
                "agent.gamma=1",
                "agent.network.hidden=[8]",
            ),
            *("+lab@agent.lab=standard", "agent.lab.batches=8", "agent.lab.starts=4"),
            f"agent.collector.start={start}",
        )
        _, subject = learner.examine.args
        assert subject.shared == (start == "shared")
        run = jax.jit(learner.examine)
        found[start] = run(learner.init(KEY), KEY, jnp.float32(0.0))
    norms = [float(x["gradient_norm"]) for x in found.values()]
    assert norms[0] == norms[1]
    spread = [float(x["gradient_variance"]) for x in found.values()]
    assert spread[0] != spread[1]


def test_without_a_pair_of_actions_that_differ_there_is_no_rank_accuracy(build):
    _, learner = build("agent=oracle_v", "+study=horizon", "env.length=4")
    _, subject = learner.examine.args
    params = learner.init(KEY).params
    start = jax.tree.map(lambda x: x[None], subject.env.initial(KEY))
    truth = diagnostics.solve(subject, params["policy"], start)
    level = jnp.zeros_like(truth.tables.action_value)
    truth = truth._replace(tables=truth.tables._replace(action_value=level))
    places = truth.tables.value.shape[-1]
    found = diagnostics.rank_accuracy(
        subject, lambda start, time: jnp.arange(places, dtype=jnp.float32), start, truth
    )
    assert np.isnan(found)


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_a_fade_that_is_not_named_is_gamma_also_for_what_going_on_is_worth(build, gamma):
    _, learner = build("agent=oracle_v", *SMALL, f"agent.gamma={gamma}")
    _, subject = learner.examine.args
    params = learner.init(KEY).params["policy"]
    start = jax.tree.map(lambda x: x[None], subject.env.initial(KEY))
    unnamed, named = (
        float(diagnostics.solve(subject, params, start, fade).survival) for fade in (None, gamma)
    )
    assert named > 1e-3
    assert unnamed == pytest.approx(named, rel=1e-5)


def test_the_lab_writes_its_columns_and_a_critic_with_a_memory_is_not_asked_to_rank(build):
    short = ("env.length=4", "env=lock", "+lab@agent.lab=standard", "agent.lab.batches=4")
    gru = ("+network@agent.estimator.critic.network=gru", "agent.estimator.critic.network.hidden=8")
    found = {}
    for name, settings in (("plain", ()), ("memory", gru)):
        _, learner = build("agent=ppo", *short, *settings)
        found[name] = set(
            jax.eval_shape(
                lambda key, it=learner: it.examine(it.init(key), key, jnp.float32(0.0)), KEY
            )
        )
    assert found["plain"] == set(columns.LAB)
    assert found["plain"] - found["memory"] == {"rank_accuracy"}
    assert "value_rmse" in found["memory"]


def test_the_lab_knows_how_far_training_is_where_lesions_depend_on_it(build):
    short = (
        "env.length=4",
        "env=lock",
        "+lab@agent.lab=standard",
        "agent.lab.batches=4",
        "agent.gamma=1",
    )
    lesion = (
        "lesion@agent.estimator.critic.lesion=zero",
        "agent.estimator.critic.lesion.after=0.5",
    )
    found = {}
    for name, settings in (("whole", ()), ("hurt", lesion)):
        _, learner = build("agent=ppo", *short, *settings)
        run, state = jax.jit(learner.examine), learner.init(KEY)
        for progress in (0.1, 0.6):
            found[name, progress] = float(run(state, KEY, jnp.float32(progress))["value_rmse"])
    assert found["hurt", 0.1] == pytest.approx(found["whole", 0.1])
    assert found["hurt", 0.6] != pytest.approx(found["whole", 0.6])


@pytest.mark.statistical
def test_whole_returns_have_the_gradient_of_the_discounted_return(build):
    settings = ("env=lock_each", "env.length=6", "agent.gamma=0.7", "+lab@agent.lab=standard")
    scales = {}
    for agent, fade in (("reinforce", "null"), ("oracle_v", "1")):
        _, learner = build(f"agent={agent}", *settings, f"agent.lab.fade={fade}")
        found = learner.examine(learner.init(KEY), KEY, jnp.float32(0.0))
        scales[agent] = float(found["gradient_scale"]), float(found["gradient_bias"])
    # 400 batches: the scale's standard error is 0.01 to 0.03 here; with the other gradient it is about 0.5.
    for scale, bias in scales.values():
        assert scale == pytest.approx(1.0, abs=0.1)
        assert abs(bias) < 0.2
