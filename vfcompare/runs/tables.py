"""Tables that grow while a cell is trained."""

import numpy as np

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
        """Add rows."""
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


def concatenate(tables: list[Table]) -> Table:
    """Stack tables of the same columns."""
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
