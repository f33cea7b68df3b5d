"""What share of runs is above each score."""

from collections.abc import Iterator, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from vfcompare.report.analysis import Results
from vfcompare.report.figures.drawing import Picture, canvas, legend
from vfcompare.report.figures.looks import looks
from vfcompare.report.figures.names import called, explained_rows
from vfcompare.report.figures.sizes import lower
from vfcompare.report.prose.sentences import capital, extents, failed_in, seeds
from vfcompare.report.reading.files import Array
from vfcompare.report.table import Table, join


def pictures(results: Results) -> Iterator[Picture]:
    """Performance profiles of the arms that have a colour."""
    if not results.profile:
        return
    rows = tuple(
        (
            name,
            float(tau),
            float(curve[0][i]),
            *(None if end is None else float(end[i]) for end in curve[1:]),
        )
        for name, curve in results.profile.items()
        for i, tau in enumerate(results.profile_thresholds)
    )
    yield Picture(
        "profile",
        "Performance profiles",
        _caption(results),
        lambda: _draw(results),
        Table("profile", "Performance profiles", ("agent", "level", "share", "low", "high"), rows),
    )


def _caption(results: Results) -> str:
    """What share of runs is above the level at which agents are furthest apart."""
    taus = results.profile_thresholds
    known = {results.called(name): curve[0] for name, curve in results.profile.items()}
    left = len(results.arms) - len(results.shown.lines)
    unseen = f"The leading agents of each family; {left} other arms are left out. " if left else ""
    bands = extents(
        "bands", "pointwise 95% Wilson intervals", (x[1] for x in results.profile.values())
    )
    arms = [arm for arm in results.shown.lines if arm.name in results.profile]
    return (
        f"Share of runs whose final score is above each level{_apart(known, taus)}. {capital(bands)}. "
        f"{seeds(results, arms, results.pool)} seeds per environment. {unseen}{explained_rows(results)}"
        f"{failed_in(results, *results.pool)}"
    )


def _apart(known: Mapping[str, Array], taus: Array) -> str:
    gaps = np.ptp(list(known.values()), axis=0)
    at = int(gaps.argmax())
    if not gaps[at]:
        return "; all profiles are the same" if len(known) > 1 else ""
    order = sorted(known, key=lambda name: -known[name][at])
    shares = join(f"{name} {known[name][at]:.0%}" for name in order)
    return f"; where they are furthest apart, above {taus[at]:.2g}: {shares}"


def _draw(results: Results) -> Figure:
    figure, grid = canvas(lower(2.9))
    axes: Axes = grid[0, 0]
    names = called(results, results.profile)
    appearance, taus = looks(results.shown.lines), results.profile_thresholds
    for name, (share, low, high) in results.profile.items():
        look = appearance[name]
        if low is not None and high is not None:
            axes.fill_between(taus, low, high, color=look.color, alpha=0.14, lw=0)
        axes.plot(taus, share, color=look.color, ls=look.line, label=names[name])
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_xlabel("final score, normalised (0 random, 1 optimal)")
    axes.set_ylabel("share of runs above")
    # all profiles end together, so that names at the ends would not tell them apart
    legend(figure, *axes.get_legend_handles_labels())
    return figure
