"""Reports of many cells: what is drawn, what is said of the rest, and that all of it is in the files."""

import csv
import json
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import report_study
from tests.report_study import (
    AGENTS,
    ENVS,
    column,
    edit,
    read,
    write_cell,
    write_parquet,
    write_study,
)
from vfcompare import report
from vfcompare.report import figures, tables
from vfcompare.report.analysis import analyse
from vfcompare.report.analysis.arms import LEADERS, LINES, ROWS, Arm
from vfcompare.report.analysis.contrasts import ALL_PAIRS
from vfcompare.report.figures import (
    contrasts,
    costs,
    drawing,
    improvement,
    output,
    pairs,
    sensitivity,
)
from vfcompare.report.figures.looks import CRITIC, OUTCOME
from vfcompare.report.figures.looks import looks as looks_of
from vfcompare.report.figures.names import explained, shortened
from vfcompare.report.figures.speed import pictures as arrivals
from vfcompare.report.prose.fairness import matching, unfair
from vfcompare.report.table import MINUS
from vfcompare.schema import families

RATES = [f"{0.0001 * 2**i:g}" for i in range(6)]
ENTROPIES = ["0.0", "0.05"]


_quick = report_study.quick(50, 50, svg=True)


def write_sweep(root: Path, envs: tuple[str, ...] = ("maze", "chain"), seeds: int = 3) -> Path:
    """Every agent with twelve settings on each environment: the fourth rate is best, entropy costs."""
    study, rng, cells = root / "sweep", np.random.default_rng(0), []
    for env in envs:
        low, high, budget = ENVS[env]
        for agent, speed in AGENTS.items():
            for rate in RATES:
                for entropy in ENTROPIES:
                    settings = {
                        "agent.optimizer.learning_rate": rate,
                        "agent.entropy_coef": entropy,
                    }
                    name = f"{env}-{agent}-{rate}-{entropy}"
                    cell: dict[str, Any] = {"id": name, "agent": agent, "env": env}
                    cell |= {"settings": settings, "seeds": list(range(seeds))}
                    cells.append(cell)
                    gain = speed * 0.5 ** abs(RATES.index(rate) - 3) * (1 - 10 * float(entropy))
                    known = {"random": low, "optimal": high, "threshold": None}
                    folder = write_cell(study, cell, rng, gain, (low, high, budget), 8, known)
                    certificate = folder / "certificate.json"
                    certificate.write_text(json.dumps(certify(agent, settings)))
    plan = {"schema": 1, "study": "sweep", "question": "?", "created": "", "cells": cells}
    (study / "plan.json").write_text(json.dumps(plan))
    return study


def certify(agent: str, settings: dict[str, str]) -> dict[str, Any]:
    """A certificate as `vfcompare.runs.certificate.make` writes it."""
    parts = {
        "agent.estimator": agent,
        "agent.optimizer": settings["agent.optimizer.learning_rate"],
        "agent.entropy_coef": settings["agent.entropy_coef"],
        "env": "the same",
    }
    return {
        "seeds": {
            str(s): dict.fromkeys(("policy", "environment", "rollout"), "ab") for s in range(3)
        },
        "parts": {name: {"sha256": text, "text": text} for name, text in parts.items()},
        "parameters": {"policy": 3},
        "facts": {"lanes": 1},
    }


def test_of_many_settings_the_best_and_the_median_are_drawn_and_all_are_in_the_files(
    tmp_path: Path,
) -> None:
    study = write_sweep(tmp_path)
    page, content, _ = read(report.write(study))
    best = content["tables"]["settings"]
    assert column(best, "agent") == list(AGENTS)
    assert set(column(best, "learning_rate")) == {RATES[3]}
    assert set(column(best, "entropy_coef")) == {"0.0"}
    assert len(page.tables["scores"]) - 1 == 2 * 2 * len(AGENTS)
    assert content["tables"]["scores"]["count"] == 2 * 12 * len(AGENTS)
    with (study / "report" / "tables" / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 12 * len(AGENTS)
    with (study / "report" / "figures" / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 * 2 * 12 * len(AGENTS)
    assert "50 others are in scores.csv" in content["figures"]["scores"]["caption"]
    agents = next(item["text"] for item in content["verdicts"] if item["title"] == "Agents")
    assert "optimistic" in agents


def test_the_swept_settings_are_drawn_one_by_one(tmp_path: Path) -> None:
    study = write_sweep(tmp_path)
    report.write(study)
    with (study / "report" / "figures" / "knobs.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["setting"] == "learning_rate"]
    for agent in AGENTS:
        mine = {row["value"]: float(row["auc"]) for row in rows if row["agent"] == agent}
        assert list(mine) == RATES
        assert max(mine, key=lambda value: mine[value]) == RATES[3]


def test_functions_that_were_swept_have_short_names_below_an_axis(tmp_path: Path) -> None:
    study = write_sweep(tmp_path, envs=("maze",))
    key = "agent.estimator.advantage.credit._target_"
    functions = ("outcome", "reward_to_go_of_all", "reward_to_go_of_one")

    def swept(plan: dict[str, Any]) -> None:
        for rate, function in zip(RATES, functions, strict=False):
            for one in plan["cells"]:
                if one["settings"]["agent.optimizer.learning_rate"] == rate:
                    one["settings"][key] = f"vfcompare.returns.{function}"

    edit(study / "plan.json", swept)
    drawn = {one.id: one for one in sensitivity.pictures(analyse(report.load(study)))}
    (axes,) = (a for a in drawn["knobs"].draw().axes if a.get_xlabel() == "credit")
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert ticks == ["outcome", "rewar…_all", "rewar…_one"]


def test_what_was_swept_alike_for_every_agent_is_no_unfair_difference(tmp_path: Path) -> None:
    study = write_sweep(tmp_path, envs=("maze",))
    (match,) = analyse(report.load(study)).matching
    verdicts = {item: verdict for item, verdict, _ in match.rows}
    assert verdicts["optimizer"] == verdicts["entropy_coef"] == "swept"
    assert not match.different


@pytest.mark.parametrize("change", ["another value", "one agent alone"])
def test_what_was_swept_otherwise_for_one_agent_is_a_difference(
    tmp_path: Path, change: str
) -> None:
    study = write_sweep(tmp_path, envs=("maze",))
    if change == "another value":
        path = study / f"maze-ppo-{RATES[0]}-0.0" / "certificate.json"
        edit(path, lambda c: c["parts"]["agent.optimizer"].update(sha256="x", text="x"))
    else:
        edit(
            study / "plan.json",
            lambda p: p.update(
                cells=[
                    cell
                    for cell in p["cells"]
                    if cell["agent"] == "ppo"
                    or cell["settings"]["agent.optimizer.learning_rate"] == RATES[0]
                ]
            ),
        )
    (match,) = analyse(report.load(study)).matching
    assert match.different == ("optimizer",)


def test_an_agent_at_fewer_settings_makes_no_alarm_of_a_question_of_others(tmp_path: Path) -> None:
    study = write_sweep(tmp_path, envs=("maze",))

    def later(plan: dict[str, Any]) -> None:
        plan["decided"] = {"metric": "auc", "margin": 0.05, "contrast": ["ppo", "rloo"]}
        gone = {f"maze-grpo-{rate}-0.05" for rate in RATES}
        plan["cells"] = [cell for cell in plan["cells"] if cell["id"] not in gone]

    edit(study / "plan.json", later)
    results = analyse(report.load(study))
    (alarm,) = unfair(results)
    assert (alarm.title, alarm.text) == (
        "Not matched throughout",
        "On maze ppo and rloo are alike but for what is compared; other agents of the study differ from them "
        "in entropy_coef, too.",
    )
    (sentence,) = matching(results)
    assert sentence.text.startswith("ppo and rloo are matched; different with other agents: entr")


def test_fewer_settings_for_one_agent_are_said_to_be_unequal_tuning(tmp_path: Path) -> None:
    study = write_sweep(tmp_path, envs=("maze",))

    def drop(plan: dict[str, Any]) -> None:
        gone = {f"maze-rloo-{rate}-0.05" for rate in RATES}
        plan["cells"] = [cell for cell in plan["cells"] if cell["id"] not in gone]

    edit(study / "plan.json", drop)
    _, content, _ = read(report.write(study))
    (warning,) = [item for item in content["verdicts"] if item["title"] == "Unequal tuning"]
    assert "6 settings of rloo" in warning["text"]


def test_a_page_of_many_agents_is_short_and_names_no_endless_list(tmp_path: Path) -> None:
    agents = {f"agent_{i}": 0.5 + 0.03 * i for i in range(50)}
    study = write_study(tmp_path, agents=agents, envs={"maze": ENVS["maze"]}, seeds=3)
    results = analyse(report.load(study))
    assert len(results.shown.rows) == ROWS
    assert len(results.shown.lines) == LEADERS
    assert [arm.name for arm in results.shown.rows][:5] == sorted(
        (arm.name for arm in results.arms), key=lambda name: -results.standing[name]
    )[:5]
    _, content, _ = read(report.write(study))
    texts = [item["text"] for item in content["verdicts"]]
    texts += [figure["caption"] for figure in content["figures"].values()]
    assert max(map(len, texts)) < 700
    assert "5 arms that stand lowest" in content["figures"]["scores"]["caption"]


STEM = "x" * 30


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["ppo", "rloo lr=0.1"], ["ppo", "rloo lr=0.1"]),
        (
            [f"{a} hidden=[64,64], learning_rate={r}" for a in ("ppo", "rloo") for r in ("1", "2")],
            [f"{a} learning_rate={r}" for a in ("ppo", "rloo") for r in ("1", "2")],
        ),
        (
            [f"ppo hidden={h}, learning_rate={r}" for h in ("[64,64]", "[9]") for r in ("1", "2")],
            [f"ppo {h}, {r}" for h in ("[64,64]", "[9]") for r in ("1", "2")],
        ),
        ([f"{STEM}a", f"{STEM}b"], [f"{STEM[:12]}…{STEM[:10]}{end}" for end in "ab"]),
        ([f"{STEM}{m}{STEM}" for m in "ab"], [f"{STEM}{m}{STEM[:16]}…" for m in "ab"]),
        ([f"{2 * STEM}{m}{STEM}" for m in "ab"], [f"{STEM[:19]}… {n}" for n in (1, 2)]),
        ([f"a b={STEM}"] * 2, ["a"] * 2),
        ([], []),
    ],
)
def test_short_names_differ_where_the_names_do(names: list[str], shown: list[str]) -> None:
    assert shortened(names) == shown


def test_captions_say_what_bare_numbers_in_names_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.RATES", RATES[2:4])
    monkeypatch.setattr(f"{__name__}.AGENTS", {"rloo": 1.2, "ppo": 1.8})
    found = {p.id: p.caption for p in figures.build(analyse(report.load(write_sweep(tmp_path))))}
    told = "Numbers behind names: entropy_coef, learning_rate. "
    named = {"overview", "learning-1", "scores", "aggregate", "profile", "speed"}
    named |= {"pairs", "improvement", "stability"}
    assert {name for name in named if found[name].count(told.strip()) == 1} == named
    assert "behind names" not in found["families"]


@pytest.mark.parametrize(
    ("names", "limit", "told"),
    [
        (["ppo lr=1", "ppo lr=2"], 24, ""),
        (["ppo lr=1", "rloo"], 5, "Numbers behind names: lr. "),
        (["ppo norm=layer, lr=1", "ppo norm=none, lr=1"], 14, ""),
        (["ppo norm=layer, lr=1", "ppo norm=none, lr=2"], 14, "Values behind names: norm, lr. "),
        ([], 14, ""),
    ],
)
def test_what_stands_bare_behind_a_name_is_explained(
    names: list[str], limit: int, told: str
) -> None:
    assert explained(names, shortened(names, limit)) == told


def test_captions_say_whom_numbers_stand_for() -> None:
    names = [f"{2 * STEM}{m}{STEM}" for m in "ab"]
    shown = shortened(["ppo", *names])
    assert shown == ["ppo", *(f"{STEM[:19]}… {n}" for n in (1, 2))]
    told = explained(["ppo", *names], shown)
    assert told == f"Names that are cut: 1 is {names[0]}; 2 is {names[1]}. "


@pytest.mark.parametrize("most", [3, 7])
def test_a_pair_keeps_both_its_names_and_the_minus_in_one_column(most: int) -> None:
    arms = [
        f"{agent} entropy_coef={x}"
        for agent in ("shrunk", "rloo", "grpo")
        for x in ("0.01", "0.03")
    ]
    arms = ["ppo", *arms][:most]
    rows = [f"{one} {MINUS} {other}" for one, other in combinations(arms, 2)]
    with output.style(3.25):
        shown = contrasts.labels(rows)
        told = contrasts.explanation(rows)
    assert len(set(shown)) == len(rows)
    assert all(text.count(MINUS) == 1 for text in shown)
    first = {3: f"ppo\n{MINUS} shrunk 0.01", 7: f"ppo {MINUS} shru…0.01"}
    assert shown[0] == first[most]
    assert told == "Numbers behind names: entropy_coef. "


@pytest.mark.parametrize("seconds", [1.0, 1000.0])
def test_seconds_are_set_against_each_other_only_where_they_are_many(
    tmp_path: Path, seconds: float
) -> None:
    agents = {"ppo": 1.5, "rloo": 1.0}
    study = write_study(tmp_path, agents=agents, envs={"maze": ENVS["maze"]}, seeds=2)
    for path in study.glob("*/run.json"):
        edit(path, lambda run: run.update(env_steps=80_000, seconds={"train": seconds}, flops=1e9))
    (picture,) = costs.pictures(analyse(report.load(study)))
    heads = [text.get_text() for axes in picture.draw().axes for text in axes.texts]
    many = seconds >= costs.SECONDS
    assert ("times the seconds" in picture.caption) == many
    assert "times the FLOPs" in picture.caption
    assert heads.count("critic/outcome-only: \N{MULTIPLICATION SIGN}1.00") == 1 + many
    assert "set against each other from 5 s on" in picture.caption


def texts(axes: Any) -> dict[int, str]:
    """What stands behind each row of a panel."""
    return {int(text.xy[1]): text.get_text() for text in axes.texts if "/" in text.get_text()}


def test_rows_of_all_panels_of_arrivals_stand_beside_their_names(tmp_path: Path) -> None:
    envs = {f"maze{i}": ENVS["maze"] for i in range(5)}
    study = write_study(tmp_path, envs=envs, seeds=3)
    first, *_ = (cell["id"] for cell in json.loads((study / "plan.json").read_text())["cells"])
    missing = "maze1-reinforce-1a2b3c4d"
    shutil.rmtree(study / missing)
    edit(study / first / "run.json", lambda info: info.update(status="cancelled", seeds={}))
    (picture,) = arrivals(analyse(report.load(study)))
    found = [texts(axes) for axes in picture.draw().axes if axes.get_visible()]
    assert [sorted(rows) for rows in found] == [[*range(5)], [1, 2, 3, 4], *[[*range(5)]] * 3]
    assert "left out 6." in picture.caption
    assert picture.caption.endswith(
        "Left out of scores and yet here, censored where they stopped: 3."
    )


def test_only_the_first_environments_are_drawn_and_that_is_said(tmp_path: Path) -> None:
    envs = {f"maze{i}": ENVS["maze"] for i in range(13)}
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs=envs, seeds=2)
    (picture,) = arrivals(analyse(report.load(study)))
    assert "The first 12 of 13 environments are drawn." in picture.caption


def test_a_legend_has_more_rows_where_a_figure_is_narrower(tmp_path: Path) -> None:
    names = ["reinforce", "reinforce_mean", "rloo", "grpo", "a2c", "ppo"]
    rows = []
    for broad in (1.0, 1.5):
        figure, grid = drawing.canvas(2.0, broad=broad)
        handles = [grid[0, 0].plot([])[0] for _ in names]
        drawing.legend(figure, handles, names)
        figure.savefig(tmp_path / "x.svg")
        assert figure.legends[0].get_window_extent().x1 <= figure.bbox.x1
        rows.append(len({t.get_window_extent().y0.round() for t in figure.legends[0].texts}))
    assert rows == [2, 1]


@pytest.mark.parametrize("own", [True, False])
def test_many_agents_are_held_against_the_one_of_the_question(tmp_path: Path, own: bool) -> None:
    agents = {f"agent_{i}": 0.5 + 0.2 * i for i in range(ALL_PAIRS + 1)}
    decided = {"metric": "auc", "margin": 0.05, "contrast": ["agent_1", "agent_4"]}
    maze = {"maze": ENVS["maze"]}
    study = write_study(tmp_path, agents=agents, envs=maze, decided=decided if own else None)
    results = analyse(report.load(study))
    name = "agent_4" if own else "agent_0"
    for found in (results.pairs["auc"], results.improvement):
        assert {pair.second for pair in found} == {name}
        assert len(found) == ALL_PAIRS
    (drawn,), (matrix,) = pairs.pictures(results), improvement.pictures(results)
    for caption in (drawn.caption, matrix.caption):
        assert f"of 8 pairs, each against {name}," in caption
    for table in (tables.contrasts.pairs(results), tables.contrasts.improvement(results)):
        assert f"Each agent is held against {name}." in table.note
    axes = matrix.draw().axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [name]
    assert len(axes.patches) == len(axes.get_yticklabels()) == ALL_PAIRS


def test_few_agents_are_all_drawn_in_the_order_of_the_families(tmp_path: Path) -> None:
    results = analyse(report.load(write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)))
    shown = results.shown
    assert shown.rows == shown.lines == shown.compared == results.arms
    assert not shown.picked
    assert shown.left == 0


def test_two_settings_of_an_environment_make_a_plane(tmp_path: Path) -> None:
    study = tmp_path / "plane"
    rng, cells = np.random.default_rng(0), []
    for horizon in (4, 8, 16):
        for slip in ("0.0", "0.2"):
            for agent in ("rloo", "ppo"):
                helps = agent == "ppo" and horizon == 16
                cell: dict[str, Any] = {"id": f"{agent}-{horizon}-{slip}", "agent": agent}
                cell |= {"env": "maze", "seeds": list(range(6))}
                cell["settings"] = {"env.horizon": str(horizon), "env.slip": slip}
                known = {"random": 0.0, "optimal": 1.0}
                write_cell(study, cell, rng, 6.0 if helps else 1.0, ENVS["maze"], 8, known)
                cells.append(cell)
    (study / "plan.json").write_text(json.dumps({"cells": cells[:-1], "study": "plane"}))
    _, content, _ = read(report.write(study))
    assert "1 places have no result" in content["figures"]["phase-1"]["caption"]
    with (study / "report" / "figures" / "phase-1.csv").open() as file:
        rows = {(row["horizon"], row["slip"]): row for row in csv.DictReader(file)}
    assert len(rows) == 5
    assert float(rows["16", "0.0"]["difference"]) > 0.1
    assert abs(float(rows["4", "0.0"]["difference"])) < 0.1


def test_the_curves_are_drawn_against_other_costs_too(tmp_path: Path) -> None:
    study = write_study(
        tmp_path, agents={"rloo": 1.0, "ppo": 1.0}, envs={"maze": ENVS["maze"]}, seeds=3
    )
    for agent, per_update, seconds in (("rloo", 1.0, 10.0), ("ppo", 16.0, 30.0)):
        folder = study / f"maze-{agent}-1a2b3c4d"
        updates = list(range(50))
        steps = {"update": updates, "gradient_steps": [per_update] * 50}
        write_parquet(folder / "metrics.parquet", steps)
        spent = {"seconds": {"train": seconds}, "env_steps": 3 * ENVS["maze"][2]}
        spent["flops"] = 6e9 * per_update
        info = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(info | spent))
    _, content, _ = read(report.write(study))
    assert "Seconds are those of all seeds" in content["figures"]["costs"]["caption"]
    with (study / "report" / "figures" / "costs.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if float(row["env_steps"]) == ENVS["maze"][2]]
    names = ("gradient steps", "FLOPs", "seconds")
    ends = {row["agent"]: tuple(float(row[name]) for name in names) for row in rows}
    assert ends == {"rloo": (11.0, 2e9, 10.0), "ppo": (11.0 * 16, 32e9, 30.0)}
    assert "2G (rloo on maze) to 32G FLOPs" in content["figures"]["costs"]["caption"]


def test_what_a_side_pays_is_of_all_its_agents_also_of_those_that_are_not_drawn(
    tmp_path: Path,
) -> None:
    seconds = {f"agent_{i}": 10.0 + i for i in range(8)} | {"ppo": 27.0}
    agents = dict.fromkeys(seconds, 1.0)
    study = write_study(tmp_path, agents=agents, envs={"maze": ENVS["maze"]}, seeds=3)
    for agent, train in seconds.items():
        spent = {"seconds": {"train": train}, "env_steps": 3 * ENVS["maze"][2]}
        path = study / f"maze-{agent}-1a2b3c4d" / "run.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | spent))
    results = analyse(report.load(study))
    assert len(results.shown.lines) == 1 + LEADERS
    (picture,) = costs.pictures(results)
    assert "took 2.00 times the seconds" in picture.caption
    assert "of all agents" in picture.caption
    assert "The 4 that are drawn took" in picture.caption


def test_costs_that_one_agent_did_not_record_are_not_drawn(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"rloo": 1.0, "ppo": 1.0}, envs={"maze": ENVS["maze"]})
    edit(study / "maze-ppo-1a2b3c4d" / "run.json", lambda info: info.update(env_steps=1000))
    _, content, _ = read(report.write(study))
    assert "costs" not in content["figures"]


@pytest.mark.parametrize("family", [families.CRITIC, families.OUTCOME_ONLY])
def test_no_two_settings_of_one_figure_look_the_same(family: str) -> None:
    """Up to four have colours of their own; beyond, whoever shares one has another line and marker."""
    arms = [Arm(f"ppo {n}", "ppo", family) for n in range(LINES)]
    looks = [*looks_of(arms).values()]
    assert len({look.color for look in looks[:4]}) == 4
    for one, other in combinations(looks, 2):
        differ = one.line != other.line, one.marker != other.marker
        assert all(differ) if one.color == other.color else any(differ)


def lightness(color: str) -> float:
    """L* of CIELAB, which is left of a colour in grey."""
    light = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    return float(116 * np.cbrt(light @ [0.2126, 0.7152, 0.0722]) - 16)


@pytest.mark.parametrize("colors", [CRITIC, OUTCOME])
def test_colours_of_a_family_differ_in_lightness(colors: tuple[str, ...]) -> None:
    levels = sorted(map(lightness, colors))
    assert min(np.diff(levels)) > 6
