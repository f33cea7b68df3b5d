"""Against the truth: what the oracle lab measured, as tables and figures, and what theory had predicted.

Rooms, each importing only from those before it: `findings`, `predictions`, `tabular`, `points`, `crowd`,
`charts`, `prose`.
"""

from vfcompare.report.oracle.charts import pictures
from vfcompare.report.oracle.findings import Findings, Subject, find, kind
from vfcompare.report.oracle.predictions import chain, compare
from vfcompare.report.oracle.prose import method, notes, verdicts
from vfcompare.report.oracle.tabular import tables

__all__ = [
    "Findings",
    "Subject",
    "chain",
    "compare",
    "find",
    "kind",
    "method",
    "notes",
    "pictures",
    "tables",
    "verdicts",
]
