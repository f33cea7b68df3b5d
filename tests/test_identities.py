"""Agents that must coincide do; estimators that must agree in expectation do, by enumeration."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vfcompare import advantages, returns, surrogates
from vfcompare.streams import stream
from vfcompare.types import Rollout

KEY = jax.random.key(3)
SMALL = ("agent.collector.prompts=3", "agent.collector.group=4", "agent.evaluation_episodes=2")


def after_one_update(learner):
    state = jax.jit(learner.init)(stream(KEY, "init"))
    return jax.jit(learner.update)(state, stream(KEY, "update"), 0.0)


def largest_difference(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(abs(x - y).max()) for x, y in leaves)


def test_ppo_with_one_epoch_and_one_minibatch_is_a2c(build):
    once = ("agent.batching.epochs=1", "agent.batching.minibatches=1", *SMALL)
    _, ppo = build("agent=ppo", "env=cartpole", *once)
    _, a2c = build("agent=ppo", "env=cartpole", "surrogate@agent.surrogate=policy_gradient", *once)
    (one, _), (other, _) = after_one_update(ppo), after_one_update(a2c)
    # The gradient of ρA at ρ = exp(0) is A∇logπ, the same number; only the rounding of ρ stands between.
    assert largest_difference(one.params["policy"], other.params["policy"]) < 1e-6
    assert largest_difference(one.params, ppo.init(stream(KEY, "init")).params) > 1e-4


def test_a_critic_that_says_zero_with_lambda_1_is_reinforce(build):
    plain = (
        "agent.estimator.advantage.credit._target_=vfcompare.returns.reward_to_go",
        "env=cartpole",
        *SMALL,
    )
    _, reinforce = build("agent=reinforce", *plain)
    _, zero = build("agent=reinforce_v", "agent.estimator.critic.gain=0", *plain[1:])
    (one, _), (other, _) = after_one_update(reinforce), after_one_update(zero)
    assert largest_difference(one.params["policy"], other.params["policy"]) < 1e-6


def test_the_ratio_is_one_at_the_first_minibatch(build):
    once = ("agent.batching.epochs=1", "agent.batching.minibatches=1", *SMALL)
    # The policy is judged after its step, which must therefore be none.
    still = "agent.optimizer.learning_rate=1e-12"
    for network in ("mlp", "gru"):
        _, ppo = build(
            "agent=ppo", "env=cartpole", f"network@agent.network={network}", still, *once
        )
        _, metrics = after_one_update(ppo)
        # Collecting and learning multiply matrices of other shapes: a few units in the last place.
        assert float(metrics["ratio_deviation"]) < 1e-5, network


def batch(key, shape=(3, 4, 6)):
    reward_key, mask_key, value_key = jax.random.split(key, 3)
    length = jax.random.randint(mask_key, shape[:2], 1, shape[2] + 1)
    mask = (jnp.arange(shape[2]) < length[..., None]).astype(jnp.float32)
    last = (jnp.arange(shape[2]) == length[..., None] - 1).astype(jnp.float32)
    rollout = Rollout(
        obs=jnp.zeros((*shape[:2], shape[2] + 1, 1)),
        action=jnp.zeros(shape, jnp.int32),
        log_prob=jnp.zeros(shape),
        reward=jax.random.normal(reward_key, shape) * mask,
        terminated=last,
        truncated=jnp.zeros(shape),
        mask=mask,
        first=jnp.zeros(shape).at[..., 0].set(1),
    )
    return rollout, jax.random.normal(value_key, (*shape[:2], shape[2] + 1))


relative = partial(
    advantages.relative, gamma=0.9, credit=returns.outcome, scale=advantages.unscaled
)


def test_rloo_is_the_centred_group_times_g_over_g_minus_1():
    rollout, _ = batch(KEY)
    loo = relative(rollout, baseline=advantages.leave_one_out)
    centred = relative(rollout, baseline=advantages.group_mean)
    np.testing.assert_allclose(loo, 4 / 3 * centred, atol=1e-6)


def test_gae_with_lambda_1_is_the_return_minus_the_value():
    rollout, value = batch(KEY)
    got = returns.gae(rollout, value, gamma=0.9, lambda_=1.0)
    want = (returns.reward_to_go(rollout, gamma=0.9) - value[..., :-1]) * rollout.mask
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_gae_with_lambda_0_is_the_td_error():
    rollout, value = batch(KEY)
    got = returns.gae(rollout, value, gamma=0.9, lambda_=0.0)
    error = rollout.reward + 0.9 * rollout.discount * value[..., 1:] - value[..., :-1]
    np.testing.assert_allclose(got, error * rollout.mask, atol=1e-6)


def test_n_step_with_one_reward_is_the_td_error_and_with_all_the_return():
    rollout, value = batch(KEY)
    for n, lambda_ in ((1, 0.0), (6, 1.0)):
        got = returns.n_step(rollout, value, gamma=0.9, n=n)
        want = returns.gae(rollout, value, gamma=0.9, lambda_=lambda_)
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_equal_rewards_give_exactly_no_advantage():
    # 0.1 has no exact binary form: a mean taken naively differs from it, and a small eps blows that up.
    rollout, _ = batch(KEY)
    rollout = rollout.replace(reward=jnp.zeros_like(rollout.reward).at[..., 0].set(0.1))
    for baseline in (advantages.group_mean, advantages.leave_one_out):
        assert (relative(rollout, baseline=baseline) == 0).all()


@pytest.mark.parametrize("name", ["mean", "outcome", "value"])
def test_padding_changes_no_advantage(name):
    rollout, value = batch(KEY)
    estimate = {
        "mean": lambda r, v: relative(r, baseline=advantages.leave_one_out),
        "outcome": lambda r, v: relative(r, baseline=advantages.none),
        "value": lambda r, v: returns.gae(r, v, gamma=0.9, lambda_=0.9),
    }[name]

    def pad(x, fill):
        return jnp.concatenate([x, jnp.full((*x.shape[:2], 5, *x.shape[3:]), fill, x.dtype)], 2)

    padded = jax.tree.map(lambda x: pad(x, 0), rollout)
    got = estimate(padded, pad(value, 123.0))
    np.testing.assert_allclose(got[..., :6], estimate(rollout, value), atol=1e-6)
    assert (got[..., 6:] == 0).all()


def test_permuting_groups_permutes_advantages():
    rollout, _ = batch(KEY)
    order = jnp.array([2, 0, 1])
    permuted = jax.tree.map(lambda x: x[order], rollout)
    got = relative(permuted, baseline=advantages.group_mean)
    np.testing.assert_allclose(got, relative(rollout, baseline=advantages.group_mean)[order])


class TestUnbiasedness:
    """Every pair of rollouts of a two-step task, weighted by its probability, against the exact gradient.

    The task: a first action a, a reward of 0.5 a, a second action b whose state is a, and a reward that
    depends on both. The policy is a table of logits for the three states.
    """

    reward = jnp.array([[0.3, -1.0], [2.0, 0.7]])
    logits = jnp.array([[0.2, -0.4], [1.0, 0.1], [-0.6, 0.5]])
    gamma = 0.9
    paths = tuple(product(range(2), repeat=2))

    def log_probs(self, logits, path):
        table = jax.nn.log_softmax(logits)
        return jnp.stack([table[0, path[0]], table[1 + path[0], path[1]]])

    def rewards(self, path):
        return jnp.stack([0.5 * path[0], self.reward[path[0], path[1]]])

    def objective(self, logits):
        paths = jnp.array(self.paths)
        reward = jax.vmap(self.rewards)(paths)
        log_prob = jax.vmap(partial(self.log_probs, logits))(paths)
        return (jnp.exp(log_prob.sum(-1)) * (reward[:, 0] + self.gamma * reward[:, 1])).sum()

    def expected_gradient(self, estimate, group=2):
        def weighed_gradient(paths):
            log_prob = jax.vmap(partial(self.log_probs, self.logits))(paths)[None]
            shape = log_prob.shape
            rollout = Rollout(
                obs=jnp.zeros((1, group, 3, 1)),
                action=paths[None],
                log_prob=log_prob,
                reward=jax.vmap(self.rewards)(paths)[None],
                terminated=jnp.zeros(shape).at[..., -1].set(1),
                truncated=jnp.zeros(shape),
                mask=jnp.ones(shape),
                first=jnp.zeros(shape).at[..., 0].set(1),
            )
            advantage = estimate(rollout)

            def loss(logits):
                now = jax.vmap(partial(self.log_probs, logits))(paths)[None]
                step = surrogates.clipped(
                    now, log_prob, advantage, jnp.ones_like(now), epsilon=0.2, epsilon_high=None
                )
                return step.sum() / group

            return -jnp.exp(log_prob.sum()) * jax.grad(loss)(self.logits)

        groups = jnp.array(list(product(self.paths, repeat=group)))
        return jax.jit(jax.vmap(weighed_gradient))(groups).sum(0)

    @pytest.mark.parametrize(
        ("baseline", "factor"),
        [
            (advantages.none, 1.0),
            (advantages.leave_one_out, 1.0),
            (advantages.group_mean, 0.5),
            (advantages.batch_mean, 0.5),
        ],
    )
    def test_outcome_estimators_have_the_true_gradient_up_to_their_factor(self, baseline, factor):
        estimate = partial(
            advantages.relative,
            gamma=self.gamma,
            credit=returns.outcome,
            baseline=baseline,
            scale=advantages.unscaled,
        )
        true = jax.grad(self.objective)(self.logits)
        np.testing.assert_allclose(self.expected_gradient(estimate), factor * true, atol=1e-6)

    def test_the_group_factor_is_g_minus_1_over_g_also_for_three(self):
        estimate = partial(relative, baseline=advantages.group_mean)
        true = jax.grad(self.objective)(self.logits)
        got = self.expected_gradient(estimate, group=3)
        np.testing.assert_allclose(got, 2 / 3 * true, atol=1e-6)

    def test_a_wrong_value_is_harmless_with_lambda_1_and_biases_with_lambda_0(self):
        # V(s_0) = 5, V after action a = a, V at the end unused.
        def value(rollout):
            first = rollout.action[..., :1].astype(jnp.float32)
            return jnp.concatenate([jnp.full_like(first, 5.0), first, first], -1)

        def gae(rollout, lambda_):
            return returns.gae(rollout, value(rollout), gamma=self.gamma, lambda_=lambda_)

        def weighed(rollout):
            # The gradient of a discounted objective discounts later scores as well.
            return gae(rollout, 1.0) * self.gamma ** jnp.arange(2)

        true = jax.grad(self.objective)(self.logits)
        np.testing.assert_allclose(self.expected_gradient(weighed), true, atol=1e-6)
        biased = self.expected_gradient(lambda r: gae(r, 0.0) * self.gamma ** jnp.arange(2))
        # The error of the bootstrapped value enters as E[score γ (V̂(s') - V(s'))], no more and no less.
        table = jax.nn.softmax(self.logits)
        error = jnp.arange(2.0) - (table[1:] * self.reward).sum(-1)
        bias = jax.grad(lambda x: (jax.nn.softmax(x[0]) * self.gamma * error).sum())(self.logits)
        assert float(abs(bias).max()) > 0.02
        np.testing.assert_allclose(biased - true, bias, atol=1e-6)
