"""Rows of paired differences, as `families` and `pairs` draw them."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vfcompare.report.analysis import Contrast, Results
from vfcompare.report.figures.drawing import (
    CROWDED,
    canvas,
    dots,
    mark,
    right_texts,
    row_height,
    rows_axis,
)
from vfcompare.report.figures.looks import CRITIC, INK, MUTED, OUTCOME, Look, appearance
from vfcompare.report.figures.names import explained, letters, shortened, uncut
from vfcompare.report.figures.sizes import inches, lower, narrow
from vfcompare.report.prose.sentences import verdict_word
from vfcompare.report.reading.files import Array
from vfcompare.report.scoring import Task
from vfcompare.report.table import MINUS, Table, Value, show_float

LONG = 1.25
"""Inches of names that are too long for one line, in one column of a paper."""
ONE = 28
"""Letters of each name of a pair that are below each other, where there is room for words behind rows."""


def data(name: str, contrasts: Mapping[str, Contrast]) -> Table:
    """Every difference of every seed."""
    rows: list[tuple[Value, ...]] = []
    for label, c in contrasts.items():
        rows.append((label, "", "", c.interval, c.p_adjusted, c.verdict))
        for task, by_seed in c.values.items():
            rows += [(label, task, seed, value, None, "") for seed, value in by_seed.items()]
    heads = ("contrast", "environment", "seed", "difference", "adjusted p", "verdict")
    return Table(name, "Paired differences", heads, tuple(rows))


def draw(results: Results, contrasts: Mapping[str, Contrast], sides: tuple[str, str]) -> Figure:
    """One row a contrast: its seeds as dots, its interval, and the number in words."""
    names = list(contrasts)
    figure, grid = canvas(0.85 + height(names))
    axes: Axes = grid[0, 0]
    rows(results, axes, contrasts, names, seeds=True)
    right_texts(axes, [_text(c) for c in contrasts.values()])
    low, high = axes.get_xlim()
    reach = 0.3 * max(abs(low), abs(high))
    axes.set_xlim(min(low, -reach), max(high, reach))
    scale = "normalised" if results.pool and results.task(results.pool[0]).normalised else "return"
    axes.set_xlabel(f"difference in area under the curve ({scale})")
    axes.set_title(f"◂ {sides[0]}", loc="left", color=MUTED, fontweight="normal")
    axes.set_title(f"{sides[1]} ▸", loc="right", color=MUTED, fontweight="normal")
    return figure


def height(names: Sequence[str]) -> float:
    """Inches of rows of these names."""
    two = any("\n" in text for text in labels(names))
    return len(names) * (lower(0.38) if two else 1.15 * row_height(len(names)))


def rows(
    results: Results,
    axes: Axes,
    contrasts: Mapping[str, Contrast],
    names: Sequence[str],
    *,
    seeds: bool,
) -> None:
    """Intervals in the colour of the better side, on the rows of their names.

    Args:
      results: whose contrasts they are.
      axes: of one panel.
      contrasts: by name.
      names: of all rows, also of those that have no contrast here.
      seeds: whether each is a dot.
    """
    known = appearance(results)
    for name, contrast in contrasts.items():
        y, color = names.index(name), winner(results, contrast, known)
        if seeds:
            dots(axes, y, _by_seed(contrast), color)
        mark(axes, y, contrast.interval, Look(color, "-", "o", contrast.better is not None))
    axes.axvline(0.0, color=INK, lw=0.8, zorder=1)
    rows_axis(axes, names)
    axes.set_yticks(range(len(names)), labels(names))


def labels(names: Sequence[str]) -> list[str]:
    """What stands beside each row: of a pair both names, below each other where that leaves more room."""
    ends = _ends(names)
    if len(ends) != 2 * len(names):
        return shortened(names)
    lines = [_joined(found) for found in uncut(ends)]
    line = next((one for one in lines if max(map(len, one), default=0) <= letters()), [])
    long = not line or (narrow() and (line != list(names) or inches(line) > LONG))
    if long and len(names) <= CROWDED:
        return _joined(shortened(ends, letters() if narrow() else ONE), "\n")
    return line or _joined(shortened(ends, letters() // 2))


def explanation(names: Sequence[str]) -> str:
    """What short names beside the rows leave out."""
    return explained(_ends(names), _ends(labels(names)))


def _ends(rows: Sequence[str]) -> list[str]:
    """The names in `first - second`, row by row."""
    return [name for row in rows for name in re.split(rf"\s{MINUS} ", row)]


def _joined(ends: Sequence[str], between: str = " ") -> list[str]:
    return [f"{a}{between}{MINUS} {b}" for a, b in zip(ends[::2], ends[1::2], strict=True)]


def largest(contrasts: Mapping[str, Contrast], most: int) -> dict[str, Contrast]:
    """The contrasts of largest size, in their own order, where there are more than can be drawn."""
    order = sorted(contrasts, key=lambda name: -abs(contrasts[name].interval.estimate))
    kept = set(order[:most])
    return {name: contrast for name, contrast in contrasts.items() if name in kept}


def _by_seed(contrast: Contrast) -> Array:
    """One dot a seed: its mean difference over the environments it has."""
    seeds = sorted({seed for by_seed in contrast.values.values() for seed in by_seed})
    found = [[d[seed] for d in contrast.values.values() if seed in d] for seed in seeds]
    return np.array([np.mean(values) for values in found])


def _text(contrast: Contrast) -> str:
    word = {
        "equal": "equal",
        "mixed": "equal on average",
        "undecided": "undecided",
        "insufficient": "insufficient",
    }
    if narrow():
        # a hollow mark says undecided
        word = {"equal": "equal", "mixed": "on average", "insufficient": "few seeds"}
    value = show_float(contrast.interval.estimate)
    sign = "+" if contrast.interval.estimate > 0 else ""
    return f"{sign}{value}  {word.get(contrast.verdict, '')}".rstrip()


def winner(results: Results, contrast: Contrast, known: Mapping[str, Look]) -> str:
    """The colour of the better side: an agent's own, else that of critics or of those without."""
    if contrast.better is None:
        return MUTED
    if contrast.better in known:
        return known[contrast.better].color
    first = contrast.verdict == "first"
    side = results.sides.first if first else results.sides.second
    if len(side) == 1 and side[0].name in known:
        return known[side[0].name].color
    critics = {arm.critic for arm in side}
    return CRITIC[0] if critics == {True} or (len(critics) > 1 and first) else OUTCOME[0]


def standing(results: Results, task: Task) -> tuple[str, str]:
    """Which side is ahead on an environment in area under the curve, and its colour."""
    contrast = results.family_by_task.get(task.name)
    if contrast is None or not contrast.pairs:
        return "", MUTED
    if contrast.better is None:
        return verdict_word(contrast), MUTED
    color = winner(results, contrast, appearance(results))
    return f"{results.sides.names[contrast.verdict == 'second']} ahead", color


def names(results: Results, contrasts: Sequence[Contrast]) -> list[str]:
    """`first - second`, as figures call them; the first alone, where all have the same second."""
    if len(contrasts) > 1 and len({contrast.second for contrast in contrasts}) == 1:
        return [results.called(contrast.first) for contrast in contrasts]
    return [f"{results.called(c.first)} {MINUS} {results.called(c.second)}" for c in contrasts]
