"""What may be called matched: starting points that were never held against each other may not."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import report_study
from tests.report_study import ENVS, edit, set_returns, write_study
from vfcompare import report
from vfcompare.report import tables
from vfcompare.report.analysis import Results, analyse
from vfcompare.report.pages import formats
from vfcompare.report.prose.fairness import matching, unfair
from vfcompare.report.reading.anonymous import anonymous
from vfcompare.report.reading.data import Study
from vfcompare.runs import certificate
from vfcompare.runs.naming import digest

STARTS = tuple(certificate.PER_SEED.values())


_quick = report_study.quick(50, 50)


def made(agent: str, seeds: list[int], **changes: str) -> dict[str, Any]:
    """A certificate whose hashes depend on the seed alone, but for changes."""
    hashes = {
        seed: {key: f"{key}-{seed}" for key in certificate.PER_SEED} | changes for seed in seeds
    }
    return {
        "schema": 1,
        "agent": agent,
        "env": "maze",
        "seeds": {str(seed): each for seed, each in hashes.items()},
        "parts": {"env": {"sha256": "1", "text": "maze"}},
        "parameters": {"policy": 10},
        "facts": {"jax": "1"},
    }


def verdicts(*found: dict[str, Any]) -> dict[str, str]:
    rows = certificate.compare({f"run{i}": each for i, each in enumerate(found)})
    return {row.item: row.verdict for row in rows}


def shift(columns: dict[str, np.ndarray], by: int) -> None:
    columns["seed"] += by


def analysed(root: Path, seeds: dict[str, list[int]]) -> Results:
    study = write_study(
        root, agents=dict.fromkeys(seeds, 1.5), envs={"maze": ENVS["maze"]}, seeds=3
    )
    for agent, own in seeds.items():
        folder = study / f"maze-{agent}-1a2b3c4d"
        set_returns(folder, partial(shift, by=own[0]))
        (folder / "certificate.json").write_text(json.dumps(made(agent, own)))

    def plan(content: dict[str, Any]) -> None:
        for cell in content["cells"]:
            cell["seeds"] = seeds[cell["agent"]]

    edit(study / "plan.json", plan)
    return analyse(report.load(study))


def test_starting_points_without_a_common_seed_were_not_compared() -> None:
    found = verdicts(made("ppo", [0, 1]), made("rloo", [2, 3]))
    assert {found.pop(item) for item in STARTS} == {"not compared"}
    assert set(found.values()) == {"equal"}


def test_one_run_whose_seeds_nobody_shares_is_enough() -> None:
    found = verdicts(made("ppo", [0, 1]), made("rloo", [0, 1]), made("grpo", [7]))
    assert {found[item] for item in STARTS} == {"not compared"}


def test_a_difference_is_told_though_another_run_was_not_compared() -> None:
    found = verdicts(made("ppo", [0]), made("rloo", [0], policy="other"), made("grpo", [7]))
    assert found["initial policy (seeds 0)"] == "different"
    assert found["first rollout"] == "not compared"


def test_groups_of_runs_that_share_seeds_among_themselves_are_compared() -> None:
    groups = (made(agent, seeds) for agent in ("ppo", "rloo") for seeds in ([0, 1], [2, 3]))
    assert set(verdicts(*groups).values()) == {"equal"}


@pytest.mark.parametrize("name", ["prior", "judge"])
def test_a_part_and_what_it_makes_are_two_items(name: str) -> None:
    one, other = told(**{name: "0.3"}), told(**{name: "0.5"})
    for found in (one, other):
        found["parts"][f"agent.{name}"] = {"sha256": "1", "text": "ladder"}
    rows = certificate.compare({"a": one, "b": other})
    assert len({row.item for row in rows}) == len(rows)
    assert {row.item: row.verdict for row in rows if row.item.startswith(name)} == {
        name: "equal",
        f"{name} as made": "different",
    }


def test_what_was_not_compared_is_not_called_matched(tmp_path: Path) -> None:
    results = analysed(tmp_path, {"ppo": [0, 1, 2], "rloo": [3, 4, 5]})
    (match,) = results.matching
    assert match.uncompared == STARTS
    assert not match.different
    (sentence,) = matching(results)
    assert sentence.tone == "warning"
    assert "matched" not in sentence.text.lower()
    assert "first rollout" in sentence.text
    assert "(3 items equal, 0 different by design)" in sentence.text
    (table,) = tables.conduct.matching(results)
    assert [row[1] for row in table.rows[:3]] == ["not compared"] * 3
    assert {table.marks[index] for index in range(3)} == {"bad"}


def told(**facts: str) -> dict[str, Any]:
    found = made("ppo", [0, 1])
    found["facts"] |= facts
    return found


@pytest.mark.parametrize("name", certificate.LATER)
def test_what_an_earlier_version_did_not_tell_is_no_difference(name: str) -> None:
    old, new = told(), told(**{name: "this"})
    assert verdicts(old, new)[name] == "equal"
    assert verdicts(new, old, told(**{name: "that"}))[name] in ("different", "by design")
    (row,) = [row for row in certificate.compare({"a": new, "b": old}) if row.item == name]
    assert row.values == {"a": "this", "b": certificate.UNTOLD}


def test_a_control_with_another_body_makes_no_alarm_of_the_question(tmp_path: Path) -> None:
    agents = {"ppo": "its own", "rloo": "its own", "ppo_shared": "also the critic's"}
    decided = {"metric": "auc", "margin": 0.05, "contrast": ["ppo", "rloo"]}
    speeds = dict.fromkeys(agents, 1.5)
    envs = {"maze": ENVS["maze"]}
    study = write_study(tmp_path, agents=speeds, envs=envs, seeds=3, decided=decided)
    for agent, body in agents.items():
        path = study / f"maze-{agent}-1a2b3c4d" / "certificate.json"
        path.write_text(json.dumps(told(**{certificate.BODY: body})))
    results = analyse(report.load(study))
    (alarm,) = unfair(results)
    assert alarm.text == (
        "On maze ppo and rloo are alike but for what is compared; other agents of the study differ from them "
        "in policy's body, too."
    )
    (sentence,) = matching(results)
    assert sentence.tone == "warning"
    assert sentence.text.startswith(
        "ppo and rloo are matched; different with other agents: policy's"
    )
    path = study / "maze-rloo-1a2b3c4d" / "certificate.json"
    path.write_text(json.dumps(told(**{certificate.BODY: "also the critic's"})))
    results = analyse(report.load(study))
    (alarm,) = unfair(results)
    assert alarm.text == "On maze the runs differ where they should not: policy's body."
    assert matching(results)[0].text.startswith("Different where it should be equal")


def own_code(root: Path, **versions: dict[str, Any]) -> Results:
    """Three seeds of two agents, and what `run.json` says of the user's own modules."""
    analysed(root, {agent: [0, 1, 2] for agent in versions})
    for agent, told in versions.items():
        edit(root / "compare" / f"maze-{agent}-1a2b3c4d" / "run.json", partial(dict.update, **told))
    return analyse(report.load(root / "compare"))


OLD, NEW = ({"mine": letter * 64} for letter in "ab")


@pytest.mark.parametrize(
    ("ppo", "rloo"),
    [
        ({"own": OLD}, {"own": NEW}),
        ({"own": OLD}, {"own": OLD | {"rewards": "c"}, "begun_with": {"own": NEW}}),
    ],
    ids=["other", "edited on the way"],
)
def test_code_of_ones_own_that_changed_is_not_called_matched(
    tmp_path: Path, ppo: dict[str, Any], rloo: dict[str, Any]
) -> None:
    results = own_code(tmp_path, ppo=ppo, rloo=rloo)
    (sentence,) = matching(results)
    assert sentence.tone == "warning"
    assert sentence.text.startswith("Different where it should be equal: code of mine (")
    (alarm,) = unfair(results)
    assert alarm.text == "On maze the runs differ where they should not: code of mine."
    (table,) = tables.conduct.matching(results)
    assert table.rows[0][:2] == ("code of mine", "different")
    assert "bbbbbbbb" in str(table.rows[0][2])
    hidden = analyse(anonymous(report.load(tmp_path / "compare")))
    (sentence,) = matching(hidden)
    assert sentence.text.startswith("Different where it should be equal: code of module ")
    assert "mine" not in sentence.text


def test_code_of_ones_own_that_one_agent_alone_uses_is_no_difference(tmp_path: Path) -> None:
    results = own_code(tmp_path, ppo={"own": OLD}, rloo={"own": OLD | {"rewards": "c"}})
    assert matching(results)[0].text == "Matched: 8 items equal, 0 different by design."
    results = own_code(tmp_path / "none", ppo={"own": {}}, rloo={"own": "?", "begun_with": 1})
    assert matching(results)[0].text == "Matched: 6 items equal, 0 different by design."


LEARNED = {
    "_target_": "parts.value_based",
    "_partial_": True,
    "critic": {"optimizer": {"learning_rate": 0.005, "note": "long " * 40 + "end"}},
    "advantage": {"_target_": "parts.gae", "gamma": 0.99, "lambda_": 0.95},
    "target": {"_target_": "parts.lambda_return", "lambda_": 0.95},
}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "ppo": LEARNED,
    "a2c": LEARNED
    | {"advantage": {"_target_": "parts.n_step", "gamma": 0.99, "n": 5}}
    | {"target": {"_target_": "parts.lambda_return", "lambda_": 1.0}},
    "rloo": {
        "_target_": "parts.value_free",
        "_partial_": True,
        "advantage": {"_target_": "parts.relative", "gamma": 0.99, "clip": None},
    },
}


def designed(root: Path, parts: dict[str, Any], **configured: dict[str, Any]) -> Study:
    """Agents whose certificates have these estimators; so have their configurations, but for some."""
    analysed(root, {agent: [0, 1, 2] for agent in parts})
    for agent, part in parts.items():
        folder = root / "compare" / f"maze-{agent}-1a2b3c4d"
        told = made(agent, [0, 1, 2])
        text = certificate.brief(part)
        told["parts"]["agent.estimator"] = {"sha256": digest(part), "text": text}
        (folder / "certificate.json").write_text(json.dumps(told))
        config = {"agent": {"estimator": configured.get(agent, part)}}
        (folder / "config.yaml").write_text(json.dumps(config))
    return report.load(root / "compare")


def test_what_differs_in_a_part_has_a_row_for_each_setting_in_full(tmp_path: Path) -> None:
    (table,) = tables.conduct.matching(analyse(designed(tmp_path, ESTIMATORS)))
    shown = [row for row in table.rows if row[1] == "by design"]
    rest = "rloo: \N{EN DASH}"
    assert [(row[0], row[2]) for row in shown] == [
        ("estimator", "ppo and a2c: value_based · rloo: value_free"),
        ("estimator.advantage", "ppo: gae · a2c: n_step · rloo: relative"),
        ("estimator.advantage.clip", "ppo and a2c: \N{EN DASH} · rloo: None"),
        ("estimator.advantage.lambda_", "ppo: 0.95 · a2c and rloo: \N{EN DASH}"),
        ("estimator.advantage.n", "ppo and rloo: \N{EN DASH} · a2c: 5"),
        ("estimator.critic.optimizer.learning_rate", f"ppo and a2c: 0.005 · {rest}"),
        ("estimator.critic.optimizer.note", f"ppo and a2c: {'long ' * 40}end · {rest}"),
        ("estimator.target", f"ppo and a2c: lambda_return · {rest}"),
        ("estimator.target.lambda_", f"ppo: 0.95 · a2c: 1.0 · {rest}"),
    ]
    assert {table.marks[i] for i, row in enumerate(table.rows) if row in shown} == {"design"}
    assert table.note.startswith("Of estimator each setting that differs has a row;")
    for text in (formats.as_csv(table), formats.as_latex(table), formats.as_markdown(table)):
        assert "long " * 40 + "end" in text
    assert table.texts() == [[str(cell) for cell in row] for row in table.rows]


def test_settings_that_the_certificate_did_not_hash_are_not_told(tmp_path: Path) -> None:
    results = analyse(designed(tmp_path, ESTIMATORS, a2c=LEARNED))
    (table,) = tables.conduct.matching(results)
    assert table.rows[0][0] == "estimator"
    assert all(certificate.brief(part) in str(table.rows[0][2]) for part in ESTIMATORS.values())
    assert [row[0] for row in table.rows].count("estimator") == 1
    assert not table.note
    assert matching(results)[0].text == "Matched: 6 items equal, 1 different by design."


def test_functions_of_one_name_are_told_apart_by_their_modules(tmp_path: Path) -> None:
    one, other = {"_target_": "mine.gae"}, {"_target_": "yours.gae"}
    (table,) = tables.conduct.matching(analyse(designed(tmp_path, {"ppo": one, "a2c": other})))
    assert table.rows[0] == ("estimator", "by design", "ppo: mine.gae · a2c: yours.gae")


def test_settings_of_a_part_have_no_paths_where_names_are_left_out(tmp_path: Path) -> None:
    secret = {**LEARNED, "critic": {"file": "/home/jane/critic"}}
    study = designed(tmp_path, ESTIMATORS | {"a2c": secret})
    for known, text in ((study, "a2c: /home/jane/critic"), (anonymous(study), "file=…")):
        (table,) = tables.conduct.matching(analyse(known))
        assert text in formats.as_csv(table)
        assert ("jane" in formats.as_csv(table)) == (known is study)


def test_common_seeds_are_matched(tmp_path: Path) -> None:
    results = analysed(tmp_path, {"ppo": [0, 1, 2], "rloo": [0, 1, 2]})
    assert matching(results)[0].text == "Matched: 6 items equal, 0 different by design."
    assert np.isfinite(results.standing["ppo"])
