"""What a report says of discounts and time limits, which certificates cannot call different."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.report_study import ENVS, write_study
from vfcompare import report
from vfcompare.report.analysis import analyse, resampling
from vfcompare.report.prose.credit import credited
from vfcompare.report.prose.sentences import Sentence
from vfcompare.runs import certificate

WRAPPERS = "vfcompare.envs.wrappers"
OUTCOME = {"_target_": "vfcompare.returns.outcome"}
ESTIMATORS: Mapping[str, dict[str, Any]] = {
    "rloo": {"advantage": {"_target_": "vfcompare.advantages.relative", "credit": OUTCOME}},
    "spo": {"credit": OUTCOME},
    "token_reinforce": {
        "advantage": {"credit": {"_target_": "vfcompare.returns.reward_to_go"}},
    },
    "rloo_remaining": {
        "advantage": {"credit": {"_target_": "vfcompare.returns.remaining"}},
    },
    "ppo": {"advantage": {"_target_": "vfcompare.advantages.gae"}, "critic": {"lr": 0.1}},
    "evpo": {
        "advantage": {"_target_": "vfcompare.advantages.gae"},
        "otherwise": {"advantage": {"credit": OUTCOME}},
        "critic": {"lr": 0.1},
    },
    "mine": {"_target_": "mine.uncharged", "credit": OUTCOME},
    "critical": {"advantage": {"_target_": "mine.gae"}, "critic": {"lr": 0.1}},
    "half": {"advantage": {"credit": OUTCOME, "baseline": {"_target_": "mine.half"}}},
    "poise": {"advantage": {"_target_": "vfcompare.advantages.above_start"}, "critic": {"lr": 0.1}},
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "REPS", 50)
    monkeypatch.setattr(resampling, "PAIR_REPS", 50)


def told(
    root: Path,
    *agents: str,
    gamma: object = 0.99,
    env: object = None,
    limit: object = certificate.SHOWN,
    collector: object = None,
) -> dict[str, Sentence]:
    """What is said of a study of these agents on one environment, by title."""
    envs = {"cartpole": ENVS["cartpole"]}
    study = write_study(root, agents=dict.fromkeys(agents, 1.5), envs=envs)
    for agent in agents:
        folder = study / f"cartpole-{agent}-1a2b3c4d"
        found = {"estimator": ESTIMATORS[agent], "gamma": gamma, "collector": collector}
        (folder / "config.yaml").write_text(json.dumps({"agent": found, "env": env}))
        facts = {"facts": {certificate.TIME_LIMIT: limit}}
        (folder / "certificate.json").write_text(json.dumps(facts))
    results = analyse(report.load(study))
    return {sentence.title: sentence for sentence in credited(results)}


def test_a_discount_on_outcomes_is_told_with_what_it_prefers(tmp_path: Path) -> None:
    twin = {"_target_": f"{WRAPPERS}.OutcomeOnly"}
    sentence = told(tmp_path, "ppo", "rloo", env=twin)["Discounted outcomes"]
    assert sentence.tone == "warning"
    assert sentence.text.startswith("On cartpole the whole return is paid at the end")
    for words in ("(0.99)", "early ends", "late ends", "agent.gamma=1"):
        assert words in sentence.text


@pytest.mark.parametrize(
    ("gamma", "target"),
    [(1.0, "OutcomeOnly"), (1, "OutcomeOnly"), (0.99, "TimeAware"), ("?", "OutcomeOnly")],
)
def test_nothing_is_said_of_outcomes_without_a_discount_or_of_other_tasks(
    tmp_path: Path, gamma: object, target: str
) -> None:
    env = {"_target_": f"{WRAPPERS}.{target}"}
    assert "Discounted outcomes" not in told(tmp_path, "ppo", "rloo", gamma=gamma, env=env)


def test_whose_gradient_has_the_discount_in_it_is_told(tmp_path: Path) -> None:
    sentence = told(tmp_path, "ppo", "rloo", "spo", "token_reinforce", "rloo_remaining")["Discount"]
    assert sentence.tone == "warning"
    assert sentence.text == (
        "Returns that are discounted from the start weigh the gradient of step t by γ^t (rloo, spo and "
        "rloo_remaining), other credit does not (ppo and token_reinforce). The difference may be due to "
        "this discounting. Rerun with agent.gamma=1 to rule it out."
    )


@pytest.mark.parametrize(
    ("agents", "text", "tone"),
    [
        (
            ("ppo", "rloo", "mine"),
            "(rloo), other credit does not (ppo), of mine, credited",
            "warning",
        ),
        (
            ("poise", "mine"),
            "by γ^t (poise), of mine, credited by code of one's own, it is",
            "plain",
        ),
        (
            ("ppo", "mine"),
            "Credit does not weigh the gradient of step t by γ^t (ppo), of mine,",
            "plain",
        ),
        (("critical", "rloo"), "γ^t (rloo), of critical, credited by code of one's own", "plain"),
        (("ppo", "half"), "γ^t (half), other credit does not (ppo). The difference may", "warning"),
    ],
)
def test_of_credit_by_code_of_ones_own_nothing_is_claimed(
    tmp_path: Path, agents: tuple[str, ...], text: str, tone: str
) -> None:
    found = told(tmp_path, *agents, limit=certificate.CUTS)
    assert text in found["Discount"].text
    assert found["Discount"].tone == tone
    claimed = found["Time limits"].text if "Time limits" in found else ""
    assert "mine" not in claimed
    assert "critical" not in claimed
    assert "Discount" not in told(tmp_path / "alone", "critical", "mine")


def test_a_discount_in_one_of_two_estimators_is_told_too(tmp_path: Path) -> None:
    found = told(tmp_path, "evpo", "token_reinforce", limit=certificate.CUTS)
    assert "γ^t (evpo), other credit does not (token_reinforce)" in found["Discount"].text
    # Its critic stands in for what the clock cut off all the same.
    assert "evpo bootstraps from its value estimate" in found["Time limits"].text


@pytest.mark.parametrize(
    ("agents", "gamma"),
    [(("ppo", "rloo"), 1.0), (("ppo", "token_reinforce"), 0.99), (("poise", "rloo"), 0.99)],
)
def test_sides_that_discount_alike_are_not_told_apart(
    tmp_path: Path, agents: tuple[str, ...], gamma: float
) -> None:
    assert "Discount" not in told(tmp_path, *agents, gamma=gamma)


def test_one_side_alone_is_compared_with_nobody(tmp_path: Path) -> None:
    assert not told(tmp_path, "rloo", "token_reinforce", limit=certificate.CUTS)


def test_for_whom_values_go_on_beyond_the_clock_is_told(tmp_path: Path) -> None:
    found = told(tmp_path, "ppo", "poise", "rloo", gamma=1.0, limit=certificate.CUTS)
    assert [*found] == ["Time limits"]
    assert found["Time limits"].text == (
        "On cartpole a time limit truncates episodes: ppo bootstraps from its value estimate at truncation; "
        "the returns of rloo count nothing after it."
    )


@pytest.mark.parametrize(
    ("agents", "limit", "ends"),
    [
        (("ppo", "rloo"), certificate.SHOWN, None),
        (("ppo", "rloo"), None, None),
        (("poise", "rloo"), certificate.CUTS, None),
        (("ppo", "rloo"), certificate.CUTS, "terminates"),
    ],
)
def test_no_value_goes_on_where_the_clock_is_the_tasks_own_or_none_is_read(
    tmp_path: Path, agents: tuple[str, ...], limit: object, ends: object
) -> None:
    collector = {"time_limit": ends}
    assert not told(tmp_path, *agents, gamma=1.0, limit=limit, collector=collector)
