"""Who stands on the two sides of a question, and what a page says where the design is uneven."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.report_study import ENVS, write_study
from tests.test_report_verdicts import said
from vfcompare import report
from vfcompare.report import tables
from vfcompare.report.analysis import analyse, resampling

MAZE = {"maze": ENVS["maze"]}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "REPS", 100)
    monkeypatch.setattr(resampling, "PAIR_REPS", 500)


def reads(study: Path, estimators: Mapping[str, str]) -> Path:
    """The study, some of whose agents have an estimator of that name."""
    for agent, name in estimators.items():
        for folder in study.glob(f"*-{agent}-1a2b3c4d"):
            critic = ", critic: {lr: 0.1}" if name in {"mixed", "auxiliary"} else ""
            text = f"agent: {{estimator: {{_target_: vfcompare.estimators.{name}{critic}}}}}\n"
            (folder / "config.yaml").write_text(text)
    return study


def test_who_reads_values_that_no_critic_learned_is_on_neither_side(tmp_path: Path) -> None:
    agents = {
        "rloo": 1.0,
        "ppo": 1.5,
        "oracle_td": 1.9,
        "mixed": 1.8,
        "vine": 1.7,
        "rloo_idle": 1.0,
    }
    study = write_study(tmp_path, agents=agents, envs=MAZE, seeds=6)
    given = {"oracle_td": "exact", "mixed": "mixed", "vine": "simulated", "rloo_idle": "auxiliary"}
    results = analyse(report.load(reads(study, given)))
    first, second = ([arm.name for arm in side] for side in results.sides.both)
    assert (first, second) == (["ppo"], ["rloo", "rloo_idle"])
    assert said(results)["Sides"].startswith(
        "On neither side: oracle_td and mixed (exact values) and vine (simulated values). The values"
    )
    families = {row[0]: row[1] for row in tables.stability(results).rows}
    assert families["oracle_td"] == families["mixed"] == "exact values"
    assert (families["vine"], families["ppo"]) == ("simulated values", "critic")
    decided = {"metric": "auc", "margin": 0.05, "contrast": ["oracle_td", "critic"]}
    named = write_study(tmp_path / "named", agents=agents, envs=MAZE, seeds=6, decided=decided)
    results = analyse(report.load(reads(named, given)))
    assert [[arm.name for arm in side] for side in results.sides.both] == [["oracle_td"], ["ppo"]]
    assert "Sides" not in said(results)


def test_a_question_without_a_second_side_says_so(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"rloo": 1.0, "oracle_td": 1.5}, envs=MAZE, seeds=6)
    results = analyse(report.load(reads(study, {"oracle_td": "exact"})))
    assert "of agents with a critic nothing was planned" in said(results)["One side only"]
    assert "exact values" in said(results)["Sides"]
    both = write_study(tmp_path / "both", agents={"rloo": 1.0, "ppo": 1.5}, envs=MAZE, seeds=6)
    assert not {"One side only", "Sides"} & said(analyse(report.load(both))).keys()
