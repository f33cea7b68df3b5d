"""Studies on SLURM: what is submitted, what is said of it, and, on a real SLURM, that nothing is lost."""

import contextlib
import errno
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests import slurm as private
from tests.helpers import PARQUET, vfcompare
from vfcompare.commands import cluster, resume
from vfcompare.commands.compose import cells
from vfcompare.errors import InputError
from vfcompare.runs import claim, clock, plan, run_folder, slurm, status, store
from vfcompare.training import stopping

TINY = (
    *("seeds=2", "env_steps=600", "evaluations=2", "save_seconds=0", "agent.evaluation_episodes=2"),
    *("agent.collector.prompts=2", "agent.collector.group=4", "agent.network.hidden=[8]"),
)
LONG = ("env=lock", TINY[0], *TINY[3:], "env_steps=200000", "evaluations=20")
"""A second or two of training, with many checkpoints."""


def tool(folder, name, script):
    """A command of SLURM that does what a test wants, and notes how it was called."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >> "{folder}/{name}.calls"\n{script}\n')
    file.chmod(0o755)


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder of such commands, which is all there is on the path."""
    folder = tmp_path / "tools"
    folder.mkdir()
    # Nothing else, so that a real SLURM is not asked.
    monkeypatch.setenv("PATH", str(folder))
    for name in ("sh", "sleep", "cat"):
        link = folder / name
        link.symlink_to(f"/bin/{name}")
    return folder


def study(where, records, groups=None, slurm_number="7", **job):
    """A study on disk: `{cell: what run.json says, or None where it never began}`, and a job."""
    path = where / "runs" / "s"
    cells = [{"id": name, "seeds": [0, 1]} for name in records]
    store.write_json(path / "plan.json", {"schema": 1, "cells": cells})
    for name, record in records.items():
        if record is not None:
            seeds = {seed: {"status": record["status"]} for seed in "01"}
            said = {"heartbeat": clock.now(), "started": clock.now(), "seeds": seeds, **record}
            store.write_json(path / name / "run.json", said)
            if record["status"] == "completed":
                for table in ("evaluation.parquet", "metrics.parquet"):
                    (path / name / table).write_bytes(PARQUET)
            if record["status"] == "running":
                claim = {"host": "a node", "pid": 1, "time": said["heartbeat"]}
                store.write_json(path / name / "claim.json", claim)
    if groups is not None:
        # As an earlier version wrote it, without the name of the job.
        content = {"created": "2020-01-01T00:00:00+00:00", "slurm": slurm_number, **job}
        store.write_json(path / "jobs" / "0.json", {**content, "groups": groups})
    return path


def queue(tools, path, *lines, name="vfcompare-s"):
    """A queue that has lines `task|state|reason` of a study's job, and else knows none."""
    said = "".join(f"echo '{line}|{name}|{path}'; " for line in lines)
    tool(tools, "squeue", said or "echo 'Invalid job id' >&2; exit 1")


def statuses(path):
    return {cell.id: cell.status for cell in status.read(path)}


def test_the_script_is_the_one_of_the_manual(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", "/opt/my python/bin/python")
    options = cluster.Options(partition="gpu", account="rl", extra=("--qos=long",), parallel=8)
    lines = cluster.sbatch_options("vfcompare-mine-0a1b2c3d", 3, 5, options)
    text = cluster.script(Path("runs/it's mine"), 3, lines)
    assert text.splitlines() == [
        "#!/bin/bash",
        "#SBATCH --array=0-4%8",
        "#SBATCH --partition=gpu",
        "#SBATCH --account=rl",
        "#SBATCH --time=240",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --mem=4G",
        "#SBATCH --signal=B:USR2@120",
        "#SBATCH --output=jobs/3-%a.log",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "#SBATCH --qos=long",
        "#SBATCH --job-name=vfcompare-mine-0a1b2c3d",
        "# The signal reaches Python itself, since exec leaves no shell in between.",
        f"cd -- {tmp_path} || exit",
        "exec '/opt/my python/bin/python' -m vfcompare work "
        f"""'{tmp_path}/runs/it'"'"'s mine' '{tmp_path}/runs/it'"'"'s mine/jobs/3.json' """
        '"$SLURM_ARRAY_TASK_ID"',
    ]


BAD = {
    "--time 7": ("--time 7", "--time 8 or more"),
    "--time 60 --signal-delay 3600": ("--signal-delay 3600", "--time 66"),
    "--time -3": ("--time -3", "1 or more"),
    "--cpus 0": ("--cpus 0", "1 or more"),
    "--mem-gb 0": ("--mem-gb 0", "1 or more"),
    "--parallel 0": ("--parallel 0", "1 or more"),
    "--signal-delay 0": ("--signal-delay 0", "1 or more"),
    "--partition a;b": ("--partition 'a;b'", "name"),
    "--account=": ("--account ''", "name"),
    "--extra=--job-name=a": ("--extra '--job-name=a'", "study.name"),
    "--extra=--comment='": ('--extra "--comment=\'"', "--extra=--qos=long"),
    "--extra=qos": ("--extra 'qos'", "--extra=--qos=long"),
    "hydra/launcher=joblib": ("hydra/launcher=joblib does nothing here", "--help"),
    "agent=rlo": ("agent=rlo", "rloo"),
    "agent.gama=1": ("agent.gama", "gamma"),
    "nowhere": ("nowhere", "folder"),
}


@pytest.mark.parametrize("mistake", BAD)
def test_what_cannot_work_is_refused_before_anything_is_written(mistake, tmp_path):
    settings = [] if mistake == "nowhere" else ["agent=rloo,grpo", "env=lock", *TINY]
    settings = settings[1:] if mistake.startswith("agent=") else settings
    done = vfcompare("submit", "--dry-run", *mistake.split(), *settings, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "Traceback" not in done.stderr
    assert all(words in done.stderr for words in BAD[mistake]), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_words_that_would_be_lines_of_the_script_are_refused():
    with pytest.raises(InputError, match="--extra"):
        cluster.Options(extra=("--qos=a\nrm -rf /",)).check()


def test_without_sbatch_nothing_is_begun(tmp_path, tools):
    done = vfcompare("submit", "agent=rloo", "env=lock", *TINY, cwd=tmp_path)
    assert done.returncode == 2
    assert "sbatch is not on PATH" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_leaves_out_what_submit_would_leave_out(tmp_path):
    sweep = ("agent=rloo,grpo", "env=lock", *TINY)
    done = vfcompare("-m", *sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    dry = vfcompare("submit", "--dry-run", *sweep, cwd=tmp_path)
    assert (dry.returncode, dry.stdout) == (0, "runs/scratch: nothing to submit\n")


def test_what_tasks_would_refuse_is_refused_when_it_is_typed(tmp_path):
    foreign = "agent.estimator.advantage.baseline._target_=os.getcwd"
    done = vfcompare("submit", "--dry-run", "agent=rloo", "env=lock", foreign, cwd=tmp_path)
    assert done.returncode == 2
    assert "_target_=os.getcwd is not allowed here" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_prints_a_script_that_bash_can_read_and_writes_nothing(tmp_path):
    here = tmp_path / "with space and 'quote'"
    here.mkdir()
    sweep = ("agent=rloo,grpo", "env=lock", "agent.gamma=0.9,0.99", *TINY)
    done = vfcompare("submit", "--dry-run", "--parallel", "3", *sweep, cwd=here)
    assert done.returncode == 0, done.stderr
    # Cells that differ in a number alone share a task.
    assert "#SBATCH --array=0-1%3" in done.stdout
    script = here / "script"
    script.write_text(done.stdout)
    assert subprocess.run(["/bin/bash", "-n", script], check=False).returncode == 0
    assert list(here.iterdir()) == [script]


def test_folders_of_the_users_own_go_along_to_the_tasks(tmp_path, own):
    sweep = ("agent=half,rloo", "env=lock", own, *TINY)
    done = vfcompare("submit", "--dry-run", *sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    last = shlex.split(done.stdout.splitlines()[-1])
    assert last[-2:] == ["$SLURM_ARRAY_TASK_ID", own]


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path, tools):
    tool(tools, "sbatch", "echo 41")
    sweep = ("agent=rloo", "env=lock", *TINY)
    path = tmp_path / "runs" / "scratch"
    planned = [cell.planned() for cell in cells([*sweep], sweep=True)]
    plan.write(path, {"name": "scratch"}, planned)
    (path / "jobs").touch()
    before = sorted(tmp_path.rglob("*"))
    for words in (sweep, ("runs/scratch",)):
        done = vfcompare("submit", *words, cwd=tmp_path)
        assert done.returncode == 2
        told = "runs/scratch/jobs cannot be written: Not a directory; allowed: a folder that you may write to"
        assert done.stderr == f"vfcompare: {told}\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_a_submission_is_on_disk_and_is_not_repeated_while_it_waits(tmp_path, tools):
    tool(tools, "sbatch", "echo '41;cluster'")
    path = tmp_path / "runs" / "scratch"
    queue(tools, path, "41_0|PENDING|Priority", "41_1|PENDING|Resources", name="renamed")
    sweep = ("agent=rloo,grpo", "env=lock", *TINY)
    done = vfcompare("submit", *sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 cells in SLURM's job 41" in done.stdout
    (job,) = slurm.jobs(path)
    planned = list(plan.cells(path))
    assert (job.slurm, job.groups) == ("41", [[name] for name in planned])
    (call,) = (tools / "sbatch.calls").read_text().splitlines()
    assert call.startswith("--parsable --array=0-1%256 --time=240 ")
    assert call.endswith(f" --requeue --job-name={job.name} jobs/0.sh")
    script = (path / "jobs" / "0.sh").read_text().splitlines()
    assert [line[8:] for line in script if line.startswith("#SBATCH ")] == call.split()[1:-1]
    assert set(statuses(path).values()) == {"queued"}
    for again in (sweep, (str(path),)):
        done = vfcompare("submit", *again, cwd=tmp_path)
        assert (done.returncode, "nothing to submit" in done.stdout) == (0, True), done.stderr
        assert "2 cells queued or running at SLURM" in done.stderr
    done = vfcompare("resume", str(path), cwd=tmp_path)
    assert "0 cells to go" in done.stdout
    assert (tools / "sbatch.calls").read_text().count("\n") == 1


def test_what_sbatch_refuses_is_said_and_leaves_no_job(tmp_path, tools):
    tool(tools, "sbatch", "echo 'sbatch: error: invalid partition specified: gpu' >&2; exit 1")
    done = vfcompare("submit", "--partition", "gpu", "agent=rloo", "env=lock", *TINY, cwd=tmp_path)
    assert done.returncode == 2
    assert "invalid partition specified" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs" / "scratch" / "jobs").exists()


def test_a_job_whose_sbatch_does_not_answer_keeps_its_files_and_its_number(
    tmp_path, tools, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cluster, "ANSWER", 0.2)
    tool(tools, "sbatch", "exec sleep 5")
    planned = cells(["agent=rloo", "env=lock", *TINY], sweep=True)
    path = planned[0].study
    plan.write(path, {"name": "scratch"}, [cell.planned() for cell in planned])
    for number in (0, 1):
        with pytest.raises(
            InputError, match=rf"may have taken the job.*jobs/{number}\.json is kept"
        ):
            cluster.submit(path, planned, cluster.Options())
    assert [job.slurm for job in slurm.jobs(path)] == ["", ""]
    assert (path / "jobs" / "1.sh").exists()
    assert statuses(path) == {planned[0].id: "planned"}


@pytest.fixture
def marked(tmp_path):
    """A study whose job has a name; one cell waits, one is trained."""

    def make(*names, **job):
        told = {"name": "vfcompare-s-0a1b2c3d", "folder": str(tmp_path / "runs" / "s"), **job}
        records: dict[str, Any] = dict.fromkeys(names)
        records["trained"] = {"status": "running", "task": "7_1"}
        path = study(tmp_path, records, [[*names], ["trained"]], **told)
        claim = store.read_json(path / "trained" / "claim.json")
        store.write_json(path / "trained" / "claim.json", claim | {"task": "7_1"})
        return path

    return make


def test_a_copied_study_has_no_job_and_takes_none_back(tmp_path, tools, marked):
    path, copy = marked("waits"), tmp_path / "runs" / "copy"
    queue(tools, path, "7_0|PENDING|x", "7_1|RUNNING|x", name="vfcompare-s-0a1b2c3d")
    tool(tools, "scancel", "")
    shutil.copytree(path, copy)
    assert statuses(path) == {"waits": "queued", "trained": "running"}
    assert statuses(copy) == {"waits": "planned", "trained": "lost"}
    assert status.read(copy)[1].note.startswith(f"task 7_1 trains it in {str(path)[:40]}")
    assert cluster.cancel(copy) == "no job of this study waits or runs"
    assert not (tools / "scancel.calls").exists()
    assert resume.waiting(copy) == ["waits", "trained"]
    assert not (copy / "trained" / "claim.json").exists()
    assert (path / "trained" / "claim.json").exists()


def test_who_takes_a_study_back_asks_once(tools, marked):
    path = marked("waits")
    queue(tools, path, "7_0|COMPLETED|x", name="vfcompare-s-0a1b2c3d")
    assert cluster.cancel(path) == "no job of this study waits or runs"
    assert (tools / "squeue.calls").read_text().count("\n") == 1


def test_the_job_of_a_cell_that_is_planned_no_more_is_taken_back_too(tools, marked, monkeypatch):
    path = marked("waits")
    plan.drop(path, ["waits"])
    store.write_json(path / "trained" / "run.json", {"status": "completed", "seeds": {}})
    queue(tools, path, "7_0|PENDING|x", name="vfcompare-s-0a1b2c3d")
    tool(tools, "scancel", "")
    monkeypatch.setattr(cluster, "DYING", 0.1)
    assert cluster.cancel(path).startswith("cancelled job 7: ")


def test_a_study_that_was_moved_keeps_its_jobs(tmp_path, tools, marked):
    path = marked("waits")
    queue(tools, path, "7_0|PENDING|x", "7_1|RUNNING|x", name="vfcompare-s-0a1b2c3d")
    moved = path.rename(tmp_path / "runs" / "moved")
    assert statuses(moved) == {"waits": "queued", "trained": "running"}


@pytest.mark.parametrize("told", [{}, {"name": "", "folder": ""}])
def test_somebody_elses_job_of_the_same_number_is_left_alone(told, tmp_path, tools, marked):
    path = marked("waits", **told)
    for name, folder in (("bash", "/home/other"), ("vfcompare-s-ffffffff", "/home/other/runs/s")):
        queue(tools, folder, "7_0|PENDING|x", "7_1|RUNNING|x", name=name)
        tool(tools, "sacct", f"echo '7_0|RUNNING|{name}|{folder}'")
        tool(tools, "scancel", "")
        assert statuses(path) == {"waits": "planned", "trained": "running"}
        assert "SLURM does not know task 7_1" in status.read(path)[1].note
        assert cluster.cancel(path) == "no job of this study waits or runs"
        assert not (tools / "scancel.calls").exists()


def test_without_an_answer_nothing_is_taken_back(tools, marked):
    path = marked("waits")
    tool(tools, "squeue", "exit 1")
    tool(tools, "scancel", "")
    with pytest.raises(InputError, match="squeue does not answer"):
        cluster.cancel(path)
    assert not (tools / "scancel.calls").exists()


def test_a_job_whose_number_sbatch_did_not_tell_is_found_by_its_name(tools, marked):
    path = marked("waits", slurm_number="")
    both = 'case "$*" in *--name*) echo "9|vfcompare-s-0a1b2c3d";; *-j\\ 9*) '
    both += "echo '9_0|PENDING|x|vfcompare-s-0a1b2c3d|/';; *) exit 1;; esac"
    tool(tools, "squeue", both)
    tool(tools, "scancel", "")
    assert statuses(path)["waits"] == "queued"
    assert resume.waiting(path) == []
    cluster.DYING, before = 0.1, cluster.DYING
    try:
        assert cluster.cancel(path).startswith("cancelled job 9: 1 cell queued, 0 running")
    finally:
        cluster.DYING = before
    assert (tools / "scancel.calls").read_text() == "9\n"
    assert [job.slurm for job in slurm.jobs(path)] == ["9"]


def test_ctrl_c_while_sbatch_is_asked_keeps_the_files_of_the_job(
    tmp_path, tools, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    planned = cells(["agent=rloo", "env=lock", *TINY], sweep=True)
    path = planned[0].study
    plan.write(path, {"name": "scratch"}, [cell.planned() for cell in planned])

    def interrupted(*command, **how):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(slurm, "call", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.submit(path, planned, cluster.Options())
    assert (
        "sbatch may have taken the job (1 task): runs/scratch/jobs/0.json"
        in capsys.readouterr().err
    )
    (job,) = slurm.jobs(path)
    tool(tools, "squeue", f"echo '9|{job.name}'")
    assert slurm.ask([job]).jobs[0].slurm == "9"


def test_a_task_writes_down_the_number_that_nobody_was_told(marked, monkeypatch):
    path = marked("waits", slurm_number="")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    monkeypatch.setenv(claim.TASK, "")
    monkeypatch.setattr(resume, "rebuild", lambda study, names, own: [])
    before = signal.getsignal(signal.SIGUSR2)
    try:
        assert cluster.work(path, path / "jobs" / "0.json", 0) == 0
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert [job.slurm for job in slurm.jobs(path)] == ["9"]


@pytest.mark.parametrize(("number", "called"), [("7", "7"), ("", "vfcompare-s-0a1b2c3d")])
def test_what_may_wait_at_a_slurm_that_does_not_answer_cannot_be_dropped(
    number, called, tmp_path, tools, marked
):
    """Also where `sbatch` did not answer, so that only its name is known."""
    path = marked("waits", slurm_number=number)
    tool(tools, "squeue", "exit 1")
    done = vfcompare("drop", str(path), "waits", cwd=tmp_path)
    assert done.returncode == 2
    assert f"waits may wait at SLURM, in {called}, and SLURM does not answer" in done.stderr
    assert "waits" in plan.cells(path)


def test_a_task_trains_what_is_still_planned(marked, monkeypatch, capsys):
    path = marked("waits", "other")
    monkeypatch.setenv(claim.TASK, "")
    plan.drop(path, ["other"])
    asked = []

    def rebuild(study, names, own):
        asked.extend(names)
        return []

    monkeypatch.setattr(resume, "rebuild", rebuild)
    before = signal.getsignal(signal.SIGUSR2)
    try:
        assert cluster.work(path, path / "jobs" / "0.json", 0) == 0
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert asked == ["waits"]
    assert "not planned any more, left alone: other" in capsys.readouterr().err


def test_a_log_that_is_not_there_is_not_referred_to(tools, marked):
    path = marked("waits")
    queue(tools, path, "7_0|CANCELLED|x", name="vfcompare-s-0a1b2c3d")
    assert status.read(path)[0].note == "SLURM: task 7_0 CANCELLED before it began training"


def test_a_full_disk_leaves_no_job_that_was_not_submitted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    planned = cells(["agent=rloo", "env=lock", *TINY], sweep=True)
    path = planned[0].study
    plan.write(path, {"name": "scratch"}, [cell.planned() for cell in planned])

    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device", str(file))

    monkeypatch.setattr(store, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        cluster.submit(path, planned, cluster.Options())
    assert not (path / "jobs").exists()


def test_how_lax_to_be_goes_along_to_the_tasks(tmp_path):
    sweep = ("agent=rloo", "env=lock", *TINY)
    planned = [cell.planned() for cell in cells([*sweep], sweep=True)]
    plan.write(tmp_path / "runs" / "scratch", {"name": "scratch"}, planned)
    for words in (sweep, ("runs/scratch",)):
        done = vfcompare("submit", "--dry-run", *words, "resume=anyway", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert shlex.split(done.stdout.splitlines()[-1])[-1] == "resume=anyway"


# What run.json says (None: it never began), what the queue says, what status makes of it.
STANDING = {
    "waits": (None, "PENDING|Priority", "queued", "Priority"),
    "starts": (None, "RUNNING|None", "running", "starting"),
    "never began": (None, "FAILED|NonZeroExitCode", "crashed", "jobs/0-0.log"),
    "no memory to begin": (None, "OUT_OF_MEMORY|None", "out of memory", "before it began"),
    "cancelled in the queue": (None, "CANCELLED|None", "cancelled", "CANCELLED"),
    "forgotten": (None, None, "planned", ""),
    "trains": ("running", "RUNNING|None", "running", "last sign of life"),
    "killed": ("running", "FAILED|RaisedSignal:9", "lost", "FAILED"),
    "no memory": ("running", "OUT_OF_MEMORY|None", "out of memory", "OUT_OF_MEMORY"),
    "out of time": ("preempted", "TIMEOUT|TimeLimit", "timed out", "TIMEOUT"),
    "out of time and killed": ("running", "TIMEOUT|TimeLimit", "timed out", "TIMEOUT"),
    "node gone": ("running", "NODE_FAIL|None", "lost", "NODE_FAIL"),
    "taken back": ("preempted", "CANCELLED|None", "cancelled", "CANCELLED"),
    "requeued": ("preempted", "PENDING|BeginTime", "queued", "BeginTime"),
    "killed and requeued": ("running", "PENDING|BeginTime", "queued", "BeginTime"),
    "purged": ("running", None, "running", "does not know"),
    "crashed": ("crashed", "FAILED|NonZeroExitCode", "crashed", "boom"),
    "saved": ("preempted", "FAILED|None", "preempted", "boom"),
    "done": ("completed", None, "completed", "3 s"),
}


@pytest.mark.parametrize("case", STANDING)
def test_a_cell_stands_as_its_files_and_slurm_say_together(case, tmp_path, tools):
    word, queued, expected, note = STANDING[case]
    record = word and {"status": word, "task": "7_0", "message": "boom", "seconds": {"total": 3}}
    path = study(tmp_path, {"cell": record}, [["cell"]])
    queue(tools, path, *([f"7_0|{queued}"] if queued else []))
    (path / "jobs" / "0-0.log").touch()
    (cell,) = status.read(path)
    assert (cell.status, note in cell.note) == (expected, True), cell
    assert (cell.task != "") == (expected in ("queued", "running") and case != "purged")


def test_a_task_that_slurm_does_not_list_is_lost_when_it_falls_silent_or_its_process_is_gone(
    tmp_path, tools
):
    tool(tools, "squeue", "echo 'Invalid job id' >&2; exit 1")
    records = {name: {"status": "running", "task": "7_0"} for name in ("lives", "silent", "gone")}
    records["silent"]["heartbeat"] = "2020-01-01T00:00:00+00:00"
    path = study(tmp_path, records, [[*records]])
    for name in records:
        claim = store.read_json(path / name / "claim.json") | {"task": "7_0"}
        here = {"host": socket.gethostname(), "pid": 2**22} if name == "gone" else {}
        store.write_json(path / name / "claim.json", claim | here)
    assert statuses(path) == {"lives": "running", "silent": "lost", "gone": "lost"}
    assert resume.waiting(path, release=False) == ["silent", "gone"]
    assert all((path / name / "claim.json").exists() for name in records)
    assert resume.waiting(path) == ["silent", "gone"]
    assert [(path / name / "claim.json").exists() for name in records] == [True, False, False]


def test_a_task_that_slurm_killed_for_its_memory_and_calls_failed_is_told_from_others(
    tmp_path, tools
):
    records = {name: {"status": "running", "task": f"7_{i}"} for i, name in enumerate("abc")}
    path = study(tmp_path, records, [["a"], ["b"], ["c"]])
    queue(tools, path, *(f"7_{i}|FAILED|JobLaunchFailure" for i in range(3)))
    line = "slurmstepd-n: error: StepId=7.batch exceeded memory limit (2 > 1), being killed\n"
    (path / "jobs" / "0-0.log").write_text(f"one\n{line}slurmstepd-n: error: CANCELLED\n")
    # That was an earlier attempt.
    (path / "jobs" / "0-1.log").write_text(line + "100,000 steps in 3 s\n" * 50)
    assert statuses(path) == {"a": "out of memory", "b": "lost", "c": "lost"}
    assert "exceeded memory limit" in status.read(path)[0].note


def test_accounting_remembers_what_the_queue_has_forgotten(tmp_path, tools):
    records = {name: {"status": "running", "task": f"7_{i}"} for i, name in enumerate("abc")}
    path = study(tmp_path, records, [["a"], ["b"], ["c"]])
    queue(tools, path, "7_2|RUNNING|None")
    past = "for s in '7_0|CANCELLED by 0' '7_1|TIMEOUT' '7_2|RUNNING'; do"
    tool(tools, "sacct", f'{past} echo "$s|vfcompare-s|{path}"; done')
    assert statuses(path) == {"a": "cancelled", "b": "timed out", "c": "running"}
    assert (tools / "squeue.calls").read_text().count("\n") == 1
    assert (tools / "sacct.calls").read_text().count("\n") == 1


def test_a_slurm_that_does_not_answer_holds_nobody_up(tmp_path, tools, monkeypatch):
    monkeypatch.setattr(slurm, "PATIENCE", 0.3)
    monkeypatch.setattr(slurm.call, "__kwdefaults__", {"cwd": None, "patience": 0.3})
    records = {"a": {"status": "running", "task": "7_0"}, "b": None}
    path = study(tmp_path, records, [["a"], ["b"]])
    tool(tools, "squeue", "exec sleep 20")
    begin = time.monotonic()
    assert statuses(path) == {"a": "running", "b": "planned"}
    assert time.monotonic() - begin < 5


def test_without_jobs_slurm_is_not_asked(tmp_path, tools):
    tool(tools, "squeue", "exit 1")
    path = study(tmp_path, {"a": None, "b": {"status": "completed"}})
    assert statuses(path) == {"a": "planned", "b": "completed"}
    assert not (tools / "squeue.calls").exists()


def test_what_a_cell_ran_into_after_it_was_submitted_counts_more(tmp_path, tools):
    path = study(tmp_path, {"a": {"status": "interrupted", "message": "SIGINT"}}, [["a"]])
    queue(tools, path, "7_0|CANCELLED|None")
    assert statuses(path) == {"a": "interrupted"}


@pytest.mark.parametrize(
    "content",
    ['{"slurm": "7; rm -rf /", "created": "", "groups": []}', "[]", "{", '{"groups": 3}', "\0"],
)
def test_a_damaged_job_is_no_job(content, tmp_path, tools):
    path = study(tmp_path, {"a": None})
    (path / "jobs").mkdir()
    (path / "jobs" / "0.json").write_text(content)
    assert statuses(path) == {"a": "planned"}
    with pytest.raises(InputError, match="is not the description of a job"):
        cluster.work(path, path / "jobs" / "0.json", 0)


def test_a_run_without_memory_and_a_dead_process_are_told_apart_from_crashes(tmp_path):
    gone = subprocess.run(["/bin/sh", "-c", "echo $$"], capture_output=True, text=True, check=True)
    records = {
        "a": {"status": "crashed", "message": "XlaRuntimeError: RESOURCE_EXHAUSTED: 9 GB"},
        "b": {"status": "crashed", "message": "ValueError: no"},
        "c": {"status": "running"},
        "d": {"status": "running", "heartbeat": "2020-01-01T00:00:00+00:00"},
    }
    path = study(tmp_path, records)
    (path / "c" / "claim.json").unlink()
    with run_folder.RunFolder(path / "c").hold():
        claim = store.read_json(path / "c" / "claim.json")
        store.write_json(path / "c" / "claim.json", claim | {"pid": int(gone.stdout)})
        found = {"a": "out of memory", "b": "crashed", "c": "lost", "d": "lost"}
        assert statuses(path) == found


def test_cancelling_stops_jobs_and_marks_cells(tmp_path, tools):
    records = {"a": {"status": "completed"}, "b": None, "c": {"status": "preempted"}}
    path = study(tmp_path, records, [["a"], ["b"], ["c"]])
    tool(
        tools,
        "squeue",
        f"if [ -e {tools}/scancel.calls ]; then s=CANCELLED; else s=PENDING; fi\n"
        f'echo "7_1|$s|x|vfcompare-s|{path}"; echo "7_2|$s|x|vfcompare-s|{path}"',
    )
    tool(tools, "scancel", "")
    done = vfcompare("cancel", str(path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "cancelled job 7: 2 cells queued, 0 running" in done.stdout
    assert (tools / "scancel.calls").read_text() == "7\n"
    assert statuses(path) == {"a": "completed", "b": "cancelled", "c": "cancelled"}
    assert store.read_json(path / "c" / "run.json")["status"] == "cancelled"
    done = vfcompare("cancel", str(path), cwd=tmp_path)
    assert "no job of this study waits or runs" in done.stdout
    assert (tools / "scancel.calls").read_text() == "7\n"


def test_a_cancelled_job_of_a_foreign_study_marks_nothing_outside_of_it(tmp_path, tools):
    path = study(tmp_path, {"../../victim": None}, [["../../victim"]])
    victim = tmp_path / "victim" / "run.json"
    store.write_json(victim, {"status": "running", "seeds": {}})
    before = victim.read_bytes()
    cluster._mark_cancelled(path, ["../../victim"])
    assert victim.read_bytes() == before


def test_a_damaged_cell_of_a_cancelled_job_keeps_no_other_from_being_marked(tmp_path):
    waits = {"status": "preempted"}
    path = study(tmp_path, {"a": waits, "b": waits}, [["a", "b"]])
    (path / "a" / "run.json").write_text("{")
    cluster._mark_cancelled(path, ["a", "b"])
    assert store.read_json(path / "b" / "run.json")["status"] == "cancelled"


def test_a_notice_before_training_is_remembered():
    before = signal.getsignal(signal.SIGUSR2)
    try:
        stopping.remember_until_training()
        os.kill(os.getpid(), signal.SIGUSR2)
        with stopping.Listener() as listener, pytest.raises(stopping.Stopped, match="SIGUSR2"):
            listener.check()
        with stopping.Listener() as listener:
            listener.check()
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_a_task_takes_over_what_its_earlier_attempt_held(tmp_path, monkeypatch):
    folder = run_folder.RunFolder(tmp_path / "cell")
    monkeypatch.setenv(claim.TASK, "7_0")
    with folder.hold() as got:
        assert got
        said = store.read_json(folder.path / "claim.json")
        # As if that attempt had been on another machine, a moment ago.
        store.write_json(folder.path / "claim.json", said | {"host": "elsewhere", "pid": 1})
        for task, expected in (("7_1", False), ("", False), ("7_0", True)):
            monkeypatch.setenv(claim.TASK, task)
            with run_folder.RunFolder(folder.path).hold() as again:
                assert again is expected


def test_resume_retries_what_the_machines_broke_and_says_what_crashed(tmp_path, tools, capsys):
    words = (
        *("completed", "crashed", "interrupted", "preempted", "cancelled", "timed out"),
        *("out of memory", "lost", "running"),
    )
    records = {word.replace(" ", "-"): {"status": word, "message": "boom"} for word in words}
    records["running"]["heartbeat"] = "2020-01-01T00:00:00+00:00"
    path = study(tmp_path, {**records, "planned": None, "damaged": {"status": "running"}})
    (path / "damaged" / "run.json").write_text("{")
    assert resume.waiting(path) == [*(name for name in records if name != "completed"), "planned"]
    said = capsys.readouterr().err
    assert "1 cell crashed and tried again" in said
    assert "boom" in said
    assert "damaged: damaged (JSONDecodeError: " in said
    assert said.count("left alone; without its folder it begins anew") == 1


def test_the_status_of_a_thousand_cells_comes_at_once(tmp_path):
    record = {"status": "completed", "seconds": {"total": 12.0}}
    path = study(tmp_path, {f"cell-{i}": record for i in range(1000)})
    begin = time.monotonic()
    done = vfcompare("status", str(path), cwd=tmp_path)
    seconds = time.monotonic() - begin
    assert done.returncode == 0
    assert "1000 completed" in done.stdout
    assert seconds < 2.0


def test_programs_can_read_how_a_study_stands(tmp_path, tools):
    records = {
        "a": {"status": "completed", "seconds": {"total": 3}},
        "b": {"status": "crashed", "message": "boom"},
        "c": None,
    }
    path = study(tmp_path, records, [["c"]])
    queue(tools, path, "7_0|PENDING|Priority")
    done = vfcompare("status", "--json", str(path), cwd=tmp_path)
    assert done.returncode == 1
    usual = {"seeds": 2, "completed": 0, "diverged": 0, "task": None, "in_plan": True}
    assert json.loads(done.stdout) == {
        "schema": 1,
        "study": str(path),
        "counts": {"completed": 1, "crashed": 1, "queued": 1},
        "cells": [
            usual | {"id": "a", "status": "completed", "completed": 2, "note": "3 s"},
            usual | {"id": "b", "status": "crashed", "note": "boom"},
            usual | {"id": "c", "status": "queued", "task": "7_0", "note": "task 7_0: Priority"},
        ],
    }


def test_what_is_not_finished_can_be_seen_by_scripts(tmp_path):
    done = {"status": "completed"}
    standing = {"done": ({"a": done}, 0, 0), "open": ({"a": done, "b": None}, 0, 3)}
    standing["failed"] = ({"a": {"status": "crashed"}, "b": None}, 1, 1)
    for name, (records, plain, checked) in standing.items():
        path = study(tmp_path / name, records)
        assert vfcompare("status", str(path), cwd=tmp_path).returncode == plain
        assert vfcompare("status", "--check", str(path), cwd=tmp_path).returncode == checked


@pytest.mark.slow
def test_hydras_launcher_for_slurm_composes_with_defaults_that_lose_nothing(tmp_path):
    pytest.importorskip("submitit")
    asked = ("--cfg", "hydra", "-p", "hydra.launcher")
    done = vfcompare("-m", "agent=rloo", "hydra/launcher=slurm", *asked, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in ("max_num_timeout: 20", "signal_delay_s: 120", "timeout_min: 240"):
        assert line in done.stdout


# The real thing.


@pytest.fixture(scope="session")
def real():
    """The environment of a private SLURM, with accounting where it is installed."""
    reason = private.missing()
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        accounting = private.accounts() and not os.environ.get("VFCOMPARE_NO_ACCOUNTING")
        with private.running(Path(folder) / "s", accounting=accounting) as environment:
            yield {**environment, "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="session")
def suspending(real):
    """The environment of one that suspends."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        place = Path(folder) / "s"
        with private.running(place, accounting=False, preemption=private.SUSPENDING) as environment:
            yield {**environment, "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """The same cells as one sweep in one process, without SLURM."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = vfcompare("-m", "agent=rloo,grpo,reinforce", *LONG, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "scratch"


@pytest.fixture
def begin(real, tmp_path):
    """Submits agents; returns the study."""

    def submit(agents, *options, at=real):
        few = ("--cpus", "1", "--mem-gb", "1")
        done = vfcompare("submit", *few, *options, f"agent={agents}", *LONG, cwd=tmp_path, env=at)
        assert done.returncode == 0, done.stderr
        return tmp_path / "runs" / "scratch"

    return submit


def ask(path, env):
    """`{agent: status}` and all that was printed."""
    done = vfcompare("status", str(path), cwd=path, env=env)
    lines = [line.split("  ") for line in done.stdout.splitlines()[2:-1]]
    cells = ([text.strip() for text in line if text.strip()] for line in lines)
    return {cell[0].split("-")[1]: cell[1] for cell in cells}, done.stdout


def folder_of(path, agent):
    found = [name for name in plan.cells(path) if f"lock-{agent}-" in name]
    return path / found[0]


def worker(path, agent):
    """The process that trains an agent, once it has saved something, asleep."""
    folder = folder_of(path, agent)
    private.until((folder / "checkpoint" / "checkpoints.json").exists)
    pid = store.read_json(folder / "claim.json")["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert store.read_json(folder / "run.json")["status"] == "running"
    return pid


def noticed(pid, name):
    """Whether a process that was asleep has been sent a signal, which waits for it or has woken it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    told = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    waiting = int(told["SigPnd"], 16) | int(told["ShdPnd"], 16)
    return waiting >> (signal.Signals[name] - 1) & 1 or not told["State"].startswith("T")


def asleep(pid):
    """Put a process to sleep again, since SLURM wakes those that it signals; whether it lives."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    return private.alive(pid)


def at_rest(env):
    """Wait until SLURM has nothing left to do."""
    private.until(lambda: not private.ask(env, "squeue", "-h"), 150.0)


def same_bits(path, expected):
    """Whether every cell of a study ended as the uninterrupted one."""
    names = list(plan.cells(path))
    assert names
    for name in names:
        for table in ("metrics", "evaluation"):
            one, two = (store.read_table(p / name / f"{table}.parquet") for p in (path, expected))
            assert one.keys() == two.keys()
            assert [c for c in one if one[c].tobytes() != two[c].tobytes()] == []
        kept, wanted = (run_folder.RunFolder(p / name).load_checkpoint() for p in (path, expected))
        assert kept is not None
        assert wanted is not None
        assert kept._replace(seconds={}) == wanted._replace(seconds={})
    return True


def attempts(path):
    return {
        p.name.split("-")[1]: store.read_json(p / "run.json")["attempt"] for p in plan.runs(path)
    }


@pytest.mark.slow
def test_a_crash_and_a_kill_are_of_one_cell_and_resume_completes_them(real, begin, uninterrupted):
    path = begin("rloo,grpo,reinforce", "--parallel", "2")
    # What is to be a file is a folder: writing it fails.
    (folder_of(path, "rloo") / "metrics.parquet").mkdir(parents=True)
    os.kill(worker(path, "grpo"), signal.SIGKILL)
    at_rest(real)
    found, said = ask(path, real)
    assert found == {"rloo": "crashed", "grpo": "lost", "reinforce": "completed"}, said
    assert "IsADirectoryError" in said
    (folder_of(path, "rloo") / "metrics.parquet").rmdir()
    done = vfcompare("resume", str(path), cwd=path, env=real)
    assert done.returncode == 0, done.stderr
    assert "1 cell crashed and tried again" in done.stderr
    assert ask(path, real)[0] == dict.fromkeys(found, "completed")
    assert attempts(path) == {"rloo": 2, "grpo": 2, "reinforce": 1}
    assert same_bits(path, uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("notice", ["USR2", "TERM"])
def test_a_preempted_task_requeues_itself_and_ends_with_the_same_bits(
    notice, real, begin, uninterrupted
):
    path = begin("grpo")
    pid = worker(path, "grpo")
    (job,) = slurm.jobs(path)
    private.ask(real, "scancel", "--batch", f"--signal={notice}", job.task(0))
    # Woken before it comes, it may be done when it does.
    private.until(lambda: noticed(pid, f"SIG{notice}"))
    os.kill(pid, signal.SIGCONT)
    private.until(lambda: "saved" in (path / "jobs" / "0-0.log").read_text())
    private.until(lambda: ask(path, real)[0] != {"grpo": "preempted"})
    assert ask(path, real)[0]["grpo"] in ("queued", "running", "completed")
    at_rest(real)
    assert ask(path, real)[0] == {"grpo": "completed"}
    assert attempts(path) == {"grpo": 2}
    assert same_bits(path, uninterrupted)


@contextlib.contextmanager
def urgent(env):
    """A job that needs the whole machine, takes it from others, and gives it back at the end."""
    job = ("--parsable", "-p", "urgent", "-n1", "-c2", "--mem=100M", "-t5", "-o", "/dev/null")
    number = private.ask(env, "sbatch", *job, "--wrap=sleep 300")
    try:
        yield
    finally:
        private.ask(env, "scancel", number)


def comes_to(path, env, status, note, *, by):
    """Wait for a status and a note of the one cell, by way of no other statuses than those told."""
    deadline = time.monotonic() + private.PATIENCE
    while True:
        found, said = ask(path, env)
        (now,) = found.values()
        if now == status and note in said:
            return
        assert now in (status, *by), said
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("partition", ["grace", "requeue"])
def test_a_task_whose_place_is_needed_waits_and_ends_with_the_same_bits(
    partition, real, begin, uninterrupted
):
    # With a time of grace it saves and requeues itself; without, SLURM does while it saves.
    path = begin("grpo", "--partition", partition)
    worker(path, "grpo")
    with urgent(real):
        # SLURM may call it queued while it still saves.
        ways = ("running", "preempted")
        comes_to(path, real, "queued", "after it was preempted", by=ways)
    at_rest(real)
    assert ask(path, real)[0] == {"grpo": "completed"}
    assert attempts(path) == {"grpo": 2}
    assert same_bits(path, uninterrupted)


@pytest.mark.slow
def test_a_task_that_others_end_for_good_is_preempted_and_resume_completes_it(
    real, begin, uninterrupted
):
    # Told by SIGWINCH, which nobody heeds, so that SIGTERM after the time of grace is all it hears.
    path = begin("rloo", "--partition", "cancel", "--extra=--signal=B:28@10")
    pid = worker(path, "rloo")
    with urgent(real):
        private.until(lambda: not asleep(pid))
    at_rest(real)
    found, said = ask(path, real)
    assert found == {"rloo": "preempted"}, said
    done = vfcompare("resume", str(path), cwd=path, env=real)
    assert done.returncode == 0, done.stderr
    assert ask(path, real)[0] == {"rloo": "completed"}
    assert attempts(path) == {"rloo": 2}
    assert same_bits(path, uninterrupted)


@pytest.mark.slow
def test_a_task_that_the_user_took_back_does_not_requeue_itself(real, begin, uninterrupted):
    path = begin("rloo")
    worker(path, "rloo")
    private.ask(real, "scancel", "-u", "root")
    at_rest(real)
    found, said = ask(path, real)
    assert found == {"rloo": "cancelled"}, said
    assert attempts(path) == {"rloo": 1}


@pytest.mark.slow
def test_a_task_that_is_suspended_says_so_and_goes_on_by_itself(suspending, begin, uninterrupted):
    path = begin("rloo", "--partition", "suspend", at=suspending)
    worker(path, "rloo")
    with urgent(suspending):
        note = "SUSPENDED, goes on by itself"
        comes_to(path, suspending, "preempted", note, by=("running",))
        done = vfcompare("resume", str(path), cwd=path, env=suspending)
        assert "0 cells to go" in done.stdout
    at_rest(suspending)
    assert ask(path, suspending)[0] == {"rloo": "completed"}
    assert attempts(path) == {"rloo": 1}
    assert same_bits(path, uninterrupted)


SWELL = """
import ctypes, threading, time
from pathlib import Path

def swell():
    while not Path({!r}).exists():
        time.sleep(0.01)
    held = bytearray(1_500_000_000)
    held[::4096] = b"x" * len(held[::4096])
    ctypes.PyDLL(None).sleep(600)

threading.Thread(target=swell, daemon=True).start()
"""
"""Takes more than the GB that a task has, and then holds Python up, since SLURM looks once a second only."""


@pytest.mark.slow
def test_a_task_that_takes_too_much_memory_says_so_and_resume_completes_it(
    real, begin, uninterrupted, tmp_path
):
    told = tmp_path / "told"
    (tmp_path / "sitecustomize.py").write_text(SWELL.format(str(told)))
    path = begin("grpo", at={**real, "PYTHONPATH": str(tmp_path)})
    pid = worker(path, "grpo")
    told.touch()
    os.kill(pid, signal.SIGCONT)
    at_rest(real)
    found, said = ask(path, real)
    assert found == {"grpo": "out of memory"}, said
    done = vfcompare("resume", str(path), cwd=path, env=real)
    assert done.returncode == 0, done.stderr
    assert ask(path, real)[0] == {"grpo": "completed"}
    assert attempts(path) == {"grpo": 2}
    assert same_bits(path, uninterrupted)


@pytest.mark.slow
def test_a_task_that_is_out_of_time_says_so_and_resume_completes_it(real, begin, uninterrupted):
    # SIGWINCH, which nobody heeds, instead of the notice; and it sleeps through the limit, too.
    path = begin("reinforce,rloo", "--extra=--signal=B:28@10", "--extra=--time=1")
    pids = [worker(path, agent) for agent in ("reinforce", "rloo")]
    os.kill(pids[1], signal.SIGCONT)
    private.until(lambda: not asleep(pids[0]), 150.0)
    at_rest(real)
    found, said = ask(path, real)
    assert found == {"reinforce": "timed out", "rloo": "completed"}, said
    done = vfcompare("resume", str(path), cwd=path, env=real)
    assert done.returncode == 0, done.stderr
    assert ask(path, real)[0] == dict.fromkeys(found, "completed")
    assert same_bits(path, uninterrupted)


@pytest.mark.slow
def test_options_of_submit_beat_variables_of_the_shell_and_leave_those_of_other_options(
    real, begin
):
    shell = {"SBATCH_PARTITION": "urgent", "SBATCH_TIMELIMIT": "7", "SBATCH_JOB_NAME": "mine"}
    shell["SBATCH_RESERVATION"] = shell["SBATCH_ARRAY_INX"] = ""
    path = begin("grpo", "--partition", "requeue", "--time", "60", at={**real, **shell})
    (job,) = slurm.jobs(path)
    asked = ("squeue", "-h", "-j", job.slurm, "-t", "all", "-o", "%P %l %j")
    assert private.ask(real, *asked) == f"requeue 1:00:00 {job.name}"
    path = begin("rloo", at={**real, **shell})
    (_, job) = slurm.jobs(path)
    assert private.ask(real, *asked[:3], job.slurm, *asked[4:]).split()[0] == "urgent"
    done = vfcompare("cancel", str(path), cwd=path, env=real)
    assert "cancelled job" in done.stdout
    at_rest(real)


@pytest.mark.slow
def test_a_copy_leaves_the_jobs_of_the_original_alone(real, begin):
    path = begin("rloo,grpo", "--parallel", "1")
    pid = worker(path, "rloo")
    copy = path.with_name("copy")
    shutil.copytree(path, copy)
    assert set(ask(copy, real)[0].values()) == {"lost", "planned"}
    done = vfcompare("cancel", str(copy), cwd=path, env=real)
    assert "no job of this study waits or runs" in done.stdout
    assert ask(path, real)[0] == {"rloo": "running", "grpo": "queued"}
    # As if sbatch had not answered.
    file = path / "jobs" / "0.json"
    store.write_json(file, store.read_json(file) | {"slurm": ""})
    assert ask(path, real)[0] == {"rloo": "running", "grpo": "queued"}
    done = vfcompare("submit", str(path), cwd=path, env=real)
    assert "nothing to submit" in done.stdout
    done = vfcompare("cancel", str(path), cwd=path, env=real)
    assert "1 cell queued, 1 running" in done.stdout
    assert not private.alive(pid)
    at_rest(real)


@pytest.mark.slow
def test_cancelling_takes_back_what_runs_and_what_waits(real, begin, uninterrupted):
    path = begin("rloo,grpo,reinforce", "--parallel", "1")
    pid = worker(path, "rloo")
    assert ask(path, real)[0] == {"rloo": "running", "grpo": "queued", "reinforce": "queued"}
    done = vfcompare("submit", str(path), cwd=path, env=real)
    assert "nothing to submit" in done.stdout
    done = vfcompare("cancel", str(path), cwd=path, env=real)
    assert done.returncode == 0, done.stderr
    assert "2 cells queued, 1 running" in done.stdout
    assert not private.alive(pid)
    found, said = ask(path, real)
    assert set(found.values()) == {"cancelled"}, said
    assert store.read_json(folder_of(path, "rloo") / "run.json")["status"] == "cancelled"
    done = vfcompare("submit", "--cpus", "1", "--mem-gb", "1", str(path), cwd=path, env=real)
    assert done.returncode == 0, done.stderr
    assert json.loads((path / "jobs" / "1.json").read_text())["slurm"]
    at_rest(real)
    assert ask(path, real)[0] == dict.fromkeys(found, "completed")
    assert attempts(path)["rloo"] == 2
    assert same_bits(path, uninterrupted)
