"""Studies: each composes, and what one decides before its first run is held to."""

import json

import pytest

from tests.report_study import ENVS, write_study
from vfcompare import store
from vfcompare.catalogue import files
from vfcompare.cell import rehearse
from vfcompare.compose import cells
from vfcompare.errors import InputError
from vfcompare.report.analysis import analyse
from vfcompare.report.data import load
from vfcompare.report.method import method
from vfcompare.report.sentences import verdicts


@pytest.mark.parametrize("name", sorted(files("study")))
def test_a_study_asks_a_question_and_traces_an_update(name):
    planned = cells([f"+study={name}"], sweep=True)
    assert str(planned[0].config["study"]["question"]).endswith((".", "?", ")"))
    assert planned[0].config["study"]["name"] == name
    assert len({cell.id for cell in planned}) == len(planned)
    rehearse(planned[-1].config)


def test_what_was_decided_stays_decided(tmp_path):
    study = {"name": "s", "question": "?", "metric": "auc", "margin": 0.05}
    store.write_plan(tmp_path, study, [{"id": "a"}])
    store.write_plan(tmp_path, study, [{"id": "b"}])
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert plan["decided"] == {"metric": "auc", "margin": 0.05}
    assert [cell["id"] for cell in plan["cells"]] == ["a", "b"]
    with pytest.raises(InputError, match=r"study\.margin=0\.2 is not allowed.*begun with 0\.05"):
        store.write_plan(tmp_path, study | {"margin": 0.2}, [{"id": "c"}])
    assert json.loads((tmp_path / "plan.json").read_text()) == plan


def test_nothing_is_decided_after_the_first_run(tmp_path):
    old = {"schema": 1, "study": "s", "question": None, "created": "", "cells": [{"id": "a"}]}
    (tmp_path / "plan.json").write_text(json.dumps(old))
    store.write_plan(tmp_path, {"name": "s", "metric": "auc", "margin": 9.0}, [{"id": "b"}])
    assert json.loads((tmp_path / "plan.json").read_text())["decided"] == {}


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
