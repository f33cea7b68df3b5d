"""Parts of the user's own: what is wrong with them is said in one line, with field and what is allowed."""

import inspect
import re
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from gymnasium.envs.phys2d.cartpole import CartPoleFunctional

from tests.helpers import write_files
from vfcompare.agents.policy_gradient import make
from vfcompare.assemble import assemble
from vfcompare.commands.catalogue import files
from vfcompare.commands.compose import cells
from vfcompare.contract import require_task
from vfcompare.envs.base import Reference, Task
from vfcompare.errors import InputError, closest
from vfcompare.main import main
from vfcompare.report.reading.data import load
from vfcompare.runs import run_folder, status, store
from vfcompare.schema.validate import OF_AN_AGENT
from vfcompare.training import attempts
from vfcompare.training.cell import rehearse
from vfcompare.training.execute import execute

CONF = {
    "env/quiet.yaml": "_target_: mine_parts.Quiet\nwidth: 8.5\nnorm: layer\nalpha: 1",
    "env/tab.yaml": "_target_: mine_parts.Quiet\n\thorizon: 3",
    "agent/half.yaml": "defaults: [/recipe@_here_: matched, /estimator@estimator: half]",
    "agent/broken.yaml": "defaults: [/recipe@_here_: matched, /estimator@estimator: nowhere]",
    "agent/gama.yaml": "defaults: [half]\ngama: 0.5",
    "agent/bare.yaml": "defaults: [/estimator@estimator: half]",
    "estimator/half.yaml": "defaults: [monte_carlo]\nadvantage: {baseline: {_target_: mine_parts.half}}",
    "agent/inner.yaml": "defaults: [/recipe@_here_: matched, /estimator@estimator: inner]",
    "estimator/inner.yaml": (
        "defaults: [monte_carlo]\nadvantage: {baseline: {_target_: mine_parts.half, "
        "inner: {_target_: vfcompare.baselines.leave_one_out, _partial_: true}}}"
    ),
    "optimizer/lion.yaml": "_target_: mine_parts.lion\nlearning_rate: 1.0e-3",
    "study/without_package.yaml": "study: {name: x}\nhydra: {sweeper: {params: {env: lock}}}",
    "study/typo.yaml": "# @package _global_\nstudy: {name: x, margn: 0.1}",
    "study/param.yaml": "# @package _global_\nstudy: {name: x}\nhydra: {sweeper: {param: {env: lock}}}",
    "study/slips.yaml": (
        "# @package _global_\nstudy: {name: x}\n"
        "hydra: {sweeper: {params: {agent: 'a2c,rloo', env.slip: '0,0.1'}}}"
    ),
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
    write_files(folder, CONF)
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
    "agent=inner agent.collector.group=1": (
        "agent.collector.group=1 is not allowed: the inner leave_one_out needs a group .*; allowed: 2 or more"
    ),
    "agent=gama": "agent.gama is no setting; allowed: network, .*did you mean 'gamma'",
    "agent=bare": "reads agent.gamma, which is not there; allowed: .*'- /recipe@_here_: matched'",
    "+study=without_package": "study.hydra is no setting of a study.*package _global_' missing",
    "+study=typo": "study.margn is no setting of a study; .*did you mean 'margin'",
    "+study=param": "hydra.sweeper.param is no setting .*did you mean 'params'",
    "agent=rloo,ppo env=lock agent.estimator.advantage.lambda_=0.9,1.0": (
        "lambda_=0.9 does not exist for agent=rloo env=lock: agent.estimator.advantage has gamma, credit, "
        "baseline, scale; allowed: cells that have it, such as agent=ppo env=lock; "
        "in a command of their own, with the same study.name, they come into the same study$"
    ),
    "agent=ppo env=maze_small,lock env.slip=0.1": (
        "env.slip=0.1 does not exist for agent=ppo env=lock: .*; allowed: .*as agent=ppo env=maze_small; "
    ),
    "+study=slips env=lock": (
        "^env.slip=0, which study slips sweeps, does not exist for agent=a2c env=lock: env has length"
    ),
    "agent=rloo,ppo env=lock agent.estimator.critic.optimizer.eps=1": (
        "for agent=rloo env=lock .this agent has no critic"
    ),
    "+study=list": "agent=.*ppo.*is one value, a list; allowed: agent: ppo,rloo",
    "+study=numbers": "agent.gamma=.*is one value, a list; allowed: agent.gamma: 0.5,0.9",
}


@pytest.mark.parametrize("words", SAID)
def test_what_is_wrong_beside_parts_of_ones_own_is_said_by_name(words, mine):
    with pytest.raises(InputError, match=SAID[words]) as refused:
        cells([*words.split(), mine], sweep=True)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("path", ["env/lock.yaml", "agent/ppo.yaml", "env/base/tokens.yaml"])
def test_a_part_with_the_name_of_one_of_ours_is_refused_wherever_it_would_be_read(
    path, tmp_path, capsys
):
    write_files(tmp_path, {path: "length: 20"})
    own = f"hydra.searchpath=[file://{tmp_path}]"
    said = f"{path} of file://{tmp_path} is not read: ours has the same name; allowed: another name"
    for words in (["env=lock"], ["env=lock", "--cfg", "job"], ["list", "envs"], ["tune"]):
        assert main([*words, own]) == 2
        assert said in capsys.readouterr().err


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
    **{"collector": "fragments", "optimizer": "adam", "aggregate": "steps"},
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
SLIPS["agent=rloo agent.estimator.critic=hl_gauss"] = "this agent has no critic"
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


MINE = """
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

from vfcompare.advantages import gae
from vfcompare.agents.critics import learned
from vfcompare.envs.base import Task
from vfcompare.returns import discounted_return, outcome
from vfcompare.valuation import Estimate, Estimator


class Base(Task):
    horizon = 10
    action_space = Discrete(2)
    observation_space = Box(-1.0, 20.0, (2,), np.float32)

    def initial(self, rng, params=None):
        return jnp.float32(0)

    def transition(self, state, action, rng, params=None):
        return state + 1.0

    def observation(self, state, rng, params=None):
        return jnp.stack([state, state])

    def reward(self, state, action, after, rng, params=None):
        return action.astype(jnp.float32)

    def terminal(self, state, rng, params=None):
        return state > 5


class Late(Base):
    horizon = 10.0


class Later(Base):
    action_space = Discrete(2, start=1)


class Grid(Base):
    action_space = Box(-1.0, 1.0, (2, 2), np.float32)


class Place(Base):
    observation_space = Discrete(8)


class Pixels(Base):
    observation_space = Box(0, 255, (8, 8, 3), np.uint8)


class Named(Base):
    def observation(self, state, rng, params=None):
        return {"a": state}


class Wide(Base):
    def observation(self, state, rng, params=None):
        return jnp.zeros(3)


class Whole(Base):
    def observation(self, state, rng, params=None):
        return jnp.zeros(2, jnp.int32)


class Paid(Base):
    def reward(self, state, action, after, rng, params=None):
        return jnp.ones(1)


class Turning(Base):
    def initial(self, rng, params=None):
        return {"a": jnp.int32(0)}

    def transition(self, state, action, rng, params=None):
        return {"a": state["a"] + 1.0}

    def observation(self, state, rng, params=None):
        return jnp.zeros(2)

    def terminal(self, state, rng, params=None):
        return state["a"] > 5


class Growing(Turning):
    def transition(self, state, action, rng, params=None):
        return state | {"b": state["a"]}


class Masked(Base):
    def state_info(self, state, params=None):
        return {"action_mask": jnp.ones(3, bool)}


class Raising(Base):
    def transition(self, state, action, rng, params=None):
        return self.nosuch


class Unwritten(Task):
    horizon = 10
    action_space = Discrete(2)
    observation_space = Box(-1.0, 20.0, (2,), np.float32)


class Unpaid(Base):
    def reward(self, state, action, after, rng, params=None):
        return jnp.where(state == 3, jnp.nan, 0.0)


class Endless(Base):
    time_aware = True

    def terminal(self, state, rng, params=None):
        return False


class Picky:
    def __init__(self, size):
        raise KeyError(size)


def half(sample):
    return sample.return_ / 2


def nothing(sample):
    return None


def signed(rollout, gamma):
    return rollout


def square(sample):
    return jnp.zeros((3, 5))


def deep(sample):
    return sample.return_[None] * jnp.ones((2, 1, 1, 1))


def forgot(sample):
    return sample.return_.mean(1)


def stacked(difference, sample):
    return jnp.stack([difference, difference])


def mean(log_prob, behaviour_log_prob, advantage, mask):
    return -(log_prob * advantage).mean()


def shy(log_prob, advantage):
    return -log_prob * advantage


def uncharged(*, spec, gamma):
    def estimate(memory, networks, rollout, access, key):
        starts = jax.tree.map(lambda x: x[:, 0, 0], rollout.state)
        baseline = discounted_return(access.simulate(starts, key), gamma=gamma)[:, None]
        return Estimate((outcome(rollout, gamma=gamma) - baseline) * rollout.mask)

    return Estimator(estimate, needs_state=True)


def peeking(*, spec, gamma):
    def estimate(memory, networks, rollout, access, key):
        value = access.exact_value(rollout, 1.0)
        return Estimate(gae(rollout, value, gamma=gamma, lambda_=0.0))

    return Estimator(estimate, needs_state=True)


def unlearned(*, spec, advantage, target, critic):
    made = critic(spec=spec)

    def estimate(memory, networks, rollout, access, key):
        return Estimate(advantage(rollout, made.value(networks, rollout)))

    return Estimator(estimate, critics={"critic": made})


def renamed(*, spec, critic, **parts):
    made = critic(spec=spec)
    return Estimator(lambda *args: None, critics={"q": made})


def once(rollout, value, **numbers):
    return outcome(rollout, gamma=1.0)[..., :1]


def columns(**parts):
    critic = learned(**parts)
    return critic._replace(loss=lambda networks, rows: critic.loss(networks, rows)[..., None])
"""
BASELINE = "agent.estimator.advantage.baseline._target_=mine_own"
SURROGATE = "agent.surrogate._target_=mine_own"
BARE = "agent.estimator.advantage.baseline: it is"
BASE = "float32[2], as observation_space"

WRONG = {
    "env=late": "env.horizon=10.0 is not allowed; allowed: a whole number, 1 or more",
    "env=later": "env.action_space=Discrete(2, start=1) is not allowed; allowed: Discrete(2), which",
    "env=grid": "allowed: a Box of shape (n,)",
    "env=place": "env.observation_space=Discrete(8) is not allowed; allowed: a Box of float32",
    "env=pixels": "env.observation_space has the type uint8; allowed: float32, such as pixels / 255",
    "env=named": f"env: observation is a dict; allowed: {BASE}",
    "env=wide": f"env: observation is float32[3]; allowed: {BASE}",
    "env=whole": f"env: observation is int32[2]; allowed: {BASE}",
    "env=paid": "env: reward is float32[1]; allowed: one number, of shape ()",
    "env=turning": "env: transition makes state['a'] float32[]; allowed: int32[], as initial",
    "env=growing": "env: transition makes a state of the form PyTreeDef({'a': *, 'b': *}); allowed: ",
    "env=masked": "env: action_mask is bool[3]; allowed: one truth value for each of Discrete(2)",
    "env=raising": "AttributeError: 'Raising' object has no attribute 'nosuch' (",
    "env=unwritten": "Unwritten has no initial, transition, observation, reward, terminal; allowed: a sub",
    "env=picky": "env (mine_own.Picky): KeyError: 3 (",
    "env=bare": "env is no task: its file has no _target_; allowed: _target_: module.Class",
    "agent=rloo network@agent.network=bare": "agent.network has no _target_; allowed: _target_: module",
    "env=nodot": "env._target_=Base is not allowed; allowed: module.name",
    "env=nomodule": "env._target_=mine_nowhere.Base: No module named 'mine_nowhere'; is its folder on PY",
    "env=noname": "env._target_=mine_own.Bse: mine_own has no Bse; did you mean 'Base'?",
    f"agent=rloo {BASELINE}.square": f"{BARE} of shape (3, 5); allowed: (2, 8, 1), [prompts, group, 1], as",
    f"agent=rloo {BASELINE}.nothing": f"{BARE} a NoneType; allowed: (2, 8, 1), [prompts, group, 1], as",
    # Where there are as many prompts as episodes of a group, JAX would take one for the other.
    f"agent=rloo {BASELINE}.forgot agent.collector.group=2": f"{BARE} of shape (2, 1); allowed: (2, 2, 1)",
    f"agent=rloo {BASELINE}.signed": "of your own here: agent.estimator.advantage.baseline (mine_own.sign",
    f"agent=rloo {BASELINE}.deep": f"{BARE} of shape (2, 2, 8, 1); allowed: (2, 8, 1), ",
    "agent=rloo agent.estimator.advantage.scale._target_=mine_own.stacked": (
        "agent.estimator: the advantage is of shape (2, "
    ),
    "agent=rloo agent.estimator.advantage.baseline._partial_=false": (
        "agent.estimator.advantage.baseline (vfcompare.baselines.leave_one_out) is not given sample; "
        "allowed: _partial_: true"
    ),
    f"agent=reinforce surrogate@agent.surrogate=policy_gradient {SURROGATE}.mean": (
        "agent.surrogate: the loss is of shape (); allowed: ("
    ),
    f"agent=reinforce surrogate@agent.surrogate=policy_gradient {SURROGATE}.shy": (
        "takes 2 positional arguments but 4 were given; of your own here: agent.surrogate (mine_own.shy)"
    ),
    "agent=rloo estimator@agent.estimator=uncharged": (
        "agent.estimator: it simulates episodes that no budget pays for; allowed: Estimate(..., charge="
    ),
    "agent=rloo estimator@agent.estimator=peeking": (
        "agent.estimator: it reads exact values and does not say so; allowed: privileged=True of the "
    ),
    "agent=ppo agent.estimator._target_=mine_own.unlearned": (
        "agent.estimator: it has a critic and no lesson; allowed: Estimate(..., lesson=Lesson(target, old"
    ),
    "agent=ppo agent.estimator._target_=mine_own.renamed": (
        "agent.estimator: its critics are named q; allowed: one, critic; several are parts of one Critic"
    ),
    "agent=ppo agent.estimator.target._target_=mine_own.once": (
        "agent.estimator: Lesson.target is of shape (2, 8, 1); allowed: (2, 8, 8), a number for each step"
    ),
    "agent=ppo agent.estimator.critic._target_=mine_own.columns": (
        "agent.estimator.critic: the loss is of shape (64, 1); allowed: (64,), a number for each step"
    ),
    "agent=rloo +agent.optimizer.lr=1e-3": (
        "agent.optimizer (vfcompare.agents.optimizers.adam) takes no lr; allowed: learning_rate, eps, "
        "max_grad_norm, norm, anneal; did you mean 'learning_rate'?"
    ),
}


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    """Environments of the user's own, each wrong in one way, and the folder of their code."""
    folder = tmp_path_factory.mktemp("code")
    targets = {
        name: f"mine_own.{name.title()}" for name in re.findall(r"env=(\w+)", " ".join(WRONG))
    }
    targets |= {
        "base": "mine_own.Base",
        "endless": "mine_own.Endless",
        "unpaid": "mine_own.Unpaid",
        "nodot": "Base",
        "noname": "mine_own.Bse",
    }
    targets["nomodule"] = "mine_nowhere.Base"
    written = {f"conf/env/{name}.yaml": f"_target_: {target}\n" for name, target in targets.items()}
    written["conf/env/picky.yaml"] = "_target_: mine_own.Picky\nsize: 3\n"
    written |= {
        f"conf/estimator/{name}.yaml": (
            f"_target_: mine_own.{name}\n_partial_: true\ngamma: ${{agent.gamma}}\n"
        )
        for name in re.findall(r"agent.estimator=(\w+)", " ".join(WRONG))
    }
    written |= {f"conf/{group}/bare.yaml": "size: 3\n" for group in ("env", "network")}
    write_files(folder, {"mine_own.py": MINE, **written})
    return folder


def rehearsed(words, folder):
    """Trace an update of what words choose, beside parts of the user's own."""
    place = f"hydra.searchpath=[file://{folder}/conf]"
    more = [] if "env=" in words else ["env=lock"]
    (cell,) = cells([*words.split(), *more, "agent.collector.prompts=2", place], sweep=False)
    rehearse(cell.config)


@pytest.mark.parametrize("words", WRONG)
def test_own_parts_that_do_not_fit_are_refused_in_one_line(words, code, monkeypatch):
    monkeypatch.syspath_prepend(str(code))
    with pytest.raises(InputError) as refused:
        rehearsed(words, code)
    assert WRONG[words] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_own_parts_that_fit_are_not_refused(code, monkeypatch):
    monkeypatch.syspath_prepend(str(code))
    rehearsed(f"agent=rloo env=base {BASELINE}.half", code)


@pytest.fixture
def alone(code, tmp_path, monkeypatch):
    """`(environment of the user's own) -> cell`, to be trained in a moment."""
    monkeypatch.syspath_prepend(str(code))
    small = ("seeds=2", "env_steps=100", "evaluations=1", "agent.network.hidden=[4]")
    place = (f"root={tmp_path}", f"hydra.searchpath=[file://{code}/conf]")
    return lambda env: cells(["agent=rloo", f"env={env}", *small, *place], sweep=False)[0]


def test_a_task_that_does_not_end_when_it_says_is_refused(alone):
    cell = alone("endless")
    with pytest.raises(
        InputError, match=r"env.time_aware=True does not hold: .* at the horizon, or"
    ):
        execute([cell])
    record = run_folder.RunFolder(cell.study / cell.id).record
    assert record["status"] == "crashed"
    assert "env.time_aware=True" in record["message"]


def test_a_seed_whose_returns_are_no_numbers_has_diverged_although_its_losses_have_not(alone):
    """As reports have it."""
    cell = alone("unpaid")
    assert execute([cell]) == {cell.id: "diverged"}
    metrics = store.read_table(cell.study / cell.id / "metrics.parquet")
    assert np.isfinite(metrics["policy_loss"]).all()
    (found,) = status.read(cell.study)
    assert (found.status, found.done, found.diverged) == ("diverged", 0, 2)
    assert found.note.startswith("seed 0 diverged in update 0, seed 1 diverged in update 0")
    (read,) = load(cell.study).cells
    assert [run.status for run in read.runs] == ["diverged"] * 2


@pytest.mark.parametrize("name", sorted(files("env")))
def test_our_own_environments_do_what_own_ones_are_asked(name):
    (cell,) = cells([f"env={name}"], sweep=False)
    require_task(assemble(cell.config["env"], "env"))


class Ready(CartPoleFunctional, Task):  # type: ignore[misc]
    """A task whose functions Gymnasium has written."""

    horizon = 500


def test_functions_that_gymnasium_has_written_are_a_tasks():
    require_task(Ready())


def test_a_task_that_does_not_say_how_soon_it_may_end_is_refused():
    class Bare(CartPoleFunctional):
        """A task that says all else."""

        horizon, passes, mute, report, layout = 500, None, 0, None, None
        reference, time_aware = Reference(), False

        def held_out(self):
            """Itself."""
            return self

    with pytest.raises(ValueError, match="Bare has no shortest; allowed: "):
        require_task(Bare())


IMPORTING = {
    "mine_parts/__init__.py": "",
    "mine_parts/a.py": "import numpy, json, vfcompare\nfrom . import b\nfrom .deep.c import FACTOR\n",
    "mine_parts/b.py": "def later():\n    import mine_helper as h\n    from mine_parts import a\n",
    "mine_parts/deep/c.py": "from mine_parts.b import *\nfrom .... import beyond\nimport mine_nowhere.d\n",
    "mine_parts/unused.py": "",
    "mine_helper.py": "import site_packaged\nthis is no Python",
    "installed/site-packages/site_packaged.py": "import mine_unseen\n",
    "mine_unseen.py": "",
}
"""Modules that import each other, and one that pip might have installed."""


def test_own_code_is_what_its_modules_import_too(tmp_path, monkeypatch, capsys):
    write_files(tmp_path, IMPORTING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "installed/site-packages"))
    attempts._installed.cache_clear()
    config = {
        "a": [{"_target_": "mine_parts.a.half"}],
        "b": {"_target_": "vfcompare.envs.lock.Lock"},
    }
    begun = attempts.own_code(config)
    used = ["mine_parts", "mine_parts.a", "mine_parts.b", "mine_parts.deep.c"]
    assert [*begun] == ["mine_helper", *used]
    assert attempts.own_code({"a": {"_target_": "site_packaged.half"}}).keys() == {"site_packaged"}
    assert not {"mine_helper", "mine_parts"} & sys.modules.keys()
    record = {"own": begun, "source": attempts.source()}
    folder = run_folder.RunFolder(tmp_path / "cell")
    folder.update(**record)
    write_files(tmp_path, {"mine_parts/deep/c.py": "FACTOR = 0.9\n"})
    now = {**record, "own": attempts.own_code(config)}
    assert attempts._changed(record, now) == ["mine_parts.deep.c"]
    attempts.tell_of_code_since([folder])
    assert "cell: mine_parts.deep.c has changed since" in capsys.readouterr().err


def test_what_an_earlier_version_did_not_record_of_own_code_has_not_changed():
    begun, now = (
        {"source": "a", "own": {"mine": "1"}},
        {"source": "b", "own": {"mine": "1", "more": "2"}},
    )
    assert attempts._changed(begun, now) == ["vfcompare's own code"]
    assert attempts._changed(begun | {"source": "b"}, now) == ["more"]


def test_no_module_is_imported_for_being_named_on_disk(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(tmp_path))
    write_files(tmp_path, {"hostile/__init__.py": "raise SystemExit", "hostile/part.py": ""})
    names = [
        "hostile",
        "hostile.part",
        "hostile.part.no",
        "hostile.no",
        "no",
        "sys",
        "",
        "\0",
        "..",
    ]
    run_folder.RunFolder(tmp_path / "cell").update(own=dict.fromkeys(names, "?"))
    attempts.tell_of_code_since([run_folder.RunFolder(tmp_path / "cell")])
    told = capsys.readouterr().err
    assert told.startswith("cell: hostile, hostile.part have changed since it was trained;")
