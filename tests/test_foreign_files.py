"""Files of unknown origin, whatever stands in them: every command ends with a code and in words."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.report_study import ENVS, edit, read, write_parquet, write_study
from vfcompare import report
from vfcompare.errors import InputError
from vfcompare.main import main
from vfcompare.report.reading import files
from vfcompare.runs import board, clock, slurm, status, store
from vfcompare.runs.events import TOGETHER
from vfcompare.runs.yaml_files import read_yaml
from vfcompare.schema.validate import TUNING_SEEDS

CELL = "maze-ppo-1a2b3c4d"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of one completed cell."""
    return write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=2)


def put(study: Path, name: str, content: Any) -> None:
    (study / name).parent.mkdir(exist_ok=True)
    (study / name).write_text(json.dumps(content))


WORDS = st.sampled_from(
    ["running", "completed", "crashed", "status", "", "\0", "\ud800", "\x1b[31m"]
)
TIMES = st.sampled_from([clock.now(), "2020-01-01", "9999-12-31T23:59:59-23:59", "2020"])
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400), 2**63])
    | st.floats()
    | WORDS
    | TIMES
    | st.text(max_size=8)
)
KEYS = st.sampled_from(
    [
        *(
            "schema",
            "study",
            "question",
            "decided",
            "figures",
            "created",
            "cells",
            "id",
            "agent",
            "env",
        ),
        *(
            "seeds",
            "settings",
            "status",
            "heartbeat",
            "started",
            "message",
            "seconds",
            "total",
            "0",
        ),
        *(
            "budget",
            "env_steps",
            "reference",
            "random",
            "optimal",
            "task",
            "versions",
            "git",
            "device",
        ),
        *(
            "host",
            "pid",
            "place",
            "time",
            "slurm",
            "groups",
            "cancelled",
            "name",
            "folder",
            "overrides",
        ),
        *("contrast", "metric", "margin", "threshold", "update", "attempt", "traced", "damage"),
    ]
)
ANY = st.recursive(
    PLAIN,
    lambda some: st.lists(some, max_size=3) | st.dictionaries(KEYS, some, max_size=5),
    max_leaves=12,
)


def objects(**usual: Any) -> st.SearchStrategy[Any]:
    """Anything, or what is usual with some of it changed to anything."""
    changed = st.dictionaries(st.sampled_from([*usual]) | KEYS, ANY, max_size=3)
    return ANY | changed.map(lambda other: {**usual, **other})


SEEDS = st.dictionaries(st.sampled_from("01x"), objects(status="completed", update=3), max_size=2)
ENTRY = objects(id=CELL, agent="ppo", env="maze", settings={}, seeds=[0, 1])
CONTENTS: dict[str, st.SearchStrategy[Any]] = {
    "plan.json": st.lists(ENTRY, max_size=2).flatmap(
        lambda cells: objects(schema=1, study="compare", question="Why?", decided={}, cells=cells)
    ),
    f"{CELL}/run.json": st.tuples(SEEDS, WORDS).flatmap(
        lambda said: objects(
            **{"id": CELL, "agent": "ppo", "env": "maze", "seeds": said[0], "status": said[1]},
            heartbeat=clock.now(),
            budget={"env_steps": 100},
            env_steps=50,
        )
    ),
    f"{CELL}/claim.json": objects(
        host="here", pid=1, time=clock.now(), task="", place="", started=1
    ),
    "jobs/0.json": objects(created=clock.now(), slurm="7", groups=[[CELL]], name="", folder="/"),
}


def damage(study: Path, contents: dict[str, Any]) -> None:
    for name, content in contents.items():
        put(study, name, content)


PLAN = {"cells": [{"id": CELL}]}
RUN = {"status": "running", "seeds": {}, "heartbeat": clock.now()}
JOB = {"created": clock.now(), "slurm": "7", "groups": [[CELL]]}
SHARE = {"budget": {"env_steps": 1}, "env_steps": -(10**400)}


LAX = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(LAX, max_examples=150)
@given(contents=st.fixed_dictionaries({}, optional=CONTENTS))
@example(contents={f"{CELL}/run.json": {**RUN, "seeds": {"0": "status"}}})
@example(contents={f"{CELL}/run.json": {**RUN, "status": "\ud800"}})
@example(contents={f"{CELL}/run.json": {**RUN, **SHARE}})
@example(
    contents={f"{CELL}/run.json": {**RUN, "status": "completed", "seconds": {"total": 10**400}}}
)
@example(contents={"plan.json": {"cells": [{"id": CELL, "seeds": None}]}})
@example(contents={"plan.json": {"cells": [{"id": CELL, "seeds": 5}]}})
@example(contents={"jobs/0.json": {**JOB, "folder": "\0"}})
@example(contents={"jobs/0.json": {**JOB, "folder": "\ud800"}})
def test_whatever_json_a_study_has_status_ends_with_a_code(
    contents: dict[str, Any], tmp_path: Path
) -> None:
    study = tmp_path / "study"
    shutil.rmtree(study, ignore_errors=True)
    damage(study, {"plan.json": PLAN, **contents})
    assert main(["status", str(study)]) in (0, 1, 2, 4)
    assert main(["status", "--json", str(study)]) in (0, 1, 2, 4)


@pytest.mark.slow
@settings(LAX, max_examples=40)
@given(contents=st.fixed_dictionaries({}, optional=CONTENTS))
def test_whatever_json_a_study_has_its_report_ends_with_a_code(
    contents: dict[str, Any], tmp_path: Path
) -> None:
    study = tmp_path / "compare"
    shutil.rmtree(study, ignore_errors=True)
    write_study(tmp_path, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=2)
    damage(study, contents)
    assert main(["report", str(study)]) in (0, 2)


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (None, []),
        (3, []),
        ({"agent.x": 10**400, "\ud800": "\ud800"}, ["agent", "agent.x", "env", "?"]),
    ],
)
def test_columns_of_tensorboard_are_made_of_whatever_was_set(
    tmp_path: Path, settings: Any, shown: list[str]
) -> None:
    (tmp_path / "study" / "c" / "tb" / TOGETHER).mkdir(parents=True)
    put(tmp_path / "study", "c/run.json", {"agent": "ppo", "env": "maze", "settings": settings})
    (tmp_path / "shown").mkdir()
    board._link(tmp_path / "study", tmp_path / "shown")
    cells = list(board._settings(tmp_path / "shown"))
    assert sorted(name for cell in cells for name in cell) == sorted(shown)
    board._columns(cells, tmp_path / "shown")


def never(path: Path) -> None:
    """Make a file that whoever reads it waits for."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    """Make a file that has no end."""
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    """Make a file of 4 GB that takes no room."""
    path.touch()
    os.truncate(path, 2**32)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("harm", [never, endless, huge])
def test_what_has_no_end_is_not_read(study: Path, harm: Any, capsys: Any) -> None:
    every = ("run.json", "certificate.json", "config.yaml", "evaluation.parquet", "metrics.parquet")
    for name in (*every, "oracle.npz", "claim.json"):
        harm(study / CELL / name)
    (study / "jobs").mkdir()
    harm(study / "jobs" / "0.json")
    assert [cell.status for cell in status.read(study)] == ["damaged"]
    assert slurm.jobs(study) == []
    problems = report.load(study).cells[0].problems
    assert {text.split(":")[0] for text in problems} >= {"run.json", "certificate.json"}
    with pytest.raises(ValueError, match=r"link|regular|limit"):
        store.read_json(study / CELL / "claim.json")
    harm(study / "plan.json")
    assert main(["status", str(study)]) == 4
    assert "plan.json is damaged (ValueError: " in capsys.readouterr().err
    assert not report.load(study).has_plan


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
@pytest.mark.parametrize("harm", [never, endless])
def test_neither_are_tables_and_arrays(tmp_path: Path, harm: Any) -> None:
    harm(tmp_path / "x")
    for read_it in (files.read_table, files.read_arrays, files.read_pictures, read_yaml):
        with pytest.raises(ValueError, match=r"a link|not a regular file"):
            read_it(tmp_path / "x")


def test_a_table_that_would_not_fit_in_memory_is_not_read(tmp_path: Path, monkeypatch: Any) -> None:
    write_parquet(tmp_path / "t", {name: np.zeros(1000) for name in "abcd"})
    monkeypatch.setattr(files, "TABLE_MEMORY", 8 * 1000 * 3)
    with pytest.raises(ValueError, match="claims more numbers than the limit"):
        files.read_table(tmp_path / "t")
    assert len(files.read_table(tmp_path / "t", lambda names: names[:3])) == 3


@pytest.mark.parametrize("name", ["report", "report/figures", "report/tables"])
def test_a_report_is_not_written_through_a_link_that_nobody_typed(
    study: Path, tmp_path: Path, name: str, capsys: Any
) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "index.html").write_text("mine")
    (study / name).parent.mkdir(exist_ok=True)
    (study / name).symlink_to(away, target_is_directory=True)
    assert main(["report", str(study)]) == 2
    assert f"{study / name} is a link; allowed: folders within the study, or --out=FOLDER" in (
        capsys.readouterr().err
    )
    assert [path.name for path in away.iterdir()] == ["index.html"]
    assert (away / "index.html").read_text() == "mine"


def test_a_folder_of_a_report_that_was_typed_may_be_a_link(study: Path, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "away", target_is_directory=True)
    assert main(["report", str(study), f"--out={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "away" / "index.html").exists()


def test_jobs_are_not_written_through_a_link(study: Path, tmp_path: Path) -> None:
    from vfcompare.commands import cluster

    (tmp_path / "away").mkdir()
    (study / "jobs").symlink_to(tmp_path / "away", target_is_directory=True)
    with pytest.raises(InputError, match="jobs is a link; allowed: folders within the study"):
        cluster.submit(study, [], cluster.Options())
    assert list((tmp_path / "away").iterdir()) == []


TORN = ["{", '{"schema": 99, "cells": []}']


@pytest.mark.parametrize("content", TORN)
def test_a_report_falls_back_to_what_was_found_where_its_plan_is_torn(
    study: Path, content: str
) -> None:
    (study / "plan.json").write_text(content)
    assert main(["report", str(study)]) == 0
    _, _, text = read(study / "report" / "index.html")
    assert "what was found on disk is the denominator" in text
    assert ("written by a later version" in text) == ("99" in content)


@pytest.mark.parametrize("seeds", [5, None, ["a"], [], {}, [None, 1.5], "12"])
def test_seeds_that_are_none_have_chosen_nothing(study: Path, seeds: Any) -> None:
    from vfcompare.tuning.ledger import has_tuning_seeds

    edit(study / "plan.json", lambda plan: plan["cells"][0].update(seeds=seeds))
    assert not has_tuning_seeds(study)


def test_runs_that_chose_settings_are_known_by_their_seeds_also_without_a_plan(
    study: Path, capsys: Any
) -> None:
    edit(study / CELL / "run.json", lambda run: run.update(seeds={str(TUNING_SEEDS): {}}))
    (study / "plan.json").write_text("{")
    assert main(["report", str(study)]) == 2
    assert "these runs have chosen the settings" in capsys.readouterr().err


def test_a_record_of_a_later_version_is_not_taken_for_ours(study: Path) -> None:
    edit(study / CELL / "run.json", lambda run: run.update(schema=99))
    (cell,) = report.load(study).cells
    assert "run.json: was written by a later version (layout 99, this one reads 1)" in cell.problems
