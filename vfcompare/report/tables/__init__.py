"""The tables of the report. Rows of arms that are drawn come first; the files have all."""

from vfcompare.report.analysis import Results
from vfcompare.report.table import Table
from vfcompare.report.tables import conduct, contrasts, scores

__all__ = ["build", "conduct", "contrasts", "scores"]


def build(results: Results) -> dict[str, Table]:
    """All tables, by id, in the order of the page."""
    tables = [
        conduct.attrition(results),
        conduct.reasons(results),
        conduct.provenance(results),
        conduct.tasks(results),
        *conduct.matching(results),
        scores.scores(results),
        scores.settings(results),
        conduct.tuned(results),
        scores.aggregates(results),
        scores.speed(results),
        contrasts.family(results),
        contrasts.pairs(results),
        contrasts.pairs_by_task(results),
        contrasts.improvement(results),
        scores.stability(results),
        scores.diagnostics(results),
    ]
    return {table.id: table for table in tables if table.rows}
