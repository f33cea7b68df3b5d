"""What the pictures of the lab share: points, their panels, logarithmic axes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from vfcompare.report.figures.drawing import canvas, panels, steps
from vfcompare.report.figures.looks import INK, Look
from vfcompare.report.figures.sizes import beside, lower, stacked
from vfcompare.report.oracle.findings import Findings, Subject
from vfcompare.report.table import by_size
from vfcompare.statistics import Interval

MAX_PANELS = 9
PANEL_COLUMNS = 3
LEAST = 1.5
"""Inches of a panel in a paper."""


@dataclass(frozen=True)
class Point:
    """A number to be drawn, and the predicted one where there is one."""

    subject: Subject
    interval: Interval
    predicted: float | None = None


def swept(findings: Findings) -> str | None:
    """The setting with most values, which becomes the horizontal axis; the last one among equals."""
    values: dict[str, set[str]] = {}
    for item in findings.subjects:
        for key, value in item.settings.items():
            values.setdefault(key, set()).add(value)
    return max(reversed(values), key=lambda key: len(values[key])) if values else None


def ordered(values: Iterable[str]) -> list[str]:
    """Numbers by size, then words as they came."""
    return sorted(dict.fromkeys(values), key=by_size)


def by_panel(points: Sequence[Point], axis: str | None) -> dict[str, list[Point]]:
    """Points by what is the same along the axis; the environment is named where there are several."""
    several = len({point.subject.env for point in points}) > 1
    groups: dict[str, list[Point]] = {}
    for point in points:
        rest = [f"{k}={v}" for k, v in point.subject.settings.items() if k != axis]
        env = [point.subject.env] if several or not rest else []
        groups.setdefault(" ".join(env + [", ".join(rest)] * bool(rest)), []).append(point)
    return groups


def drawn(groups: dict[str, list[Point]], most: int = MAX_PANELS) -> dict[str, list[Point]]:
    """The panels that are drawn."""
    return dict(list(groups.items())[:most])


def left_out(count: int, most: int) -> str:
    """Says that not all panels are drawn."""
    return f" The first {most} of {count} panels are drawn." if count > most else ""


def most_panels(count: int, height: float) -> int:
    """How many panels of a height `panel_grid` has."""
    return min(MAX_PANELS, beside(count, PANEL_COLUMNS, LEAST) * stacked(lower(height)))


def panel_grid(count: int, height: float, **options: Any) -> tuple[Figure, list[Axes], int]:
    """A figure of so many panels, and how many of them stand beside each other."""
    columns = beside(count, PANEL_COLUMNS, LEAST)
    lines = -(-count // columns)
    broad = 1.0 if columns < PANEL_COLUMNS else 1.25
    figure, grid = canvas(0.5 + lower(height) * lines, lines, columns, broad=broad, **options)
    return figure, panels(grid, count), columns


def log_ticks(panels: Sequence[Axes], which: str) -> None:
    """Plain numbers on logarithmic axes that are drawn: 1, 2, 5 over decades, even steps within one."""
    for axes in panels:
        axis = axes.xaxis if which == "x" else axes.yaxis
        low, high = sorted(axis.get_view_interval())
        wide = low <= 0 or high > 8 * low
        axis.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0) if high < 300 * low else (1.0,), numticks=7)
            if wide
            else MaxNLocator(5)
        )
        axis.set_major_formatter(FuncFormatter(plain))
        axis.set_minor_formatter(NullFormatter())
        if not wide:
            axis.set_minor_locator(NullLocator())


def plain(value: float, position: object) -> str:
    """A tick of a logarithmic axis, from a thousand on in thousands."""
    return steps(value, position) if value >= 1000 else f"{value:g}"


def unit(panels: Sequence[Axes], *, vertical: bool) -> None:
    """A line where the ratio is one."""
    for axes in panels:
        line = axes.axvline if vertical else axes.axhline
        line(1.0, color=INK, lw=0.7, zorder=1)


def ceiling(points: Sequence[Point]) -> float:
    """Where what is infinite is drawn: above everything that is not."""
    ends = [x for p in points for x in (p.interval.estimate, p.interval.high or 0.0)]
    return 2.0 * max([x for x in ends if np.isfinite(x)], default=1.0)


def capped(interval: Interval, top: float) -> Interval:
    """An interval with what is infinite at the top."""
    low, high = (None if end is None else min(end, top) for end in (interval.low, interval.high))
    return interval._replace(estimate=min(interval.estimate, top), low=low, high=high)


def hollow(axes: Axes, x: float, y: float, look: Look) -> None:
    """The predicted number."""
    shape: dict[str, Any] = {"mfc": "none", "mec": look.color, "mew": 1.0}
    axes.plot([x], [y], marker=look.marker, ms=9.0, ls="none", zorder=5, clip_on=False, **shape)
