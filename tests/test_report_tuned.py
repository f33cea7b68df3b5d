"""Reports of agents that `vfcompare tune` tuned on each environment: one agent, whatever was best where."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vfcompare.report import analysis, tables
from vfcompare.report.prose import fairness
from vfcompare.report.prose.method import method
from vfcompare.report.prose.verdicts import verdicts
from vfcompare.report.reading import labels
from vfcompare.report.reading.cells import Cell, Run
from vfcompare.report.reading.data import Study
from vfcompare.runs import certificate

RATE, STEPS = "agent.optimizer.learning_rate", np.linspace(0.0, 100.0, 5)
REACHED = {"rloo": 0.5, "ppo": 0.8}
SEARCH = "maze-tune"


def cell(agent: str, env: str, rate: str, **more) -> Cell:
    """A cell with curves to where its agent gets, whatever the learning rate."""
    noise = np.random.default_rng(len(env)).normal(0.0, 0.01, 6)
    curves = (STEPS / 100.0 * (REACHED[agent] + extra) for extra in noise)
    runs = [
        Run(seed, "completed", steps=STEPS, sampled=curve, greedy=curve)
        for seed, curve in enumerate(curves)
    ]
    made = Cell(
        id=f"{agent}-{env}-{rate}",
        agent=agent,
        env=env,
        settings={RATE: rate} if rate else {},
        family="critic" if agent == "ppo" else "outcome-only",
        planned=True,
        runs=tuple(runs),
        info={},
        certificate=None,
        reference={"random": 0.0, "optimal": 1.0, "threshold": None},
        budget=100.0,
        diagnostics={},
        problems=(),
        study="maze-tuned",
        config={"study": {"name": "maze-tuned", "tuned": SEARCH}},
    )
    return replace(made, **more)


def tuned() -> list[Cell]:
    """Two agents on two environments, each with what was best there; the last was the preset."""
    return [
        cell("rloo", "lock", "0.001"),
        cell("rloo", "delayed", "0.003"),
        cell("ppo", "lock", "0.002"),
        cell("ppo", "delayed", ""),
    ]


def names(cells: list[Cell]) -> list[str]:
    return [one.arm for one in labels.label(cells)[0]]


def results(cells: list[Cell]) -> analysis.Results:
    return analysis.analyse(Study("maze-tuned", "", True, "", tuple(labels.label(cells)[0]), ()))


def test_an_agent_tuned_per_environment_is_one_agent_over_environments() -> None:
    assert names(tuned()) == ["rloo", "rloo", "ppo", "ppo"]
    found = results(tuned())
    assert [arm.name for arm in found.arms] == ["rloo", "ppo"]
    assert ("iqm", "auc", "ppo") in found.aggregate
    assert found.pairs["auc"][0].pairs == 12


def test_the_same_settings_without_a_search_are_agents_of_their_own() -> None:
    plain = [replace(one, config={"study": {"name": "x"}}) for one in tuned()]
    assert len(set(names(plain))) == 4


def test_an_agent_with_two_settings_on_an_environment_is_two_agents() -> None:
    found = names([*tuned(), cell("rloo", "lock", "0.01")])
    assert found[2:4] == ["ppo", "ppo"]
    assert len({*found[:2], found[4]}) == 3


def test_a_preset_on_one_environment_is_not_the_agent_that_was_tuned_on_another() -> None:
    preset = cell("rloo", "delayed", "0.003", config={"study": {"name": "maze-tuned"}})
    found = names([tuned()[0], preset, *tuned()[2:]])
    assert found == ["rloo learning_rate=0.001", "rloo learning_rate=0.003", "ppo", "ppo"]


def test_a_cell_that_has_not_begun_is_called_as_it_will_be() -> None:
    waiting = [Run(seed, "missing", "no run.json was found") for seed in range(6)]
    late = cell("rloo", "delayed", "0.003", config={}, runs=tuple(waiting))
    assert names([tuned()[0], late, *tuned()[2:]]) == ["rloo", "rloo", "ppo", "ppo"]


def test_settings_of_the_problem_and_of_the_seeds_stay_in_names() -> None:
    cells = [
        cell("ppo", "lock", "0.001", settings={RATE: "0.001", "env.length": "3"}),
        cell("ppo", "lock", "0.002", settings={RATE: "0.002", "env.length": "5", "seeds": "9"}),
    ]
    found, _ = labels.label(cells)
    assert [(one.arm, one.task) for one in found] == [
        ("ppo", "lock length=3"),
        ("ppo seeds=9", "lock length=5"),
    ]


def test_the_report_says_who_tuned_and_what_was_chosen() -> None:
    found = results(tuned())
    told = dict(method(found))["Settings"]
    assert "Each agent (rloo and ppo) was tuned per environment by maze-tune" in told
    table = tables.build(found)["tuned-settings"]
    assert table.columns == ("agent", "environment", "tuned by", "learning_rate")
    assert ("rloo", "delayed", SEARCH, "0.003") in table.rows
    assert ("ppo", "delayed", SEARCH, None) in table.rows


def test_functions_that_a_search_chose_are_called_by_their_names() -> None:
    key = "agent.estimator.advantage.credit._target_"
    chosen = {"lock": "vfcompare.returns.outcome", "delayed": "vfcompare.returns.reward_to_go"}
    found = results([cell("rloo", env, "", settings={key: value}) for env, value in chosen.items()])
    table = tables.build(found)["tuned-settings"]
    assert table.columns[-1] == "credit"
    assert [row[-1] for row in table.rows] == ["outcome", "reward_to_go"]


def test_one_setting_for_all_environments_is_said_to_be_that() -> None:
    found = results([cell(a, e, {"rloo": "0.1", "ppo": "0.2"}[a]) for a in REACHED for e in "xy"])
    assert "tuned once for all environments by maze-tune" in dict(method(found))["Settings"]


def test_a_study_that_nobody_tuned_says_nothing_of_it() -> None:
    found = results([replace(one, config={}) for one in tuned()])
    assert "Settings" not in dict(method(found))
    assert "tuned-settings" not in tables.build(found)


def matched(
    *,
    search: Mapping[str, str] | None = None,
    keys: Mapping[str, str] | None = None,
    **changes: Any,
) -> analysis.Results:
    """Two agents with certificates of their configurations, whose optimizers and entropies were tuned.

    Args:
      search: by agent, where the settings come from.
      keys: further settings of rloo.
      changes: to parts of rloo, or to its `env_steps`.
    """
    cells = []
    for agent, rate in (("rloo", "0.001"), ("ppo", "0.003")):
        parts = {
            "optimizer": {"learning_rate": float(rate), "eps": 1e-5},
            "entropy_coef": float(rate),
        }
        config: dict[str, Any] = {"agent": {**parts, "gamma": 0.99}, "env": {}, "env_steps": 100}
        config |= {"evaluations": 4, "study": {"tuned": (search or {}).get(agent, SEARCH)}}
        settings = {RATE: rate, "agent.entropy_coef": rate}
        if agent == "rloo":
            own = {key: value for key, value in changes.items() if key != "env_steps"}
            config = {**config, "agent": config["agent"] | own}
            config["env_steps"] = changes.get("env_steps", 100)
            settings |= keys or {}
        made = certificate.make(
            config=config,
            agent=agent,
            env="lock",
            seeds={seed: dict.fromkeys(certificate.PER_SEED, str(seed)) for seed in range(6)},
            parameters={},
            facts={},
        )
        cells.append(cell(agent, "lock", rate, settings=settings, config=config, certificate=made))
    return results(cells)


def alarms(found: analysis.Results) -> list[str]:
    return [s.text for s in verdicts(found) if s.title == "Not a fair comparison"]


def test_settings_that_were_tuned_for_each_agent_are_no_alarm_and_not_called_matched() -> None:
    found = matched()
    (match,) = found.matching
    assert match.tuned == ("optimizer", "entropy_coef")
    assert not match.different
    assert not alarms(found)
    (told,) = (s for s in verdicts(found) if s.title == "Tuned")
    assert told.tone == "plain"
    assert told.text == (
        "On lock: settings were tuned for each agent by maze-tune, with equally many trials, and differ "
        "therefore in optimizer and entropy_coef."
    )
    (sentence,) = fairness.matching(found)
    assert sentence.tone == "plain"
    assert "matched" not in sentence.text.lower()


@pytest.mark.parametrize(
    ("item", "keys", "changes"),
    [
        ("env_steps", {"env_steps": "200"}, {"env_steps": 200}),
        ("gamma", {}, {"gamma": 0.9}),
        ("gamma", {"agent.gamma": "0.9"}, {"gamma": 0.9}),
        ("network", {"agent.network.hidden": "[8]"}, {"network": {"hidden": [8]}}),
        ("optimizer", {}, {"optimizer": {"learning_rate": 0.001, "eps": 1e-8}}),
    ],
)
def test_what_was_not_tuned_stays_an_alarm(
    item: str, keys: dict[str, str], changes: dict[str, Any]
) -> None:
    (alarm,) = alarms(matched(keys=keys, **changes))
    assert alarm == f"On lock the runs differ where they should not: {item}."


@pytest.mark.parametrize("search", [{"ppo": "other-tune"}, {"ppo": ""}])
def test_agents_of_different_searches_may_have_had_unequal_trials(search: dict[str, str]) -> None:
    (alarm,) = alarms(matched(search=search))
    assert "optimizer" in alarm
    assert "entropy_coef" in alarm
