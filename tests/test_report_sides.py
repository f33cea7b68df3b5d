"""Who stands on the two sides of a question, and what a page says where the design is uneven."""

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import report_study
from tests.report_study import ENVS, edit, set_returns, write_study
from tests.test_report_verdicts import (
    Planned,
    said,
    set_scores,
    without_optimum,
    write_seeds,
)
from vfcompare import report
from vfcompare.report import tables
from vfcompare.report.analysis import analyse, resampling
from vfcompare.report.figures import families, pairs
from vfcompare.report.prose import sentences
from vfcompare.report.prose.method import method
from vfcompare.report.prose.verdicts import verdicts
from vfcompare.report.reading import data
from vfcompare.schema import families as schema
from vfcompare.schema.families import Shown

MAZE = {"maze": ENVS["maze"]}


_quick = report_study.quick(100, 500)


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
    families = {row[0]: row[1] for row in tables.scores.stability(results).rows}
    assert families["oracle_td"] == families["mixed"] == "exact values"
    assert (families["vine"], families["ppo"]) == ("simulated values", "critic")
    decided = {"metric": "auc", "margin": 0.05, "contrast": ["oracle_td", "critic"]}
    named = write_study(tmp_path / "named", agents=agents, envs=MAZE, seeds=6, decided=decided)
    results = analyse(report.load(reads(named, given)))
    assert [[arm.name for arm in side] for side in results.sides.both] == [["oracle_td"], ["ppo"]]
    assert "Sides" not in said(results)


OWN = (
    "agent: {estimator: {_target_: mine.own, values: {_target_: vfcompare.agents.critics.learned}}}"
)


def test_who_has_an_estimator_of_ones_own_stands_where_its_run_shows(tmp_path: Path) -> None:
    agents = {"rloo": 1.0, "ppo": 1.5, "named": 1.4, "learns": 1.4, "fresh": 1.2, "peeks": 1.9}
    study = write_study(tmp_path, agents=agents, envs=MAZE, seeds=6)
    shown = {
        "learns": ({"policy": 9, "critic": 5}, "none"),
        "peeks": ({"policy": 9}, "exact values"),
    }
    shown["fresh"] = ({"policy": 9, "critic": 0}, "none")
    for agent in ("named", *shown):
        folder = study / f"maze-{agent}-1a2b3c4d"
        told = OWN if agent == "named" else "agent: {estimator: {_target_: mine.own, gamma: 1.0}}"
        (folder / "config.yaml").write_text(f"{told}\n")
        if agent in shown:
            sizes, privilege = shown[agent]
            given = {"parameters": sizes, "facts": {"privilege": privilege}}
            (folder / "certificate.json").write_text(json.dumps(given))
    sides = analyse(report.load(study)).sides.both
    assert [[arm.name for arm in side] for side in sides] == [
        ["ppo", "named", "learns"],
        ["rloo", "fresh"],
    ]
    logged = {"seed": [0.0] * 3, "update": [0, 1, 2], "simulated_episodes": [8.0] * 3}
    report_study.write_parquet(study / "maze-fresh-1a2b3c4d" / "metrics.parquet", logged)
    results = analyse(report.load(study))
    assert [arm.name for arm in results.sides.both[1]] == ["rloo"]
    assert said(results)["Sides"].startswith(
        "On neither side: fresh (simulated values) and peeks (exact values)."
    )


@pytest.mark.parametrize(
    "shown", [None, "parameters", {"parameters": []}, {"parameters": {"critic": "5"}}]
)
def test_a_certificate_that_tells_nothing_leaves_the_configuration_to_tell(shown: Any) -> None:
    assert data.shown(shown, {}) in (None, Shown(learns=False, exact=False, simulates=False))
    for name in ("exact", "simulated", "greedy", "value_free"):
        estimator = {"_target_": f"vfcompare.estimators.{name}"}
        told = Shown(learns=True, exact=True, simulates=True)
        assert schema.family("a", estimator, told) == schema.family("a", estimator)


def test_a_question_without_a_second_side_says_so(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"rloo": 1.0, "oracle_td": 1.5}, envs=MAZE, seeds=6)
    results = analyse(report.load(reads(study, {"oracle_td": "exact"})))
    assert "of agents with a critic nothing was planned" in said(results)["One side only"]
    assert "exact values" in said(results)["Sides"]
    both = write_study(tmp_path / "both", agents={"rloo": 1.0, "ppo": 1.5}, envs=MAZE, seeds=6)
    alone = write_study(tmp_path / "alone", agents={"ppo": 1.0}, envs=MAZE, seeds=6)
    for study in (both, alone):
        assert not {"One side only", "Sides"} & said(analyse(report.load(study))).keys()


def without(study: Path, *cells: tuple[str, str]) -> Path:
    """The study, in which some agents were never planned on some environments."""

    def drop(plan: dict[str, Any]) -> None:
        plan["cells"] = [
            cell for cell in plan["cells"] if (cell["agent"], cell["env"]) not in cells
        ]

    for agent, env in cells:
        shutil.rmtree(study / f"{env}-{agent}-1a2b3c4d")
    edit(study / "plan.json", drop)
    return study


def test_agents_that_were_not_planned_everywhere_are_named_before_the_claims(
    tmp_path: Path,
) -> None:
    agents = {"rloo": 1.0, "grpo": 1.0, "ppo": 1.5, "a2c": 1.5}
    envs = {name: ENVS[name] for name in ("maze", "chain")}
    study = write_study(tmp_path, agents=agents, envs=envs, seeds=6)
    assert "Incomplete" not in said(analyse(report.load(study)))
    without(study, ("a2c", "maze"), ("grpo", "chain"))
    results = analyse(report.load(study))
    sentences = verdicts(results)
    titles = [sentence.title for sentence in sentences]
    assert titles.index("Incomplete") < titles.index("Sample efficiency")
    text = said(results)["Incomplete"]
    assert text.startswith("Not planned: a2c on maze; grpo on chain. Means of a side")
    assert "environments differ in who is compared" in text
    assert said(results)["Agents"].endswith(
        "not ranked, without scores on every environment: grpo and a2c."
    )


def test_a_claim_names_only_agents_that_were_planned(tmp_path: Path) -> None:
    decided = {"metric": "auc", "margin": 0.05, "contrast": [["ppo", "a2c"], ["rloo", "grpo"]]}
    agents = {"rloo": 1.0, "ppo": 1.5}
    study = write_study(tmp_path, agents=agents, envs=MAZE, seeds=12, decided=decided)
    results = analyse(report.load(study))
    assert said(results)["Incomplete"] == "Decided on, but never planned: a2c and grpo."
    assert "a2c" not in said(results)["Sample efficiency"]
    assert results.family["auc"].first == "ppo"


def test_agents_without_scores_enter_no_claim(tmp_path: Path) -> None:
    agents = {"rloo": 1.0, "ppo": 1.5, "a2c": 1.5}
    study = write_study(tmp_path, agents=agents, envs=MAZE, seeds=6)
    shutil.rmtree(study / "maze-a2c-1a2b3c4d")
    texts = said(analyse(report.load(study)))
    assert "agents with a critic (ppo)" in texts["Sample efficiency"]
    assert texts["Incomplete"].endswith("Means of a side are of its other agents there.")


@pytest.mark.parametrize("contrast", [["ppo", "rloo"], ["rloo", "ppo"]])
def test_the_pair_that_the_question_is_about_has_one_verdict(
    tmp_path: Path, contrast: Sequence[str]
) -> None:
    decided = {"metric": "auc", "margin": 0.05, "contrast": contrast}
    agents = {"rloo": 1.0, "ppo": 1.5}
    study = write_study(tmp_path, agents=agents, envs=MAZE, seeds=7, decided=decided)
    set_scores(
        study, {("maze", "ppo"): np.full(7, 0.8), ("maze", "rloo"): np.linspace(0.4, 0.5, 7)}
    )
    results = analyse(report.load(study))
    for metric, question in results.family.items():
        (pair,) = results.pairs[metric]
        assert (pair.first, pair.second) == tuple(contrast)
        assert pair == question
    assert results.pairs["auc"][0].verdict == "undecided"
    assert abs(results.pairs["auc"][0].interval.estimate) > 0.3
    assert "Holm-corrected over the metrics" in said(results)["Agents"]
    assert (
        "about has its verdict, corrected over the metrics" in tables.contrasts.pairs(results).note
    )


def test_a_pair_is_paired_in_order_only_where_no_seed_was_planned_for_both(tmp_path: Path) -> None:
    cells: list[Planned] = [(agent, "1", range(10), {}) for agent in ("rloo", "grpo")]
    study = write_seeds(tmp_path / "lost", cells)
    for agent, kept in (("rloo", range(5)), ("grpo", range(5, 10))):
        file = study / f"maze-{agent}-1" / "run.json"
        done = {str(seed): {"status": "completed"} for seed in kept}
        told = json.loads(file.read_text()) | {"seeds": done, "status": "running"}
        file.write_text(json.dumps(told))
    results = analyse(report.load(study))
    assert (results.pairs["auc"][0].pairs, results.pairs["auc"][0].unpaired) == (0, 10)
    assert not results.improvement


def test_few_seeds_in_common_are_counted(tmp_path: Path) -> None:
    cells: list[Planned] = [("rloo", "1", range(20), {}), ("ppo", "1", range(17, 37), {})]
    results = analyse(report.load(write_seeds(tmp_path / "few", cells)))
    text = said(results)["Few pairs"]
    assert "critic and outcome-only (3 of 37 seeds); at 3 runs" in text
    assert "3 pairs of seeds and 34 without partner" in said(results)["Sample efficiency"]
    same: list[Planned] = [(agent, "1", range(20), {}) for agent in ("rloo", "ppo")]
    assert "Few pairs" not in said(analyse(report.load(write_seeds(tmp_path / "all", same))))


def test_agents_with_more_seeds_do_not_weigh_more_in_their_side(tmp_path: Path) -> None:
    agents = {"rloo": 1.0, "ppo": 1.5, "a2c": 1.5}
    study = write_study(tmp_path, agents=agents, envs=MAZE, seeds=20)
    near = 0.01 * np.linspace(-1, 1, 20)
    heights = {"rloo": 0.5, "ppo": 0.9, "a2c": 0.3}
    set_scores(study, {("maze", agent): height + near for agent, height in heights.items()})

    def fewer(plan: dict[str, Any]) -> None:
        for cell in plan["cells"]:
            cell["seeds"] = cell["seeds"][: 5 if cell["agent"] == "ppo" else 20]

    edit(study / "plan.json", fewer)
    results = analyse(report.load(study))
    assert results.family["auc"].interval.estimate == pytest.approx(0.1)
    assert results.family["auc"].pairs == 5
    assert "Uneven seeds" in said(results)


def test_nothing_is_claimed_of_a_side_that_is_of_other_agents_at_other_seeds(
    tmp_path: Path,
) -> None:
    cells: list[Planned] = [
        ("rloo", "1", range(16), {}),
        ("ppo", "1", range(8), {}),
        ("a2c", "1", range(8, 16), {}),
    ]
    results = analyse(report.load(write_seeds(tmp_path / "mixed", cells)))
    assert results.family["auc"].better == "critic"
    sentences = {sentence.title: sentence for sentence in verdicts(results)}
    assert sentences["Sample efficiency"].tone == "open"
    assert sentences["Uneven seeds"].text.startswith("No seed was planned with all agents")


def test_a_verdict_on_one_of_several_environments_is_held_against_the_other_rules(
    tmp_path: Path,
) -> None:
    envs = {name: ENVS[name] for name in ("cartpole", "maze", "chain")}
    study = write_study(tmp_path, agents={"rloo": 1.0, "ppo": 1.5}, envs=envs, seeds=12)
    near = 0.01 * np.cos(np.arange(12))
    scores = {(env, "ppo"): 0.9 + near for env in envs} | {("maze", "ppo"): 0.6 + near}
    set_scores(study, scores | {(env, "rloo"): np.full(12, 0.5) for env in envs})
    assert not analyse(report.load(study)).rule_changes

    def fail(rows: dict[str, np.ndarray]) -> None:
        rows["return_sampled"][(rows["seed"] < 6) & (rows["update"] > 2)] = np.nan

    set_returns(study / "maze-ppo-1a2b3c4d", fail)
    results = analyse(report.load(study))
    assert results.family["auc"].better == "critic"
    about = [text.partition(":")[0] for text in results.rule_changes]
    assert "critic against outcome-only on auc in maze" in about
    assert len(about) == len({*about})
    assert "Some of these differ" in dict(method(results))["Failed runs"]


def learn(folder: Path, height: float) -> None:
    """Its runs come from nothing to about this height with the first update."""
    near = 0.01 * np.cos(np.arange(12))

    def rise(rows: dict[str, np.ndarray]) -> None:
        own = (height + near)[rows["seed"].astype(int)]
        rows["return_sampled"][:] = np.where(rows["update"] > 0, own, 0.0)

    set_returns(folder, rise)


@pytest.mark.parametrize("best", [0.9, 0.62])
def test_a_claim_over_all_settings_says_what_the_best_ones_say(tmp_path: Path, best: float) -> None:
    heights = {"rloo": {"1": 0.5, "2": 0.6, "3": 0.55}, "ppo": {"1": 0.3, "2": best, "3": 0.1}}
    cells: list[Planned] = [
        (agent, rate, range(12), {"agent.lr": rate}) for agent in heights for rate in "123"
    ]
    study = write_seeds(tmp_path / "rates", cells)
    for agent, own in heights.items():
        for rate, height in own.items():
            learn(study / f"maze-{agent}-{rate}", height)
    results = analyse(report.load(study))
    (claim,) = (s for s in verdicts(results) if s.title == "Sample efficiency")
    assert results.family["auc"].better == "outcome-only"
    assert (claim.tone, "depends on the settings" in claim.text) == ("open", True)
    assert re.search(r"chosen after looking, it is \+0\.\d+: nothing is claimed", claim.text)
    learn(study / "maze-ppo-2", 0.4)
    claims = {s.title: s for s in verdicts(analyse(report.load(study)))}
    assert claims["Sample efficiency"].tone == "claim"
    assert "chosen after looking, it is −" in claims["Sample efficiency"].text


def test_studies_that_decided_differently_are_not_said_to_have_decided_nothing(
    tmp_path: Path,
) -> None:
    studies = []
    for agent, metric, margin in (("ppo", "auc", 0.02), ("rloo", "final", 0.2)):
        study = write_seeds(tmp_path / f"of_{agent}", [(agent, "1", range(12), {})])
        decided = {"metric": metric, "margin": margin, "contrast": ["ppo", "rloo"]}
        plan = json.loads((study / "plan.json").read_text()) | {"decided": decided}
        (study / "plan.json").write_text(json.dumps(plan))
        studies.append(study)
    results = analyse(report.load(*studies))
    assert said(results)["Decided beforehand"] == (
        "The studies decided differently: metric auc in of_ppo and final in of_rloo; margin 0.02 in of_ppo "
        "and 0.2 in of_rloo. So auc is judged first and the smaller margin is used. Read every claim as a "
        "hint."
    )
    assert results.sides.names == ("ppo", "rloo")
    assert "the smallest margin of the studies" in dict(method(results))["Equal in practice"]
    edit(studies[1] / "plan.json", lambda plan: plan.update(decided=None))
    text = said(analyse(report.load(*studies)))["Decided beforehand"]
    assert text.startswith("The studies decided differently: nothing in of_rloo. Read")


def test_a_page_says_when_nothing_could_have_been_decided(tmp_path: Path) -> None:
    agents = {"rloo": 1.0, "ppo": 1.5}
    heights = {("maze", "ppo"): np.full(20, 0.9), ("maze", "rloo"): np.linspace(0.1, 0.3, 20)}
    texts = {}
    for seeds in (7, 8):
        study = write_study(tmp_path / str(seeds), agents=agents, envs=MAZE, seeds=seeds)
        set_scores(study, heights)
        results = analyse(report.load(study))
        assert (results.family["auc"].better is None) == (seeds == 7)
        (picture,) = families.pictures(results)
        texts[seeds] = said(results), picture.caption
    told = (
        "7 pairs of seeds are too few to decide any of 4 differences, whatever the scores; 8 seeds"
    )
    assert texts[7][0]["Too few seeds"] == f"Between the two sides {told} are needed."
    assert f"On any metric {told}" in texts[7][1]
    assert "Too few seeds" not in texts[8][0]
    assert "too few" not in texts[8][1]
    for file in (tmp_path / "7").glob("*/*/config.yaml"):
        file.write_text("agent: {warmup: 1, estimator: {critic: {lr: 0.1}}}\n")
    assert "Too few seeds" not in said(analyse(report.load(tmp_path / "7" / "compare")))


def test_seeds_that_are_needed_are_told_with_their_pairs_and_environments(tmp_path: Path) -> None:
    envs = {f"maze_{i}": ENVS["maze"] for i in range(2)}
    study = write_study(tmp_path, agents={"rloo": 1.0, "ppo": 1.5}, envs=envs, seeds=3)
    results = analyse(report.load(study))
    told = said(results)["Too few seeds"]
    wanted = "8 pairs, that is 4 seeds on each of 2 environments, are needed."
    assert (
        "Between the two sides 6 pairs of seeds are too few to decide any of 4 differences, whatever the "
        f"scores; {wanted}"
    ) in told
    assert "any of 2 differences, whatever the scores; 7 seeds are needed." in told
    few, *_ = results.family_by_task.values()
    assert sentences.too_few([few]).startswith(
        "3 pairs of seeds are too few to decide the one diff"
    )
    open_ = [text for text in said(results).values() if "cannot decide this" in text]
    assert open_
    assert all(f"6 pairs cannot decide this; {wanted}" in text for text in open_)


def test_many_places_and_many_pairs_need_more_seeds(tmp_path: Path) -> None:
    envs = {f"maze_{i}": ENVS["maze"] for i in range(12)}
    study = write_study(tmp_path / "places", agents={"rloo": 1.0, "ppo": 1.5}, envs=envs, seeds=8)
    text = said(analyse(report.load(study)))["Too few seeds"]
    assert text.startswith(
        "On any one environment 8 pairs of seeds are too few to decide any of 12"
    )
    assert text.endswith("9 seeds are needed.")
    agents = {"rloo": 1.0, "grpo": 1.0, "reinforce": 1.0, "ppo": 1.5, "a2c": 1.5}
    results = analyse(
        report.load(write_study(tmp_path / "pairs", agents=agents, envs=MAZE, seeds=8))
    )
    told = (
        "8 pairs of seeds are too few to decide any of 10 differences, whatever the scores; 9 seeds"
    )
    assert said(results)["Too few seeds"].startswith(f"Between any two agents {told}")
    assert told in next(iter(pairs.pictures(results))).caption


def test_beyond_the_random_flips_no_number_of_seeds_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "PAIR_REPS", 100)
    monkeypatch.setattr(resampling, "CLOSER", 1)
    envs = {f"maze_{i}": ENVS["maze"] for i in range(8)}
    study = write_study(tmp_path, agents={"rloo": 1.0, "ppo": 1.5}, envs=envs, seeds=8)
    text = said(analyse(report.load(study)))["Too few seeds"]
    assert text.endswith("whatever the scores, and no number is enough, as p is never below 1/101.")


def test_a_claim_names_its_environments_where_others_have_no_scale(tmp_path: Path) -> None:
    envs = {name: ENVS[name] for name in ("maze", "cartpole", "chain")}
    study = write_study(tmp_path, agents={"rloo": 1.0, "ppo": 1.5}, envs=envs, seeds=8)
    assert "3 environments)" in said(analyse(report.load(study)))["Sample efficiency"]
    without_optimum(study, "cartpole")
    text = said(analyse(report.load(study)))["Sample efficiency"]
    assert "2 environments (maze and chain))" in text


def test_unlike_returns_of_one_environment_are_named(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"rloo": 1.0, "ppo": 1.5}, envs=MAZE, seeds=4)
    assert "Unlike scales" not in said(analyse(report.load(study)))
    file = study / "maze-ppo-1a2b3c4d" / "run.json"
    edit(file, lambda info: info["reference"].update(optimal=2.0))
    assert said(analyse(report.load(study)))["Unlike scales"] == (
        "On maze the runs record unlike returns: optimal 1.000 of rloo, 2.000 of ppo. The first is used for "
        "all."
    )


def test_agents_that_are_level_are_named_together(tmp_path: Path) -> None:
    agents = {"rloo": 1.0, "ppo": 1.5, "grpo": 1.0}
    study = write_study(tmp_path, agents=agents, envs=MAZE, seeds=6)
    heights = {"rloo": 0.5, "ppo": 0.5, "grpo": 0.2}
    set_scores(study, {("maze", agent): np.full(6, height) for agent, height in heights.items()})
    text = said(analyse(report.load(study)))["Agents"]
    assert text.startswith(
        "rloo and ppo have the same area under the curve, IQM 0.500, and none has"
    )
    assert "undecided against grpo" in text
    set_scores(study, {("maze", "grpo"): np.full(6, 0.5)})
    text = said(analyse(report.load(study)))["Agents"]
    assert text == "rloo, grpo and ppo have the same area under the curve, IQM 0.500."
