"""Figures: each answers one question, and is drawn from numbers that are written next to it.

Figures are drawn without pyplot, so that nothing global is changed, and with fixed hashes and
without dates, so that equal numbers give equal bytes.
"""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from vfcompare.report import sentences
from vfcompare.report.analysis import Arm, Contrast, Results, Speed, couples
from vfcompare.report.scoring import Task, column, failed
from vfcompare.report.tables import MINUS, STABILITY_NAMES, Table, Value, show_float
from vfcompare.statistics import Interval

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WIDTH = 5.8
ROW = 0.29
INK, MUTED, FAINT, PAPER = "#1b1f24", "#5d6670", "#c9ced4", "#ffffff"
CRITIC = ("#0072b2", "#009e73", "#56b4e9")
OUTCOME = ("#d55e00", "#e69f00", "#cc79a7")
KNOWN = {
    "ppo": 0,
    "a2c": 1,
    "reinforce_v": 2,
    "grpo": 0,
    "rloo": 2,
    "reinforce": 1,
}
CRITIC_LINES: tuple[Any, ...] = ("-", (0, (7, 1.5)), (0, (7, 1.5, 1.5, 1.5)), (0, (10, 2)))
OUTCOME_LINES: tuple[Any, ...] = ((0, (3, 1.5)), (0, (1, 1)), (0, (3, 1.5, 1, 1.5)), (0, (2, 2.5)))
CRITIC_MARKERS, OUTCOME_MARKERS = "osDp", "^v<P"
MAX_MATRIX = 10
MAX_LEADERS = 8
MAX_OVERVIEW = 4
FORMATS: dict[str, Any] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}
"""What figures are written as, without dates and names of programs."""

LABEL = 22

STYLE: Any = {
    "text.parse_math": False,
    "text.usetex": False,
    "svg.hashsalt": "vfcompare",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlecolor": INK,
    "axes.unicode_minus": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.linewidth": 0.5,
    "hatch.color": FAINT,
}


@dataclass(frozen=True)
class Picture:
    """A figure, not yet drawn.

    Attributes:
      id: name of its files.
      title: the question it answers.
      caption: the answer, in one generated passage.
      draw: makes it.
      data: the numbers in it.
    """

    id: str
    title: str
    caption: str
    draw: Callable[[], Figure]
    data: Table


@dataclass(frozen=True)
class Look:
    """How an arm is drawn everywhere: colour, and line and marker for readers without colour."""

    color: str
    line: Any
    marker: str


def looks(arms: Sequence[Arm]) -> dict[str, Look]:
    """One look per arm: blues and greens learn a critic, warm colours do not."""
    result: dict[str, Look] = {}
    for critic in (False, True):
        family = [arm for arm in arms if arm.critic == critic]
        taken: set[int] = set()
        for arm in family:
            wish = KNOWN.get(arm.agent, len(taken))
            slot = wish if wish not in taken else min(set(range(len(family) + 3)) - taken)
            taken.add(slot)
            result[arm.name] = _look(critic, slot)
    return result


def _look(critic: bool, slot: int) -> Look:
    colors = CRITIC if critic else OUTCOME
    lines = CRITIC_LINES if critic else OUTCOME_LINES
    markers = CRITIC_MARKERS if critic else OUTCOME_MARKERS
    return Look(colors[slot % 3], lines[slot % len(lines)], markers[slot % len(markers)])


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of the report, without its complaints about glyphs of foreign names."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


def build(results: Results) -> list[Picture]:
    """All figures that the data allow, in the order of the page."""
    pictures = [*_families(results), *_overview(results)]
    pictures += [picture for task in results.tasks for picture in _learning(results, task)]
    pictures += [*_scores(results), *_aggregate(results), *_profile(results), *_speed(results)]
    pictures += [*_pairs(results), *_improvement(results), *_stability(results)]
    return pictures


def render(figure: Figure) -> dict[str, bytes]:
    """The figure in all `FORMATS`; the same figure gives the same bytes."""
    files = {}
    for kind, metadata in FORMATS.items():
        stream = io.BytesIO()
        paper = PAPER if kind == "png" else "none"
        figure.savefig(stream, format=kind, metadata=metadata, dpi=160, facecolor=paper)
        # laid out once: the other formats take the same places, in a third of the time
        figure.set_layout_engine("none")
        files[kind] = stream.getvalue()
    return files


VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    FAINT: "--faint",
    PAPER: "--paper",
    **{color: f"--c{i}" for i, color in enumerate(CRITIC)},
    **{color: f"--o{i}" for i, color in enumerate(OUTCOME)},
}


def inline(svg: bytes, name: str, label: str) -> str:
    """An SVG for the page: own ids, colours and font from the page's style, a label for readers."""
    text = svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\sid="|xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"'DejaVu Sans'(, sans-serif)?", "var(--sans)", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    opening = f'<svg role="img" aria-label="{_attribute(label)}"'
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    return text.replace("<svg", opening, 1)


def _attribute(text: str) -> str:
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(mark, entity)
    return text


def shorten(name: str, limit: int = LABEL) -> str:
    """A name that fits beside a mark; the tables have it in full."""
    name = name.replace("\N{FIRST STRONG ISOLATE}", "").replace("\N{POP DIRECTIONAL ISOLATE}", "")
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def _steps(value: float, _position: object = None) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _figure(height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.05, h_pad=0.05)  # type: ignore[union-attr, call-arg]
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _jitter(count: int, width: float = 0.2) -> Array:
    """Vertical offsets by the golden ratio: spread evenly, the same each time."""
    return np.asarray(((np.arange(count) * 0.618_033_988_7) % 1.0 - 0.5) * 2.0 * width, np.float64)


def _rows_axis(axes: Axes, names: Sequence[str], colors: Sequence[str] | None = None) -> None:
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_yticks(range(len(names)), [shorten(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="x", color=FAINT, linewidth=0.4, alpha=0.6)
    axes.set_axisbelow(True)
    # the right one of two panels that share their rows has no labels
    for label, color in zip(axes.get_yticklabels(), colors or [INK] * len(names), strict=False):
        label.set_color(color)
        label.set_fontsize(8.5)


def _mark(axes: Axes, y: float, interval: Interval, look: Look, **options: Any) -> None:
    if interval.low is not None and interval.high is not None:
        axes.plot([interval.low, interval.high], [y, y], color=look.color, lw=2.2, zorder=3)
    shape: dict[str, Any] = {"mfc": look.color, "mec": PAPER, "mew": 0.6, **options}
    axes.plot(
        [interval.estimate],
        [y],
        marker=look.marker,
        ms=6.5,
        ls="none",
        zorder=4,
        clip_on=False,
        **shape,
    )


def _dots(axes: Axes, y: float, values: Array, color: str, failed_: Mask | None = None) -> None:
    heights = y + _jitter(values.size)
    good: Mask = np.ones(values.size, dtype=np.bool_) if failed_ is None else ~failed_
    axes.plot(values[good], heights[good], ".", ms=4.6, color=color, alpha=0.4, mew=0, zorder=2)
    if not good.all():
        axes.plot(values[~good], heights[~good], "x", ms=5, color=color, mew=1.2, zorder=2)


def _learning(results: Results, task: Task) -> Iterator[Picture]:
    curves = [curve for curve in results.curves if curve.task == task.name]
    if not curves and not any(r.steps.size for c in task.cells.values() for r in c.runs):
        return
    rows: list[tuple[Value, ...]] = []
    for curve in curves:
        for i, step in enumerate(task.grid):
            ends = [None if e is None else _raw(task, float(e[i])) for e in (curve.low, curve.high)]
            estimate = _raw(task, float(curve.estimate[i]))
            rows.append((curve.arm, float(step), curve.n, estimate, *ends))
    heads = ("agent", "env_steps", "n", "iqm", "low", "high")
    number = results.tasks.index(task) + 1
    yield Picture(
        f"learning-{number}",
        f"Learning curves on {task.name}",
        sentences.curve_caption(results, task.name),
        lambda: _draw_learning(results, task),
        Table(f"learning-{number}", f"Learning curves on {task.name}", heads, tuple(rows)),
    )


def _raw(task: Task, value: float) -> float:
    if task.random is None or task.optimal is None:
        return value
    return task.random + value * (task.optimal - task.random)


def _overview(results: Results) -> Iterator[Picture]:
    """All environments beside each other, for a slide or the top of a paper."""
    tasks = [task for task in results.tasks if any(c.task == task.name for c in results.curves)]
    if not 2 <= len(tasks) <= MAX_OVERVIEW:
        return
    rows = [
        (curve.task, curve.arm, float(step), curve.n, _raw(task, float(curve.estimate[i])))
        for task in tasks
        for curve in results.curves
        if curve.task == task.name
        for i, step in enumerate(task.grid)
    ]
    heads = ("environment", "agent", "env_steps", "n", "iqm")
    title = "Learning curves on all environments"
    yield Picture(
        "overview",
        title,
        sentences.overview_caption(results),
        lambda: _draw_overview(results, tasks),
        Table("overview", title, heads, tuple(rows)),
    )


def _draw_overview(results: Results, tasks: Sequence[Task]) -> Figure:
    figure, grid = _figure(2.8, columns=len(tasks))
    figure.set_figwidth(WIDTH * 1.5)
    for place, task in enumerate(tasks):
        axes: Axes = grid[0, place]
        _curves(axes, results, task)
        _frame_learning(axes, task, compact=True)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_title(shorten(task.name, 26))
        if place:
            axes.set_ylabel("")
    appearance = looks(results.arms)
    lines = [
        axes.plot([], [], color=look.color, ls=look.line, label=shorten(name))[0]
        for name, look in appearance.items()
    ]
    figure.legend(
        handles=lines, loc="outside upper left", ncols=len(lines), frameon=False, handlelength=3.2
    )
    return figure


def _draw_learning(results: Results, task: Task) -> Figure:
    figure, grid = _figure(3.3)
    axes: Axes = grid[0, 0]
    labels = _curves(axes, results, task)
    _frame_learning(axes, task)
    _end_labels(axes, labels)
    return figure


def _curves(axes: Axes, results: Results, task: Task) -> list[tuple[float, str, str]]:
    """Draws the curves of one environment; returns height, name and colour of each end."""
    appearance = looks(results.arms)
    for arm in results.arms:
        _thin_lines(axes, task, arm, appearance[arm.name])
    labels: list[tuple[float, str, str]] = []
    for curve in results.curves:
        if curve.task != task.name:
            continue
        look = appearance[curve.arm]
        height = np.array([_raw(task, float(v)) for v in curve.estimate])
        if curve.low is not None and curve.high is not None:
            low, high = (np.array([_raw(task, v) for v in e]) for e in (curve.low, curve.high))
            axes.fill_between(task.grid, low, high, color=look.color, alpha=0.16, lw=0, zorder=2)
        axes.plot(
            task.grid,
            height,
            color=look.color,
            ls=look.line,
            marker=look.marker,
            markevery=(0.08 + 0.02 * len(labels), 0.22),
            ms=4.5,
            mec=PAPER,
            mew=0.5,
            zorder=3,
        )
        labels.append((float(height[-1]), shorten(curve.arm, 18), look.color))
    return labels


def _thin_lines(axes: Axes, task: Task, arm: Arm, look: Look) -> None:
    cell = task.cells.get(arm.name)
    if cell is None:
        return
    runs = [run for run in cell.runs if run.steps.size]
    paths = [np.column_stack([run.steps, run.sampled]) for run in runs]
    axes.add_collection(LineCollection(paths, colors=look.color, lw=0.5, alpha=0.18, zorder=1))
    axes.update_datalim(np.concatenate(paths) if paths else np.zeros((0, 2)))
    lost = [path[-1] for run, path in zip(runs, paths, strict=True) if failed(run)]
    if lost:
        points = np.array(lost)
        axes.plot(points[:, 0], points[:, 1], "x", color=look.color, ms=7, mew=1.8, zorder=6)


def _frame_learning(axes: Axes, task: Task, *, compact: bool = False) -> None:
    """Limits, levels to compare with and labels; a compact panel has no room for the threshold's."""
    axes.autoscale_view()
    left, right = axes.get_xlim()
    if task.end > task.start:
        left, right = min(task.start, 0.0), task.end
    axes.set_xlim(left, right)
    references = ((task.optimal, "optimal"), (task.threshold, "threshold"), (task.random, "random"))
    levels = [level for level, _ in references if level is not None]
    if levels:
        low, high = axes.get_ylim()
        low, high = min(low, *levels), max(high, *levels)
        axes.set_ylim(low - 0.04 * (high - low), high + 0.07 * (high - low))
    for level, name in references:
        if level is None:
            continue
        axes.axhline(level, color=MUTED, lw=0.7, ls=(0, (1, 2)), zorder=0)
        if not (compact and name == "threshold"):
            axes.annotate(
                name,
                (0.0 if name != "random" else 1.0, level),
                xycoords=axes.get_yaxis_transform(),
                xytext=(3 if name != "random" else -2, 2),
                textcoords="offset points",
                ha="left" if name != "random" else "right",
                fontsize=7.5,
                color=MUTED,
                zorder=6,
            )
    axes.xaxis.set_major_formatter(FuncFormatter(_steps))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel("environment steps")
    axes.set_ylabel("return, sampled actions")


def _end_labels(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names at the line ends, pushed apart so that none covers another."""
    if not labels:
        return
    low, high = axes.get_ylim()
    gap = 0.065 * (high - low)
    order = sorted(range(len(labels)), key=lambda i: labels[i][0])
    heights = spread(np.array([labels[i][0] for i in order]), gap, low + gap / 2, high - gap / 2)
    leader = {"arrowstyle": "-", "lw": 0.6, "shrinkA": 1, "shrinkB": 0}
    for i, height in zip(order, heights, strict=True):
        value, name, color = labels[i]
        axes.annotate(
            name,
            (1.0, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.035, height),
            textcoords=axes.get_yaxis_transform(),
            color=color,
            fontsize=9,
            fontweight="bold",
            va="center",
            arrowprops={**leader, "color": color} if len(labels) <= MAX_LEADERS else None,
        )


def spread(heights: Array, gap: float, low: float, high: float) -> Array:
    """Sorted heights moved as little as needed to be `gap` apart, kept inside where they fit."""
    gap = min(gap, (high - low) / max(1, heights.size - 1)) if heights.size > 1 else gap
    offsets = gap * np.arange(heights.size)
    wanted = heights - offsets
    blocks: list[list[float]] = []
    for value in wanted:
        blocks.append([float(value)])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    level = np.array([np.mean(block) for block in blocks for _ in block])
    top = high - gap * (heights.size - 1)
    return np.asarray(np.clip(level, low, max(low, top)) + offsets)


def _families(results: Results) -> Iterator[Picture]:
    contrasts: dict[str, Contrast] = {}
    if len(results.pool) > 1 and "auc" in results.family:
        contrasts["all environments"] = results.family["auc"]
    contrasts.update(results.family_by_task)
    contrasts = {name: c for name, c in contrasts.items() if c.pairs}
    scaled = {task.normalised for task in results.tasks if not task.empty}
    if not contrasts or len(scaled) > 1:
        return
    yield Picture(
        "families",
        "What a critic buys, and where",
        sentences.family_caption(results),
        lambda: _draw_contrasts(results, contrasts, ("outcome-only better", "critic better")),
        _contrast_data("families", contrasts),
    )


def _contrast_data(name: str, contrasts: dict[str, Contrast]) -> Table:
    rows: list[tuple[Value, ...]] = []
    for label, c in contrasts.items():
        rows.append((label, "", "", c.interval, c.p_adjusted, c.verdict))
        for task, by_seed in c.values.items():
            rows += [(label, task, seed, value, None, "") for seed, value in by_seed.items()]
    heads = ("contrast", "environment", "seed", "difference", "adjusted p", "verdict")
    return Table(name, "Paired differences", heads, tuple(rows))


def _draw_contrasts(
    results: Results, contrasts: dict[str, Contrast], sides: tuple[str, str]
) -> Figure:
    figure, grid = _figure(0.85 + 1.15 * ROW * len(contrasts))
    axes: Axes = grid[0, 0]
    appearance = looks(results.arms)
    for y, contrast in enumerate(contrasts.values()):
        color = _winner_color(contrast, appearance)
        values = _by_seed(contrast)
        _dots(axes, y, values, color)
        look = Look(color, "-", "o")
        hollow = {} if contrast.better else {"mfc": PAPER, "mec": color, "mew": 1.4}
        _mark(axes, y, contrast.interval, look, **hollow)
    axes.axvline(0.0, color=INK, lw=0.8, zorder=1)
    _rows_axis(axes, list(contrasts))
    _right_texts(axes, [_contrast_text(c) for c in contrasts.values()])
    low, high = axes.get_xlim()
    reach = 0.3 * max(abs(low), abs(high))
    axes.set_xlim(min(low, -reach), max(high, reach))
    scale = "normalised" if results.pool and results.task(results.pool[0]).normalised else "return"
    axes.set_xlabel(f"difference in area under the curve ({scale})")
    axes.set_title(f"◂ {sides[0]}", loc="left", color=MUTED, fontweight="normal")
    axes.set_title(f"{sides[1]} ▸", loc="right", color=MUTED, fontweight="normal")
    return figure


def _by_seed(contrast: Contrast) -> Array:
    """One dot a seed: its mean difference over the environments it has."""
    seeds = sorted({seed for by_seed in contrast.values.values() for seed in by_seed})
    found = [[d[seed] for d in contrast.values.values() if seed in d] for seed in seeds]
    return np.array([np.mean(values) for values in found])


def _contrast_text(contrast: Contrast) -> str:
    word = {"equal": "equal", "undecided": "undecided", "insufficient": "insufficient"}
    value = show_float(contrast.interval.estimate)
    sign = "+" if contrast.interval.estimate > 0 else ""
    return f"{sign}{value}  {word.get(contrast.verdict, '')}".rstrip()


def _right_texts(axes: Axes, texts: Sequence[str]) -> None:
    for y, text in enumerate(texts):
        axes.annotate(
            text,
            (1.0, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=MUTED,
        )


def _winner_color(contrast: Contrast, appearance: dict[str, Look]) -> str:
    if contrast.better is None:
        return MUTED
    if contrast.better in appearance:
        return appearance[contrast.better].color
    return OUTCOME[0] if contrast.better == "outcome-only" else CRITIC[0]


def _pairs(results: Results) -> Iterator[Picture]:
    contrasts = {f"{c.first} {MINUS} {c.second}": c for c in results.pairs["auc"] if c.pairs}
    if not contrasts:
        return
    yield Picture(
        "pairs",
        "Which agents differ, seed by seed",
        sentences.pairs_caption(results),
        lambda: _draw_contrasts(results, contrasts, ("second better", "first better")),
        _contrast_data("pairs", contrasts),
    )


def _scores(results: Results) -> Iterator[Picture]:
    tasks = [task for task in results.tasks if not task.empty]
    if not tasks:
        return
    rows = tuple(
        (task.name, arm.name, item.seed, item.status, item.auc, item.final, item.greedy)
        for task in tasks
        for arm in results.arms
        for item in task.scores.get(arm.name, ())
    )
    heads = ("environment", "agent", "seed", "status", "auc", "final", "final greedy")
    yield Picture(
        "scores",
        "Scores per environment",
        sentences.scores_caption(results),
        lambda: _draw_scores(results, tasks),
        Table("scores-by-seed", "Scores of every run", heads, rows),
    )


def _draw_scores(results: Results, tasks: Sequence[Task]) -> Figure:
    arms = results.arms
    height = sum(0.5 + ROW * len(arms) for _ in tasks) + 0.35
    figure, grid = _figure(height, len(tasks), 2, sharey="row")
    appearance = looks(arms)
    for line, task in zip(grid, tasks, strict=True):
        for axes, metric, name in zip(
            line, ("auc", "final"), ("area under curve", "final"), strict=True
        ):
            for y, arm in enumerate(arms):
                _score_row(axes, results, task, arm, y, metric, appearance[arm.name])
            _rows_axis(axes, [arm.name for arm in arms], [appearance[a.name].color for a in arms])
            _unit_lines(axes, task)
            axes.set_title(f"{shorten(task.name, 26)}" if metric == "auc" else "", loc="left")
            axes.set_xlabel(f"{name} ({'normalised' if task.normalised else 'return'})")
        _right_texts(line[1], [f"n={len(task.scores.get(arm.name, ()))}" for arm in arms])
        line[1].tick_params(labelleft=False)
    return figure


def _score_row(
    axes: Axes, results: Results, task: Task, arm: Arm, y: int, metric: str, look: Look
) -> None:
    interval = results.summary.get((metric, task.name, arm.name))
    if interval is None:
        return
    values = column(task, arm.name, metric)
    lost = {item.seed for item in task.scores[arm.name] if item.status != "completed"}
    _dots(
        axes, y, np.array(list(values.values())), look.color, np.array([s in lost for s in values])
    )
    _mark(axes, y, interval, look)


def _unit_lines(axes: Axes, task: Task) -> None:
    levels = (0.0, 1.0) if task.normalised else (task.random, task.optimal)
    for level in levels:
        if level is not None:
            axes.axvline(level, color=MUTED, lw=0.7, ls=(0, (1, 2)), zorder=0)


def _aggregate(results: Results) -> Iterator[Picture]:
    arms = [arm for arm in results.arms if ("iqm", "auc", arm.name) in results.aggregate]
    if len(results.pool) < 2 or not arms:
        return
    rows = tuple(
        (arm.name, metric, name, results.aggregate[name, metric, arm.name])
        for arm in arms
        for metric in ("auc", "final")
        for name in ("iqm", "mean", "median", "optimality_gap")
        if (name, metric, arm.name) in results.aggregate
    )
    yield Picture(
        "aggregate",
        "Scores over all environments",
        sentences.aggregate_caption(results),
        lambda: _draw_aggregate(results, arms),
        Table("aggregate", "Aggregates", ("agent", "metric", "statistic", "estimate"), rows),
    )


def _draw_aggregate(results: Results, arms: Sequence[Arm]) -> Figure:
    panels = (
        ("iqm", "auc", "IQM of area under curve"),
        ("iqm", "final", "IQM of final score"),
        ("mean", "final", "mean of final score"),
    )
    figure, grid = _figure(0.75 + ROW * len(arms), 1, len(panels), sharey=True)
    appearance = looks(results.arms)
    for axes, (name, metric, label) in zip(grid[0], panels, strict=True):
        for y, arm in enumerate(arms):
            _mark(axes, y, results.aggregate[name, metric, arm.name], appearance[arm.name])
        _rows_axis(axes, [arm.name for arm in arms], [appearance[a.name].color for a in arms])
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel(label)
    for axes in grid[0, 1:]:
        axes.tick_params(labelleft=False)
    return figure


def _profile(results: Results) -> Iterator[Picture]:
    if not results.profile:
        return
    rows = tuple(
        (
            name,
            float(tau),
            float(curve[0][i]),
            *(None if e is None else float(e[i]) for e in curve[1:]),
        )
        for name, curve in results.profile.items()
        for i, tau in enumerate(results.profile_thresholds)
    )
    yield Picture(
        "profile",
        "Performance profiles",
        sentences.profile_caption(results),
        lambda: _draw_profile(results),
        Table("profile", "Performance profiles", ("agent", "level", "share", "low", "high"), rows),
    )


def _draw_profile(results: Results) -> Figure:
    figure, grid = _figure(2.9)
    axes: Axes = grid[0, 0]
    appearance, taus, labels = looks(results.arms), results.profile_thresholds, []
    for name, (share, low, high) in results.profile.items():
        look = appearance[name]
        if low is not None and high is not None:
            axes.fill_between(taus, low, high, color=look.color, alpha=0.14, lw=0)
        axes.plot(taus, share, color=look.color, ls=look.line)
        labels.append((float(share[-6]), shorten(name, 18), look.color))
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    axes.set_xlabel("final score, normalised (0 random, 1 optimal)")
    axes.set_ylabel("share of runs above")
    _legend(axes, results, list(results.profile))
    return figure


def _legend(axes: Axes, results: Results, names: Sequence[str]) -> None:
    appearance = looks(results.arms)
    for name in names:
        look = appearance[name]
        axes.plot([], [], color=look.color, ls=look.line, label=shorten(name))
    axes.legend(loc="lower left", frameon=False, fontsize=8.5, handlelength=3.2)


def _speed(results: Results) -> Iterator[Picture]:
    if not results.speed:
        return
    rows = tuple(
        (item.task, item.arm, seed, step, "reached" if reached else "censored")
        for item in results.speed
        for seed, step, reached in item.arrivals
    )
    heads = ("environment", "agent", "seed", "step", "outcome")
    yield Picture(
        "speed",
        "How many steps to the threshold",
        sentences.speed_caption(results),
        lambda: _draw_speed(results),
        Table("steps-by-seed", "Steps to the threshold of every run", heads, rows),
    )


def _draw_speed(results: Results) -> Figure:
    names = list(dict.fromkeys(item.task for item in results.speed))
    groups = [[item for item in results.speed if item.task == name] for name in names]
    heights = [0.62 + ROW * len(group) for group in groups]
    figure, grid = _figure(sum(heights) + 0.2, len(names), 1, height_ratios=heights)
    appearance = looks(results.arms)
    for axes, name, group in zip(grid[:, 0], names, groups, strict=True):
        task = results.task(name)
        for y, item in enumerate(group):
            _speed_row(axes, y, item, appearance[item.arm], task.end)
        _rows_axis(axes, [i.arm for i in group], [appearance[i.arm].color for i in group])
        axes.set_xlim(min(task.start, 0.0), task.end * 1.05)
        axes.axvline(task.end, color=MUTED, lw=0.7, ls=(0, (1, 2)), zorder=0)
        axes.xaxis.set_major_formatter(FuncFormatter(_steps))
        axes.set_title(f"{shorten(name, 30)}: return ≥ {show_float(task.threshold or 0.0)}")
        _right_texts(axes, [f"{i.reached} of {i.n}" for i in group])
    grid[-1, 0].set_xlabel("environment steps (▸ not reached when last seen)")
    return figure


def _speed_row(axes: Axes, y: int, item: Speed, look: Look, end: float) -> None:
    heights = y + _jitter(item.n)
    arrived = np.array([yes for _, _, yes in item.arrivals])
    steps = np.array([step for _, step, _ in item.arrivals])
    axes.plot(steps[arrived], heights[arrived], ".", ms=4.6, color=look.color, alpha=0.42, mew=0)
    axes.plot(
        np.where(steps[~arrived] >= 0.9 * end, end * 1.02, steps[~arrived]),
        heights[~arrived],
        marker=">",
        ls="none",
        ms=3.6,
        color=look.color,
        alpha=0.75,
        mew=0,
    )
    middle = item.median
    if middle.low is not None and middle.high is not None and np.isfinite(middle.low):
        axes.plot([middle.low, min(middle.high, end)], [y, y], color=look.color, lw=2.2, zorder=3)
    if np.isfinite(middle.estimate):
        shape: dict[str, Any] = {"mfc": look.color, "mec": PAPER, "mew": 0.6}
        axes.plot([middle.estimate], [y], marker=look.marker, ms=6.5, ls="none", zorder=4, **shape)


def _improvement(results: Results) -> Iterator[Picture]:
    arms = results.arms
    if not results.improvement or len(arms) > MAX_MATRIX or len(couples(arms)) < 1:
        return
    rows = tuple((i.first, i.second, i.interval, i.decided) for i in results.improvement)
    yield Picture(
        "improvement",
        "How likely one run beats another",
        sentences.improvement_caption(results),
        lambda: _draw_improvement(results),
        Table(
            "improvement", "Probability of improvement", ("first", "second", "P", "decided"), rows
        ),
    )


def _draw_improvement(results: Results) -> Figure:
    arms = list(results.arms)
    n = len(arms)
    figure, grid = _figure(0.75 + 0.52 * n)
    axes: Axes = grid[0, 0]
    colors = matplotlib.colormaps["PuOr"]
    place = {arm.name: i for i, arm in enumerate(arms)}
    small = 8 if n <= 6 else 6.5
    for item in results.improvement:
        for flip in (False, True):
            first, second = (item.second, item.first) if flip else (item.first, item.second)
            row, col = place[first], place[second]
            value = _flip(item.interval, flip)
            hatch = None if item.decided else "////"
            face = colors(0.5 + 0.55 * (value.estimate - 0.5)) if item.decided else "none"
            axes.add_patch(
                Rectangle(
                    (col - 0.48, row - 0.46), 0.96, 0.92, fc=face, ec=FAINT, hatch=hatch, lw=0.5
                )
            )
            ink = "#111111" if item.decided else INK
            weight = "bold" if item.decided else "normal"
            ends = f"{value.low:.2f}–{value.high:.2f}"
            axes.text(
                col,
                row - 0.12,
                f"{value.estimate:.2f}",
                ha="center",
                va="center",
                color=ink,
                weight=weight,
            )
            axes.text(
                col, row + 0.23, ends, ha="center", va="center", color=ink, fontsize=small - 1
            )
    names = [shorten(arm.name, 16) for arm in arms]
    axes.set_xlim(-0.55, n - 0.45)
    axes.set_ylim(n - 0.45, -0.55)
    axes.set_xticks(range(n), names)
    axes.set_yticks(range(n), names)
    axes.tick_params(length=0, labeltop=True, labelbottom=False, labelcolor=INK)
    axes.set_xlabel("P(row > column)")
    for side in axes.spines.values():
        side.set_visible(False)
    return figure


def _flip(interval: Interval, flip: bool) -> Interval:
    if not flip or interval.low is None or interval.high is None:
        return interval
    low, high = 1.0 - interval.high, 1.0 - interval.low
    return Interval(1.0 - interval.estimate, low, high, interval.n, interval.confidence)


def _stability(results: Results) -> Iterator[Picture]:
    arms = [arm for arm in results.arms if ("drawdown", arm.name) in results.stability]
    if not arms:
        return
    rows = tuple(
        (arm.name, key, results.stability[key, arm.name])
        for arm in arms
        for key in STABILITY_NAMES
        if (key, arm.name) in results.stability
    )
    yield Picture(
        "stability",
        "How steady the agents are",
        sentences.stability_caption(results),
        lambda: _draw_stability(results, arms),
        Table("stability", "Stability", ("agent", "quantity", "estimate"), rows),
    )


def _draw_stability(results: Results, arms: Sequence[Arm]) -> Figure:
    keys = ("spread", "variation", "drawdown", "collapse")
    labels = (
        "IQR over seeds",
        "IQR of change per 1% of steps",
        "worst 5% of drawdowns, mean",
        "share of runs",
    )
    figure, grid = _figure(2 * (0.72 + ROW * len(arms)), 2, 2, sharey=True)
    appearance = looks(results.arms)
    for axes, key, label in zip(grid.flat, keys, labels, strict=True):
        for y, arm in enumerate(arms):
            if (key, arm.name) in results.stability:
                _mark(axes, y, results.stability[key, arm.name], appearance[arm.name])
        _rows_axis(axes, [arm.name for arm in arms], [appearance[a.name].color for a in arms])
        axes.set_xlim(0.0, 1.04 * axes.get_xlim()[1])
        axes.set_title(STABILITY_NAMES[key])
        axes.set_xlabel(label)
    grid[1, 1].xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    return figure
