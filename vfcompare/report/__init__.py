"""From the files of studies to a page: what was run, what failed, and what follows from it.

Nothing found on disk is executed: JSON, YAML (safe, bounded) and Parquet are read as data, and
names are only ever printed.

Rooms, each importing only from those before it: `files`, `table`, `metrics` and `venues`, `formats`,
`cells`, `labels`, `chains`, `seeds` and `runs`, `data`, `anonymous` and `renaming`, `fates`,
`ranges`, `scoring`, `analysis`, `planes`, `sentences`, `tables`, `method`, `fairness`, `learning`, `budgets`,
`credit` and `limits`, `claims`, `verdicts`, `figures`, `oracle`, `document`, `page`, `export`, `writing`.
"""

from vfcompare.report.data import load
from vfcompare.report.writing import write, write_export, write_figure

__all__ = ["load", "write", "write_export", "write_figure"]
