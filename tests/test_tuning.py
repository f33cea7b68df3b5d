"""Tuning: every agent has the same trials, none is lost or hidden, and no report sees a tuning seed."""

import errno
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import GOLDEN
from vfcompare import statistics
from vfcompare.assemble import assemble
from vfcompare.commands import resume
from vfcompare.commands.catalogue import files
from vfcompare.commands.compose import cells, composing
from vfcompare.errors import Damaged, InputError
from vfcompare.main import main
from vfcompare.report import scoring
from vfcompare.report.reading import data
from vfcompare.runs import run_folder, store
from vfcompare.schema.validate import TUNING_SEEDS
from vfcompare.training import sweep
from vfcompare.tuning import ledger, result, search, space
from vfcompare.tuning.command import tune
from vfcompare.tuning.ledger import Rated, Trial
from vfcompare.tuning.search import Options, Search

LEARNING_RATE = "agent.optimizer.learning_rate"
CRITIC_RATE = "agent.estimator.critic.optimizer.learning_rate"
ON_ONE = ("agent=rloo,ppo", "env=lock", "seeds=3", "env_steps=1000", "evaluations=4")
WORDS = ("agent=rloo,ppo", "env=lock,frozen_lake", *ON_ONE[2:])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "scratch-tune"


class Trainer:
    """In place of training: curves that depend on the settings, and accidents on order.

    Attributes:
      trained: ids of cells, as they were trained.
    """

    def __init__(self, accident=None, kill_after=None):
        self.trained, self.accident, self.kill_after = (
            [],
            accident or (lambda cell: None),
            kill_after,
        )

    def __call__(self, asked):
        for cell in asked:
            if self.kill_after is not None and len(self.trained) == self.kill_after:
                raise KeyboardInterrupt
            self.trained.append(cell.id)
            finish(cell, self.accident(cell))
        return {}


def finish(cell, accident=None):
    """The files of a cell that was trained: a learning rate near 0.003 learns best."""
    rate = cell.config["agent"]["optimizer"]["learning_rate"]
    height = np.exp(-abs(np.log(rate / 0.003))) * (0.5 if cell.agent == "rloo" else 1.0)
    folder = run_folder.RunFolder(cell.study / cell.id)
    names = [str(seed) for seed in cell.seeds]
    reference = assemble(cell.config["env"]).held_out().reference._asdict()
    budget = cell.config["env_steps"]
    folder.begin(
        id=cell.id,
        agent=cell.agent,
        env=cell.env,
        settings=cell.settings,
        reference=reference,
        budget={"env_steps": budget},
        seeds={n: {"status": "running"} for n in names},
    )
    if accident not in (None, "diverged"):
        message = "ValueError: by accident" if accident == "crashed" else accident
        folder.update(status="crashed", message=message)
        return
    steps = np.linspace(0, budget + 7, 5).round()
    rows = [(seed, step) for seed in cell.seeds for step in steps]
    returns = np.array([height * step / budget + 1e-3 * (seed % 7) for seed, step in rows])
    table = {
        "seed": np.array([seed for seed, _ in rows]),
        "point": np.tile(np.arange(5), len(names)),
        "update": np.tile(np.arange(5), len(names)),
        "env_steps": np.array([step for _, step in rows]),
        "return_sampled": returns,
        "return_greedy": returns,
    }
    store.write_table(folder.path / "evaluation.parquet", table)
    seeds: dict[str, dict[str, Any]] = {name: {"status": "completed"} for name in names}
    if accident == "diverged":
        seeds[names[0]] = {"status": "diverged", "update": 2}
    total = len(names) * int(steps[-1])
    folder.update(status="completed", seeds=seeds, seconds={"total": 1.0}, env_steps=total)


def rows_of(study: Path) -> list[dict[str, Any]]:
    """The lines of a ledger."""
    return [json.loads(line) for line in (study / ledger.LEDGER).read_text().splitlines()]


@pytest.fixture
def trainer(monkeypatch):
    """`(accident, kill_after) -> Trainer` that is in the place of training from now on."""
    monkeypatch.setattr(search, "rehearse", lambda config: None)

    def use(**options):
        made = Trainer(**options)
        monkeypatch.setattr(sweep, "train", made)
        return made

    return use


def own(tmp_path, text):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    return str(file)


def knobs(name, agent):
    (cell,) = cells([f"agent={agent}", "env=lock"], sweep=False)
    return space.load(name).of(agent, cell.config)


def test_agents_share_the_values_of_what_they_share():
    trials = {agent: space.drawn(knobs("matched", agent), 9, 0) for agent in ("rloo", "a2c", "ppo")}
    for path in trials["rloo"][1]:
        assert len({tuple(t[path] for t in one[1:]) for one in trials.values()}) == 1
    assert [t[CRITIC_RATE] for t in trials["a2c"][1:]] == [
        t[CRITIC_RATE] for t in trials["ppo"][1:]
    ]
    assert all(one[0] == {} for one in trials.values())


def test_every_preset_can_be_tuned_in_every_space_of_ours():
    with composing([]) as composer:
        for agent in files("agent"):
            words = [f"agent={agent}", "env=lock"]
            config = composer.cell(words).config
            for name in files("tune"):
                ours = space.load(name)
                chosen = ours.of(agent, config)
                asked = {knob.stream for knob in chosen}
                has_critic = bool((config["agent"].get("estimator") or {}).get("critic"))
                assert (CRITIC_RATE in asked) == (has_critic and "critic" in ours.blocks)
                for trial in space.drawn(chosen, 2, 0):
                    assert composer.cell([*words, *space.overrides(trial)])


def test_a_pair_of_critics_has_the_draws_of_one():
    pair, one = (knobs("matched", agent) for agent in ("asyppo", "ppo"))
    inner = CRITIC_RATE.replace("critic.", "critic.part.")
    found, wanted = (space.drawn(chosen, 9, 0)[1:] for chosen in (pair, one))
    assert [trial[inner] for trial in found] == [trial[CRITIC_RATE] for trial in wanted]
    assert all(CRITIC_RATE not in trial for trial in found)


def test_a_knob_says_where_it_is_of_no_agent_that_lacks_it(here, trainer, tmp_path, capsys):
    trainer()
    words = ["agent=rloo,sapo", *ON_ONE[1:]]
    assert tune(words, Options(trials=2))
    assert "agent=sapo is tuned without agent.surrogate.epsilon, which" in capsys.readouterr().out
    values = {row["agent"]: row["values"] for row in rows_of(here) if row["trial"]}
    assert values["rloo"].keys() - values["sapo"].keys() == {"agent.surrogate.epsilon"}
    text = "common: {agent.surrogate.epsilon: {uniform: [0.1, 0.2], where_present: maybe}}"
    with pytest.raises(InputError, match="where_present=maybe is not allowed; allowed: true or"):
        tune(words, Options(space=own(tmp_path, text)))


def test_where_a_knob_is_present_is_no_other_search(here, trainer, tmp_path):
    trainer()
    text = "common: {agent.surrogate.epsilon: {uniform: [0.1, 0.2], where_present: true}}"
    words = ["agent=rloo", *ON_ONE[1:]]
    for told in (text.replace(", where_present: true", ""), text):
        assert tune(words, Options(trials=2, space=(own(tmp_path, told))))


def test_more_trials_begin_with_the_same_ones_and_another_seed_has_others():
    chosen = knobs("matched", "ppo")
    assert space.drawn(chosen, 20, 0)[:8] == space.drawn(chosen, 8, 0)
    assert space.drawn(chosen, 8, 1)[1:] != space.drawn(chosen, 8, 0)[1:]


def test_lambda_of_advantage_and_target_move_together():
    for trial in space.drawn(knobs("matched", "ppo"), 9, 0)[1:]:
        assert trial["agent.estimator.advantage.lambda_"] == trial["agent.estimator.target.lambda_"]


@pytest.mark.parametrize(
    ("kind", "options", "known"),
    [
        ("log_uniform", (1e-4, 1e-2), {1e-4: True, 1.2e-4: True, 2e-4: False, 8.9e-3: True}),
        ("uniform", (0.0, 1.0), {0.0: True, 0.04: True, 0.5: False, 0.97: True}),
        ("choice", (0.0, 0.01, 0.1), {0.0: True, 0.01: False, 0.1: True}),
        ("choice", (0.0, 0.1), {0.0: False}),
        ("choice", ("a", "b", "c"), {"a": False}),
    ],
)
def test_a_knob_knows_which_values_are_at_its_ends(kind, options, known):
    knob = space.Knob("agent.a", kind, options)
    assert {value: knob.ends_at(value) for value in known} == known


@pytest.mark.statistical
def test_draws_have_the_distribution_that_they_name():
    # 4,000 draws of a fixed seed; 0.03 is about the 99.9 % point of Kolmogorov's statistic, 1.95 / sqrt(4000)
    knob = space.Knob("agent.a", "log_uniform", (1e-4, 1e-2))
    shares = np.sort((np.log10(knob.draws(0, 4000)) + 4) / 2)
    assert np.abs(shares - np.linspace(0, 1, 4000)).max() < 0.031
    words = Counter(space.Knob("agent.b", "choice", ("x", "y", "z")).draws(0, 4000))
    assert max(abs(number / 4000 - 1 / 3) for number in words.values()) < 0.025


def test_a_grid_has_every_combination_of_levels_and_the_preset():
    trials = space.grid(knobs("common", "rloo"), 3)
    assert trials[0] == {}
    assert len({tuple(t.values()) for t in trials[1:]}) == len(trials) - 1 == 9
    assert sorted({t[LEARNING_RATE] for t in trials[1:]}) == [1e-4, 1e-3, 1e-2]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("comon: {agent.gamma: {uniform: [0, 1]}}", "did you mean 'common'"),
        ("common: {agent.gama: {uniform: [0, 1]}}", "did you mean 'agent.gamma'"),
        ("common: {agent.gamma: {unifrom: [0, 1]}}", "did you mean 'uniform'"),
        ("common: {agent.gamma: {uniform: [1, 0]}}", "the lower one first"),
        ("common: {agent.gamma: {log_uniform: [0, 1]}}", "two numbers above 0"),
        ("common: {agent.gamma: {uniform: [0.5, 1.5]}}", "agent.gamma=1.5 is not allowed"),
        ("common: {agent.gamma: {choice: [0.9]}}", "two or more different"),
        (f"common: {{agent.gamma: {{uniform: [0, {10**400}]}}}}", "allowed: two numbers, the"),
        ("common: {agent.gamma: 0.9}", "is not a distribution"),
        ("common: {env.slip: {uniform: [0, 1]}}", "must not change the problem"),
        ("common: {}", "common is empty"),
        ("critic: {agent.gamma: {uniform: [0, 1]}}", "has nothing for agent=rloo"),
        ("common: {agent.gamma: [", "cannot be read"),
        (
            "common: {agent.gamma: {uniform: [0, 1]}}\nrloo: {agent.gamma: {uniform: [0, 1]}}",
            "agent.gamma twice",
        ),
    ],
)
def test_a_bad_space_is_refused_and_nothing_written(here, tmp_path, text, hint):
    with pytest.raises(InputError, match="(?s)" + hint.replace("[", r"\[")):
        tune(["agent=rloo", "env=lock"], Options(space=own(tmp_path, text)))
    assert not here.parent.exists()


@pytest.mark.parametrize(
    ("words", "options", "hint"),
    [
        (["agent=rloo,pppo", "env=lock"], {}, "did you mean 'ppo'"),
        (["agent=rloo", "env=lock", "agent.gamma=0.9,1"], {}, "agents and environments alone"),
        (["agent=rloo", "env=lock", "env_steps=100,200"], {}, "agents and environments alone"),
        (["agent=rloo", "env=lock", "first_seed=5"], {}, "1000000 or more"),
        (["agent=rloo", "env=lock", "seeds=1,2"], {}, "one whole number"),
        (
            ["agent=rloo", "env=lock", "seeds=2", "seeds=3"],
            {},
            "seeds=2 and seeds=3 are typed together",
        ),
        (["agent=rloo", "env=lock", "hydra/launcher=slurm"], {}, "submit runs/NAME-tune"),
        (["agent=rloo", "env=lock", "hydra.launcher.n_jobs=2"], {}, "n_jobs=2 does nothing here"),
        (["agent=rloo", "env=lock"], {"sampler": "rondom"}, "did you mean 'random'"),
        (["agent=rloo", "env=lock"], {"metric": "ouc"}, "did you mean 'auc'"),
        (["agent=rloo", "env=lock"], {"space": "mached"}, "did you mean 'matched'"),
        (["agent=rloo", "env=lock"], {"trials": 1}, "2 or more"),
        (["agent=rloo,ppo", "env=lock"], {"sampler": "grid"}, "different numbers of trials"),
        (
            ["agent=rloo", "env=lock"],
            {"sampler": "grid", "space": "common", "trials": 9},
            "the grid and the preset are 10",
        ),
    ],
)
def test_an_unfair_or_mistyped_search_is_refused_and_nothing_written(here, words, options, hint):
    with pytest.raises(InputError, match=hint):
        tune(words, Options(**options))
    assert not here.parent.exists()


CREDIT = "agent.estimator.advantage.credit._target_"
RETURNS = "vfcompare.returns."


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        (
            "reward_togo",
            "credit._target_=vfcompare.returns.reward_togo: .*did you mean 'reward_to_go'",
        ),
        ("over_episodes", "over_episodes does not fit there: .*keyword argument 'gamma'"),
    ],
)
def test_a_choice_that_cannot_be_called_is_refused_and_nothing_written(here, tmp_path, name, hint):
    text = f"common: {{{CREDIT}: {{choice: [{RETURNS}outcome, {RETURNS}{name}]}}}}"
    with pytest.raises(InputError, match=hint):
        tune(["agent=rloo", "env=lock"], Options(space=own(tmp_path, text), trials=2))
    assert not here.parent.exists()


def test_where_a_space_differs_from_the_one_a_search_was_begun_with_is_named(
    here, trainer, tmp_path
):
    trainer()
    text = f"rloo: {{{CREDIT}: {{choice: [{RETURNS}outcome, {RETURNS}reward_to_go]}}}}"
    text += f"\ncommon: {{{LEARNING_RATE}: {{log_uniform: [1.0e-4, 1.0e-2]}}}}"
    words = ["agent=rloo", *ON_ONE[1:]]
    assert tune(words, Options(trials=2, space=own(tmp_path, text)))
    for old, new, path in (
        ("reward_to_go", "remaining", f"space.rloo.{CREDIT}.choice.1={RETURNS}"),
        ("1.0e-2", "2.0e-2", f"space.common.{LEARNING_RATE}.log_uniform.1="),
    ):
        other = own(tmp_path, text.replace(old, new))
        with pytest.raises(InputError) as refused:
            tune(words, Options(trials=2, space=other))
        assert str(refused.value).count(path) == 2
    other = own(tmp_path, text + "\nppo: {agent.gamma: {uniform: [0.9, 1]}}")
    with pytest.raises(
        InputError, match=r"space.ppo.agent.gamma.uniform.0=nothing, this is .*=0.9;"
    ):
        tune(words, Options(trials=2, space=other))


def test_tpe_without_optuna_says_how_to_get_it(here, monkeypatch):
    monkeypatch.setattr("vfcompare.tuning.tpe.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install '\.\[tune\]' in the clone"):
        tune(["agent=rloo", "env=lock"], Options(sampler="tpe"))
    assert not here.parent.exists()


def test_a_study_may_hold_its_own_space(here):
    told = "+study.tune={common:{agent.gamma:{uniform:[0.9,1.0]}}}"
    made = Search(["agent=rloo", "env=lock", told], Options(trials=3))
    assert [list(one) for one in made.drawn(made.players[0])] == [
        [],
        ["agent.gamma"],
        ["agent.gamma"],
    ]


def test_every_agent_has_every_trial_once_with_the_same_steps_and_seeds(here, trainer):
    trainer()
    assert tune(WORDS, Options(trials=5))
    rows = rows_of(here)
    names = [(row["agent"], row["env"], row["trial"]) for row in rows]
    assert len(set(names)) == len(names) == 20
    assert set(Counter(name[:2] for name in names).values()) == {5}
    seeds = [TUNING_SEEDS, TUNING_SEEDS + 1, TUNING_SEEDS + 2]
    assert all(row["seeds"] == seeds and row["budget"] == 1000 for row in rows)
    assert {row["status"] for row in rows} == {"completed"}
    assert all(row["score"] == pytest.approx(np.mean([*row["scores"].values()])) for row in rows)
    assert main(["status", str(here)]) == 0


def test_a_setting_that_fails_on_two_seeds_of_five_is_not_the_best():
    def score(*scores: float) -> float | None:
        nobody: Any = None
        return Rated(nobody, "completed", dict(enumerate(scores)), None, None, "").score

    assert score(0.8, 0.8, 0.8, 0.8, 0.8) == pytest.approx(0.8)
    assert score(1.0, 1.0, 1.0, 0.0, 0.0) == pytest.approx(0.6)


def test_the_best_is_the_best_and_its_command_reports_on_fresh_seeds(here, trainer, capsys):
    trainer()
    assert tune(WORDS, Options(trials=6))
    printed = capsys.readouterr().out
    found = json.loads((here / "tuned.json").read_text())
    rows = rows_of(here)
    for one in found["best"]:
        mine = [r for r in rows if (r["agent"], r["env"]) == (one["agent"], one["env"])]
        assert one["score"] == max(row["score"] for row in mine)
        assert one["preset_score"] == mine[0]["score"]
        assert one["command"] in printed
        program, sweep, *words = shlex.split(one["command"])
        assert (program, sweep) == ("vfcompare", "-m")
        (cell,) = cells(words, sweep=True)
        assert set(cell.seeds).isdisjoint(found["tuning_seeds"])
        assert cell.study.name == "scratch-tuned"
        assert cell.config["study"]["tuned"] == "scratch-tune"
        assert {k: float(cell.settings[k]) for k in one["values"]} == one["values"]
    assert len(found["shared"]) == 2
    for one in found["shared"]:
        swept = cells(shlex.split(one["command"])[2:], sweep=True)
        assert {cell.study.name for cell in swept} == {"scratch-tuned-once"}


@pytest.mark.parametrize(
    ("rates", "ends"), [("[1.0e-5, 2.0e-3]", True), ("[3.0e-4, 3.0e-2]", False)]
)
def test_a_best_value_at_an_end_of_its_range_is_named(rates, ends, here, trainer, tmp_path, capsys):
    trainer()
    space = own(tmp_path, f"common: {{{LEARNING_RATE}: {{log_uniform: {rates}}}}}")
    assert tune(ON_ONE, Options(space=space, sampler="grid", levels=3))
    found = json.loads((here / "tuned.json").read_text())
    assert [one["at_the_end"] for one in found["best"]] == [[LEARNING_RATE] * ends] * 2
    line = f"rloo on lock has {LEARNING_RATE}=0.002, at an end of what was tried"
    assert (line in capsys.readouterr().out) == ends


def test_agents_of_a_users_own_are_tuned(here, own, trainer, monkeypatch):
    folder = own.removeprefix("hydra.searchpath=[file://").removesuffix("/conf]")
    monkeypatch.syspath_prepend(folder)
    trainer()
    assert tune(("agent=half,rloo", *ON_ONE[1:], own), Options(trials=2))
    found = json.loads((here / "tuned.json").read_text())
    assert {one["agent"] for one in found["best"]} == {"half", "rloo"}
    (half,) = (one["command"] for one in found["best"] if one["agent"] == "half")
    (cell,) = cells(shlex.split(half)[2:], sweep=True)
    assert cell.agent == "half"


def test_blocks_and_spaces_of_a_users_own_are_found(here, own, tmp_path, monkeypatch):
    folder = Path(own.removeprefix("hydra.searchpath=[file://").removesuffix("/conf]"))
    monkeypatch.syspath_prepend(folder)
    (folder / "conf/tune").mkdir()
    (folder / "conf/tune/ours.yaml").write_text("half: {agent.gamma: {uniform: [0.9, 1]}}")
    inline = "+study.tune={half:{agent.gamma:{uniform:[0.9,1]}}}"
    for words, options in (([], Options(space="ours")), ([inline], Options())):
        made = Search(["agent=half", "env=lock", own, *words], options)
        assert [knob.path for knob in made.players[0].knobs] == ["agent.gamma"]
    with pytest.raises(InputError, match=r"hlaf is not a block; .*did you mean 'half'"):
        Search(["agent=half", own, "+study.tune={hlaf:{agent.gamma:{uniform:[0,1]}}}"], Options())


def test_scores_are_those_of_a_report(here, trainer):
    trainer()
    for metric in ledger.METRICS:
        study = here.parent / f"{metric}-tune"
        assert tune([*ON_ONE, f"study.name={metric}"], Options(trials=3, metric=metric))
        read = data.load(study)
        for row in rows_of(study):
            (task,) = (t for t in scoring.score(read) if t.name == row["env"])
            (arm,) = (arm for arm, cell in task.cells.items() if cell.info["id"] == row["run"])
            reported = {str(one.seed): getattr(one, metric) for one in task.scores[arm]}
            assert row["scores"] == pytest.approx(reported, abs=1e-12)


def test_a_trial_that_failed_counts_with_the_worst_score(here, trainer, capsys):
    def accident(cell):
        rate = cell.config["agent"]["optimizer"]["learning_rate"]
        return ("crashed" if rate > 0.008 else "diverged") if rate > 0.004 else None

    trainer(accident=accident)
    assert not tune(["agent=rloo,ppo", "env=lock", "seeds=3"], Options(trials=4))
    rows = rows_of(here)
    assert Counter(row["status"] for row in rows) == {"completed": 4, "crashed": 2, "diverged": 2}
    worst = min(score for row in rows for score in row["scores"].values())
    assert worst <= 0.0
    for row in rows:
        failed = [s for s in row["scores"].values() if s == worst]
        assert len(failed) == {"crashed": 3, "diverged": 1, "completed": 0}[row["status"]]
    assert "failed" in capsys.readouterr().out


DISK = "OSError: [Errno 28] No space left on device"
MEMORY = "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes"


def once(message):
    """An accident of the machine that happens to the first cell, and not again."""
    left = [message]
    return lambda cell: left.pop() if left else None


@pytest.mark.parametrize("message", [DISK, MEMORY])
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_trial_that_the_machine_ended_is_open_and_tried_again(
    here, trainer, capsys, message, sampler
):
    if sampler == "tpe":
        pytest.importorskip("optuna")
    options = Options(sampler=sampler, trials=4, round=2)
    trainer()
    assert tune([*ON_ONE, "study.name=quiet"], options)
    first = trainer(accident=once(message))
    assert not tune(ON_ONE, options)
    assert "by the machine" in capsys.readouterr().err
    (failed,) = [row for row in rows_of(here) if row["run"] == first.trained[0]]
    assert failed["status"] in ("crashed", "out of memory")
    assert failed["scores"] == {}
    assert failed["score"] is None
    assert not (here / "tuned.json").exists()
    assert failed["run"] in {cell.id for cell in resume.unfinished(here)}
    second = trainer()
    assert tune(ON_ONE, options)
    assert failed["run"] in second.trained
    kept = ("agent", "trial", "values", "scores")
    quiet = rows_of(here.with_name("quiet-tune"))
    assert [[row[k] for k in kept] for row in rows_of(here)] == [
        [row[k] for k in kept] for row in quiet
    ]


def test_a_setting_that_never_fits_in_memory_does_not_keep_a_search_from_ending(here, trainer):
    def accident(cell):
        return MEMORY if cell.config["agent"]["optimizer"]["learning_rate"] > 0.004 else None

    for tries in range(1, ledger.TRIES + 1):
        trainer(accident=accident)
        assert not tune(ON_ONE, Options(trials=4))
        assert (here / "tuned.json").exists() == (tries == ledger.TRIES)
    rows = rows_of(here)
    lost = [row for row in rows if row["status"] == "out of memory"]
    worst = min(score for row in rows for score in row["scores"].values())
    assert lost
    assert all(set(row["scores"].values()) == {worst} for row in lost)


def test_interruptions_do_not_count_as_failures_of_the_machine(here, trainer):
    trainer(accident=lambda cell: DISK, kill_after=1)
    with pytest.raises(KeyboardInterrupt):
        tune(ON_ONE, Options(trials=2))
    (row,) = [row for row in rows_of(here) if row["status"] == "crashed"]
    # Looked at again and again, and begun again, it is still one failure.
    for _ in range(3):
        trainer(kill_after=0)
        with pytest.raises(KeyboardInterrupt):
            tune(ON_ONE, Options(trials=2))
    (cell,) = [cell for cell in resume.unfinished(here) if cell.id == row["run"]]
    folder = run_folder.RunFolder(here / cell.id)
    folder.begin(**{k: v for k, v in folder.record.items() if k not in ("schema", "attempt")})
    folder.update(status="interrupted")
    assert store.read_json(here / ledger.MACHINE)["attempts"] == {cell.id: [1]}
    trainer(accident=once("ValueError: by accident"))
    assert not tune(ON_ONE, Options(trials=2))
    assert {row["status"] for row in rows_of(here)} == {"completed", "crashed"}
    assert (here / "tuned.json").exists()


def test_an_interrupted_search_goes_on_where_it_was(here, trainer):
    first = trainer(kill_after=7)
    with pytest.raises(KeyboardInterrupt):
        tune(ON_ONE, Options(trials=5))
    assert Counter(row["status"] for row in rows_of(here)) == {"completed": 7, "planned": 3}
    rows = rows_of(here)
    left = {row["run"] for row in rows if row["status"] == "planned"}
    assert {cell.id for cell in resume.unfinished(here)} == left
    second = trainer()
    assert tune(ON_ONE, Options(trials=5))
    assert len(first.trained) + len(second.trained) == 10
    assert not set(first.trained) & set(second.trained)
    third = trainer()
    assert tune(ON_ONE, Options(trials=5))
    assert third.trained == []


def test_a_search_may_grow_and_may_not_be_changed_or_shortened(here, trainer):
    trainer()
    assert tune(ON_ONE, Options(trials=4))
    for options, hint in (
        (Options(trials=3), "none is forgotten"),
        (Options(metric="final"), "metric="),
    ):
        with pytest.raises(InputError, match=hint):
            tune(ON_ONE, options)
    with pytest.raises(InputError, match="agents="):
        tune(["agent=rloo", *ON_ONE[1:]], Options(trials=4))
    more = trainer()
    assert tune(ON_ONE, Options(trials=5))
    assert len(more.trained) == 2


def test_a_search_goes_on_whatever_is_said_of_places_and_saving(here, trainer):
    trainer()
    assert tune([*ON_ONE, "save_seconds=20"], Options(trials=3))
    # As an earlier version wrote it.
    begun = store.read_json(here / "tune.json")
    store.write_json(
        here / "tune.json", begun | {"settings": ["save_seconds=20", *begun["settings"]]}
    )
    more = trainer()
    assert tune([*ON_ONE, "save_seconds=10", "resume=anyway"], Options(trials=4))
    assert len(more.trained) == 2
    assert "anyway" not in "".join(file.read_text() for file in here.glob("*.json"))
    with pytest.raises(InputError, match="settings="):
        tune([*ON_ONE, "agent.gamma=0.9"], Options(trials=4))


def test_what_was_decided_and_cannot_be_read_is_not_taken_for_damaged(here, trainer, monkeypatch):
    trainer()
    assert tune(ON_ONE, Options(trials=3))
    whole = store.read_json(here / "tune.json")
    for name in ("tune.json", "ledger.jsonl"):
        (here / name).write_text("{")
    with pytest.raises(Damaged, match="once it is removed the same command goes on"):
        tune(ON_ONE, Options(trials=3))
    for name in ("tune.json", "ledger.jsonl"):
        (here / name).unlink()
    more = trainer()
    assert tune(ON_ONE, Options(trials=3))
    assert more.trained == []
    assert store.read_json(here / "tune.json") == whole
    assert len(rows_of(here)) == 6

    def forbids(path, *args):
        if path.name == "tune.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read_json(path, *args)

    read_json = store.read_json
    monkeypatch.setattr(store, "read_json", forbids)
    with pytest.raises(
        InputError, match=r"tune\.json cannot be read .Permission denied"
    ) as refused:
        tune(ON_ONE, Options(trials=3))
    assert not isinstance(refused.value, Damaged)


def test_a_trial_that_is_the_preset_in_other_words_is_trained_once(here, trainer, tmp_path):
    preset = cells(["agent=rloo", "env=lock"], sweep=False)[0].config["agent"]["gamma"]
    file = own(tmp_path, f"common: {{agent.gamma: {{choice: [0.5, {preset}]}}}}")
    made = trainer()
    assert tune(["agent=rloo", *ON_ONE[1:]], Options(sampler="grid", space=file))
    rows = rows_of(here)
    assert [row["trial"] for row in rows] == [0, 1, 2]
    assert len(set(made.trained)) == len(made.trained) == 2
    assert rows[0]["run"] == rows[2]["run"] == made.trained[0]
    assert rows[0]["scores"] == rows[2]["scores"]
    again = trainer()
    assert tune(["agent=rloo", *ON_ONE[1:]], Options(sampler="grid", space=file))
    assert again.trained == []


def test_two_processes_do_not_tune_one_study(here, trainer):
    trainer()
    with (
        run_folder.RunFolder(here / "search").hold(),
        pytest.raises(InputError, match="is tuning it"),
    ):
        tune(ON_ONE, Options(trials=3))


@pytest.mark.parametrize("words", [["first_seed=1000000"], ["first_seed=999999", "seeds=2"]])
def test_tuning_seeds_are_not_for_other_runs(here, words, capsys):
    assert main(["agent=rloo", "env=lock", *words]) == 2
    assert "must not judge them" in capsys.readouterr().err
    assert not here.parent.exists()


def test_a_report_of_tuning_seeds_is_refused(here, trainer, capsys):
    trainer()
    assert tune(ON_ONE, Options(trials=2))
    assert main(["report", str(here)]) == 2
    assert "a report on them would be optimistic" in capsys.readouterr().err
    assert not (here / "report").exists()


def test_sensitivity_agrees_with_adkins_where_the_scale_changes_nothing(monkeypatch):
    golden = GOLDEN["adkins_sensitivity"]
    scores = np.array(golden["inputs"]["normalised_perf_alg_env_setting"])
    monkeypatch.setattr(statistics, "percentile_scaled", np.asarray)
    found = result.sensitivities({"a": scores[0], "b": scores[1]}, None)
    performance = [one["performance"] for one in found.values()]
    np.testing.assert_allclose(performance, golden["outputs"]["per_env_tuned"], atol=golden["tol"])
    phi = [one["sensitivity"] for one in found.values()]
    np.testing.assert_allclose(phi, golden["outputs"]["sensitivity"], atol=golden["tol"])


def test_percentiles_are_of_each_environment_over_all_agents_and_settings():
    scores = np.arange(2 * 2 * 21, dtype=float).reshape(2, 2, 21)
    scaled = statistics.percentile_scaled(scores * np.array([1.0, 100.0])[None, :, None] + 3)
    np.testing.assert_allclose(
        np.percentile(scaled, [5, 95], axis=(0, 2)).T, [[0, 1], [0, 1]], atol=1e-12
    )
    with pytest.raises(ValueError, match="score the same"):
        statistics.percentile_scaled(np.ones((2, 2, 5)))


def test_a_grid_tells_how_many_knobs_must_be_tuned():
    """On the first environment the first knob must be low, on the second high; the other never matters."""
    rows = [[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]]
    other = [[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]]
    found = result.sensitivities(
        {"one": np.array(rows), "none": np.array(other)}, dict.fromkeys(("one", "none"), (2, 2))
    )
    assert found["none"]["dimensionality"] == found["none"]["sensitivity"] == 0.0
    assert found["one"]["sensitivity"] == pytest.approx(0.5)
    # from 0.5 to 1.0 with one knob: 95 % is reached at nine tenths of the way
    assert found["one"]["dimensionality"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("words", "options", "told"),
    [
        (ON_ONE, {"trials": 3}, "not from one environment"),
        (WORDS, {"trials": 3}, None),
        (WORDS, {"sampler": "grid", "space": "common", "levels": 2}, None),
    ],
)
def test_sensitivity_is_told_where_it_can_be_computed(here, trainer, words, options, told):
    trainer()
    assert tune([*words], Options(**options))
    found = json.loads((here / "tuned.json").read_text())["sensitivity"]
    if told:
        assert told in found
        return
    assert set(found) == {"rloo", "ppo"}
    has = [one["dimensionality"] is not None for one in found.values()]
    assert all(has) if options.get("sampler") == "grid" else not any(has)


def test_the_floor_is_the_score_of_the_random_policy():
    assert ledger.floor(statistics.ScoreScale(random=-5.0, optimal=None)) == -5.0
    assert ledger.floor(statistics.ScoreScale(random=-5.0, optimal=4.0)) == 0.0
    assert ledger.floor(statistics.ScoreScale(random=None, optimal=4.0)) == np.inf


class TestTpe:
    """Optuna, where it is installed."""

    OPTIONS = Options(sampler="tpe", trials=8, round=3)

    @pytest.fixture(autouse=True)
    def needs(self):
        pytest.importorskip("optuna")

    @staticmethod
    def values(study):
        return [(row["agent"], row["env"], row["values"]) for row in rows_of(study)]

    def test_rounds_are_equal_and_its_first_is_the_random_one(self, here, trainer):
        trainer()
        assert tune(ON_ONE, self.OPTIONS)
        rows = rows_of(here)
        assert set(Counter((r["agent"], r["env"]) for r in rows).values()) == {8}
        chosen = knobs("matched", "ppo")
        mine = [r["values"] for r in rows if (r["agent"], r["env"]) == ("ppo", "lock")]
        assert mine[:3] == space.drawn(chosen, 3, 0)
        for knob in chosen:
            assert all(knob.holds(one[knob.path]) for one in mine[1:])

    @pytest.mark.parametrize("told", [1, 3])
    def test_after_the_first_round_every_proposal_is_of_the_estimator(
        self, tmp_path, monkeypatch, told
    ):
        import optuna

        from vfcompare.tuning.tpe import Tpe

        modelled = []

        class Spy(optuna.samplers.TPESampler):
            def _sample(self, study, trial, space):
                modelled.append(trial.number)
                return super()._sample(study, trial, space)

        monkeypatch.setattr(optuna.samplers, "TPESampler", Spy)
        chosen = knobs("common", "rloo")
        made = Tpe(tmp_path, "rloo on lock", chosen, 0)
        rated = []
        for number, values in enumerate(space.drawn(chosen, told + 1, 0)[1:]):
            words = ["agent=rloo", "env=lock", "seeds=1", *space.overrides(values)]
            (cell,) = cells(words, sweep=False)
            trial = Trial(number, values, cell)
            rated.append(Rated(trial, "completed", {0: number / 10}, 1, 1.0, ""))
        made.tell(rated)
        assert not modelled
        made.ask(range(told, told + 4))
        # Of all knobs at once, or of one after another, as Optuna's version has it.
        assert set(modelled) == set(range(told, told + 4))

    @pytest.mark.parametrize("after", [2, 9])
    def test_a_killed_search_ends_as_if_it_had_not_been(self, here, trainer, after):
        trainer()
        assert tune([*ON_ONE, "study.name=whole"], self.OPTIONS)
        first = trainer(kill_after=after)
        with pytest.raises(KeyboardInterrupt):
            tune([*ON_ONE, "study.name=cut"], self.OPTIONS)
        second = trainer()
        assert tune([*ON_ONE, "study.name=cut"], self.OPTIONS)
        cut, whole = here.with_name("cut-tune"), here.with_name("whole-tune")
        assert self.values(cut) == self.values(whole)
        assert len(set(first.trained + second.trained)) == len(first.trained + second.trained) == 16

    def test_what_was_asked_for_by_half_is_asked_for_again(self, tmp_path):
        from vfcompare.tuning.tpe import Tpe

        chosen = knobs("common", "rloo")

        def rated(number, values, score):
            (cell,) = cells(
                ["agent=rloo", "env=lock", "seeds=1", *space.overrides(values)], sweep=False
            )
            return Rated(Trial(number, values, cell), "completed", {0: score}, 1, 1.0, "")

        def begin(name):
            (tmp_path / name).mkdir(exist_ok=True)
            return Tpe(tmp_path / name, "rloo on lock", chosen, 0)

        drawn = space.drawn(chosen, 4, 0)
        told = [rated(n, values, n / 10) for n, values in enumerate(drawn)]
        whole, cut = begin("whole"), begin("cut")
        for one in (whole, cut):
            one.tell(told)
        wanted = whole.ask(range(4, 7))
        assert cut.ask(range(4, 5)) == wanted[:1]
        # A kill between the birth of a trial and its number, and in the middle of a line.
        cut._study.ask()
        with open(tmp_path / "cut" / "journal.log", "ab") as file:
            file.write(b'{"op_code":8,"worker')
        again = begin("cut")
        assert again.ask(range(4, 7)) == wanted
        assert begin("cut").ask(range(4, 7)) == wanted
        again.tell(told)
        assert len(again._study.trials) == 8


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_search_that_was_killed_hard_continues_with_the_same_command(tmp_path, sampler):
    if sampler == "tpe":
        pytest.importorskip("optuna")
    words = [
        *(
            "agent=rloo,ppo",
            "env=lock",
            "env.length=3",
            "seeds=2",
            "env_steps=3000",
            "evaluations=3",
        ),
        *("agent.network.hidden=[8]", "agent.evaluation_episodes=4"),
        *("agent.collector.prompts=2", "agent.collector.group=4"),
    ]
    command = [sys.executable, "-m", "vfcompare", "tune", *words, "trials=4", "--round=2"]
    command.append(f"--sampler={sampler}")

    def end(cwd):
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr
        return rows_of(cwd / "runs" / "scratch-tune")

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    process = subprocess.Popen(
        command, cwd=cut, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 400
    while process.poll() is None and time.monotonic() < deadline:
        runs = cut.glob("runs/scratch-tune/*/run.json")
        if any(store.read_json(file)["status"] == "completed" for file in runs):
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before"
    rows = end(cut)
    kept = ("agent", "env", "trial", "values", "seeds", "status", "scores", "env_steps")
    assert [[r[k] for k in kept] for r in rows] == [[r[k] for k in kept] for r in end(whole)]
    assert len(rows) == 8
    attempts = [
        store.read_json(cut / "runs" / "scratch-tune" / row["run"] / "run.json")["attempt"]
        for row in rows
    ]
    assert max(attempts) <= 2
    assert min(attempts) == 1


def test_scores_are_scaled_by_the_task_that_is_evaluated():
    words = ["agent=rloo", "env=addition", "+recipe=tokens", "env.digits=1", "env.base=4"]
    told = Search([*words, "env.noise=0.5"], Options(trials=2)).scales["addition"]
    assert told == Search(words, Options(trials=2)).scales["addition"]
    assert told.known
