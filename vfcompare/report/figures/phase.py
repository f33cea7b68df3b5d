"""Where one side of the question is ahead, over two settings of the problem."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vfcompare.report.analysis import Contrast, Results
from vfcompare.report.figures.drawing import Picture, canvas
from vfcompare.report.figures.looks import CRITIC, FAINT, INK, MUTED, OUTCOME, PAPER
from vfcompare.report.figures.names import shorten
from vfcompare.report.figures.sizes import inches, lower, paper, points
from vfcompare.report.planes import Plane, planes
from vfcompare.report.prose.sentences import failed_in, on_scale, opening, signed, slight, too_few
from vfcompare.report.table import MINUS, Table, Value, show

ROOM, ROOMY = 0.4, 0.7
"""Inches of a place that has room for two digits of a difference, and for three."""

COLORS = LinearSegmentedColormap.from_list("families", [OUTCOME[0], PAPER, CRITIC[0]])


def pictures(results: Results) -> Iterator[Picture]:
    """One figure for each environment of which two settings were varied."""
    for number, plane in enumerate(planes(results), 1):
        name, title = f"phase-{number}", _title(results, plane)
        rows: list[tuple[Value, ...]] = [
            (*at, c.interval, c.p_adjusted, c.pairs, c.verdict, plane.expected.get(at))
            for at, c in plane.effects.items()
        ]
        heads = (
            *plane.knobs,
            "difference",
            "adjusted p",
            "pairs",
            "verdict",
            "predicted variance ratio",
        )
        data = Table(name, title, heads, tuple(rows))
        caption = _caption(results, plane)
        yield Picture(name, title, caption, partial(_draw, plane, results.sides.better), data)


def _title(results: Results, plane: Plane) -> str:
    who = results.sides.title if results.sides.chosen else "Where agents with a critic are ahead"
    return f"{who} on {plane.env}"


def _caption(results: Results, plane: Plane) -> str:
    found = list(plane.effects.values())
    helps, costs = (
        [contrast for contrast in found if contrast.verdict == side] for side in ("first", "second")
    )
    few, less = (_slight(results, ahead) for ahead in (helps, costs))
    decided = len(helps) + len(costs)
    equal = sum(contrast.verdict == "equal" for contrast in found)
    points = len(plane.across) * len(plane.up)
    largest = max(plane.effects, key=lambda at: abs(plane.effects[at].interval.estimate))
    where = ", ".join(f"{knob}={v}" for knob, v in zip(plane.knobs, largest, strict=True))
    first, second = results.sides.names
    margin = any(on_scale(results, contrast) for contrast in found)
    equals = f"{equal} are equal in practice (≈: undecided, and within ±{results.study.margin:g}), "
    alike, raw = (equals, "") if margin else ("", ", in raw returns")
    missing = f" {points - len(found)} places have no result." if points > len(found) else ""
    told = too_few(results.family_by_task.values())
    chance = f" At any one place {told}." if told else ""
    return (
        f"Ahead at {len(helps)} of {len(found)} places is {first}{few}, at {len(costs)} {second}{less}; "
        f"{alike}{len(found) - decided - equal} open (hatched).{chance} "
        f"{opening(results, results.sides.minus)} in area under the curve{raw}; largest: "
        f"{signed(plane.effects[largest].interval.estimate)} at {where}.{missing}{_foreseen(results, plane)} "
        f"n: pairs of seeds. {failed_in(results)}"
    )


def _slight(results: Results, ahead: Sequence[Contrast]) -> str:
    """How many of the places at which a side is ahead are too little to matter, as the study has decided."""
    few = slight(results, ahead)
    return f" (of which {few} within ±{results.study.margin:g})" if few else ""


def _foreseen(results: Results, plane: Plane) -> str:
    """How what theory says of the variances at the start fits what was learned."""
    if not plane.expected:
        return ""
    first, second = results.sides.names
    ratios, told = plane.expected.values(), plane.told
    line = "Dashed: where" if min(ratios) < 1.0 < max(ratios) else "Nowhere on this plane"
    return (
        f" {line} theory (P3) makes the variances of the first gradients equal, any critic taken to be "
        f"perfect; {first} has {show(min(ratios))} to {show(max(ratios))} times the variance of {second}. "
        f"Of {len(told)} decided places {sum(told)} are as predicted: the side with the smaller variance is "
        "ahead there. How far ahead, theory does not say."
    )


def _draw(plane: Plane, better: tuple[str, str]) -> Figure:
    figure, grid = canvas(0.9 + lower(0.55) * len(plane.up))
    axes: Axes = grid[0, 0]
    heights, width = [shorten(text, 12) for text in plane.up], paper()
    room = (width - inches(heights) - 0.3) / len(plane.across) if width else math.inf
    reach = max(abs(c.interval.estimate) for c in plane.effects.values()) or 1.0
    for column, across in enumerate(plane.across):
        for line, up in enumerate(plane.up):
            _place(axes, column, line, plane.effects.get((across, up)), reach, room)
    bordered = _border(axes, plane)
    axes.set_xlim(-0.55, len(plane.across) - 0.45)
    axes.set_ylim(-0.55, len(plane.up) - 0.45)
    axes.set_xticks(range(len(plane.across)), [shorten(text, 12) for text in plane.across])
    axes.set_yticks(range(len(plane.up)), heights)
    axes.set_xlabel(plane.knobs[0] + "   (dashed: predicted border)" * bordered)
    axes.set_ylabel(plane.knobs[1])
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    blue, orange = (shorten(text, 24) for text in better)
    key = f"blue, +: {blue}      orange, −: {orange}"
    axes.set_title(key, loc="left", color=MUTED, fontweight="normal")
    return figure


def _border(axes: Axes, plane: Plane) -> bool:
    """Draw where the two sides are predicted to change places, if they do: logarithms are interpolated."""
    ratios = np.array(
        [[plane.expected.get((across, up), np.nan) for across in plane.across] for up in plane.up]
    )
    least, most = np.nanmin(ratios, initial=np.inf), np.nanmax(ratios, initial=0.0)
    drawn = min(ratios.shape) > 1 and bool(least < 1.0 < most)
    if drawn:
        look: dict[str, Any] = {"colors": [INK], "linestyles": "dashed", "linewidths": 1.6}
        axes.contour(np.log(ratios), levels=[0.0], zorder=2, **look)
    return drawn


def _place(
    axes: Axes, x: int, y: int, contrast: Contrast | None, reach: float, room: float
) -> None:
    if contrast is None:
        axes.text(x, y, "none", ha="center", va="center", color=MUTED, fontsize=points(7))
        return
    decided = contrast.better is not None
    estimate = contrast.interval.estimate
    face = (
        COLORS(0.5 + 0.4 * np.sign(estimate) * np.sqrt(abs(estimate) / reach))
        if decided
        else "none"
    )
    box = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fc=face, ec=FAINT, lw=0.5)
    equal = contrast.verdict == "equal"
    if not decided and not equal:
        box.set_hatch("////")
    axes.add_patch(box)
    ink = "#111111" if decided else INK
    weight = "bold" if decided else "normal"
    value = _value(estimate, equal, room)
    # What stands behind the words hides the border, never the words.
    behind = {"fc": face if decided else PAPER, "lw": 0, "pad": 1}
    write = partial(axes.text, ha="center", va="center", color=ink, bbox=behind)
    write(x, y + 0.08, value, weight=weight)
    if room >= ROOM:
        write(x, y - 0.28, f"n={contrast.pairs}", fontsize=points(6.5))


def _value(estimate: float, equal: bool, room: float) -> str:
    """A difference, in as many digits as there is room for; in the end its sign."""
    if room >= ROOMY:
        return f"{'≈ ' * equal}{signed(round(estimate, 3))}"
    if room >= ROOM:
        return f"{'≈' * equal}{estimate:+.2f}".replace("-", MINUS)
    return "≈" if equal else f"{estimate:+.2f}"[0].replace("-", MINUS)
