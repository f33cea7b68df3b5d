"""From the files of a study to a page: what was run, what failed, and what follows from it.

Nothing found on disk is executed: JSON, YAML (safe, bounded) and Parquet are read as data, and
names are only ever printed.
"""

from vfcompare.report.data import load
from vfcompare.report.page import write

__all__ = ["load", "write"]
