"""What a report says of runs that made few updates, or took more steps than they were to take."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests import report_study
from tests.report_study import ENVS, edit, write_parquet, write_study
from tests.test_report_verdicts import said
from vfcompare import report
from vfcompare.report.analysis import Results, analyse
from vfcompare.report.pages import export
from vfcompare.report.pages.document import compose

MAZE = {"maze": ENVS["maze"]}


_quick = report_study.quick(100, 500)


def evaluate(folder: Path, updates: list[int], steps: list[int], seeds: int = 3) -> None:
    """Writes evaluations of each seed; the return is the point's number over that of all points."""
    points = len(updates)
    rows = {
        "seed": np.repeat(np.arange(seeds), points),
        "point": np.tile(np.arange(points), seeds),
        "update": np.tile(updates, seeds),
        "env_steps": np.tile(steps, seeds),
        "return_sampled": np.tile(np.arange(points) / points, seeds),
        "return_greedy": np.tile(np.arange(points) / points, seeds),
    }
    write_parquet(folder / "evaluation.parquet", rows)


def study_of(root: Path, runs: Mapping[str, tuple[list[int], list[int]]]) -> Path:
    """A study of some agents on the maze, three seeds each, with these updates and steps."""
    study = write_study(root, agents=dict.fromkeys(runs, 1.0), envs=MAZE, seeds=3)
    for agent, (updates, steps) in runs.items():
        evaluate(study / f"maze-{agent}-1a2b3c4d", updates, steps)
    return study


def results(root: Path, runs: Mapping[str, tuple[list[int], list[int]]]) -> Results:
    return analyse(report.load(study_of(root, runs)))


SEEN_TWICE = [0, 20, 20, 40], [0, 20_000, 20_000, 40_000]
SEEN_ONCE = [0, 20, 30, 40], [0, 20_000, 30_000, 40_000]


def test_every_evaluation_is_exported_and_the_last_of_a_policy_is_scored(tmp_path: Path) -> None:
    study = report.load(study_of(tmp_path, {"rloo": SEEN_TWICE}))
    rows = [row for row in export.evaluations(study).rows if row[4] == 0]
    assert [row[5:7] for row in rows] == [(0, 0), (20_000, 0.25), (20_000, 0.5), (40_000, 0.75)]
    run = study.cells[0].runs[0]
    assert (run.steps.tolist(), run.sampled.tolist()) == ([0, 20_000, 40_000], [0, 0.5, 0.75])
    assert run.clocks["updates"].tolist() == [0, 20, 40]


def test_a_point_that_a_resume_wrote_twice_is_exported_once(tmp_path: Path) -> None:
    root = study_of(tmp_path, {"rloo": SEEN_TWICE})
    path = root / "maze-rloo-1a2b3c4d" / "evaluation.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    assert len(export.evaluations(report.load(root)).rows) == 12


BEYOND = [0, 1, 1], [0, 90_000, 90_000]


def budgeted(study: Path, budget: int) -> Path:
    for folder in study.glob("maze-*"):
        edit(folder / "run.json", lambda info: info.update(budget={"env_steps": budget}))
    return study


def test_a_run_that_took_far_more_than_its_budget_is_named_and_not_scored(tmp_path: Path) -> None:
    root = budgeted(study_of(tmp_path, {"rloo": SEEN_ONCE, "ppo": BEYOND}), 40_000)
    found = analyse(report.load(root))
    text = said(found)["Over budget"]
    assert "ppo on maze took up to 90,000 of 40,000 steps" in text
    assert "no score (ppo on maze)" in text
    task = found.task("maze")
    assert {arm: len(scores) for arm, scores in task.scores.items()} == {"rloo": 3, "ppo": 0}
    assert task.arrivals["ppo"] == ()
    rows = {row[8]: row for row in export.runs(report.load(root)).rows if row[5] == "ppo"}
    assert {row[9] for row in rows.values()} == {"late"}
    (late,) = (row for row in found.attrition if row.cell.arm == "ppo")
    counts = [late.counts[status] for status in ("late", "short", "completed")]
    assert (counts, late.scored) == ([3, 0, 0], 0)


def test_where_all_runs_took_too_much_there_are_no_scores(tmp_path: Path) -> None:
    root = budgeted(study_of(tmp_path, {"rloo": BEYOND, "ppo": BEYOND}), 40_000)
    found = analyse(report.load(root))
    assert found.task("maze").empty
    assert "within the steps that are compared" in said(found)["Left out"]
    assert compose(report.load(root)).pictures


def test_a_little_more_than_the_budget_is_scored_and_called_a_line(tmp_path: Path) -> None:
    root = budgeted(study_of(tmp_path, {"rloo": ([0, 30], [0, 44_000])}), 40_000)
    found = analyse(report.load(root))
    assert "Over budget" not in said(found)
    task = found.task("maze")
    assert len(task.scores["rloo"]) == 3
    assert not task.exact_grid


def test_agents_that_hardly_began_to_learn_are_named(tmp_path: Path) -> None:
    few = [0, 3, 7, 7], [0, 20_000, 40_000, 40_000]
    text = said(results(tmp_path, {"rloo": SEEN_ONCE, "ppo": few}))["Few updates"]
    assert text == (
        "On maze ppo made 7 updates, and 25% of its evaluations re-evaluated an unchanged policy."
    )
    both = said(results(tmp_path / "both", {"rloo": few, "ppo": few}))["Few updates"]
    assert both.startswith(
        "On maze rloo and ppo made 7 updates, and 25% of their evaluations re-evaluated "
    )
    stale = said(results(tmp_path / "stale", {"rloo": SEEN_TWICE, "ppo": few}))["Few updates"]
    assert "ppo made 7 updates, and 25% of evaluations of rloo and ppo re-evaluated " in stale


def test_nothing_is_said_of_agents_that_learned_between_all_evaluations(tmp_path: Path) -> None:
    assert "Few updates" not in said(results(tmp_path, {"rloo": SEEN_ONCE, "ppo": SEEN_ONCE}))


def test_agents_that_were_evaluated_as_unequally_many_policies_are_named(tmp_path: Path) -> None:
    text = said(results(tmp_path / "a", {"rloo": SEEN_TWICE, "ppo": SEEN_ONCE}))
    assert "on maze 3.0 (rloo) to 4.0 (ppo)" in text["Unequal evaluations"]
    alike = said(results(tmp_path / "b", {"rloo": SEEN_ONCE, "ppo": SEEN_ONCE}))
    assert "Unequal evaluations" not in alike


def test_what_lies_beyond_the_compared_range_is_not_counted(tmp_path: Path) -> None:
    """Of four times the steps, a quarter of the evaluations and of the updates is compared."""
    more = [0, 6, 12, 18, 24], [0, 40_000, 80_000, 120_000, 160_000]
    root = study_of(
        tmp_path, {"rloo": more, "ppo": ([0, 10, 20, 30, 40], [*range(0, 50_000, 10_000)])}
    )
    for agent, budget in {"rloo": 160_000, "ppo": 40_000}.items():
        file = root / f"maze-{agent}-1a2b3c4d" / "run.json"
        edit(file, partial(dict.update, budget={"env_steps": budget}))
    text = said(analyse(report.load(root)))
    assert "on maze 2.0 (rloo) to 5.0 (ppo)" in text["Unequal evaluations"]
    assert text["Few updates"] == "On maze rloo made 6 updates."


def test_an_overshot_last_evaluation_counts(tmp_path: Path) -> None:
    over = [0, 20, 30, 40], [0, 20_000, 30_000, 44_000]
    root = budgeted(study_of(tmp_path, {"rloo": over, "ppo": SEEN_ONCE}), 40_000)
    assert "Unequal evaluations" not in said(analyse(report.load(root)))
