"""Which cells are trained together, and how many at once."""

import jax
import pytest

from vfcompare.commands.compose import cells
from vfcompare.envs.maze import Maze
from vfcompare.runs import run_folder, store
from vfcompare.training import fuse, log
from vfcompare.training.cell import at
from vfcompare.training.execute import execute, together
from vfcompare.training.log import start_hashes
from vfcompare.training.train import depends

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
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    whole = fuse.free_memory()
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "64")
    assert fuse.free_memory() == 64 * 2**20 < whole


def test_numbers_that_cannot_be_traced_split_a_group_and_the_others_do_not():
    found = cells([*SWEEP[:2], "agent.entropy_coef=0.0,0.1", "env.length=4,8"], sweep=True)
    groups = fuse.groups(found, 512)
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

    monkeypatch.setattr(log, "start_hashes", counted)
    execute(group.cells, group.traced)
    assert len(hashed) == 2 * 2

    def certificate(cell):
        return store.read_json(cell.study / cell.id / "certificate.json")

    starts = {cell.id: certificate(cell)["seeds"] for cell in group.cells}
    assert len({store.digest(seeds) for seeds in starts.values()}) == 2
    for cell in group.cells[0], group.cells[-1]:
        alone = cell._replace(config=cell.config | {"root": f"{tmp_path}/alone"})
        execute([alone])
        assert certificate(alone)["seeds"] == starts[cell.id]


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
    for group in fuse.groups(found, 512):
        norms = [at(cell.config, "agent.optimizer.max_grad_norm") for cell in group.cells]
        assert (None in norms) == (norms == [None])
        assert len(norms) == 1 or "agent.optimizer.max_grad_norm" in group.traced


def held(point, traced, lanes=1):
    """A checkpoint."""
    return run_folder.Checkpoint(point, b"", {log.TRACED: traced, log.LANES: lanes}, {})


def test_cells_go_on_with_the_numbers_traced_that_were_traced_before():
    sweep = cells([*SWEEP[:2], "agent.gamma=0.8,0.9,0.95,0.99,1.0", "seeds=1"], sweep=True)
    known = [None, held(2, ["agent.gamma"]), held(2, ["agent.gamma"]), held(2, []), held(2, [])]
    begun = dict(zip((cell.id for cell in sweep), known, strict=True))
    found = [
        ([sweep.index(cell) for cell in members], numbers)
        for members, numbers in together(sweep, begun, ["agent.gamma"])
    ]
    assert found == [([0], ["agent.gamma"]), ([1, 2], ["agent.gamma"]), ([3], []), ([4], [])]


def test_a_cell_that_fails_at_the_end_leaves_those_before_it_completed(tmp_path, monkeypatch):
    small = ("seeds=1", "env_steps=200", "evaluations=1", "agent.evaluation_episodes=2")
    (group,) = fuse.groups(cells([*SWEEP[:3], *small, f"root={tmp_path}"], sweep=True), 512)
    begun = []

    def paths(self):
        begun.append(self)
        if len(begun) == 2:
            raise RuntimeError("no picture")

    monkeypatch.setattr(log.Log, "paths", paths)
    with pytest.raises(RuntimeError, match="no picture"):
        execute(group.cells, group.traced)
    folders = [run_folder.RunFolder(cell.study / cell.id) for cell in group.cells]
    assert [folder.record["status"] for folder in folders] == ["completed", "crashed", "crashed"]
    assert [(folder.path / "traceback.txt").exists() for folder in folders] == [False, True, True]
