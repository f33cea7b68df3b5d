"""Runs that failed: what is their agent's, where they fell, and what a report says of them."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import report_study, test_report_oracle
from tests.report_study import ENVS, edit, set_returns, write_parquet, write_study
from vfcompare import report, statistics
from vfcompare.report import oracle, scoring
from vfcompare.report.analysis import Fate, Results, analyse
from vfcompare.report.pages.document import compose
from vfcompare.report.prose.sentences import sizes
from vfcompare.report.reading import runs

MAZE = {"maze": ENVS["maze"]}
DISK_FULL = "OSError: [Errno 28] No space left on device: 'evaluation.parquet'"


_quick = report_study.quick(100, 200)


def study(root: Path, *, seeds: int = 4, budget: int | None = None) -> Path:
    """Two agents on a maze, whose critic is to run for `budget` steps."""
    found = write_study(root, agents={"ppo": 1.8, "rloo": 1.2}, envs=MAZE, seeds=seeds)
    for file in found.glob("*/run.json"):
        own = budget if budget and "ppo" in file.parent.name else 40_000
        edit(file, partial(dict.update, budget={"env_steps": own}))
    return found


def ppo(found: Path) -> Path:
    return found / "maze-ppo-1a2b3c4d"


def crash(found: Path, message: str, *, after: int = 6) -> None:
    """All seeds of the critic stop after so many evaluations."""

    def stop(columns: dict[str, np.ndarray]) -> None:
        keep = columns["update"] < after
        for name in columns:
            columns[name] = columns[name][keep]

    set_returns(ppo(found), stop)
    edit(ppo(found) / "run.json", lambda r: r.update(status="crashed", message=message, seeds={}))


def longer(found: Path, *, failing: bool) -> None:
    """The critic has twice the steps of the others; with `failing`, it diverges beyond theirs."""

    def stretch(columns: dict[str, np.ndarray]) -> None:
        columns["env_steps"] *= 2
        if failing:
            columns["return_sampled"][columns["env_steps"] > 50_000] = np.nan

    set_returns(ppo(found), stretch)


def attrition(results: Results) -> Fate:
    return next(fate for fate in results.attrition if fate.cell.agent == "ppo")


@pytest.mark.parametrize(
    "message",
    [
        DISK_FULL,
        "MemoryError",
        "_ArrayMemoryError: Unable to allocate 2.0 GiB",
        "XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory allocating 17 bytes",
        "TimeoutError",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        "JaxRuntimeError: INTERNAL: Failed to allocate: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "JaxRuntimeError: UNAVAILABLE: the device is gone",
    ],
)
def test_a_failure_of_the_machine_is_no_failure_of_the_agent(tmp_path: Path, message: str) -> None:
    found = study(tmp_path)
    crash(found, message)
    results = analyse(report.load(found))
    row = attrition(results)
    assert (row.counts["crashed"], row.failed, row.scored) == (4, 0, 0)
    (task,) = results.tasks
    assert task.scores["ppo"] == ()
    stopped = 40_000 * 5 / 11
    for _, step, reached in task.arrivals["ppo"]:
        assert reached or step == pytest.approx(stopped, abs=1.0)


@pytest.mark.parametrize(
    "message",
    [
        "FloatingPointError: invalid value",
        "FloatingPointError: step timeout, reward unavailable",
        "ValueError: the agent lost its way",
        "JaxRuntimeError: INVALID_ARGUMENT: shapes differ",
        "",
    ],
)
def test_a_crash_by_the_agent_s_own_code_scores_the_floor(tmp_path: Path, message: str) -> None:
    found = study(tmp_path)
    crash(found, message)
    row = attrition(analyse(report.load(found)))
    assert (row.counts["crashed"], row.failed, row.scored) == (4, 4, 4)
    (task,) = scoring.score(report.load(found))
    assert {item.final for item in task.scores["ppo"]} == {0.0}


def test_an_anonymous_report_withholds_the_message_and_has_the_same_scores(tmp_path: Path) -> None:
    from vfcompare.report.reading.anonymous import anonymous

    found = study(tmp_path)
    crash(found, DISK_FULL)
    (task,) = scoring.score(anonymous(report.load(found)))
    assert task.scores["ppo"] == ()


def test_a_seed_that_had_diverged_before_the_disk_was_full_has_diverged(tmp_path: Path) -> None:
    found = study(tmp_path)
    crash(found, DISK_FULL)

    def diverge(columns: dict[str, np.ndarray]) -> None:
        columns["return_sampled"][(columns["seed"] == 1) & (columns["update"] >= 4)] = np.nan

    set_returns(ppo(found), diverge)
    row = attrition(analyse(report.load(found)))
    assert (row.counts["crashed"], row.counts["diverged"], row.failed, row.scored) == (3, 1, 1, 1)


@pytest.mark.parametrize(
    ("steps", "budget", "due"),
    [
        ([0, 100, 200], None, 300),
        ([0, 100, 200], 250, 250),
        ([0, 100, 210], 205, float(np.nextafter(210, np.inf))),
        ([0], 500, None),
    ],
)
def test_a_crash_falls_where_its_next_evaluation_was_due(
    steps: list[float], budget: float | None, due: float | None
) -> None:
    curve = {"env_steps": np.array(steps, float), "return_sampled": np.ones(len(steps))}
    info = {"message": "ValueError"} | ({"budget": {"env_steps": budget}} if budget else {})
    run = runs._with_curve(0, "crashed", curve, {}, info)
    assert run.failed_at == due
    assert run.steps.size == len(steps)


@pytest.mark.parametrize("after", [1, 2, 6, 11])
def test_a_crash_is_no_change_within_an_instant(tmp_path: Path, after: int) -> None:
    found = study(tmp_path)
    crash(found, "ValueError: nothing", after=after)
    (task,) = scoring.score(report.load(found))
    assert len(task.scores["ppo"]) == 4
    for item in task.scores["ppo"]:
        assert np.diff(item.steps).min() >= 1.0


def test_two_values_at_one_step_have_no_rate_of_change() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates = statistics.detrend([0.0, 1.0, 1.0, 3.0], [0.0, 1.0, 5.0, 6.0])
        variation = statistics.within_run_variation([1.0, 1.0], [0.0, 1.0])
    np.testing.assert_array_equal(rates, [1.0, 0.5])
    assert np.isnan(variation)


@pytest.mark.parametrize("rule", ["floor", "last", "drop"])
def test_what_fails_after_the_compared_range_is_completed_there(
    tmp_path: Path, rule: statistics.FailureRule
) -> None:
    kept = []
    for failing in (False, True):
        found = study(tmp_path / str(failing), budget=80_000)
        longer(found, failing=failing)
        loaded = report.load(found)
        (task,) = scoring.score(loaded, rule)
        assert task.end == 40_000
        kept.append([(x.status, x.final, x.greedy, x.auc) for x in task.scores["ppo"]])
    assert kept[0] == kept[1]
    assert len(kept[1]) == 4
    assert min(final for _, final, _, _ in kept[1]) > 0.5
    results = analyse(loaded)
    row = attrition(results)
    assert (row.counts["diverged"], row.failed, row.scored) == (4, 0, 4)
    assert results.counts["failure", "ppo"] == (0, 4)


def test_without_an_evaluation_beyond_the_range_the_last_one_stands(tmp_path: Path) -> None:
    found = study(tmp_path, budget=80_000)
    longer(found, failing=False)
    failed = {str(seed): {"status": "diverged", "update": 7} for seed in range(4)}
    edit(ppo(found) / "run.json", lambda info: info.update(seeds=failed))

    def thin(columns: dict[str, np.ndarray]) -> None:
        keep = ~np.isin(columns["update"], (5, 6, 7))
        for name in columns:
            columns[name] = columns[name][keep]

    set_returns(ppo(found), thin)
    loaded = report.load(found)
    (task,) = scoring.score(loaded)
    runs = {run.seed: run for run in task.cells["ppo"].runs}
    for item in task.scores["ppo"]:
        assert item.status == "completed"
        assert runs[item.seed].steps[-1] < task.end < (runs[item.seed].failed_at or 0)
        assert item.values[-1] == pytest.approx(runs[item.seed].sampled[-1])


def test_a_divergence_in_an_overshooting_last_update_is_a_failure(tmp_path: Path) -> None:
    found = study(tmp_path)

    def overshoot(columns: dict[str, np.ndarray]) -> None:
        last = columns["update"] == columns["update"].max()
        columns["env_steps"][last] += 1_500
        columns["return_sampled"][last] = np.nan

    set_returns(ppo(found), overshoot)
    (task,) = scoring.score(report.load(found))
    for item in task.scores["ppo"]:
        assert item.status == "diverged"
        assert item.greedy == pytest.approx(item.final, abs=0.03)


@pytest.mark.parametrize("rule", ["floor", "last"])
def test_the_greedy_curve_of_a_failed_run_is_continued_as_the_sampled_one(
    tmp_path: Path, rule: statistics.FailureRule
) -> None:
    """It fails within the last tenth: what came before is in the mean of either."""
    found = write_study(tmp_path, agents={"ppo": 1.8, "rloo": 1.2}, envs=MAZE, points=41)

    def diverge(columns: dict[str, np.ndarray]) -> None:
        columns["return_greedy"][:] = columns["return_sampled"] + 0.05
        lost = columns["update"] > 38
        columns["return_sampled"][lost] = columns["return_greedy"][lost] = np.nan

    set_returns(ppo(found), diverge)
    (task,) = scoring.score(report.load(found), rule)
    for item in task.scores["ppo"]:
        # two of four evaluations are its own, and the others the floor
        share = 2 / 4 if rule == "floor" else 1.0
        assert item.final > 0.4
        assert item.greedy == pytest.approx(item.final + 0.05 * share)


def test_predictions_without_intervals_are_not_told_as_wrong(tmp_path: Path) -> None:
    found = oracle.find(report.load(test_report_oracle.write_study(tmp_path, seeds=2)))
    compared = oracle.compare(found)
    pictures = list(oracle.pictures(found, compared))
    (verdict,) = oracle.verdicts(compared, pictures)
    assert "can be judged" in verdict.text
    assert verdict.tone == "open"
    told = [verdict.text, *(note.text for note in oracle.notes(compared))]
    told += [table.note for table in oracle.tables(found, compared).values()]
    told += [picture.caption for picture in pictures]
    for text in told:
        assert "0 of" not in text
        assert "95%" not in text


def test_how_many_predictions_miss_by_chance_is_what_was_measured(tmp_path: Path) -> None:
    found = oracle.find(report.load(test_report_oracle.write_study(tmp_path, seeds=6)))
    (verdict,) = oracle.verdicts(oracle.compare(found), [])
    known = min(
        statistics.known_coverage(kind, 6).shares["normal"]
        for kind in ("mean", "oracle: ratio of means")
    )
    assert f"At 5 seeds about {1 - known:.0%} of true predictions miss" in verdict.text


def test_predictions_with_too_few_seeds_are_counted_apart(tmp_path: Path) -> None:
    written = test_report_oracle.write_study(tmp_path, seeds=6)
    few = [0, 1]

    def lose(plan: dict[str, Any]) -> None:
        cell = next(c for c in plan["cells"] if c["id"] == "oracle_td-0.5")
        cell["seeds"] = few

    edit(written / "plan.json", lose)
    found = oracle.find(report.load(written))
    compared = oracle.compare(found)
    rows = [row for mine in compared.values() for row in mine]
    left = sum(row.verdict == "insufficient" for row in rows)
    assert 0 < left < len(rows)
    (verdict,) = oracle.verdicts(compared, [])
    assert f"of {len(rows) - left} predicted numbers" in verdict.text
    assert f"{left} more have too few seeds" in verdict.text


def episode() -> dict[str, Any]:
    return {
        "median_frames": np.zeros((2, 30, 40, 3), np.uint8),
        "median_steps": [0, 5],
        "median_length": 5,
        "median_return": 1.0,
        "median_seed": 0,
    }


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ({}, ""),
        ({"ppo": 3}, "Seeds that diverged are not among them; ppo 1 of 4 did not."),
        ({"rloo": 4}, "No episode of rloo: every seed diverged."),
    ],
    ids=["none", "some", "all"],
)
def test_episodes_say_whose_seeds_are_not_among_them(
    tmp_path: Path, lost: dict[str, int], said: str
) -> None:
    found = study(tmp_path)
    for agent in ("ppo", "rloo"):
        folder, number = found / f"maze-{agent}-1a2b3c4d", lost.get(agent, 0)

        def diverge(columns: dict[str, np.ndarray], number: int = number) -> None:
            columns["return_sampled"][columns["seed"] < number] = np.nan

        set_returns(folder, diverge)
        if number < 4:
            np.savez(folder / "paths.npz", **episode())
    caption = compose(report.load(found)).pictures["paths-1"].caption
    assert said in caption
    assert ("diverged" in caption) == bool(lost)


def test_empty_groups_have_no_size() -> None:
    assert sizes([0, 12, 5]) == "5 to 12"
    assert sizes([0, 12]) == "12"
    assert sizes([]) == sizes([0]) == "0"


def test_scores_of_an_agent_without_any_are_not_over_zero_seeds(tmp_path: Path) -> None:
    found = study(tmp_path, seeds=3)
    edit(ppo(found) / "run.json", lambda info: info.update(status="running", seeds={}))
    caption = compose(report.load(found)).pictures["scores"].caption
    assert "IQM over 3 seeds" in caption


@pytest.mark.parametrize(
    ("broken", "first"),
    [
        ({"advantage_mean": np.nan, "policy_loss": np.nan}, "advantage_mean"),
        ({"policy_loss": np.inf}, "policy_loss"),
        ({"return": -np.inf, "advantage_mean": np.nan, "policy_loss": np.nan}, "return"),
        ({"return": np.nan, "policy_loss": np.nan}, "policy_loss"),
    ],
)
def test_what_was_not_finite_first_is_named_and_when(
    tmp_path: Path, broken: dict[str, float], first: str
) -> None:
    found = study(tmp_path, seeds=2)
    names = ("return", "advantage_mean", "policy_loss")
    rows = {"seed": np.repeat([0, 1], 5), "update": np.tile(np.arange(5), 2)}
    rows |= {name: np.zeros(10) for name in names}
    for name, value in broken.items():
        rows[name][8:] = value
    write_parquet(ppo(found) / "metrics.parquet", rows)

    def diverge(columns: dict[str, np.ndarray]) -> None:
        columns["return_sampled"][(columns["seed"] == 1) & (columns["update"] > 3)] = np.nan

    set_returns(ppo(found), diverge)
    cell = next(cell for cell in report.load(found).cells if cell.agent == "ppo")
    assert [run.reason for run in cell.runs] == ["", f"{first} was not finite from update 3 on"]


def fall(columns: dict[str, np.ndarray]) -> None:
    """A policy that becomes worse than the random one, and diverges halfway."""
    time = columns["update"] / columns["update"].max()
    columns["return_sampled"][:] = columns["return_greedy"][:] = -0.8 * np.minimum(1, 4 * time)
    columns["return_sampled"][time > 0.5] = np.nan


def test_a_failure_does_not_make_up_for_a_fall(tmp_path: Path) -> None:
    found = study(tmp_path)
    set_returns(ppo(found), fall)
    (task,) = scoring.score(report.load(found))
    assert task.floor == 0.0
    for item in task.scores["ppo"]:
        assert item.status == "diverged"
        assert item.final == pytest.approx(-0.8)
        assert item.greedy == pytest.approx(-0.8)
        assert item.values[-1] == item.values.min()


def broken(columns: dict[str, np.ndarray], after: int, seeds: int = 4) -> None:
    lost = (columns["update"] >= after) & (columns["seed"] < seeds)
    columns["return_sampled"][lost] = np.nan


@pytest.mark.parametrize("rule", ["floor", "last"])
def test_a_failed_run_is_not_called_steady(tmp_path: Path, rule: statistics.FailureRule) -> None:
    (whole,) = scoring.score(report.load(study(tmp_path / "whole")), rule)
    found = study(tmp_path / "failed")
    set_returns(ppo(found), partial(broken, after=6, seeds=2))
    loaded = report.load(found)
    (task,) = scoring.score(loaded, rule)
    before, now = (
        {arm: [item.variation for item in scores] for arm, scores in each.scores.items()}
        for each in (whole, task)
    )
    assert now["ppo"][:2] == [None, None]
    assert (now["ppo"][2:], now["rloo"]) == (before["ppo"][2:], before["rloo"])
    family = analyse(loaded).family
    assert (family["variation"].pairs, family["drawdown"].pairs) == (2, 4)


def test_after_its_failure_a_run_is_no_denser_than_before(tmp_path: Path) -> None:
    """Where runs share no steps, curves are aggregated at many more than a run has."""
    found = study(tmp_path)
    rng = np.random.default_rng(0)
    for folder in found.glob("maze-*"):

        def shift(columns: dict[str, np.ndarray]) -> None:
            later = columns["env_steps"] > 0
            columns["env_steps"][later] += rng.integers(0, 500, later.sum())

        set_returns(folder, shift)
    set_returns(ppo(found), partial(broken, after=6))
    (task,) = scoring.score(report.load(found))
    assert not task.exact_grid
    assert {item.steps.size for item in task.scores["rloo"]} == {12}
    assert {item.steps.size for item in task.scores["ppo"]} <= {12, 13}
