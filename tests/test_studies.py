"""Studies: each composes, and what one decides before its first run is held to."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from tests.report_study import ENVS, edit, write_study
from vfcompare.commands.catalogue import files
from vfcompare.commands.compose import cells
from vfcompare.commands.listing import show
from vfcompare.errors import InputError
from vfcompare.report.analysis import analyse
from vfcompare.report.figures.contrasts import standing
from vfcompare.report.figures.looks import looks
from vfcompare.report.pages.document import SECTIONS, compose
from vfcompare.report.prose.method import method
from vfcompare.report.prose.verdicts import verdicts
from vfcompare.report.reading.data import load
from vfcompare.runs import plan
from vfcompare.schema.validate import FIGURES, check
from vfcompare.training.cell import rehearse


@pytest.mark.parametrize("name", sorted(files("study")))
def test_a_study_asks_a_question_and_traces_an_update(name):
    planned = cells([f"+study={name}"], sweep=True)
    assert str(planned[0].config["study"]["question"]).endswith((".", "?", ")"))
    assert planned[0].config["study"]["name"] == name
    assert len({cell.id for cell in planned}) == len(planned)
    rehearse(planned[-1].config)


def test_the_page_of_studies_has_every_one_with_its_question_and_time():
    page = (Path(__file__).parents[1] / "docs" / "studies.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (\d+) \|$", page, re.MULTILINE)
    wanted = []
    for name, file in files("study").items():
        study = yaml.safe_load(file.read_text())["study"]
        wanted.append((name, study["question"], str(study["minutes"])))
    assert sorted(rows) == sorted(wanted)


def test_what_was_decided_stays_decided(tmp_path):
    study = {"name": "s", "question": "?", "metric": "auc", "margin": 0.05}
    plan.write(tmp_path, study, [{"id": "a"}])
    plan.write(tmp_path, study, [{"id": "b"}])
    kept = json.loads((tmp_path / "plan.json").read_text())
    assert kept["decided"] == {"metric": "auc", "margin": 0.05}
    assert [cell["id"] for cell in kept["cells"]] == ["a", "b"]
    with pytest.raises(InputError, match=r"study\.margin=0\.2 is not allowed.*begun with 0\.05"):
        plan.write(tmp_path, study | {"margin": 0.2}, [{"id": "c"}])
    assert json.loads((tmp_path / "plan.json").read_text()) == kept


def test_a_refused_decision_is_told_as_one_types_it(tmp_path):
    study = {"name": "s", "contrast": None}
    plan.write(tmp_path, study, [{"id": "a"}])
    with pytest.raises(InputError) as refused:
        plan.write(tmp_path, study | {"contrast": [["ppo"], "rloo"]}, [{"id": "a"}])
    assert "study.contrast=[[ppo],rloo] is not allowed" in str(refused.value)
    assert "allowed: study.contrast=null, or" in str(refused.value)


def test_nothing_is_decided_after_the_first_run(tmp_path):
    old = {"schema": 1, "study": "s", "question": None, "created": "", "cells": [{"id": "a"}]}
    (tmp_path / "plan.json").write_text(json.dumps(old))
    plan.write(tmp_path, {"name": "s", "metric": "auc", "margin": 9.0}, [{"id": "b"}])
    assert json.loads((tmp_path / "plan.json").read_text())["decided"] == {}


def test_what_is_decided_too_late_is_said(tmp_path, capsys):
    study = {"name": "s", "metric": "auc", "margin": 0.05}
    plan.write(tmp_path, study, [{"id": "a"}])
    plan.write(tmp_path, study | {"threshold": None}, [{"id": "a"}])
    assert not capsys.readouterr().err
    plan.write(tmp_path, study | {"threshold": 0.5}, [{"id": "a"}])
    assert "study.threshold=0.5 comes too late" in capsys.readouterr().err
    assert json.loads((tmp_path / "plan.json").read_text())["decided"] == {
        "metric": "auc",
        "margin": 0.05,
    }


def test_the_scale_that_a_study_gives_an_environment_is_a_decision(tmp_path):
    scale = {"acrobot": [-500, -70], "alpha": [-1.0, 0.5]}
    study = {"name": "s", "metric": "auc", "margin": 0.05, "reference": scale}
    plan.write(tmp_path, study, [{"id": "a"}])
    kept = json.loads((tmp_path / "plan.json").read_text())
    assert kept["decided"]["reference"] == scale
    with pytest.raises(InputError, match=r"study\.reference=.*-60.* is not allowed.*begun with"):
        plan.write(tmp_path, study | {"reference": {"acrobot": [-500, -60]}}, [{"id": "a"}])
    (cell,) = cells(["env=acrobot", "study.reference={acrobot:[-500,-70]}"], sweep=False)
    assert cell.config["study"]["reference"] == {"acrobot": [-500, -70]}
    assert cell.id == cells(["env=acrobot"], sweep=False)[0].id
    check(cell.config | {"study": cell.config["study"] | {"reference": scale}})


def unscaled(tmp_path, scales):
    """Two agents on a maze whose optimum nobody knows; `scales` is what each was told of it."""
    known = {"random": 0.1, "optimal": None, "threshold": None}
    study = write_study(
        tmp_path, agents={"rloo": 1.2, "ppo": 1.2}, envs={"maze": ENVS["maze"]}, seeds=12
    )
    for (agent, scale), folder in zip(scales.items(), sorted(study.glob("maze-*")), strict=True):
        edit(folder / "run.json", lambda info: info.update(reference=known))
        config = yaml.safe_load((folder / "config.yaml").read_text())
        (folder / "config.yaml").write_text(json.dumps(config | {"study": {"reference": scale}}))
        assert agent in folder.name
    edit(study / "plan.json", lambda plan: plan.update(decided={"metric": "auc", "margin": 0.05}))
    return analyse(load(study))


def test_an_environment_has_the_scale_that_the_study_gives_it(tmp_path):
    results = unscaled(tmp_path, {name: {"maze": [0.0, 2.0]} for name in ("ppo", "rloo")})
    task = results.task("maze")
    assert (task.random, task.optimal, task.normalised) == (0.0, 2.0, True)
    said = {sentence.title: sentence.text for sentence in verdicts(results)}
    assert "on maze 0.000 counts as random and 2.000 as optimal" in said["Decided beforehand"]
    assert "" not in said


@pytest.mark.parametrize(
    "scale",
    [None, "x", {"maze": [2.0, 0.0]}, {"maze": "x"}, {"maze": [0, True]}, {"lock": [0.0, 2.0]}],
)
def test_a_scale_that_not_all_cells_were_begun_with_is_none(tmp_path, scale):
    results = unscaled(tmp_path, {"ppo": {"maze": [0.0, 2.0]}, "rloo": scale})
    assert not results.task("maze").normalised
    said = {sentence.title: sentence.text for sentence in verdicts(results)}
    assert "study.reference={maze: [0.1, OPTIMAL]}" in said[""]


def test_studies_with_different_thresholds_keep_what_they_agree_on(tmp_path):
    decided = {"metric": "final", "margin": 0.1, "contrast": ["ppo", "rloo"]}
    one = write_study(tmp_path / "one", decided=decided | {"threshold": 0.5})
    other = write_study(tmp_path / "other", decided=decided)
    both, twice = load(one, other), load(one, one)
    assert (both.metric, both.margin, both.decided) == ("final", 0.1, True)
    assert both.contrast == (("ppo",), ("rloo",))
    assert (both.threshold, twice.threshold) == (None, 0.5)


def twins(tmp_path, decided):
    """Critics and outcome-only agents that learn alike."""
    agents = {"rloo": 1.2, "ppo": 1.2}
    study = write_study(
        tmp_path, agents=agents, envs={"maze": ENVS["maze"]}, seeds=12, decided=decided
    )
    return analyse(load(study))


def test_the_report_judges_by_the_margin_and_the_metric_of_the_study(tmp_path):
    wide = twins(tmp_path / "wide", {"metric": "final", "margin": 0.5})
    assert wide.family["final"].verdict == "equal"
    said = verdicts(wide)
    assert [s.title for s in said if s.title in ("Final performance", "Sample efficiency")] == [
        "Final performance",
        "Sample efficiency",
    ]
    assert "±0.5" in next(s.text for s in said if s.title == "Decided beforehand")
    assert "within 0.5 of zero, the study's margin" in dict(method(wide))["Equal in practice"]
    narrow = twins(tmp_path / "narrow", {"metric": "auc", "margin": 1e-6})
    assert narrow.family["final"].verdict == "undecided"


@pytest.mark.parametrize(
    "decided",
    [
        None,
        [],
        {"metric": "auc"},
        {"metric": "<b>", "margin": 0.1},
        {"metric": "auc", "margin": -1},
    ],
)
def test_decisions_that_cannot_be_read_count_as_none(tmp_path, decided):
    results = twins(tmp_path, decided)
    assert not results.study.decided
    assert (results.study.metric, results.study.margin) == ("auc", 0.05)
    assert "hint" in next(s.text for s in verdicts(results) if s.title == "Decided beforehand")


def named(tmp_path, contrast):
    decided = {"metric": "auc", "margin": 0.05, "contrast": contrast}
    agents = {"grpo": 0.9, "rloo": 1.2, "a2c": 1.0, "ppo": 1.8}
    study = write_study(
        tmp_path, agents=agents, envs={"maze": ENVS["maze"]}, seeds=12, decided=decided
    )
    return analyse(load(study))


def test_a_study_may_name_the_agents_whose_difference_is_judged(tmp_path):
    results = named(tmp_path, ["ppo", ["rloo", "grpo"]])
    assert results.sides.title == "ppo against rloo + grpo"
    said = {sentence.title: sentence.text for sentence in verdicts(results)}
    claim = said["Sample efficiency"]
    assert claim.startswith("ppo learns faster than rloo + grpo (")
    assert "ppo minus rloo + grpo" in claim
    assert "a2c" not in claim
    assert said["Decided beforehand"].startswith("ppo against rloo + grpo on area under the")
    seeds = results.family["auc"].values["maze"]
    scores = {arm: results.task("maze").scores[arm] for arm in ("ppo", "rloo", "grpo")}
    at = {arm: {s.seed: s.auc for s in found} for arm, found in scores.items()}
    for seed, difference in seeds.items():
        expected = at["ppo"][seed] - (at["rloo"][seed] + at["grpo"][seed]) / 2
        assert difference == pytest.approx(expected)


@pytest.mark.parametrize("contrast", [["rloo", "ppo"], ["ppo", "rloo"], None])
def test_the_side_that_is_ahead_has_its_own_colour_and_name(tmp_path, contrast):
    decided = {"metric": "auc", "margin": 0.05, "contrast": contrast}
    agents = {"rloo": 1.8, "ppo": 0.9}
    results = analyse(load(write_study(tmp_path, agents=agents, seeds=12, decided=decided)))
    known = looks(results.shown.lines)
    for task in results.tasks:
        name = "rloo" if contrast else "outcome-only"
        assert standing(results, task) == (f"{name} ahead", known["rloo"].color)


def test_agents_that_a_side_lacks_somewhere_are_named(tmp_path):
    agents = {"rloo": 1.0, "grpo": 1.1, "ppo": 1.5}
    study = write_study(tmp_path, agents=agents, seeds=12)
    assert "Incomplete" not in {s.title for s in verdicts(analyse(load(study)))}
    shutil.rmtree(next(study.glob("maze-grpo-*")))
    said = {s.title: s.text for s in verdicts(analyse(load(study)))}
    assert said["Incomplete"].startswith("Without scores: grpo on maze.")


def test_the_families_can_be_named_too(tmp_path):
    by_name = named(tmp_path / "a", ["critic", "outcome-only"])
    by_default = named(tmp_path / "b", None)
    assert by_name.family == by_default.family
    assert by_name.sides.title == "With and without a critic"


def test_a_side_of_which_nothing_was_planned_is_missed(tmp_path):
    said = verdicts(named(tmp_path, ["ppo", "remax"]))
    warning = next(s for s in said if s.title == "Decided beforehand")
    assert "of remax nothing was planned" in warning.text
    assert warning.tone == "warning"


def test_figures_that_a_study_shows_first_come_first_and_once(tmp_path):
    study = write_study(tmp_path, seeds=6)
    planned = json.loads((study / "plan.json").read_text())
    usual = compose(load(study))
    (study / "plan.json").write_text(
        json.dumps(planned | {"figures": ["pairs", "learning", "<b>"]})
    )
    document = compose(load(study))
    headline = document.sections[0]
    assert headline.id == "headline"
    assert headline.pictures[0].id == "pairs"
    assert {p.id.partition("-")[0] for p in headline.pictures[1:]} == {"learning"}
    assert sorted(document.pictures) == sorted(usual.pictures)
    shown = [picture.id for section in document.sections for picture in section.pictures]
    assert len(shown) == len(set(shown))


def test_a_study_can_only_show_figures_that_a_report_has():
    wanted = {name.rstrip("-") for _, _, names, _ in SECTIONS for name in names}
    assert set(FIGURES) == wanted
    with pytest.raises(InputError, match=r"study\.figures=\['fase'\] is not allowed.*phase"):
        cells(["study.figures=[fase]"], sweep=False)


@pytest.mark.parametrize("contrast", ["ppo", "[ppo]", "[ppo,ppo]", "[ppo,[rloo,ppo]]", "[ppo,[]]"])
def test_a_contrast_has_two_sides(contrast):
    with pytest.raises(InputError, match=r"study\.contrast=.*two agents, or two lists"):
        cells([f"study.contrast={contrast}"], sweep=False)


def test_the_list_of_studies_says_what_they_decide_and_take():
    told = " ".join(show("studies", None).split())
    assert "judged: critic against outcome-only; shows first: families, overview; about" in told
