"""The numbers of a report: what each is called, and which way is better.

`scoring` measures those of a run, `analysis.summaries` those of an agent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from vfcompare import statistics


@dataclass(frozen=True)
class Metric:
    """How one number of a run or of an agent is called, and which way is better.

    Attributes:
      label: in tables and above panels.
      axis: below axes.
      lower: whether lower is better.
      prose: in sentences.
      claim: title of the sentence that says who is better.
      verbs: what the better agents do, and the better agent does: `learn faster`, `learns faster`.
      neutral: the same where it may be something else: `are higher on average over training`.
    """

    label: str
    axis: str = ""
    lower: bool = False
    prose: str = ""
    claim: str = ""
    verbs: tuple[str, str] = ("", "")
    neutral: tuple[str, str] = ("", "")


METRICS: Mapping[str, Metric] = {
    "auc": Metric(
        "AUC",
        axis="area under curve",
        prose="area under the learning curve",
        claim="Sample efficiency",
        verbs=("learn faster", "learns faster"),
        neutral=("are higher on average over training", "is higher on average over training"),
    ),
    "final": Metric(
        "Final score",
        axis="final",
        prose="final score",
        claim="Final performance",
        verbs=("end higher", "ends higher"),
    ),
    "greedy": Metric("Final, greedy"),
    "drawdown": Metric(
        "Drawdown (upper tail)",
        axis="deepest drawdown\n(or mean of 5%)",
        lower=True,
        prose="upper-tail drawdown",
        claim="Stability",
        verbs=("fall less from their best", "falls less from its best"),
    ),
    "variation": Metric(
        "Within-run variation",
        axis="IQR of change\nper 1% of steps",
        lower=True,
        prose="within-run variation",
        claim="Steadiness",
        verbs=("vary less within a run", "varies less within a run"),
    ),
    "spread": Metric("Spread over seeds", axis="IQR over seeds", lower=True),
    "collapse": Metric("Collapse rate", axis="share of runs", lower=True),
    "failure": Metric("Failure rate", lower=True),
}

SCORES = ("auc", "final")
"""Those with the scale of returns: they are averaged over environments, and a margin is meant for them."""

COMPARED = (*SCORES, "drawdown", "variation")
"""Those on which agents are held against each other."""

LEADING = (*SCORES, "drawdown")
"""Those that can be a study's own."""

STABILITY = ("spread", "variation", "drawdown")
"""Those that say how steady an agent is, its collapses and failures apart."""


class Aggregate(NamedTuple):
    """One number for an agent on all environments: its label, and what makes it of scores."""

    label: str
    of: statistics.Statistic


AGGREGATES: Mapping[str, Aggregate] = {
    "iqm": Aggregate("IQM", statistics.iqm),
    "mean": Aggregate("Mean", statistics.mean),
    "median": Aggregate("Median", statistics.median),
    "optimality_gap": Aggregate("Optimality gap", statistics.optimality_gap),
}
