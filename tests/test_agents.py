"""What every preset keeps to, and what the settings of the skeleton do to an agent."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.conftest import AGENTS
from vfcompare.agents.initializers import orthogonal
from vfcompare.agents.networks import product
from vfcompare.streams import stream
from vfcompare.types import Learner

KEY = jax.random.key(2)
# Half of all first actions are right, and pay at the end: groups nearly always have a signal.
TASK = ("env=lock", "env.length=4", "env.combination=null", "env.decisive=1")
SMALL = ("agent.collector.prompts=2", "agent.collector.group=4", "agent.network.hidden=[8]")
# Without a bonus for entropy only advantages move a policy.
STILL = "agent.entropy_coef=0.0"
FRAGMENTS = ("a2c_sb3", "ppo_cleanrl")
WARM = ("vc_ppo", "vapo")


def small(agent):
    """Settings that make a preset small, and its task."""
    if agent in FRAGMENTS:
        size = ("agent.collector.number=4", "agent.collector.length=8", "agent.network.hidden=[8]")
        return (f"agent={agent}", "env=cartpole", *size, STILL)
    cut = ("agent.batching.minibatches=2",) if agent == "dpo" else ()
    return (f"agent={agent}", *TASK, *SMALL, *cut, STILL)


class Agent(NamedTuple):
    """A learner, where it starts, and its update, compiled."""

    learner: Learner
    start: Any
    update: Callable[..., Any]

    def run(self, updates, progress=0.5, key=KEY):
        """The states after each of some updates, and what each of them said."""
        state, states, said = self.start, [], []
        for index in range(updates):
            made = self.update(state, jax.random.fold_in(key, index), progress)
            state = made.state
            states.append(state)
            counted = {"env_steps": made.env_steps, "episodes": made.episodes}
            said.append({name: float(x) for name, x in (made.metrics | counted).items()})
        return states, said


@pytest.fixture(scope="module")
def agent(build):
    """`(preset, settings) -> Agent`, each made once."""
    made: dict[tuple[str, ...], Agent] = {}

    def get(name, *settings):
        chosen = (*small(name), *settings)
        if chosen not in made:
            _, learner = build(*chosen)
            start = jax.jit(learner.init)(stream(KEY, "init"))
            made[chosen] = Agent(learner, start, jax.jit(learner.update))
        return made[chosen]

    return get


def same(one, other):
    """Whether two trees hold the same numbers, what is not known included."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def signature(tree):
    """The structure of a tree, and shape and type of every leaf."""
    return jax.tree.map(lambda x: (jnp.shape(x), jnp.result_type(x)), tree)


@pytest.mark.parametrize("name", AGENTS)
def test_every_preset_learns_from_a_small_batch_and_repeats_itself(agent, name):
    found = agent(name)
    made = found.update(found.start, KEY, 0.0)
    state, metrics = made.state, made.metrics
    assert signature(state) == signature(found.start)
    for what, number in metrics.items():
        # Where no episode has ended nothing is known of their returns.
        if what in ("return", "length") and made.episodes == 0:
            continue
        assert jnp.shape(number) == (), what
        assert np.isfinite(number), what
    assert made.finite
    assert made.env_steps >= 32 - 4
    moved = not same(state.params["policy"], found.start.params["policy"])
    assert moved == (metrics["signal_fraction"] > 0 and name not in WARM)
    if "critic" in state.params:
        assert not same(state.params["critic"], found.start.params["critic"])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    again = found.update(found.start, KEY, 0.0)
    assert same(again, made)
    # Another key is another batch.
    assert not same(found.update(found.start, jax.random.key(9), 0.0).metrics, metrics)


def test_without_signal_nothing_moves(agent):
    # Nobody opens a lock of 16 in 8 trials: all that is left is a bonus for entropy, and it is switched off.
    found = agent("rloo", "env.length=16", "env.decisive=16")
    (state,), (said,) = found.run(1)
    assert said["return"] == said["signal_fraction"] == 0
    assert same(state.params, found.start.params)


def test_a_critic_that_warms_up_on_a_shared_body_learns_on_the_body_that_stays(agent):
    """As beside a policy that does not move."""
    step = "agent.estimator.critic.optimizer.learning_rate=0.001"
    found = [
        agent("ppo_shared", step, still)
        for still in ("agent.warmup=1.0", "agent.optimizer.learning_rate=0.0")
    ]
    ends = [one.run(2)[0][-1].params["critic"] for one in found]
    assert same(*ends)
    assert not same(ends[0], found[0].start.params["critic"])


def test_warmup_keeps_the_policy_until_its_share_of_the_budget(agent):
    found = agent("vc_ppo")
    state, policy = found.start, found.start.params["policy"]
    for index, progress in enumerate((0.0, 0.0499)):
        before = state
        state = found.update(state, jax.random.fold_in(KEY, index), progress).state
        assert same(state.params["policy"], policy)
        assert same(state.opt_state["policy"], found.start.opt_state["policy"])
        assert not same(state.params["critic"], before.params["critic"])
    state = found.update(state, KEY, 0.05).state
    assert not same(state.params["policy"], policy)


@pytest.mark.parametrize("refresh", [1, 4])
def test_a_policy_that_is_brought_up_to_date_every_fourth_update_is_old_in_between(agent, refresh):
    fast = "agent.optimizer.learning_rate=0.01"
    _, said = agent("vtrace", f"agent.refresh={refresh}", fast).run(6)
    deviation = np.array([abs(one["off_policy_ratio"] - 1.0) for one in said])
    # Collecting and judging multiply matrices of other shapes: a few units in the last place.
    fresh = deviation < 1e-6
    assert fresh.tolist() == [index % refresh == 0 for index in range(6)]
    assert (deviation[~fresh] > 1e-4).all()


def test_a_penalty_on_the_reward_is_seen_by_the_estimator_and_not_reported(agent):
    coef = 3.0
    settings = ("agent.gamma=1.0", "agent.optimizer.learning_rate=0.01")
    chosen = ("+penalty@agent.penalty=k1_reward", f"agent.penalty.coef={coef}")
    _, said = agent("reinforce", *settings, *chosen).run(4)
    for one in said:
        # Of REINFORCE the advantage is the return that was paid, the same at all four steps.
        assert one["return"] == pytest.approx(round(one["return"] * 8) / 8, abs=1e-6)
        paid = one["return"] - coef * one["length"] * one["penalty"]
        assert one["advantage_mean"] == pytest.approx(paid, abs=1e-5)
    assert abs(said[0]["penalty"]) < 1e-6
    assert max(abs(one["penalty"]) for one in said[1:]) > 1e-3
    # The first update has nothing to pay for: it is the one without a penalty, up to rounding.
    _, free = agent("reinforce", *settings).run(2)
    assert free[0]["advantage_mean"] == pytest.approx(said[0]["advantage_mean"], abs=1e-5)
    assert free[1]["return"] == said[1]["return"]


def test_a_penalty_in_the_loss_holds_on_to_the_first_policy(agent):
    fast = "agent.optimizer.learning_rate=0.01"
    far = {}
    for coef in (0.0, 10.0):
        chosen = ("+penalty@agent.penalty=k3_loss", f"agent.penalty.coef={coef}", fast)
        found = agent("grpo", *chosen)
        # The last of ten updates with each of three keys.
        far[coef] = [found.run(10, key=jax.random.key(seed))[1][-1]["penalty"] for seed in range(3)]
    assert min(far[0.0]) > 0.01
    assert all(held < 0.5 * free for held, free in zip(far[10.0], far[0.0], strict=True))


@pytest.mark.parametrize("trunk", ["stopped", "shared"])
def test_the_critics_loss_moves_a_shared_trunk_and_not_a_stopped_one(agent, trunk):
    # The critic is never read, so that its values reach the policy through the trunk or not at all.
    policies = []
    for coef in (1.0, 100.0):
        chosen = (f"agent.estimator.critic.trunk={trunk}", f"agent.estimator.critic.coef={coef}")
        states, _ = agent("rloo_shared", *chosen).run(2)
        policies.append(states[-1].params["policy"])
    assert same(*policies) == (trunk == "stopped")


def test_the_work_of_a_critic_without_its_advice_changes_nothing(agent):
    plain, idle = agent("rloo"), agent("rloo_idle")
    assert same(plain.start.params["policy"], idle.start.params["policy"])
    for one, other in zip(plain.run(3)[0], idle.run(3)[0], strict=True):
        assert same(one.params["policy"], other.params["policy"])
        assert same(one.opt_state["policy"], other.opt_state["policy"])
    assert not same(plain.start.params["policy"], one.params["policy"])


def test_a_pair_has_the_parameters_of_a_policy_and_a_critic_but_for_the_heads(agent):
    def count(name):
        params = jax.eval_shape(agent(name).learner.init, KEY).params
        return sum(leaf.size for leaf in jax.tree.leaves(params))

    width, actions = 8, 2
    heads = {
        "rloo_pair": (2 * width + 1) * actions,
        "ppo": (width + 1) * actions + (width + 1),
    }
    bodies = {name: count(name) - size for name, size in heads.items()}
    assert bodies["rloo_pair"] == bodies["ppo"] == 2 * (5 + 1) * width


def test_dynamic_sampling_pays_for_what_it_discards_and_keeps_groups_with_a_signal(agent):
    _, said = agent("dapo").run(8)
    for one in said:
        # One group of four in eight has no signal: that fewer than two of sixteen have one happens in less
        # than 10^-12 of updates.
        assert one["signal_fraction"] == 1
        assert one["env_steps"] == 32 * one["attempts"]
        assert one["episodes"] == 8 * one["attempts"]
    assert max(one["attempts"] for one in said) > 1
    # Without sampling there are batches with less.
    _, plain = agent("grpo").run(8)
    assert min(one["signal_fraction"] for one in plain) < 1
    assert all(one["env_steps"] == 32 for one in plain)


@pytest.mark.parametrize("shape", [(243, 64), (64, 64), (4, 64), (64, 1), (3, 3, 8, 16)])
def test_orthogonal_weights_are_those_of_the_decomposition(shape):
    ours = orthogonal(2.0**0.5)(KEY, shape)
    # Both are exact to some units of 2^-24; what they compute is unique.
    want = jax.nn.initializers.orthogonal(2.0**0.5)(KEY, shape)
    np.testing.assert_allclose(ours, want, atol=1e-5)


@pytest.mark.parametrize(("lead", "size", "out"), [((7,), 5, 2), ((3, 4), 2, 5), ((), 4, 4)])
def test_a_layer_has_the_derivatives_of_a_matrix_product(lead, size, out):
    one, two, three = jax.random.split(KEY, 3)
    x, kernel = jax.random.normal(one, (*lead, size)), jax.random.normal(two, (size, out))
    along = jax.random.normal(three, (*lead, out))

    def derivatives(multiply):
        def loss(x, kernel):
            return (along * jnp.tanh(multiply(x, kernel))).sum()

        first = jax.grad(loss, (0, 1))
        second = jax.grad(lambda *args: sum((d**2).sum() for d in first(*args)), (0, 1))
        several = jax.vmap(first, (0, None))(jnp.stack([x, 2 * x]), kernel)
        alone = jax.grad(loss, 1)(x, kernel)
        return first(x, kernel), second(x, kernel), several, alone

    # The same products, added up in another order.
    ours, plain = derivatives(product), derivatives(jnp.matmul)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), ours, plain)
