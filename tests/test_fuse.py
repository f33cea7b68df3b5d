"""Which cells are trained together, how many at once, and what becomes of the others where one fails."""

import importlib.util
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from vfcompare.commands.compose import cells
from vfcompare.envs.maze import Maze
from vfcompare.errors import InputError
from vfcompare.main import main
from vfcompare.runs import (
    claim,
    clock,
    naming,
    origin,
    plan,
    run_folder,
    status,
    store,
    tables,
)
from vfcompare.schema.tree import at
from vfcompare.training import attempts, devices, fuse, stages, starts, sweep
from vfcompare.training import execute as execution
from vfcompare.training.cell import Member
from vfcompare.training.cell import build as usual
from vfcompare.training.circumstances import SIDE_BY_SIDE, TRACED
from vfcompare.training.execute import execute, together
from vfcompare.training.starts import depends, start_hashes

SWEEP = ["agent=rloo", "env=lock", "agent.gamma=0.9,0.95,1.0", "seeds=4"]


@pytest.mark.parametrize(
    ("seeds", "sizes"), [(12, [3]), (8, [2, 1]), (7, [1, 1, 1]), (1, [1, 1, 1])]
)
def test_a_group_has_no_more_seeds_than_fit_into_memory(seeds, sizes, monkeypatch):
    found = cells(SWEEP, sweep=True)
    monkeypatch.setattr(fuse, "free_memory", lambda: 1.0)
    share = fuse.room(found[0].config)
    monkeypatch.setattr(fuse, "free_memory", lambda: (seeds + 0.5) / share)
    assert [len(group.cells) for group in fuse.groups(found, 512)] == sizes


def test_free_memory_is_what_slurm_gave_if_that_is_less(monkeypatch):
    for name in ("SLURM_MEM_PER_NODE", "SLURM_MEM_PER_CPU"):
        monkeypatch.delenv(name, raising=False)
    whole = fuse.free_memory()
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "16")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "2")
    assert fuse.free_memory() == 32 * 2**20 < whole
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "64")
    assert fuse.free_memory() == 64 * 2**20 < whole


def test_what_is_left_in_control_groups_is_the_limit_less_what_is_taken(tmp_path):
    member, root = tmp_path / "cgroup", tmp_path / "sys"
    (root / "job" / "step").mkdir(parents=True)
    member.write_text("4:memory:/elsewhere\n0::/job/step\n")
    for folder, limit, taken in ((root / "job", 1000, 300), (root / "job" / "step", "max", 200)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{taken}\n")
    assert list(fuse._left_in_groups(member, root)) == [700.0]
    assert list(fuse._left_in_groups(tmp_path / "missing", root)) == []


def test_numbers_that_cannot_be_traced_split_a_group_and_the_others_do_not():
    found = cells([*SWEEP[:2], "agent.entropy_coef=0.0,0.1", "env.length=4,8"], sweep=True)
    groups = list(fuse.groups(found, 512))
    assert [(len(group.cells), group.traced) for group in groups] == [
        (2, ["agent.entropy_coef"])
    ] * 2


def test_every_cell_is_told_the_returns_of_its_own_environment(tmp_path):
    small = (
        "seeds=2",
        "env_steps=500",
        "evaluations=1",
        "agent.evaluation_episodes=2",
        f"root={tmp_path}",
    )
    slips = ["agent=rloo", "env=maze", "env.size=5", "env.slip=0.0,0.5", *small]
    (group,) = fuse.groups(cells(slips, sweep=True), 512)
    assert group.traced == ["env.slip"]
    execute(group.cells, group.traced)
    found = [run_folder.RunFolder(cell.study / cell.id).record["reference"] for cell in group.cells]
    assert found == [Maze(size=5, slip=slip).reference._asdict() for slip in (0.0, 0.5)]


def test_cells_share_the_start_that_no_number_of_theirs_decides(tmp_path, monkeypatch):
    """And each has the certificate that it has alone."""
    small = ("seeds=2", "env_steps=200", "evaluations=1", "agent.evaluation_episodes=2")
    swept = ("env.slip=0.0,0.5", "agent.optimizer.learning_rate=1e-4,1e-3", "agent.gamma=0.9,1.0")
    sweep = ["agent=ppo", "env=maze", "env.size=5", *swept, *small, f"root={tmp_path}/fused"]
    (group,) = fuse.groups(cells(sweep, sweep=True), 512)
    assert len(group.cells) == 8
    hashed = []

    def counted(state, rollout):
        hashed.append(state)
        return start_hashes(state, rollout)

    monkeypatch.setattr(starts, "start_hashes", counted)
    execute(group.cells, group.traced)
    assert len(hashed) == 2 * 2

    def certificate(cell):
        return store.read_json(cell.study / cell.id / "certificate.json")

    hashes = {cell.id: certificate(cell)["seeds"] for cell in group.cells}
    assert len({naming.digest(seeds) for seeds in hashes.values()}) == 2
    for cell in group.cells[0], group.cells[-1]:
        alone = cell._replace(config=cell.config | {"root": f"{tmp_path}/alone"})
        execute([alone])
        assert certificate(alone)["seeds"] == hashes[cell.id]


def plain(x, y, unused):
    return (x["a"] + 1.0) * y[0], 3.0


def loop(x, y, unused):
    return jax.lax.fori_loop(0, 3, lambda i, total: total * y[0] + x["a"], 0.0)


# What is within a jitted function is not looked into.
@pytest.mark.parametrize(("f", "other"), [(plain, False), (loop, False), (jax.jit(plain), True)])
def test_what_a_result_depends_on(f, other):
    used = [True, other, True, other, other]
    assert depends(f, {"a": 1.0, "b": 2.0}, (3.0, 4.0), 5.0) == used


@pytest.mark.parametrize("values", ["null,0.5", "0.5,null", "null,0.5,1.0"])
def test_a_number_and_none_are_not_trained_together(values):
    found = cells(["agent=ppo", "env=lock", f"agent.optimizer.max_grad_norm={values}"], sweep=True)
    groups = list(fuse.groups(found, 512))
    assert len(groups) == 2
    ids = [cell.id for group in groups for cell in group.cells]
    assert sorted(ids) == sorted(cell.id for cell in found)
    for group in groups:
        norms = [at(cell.config, "agent.optimizer.max_grad_norm") for cell in group.cells]
        assert (None in norms) == (norms == [None])
        assert len(norms) == 1 or "agent.optimizer.max_grad_norm" in group.traced


def held(point, traced, lanes=1):
    """A checkpoint."""
    return run_folder.Checkpoint(point, b"", {TRACED: traced, SIDE_BY_SIDE: lanes}, {})


def test_cells_go_on_with_the_numbers_traced_that_were_traced_before():
    sweep = cells([*SWEEP[:2], "agent.gamma=0.8,0.9,0.95,0.99,1.0", "seeds=1"], sweep=True)
    known = [None, held(2, ["agent.gamma"]), held(2, ["agent.gamma"]), held(2, []), held(2, [])]
    begun = [
        Member(cell, run_folder.RunFolder(cell.study / cell.id), checkpoint)
        for cell, checkpoint in zip(sweep, known, strict=True)
    ]
    found = [
        ([begun.index(member) for member in members], numbers)
        for members, numbers in together(begun, ["agent.gamma"])
    ]
    assert found == [([0], ["agent.gamma"]), ([1, 2], ["agent.gamma"]), ([3], []), ([4], [])]


def test_a_cell_that_fails_at_the_end_leaves_those_before_it_completed(
    tmp_path, monkeypatch, capsys
):
    small = ("seeds=1", "env_steps=200", "evaluations=1", "agent.evaluation_episodes=2")
    together = cells([*SWEEP[:3], *small, f"root={tmp_path}"], sweep=True)
    begun = []

    def paths(log):
        begun.append(log)
        if len(begun) == 2:
            raise RuntimeError("no picture")

    monkeypatch.setattr(stages, "paths", paths)
    ended = sweep.train(together)
    assert "vfcompare: RuntimeError: no picture" in capsys.readouterr().err
    folders = [run_folder.RunFolder(cell.study / cell.id) for cell in together]
    assert [folder.record["status"] for folder in folders] == ["completed", "crashed", "crashed"]
    assert list(ended.values()) == ["completed", "crashed", "crashed"]
    assert [(folder.path / "traceback.txt").exists() for folder in folders] == [False, True, True]


TINY = ("seeds=1", "env_steps=200", "evaluations=1", "agent.evaluation_episodes=2")


@pytest.fixture
def three(tmp_path):
    """Three cells of one program, their folders, and what takes one of them over."""
    (group,) = fuse.groups(cells([*SWEEP[:3], *TINY, f"root={tmp_path}"], sweep=True), 512)
    folders = [run_folder.RunFolder(cell.study / cell.id) for cell in group.cells]

    def steal(number):
        claim = folders[number].path / "claim.json"
        store.write_json(claim, store.read_json(claim) | {"host": "elsewhere", "pid": 7})

    return group, folders, steal


def content(folder):
    return {file: file.read_bytes() for file in folder.path.rglob("*") if file.is_file()}


def no_picture(log):
    raise RuntimeError("no picture")


def cut_short(cell):
    """What `run.json` says of an attempt that ends for want of a picture."""
    with pytest.raises(RuntimeError, match="no picture"):
        execute([cell])
    return store.read_json(cell.study / cell.id / "run.json")


@pytest.mark.parametrize("when", ["_made", "_train", "evaluate", "going on"])
def test_a_cell_that_another_process_takes_over_is_left_to_it_and_the_others_are_trained(
    three, when, monkeypatch, capsys
):
    group, folders, steal = three
    going_on = when == "going on"
    if going_on:
        with monkeypatch.context() as patch:
            patch.setattr(stages, "paths", no_picture)
            with pytest.raises(RuntimeError, match="no picture"):
                execute(group.cells, group.traced)
    name = "_train" if going_on else when
    act, seen = getattr(execution, name), list[dict[Path, bytes]]()

    def stolen(*args):
        if not seen:
            steal(1)
            seen.append(content(folders[1]))
        return act(*args)

    monkeypatch.setattr(execution, name, stolen)
    ended = execute(group.cells, group.traced)
    assert list(ended.values()) == ["completed", "left alone", "completed"]
    assert capsys.readouterr().err.count("process 7 on elsewhere took it over") == 1
    assert [content(folders[1])] == seen
    records = [store.read_json(folders[number].path / "run.json") for number in (0, 2)]
    assert [record["status"] for record in records] == ["completed"] * 2
    assert [record["attempt"] for record in records] == [1 + going_on] * 2


def torn(folder):
    folder.update(status="completed")
    return "evaluation.parquet is missing; remove this folder to begin the run anew"


def cut(folder):
    store.write_bytes(folder.path / "run.json", b"{")
    return "is damaged ("


def of_a_later_version(folder):
    folder.update(schema=store.SCHEMA + 1)
    return "was written by a later version"


@pytest.mark.parametrize("harm", [torn, cut, of_a_later_version])
def test_a_damaged_cell_is_left_alone_and_the_others_are_trained(
    three, harm, tmp_path, monkeypatch, capsys
):
    """Those of its program, of which one fails, and those behind it."""
    group, folders, _ = three
    why = harm(folders[1])
    before = content(folders[1])
    behind = cells(["agent=reinforce", SWEEP[1], *TINY, f"root={tmp_path}"], sweep=False)
    finish = stages.paths

    def paths(log):
        if log.share.member.cell == group.cells[2]:
            raise RuntimeError("no picture")
        finish(log)

    monkeypatch.setattr(stages, "paths", paths)
    ended = sweep.train([*group.cells, *behind])
    assert list(ended.values()) == ["completed", "damaged", "crashed", "completed"]
    assert content(folders[1]) == before
    told = capsys.readouterr().err
    assert told.count(f"{group.cells[1].id}: left alone: ") == 1
    assert why in told


def test_where_all_are_taken_over_nothing_fails(three, monkeypatch):
    group, folders, steal = three
    act = execution._made

    def stolen(*args):
        for number in range(3):
            steal(number)
        return act(*args)

    monkeypatch.setattr(execution, "_made", stolen)
    assert set(execute(group.cells, group.traced).values()) == {"left alone"}
    assert not any((folder.path / "run.json").exists() for folder in folders)


def test_claims_are_renewed_while_cells_wait_for_others(three, monkeypatch):
    group, folders, _ = three
    monkeypatch.setattr(claim, "LOST_AFTER", 0.4)
    begun, times = [], set()

    def attempt(members, *rest):
        begun.append(members)
        for _ in range(20):
            time.sleep(0.1)
            times.add(store.read_json(folders[2].path / "claim.json")["time"])
        return {}

    monkeypatch.setattr(execution, "_attempt", attempt)
    monkeypatch.setattr(execution, "together", lambda mine, *rest: [(mine[:1], []), (mine[1:], [])])
    execute(group.cells, group.traced)
    assert len(begun) == 2
    assert len(times) > 2


def test_where_one_program_fails_those_behind_it_are_trained(three, monkeypatch):
    """After a kill the cells of a group may go on in several."""
    group, folders, _ = three

    def attempt(members, *rest):
        if members[0].cell == group.cells[0]:
            raise RuntimeError("no picture")
        return train(members, *rest)

    train = execution._attempt
    monkeypatch.setattr(execution, "_attempt", attempt)
    monkeypatch.setattr(
        execution, "together", lambda mine, numbers: [(mine[:1], numbers), (mine[1:], numbers)]
    )
    with pytest.raises(RuntimeError, match="no picture"):
        execute(group.cells, group.traced)
    records = [store.read_json(folder.path / "run.json") for folder in folders]
    assert [record["status"] for record in records] == ["crashed", "completed", "completed"]


@pytest.mark.parametrize("part", ["priors", "judges"])
def test_what_cannot_be_pretrained_is_a_crash_of_its_cells(part, tmp_path, monkeypatch):
    (one,) = cells([*SWEEP[:2], *TINY, f"root={tmp_path}"], sweep=False)

    def ensure(configs):
        raise RuntimeError("no demonstration")

    monkeypatch.setattr(getattr(execution, part), "ensure", ensure)
    with pytest.raises(RuntimeError, match="no demonstration"):
        execute([one])
    (found,) = status.read(one.study)
    assert (found.status, found.note) == ("crashed", "RuntimeError: no demonstration")
    assert "no demonstration" in (one.study / one.id / "traceback.txt").read_text()


def test_a_cell_that_another_process_completed_between_look_and_claim_was_done_before(
    three, monkeypatch, capsys
):
    group, folders, _ = three

    def meanwhile():
        for folder in folders:
            folder.update(status="completed")

    monkeypatch.setattr(devices, "prepare", meanwhile)
    assert set(execute(group.cells, group.traced).values()) == {"skipped"}
    out = capsys.readouterr().out
    assert out.count("done before, kept as it is") == 3
    assert "is training it" not in out


def test_each_group_says_how_far_its_sweep_is_and_a_single_cell_says_nothing(monkeypatch, capsys):
    words = ["agent=reinforce", "env=maze", "env.size=5,7", "agent.gamma=0.9,1", *TINY]
    found = cells(words, sweep=True)
    monkeypatch.setattr(sweep, "execute", lambda cells, traced: {})
    sweep.train(found[:1])
    assert capsys.readouterr().err == ""
    sweep.train(found[:3])
    said = f"cells 1 to 2 of 3: like {found[0].id}\ncell 3 of 3: {found[2].id}\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("error", [MemoryError("no room"), KeyError("missing"), InputError("no")])
def test_who_crashes_before_it_begins_says_so_and_the_others_are_trained(
    error, tmp_path, monkeypatch, capsys
):
    """What is refused leaves nothing."""
    sizes = ["agent=reinforce", "env=maze", "env.size=5,7", *TINY, f"root={tmp_path}"]
    bad, good = cells(sizes, sweep=True)

    def build(config, *args, **options):
        if config["env"]["size"] == 5:
            raise error
        return usual(config, *args, **options)

    for module in (fuse, execution):
        monkeypatch.setattr(module, "build", build)
    refused = isinstance(error, InputError)
    ended = sweep.train([bad, good])
    assert ended == {bad.id: "refused" if refused else "crashed", good.id: "completed"}
    assert str(error) in capsys.readouterr().err
    folder = bad.study / bad.id
    assert {file.name for file in folder.iterdir()} == (
        set() if refused else {"run.json", "config.yaml", "traceback.txt"}
    )
    if not refused:
        (found,) = (cell for cell in status.read(bad.study) if cell.id == bad.id)
        memory = isinstance(error, MemoryError)
        assert (found.status, found.seeds) == ("out of memory" if memory else "crashed", 1)
        assert type(error).__name__ in (folder / "traceback.txt").read_text()
        record = store.read_json(folder / "run.json")
        assert (record["attempt"], record["settings"]) == (1, bad.settings)


def test_a_run_that_other_code_goes_on_with_says_so_and_by_which_it_was_begun(
    tmp_path, monkeypatch, capsys
):
    (one,) = cells([*SWEEP[:2], *TINY, f"root={tmp_path}"], sweep=False)
    first = origin.versions()

    monkeypatch.setattr(stages, "paths", no_picture)
    for _ in range(2):
        record = cut_short(one)
        assert record["bit_exact"]
    for versions in (first | {"flax": "0.0.1"}, first):
        monkeypatch.setattr(origin, "versions", lambda versions=versions: versions)
        record = cut_short(one)
        assert not record["bit_exact"], "nor after the next attempt"
        assert record["versions"] == versions
        begun = {"versions": first, "git": origin.git_state(), "source": attempts.source()}
        assert record["begun_with"] == begun | {"own": {}}
    told = capsys.readouterr().err
    assert f"flax (was {first['flax']}, is 0.0.1) has changed since training began" in told
    assert told.count("has changed") == 1, "where it is the former again, nothing has"


def test_our_code_edited_at_the_same_commit_is_other_code(tmp_path, monkeypatch, capsys):
    (one,) = cells([*SWEEP[:2], *TINY, f"root={tmp_path}"], sweep=False)
    file = one.study / one.id / "run.json"
    monkeypatch.setattr(stages, "paths", no_picture)

    def attempt(source):
        monkeypatch.setattr(attempts, "source", lambda: source)
        return cut_short(one)

    record = attempt("a")
    del record["source"], record["begun_with"]["source"]
    store.write_json(file, record)
    assert attempt("b")["bit_exact"], "as nobody knows better"
    store.write_json(
        file, store.read_json(file) | {"begun_with": record["begun_with"] | {"source": "b"}}
    )
    assert attempt("b")["bit_exact"]
    assert "changed" not in capsys.readouterr().err
    assert not attempt("c")["bit_exact"]
    told = f"{one.id}: vfcompare's own code has changed since training began; it goes on"
    assert told in capsys.readouterr().err


def test_another_commit_of_the_same_code_is_no_other_code(tmp_path, monkeypatch, capsys):
    """As where documentation was edited, or where git was too slow to say."""
    (one,) = cells([*SWEEP[:2], *TINY, f"root={tmp_path}"], sweep=False)
    file = one.study / one.id / "run.json"
    monkeypatch.setattr(stages, "paths", no_picture)

    def attempt(git):
        monkeypatch.setattr(origin, "git_state", lambda: git)
        return cut_short(one)

    for git in ({"commit": "a"}, {"commit": "b"}, {}):
        record = attempt(git)
        assert record["bit_exact"]
    assert "changed" not in capsys.readouterr().err
    store.write_json(file, record | {"begun_with": record["begun_with"] | {"source": None}})
    assert not attempt({"commit": "b"})["bit_exact"], "where nothing tells but the commit"
    assert "vfcompare's own code has changed" in capsys.readouterr().err


def test_an_edited_module_of_ours_has_another_sum(tmp_path, monkeypatch):
    (tmp_path / "part.py").write_text("one = 1")
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    before = attempts.source.__wrapped__()
    assert attempts.source.__wrapped__() == before
    (tmp_path / "part.py").write_text("one = 2")
    assert attempts.source.__wrapped__() != before


def test_what_a_user_changes_in_code_of_their_own_is_said(tmp_path, monkeypatch, capsys):
    file = tmp_path / "mine_changing.py"
    monkeypatch.syspath_prepend(str(tmp_path))
    target = "agent.estimator.advantage.baseline._target_=mine_changing.nothing"
    begun = "def nothing(sample):\n    return 0.0 * sample.return_\n"
    file.write_text(begun)
    (one,) = cells([*SWEEP[:2], *TINY, target, f"root={tmp_path}/runs"], sweep=False)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "paths", no_picture)
        for text, same in ((begun, True), (begun, True), (f"{begun}# other\n", False)):
            file.write_text(text)
            record = cut_short(one)
            assert record["bit_exact"] == same
            assert record["own"].keys() == {"mine_changing"}
            assert (record["own"] == record["begun_with"]["own"]) == same
    assert execute([one]) == {one.id: "completed"}
    capsys.readouterr()
    for text, told in ((f"{begun}# other\n", 0), (begun, 1)):
        file.write_text(text)
        assert execute([one]) == {one.id: "skipped"}
        assert (
            capsys.readouterr().err.count("mine_changing has changed since it was trained") == told
        )
        plan.write(one.study, {"name": "scratch"}, [one.planned()])
        assert main(["resume", str(one.study)]) == 0
        said = capsys.readouterr().err
        assert said.count(f"{one.id}: mine_changing has changed since it was trained") == told
    assert "own" in record


def test_completed_runs_of_other_code_are_told_in_a_line(tmp_path, capsys):
    """As after an update of vfcompare: they are kept, and no commit that leaves the code alone is told."""
    for number, name in enumerate(("a", "b", "c")):
        record = {"source": attempts.source(), "git": {"commit": "another"}}
        if number:
            record |= {"source": "other", "versions": {"vfcompare": "0.0.1"}}
        run_folder.RunFolder(tmp_path / name).update(**record)
    attempts.tell_of_code_since(run_folder.RunFolder(tmp_path / name) for name in "abc")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("b and 1 more cell: vfcompare's own code, vfcompare (was 0.0.1, is ")
    assert line.endswith(
        "since they were trained; kept as they are, trained anew without their folders"
    )


def renamed(name, other):
    """A change of tables: one column is called differently."""
    return lambda table: {other if n == name else n: column for n, column in table.items()}


CHANGES = {
    "metrics, renamed": (renamed("entropy", "old"), "entropy is new, old is gone"),
    "evaluation, fewer": (
        lambda table: {n: x for n, x in table.items() if n != "return_split"},
        "return_split is new",
    ),
    "evaluation, more": (lambda table: table | {"old": table["seed"]}, "old is gone"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_run_whose_tables_have_other_columns_is_refused_before_anything_is_written(
    what, tmp_path, monkeypatch, capsys
):
    """As after an update of vfcompare that left the state of training what it is."""
    often = (*TINY[:2], "evaluations=2", TINY[3], "save_seconds=0", f"root={tmp_path}")
    (one,) = cells([*SWEEP[:2], *often], sweep=False)
    judge = execution.evaluate

    def killed(trainer, logs, point):
        if point == 2:
            raise KeyboardInterrupt
        judge(trainer, logs, point)

    with monkeypatch.context() as patch:
        patch.setattr(execution, "evaluate", killed)
        with pytest.raises(KeyboardInterrupt):
            execute([one])
    folder, (change, told) = one.study / one.id, CHANGES[what]
    file = folder / f"{what.partition(',')[0]}.parquet"
    whole = file.read_bytes()
    store.write_table(file, change(store.read_table(file)))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert sweep.train([one]) == {one.id: "refused"}
    assert f"its {file.name} was made by other code and does not fit: {told}; allowed: " in (
        capsys.readouterr().err
    )
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    file.write_bytes(whole)
    assert execute([one]) == {one.id: "completed"}


def test_rows_of_other_columns_are_not_added_to_a_table_and_cost_it_none():
    table = tables.Growing("seed")
    table.add({"seed": np.arange(2), "old": np.ones(2)})
    for other in ({"x": np.ones(2)}, {"old": np.ones(2), "x": np.ones(2)}):
        with pytest.raises(ValueError, match="x is new"):
            table.add({"seed": np.arange(2), **other})
    assert list(table.whole()) == ["seed", "old"]


@pytest.mark.parametrize("value", [None, 3, "text", ["text"]])
def test_a_record_of_anything_is_no_obstacle(tmp_path, value):
    run_folder.RunFolder(tmp_path / "cell").update(own=value, versions=value, source=value)
    attempts.tell_of_code_since([run_folder.RunFolder(tmp_path / "cell")])


def test_the_longer_it_takes_to_save_the_seldomer_it_is_done(tmp_path, monkeypatch):
    """Ten times as long as a checkpoint took none is saved: of evaluations of 0.75 s that is the 14th."""
    many = (*TINY[:2], "evaluations=20", TINY[3], "save_seconds=0.001", f"root={tmp_path}")
    (one,) = cells([*SWEEP[:2], *many], sweep=False)
    act, judge, saved, now = stages.save, execution.evaluate, [], 0.0

    class Watch:
        """Time that passes in evaluations and checkpoints alone."""

        def __init__(self):
            self.begun = now

        def __call__(self):
            return now - self.begun

    def evaluate(*args):
        nonlocal now
        now += 0.75
        return judge(*args)

    def slow(log, point, spent):
        nonlocal now
        saved.append(point)
        now += 1.0
        act(log, point, spent)

    monkeypatch.setattr(clock, "Stopwatch", Watch)
    monkeypatch.setattr(execution, "evaluate", evaluate)
    monkeypatch.setattr(stages, "save", slow)
    execute([one])
    assert saved == [1, 15, 20]


def test_a_table_in_pieces_is_put_together_in_the_order_of_seeds_and_updates():
    rng, whole = np.random.default_rng(0), tables.Growing("seed", "update")
    pieces = [
        {
            "seed": np.repeat(np.arange(3), 4),
            "update": np.tile(np.arange(begin, begin + 4), 3),
            "x": rng.standard_normal(12),
        }
        for begin in (0, 4, 8)
    ]
    stacked = tables.concatenate(pieces)
    rows = np.lexsort([stacked["update"], stacked["seed"]])
    expected = {name: column[rows] for name, column in stacked.items()}
    for piece in pieces:
        whole.add(piece)
    for _ in range(2):
        found = whole.whole()
        assert list(found) == list(expected)
        assert all((found[name] == expected[name]).all() for name in expected)
    assert len(pieces[0]) == 3, "who gave it still has it"
