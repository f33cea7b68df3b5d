"""Tables that grow while a cell is trained."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from vfcompare.runs.disk import patiently
from vfcompare.runs.store import Table


class Growing:
    """A table in pieces, each in the order of the seeds, put together when it is asked for as a whole."""

    def __init__(self, *by: str) -> None:
        """Begin with no rows.

        Args:
          by: columns that say in which order rows stand, the seed first.
        """
        self._by, self._pieces = by, list[Table]()

    def __bool__(self) -> bool:
        """Whether it has any rows."""
        return bool(self._pieces)

    def add(self, table: Table) -> None:
        """Add rows.

        Raises:
          ValueError: if their columns are not those of the rows before; nothing is added then.
        """
        if self._pieces and (other := misfit(self._pieces[0], table)):
            raise ValueError(f"rows of other columns: {other}")
        self._pieces.append(dict(table))

    def whole(self) -> Table:
        """All rows in their order."""
        if len(self._pieces) > 1:
            pieces = self._pieces
            keys = [np.concatenate([piece[name] for piece in pieces]) for name in self._by]
            rows = np.lexsort(keys[::-1])
            # Column by column: a long run's tables are large, and only one column is there twice.
            self._pieces = [
                {name: np.concatenate([p.pop(name) for p in pieces])[rows] for name in [*pieces[0]]}
            ]
        return self._pieces[0]

    def latest(self, seeds: np.ndarray) -> Table:
        """The last row of every seed."""
        found, left = [], seeds
        for table in reversed(self._pieces):
            ends = np.searchsorted(table["seed"], left, side="right") - 1
            there = (ends >= 0) & (table["seed"][ends] == left)
            found.append({name: column[ends[there]] for name, column in table.items()})
            left = left[~there]
            if not len(left):
                break
        return concatenate(found)


def misfit(before: Iterable[str], now: Iterable[str]) -> str:
    """Which columns rows have that those before have not, and the other way round, in words; or nothing."""
    was, is_ = set(before), set(now)
    return ", ".join(f"{name} is {'new' if name in is_ else 'gone'}" for name in sorted(was ^ is_))


def columns(file: Path) -> list[str]:
    """Names of the columns of a table on disk."""
    names: list[str] = patiently(lambda: pq.read_schema(file).names)
    return names


def concatenate(tables: list[Table]) -> Table:
    """Stack tables of the same columns."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
