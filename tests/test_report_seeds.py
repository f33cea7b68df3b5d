"""Reports of studies to which seeds were added: cells that differ in their seeds alone are one agent."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.report_study import edit, set_returns
from tests.test_report_verdicts import Planned, said, write_seeds
from vfcompare import report
from vfcompare.report import tables
from vfcompare.report.analysis import analyse
from vfcompare.report.pages import export
from vfcompare.report.reading.anonymous import anonymous
from vfcompare.report.reading.data import Study

FIRST = {"first_seed": "0"}
LATER = {"first_seed": "3"}


def blocks(root: Path, agents: Sequence[str] = ("rloo", "ppo")) -> Path:
    """Three seeds of each agent, and three more."""
    return write_seeds(
        root,
        [
            (agent, str(first), range(first, first + 3), LATER if first else {})
            for agent in agents
            for first in (0, 3)
        ],
    )


def seeds_of(study: Study) -> dict[str, list[int]]:
    return {cell.arm: [run.seed for run in cell.runs] for cell in study.cells}


def configure(study: Path, text: str) -> None:
    for folder in study.glob("maze-*"):
        config = folder / "config.yaml"
        config.write_text(config.read_text() + text)


def wider(root: Path) -> Path:
    """Three seeds of rloo, and then five, of which the first three are the same runs."""
    study = write_seeds(root, [("rloo", "a", range(3), {}), ("rloo", "b", range(5), {})])
    first = {name: study / f"maze-rloo-{name}" / "evaluation.parquet" for name in "ab"}

    def same(rows: dict[str, np.ndarray]) -> None:
        known = {}
        set_returns(first["a"].parent, lambda other: known.update(other))
        for name in ("return_sampled", "return_greedy"):
            rows[name][rows["seed"] < 3] = known[name]

    set_returns(first["b"].parent, same)
    return study


def test_seeds_added_with_a_later_first_seed_are_the_same_agent_everywhere(tmp_path: Path) -> None:
    study = report.load(blocks(tmp_path / "blocks"))
    assert seeds_of(study) == {"rloo": list(range(6)), "ppo": list(range(6))}
    assert study.problems == ()
    results = analyse(study)
    assert [len(results.task("maze").scores[arm.name]) for arm in results.arms] == [6, 6]
    assert {curve.arm for curve in results.curves} == {"rloo", "ppo"}
    assert results.pairs["auc"][0].pairs == 6
    assert "n = 6" in said(results)["Few seeds"]
    assert [row[:3] for row in tables.conduct.attrition(results).rows] == [
        ("maze", "rloo", 6),
        ("maze", "ppo", 6),
        ("all planned", "", 12),
    ]


def test_one_seed_each_is_one_agent_too(tmp_path: Path) -> None:
    cells: list[Planned] = [("rloo", str(s), [s], {"first_seed": str(s)}) for s in range(3)]
    assert seeds_of(report.load(write_seeds(tmp_path / "ones", cells))) == {"rloo": [0, 1, 2]}


def test_where_seeds_came_from_is_still_told(tmp_path: Path) -> None:
    study = report.load(blocks(tmp_path / "blocks", ["rloo"]))
    assert [row[0] for row in tables.conduct.provenance(analyse(study)).rows] == [
        "maze-rloo-0",
        "maze-rloo-3",
    ]
    rows = {row[8]: row for row in export.runs(study).rows}
    assert [rows[seed][1] for seed in range(6)] == ["maze-rloo-0"] * 3 + ["maze-rloo-3"] * 3
    assert [json.loads(str(rows[seed][6])) for seed in (0, 3)] == [{}, {"first_seed": 3}]
    assert {row[1] for row in export.evaluations(study).rows} == {"maze-rloo-0", "maze-rloo-3"}


@pytest.mark.parametrize(("other", "told"), [("0a", False), ("0b", True), (None, False)])
def test_code_of_ones_own_that_was_not_the_same_is_named(
    other: str | None, told: bool, tmp_path: Path
) -> None:
    study = blocks(tmp_path / "blocks", ["rloo"])
    for name, digest in (("0", "0a"), ("3", other)):
        file = study / f"maze-rloo-{name}" / "run.json"
        own = {"own": {"mine": digest}} if digest else {"own": "?"}
        file.write_text(json.dumps(json.loads(file.read_text()) | own))
    found = said(analyse(report.load(study))).get("Code of one's own", "")
    assert found.startswith("Not the same in all runs: mine (2 versions).") == told


def test_runs_that_went_on_with_other_code_are_counted(tmp_path: Path) -> None:
    study = blocks(tmp_path / "blocks", ["rloo"])
    assert "Continued" not in said(analyse(report.load(study)))
    file = study / "maze-rloo-3" / "run.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"bit_exact": False}))
    found = said(analyse(report.load(study)))["Continued"]
    assert found.startswith("3 of 6 runs went on with other code, or under other circumstances,")


def test_nothing_of_a_part_tells_who_ran_it(tmp_path: Path) -> None:
    found = anonymous(report.load(blocks(tmp_path / "blocks", ["rloo"])))
    assert seeds_of(found) == {"rloo": list(range(6))}
    assert [len(cell.folders) for cell in found.cells] == [2]
    assert not any("command" in folder.info for cell in found.cells for folder in cell.folders)


def test_a_study_that_asks_for_its_seeds_apart_has_two_agents(tmp_path: Path) -> None:
    cells: list[Planned] = [("ppo", "0", range(3), FIRST), ("ppo", "3", range(3, 6), LATER)]
    study = write_seeds(tmp_path / "aa", cells)
    configure(study, "study: {seeds_apart: true}\n")
    assert seeds_of(report.load(study)) == {
        "ppo first_seed=0": [0, 1, 2],
        "ppo first_seed=3": [3, 4, 5],
    }


def test_a_seed_that_was_trained_twice_counts_once(tmp_path: Path) -> None:
    study = report.load(wider(tmp_path / "wider"))
    assert seeds_of(study) == {"rloo": list(range(5))}
    results = analyse(study)
    assert len(results.task("maze").scores["rloo"]) == 5
    assert results.attrition[0].planned == 5
    assert "Seeds twice" not in said(results)
    assert {row[1] for row in export.runs(study).rows if row[8] == 0} == {"maze-rloo-a"}


def test_curves_that_differ_though_the_seed_is_the_same_are_named(tmp_path: Path) -> None:
    root = wider(tmp_path / "wider")

    def other(rows: dict[str, np.ndarray]) -> None:
        rows["return_sampled"][rows["seed"] == 1] += 0.25

    set_returns(root / "maze-rloo-b", other)
    text = said(analyse(report.load(root)))["Seeds twice"]
    assert "rloo on maze (seeds 1)" in text


def test_of_a_seed_that_was_cut_off_the_completed_run_counts(tmp_path: Path) -> None:
    root = wider(tmp_path / "wider")
    cut: dict[str, Any] = {"status": "interrupted", "seeds": {}}
    edit(root / "maze-rloo-a" / "run.json", lambda info: info.update(cut))
    (cell,) = report.load(root).cells
    assert [run.status for run in cell.runs] == ["completed"] * 5
    assert [[run.seed for run in part.runs] for part in cell.parts] == [[], [0, 1, 2, 3, 4]]


def test_what_was_measured_in_training_is_a_median_over_all_seeds(tmp_path: Path) -> None:
    root = blocks(tmp_path / "blocks", ["rloo"])
    (alone,) = report.load(write_seeds(tmp_path / "alone", [("rloo", "0", range(3), {})])).cells
    (cell,) = report.load(root).cells
    assert cell.diagnostics == pytest.approx(alone.diagnostics)
    assert cell.info["seconds"] == {"train": 25.0}


def test_agents_that_differ_in_their_budget_are_called_by_it(tmp_path: Path) -> None:
    cells: list[Planned] = [("ppo", "a", range(3), {}), ("ppo", "b", range(3), {})]
    study = write_seeds(tmp_path / "steps", [*cells, ("rloo", "c", range(3), {})])

    def budgets(plan: dict[str, Any]) -> None:
        for cell, steps in zip(plan["cells"], (2000, 4000, 2000), strict=True):
            cell.update(env_steps=steps, overrides=["agent=x", "evaluations=3"])

    edit(study / "plan.json", budgets)
    found = report.load(study)
    assert list(seeds_of(found)) == ["ppo env_steps=2000", "ppo env_steps=4000", "rloo"]
    assert found.problems == ()
    assert list(seeds_of(anonymous(found))) == list(seeds_of(found))


def test_agents_that_are_evaluated_more_often_are_called_by_that(tmp_path: Path) -> None:
    study = write_seeds(tmp_path / "often", [("ppo", x, range(3), {}) for x in "ab"])
    for name, number in (("a", 3), ("b", 9)):
        (study / f"maze-ppo-{name}" / "config.yaml").write_text(f"evaluations: {number}\n")
    found = report.load(study)
    assert list(seeds_of(found)) == ["ppo evaluations=3", "ppo evaluations=9"]


def test_cells_whose_configurations_differ_otherwise_stay_apart(tmp_path: Path) -> None:
    root = blocks(tmp_path / "blocks", ["rloo"])
    for place, gamma in (("0", 1), ("3", 2)):
        (root / f"maze-rloo-{place}" / "config.yaml").write_text(f"agent: {{gamma: {gamma}}}\n")
    study = report.load(root)
    assert list(seeds_of(study)) == ["rloo", "rloo (2)"]
    assert "with equal settings" in study.problems[0]
