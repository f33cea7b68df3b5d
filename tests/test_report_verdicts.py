"""What a report claims where runs are lost, seeds are unlike, or means and IQMs disagree."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import report_study
from tests.report_study import ENVS, edit, set_returns, write_cell, write_study
from vfcompare import report, statistics
from vfcompare.report import figures, tables
from vfcompare.report.analysis import Results, analyse
from vfcompare.report.figures import families, improvement, pairs, profile, speed
from vfcompare.report.pages.document import compose
from vfcompare.report.prose.sentences import Sentence
from vfcompare.report.prose.verdicts import ranking, verdicts

PPO_AGAINST_RLOO = {"metric": "auc", "margin": 0.05, "contrast": ["ppo", "rloo"]}
TWO = {"rloo": 1.0, "ppo": 1.5}
FOUR = {**ENVS, "lock": (0.0, 1.0, 40_000)}

Planned = tuple[str, str, Sequence[int], Mapping[str, str]]
"""An agent, the number of its cell, its seeds and its settings."""


_quick = report_study.quick(100, 500)


def said(results: Results) -> dict[str, str]:
    return {sentence.title: sentence.text for sentence in verdicts(results)}


def write_seeds(root: Path, cells: Sequence[Planned], env: str = "maze") -> Path:
    """A study that is named as its folder."""
    rng, entries = np.random.default_rng(0), []
    for agent, number, seeds, settings in cells:
        entry: dict[str, Any] = {"id": f"{env}-{agent}-{number}", "agent": agent, "env": env}
        entry |= {"settings": dict(settings), "seeds": list(seeds)}
        low, high, budget = ENVS[env]
        known = {"random": low, "optimal": high, "threshold": None}
        write_cell(root, entry, rng, TWO.get(agent, 1.2), (low, high, budget), 8, known)
        entries.append(entry)
    plan = {"schema": 1, "study": root.name, "question": "?", "created": "", "cells": entries}
    (root / "plan.json").write_text(json.dumps(plan))
    return root


def set_scores(study: Path, scores: Mapping[tuple[str, str], np.ndarray]) -> None:
    """Flat learning curves: the score of each seed, on each environment, of each agent."""
    for (env, agent), values in scores.items():
        low, high, _ = FOUR[env]
        returns = low + (high - low) * values

        def flat(rows: dict[str, np.ndarray], returns: np.ndarray = returns) -> None:
            rows["return_sampled"][:] = returns[rows["seed"].astype(int)]

        set_returns(study / f"{env}-{agent}-1a2b3c4d", flat)


def diverge(rows: dict[str, np.ndarray]) -> None:
    rows["return_sampled"][rows["update"] > 0] = np.nan


def untrained(rows: dict[str, np.ndarray]) -> None:
    """Begins at the random policy's score."""
    rows["return_sampled"][rows["env_steps"] == 0] = 0.0


def stumble(rows: dict[str, np.ndarray]) -> None:
    """Is back at the random policy's score at one evaluation."""
    rows["return_sampled"][rows["update"] == 8] = 0.0


def record_budgets(study: Path) -> None:
    for env, (_, _, budget) in ENVS.items():
        recorded = {"budget": {"env_steps": budget}}
        for file in study.glob(f"{env}-*/run.json"):
            file.write_text(json.dumps(json.loads(file.read_text()) | recorded))


def test_an_environment_on_which_every_run_diverged_is_compared_to_its_budget(
    tmp_path: Path,
) -> None:
    study = write_study(tmp_path, agents=TWO, seeds=12)
    record_budgets(study)
    for folder in study.glob("maze-*"):
        set_returns(folder, diverge)
    results = analyse(report.load(study))
    task = results.task("maze")
    assert (task.start, task.end) == (0.0, ENVS["maze"][2])
    assert task.grid[-1] == task.end
    lowest = [min(0.0, item.first or 0.0) for item in task.scores["ppo"]]
    assert [item.final for item in task.scores["ppo"]] == pytest.approx(lowest)
    assert results.family["auc"].tasks == ("cartpole", "maze", "chain")
    assert results.counts["failure", "ppo"] == results.counts["failure", "rloo"] == (12, 36)
    assert list(figures.build(results))


def test_runs_of_an_agent_that_always_fails_end_at_its_own_budget(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, envs={"maze": ENVS["maze"]}, seeds=3)
    record_budgets(study)
    folder = study / "maze-ppo-1a2b3c4d"
    set_returns(folder, diverge)
    edit(folder / "run.json", lambda info: info.update(budget={"env_steps": 20_000}))
    assert analyse(report.load(study)).task("maze").end == 20_000


def test_an_environment_whose_range_nobody_knows_is_named(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, seeds=3)
    for folder in study.glob("maze-*"):
        set_returns(folder, diverge)
    for folder in study.glob("chain-*"):
        edit(folder / "run.json", lambda info: info.update(status="running", seeds={}))
    left = [s.text for s in verdicts(analyse(report.load(study))) if s.title == "Left out"]
    assert [("maze" in text, "chain" in text) for text in left] == [(True, False), (False, True)]
    assert "6 failed runs are in no score" in left[0]


def test_the_environment_with_more_seeds_does_not_decide_the_ranking(tmp_path: Path) -> None:
    envs = {name: ENVS[name] for name in ("cartpole", "maze")}
    study = write_study(tmp_path, agents=TWO, envs=envs, seeds=20)
    near = 0.01 * np.linspace(-1, 1, 20)
    scores = {("cartpole", "ppo"): 0.92 + near, ("cartpole", "rloo"): 0.88 + near}
    scores |= {("maze", "ppo"): 0.10 + near, ("maze", "rloo"): 0.60 + near}
    set_scores(study, scores)

    def fewer(plan: dict[str, Any]) -> None:
        for cell in plan["cells"]:
            cell["seeds"] = cell["seeds"][:5] if cell["env"] == "maze" else cell["seeds"]

    edit(study / "plan.json", fewer)
    results = analyse(report.load(study))
    (first, interval), (second, _) = ranking(results)
    assert (first.name, second.name) == ("rloo", "ppo")
    assert 0.7 < interval.estimate < 0.78
    assert results.standing["rloo"] == interval.estimate
    gap = results.aggregate["optimality_gap", "auc", "ppo"]
    assert gap.estimate == pytest.approx(1 - (0.92 + 0.10 + near[:5].mean()) / 2, abs=1e-3)
    assert said(results)["Agents"].startswith("rloo has the largest")


def test_seeds_that_were_planned_in_parts_are_one_sample(tmp_path: Path) -> None:
    cells: list[Planned] = [
        (agent, first, range(int(first), int(first) + 3), {"first_seed": first})
        for agent in TWO
        for first in ("0", "3")
    ]
    results = analyse(report.load(write_seeds(tmp_path / "parts", cells)))
    contrast = results.family["auc"]
    assert list(contrast.values["maze"]) == [0, 1, 2, 3, 4, 5]
    assert (contrast.unpaired, contrast.strangers) == (0, frozenset())
    assert "Uneven seeds" not in said(results)
    assert "settings" not in {picture.id for picture in figures.build(results)}
    assert not tables.scores.settings(results).rows


def test_first_seeds_are_no_setting_that_scores_depend_on(tmp_path: Path) -> None:
    cells: list[Planned] = [
        (agent, f"{rate}-{first}", range(first, first + 3), {"lr": rate, "first_seed": str(first)})
        for agent in TWO
        for rate in ("0.1", "0.2")
        for first in (0, 3)
    ]
    results = analyse(report.load(write_seeds(tmp_path / "rates", cells)))
    captions = {picture.id: picture.caption for picture in figures.build(results)}
    assert "lr=" in captions["settings"]
    assert "Most depends on lr" in captions["knobs"]
    assert not any("first_seed" in captions[name] for name in ("settings", "knobs"))


def test_more_seeds_in_a_second_study_add_to_the_verdict(tmp_path: Path) -> None:
    first, more = (
        write_seeds(tmp_path / name, [(agent, "1", seeds, {}) for agent in TWO])
        for name, seeds in (("first", range(4)), ("more", range(4, 8)))
    )
    contrast = analyse(report.load(first, more)).family["auc"]
    assert list(contrast.values["maze"]) == list(range(8))
    assert contrast.verdict != "insufficient"


def test_a_seed_that_one_agent_lost_is_not_compared(tmp_path: Path) -> None:
    cells: list[Planned] = [(agent, "1", range(6), {}) for agent in (*TWO, "grpo")]
    study = write_seeds(tmp_path / "lost", cells)
    edit(
        study / "maze-grpo-1" / "run.json",
        lambda info: info.update(seeds={"2": {"status": "completed"}}, status="running"),
    )
    contrast = analyse(report.load(study)).family["auc"]
    assert list(contrast.values["maze"]) == [2]
    assert contrast.unpaired == 5


def test_a_side_that_is_of_other_agents_at_other_seeds_is_named(tmp_path: Path) -> None:
    cells: list[Planned] = [
        ("rloo", "1", range(6), {}),
        ("ppo", "1", range(6), {}),
        ("a2c", "1", range(3), {}),
    ]
    results = analyse(report.load(write_seeds(tmp_path / "uneven", cells)))
    assert results.family["auc"].pairs == 3
    assert said(results)["Uneven seeds"].startswith("Not every agent of a side was planned")
    assert "on maze" in said(results)["Uneven seeds"]


def test_sides_without_a_seed_in_common_are_not_said_to_be_paired_by_seed(tmp_path: Path) -> None:
    cells: list[Planned] = [("rloo", "1", range(8), {}), ("ppo", "1", range(20, 28), {})]
    results = analyse(report.load(write_seeds(tmp_path / "strangers", cells)))
    assert results.family["auc"].pairs == 8
    assert results.family["auc"].strangers == {"maze"}
    claims = said(results)
    assert (
        "8 pairs in the order of their seeds, of which none is shared"
        in claims["Sample efficiency"]
    )
    assert "by seed" not in claims["Agents"]
    assert "paired in the order of their seeds" in claims["Agents"]
    notes = tables.contrasts.family(results).note + tables.contrasts.pairs(results).note
    assert "seed by seed" not in notes
    assert "of which none is shared" in notes
    (picture,) = pairs.pictures(results)
    assert "seed by seed" not in picture.title
    assert "pairs of seeds each, in the order of their seeds" in picture.caption


def test_lost_seeds_of_a_side_are_not_replaced_by_others(tmp_path: Path) -> None:
    study = write_seeds(tmp_path / "half", [(agent, "1", range(6), {}) for agent in TWO])
    for agent, kept in (("rloo", range(3)), ("ppo", range(3, 6))):
        file = study / f"maze-{agent}-1" / "run.json"
        done = {str(seed): {"status": "completed"} for seed in kept}
        told = json.loads(file.read_text()) | {"seeds": done, "status": "running"}
        file.write_text(json.dumps(told))
    assert analyse(report.load(study)).family["auc"].pairs == 0


def test_an_agent_that_beats_the_one_with_the_largest_iqm_is_not_undecided(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, envs=FOUR, seeds=12)
    near = 0.01 * np.linspace(-1, 1, 12)
    scores = {(env, "ppo"): 0.90 + near for env in FOUR} | {("maze", "ppo"): 0.02 + near}
    scores |= {(env, "rloo"): 0.88 + near for env in FOUR} | {("maze", "rloo"): 0.70 + near}
    set_scores(study, scores)
    results = analyse(report.load(study))
    (contrast,) = results.pairs["auc"]
    assert contrast.better == "rloo"
    text = said(results)["Agents"]
    assert text.startswith("ppo has the largest")
    assert "in the mean behind rloo" in text
    assert "undecided" not in text


def test_what_is_undecided_says_what_would_have_been_found(tmp_path: Path) -> None:
    study = write_study(
        tmp_path, agents=TWO, envs={"maze": ENVS["maze"]}, seeds=12, decided=PPO_AGAINST_RLOO
    )
    near = np.where(np.arange(12) % 2, 0.1, -0.1)
    set_scores(study, {("maze", "ppo"): 0.5 + near, ("maze", "rloo"): np.full(12, 0.5)})
    results = analyse(report.load(study))
    alpha = 1.0 - results.family["auc"].interval.confidence
    found = re.search(
        r"differences of (\S+) in 80% of cases, and those of 0.05 if they have (\d+) seeds",
        said(results)["Sample efficiency"],
    )
    assert found
    spread = near.std(ddof=1)
    least, seeds = float(found[1]), int(found[2])
    assert statistics.power(least, spread, 12, alpha=alpha) == pytest.approx(0.8, abs=0.01)
    assert statistics.power(0.05, spread, seeds, alpha=alpha) >= 0.8
    assert statistics.power(0.05, spread, seeds - 1, alpha=alpha) < 0.8


def test_who_is_ahead_by_less_than_the_margin_is_said_to_be_so_everywhere(tmp_path: Path) -> None:
    envs = {name: ENVS[name] for name in ("cartpole", "maze", "chain")}
    study = write_study(tmp_path, agents=TWO, envs=envs, seeds=12, decided=PPO_AGAINST_RLOO)
    near = 0.002 * np.cos(np.arange(12))
    heights = {"cartpole": 0.8, "maze": 0.49, "chain": 0.8}
    scores = {(env, "ppo"): height + near for env, height in heights.items()}
    set_scores(study, scores | {(env, "rloo"): np.full(12, 0.5) for env in envs})
    text = said(analyse(report.load(study)))["Where"]
    assert text.endswith("rloo better, by less than the study's margin of 0.05, on maze (−0.010).")
    assert "ppo better on cartpole (+0.300) and chain (+0.300); rloo" in text


THREE = ("cartpole", "maze", "chain")


@pytest.mark.parametrize("chosen", [True, False])
def test_what_is_equal_on_average_and_not_on_each_environment_is_not_called_equal(
    tmp_path: Path, chosen: bool
) -> None:
    envs = {name: ENVS[name] for name in THREE}
    agents = TWO if chosen else TWO | {"reinforce": 1.0}
    decided = PPO_AGAINST_RLOO if chosen else None
    study = write_study(tmp_path, agents=agents, envs=envs, seeds=12, decided=decided)
    near = 0.002 * np.cos(np.arange(12))
    heights = {"cartpole": 0.7, "maze": 0.5, "chain": 0.3}
    scores = {(env, "ppo"): height + near for env, height in heights.items()}
    rest = {(env, agent): np.full(12, 0.5) for env in envs for agent in agents if agent != "ppo"}
    set_scores(study, scores | rest)
    results = analyse(report.load(study))
    assert results.family["auc"].verdict == "mixed"
    (pair,) = [c for c in results.pairs["auc"] if {c.first, c.second} == {"ppo", "rloo"}]
    assert pair.verdict == "mixed"
    (claim,) = [item for item in verdicts(results) if item.title == "Sample efficiency"]
    assert claim.tone == "open"
    assert "Equal on average, and not on each environment: the interval" in claim.text
    assert "equal on average only to" in said(results)["Agents"]
    assert "equal on average only" in {row[-1] for row in tables.contrasts.pairs(results).rows}


def test_agents_are_compared_on_each_environment_too(tmp_path: Path) -> None:
    envs = {name: ENVS[name] for name in THREE}
    study = write_study(tmp_path, agents=TWO | {"reinforce": 1.0}, envs=envs, seeds=12)
    near = 0.002 * np.cos(np.arange(12))
    scores = {(env, agent): np.full(12, 0.5) for env in envs for agent in ("rloo", "reinforce")}
    ppo = {
        ("cartpole", "ppo"): 0.7 + near,
        ("maze", "ppo"): 0.5 + near,
        ("chain", "ppo"): 0.3 + near,
    }
    set_scores(study, scores | ppo)
    results = analyse(report.load(study))
    found = {(c.tasks, c.first, c.second): c for c in results.pairs_by_task["auc"]}
    assert len(found) == 9
    cartpole, chain = (found[(env,), "ppo", "rloo"] for env in ("cartpole", "chain"))
    assert (cartpole.better, chain.better) == ("ppo", "rloo")
    assert cartpole.interval.estimate == pytest.approx(0.2 + near.mean())
    # Of nine comparisons the one that is judged first is judged at a ninth of 5 %.
    judged = sorted(contrast.interval.confidence for contrast in found.values())
    assert judged[-1] == pytest.approx(1.0 - 0.05 / 9)
    rows = tables.contrasts.pairs_by_task(results).rows
    assert [row[0] for row in rows] == ["AUC"] * 9 + ["Final score"] * 9
    _, where = pairs.pictures(results)
    assert (
        "on cartpole ppo over rloo (0.200) and ppo over reinforce (0.200); on chain"
        in where.caption
    )
    titles = [axes.get_title() for axes in where.draw().axes]
    assert titles == list(THREE)


def test_an_environment_with_one_pair_of_those_against_one_agent_has_its_row(
    tmp_path: Path,
) -> None:
    agents = {f"agent{i}": 1.0 + 0.1 * i for i in range(9)}
    envs = {name: ENVS[name] for name in ("maze", "chain")}
    study = write_study(tmp_path, agents=agents, envs=envs, seeds=5)
    for i in range(2, 9):
        shutil.rmtree(study / f"chain-agent{i}-1a2b3c4d")
    results = analyse(report.load(study))
    assert results.baseline is not None
    (where,) = [p for p in pairs.pictures(results) if p.id == "by-environment"]
    maze, chain = where.draw().axes
    assert [text.get_text() for text in maze.get_yticklabels()] == [
        f"agent{i}" for i in range(1, 9)
    ]
    assert len(chain.lines) < len(maze.lines)


def test_a_side_that_is_ahead_says_which_of_its_agents_are(tmp_path: Path) -> None:
    agents = TWO | {"a2c": 1.0}
    study = write_study(tmp_path, agents=agents, envs={"maze": ENVS["maze"]}, seeds=12)
    near = 0.002 * np.cos(np.arange(12))
    scores = {("maze", "ppo"): 0.9 + near, ("maze", "a2c"): 0.5 - near}
    set_scores(study, scores | {("maze", "rloo"): np.full(12, 0.5)})
    claim = said(analyse(report.load(study)))["Sample efficiency"]
    told = "Taken one by one, ppo is ahead of rloo and a2c is ahead of none of them."
    assert told in claim
    set_scores(study, scores | {("maze", "rloo"): np.full(12, 0.2)})
    assert "one by one" not in said(analyse(report.load(study)))["Sample efficiency"]


def test_a_margin_that_nobody_chose_is_not_called_the_studys(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, envs={"maze": ENVS["maze"]}, seeds=12)
    near = 0.002 * np.cos(np.arange(12))
    set_scores(study, {("maze", "ppo"): 0.52 + near, ("maze", "rloo"): np.full(12, 0.5)})
    for decided, whose in (
        (None, "the default margin"),
        (PPO_AGAINST_RLOO, "which the study calls"),
    ):
        edit(study / "plan.json", partial(dict.update, decided=decided))
        claim = said(analyse(report.load(study)))["Sample efficiency"]
        assert f"It is small: within ±0.05, {whose}" in claim


@pytest.mark.parametrize("others", [(), ("chain",)])
def test_a_difference_on_one_environment_has_one_interval(
    tmp_path: Path, others: tuple[str, ...]
) -> None:
    envs = {name: ENVS[name] for name in ("maze", *others)}
    study = write_study(tmp_path, agents=TWO, envs=envs, seeds=12, decided=PPO_AGAINST_RLOO)
    without_optimum(study, *others)
    near = 0.2 * np.cos(np.arange(12))
    set_scores(study, {("maze", "ppo"): 0.6 + near, ("maze", "rloo"): np.full(12, 0.5)})
    results = analyse(report.load(study))
    leading = results.family["auc"]
    assert leading.interval.confidence > 0.95
    assert results.family_by_task["maze"] == leading
    rows = [row for row in tables.contrasts.family(results).rows if row[0] == "AUC"]
    assert len(rows) == (3 if others else 1)
    assert {row[2] for row in rows if not str(row[1]).endswith("chain")} == {leading.interval}


def without_optimum(study: Path, *envs: str) -> Path:
    for file in (file for env in envs for file in study.glob(f"{env}-*/run.json")):
        edit(file, lambda info: info["reference"].update(optimal=None))
    return study


@pytest.mark.parametrize("metric", ["auc", "final"])
def test_environments_without_a_scale_are_judged_each_by_itself(
    tmp_path: Path, metric: str
) -> None:
    envs = {name: ENVS[name] for name in ("maze", "chain")}
    decided = PPO_AGAINST_RLOO | {"metric": metric}
    study = write_study(tmp_path, agents=TWO, envs=envs, seeds=12, decided=decided)
    near = 0.001 * np.cos(np.arange(12))
    scores = {("maze", "ppo"): 0.5 + near, ("chain", "ppo"): 0.8 + near}
    set_scores(study, scores | {(env, "rloo"): np.full(12, 0.5) for env in envs})
    without_optimum(study, *envs)
    results = analyse(report.load(study))
    claims = {s.title: s for s in verdicts(results)}
    title = "Sample efficiency" if metric == "auc" else "Final performance"
    chain, maze = claims[f"{title} on chain"], claims[f"{title} on maze"]
    assert (chain.tone, maze.tone) == ("claim", "open")
    assert re.search(
        r"ppo minus rloo, 3\.0.*97.5% interval.*12 pairs of seeds.*in raw returns", chain.text
    )
    assert "equal" not in maze.text.replace("evidence of equality", "")
    assert "ppo against rloo on" in claims["Decided beforehand"].text
    assert "never called equal" in claims["Decided beforehand"].text
    assert "ppo better on chain (+3.000 in raw returns)" in claims["Where"].text
    assert "the optimal return is not known for maze and chain" in claims[""].text
    table = tables.contrasts.family(results)
    assert {row[-3] for row in table.rows} == {12}
    assert [row[0] for row in table.rows] == ["AUC", "AUC", "Final score", "Final score"]


def test_an_environment_alone_without_a_scale_promises_no_margin(tmp_path: Path) -> None:
    envs = {"chain": ENVS["chain"]}
    study = write_study(tmp_path, agents=TWO, envs=envs, seeds=6, decided=PPO_AGAINST_RLOO)
    texts = said(analyse(report.load(study)))
    assert "normalised scores within" in texts["Decided beforehand"]
    assert "raw returns" not in " ".join(texts.values())
    texts = said(analyse(report.load(without_optimum(study, "chain"))))
    assert "normalised" not in texts["Decided beforehand"]
    assert "1 environment, in raw returns" in texts["Sample efficiency"]
    assert texts[""].startswith(
        "Scores are raw returns: the optimal return is not known for chain. A "
    )


def test_a_verdict_on_one_environment_that_hangs_on_a_failed_run_is_named(tmp_path: Path) -> None:
    envs = {name: ENVS[name] for name in ("maze", "chain")}
    study = write_study(tmp_path, agents=TWO, envs=envs, seeds=12, decided=PPO_AGAINST_RLOO)
    near = 0.01 * np.cos(np.arange(12))
    scores = {(env, "ppo"): 0.6 + near for env in envs}
    set_scores(study, scores | {(env, "rloo"): np.full(12, 0.5) for env in envs})
    without_optimum(study, *envs)

    def fail(rows: dict[str, np.ndarray]) -> None:
        rows["return_sampled"][(rows["seed"] < 6) & (rows["update"] > 2)] = np.nan

    set_returns(study / "maze-ppo-1a2b3c4d", fail)
    changes = analyse(report.load(study)).rule_changes
    assert any(" on auc in maze: " in text for text in changes)
    assert not any(" in chain: " in text for text in changes)


def test_equality_that_hangs_on_a_failed_run_is_told_once(tmp_path: Path) -> None:
    study = write_study(
        tmp_path,
        agents=TWO,
        envs={"maze": ENVS["maze"]},
        seeds=12,
        decided=PPO_AGAINST_RLOO,
    )
    near = 0.005 * np.cos(np.arange(12))
    set_scores(study, {("maze", "ppo"): 0.8 + near, ("maze", "rloo"): 0.8 - near})

    def fail(rows: dict[str, np.ndarray]) -> None:
        rows["return_sampled"][(rows["seed"] == 3) & (rows["update"] > 2)] = np.nan

    set_returns(study / "maze-ppo-1a2b3c4d", fail)
    results = analyse(report.load(study))
    assert results.family["auc"].verdict == "undecided"
    on_auc = [text for text in results.rule_changes if " on auc" in text]
    assert len(on_auc) == 1
    assert "undecided under the rule 'floor'" in on_auc[0]
    assert on_auc[0].endswith("equal under 'drop'")


def test_an_environment_that_one_side_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, seeds=6, decided=PPO_AGAINST_RLOO)
    assert "Incomplete" not in said(analyse(report.load(study)))
    shutil.rmtree(study / "maze-ppo-1a2b3c4d")
    results = analyse(report.load(study))
    assert results.family["auc"].tasks == ("cartpole", "chain")
    text = said(results)["Incomplete"]
    assert text.startswith("Without scores: ppo on maze.")
    assert "both sides on maze, which is left out" in text
    assert "other agents" not in text
    shutil.rmtree(study / "chain-ppo-1a2b3c4d")
    text = said(analyse(report.load(study)))["Incomplete"]
    assert "both sides on maze and chain, which are left out" in text


def test_too_few_pairs_are_counted_where_they_are_too_few(tmp_path: Path) -> None:
    envs = {name: ENVS[name] for name in ("cartpole", "maze")}
    study = write_study(tmp_path, agents=TWO, envs=envs, seeds=12)

    def fewer(plan: dict[str, Any]) -> None:
        for cell in plan["cells"]:
            cell["seeds"] = cell["seeds"][:2] if cell["env"] == "maze" else cell["seeds"]

    edit(study / "plan.json", fewer)
    text = said(analyse(report.load(study)))["Sample efficiency"]
    assert text == "Insufficient: 2 pairs on maze; 3 are needed on each environment."


def test_who_has_learned_nothing_is_not_praised_for_losing_nothing(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, envs={"maze": ENVS["maze"]}, seeds=12)
    set_scores(study, {("maze", "rloo"): np.linspace(0.0, 0.05, 12)})
    set_returns(study / "maze-ppo-1a2b3c4d", stumble)
    results = analyse(report.load(study))
    assert results.family["drawdown"].better == "outcome-only"
    (claim,) = [item for item in verdicts(results) if item.title == "Stability"]
    assert claim.tone == "open"
    assert "below 10% of the way" in claim.text
    assert "for outcome-only agents on maze: who learns nothing" in claim.text
    set_scores(study, {("maze", "rloo"): np.linspace(0.4, 0.5, 12)})
    set_returns(study / "maze-rloo-1a2b3c4d", untrained)
    (claim,) = [s for s in verdicts(analyse(report.load(study))) if s.title == "Stability"]
    assert claim.tone == "claim"
    assert "learns nothing" not in claim.text


def test_of_evaluations_that_do_not_tell_their_noise_nothing_is_claimed(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, envs={"maze": ENVS["maze"]}, seeds=12)
    set_returns(study / "maze-ppo-1a2b3c4d", stumble)
    assert said_of_stability(study).tone == "claim"
    set_returns(study / "maze-rloo-1a2b3c4d", lambda rows: rows.pop("return_split"))
    claim = said_of_stability(study)
    assert claim.tone == "open"
    assert "But the evaluations of 12 of 24 runs do not tell how noisy they are" in claim.text


def said_of_stability(study: Path) -> Sentence:
    (claim,) = [item for item in verdicts(analyse(report.load(study))) if item.title == "Stability"]
    return claim


def test_an_environment_without_a_scale_does_not_unsay_equality_elsewhere(tmp_path: Path) -> None:
    envs = {name: ENVS[name] for name in ("maze", "cartpole", "chain")}
    study = write_study(tmp_path, agents=TWO, envs=envs, seeds=12)
    near = 0.005 * np.cos(np.arange(12))
    set_scores(study, {("maze", "ppo"): 0.8 + near, ("maze", "rloo"): 0.8 - near})
    set_scores(study, {("chain", "ppo"): 0.9 + near, ("chain", "rloo"): 0.3 + near})
    set_scores(study, {("cartpole", "ppo"): 0.9 + near, ("cartpole", "rloo"): 0.3 + near})
    for file in study.glob("cartpole-*/run.json"):
        edit(file, lambda info: info.update(reference={}))
    results = analyse(report.load(study))
    assert results.family_by_task["maze"].verdict == "equal"
    assert results.family_by_task["cartpole"].verdict == "first"
    text = said(results)["Where"]
    assert "no practical difference on maze" in text
    assert "ahead on chain (+0.600) and cartpole (+108.0 in raw returns)" in text


@pytest.mark.parametrize("equal", [True, False])
def test_equal_agents_are_named_together(tmp_path: Path, equal: bool) -> None:
    study = write_study(tmp_path, agents=TWO, envs={"maze": ENVS["maze"]}, seeds=6)
    flat = np.full(6, 0.95)
    rloo = flat if equal else np.where(np.arange(6) < 4, 0.5, 0.95)
    set_scores(study, {("maze", "ppo"): flat, ("maze", "rloo"): rloo})
    results = analyse(report.load(study))
    (steps,), (matrix,) = speed.pictures(results), improvement.pictures(results)
    assert ("rloo and ppo first (by the median of 0 steps, untested)" in steps.caption) == equal
    assert ("ppo and rloo level (0.50)" in matrix.caption) == equal
    assert ("ppo over rloo" in matrix.caption) != equal


def test_pairs_that_are_not_over_all_environments_say_over_which(tmp_path: Path) -> None:
    envs = {name: ENVS[name] for name in ("cartpole", "maze", "chain")}
    study = write_study(tmp_path, agents=TWO | {"a2c": 1.4}, envs=envs, seeds=6)
    shutil.rmtree(study / "maze-a2c-1a2b3c4d")
    results = analyse(report.load(study))
    for table in (tables.contrasts.pairs(results), tables.contrasts.improvement(results)):
        where = [row[table.columns.index("environments")] for row in table.rows]
        assert where[:3] == ["all 3", "cartpole, chain", "cartpole, chain"]
    (drawn, _), (matrix,) = pairs.pictures(results), improvement.pictures(results)
    assert "Not over all environments: " in matrix.caption
    assert "a2c against rloo and a2c against ppo over cartpole and chain. " in drawn.caption
    whole = analyse(report.load(write_study(tmp_path / "whole", agents=TWO, envs=envs, seeds=6)))
    assert "Not over all" not in next(iter(pairs.pictures(whole))).caption


def test_both_sides_of_a_table_are_called_alike(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, seeds=12)
    near = 0.01 * np.linspace(-1, 1, 12)
    set_scores(study, {("maze", "ppo"): 0.9 + near, ("maze", "rloo"): 0.1 + near})
    set_scores(study, {("chain", "ppo"): 0.1 + near, ("chain", "rloo"): 0.9 + near})
    rows = {row[1]: row[-1] for row in tables.contrasts.family(analyse(report.load(study))).rows}
    assert rows["critic − outcome-only, maze"] == "critic better"
    assert rows["critic − outcome-only, chain"] == "outcome-only better"


def test_what_differs_at_the_end_is_not_said_to_differ_in_speed_alone(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, envs={"maze": ENVS["maze"]}, seeds=12)
    near = 0.001 * np.linspace(-1, 1, 12)
    set_scores(study, {("maze", "ppo"): 0.99 + near, ("maze", "rloo"): 0.96 + near})
    results = analyse(report.load(study))
    assert results.family["final"].better == "critic"
    assert "little but how fast" in said(results)["Solved"]
    set_scores(study, {("maze", "rloo"): 0.99 + near[::-1]})
    assert "only how fast" in said(analyse(report.load(study)))["Solved"]


def test_a_side_of_many_settings_is_named_by_its_agents(tmp_path: Path) -> None:
    three, one = (
        said(write_rates(tmp_path / "".join(rates), {agent: rates for agent in TWO}, [0, 3]))
        for rates in ("123", "1")
    )
    assert "(ppo; mean of 3 settings)" in three["Sample efficiency"]
    assert "mean of" not in one["Sample efficiency"]


@pytest.mark.parametrize("seeds", [2, 6])
def test_captions_promise_no_intervals_of_too_few_seeds(tmp_path: Path, seeds: int) -> None:
    results = analyse(report.load(write_study(tmp_path, agents=TWO, seeds=seeds)))
    pictures = {picture.id: picture for picture in figures.build(results)}
    for name in ("overview", "scores", "aggregate", "profile", "stability"):
        text = pictures[name].caption
        assert (f"{seeds} seeds" in text, "oo few seeds for ba" in text) == (True, seeds == 2)
    assert ("interval overlaps" in pictures["scores"].caption) == (seeds == 6)
    for name in ("aggregate", "stability"):
        data = pictures[name].data
        assert {row[data.columns.index("n")] for row in data.rows} == {3 * seeds}


def test_captions_of_many_environments_speak_of_no_numbers_that_are_not_drawn(
    tmp_path: Path,
) -> None:
    envs = {f"maze_{i}": ENVS["maze"] for i in range(5)}
    results = analyse(report.load(write_study(tmp_path, agents=TWO, envs=envs, seeds=3)))
    (picture,) = (picture for picture in figures.build(results) if picture.id == "scores")
    assert "Marks are IQM over 3 seeds" in picture.caption
    assert "bold" not in picture.caption


def test_all_numbers_of_seeds_are_told_where_environments_have_unequally_many(
    tmp_path: Path,
) -> None:
    study = write_study(tmp_path, agents=TWO, seeds=10)

    def fewer(plan: dict[str, Any]) -> None:
        for cell in plan["cells"]:
            cell["seeds"] = cell["seeds"][:4] if cell["env"] == "maze" else cell["seeds"]

    edit(study / "plan.json", fewer)
    (matrix,) = improvement.pictures(analyse(report.load(study)))
    assert "4 to 10 seeds per environment" in matrix.caption


def test_profiles_that_are_one_are_nowhere_apart(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, envs={"maze": ENVS["maze"]}, seeds=6)
    set_scores(study, {("maze", agent): np.full(6, 0.5) for agent in TWO})
    (picture,) = profile.pictures(analyse(report.load(study)))
    assert "furthest apart" not in picture.caption
    assert "all profiles are the same" in picture.caption


@pytest.mark.parametrize("envs", [("maze",), ("maze", "cartpole")])
def test_raw_returns_of_unlike_environments_share_no_axis(
    tmp_path: Path, envs: Sequence[str]
) -> None:
    own = {name: ENVS[name] for name in envs}
    study = write_study(tmp_path, agents=TWO, envs=own, seeds=6, reference=False)
    assert len(list(families.pictures(analyse(report.load(study))))) == (len(envs) == 1)


@pytest.mark.parametrize("envs", [("maze",), ("maze", "cartpole")])
def test_pairs_without_a_common_scale_are_not_listed_as_if_they_were_few(
    tmp_path: Path, envs: Sequence[str]
) -> None:
    own = {name: ENVS[name] for name in envs}
    study = write_study(tmp_path, agents=TWO, envs=own, seeds=6, reference=False)
    document = compose(report.load(study))
    alone = len(envs) == 1
    assert ("pairs" in document.tables, "pairs" in document.pictures) == (alone, alone)
    assert any(section.id == "pairs" for section in document.sections) == alone
    told = "There is no common scale: each is judged by itself, and nothing is averaged over them."
    assert any(told in sentence.text for sentence in document.verdicts) != alone


@pytest.mark.parametrize("contrast", [("reinforce", "rloo"), ("rloo", "reinforce")])
def test_a_pair_has_the_direction_of_the_question(
    tmp_path: Path, contrast: tuple[str, str]
) -> None:
    decided = {"metric": "auc", "margin": 0.05, "contrast": contrast}
    agents = {"reinforce": 0.8, "rloo": 1.2, "ppo": 1.8}
    envs = {"maze": ENVS["maze"]}
    study = write_study(tmp_path, agents=agents, envs=envs, seeds=6, decided=decided)
    results = analyse(report.load(study))
    pairs = {(pair.first, pair.second): pair for pair in results.pairs["auc"]}
    assert pairs.keys() == {contrast, ("ppo", "rloo"), ("ppo", "reinforce")}
    assert pairs[contrast].interval == results.family["auc"].interval
    assert contrast in {(item.first, item.second) for item in results.improvement}


def write_rates(root: Path, rates: Mapping[str, Sequence[str]], firsts: Sequence[int]) -> Results:
    """Agents with some learning rates each, and those with some first seeds."""
    cells: list[Planned] = [
        (agent, f"{r}-{f}", range(f, f + 3), {"agent.lr": r, "first_seed": str(f)})
        for agent, own in rates.items()
        for r in own
        for f in firsts
    ]
    return analyse(report.load(write_seeds(root, cells)))


def test_the_best_of_several_settings_is_said_to_be_optimistic(tmp_path: Path) -> None:
    several = said(write_rates(tmp_path / "two", {"rloo": ["1", "2"], "ppo": ["1", "2"]}, [0]))
    assert "optimistic, and more so the more settings were tried" in several["Agents"]
    assert "Unequal tuning" not in several
    one = said(write_rates(tmp_path / "one", {"rloo": ["1"], "ppo": ["2"]}, [0, 3]))
    assert "optimistic" not in one["Agents"]
    assert "Unequal tuning" not in one


def test_few_settings_can_be_unequally_many_too(tmp_path: Path) -> None:
    results = write_rates(tmp_path / "unequal", {"rloo": ["1"], "ppo": ["1", "2", "3"]}, [0, 3])
    text = said(results)["Unequal tuning"]
    assert "1 setting of rloo and 3 settings of ppo" in text


def test_more_settings_are_more_optimistic_than_few(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents=TWO, seeds=3)

    def sweep(plan: dict[str, Any]) -> None:
        cells = []
        for cell in plan["cells"]:
            for rate in ("1", "2", "3")[: 2 if cell["agent"] == "rloo" else 3]:
                name = f"{cell['id']}-{rate}"
                shutil.copytree(study / cell["id"], study / name)
                cells.append({**cell, "id": name, "settings": {"agent.lr": rate}})
        plan["cells"] = cells

    edit(study / "plan.json", sweep)
    captions = {p.id: p.caption for p in figures.build(analyse(report.load(study)))}
    assert "for all alike" not in captions["sensitivity"]
    assert (
        "more so the more settings an agent has: 2 of rloo and 3 of ppo" in captions["sensitivity"]
    )


def width(interval: statistics.Interval) -> float:
    assert interval.low is not None
    assert interval.high is not None
    return interval.high - interval.low


def write_settings(root: Path, seeds: int) -> Path:
    """Two agents on two settings of one environment, with the very same runs on both."""
    cells = [
        (agent, f"{i}", range(seeds), {"env.slip": f"{i / 10}"})
        for i in range(2)
        for agent in ("rloo", "ppo")
    ]
    study = write_seeds(root / "twins", cells)
    for agent in TWO:
        file = "evaluation.parquet"
        shutil.copy(study / f"maze-{agent}-0" / file, study / f"maze-{agent}-1" / file)
    return study


def test_settings_of_one_environment_with_the_same_runs_tell_no_more_than_one(
    tmp_path: Path,
) -> None:
    results = analyse(report.load(write_settings(tmp_path, 8)))
    both, one = results.family["auc"], results.family_by_task["maze slip=0.0"]
    assert (both.pairs, both.units, both.environments, one.units) == (16, 8, 1, 8)
    assert both.p == one.p
    assert width(both.plain) == pytest.approx(width(one.plain), rel=0.3)
    spread = [results.summary["auc", name, "ppo"] for name in results.pool]
    over = results.aggregate["iqm", "auc", "ppo"]
    assert width(over) > 0.8 * min(map(width, spread))
    (pair,) = results.improvement
    assert pair.interval.n == 8


def test_seeds_on_settings_of_one_environment_are_too_few_however_many_pairs(
    tmp_path: Path,
) -> None:
    results = analyse(report.load(write_settings(tmp_path, 4)))
    told = said(results)
    assert results.family["auc"].verdict == "undecided"
    assert (
        "4 seeds, each with its pairs on all settings of an environment, are too few"
        in (told["Too few seeds"])
    )
    assert "cannot decide this; 8 seeds are needed" in told["Sample efficiency"]


def test_what_was_not_tested_is_not_called_undecided(tmp_path: Path) -> None:
    told = said(analyse(report.load(write_study(tmp_path, agents=TWO, seeds=2))))
    assert re.search(r"too few seeds on \w+ .*\.$", told["Where"])
    assert "undecided" not in told["Where"]
    assert "too few seeds against" in told["Agents"]
    assert "undecided" not in told["Agents"]
    assert "Holm" not in told["Agents"]


@pytest.mark.parametrize("envs", [("maze",), ("maze", "chain")])
def test_one_number_has_one_interval(tmp_path: Path, envs: Sequence[str]) -> None:
    study = write_study(tmp_path, agents=TWO, envs={env: ENVS[env] for env in envs}, seeds=8)
    results = analyse(report.load(study))
    for metric in ("auc", "final"):
        over = {name: results.aggregate[name, metric, "ppo"] for name in ("iqm", "mean", "median")}
        same = over["iqm"] == results.summary[metric, "maze", "ppo"]
        assert same == (over["mean"] == over["median"]) == (len(envs) == 1)
