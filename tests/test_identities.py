"""Agents that must coincide do; estimators that must agree in expectation do, by enumeration."""

from functools import partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from hydra.utils import instantiate

from tests.helpers import access, ask
from vfcompare import (
    advantages,
    baselines,
    estimators,
    lesions,
    masked,
    returns,
    scales,
    scaling,
    surrogates,
    targets,
)
from vfcompare.agents.networks import Gru, apply
from vfcompare.streams import stream
from vfcompare.types import Rollout, Spec
from vfcompare.valuation import Critic

KEY = jax.random.key(3)
SMALL = ("agent.collector.prompts=3", "agent.collector.group=4", "agent.evaluation_episodes=2")


def after_one_update(learner):
    state = jax.jit(learner.init)(stream(KEY, "init"))
    made = jax.jit(learner.update)(state, stream(KEY, "update"), 0.0)
    return made.state, made.metrics


def largest_difference(a, b):
    leaves = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(abs(x - y).max()) for x, y in leaves)


ALL_STEPS = "agent.estimator.advantage.lambda_=1"


@pytest.mark.parametrize(
    "actor", [("agent=ppo", ALL_STEPS), ("agent=a2c", "agent.estimator.advantage.n=100")]
)
def test_ppo_with_one_epoch_and_one_minibatch_is_a2c(build, actor):
    once = ("env=cartpole", "agent.batching.epochs=1", "agent.batching.minibatches=1", *SMALL)
    _, ppo = build("agent=ppo", ALL_STEPS, *once)
    # Returns of more steps than an untrained policy's episodes have are those of λ = 1. rlax writes out each
    # of them: 500, as many as an episode can have, would take twice as long to compile.
    _, a2c = build(*actor, "surrogate@agent.surrogate=policy_gradient", *once)
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


def test_the_ratio_is_one_where_episodes_begin_inside_a_fragment(build):
    _, ppo = build(
        "agent=ppo",
        "env=cartpole",
        "network@agent.network=gru",
        "collector@agent.collector=fragments",
        "agent.collector.number=4",
        "agent.collector.length=64",
        "agent.batching.epochs=1",
        "agent.batching.minibatches=1",
        "agent.evaluation_episodes=2",
        "agent.optimizer.learning_rate=1e-12",
    )
    state = jax.jit(ppo.init)(stream(KEY, "init"))
    made = jax.jit(ppo.update)(state, stream(KEY, "update"), 0.0)
    assert float(made.metrics["ratio_deviation"]) < 1e-5
    # Episodes of an untrained policy last some 20 steps: others begin after them.
    assert float(made.episodes) >= 4


def test_a_memory_forgets_where_an_episode_begins():
    gru = Gru(obs_ndim=1, hidden=5)
    x, carry = jax.random.normal(KEY, (2, 6, 3)), jax.random.normal(jax.random.key(4), (2, 5))
    none = jnp.zeros((2, 6))
    params = gru.init(KEY, x, none, carry)
    through = apply(gru, params, x, none, carry)
    begun = apply(gru, params, x, none.at[:, 3].set(1.0), carry)
    afresh = apply(gru, params, x[:, 3:], none[:, 3:], jnp.zeros_like(carry))
    np.testing.assert_array_equal(begun[:, :3], through[:, :3])
    np.testing.assert_allclose(begun[:, 3:], afresh, atol=1e-6)
    assert (abs(through[:, 3:] - afresh).max(-1) > 1e-3).all()
    # One episode of a batch that begins leaves the other alone.
    one = apply(gru, params, x, none.at[0, 3].set(1.0), carry)
    np.testing.assert_allclose(one, jnp.stack([begun[0], through[1]]), atol=1e-6)


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


def paid_at_end(outcomes):
    """A group of finished episodes, `[1, G, T]`, from pairs of a length and what its last step pays."""
    lengths, paid = map(np.array, zip(*outcomes, strict=True))
    time = np.arange(lengths.max())
    last = jnp.float32(time == lengths[:, None] - 1)[None]
    mask = jnp.float32(time < lengths[:, None])[None]
    rollout, _ = batch(KEY, mask.shape)
    return rollout.replace(reward=last * paid[:, None], terminated=last, mask=mask)


@pytest.mark.parametrize(
    ("outcomes", "best_discounted"),
    [
        ([(500, 500.0), (100, 100.0), (10, 10.0)], 1),  # cartpole_outcome: falling at 100
        ([(122, -122.0), (200, -200.0)], 1),  # mountain_car_outcome: never arriving
        ([(5, -4.0), (500, -500.0)], 1),  # acrobot_outcome: likewise, but for the fastest
        ([(4, -3.0), (500, -500.0)], 0),
    ],
)
def test_what_is_paid_at_the_end_orders_episodes_as_their_returns_without_a_discount_alone(
    outcomes, best_discounted
):
    rollout = paid_at_end(outcomes)
    returned = np.array([paid for _, paid in outcomes])
    for gamma, best in ((1.0, 0), (0.99, best_discounted)):
        credited = np.asarray(returns.outcome(rollout, gamma=gamma))[0, :, 0]
        exponents = np.array([length for length, _ in outcomes]) - 1
        np.testing.assert_allclose(credited, gamma**exponents * returned, rtol=1e-4)
        assert credited.argmax() == best


@pytest.mark.parametrize(("gamma", "wanted"), [(1.0, (0.0, 0.0)), (0.99, (0.34, -2.40))])
def test_with_a_discount_grpo_takes_one_more_step_for_a_failure(gamma, wanted):
    group = paid_at_end([*[(5, 1.0)] * 7, (6, 1.0)])
    scale = partial(scales.group_std, ddof=1, eps=1e-4)
    grpo = relative(group, gamma=gamma, baseline=baselines.group_mean, scale=scale)[0, :, 0]
    np.testing.assert_allclose(grpo, [*[wanted[0]] * 7, wanted[1]], atol=0.005)


relative = partial(advantages.relative, gamma=0.9, credit=returns.outcome, scale=scales.unscaled)


def test_rloo_is_the_centred_group_times_g_over_g_minus_1():
    rollout, _ = batch(KEY)
    loo = relative(rollout, baseline=baselines.leave_one_out)
    centred = relative(rollout, baseline=baselines.group_mean)
    np.testing.assert_allclose(loo, 4 / 3 * centred, atol=1e-6)


def test_weights_of_successes_are_reinforce_with_a_reward_of_one():
    rollout, _ = batch(KEY)
    return_ = returns.outcome(rollout, gamma=0.9)[..., :1]
    last = rollout.terminated * rollout.mask
    paid = rollout.replace(reward=last * (return_ > 0.1))
    credit = partial(returns.success, above=0.1)
    got = relative(rollout, baseline=baselines.none, credit=credit)
    want = relative(paid, baseline=baselines.none, gamma=1.0)
    assert 0 < float(got.sum()) < float(rollout.mask.sum())
    np.testing.assert_array_equal(got, want)


def test_what_is_left_of_a_return_is_all_of_it_where_only_the_end_pays_else_less_what_was_paid():
    rollout, _ = batch(KEY)
    left, to_go = returns.remaining(rollout, gamma=0.9), returns.reward_to_go(rollout, gamma=0.9)
    np.testing.assert_allclose(left, to_go * 0.9 ** jnp.arange(left.shape[-1]), atol=1e-6)
    np.testing.assert_allclose(left[..., 0], returns.outcome(rollout, gamma=0.9)[..., 0], atol=1e-6)
    late = paid_at_end([(5, 1.0), (3, 2.0), (6, -1.0)])
    # Not a bit may differ between steps: a baseline that is exact at one would leave a rounding error.
    left = returns.remaining(late, gamma=0.9)
    np.testing.assert_array_equal(left, left[..., :1] * late.mask)
    np.testing.assert_allclose(left, returns.outcome(late, gamma=0.9), rtol=1e-6)


def test_gae_with_lambda_1_is_the_return_minus_the_value():
    rollout, value = batch(KEY)
    got = advantages.gae(rollout, value, gamma=0.9, lambda_=1.0)
    want = (returns.reward_to_go(rollout, gamma=0.9) - value[..., :-1]) * rollout.mask
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_gae_with_lambda_0_is_the_td_error():
    rollout, value = batch(KEY)
    got = advantages.gae(rollout, value, gamma=0.9, lambda_=0.0)
    error = rollout.reward + 0.9 * rollout.discount * value[..., 1:] - value[..., :-1]
    np.testing.assert_allclose(got, error * rollout.mask, atol=1e-6)


def test_n_step_with_one_reward_is_the_td_error_and_with_all_the_return():
    rollout, value = batch(KEY)
    for n, lambda_ in ((1, 0.0), (6, 1.0)):
        got = advantages.n_step(rollout, value, gamma=0.9, n=n)
        want = advantages.gae(rollout, value, gamma=0.9, lambda_=lambda_)
        np.testing.assert_allclose(got, want, atol=1e-5)


MEANS: dict[str, Any] = {
    "batch": baselines.batch_mean,
    "group": baselines.group_mean,
    "others": baselines.leave_one_out,
    "length": baselines.length_weighted,
    "token": partial(baselines.optimal_token, eps=1e-8),
    "step": baselines.step_mean,
    "bins": partial(baselines.bin_mean, width=2, resolution=1.0, slots=16),
}


@pytest.mark.parametrize("reward", [0.1, 1 / 3, -81.2])
@pytest.mark.parametrize("name", MEANS)
def test_equal_rewards_give_exactly_no_advantage(name, reward):
    # They have no exact binary form: a mean taken naively differs from them, and a small eps, or Adam, blows
    # that up.
    rollout, _ = batch(KEY)
    rollout = rollout.replace(reward=jnp.zeros_like(rollout.reward).at[..., 0].set(reward))
    score = jax.random.uniform(KEY, rollout.mask.shape)
    reach = access(squared_score=lambda rollout: score)
    found = relative(rollout, reach, baseline=MEANS[name])
    others = rollout.mask.sum(1, keepdims=True) > 1
    # Who alone still acts has no baseline of a step.
    alone = (~others & (rollout.mask > 0)) if name in ("token", "step") else jnp.zeros_like(others)
    assert (jnp.where(alone, 0.0, found) == 0).all()
    np.testing.assert_allclose(found[jnp.broadcast_to(alone, found.shape)], reward, rtol=1e-6)


def test_the_end_of_the_longest_rollout_is_not_its_own_baseline():
    rollout = paid_at_end([(6, 1.0), (2, 0.0), (3, 0.0), (1, 0.0)])
    reach = access(squared_score=lambda rollout: jnp.ones_like(rollout.mask))
    found = advantages.relative(
        rollout,
        reach,
        gamma=1.0,
        credit=returns.outcome,
        baseline=MEANS["token"],
        scale=scales.unscaled,
    )
    # verl's `compute_optimal_token_baseline_advantage` with `handle_zero_tail=True`.
    np.testing.assert_allclose(found[0, 0], [3 / 4, 2 / 3, 1 / 2, 1, 1, 1], atol=1e-6)


@pytest.mark.parametrize(
    "scale",
    [
        partial(scales.step_whitened, ddof=1, eps_of_variance=1e-8),
        partial(scales.episode_whitened, ddof=1, eps=1e-8),
        partial(scales.batch_std, ddof=1, eps=1e-8),
    ],
)
@pytest.mark.parametrize("name", MEANS)
def test_a_batch_of_which_nothing_could_be_scored_has_no_advantage(name, scale):
    rollout, _ = batch(KEY)
    lost = rollout.replace(reward=jnp.full_like(rollout.reward, jnp.nan))
    reach = access(squared_score=lambda rollout: jnp.ones_like(rollout.mask))
    assert (relative(lost, reach, baseline=MEANS[name], scale=scale) == 0).all()


@pytest.mark.parametrize("reward", [0.1, 0.3, 0.7, -200.0])
def test_equal_advantages_of_episodes_are_whitened_to_exactly_nothing(reward):
    rollout, _ = batch(KEY)
    rollout = rollout.replace(reward=jnp.zeros_like(rollout.reward).at[..., 0].set(reward))
    scale = partial(scales.episode_whitened, ddof=1, eps=1e-8)
    assert (relative(rollout, baseline=baselines.none, scale=scale) == 0).all()


@pytest.mark.parametrize("advantage", [0.1, 0.3, 0.7, -200.0])
def test_equal_advantages_of_steps_are_whitened_to_exactly_nothing(advantage):
    rollout, _ = batch(KEY)
    equal = jnp.full(rollout.mask.shape, advantage) * rollout.mask
    assert (masked.whitened(equal, rollout.mask, ddof=1, eps=1e-8) == 0).all()


def test_a_single_advantage_is_whitened_to_nothing():
    one = jnp.full((1, 1, 1), 0.7)
    assert (masked.whitened(one, jnp.ones_like(one), ddof=1, eps=1e-8) == 0).all()


RATIOS = {
    "clipped": partial(surrogates.clipped, epsilon=0.2, epsilon_high=None),
    "episode": partial(surrogates.episode_clipped, epsilon=0.2, epsilon_high=None),
    "gmpo": partial(surrogates.gmpo, epsilon=0.2, epsilon_high=None),
    "sapo": partial(surrogates.sapo, tau=1.0, tau_negative=1.05),
}


@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("name", RATIOS)
def test_a_ratio_that_single_precision_cannot_hold_has_a_gradient(name, advantage):
    far, zero = jnp.full((1, 3), 200.0), jnp.zeros((1, 3))

    def loss(log_prob):
        return RATIOS[name](log_prob, zero, zero + advantage, zero + 1).sum()

    value, gradient = jax.value_and_grad(loss)(far)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    # What a clip has cut off, and a gate closed, moves nothing; what became too probable is pushed back.
    pushed = advantage < 0 and name != "sapo"
    assert (gradient > 0).all() if pushed else (gradient == 0).all()


def test_values_of_simulated_episodes_are_their_mean_from_each_state():
    # Episodes of 3, 1 and 2 steps, of which the last is cut off: the state after it is worth something.
    mask = jnp.array([[[1.0, 1, 1], [1, 0, 0], [1, 1, 0]]])
    last = mask - jnp.concatenate([mask[..., 1:], jnp.zeros((1, 3, 1))], -1)
    cut = jnp.array([0.0, 0.0, 1.0])[:, None]
    rollout = batch(KEY, (1, 3, 3))[0].replace(
        mask=mask,
        terminated=last * (1 - cut),
        truncated=last * cut,
        state=10.0 * jnp.arange(3)[None, :, None] + jnp.arange(4.0),
    )

    def simulate(states, key, *, time, alive):
        # The k-th of two episodes from a state s lasts two steps, and pays s + k and 2 k, k of 0 and 1.
        k = jnp.arange(len(states)) % 2
        np.testing.assert_array_equal(time, states % 10)
        np.testing.assert_array_equal(alive, np.repeat(live.reshape(-1), 2))
        reward = jnp.stack([states + k, 2.0 * k], -1)[:, None]
        return batch(key, reward.shape)[0].replace(reward=reward, mask=jnp.ones_like(reward))

    vine = estimators.simulated(
        spec=SPEC, rollouts=2, gamma=0.5, advantage=lambda rollout, value: value
    )
    live = np.array([[[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 0]]])
    made = ask(vine, rollout, access(simulate=simulate))
    # The mean over k of s + k + 0.5 * 2 k, which is s + 1.
    np.testing.assert_allclose(made.advantage, (rollout.state + 1.0) * live, atol=1e-6)


@pytest.mark.parametrize("shift", [-0.7, 0.4])
def test_old_experience_is_corrected_by_the_present_probability_over_the_old_one(shift):
    rollout, value = batch(KEY)
    vtrace = partial(advantages.vtrace, gamma=0.9, lambda_=0.8, clip=2.0, clip_advantage=2.0)
    estimator = estimators.off_policy(spec=SPEC, advantage=vtrace, critic=says(value))
    reach = access(log_prob=lambda rollout: rollout.log_prob + shift)
    made = ask(estimator, rollout, reach, networks={"critic": ()})
    want = vtrace(rollout, value, jnp.exp(shift * rollout.mask))[0]
    np.testing.assert_allclose(made.advantage, want, atol=1e-6)
    other = vtrace(rollout, value, jnp.exp(-shift * rollout.mask))[0]
    assert abs(want - other).max() > 0.1


SPEC = Spec(Box(0.0, 3.0, (1,), np.float32), Discrete(2), (1, 2, 2), whole_episodes=True)


def sum_of(rewards, gamma):
    return sum(gamma**t * reward for t, reward in enumerate(rewards))


def to_go(rewards, gamma):
    """Rewards to go, discounted from the start of the episode."""
    return [sum_of([0.0] * t + list(rewards[t:]), gamma) for t in range(len(rewards))]


def sine(x, y):
    """Of the angle between two gradients."""
    x, y = np.ravel(x), np.ravel(y)
    return np.sqrt(1.0 - (x @ y) ** 2 / (x @ x) / (y @ y))


class Enumeration:
    """Every group of rollouts of a two-step task, weighted by its probability, against the exact gradient.

    The task: a first action a, a reward of 0.5 a, a second action b whose state is a, and a reward that
    depends on both. The policy is a table of logits for the three states.
    """

    reward = jnp.array([[0.3, -1.0], [2.0, 0.7]])
    logits = jnp.array([[0.2, -0.4], [1.0, 0.1], [-0.6, 0.5]])
    gamma = 0.9
    # Of the paths that begin with this action only the first step is taken.
    ends_with: int | None = None
    paths = tuple(product(range(2), repeat=2))

    def taken(self, path):
        """Which of the two steps are."""
        return jnp.stack([jnp.float32(1.0), jnp.float32(path[0] != self.ends_with)])

    def log_probs(self, logits, path):
        table = jax.nn.log_softmax(logits)
        taken = self.taken(path)
        return jnp.stack([table[0, path[0]], table[1 + path[0], path[1]]]) * taken

    def rewards(self, path):
        return jnp.stack([0.5 * path[0], self.reward[path[0], path[1]]]) * self.taken(path)

    def objective(self, logits):
        paths = jnp.array(self.paths)
        reward = jax.vmap(self.rewards)(paths)
        log_prob = jax.vmap(partial(self.log_probs, logits))(paths)
        return (jnp.exp(log_prob.sum(-1)) * (reward[:, 0] + self.gamma * reward[:, 1])).sum()

    def truth(self):
        return jax.grad(self.objective)(self.logits)

    def episodes(self, paths):
        """The rollouts `[B, G, 2]` of paths `[B, G, 2]`; the observation is the number of the state."""
        each = lambda f: jax.vmap(jax.vmap(f))(paths)  # noqa: E731
        mask = each(self.taken)
        end = mask - jnp.concatenate([mask[..., 1:], jnp.zeros_like(mask[..., :1])], -1)
        zero = jnp.zeros(paths.shape[:2])
        return Rollout(
            obs=jnp.stack([zero, 1.0 + paths[..., 0], zero + 3.0], -1)[..., None],
            action=paths,
            log_prob=each(partial(self.log_probs, self.logits)),
            reward=each(self.rewards),
            terminated=end,
            truncated=jnp.zeros_like(mask),
            mask=mask,
            first=jnp.zeros_like(mask).at[..., 0].set(1),
        )

    def expected_gradient(self, estimate, group=2, prompts=1):
        number = prompts * group

        def weighed_gradient(paths):
            paths = paths.reshape(prompts, group, 2)
            rollout = self.episodes(paths)
            advantage = estimate(rollout)

            def loss(logits):
                now = jax.vmap(jax.vmap(partial(self.log_probs, logits)))(paths)
                step = surrogates.clipped(
                    now, rollout.log_prob, advantage, rollout.mask, epsilon=0.2, epsilon_high=None
                )
                return (step * rollout.mask).sum() / number

            return -jnp.exp(rollout.log_prob.sum()) * jax.grad(loss)(self.logits)

        groups = jnp.array(list(product(self.paths, repeat=number)))
        return jax.jit(jax.vmap(weighed_gradient))(groups).sum(0)

    def relative(self, baseline, credit=returns.outcome):
        def estimate(rollout):
            reach = access(squared_score=lambda rollout: self.score_square(rollout.action))
            made = advantages.relative(
                rollout,
                reach,
                gamma=self.gamma,
                credit=credit,
                baseline=baseline,
                scale=scales.unscaled,
            )
            # The gradient of a discounted objective discounts later scores as well; a credit that counts
            # from the start is discounted already.
            return made * self.gamma ** jnp.arange(2) if credit is returns.reward_to_go else made

        return estimate

    def score_square(self, paths):
        table = jax.nn.softmax(self.logits)
        chances = jnp.stack([jnp.broadcast_to(table[0], (*paths.shape[:2], 2)),
                             table[1:][paths[..., 0]]], -2)  # fmt: skip
        own = jnp.take_along_axis(chances, paths[..., None], -1)[..., 0]
        return 1.0 - 2.0 * own + jnp.square(chances).sum(-1)

    def enumerate(self, baseline, group, credit=lambda reward, gamma: [sum_of(reward, gamma)] * 2):
        """The expected gradient once more, in numpy and double precision, one rollout after another.

        `baseline(group, i, t)` reads a group of `(path, rewards, length)`.
        """
        table = np.exp(np.asarray(self.logits, float))
        table /= table.sum(-1, keepdims=True)
        known = []
        for path in self.paths:
            length = 1 if path[0] == self.ends_with else 2
            paid = [0.5 * path[0], float(self.reward[path])][:length]
            chance: Any = 1.0
            score = np.zeros((2, *table.shape))
            for t, state in enumerate((0, 1 + path[0])[:length]):
                chance *= table[state, path[t]]
                score[t, state] -= table[state]
                score[t, state, path[t]] += 1.0
            known.append((chance, score, (path, paid, length)))
        total = np.zeros(table.shape)
        for chosen in product(known, repeat=group):
            told = [facts for _, _, facts in chosen]
            chance = np.prod([chance for chance, _, _ in chosen])
            for i, (_, score, (_, paid, length)) in enumerate(chosen):
                for t in range(length):
                    advantage = credit(paid, self.gamma)[t] - baseline(told, i, t)
                    total += chance * advantage * score[t] / group
        return total


class Unbiased(Enumeration):
    """What holds whatever the lengths of episodes."""

    @pytest.mark.parametrize(
        ("baseline", "factor"),
        [
            (baselines.none, 1.0),
            (baselines.leave_one_out, 1.0),
            (baselines.group_mean, 0.5),
            (baselines.batch_mean, 0.5),
        ],
    )
    def test_outcome_estimators_have_the_true_gradient_up_to_their_factor(self, baseline, factor):
        got = self.expected_gradient(self.relative(baseline))
        np.testing.assert_allclose(got, factor * self.truth(), atol=1e-6)

    @pytest.mark.parametrize(
        "baseline",
        [
            baselines.none,
            baselines.step_mean,
            partial(baselines.bin_mean, width=1, resolution=1.0, slots=64),
            # The two steps are one time, and nearly all states one bin.
            partial(baselines.bin_mean, width=2, resolution=0.2, slots=64),
        ],
    )
    @pytest.mark.parametrize("credit", [returns.remaining, returns.reward_to_go])
    def test_baselines_of_other_rollouts_leave_what_follows_unbiased(self, baseline, credit):
        estimate = self.relative(baseline, credit)
        got = self.expected_gradient(estimate, group=3)
        # Sums over 64 groups, each rounded to 2^-24 of numbers up to 3.
        np.testing.assert_allclose(got, self.truth(), atol=3e-6)

    @pytest.mark.parametrize(("shared", "number"), [(True, 2), (False, 6)])
    def test_rollouts_that_begin_in_the_same_state_share_a_greedy_episode(self, shared, number):
        asked = []

        def simulate(states, key, *, greedy=False):
            asked.append(len(states))
            return self.episodes(jnp.zeros((len(states), 1, 2), jnp.int32))

        remax = estimators.greedy(
            spec=SPEC._replace(shared=shared),
            gamma=self.gamma,
            credit=returns.outcome,
            scale=scales.unscaled,
        )
        rollout = self.episodes(jnp.ones((2, 3, 2), jnp.int32))
        got = ask(remax, rollout.replace(state=rollout.obs), access(simulate=simulate)).advantage
        assert asked == [number]
        assert got.shape == rollout.mask.shape

    def test_a_greedy_episode_as_baseline_is_unbiased(self):
        first = int(self.logits[0].argmax())
        best = jnp.array([first, int(self.logits[1 + first].argmax())])

        def simulate(states, key, *, greedy=False):
            assert greedy
            return self.episodes(jnp.broadcast_to(best, (len(states), 1, 2)))

        remax = estimators.greedy(
            spec=SPEC, gamma=self.gamma, credit=returns.outcome, scale=scales.unscaled
        )

        def estimate(rollout):
            rollout = rollout.replace(state=rollout.obs)
            return ask(remax, rollout, access(simulate=simulate)).advantage

        got = self.expected_gradient(estimate)
        np.testing.assert_allclose(got, self.truth(), atol=1e-6)
        # It does subtract something.
        alone = estimate(self.episodes(best[None, None]))
        np.testing.assert_array_equal(alone, jnp.zeros((1, 1, 2)))

    def test_the_group_factor_is_g_minus_1_over_g_also_for_three(self):
        got = self.expected_gradient(self.relative(baselines.group_mean), group=3)
        np.testing.assert_allclose(got, 2 / 3 * self.truth(), atol=1e-6)

    @pytest.mark.parametrize(
        ("baseline", "factor"), [(baselines.group_mean, 1 / 2), (baselines.batch_mean, 3 / 4)]
    )
    def test_the_factor_counts_the_group_or_the_whole_batch(self, baseline, factor):
        got = self.expected_gradient(self.relative(baseline), group=2, prompts=2)
        np.testing.assert_allclose(got, factor * self.truth(), atol=1e-6)

    @pytest.mark.parametrize("group", [2, 3])
    def test_the_optimal_token_baseline_has_the_bias_that_enumeration_finds(self, group):
        table = np.asarray(jax.nn.softmax(self.logits), float)

        def square(state, action):
            score = -table[state]
            score[action] += 1.0
            return (score**2).sum()

        def baseline(told, i, t):
            if all(j == i or t >= length for j, (_, _, length) in enumerate(told)):
                return 0.0
            weight = [
                (t < length) * sum(square((0, 1 + path[0])[k], path[k]) for k in range(t + 1))
                for path, _, length in told
            ]
            return np.average([sum_of(paid, self.gamma) for _, paid, _ in told], weights=weight)

        want = self.enumerate(baseline, group)
        estimate = self.relative(partial(baselines.optimal_token, eps=1e-8))
        np.testing.assert_allclose(self.expected_gradient(estimate, group), want, atol=3e-6)
        # Neither the truth nor a multiple of it.
        assert sine(want, self.truth()) > 0.05

    @pytest.mark.parametrize("group", [2, 3])
    def test_values_of_others_are_harmless_even_where_they_know_the_actions(self, group):
        table = jnp.array([[[0.4, 3.0], [-2.0, 5.0]], [[1.0, 7.0], [0.1, -3.0]]])

        def value(rollout):
            seen = table[rollout.action[..., 0], rollout.action[..., 1]]
            return jnp.concatenate([seen, 100.0 * jnp.ones_like(seen[..., :1])], -1)

        def poise(rollout):
            return advantages.above_others(rollout, value(rollout), gamma=self.gamma)

        truth = self.truth()
        # Values up to 5: rounding of 64 groups at 2^-24 of them.
        np.testing.assert_allclose(self.expected_gradient(poise, group), truth, atol=5e-6)

        def own(rollout):
            weight = self.gamma ** jnp.arange(2)
            return advantages.gae(rollout, value(rollout), gamma=self.gamma, lambda_=1.0) * weight

        def known(told, i, t):
            path = told[i][0]
            return self.gamma**t * float(table[path][t])

        want = self.enumerate(known, group, credit=to_go)
        np.testing.assert_allclose(self.expected_gradient(own, group), want, atol=5e-6)
        # A value that knows what its own rollout did takes away what the action earned.
        assert float(abs(want - truth).max()) > 0.2


class TestTwoSteps(Unbiased):
    """All episodes have two steps."""

    def test_episodes_of_one_length_are_weighed_alike(self):
        got = self.expected_gradient(self.relative(baselines.length_weighted))
        np.testing.assert_allclose(got, 0.5 * self.truth(), atol=1e-6)

    def test_a_wrong_value_is_harmless_with_lambda_1_and_biases_with_lambda_0(self):
        # V(s_0) = 5, V after action a = a, V at the end unused.
        def value(rollout):
            first = rollout.action[..., :1].astype(jnp.float32)
            return jnp.concatenate([jnp.full_like(first, 5.0), first, first], -1)

        def gae(rollout, lambda_):
            return advantages.gae(rollout, value(rollout), gamma=self.gamma, lambda_=lambda_)

        def weighed(rollout):
            # The gradient of a discounted objective discounts later scores as well.
            return gae(rollout, 1.0) * self.gamma ** jnp.arange(2)

        true = self.truth()
        np.testing.assert_allclose(self.expected_gradient(weighed), true, atol=1e-6)
        biased = self.expected_gradient(lambda r: gae(r, 0.0) * self.gamma ** jnp.arange(2))
        # The error of the bootstrapped value enters as E[score γ (V̂(s') - V(s'))], no more and no less.
        table = jax.nn.softmax(self.logits)
        error = jnp.arange(2.0) - (table[1:] * self.reward).sum(-1)
        bias = jax.grad(lambda x: (jax.nn.softmax(x[0]) * self.gamma * error).sum())(self.logits)
        assert float(abs(bias).max()) > 0.02
        np.testing.assert_allclose(biased - true, bias, atol=1e-6)


class TestUnevenLengths(Unbiased):
    """The first action 1 ends the episode."""

    ends_with = 1
    # An ended path is listed once: its probability has no second factor.
    paths = ((0, 0), (0, 1), (1, 0))

    @pytest.mark.parametrize("group", [2, 3])
    def test_weighing_by_length_has_the_bias_that_enumeration_finds(self, group):
        def baseline(told, i, t):
            length = [length for _, _, length in told]
            return np.average([sum_of(paid, self.gamma) for _, paid, _ in told], weights=length)

        want = self.enumerate(baseline, group)
        got = self.expected_gradient(self.relative(baselines.length_weighted), group)
        np.testing.assert_allclose(got, want, atol=3e-6)
        assert sine(want, self.truth()) > 0.05


def pieces(key, shape=(3, 2, 12)):
    """Rollouts in which episodes end in the middle: by themselves, or by the clock, with a boundary row."""
    draw = np.random.default_rng(int(jax.random.bits(key)))
    mask, terminated, truncated, first = (np.zeros(shape) for _ in range(4))
    for lane in np.ndindex(shape[:2]):
        begins, cut = 1, False
        for t in range(shape[2]):
            first[(*lane, t)], mask[(*lane, t)] = begins, not cut
            end = "" if cut else draw.choice(["", "", "terminated", "truncated"])
            terminated[(*lane, t)], truncated[(*lane, t)] = end == "terminated", end == "truncated"
            begins, cut = cut or end == "terminated", end == "truncated"
    reward = draw.normal(size=shape) * mask
    numbers = [jnp.asarray(x, jnp.float32) for x in (reward, terminated, truncated, mask, first)]
    rollout = Rollout(
        jnp.zeros((*shape[:2], shape[2] + 1, 1)), jnp.zeros(shape, jnp.int32), jnp.zeros(shape), *numbers
    )  # fmt: skip
    value = jnp.asarray(draw.normal(size=(*shape[:2], shape[2] + 1)), jnp.float32)
    ratio = jnp.asarray(np.exp(draw.normal(size=shape)), jnp.float32)
    return rollout, value, ratio


MAKERS = {"episodes": lambda key: (*batch(key), None), "pieces": pieces}
VTRACE = {"gamma": 0.9, "clip": 1.0, "clip_advantage": 1.0}


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_vtrace_of_the_policys_own_experience_is_gae_and_the_lambda_return(kind, lambda_):
    rollout, value, _ = MAKERS[kind](KEY)
    one = jnp.ones_like(rollout.mask)
    advantage, target = advantages.vtrace(rollout, value, one, lambda_=lambda_, **VTRACE)
    # A few units in the last place of numbers below 8.
    want = advantages.gae(rollout, value, gamma=0.9, lambda_=lambda_)
    np.testing.assert_allclose(advantage, want, atol=3e-6)
    want = targets.lambda_return(rollout, value, gamma=0.9, lambda_=lambda_)
    np.testing.assert_allclose(target, want, atol=3e-6)


@pytest.mark.parametrize(("clip", "clip_advantage"), [(1.0, 1.0), (0.5, 2.0), (1e9, 1e9)])
@pytest.mark.parametrize("lambda_", [0.7, 1.0])
def test_vtrace_is_its_recursion(lambda_, clip, clip_advantage):
    rollout, value, ratio = pieces(jax.random.fold_in(KEY, 1))
    made = advantages.vtrace(
        rollout, value, ratio, gamma=0.9, lambda_=lambda_, clip=clip, clip_advantage=clip_advantage
    )
    told = (rollout.reward, rollout.terminated, rollout.truncated, rollout.mask, value, ratio)
    reward, terminated, truncated, mask, v, rho = (np.asarray(x, float) for x in told)
    want = np.zeros((2, *mask.shape))
    for lane in np.ndindex(mask.shape[:2]):
        ahead = 0.0  # v_{t + 1} - V_{t + 1}
        for t in reversed(range(mask.shape[2])):
            at = (*lane, t)
            goes_on = mask[at] and not terminated[at] and not truncated[at]
            beyond = ahead if goes_on else 0.0
            discount = 0.9 * (1.0 - terminated[at])
            error = reward[at] + discount * v[(*lane, t + 1)] - v[at]
            excess = min(clip, rho[at]) * error + discount * lambda_ * min(1.0, rho[at]) * beyond
            gain = min(clip_advantage, rho[at]) * (error + discount * lambda_ * beyond)
            want[(0, *at)], want[(1, *at)] = gain * mask[at], (v[at] + excess) * mask[at]
            ahead = excess
    # Unclipped products of ratios reach 1e3 here.
    np.testing.assert_allclose(np.stack(made), want, rtol=1e-4, atol=1e-5)


def test_a_length_that_counts_for_nothing_is_lambda_1():
    rollout, value = batch(KEY)
    got = advantages.length_adaptive_gae(rollout, value, gamma=0.9, alpha=1e9)
    np.testing.assert_allclose(
        got, advantages.gae(rollout, value, gamma=0.9, lambda_=1.0), atol=1e-6
    )
    # And one that counts for everything is λ = 0.
    got = advantages.length_adaptive_gae(rollout, value, gamma=0.9, alpha=1e-9)
    np.testing.assert_array_equal(got, advantages.gae(rollout, value, gamma=0.9, lambda_=0.0))


def advisor(config, name, critic=None):
    """The estimator of this name, with another critic where it has one."""
    parts = config("agent=rloo", f"estimator@agent.estimator={name}")["agent"]["estimator"]
    if critic is not None:
        parts = parts | {"critic": critic}
    return instantiate(parts)(spec=SPEC)


def says(value, lesion=None):
    """A critic that says this, whatever it sees."""
    return lambda *, spec: Critic(
        init=lambda key, networks, obs: (),
        value=lambda networks, rollout: value,
        loss=lambda networks, rows: rows.mask,
        optimizer=None,
        recurrent=False,
        scaling=scaling.unscaled(),
        lesion=lesion or lesions.none(),
    )


def test_one_slot_is_a_running_mean(config):
    estimator = advisor(config, "running_mean")
    memory, total, number = estimator.init({}), 0.0, 0.0
    for index in range(5):
        rollout, _ = batch(jax.random.fold_in(KEY, index))
        # Prompts are told apart by what is seen first; with one slot they are not.
        rollout = rollout.replace(obs=rollout.obs + jnp.arange(3.0)[:, None, None, None])
        # However far the policy moved, as much is kept.
        reach = access(moved=jnp.float32(index))
        found = estimator.estimate(memory, {}, rollout, reach, KEY)
        memory = found.memory
        reward, mask = np.asarray(rollout.reward, float), np.asarray(rollout.mask)
        return_ = (reward * 0.99 ** np.arange(6)).sum(-1)
        baseline = total / number if index else 0.0
        want = (return_ - baseline)[..., None] * mask
        np.testing.assert_allclose(found.advantage, want, atol=1e-5)
        total, number = 0.9 * total + return_.sum(), 0.9 * number + return_.size


@pytest.mark.parametrize("name", ["running_mean", "tracked"])
def test_a_rollout_that_could_not_be_scored_is_not_remembered(config, name):
    estimator = advisor(config, name)
    rollout, _ = batch(KEY)
    # The last prompt is one of its own, and one of its rollouts has no return.
    rollout = rollout.replace(obs=rollout.obs.at[-1].add(1.0))
    lost = rollout.replace(reward=rollout.reward.at[-1, -1, 0].set(jnp.nan))
    clean, found = ask(estimator, rollout), ask(estimator, lost)
    return_ = float((rollout.reward[-1, -1] * 0.99 ** jnp.arange(6)).sum())
    np.testing.assert_allclose(found.memory.total.sum(), clean.memory.total.sum() - return_, 1e-5)
    np.testing.assert_allclose(found.memory.number.sum(), clean.memory.number.sum() - 1.0, 1e-5)
    assert (found.advantage[-1, -1] == 0).all()
    after = estimator.estimate(found.memory, {}, rollout, access(), KEY)
    assert jnp.isfinite(after.advantage).all()


@pytest.mark.parametrize("knows", [True, False])
def test_the_gate_is_open_while_the_critic_explains_anything(config, knows):
    rollout, noise = batch(KEY)
    to_go = returns.reward_to_go(rollout, gamma=0.99)
    # The truth and some error, or its opposite, which explains less than a constant does.
    value = jnp.pad(to_go if knows else -to_go, ((0, 0), (0, 0), (0, 1))) + 0.1 * noise
    gate = advisor(config, "gated", says(value))
    plain = advisor(config, "value_baseline", says(value))
    found, critics = (ask(e, rollout, networks={"critic": ()}) for e in (gate, plain))
    mean = ask(advisor(config, "batch_mean"), rollout)
    assert (float(found.metrics["explained_variance"]) > 0) == knows
    assert float(found.metrics["gate"]) == knows
    np.testing.assert_array_equal(found.advantage, (critics if knows else mean).advantage)
    assert largest_difference(critics.advantage, mean.advantage) > 0.1
    # Open or not, the critic goes on learning the same.
    np.testing.assert_array_equal(found.lesson.target, critics.lesson.target)


def test_a_critic_without_value_at_lambda_1_has_the_advantages_of_reinforce_bit_for_bit(config):
    rollout, value = batch(KEY)
    silenced = advisor(config, "value_baseline", says(value, lesions.zero()))
    found = ask(silenced, rollout, networks={"critic": ()})
    want = returns.reward_to_go(rollout, gamma=0.99)
    np.testing.assert_array_equal(found.advantage, want)
    # It is silenced, not retired: what it is to learn is the return still.
    np.testing.assert_allclose(found.lesson.target, want, atol=1e-6)


def test_ppo_with_lambda_1_is_composed_to_the_learner_of_reinforce_with_a_value(config):
    assert config("agent=ppo_lambda1")["agent"] == config("agent=reinforce_v")["agent"]
    by_hand = config(
        "agent=ppo",
        "agent.estimator.advantage.lambda_=1.0",
        "agent.estimator.target.lambda_=1.0",
    )
    assert by_hand["agent"] == config("agent=reinforce_v")["agent"]


def preferred(log_prob, return_, beta=0.1):
    """`surrogates.preference` of episodes of one step, the policy that collected being uniform."""
    log_prob, return_ = jnp.asarray(log_prob)[..., None], jnp.asarray(return_)[..., None]
    zero = jnp.zeros_like(log_prob)
    return surrogates.preference(log_prob, zero, return_, zero + 1, beta=beta)[..., 0]


def test_dpo_begins_at_half_beta_between_winners_and_losers():
    # Two winners and one loser: two pairs, each worth beta / 2 over two.
    gradient = jax.grad(lambda x: preferred(x, [2.0, 1.0, 0.0]).mean())(jnp.zeros(3))
    pairs = [[-1, 1, 0], [-1, 0, 1], [0, -1, 1]]
    np.testing.assert_allclose(gradient, 0.1 / 2 * np.mean(pairs, 0), atol=1e-7)


def test_dpo_is_the_logistic_loss_of_a_single_pair():
    got = preferred([0.3, -0.5], [0.0, 1.0], beta=2.0)
    np.testing.assert_allclose(got, -np.log(1 / (1 + np.exp(-2.0 * (-0.5 - 0.3)))), rtol=1e-6)


def test_dpo_learns_nothing_from_a_group_whose_returns_are_equal():
    loss, gradient = jax.value_and_grad(lambda x: preferred(x, [1.0, 1.0, 1.0]).sum())(jnp.ones(3))
    assert float(loss) == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


def test_dpo_looks_at_the_order_of_returns_alone():
    log_prob = jnp.array([0.3, -0.5, 0.1])
    np.testing.assert_array_equal(
        preferred(log_prob, [0.0, 1.0, 0.5]), preferred(log_prob, [-9.0, 100.0, 0.1])
    )
