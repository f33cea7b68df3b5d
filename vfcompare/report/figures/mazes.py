"""Mazes seen through a policy and its critic: exact values, learned ones, and where they mislead."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.ticker import FuncFormatter

from vfcompare.report.figures.drawing import Mask, Picture, canvas
from vfcompare.report.figures.looks import INK, MUTED, PAPER
from vfcompare.report.figures.names import shorten
from vfcompare.report.figures.sizes import TALL, WIDTH, beside, paper, points
from vfcompare.report.reading.cells import Cell
from vfcompare.report.reading.data import Study
from vfcompare.report.table import MINUS, NONE, Table, Value, show_float
from vfcompare.statistics import Array

MAZE = "vfcompare.envs.maze.Maze"
MOVES = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])
"""Column and row steps of a maze's actions up, right, down, left."""

MOST = 6
"""Rows of the figure that compares agents, and figures of single agents."""

SMALLEST, BAR = 0.85, 0.75
"""Inches of a maze in a paper, and of a bar with its labels and of the titles."""

FAINTEST = 0.02
"""Least probability of an action that is drawn."""

LIKELY = 0.4
"""Probability above which its line gets a head."""

ALWAYS = ("walls", "start", "goal", "value", "policy", "visits")
LEARNED = ("learned", "wrong", "wrong_visited", "rmse_visited")


@dataclass(frozen=True)
class Panel:
    """One quantity over the squares.

    Attributes:
      name: of the array.
      title: over its column.
      scale: panels of one scale share colours and a bar.
      colors: name of the colour map.
    """

    name: str
    title: str
    scale: str
    colors: str = ""


PANELS = (
    Panel("value", "exact value", "value", "viridis"),
    Panel("learned", "learned value", "value", "viridis"),
    Panel("error", f"learned {MINUS} exact", "error", "RdBu_r"),
    Panel("policy", "policy", "policy"),
    Panel("visits", "visits", "visits", "Purples"),
    Panel("wrong", "wrong signs", "share", "Reds"),
)
BARS = {
    "value": "value",
    "error": "difference",
    "visits": "expected steps",
    "share": "share of actions",
}


@dataclass(frozen=True)
class Scene:
    """One maze under one agent; squares are `[side, side]`.

    Attributes:
      label: what stands beside its row.
      agent: whose.
      side: squares of a side.
      squares: arrays by name, walls are NaN.
      policy: `[side, side, 4]`.
      walls: `[side, side]`.
      start: column and row.
      goal: column and row.
      numbers: values at the start and means over visits.
    """

    label: str
    agent: str
    side: int
    squares: Mapping[str, Array]
    policy: Array
    walls: Mask
    start: tuple[int, int]
    goal: tuple[int, int]
    numbers: Mapping[str, float]


def pictures(study: Study) -> list[Picture]:
    """One that compares the agents on the same maze, and one for each agent that has a critic."""
    found = [(cell, scenes(cell)) for cell in study.cells if cell.planned]
    cells = [(cell, mazes) for cell, mazes in found if mazes]
    scales = _scales([scene for _, mazes in cells for scene in mazes])
    result = list(_between(cells, scales))
    readers = [(cell, mazes) for cell, mazes in cells if "learned" in mazes[0].squares]
    for index, (cell, mazes) in enumerate((readers or cells)[:MOST]):
        title = f"What {cell.arm} sees in {cell.task}"
        result.append(_picture(f"maps-{index + 1}", title, mazes, scales, "mazes"))
    return result


def _between(
    cells: Sequence[tuple[Cell, list[Scene]]], scales: Mapping[str, Normalize]
) -> Iterator[Picture]:
    """The first maze of each task under all agents that were shown this very maze."""
    for index, task in enumerate(dict.fromkeys(cell.task for cell, _ in cells)):
        mine = [(cell.arm, mazes[0]) for cell, mazes in cells if cell.task == task]
        first = mine[0][1]
        same = [_named(arm, scene) for arm, scene in mine if _alike(scene, first)][:MOST]
        if len(same) > 1:
            title = f"The same maze under each agent, {task}"
            yield _picture(f"maps-agents-{index + 1}", title, same, scales, "agents")


def _named(label: str, scene: Scene) -> Scene:
    return Scene(**{**scene.__dict__, "label": shorten(label, 18)})


def _alike(scene: Scene, other: Scene) -> bool:
    return (
        scene.start == other.start
        and scene.goal == other.goal
        and np.array_equal(scene.walls, other.walls)
    )


def scenes(cell: Cell) -> list[Scene]:
    """The mazes of a run; none where there are no maps, or where they are not what they should be."""
    env = cell.config.get("env")
    maps = cell.maps
    if not isinstance(env, Mapping) or env.get("_target_") != MAZE or not set(ALWAYS) <= set(maps):
        return []
    shape = maps["walls"].shape
    side = round(float(np.sqrt(shape[-1]))) if len(shape) == 2 else 0
    sizes = {name: shape for name in ("value", "visits", "learned", "wrong")}
    sizes |= {"policy": (*shape, 4)} | {
        name: shape[:1] for name in ("start", "goal", "wrong_visited", "rmse_visited")
    }
    fits = all(maps[name].shape == size for name, size in sizes.items() if name in maps)
    if not fits or not 2 <= side <= 64 or side * side != shape[-1] or shape[0] > MOST:
        return []
    return [_scene(cell, index, side) for index in range(shape[0])]


def _scene(cell: Cell, index: int, side: int) -> Scene:
    maps = {name: array[index] for name, array in cell.maps.items() if array.ndim}
    walls = maps["walls"].reshape(side, side) > 0.5
    names = [name for name in ("value", "visits", "learned", "wrong") if name in maps]
    squares: dict[str, Array] = {
        n: np.where(walls, np.nan, maps[n].reshape(side, side)) for n in names
    }
    start, goal = (int(np.clip(maps[name], 0, side * side - 1)) for name in ("start", "goal"))
    begin, end = ((place % side, place // side) for place in (start, goal))
    for values in squares.values():
        # the episode ends at the goal: what is said of it there means nothing
        values[end[::-1]] = np.nan
    numbers = {"value": float(maps["value"][start])}
    if "learned" in squares:
        squares["error"] = squares["learned"] - squares["value"]
        numbers["learned"] = float(maps["learned"][start])
        numbers |= {n: float(maps[n]) for n in LEARNED[2:] if n in maps}
    policy = maps["policy"].reshape(side, side, 4)
    label = f"maze {index + 1}"
    return Scene(label, cell.arm, side, squares, policy, walls, begin, end, numbers)


def _scales(found: Sequence[Scene]) -> dict[str, Normalize]:
    """One range of colours for each quantity, over all mazes and agents."""
    ends: dict[str, list[float]] = {}
    for scene in found:
        for panel in PANELS:
            values = scene.squares.get(panel.name, np.zeros(0))
            ends.setdefault(panel.scale, []).extend(values[np.isfinite(values)].tolist())
    reach = max((abs(x) for x in ends.get("error", [])), default=1.0) or 1.0
    scales = {name: Normalize(min(0.0, *x), max(x) or 1.0) for name, x in ends.items() if x}
    return scales | {"error": Normalize(-reach, reach), "share": Normalize(0.0, 1.0)}


def _picture(
    name: str, title: str, rows: Sequence[Scene], scales: Mapping[str, Normalize], what: str
) -> Picture:
    most = _most(rows)
    left = f" The first {most} of them are drawn." if most < len(rows) else ""
    return Picture(
        name,
        title,
        _caption(rows, what) + left,
        lambda: _draw(rows[:most], scales),
        Table(name, title, ("maze", "row", "column", "quantity", "value"), tuple(_data(rows))),
    )


def _data(rows: Sequence[Scene]) -> Iterator[tuple[Value, ...]]:
    for scene in rows:
        for name, values in scene.squares.items():
            for row, column in np.argwhere(np.isfinite(values)):
                yield scene.label, int(row), int(column), name, float(values[row, column])


def _caption(rows: Sequence[Scene], what: str) -> str:
    def across(name: str) -> str:
        found = [scene.numbers[name] for scene in rows if name in scene.numbers]
        low, high = show_float(min(found)), show_float(max(found))
        return low if low == high else f"{low} to {high}"

    text = f"Value of the start {across('value')}"
    if any("learned" in scene.numbers for scene in rows):
        text += (
            f", learned {across('learned')}; over the squares and times that are visited, the critic "
            f"is off by {across('rmse_visited')} (RMSE) and its lookahead gives {across('wrong_visited')} "
            "of the actions the wrong sign"
        )
    return (
        f"{text} (n = {len(rows)} {what}, the first seed, no interval). Ring: start; star: goal; dash: no "
        "action matters. Values, policy and signs are those of the first step, with all the time left; "
        "lines are as long as an action is probable. Each quantity has one colour scale for all mazes "
        "and agents of the study."
    )


def _shape(rows: Sequence[Scene]) -> tuple[list[Panel], int, float, float]:
    """Quantities, how many stand beside each other, how broad that is, and inches of a row of mazes."""
    panels = [p for p in PANELS if p.name == "policy" or any(p.name in s.squares for s in rows)]
    broad = 1.4 if len(panels) > 3 else 1.0
    columns, width = beside(len(panels), len(panels), SMALLEST), paper()
    # in a paper without the room that labels take from the sides of a maze
    height = broad * WIDTH / columns if width is None else (width - 0.3) / columns
    return panels, columns, broad, height


def _most(rows: Sequence[Scene]) -> int:
    """Rows that are drawn: in a paper as many as one of its pages has room for."""
    panels, columns, _, height = _shape(rows)
    blocks = -(-len(panels) // columns)
    return max(1, int((TALL / blocks - BAR) / height)) if paper() else len(rows)


def _draw(rows: Sequence[Scene], scales: Mapping[str, Normalize]) -> Figure:
    panels, columns, broad, height = _shape(rows)
    blocks = [panels[at : at + columns] for at in range(0, len(panels), columns)]
    each = len(rows) + 1
    whole = (height * len(rows) + BAR) * len(blocks)
    figure, _ = canvas(whole, broad=broad)
    figure.clear()
    if paper():
        figure.get_layout_engine().set(w_pad=0.025)  # type: ignore[union-attr, call-arg]
    # the bars have a line of their own, so that the column without one stays in line
    ratios = ([1.0] * len(rows) + [0.05]) * len(blocks)
    grid = figure.add_gridspec(each * len(blocks), columns, height_ratios=ratios)
    for number, block in enumerate(blocks):
        _block(figure, grid, number * each, rows, block, scales)
    return figure


def _block(
    figure: Figure,
    grid: GridSpec,
    first: int,
    rows: Sequence[Scene],
    panels: Sequence[Panel],
    scales: Mapping[str, Normalize],
) -> None:
    """Quantities beside each other, one row a maze, and what their colours mean."""
    for line, scene in enumerate(rows):
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(grid[first + line, place])
            _panel(axes, scene, panel, scales)
            if line == 0:
                axes.set_title(panel.title, fontsize=points(8.5))
            if place == 0:
                axes.set_ylabel(scene.label, color=INK)
    for scale, label in BARS.items():
        columns = [place for place, panel in enumerate(panels) if panel.scale == scale]
        if columns and scale in scales:
            below = figure.add_subplot(grid[first + len(rows), columns[0] : columns[-1] + 1])
            _bar(figure, below, scales[scale], panels[columns[0]].colors, label)


def _panel(axes: Axes, scene: Scene, panel: Panel, scales: Mapping[str, Normalize]) -> None:
    """One maze: walls solid, the squares coloured or with arrows."""
    edges = np.arange(scene.side + 1) - 0.5
    axes.spines[:].set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
    # of the wall around a maze, a part shows that it is there
    axes.set_xlim(edges[0] + 0.6, edges[-1] - 0.6)
    axes.set_ylim(edges[-1] - 0.6, edges[0] + 0.6)
    if panel.name != "policy" and panel.name not in scene.squares:
        axes.text(0.5, 0.5, "no critic", ha="center", color=MUTED, transform=axes.transAxes)
        return
    solid = np.where(scene.walls, 1.0, np.nan)
    wall = ListedColormap([MUTED])
    axes.pcolormesh(edges, edges, solid, cmap=wall, ec="face", lw=0.3)
    if panel.name == "policy":
        _arrows(axes, scene)
    else:
        values = scene.squares[panel.name]
        for row, column in np.argwhere(np.isnan(values) & ~scene.walls):
            if (column, row) != scene.goal:
                axes.text(column, row, NONE, ha="center", va="center", color=MUTED)
        norm = scales[panel.scale]
        axes.pcolormesh(edges, edges, values, cmap=panel.colors, norm=norm, ec="face", lw=0.3)
    hollow = panel.name == "policy"
    size = 40.0 / scene.side
    mark: dict[str, Any] = {"mec": INK, "ls": "none", "zorder": 5}
    ring: dict[str, Any] = (
        {"ms": 2.2 * size, "mfc": "none"} if hollow else {"ms": size, "mfc": PAPER}
    )
    axes.plot(*scene.start, "o", mew=0.9, **mark, **ring)
    axes.plot(*scene.goal, "*", ms=1.8 * size, mew=0.7, mfc=PAPER, **mark)


def _arrows(axes: Axes, scene: Scene) -> None:
    """A line for each action, as long as it is probable; with a head where it is likely."""
    row, column, action = np.nonzero((scene.policy > FAINTEST) & ~scene.walls[..., None])
    keep = (column != scene.goal[0]) | (row != scene.goal[1])
    row, column, action = row[keep], column[keep], action[keep]
    chance = scene.policy[row, column, action]
    begin = np.stack([column, row], axis=-1)
    reach = 0.46 * chance[:, None] * MOVES[action]
    lines = np.stack([begin, begin + reach], axis=1)
    axes.add_collection(LineCollection(list(lines), colors=INK, lw=10.0 / scene.side, zorder=3))
    likely = chance > LIKELY
    head = 0.16 * MOVES[action][likely]
    shape: dict[str, Any] = {
        "width": 0.09,
        "headwidth": 3.6,
        "headlength": 2.2,
        "headaxislength": 2.2,
    }
    axes.quiver(
        *(begin + reach - 0.04 * MOVES[action])[likely].T,
        *head.T,
        color=INK,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        units="x",
        zorder=4,
        **shape,
    )


def _bar(figure: Figure, axes: Axes, norm: Normalize, colors: str, label: str) -> None:
    """What the colours of a scale mean."""
    bar = figure.colorbar(ScalarMappable(norm, colors), cax=axes, orientation="horizontal")
    bar.set_ticks(np.linspace(norm.vmin or 0.0, norm.vmax or 1.0, 3).tolist())
    bar.ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:.2g}".replace("-", MINUS))
    )
    bar.set_label(label, fontsize=points(7.5))
    bar.ax.tick_params(labelsize=points(7))
    bar.outline.set_visible(False)
    if paper():
        # labels of the ends stay within the bar, as mazes stand closer
        first, _, last = bar.ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
