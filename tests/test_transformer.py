"""A transformer reads an episode at once as it does token by token, and nothing that it must not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import settings_with
from vfcompare.agents import policies
from vfcompare.agents.transformer import Transformer
from vfcompare.assemble import assemble
from vfcompare.batching import flat
from vfcompare.collect import episodes
from vfcompare.commands.compose import cells
from vfcompare.errors import InputError
from vfcompare.training import tasks
from vfcompare.training.cell import build, rehearse
from vfcompare.types import Spec

KEY = jax.random.key(5)
SIZE = ("network@agent.network=transformer", "agent.network.width=16", "agent.network.heads=2")
SMALL = (*SIZE, "agent.collector.prompts=3", "agent.collector.group=4")
TASKS = {
    "addition": ("env=addition",),
    "scratch": ("env=addition_scratch",),
    "distractors": ("env=addition", "env.distractors=3"),
    "two tokens a step": ("env=gold_mold",),
}
# Sums of 16 to 64 products in another order, through two blocks: some units of 2^-24 of numbers near 1.
ROUNDING = 1e-5


def sharpened(params, key=KEY):
    """Parameters away from where all tokens are equally probable."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    moved = [x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


class Case:
    """A policy on a task, with a rollout of its own."""

    def __init__(self, settings):
        (cell,) = cells(["agent=ppo", *settings, *SMALL], sweep=False)
        self.env, self.learner = tasks.make(cell.config["env"]), build(cell.config)
        self.spec = Spec(
            self.env.observation_space,
            self.env.action_space,
            (3, 4, self.env.horizon),
            whole_episodes=True,
            layout=self.env.layout,
        )
        self.network = lambda obs_ndim: Transformer(obs_ndim, layers=2, width=16, heads=2)
        self.policy = policies.policy(
            spec=self.spec, network=self.network, head="auto", gain=0.01, temperature=1.0
        )
        # Compiled once for all tests of the case.
        self.evaluate = jax.jit(self.policy.evaluate)
        assert self.policy.log_probs is not None
        self.log_probs = jax.jit(self.policy.log_probs)
        obs = self.env.observation(self.env.initial(KEY), KEY)
        self.params = sharpened(self.policy.init(KEY, obs))
        collector = episodes(self.env, prompts=3, group=4, start="shared")
        _, self.rollout, *_ = jax.jit(
            lambda params: collector.collect((), self.policy, params, KEY, keep_state=True)
        )(self.params)


@pytest.fixture(scope="module", params=[*TASKS.values()], ids=[*TASKS])
def case(request):
    return Case(request.param)


def test_a_token_at_a_time_is_the_whole_sequence_at_once(case):
    log_prob, entropy = case.evaluate(case.params, case.rollout.steps)
    mask = case.rollout.mask
    np.testing.assert_allclose(log_prob * mask, case.rollout.log_prob * mask, atol=ROUNDING)
    # Else every policy that is nearly uniform would pass.
    assert float(entropy.min()) < 0.8 * np.log(int(np.sum(case.env.legal)))


def test_a_row_by_itself_is_that_row_of_the_sequence(case):
    taken = case.rollout.steps
    listed = case.log_probs(case.params, taken.obs, taken.legal)
    each = jnp.take_along_axis(listed, taken.action[..., None], -1)[..., 0]
    log_prob, _ = case.evaluate(case.params, taken)
    np.testing.assert_allclose(
        each * case.rollout.mask, log_prob * case.rollout.mask, atol=ROUNDING
    )


def test_going_on_from_the_middle_is_going_on(case):
    """An episode that is simulated from one of its states finds the same probabilities there."""
    time = min(2, case.env.horizon - 1)
    obs, legal = case.rollout.obs[0, 0, time], None
    if case.rollout.legal is not None:
        legal = case.rollout.legal[0, 0, time]

    @jax.jit
    def go_on(params, obs, legal):
        carry = case.policy.begin(params, obs)
        return case.policy.act(params, carry, obs, legal, jnp.float32(0.5))

    _, action, log_prob = go_on(case.params, obs, legal)
    want = case.log_probs(case.params, obs, legal)[action]
    np.testing.assert_allclose(log_prob, want, atol=ROUNDING)


def test_what_follows_an_episode_has_no_influence(case):
    rollout = case.rollout
    shown = jnp.pad(rollout.mask, ((0, 0), (0, 0), (0, 1)))[..., None] > 0
    noise = jax.random.randint(KEY, rollout.obs.shape, 0, case.env.layout.vocabulary)
    soiled = rollout.replace(obs=jnp.where(shown, rollout.obs, noise))
    want, got = (case.evaluate(case.params, r.steps)[0] for r in (rollout, soiled))
    np.testing.assert_array_equal(got * rollout.mask, want * rollout.mask)


def test_the_order_of_episodes_and_how_many_there_are_changes_nothing(case):
    episodes = flat(case.rollout.steps, 2)
    order = np.random.default_rng(0).permutation(12)[:5]
    some = jax.tree.map(lambda x: x[order], episodes)
    mask = case.rollout.mask.reshape(12, -1)
    want = case.evaluate(case.params, episodes)[0] * mask
    got = case.evaluate(case.params, some)[0] * mask[order]
    np.testing.assert_allclose(got, want[order], atol=ROUNDING)


@pytest.mark.parametrize(
    "settings",
    [
        ("agent=grpo",),
        ("agent=ppo",),
        ("agent=ppo_shared",),
        ("agent=reinforce_v",),
        ("agent=poise",),
    ],
    ids=lambda settings: settings[0],
)
def test_agents_learn_with_it_and_begin_at_ratio_one(settings):
    once = ("agent.batching.epochs=1", "agent.batching.minibatches=1")
    still = "agent.optimizer.learning_rate=1e-12"
    (cell,) = cells([*settings, "env=addition", *SMALL, *once, still], sweep=False)
    learner = build(cell.config)
    state = learner.init(KEY)
    metrics = jax.jit(learner.update)(state, KEY, jnp.float32(0.0)).metrics
    # Nothing moved, so that the ratio is that of reading at once to reading token by token.
    assert float(metrics["ratio_deviation"]) < ROUNDING
    # Where no answer is paid for, the targets do not vary, and there is nothing to explain.
    assert {name for name, x in metrics.items() if not np.isfinite(x)} <= {"explained_variance"}


@pytest.mark.parametrize("trunk", ["own", "shared", "stopped"])
def test_a_critic_sees_no_later_token(case, trunk):
    (cell,) = cells(["agent=ppo", "env=addition", *SMALL], sweep=False)
    parts = cell.config["agent"]["estimator"]["critic"] | {"trunk": trunk}
    spec = case.spec._replace(features=case.policy.features, sequential=True)
    critic = assemble(parts, spec=spec)(network=case.network)
    networks = {"policy": case.params}
    networks["critic"] = sharpened(critic.init(KEY, networks, case.rollout.obs[0, 0, 0]))
    value = jax.jit(critic.value)
    want = value(networks, case.rollout)
    for time in range(case.env.horizon):
        # Only what is written at a step is new in the row after it.
        later = case.rollout.replace(obs=case.rollout.obs.at[:, :, time + 1 :].set(1))
        got = value(networks, later)
        np.testing.assert_array_equal(got[..., : time + 1], want[..., : time + 1])
        assert (got[..., time + 1] != want[..., time + 1]).any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("env=cartpole", *SIZE), "a transformer reads tokens"),
        (("env=addition",), "does not embed tokens"),
        (("env=addition", *settings_with(SIZE, "agent.network.heads=3")), "not a multiple of 6"),
        (("env=addition", *SIZE, "collector@agent.collector=fragments"), "reads whole episodes"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(settings, words):
    (cell,) = cells(["agent=ppo", *settings], sweep=False)
    with pytest.raises(InputError, match=words):
        rehearse(cell.config)


TOKENS = ("env=modular_sum", "agent.collector.prompts=3", "agent.collector.group=4")


def learner(*settings):
    (cell,) = cells([*settings, *TOKENS], sweep=False)
    return build(cell.config)


def once(*settings):
    """Metrics of one update that moves nothing."""
    cut = ("agent.batching.epochs=1", "agent.batching.minibatches=1")
    made = learner(*settings, *cut, "agent.optimizer.learning_rate=1e-12")
    metrics = jax.jit(made.update)(made.init(KEY), KEY, jnp.float32(0.0)).metrics
    # Where no answer is paid for, the targets do not vary, and there is nothing to explain.
    assert {name for name, x in metrics.items() if not np.isfinite(x)} <= {"explained_variance"}
    return metrics


def sizes(*settings):
    """How many parameters each network has."""
    params = jax.eval_shape(learner(*settings).init, KEY).params
    return {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in params.items()}


def test_temperature_belongs_to_the_policy(case):
    hot = policies.policy(
        spec=case.spec, network=case.network, head="auto", gain=0.01, temperature=2.0
    )
    episodes = flat(case.rollout.steps, 2)
    row = case.rollout.obs[0, 0, 1], None if (x := case.rollout.legal) is None else x[0, 0, 1]
    assert hot.log_probs is not None
    logits = case.log_probs(case.params, *row)
    want = jax.nn.log_softmax(jnp.where(logits < -1e6, -jnp.inf, logits / 2.0))
    got = hot.log_probs(case.params, *row)
    np.testing.assert_allclose(jnp.exp(got), jnp.exp(want), atol=ROUNDING)
    mask = case.rollout.mask.reshape(12, -1)
    cold, warm = (p.evaluate(case.params, episodes)[1] * mask for p in (case.policy, hot))
    assert float(warm.sum()) > float(cold.sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_ratios_are_exact_at_any_temperature(temperature):
    metrics = once(
        "agent=grpo",
        "network@agent.network=transformer_tiny",
        f"agent.policy.temperature={temperature}",
    )
    assert float(metrics["ratio_deviation"]) < ROUNDING


def test_the_presets_differ_in_size_and_a_critic_may_be_smaller_than_its_policy():
    tiny, usual = (
        sizes("agent=ppo", f"network@agent.network={name}", "critic@agent.estimator.critic=mini")
        for name in ("transformer_tiny", "transformer")
    )
    assert tiny["policy"] < usual["policy"]
    assert tiny["critic"] == usual["critic"] < usual["policy"]


@pytest.mark.parametrize("agent", ["grpo", "ppo"])
def test_a_recurrent_policy_reads_tokens_as_one_hot_vectors(agent):
    metrics = once(f"agent={agent}", "network@agent.network=gru", "env.view=one_hot")
    assert float(metrics["ratio_deviation"]) < ROUNDING
