"""Plans, claims and records: what was said first stays said, and nobody is taken for somebody else."""

import errno
import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vfcompare import failure
from vfcompare.commands import compose, resume
from vfcompare.errors import ClaimLost, InputError
from vfcompare.main import main, not_done
from vfcompare.report.pages import writing
from vfcompare.runs import claim, clock, disk, lock, origin, plan, run_folder, slurm, status, store
from vfcompare.runs.run_folder import RunFolder

CELLS = [{"id": "a"}]


def test_a_later_command_keeps_the_question_the_figures_and_the_day_of_a_plan(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(clock, "now", lambda: "first")
    plan.write(tmp_path, {"name": "x", "question": "Who?", "figures": ["pairs"]}, CELLS)
    monkeypatch.setattr(clock, "now", lambda: "later")
    plan.write(tmp_path, {"name": "x", "question": None, "figures": []}, [{"id": "b"}])
    kept = store.read_json(tmp_path / "plan.json")
    assert (kept["question"], kept["figures"], kept["created"]) == ("Who?", ["pairs"], "first")
    assert [cell["id"] for cell in kept["cells"]] == ["a", "b"]


def test_a_cell_that_has_not_begun_is_dropped_from_a_plan_and_no_other(tmp_path, capsys):
    names = ["mistyped", "waiting", "finished", "held"]
    plan.write(tmp_path, {"name": "x", "margin": 0.1}, [{"id": n, "seeds": [0]} for n in names])
    before = store.read_json(tmp_path / "plan.json")
    RunFolder(tmp_path / "finished").update(status="completed")
    (tmp_path / "held").mkdir()
    store.write_json(tmp_path / "held" / "claim.json", {})
    for name, told in (
        ("finished", "finished has begun (run.json)"),
        ("held", "held has begun (claim.json)"),
        ("mistypd", "did you mean 'mistyped'"),
    ):
        assert main(["drop", str(tmp_path), "waiting", name]) == 2
        assert told in capsys.readouterr().err
        assert store.read_json(tmp_path / "plan.json") == before
    assert main(["drop", str(tmp_path), "mistyped"]) == 0
    after = store.read_json(tmp_path / "plan.json")
    assert [cell["id"] for cell in after["cells"]] == names[1:]
    assert after["decided"] == before["decided"] == {"margin": 0.1}


@pytest.mark.parametrize("tracked", [False, True])
def test_the_commit_is_that_of_the_code_and_not_of_whose_folder_it_is_in(
    tmp_path, monkeypatch, tracked
):
    file = tmp_path / ".venv" / "origin.py"
    file.parent.mkdir()
    file.touch()

    def git(*args):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *who, *args], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "mine").touch()
    git("add", "mine", *([str(file)] if tracked else []))
    git("commit", "-m", "mine")
    monkeypatch.setattr(origin, "__file__", str(file))
    assert bool(origin.git_state.__wrapped__()) == tracked


def test_a_claim_without_a_heartbeat_is_renewed_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "LOST_AFTER", 3.0)
    mine, other = RunFolder(tmp_path / "x" / "search"), RunFolder(tmp_path / "x" / "search")
    file = tmp_path / "x" / "search" / "claim.json"
    with mine.hold() as got, claim.kept([mine.claim]):
        assert got
        # As another machine would see it.
        monkeypatch.setattr(claim, "place", lambda: "another machine")
        time.sleep(4.5)
        with other.hold() as theirs:
            assert not theirs
        mine.claim.must_hold()
    assert not file.exists()


def test_without_being_renewed_it_is_lost_to_another_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "LOST_AFTER", 3.0)
    mine, other = RunFolder(tmp_path / "x" / "search"), RunFolder(tmp_path / "x" / "search")
    with mine.hold() as got:
        assert got
        monkeypatch.setattr(claim, "place", lambda: "another machine")
        time.sleep(4.5)
        with other.hold() as theirs:
            assert theirs
            with pytest.raises(ClaimLost):
                mine.claim.must_hold()


@pytest.mark.parametrize("state", ["PENDING", "COMPLETED"])
def test_a_cell_that_a_local_process_trains_is_running_whatever_slurm_was_told(
    tmp_path, monkeypatch, state
):
    path = Path(tmp_path)
    plan.write(path, {"name": "x"}, [{"id": "cell", "seeds": [0]}])
    folder = RunFolder(path / "cell")
    job = {"created": clock.now(), "slurm": "1", "groups": [["cell"]], "schema": store.SCHEMA}
    task = slurm.ArrayTask(state, "Priority")
    monkeypatch.setattr(slurm, "ask", lambda jobs: slurm.Answer([*jobs], {"1_0": task}))
    with folder.hold():
        folder.begin(id="cell", seeds={"0": {"status": "running"}})
        store.write_json(path / "jobs" / "0.json", job)
        (cell,) = status.read(path)
        assert (cell.status, cell.task) == ("running", "")


def failing(monkeypatch, number, name, times):
    """Let the next openings of files of a name fail, with an error of the system."""
    real, left = os.open, [times]

    def answer(path, *args, **options):
        if os.path.basename(path) == name and left[0] > 0:
            left[0] -= 1
            raise OSError(number, os.strerror(number), path)
        return real(path, *args, **options)

    monkeypatch.setattr(disk, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(os, "open", answer)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EMFILE, errno.ENFILE])
def test_what_cannot_be_read_for_a_moment_ends_no_healthy_run(tmp_path, monkeypatch, number):
    mine = RunFolder(tmp_path / "cell")
    with mine.hold():
        failing(monkeypatch, number, "claim.json", times=3)
        mine.update(status="running")
        failing(monkeypatch, number, "claim.json", times=100)
        with pytest.raises(OSError, match=os.strerror(number)):
            mine.update(status="running")
        monkeypatch.undo()
        mine.update(status="completed")
    assert not (tmp_path / "cell" / "claim.json").exists()


def test_what_cannot_be_read_for_a_moment_costs_no_checkpoint(tmp_path, monkeypatch, capsys):
    mine = RunFolder(tmp_path / "cell")
    with mine.hold():
        mine.save_checkpoint(3, b"state")
        for name in ("metrics", "evaluation"):
            store.write_table(tmp_path / "cell" / f"{name}.parquet", {"seed": np.zeros(1)})
        real = {"read_bytes": Path.read_bytes, "read_table": pq.read_table}
        calls = dict.fromkeys(real, 0)

        def flaky(name):
            def read(*args, **options):
                calls[name] += 1
                if calls[name] == 1:
                    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
                return real[name](*args, **options)

            return read

        monkeypatch.setattr(Path, "read_bytes", flaky("read_bytes"))
        monkeypatch.setattr(pq, "read_table", flaky("read_table"))
        found = mine.load_checkpoint()
    assert found is not None
    assert (found.point, found.state, mine.damage) == (3, b"state", [])
    assert calls == {"read_bytes": 2, "read_table": 3}
    assert capsys.readouterr().err == ""


def test_a_claim_that_is_gone_or_somebody_else_s_is_lost(tmp_path):
    for name, content in (("gone", None), ("torn", "{"), ("another", '{"host": "b", "pid": 7}')):
        mine = RunFolder(tmp_path / name)
        with mine.hold():
            file = tmp_path / name / "claim.json"
            file.unlink()
            if content is not None:
                file.write_text(content)
            with pytest.raises(ClaimLost):
                mine.update(status="running")


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESTALE])
def test_a_record_that_cannot_be_read_is_no_reason_to_remove_it(
    tmp_path, monkeypatch, capsys, number
):
    plan.write(tmp_path, {"name": "x"}, [{"id": "cell", "seeds": [0]}])
    RunFolder(tmp_path / "cell").update(status="completed", seeds={"0": {"status": "completed"}})
    failing(monkeypatch, number, "run.json", times=100)
    with pytest.raises(InputError, match=r"run\.json cannot be read") as refused:
        RunFolder(tmp_path / "cell")
    assert "remove" not in str(refused.value)
    (cell,) = status.read(tmp_path)
    assert cell.note == f"run.json cannot be read: {os.strerror(number)}"
    assert resume.waiting(tmp_path) == []
    told = capsys.readouterr().err
    assert cell.note in told
    assert "anew" not in told


def test_what_a_later_version_wrote_is_refused_by_name(tmp_path, capsys):
    plan.write(tmp_path, {"name": "x"}, [{"id": "cell", "seeds": [0]}])
    RunFolder(tmp_path / "cell").update(status="completed", seeds={"0": {"status": "completed"}})
    for name in ("cell/run.json", "plan.json"):
        file = tmp_path / name
        store.write_json(file, store.read_json(file) | {"schema": store.SCHEMA + 1})
    with pytest.raises(InputError, match=r"run\.json was written by a later version \(layout 2"):
        RunFolder(tmp_path / "cell")
    for verb in ("status", "resume"):
        assert main([verb, str(tmp_path)]) == 2
        assert "plan.json was written by a later version" in capsys.readouterr().err
    (tmp_path / "plan.json").unlink()
    (cell,) = status.read(tmp_path)
    assert (cell.status, cell.note[:28]) == ("damaged", "run.json cannot be read: it ")


@pytest.mark.parametrize("verb", ["status", "report", "resume"])
def test_a_cell_is_not_taken_for_a_study(tmp_path, verb, capsys):
    RunFolder(tmp_path / "cell").update(status="completed", seeds={"0": {"status": "completed"}})
    assert main([verb, str(tmp_path / "cell")]) == 2
    err = capsys.readouterr().err
    assert err == (
        f"vfcompare: {tmp_path / 'cell'} is a cell of the study {tmp_path}; allowed: {tmp_path}\n"
    )
    assert [file.name for file in (tmp_path / "cell").iterdir()] == ["run.json"]


def test_a_damaged_cell_does_not_count_as_done_before(tmp_path, capsys):
    words = ["agent=rloo,reinforce", "env=lock", "seeds=1", "env_steps=2000", f"root={tmp_path}"]
    planned = compose.cells(words, sweep=True)
    for cell in planned:
        folder = RunFolder(cell.study / cell.id)
        folder.update(status="completed", seeds={"0": {"status": "completed"}})
        store.write_table(folder.path / "evaluation.parquet", {"seed": np.arange(5)})
    assert not_done(planned) == []
    assert "2 of 2 cells were done before" in capsys.readouterr().out
    (folder.path / "evaluation.parquet").unlink()
    assert not_done(planned) == []
    assert "1 of 2 cells were done before" in capsys.readouterr().out


def test_what_is_completed_without_its_evaluations_is_damaged(tmp_path, capsys):
    plan.write(tmp_path, {"name": "x"}, [{"id": "cell", "seeds": [0]}])
    RunFolder(tmp_path / "cell").update(status="completed", seeds={"0": {"status": "completed"}})
    (cell,) = status.read(tmp_path)
    assert (cell.status, cell.note) == ("damaged", "evaluation.parquet is missing")
    assert main(["status", str(tmp_path)]) == 4
    assert main(["resume", str(tmp_path)]) == 4
    assert resume.waiting(tmp_path) == []
    assert (
        "evaluation.parquet is missing), left alone; without its folder" in capsys.readouterr().err
    )


def test_a_full_disk_is_told_by_whoever_goes_on(tmp_path, capsys):
    plan.write(tmp_path, {"name": "x"}, [{"id": name, "seeds": [0]} for name in "ab"])
    path = f"{tmp_path}/{'long/' * 30}evaluation.parquet"
    full = failure.describe(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path))
    for name, message in (("a", full), ("b", "ValueError: boom")):
        RunFolder(tmp_path / name).update(
            status="crashed", message=message, seeds={"0": {"status": "crashed"}}
        )
    note = status.read(tmp_path)[0].note
    assert len(note) <= 100
    assert note.startswith("OSError: [Errno 28] No space left on device: '/")
    assert note.endswith("/long/evaluation.parquet'")
    assert resume.waiting(tmp_path) == ["a", "b"]
    told = capsys.readouterr().err
    assert "1 cell ended by a full disk and tried again; unless there is room now" in told
    assert (
        "1 cell crashed and tried again; unless something changed that will end as before, " in told
    )


def test_cells_that_are_not_in_the_plan_are_counted(tmp_path, capsys):
    for name in "abc":
        RunFolder(tmp_path / name).update(status="crashed", seeds={"0": {"status": "crashed"}})
    assert main(["status", str(tmp_path)]) == 1
    assert "not in the plan" not in capsys.readouterr().out
    plan.write(tmp_path, {"name": "x"}, [{"id": "a", "seeds": [0]}])
    assert main(["status", str(tmp_path)]) == 1
    assert "3 crashed; 2 not in the plan, to which their sweep" in capsys.readouterr().out


@pytest.mark.parametrize("name", run_folder.ENDS)
def test_what_is_completed_and_has_lost_the_end_of_a_file_is_damaged(name, tmp_path, capsys):
    plan.write(tmp_path, {"name": "x"}, [{"id": "cell", "seeds": [0]}])
    RunFolder(tmp_path / "cell").update(status="completed", seeds={"0": {"status": "completed"}})
    for table in ("evaluation.parquet", "metrics.parquet"):
        store.write_table(tmp_path / "cell" / table, {"seed": np.arange(5)})
    (tmp_path / "cell" / "config.yaml").write_text("seeds: 1\nenv_steps: 1000\n")
    assert main(["status", str(tmp_path)]) == 0
    whole = (tmp_path / "cell" / name).read_bytes()
    for size in (0, 3, 12, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cell" / name).write_bytes(whole[:size])
        (cell,) = status.read(tmp_path)
        assert (cell.status, cell.note) == ("damaged", f"{name} has lost its end")
    assert main(["resume", str(tmp_path)]) == 4
    assert f"{name} has lost its end), left alone; without its folder" in capsys.readouterr().err


LONG_AGO = "2020-01-01T00:00:00+00:00"


def test_a_claim_that_is_renewed_is_a_sign_of_life(tmp_path):
    folder = RunFolder(tmp_path / "cell")
    with folder.hold():
        folder.begin(id="cell", seeds={"0": {"status": "running"}})
        file = tmp_path / "cell" / "run.json"
        store.write_json(file, store.read_json(file) | {"heartbeat": LONG_AGO})
        (cell,) = status.read(tmp_path)
        # Of the claim: that of the record is so old that the cell would be lost.
        assert cell.status == "running"
        # What hangs renews its claim, too, and nothing else.
        told = r"last sign of life \d+ s ago, nothing written for [\d,]+ min"
        assert re.fullmatch(told, cell.note)
        held = tmp_path / "cell" / "claim.json"
        store.write_json(held, store.read_json(held) | {"time": LONG_AGO})
        assert status.read(tmp_path)[0].status == "lost"


def test_a_folder_that_a_network_does_not_show_yet_is_waited_for(tmp_path, monkeypatch):
    real, blind = Path.is_dir, [4]

    def is_dir(path):
        if path.name == "new" and blind[0]:
            blind[0] -= 1
            return False
        return real(path)

    (tmp_path / "new").mkdir()
    monkeypatch.setattr(disk, "PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(Path, "is_dir", is_dir)
    store.make_folder(tmp_path / "new" / "below")
    assert (tmp_path / "new" / "below").is_dir()


def test_the_lock_of_a_colleague_is_held_though_it_may_only_be_read(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / ".lock").touch()
    real = os.open

    def refuse(path, flags, *mode, unreadable=False):
        if os.path.basename(path) == ".lock" and (unreadable or flags & os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    with lock.guard(tmp_path), open(tmp_path / ".lock") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    monkeypatch.setattr(os, "open", lambda *args: refuse(*args, unreadable=True))
    told = r"\.lock cannot be written: Permission denied"
    with pytest.raises(InputError, match=told), lock.guard(tmp_path):
        pass


def test_where_nothing_can_be_locked_it_is_said_once(tmp_path, monkeypatch, capsys):
    fcntl = pytest.importorskip("fcntl")

    def unlocked(handle, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", unlocked)
    for name in "ab":
        plan.write(tmp_path, {"name": "x"}, [{"id": name}])
    assert list(plan.cells(tmp_path)) == ["a", "b"]
    assert capsys.readouterr().err.count("cannot be locked (No locks available)") == 1


def test_what_kills_left_is_swept_up_and_what_is_being_written_is_not(tmp_path):
    names = [".index.html.00ff00ff.tmp", ".index.html.11ff11ff.tmp", ".mine.00ff00ff.tmp"]
    for name in names:
        (tmp_path / name).touch()
    for name in names[::2]:
        os.utime(tmp_path / name, (0, 0))
    writing.keep(tmp_path, {"index.html": b"x"})
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", *names[1:]}


def test_who_plans_leaves_the_file_that_a_search_is_writing_beside_the_plan(tmp_path):
    old, new = ".ledger.jsonl.00ff00ff.tmp", ".ledger.jsonl.11ff11ff.tmp"
    for name in (".plan.json.00ff00ff.tmp", old, new):
        (tmp_path / name).touch()
    os.utime(tmp_path / old, (0, 0))
    plan.write(tmp_path, {"name": "x"}, [{"id": "a"}])
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json", ".lock", new}


# What the system answers for a place below `tmp_path`, in which `file` is one.
UNWRITABLE = {
    "file": "Not a directory",
    "file/below": "Not a directory",
    "dangling": "No such file or directory",
    "x" * 300: "File name too long",
}


@pytest.fixture(params=UNWRITABLE)
def unwritable(request, tmp_path):
    """Such a place, with the answer; nothing may be made beside it."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "missing")
    before = sorted(tmp_path.rglob("*"))
    yield tmp_path / request.param, UNWRITABLE[request.param]
    assert sorted(tmp_path.rglob("*")) == before


def test_where_nothing_can_be_written_is_refused_in_one_line(unwritable):
    place, answer = unwritable
    with pytest.raises(InputError, match="allowed: a folder that you may write to") as refused:
        disk.must_be_writable(place, "root=it")
    assert str(refused.value).startswith(f"root=it cannot be written: {answer};")


def test_so_is_a_report_there_before_anything_is_read(unwritable, tmp_path):
    place, answer = unwritable
    for write in (
        lambda: writing.write(tmp_path / "none", place),
        lambda: writing.write_figure([tmp_path / "none"], "learning", place),
        lambda: writing.write_export([tmp_path / "none"], "csv", place),
    ):
        with pytest.raises(InputError, match=f"--out={place} cannot be written: {answer}"):
            write()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="not Linux")
def test_permissions_alone_do_not_say_what_can_be_written():
    with pytest.raises(InputError, match="root=/proc/xx cannot be written"):
        disk.must_be_writable(Path("/proc/xx/scratch"), "root=/proc/xx")


def test_a_file_of_a_report_in_whose_place_a_folder_is_is_named(tmp_path):
    (tmp_path / "index.html").mkdir()
    with pytest.raises(InputError, match=r"index.html cannot be written: Is a directory"):
        writing.keep(tmp_path, {"index.html": b"x"})


def test_a_full_disk_is_not_a_mistake_of_who_typed_the_command():
    with pytest.raises(OSError, match="No space"), disk.refusing("root=runs"):
        raise OSError(disk.FULL[0], os.strerror(disk.FULL[0]), "file")


def test_trying_leaves_nothing_and_makes_nothing(tmp_path):
    disk.must_be_writable(tmp_path / "runs" / "study")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("record", "note"),
    [
        ({"budget": {"env_steps": 1000}, "env_steps": 900}, "45 % saved, last sign of life"),
        ({"budget": {"env_steps": 1000}, "env_steps": 2900}, "100 % saved, last sign of life"),
        ({"budget": {"env_steps": 0}, "env_steps": 0}, "last sign of life"),
        ({"budget": "much"}, "last sign of life"),
        ({}, "last sign of life"),
    ],
)
def test_of_a_running_cell_the_share_of_steps_that_is_saved_is_told(tmp_path, record, note):
    folder = RunFolder(tmp_path / "cell")
    with folder.hold():
        seeds = {seed: {"status": "running"} for seed in "01"}
        folder.begin(id="cell", seeds=seeds, **record)
        (cell,) = status.read(tmp_path)
    assert cell.status == "running"
    assert cell.note.startswith(note)
    assert cell.note.endswith(" s ago")
