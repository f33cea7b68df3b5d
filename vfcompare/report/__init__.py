"""From the files of studies to a page: what was run, what failed, and what follows from it.

Nothing found on disk is executed: JSON, YAML (safe, bounded) and Parquet are read as data, and
names are only ever printed.

Rooms, each importing only from those before it: `table`, `metrics`, `reading`, `chains`, `fates`, `ranges`,
`scoring`, `analysis`, `planes`, `prose`, `tables`, `figures`, `oracle`, `pages`.
"""

from vfcompare.report.pages.writing import write, write_export, write_figure
from vfcompare.report.reading.data import load

__all__ = ["load", "write", "write_export", "write_figure"]
