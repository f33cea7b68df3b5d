"""Plans, claims and records: what was said first stays said, and nobody is taken for somebody else."""

import subprocess
import time
from pathlib import Path

import pytest

from vfcompare.runs import run_folder, slurm, status, store
from vfcompare.runs.run_folder import RunFolder

CELLS = [{"id": "a"}]


def test_a_later_command_keeps_the_question_the_figures_and_the_day_of_a_plan(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(store, "now", lambda: "first")
    store.write_plan(tmp_path, {"name": "x", "question": "Who?", "figures": ["pairs"]}, CELLS)
    monkeypatch.setattr(store, "now", lambda: "later")
    store.write_plan(tmp_path, {"name": "x", "question": None, "figures": []}, [{"id": "b"}])
    plan = store.read_json(tmp_path / "plan.json")
    assert (plan["question"], plan["figures"], plan["created"]) == ("Who?", ["pairs"], "first")
    assert [cell["id"] for cell in plan["cells"]] == ["a", "b"]


@pytest.mark.parametrize("tracked", [False, True])
def test_the_commit_is_that_of_the_code_and_not_of_whose_folder_it_is_in(
    tmp_path, monkeypatch, tracked
):
    file = tmp_path / ".venv" / "store.py"
    file.parent.mkdir()
    file.touch()

    def git(*args):
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *who, *args], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "mine").touch()
    git("add", "mine", *([str(file)] if tracked else []))
    git("commit", "-m", "mine")
    monkeypatch.setattr(store, "__file__", str(file))
    assert bool(store.git_state.__wrapped__()) == tracked


def test_a_claim_without_a_heartbeat_is_renewed_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "LOST_AFTER", 3.0)
    mine, other = RunFolder(tmp_path / "x" / "search"), RunFolder(tmp_path / "x" / "search")
    file = tmp_path / "x" / "search" / "claim.json"
    with mine.claim() as got, mine.kept():
        assert got
        # As another machine would see it.
        monkeypatch.setattr(run_folder, "place", lambda: "another machine")
        time.sleep(4.5)
        with other.claim() as theirs:
            assert not theirs
        mine.must_hold()
    assert not file.exists()


def test_without_being_renewed_it_is_lost_to_another_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "LOST_AFTER", 3.0)
    mine, other = RunFolder(tmp_path / "x" / "search"), RunFolder(tmp_path / "x" / "search")
    with mine.claim() as got:
        assert got
        monkeypatch.setattr(run_folder, "place", lambda: "another machine")
        time.sleep(4.5)
        with other.claim() as theirs:
            assert theirs
            with pytest.raises(run_folder.ClaimLost):
                mine.must_hold()


@pytest.mark.parametrize("state", ["PENDING", "COMPLETED"])
def test_a_cell_that_a_local_process_trains_is_running_whatever_slurm_was_told(
    tmp_path, monkeypatch, state
):
    path = Path(tmp_path)
    store.write_plan(path, {"name": "x"}, [{"id": "cell", "seeds": [0]}])
    folder = RunFolder(path / "cell")
    job = {"created": store.now(), "slurm": "1", "groups": [["cell"]], "schema": store.SCHEMA}
    task = slurm.Task(state, "Priority")
    monkeypatch.setattr(slurm, "ask", lambda numbers: {"1_0": task})
    with folder.claim():
        folder.begin(id="cell", seeds={"0": {"status": "running"}})
        store.write_json(path / "jobs" / "0.json", job)
        (cell,) = status.read(path)
        assert (cell.status, cell.task) == ("running", "")
