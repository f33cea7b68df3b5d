"""Parts of the user's own: what is wrong with them is said in one line, with field and what is allowed."""

import inspect
import re
import textwrap
from pathlib import Path

import pytest

from vfcompare.agents.policy_gradient import make
from vfcompare.commands.compose import cells
from vfcompare.errors import InputError, closest
from vfcompare.main import main
from vfcompare.validate import OF_AN_AGENT

CONF = {
    "env/quiet.yaml": "_target_: mine_parts.Quiet\nwidth: 8.5\nnorm: layer\nalpha: 1",
    "env/tab.yaml": "_target_: mine_parts.Quiet\n\thorizon: 3",
    "agent/half.yaml": "defaults: [/recipe@_here_: matched, /estimator@estimator: half]",
    "agent/broken.yaml": "defaults: [/recipe@_here_: matched, /estimator@estimator: nowhere]",
    "agent/gama.yaml": "defaults: [half]\ngama: 0.5",
    "agent/bare.yaml": "defaults: [/estimator@estimator: half]",
    "estimator/half.yaml": "defaults: [monte_carlo]\nadvantage: {baseline: {_target_: mine_parts.half}}",
    "optimizer/lion.yaml": "_target_: mine_parts.lion\nlearning_rate: 1.0e-3",
    "study/without_package.yaml": "study: {name: x}\nhydra: {sweeper: {params: {env: lock}}}",
    "study/typo.yaml": "# @package _global_\nstudy: {name: x, margn: 0.1}",
    "study/param.yaml": "# @package _global_\nstudy: {name: x}\nhydra: {sweeper: {param: {env: lock}}}",
    "study/list.yaml": (
        "# @package _global_\nstudy: {name: x}\nhydra: {sweeper: {params: {agent: [ppo, rloo]}}}"
    ),
    "study/numbers.yaml": (
        "# @package _global_\nstudy: {name: x}\nhydra: {sweeper: {params: {agent.gamma: [0.5, 0.9]}}}"
    ),
    "study/layers.yaml": (
        "# @package _global_\nstudy: {name: x}\n"
        "hydra: {sweeper: {params: {agent.network.hidden: [8, 8], agent: 'ppo,rloo'}}}"
    ),
}


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    """The setting that names a folder with parts of the user's own."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in CONF.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return f"hydra.searchpath=[file://{folder}]"


SAID = {
    "agent=ppo env=quiet agent.gama=0.9": "agent.gama=0.9 does not exist: .*did you mean 'gamma'",
    "agent=half env=quiet agent.gama=0.9": "agent.gama=0.9 does not exist: .*did you mean 'gamma'",
    "agent=ppo,half env=quiet env.widht=3": "env.widht=3 does not exist: .*did you mean 'width'",
    "agent=rloo network@agent.network=gru agent.network.hiden=3": "does not exist: .*mean 'hidden'",
    "agent=ppo env=tab": r"tab.yaml:2 is no YAML: found character '\\t'",
    "agent=ppo optimizer@agent.optimizer=lion": (
        "agent.estimator.critic.optimizer.eps reads agent.optimizer.eps, which is not there; allowed: "
        "agent.optimizer with eps, or optimizer@agent.estimator.critic.optimizer=NAME that reads none"
    ),
    "agent=gama": "agent.gama is no setting; allowed: network, .*did you mean 'gamma'",
    "agent=bare": "reads agent.gamma, which is not there; allowed: .*'- /recipe@_here_: matched'",
    "+study=without_package": "study.hydra is no setting of a study.*package _global_' missing",
    "+study=typo": "study.margn is no setting of a study; .*did you mean 'margin'",
    "+study=param": "hydra.sweeper.param is no setting .*did you mean 'params'",
    "+study=list": "agent=.*ppo.*is one value, a list; allowed: agent: ppo,rloo",
    "+study=numbers": "agent.gamma=.*is one value, a list; allowed: agent.gamma: 0.5,0.9",
}


@pytest.mark.parametrize("words", SAID)
def test_what_is_wrong_beside_parts_of_ones_own_is_said_by_name(words, mine):
    with pytest.raises(InputError, match=SAID[words]) as refused:
        cells([*words.split(), mine], sweep=True)
    assert "\n" not in str(refused.value)


def test_a_list_that_is_one_value_may_stand_in_a_sweep(mine):
    found = cells(["+study=layers", mine], sweep=True)
    assert [cell.config["agent"]["network"]["hidden"] for cell in found] == [[8, 8], [8, 8]]


SLIPS = {
    "agent=half": "agent=half does not exist; .*or one of your own with 'hydra.searchpath=",
    "agent=PPO": "did you mean 'ppo'",
    "agent=rloo lr=1e-3": "lr=1e-3 does not exist: .*did you mean 'agent.optimizer.learning_rate'",
    "agent=rloo agent.optimizer.lr=1e-3": "did you mean 'learning_rate'",
    "agent=rloo gamma=0.3": "did you mean 'agent.gamma'",
    "agent=rloo critic@agent.estimator.critic=quantile": (
        "this agent has no critic; allowed: agent=ppo critic@agent.estimator.critic=quantile"
    ),
    "agent=rloo agent.network.hidden=[64 64]": "did you mean 'agent.network.hidden=.64,64.'",
    "agent=ppo agent.optimizer.learning_rate=1e-3f": (
        "agent.optimizer.learning_rate=1e-3f is not allowed; allowed: a finite number above 0$"
    ),
    "agent=rloo agent.collector=fragments agent.collector.group=2": (
        "allowed: collector@agent.collector=fragments"
    ),
    "agent=rloo agent.batching=x": "a word where a part stands; allowed: .*agent.batching.epochs",
    "agent=rloo agent.estimator.advantage.baseline=null": "nothing works without",
}
WORDS = {
    **{"network": "cnn", "surrogate": "cispo", "estimator": "gae", "policy": "table"},
    **{"collector": "fragments", "optimizer": "adam", "aggregate": "token"},
}
SLIPS |= {
    f"agent=ppo agent.{part}={name}": (
        f"agent.{part}={name} is not allowed: a word where a part stands; "
        f"allowed: {part}@agent.{part}={name}$"
    )
    for part, name in WORDS.items()
}
SLIPS |= {
    f"agent=ppo agent.{part}={name}": f"allowed: .{part}@agent.{part}={name}$"
    for part, name in {"penalty": "k3_loss", "prior": "ladder", "lab": "standard"}.items()
}
SLIPS["agent=ppo agent.estimator.critic=hl_gauss"] = "critic@agent.estimator.critic=hl_gauss$"
SLIPS["agent=ppo agent.estimator.critic.head=quantile"] = "allowed: value_head@"


@pytest.mark.parametrize("words", SLIPS)
def test_slips_are_answered_in_one_line_with_what_was_meant(words):
    with pytest.raises(InputError, match=SLIPS[words]) as refused:
        cells(words.split(), sweep=False)
    assert "\n" not in str(refused.value)


def test_a_choice_is_close_by_its_letters_its_initials_or_in_other_case():
    choices = ["gamma", "learning_rate", "Adam"]
    meant = [closest(word, choices) for word in ("gama", "lr", "adam", "LR", "xyz")]
    assert meant == ["gamma", "learning_rate", "Adam", "learning_rate", None]


def test_an_agent_has_the_settings_that_it_is_made_of():
    assert {*OF_AN_AGENT} - {"_target_"} == {*inspect.signature(make).parameters} - {"env"}


def test_names_in_parts_of_ones_own_are_ones_own(mine):
    (cell,) = cells(["env=quiet", mine], sweep=False)
    assert cell.config["env"] == {
        **{"_target_": "mine_parts.Quiet", "width": 8.5},
        **{"norm": "layer", "alpha": 1},
    }
    assert isinstance(cell.config["env"]["alpha"], int)
    with pytest.raises(InputError, match=r"agent\.gamma=2 is not allowed"):
        cells(["env=quiet", "agent.gamma=2", mine], sweep=False)


def test_a_contrast_may_name_agents_of_ones_own_that_come_later(mine):
    assert cells(["agent=ppo", "study.contrast=[half,ppo]", mine], sweep=False)


def test_the_example_of_a_study_of_ones_own_is_what_it_says(tmp_path):
    page = (Path(__file__).parents[1] / "docs" / "studies.md").read_text()
    block = re.search(r"^    # @package _global_\n(?:    .*\n)+", page, re.MULTILINE)
    assert block is not None
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(textwrap.dedent(block.group()))
    found = cells(["+study=mine", f"hydra.searchpath=[file://{tmp_path}]"], sweep=True)
    assert len(found) == 6
    assert {cell.config["study"]["name"] for cell in found} == {"mine"}


def test_agents_are_listed_though_one_of_them_is_broken(mine, capsys):
    assert main(["list", "agents", "half", mine]) == 0
    said = capsys.readouterr()
    assert "half" in said.out
    assert f"vfcompare agent=half env=maze '{mine}'" in said.out
    assert re.search(r"agent=broken is left out: .*nowhere", said.err)
    assert main(["list", "agents", "broken", mine]) == 2
    assert "nowhere" in capsys.readouterr().err
