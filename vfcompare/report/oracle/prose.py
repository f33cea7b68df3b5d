"""Sentences: what theory claims and how it fared, and how the lab measures."""

from collections.abc import Sequence

import numpy as np

from vfcompare.report.figures.drawing import Picture
from vfcompare.report.oracle.findings import Findings
from vfcompare.report.oracle.predictions import (
    PREDICTIONS,
    Compared,
    Comparison,
    Prediction,
    chance,
    decided,
)
from vfcompare.report.oracle.tabular import percent
from vfcompare.report.prose.sentences import Sentence
from vfcompare.report.table import join, show_float, show_interval


def notes(compared: Compared) -> list[Sentence]:
    """What each prediction says, where it comes from and how it fared."""
    return [
        _fate(prediction, compared[prediction.name])
        for prediction in PREDICTIONS
        if prediction.name in compared
    ]


def _fate(prediction: Prediction, rows: Sequence[Comparison]) -> Sentence:
    agreed, of = _agreed(rows)
    left = len(rows) - of
    told = f"{agreed} of {of} agree" if of else "nothing is decided"
    if left:
        told += f", {left} have too few seeds"
    text = f"{prediction.sentence} Measured: {told}"
    known = [row for row in rows if not np.isnan(row.deviation)]
    if known:
        sizes = [abs(row.deviation) for row in known]
        worst = known[int(np.argmax(sizes))]
        text += (
            f"; off by {np.median(sizes):.1%} in the median, at most by {percent(worst.deviation)} "
            f"({worst.subject.name}: predicted {show_float(worst.predicted)}, measured "
            f"{show_interval(worst.measured)}, n = {worst.measured.n})"
        )
    tone = "claim" if of and agreed == of else "open"
    return Sentence(f"{text}. Source: {prediction.source}.", tone, prediction.name)


def _agreed(rows: Sequence[Comparison]) -> tuple[int, int]:
    """How many predictions agree, of those with an interval."""
    known = decided(rows)
    return sum(row.verdict == "agrees" for row in known), len(known)


def verdicts(compared: Compared, pictures: Sequence[Picture]) -> list[Sentence]:
    """One line for the top of the page: the predictions, or without any the caption of the first picture."""
    if not compared:
        return [Sentence(picture.caption, "plain", "Against the truth") for picture in pictures[:1]]
    rows = [row for each in compared.values() for row in each]
    agreed, of = _agreed(rows)
    text = f"{agreed} of {of} predicted numbers agree with the measured ones, by 95% intervals"
    if of:
        counts = {name: _agreed(mine) for name, mine in compared.items()}
        text += f" ({join(f'{name} {few} of {n}' for name, (few, n) in counts.items() if n)})"
    else:
        text = f"None of {len(rows)} predicted numbers can be judged, as seeds are too few for intervals"
    if 0 < of < len(rows):
        text += f"; {len(rows) - of} more have too few seeds"
    known = [abs(row.deviation) for row in rows if not np.isnan(row.deviation)]
    off = f"; the median deviation is {np.median(known):.1%}" if known else ""
    tone = "claim" if of and 4 * agreed >= 3 * of else "open"
    return [Sentence(f"{text}{off}. {chance(rows)}", tone, "Against the truth")]


def method(findings: Findings) -> list[tuple[str, str]]:
    """How the lab measures, for the appendix."""
    if not findings.subjects:
        return []
    text = (
        "At the last evaluation of each completed seed the policy is held still and batches are drawn "
        "from it; the agent's own estimator says its advantages, and these and the gradients they make "
        "are compared with exact dynamic programming. A batch is one sample. Ratios to the exact value "
        "of the start are ratios of means over seeds, resampled in pairs. Settings of the agent's own "
        "estimator do not part an agent from its reference."
    )
    return [("Against the truth", text)]
