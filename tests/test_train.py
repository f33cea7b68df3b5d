"""The trainer: seeds do not touch each other, cuts and kills change no bit, divergence is contained."""

import jax
import numpy as np
import pytest

from vfcompare.training import compiler
from vfcompare.training import trainer as training
from vfcompare.training.trainer import Trainer

SMALL = (
    "agent.collector.prompts=2",
    "agent.collector.group=4",
    "agent.evaluation_episodes=4",
    "network@agent.network=mlp",
    "agent.network.hidden=[8]",
)


@pytest.fixture(scope="module")
def learner(build):
    return build("agent=ppo", "env=lock", *SMALL)[1]


def trained(learner, seeds, steps=1024, lanes=1):
    trainer = Trainer(learner, seeds, steps, lanes)
    return trainer, list(trainer.chunks(steps))


def leaves(trainer, index=0):
    return [np.asarray(x)[index] for x in jax.tree.leaves(trainer.run)]


@pytest.mark.parametrize("lanes", [1, 2])
def test_where_training_is_cut_changes_no_bit(learner, lanes, monkeypatch):
    seeds = list(range(2 * lanes))
    whole, _ = trained(learner, seeds, lanes=lanes)
    for most in (1, 3):
        monkeypatch.setattr(training, "ROWS", most)
        cut, chunks = trained(learner, seeds, lanes=lanes)
        assert len(chunks) > 5
        for one, other in zip(leaves(whole), leaves(cut), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_seed_is_the_same_alone_and_in_company(learner):
    together, _ = trained(learner, [0, 1, 2])
    for index, seed in enumerate([0, 1, 2]):
        alone, _ = trained(learner, [seed])
        for one, other in zip(leaves(together, index), leaves(alone), strict=True):
            np.testing.assert_array_equal(one, other)


def test_seeds_side_by_side_agree_with_seeds_in_turn_up_to_rounding(learner):
    turn, _ = trained(learner, [0, 1, 2, 3], steps=128)
    side, _ = trained(learner, [0, 1, 2, 3], steps=128, lanes=2)
    for one, other in zip(leaves(turn), leaves(side), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_budgets_count_environment_steps(learner):
    trainer, chunks = trained(learner, [0, 1], steps=1000)
    # Eight episodes of eight steps an update: the first multiple of 64 from 1000 on.
    assert np.asarray(trainer.run.env_steps).tolist() == [1024, 1024]
    table = np.concatenate([c.metrics["env_steps"][0, : c.rows[0]] for c in chunks])
    assert table.tolist() == list(range(64, 1025, 64))


def test_seeds_side_by_side_end_each_with_the_first_update_beyond_its_budget(build):
    _, learner = build("agent=reinforce", "env=cartpole", *SMALL)
    trainer, chunks = trained(learner, [0, 1, 2, 3], steps=1000, lanes=2)
    for index, steps in enumerate(trainer.counter("env_steps")):
        rows = np.concatenate([c.metrics["env_steps"][index, : c.rows[index]] for c in chunks])
        assert len(rows) == trainer.counter("updates")[index]
        assert rows[-2] < 1000 <= rows[-1] == steps
    assert len(set(trainer.counter("updates"))) > 1, "all ended together: choose other seeds"


@pytest.mark.parametrize("lanes", [1, 3])
def test_a_seed_that_diverges_stops_and_harms_no_other(build, lanes):
    _, learner = build("agent=reinforce", "env=lock", *SMALL)
    sick = 1

    def update(state, key, progress):
        made = learner.update(state, key, progress)
        bad = jax.random.key_data(key).sum() % 7 == 3
        return made._replace(finite=made.finite & ~bad)

    trainer, _ = trained(learner._replace(update=update), list(range(6)), lanes=lanes)
    finite = np.asarray(trainer.run.finite)
    assert not finite.all(), "no seed was hit: choose another rule"
    sick = int(np.flatnonzero(~finite)[0])
    updates = np.asarray(trainer.run.updates)
    assert updates[sick] < 16
    healthy, _ = trained(learner, list(range(6)), lanes=lanes)
    for index in np.flatnonzero(finite):
        assert updates[index] == 16
        for one, other in zip(leaves(trainer, index), leaves(healthy, index), strict=True):
            np.testing.assert_array_equal(one, other)


def test_evaluation_uses_a_stream_of_its_own(learner):
    looked, _ = trained(learner, [0, 1])
    trainer = Trainer(learner, [0, 1], 1024)
    trainer.evaluate(0)
    for _ in trainer.chunks(512):
        trainer.evaluate(1)
    for _ in trainer.chunks(1024):
        pass
    for one, other in zip(leaves(looked), leaves(trainer), strict=True):
        np.testing.assert_array_equal(one, other)


def test_halves_of_an_evaluation_differ_by_noise_alone(learner):
    """Of 200 evaluations of 32 episodes by one policy that passes some: mean 0, and the mean's own deviation.

    Within four standard errors: of a mean, and of a deviation, whose own is 5 % of it.
    """
    trainer = Trainer(learner, [0], 1024)
    found = [trainer.evaluate(point) for point in range(200)]
    returns, split = (np.ravel([x[n] for x in found]) for n in ("return_sampled", "return_split"))
    assert returns.std() > 0.02
    assert abs(split.mean()) < 4 * returns.std() / np.sqrt(200)
    assert split.std() == pytest.approx(returns.std(), rel=4 * 0.05 * np.sqrt(2))
    assert abs(np.corrcoef(returns, split)[0, 1]) < 4 / np.sqrt(200)


def test_matched_agents_start_with_the_same_policy_and_the_same_first_rollout(build):
    states = {}
    for agent in ("reinforce", "grpo", "ppo"):
        _, learner = build(f"agent={agent}", "env=frozen_lake", *SMALL)
        trainer = Trainer(learner, [0, 1], 100)
        found = [(trainer.state(i).params["policy"], trainer.rollout(i)) for i in (0, 1)]
        states[agent] = jax.tree.leaves(found)
    for agent in ("grpo", "ppo"):
        for one, other in zip(states["reinforce"], states[agent], strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_checkpoint_knows_what_the_compiler_was_told_but_not_on_how_many_devices(monkeypatch):
    told = {}
    for flags in (
        "",
        "--xla_force_host_platform_device_count=8 --xla_dump_to=/nowhere",
        "--xla_cpu_prefer_vector_width=512 --xla_backend_optimization_level=1",
        "--xla_cpu_prefer_vector_width=256",
        "--xla_cpu_enable_fast_math=true",
    ):
        monkeypatch.setenv("XLA_FLAGS", flags)
        told[flags] = compiler.options()
    usual, devices, same, narrow, fast = told.values()
    assert usual == devices == same
    assert len({usual, narrow, fast}) == 3
    assert "xla_cpu_prefer_vector_width=256" in narrow.split()
