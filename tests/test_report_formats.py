"""The report's formats, its verbs, and what it hides."""

import json
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from tests import report_study
from tests.report_study import ENVS, edit, read, set_returns, write_parquet, write_study
from vfcompare import report
from vfcompare.errors import InputError
from vfcompare.main import main
from vfcompare.report import tables
from vfcompare.report.analysis import analyse
from vfcompare.report.pages import export, formats, writing
from vfcompare.report.pages.document import compose
from vfcompare.report.reading.anonymous import Ellipses, anonymous
from vfcompare.report.table import Table
from vfcompare.statistics import Interval

MAZE = {"maze": ENVS["maze"]}


_quick = report_study.quick(50, 50, svg=True)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path, envs=MAZE, seeds=3)


NUMBER = re.compile(r"[−-]?\d[\d,]*(?:\.\d+)?(?:e[−-]?\d+)?%?")


class Prose(HTMLParser):
    """Everything a reader sees, apart from drawings and the list of files."""

    def __init__(self, page: str) -> None:
        """Reads a page."""
        super().__init__()
        self.text: list[str] = []
        self._hidden: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes what is not prose."""
        opens = tag in {"style", "svg", "title"} or ("class", "files") in attrs
        if (opens or self._hidden) and tag not in {"meta", "link", "br"}:
            self._hidden.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content hides nothing."""

    def handle_endtag(self, tag: str) -> None:
        """Leaves what is not prose."""
        if self._hidden and tag == self._hidden[-1]:
            self._hidden.pop()

    def handle_data(self, data: str) -> None:
        """Collects text."""
        if not self._hidden:
            self.text.append(data)


def texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*map(str, value), *(text for item in value.values() for text in texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in texts(item)]
    return [str(value)]


def test_every_number_a_reader_sees_is_in_the_json(study: Path) -> None:
    _, content, page = read(report.write(study))
    known = {n for text in texts(content) for n in NUMBER.findall(text)}
    known |= {f"{table['count']:,}" for table in content["tables"].values()}
    seen = NUMBER.findall(" ".join(Prose(page).text))
    assert len(seen) > 200
    assert [number for number in seen if number not in known] == []


def fits(value: Any, rule: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value obeys a JSON Schema, as far as ours goes."""
    if "$ref" in rule:
        return fits(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root)
    kinds: dict[str, Any] = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
    }
    kinds |= {"integer": int, "number": (int, float)}
    named = rule.get("type", [])
    wanted = [named] if isinstance(named, str) else named
    good = not wanted or any(isinstance(value, kinds[name]) for name in wanted)
    good &= "const" not in rule or value == rule["const"]
    good &= "enum" not in rule or value in rule["enum"]
    good &= "anyOf" not in rule or any(fits(value, option, root) for option in rule["anyOf"])
    if isinstance(value, dict):
        known, others = rule.get("properties", {}), rule.get("additionalProperties", True)
        good &= set(rule.get("required", ())) <= set(value)
        for key, item in value.items():
            inner = known.get(key, others)
            good &= inner if isinstance(inner, bool) else fits(item, inner, root)
    if isinstance(value, list) and "items" in rule:
        good &= all(fits(item, rule["items"], root) for item in value)
    return good


def test_the_json_obeys_the_schema_beside_it(study: Path) -> None:
    page = report.write(study)
    schema = json.loads((page.parent / "report.schema.json").read_text())
    content = json.loads((page.parent / "report.json").read_text())
    assert fits(content, schema, schema)
    for path in (("verdicts", 0), ("tables", "scores"), ("figures", "scores")):
        broken = json.loads(json.dumps(content))
        broken[path[0]][path[1]].pop("title")
        assert not fits(broken, schema, schema)


def test_each_table_is_csv_parquet_and_latex_with_the_same_rows(study: Path) -> None:
    page = report.write(study)
    content = json.loads((page.parent / "report.json").read_text())
    for item in content["tables"].values():
        base = page.parent / item["file"]
        table = pq.read_table(base.with_suffix(".parquet"))
        assert table.num_rows == item["count"]
        assert base.with_suffix(".tex").read_text().count(r" \\") == len(item["rows"]) + 1
    scores = pq.read_table(page.parent / "tables" / "scores.parquet").to_pylist()
    rows = content["tables"]["scores"]["rows"]
    assert [row["AUC low"] for row in scores] == [row[4]["low"] for row in rows]


HOSTILE = Table(
    "t",
    "\\end{document} %",
    ("a_b", "50%", "n"),
    (
        ("[x]\\input{/etc/passwd}", "$\\write18{rm}$ #1 & ~^{}", Interval(-0.5, None, None, 1)),
        ("*", "שלום \u202e <b>", Interval(1.0, 0.5, float("inf"), 9)),
    ),
)


def test_no_name_has_a_meaning_in_latex() -> None:
    body = formats.as_latex(HOSTILE).split(r"\toprule")[1]
    allowed = r"\\(?:\\|[&%$#_{}]|text[a-z]+\{\}|midrule|bottomrule|end\{tabular\}|infty|ldots\{\})"
    assert "\\" not in re.sub(allowed, "", body)
    assert body.isascii()
    assert "{}{" not in body.split(r"\midrule")[1].splitlines()[1][:2]
    assert body.splitlines()[3].startswith("{}[x]")


def test_files_have_whole_names_and_commands_and_the_page_their_ends(study: Path) -> None:
    """What is exported can be joined to folders; of a hash the beginning is shown, as it is."""
    name = f"maze-ppo-{'agent.optimizer.learning_rate=0.001-' * 5}0123456789"
    command = f"vfcompare -m agent=ppo {'agent.optimizer.learning_rate=0.001 ' * 9}seeds=3"
    digest = "0123456789abcdef" * 4
    folder = (study / "maze-ppo-1a2b3c4d").rename(study / name)
    edit(study / "plan.json", lambda plan: plan["cells"][-1].update(id=name))
    edit(folder / "run.json", lambda run: run.update(command=command, config_hash=digest))
    read_study = report.load(study)
    for table in (export.runs(read_study), export.evaluations(read_study)):
        rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        assert {row["cell"] for row in rows if row["arm"] == "ppo"} == {name}
    table = tables.conduct.provenance(analyse(read_study))
    (place,) = (i for i, row in enumerate(table.rows) if row[0] == name)
    assert table.rows[place][1] == digest[:12]
    assert table.rows[place][-1] == command
    shown = table.texts()[place]
    assert len(shown[0]) <= 60
    assert shown[0].startswith("maze-ppo-agent.optimizer")
    assert shown[0].endswith("-0123456789")
    assert len(shown[-1]) <= 160
    assert shown[-1].endswith("seeds=3")


def test_settings_are_exported_with_numbers_as_numbers(study: Path) -> None:
    told = {"a": "4", "b": "0.001", "c": "3e-4", "d": "nan", "e": "true", "f": "[8,8]", "g": "-7"}
    edit(study / "plan.json", lambda plan: plan["cells"][-1].update(settings=told))
    table = export.runs(report.load(study))
    found = json.loads(str(table.rows[-1][table.columns.index("settings")]))
    assert found == told | {"a": 4, "b": 0.001, "c": 0.0003, "g": -7}
    assert [type(found[name]) for name in "abg"] == [int, float, int]


@pytest.mark.parametrize(("path", "whole"), [("/home/alice/net", False), ("net", True)])
def test_an_anonymous_folder_does_not_repeat_a_path(study: Path, path: str, whole: bool) -> None:
    name = f"maze-ppo-agent.network.path={path.replace('/', '-')}-0123456789"
    (study / "maze-ppo-1a2b3c4d").rename(study / name)

    def tell(plan: dict[str, Any]) -> None:
        plan["cells"][-1].update(id=name, settings={"agent.network.path": path})

    edit(study / "plan.json", tell)
    found = anonymous(report.load(study)).cells[-1].id
    assert found == (name if whole else "…-0123456789")


SECRETS = ("node17", "alice", "/home", "git@", "0123456789", "2026-11-23")


def test_an_anonymous_report_names_nobody_and_no_place(study: Path) -> None:
    def tell(info: dict[str, Any]) -> None:
        info["command"] = "vfcompare -m root=/home/alice/runs"
        info["host"] = "node17.cluster"
        info["device"] = {"platform": "cpu", "kind": "node17"}
        info["message"] = "alice: no space in /home/alice/runs"
        info["status"] = "crashed"

    edit(study / "maze-ppo-1a2b3c4d" / "run.json", tell)
    edit(study / "plan.json", lambda p: p.update(question="From git@node17:alice/x and /home/a?"))
    edit(
        study / "maze-grpo-1a2b3c4d" / "certificate.json",
        lambda c: c.update(parts={"env": {"sha256": "1", "text": "path=/home/alice/map"}}),
    )
    open_, hidden = (
        b"".join(writing.report_files(writing.read([study], anonymous=anonymous)).values()).decode(
            errors="replace"
        )
        for anonymous in (False, True)
    )
    assert all(secret in open_ for secret in SECRETS[2:])
    assert not [secret for secret in SECRETS if secret in hidden]
    assert "versions" in hidden


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("in /home/bob/x.py, line 3", "in …, line 3"),
        ("git@host.org:me/repo.git", "…"),
        ("see https://u@h.org/x", "see …"),
        ("~/runs failed", "… failed"),
        (r"C:\Users\bob\x", "…"),
        ("reinforce/ppo at 1/2 of 3 and a / b", "reinforce/ppo at 1/2 of 3 and a / b"),
    ],
)
def test_what_is_scrubbed_is_a_place_and_nothing_else(text: str, shown: str) -> None:
    assert Ellipses().of(text) == shown


@pytest.mark.parametrize("key", ["agent.prior.path", "agent.network.path"])
def test_what_differs_in_a_path_alone_stays_two_things(tmp_path: Path, key: str) -> None:
    speeds = {f"{agent}-{kind}": 0.6 for agent in ("rloo", "ppo") for kind in ("weak", "strong")}
    study = write_study(tmp_path, agents=speeds | {"ppo-strong": 1.9}, envs=MAZE, seeds=6)

    def place(plan: dict[str, Any]) -> None:
        for cell in plan["cells"]:
            cell["agent"], kind = cell["agent"].split("-")
            cell["settings"] = {key: f"/home/alice/{kind}"}

    edit(study / "plan.json", place)
    open_ = report.load(study)
    hidden = anonymous(open_)
    for found in (open_, hidden):
        assert len({(cell.task, cell.arm) for cell in found.cells}) == len(found.cells) == 4
    told, kept = (analyse(found).pairs["auc"] for found in (open_, hidden))
    assert [contrast.verdict for contrast in told] == [contrast.verdict for contrast in kept]
    assert "alice" not in str([(cell.task, cell.arm, cell.settings) for cell in hidden.cells])


def test_two_studies_of_other_environments_make_one_comparison(tmp_path: Path) -> None:
    first = write_study(tmp_path / "a", envs=MAZE, seeds=3)
    second = write_study(tmp_path / "b", envs={"chain": ENVS["chain"]}, seeds=3)
    edit(second / "plan.json", lambda p: p.update(study="other"))
    page = report.write([first, second], tmp_path / "out")
    content = json.loads((page.parent / "report.json").read_text())
    assert content["study"] == "compare + other"
    assert {row[0] for row in content["tables"]["scores"]["rows"]} == {"maze", "chain"}
    assert {row[1] for row in content["tables"]["aggregates"]["rows"]} == {
        *("reinforce", "rloo", "grpo", "a2c", "ppo")
    }


def test_two_studies_of_one_environment_keep_their_agents_apart(tmp_path: Path) -> None:
    first = write_study(tmp_path / "a", agents={"ppo": 1.0}, envs=MAZE, seeds=3)
    second = write_study(tmp_path / "b", agents={"ppo": 1.0}, envs=MAZE, seeds=3)
    edit(second / "plan.json", lambda p: p.update(study="other"))
    study = report.load(first, second)
    assert [cell.arm for cell in study.cells] == ["ppo (compare)", "ppo (other)"]


def test_studies_of_one_name_are_told_apart_by_their_places(tmp_path: Path) -> None:
    folders = [
        write_study(tmp_path / place, agents={"ppo": 1.0}, envs=MAZE, seeds=3) for place in "ab"
    ]
    study = report.load(*folders)
    assert study.name == "a/compare + b/compare"
    assert [cell.arm for cell in study.cells] == ["ppo (a/compare)", "ppo (b/compare)"]
    assert not study.problems
    numbered = ["ppo (compare 1)", "ppo (compare 2)"]
    for same in (report.load(folders[0], folders[0]), writing.read(folders, anonymous=True)):
        assert [cell.arm for cell in same.cells] == numbered


def test_several_studies_need_a_place_for_their_report(study: Path) -> None:
    with pytest.raises(InputError, match="--out"):
        report.write([study, study])


def test_equal_settings_of_other_configurations_are_numbered_and_said(study: Path) -> None:
    def double(plan: dict[str, Any]) -> None:
        plan["cells"] += [{**plan["cells"][-1], "id": "maze-again"}]

    shutil.copytree(study / "maze-ppo-1a2b3c4d", study / "maze-again")
    (study / "maze-again" / "config.yaml").write_text("agent: {estimator: {critic: {lr: 0.1}}}\n")
    edit(study / "plan.json", double)
    loaded = report.load(study)
    assert [cell.arm for cell in loaded.cells][-2:] == ["ppo", "ppo (2)"]
    assert any("numbered" in text for text in loaded.problems)


@pytest.mark.parametrize("place", ["", "cell"])
@pytest.mark.parametrize("verb", [["report"], ["figure", "pairs"], ["export", "--format=csv"]])
def test_nothing_is_written_among_the_cells_of_a_study(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: list[str], place: str
) -> None:
    other = tmp_path / "other" / place
    other.mkdir(parents=True)
    (other / ("run.json" if place else "plan.json")).write_text("{}")
    before = sorted(other.iterdir())
    assert main([verb[0], str(study), *verb[1:], "--out", str(other)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert f"--out={other}: runs are kept there (" in told
    assert told.endswith(f"allowed: a folder of its own, such as {other / 'report'}")
    assert sorted(other.iterdir()) == before


def test_one_figure_with_its_data(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["figure", str(study), "learning", "--out", str(tmp_path / "f")]) == 0
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == [
        "learning-1-caption.tex",
        "learning-1.csv",
        "learning-1.svg",
    ]
    assert main(["figure", str(study), "pears", "--out", str(tmp_path / "g")]) == 2
    assert "did you mean 'pairs'?" in capsys.readouterr().err
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_exported_runs_are_the_planned_ones(study: Path, tmp_path: Path, kind: str) -> None:
    shutil.rmtree(study / "maze-ppo-1a2b3c4d")
    assert main(["export", str(study), "--format", kind, "--out", str(tmp_path / "x")]) == 0
    path = tmp_path / "x" / f"runs.{kind}"
    text = path.read_text() if kind == "csv" else str(pq.read_table(path).to_pydict())
    assert text.count("missing") == 3
    assert text.count("completed") == 12


def test_exported_runs_say_what_their_numbers_are_in(tmp_path: Path) -> None:
    study = write_study(tmp_path, agents={"rloo": 1.0}, envs=ENVS, seeds=3)
    edit(study / "chain-rloo-1a2b3c4d" / "run.json", lambda info: info.update(reference={}))
    table = pq.read_table(study / "maze-rloo-1a2b3c4d" / "evaluation.parquet")
    write_parquet(
        study / "maze-rloo-1a2b3c4d" / "evaluation.parquet",
        table.filter((pc.field("seed") > 0) | (pc.field("update") < 6)).to_pydict(),
    )
    exported = export.runs(report.load(study))
    rows = [dict(zip(exported.columns, row, strict=True)) for row in exported.rows]
    told = {row["task"]: (row["scale"], row["random"], row["last_step"]) for row in rows}
    assert told == {
        "cartpole": ("normalised", 20.0, 160_000.0),
        "maze": ("normalised", 0.0, 40_000.0),
        "chain": ("raw return", None, 80_000.0),
    }
    assert [(row["status"], row["auc"] is None) for row in rows if row["task"] == "maze"] == [
        ("short", True),
        *[("completed", False)] * 2,
    ]


def test_marl_eval_gets_its_layout(study: Path, tmp_path: Path) -> None:
    assert main(["export", str(study), "--format", "marl-eval", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "marl_eval.json").read_text())
    run = content["maze"]["maze"]["ppo"]["seed_0"]
    evaluated = pq.read_table(study / "maze-ppo-1a2b3c4d" / "evaluation.parquet").to_pylist()[:12]
    assert [run[f"step_{i}"]["step_count"] for i in range(12)] == [
        row["env_steps"] for row in evaluated
    ]
    returns = [run[f"step_{i}"]["return"][0] for i in range(12)]
    np.testing.assert_allclose(returns, [row["return_sampled"] for row in evaluated], rtol=1e-12)
    assert set(run) - {f"step_{i}" for i in range(12)} == {"absolute_metrics"}


def test_marl_eval_gets_no_more_points_than_were_measured(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def later(rows: dict[str, np.ndarray]) -> None:
        rows["env_steps"][(rows["seed"] == 1) & (rows["update"] == 1)] += 100

    set_returns(study / "maze-ppo-1a2b3c4d", later)
    assert main(["export", str(study), "--format", "marl-eval", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "marl_eval.json").read_text())
    for runs in content["maze"]["maze"].values():
        assert {len(run) for run in runs.values()} == {12 + 1}
    assert (
        "interpolated between a run's own evaluations on maze (12 steps)" in capsys.readouterr().err
    )


def test_an_unknown_format_is_refused_with_the_nearest(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(study), "--format", "marl", "--out", str(tmp_path / "x")]) == 2
    assert "did you mean 'marl-eval'?" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_a_figure_for_a_paper_comes_with_its_caption(study: Path, tmp_path: Path) -> None:
    paths = report.write_figure([study], "pairs", tmp_path)
    assert tmp_path / "pairs-caption.tex" in paths
    page = json.loads((report.write(study, tmp_path / "page").parent / "report.json").read_text())
    caption = page["figures"]["pairs"]["caption"]
    written = (tmp_path / "pairs-caption.tex").read_text()
    assert written == formats.escape_latex(caption) + "\n"
    assert "?" not in written


def test_a_venue_sets_the_width_of_figures(study: Path, tmp_path: Path) -> None:
    report.write_figure([study], "pairs", tmp_path, venue="neurips2024")
    found = re.search(r'<svg[^>]* width="([\d.]+)pt"', (tmp_path / "pairs.svg").read_text())
    assert found is not None
    assert float(found[1]) == pytest.approx(72 * 5.5)
    with pytest.raises(InputError, match="neurips2024"):
        report.write_figure([study], "pairs", tmp_path, venue="neurips2042")


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(study: Path, tmp_path: Path) -> None:
    """Also where sets have another order, and in another folder."""
    code = "import sys; from pathlib import Path; from vfcompare import report;"
    code += "report.write(Path(sys.argv[1]), Path(sys.argv[2]))"
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code, str(study), str(tmp_path / seed)],
            check=True,
            timeout=300,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
    names = sorted(p.relative_to(tmp_path / "1") for p in (tmp_path / "1").rglob("*.*"))
    assert len(names) > 50
    different = [
        n for n in names if (tmp_path / "1" / n).read_bytes() != (tmp_path / "2" / n).read_bytes()
    ]
    assert different == []


@pytest.mark.parametrize("lost", ["greedy", "lengths", "cells", "all but one run"])
def test_what_is_ragged_or_missing_is_reported(study: Path, lost: str) -> None:
    if lost == "greedy":
        for folder in study.glob("maze-*"):
            set_returns(folder, lambda c: c["return_greedy"].fill(np.nan))
    if lost == "lengths":
        for number, folder in enumerate(sorted(study.glob("maze-*"))):

            def cut(c: dict[str, np.ndarray], number: int = number) -> None:
                keep = c["update"] < 12 - (c["seed"] + number) % 4
                for name in c:
                    c[name] = c[name][keep]

            set_returns(folder, cut)
    if lost in {"cells", "all but one run"}:
        for folder in sorted(study.glob("maze-*"))[1:]:
            shutil.rmtree(folder)
    if lost == "all but one run":
        edit(study / "plan.json", lambda p: [c.update(seeds=[0]) for c in p["cells"]])
    _, content, _ = read(report.write(study))
    planned = content["tables"]["attrition"]["rows"][-1][2]
    runs = next(item["text"] for item in content["verdicts"] if item["title"] == "Runs")
    assert f"of {planned} planned runs" in runs


def test_a_study_without_cells_gives_every_format(tmp_path: Path) -> None:
    study = tmp_path / "empty"
    study.mkdir()
    (study / "plan.json").write_text('{"cells": [], "study": "empty"}')
    report.write(study)
    for kind in ("csv", "parquet", "latex", "marl-eval"):
        report.write_export([study], kind, tmp_path / kind)
    assert (tmp_path / "csv" / "runs.csv").read_text().count("\n") == 1


def test_differences_are_in_latex_also_with_the_columns_of_a_paper(study: Path) -> None:
    found = export.export(report.load(study), "latex")
    assert {name for name in found if name.endswith("-short.tex")} == {
        "families-short.tex",
        "pairs-short.tex",
    }
    for name in ("families", "pairs"):
        whole, short = (found[f"{name}{end}.tex"].decode().splitlines() for end in ("", "-short"))
        assert len(whole) == len(short)
        assert short[3] == (
            r"metric & difference & Holm\textquotesingle{}s interval & adjusted p & verdict \\"
        )
        heads = whole[3].removesuffix(r" \\").split(" & ")
        places = [heads.index(head) for head in short[3].removesuffix(r" \\").split(" & ")]
        for full, brief in zip(whole[5:-3], short[5:-3], strict=True):
            cells = full.removesuffix(r" \\").split(" & ")
            assert brief.removesuffix(r" \\").split(" & ") == [cells[place] for place in places]
    written = writing.table_files(compose(report.load(study)).tables.values())
    assert written["tables/pairs-short.tex"] == found["pairs-short.tex"]
