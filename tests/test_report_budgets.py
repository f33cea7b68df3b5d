"""What a report says of runs that made few updates, or took more steps than they were to take."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.report_study import ENVS, write_parquet, write_study
from tests.test_report_verdicts import said
from vfcompare import report
from vfcompare.report import export
from vfcompare.report.analysis import Results, analyse, resampling

MAZE = {"maze": ENVS["maze"]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "REPS", 100)
    monkeypatch.setattr(resampling, "PAIR_REPS", 500)


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


def test_agents_that_hardly_began_to_learn_are_named(tmp_path: Path) -> None:
    few = [0, 3, 7, 7], [0, 20_000, 40_000, 40_000]
    text = said(results(tmp_path, {"rloo": SEEN_ONCE, "ppo": few}))["Few updates"]
    assert text == (
        "On maze ppo made 7 updates and in 25% of its evaluations had the policy of the one before."
    )


def test_nothing_is_said_of_agents_that_learned_between_all_evaluations(tmp_path: Path) -> None:
    assert "Few updates" not in said(results(tmp_path, {"rloo": SEEN_ONCE, "ppo": SEEN_ONCE}))


def test_agents_that_were_evaluated_as_unequally_many_policies_are_named(tmp_path: Path) -> None:
    text = said(results(tmp_path / "a", {"rloo": SEEN_TWICE, "ppo": SEEN_ONCE}))
    assert "on maze 3.0 (rloo) to 4.0 (ppo)" in text["Unequal evaluations"]
    alike = said(results(tmp_path / "b", {"rloo": SEEN_ONCE, "ppo": SEEN_ONCE}))
    assert "Unequal evaluations" not in alike
