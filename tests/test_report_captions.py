"""What captions, notes and lines beside numbers say of them: how large, how many, in which unit."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import report_study
from tests.report_study import ENVS, set_info, set_returns, write_cell, write_study
from tests.test_report_learning import flat, judged, rising, told
from tests.test_report_verdicts import write_seeds
from vfcompare import report, statistics
from vfcompare.report import figures, scoring, tables
from vfcompare.report.analysis import Results, analyse
from vfcompare.report.figures import phase
from vfcompare.report.pages import formats
from vfcompare.report.table import Table

_quick = report_study.quick(100, 500)


PLACES = {("4", "0.0"): 0.85, ("4", "0.2"): 0.6, ("8", "0.0"): 0.4, ("8", "0.2"): 0.1}


def plane(root: Path, *, scaled: bool = True) -> Results:
    """Mazes over two settings, on which PPO is at these heights and RLOO at 0.9."""
    rng, study, cells = np.random.default_rng(0), root / "plane", []
    for ((horizon, slip), height), agent in itertools.product(PLACES.items(), ("ppo", "rloo")):
        cell: dict[str, Any] = {
            "id": f"{agent}-{horizon}-{slip}",
            "agent": agent,
            "env": "maze",
            "settings": {"env.horizon": horizon, "env.slip": slip},
            "seeds": list(range(8)),
        }
        known = {"random": 0.0, "optimal": 1.0} if scaled else {}
        folder = write_cell(study, cell, rng, 1.0, ENVS["maze"], 8, known)

        def fill(
            rows: dict[str, np.ndarray], own: float = height if agent == "ppo" else 0.9
        ) -> None:
            rows["return_sampled"][:] = own + rng.normal(0, 0.01, rows["seed"].size)

        set_returns(folder, fill)
        set_info(folder, cell, known)
        cells.append(cell)
    (study / "plan.json").write_text(json.dumps({"cells": cells, "study": "plane"}))
    return analyse(report.load(study))


def test_the_largest_difference_is_the_largest_whatever_its_sign(tmp_path: Path) -> None:
    (picture,) = phase.pictures(plane(tmp_path))
    assert "largest: −0.8" in picture.caption
    assert "at horizon=8, slip=0.2" in picture.caption
    assert "0 are equal in practice (≈: undecided, and within ±0.05)" in picture.caption


def test_raw_returns_of_a_plane_have_no_margin(tmp_path: Path) -> None:
    (picture,) = phase.pictures(plane(tmp_path, scaled=False))
    assert "±" not in picture.caption
    assert "in area under the curve, in raw returns; largest: −0.8" in picture.caption


def test_twenty_pairs_are_not_few(tmp_path: Path) -> None:
    """Six of twenty seeds learn, the others lose a little: the signs of the six could be chance."""
    curves = {"ppo": lambda s: rising(1.0) if s < 6 else flat(-0.01), "rloo": lambda _: flat(0.0)}
    results = judged(tmp_path / "many", curves, 0.003, seeds=20)
    contrast = results.family["auc"]
    assert contrast.interval.excludes(0.0)
    assert contrast.verdict == "undecided"
    text = told(results)["Sample efficiency"].text
    assert "few pairs" not in text
    assert (
        "exchanging the two of each pair at random gives as large a difference with p = 0.03"
        in text
    )


def test_five_pairs_are_few(tmp_path: Path) -> None:
    curves = {"ppo": lambda _: rising(1.0), "rloo": lambda _: rising(0.5)}
    results = judged(tmp_path, curves, seeds=5)
    assert statistics.attainable_level(5) == 0.0
    assert "so few pairs could do so by chance" in told(results)["Sample efficiency"].text


@pytest.mark.parametrize(("rows", "said"), [(400, True), (3, False)])
def test_a_table_in_tex_says_which_rows_it_leaves_out(rows: int, said: bool) -> None:
    table = Table("x", "Scores", ("n",), tuple((i,) for i in range(rows)))
    comment = formats.as_latex(table).splitlines()[0]
    assert comment.endswith("Needs the package booktabs.")
    assert (f"{len(table.printed)} of {rows} rows, the csv file has all" in comment) == said


def test_pictures_of_settings_say_of_how_many_seeds_they_are(tmp_path: Path) -> None:
    root = tmp_path / "rates"
    entries = []
    for env in ("maze", "chain"):
        cells = [
            (agent, f"{rate}", range(4), {"agent.lr": rate})
            for agent in ("ppo", "rloo")
            for rate in ("1", "2")
        ]
        write_seeds(root, cells, env)
        entries += json.loads((root / "plan.json").read_text())["cells"]
    (root / "plan.json").write_text(json.dumps({"study": "rates", "cells": entries}))
    results = analyse(report.load(root))
    captions = {picture.id: picture.caption for picture in figures.build(results)}
    for name in ("settings", "knobs", "sensitivity"):
        assert "over 4 seeds of 2 environments, without" in captions[name]
    assert "IQM over 4 seeds" in tables.scores.settings(results).note


def test_probabilities_of_improvement_say_of_how_many_runs_they_are(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.5, "rloo": 1.0}, seeds=4)
    table = tables.contrasts.improvement(analyse(report.load(study)))
    assert table.columns[3] == "n"
    assert table.rows[0][3] == 4 * len(ENVS)


@pytest.mark.parametrize(("until", "known"), [(0.3, False), (1.0, True)])
def test_an_early_evaluation_of_the_greedy_policy_is_not_final(
    tmp_path: Path, until: float, known: bool
) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.5}, envs={"maze": ENVS["maze"]}, seeds=3)

    def early(rows: dict[str, np.ndarray]) -> None:
        rows["return_greedy"][rows["env_steps"] > until * ENVS["maze"][2]] = np.nan

    set_returns(study / "maze-ppo-1a2b3c4d", early)
    (task,) = scoring.score(report.load(study))
    assert [item.greedy is not None for item in task.scores["ppo"]] == [known] * 3
