"""Bias and variance of every estimator against the exact policy gradient, as one page: `docs/estimators.md`.

vfcompare -m +study=estimators hydra/launcher=joblib hydra.launcher.n_jobs=2
python -m benchmarks.estimators
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from vfcompare.report.oracle.findings import Findings, Subject, find, measure
from vfcompare.report.reading.data import load
from vfcompare.runs.store import write_bytes
from vfcompare.schema.untrusted import tree
from vfcompare.statistics import Interval

PAGE = Path(__file__).parents[1] / "docs" / "estimators.md"

ERRORS = 3.0
"""Standard errors that a measured number may be from a claimed one; by chance, `one_in` are not."""

UNBIASED, CENTRED, WHOLE_BATCH = "unbiased", "(G-1)/G", "(N-1)/N"
RESCALES, NOT_ITSELF, BOOTSTRAPS = "rescales", "biased", "biased by the critic"
ELSEWHERE = "another objective"

CLAIMS = {
    "reinforce": UNBIASED,
    "reinforce_mean": WHOLE_BATCH,
    "reinforce_running": UNBIASED,
    "rloo": UNBIASED,
    "grpo": RESCALES,
    "dr_grpo": CENTRED,
    "reinforce_pp": RESCALES,
    "reinforce_pp_baseline": RESCALES,
    "remax": UNBIASED,
    "opo": NOT_ITSELF,
    "otb": NOT_ITSELF,
    "token_reinforce": UNBIASED,
    "reinforce_bins": UNBIASED,
    "spo": RESCALES,
    "lite_ppo": RESCALES,
    "gpg": RESCALES,
    "maxrl": ELSEWHERE,
    "passk": ELSEWHERE,
    "vine": UNBIASED,
    "reinforce_v": UNBIASED,
    "a2c": BOOTSTRAPS,
    "ppo": BOOTSTRAPS,
    "vc_ppo": BOOTSTRAPS,
    "vapo": BOOTSTRAPS,
    "bpco": BOOTSTRAPS,
    "evpo": NOT_ITSELF,
    "asyppo": BOOTSTRAPS,
    "poise": UNBIASED,
    "ppo_hl_gauss": BOOTSTRAPS,
    "ppo_quantile": BOOTSTRAPS,
    "vtrace": BOOTSTRAPS,
    "oracle_v0": UNBIASED,
    "oracle_v": UNBIASED,
    "oracle_td": UNBIASED,
}
"""What is claimed of the expected gradient of each agent of the study."""


INTRODUCTION = """\
# Bias and variance of every estimator

Made by `vfcompare -m +study=estimators` and `python -m benchmarks.estimators`; {seeds} seeds. Each
estimator sees the same episodes of the same initial policies; critics first learn their values from
20,000 steps. `vine` is left out: its lab takes too long in a sweep (`agent=vine` adds it). Presets that
are not listed have the estimator of one that is (`ppo_whitened` and `ppo_cleanrl` whiten it) and differ
in surrogate, network or collector; `sft` and `dpo` estimate no gradient of the return, `mixed` lies
between `ppo` and `oracle_v`.

* **gradient**: of advantages summed over each episode, in the mean over episodes, before `aggregate`,
  clipping and entropy bonus.
* **scale**: how long the expected gradient is along the exact one; 1 is unbiased.
* **bias**: length of the expected less the exact gradient, relative to the exact one, less what chance
  explains (a negative number is less than chance).
* **variance** of one episode's gradient, relative to that with the exact V(s_0) as baseline (`oracle_v0`),
  seeds paired. Who rescales the gradient rescales this number too: compare episodes.
* **episodes** until a batch's gradient has cosine 0.9 with the exact one, median over seeds; *never* where
  bias forbids it.

Of {claims} claims that a gradient is unbiased, or short by a known factor, {held} came out within {errors}
standard errors of {seeds} seeds, in scale and in bias; by chance, one true number in {one_in} does not.
Claims: *rescales*, directions are kept for one prompt where returns are 0 or 1, but prompts are weighed by
their returns, or all of a batch by one number; *biased*, the sample is part of its own baseline, or of what
chooses it; *biased by the critic*, a wrong value of the next state enters; *another objective*, log p or
pass@k in place of the mean return."""


def one_in(seeds: int) -> float:
    """`1 / P(|t| > ERRORS)`, t with `seeds - 1` degrees of freedom: one true claim in so many is missed."""
    return float(0.5 / stats.t.sf(ERRORS, seeds - 1))


def scale(claim: str, item: Subject) -> float | None:
    """The multiple of the true gradient that a claim says is expected, None where it says nothing."""
    collector = tree(item.config, "agent.collector")
    group, batch = collector["group"], collector["group"] * collector["prompts"]
    return {
        UNBIASED: 1.0,
        CENTRED: (group - 1) / group,
        WHOLE_BATCH: (batch - 1) / batch,
    }.get(claim)


def mean(values: Sequence[float]) -> tuple[float, float]:
    """Mean and its standard error."""
    found = np.asarray(values, float)
    return float(found.mean()), float(found.std(ddof=1) / np.sqrt(len(found)))


def verdict(item: Subject) -> str:
    """Whether the measured bias is the claimed one.

    The squared bias of a gradient that is `c` times the true one is `(1 - c)²`; what was measured has had the
    part by chance subtracted, so that it is centred there.
    """
    claimed = scale(CLAIMS[item.agent], item)
    if claimed is None:
        return ""
    bias = np.array(list(item.values("gradient_bias").values()))
    square, error = mean(np.sign(bias) * np.square(bias))
    along, off = mean(list(item.values("gradient_scale").values()))
    right = (
        abs(square - (1 - claimed) ** 2) <= ERRORS * error and abs(along - claimed) <= ERRORS * off
    )
    return "as claimed" if right else "NOT as claimed"


def show(interval: Interval | None, digits: int = 2) -> str:
    """A number with its interval."""
    if interval is None or not np.isfinite(interval.estimate):
        return "never" if interval is not None else ""
    middle = f"{interval.estimate:.{digits}f}"
    if interval.low is None or interval.high is None:
        return middle
    return f"{middle} [{interval.low:.{digits}f}, {interval.high:.{digits}f}]"


def whole(interval: Interval | None) -> str:
    """A number of episodes, to two digits."""
    if interval is None:
        return ""
    if not np.isfinite(interval.estimate):
        return "never"
    return f"{float(f'{interval.estimate:.2g}'):,.0f}"


def table(findings: Findings, env: str) -> list[str]:
    """The rows of one environment."""
    rows = [
        "| agent | claim | scale along the true gradient | bias | variance | episodes to cosine 0.9 | |",
        "|---|---|---|---|---|---|---|",
    ]
    for item in findings.subjects:
        if item.env == env:
            found = (
                f"`{item.agent}`",
                CLAIMS[item.agent],
                show(measure(item, "gradient_scale")),
                show(measure(item, "gradient_bias")),
                show(findings.relative(item)),
                whole(measure(item, "episodes_to_cosine")),
                verdict(item),
            )
            rows.append(f"| {' | '.join(found)} |")
    return rows


def page(findings: Findings) -> str:
    """The page, as Markdown."""
    environments = list(dict.fromkeys(item.env for item in findings.subjects))
    checked = [word for item in findings.subjects if (word := verdict(item))]
    seeds = max(len(item.lab) for item in findings.subjects)
    lines = [
        INTRODUCTION.format(
            seeds=seeds,
            claims=len(checked),
            held=checked.count("as claimed"),
            errors=f"{ERRORS:.0f}",
            one_in=f"{one_in(seeds):.0f}",
        )
    ]
    for env in environments:
        lines += ["", f"## {env}", "", *table(findings, env)]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Read the study, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study", type=Path, nargs="?", default=Path("runs/estimators"))
    study = parser.parse_args().study
    write_bytes(PAGE, page(find(load(study))).encode())
    print(PAGE)


if __name__ == "__main__":
    main()
