"""The command line as a user meets it: whole runs in a new process, and every mistake named at once."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from importlib import metadata
from pathlib import Path
from urllib import parse

import pytest

from tests.helpers import vfcompare
from vfcompare.commands import compose
from vfcompare.main import main
from vfcompare.runs import clock, plan, run_folder, store

SMALL = (
    "seeds=2",
    "env_steps=600",
    "evaluations=2",
    "agent.evaluation_episodes=2",
    "agent.collector.prompts=2",
    "agent.collector.group=4",
    "agent.network.hidden=[8]",
)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    done = vfcompare("-m", "agent=reinforce,ppo", "env=lock", "study.name=mini", *SMALL, cwd=folder)
    assert done.returncode == 0, done.stderr
    for number, agent in enumerate(("reinforce", "ppo"), 1):
        assert done.stderr.count(f"cell {number} of 2: lock-{agent}-") == 1
    return folder / "runs" / "mini"


def test_a_sweep_leaves_every_file_of_every_cell(sweep):
    cells = plan.runs(sweep)
    assert [cell.name.rsplit("-", 1)[0].split("-agent.")[0] for cell in cells] == [
        "lock-ppo",
        "lock-reinforce",
    ]
    planned = store.read_json(sweep / "plan.json")
    assert sorted(cell["id"] for cell in planned["cells"]) == [cell.name for cell in cells]
    for cell in cells:
        record = store.read_json(cell / "run.json")
        assert record["status"] == "completed"
        assert {words["status"] for words in record["seeds"].values()} == {"completed"}
        metrics, evaluation = (
            store.read_table(cell / f"{n}.parquet") for n in ("metrics", "evaluation")
        )
        assert set(metrics["seed"]) == set(evaluation["seed"]) == {0, 1}
        assert sorted(set(evaluation["point"])) == [0, 1, 2]
        assert metrics["env_steps"].max() >= 600
        assert store.read_json(cell / "certificate.json")["schema"] == 1
        assert (cell / "config.yaml").exists()


def test_certificates_of_a_sweep_agree(sweep):
    from vfcompare.runs.certificate import compare

    cells = {cell.name: store.read_json(cell / "certificate.json") for cell in plan.runs(sweep)}
    assert {row.verdict for row in compare(cells)} == {"equal", "by design"}


def test_running_again_repeats_nothing(sweep):
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("metrics.parquet")}
    again = vfcompare(
        "-m", "agent=reinforce,ppo", "env=lock", "study.name=mini", *SMALL, cwd=sweep.parents[1]
    )
    assert again.returncode == 0
    assert "2 of 2 cells were done before" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("metrics.parquet")} == before


def test_status_shows_every_cell(sweep):
    done = vfcompare("status", str(sweep), cwd=sweep)
    assert done.returncode == 0
    assert "2 completed" in done.stdout


def test_report_is_written_from_files(sweep):
    done = vfcompare("report", str(sweep), cwd=sweep)
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip())
    assert page.name == "index.html"
    assert "lock" in page.read_text()


@contextlib.contextmanager
def tensorboard(*options):
    """The address of a server's data, while it runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vfcompare", "tb", *options, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/data/plugin"
    finally:
        server.terminate()
        server.wait(10)


STATUSES = ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN", "STATUS_RUNNING"]
TRIALS = {"sliceSize": 10, "allowedStatuses": STATUSES, "includeMetrics": True}


def test_tensorboard_shows_one_run_a_cell_and_cells_that_begin_later(sweep, tmp_path):
    study = shutil.copytree(sweep, tmp_path / "study", ignore=shutil.ignore_patterns("report"))
    names = sorted(run.parent.name for run in study.glob("*/run.json"))
    late = shutil.move(study / names[0], tmp_path / "late")
    with tensorboard(str(study)) as data:
        tags = wait_for(f"{data}/scalars/tags")
        assert sorted(tags) == names[1:]
        # Two seeds are too few for an interval.
        bands = {"seeds", "lock/return_sampled/value", "lock/return_greedy/value"}
        assert bands | {"evaluation/return_sampled", "train/policy_loss"} <= set(*tags.values())
        run = parse.quote(names[1], safe="")
        points = wait_for(f"{data}/scalars/scalars?run={run}&tag=evaluation/return_sampled")
        table = store.read_table(study / names[1] / "evaluation.parquet")
        means = [table["return_sampled"][table["point"] == point].mean() for point in range(3)]
        assert [value for _, _, value in points] == pytest.approx(means)
        columns = wait_for(f"{data}/hparams/experiment", {"experimentName": ""})
        assert [info["name"] for info in columns["hparamInfos"]] == ["agent", "env"]
        first = [info["name"]["tag"] for info in columns["metricInfos"]]
        assert first == ["evaluation/return_sampled", "evaluation/return_greedy"]
        (group,) = wait_for(f"{data}/hparams/session_groups", TRIALS)["sessionGroups"]
        assert [session["status"] for session in group["sessions"]] == ["STATUS_SUCCESS"]
        shutil.move(late, study / names[0])
        wait_for(f"{data}/scalars/tags", until=lambda tags: sorted(tags) == names)


def test_tensorboard_reads_curves_and_hyperparameters_back(sweep):
    with tensorboard(str(sweep), "--seeds") as data:
        tags = wait_for(f"{data}/scalars/tags")
        together = {name for name in tags if name.endswith("all-seeds")}
        assert (len(tags), len(together)) == (6, 2)
        for name in tags.keys() - together:
            assert {"evaluation/return_sampled", "train/policy_loss"} <= set(tags[name])
        for name in together:
            assert {"seeds", "lock/return_sampled/value", "evaluation/entropy"} <= set(tags[name])
        run = (
            min(tags.keys() - together).replace("/", "%2F").replace("=", "%3D").replace(",", "%2C")
        )
        points = wait_for(f"{data}/scalars/scalars?run={run}&tag=evaluation/return_sampled")
        assert len(points) == 3
        layout = wait_for(f"{data}/custom_scalars/layout")
        drawn = [chart["title"] for category in layout["category"] for chart in category["chart"]]
        assert drawn == ["lock return_sampled", "lock return_greedy"]
        shown = wait_for(f"{data}/images/tags")
        assert {tag for run in shown.values() for tag in run} == {
            "picture/median run",
            "picture/worst run",
        }
        buckets = wait_for(f"{data}/histograms/histograms?run={run}&tag=train/advantage")[-1][2]
        assert sum(count for _, _, count in buckets) == pytest.approx(1.0, abs=1e-5)
        groups = wait_for(f"{data}/hparams/session_groups", TRIALS)["sessionGroups"]
        # The two seeds of an agent, and both together, are one trial.
        assert sorted(group["hparams"]["agent"] for group in groups) == ["ppo", "reinforce"]
        assert all(len(group["sessions"]) == 3 for group in groups)
        assert all(group["hparams"]["agent.optimizer.learning_rate"] == 1e-3 for group in groups)
        assert all(s["status"] == "STATUS_SUCCESS" for g in groups for s in g["sessions"])


def wait_for(url, body=None, patience=90, until=bool):
    """JSON from a server that may still be starting or loading."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    deadline = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, data, headers), timeout=10
            ) as page:
                content = json.loads(page.read())
            loaded = not isinstance(content, dict) or content.get("sessionGroups", True)
            if loaded and until(content):
                return content
        except (OSError, ValueError):
            pass
        assert time.monotonic() < deadline, f"nothing from {url}"
        time.sleep(0.5)


MISTAKES = {
    "agent=pp0": ("agent=pp0", "ppo"),
    "env=mase": ("env=mase", "maze"),
    "agent.gama=0.9": ("agent.gama", "gamma"),
    "seed=3": ("seed", "seeds"),
    "agent.optimizer.learning_rate=-1": ("learning_rate=-1", "above 0"),
    "agent.optimizer.learning_rate=nan": ("learning_rate=nan", "finite"),
    "agent.optimizer.learning_rate=fast": ("learning_rate=fast", "number"),
    "agent.gamma=1.1": ("gamma=1.1", "0 to 1"),
    "seeds=0": ("seeds=0", "1 or more"),
    "agent=gspo agent.batching.minibatches=5": ("minibatches=5", "did you mean 4?"),
    "agent=rloo agent.collector.group=1": ("group=1", "2 or more"),
    "agent=grpo agent.collector.group=1": ("group=1", "2 or more"),
    "agent=grpo agent.estimator.critic.gain=2": ("agent.estimator.critic.gain", "no critic"),
    "env=pendulum agent.policy.head=categorical": ("head=categorical", "gaussian"),
    "agent=grpo collector@agent.collector=fragments": ("fragments", "episodes"),
    "study.name=../away": ("study.name=../away", "letters"),
    "agent.policy.head=catagorical": ("catagorical", "categorical"),
    "env=maze env.size=8": ("size", "odd"),
    "agent=1 env=lock": ("agent=1", "ppo"),
    "agent=rloo env=[lock]": ("env=[lock]", "maze"),
    "-m agent=glob(zzz*)": ("agent=glob(zzz*)", "ppo"),
    "--cfg job agent=glob(ppo*)": (
        "allowed: one value, or vfcompare plan -m ... agent=glob(ppo*)",
    ),
    "plan agent=ppo agent.gamma=range(0,2,0)": ("range(0,2,0)", "step"),
    "plan agent=ppo hydra.searchpath=[file:///nope]": ("file:///nope is no folder",),
    "stauts": ("stauts", "status"),
    "report nowhere": ("nowhere", "folder"),
    "agent=ppo env=maze --resolve": ("--resolve", "--cfg"),
    "--shell-completion foo=bash": ("install", "query"),
    "agent=ppo --run --cfg job": ("--run", "--cfg"),
    "--cfg job --package nope": ("'nope' not found",),
    "-m --cfg job agent=grpo,ppo": ("allowed: one value, or vfcompare plan -m ... agent=grpo,ppo",),
    "--cfgg": ("--info, --help", "did you mean '--cfg'"),
    "agent=ppo --config-dir=x --cfg job": ("allowed: 'hydra.searchpath=[file:///FOLDER]'",),
    "agent=ppo --config-dir=x": ("allowed: 'hydra.searchpath=[file:///FOLDER]'",),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_what_is_allowed_and_leaves_nothing(mistake, tmp_path):
    done = vfcompare(*mistake.split(), cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for words in MISTAKES[mistake]:
        assert words in done.stderr
    assert len(done.stderr.splitlines()) <= 5
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_one_cell_of_a_sweep_stops_it_before_any_cell_starts(tmp_path):
    done = vfcompare("-m", "agent=ppo,rlo", "env=lock", *SMALL, cwd=tmp_path)
    assert done.returncode == 2
    assert "rloo" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_trains_the_others_where_a_cell_is_damaged(tmp_path, capsys):
    words = ["agent=reinforce,rloo", "env=lock", *SMALL, f"root={tmp_path}/runs"]
    bad, good = compose.cells(words, sweep=True)
    file = bad.study / bad.id / "run.json"
    store.write_bytes(file, b"{")
    done = vfcompare("-m", *words, cwd=tmp_path)
    assert done.returncode == 4
    told = f"{bad.id}: left alone: {file} is damaged (Expecting"
    assert done.stderr.count(told) == 1
    assert "vfcompare: 1 damaged; `vfcompare status" in done.stderr
    assert good.state == "done"
    assert main(["plan", *words]) == 4
    out, err = capsys.readouterr()
    assert err.count(told) == 1
    assert "0 cells to go" in out
    job = bad.study / "jobs" / "0.json"
    store.write_json(job, {"created": clock.now(), "groups": [[bad.id, good.id]]})
    done = vfcompare("work", str(bad.study), str(job), "0", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count(told) == 1
    assert f"{good.id}: done before" in done.stdout
    assert file.read_bytes() == b"{"


def test_no_arguments_show_the_usage(tmp_path):
    done = vfcompare(cwd=tmp_path)
    assert done.returncode == 0
    assert "env=maze" in done.stdout


def test_a_killed_run_continues_and_ends_with_the_same_bits(tmp_path):
    small = ("save_seconds=0", *SMALL[3:], "seeds=2", "env_steps=40000", "evaluations=10")
    args = ("agent=ppo", "env=lock", *small)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    assert vfcompare(*args, cwd=whole).returncode == 0
    command = [sys.executable, "-m", "vfcompare", *args]
    process = subprocess.Popen(command, cwd=cut, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(cut.rglob("checkpoints.json")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    (folder,) = plan.runs(cut / "runs" / "scratch")
    assert store.read_json(folder / "run.json")["status"] == "running"
    first = run_folder.RunFolder(folder).load_checkpoint()
    assert first is not None
    assert first.point < 10
    assert vfcompare(*args, cwd=cut).returncode == 0
    (other,) = plan.runs(whole / "runs" / "scratch")
    assert store.read_json(folder / "run.json")["attempt"] == 2
    for name in ("metrics", "evaluation"):
        one, two = (store.read_table(path / f"{name}.parquet") for path in (folder, other))
        assert one.keys() == two.keys()
        for column in one:
            assert (one[column].tobytes()) == (two[column].tobytes()), column
    kept, expected = (run_folder.RunFolder(path).load_checkpoint() for path in (folder, other))
    assert kept is not None
    assert expected is not None
    assert kept[:3] == expected[:3]
    # What the first attempt spent on it is not forgotten.
    spent = run_folder.RunFolder(folder).record["seconds"]
    assert all(spent[name] > seconds > 0 for name, seconds in first.seconds.items())


@pytest.mark.slow
def test_a_study_with_parts_of_the_users_own_is_gone_on_with(tmp_path, own):
    done = vfcompare("-m", "agent=half,rloo", "env=lock", own, *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    study = tmp_path / "runs" / "scratch"
    shutil.rmtree(next(study.glob("lock-half-*")))
    assert vfcompare("resume", "runs/scratch", cwd=tmp_path).returncode == 2
    done = vfcompare("resume", "runs/scratch", own, cwd=tmp_path)
    assert (done.returncode, "1 cell to go" in done.stdout) == (0, True), done.stderr
    assert len(plan.runs(study)) == 2


def test_help_names_the_commands_and_the_version_is_ours(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vfcompare 0.")
    with pytest.raises(SystemExit):
        main(["tune", "--help"])
    assert "default: random" in capsys.readouterr().out


def test_the_package_itself_is_the_command():
    done = vfcompare("--version", cwd=None)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"vfcompare {metadata.version('vfcompare')}\n"


def test_a_crash_of_the_interpreter_says_where():
    code = (
        "import os\nfrom vfcompare.main import main\nmain(['--version'])\nos.kill(os.getpid(), 11)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "Segmentation fault" in done.stderr
    assert 'File "<string>", line 4' in done.stderr


def test_a_reader_that_has_read_enough_gets_no_traceback():
    """As of `vfcompare --help | head -1`."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "vfcompare", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_folder_that_is_no_study_gets_no_report(sweep, capsys):
    for verb in ("report", "status", "resume", "cancel", "tb"):
        assert main([verb, str(sweep.parent)]) == 2
        assert f"allowed: the folder of a study, such as {sweep}" in capsys.readouterr().err
    assert not (sweep.parent / "report").exists()


@pytest.mark.parametrize("verb", ["report", "export"])
def test_a_study_that_is_named_twice_is_refused(verb, sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(sweep)
    assert main([verb, str(sweep), "link", "--out", "dd"]) == 2
    assert f"{sweep} and link are one folder" in capsys.readouterr().err
    assert not (tmp_path / "dd").exists()


def test_names_of_files_are_told_as_they_are_where_a_terminal_lacks_their_letters(tmp_path):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = vfcompare("status", "ünï", cwd=tmp_path, env=os.environ | plain)
    assert done.stderr.startswith("vfcompare: ünï is not a folder")
