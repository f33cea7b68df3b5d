"""Which cells are trained together, and how many at once."""

import pytest

from vfcompare import fuse
from vfcompare.compose import cells

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
