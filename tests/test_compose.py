"""Cells that are composed together are those that Hydra composes one by one."""

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict

from vfcompare.commands.compose import cells, jobs, to_cell
from vfcompare.errors import InputError

SWEEPS = {
    "a value that the default agent has no place for": [
        "agent=grpo,rloo",
        "agent.estimator.advantage.credit._target_=vfcompare.returns.reward_to_go",
    ],
    "values and choices": [
        "agent=rloo,ppo,vtrace",
        "env=maze",
        "agent.gamma=0.9,1.0",
        "env.size=5,7",
    ],
    "parts": [
        "agent=ppo",
        "returns@agent.estimator.advantage=gae,length_adaptive_gae",
        "agent.entropy_coef=0,0.01",
    ],
    "lists": ["agent=rloo", "agent.network.hidden=[8],[8,8]", "seeds=3"],
    "something added": ["agent=rloo", "+agent.collector.extra=1,2", "agent.collector.prompts=2"],
    "a study": ["+study=critic_error", "seeds=2", "agent.optimizer.learning_rate=1e-3"],
    "Hydra's own": [
        "agent=rloo",
        "hydra/launcher=joblib",
        "agent.gamma=0.5",
        "hydra.launcher.n_jobs=2",
    ],
}


def one_by_one(overrides):
    cfg = compose("config", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    job = cfg.hydra
    with open_dict(cfg):
        del cfg["hydra"]
    return to_cell(cfg, list(job.overrides.task), job.runtime.choices)


@pytest.mark.parametrize("settings", SWEEPS.values(), ids=SWEEPS)
def test_cells_composed_together_are_those_composed_one_by_one(settings):
    with initialize_config_module("vfcompare.conf", version_base="1.3"):
        parsed = OverridesParser.create().parse_overrides(settings)
        want = {cell.id: cell for cell in map(one_by_one, jobs(parsed))}
    got = cells(settings, sweep=True)
    assert got == list(want.values())
    assert [cell.id for cell in got] == list(want)


def test_what_was_typed_is_parsed_once(monkeypatch):
    parse, seen = OverridesParser.parse_overrides, []

    def noted(self, overrides):
        seen.extend(overrides)
        return parse(self, overrides)

    monkeypatch.setattr(OverridesParser, "parse_overrides", noted)
    cells(["agent=rloo,grpo", "env=lock"], sweep=True)
    assert seen.count("agent=rloo,grpo") == 1


def test_a_value_that_does_not_exist_is_named():
    with pytest.raises(InputError, match=r"agent\.gama=.* does not exist.*did you mean 'gamma'"):
        cells(["agent=rloo", "env=lock", "agent.gama=0.5,0.9"], sweep=True)
