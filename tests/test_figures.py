"""Figures in the width of a paper's text: nothing is cut, nothing covers anything, panels are of use."""

import json
import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from tests import report_study
from tests import test_report_oracle as lab
from tests import test_report_scale as scale
from tests.report_study import ENVS, edit, write_parquet, write_study
from vfcompare import report
from vfcompare.report.figures import drawing, output, sizes
from vfcompare.report.figures.fitting import fit
from vfcompare.report.pages.document import compose
from vfcompare.report.pages.venues import width_of

VENUES = ("icml2024_half", "neurips2024")
"""3.25 and 5.5 inches."""
EDGE = 1.5
"""Pixels that a letter may stand over the edge, by rounding."""
PANEL, PICTURE = 0.8, 0.44
"""Least inches of a panel with axes, and of a picture without."""
SMALLEST = 7.0


_quick = report_study.quick(50, 50, svg=True)


def write_compared(root: Path) -> Path:
    """Two environments with all costs, and pictures of episodes."""
    names = ("reinforce_mean", "rloo", "grpo", "a2c", "ppo")
    agents = dict(zip(names, (0.8, 1.2, 1.1, 1.7, 1.8), strict=True))
    envs = {name: ENVS[name] for name in ("cartpole", "maze")}
    study = write_study(root, agents=agents, envs=envs, points=6)
    for number, path in enumerate(sorted(study.glob("*/run.json"))):
        edit(path, lambda run: run.update(env_steps=4 * 100_000, flops=6e9))
        steps = {"update": list(range(50)), "gradient_steps": [1.0 + number] * 50}
        write_parquet(path.parent / "metrics.parquet", steps)
        run: dict[str, Any] = {"frames": np.zeros((8, 30, 40, 3), np.uint8), "steps": range(8)}
        run |= {"length": 7, "return": 1.0, "seed": 12}
        both: dict[str, Any] = {f"{w}_{k}": v for w in ("median", "worst") for k, v in run.items()}
        if number < 2:
            np.savez(path.parent / "paths.npz", **both)
    return study


def write_settings(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Agents of four settings, which make long names."""
    monkeypatch.setattr(scale, "RATES", scale.RATES[2:4])
    monkeypatch.setattr(scale, "AGENTS", {"reinforce": 0.8, "rloo": 1.2, "ppo": 1.8})
    return scale.write_sweep(root)


def write_lab(root: Path) -> Path:
    """The oracle lab, with mazes."""
    study = lab.write_study(root)
    lab.write_maps(study / "rloo-0.5", critic=False)
    lab.write_maps(study / "oracle_v-0.5")
    return study


def write_crowd(root: Path) -> Path:
    """More agents in the lab than a legend can tell apart."""
    study = lab.write_study(root)
    plan = json.loads((study / "plan.json").read_text())
    for number in range(9):
        copy = f"agent_{number}-0.5"
        shutil.copytree(study / "rloo-0.5", study / copy)
        cell = {"id": copy, "agent": f"agent_{number}", "env": "lock", "seeds": list(range(6))}
        plan["cells"].append({**cell, "settings": {"agent.policy.success": "0.5"}})
    (study / "plan.json").write_text(json.dumps(plan))
    return study


def write_plane(root: Path) -> Path:
    """Two settings of the problem."""
    return lab.write_plane(root, ("oracle_td", "rloo"), ahead=lambda ratio: ratio < 1.0)


def shown_ticks(axes: Axes, across: bool) -> list[Text]:
    axis = axes.xaxis if across else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    spare = 1e-6 * (high - low)
    return [
        label
        for label in axis.get_ticklabels(which="both")
        if label.get_visible() and label.get_text()
        if low - spare <= label.get_position()[not across] <= high + spare
    ]


def ticks_that_touch(axes: Axes) -> Iterator[str]:
    for across in (True, False):
        labels = [t for t in shown_ticks(axes, across) if t.get_rotation() % 90 == 0]
        for one, other in combinations(labels, 2):
            if one.get_window_extent().overlaps(other.get_window_extent()):
                yield f"{one.get_text()!r} covers {other.get_text()!r}"


def texts_of(figure: Figure) -> list[Text]:
    """Everything that is written."""
    found = [text for item in figure.legends for text in item.get_texts()]
    for axes in (axes for axes in figure.axes if axes.get_visible()):
        children = axes.get_children()
        found += [child for child in children if isinstance(child, Text)]
        if axes.axison:
            found += [*shown_ticks(axes, True), *shown_ticks(axes, False)]
            found += [axes.xaxis.label, axes.yaxis.label]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def texts_that_overprint(figure: Figure) -> Iterator[str]:
    """Pairs of texts, of which a line of empty ones above another title is none."""
    texts = [text for text in texts_of(figure) if not text.get_text().endswith("\n")]
    boxes = [
        (text.get_text(), Text.get_window_extent(text))
        for text in texts
        if text.get_rotation() % 90 == 0
    ]
    for (one, a), (other, b) in combinations(boxes, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        # boxes have room for letters with tails
        if across > EDGE and up > 2 * EDGE:
            yield f"{one!r} overprints {other!r}"


def mistakes(figure: Figure, width: float) -> Iterator[str]:
    """What a reader would see to be wrong with a figure that is laid out."""
    if figure.get_figwidth() != width:
        yield f"{figure.get_figwidth()} inches wide"
    whole = figure.bbox
    for text in texts_of(figure):
        # without the line that an annotation may have
        box = Text.get_window_extent(text)
        inside = box.x0 > -EDGE and box.y0 > -EDGE
        if not inside or box.x1 > whole.x1 + EDGE or box.y1 > whole.y1 + EDGE:
            yield f"{text.get_text()!r} is cut"
        if float(text.get_fontsize()) < SMALLEST:
            yield f"{text.get_text()!r} is small"
    for item in figure.legends:
        box = item.get_window_extent()
        if box.x0 < -EDGE or box.x1 > whole.x1 + EDGE:
            yield "the legend is cut"
    for axes in (axes for axes in figure.axes if axes.get_visible()):
        inches = axes.bbox.width / figure.dpi
        if inches < (PANEL if axes.axison else PICTURE):
            yield f"a panel of {inches:.2f} inches"
        if axes.axison:
            yield from ticks_that_touch(axes)
    yield from texts_that_overprint(figure)


STUDIES: dict[str, Any] = {
    "compared": (
        write_compared,
        *("families", "overview", "learning-1", "costs", "scores", "aggregate", "profile"),
        *("speed", "pairs", "improvement", "stability", "paths-1"),
    ),
    "settings": (
        write_settings,
        *(
            "learning-1",
            "scores",
            "aggregate",
            "settings",
            "knobs",
            "sensitivity",
            "speed",
            "pairs",
        ),
    ),
    "lab": (
        write_lab,
        *("oracle-variance", "oracle-cosine", "oracle-tradeoff", "maps-agents-1", "maps-1"),
    ),
    "crowd": (write_crowd, "oracle-variance", "oracle-cosine", "oracle-tradeoff"),
    "plane": (write_plane, "phase-1", "families", "overview", "scores", "speed"),
}
"""How to write a study, and which of its figures."""


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("name", STUDIES)
def test_nothing_is_cut_or_covered_in_the_width_of_a_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, venue: str
) -> None:
    write, *wanted = STUDIES[name]
    study = write(tmp_path, *[monkeypatch] * (write is write_settings))
    width, wrong = width_of(venue), {}
    assert width is not None
    with output.style(width):
        pictures = compose(report.load(study)).pictures
        for picture in wanted:
            figure = pictures[picture].draw()
            fit(figure)
            figure.draw_without_rendering()
            wrong[picture] = list(mistakes(figure, width))
    assert {picture: found for picture, found in wrong.items() if found} == {}


def test_the_width_of_a_paper_is_forgotten_after_it() -> None:
    with output.style(3.25):
        assert drawing.canvas(2.0, broad=1.5)[0].get_figwidth() == 3.25
        assert sizes.points(7.5) == SMALLEST
    assert drawing.canvas(2.0, broad=1.5)[0].get_figwidth() == 1.5 * sizes.WIDTH
    assert sizes.points(6.5) == 6.5


@pytest.mark.parametrize(
    ("width", "count", "columns"),
    [(None, 5, 4), (3.25, 5, 2), (5.5, 4, 2), (5.5, 5, 3), (6.75, 5, 3), (6.75, 8, 4), (1.0, 3, 1)],
)
def test_panels_stand_beside_each_other_as_far_as_there_is_room(
    width: float | None, count: int, columns: int
) -> None:
    with output.style(width):
        assert sizes.beside(count, 4, 1.6) == columns


def test_a_title_is_broken_between_words_and_a_long_word_after_a_sign() -> None:
    with output.style(3.25):
        figure, grid = drawing.canvas(1.5, 1, 2)
        grid[0, 0].set_title("critic_of_the_returns_to_go decides it")
        grid[0, 1].set_title("rloo")
        fit(figure)
    lines = grid[0, 0].get_title(loc="left").split("\n")
    assert lines == ["critic_of_the_returns_to_", "go decides it"]
    assert figure.get_figheight() > 1.5


def test_a_caption_promises_no_numbers_that_a_narrow_figure_has_no_room_for(
    tmp_path: Path,
) -> None:
    study = write_study(tmp_path, envs={"maze": ENVS["maze"]}, seeds=3)
    said = {}
    for width in (None, 3.25, 5.5):
        with output.style(width):
            said[width] = compose(report.load(study)).pictures["scores"].caption
    assert "Marks and numbers" in said[None]
    assert said[5.5] == said[None]
    assert "numbers" not in said[3.25]
    assert "bold" not in said[3.25]


def test_a_figure_in_a_paper_is_no_higher_than_its_page_and_says_what_is_left_out(
    tmp_path: Path,
) -> None:
    envs = {f"maze{i}": ENVS["maze"] for i in range(13)}
    study = write_study(tmp_path, agents={"ppo": 1.8, "rloo": 1.2}, envs=envs, seeds=2, points=4)
    with output.style(3.25):
        picture = compose(report.load(study)).pictures["overview"]
        figure = picture.draw()
        fit(figure)
    shown = sum(axes.get_visible() for axes in figure.axes)
    assert f"The first {shown} of 13 environments are drawn" in picture.caption
    assert figure.get_figheight() < sizes.TALL
