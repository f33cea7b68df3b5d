"""Runs survive kills, signals, full disks, damage, rivals and hostile plans, and end with the same bits."""

import contextlib
import errno
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.helpers import PARQUET
from vfcompare.commands import compose, resume, trust
from vfcompare.errors import ClaimLost, Damaged, InputError
from vfcompare.main import main
from vfcompare.runs import claim, clock, naming, plan, run_folder, store
from vfcompare.training import crew, devices, execute, fuse, priors, stages, stopping
from vfcompare.training.cell import Member
from vfcompare.training.log import Log
from vfcompare.training.share import Share
from vfcompare.training.starts import Starts
from vfcompare.training.stopping import Listener, Stopped
from vfcompare.training.sweep import train

FAIL_POINT = Path(__file__).with_name("fail_point.py")
PARTS = (
    "env=lock",
    "agent.network.hidden=[8]",
    "agent.evaluation_episodes=2",
    "agent.collector.prompts=2",
    "agent.collector.group=4",
    "save_seconds=0",
)
SMALL = ("agent=ppo", *PARTS, "seeds=2", "env_steps=600", "evaluations=3")
LONG = ("agent=ppo", *PARTS, "seeds=2", "env_steps=60000", "evaluations=30")
SAVE = ("metrics.parquet", "evaluation.parquet")
WRITES = (
    *("plan.json", "claim.json", "run.json", "config.yaml", "certificate.json"),
    "evaluation.parquet",
    *(*SAVE, "state-1.msgpack", "checkpoints.json", "run.json"),
    *(*SAVE, "state-2.msgpack", "checkpoints.json", "run.json"),
    *(*SAVE, "state-3.msgpack", "checkpoints.json", "state-1.msgpack", "run.json"),
    *("paths.npz", "run.json", "claim.json"),
)
"""Every write of `SMALL`, in its order: a new one is added here, and so is tested."""

WITH_DEVICES = "--xla_force_host_platform_device_count={} --xla_cpu_multi_thread_eigen=false"


def command(*args, at=None):
    if at is None:
        return [sys.executable, "-m", "vfcompare", *args]
    return [sys.executable, str(FAIL_POINT), *map(str, at), *args]


def vfcompare(*args, cwd, at=None, timeout=300, **env):
    """Run the command line in a folder; `at` says where it is to fail: when, number of the write, log."""
    cwd.mkdir(exist_ok=True)
    return subprocess.run(
        command(*args, at=at),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | env,
    )


def begin(*args, cwd, at=None, out=subprocess.PIPE):
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(command(*args, at=at), cwd=cwd, stdout=out, stderr=out, text=True)


def await_file(process, cwd, pattern, patience=240):
    """Wait until a file appears, or the process ends."""
    deadline = time.monotonic() + patience
    while process.poll() is None and not list(cwd.rglob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.01)


def only(cwd):
    """The only run below a working directory."""
    (folder,) = plan.runs(cwd / "runs" / "scratch")
    return folder


def essential(value):
    """A parameter of a slow test with which it is run all the same."""
    return pytest.param(value, marks=pytest.mark.essential)


def status(folder):
    return store.read_json(folder / "run.json")["status"]


def result(folder, exact=True):
    """All that training made: bytes of both tables and of the checkpoint, but not how long it took."""
    tables = {
        f"{name}.{column}": values.tobytes()
        for name in ("metrics", "evaluation")
        for column, values in store.read_table(folder / f"{name}.parquet").items()
    }
    checkpoint = run_folder.RunFolder(folder).load_checkpoint()
    assert checkpoint is not None
    checkpoint = checkpoint._replace(seconds={})
    return tables, checkpoint if exact else (checkpoint.point, checkpoint.state)


def same(folder, other, exact=True):
    """Whether two runs are completed, and equal bit by bit."""
    assert status(folder) == status(other) == "completed"
    one, two = (result(path, exact) for path in (folder, other))
    assert one[0].keys() == two[0].keys()
    assert [name for name in one[0] if one[0][name] != two[0][name]] == []
    assert one[1] == two[1]


def files(folder):
    """Names of the files of a run that stay: the view has times in its names."""
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return {n for n in found if not n.startswith("tb/") and not n.endswith(".tmp")} - {"claim.json"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`SMALL`, which nothing disturbed, with the names of its writes."""
    cwd = tmp_path_factory.mktemp("whole")
    done = vfcompare(*SMALL, cwd=cwd, at=("list", 0, "writes"))
    assert done.returncode == 0, done.stderr
    return cwd


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """`LONG`, which nothing disturbed."""
    cwd = tmp_path_factory.mktemp("long")
    done = vfcompare(*LONG, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return only(cwd)


# Kills


@pytest.mark.slow
@pytest.mark.essential
def test_every_write_of_a_run_is_listed_here(whole):
    assert tuple((whole / "writes").read_text().split()) == WRITES


# Before a write is, but for the file that is ready to be renamed, after the one before it. After the second
# there is a claim without content.
KILLS = [*(("before", n) for n in range(1, len(WRITES) + 1)), ("after", 2), ("after", len(WRITES))]
SOME = [
    pytest.param(*kill, marks=pytest.mark.essential) if index % 4 == 2 else kill
    for index, kill in enumerate(KILLS)
]


@pytest.mark.slow
@pytest.mark.parametrize(("when", "number"), SOME)
def test_a_kill_at_any_write_changes_no_bit(whole, when, number, tmp_path):
    killed = vfcompare(*SMALL, cwd=tmp_path, at=(when, number, "writes"))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = vfcompare(*SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same(only(tmp_path), only(whole))
    assert files(only(tmp_path)) == files(only(whole))
    if number < len(WRITES):
        assert not list(tmp_path.rglob("*.tmp"))
    names = {path.name for path in (tmp_path / "runs" / "scratch").iterdir()}
    assert names == {path.name for path in (whole / "runs" / "scratch").iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_kills_at_ten_random_times_change_no_bit(long, seed, tmp_path):
    rng, kills, rounds = np.random.default_rng(seed), 0, 0
    while kills < 10:
        cwd = tmp_path / str(rounds)
        process = begin(*LONG, cwd=cwd)
        await_file(process, cwd, "claim.json")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0.0, 4.0))
        process.kill()
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        # One that was finished between two kills makes room for another.
        rounds += process.returncode == 0
    for number in range(rounds + 1):
        cwd = tmp_path / str(number)
        assert vfcompare(*LONG, cwd=cwd).returncode == 0
        same(only(cwd), long)
        assert files(only(cwd)) == files(long)


@pytest.mark.slow
@pytest.mark.essential
def test_a_run_that_is_over_soon_is_saved_once_and_a_kill_before_that_changes_no_bit(
    whole, tmp_path
):
    seldom = (*(text for text in SMALL if text != "save_seconds=0"), "save_seconds=300")
    done = vfcompare(*seldom, cwd=tmp_path / "once", at=("list", 0, "writes"))
    assert done.returncode == 0, done.stderr
    writes = (tmp_path / "once" / "writes").read_text().split()
    assert [name for name in writes if name.startswith("state-")] == ["state-1.msgpack"]
    before = writes.index("metrics.parquet") + 1
    killed = vfcompare(*seldom, cwd=tmp_path / "killed", at=("before", before, "writes"))
    assert killed.returncode == -signal.SIGKILL
    assert vfcompare(*seldom, cwd=tmp_path / "killed").returncode == 0
    for name in ("once", "killed"):
        same(only(tmp_path / name), only(whole))


# Damage


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory):
    """A run that was killed after its second of three evaluations."""
    cwd = tmp_path_factory.mktemp("killed")
    last = len(WRITES) - 1 - WRITES[::-1].index("metrics.parquet")
    killed = vfcompare(*SMALL, cwd=cwd, at=("before", last + 1, "writes"))
    assert killed.returncode == -signal.SIGKILL
    return cwd


@pytest.fixture
def copy(cut_off, tmp_path):
    """Such a run, of a test's own."""
    return Path(shutil.copytree(cut_off, tmp_path / "copy"))


def points(folder):
    """What TensorBoard shows of a run: by seed, or all, and tag, the steps of its points."""
    found = {}
    for run in sorted((folder / "tb").glob("*")):
        events = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
        for tag in events.Tags()["tensors"]:
            found[run.name, tag] = [event.step for event in events.Tensors(tag)]
    return found


@pytest.mark.slow
@pytest.mark.essential
def test_curves_in_tensorboard_are_whole_after_a_kill(whole, copy):
    assert vfcompare(*SMALL, cwd=copy).returncode == 0
    expected = points(only(whole))
    assert len(expected["seed-0", "train/policy_loss"]) == 3
    assert points(only(copy)) == expected


def newest_first(folder):
    entries = store.read_json(folder / "checkpoint" / "checkpoints.json")["newest_first"]
    return [folder / "checkpoint" / entry["file"] for entry in entries]


def flip(file, share, bit=3):
    data = bytearray(file.read_bytes())
    data[int(share * (len(data) - 1))] ^= 1 << bit
    file.write_bytes(data)


def cut(file, share):
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


@pytest.fixture
def folder(tmp_path):
    """A run folder with two checkpoints and tables, made without training."""
    folder = run_folder.RunFolder(tmp_path / "study" / "cell")
    folder.begin(id="cell", seeds={"0": {"status": "running"}})
    for name in ("metrics", "evaluation"):
        store.write_table(folder.path / f"{name}.parquet", {"seed": np.arange(500)})
    for point in (1, 2):
        folder.save_checkpoint(point, bytes([point]) * 1000, {"jax": "1"})
    return folder


SHARES = (0.0, 0.1, 0.37, 0.5, 0.9, 1.0)


@pytest.mark.parametrize("harm", [flip, cut])
@pytest.mark.parametrize("share", SHARES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(folder, harm, share, capsys):
    if (harm, share) == (cut, 1.0):
        share = 0.999
    newest, before = newest_first(folder.path)
    harm(newest, share)
    found = folder.load_checkpoint()
    assert found is not None
    assert found.point == 1
    assert str(newest) in capsys.readouterr().err
    assert folder.damage == [f"checkpoint/{newest.name}"]
    # The next one is kept beside the good one, not beside the damaged one.
    folder.save_checkpoint(2, b"new")
    assert before in newest_first(folder.path)
    assert newest not in newest_first(folder.path)[1:]


@pytest.mark.parametrize("share", np.linspace(0, 1, 40))
def test_a_damaged_list_of_checkpoints_never_misleads(folder, share, capsys):
    file = folder.path / "checkpoint" / "checkpoints.json"
    whole = file.read_bytes()
    flip(file, share, bit=0)
    layout = re.search(rb'"schema": *(\d+)', whole)
    assert layout is not None
    if layout.start(1) <= int(share * (len(whole) - 1)) < layout.end(1):
        with pytest.raises(InputError, match="has layout"):
            folder.load_checkpoint()
        return
    found = folder.load_checkpoint()
    err = capsys.readouterr().err
    if found is None:
        assert "anew" in err
    else:
        assert found == (found.point, bytes([found.point]) * 1000, {"jax": "1"}, {})
        # Of the space between two words it does not matter which it is.
        assert found.point == 2 or "state-2.msgpack" in err


def test_a_list_of_checkpoints_in_another_layout_is_refused(folder):
    file = folder.path / "checkpoint" / "checkpoints.json"
    store.write_json(file, store.read_json(file) | {"schema": -1})
    with pytest.raises(InputError, match="has layout -1"):
        folder.load_checkpoint()


def test_with_no_whole_checkpoint_left_it_says_that_training_begins_anew(folder, capsys):
    for file in newest_first(folder.path):
        flip(file, 0.5)
    assert folder.load_checkpoint() is None
    err = capsys.readouterr().err
    assert all(str(file) in err for file in newest_first(folder.path))
    assert "anew" in err


@pytest.mark.parametrize("name", ["metrics.parquet", "evaluation.parquet"])
@pytest.mark.parametrize("harm", [flip, cut])
def test_a_damaged_table_is_named_and_training_begins_anew(folder, name, harm, capsys):
    harm(folder.path / name, 0.3)
    assert folder.load_checkpoint() is None
    err = capsys.readouterr().err
    assert str(folder.path / name) in err
    assert "anew" in err


def test_so_is_one_whose_damage_pyarrow_calls_something_else_than_an_error_of_reading(
    folder, capsys
):
    file = folder.path / "metrics.parquet"
    store.write_table(file, {"seed": np.arange(1)})
    whole, found = file.read_bytes(), []
    # Few bytes are of that kind, so every one is changed in turn.
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with contextlib.suppress(OSError):
            try:
                store.read_table(file)
            except ValueError as error:
                found += [file.read_bytes()] if str(error).startswith("damaged (") else []
    file.write_bytes(found[0])
    assert folder.load_checkpoint() is None
    assert "metrics.parquet cannot be read (damaged (Arrow" in capsys.readouterr().err


def test_a_checkpoint_in_another_layout_is_refused_by_name(folder):
    file = folder.path / "checkpoint" / "checkpoints.json"
    store.write_json(file, store.read_json(file) | {"schema": 99})
    with pytest.raises(InputError, match="layout 99"):
        folder.load_checkpoint()


def test_a_damaged_record_is_refused_by_name(folder):
    cut(folder.path / "run.json", 0.5)
    with pytest.raises(Damaged, match=r"run\.json is damaged"):
        run_folder.RunFolder(folder.path)


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 2])
def test_training_goes_on_over_damaged_checkpoints_to_the_same_bits(whole, copy, number):
    damaged = newest_first(only(copy))[:number]
    for file in damaged:
        flip(file, 0.5)
    done = vfcompare(*SMALL, cwd=copy)
    assert done.returncode == 0, done.stderr
    assert all(file.name in done.stderr for file in damaged)
    assert ("anew" in done.stderr) == (number == 2)
    record = store.read_json(only(copy) / "run.json")
    assert record["damage"] == [f"checkpoint/{file.name}" for file in damaged]
    same(only(copy), only(whole))


def reseal(folder, change):
    """Replace the newest checkpoint with a changed one, as if another version had written it."""
    run = run_folder.RunFolder(folder)
    found = run.load_checkpoint()
    assert found is not None
    state, circumstances = change(found.state, found.circumstances)
    run.save_checkpoint(found.point, state, circumstances)


@pytest.mark.slow
@pytest.mark.essential
def test_a_checkpoint_of_another_version_is_refused_unless_anyway(whole, copy):
    reseal(only(copy), lambda state, known: (state, known | {"jax": "0.0.1"}))
    before = {name: (only(copy) / name).read_bytes() for name in files(only(copy))}
    refused = vfcompare(*SMALL, cwd=copy)
    assert refused.returncode == 2
    assert "jax was 0.0.1" in refused.stderr
    assert "resume=anyway" in refused.stderr
    assert {name: (only(copy) / name).read_bytes() for name in files(only(copy))} == before
    done = vfcompare(*SMALL, "resume=anyway", cwd=copy)
    assert done.returncode == 0, done.stderr
    assert store.read_json(only(copy) / "run.json")["bit_exact"] is False
    assert store.read_json(only(whole) / "run.json")["bit_exact"] is True
    same(only(copy), only(whole))


@pytest.mark.slow
def test_a_checkpoint_of_another_shape_is_refused_with_the_name_of_an_array(copy):
    from flax import serialization

    def narrow(state, known):
        tree = serialization.msgpack_restore(state)
        tree["env_steps"] = tree["env_steps"][:1]
        return serialization.msgpack_serialize(tree), known | {"state": "of another code"}

    reseal(only(copy), narrow)
    for args in (SMALL, (*SMALL, "resume=anyway")):
        refused = vfcompare(*args, cwd=copy)
        assert refused.returncode == 2, refused.stderr
        assert "env_steps was int32[1], is int32[2]" in refused.stderr


CPUINFO = """processor\t: 0
model name\t: {}
flags\t\t: fpu {} sse2

processor\t: 1
model name\t: {}
flags\t\t: fpu sse2
"""


def test_cpus_are_alike_whose_instructions_are_whatever_they_are_called(tmp_path):
    def cpu(model, flags):
        (tmp_path / "cpuinfo").write_text(CPUINFO.format(model, flags, model))
        return devices._cpu(tmp_path / "cpuinfo")

    one = cpu("EPYC", "avx2 avx512f fma ibrs")
    assert one.endswith(", EPYC")
    assert devices.alike(one, cpu("Xeon", "retbleed fma avx512f avx2"))
    assert not devices.alike(one, cpu("EPYC", "avx2 fma"))
    assert devices.alike("cpu", one), "earlier versions did not say which"
    assert not devices.alike("NVIDIA A100", one)
    assert not devices.alike(one, "NVIDIA A100")
    assert devices.alike("NVIDIA A100", "NVIDIA A100")
    assert devices._cpu(tmp_path / "none") == "cpu"


# A power cut


def test_a_name_is_on_the_disk_before_the_next_is_written(tmp_path, monkeypatch):
    """A folder, too, has to be synchronised after a file in it was renamed or a folder made."""
    events = []

    def noted(name, path_of):
        original = getattr(os, name)

        def call(*args, **options):
            result = original(*args, **options)
            events.append((name, path_of(*args)))
            return result

        monkeypatch.setattr(os, name, call)

    noted("fsync", lambda handle: Path(os.readlink(f"/proc/self/fd/{handle}")))
    noted("replace", lambda old, new: (Path(old), Path(new)))
    noted("mkdir", lambda path, *rest: Path(path))
    noted("unlink", lambda path, **options: Path(path))
    folder = run_folder.RunFolder(tmp_path / "runs" / "study" / "cell")
    with folder.hold() as got:
        assert got
        folder.begin(id="cell", seeds={})
        for point in range(4):
            folder.save_checkpoint(point, b"state")
    made = [path for name, path in events if name == "mkdir"]
    names = ("runs", "runs/study", "runs/study/cell", "runs/study/cell/checkpoint")
    assert made == [tmp_path / name for name in names]
    for index, (name, path) in enumerate(events):
        if name == "mkdir":
            assert events[index + 1] == ("fsync", path.parent)
        elif name == "replace":
            old, new = path
            assert events[index - 1] == ("fsync", old)
            assert events[index + 1] == ("fsync", new.parent)
    assert sum(name == "unlink" and path.suffix == ".msgpack" for name, path in events) == 2


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """Makes a file system of a size; returns its folder and what changes its size."""
    made = tmp_path / "disk"
    made.mkdir()

    def mount(options):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(made)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        return made

    yield mount
    subprocess.run(["umount", str(made)], capture_output=True, check=False)


# From the claim to a checkpoint; a view's file between two others; and no number for a file.
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mount") is None, reason="needs mount")
@pytest.mark.parametrize("room", ["size=4k", "size=28k", essential("size=100k"), "nr_inodes=12"])
def test_a_disk_that_is_full_is_named_in_one_line_and_the_same_command_goes_on(
    room, long, small_disk
):
    disk = small_disk(room)
    full = vfcompare(*LONG, cwd=disk)
    assert full.returncode == 1
    assert "Traceback" not in full.stderr
    told = full.stderr.splitlines()[-1]
    assert told.startswith(f"vfcompare: {'a file below ' if room == 'size=28k' else ''}{disk}")
    assert "No space left on device" in told
    assert f"(file system {disk} with " in told
    assert "the same command goes on" in told
    assert vfcompare("status", "runs/scratch", cwd=disk).returncode == (room != "size=4k")
    assert [status(folder) for folder in plan.runs(disk / "runs" / "scratch")] != ["completed"]
    assert not list(disk.rglob("*.tmp"))
    small_disk("remount,size=50m,nr_inodes=1000")
    done = vfcompare(*LONG, cwd=disk)
    assert done.returncode == 0, done.stderr
    same(only(disk), long)


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 5, 9, 12, 17])
def test_a_full_disk_is_named_and_nothing_is_lost(whole, number, tmp_path):
    full = vfcompare(*SMALL, cwd=tmp_path, at=("full", number, "writes"))
    assert full.returncode == 1
    assert "File too large" in full.stderr
    # The claim exists before it is written.
    assert str(Path(WRITES[number if number > 2 else 1]).stem) in full.stderr
    for folder in plan.runs(tmp_path / "runs" / "scratch"):
        assert status(folder) != "completed"
        if (folder / "checkpoint" / "checkpoints.json").exists():
            assert run_folder.RunFolder(folder).load_checkpoint() is not None
    assert not list(tmp_path.rglob("*.tmp"))
    done = vfcompare(*SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    same(only(tmp_path), only(whole))


def test_a_write_that_fails_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    file = tmp_path / "run.json"
    store.write_bytes(file, b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*run\.json"):
        store.write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


# Rivals

RIVAL = """
import contextlib, sys, time
from pathlib import Path
from vfcompare.runs import run_folder
root, begin = Path(sys.argv[1]), float(sys.argv[2])
with contextlib.ExitStack() as held:
    for number in range(50):
        while time.time() < begin + 0.02 * number:
            pass
        got = held.enter_context(run_folder.RunFolder(root / str(number)).hold())
        print(number, got)
    while time.time() < begin + 10:
        time.sleep(0.1)
"""

PLANNER = """
import sys, time
from pathlib import Path
from vfcompare.runs import plan
root, name, begin = Path(sys.argv[1]), sys.argv[3], float(sys.argv[2])
while time.time() < begin:
    pass
for number in range(20):
    plan.write(root, {"name": "study"}, [{"id": f"cell-{name}-{number}"}])
"""


def race(script, number, *args):
    """Outputs of several processes that begin together."""
    args = (*map(str, args), str(time.time() + 12))
    processes = [
        subprocess.Popen([sys.executable, "-c", script, *args, str(i)], stdout=subprocess.PIPE)
        for i in range(number)
    ]
    outputs = [process.communicate(timeout=120)[0].decode() for process in processes]
    assert {process.returncode for process in processes} == {0}
    return outputs


def dead_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def claimed(folder, **said):
    """Leave a claim as another process would."""
    here = {"host": socket.gethostname(), "pid": dead_process(), "time": clock.now()}
    store.write_json(folder / "claim.json", here | said)


@pytest.mark.slow
@pytest.mark.parametrize("left", ["nothing", "stale", "torn"])
def test_of_eight_rivals_one_gets_a_run(left, tmp_path):
    for number in range(50):
        if left == "stale":
            claimed(tmp_path / str(number))
        elif left == "torn":
            store.write_bytes(tmp_path / str(number) / "claim.json", b"")
    lines = [line.split() for output in race(RIVAL, 8, tmp_path) for line in output.splitlines()]
    winners = sorted(int(number) for number, got in lines if got == "True")
    assert winners == list(range(50))


@pytest.mark.slow
def test_sweeps_that_begin_together_lose_none_of_their_planned_cells(tmp_path):
    race(PLANNER, 8, tmp_path)
    assert set(plan.cells(tmp_path)) == {f"cell-{i}-{n}" for i in range(8) for n in range(20)}


def gets(folder):
    with run_folder.RunFolder(folder).hold() as got:
        return got


LONG_AGO = "2020-01-01T00:00:00+00:00"


def test_whose_claim_is_respected(tmp_path):
    folder = tmp_path / "study" / "cell"
    assert gets(folder)
    assert not (folder / "claim.json").exists()
    claimed(folder, pid=os.getpid())
    assert not gets(folder)
    assert str(os.getpid()) in claim.Claim(folder).owner
    claimed(folder, pid=os.getpid(), started=claim.started(os.getpid()))
    assert not gets(folder)
    claimed(folder)
    assert gets(folder), "its process is dead"
    claimed(folder, pid=os.getpid(), started=1)
    reused = claim.started(os.getpid()) is not None
    assert gets(folder) == reused, "its number is that of another process by now"
    store.write_bytes(folder / "claim.json", b"")
    assert gets(folder), "its process was killed before it was written"
    claimed(folder, host="elsewhere")
    assert not gets(folder), "numbers of processes mean nothing on another host"
    claimed(folder, place="another container")
    assert not gets(folder)
    claimed(folder, host="elsewhere", time=LONG_AGO)
    assert gets(folder), "there is no heartbeat"
    run_folder.RunFolder(folder).begin()
    claimed(folder, host="elsewhere", time=LONG_AGO)
    assert not gets(folder), "there is a fresh heartbeat"
    record = store.read_json(folder / "run.json")
    store.write_json(folder / "run.json", record | {"heartbeat": LONG_AGO})
    claimed(folder, host="elsewhere", time=LONG_AGO)
    assert gets(folder), "the heartbeat is old as well"


def test_who_lost_a_claim_leaves_that_of_the_other(tmp_path):
    folder = tmp_path / "study" / "cell"
    with run_folder.RunFolder(folder).hold() as got:
        assert got
        claimed(folder, host="elsewhere")
    assert store.read_json(folder / "claim.json")["host"] == "elsewhere"


def test_who_lost_a_claim_writes_nothing_more(tmp_path):
    folder = run_folder.RunFolder(tmp_path / "study" / "cell")
    with folder.hold():
        folder.begin(id="cell", seeds={})
        claimed(folder.path, host="elsewhere", pid=7)
        before = tree_bytes(folder.path)
        with pytest.raises(ClaimLost, match="process 7 on elsewhere took it over"):
            folder.update(status="completed")
        with pytest.raises(ClaimLost):
            folder.save_checkpoint(1, b"state")
        assert tree_bytes(folder.path) == before
        shutil.rmtree(folder.path)
        with pytest.raises(ClaimLost, match="somebody removed its claim"):
            folder.update(status="completed")
    assert not folder.path.exists()


WRITERS = {
    "log": lambda log: Log(log.share),
    "write": Log.write,
    "certify": lambda log: stages.certify(log.share, Starts(log.share.trainer)),
    "save": lambda log: stages.save(log, 0, {}),
    "maps": lambda log: stages.maps(log.share, 0),
    "paths": stages.paths,
    "finish": lambda log: stages.finish(log, {}, {}),
}


@pytest.mark.parametrize("name", WRITERS)
def test_whatever_writes_asks_first_whether_the_run_is_still_its_own(name, tmp_path):
    """Its tables may be those of a run that another process has completed meanwhile."""
    (cell,) = compose.cells([*SMALL, f"root={tmp_path}"], sweep=False)
    folder = run_folder.RunFolder(cell.study / cell.id)
    nothing: Any = None
    with folder.hold():
        log = Log(Share(Member(cell, folder), nothing, slice(0, 2), []))
        claimed(folder.path, host="elsewhere", pid=7)
        before = [file for file in folder.path.rglob("*") if file.is_file()]
        with pytest.raises(ClaimLost, match="process 7 on elsewhere took it over"):
            WRITERS[name](log)
    assert [file for file in folder.path.rglob("*") if file.is_file()] == before


def tree_bytes(folder):
    """Bytes of every file, without the view's."""
    found = {p.relative_to(folder): p for p in folder.rglob("*") if p.is_file()}
    return {str(name): p.read_bytes() for name, p in found.items() if name.parts[0] != "tb"}


@contextlib.contextmanager
def sleeper(*args, cwd, after):
    """A process that was put to sleep after one of its writes, and is woken at the end."""
    process = begin(*args, cwd=cwd, at=("asleep", after, "writes"))
    stat = Path(f"/proc/{process.pid}/stat")
    deadline = time.monotonic() + 240
    while stat.read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process
    process.send_signal(signal.SIGCONT)


SAVED_ONCE = WRITES.index("state-1.msgpack") + 3


@pytest.mark.slow
@pytest.mark.essential
def test_a_process_that_slept_stops_where_another_has_its_run(tmp_path):
    with sleeper(*SMALL, cwd=tmp_path, after=SAVED_ONCE) as process:
        folder = only(tmp_path)
        claimed(folder, host="elsewhere", pid=7)
        before = tree_bytes(folder)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert "process 7 on elsewhere took it over; it is left alone" in err
    assert "1 running" in err
    assert tree_bytes(folder) == before
    assert "completed" not in out


@pytest.mark.slow
@pytest.mark.essential
def test_a_process_whose_folder_was_removed_stops_and_does_not_make_it_again(tmp_path):
    # After an old checkpoint was removed, and before the record says that there is a new one.
    removal = len(WRITES) - WRITES[::-1].index("state-1.msgpack")
    with sleeper(*SMALL, cwd=tmp_path, after=removal) as process:
        folder = only(tmp_path)
        shutil.rmtree(folder)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1
    assert "somebody removed its claim" in err
    assert "1 planned" in err
    assert not folder.exists()


def test_who_gets_a_run_sweeps_up_after_the_killed(tmp_path):
    for name in ("study/cell/.run.json.1.tmp", "study/cell/checkpoint/.state-1.msgpack.1.tmp"):
        store.write_bytes(tmp_path / name, b"half")
    assert gets(tmp_path / "study" / "cell")
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize("left", ["nothing", essential("stale")])
def test_of_eight_processes_one_trains_and_the_others_say_so(whole, left, tmp_path):
    if left == "stale":
        killed = vfcompare(*SMALL, cwd=tmp_path, at=("after", 3, "writes"))
        assert killed.returncode == -signal.SIGKILL
        assert (only(tmp_path) / "claim.json").exists()
    processes = [begin(*SMALL, cwd=tmp_path) for _ in range(8)]
    outputs = [process.communicate(timeout=400) for process in processes]
    # Those that leave it to one that is not yet done, or has not even begun, have not finished it.
    for process, (_, err) in zip(processes, outputs, strict=True):
        assert process.returncode == ("1 running" in err or "1 planned" in err), err
    assert sum("compiled in" in err for _, err in outputs) == 1
    told = [out for out, err in outputs if "compiled in" not in err]
    assert all("is training it, left alone" in out or "done before" in out for out in told)
    assert store.read_json(only(tmp_path) / "run.json")["attempt"] == 1 + (left == "stale")
    same(only(tmp_path), only(whole))


# Names and plans that lead elsewhere

NAMES = (
    "../away",
    "/tmp/away",
    "a/b",
    "..",
    ".",
    ".hidden",
    "",
    "a\\b",
    "-x",
    "a b",
    "~",
    "x" * 81,
)


@pytest.mark.parametrize("name", NAMES)
def test_a_study_cannot_be_named_out_of_its_root(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, f"study.name='{name}'"]) == 2
    assert "study.name" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*NAMES, "a\n", "\0", "é", "." * 90])
def test_a_slug_is_one_harmless_folder(name):
    found = naming.slug(name)
    assert Path("/root/study", found).resolve().parent == Path("/root/study")
    assert not found.startswith((".", "-"))


def entry(**changes):
    """What a plan says of a cell."""
    (cell,) = compose.cells([*SMALL], sweep=False)
    return cell.planned() | changes


HOSTILE = {
    "an id with dots": (lambda base: {"id": "../../away"}, "folder of a study"),
    "an absolute id": (lambda base: {"id": str(base / "away")}, "folder of a study"),
    "a target": (lambda base: more(f"+agent.network.x={call(base)}"), "os.system"),
    "a target in a list": (lambda base: more(f"+agent.network.x=[{call(base)}]"), "os.system"),
    "a target of ours that calls others": (
        lambda base: more("+agent.network.x={_target_: vfcompare.main.main, argv: [list]}"),
        "vfcompare.main.main",
    ),
    "a module": (
        lambda base: {"overrides": ["agent=ppo", "env=frozen_lake", "env.id=evil:X-v0"]},
        "evil",
    ),
    "a search path": (lambda base: more(f"hydra.searchpath=[file://{base}]"), "hydra.searchpath"),
    "a folder of Hydra": (lambda base: more(f"hydra.run.dir={base}/away"), "hydra.run.dir"),
    "a callback": (lambda base: more(f"+hydra.callbacks.x={call(base)}"), "hydra.callbacks"),
    "a callback from a group": (lambda base: more("+env@hydra.callbacks=maze"), "hydra.callbacks"),
    "a secret": (lambda base: more("study.question=${oc.env:HOME}"), "oc.env:HOME"),
    "a secret in disguise": (lambda base: more(r"study.question=$\{oc.env\:HOME\}"), "oc.env"),
    "a secret behind another": (lambda base: more("study.question='${${seeds}.x:HOME}'"), "x:HOME"),
    "brackets": (lambda base: more(f"+agent.x={'[' * 3000}{']' * 3000}"), "nested too deeply"),
    "another name": (lambda base: more("study.name=../away"), "study.name"),
    "another cell": (lambda base: {"id": "lock-ppo-0123456789"}, "composed as"),
    "a number for words": (lambda base: {"overrides": 5}, "does not say what"),
}


def call(base):
    return f"{{_target_: os.system, command: 'touch {base}/canary'}}"


def more(text):
    return {"overrides": [*SMALL, text]}


def tree(base):
    return {str(path.relative_to(base)) for path in base.rglob("*")}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_plan_is_refused_and_runs_nothing(what, tmp_path, monkeypatch, capsys):
    changes, told = HOSTILE[what]
    study = tmp_path / "runs" / "study"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("open('canary', 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    cell = entry(**changes(tmp_path))
    store.write_json(study / "plan.json", {"schema": 1, "study": "study", "cells": [cell]})
    before = tree(tmp_path)
    assert main(["resume", str(study)]) == 2
    assert told in capsys.readouterr().err
    assert tree(tmp_path) - before <= {"runs/study/.lock"}
    main(["status", str(study)])
    with contextlib.suppress(ValueError):
        main(["report", str(study)])
    assert {path for path in tree(tmp_path) - before if not path.startswith("runs/study/")} == set()


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"cells": 3}', '{"cells": [3]}', '{"cells": [{}]}', "[" * 100_000, "\0"],
)
def test_a_damaged_plan_is_named(content, tmp_path, capsys):
    (tmp_path / "plan.json").write_text(content)
    assert main(["resume", str(tmp_path)]) == 4
    assert main(["status", str(tmp_path)]) == 4
    err = capsys.readouterr().err
    assert err.count("plan.json is damaged") == 2
    assert (
        err.count("; once it is removed the same sweeps plan anew, and keep what is trained") == 2
    )
    assert len(err) < 1000


def test_what_may_be_called_is_what_our_configuration_names():
    assert "vfcompare.envs.lock.Lock" in trust.targets(trust.parts())
    assert all(name.startswith("vfcompare.") for name in trust.targets(trust.parts()))
    assert "vfcompare.main.main" not in trust.targets(trust.parts())


def test_parts_of_the_users_own_go_on_where_their_folder_is_named_again(tmp_path, own, capsys):
    settings = ["agent=half,rloo", *SMALL[1:], f"root={tmp_path}/runs"]
    planned = compose.cells([*settings, own], sweep=True)
    study = planned[0].study
    plan.write(study, {"name": "scratch"}, [cell.planned() for cell in planned])
    assert "searchpath" not in (study / "plan.json").read_text()
    assert main(["resume", str(study)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"vfcompare: {study}/plan.json chooses agent=half, which our own configuration does not have; "
        "allowed: the folder that has it behind this command, 'hydra.searchpath=[file:///FOLDER]'"
    )
    assert [cell.id for cell in resume.unfinished(study, [own])] == [cell.id for cell in planned]
    assert trust.targets(trust.parts([own])) == trust.targets(trust.parts()) | {"mine.half_mean"}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_plan_is_refused_beside_folders_of_the_users_own(what, tmp_path, own, capsys):
    changes, told = HOSTILE[what]
    study = tmp_path / "runs" / "study"
    cell = entry(**changes(tmp_path))
    store.write_json(study / "plan.json", {"schema": 1, "study": "study", "cells": [cell]})
    assert main(["resume", str(study), own]) == 2
    assert told in capsys.readouterr().err


PLACES = (
    "../../evil",
    "'../../evil'",
    " ../../evil",
    "../../conf/agent/half",
    "half/../half",
    "evil.yaml",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_plan_chooses_no_file_beside_the_folders_that_a_user_names(place, tmp_path, own, capsys):
    (Path(own[len("hydra.searchpath=[file://") : -1]) / "empty").mkdir()
    (tmp_path / "evil.yaml").write_text("gamma: 0.5")
    study = tmp_path / "runs" / "study"
    for choice in (
        f"agent={place}",
        f"++agent={place}",
        f"+empty={place}",
        f"+agent@agent.x={place}",
    ):
        cell = entry(overrides=[choice, *SMALL[1:]])
        store.write_json(study / "plan.json", {"schema": 1, "study": "study", "cells": [cell]})
        for words in ([], [own]):
            assert main(["resume", str(study), *words]) == 2
            said = capsys.readouterr().err
            if words or "empty" not in choice:
                assert f"plan.json chooses {choice}, which our own" in said


def test_groups_that_only_a_user_has_go_on_where_their_folder_is_named_again(tmp_path, own, capsys):
    conf = Path(own[len("hydra.searchpath=[file://") : -1])
    for name in ("credit/doubled", "agent/sub/third"):
        (conf / name).parent.mkdir(exist_ok=True)
    (conf / "credit" / "doubled.yaml").write_text("_target_: mine.doubled")
    shutil.copy(conf / "agent" / "half.yaml", conf / "agent" / "sub" / "third.yaml")
    choice = "+credit@agent.estimator.advantage.baseline=doubled"
    settings = ["agent=half,sub/third", choice, *SMALL[1:], f"root={tmp_path}/runs"]
    planned = compose.cells([*settings, own], sweep=True)
    study = planned[0].study
    plan.write(study, {"name": "scratch"}, [cell.planned() for cell in planned])
    assert [cell.id for cell in resume.unfinished(study, [own])] == [cell.id for cell in planned]
    assert "mine.doubled" in trust.targets(trust.parts([own]))
    assert main(["resume", str(study)]) == 2
    assert "which our own configuration does not have" in capsys.readouterr().err


def test_resume_ends_with_0_only_when_all_is_finished(tmp_path, monkeypatch, capsys):
    study, said = tmp_path / "study", entry()
    plan.write(study, {"name": "study"}, [said])
    monkeypatch.setattr("vfcompare.training.sweep.train", lambda cells: {})
    assert main(["resume", str(study)]) == 1
    assert "1 planned; `vfcompare status" in capsys.readouterr().err
    (study / said["id"]).mkdir()
    (study / said["id"] / "run.json").write_text("{")
    assert main(["resume", str(study)]) == 4
    assert "1 damaged; `vfcompare status" in capsys.readouterr().err
    record = {"status": "completed", "seeds": {"0": {"status": "completed"}}}
    store.write_json(study / said["id"] / "run.json", record)
    assert main(["resume", str(study)]) == 4
    (study / said["id"] / "evaluation.parquet").write_bytes(PARQUET)
    assert main(["resume", str(study)]) == 0


def test_how_lax_to_be_is_said_by_each_command_and_remembered_by_none(tmp_path):
    (cell,) = compose.cells([*SMALL, "resume=anyway"], sweep=False)
    study = tmp_path / "study"
    plan.write(study, {"name": "study"}, [cell.planned()])
    assert "anyway" not in (study / "plan.json").read_text()
    assert [c.config["resume"] for c in resume.unfinished(study)] == ["strict"]
    assert [c.config["resume"] for c in resume.unfinished(study, ["resume=anyway"])] == ["anyway"]
    with pytest.raises(InputError, match="resume=perhaps is not allowed"):
        resume.unfinished(study, ["resume=perhaps"])


LADDER = (
    *("agent=rloo", "env=addition", "network@agent.network=transformer", "seeds=1"),
    "+prior@agent.prior=ladder",
)


@pytest.mark.parametrize("root", ["runs", "{}/elsewhere/runs"])
def test_a_study_finds_its_pretrained_policies_from_everywhere(root, tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "priors").mkdir(parents=True)
    there.mkdir()
    monkeypatch.chdir(here)
    (cell,) = compose.cells([*LADDER, f"root={root.format(tmp_path)}"], sweep=False)
    study, ladder = cell.study.absolute(), Path("priors").absolute()
    plan.write(study, {"name": "scratch"}, [cell.planned()])
    monkeypatch.chdir(there)
    (found,) = resume.unfinished(study)
    assert Path(found.config["priors"]) == ladder
    # Before it was made, too; and where the study alone was moved to another's.
    ladder.rmdir()
    (found,) = resume.unfinished(study)
    assert Path(found.config["priors"]) == ladder
    (there / "priors").mkdir()
    (found,) = resume.unfinished(study)
    assert found.config["priors"] == "priors"


def test_pretrained_policies_move_together_with_a_study(tmp_path, monkeypatch):
    (tmp_path / "here" / "priors").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    (cell,) = compose.cells([*LADDER], sweep=False)
    plan.write(cell.study, {"name": "scratch"}, [cell.planned()])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "moved")
    (found,) = resume.unfinished(Path("moved/runs/scratch"))
    assert Path(found.config["priors"]) == tmp_path / "moved" / "priors"


UNKNOWN = "a study goes on as planned"
NO_PATH = {
    "agent=ppo": UNKNOWN,
    "+hydra.searchpath=[pkg://os]": UNKNOWN,
    "hydra.searchpath=file:///tmp": "no list",
    "hydra.searchpath=[": "no list",
    "hydra.searchpath=[file:///nowhere]": "file:///nowhere is no folder",
    "hydra.searchpath=[pkg://nowhere]": "pkg://nowhere is no folder",
    "hydra.searchpath=[pkg://os]": "pkg://os is no folder",
}


@pytest.mark.parametrize("text", NO_PATH)
def test_only_folders_are_named_where_a_study_goes_on(text, tmp_path, capsys):
    plan.write(tmp_path / "study", {"name": "study"}, [entry()])
    assert main(["resume", str(tmp_path / "study"), text]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vfcompare: {text} is not allowed: {NO_PATH[text]}")
    assert "allowed: 'hydra.searchpath=[file:///FOLDER]'" in line
    assert ("resume=anyway" in line) == (NO_PATH[text] == UNKNOWN)


def test_a_study_that_cannot_be_written_is_refused_before_anything_is_traced(
    tmp_path, monkeypatch, capsys
):
    def refuse(file):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))

    plan.write(tmp_path / "study", {"name": "study"}, [entry()])
    monkeypatch.setattr("vfcompare.training.sweep.train", lambda cells: pytest.fail("traced"))
    monkeypatch.setattr(Path, "touch", refuse)
    assert main(["resume", str(tmp_path / "study")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vfcompare: {tmp_path}/study cannot be written: Read-only file system;")


@pytest.mark.parametrize("link", ["", "checkpoint", "tb"])
def test_links_that_lead_out_of_a_study_are_refused(link, tmp_path):
    cell, away = tmp_path / "runs" / "study" / "cell", tmp_path / "away"
    away.mkdir()
    (cell / link).parent.mkdir(parents=True, exist_ok=True)
    (cell / link).symlink_to(away, target_is_directory=True)
    with pytest.raises(InputError, match="is a link"):
        gets(cell)
    assert list(away.iterdir()) == []


@pytest.mark.parametrize("where", ["renamed", ".", "link"])
def test_a_study_is_resumed_where_it_is_now(where, tmp_path, monkeypatch):
    study = tmp_path / "elsewhere" / "renamed"
    plan.write(study, {"name": "study"}, [entry()])
    monkeypatch.chdir(study if where == "." else study.parent)
    (study.parent / "link").symlink_to(study)
    (cell,) = resume.unfinished(Path(where))
    assert cell.study == study


def test_a_study_whose_folder_cannot_be_one_is_refused(tmp_path):
    plan.write(tmp_path / "my study", {"name": "study"}, [entry()])
    with pytest.raises(InputError, match="my study"):
        resume.unfinished(tmp_path / "my study")


# Cells that are trained together

RATES = "agent.optimizer.learning_rate="
SWEEP = ("-m", "agent=reinforce", *PARTS, "seeds=2", "env_steps=600", "evaluations=2")
FUSED = "hydra/launcher=fused"
DENSE = (
    *("-m", "agent=ppo", "env=lock", "agent.network.hidden=[8]", "agent.evaluation_episodes=2"),
    *("collector@agent.collector=fragments", "agent.collector.number=2"),
    *("agent.collector.length=32", "seeds=2", "env_steps=600", "evaluations=2", "save_seconds=0"),
)


def sweep(*args, cwd, at=None):
    """Train a sweep; its runs by learning rate, and the process."""
    done = vfcompare(*args, cwd=cwd, at=at)
    return cells(cwd), done


def cells(cwd):
    found = {}
    for path in plan.runs(cwd / "runs" / "scratch"):
        settings = store.read_json(path / "run.json")["settings"]
        found[float(settings["agent.optimizer.learning_rate"])] = path
    return found


@pytest.fixture(scope="module", params=[SWEEP, DENSE], ids=["episodes", "fragments"])
def together(request, tmp_path_factory):
    """A fused sweep of three cells, which nothing disturbed, with the names of its writes."""
    cwd = tmp_path_factory.mktemp("fused")
    args = (*request.param, f"{RATES}1e-3,3e-3,1e-2", FUSED)
    found, done = sweep(*args, cwd=cwd, at=("list", 0, "writes"))
    assert done.returncode == 0, done.stderr
    assert len(found) == 3
    return args, found, (cwd / "writes").read_text().split()


@pytest.mark.slow
def test_a_fused_sweep_has_the_bits_of_its_cells_one_by_one(together, tmp_path):
    args, fused, _ = together
    alone, done = sweep(*args[:-1], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert alone.keys() == fused.keys()
    for rate, folder in alone.items():
        same(folder, fused[rate])


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.5, essential(0.7), 0.9])
def test_a_fused_sweep_that_was_killed_is_resumed_to_the_same_bits(together, share, tmp_path):
    args, fused, writes = together
    number = max(3, round(share * len(writes)))
    _, killed = sweep(*args, cwd=tmp_path, at=("before", number, "writes"))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = vfcompare("resume", "runs/scratch", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for rate, folder in cells(tmp_path).items():
        same(folder, fused[rate])
        assert files(folder) == files(fused[rate])


@pytest.mark.slow
@pytest.mark.essential
def test_a_fused_sweep_goes_on_without_the_cell_that_another_process_has(together, tmp_path):
    args, fused, writes = together
    first = writes.index("checkpoints.json")
    rest = [n for n, name in enumerate(writes, 1) if name == "run.json" and n > first + 1]
    with sleeper(*args, cwd=tmp_path, after=rest[2]) as process:
        lost = cells(tmp_path)[3e-3]
        claimed(lost, host="elsewhere", pid=7)
        before = tree_bytes(lost)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 1, err
    assert err.count("took it over") == 1
    assert tree_bytes(lost) == before
    for rate in (1e-3, 1e-2):
        same(cells(tmp_path)[rate], fused[rate])


LAUNCHERS = {"joblib": "hydra_joblib_launcher", "submitit_local": "hydra_submitit_launcher"}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", essential("joblib"), "submitit_local", "fused"])
def test_the_exit_code_tells_of_a_bad_cell_whoever_trained_it(launcher, tmp_path):
    if launcher in LAUNCHERS:
        pytest.importorskip(f"hydra_plugins.{LAUNCHERS[launcher]}")
    args = ("-m", "agent=ppo", *SWEEP[2:], f"hydra/launcher={launcher}")
    for told in ("1 diverged", "2 of 2 cells were done before"):
        done = vfcompare(*args, f"{RATES}1e-3,1e38", cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert told in done.stderr + done.stdout
    # What is to be a file is a folder: writing it fails.
    crash = tmp_path / "crash"
    (cell,) = compose.cells([*args[1:-1], f"{RATES}3e-3"], sweep=False)
    (crash / cell.study / cell.id / "metrics.parquet").mkdir(parents=True)
    done = vfcompare(*args, f"{RATES}3e-3", cwd=crash)
    assert done.returncode == 1
    assert "IsADirectoryError" in done.stderr
    assert status(only(crash)) == "crashed"


@pytest.mark.slow
def test_a_cell_that_diverges_harms_no_other(tmp_path):
    args = ("-m", "agent=ppo", *SWEEP[2:])
    good, done = sweep(*args, f"{RATES}1e-3,3e-3", FUSED, cwd=tmp_path / "good")
    assert done.returncode == 0, done.stderr
    bad, done = sweep(*args, f"{RATES}1e-3,1e38,3e-3", FUSED, cwd=tmp_path / "bad")
    assert done.returncode == 1
    seeds = store.read_json(bad[1e38] / "run.json")["seeds"]
    assert {words["status"] for words in seeds.values()} == {"diverged"}
    for rate, folder in good.items():
        same(folder, bad[rate])


@pytest.mark.slow
def test_a_group_that_fails_does_not_stop_the_others(tmp_path):
    sizes = ("-m", "agent=reinforce", "env=maze", "env.size=5,8,7", *PARTS[1:], "seeds=2")
    done = vfcompare(*sizes, "env_steps=600", "evaluations=1", FUSED, cwd=tmp_path)
    assert done.returncode == 1
    assert "size" in done.stderr
    assert "Traceback" not in done.stderr
    found = plan.runs(tmp_path / "runs" / "scratch")
    assert [status(folder) for folder in found] == ["completed"] * 2


def test_cells_with_other_budgets_are_not_trained_together():
    made = compose.cells([*SMALL[:-2], "env_steps=600,1200", "evaluations=1"], sweep=True)
    assert [len(group.cells) for group in fuse.groups(made, 512)] == [1, 1]


# Signals


@pytest.mark.slow
@pytest.mark.parametrize("name", [essential("SIGTERM"), "SIGINT", "SIGHUP", "SIGUSR2"])
def test_a_signal_ends_training_and_the_same_command_continues_it(long, name, tmp_path):
    process = begin(*LONG, cwd=tmp_path)
    await_file(process, tmp_path, "checkpoints.json")
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    asked = "interrupted" if name in ("SIGINT", "SIGHUP") else "preempted"
    assert status(only(tmp_path)) == asked
    assert not (only(tmp_path) / "claim.json").exists()
    assert vfcompare(*LONG, cwd=tmp_path).returncode == 0
    same(only(tmp_path), long)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_before_training_is_not_lost(long, name, tmp_path):
    process = begin(*LONG, cwd=tmp_path)
    await_file(process, tmp_path, "run.json")
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=240)
    # While there is nothing to save, they have their default effect.
    assert process.returncode in (130, -signal.SIGTERM), err
    assert status(only(tmp_path)) in ("running", "interrupted", "preempted")
    assert vfcompare(*LONG, cwd=tmp_path).returncode == 0
    same(only(tmp_path), long)


@pytest.mark.slow
def test_a_warning_before_training_harms_nothing(long, tmp_path):
    """It only says that another signal will follow: it ends training, or is passed over."""
    process = begin(*LONG, cwd=tmp_path)
    await_file(process, tmp_path, "run.json")
    process.send_signal(signal.SIGUSR2)
    _, err = process.communicate(timeout=240)
    assert process.returncode in (130, 0), err
    assert status(only(tmp_path)) == ("preempted" if process.returncode else "completed")
    assert vfcompare(*LONG, cwd=tmp_path).returncode == 0
    same(only(tmp_path), long)


def test_an_interrupt_before_a_killed_cell_goes_on_is_told_as_one(tmp_path, monkeypatch):
    (cell,) = compose.cells([*SMALL, f"root={tmp_path}"], sweep=False)
    folder = cell.study / cell.id
    # As a kill leaves it.
    record = {"status": "running", "heartbeat": clock.now(), "seeds": {"0": {"status": "running"}}}
    store.write_json(folder / "run.json", record)

    def interrupted(configs):
        raise KeyboardInterrupt

    monkeypatch.setattr(priors, "ensure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        execute.execute([cell])
    found = store.read_json(folder / "run.json")
    assert (found["status"], found["message"]) == ("interrupted", "SIGINT")


def test_a_sweep_that_is_told_to_stop_stops_also_where_that_cannot_be_written(
    tmp_path, monkeypatch
):
    agents = ["agent=ppo,rloo", *SMALL[1:], f"root={tmp_path}"]
    planned, asked = compose.cells(agents, sweep=True), []
    for cell in planned:
        store.write_json(cell.study / cell.id / "run.json", {"status": "running"})

    def stopped(configs):
        asked.append(configs)
        raise Stopped("SIGTERM")

    def unwritten(*args, **fields):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(priors, "ensure", stopped)
    monkeypatch.setattr(run_folder.RunFolder, "update", unwritten)
    with pytest.raises(Stopped):
        train(planned)
    assert len(asked) == 1


def test_a_worker_that_ends_while_it_is_told_keeps_the_word_from_no_other(tmp_path, monkeypatch):
    """And the launcher is interrupted once they have saved."""
    kill, told = os.kill, list[int]()
    workers = [subprocess.Popen(["sleep", "60"]) for _ in range(3)]
    for worker in workers:
        (tmp_path / str(worker.pid)).touch()

    def ended_before(pid, number):
        if number and not told:
            told.append(pid)
            kill(pid, signal.SIGKILL)
            raise ProcessLookupError
        kill(pid, number)

    def launch():
        with crew.Crew(tmp_path):
            kill(os.getpid(), signal.SIGTERM)
            for worker in workers:
                worker.wait(30)
            time.sleep(30)

    monkeypatch.setattr(os, "kill", ended_before)
    try:
        with pytest.raises(Stopped, match="SIGTERM"):
            launch()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert sorted(worker.returncode for worker in workers) == sorted(
        [-signal.SIGKILL, -signal.SIGTERM, -signal.SIGTERM]
    )


def test_a_part_that_ends_the_program_leaves_a_crash(tmp_path, monkeypatch):
    (cell,) = compose.cells([*SMALL, f"root={tmp_path}"], sweep=False)

    def quits(configs):
        sys.exit(0)

    monkeypatch.setattr(priors, "ensure", quits)
    with pytest.raises(RuntimeError, match=r"ends the program \(SystemExit: 0\)"):
        execute.execute([cell])
    found = store.read_json(cell.study / cell.id / "run.json")
    assert (found["status"], found["message"]) == ("crashed", "SystemExit: 0")


@pytest.mark.slow
@pytest.mark.essential
def test_two_interrupts_leave_a_run_that_continues(long, tmp_path):
    process = begin(*LONG, cwd=tmp_path)
    await_file(process, tmp_path, "checkpoints.json")
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert vfcompare(*LONG, cwd=tmp_path).returncode == 0
    same(only(tmp_path), long)


def children(pid):
    """Processes that another one has started, and that live."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = file.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == pid and state != "Z":
                found.append(int(file.parent.name))
    return found


def lives(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for processes")
@pytest.mark.parametrize("name", [essential("Ctrl-C"), essential("SIGTERM"), "SIGKILL"])
def test_workers_of_joblib_save_and_end_with_the_process_that_launched_them(name, tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = ("-m", "agent=ppo,rloo,grpo", *PARTS[:-1], "seeds=2", "env_steps=50000000")
    joblib = ("save_seconds=1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    with (tmp_path / "said").open("w+") as said:
        process = subprocess.Popen(
            command(*sweep, *joblib), cwd=tmp_path, stderr=said, start_new_session=True
        )
        deadline = time.monotonic() + 240
        while len(list(tmp_path.rglob("checkpoints.json"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # The next ones would be written in ten seconds.
        time.sleep(1)
        found = plan.runs(tmp_path / "runs" / "scratch")
        before = [store.read_json(folder / "run.json")["env_steps"] for folder in found]
        workers = children(process.pid)
        assert len(workers) >= 2
        if name == "Ctrl-C":
            # A terminal tells everybody.
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(getattr(signal, name))
        assert process.wait(120) == (-signal.SIGKILL if name == "SIGKILL" else 130)
        while any(lives(worker) for worker in workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        said.seek(0)
        told = said.read()
    # What the third agent's are, nobody has begun.
    assert plan.runs(tmp_path / "runs" / "scratch") == found
    expected = "interrupted" if name == "Ctrl-C" else "preempted"
    assert [status(folder) for folder in found] == [expected] * 2
    for folder, steps in zip(found, before, strict=True):
        assert store.read_json(folder / "run.json")["env_steps"] > steps
        assert run_folder.RunFolder(folder).load_checkpoint() is not None
        assert not (folder / "claim.json").exists()
    if name != "SIGKILL":
        assert "2 processes save and end" in told
        assert "leaked" not in told
        assert "Traceback" not in told


@pytest.mark.slow
@pytest.mark.essential
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks Linux for processes")
def test_a_worker_of_joblib_that_is_killed_is_told_in_one_line(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    args = ("-m", "agent=ppo,rloo", *PARTS[:-1], "seeds=2", "env_steps=50000000", "save_seconds=1")
    joblib = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    process = begin(*args, *joblib, cwd=tmp_path)
    deadline = time.monotonic() + 240
    while len(list(tmp_path.rglob("checkpoints.json"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    claim = next(tmp_path.rglob("claim.json"))
    os.kill(store.read_json(claim)["pid"], signal.SIGKILL)
    _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in told
    assert "vfcompare: a worker was killed (out of memory?); the others ended with it" in told
    assert "`vfcompare resume runs/scratch` goes on" in told
    assert "vfcompare: 2 lost; `vfcompare status runs/scratch` says which" in told


CRASH = """
import signal
from vfcompare.training.execute import execute
def deep_inside(): signal.raise_signal(signal.SIGSEGV)
execute([])
deep_inside()
"""


def test_whoever_trains_says_where_the_interpreter_crashed():
    """Workers of launchers do not pass through the command line."""
    done = subprocess.run(
        [sys.executable, "-c", CRASH], capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGSEGV
    assert "Segmentation fault" in done.stderr
    assert "in deep_inside" in done.stderr


BUSY = """
import jax, sys
from vfcompare.training.stopping import Listener, ending_at_second_interrupt
spin = jax.jit(lambda x: jax.lax.fori_loop(0, 2 * 10**9, lambda i, x: jax.numpy.sin(x), x))
compiled = spin.lower(1.0).compile()
with ending_at_second_interrupt(), Listener():
    print("begun", flush=True)
    float(compiled(1.0))
print("ended by itself")
"""


def test_a_second_interrupt_ends_a_process_that_cannot_hear_the_first():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    for _ in range(2):
        # Signals of one kind that wait together are one.
        time.sleep(0.5)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "ended at once" in err
    assert out == ""


CRASHING = """
import atexit, os, sys
import jax
from vfcompare import main, verbs
def interrupted(name, args):
    print("begun")
    raise KeyboardInterrupt
verbs.run = interrupted
atexit.register(os.abort)
sys.exit(main.main(["plan"]))
"""


def test_what_crashes_in_cleaning_up_does_not_change_how_an_interrupt_ends():
    """As XLA does where it still compiles or runs what was interrupted."""
    done = subprocess.run(
        [sys.executable, "-c", CRASHING], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (130, "begun\n"), done.stderr
    assert done.stderr == "vfcompare: interrupted; the same command continues\n"


@pytest.mark.slow
def test_a_run_whose_terminal_is_closed_is_saved_and_continues(long, tmp_path):
    shown, own = pty.openpty()
    process = begin(*LONG, cwd=tmp_path, out=own)
    os.close(own)
    await_file(process, tmp_path, "checkpoints.json")
    os.close(shown)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 130
    found = store.read_json(only(tmp_path) / "run.json")
    assert (found["status"], found["message"]) == ("interrupted", "SIGHUP")
    assert vfcompare(*LONG, cwd=tmp_path).returncode == 0
    same(only(tmp_path), long)


@pytest.mark.parametrize("ignored", [False, True], ids=["", "nohup"])
def test_a_closed_terminal_is_heard_unless_it_is_ignored(ignored):
    code = """
import signal
from vfcompare.training.stopping import Listener
with Listener() as listener:
    signal.raise_signal(signal.SIGHUP)
    print(listener.heard, flush=True)
"""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (done.returncode, done.stdout) == (0, f"{None if ignored else 'SIGHUP'}\n"), done.stderr


def test_interrupts_are_no_longer_counted_after_the_command(monkeypatch):
    monkeypatch.setattr(stopping, "HASTE", 0.0)
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with stopping.ending_at_second_interrupt():
        pass
    # Where the tests themselves run in the background of a shell, interrupts are ignored.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, handler)
    assert signal.set_wakeup_fd(before) == before


def test_the_first_signal_is_remembered_and_a_second_interrupt_ends_at_once():
    with pytest.raises(Stopped, match="SIGTERM"), Listener() as listener:  # noqa: PT012
        listener.check()
        signal.raise_signal(signal.SIGTERM)
        assert listener.heard == "SIGTERM"
        listener.check()
    with pytest.raises(KeyboardInterrupt), Listener():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)


def test_an_error_of_the_last_save_does_not_take_the_place_of_the_stop(capsys):
    with pytest.raises(Stopped, match="SIGTERM"), Listener():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        raise OSError(errno.EIO, "the save failed")
    assert "ended by OSError: " in capsys.readouterr().err
    with pytest.raises(OSError, match="the save failed"), Listener():
        raise OSError(errno.EIO, "the save failed")


def test_an_interrupt_that_somebody_swallowed_stops_training_when_it_begins():
    before = signal.getsignal(signal.SIGINT)
    try:
        stopping.spare_until_training()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with Listener() as listener, pytest.raises(stopping.Stopped, match="SIGINT"):
            listener.check()
        stopping.spare_until_training()
        with Listener() as listener:
            listener.check()
    finally:
        signal.signal(signal.SIGINT, before)


# Devices

EPISODES = ("agent=ppo", *PARTS, "seeds=8", "env_steps=600", "evaluations=2")
FRAGMENTS = (*DENSE[1:7], "seeds=8", "env_steps=600", "evaluations=2", "save_seconds=0")


def over(number):
    return {"XLA_FLAGS": WITH_DEVICES.format(number)}


@pytest.mark.slow
@pytest.mark.parametrize("args", [EPISODES, (*FRAGMENTS, "lanes=2")], ids=["episodes", "fragments"])
def test_the_number_of_devices_changes_no_bit(args, tmp_path):
    for number in (1, 2, 8):
        done = vfcompare(*args, cwd=tmp_path / str(number), **over(number))
        assert done.returncode == 0, done.stderr
        assert store.read_json(only(tmp_path / str(number)) / "run.json")["devices"] == number
    for number in (2, 8):
        same(only(tmp_path / "1"), only(tmp_path / str(number)))


@pytest.mark.slow
@pytest.mark.essential
@pytest.mark.parametrize("args", [EPISODES, FRAGMENTS], ids=["episodes", "fragments"])
def test_a_run_continues_on_another_number_of_devices_and_says_so(args, tmp_path):
    done = vfcompare(*args, cwd=tmp_path / "2", at=("list", 0, "writes"), **over(2))
    assert done.returncode == 0, done.stderr
    lanes = certificate(only(tmp_path / "2"))["lanes"]
    assert lanes == (4 if args is FRAGMENTS else 1)
    writes = (tmp_path / "2" / "writes").read_text().split()
    second = writes.index("state-2.msgpack") + 1
    killed = vfcompare(*args, cwd=tmp_path / "cut", at=("before", second, "writes"), **over(2))
    assert killed.returncode == -signal.SIGKILL
    for number in (1, 8):
        cwd = Path(shutil.copytree(tmp_path / "cut", tmp_path / str(number)))
        done = vfcompare(*args, cwd=cwd, **over(number))
        assert done.returncode == 0, done.stderr
        # What its certificate says of the number side by side still holds.
        assert (
            f"goes on over {min(number, 8)} devices, before 2; still {lanes} seeds" in done.stderr
        )
        same(only(cwd), only(tmp_path / "2"))


def certificate(folder):
    """Facts of a certificate."""
    return store.read_json(folder / "certificate.json")["facts"]


@pytest.mark.slow
def test_fragments_of_other_numbers_side_by_side_are_told_apart(tmp_path):
    for number in (1, 8):
        done = vfcompare(*FRAGMENTS, cwd=tmp_path / str(number), **over(number))
        assert done.returncode == 0, done.stderr
    lanes = [certificate(only(tmp_path / str(number)))["lanes"] for number in (1, 8)]
    assert lanes == [4, 1]
