"""Where one side of the question is ahead, over two settings of the problem."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vfcompare.report.analysis import Contrast, Results
from vfcompare.report.figures.drawing import (
    CRITIC,
    FAINT,
    INK,
    MUTED,
    OUTCOME,
    PAPER,
    Picture,
    canvas,
    shorten,
)
from vfcompare.report.sentences import failed_in, opening, signed
from vfcompare.report.table import Table, Value

COLORS = LinearSegmentedColormap.from_list("families", [OUTCOME[0], PAPER, CRITIC[0]])


@dataclass(frozen=True)
class Plane:
    """One environment over two of its settings.

    Attributes:
      env: its name.
      knobs: names of the two settings, across and up.
      across: values of the first, in order.
      up: values of the second.
      effects: the first side minus the second by (across, up), where there is one.
    """

    env: str
    knobs: tuple[str, str]
    across: tuple[str, ...]
    up: tuple[str, ...]
    effects: Mapping[tuple[str, str], Contrast]


def pictures(results: Results) -> Iterator[Picture]:
    """One figure for each environment of which two settings were varied."""
    for number, plane in enumerate(_planes(results), 1):
        name, title = f"phase-{number}", _title(results, plane)
        rows: list[tuple[Value, ...]] = [
            (across, up, c.interval, c.p_adjusted, c.pairs, c.verdict)
            for (across, up), c in plane.effects.items()
        ]
        heads = (*plane.knobs, "difference", "adjusted p", "pairs", "verdict")
        data = Table(name, title, heads, tuple(rows))
        caption = _caption(results, plane)
        yield Picture(name, title, caption, partial(_draw, plane, results.sides.better), data)


def _title(results: Results, plane: Plane) -> str:
    who = results.sides.title if results.sides.chosen else "Where a critic helps"
    return f"{who} on {plane.env}"


def _planes(results: Results) -> Iterator[Plane]:
    cells = [cell for cell in results.study.cells if cell.planned]
    for env in dict.fromkeys(cell.env for cell in cells):
        mine = [cell for cell in cells if cell.env == env]
        tried: dict[str, dict[str, None]] = {}
        for cell in mine:
            for key, value in cell.posed.items():
                tried.setdefault(key, {})[value] = None
        varied = {key: values for key, values in tried.items() if len(values) > 1}
        if len(varied) != 2:
            continue
        first, second = varied
        effects = {
            (cell.posed[first], cell.posed[second]): results.family_by_task[cell.task]
            for cell in mine
            if varied.keys() <= cell.posed.keys() and cell.task in results.family_by_task
        }
        if effects:
            across, up = (tuple(sorted(varied[key], key=_order)) for key in (first, second))
            yield Plane(env, (first, second), across, up, effects)


def _order(text: str) -> tuple[bool, float, str]:
    try:
        return False, float(text), text
    except ValueError:
        return True, 0.0, text


def _caption(results: Results, plane: Plane) -> str:
    found = list(plane.effects.values())
    helps = sum(contrast.verdict == "first" for contrast in found)
    costs = sum(contrast.verdict == "second" for contrast in found)
    equal = sum(contrast.verdict == "equal" for contrast in found)
    points = len(plane.across) * len(plane.up)
    largest = max(plane.effects, key=lambda at: plane.effects[at].interval.estimate)
    where = ", ".join(f"{knob}={v}" for knob, v in zip(plane.knobs, largest, strict=True))
    first, second = results.sides.names
    missing = f" {points - len(found)} places have no result." if points > len(found) else ""
    return (
        f"{opening(results, results.sides.minus)} in area under the curve. Ahead at {helps} of {len(found)} "
        f"places is {first}, at {costs} {second}; {equal} are equal in practice (≈), "
        f"{len(found) - helps - costs - equal} open (hatched). Largest: "
        f"{signed(plane.effects[largest].interval.estimate)} at {where}.{missing} Small: pairs of seeds. "
        f"{failed_in(results)}"
    )


def _draw(plane: Plane, better: tuple[str, str]) -> Figure:
    figure, grid = canvas(0.9 + 0.55 * len(plane.up))
    axes: Axes = grid[0, 0]
    reach = max(abs(c.interval.estimate) for c in plane.effects.values()) or 1.0
    for column, across in enumerate(plane.across):
        for line, up in enumerate(plane.up):
            _place(axes, column, line, plane.effects.get((across, up)), reach)
    axes.set_xlim(-0.55, len(plane.across) - 0.45)
    axes.set_ylim(-0.55, len(plane.up) - 0.45)
    axes.set_xticks(range(len(plane.across)), [shorten(text, 12) for text in plane.across])
    axes.set_yticks(range(len(plane.up)), [shorten(text, 12) for text in plane.up])
    axes.set_xlabel(plane.knobs[0])
    axes.set_ylabel(plane.knobs[1])
    axes.tick_params(length=0, labelcolor=INK)
    axes.spines[:].set_visible(False)
    blue, orange = (shorten(text, 24) for text in better)
    axes.set_title(f"orange, −: {orange}", loc="left", color=MUTED, fontweight="normal")
    axes.set_title(f"blue, +: {blue}", loc="right", color=MUTED, fontweight="normal")
    return figure


def _place(axes: Axes, x: int, y: int, contrast: Contrast | None, reach: float) -> None:
    if contrast is None:
        axes.text(x, y, "none", ha="center", va="center", color=MUTED, fontsize=7)
        return
    decided = contrast.better is not None
    face = COLORS(0.5 + 0.4 * contrast.interval.estimate / reach) if decided else "none"
    box = Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fc=face, ec=FAINT, lw=0.5)
    equal = contrast.verdict == "equal"
    if not decided and not equal:
        box.set_hatch("////")
    axes.add_patch(box)
    ink = "#111111" if decided else INK
    weight = "bold" if decided else "normal"
    value = f"{'≈ ' * equal}{signed(contrast.interval.estimate)}"
    axes.text(x, y + 0.08, value, ha="center", va="center", color=ink, weight=weight)
    axes.text(x, y - 0.28, f"{contrast.pairs}", ha="center", va="center", color=ink, fontsize=6.5)
