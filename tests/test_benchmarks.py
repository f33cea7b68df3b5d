"""What benchmark pages say of their own numbers: intervals, chances and how many seeds count."""

import numpy as np
import pytest
from scipy import stats

from benchmarks import environments, estimators, presets, speed
from benchmarks.peers import ours
from tests.helpers import settings_with
from vfcompare.commands.catalogue import describe, files
from vfcompare.commands.compose import cells
from vfcompare.report import scoring
from vfcompare.report.reading.cells import Cell, Run
from vfcompare.report.reading.data import Study


def test_of_few_rounds_the_range_is_given_and_called_so() -> None:
    ours, peer = [70.9, 70.0, 70.1], [26.5, 27.1, 29.5]
    found = speed.ratio_of_medians(ours, peer)
    ratios = np.divide(ours, peer)
    assert (found.low, found.high) == (ratios.min(), ratios.max())
    assert found.value == 70.1 / 27.1
    assert speed.spread([3]) == "the range of 3 rounds"
    assert speed.spread([5, 3]) == "95 % bootstrap intervals over rounds or the range of 3 rounds"
    assert speed.spread([5, 5]) == speed.spread([]) == "95 % bootstrap intervals over rounds"


def test_a_ratio_of_medians_is_never_outside_of_its_range() -> None:
    found = speed.ratio_of_medians([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert found.low <= found.value <= found.high
    mixed = speed.ratio_of_medians([1.0, 4.0], [1.0, 1.0])
    assert mixed.low <= mixed.value <= mixed.high


def test_five_rounds_have_a_bootstrap_interval() -> None:
    ours = [1.0, 1.1, 1.2, 1.3, 9.0]
    found = speed.ratio_of_medians(ours, np.ones(5))
    assert found.high <= 9.0
    assert found.value == 1.2
    assert (speed.ratio_of_medians(ours[:4], np.ones(4)).high) == 1.3


def test_chance_is_that_of_the_errors_own_degrees_of_freedom() -> None:
    assert estimators.one_in(10) == pytest.approx(66.86, abs=0.01)
    normal = 0.5 / stats.norm.sf(estimators.ERRORS)
    assert estimators.one_in(100_000) == pytest.approx(normal, rel=1e-2)


def preset(*ends: float | str) -> Cell:
    """A cell whose seeds end with these returns, or so."""
    runs = []
    for seed, end in enumerate(ends):
        status = end if isinstance(end, str) else "completed"
        steps = np.arange(3.0) if status == "completed" else np.arange(2.0)
        last = 0.5 if isinstance(end, str) else end
        runs.append(Run(seed, status, steps=steps, sampled=np.full(len(steps), last)))
    return Cell(
        id="x",
        agent="x",
        env="lock",
        settings={},
        family="outcome-only",
        planned=True,
        runs=tuple(runs),
        info={},
        certificate=None,
        reference={"random": 0.1, "optimal": 1.0, "threshold": None},
        budget=2.0,
        diagnostics={},
        problems=(),
        arm="x",
        task="lock",
    )


def shown(cell: Cell) -> tuple[list[float], str]:
    (task,) = scoring.score(Study("s", "", True, "", (cell,), ()))
    return presets.final(cell, task).tolist(), presets.show(cell, task)


def test_seeds_of_a_preset_that_failed_count_with_the_floor() -> None:
    ends, text = shown(preset(0.9, 0.9, "diverged", "diverged", "diverged", "diverged"))
    assert ends == [0.9, 0.9, 0.1, 0.1, 0.1, 0.1]
    assert "n =" not in text


def test_seeds_of_a_preset_whose_end_is_not_known_are_left_out_and_said() -> None:
    ends, text = shown(preset(0.9, 0.9, 0.9, "interrupted"))
    assert ends == [0.9, 0.9, 0.9]
    assert text.endswith("(n = 3)")


def listed() -> dict[str, list[str]]:
    """The cells of each row of the page of environments, by name."""
    rows = [line.strip("| ").split(" | ") for line in environments.PAGE.read_text().splitlines()]
    return {row[0].strip("`"): row for row in rows if row[0].startswith("`")}


def test_the_page_of_environments_has_all_of_them_as_they_are() -> None:
    found = files("env")
    assert sorted(listed()) == sorted(found)
    for name, row in listed().items():
        told = environments.facts(environments.make(name))
        assert row[1:5] == [describe(found[name].read_text()), *told[:3]], name
        assert (row[-1] == "yes") == (told.exact == "yes"), name
    assert environments.PICTURE.is_file()


@pytest.mark.slow
def test_the_page_of_environments_has_the_returns_that_are_known() -> None:
    assert environments.page() == environments.PAGE.read_text()


def test_every_number_of_the_recipe_is_told_to_our_side_and_is_the_preset_s() -> None:
    other = [
        *("agent.gamma=0.5", "agent.surrogate.epsilon=0.5", "agent.network.hidden=[8]"),
        *("agent.estimator.advantage.lambda_=0.5", "agent.estimator.target.lambda_=0.5"),
        *("agent.estimator.critic.coef=0.1", "agent.estimator.critic.head.clip=0.5"),
        *("agent.entropy_coef=0.5", "agent.optimizer.learning_rate=0.5"),
    ]
    (preset,) = cells(ours.OVERRIDES[:2], sweep=False)
    (found,) = cells(settings_with(other, *ours.OVERRIDES), sweep=False)
    assert found.config == preset.config
