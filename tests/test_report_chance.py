"""What a report must not owe to chance: to a stream, to the last bit, to which runs are there."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests import report_study
from tests.report_study import ENVS, set_returns, write_study
from vfcompare import report, statistics
from vfcompare.report import tables
from vfcompare.report.analysis import analyse, resampling

MAZE = {"maze": ENVS["maze"]}

_quick = report_study.quick(50, 200)


def test_who_solves_all_alike_is_not_ahead_by_rounding(tmp_path: Path) -> None:
    """Areas of ones over unlike grids are 1 but for the last bit."""
    study = write_study(tmp_path, agents={"rloo": 1.0, "ppo": 1.5}, envs=MAZE, seeds=12)
    rng = np.random.default_rng(0)
    for agent, score in (("rloo", 0.3), ("ppo", 0.1 + 0.2)):

        def solved(rows: dict[str, np.ndarray], score: float = score) -> None:
            inside = (rows["env_steps"] > 0) & (rows["env_steps"] < ENVS["maze"][2])
            rows["env_steps"][inside] += rng.integers(-900, 900, inside.sum())
            for name in ("return_sampled", "return_greedy"):
                rows[name][:] = score

        set_returns(study / f"maze-{agent}-1a2b3c4d", solved)
    results = analyse(report.load(study))
    (improvement,) = results.improvement
    assert improvement.interval.estimate == 0.5
    assert not improvement.decided
    contrast = results.family["auc"]
    assert set(contrast.values["maze"].values()) == {0.0}
    assert contrast.paired_wins == 0.5


def test_a_p_value_near_its_level_is_found_once_more_with_more_flips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resampling, "PAIR_REPS", 10_000)
    asked: list[tuple[int, int]] = []

    def test(i: int, p: float, reps: int) -> float:
        asked.append((i, reps))
        return p if reps == 10_000 else p + 0.001

    # Holm asks 0.025 of the smaller one, and 0.05 of the other: 0.0245 is within four errors of 0.0016.
    p, decisions = resampling.corrected([partial(test, 0, 0.0245), partial(test, 1, 0.3)])
    assert asked == [(0, 10_000), (1, 10_000), (0, 1_000_000)]
    assert p == pytest.approx([0.0255, 0.3])
    assert not decisions[0].rejected
    asked.clear()
    resampling.corrected([partial(test, 0, 0.01), partial(test, 1, 0.3)])
    assert asked == [(0, 10_000), (1, 10_000)]


def test_a_decision_near_its_level_is_the_same_by_any_stream() -> None:
    """p is 0.0491 at a level of 0.05; its error is 0.0022 with 10,000 flips, 0.0002 with a million."""
    d = np.random.default_rng(1).normal(0.0, 1.0, 40)
    d += 0.302 - d.mean()
    few, many = [], []
    for seed in range(5):
        flips = partial(statistics.sign_flip_test, np.random.default_rng(seed), [d])
        few.append(flips(reps=10_000) <= 0.05)
        many.append(flips(reps=1_000_000) <= 0.05)
    assert set(few) == {False, True}
    assert set(many) == {True}


@pytest.mark.parametrize(
    ("confidence", "n", "times"), [(0.95, 20, 1), (0.995, 20, 9), (0.995, 10, 10)]
)
def test_thin_tails_have_more_resamples(confidence: float, n: int, times: int) -> None:
    assert resampling.interval_reps(confidence, n) == times * resampling.PAIR_REPS


def test_a_greedy_score_of_some_of_the_runs_alone_is_not_shown(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.5}, envs=MAZE, seeds=5)

    def lost(rows: dict[str, np.ndarray]) -> None:
        last = rows["env_steps"] == rows["env_steps"].max()
        rows["return_greedy"][last & (rows["seed"] < 2)] = np.nan

    assert ("greedy", "maze", "ppo") in analyse(report.load(study)).summary
    set_returns(study / "maze-ppo-1a2b3c4d", lost)
    results = analyse(report.load(study))
    assert ("greedy", "maze", "ppo") not in results.summary
    assert ("final", "maze", "ppo") in results.summary
    assert "not of all n" in tables.scores.scores(results).note


@pytest.mark.parametrize(
    ("seeds", "known", "interval"), [(1, False, False), (4, True, False), (5, True, True)]
)
def test_the_spread_of_one_run_is_none_and_of_few_has_no_interval(
    tmp_path: Path, seeds: int, known: bool, interval: bool
) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.5}, envs=MAZE, seeds=seeds)
    found = analyse(report.load(study)).stability.get(("spread", "ppo"))
    assert (found is not None) == known
    assert (found is not None and found.low is not None) == interval
