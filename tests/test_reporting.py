"""A report before the answer: seen by nobody, taught by no reward, calibrated at first."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from tests.helpers import settings_with
from vfcompare import collect
from vfcompare.agents import policies, pretraining, skeleton
from vfcompare.agents.networks import Mlp
from vfcompare.assemble import assemble
from vfcompare.commands.compose import cells
from vfcompare.envs.tokens.rearrangement import Reversal
from vfcompare.envs.tokens.reporting import Reporting
from vfcompare.envs.wrappers import OutcomeOnly
from vfcompare.oracle import calibration
from vfcompare.training import priors
from vfcompare.training.cell import build
from vfcompare.types import Batch, Spec

TASK = (
    *("env=addition_report", "env@env.task=reversal", "env.task.length=2", "env.task.symbols=3"),
    *("network@agent.network=transformer_tiny", "agent.network.width=16", "agent.network.heads=2"),
    *("agent.collector.prompts=8", "agent.collector.group=4", "agent.evaluation_episodes=64"),
    *("agent.evaluation_attempts=2", "seeds=2", "env_steps=100", "evaluations=1"),
)
PRIOR = (
    *("+prior@agent.prior=ladder", "agent.prior.rung=0.3", "agent.prior.prompts=256"),
    *("agent.prior.attempts=4", "agent.prior.batch=32"),
)


def config(*settings, agent="rloo"):
    (cell,) = cells([f"agent={agent}", *settings_with(TASK, *settings)], sweep=False)
    return cell.config


@pytest.fixture(scope="module")
def env():
    return Reporting(Reversal(length=2, symbols=3))


def walk(env, actions, key):
    """Every state of an episode with given actions."""
    states = [env.initial(key)]
    for action in actions:
        states.append(env.transition(states[-1], action, key))
    return states


def test_what_was_said_is_not_seen_and_changes_nothing(env):
    key = jax.random.key(0)
    answer = env.demonstration(env.initial(key), key)[env.prompt_length + 1 :]
    for said in (env.yes, env.no):
        states = walk(env, [said, *answer], key)
        ends = [bool(env.terminal(state, key)) for state in states]
        assert ends == [False] * (len(states) - 1) + [True]
        assert float(env.reward(states[-2], answer[-1], states[-1], key)) == 1.0
        tokens = states[-1].tokens
        assert int(tokens[env.prompt_length]) == env.said
        assert said not in tokens.tolist()


def test_first_a_report_and_then_the_task_is_legal(env):
    state = env.initial(jax.random.key(0))
    words = np.array(env.vocabulary)
    assert set(words[np.asarray(env.state_info(state)["action_mask"])]) == {"<yes>", "<no>"}
    after = env.transition(state, env.no, None)
    inner = {env.task.vocabulary[i] for i in np.flatnonzero(env.task.legal)}
    assert set(words[np.asarray(env.state_info(after)["action_mask"])]) == inner


def test_it_is_the_task_otherwise(env):
    key = jax.random.key(3)
    inner = env.task.initial(key)
    assert env.inner(env.initial(key).tokens).tolist() == inner.tokens.tolist()
    assert env.reference == env.task.reference
    assert env.held_out().task.testing
    tokens = env.demonstration(env.initial(key), key)
    states, actions, mask = env.along(tokens)
    assert bool(env.correct(tokens))
    assert mask.tolist()[0] == 0.0
    assert float(mask.sum()) == env.task.answer_length
    steps = walk(env, actions, key)
    assert [s.tokens.tolist() for s in steps[:-1]] == states.tokens.tolist()


@pytest.mark.parametrize("agent", ["grpo", "ppo", "dpo", "gspo"])
def test_no_reward_teaches_the_report(agent, monkeypatch):
    seen: list[Batch] = []

    def descend(losses, params, opt_state, optimizers, batch, *rest):
        seen.append(batch)
        nothing = {"loss": jnp.float32(0.0), "grad_norm": jnp.float32(0.0)}
        return params, opt_state, dict.fromkeys(params, nothing)

    monkeypatch.setattr(skeleton, "descend", descend)
    learner = build(config(agent=agent))
    state = learner.init(jax.random.key(0))
    learner.update(state, jax.random.key(1), jnp.float32(0.0))
    (batch,) = seen
    for muted in (batch.mask, batch.weight["policy"]):
        assert float(abs(muted[..., 0]).max()) == 0.0
        assert float(abs(muted[..., 1]).max()) > 0.0
    assert float(batch.weight["policy"].sum()) == pytest.approx(1.0, abs=1e-5)
    if "critic" in batch.weight:
        assert float(batch.weight["critic"][..., 0].min()) > 0.0


def test_pretraining_makes_it_calibrated_and_every_evaluation_measures_it(tmp_path):
    told = config(*PRIOR, f"priors={tmp_path}")
    (rung,) = priors.ensure([told])
    facts = rung.read()
    # What is believed on average is what comes out on average, and no worse than that average alone.
    assert facts["confidence"] == pytest.approx(facts["pass_at_1"], abs=0.1)
    assert facts["brier"] < facts["pass_at_1"] * (1 - facts["pass_at_1"]) + 0.01
    learner = build(told)
    found = jax.jit(learner.evaluate)(rung.load(), jax.random.key(0))
    assert {"confidence", "brier", "auroc", "pass_at_2"} <= set(found)
    plain = jax.eval_shape(build(told).evaluate, rung.load(), jax.random.key(0))
    assert set(plain) == set(found)


def test_a_lesson_about_itself_is_the_truth_about_its_own_answers():
    told = config()
    env = assemble(told["env"])
    learner = build(told)
    params = learner.init(jax.random.key(0)).params["policy"]
    rollout = learner.rollout(params, (), jax.random.key(1))
    steps, mask = pretraining.reported(env, rollout)
    right = np.asarray(jax.vmap(jax.vmap(env.correct))(rollout.obs[:, :, -1]))
    assert (np.asarray(steps.action[:, :, 0]) == np.where(right, env.yes, env.no)).all()
    np.testing.assert_array_equal(steps.action[:, :, 1:], rollout.action[:, :, 1:])
    assert float(mask.sum()) == mask[..., 0].size


def test_a_lesson_about_itself_reads_answers_that_are_shown_as_one_hot():
    env = Reporting(Reversal(length=2, symbols=3, view="one_hot"))
    body = partial(Mlp, hidden=(8,))
    standard: dict[str, Any] = {"head": "auto", "gain": 0.01, "temperature": 1.0}
    spec = Spec(env.observation_space, env.action_space, (64, 2, env.horizon), whole_episodes=True)
    actor = policies.policy(spec=spec, network=body, **standard)
    gather = collect.episodes(env, prompts=64, group=2, start="shared").collect
    start = env.observation(env.initial(jax.random.key(0)), jax.random.key(0))
    params = actor.init(jax.random.key(0), start)
    rollout = gather((), actor, params, jax.random.key(1), keep_state=True)[1]
    steps, _ = pretraining.reported(env, rollout)
    tokens = rollout.state.tokens[:, :, -1]
    right = np.asarray(jax.vmap(jax.vmap(env.correct))(tokens))
    assert 0 < right.sum() < right.size
    assert (np.asarray(steps.action[:, :, 0]) == np.where(right, env.yes, env.no)).all()


def test_what_the_verifier_pays_makes_no_other_ladder():
    def ladder(*settings):
        rung = priors.rung_of(config(*PRIOR, *settings))
        assert rung is not None
        return rung.folder.name

    assert ladder("env.task.noise=0.1", "env.task.partial=true") == ladder()
    assert ladder("env.task.distractors=1") != ladder()


def test_no_prior_is_made_for_a_twin_that_knows_no_demonstrations(env):
    nothing: dict[str, Any] = dict.fromkeys(["network", "policy", "optimizer"])
    numbers: dict[str, Any] = dict.fromkeys(["batch", "correct", "prompts", "attempts"], 1)
    twin: Any = OutcomeOnly(env)
    with pytest.raises(ValueError, match=r"agent.prior needs demonstrations"):
        pretraining.make(env=twin, **nothing, **numbers)


def test_brier_and_auroc_are_those_of_the_field():
    generator = np.random.default_rng(0)
    for n, ties in ((50, False), (400, True)):
        belief = generator.random(n)
        belief = np.round(belief, 1) if ties else belief
        outcome = generator.random(n) < belief
        wanted = mannwhitneyu(belief[outcome], belief[~outcome]).statistic
        wanted /= outcome.sum() * (~outcome).sum()
        found = calibration.auroc(jnp.array(belief), jnp.array(outcome))
        assert float(found) == pytest.approx(wanted, abs=1e-5)
        assert float(calibration.brier(jnp.array(belief), jnp.array(outcome))) == pytest.approx(
            np.mean((belief - outcome) ** 2), abs=1e-6
        )
    assert np.isnan(float(calibration.auroc(jnp.array([0.1, 0.2]), jnp.array([True, True]))))
