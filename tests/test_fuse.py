"""Which cells are trained together, and how many at once."""

import pytest

from vfcompare import fuse, store
from vfcompare.compose import cells
from vfcompare.envs.maze import Maze
from vfcompare.execute import execute

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
    execute(group.cells, "", group.traced)
    found = [store.RunFolder(cell.study / cell.id).record["reference"] for cell in group.cells]
    assert found == [Maze(size=5, slip=slip).reference._asdict() for slip in (0.0, 0.5)]
