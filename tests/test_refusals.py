"""What fits no agent, and no study, is refused by name before anything is written."""

import pytest

from vfcompare.commands.compose import cells
from vfcompare.errors import InputError
from vfcompare.main import main
from vfcompare.schema.tree import finite, is_number, leaves
from vfcompare.training.cell import rehearse

REFUSED = {
    "agent=reinforce collector@agent.collector=informative agent.collector.group=1": "informative "
    "needs a group",
    "agent=reinforce_bins agent.collector.group=1": "bin_mean needs a group",
    "agent=spo agent.collector.group=1 agent.estimator.scale._target_=vfcompare.scales.group_std": (
        "the scale group_std needs a group"
    ),
    "agent=evpo agent.collector.group=1 "
    "agent.estimator.otherwise.advantage.baseline._target_=vfcompare.baselines.leave_one_out": (
        "the baseline leave_one_out needs a group"
    ),
    "agent=null": "agent=null is not allowed; allowed: .*ppo",
    "study=null": "study=null is not allowed; allowed: .*compare",
    "agent.batching=null": "agent.batching=null is not allowed",
    "agent.collector=null": "agent.collector=null is not allowed",
    "env_steps=3000000000": "env_steps=3000000000 is not allowed; allowed: .* to 2,000,000,000",
    "agent=ppo_cleanrl agent.collector.length=null": "agent.collector.length=null is not allowed",
    "study.contrast=[rlo,ppo]": "study.contrast: rlo is no agent; .*did you mean 'rloo'",
    "study.reference=[1,2]": "study.reference=.1, 2. is not allowed; allowed: {env: .random, optimal.",
    "study.reference={acrobot:[-70,-500]}": "study.reference.acrobot=.-70, -500. .*second above the first",
    "study.reference={acrobot:[-500,null]}": "study.reference.acrobot=.-500, None. is not allowed",
    "study.reference={acrobt:[-500,-70]}": "acrobt is no environment; .*did you mean 'acrobot'",
    "hydra.job.chdir=true": "hydra.job.chdir=true is not allowed: .*allowed: hydra.job.chdir=false",
    "+study=compare,sums": "a sweep is of one study",
    "study.name=a,b": "a sweep is of one study",
    "hydra.run.dir=x": "^hydra.run.dir=x is not allowed: .*allowed: root=FOLDER, study.name=NAME$",
    "hydra.sweep.dir=x": "^hydra.sweep.dir=x is not allowed: .*allowed: root=FOLDER, study.name=NAME$",
    "hydra.sweep.subdir=x": "^hydra.sweep.subdir=x is not .*allowed: root=FOLDER, study.name=NAME$",
    "+hydra.sweeper.params.agent.gamma=0.9,0.8": "a study's file; allowed: agent.gamma=0.9,0.8$",
    "agent=ppo +hydra.sweeper.params.agent.gamma=0.9": "allowed: agent.gamma=0.9$",
    "+hydra.sweeper.params.agent.gamma='0.9,0.8'": "allowed: agent.gamma=0.9,0.8$",
    "+hydra.sweeper.params.agent=ppo,rloo": "a study's file; allowed: agent=ppo,rloo$",
    "root=a,b": "a sweep is of one study, in one place",
    "agent=ppo collector@agent.collector=fragments critic@agent.estimator.critic=hl_gauss": (
        "running_range is not allowed with fragments"
    ),
    "agent=asyppo collector@agent.collector=fragments "
    "scaling@agent.estimator.critic.part.scaling=running_range": (
        "running_range is not allowed with fragments"
    ),
    "agent=ppo collector@agent.collector=fragments agent.rows_of=episodes surrogate@agent.surrogate=gspo": (
        "agent.collector=fragments is not allowed: the surrogate gspo needs whole episodes "
        ".*allowed: collector@agent.collector=episodes"
    ),
    "agent=ppo collector@agent.collector=fragments agent.rows_of=episodes surrogate@agent.surrogate=gmpo": (
        "agent.collector=fragments is not allowed: the surrogate gmpo .*allowed: .*=episodes"
    ),
    "agent=ppo collector@agent.collector=fragments agent.rows_of=groups "
    "surrogate@agent.surrogate=preference": (
        "agent.collector=fragments is not allowed: the surrogate preference .*allowed: .*=episodes"
    ),
    "agent=ppo surrogate@agent.surrogate=gspo": "agent.rows_of=steps .*looks at whole .*allowed: episodes",
    "agent=rloo surrogate@agent.surrogate=preference": "agent.rows_of=steps .*compares .*allowed: groups",
    "agent=rloo +lab@agent.lab=standard": "agent.lab.fade=1.0 is not .*agent.gamma=0.99: .*allowed: null",
    "agent=ppo +lab@agent.lab=standard agent.lab.fade=null": "agent.lab.fade=null .*allowed: 1",
    "agent=evpo env=lock +lab@agent.lab=standard": "agent.lab is not .*agent.gamma=0.99: .* no fade is right",
    "agent=evpo env=lock +lab@agent.lab=standard agent.lab.fade=null": "agent.lab is not .*no fade is right",
    "agent=grpo agent.gamma=1 env=lock +lab@agent.lab=standard agent.lab.fade=0.5": (
        "agent.lab.fade=0.5 is not allowed; allowed: 1, or null"
    ),
    "agent=vtrace agent.estimator.advantage.clip_advantage=-3": "clip_advantage=-3 .*above 0",
    "agent=spo agent.estimator.prior_mean=x": "prior_mean=x is not allowed; allowed: a finite number",
    "env=cartpole env.slip=0.1": "env.slip=0.1 does not exist: env has no settings",
    "agent=ppo optimizer@agent.optimizer=critic": "it reads agent.optimizer.*, itself; allowed: adam$",
    "agent=ppo agent.estimator.critic.network.hidden=[256,256]": (
        "agent.estimator.critic.network is agent.network; allowed: with "
        r"\+network@agent.estimator.critic.network=NAME before it"
    ),
    "env=frozen_lake env.success_rate=2.0": "env.success_rate=2.0 is not allowed; .*from 0 to 1",
    "agent.network.activation=rleu": "agent.network.activation=rleu .*did you mean 'relu'",
    "network@agent.network=cnn agent.network.channels=[0]": "agent.network.channels=.0. is not allowed",
    "+recipe=tokens env=addition agent.network.heads=0": "agent.network.heads=0 is not allowed",
    "agent=ppo_hl_gauss agent.estimator.critic.head.low=inf": "head.low=inf .*a finite number",
    "agent=asyppo agent.estimator.critic.part.head.clip=0.2": "part.head.clip=0.2 .*allowed: null",
}

REFUSED |= {
    "optimizer=adam": "optimizer=adam is not .*allowed: optimizer@agent.optimizer=adam",
    "estimator=gae": "estimator=gae is not .*allowed: estimator@agent.estimator=gae",
    "+optimizer=adam": "optimizer is no setting; .*did you mean 'optimizer@agent.optimizer=adam'",
    "study=compare": "study=compare is not .*allowed: .study=compare",
    "+foo=1": "foo is no setting; allowed: agent, env, ",
    "+env_step=1": "env_step is no setting; .*did you mean 'env_steps'",
    "+tag=a,b": "tag is no setting",
    "env_steps=1e4.5": "env_steps",
    "seeds=2.5": "seeds=2.5 is not allowed; allowed: a whole number",
    "agent=vtrace agent.refresh=4": "agent.refresh=4 is not allowed with surrogate=clipped: .*allowed: 1",
    "agent=spo agent.refresh=4": "agent.refresh=4 is not allowed with estimator=tracked: .*allowed: 1",
    "agent=rloo surrogate@agent.surrogate=episode_clipped agent.rows_of=episodes": (
        "agent.aggregate=steps is not allowed: the surrogate episode_clipped .*aggregate=episodes"
    ),
    "agent=dpo aggregate@agent.aggregate=steps": "agent.aggregate=steps .*aggregate=episodes",
    "agent=ppo +network@agent.estimator.critic.network=gru": "agent.rows_of=steps .*allowed: episodes",
    "agent=oracle_td lesion@agent.estimator.lesion=freeze": "lesion=freeze .*exact values are not learned",
    "agent=rloo_idle lesion@agent.estimator.critic.lesion=zero": "lesion=zero .*nobody reads this critic",
    "agent=ppo_shared lesion@agent.estimator.critic.lesion=freeze": "lesion=freeze .*=shared: .*trunk=own",
    "agent=ppo critic@agent.estimator.critic=probe lesion@agent.estimator.critic.lesion=delay": (
        "lesion=delay .*trunk=stopped"
    ),
    "agent=ppo env=cartpole network@agent.network=gru collector@agent.collector=fragments "
    "agent.collector.number=6": (
        r"minibatches=4 does not divide a batch of 6 environments \(agent.collector.number\); .*mean 3"
    ),
    "agent=ppo env=cartpole collector@agent.collector=fragments agent.rows_of=episodes "
    "agent.collector.number=6": "minibatches=4 does not divide a batch of 6 environments",
    "agent=ppo env=cartpole collector@agent.collector=fragments agent.collector.number=6 "
    "agent.collector.length=5": r"does not divide a batch of 30 steps \(agent.collector.length\)",
    "agent=rloo network@agent.network=gru agent.batching.minibatches=5": "of 32 episodes",
    "agent=rloo env=addition +recipe=tokens agent.batching.minibatches=5": "5 does not divide .*episodes",
    "agent=gspo agent.batching.minibatches=5": r"of 32 episodes \(agent.collector.group\)",
    "agent=dpo agent.batching.minibatches=3": r"of 4 groups \(agent.collector.prompts\)",
    "agent=asyppo agent.collector.group=7": "group=7 .*critic=halves.*even numbers",
    "agent=asyppo env=addition +recipe=tokens": "network=Transformer .*allowed: network@agent.network=mlp",
    "agent=rloo_pair env=addition +recipe=tokens": "network=Transformer is not allowed with policy=pair",
    "agent=rloo_pair network@agent.network=gru": "network=Gru is not allowed with policy=pair",
    "agent=dapo env=lock +lab@agent.lab=standard agent.lab.fade=null": "collector=informative: the lab",
    "agent=ppo collector@agent.collector=fragments env=lock +lab@agent.lab=standard": (
        "agent.lab is not allowed with collector=fragments"
    ),
    "agent=ppo +penalty@agent.penalty=k1_reward env=lock +lab@agent.lab=standard": (
        "agent.lab is not allowed with agent.penalty.on_reward=True"
    ),
    "agent=oracle_td +penalty@agent.penalty=k1_reward env=lock": "not allowed with estimator=exact",
    "agent=vine +penalty@agent.penalty=k1_reward env=lock": "not allowed with estimator=simulated",
    "agent=mixed +penalty@agent.penalty=k1_reward env=lock": "not allowed with estimator=mixed",
    "agent=ppo lesion@agent.estimator.critic.lesion=another +penalty@agent.penalty=k1_reward env=lock": (
        "estimator=value_based: its exact values"
    ),
    "agent=sft +penalty@agent.penalty=k1_reward env=lock": "not allowed with estimator=successes",
}
REFUSED |= {
    "agent=ppo agent=rloo": "^agent=ppo and agent=rloo are typed together; allowed: one of them$",
    "seeds=2 env=lock seeds=3": "seeds=2 and seeds=3 are typed together",
    "agent.gamma=0.9 agent.gamma=0.9,1": "agent.gamma=0.9 and agent.gamma=0.9,1 are typed together",
    "first_seed=range(0,0)": "range.0,0. has no value; allowed: one or more",
    "agent.gamma=choice()": "agent.gamma=choice",
    "agent=ppo,rloo first_seed=range(0,15000)": "a sweep of 30,000 cells or more .*allowed: 20,000 at most",
    "first_seed=range(0,1000000000000)": "a sweep of 20,001 cells or more",
    "hydra/launcher=submitit_slurm": "max_num_timeout=0 .*allowed: 1 or more, or hydra/launcher=slurm",
    "hydra/launcher=slurm hydra.launcher.max_num_timeout=0": "max_num_timeout=0 is not allowed",
    "hydra/launcher=slurm hydra.launcher.timeout_min=7": "timeout_min=7 is not .*allowed: 8 or more",
}
REFUSED |= {
    "agent=glob(zzz*)": r"^agent=glob\(zzz\*\) matches nothing; allowed: .*ppo",
    "seeds=glob(*)": r"^seeds=glob\(\*\) is not allowed: only parts .*allowed: a list, range",
    "agent.gamma=glob(*)": r"^agent.gamma=glob\(\*\) is not allowed: only parts",
    "agent.gamma=interval(0,1)": r"^agent.gamma=interval\(0,1\) is not .*choice.*`vfcompare tune` with",
    "agent.gamma=range(0,2,0)": r"^agent.gamma=range\(0,2,0\) is not allowed: it has no end; allowed: a step",
    "agent.gamma=range(0,2.5,0)": "it has no end",
    "agent=1": "^agent=1 is not allowed; allowed: .*ppo",
    "agent=true": "^agent=true is not allowed; allowed: .*ppo",
    "agent=ppo,null": "^agent=null is not allowed; allowed: .*ppo",
    "agent=range(1,1000000000000)": "^agent=1 is not allowed; allowed: .*ppo",
    "env=1": "^env=1 is not allowed; allowed: .*maze",
    "+study=1": r"^\+study=1 is not allowed; allowed: .*compare",
    "network@agent.network=1": "^network@agent.network=1 is not allowed; allowed: .*mlp",
    "network@agent.network=null": "^network@agent.network=null is not allowed; allowed: .*mlp",
    "hydra/launcher=1": "^hydra/launcher=1 is not allowed; allowed: basic, fused, joblib",
    "~agent=1": "^~agent=1 is not allowed; allowed: .*ppo",
    "agent=[ppo]": r"^agent=\[ppo\] is not allowed; allowed: .*ppo",
    "agent=rloo env=[lock]": r"^env=\[lock\] is not allowed; allowed: .*maze",
    "env=": "^env= is not allowed; allowed: .*maze",
    "agent=rloo env={a:1}": "^env.a=1 does not exist: env has no settings$",
    "agent={gama:0.9,entropy_coef:0}": "^agent.gama=0.9 does not exist: .*did you mean 'gamma'",
    "network@agent.network={hidden:[8]}": "is not allowed; allowed: .*mlp",
    "agent=ppo network@agent.netwrk=mlp": (
        "^network@agent.netwrk=mlp is not allowed: there is no agent.netwrk; "
        "allowed: network@agent.network=mlp$"
    ),
    "netwrk@agent.network=mlp": "netwrk is no group; .*did you mean 'network@agent.network=mlp'",
    "netwrk@agent.body=mlp": "netwrk is no group; .*did you mean 'network@agent.body=mlp'",
    "=lock": "^=lock is no setting; allowed: key=value, .*did you mean 'env=lock'",
    "agent.gamma=???": r"^agent.gamma=\?\?\? is not allowed: .*allowed: a value$",
    "agent.gamma=0.9,???": r"^agent.gamma=\?\?\? is not allowed: .*allowed: a value$",
    "agent.network.hidden=[8,4294967297]": r"hidden=\[8, 4294967297\] .*; allowed: at most 4,294,967,296$",
    "agent.network.hidden=[0]": r"hidden=\[0\] is not allowed; allowed: a list of whole numbers, 1 or more$",
    "env=maze_small agent.network.hidden=64": "hidden=64 is not allowed; allowed: a list",
    "network@agent.network=gru agent.network.hidden=[64]": "hidden=.64. is not allowed; allowed: a whole",
    "env=maze network@agent.network=cnn agent.network.hidden=[64]": "allowed: a whole number, 1 or more$",
    "hydra.searchpath=[file:///nope]": "^hydra.searchpath=.* is not allowed: file:///nope is no folder",
    "hydra.searchpath=['file://${oc.env:HOME}']": "is no folder; allowed: 'hydra.searchpath=",
    "hydra.searchpath=3": "^hydra.searchpath=3 is not allowed: no list; allowed: 'hydra.searchpath=.file",
}
ALLOWED = [
    "agent={gamma:0.5} study={name:mine}",
    *(
        f"env=lock +lab@agent.lab=standard agent.gamma=0.9 agent.lab.fade={fade} agent=rloo "
        "agent.estimator.advantage.credit._target_=mine.credit"
        for fade in ("1", "null")
    ),
    "+hydra.sweeper.params.env='lock,maze'",
    "network@agent.network=[mlp] +recipe=[tokens] env=addition",
    "+network@agent.estimator.critic.network=mlp",
    "agent=reinforce_running agent.refresh=4",
    "agent=vtrace agent.refresh=4 surrogate@agent.surrogate=policy_gradient",
    "agent=rloo surrogate@agent.surrogate=gspo agent.rows_of=episodes",
    "agent=ppo +network@agent.estimator.critic.network=gru agent.rows_of=episodes",
    "agent=ppo network@agent.network=gru",
    "agent=oracle_td lesion@agent.estimator.lesion=noise",
    "agent=rloo_idle lesion@agent.estimator.critic.lesion=none",
    "agent=ppo lesion@agent.estimator.critic.lesion=freeze",
    "agent=ppo_shared lesion@agent.estimator.critic.lesion=noise",
    "agent=asyppo agent.collector.group=6",
    "agent=oracle_v +penalty@agent.penalty=k1_reward env=lock",
    "agent=oracle_v0 +penalty@agent.penalty=k1_reward env=lock",
    "agent=vine advantage@agent.estimator.advantage=above_others +penalty@agent.penalty=k1_reward env=lock",
    "agent=rloo +penalty@agent.penalty=k1_reward env=lock +lab@agent.lab=standard agent.gamma=1",
    "agent=evpo env=lock +lab@agent.lab=standard agent.gamma=1",
    "agent=evpo env=lock +lab@agent.lab=standard "
    "agent.estimator.otherwise.advantage.credit._target_=vfcompare.returns.reward_to_go",
]
"""Their nearest relatives, which mean what they say."""


CUT_ANYWHERE = [
    "agent=rloo env=cartpole agent.batching.minibatches=5",
    "agent=ppo env=lock agent.batching.minibatches=5",
    "agent=rloo env=lock policy@agent.policy=table network@agent.network=gru agent.batching.minibatches=5",
    "agent=gspo env=lock agent.batching.minibatches=5 agent.batching.size=8",
]


@pytest.mark.parametrize("words", CUT_ANYWHERE)
def test_minibatches_need_not_divide_the_steps_of_whole_episodes(words):
    (cell,) = cells(words.split(), sweep=False)
    rehearse(cell.config)


@pytest.mark.parametrize("words", ALLOWED)
def test_what_means_what_it_says_is_not_refused(words):
    assert cells(words.split(), sweep=False)


@pytest.mark.parametrize("words", REFUSED)
def test_what_cannot_be_is_refused_by_name(words):
    with pytest.raises(InputError, match=f"(?s){REFUSED[words]}"):
        cells(words.split(), sweep=True)


@pytest.mark.parametrize(
    ("key", "digits", "hint"),
    [
        ("env_steps", 400, "allowed: a whole number from 1 to 2,000,000,000$"),
        ("agent.gamma", 400, "allowed: a number from 0 to 1$"),
        ("agent.batching.epochs", 400, "allowed: at most 4,294,967,296$"),
        ("env_steps", 5000, r"1\.\.\. is too long for a number; allowed: 4,300 digits$"),
    ],
)
def test_a_number_of_many_digits_is_refused(key, digits, hint):
    with pytest.raises(InputError, match=f"(?s)^{key}=1.*{hint}"):
        cells(["agent=ppo", f"{key}={'1' * digits}"], sweep=False)


UNFIT = {
    "agent=vine env=maze_partial network@agent.network=gru": "a policy without a memory",
    "agent=vtrace env=frozen_lake collector@agent.collector=fragments "
    "lesion@agent.estimator.critic.lesion=another": "known by their time in the episode",
    "env=frozen_lake env.id=Foo-v0": "^env.id='Foo-v0' is not allowed; allowed: .*FrozenLake-v1",
    "env=maze env.size=50": "^env.size=50 is not allowed; allowed: an odd number from 5 to 21$",
    "env=lock env.actions=1": "^env.actions=1 is not allowed; allowed: a whole number from 2$",
    "env=lock policy@agent.policy=table agent.policy.columns=10": "columns=10 is not .*allowed: 1 to 9",
    "env=frozen_lake policy@agent.policy=table agent.policy.success=0.1": (
        "success=0.1 is not allowed without agent.policy.columns"
    ),
    "env=maze_small policy@agent.policy=table": "agent.policy=table is not .*one-hot vector",
    "agent=ppo_hl_gauss env=maze_small agent.estimator.critic.head.low=2": (
        "critic.head.low=2.0 is not allowed; allowed: below head.high=1.25"
    ),
    "agent=ppo agent.surrogate.epsilon=null": "agent.surrogate .*: epsilon=null is not .*allowed: a number",
    "agent=vtrace agent.estimator.advantage.clip=null": "advantage .*: clip=null is not allowed",
}


@pytest.mark.parametrize("words", UNFIT)
def test_parts_that_do_not_fit_each_other_are_refused(words):
    (cell,) = cells(words.split(), sweep=False)
    with pytest.raises(InputError, match=UNFIT[words]):
        rehearse(cell.config)


SLIPS = {
    "agent=grpo,ppo env=maze": "allowed: one value, or vfcompare -m ... agent=grpo,ppo",
    "+study=compare": "is a sweep; allowed: vfcompare -m .study=compare",
    "+study=compare agent=ppo": "is a sweep; allowed: vfcompare -m .study=compare",
    "study=compare": "not part of the configuration yet; allowed: .study=compare",
    "agent=grpo maze": "maze is no setting; .* did you mean 'env=maze'",
    "hydra/launcher=fusd": "allowed: basic, fused, .*joblib.*did you mean 'fused'",
}


@pytest.mark.parametrize("words", SLIPS)
def test_what_hydra_has_few_words_for_is_said(words):
    with pytest.raises(InputError, match=SLIPS[words]):
        cells(words.split(), sweep=False)


@pytest.mark.parametrize("option", ["-env=maze", "--foo", "-x"])
def test_an_unknown_option_plans_nothing(option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["agent=grpo", option]) == 2
    assert "is no option; allowed: -m" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("contrast", ["[critic,outcome-only]", "[[ppo,a2c],rloo]", "null"])
def test_contrasts_of_agents_and_of_families_are_allowed(contrast):
    assert cells(["agent=rloo,ppo", f"study.contrast={contrast}"], sweep=True)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("agent.optimizer.learning_rate=-1", ["agent.optimizer.learning_rate=-1"]),
        (
            "agent.optimizer.learning_rate=-1 agent.estimator.critic.optimizer.learning_rate=-2",
            [
                "agent.optimizer.learning_rate=-1",
                "agent.estimator.critic.optimizer.learning_rate=-2",
            ],
        ),
        ("agent.optimizer.learning_rate=-1 agent.gamma=2", ["agent.optimizer.l", "agent.gamma=2"]),
    ],
)
def test_what_follows_from_a_wrong_number_is_not_said_as_well(words, named):
    with pytest.raises(InputError) as told:
        cells(["agent=ppo", *words.split()], sweep=False)
    lines = str(told.value).splitlines()
    assert len(lines) == len(named)
    assert all(any(line.startswith(name) for line in lines) for name in named)


def test_a_list_is_one_value_unless_what_stands_in_it_is_asked_for():
    config = {"a": [{"b": 1}, [2]], "c": {"d": (), "e": None}}
    whole = [("a", "a", [{"b": 1}, [2]]), ("c.d", "d", ()), ("c.e", "e", None)]
    assert list(leaves(config)) == whole
    within = [("a.0.b", "b", 1), ("a.1.0", "0", 2), ("c.e", "e", None)]
    assert list(leaves(config, lists=True)) == within


def test_a_number_is_neither_a_switch_nor_too_long_for_one():
    assert [finite(x) for x in (2, 0.5)] == [2.0, 0.5]
    others = (-(10**400), float("nan"), float("inf"), True, "1", None)
    assert not any(finite(x) is not None for x in others)
    assert [is_number(x) for x in (10**400, float("inf"), False, "1")] == [True, True, False, False]


def test_whole_numbers_may_be_typed_as_powers_of_ten():
    typed, plain = (cells([f"env_steps={x}"], sweep=False)[0] for x in ("1e4", "10000"))
    assert typed == plain._replace(overrides=("env_steps=1e4",))
    assert isinstance(typed.config["env_steps"], int)
    # A number that need not be whole stays what it is.
    assert cells(["agent.gamma=1.0"], sweep=False)[0].config["agent"]["gamma"] == 1.0


@pytest.mark.parametrize(
    "key", ["agent.gamma", "agent.entropy_coef", "agent.estimator.advantage.lambda_"]
)
def test_a_number_is_one_number_with_and_without_a_point(key):
    whole, point = (cells(["agent=ppo", f"{key}={x}"], sweep=False)[0] for x in ("1", "1.0"))
    assert whole.config == point.config
    assert len(cells(["agent=ppo", f"{key}=1,1.0"], sweep=True)) == 1


MINE = """import jax.numpy as jnp


def longer(sample):
    return jnp.broadcast_to(sample.return_, (3,))


def shorter(sample):
    raise ValueError("no baseline of mine")
"""


@pytest.mark.parametrize(("name", "line"), [("longer", 5), ("shorter", 9)])
def test_an_error_of_the_users_own_part_says_where(name, line, tmp_path, monkeypatch):
    (tmp_path / "mine_wrong.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    target = f"agent.estimator.advantage.baseline._target_=mine_wrong.{name}"
    (cell,) = cells(["agent=rloo", "env=lock", target], sweep=False)
    with pytest.raises(InputError, match=rf"mine_wrong.py:{line}, in {name}\)$"):
        rehearse(cell.config)


QUITS = {
    "early": "import sys\nsys.exit(0)\n",
    "late": "import sys\nfrom vfcompare.envs.lock import Lock\n\ndef Quits(**numbers):\n    sys.exit(3)\n",
    "later": "import sys\nfrom vfcompare.envs.lock import Lock\n\n"
    "class Quits(Lock):\n    def reward(self, *args):\n        sys.exit('no')\n",
}


@pytest.mark.parametrize(("when", "told"), [("early", "0"), ("late", "3"), ("later", "no")])
def test_a_part_that_ends_the_program_is_refused(when, told, tmp_path, monkeypatch, capsys):
    module = f"quits_{when}"
    (tmp_path / f"{module}.py").write_text(QUITS[when])
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "quits.yaml").write_text(f"_target_: {module}.Quits\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    place = [f"hydra.searchpath=[file://{tmp_path}]", f"root={tmp_path}/runs"]
    assert main(["-m", "agent=rloo", "env=quits,lock", *place]) == 2
    said = capsys.readouterr().err
    assert f"ends the program (SystemExit: {told}) ({tmp_path}/{module}.py:" in said
    assert not (tmp_path / "runs").exists()


def test_help_has_a_verb_behind_it_as_one_expects(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["help", "status"])
    assert ended.value.code == 0
    assert "usage: vfcompare status" in capsys.readouterr().out
    assert main(["help", "statsu"]) == 2
    assert "did you mean 'status'" in capsys.readouterr().err


def test_a_word_behind_an_option_is_no_setting(capsys):
    assert main(["agent=nothing", "--cfg", "job"]) == 2
    assert capsys.readouterr().err.startswith("vfcompare: agent=nothing does not exist")
