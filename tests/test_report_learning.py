"""What a report says of agents that learned nothing, all there is to learn, or lost it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from tests import report_study
from tests.report_study import ENVS, set_returns, write_study
from vfcompare import report
from vfcompare.report.analysis import Results, analyse
from vfcompare.report.prose.sentences import Sentence
from vfcompare.report.prose.verdicts import verdicts

POINTS, SEEDS = 21, 10
TIME = np.linspace(0.0, 1.0, POINTS)

Curves = Mapping[str, Callable[[int], np.ndarray]]
"""Of each agent, the curve of a seed in normalised scores, without noise."""


_quick = report_study.quick(100, 500)


def write_curves(root: Path, curves: Curves, noise: float = 0.02, seeds: int = SEEDS) -> Path:
    """A study of the maze, whose scores are returns."""
    agents = dict.fromkeys(curves, 1.0)
    study = write_study(
        root, agents=agents, envs={"maze": ENVS["maze"]}, seeds=seeds, points=POINTS
    )
    rng, halves = np.random.default_rng(0), np.random.default_rng(1)
    for agent, curve in curves.items():

        def draw(rows: dict[str, np.ndarray], curve: Callable[[int], np.ndarray] = curve) -> None:
            heights = np.array([curve(seed) for seed in range(seeds)])
            rows["return_sampled"][:] = (heights + rng.normal(0, noise, heights.shape)).ravel()
            rows["return_split"][:] = halves.normal(0, noise, heights.size)

        set_returns(study / f"maze-{agent}-1a2b3c4d", draw)
    return study


def judged(root: Path, curves: Curves, noise: float = 0.02, seeds: int = SEEDS) -> Results:
    return analyse(report.load(write_curves(root, curves, noise, seeds)))


def told(results: Results) -> dict[str, Sentence]:
    return {sentence.title: sentence for sentence in verdicts(results)}


def rising(height: float, by: float = 0.3) -> np.ndarray:
    return height * np.minimum(1.0, TIME / by)


def flat(height: float) -> np.ndarray:
    return np.full(POINTS, height)


def falling(height: float = 0.9) -> np.ndarray:
    """It learns, and has lost it long before the end."""
    return np.where(TIME < 0.6, rising(height), 0.02)


def test_two_lost_seeds_of_ten_are_not_solved(tmp_path: Path) -> None:
    curves = {
        "ppo": lambda _: rising(1.0),
        "rloo": lambda s: falling(1.0) if s < 2 else rising(1.0),
    }
    assert "Solved" not in told(judged(tmp_path / "lost", curves, 0.003))
    kept = {"ppo": curves["ppo"], "rloo": curves["ppo"]}
    assert "(mean final score)" in told(judged(tmp_path / "kept", kept, 0.003))["Solved"].text


def test_five_seeds_of_twenty_that_learned_are_not_nothing(tmp_path: Path) -> None:
    curves = {"ppo": lambda s: rising(1.0) if s < 5 else flat(0.0), "rloo": lambda _: flat(0.0)}
    assert "Nothing learned" not in told(judged(tmp_path, curves, 0.003, seeds=20))


def test_the_one_seed_that_learned_is_counted(tmp_path: Path) -> None:
    curves = {"ppo": lambda s: rising(1.0) if s < 1 else flat(0.0), "rloo": lambda _: flat(0.0)}
    text = told(judged(tmp_path, curves, 0.003, seeds=20))["Nothing learned"].text
    assert "(mean final score; the threshold was reached by 1 of 40 runs on maze)" in text


def test_who_learned_and_lost_it_had_something_to_lose(tmp_path: Path) -> None:
    results = judged(tmp_path, {"ppo": lambda _: rising(0.9), "rloo": lambda _: falling()})
    assert results.counts["collapse", "rloo"] == (SEEDS, SEEDS)
    assert results.family["drawdown"].better == "critic"
    claim = told(results)["Stability"]
    assert (claim.tone, "learns nothing" in claim.text) == ("claim", False)


def test_where_all_agents_collapse_nobody_is_said_to_have_learned_nothing(tmp_path: Path) -> None:
    said = told(judged(tmp_path, {"ppo": lambda _: falling(0.7), "rloo": lambda _: falling()}))
    assert "Nothing learned" not in said
    assert said["Collapsed"].tone == "warning"
    assert "20 of 20 runs on maze had learned more and lost it" in said["Collapsed"].text
    assert said["Stability"].tone == "claim"


@pytest.mark.parametrize("slope", [0.0, -0.25])
def test_who_ends_where_it_began_has_learned_nothing(tmp_path: Path, slope: float) -> None:
    """Policies that begin with a prior are above the random one from the start."""
    curve = 0.5 + slope * TIME
    said = told(judged(tmp_path, {"ppo": lambda _: curve, "rloo": lambda _: curve}, 0.03))
    assert "On maze no agent ends above where it began" in said["Nothing learned"].text
    assert "does not rise above the first evaluation" in said["Stability"].text


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_who_gained_a_little_has_learned_something(tmp_path: Path, start: float) -> None:
    curve = start + rising(0.15)
    said = told(judged(tmp_path, {"ppo": lambda _: curve, "rloo": lambda _: curve}))
    assert "Nothing learned" not in said


def test_a_first_evaluation_of_a_trained_policy_is_no_beginning(tmp_path: Path) -> None:
    study = write_curves(tmp_path, {"ppo": lambda _: flat(0.5), "rloo": lambda _: flat(0.5)})
    for folder in study.glob("maze-*"):

        def later(rows: dict[str, np.ndarray]) -> None:
            rows["env_steps"][:] += 1_000

        set_returns(folder, later)
    assert "Nothing learned" not in told(analyse(report.load(study)))


def test_what_is_solved_from_the_start_is_solved(tmp_path: Path) -> None:
    said = told(judged(tmp_path, {"ppo": lambda _: flat(1.0), "rloo": lambda _: flat(1.0)}, 0.003))
    assert said.keys() & {"Nothing learned", "Solved"} == {"Solved"}


def thin(rows: dict[str, np.ndarray]) -> None:
    """A quarter of the evaluations."""
    kept = np.arange(rows["seed"].size) % POINTS % 4 == 0
    for name in rows:
        rows[name] = rows[name][kept]


@pytest.mark.parametrize(("sparse", "tone"), [("rloo", "open"), ("ppo", "claim")])
def test_who_is_evaluated_less_often_is_not_praised_for_losing_less(
    tmp_path: Path, sparse: str, tone: str
) -> None:
    """Sparse evaluations miss a side's dips; a side that loses more in spite of them does lose more."""
    missed, seen = (np.where(np.arange(POINTS) == at, 0.5, 0.0) for at in (13, 12))
    ppo, rloo = (missed, missed) if sparse == "rloo" else (seen, 0.0 * seen)
    curves = {"ppo": lambda _: rising(0.9) - ppo, "rloo": lambda _: rising(0.9) - rloo}
    study = write_curves(tmp_path, curves, 0.05, 12)
    set_returns(study / f"maze-{sparse}-1a2b3c4d", thin)
    results = analyse(report.load(study))
    assert results.family["drawdown"].better == "outcome-only"
    said = told(results)
    assert "steps to the threshold" in said["Unequal evaluations"].text
    assert said["Stability"].tone == tone
    assert ("fewer of its policies were evaluated on maze" in said["Stability"].text) == (
        tone == "open"
    )


def test_a_head_start_is_not_called_speed(tmp_path: Path) -> None:
    late = rising(0.9, by=1.0)
    said = told(judged(tmp_path, {"ppo": lambda _: flat(0.7), "rloo": lambda _: late}))
    text = said["Sample efficiency"].text
    assert "are higher on average over training than outcome-only" in text
    assert text.endswith("Most of it was there before training.")
    quick = told(judged(tmp_path / "q", {"ppo": lambda _: rising(0.9), "rloo": lambda _: late}))
    assert "learn faster than outcome-only" in quick["Sample efficiency"].text


def test_a_small_head_start_takes_no_speed_away(tmp_path: Path) -> None:
    curves = {"ppo": lambda _: 0.05 + rising(0.8), "rloo": lambda _: rising(0.9, by=1.0)}
    assert "learn faster" in told(judged(tmp_path, curves))["Sample efficiency"].text


def test_who_falls_more_slowly_does_not_learn_faster(tmp_path: Path) -> None:
    said = told(judged(tmp_path, {"ppo": lambda _: -0.2 * TIME, "rloo": lambda _: -0.6 * TIME}))
    claim = said["Sample efficiency"]
    assert claim.tone == "open"
    assert "are higher on average" in claim.text
    assert "Neither side rises on average. But no agent has learned anything." in claim.text


def test_agents_that_learned_nothing_are_not_found_equal(tmp_path: Path) -> None:
    said = told(judged(tmp_path, {"ppo": lambda _: flat(0.5), "rloo": lambda _: flat(0.5)}))
    for title in ("Sample efficiency", "Final performance"):
        assert "Equal in practice" in said[title].text
        assert said[title].tone == "open"


def collapsing(height: float, by: float) -> np.ndarray:
    return np.where(TIME < 0.45, rising(height, by), 0.0)


def test_who_collapses_has_not_learned_more_slowly(tmp_path: Path) -> None:
    """The critic arrives five times faster, and loses it all."""
    curves = {"ppo": lambda _: collapsing(0.98, 0.1), "rloo": lambda _: rising(0.98, by=0.5)}
    claim = told(judged(tmp_path, curves))["Sample efficiency"]
    assert claim.tone == "claim"
    assert "are higher on average over training than agents with a critic" in claim.text
    assert "10 of 20 runs failed or collapsed, which lowers an area as slowness does" in claim.text


def test_who_takes_more_steps_to_the_threshold_does_not_learn_faster(tmp_path: Path) -> None:
    late = np.interp(TIME, [0.0, 0.2, 0.8, 1.0], [0.0, 0.85, 0.85, 1.0])
    steep = np.interp(TIME, [0.0, 0.5, 0.6, 1.0], [0.0, 0.1, 1.0, 1.0])
    claim = told(judged(tmp_path, {"ppo": lambda _: late, "rloo": lambda _: steep}))[
        "Sample efficiency"
    ]
    assert "are higher on average over training than outcome-only" in claim.text
    assert claim.text.endswith("But it takes more steps to the threshold (median).")


def test_what_is_called_equal_may_collapse_unseen(tmp_path: Path) -> None:
    """Of ten runs without a collapse one in four may collapse: 0.74^10 is 0.05."""
    curves = {"ppo": lambda _: rising(0.9), "rloo": lambda _: rising(0.9)}
    said = told(judged(tmp_path, curves, noise=0.005))
    text = said["Sample efficiency"].text
    assert "Equal in practice" in text
    assert "0 of 10 runs of agents with a critic collapsed: up to 25.9% may, unseen" in text
    assert "0 of 10 runs of outcome-only agents collapsed: up to 25.9% may, unseen." in text
    assert "up to 25.9% of the runs may collapse, unseen" in said["Agents"].text


def test_what_collapsed_may_do_so_more_often(tmp_path: Path) -> None:
    curves = {
        "ppo": lambda seed: falling() if seed == 0 else rising(0.9),
        "rloo": lambda seed: falling() if seed == 0 else rising(0.9),
    }
    text = told(judged(tmp_path, curves, noise=0.005, seeds=20))["Final performance"].text
    assert "1 of 20 runs of agents with a critic collapsed: up to 23.6% may, unseen" in text
