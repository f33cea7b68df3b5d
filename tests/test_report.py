"""The report from the files of a study, down to the bytes."""

import csv
import html
import json
import os
import re
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure

from tests import report_study
from tests.report_study import (
    ENVS,
    column,
    compare,
    edit,
    read,
    set_returns,
    write_hostile_study,
    write_parquet,
    write_study,
)
from vfcompare import report
from vfcompare.report import scoring, tables
from vfcompare.report.analysis import analyse
from vfcompare.report.figures import output
from vfcompare.report.figures.drawing import spread
from vfcompare.report.figures.looks import CRITIC, INK, MUTED, OUTCOME, lettering
from vfcompare.report.pages import formats
from vfcompare.report.pages.document import compose
from vfcompare.report.pages.page import as_html, as_json
from vfcompare.report.prose import fairness
from vfcompare.report.prose.method import method, unmet
from vfcompare.report.prose.sentences import show_p
from vfcompare.report.prose.verdicts import verdicts
from vfcompare.report.reading import files, runs
from vfcompare.report.reading.cells import STATUSES
from vfcompare.report.table import Table, show
from vfcompare.runs import certificate, clock
from vfcompare.runs import status as run_status
from vfcompare.statistics import Interval


@pytest.fixture(autouse=True)
def _certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for `vfcompare.runs.certificate`, which knows more than the report has to."""
    monkeypatch.setattr(certificate, "compare", compare)


# The module's own fixture keeps the real numbers and formats.
_quick = report_study.quick(100, 500, svg=True)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of an undamaged study; made once, since drawing takes seconds."""
    patch = pytest.MonkeyPatch()
    patch.setattr(certificate, "compare", compare)
    study = write_study(tmp_path_factory.mktemp("runs"), seeds=12)
    page = report.write(study)
    patch.undo()
    return page


def test_every_number_on_the_page_is_in_the_json(written: Path) -> None:
    page, content, _ = read(written)
    assert page.tables
    for name, rows in page.tables.items():
        assert rows[1:] == content["tables"][name]["texts"]
    assert page.captions == [item["caption"] for item in content["figures"].values()]


def test_printed_numbers_are_the_stored_numbers(written: Path) -> None:
    _, content, _ = read(written)
    for table in content["tables"].values():
        for row, texts in zip(table["rows"], table["texts"], strict=True):
            for name, value, text in zip(table["columns"], row, texts, strict=True):
                assert text == show(_revive(value), name)


def _revive(value: Any) -> Any:
    if isinstance(value, dict):
        return Interval(**{k: _revive(v) for k, v in value.items()})
    if not isinstance(value, str):
        return value
    return {"inf": float("inf"), "nan": float("nan")}.get(value, value)


def test_csv_tables_hold_the_same_numbers(written: Path) -> None:
    content = json.loads((written.parent / "report.json").read_text())
    with (written.parent / "tables" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    stored = column(content["tables"]["scores"], "AUC")
    assert [float(row["AUC"]) for row in rows] == [item["estimate"] for item in stored]
    assert [float(row["AUC low"]) for row in rows] == [item["low"] for item in stored]


def test_the_page_needs_nothing_and_runs_nothing(written: Path) -> None:
    page, _, text = read(written)
    assert "script" not in page.tags
    assert not page.handlers
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert html.unescape(policy[1]) == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


def test_nothing_is_said_by_colour_alone(written: Path) -> None:
    text = written.read_text()
    assert 'role="region" aria-label="What became of every run"' in text
    assert "<th>" not in text
    assert "tr.bad td:first-child::before" in text
    for item in json.loads((written.parent / "report.json").read_text())["verdicts"]:
        told = f"- *{item['tone']}:* **" if item["tone"] != "plain" else "- **"
        line = f"{told}{formats.escape_markdown(item['title'])}.**"
        assert not item["title"] or line in (written.parent / "report.md").read_text()


@pytest.mark.parametrize("color", [INK, MUTED, *map(lettering, CRITIC + OUTCOME)])
def test_letters_stand_out_from_paper(color: str) -> None:
    """WCAG's contrast with white is 4.5 or more."""
    light = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
    assert 1.05 / (light @ [0.2126, 0.7152, 0.0722] + 0.05) >= 4.5


def test_ids_are_unique_across_figures(written: Path) -> None:
    ids = re.findall(r'\sid="([^"]+)"', written.read_text())
    assert len(ids) == len(set(ids))


def test_every_figure_exists_in_four_forms(written: Path) -> None:
    content = json.loads((written.parent / "report.json").read_text())
    assert {"learning-1", "scores"} <= set(content["figures"])
    for name in content["figures"]:
        for kind, magic in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
            path = written.parent / "figures" / f"{name}.{kind}"
            assert path.read_bytes().startswith(magic)
        with (written.parent / "figures" / f"{name}.csv").open() as file:
            head, *rows = csv.reader(file)
        assert len(set(head)) == len(head) > 1, name
        assert rows, name
        assert {len(row) for row in rows} == {len(head)}, name


def test_every_linked_file_exists(written: Path) -> None:
    links = re.findall(r'href="([^"#]+)"', written.read_text())
    assert links
    assert all((written.parent / link).is_file() for link in links)


def test_no_temporary_file_is_left(written: Path) -> None:
    assert not [path for path in written.parent.rglob("*") if path.name.startswith(".")]


def test_a_clear_difference_is_claimed_and_the_word_matched_is_earned(written: Path) -> None:
    _, content, _ = read(written)
    first = content["verdicts"][0]
    assert first["title"] == "Sample efficiency"
    assert "learn faster than outcome-only" in first["text"]
    (matched,) = content["notes"]["matching"]
    assert matched["title"] == "cartpole, maze and chain"
    assert matched["text"].startswith("Matched:")


def test_the_same_files_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)
    first, second = (report.write(study, tmp_path / name).parent for name in ("a", "b"))
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(names) > 20
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_one_difference_in_the_certificates_takes_the_word_away(tmp_path: Path) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)
    edit(
        study / "maze-ppo-1a2b3c4d" / "certificate.json",
        lambda c: c.update({"initial policy": "ffff"}),
    )
    _, content, text = read(report.write(study))
    assert "matched" not in text.lower()
    assert content["verdicts"][0]["tone"] == "warning"
    assert "initial policy" in content["verdicts"][0]["text"]
    assert '<tr class="bad"><td><bdi>initial policy</bdi>' in text


def test_a_missing_certificate_takes_the_word_away(tmp_path: Path) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)
    for agent in ("ppo", "rloo"):
        (study / f"maze-{agent}-1a2b3c4d" / "certificate.json").unlink()
    assert "matched" not in report.write(study).read_text().lower()
    assert analyse(report.load(study)).matching[0].reason == "no certificate of rloo and ppo"


@pytest.mark.parametrize("lost", ["chain-*", "*-*"])
def test_what_has_not_run_yet_is_not_called_unknown_or_alone(tmp_path: Path, lost: str) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"], "chain": ENVS["chain"]}, seeds=3)
    for folder in study.glob(lost):
        shutil.rmtree(folder)
    results = analyse(report.load(study))
    said = " ".join(told.text for told in (*verdicts(results), *fairness.matching(results)))
    for wrong in ("Not aggregated", "known for", "one agent only", "raw returns", "reference="):
        assert wrong not in said
    assert "Unchecked: of 5 agents none has scores." in said


def test_where_one_agent_of_several_has_scores_it_is_named(tmp_path: Path) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)
    for folder in study.glob("maze-*"):
        if folder.name != "maze-ppo-1a2b3c4d":
            shutil.rmtree(folder)
    (match,) = analyse(report.load(study)).matching
    assert match.reason == "of 5 agents only ppo has scores"


def test_a_certificate_that_breaks_the_comparison_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(certificates: object) -> None:
        raise KeyError("seeds")

    monkeypatch.setattr(certificate, "compare", explode)
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)
    assert analyse(report.load(study)).matching[0].reason == "not comparable (KeyError)"


LONG_AGO = "2020-01-01T00:00:00+00:00"


def train(folder: Path, heartbeat: str = "", **changes: Any) -> None:
    """Let a run say that it is running; by this process, unless changes to its claim say otherwise."""
    alive = {"status": "running", "seeds": {}, "heartbeat": heartbeat or clock.now()}
    edit(folder / "run.json", lambda info: info.update(alive))
    claim = {"host": socket.gethostname(), "pid": os.getpid(), "time": LONG_AGO}
    (folder / "claim.json").write_text(json.dumps(claim | changes))


def damaged_study(root: Path) -> Path:
    """One of each: diverged, crashed, running, missing, damaged, short, and not planned."""
    agents = dict.fromkeys(("a2c", "ppo", "grpo", "rloo", "reinforce", "other", "late"), 1.5)
    study = write_study(root, agents=agents, envs={"maze": ENVS["maze"]}, seeds=4)

    def folder(name: str) -> Path:
        return study / f"maze-{name}-1a2b3c4d"

    edit(
        folder("a2c") / "run.json",
        lambda r: r["seeds"].update({"3": {"status": "diverged", "update": 6}}),
    )
    edit(folder("ppo") / "run.json", lambda r: r.update(status="crashed", message="out of memory"))
    train(folder("grpo"))
    for path in folder("rloo").iterdir():
        path.unlink()
    folder("rloo").rmdir()
    (folder("reinforce") / "evaluation.parquet").write_bytes(b"PAR1 not really")

    def stop_early(c: dict[str, np.ndarray]) -> None:
        keep = (c["seed"] != 2) | (c["update"] < 5)
        for name in c:
            c[name] = c[name][keep]

    set_returns(folder("late"), stop_early)
    edit(
        study / "plan.json",
        lambda p: p.update(cells=[c for c in p["cells"] if c["agent"] != "other"]),
    )
    return study


def test_every_planned_run_is_counted_once(tmp_path: Path) -> None:
    study = damaged_study(tmp_path)
    results = analyse(report.load(study))
    found = {fate.cell.agent: fate for fate in results.attrition}
    expected = {
        "a2c": {"completed": 3, "diverged": 1, "scored": 4},
        "ppo": {"completed": 4, "scored": 4},
        "grpo": {"running": 4, "scored": 0},
        "rloo": {"missing": 4, "scored": 0},
        "reinforce": {"damaged": 4, "scored": 0},
        "late": {"completed": 3, "short": 1, "scored": 3},
    }
    for agent, counts in expected.items():
        row = found[agent]
        assert {k: v for k, v in row.counts.items() if v} | {"scored": row.scored} == counts
        assert sum(row.counts[status] for status in STATUSES) == row.planned == 4
    assert found["other"].planned == 0
    assert "other" not in [arm.name for arm in results.arms]


def test_a_folder_of_which_nothing_has_begun_is_missing_as_status_has_it(tmp_path: Path) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)
    folder = next(path.parent for path in study.glob("*/run.json"))
    for path in folder.iterdir():
        path.unlink()
    (folder / "checkpoint").mkdir()
    cell = next(cell for cell in report.load(study).cells if cell.id == folder.name)
    assert [run.status for run in cell.runs] == ["missing"] * 3
    assert cell.problems == ()
    assert {one.id: one.status for one in run_status.read(study)}[folder.name] == "planned"
    (folder / "run.json").symlink_to("nowhere")
    cell = next(cell for cell in report.load(study).cells if cell.id == folder.name)
    assert [run.status for run in cell.runs] == ["damaged"] * 3


def test_the_page_of_a_damaged_study_says_what_is_wrong(tmp_path: Path) -> None:
    _, content, text = read(report.write(damaged_study(tmp_path)))
    runs = next(item for item in content["verdicts"] if item["title"] == "Runs")
    assert runs["tone"] == "warning"
    assert runs["text"].startswith("10 of 24 planned runs completed")
    assert "without its folder `vfcompare resume` trains the cell anew" in runs["text"]
    assert "`vfcompare drop` takes out of the plan what was mistyped" in runs["text"]
    beside = "not compared: maze-other-1a2b3c4d. Their sweep, given again in this study, adds them"
    for reason in (beside, "no run.json was found", "evaluation.parquet"):
        assert reason in text


def test_the_last_evaluation_counts_though_it_overshoots_the_budget(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=3)

    def overshoot(c: dict[str, np.ndarray]) -> None:
        last = c["update"] == c["update"].max()
        c["env_steps"][last] += 400
        c["return_sampled"][:] = np.where(last, 1.0, 0.2)

    folder = study / "maze-ppo-1a2b3c4d"
    set_returns(folder, overshoot)
    edit(folder / "run.json", lambda info: info.update(budget={"env_steps": 40_000}))
    (task,) = scoring.score(report.load(study))
    assert task.end == task.grid[-1] == 40_000
    before = 40_000 * 10 / 11
    at_end = 0.2 + 0.8 * (40_000 - before) / (40_400 - before)
    for item in task.scores["ppo"]:
        assert item.final == pytest.approx((0.2 + at_end) / 2, abs=1e-4)
    assert [(step, reached) for _, step, reached in task.arrivals["ppo"]] == [(40_000, True)] * 3


@pytest.mark.parametrize(
    ("share", "declared", "level", "rule"),
    [
        (None, None, 182.0, "90% of the way from random to optimal"),
        (None, 195.0, 195.0, "declared by the environment"),
        (0.5, 195.0, 110.0, "50% of the way from random to optimal, by the study"),
        ("half", 195.0, 195.0, "declared by the environment"),
        (1.5, None, 182.0, "90% of the way from random to optimal"),
    ],
)
def test_a_study_says_what_counts_as_arrived(
    tmp_path: Path, share: object, declared: float | None, level: float, rule: str
) -> None:
    decided = {"metric": "auc", "margin": 0.05, "threshold": share}
    study = write_study(tmp_path, envs={"cartpole": ENVS["cartpole"]}, decided=decided)
    known = {"random": 20.0, "optimal": 200.0, "threshold": declared}
    for file in study.glob("*/run.json"):
        edit(file, lambda info: info.update(reference=known))
    (task,) = scoring.score(report.load(study))
    said = next(
        s.text for s in verdicts(analyse(report.load(study))) if s.title.startswith("Decided")
    )
    assert ("50% of the way from random to optimal counts as arrived" in said) == (share == 0.5)
    assert task.threshold == pytest.approx(level)
    assert task.threshold_rule == rule


def test_the_last_bit_of_a_layout_does_not_show() -> None:
    def drawn(left: float) -> dict[str, bytes]:
        figure = Figure(figsize=(2.0, 1.0))
        axes = figure.add_axes((left, 0.2, 0.6, 0.6))
        axes.plot([0.0, 1.0, 2.0], [1.0, 0.0, 1.0], "o-")
        with output.style():
            return output.render(figure)

    one, other = drawn(0.3), drawn(0.1 + 0.2)
    assert 0.3 != 0.1 + 0.2
    assert b"url(#i" in one["svg"]
    assert one == other


def test_a_diverged_run_scores_the_floor_from_its_failure_on(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=3)

    def diverge(c: dict[str, np.ndarray]) -> None:
        c["return_sampled"][(c["seed"] == 1) & (c["update"] >= 6)] = np.nan

    set_returns(study / "maze-ppo-1a2b3c4d", diverge)
    loaded = report.load(study)
    floor, last, drop = (
        scoring.score(loaded, rule)[0].scores["ppo"] for rule in ("floor", "last", "drop")
    )
    assert [item.status for item in floor] == ["completed", "diverged", "completed"]
    assert floor[1].final == 0.0
    assert floor[1].collapsed
    assert last[1].final > 0.5
    assert floor[1].auc < last[1].auc
    assert len(drop) == 2


def test_a_short_run_does_not_shorten_the_range_for_all(tmp_path: Path) -> None:
    task = scoring.score(report.load(damaged_study(tmp_path)))[0]
    assert task.end == ENVS["maze"][2]


def test_without_a_plan_what_was_found_is_the_denominator(tmp_path: Path) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3, plan=False)
    _, content, text = read(report.write(study))
    assert "no plan.json" in text
    assert content["tables"]["attrition"]["rows"][-1][2] == 15


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_few_seeds_give_a_report_without_intervals(tmp_path: Path, seeds: int) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=seeds)
    _, content, text = read(report.write(study))
    assert "nsufficient" in text
    rows = content["tables"].get("scores", {"rows": []})["rows"]
    scores = [cell for row in rows for cell in row if isinstance(cell, dict)]
    assert bool(scores) == (seeds > 0)
    assert all(cell["low"] is None for cell in scores)


def test_all_runs_failed(tmp_path: Path) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)
    for folder in study.glob("maze-*"):
        set_returns(folder, lambda c: c["return_sampled"].fill(np.nan))
    _, content, text = read(report.write(study))
    assert "insufficient" in text
    assert "15 diverged" in next(v["text"] for v in content["verdicts"] if v["title"] == "Runs")


def test_one_agent_alone(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=3)
    _, content, _ = read(report.write(study))
    assert "pairs" not in content["tables"]
    assert "learning-1" in content["figures"]


def test_unknown_references_are_not_replaced_by_the_runs(tmp_path: Path) -> None:
    envs = {"maze": ENVS["maze"], "chain": ENVS["chain"]}
    study = write_study(tmp_path, envs=envs, seeds=3, reference=False)
    _, content, _ = read(report.write(study))
    assert "aggregates" not in content["tables"]
    assert set(column(content["tables"]["environments"], "scale")) == {"raw return"}


def test_different_evaluation_steps_are_compared_on_what_all_cover(tmp_path: Path) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)
    set_returns(
        study / "maze-ppo-1a2b3c4d",
        lambda c: c["env_steps"].__iadd__(100.0 * (1 + c["seed"])),
    )
    task = scoring.score(report.load(study))[0]
    assert (task.start, task.end, task.exact_grid) == (300.0, ENVS["maze"][2], False)
    assert all(len(items) == 3 for items in task.scores.values())


def test_hostile_names_are_only_names(tmp_path: Path) -> None:
    study = write_hostile_study(tmp_path)
    page, stored, text = read(report.write(study))
    assert not page.tags & {"script", "img"}
    assert not page.handlers
    assert "49" not in column(stored["tables"]["attrition"], "agent")
    assert "\u202e" not in text
    assert "\0" not in text
    assert max(len(name) for name in column(stored["tables"]["attrition"], "agent")) < 120
    for path in (study / "report").rglob("*.csv"):
        with path.open() as file:
            assert not any(cell[:1] in "=+@" for row in csv.reader(file) for cell in row if cell)


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc", "..", "", "a/b", "nul\0", "x" * 300, "maze-link"]
)
def test_a_cell_outside_the_study_is_never_opened(tmp_path: Path, name: str) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=3)
    (tmp_path / "elsewhere").mkdir()
    (study / "maze-link").symlink_to(tmp_path / "elsewhere")
    edit(study / "plan.json", lambda p: p["cells"].append({"id": name, "agent": "x", "seeds": [0]}))
    cell = report.load(study).cells[1]
    assert [run.status for run in cell.runs] == ["missing"]
    assert "not the name of a folder" in cell.problems[0]


CANARY = "!!python/object/apply:pathlib.Path.touch [canary]"


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "certificate.json", "metrics.parquet"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b"null",
        CANARY.encode(),
        b"a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
        b'{"status": [], "seeds": "x", "git": 3, "reference": {"random": "a"}, "versions": []}',
    ],
)
def test_damaged_files_are_counted_not_raised(tmp_path: Path, name: str, content: bytes) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=2)
    (study / "maze-ppo-1a2b3c4d" / name).write_bytes(content)
    results = analyse(report.load(study))
    row = results.attrition[0]
    assert sum(row.counts[status] for status in STATUSES) == 2
    assert row.reason or name in {"run.json", "config.yaml", "certificate.json"}
    assert not Path("canary").exists()


def test_what_is_wrong_with_a_table_is_said_once(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=2)
    (study / "maze-ppo-1a2b3c4d" / "evaluation.parquet").write_bytes(b"PAR1")
    (fate,) = analyse(report.load(study)).attrition
    assert fate.reason.startswith("evaluation.parquet: ")
    assert "; " not in fate.reason


@pytest.mark.parametrize("content", ["", "{}", '{"cells": 3}', '{"cells": [3]}', "[" * 100_000])
def test_a_damaged_plan_falls_back_to_what_was_found(tmp_path: Path, content: str) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=2)
    (study / "plan.json").write_text(content)
    loaded = report.load(study)
    assert not loaded.has_plan
    assert len(loaded.cells[0].runs) == 2


def test_an_empty_folder_and_no_folder_give_a_report(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "absent"):
        assert "insufficient" in report.write(tmp_path / name, tmp_path / f"{name}-out").read_text()


def test_settings_that_vary_name_arms_and_tasks(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=2)

    def vary(plan: dict[str, Any]) -> None:
        cell = plan["cells"][0]
        settings = [
            {"env.size": 3, "lr": 0.1},
            {"env.size": 4, "lr": 0.1},
            {"env.size": 4, "lr": 0.2},
        ]
        plan["cells"] = [{**cell, "id": f"c{i}", "settings": v} for i, v in enumerate(settings)]

    edit(study / "plan.json", vary)
    cells = [cell for cell in report.load(study).cells if cell.planned]
    assert [(c.arm, c.task) for c in cells] == [
        ("ppo lr=0.1", "maze size=3"),
        ("ppo lr=0.1", "maze size=4"),
        ("ppo lr=0.2", "maze size=4"),
    ]


@pytest.mark.parametrize(
    ("targets", "arms"),
    [
        (("vfcompare.returns.outcome", "mine.half"), ("ppo credit=outcome", "ppo credit=half")),
        (("mine.half", "yours.half"), ("ppo credit=mine.half", "ppo credit=yours.half")),
    ],
)
def test_functions_that_vary_are_called_by_their_names(
    tmp_path: Path, targets: tuple[str, ...], arms: tuple[str, ...]
) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=2)
    key = "agent.estimator.advantage.credit._target_"

    def vary(plan: dict[str, Any]) -> None:
        cell = plan["cells"][0]
        plan["cells"] = [{**cell, "id": t, "settings": {key: t}} for t in targets]

    edit(study / "plan.json", vary)
    assert tuple(cell.arm for cell in report.load(study).cells if cell.planned) == arms


def test_repeated_rows_of_a_resumed_run_count_once(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=2)
    path = study / "maze-ppo-1a2b3c4d" / "evaluation.parquet"
    table = pq.read_table(path)
    pq.write_table(pa.concat_tables([table, table]), path)
    assert [run.steps.size for run in report.load(study).cells[0].runs] == [12, 12]


def test_labels_are_spread_without_crossing() -> None:
    heights = spread(np.array([0.5, 0.5, 0.51, 0.9]), 0.1, 0.0, 1.0)
    assert np.all(np.diff(heights) >= 0.1 - 1e-12)
    assert heights.min() >= 0
    assert heights.max() <= 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "\N{EN DASH}"),
        (-0.5, "\N{MINUS SIGN}0.500"),
        (12345.6, "12,346"),
        (7, "7"),
        (0.0, "0.000"),
    ],
)
def test_numbers_are_printed_one_way(value: Any, text: str) -> None:
    assert show(value) == text


@pytest.mark.parametrize(("p", "text"), [(0.0008, "< 0.001"), (0.001, "0.001"), (1.0, "1.000")])
def test_p_values_of_tables_are_as_precise_as_those_of_sentences(p: float, text: str) -> None:
    table = Table("x", "x", ("adjusted p", "level"), ((p, 0.0004),))
    assert table.texts() == [[text, "4.0e\N{MINUS SIGN}04"]]
    assert show_p(p).removeprefix("= ") == text


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((-4.6e-4, -0.004, 0.004), "0.000 [-0.004, 0.004]"),
        ((-4.6e-4, -4.9e-4, -1e-4), "-4.6e-04 [-4.9e-04, -1.0e-04]"),
        ((0.041, 2e-4, 0.08), "0.041 [2.0e-04, 0.080]"),
    ],
)
def test_an_estimate_has_the_format_of_its_interval(
    ends: tuple[float, float, float], text: str
) -> None:
    assert show(Interval(*ends, 10, 0.95)) == text.replace("-", "\N{MINUS SIGN}")


def test_a_right_to_left_name_is_isolated_once() -> None:
    once = files.clean("שלום")
    assert once == files.clean(once) == "\N{FIRST STRONG ISOLATE}שלום\N{POP DIRECTIONAL ISOLATE}"


def test_seeds_that_overshoot_the_budget_differently_are_not_short(tmp_path: Path) -> None:
    """Whole episodes end where they end: seeds of one agent stop up to an update apart."""
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=3)
    set_returns(
        study / "maze-ppo-1a2b3c4d",
        lambda c: c["env_steps"].__imul__(1 + 0.03 * c["seed"]),
    )
    task = scoring.score(report.load(study))[0]
    assert len(task.scores["ppo"]) == 3
    assert task.end == ENVS["maze"][2]


def test_few_pairs_are_undecided_even_where_the_interval_excludes_zero(tmp_path: Path) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=5)
    results = analyse(report.load(study))
    assert results.family["auc"].plain.excludes(0.0)
    assert results.family["auc"].verdict == "undecided"


@pytest.mark.parametrize(
    ("reached", "title"), [(0.05, "Nothing learned"), (0.5, None), (1.0, "Solved")]
)
def test_an_environment_that_tells_no_agents_apart_is_named(
    tmp_path: Path, reached: float, title: str | None
) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]})
    for folder in study.glob("maze-*"):

        def rise(rows: dict[str, np.ndarray]) -> None:
            rows["return_sampled"][:] = np.where(rows["env_steps"] > 0, reached, 0.0)

        set_returns(folder, rise)
    said = {s.title: s for s in verdicts(analyse(report.load(study)))}
    assert said.keys() & {"Nothing learned", "Solved"} == ({title} if title else set())
    if title:
        assert "On maze" in said[title].text


@pytest.mark.parametrize("reached", [0.05, 1.0])
def test_policies_that_were_held_still_are_not_blamed_for_it(
    tmp_path: Path, reached: float
) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]})
    for folder in study.glob("maze-*"):
        set_returns(folder, lambda rows: rows["return_sampled"].fill(reached))
        (folder / "config.yaml").write_text("agent: {warmup: 1.0}\n")
    titles = {"Nothing learned", "Solved"}
    assert not titles & {s.title for s in verdicts(analyse(report.load(study)))}
    (folder / "config.yaml").write_text("agent: {warmup: 0.5}\n")
    assert titles & {s.title for s in verdicts(analyse(report.load(study)))}


def test_an_agent_that_does_not_learn_does_not_collapse(tmp_path: Path) -> None:
    """Evaluations of 32 episodes, of which a fifth succeed as for the random policy."""
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=20, points=21)
    rng = np.random.default_rng(7)
    for folder in study.glob("maze-*"):

        def idle(rows: dict[str, np.ndarray]) -> None:
            rows["return_sampled"][:] = rng.binomial(32, 0.22, rows["seed"].size) / 32

        set_returns(folder, idle)
        edit(folder / "run.json", lambda info: info["reference"].update(random=0.22))
    results = analyse(report.load(study))
    assert "Nothing learned" in {s.title for s in verdicts(results)}
    # of 100 runs one is expected, and the highest evaluation alone called 90 of them collapsed
    assert sum(results.counts["collapse", arm.name][0] for arm in results.arms) <= 4


GONE = 2**22 + 1
"""No process has this number."""

STANDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "trains": ({}, "running", ""),
    "trains elsewhere": ({"host": "another"}, "running", ""),
    "silent": ({"heartbeat": LONG_AGO}, "lost", "silent for more than 10 minutes"),
    "silent elsewhere": (
        {"heartbeat": LONG_AGO, "host": "another"},
        "lost",
        "silent for more than 10 minutes",
    ),
    "killed": ({"pid": GONE}, "lost", "its process is gone"),
    "killed long ago": ({"heartbeat": LONG_AGO, "pid": GONE}, "lost", "its process is gone"),
    "no heartbeat": ({"heartbeat": "now"}, "damaged", "heartbeat: Invalid isoformat string: 'now'"),
}


@pytest.mark.parametrize("case", [*STANDS, "put down", "put down long ago"])
def test_what_says_running_stands_in_a_report_as_vfcompare_status_says(
    tmp_path: Path, case: str
) -> None:
    heartbeat = {"heartbeat": LONG_AGO} if case.endswith("ago") else {}
    put_down = (heartbeat, "lost", "its process ended and could not say why, as on a full disk")
    changes, status, reason = STANDS.get(case, put_down)
    study = write_study(tmp_path, agents={"ppo": 1.8, "rloo": 1.2}, envs={"maze": ENVS["maze"]})
    folder = study / "maze-ppo-1a2b3c4d"
    train(folder, **changes)
    seeds = {str(seed): {"status": "running" if seed else "completed"} for seed in range(4)}
    edit(folder / "run.json", lambda info: info.update(seeds=seeds))
    if case not in STANDS:
        (folder / "claim.json").unlink()
    (told,) = [cell for cell in run_status.read(study) if cell.id == folder.name]
    assert told.status == status
    assert told.note.startswith(reason)
    results = analyse(report.load(study))
    row = next(row for row in results.attrition if row.cell.agent == "ppo")
    assert (row.counts["completed"], row.counts[status], row.scored) == (1, 3, 1)
    assert reason in row.reason
    assert f"3 {status}" in next(s.text for s in verdicts(results) if s.title == "Runs")


def test_a_report_of_a_killed_run_stays_the_same(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8, "rloo": 1.2}, envs={"maze": ENVS["maze"]})
    pages = set()
    for heartbeat in (clock.now(), LONG_AGO):
        train(study / "maze-ppo-1a2b3c4d", heartbeat, pid=GONE)
        pages.add(report.write(study).read_bytes())
    assert len(pages) == 1


def test_the_end_of_training_is_each_seed_s_own(tmp_path: Path) -> None:
    """The second seed spends its steps in half as many updates; its last tenth has five rows, not none."""
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=3)
    seed, update = np.repeat([0, 1, 2], [100, 50, 50]), np.r_[:100, :50, :50]
    entropy = np.choose(seed, [0.2, 0.4, 7.0]) + np.where(update < 45, 9.0, 0.0)
    # one update of each seed says nothing, and one by far too much
    entropy[update == 97], entropy[update == 49] = np.nan, -1e16
    rows = {"seed": seed, "update": update, "entropy": entropy}
    write_parquet(study / "maze-ppo-1a2b3c4d" / "metrics.parquet", rows)
    (cell,) = report.load(study).cells
    assert cell.diagnostics == {"entropy": pytest.approx(0.4)}


def test_metrics_of_critics_come_first_and_what_has_no_room_is_named(tmp_path: Path) -> None:
    agents = {"rloo": 1.2, "ppo": 1.8, "grpo": 1.1}
    study = write_study(tmp_path, agents=agents, envs={"maze": ENVS["maze"]})
    critic = ["critic_loss", "explained_variance"]
    shared = ["m0", "return", *(f"m{i}" for i in range(1, 9))]
    own = {"rloo": ["rare"], "ppo": critic, "grpo": []}
    for agent, names in own.items():
        names = [*names, *shared]
        rows = {"seed": np.zeros(5), "update": np.arange(5), **{n: np.ones(5) for n in names}}
        write_parquet(study / f"maze-{agent}-1a2b3c4d" / "metrics.parquet", rows)
    table = tables.scores.diagnostics(analyse(report.load(study)))
    common = [f"m{i}" for i in range(7)]
    assert list(table.columns[2:]) == ["explained_variance", "critic_loss", "return", *common]
    told = {row[1]: row[2:5] for row in table.rows}
    assert told == {"rloo": (None, None, 1), "ppo": (1, 1, 1), "grpo": (None, None, 1)}
    assert "Metrics of critics come first; \N{EN DASH} where an agent has none." in table.note
    assert table.note.endswith("metrics.parquet: m7, m8 and rare.")


def test_a_run_that_was_left_early_has_no_restricted_mean_of_steps(tmp_path: Path) -> None:
    agents = {"rloo": 1.8, "ppo": 1.8}
    study = write_study(tmp_path, agents=agents, envs={"maze": ENVS["maze"]}, seeds=4)
    folder = study / "maze-ppo-1a2b3c4d"

    def stop_early(c: dict[str, np.ndarray]) -> None:
        keep = c["update"] < 2
        for name in c:
            c[name] = c[name][keep]

    set_returns(folder, stop_early)
    edit(folder / "run.json", lambda info: info.update(status="running", seeds={}))
    page, content, _ = read(report.write(study))
    table = content["tables"]["steps-to-threshold"]
    means = dict(zip(column(table, "agent"), column(table, "restricted mean steps"), strict=True))
    assert means["ppo"] is None
    assert means["rloo"]["low"] is not None
    assert page.tables["steps-to-threshold"][2][-1] == show(None)
    assert "no restricted mean where" in table["note"]


def test_one_agent_cannot_be_called_matched(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=3)
    assert "matched" not in report.write(study).read_text().lower()


@pytest.mark.parametrize("status", ["preempted", "cancelled", "interrupted"])
def test_a_run_that_was_stopped_from_outside_is_not_shown_as_running(status):
    info = {"status": status, "message": "SIGTERM"}
    run = runs._run(0, info, {"status": "running"}, runs.Told({}, "", {}))
    assert run.status == "interrupted"
    assert run.reason == "SIGTERM"


@pytest.mark.parametrize("lost", [False, True])
def test_what_did_not_occur_is_folded(tmp_path: Path, lost: bool) -> None:
    study = write_study(tmp_path, agents={"rloo": 1.2, "ppo": 1.8}, envs={"maze": ENVS["maze"]})
    if lost:
        (study / "maze-ppo-1a2b3c4d" / "run.json").unlink()
    results = analyse(report.load(study))
    told, folded = dict(method(results)), dict(unmet(results))
    assert ("no known outcome" in told["Failed runs"]) == lost
    assert (told["Failed runs"] == "All planned runs completed.") == (not lost)
    assert ("Failed runs" in folded) == (not lost)
    assert "insufficient" in told["Intervals"]
    assert "settings of one" in folded["Intervals"]
    assert told["What is drawn"] == "All agents and settings where there are at most 8."
    document = compose(report.load(study))
    page = as_html(document, dict.fromkeys(document.pictures, b"<svg/>"), [])
    opened = re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL)
    assert ('id="t-attrition"' in opened) == lost
    assert 'id="t-attrition"' in page
    assert folded["What is drawn"] in page
    assert folded["What is drawn"] not in opened
    every = json.loads(as_json(document))["method"]["What is drawn"]
    assert every == f"{told['What is drawn']} {folded['What is drawn']}"
