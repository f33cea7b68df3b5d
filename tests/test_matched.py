"""Matched by construction, and checked: one line of difference, one certificate."""

from itertools import combinations
from pathlib import Path

import pytest

from tests.conftest import MATCHED
from vfcompare.runs import certificate
from vfcompare.schema.needs import resets
from vfcompare.schema.pairings import policys_body


def test_files_of_two_matched_agents_differ_in_one_line():
    folder = Path(__file__).parents[1] / "conf" / "agent"
    lines = {name: (folder / f"{name}.yaml").read_text().splitlines() for name in MATCHED}
    assert {"reinforce", "rloo", "grpo", "reinforce_v", "a2c", "ppo", "spo", "poise"} <= set(lines)
    for one, other in combinations(MATCHED, 2):
        assert sum(a != b for a, b in zip(lines[one], lines[other], strict=True)) == 1


@pytest.fixture(scope="module")
def parts(config):
    return {agent: config(f"agent={agent}")["agent"] for agent in MATCHED}


def test_composed_matched_agents_differ_in_the_estimator_alone(parts):
    for one, other in combinations(MATCHED, 2):
        a, b = parts[one], parts[other]
        assert {key for key in a | b if a.get(key) != b.get(key)} == {"estimator"}, (one, other)


@pytest.mark.parametrize("agent", ["reinforce_v", "a2c", "ppo"])
def test_a_critic_is_the_policy_again_but_for_its_learning_rate(parts, agent):
    critic = parts[agent]["estimator"]["critic"]
    assert critic["network"] == parts[agent]["network"]
    own, policys = critic["optimizer"], parts[agent]["optimizer"]
    assert {key for key in own if own[key] != policys[key]} == {"learning_rate"}


def make(config, agent, **changes):
    hashes = {0: {"policy": "p0", "environment": "e0", "rollout": "r0"}}
    hashes |= {1: {"policy": "p1", "environment": "e1", "rollout": "r1"}}
    for path, value in changes.items():
        seed, key = path.removeprefix("seed_").split("_", 1)
        hashes[int(seed)][key] = value
    return certificate.make(
        config=config(f"agent={agent}"),
        agent=agent,
        env="cartpole",
        seeds=hashes,
        parameters={"policy": 10, "critic": 11 if agent == "ppo" else 0},
        facts={"jax": "1", **told(config(f"agent={agent}")["agent"])},
    )


def told(agent):
    return {certificate.BODY: policys_body(agent), certificate.RESETS: resets(agent)}


def verdicts(*certificates):
    rows = certificate.compare({f"run{i}": c for i, c in enumerate(certificates)})
    return {row.item: row.verdict for row in rows}


def test_certificates_of_matched_agents_differ_by_design_alone(config):
    found = verdicts(make(config, "ppo"), make(config, "grpo"), make(config, "rloo"))
    assert found.pop("estimator") == found.pop("critic parameters") == "by design"
    assert set(found.values()) == {"equal"}
    assert {"initial policy", "first rollout", "optimizer", "batching", "env", "jax"} <= set(found)


@pytest.mark.parametrize(
    ("key", "item"),
    [
        ("policy", "initial policy"),
        ("environment", "initial environment states"),
        ("rollout", "first rollout"),
    ],
)
def test_a_seed_that_starts_elsewhere_is_caught_and_named(config, key, item):
    rows = certificate.compare(
        {"a": make(config, "ppo"), "b": make(config, "grpo", **{f"seed_1_{key}": "other"})}
    )
    assert rows[0] == (f"{item} (seeds 1)", "different", rows[0].values)


def test_a_recipe_that_differs_is_caught_and_named(config):
    ppo, grpo = make(config, "ppo"), make(config, "grpo")
    hot = certificate.make(
        config=config("agent=grpo", "agent.optimizer.learning_rate=0.5"),
        agent="grpo",
        env="cartpole",
        seeds={},
        parameters={"policy": 10, "critic": 0},
        facts={"jax": "1"},
    )
    assert verdicts(ppo, grpo)["optimizer"] == "equal"
    assert verdicts(ppo, hot)["optimizer"] == "different"


def test_disjoint_seeds_are_no_mismatch(config):
    one, other = make(config, "ppo"), make(config, "ppo")
    other["seeds"] = {str(int(seed) + 20): h for seed, h in other["seeds"].items()}
    assert set(verdicts(one, other).values()) == {"equal", "not compared"}


@pytest.mark.parametrize(
    ("agent", "body"),
    [
        *(("ppo", "its own"), ("rloo", "its own"), ("rloo_idle", "its own"), ("asyppo", "its own")),
        *(("ppo_shared", "also the critic's"), ("rloo_elapsed", "also the critic's")),
    ],
)
def test_a_body_that_the_critic_shapes_too_is_not_what_is_compared(config, agent, body):
    assert policys_body(config(f"agent={agent}")["agent"]) == body
    found = verdicts(make(config, agent), make(config, "grpo"))
    assert found["policy's body"] == ("equal" if body == "its own" else "different")


SHARED, APART = {"trunk": "shared"}, {"trunk": "own"}


@pytest.mark.parametrize(
    "estimator",
    [
        {"critic": {"first": APART, "second": SHARED}},
        {"critic": {"part": SHARED}},
        {"critic": {"parts": [APART, SHARED]}},
        {"values": SHARED},
        {"critic": APART, "otherwise": {"critic": SHARED}},
    ],
)
def test_a_critic_that_shapes_the_body_is_found_wherever_it_stands(estimator):
    assert policys_body({"estimator": estimator}) == "also the critic's"


def test_a_probe_reads_the_policys_body_and_leaves_it_alone(config):
    agent = config("agent=rloo_idle", "critic@agent.estimator.critic=probe")["agent"]
    assert agent["estimator"]["critic"]["trunk"] == "stopped"
    assert policys_body(agent) == "its own"


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (("agent=ppo",), "to the start"),
        (("agent=rloo",), "to the start"),
        (("agent=dapo",), "to the start"),
        (("agent=vine",), "in mid-episode"),
        (("agent=a2c_sb3",), "none"),
        (("agent=ppo", "agent.collector.start=independent"), "none"),
        (("agent=remax", "agent.collector.start=independent"), "to the start"),
    ],
)
def test_where_episodes_begin_a_second_time_is_told(config, overrides, wanted):
    assert resets(config(*overrides)["agent"]) == wanted


def test_resets_in_mid_episode_are_what_vine_is_compared_for(config):
    assert verdicts(make(config, "vine"), make(config, "rloo"))["resets"] == "by design"
