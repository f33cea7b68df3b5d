"""Cells that are composed together are those that Hydra composes one by one."""

import shutil
from importlib import resources
from itertools import combinations
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict

from vfcompare.commands import catalogue, overrides, resume
from vfcompare.commands import compose as composing
from vfcompare.commands.compose import cells, to_cell
from vfcompare.commands.overrides import jobs
from vfcompare.errors import InputError
from vfcompare.runs import plan, store
from vfcompare.schema.settings import quoted

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
        "advantage@agent.estimator.advantage=gae,length_adaptive_gae",
        "agent.entropy_coef=0,0.01",
    ],
    "lists": ["agent=rloo", "agent.network.hidden=[8],[8,8]", "seeds=3"],
    "numbers beside parts": [
        "agent=rloo,ppo",
        "first_seed=range(0,6,2)",
        "env_steps=1e4,20000",
        "evaluations=2",
        "lanes=null",
        "root=${study.name}",
        "agent.evaluation_episodes=${seeds}",
    ],
    "numbers beside parts, of a study": ["+study=critic_error", "seeds=2,3", "env_steps=5000"],
    "whole parts, of which each sets what the others leave": [
        "agent=rloo",
        "agent.collector={prompts: 32},{group: 2},{prompts: 8, chunk: 4},{start: shared}",
    ],
    "values that read others, and values in their place": [
        "agent=ppo",
        "agent.estimator.advantage.gamma=0.5,${agent.gamma}",
        "agent.gamma=0.9,0.8",
        "agent.estimator.critic.optimizer.learning_rate=0.2,0.1",
    ],
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
        want = {cell.id: cell for cell in map(one_by_one, jobs(parsed, []))}
    got = cells(settings, sweep=True)
    assert got == list(want.values())
    assert [cell.id for cell in got] == list(want)


GLOBS = {
    "agent=glob(ppo_l*) env=lock": "agent=ppo_lambda1 env=lock",
    "agent=glob([ppo,oracle*],exclude=*0) env=glob(lock*)": (
        "agent=oracle_td,oracle_v,ppo env=lock,lock_each,lock_early,lock_late"
    ),
    "advantage@agent.estimator.advantage=glob(gae*)": "advantage@agent.estimator.advantage=gae",
}


@pytest.mark.parametrize("words", GLOBS)
def test_a_pattern_is_the_parts_that_it_matches(words):
    assert cells(words.split(), sweep=True) == cells(GLOBS[words].split(), sweep=True)


def test_a_pattern_matches_parts_of_the_users_own(own, tmp_path):
    found = cells(["agent=glob(hal*)", "env=lock", own], sweep=True)
    assert [cell.agent for cell in found] == ["half"]
    (tmp_path / "study").mkdir()
    text = "# @package _global_\nhydra: {sweeper: {params: {agent: 'glob([hal*,rloo])'}}}\n"
    (tmp_path / "study" / "all.yaml").write_text(text)
    both = f"{own[:-1]},file://{tmp_path}]"
    found = cells(["+study=all", "env=lock", both], sweep=True)
    assert [cell.agent for cell in found] == ["half", "rloo"]


def test_what_was_typed_is_parsed_once(monkeypatch):
    parse, seen = OverridesParser.parse_overrides, []

    def noted(self, overrides):
        seen.extend(overrides)
        return parse(self, overrides)

    monkeypatch.setattr(OverridesParser, "parse_overrides", noted)
    cells(["agent=rloo,grpo", "env=lock"], sweep=True)
    assert seen.count("agent=rloo,grpo") == 1


def test_a_long_sweep_reads_each_choice_once(monkeypatch):
    composed = []

    def noted(name, overrides, **more):
        composed.append(tuple(overrides))
        return compose(name, overrides, **more)

    for module in (overrides, composing):
        monkeypatch.setattr(module, "compose", noted)
    assert (
        len(cells(["agent=rloo", "env=lock", "seeds=2", "first_seed=range(0,9)"], sweep=True)) == 9
    )
    assert composed == [("agent=rloo", "env=lock", "seeds=2"), ("agent=rloo", "env=lock")]


def test_who_waits_for_a_long_sweep_is_told_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(composing, "SILENCE", 0.0)
    cells(["agent=rloo", "env=lock", "seeds=1,2,3"], sweep=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"vfcompare: checked {number} of 3 cells" for number in range(3)]


def test_cells_that_are_the_same_in_the_same_words_are_told(capsys):
    assert len(cells(["agent=ppo,ppo,rloo,rloo,rloo", "env=lock"], sweep=True)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vfcompare: lock-ppo-")
    assert line.endswith(" is typed more than once, and is trained once; 1 more cell likewise")


def test_a_value_that_does_not_exist_is_named():
    with pytest.raises(InputError, match=r"agent\.gama=.* does not exist.*did you mean 'gamma'"):
        cells(["agent=rloo", "env=lock", "agent.gama=0.5,0.9"], sweep=True)


def test_what_is_the_same_in_other_words_is_one_cell(capsys):
    words = ["agent=rloo,grpo", "env=lock", "agent.entropy_coef=0.05,0.9,${study.margin}"]
    found = cells(words, sweep=True)
    told = [(cell.agent, cell.settings["agent.entropy_coef"]) for cell in found]
    assert told == [(agent, value) for agent in ("rloo", "grpo") for value in ("0.05", "0.9")]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vfcompare: lock-rloo-agent.entropy_coef=-study.margin")
    assert line.endswith(
        f" is {found[0].id} in other words, and is trained once; 1 more cells likewise"
    )


@pytest.mark.parametrize("kept", ["planned", "on disk"])
def test_a_typed_default_makes_no_other_cell_of_a_study(kept, tmp_path, capsys):
    place = ["env=lock", f"root={tmp_path}"]
    (plain,) = cells(["agent=rloo", *place], sweep=True)
    if kept == "planned":
        plan.write(plain.study, {"name": "scratch"}, [plain.planned()])
    else:
        store.write_json(
            plain.study / plain.id / "run.json", plain.planned() | {"status": "running"}
        )
    typed, other = cells(["agent=rloo", *place, "agent.gamma=0.99,0.9"], sweep=True)
    assert (typed.id, typed.settings, typed.state) == (plain.id, {}, "")
    assert other.settings == {"agent.gamma": "0.9"}
    told = f"is {plain.id} in other words, and is trained once\n"
    assert capsys.readouterr().err.endswith(told)
    # The plan has the words of the last command under the name of the first.
    plan.write(plain.study, {"name": "scratch"}, [typed.planned(), other.planned()])
    assert list(plan.cells(plain.study)) == [plain.id, other.id]
    shutil.rmtree(plain.study / plain.id, ignore_errors=True)
    assert [cell.id for cell in resume.unfinished(plain.study)] == [plain.id, other.id]


def test_names_that_a_study_has_are_kept_and_agents_that_are_the_same_stay_two(tmp_path):
    place = ["env=lock", f"root={tmp_path}"]
    (plain,) = cells(["agent=rloo", *place], sweep=True)
    (typed,) = cells(["agent=rloo", "agent.gamma=0.99", *place], sweep=True)
    assert plain.id != typed.id
    twice = [plain.planned(), typed.planned(), plain.planned() | {"agent": "mine"}]
    plan.write(plain.study, {"name": "scratch"}, twice[:2])
    assert cells(["agent=rloo", "agent.gamma=0.99", *place], sweep=True) == [typed]
    assert cells(["agent=rloo", *place], sweep=True) == [plain]
    (plain.study / "plan.json").unlink()
    plan.write(plain.study, {"name": "scratch"}, twice[2:])
    assert cells(["agent=rloo", "agent.gamma=0.99", *place], sweep=True) == [typed]


@pytest.mark.parametrize("place", ["ünï spaß", "日本/x=1", "u\u0308", "\udcc3\udcbc"])
def test_places_need_no_quotes_of_their_own(place):
    (cell,) = cells([quoted(f"root={place}"), quoted(f"priors={place}/priors")], sweep=False)
    assert (cell.config["root"], cell.config["priors"]) == (place, f"{place}/priors")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "root=runs/my study",
            "root='ü'",
            'root="ü"',
            "root=ü,u",
            "root=${study.name}ü",
            "root=[ü]",
        ),
        *("root=ü\\n", "root", "agent=ü", "+study.name=ü", "root=ü\n"),
    ],
)
def test_what_may_be_meant_as_it_stands_is_not_put_into_quotes(text):
    assert quoted(text) == text


def test_a_file_overrides_what_it_is_made_of_without_saying_so():
    """Hydra asks for `_self_` in the first file alone, and that is where it stands."""
    conf = resources.files("vfcompare.conf")
    named = [path for path in Path(str(conf)).rglob("*.yaml") if "_self_" in path.read_text()]
    assert [path.name for path in named] == ["config.yaml"]


def test_what_environments_have_in_common_stands_in_one_file():
    texts = [file.read_text().splitlines() for file in catalogue.files("env").values()]
    told = [{line for line in text if "  # " in line} for text in texts]
    assert max(len(one & other) for one, other in combinations(told, 2)) <= 1
