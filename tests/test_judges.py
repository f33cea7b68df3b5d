"""A reward model tells better answers from worse and pays; the truth stays on record."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import settings_with
from tests.test_priors import PRIOR, TASK
from vfcompare.agents import judging
from vfcompare.commands.compose import cells
from vfcompare.errors import InputError
from vfcompare.streams import stream
from vfcompare.training import judges, priors, tasks
from vfcompare.training.cell import build, rehearse

JUDGE = (
    *("+judge@agent.judge=bradley_terry", "agent.judge.prompts=64", "agent.judge.attempts=8"),
    *("agent.judge.batch=16", "agent.judge.updates=200"),
)


def config(*settings, agent="rloo"):
    words = settings_with((*TASK, *PRIOR, *JUDGE), *settings)
    (cell,) = cells([f"agent={agent}", *words], sweep=False)
    return cell.config


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A reward model, and the configuration that asks for it."""
    told = config(f"priors={tmp_path_factory.mktemp('priors')}")
    priors.ensure([told])
    (model,) = judges.ensure([told])
    return model, told


def test_a_batch_of_more_prompts_than_there_are_is_refused():
    with pytest.raises(InputError, match=r"agent.judge.batch=65 .*agent.judge.prompts=64"):
        build(config("agent.judge.batch=65"), rehearsal=True)


def test_pairs_loss_and_accuracy_by_hand():
    scores = jnp.array([[1.0, 2.0, 0.0], [5.0, 4.0, 3.0]])
    right = jnp.array([[True, False, False], [False, False, False]])
    margins, pairs = judging.compared(scores, right)
    assert np.argwhere(np.asarray(pairs)).tolist() == [[0, 0, 1], [0, 0, 2]]
    assert margins[0, 0, 1] == -1.0
    assert margins[0, 0, 2] == 1.0
    assert judging.bradley_terry(scores, right) == pytest.approx(
        np.log((1 + np.e) * (1 + 1 / np.e)) / 2
    )
    assert judging.accuracy(scores, right) == 0.5
    assert judging.accuracy(scores, ~right) == 0.5


def test_it_tells_answers_apart_and_says_how_well(made):
    facts = made[0].read()
    # Of nine prompts one is held out, about which nothing is promised.
    assert facts["accuracy_seen"] > 0.8
    assert 0.0 <= facts["accuracy"] <= 1.0
    assert facts["rung"].startswith("0.3 ")
    assert facts["pairs"] > 100


def test_its_accuracy_is_the_share_of_pairs_whose_right_answer_scores_higher(made):
    model, told = made
    learner, params = judges.learner(told, tasks.make(told["env"])), model.load()
    rung = priors.rung_of(told)
    assert rung is not None
    state = learner.init(rung.load(), stream(stream(jax.random.key(0), "judge"), "init"))
    tokens, right = state[2]
    scores = np.asarray(jax.vmap(jax.vmap(lambda x: learner.score(params, x)))(tokens))
    won = [
        better > worse
        for prompt, known in zip(scores, np.asarray(right), strict=True)
        for better in prompt[known]
        for worse in prompt[~known]
    ]
    assert model.read()["pairs"] == len(won)
    # An answer that two score alike, but for rounding, may count either way.
    assert model.read()["accuracy_seen"] == pytest.approx(np.mean(won), abs=2 / len(won))


def test_its_scores_have_mean_zero_and_deviation_one_on_what_it_learned_from(made):
    _, told = made
    env = tasks.make(told["env"])
    learner, params = judges.learner(told, env), made[0].load()
    rung = priors.rung_of(told)
    assert rung is not None
    state = learner.init(rung.load(), stream(stream(jax.random.key(0), "judge"), "init"))
    tokens, _ = state[2]
    scores = jax.vmap(jax.vmap(lambda x: learner.score(params, x)))(tokens)
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(scores.std()) == pytest.approx(1.0, abs=1e-4)


def test_it_is_the_same_whoever_makes_it(made, tmp_path):
    model, told = made
    elsewhere = {**told, "priors": str(tmp_path)}
    priors.ensure([elsewhere])
    (again,) = judges.ensure([elsewhere])
    assert again.name == model.name
    assert again.params.read_bytes() == model.params.read_bytes()
    other = judges.artifact_of(config("agent.judge.prompts=32"))
    assert other is not None
    assert other.name != model.name


@pytest.mark.parametrize("agent", ["grpo", "ppo", "vine"])
def test_it_pays_and_the_truth_is_logged(made, agent):
    model, told = made
    told = config(f"priors={told['priors']}", agent=agent)
    env, learner = tasks.make(told["env"]), build(told)
    state, key = learner.init(jax.random.key(0)), jax.random.key(1)
    rollout = learner.rollout(state.params["policy"], state.collector, key)
    params, score = model.load(), judges.learner(told, env).score
    tokens = rollout.obs[:, :, -1]
    scores = jax.vmap(jax.vmap(lambda x: score(params, x)))(tokens)
    np.testing.assert_allclose(rollout.reward.sum(-1), scores, atol=1e-5)
    assert (np.asarray(rollout.reward != 0) <= np.asarray(rollout.terminated == 1)).all()
    right = jax.vmap(jax.vmap(env.correct))(tokens)
    metrics = jax.jit(learner.update)(state, key, jnp.float32(0.0)).metrics
    assert float(metrics["return"]) == pytest.approx(float(scores.mean()), abs=1e-5)
    assert float(metrics["return_true"]) == pytest.approx(float(right.mean()), abs=1e-6)


def test_evaluation_knows_the_truth(made):
    _, told = made
    plain = {**told, "agent": {**told["agent"], "judge": None}}
    params, key = build(told).init(jax.random.key(0)).params["policy"], jax.random.key(1)
    found = [jax.jit(build(each).evaluate)(params, key) for each in (told, plain)]
    assert found[0] == found[1]


def test_what_it_cannot_do_is_said(tmp_path):
    with pytest.raises(InputError, match="answers of a prior"):
        rehearse({**config(), "agent": {**config()["agent"], "prior": None}})
    with pytest.raises(InputError, match="exact values are known of what the verifier pays"):
        rehearse(config("+lab@agent.lab=standard", "agent.gamma=1"))
    rest = ("+prior@agent.prior=ladder", "+judge@agent.judge=bradley_terry")
    dapo = ["agent=dapo", "env=addition", "network@agent.network=transformer", *rest]
    with pytest.raises(InputError, match="draws again by what the verifier pays"):
        cells(dapo, sweep=False)
    always_wrong = ("agent.judge.prompts=1", "agent.judge.attempts=1", f"priors={tmp_path}")
    told = config(*always_wrong, "agent.judge.batch=1")
    priors.ensure([told])
    with pytest.raises(InputError, match="no prompt had a right and a wrong answer"):
        judges.ensure([told])
    rehearse(config("priors=nowhere"))
