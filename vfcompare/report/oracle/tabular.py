"""Tables: predicted against measured, and what was measured."""

from collections.abc import Mapping, Sequence

import numpy as np

from vfcompare.report.oracle.findings import Findings, kind, measure
from vfcompare.report.oracle.predictions import PREDICTIONS, Compared, chance, decided
from vfcompare.report.table import MINUS, Table, Value, show
from vfcompare.statistics import Interval

GRADIENT = {
    "gradient_bias": "bias",
    "gradient_variance": "variance",
    "gradient_snr": "signal to noise",
    "gradient_cosine": "cosine",
    "episodes_to_cosine": "episodes to cosine 0.9",
}
ADVANTAGE = {
    "advantage_bias": "bias",
    "advantage_variance": "variance",
    "signal_share": "groups with signal",
    "score_return_correlation": "corr(score², R)",
    "lab_return": "return",
}
VALUES = {
    "value_rmse": "RMSE",
    "value_explained": "explained",
    "value_bias": "bias",
    "value_slope": "slope",
    "rank_accuracy": "rank accuracy",
}


def tables(findings: Findings, compared: Compared) -> dict[str, Table]:
    """Predicted against measured, and the three tables of what was measured."""
    built = [
        _predicted(compared),
        _measured(
            findings,
            "oracle-gradient",
            "The gradient",
            GRADIENT,
            "Bias: |mean gradient - true gradient| relative to the true one, less what chance "
            "explains (negative: less than that). Variance: of one episode, summed over parameters. "
            "Signal to noise: squared true gradient over variance. Cosine: of one update's gradient with "
            "the true one. Episodes to cosine 0.9: median over seeds; never, where bias forbids it.",
        ),
        _measured(
            findings,
            "oracle-advantage",
            "The advantages",
            ADVANTAGE,
            "Bias and variance given time, place and action, weighed by visits, in units of the "
            "return. Correlation: of an episode's squared score |∇ log π|² with its return.",
        ),
        _measured(
            findings,
            "oracle-values",
            "The values",
            VALUES,
            "Explained: share of the variance of the exact values. Slope: of the truth on the "
            "values, below 1 they exaggerate. Rank accuracy: share of pairs of actions that the "
            "critic's lookahead orders as the truth does; a half is chance. Seeds of which there is nothing "
            "to tell, as exact values are all equal or no pair differs, are left out, and so are agents with "
            "exact values.",
        ),
    ]
    return {table.id: table for table in built if table.rows}


def _measured(
    findings: Findings, name: str, title: str, metrics: Mapping[str, str], note: str
) -> Table:
    rows = []
    for item in findings.subjects:
        if metrics is VALUES and kind(item) in {"start", "state", "td"}:
            # exact values have no error to show
            continue
        found = [measure(item, metric) for metric in metrics]
        if any(interval is not None for interval in found):
            sizes = [interval.n for interval in found if interval is not None]
            rows.append((item.setting, item.agent, _seeds(sizes), *found))
    heads = ("setting", "agent", "n", *metrics.values())
    known = [value for row in rows for value in row[3:] if isinstance(value, Interval)]
    means = "Means over seeds" + " with 95% bootstrap intervals" * any(x.sufficient for x in known)
    return Table(name, title, heads, tuple(rows), f"{means}. {note}")


def _seeds(sizes: Sequence[int]) -> Value:
    """How many seeds a row is made of; not every number is defined for each."""
    least, most = min(sizes), max(sizes)
    return most if least == most else f"{least} to {most}"


def _predicted(compared: Compared) -> Table:
    rows: list[tuple[Value, ...]] = []
    marks: dict[int, str] = {}
    for prediction in PREDICTIONS:
        for item in compared.get(prediction.name, ()):
            marks[len(rows)] = "bad" if item.verdict == "disagrees" else ""
            rows.append(
                (
                    prediction.name,
                    prediction.quantity,
                    item.subject.setting,
                    item.subject.agent,
                    item.predicted,
                    item.measured,
                    item.measured.n,
                    percent(item.deviation),
                    item.verdict,
                )
            )
    heads = ("", "quantity", "setting", "agent", "predicted", "measured", "n", "off by", "verdict")
    each = [row for mine in compared.values() for row in mine]
    agrees = (
        "Agrees: the prediction lies within the 95% interval over seeds. " if decided(each) else ""
    )
    if decided(compared.get("P1", ())):
        agrees += "P1's interval is Wilson's over groups. "
    if any(row.difference is not None for row in decided(each)):
        agrees += (
            "P4 predicts from measurements: zero lies within that of measured less predicted. "
        )
    note = (
        f"{agrees}{chance(each)} "
        "Variance ratio: to the exact value of the start as baseline, seeds paired."
    )
    return Table(
        "oracle-predictions", "Predicted against measured", heads, tuple(rows), note, marks
    )


def percent(value: float) -> str:
    """A deviation, with its sign."""
    return show(None) if np.isnan(value) else f"{value:+.1%}".replace("-", MINUS)
