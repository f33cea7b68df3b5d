"""What a figure in a paper has no room for, found by measuring it: lines are broken, ticks are left out."""

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogLocator, MaxNLocator

from vfcompare.report.figures.drawing import CORNER

GAP = 0.05
"""Least inches between two texts beside each other, and at the edges."""
SPARE = 0.97
"""Share of the room that is used, as letters of other formats and sizes are a little wider."""
LINES = 4
"""Most lines of one text."""
TICKS = 5
"""Most ticks of an axis whose labels would cover each other."""


def fit(figure: Figure) -> None:
    """Lays a figure out; breaks texts into lines and leaves out ticks, until nothing covers anything.

    Args:
      figure: as wide as it shall be, not yet laid out; it becomes higher by the lines that were broken, so
        that its panels keep their heights.
    """
    layout = figure.get_layout_engine()
    if layout is None:
        return
    layout.execute(figure)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    before = [axes.bbox.height for axes in panels]
    whole = {text: text.get_text() for axes in panels for text in (*_titles(axes), *_said(axes))}
    whole |= {axis.label: axis.label.get_text() for p in panels for axis in (p.xaxis, p.yaxis)}
    broken = list(whole.values())
    # once more, as broken lines and missing ticks change the room of the others
    for _ in range(2):
        last = broken
        for text, words in whole.items():
            text.set_text(words)
        for axes in panels:
            _headings(axes, panels)
            _labels(axes, panels)
        thinned = [_thin(a, across=a is p.xaxis) for p in panels for a in (p.xaxis, p.yaxis)]
        broken = [text.get_text() for text in whole]
        if broken == last and not any(thinned):
            break
        layout.execute(figure)
    lost: dict[int, float] = {}
    for axes, height in zip(panels, before, strict=True):
        spec = axes.get_subplotspec()
        row = spec.rowspan.start if spec else 0
        lost[row] = max(lost.get(row, 0.0), height - axes.bbox.height)
    if sum(lost.values()):
        figure.set_figheight(figure.get_figheight() + sum(lost.values()) / figure.dpi)
        layout.execute(figure)
    # every format takes these places
    figure.set_layout_engine("none")


def _titles(axes: Axes) -> list[Text]:
    texts = [text for text in axes.get_children() if isinstance(text, Text)]
    return [text for text in texts if text not in axes.texts and text.get_text()]


def _said(axes: Axes) -> list[Annotation]:
    """What was found in a panel, under its title."""
    return [text for text in axes.texts if isinstance(text, Annotation) and text.xy == CORNER]


def _ends(axes: Axes, panels: Iterable[Axes]) -> tuple[float, float]:
    """Where the panel to the left ends and the one to the right begins; else the ends of the figure."""
    box, whole = axes.bbox, axes.figure.bbox
    same = [p.bbox for p in panels if p.bbox.y0 < box.y1 and box.y0 < p.bbox.y1]
    left = max((other.x1 for other in same if other.x1 <= box.x0), default=whole.x0)
    return left, min((other.x0 for other in same if other.x0 >= box.x1), default=whole.x1)


def _headings(axes: Axes, panels: Sequence[Axes]) -> None:
    """Titles and what was found, in the room up to the next panel that has any."""
    left, right = _ends(axes, [p for p in panels if _titles(p) or _said(p)])
    titles, said = _titles(axes), _said(axes)
    for text in (*titles, *said):
        backwards = text.get_horizontalalignment() == "right"
        _break(text, axes.bbox.x1 - left if backwards else right - axes.bbox.x0)
    below = "".join("\n" * text.get_text().count("\n") for text in said)
    if len(titles) == 2 and _meet(*titles):
        below = "\n" * (titles[1].get_text().count("\n") + 1)
    if titles and below:
        titles[0].set_text(titles[0].get_text() + below)


def _meet(left: Text, right: Text) -> bool:
    return bool(right.get_window_extent().x0 < left.get_window_extent().x1 + _gap(left))


def _gap(artist: Text | Axis) -> float:
    figure = artist.get_figure(root=True)
    return GAP * figure.dpi if figure else 0.0


def _labels(axes: Axes, panels: Sequence[Axes]) -> None:
    """What both axes are: half of the way to the next panels is theirs."""
    left, right = _ends(axes, panels)
    box, whole = axes.bbox, axes.figure.bbox
    before = box.x0 - left if left == whole.x0 else (box.x0 - left) / 2
    behind = right - box.x1 if right == whole.x1 else (right - box.x1) / 2
    _break(axes.xaxis.label, box.width + 2 * min(before, behind))
    _break(axes.yaxis.label, box.height)


def _break(text: Text, room: float) -> None:
    """Puts a text into lines that fit in so many pixels."""
    whole, most = text.get_text(), SPARE * room - _gap(text)

    def fits(line: str) -> bool:
        text.set_text(line)
        box = text.get_window_extent()
        return bool(max(box.width, box.height) <= most)

    if whole.strip() and not fits(whole):
        parts = [part for line in whole.split("\n") for part in re.split(" {3,}", line)]
        lines = [line for part in parts for line in _lines(part, fits)]
        whole = "\n".join(lines[:LINES]) + "…" * (len(lines) > LINES)
    text.set_text(whole)


def _lines(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Words in as few lines as fit; a word that does not is cut, after a sign if there is one."""
    lines = [""]
    for word in text.split(" "):
        joined = f"{lines[-1]} {word}".strip()
        if fits(joined):
            lines[-1] = joined
            continue
        rest = word
        while not fits(rest) and len(rest) > 1:
            most = max((n for n in range(1, len(rest)) if fits(rest[:n])), default=1)
            signs = [sign.end() for sign in re.finditer(r"[^\w…]|_", rest[:most])]
            cut = signs[-1] if signs else most
            lines.append(rest[:cut])
            rest = rest[cut:]
        lines.append(rest)
    return [line for line in lines if line] or [""]


def _thin(axis: Axis, *, across: bool) -> bool:
    """Fewer ticks, or words that are turned, where labels would cover each other; whether that was so."""
    for fewer in range(TICKS, 0, -1):
        if not _crowded(axis, across):
            return fewer < TICKS
        locator = axis.get_major_locator()
        if isinstance(locator, LogLocator):
            locator.set_params(subs=(1.0,), numticks=fewer)
        elif isinstance(locator, MaxNLocator):
            locator.set_params(nbins=fewer)
        elif across:
            axis.set_tick_params(rotation=90)
    return True


def _crowded(axis: Axis, across: bool) -> bool:
    """Whether two labels of an axis touch; those that are turned a little may."""
    low, high = sorted(axis.get_view_interval())
    spare = 1e-6 * (high - low)
    shown = [
        label.get_window_extent()
        for label in axis.get_ticklabels()
        if label.get_visible() and label.get_text() and label.get_rotation() % 90 == 0
        if low - spare <= label.get_position()[not across] <= high + spare
    ]
    ends = sorted((box.x0, box.x1) if across else (box.y0, box.y1) for box in shown)
    gap = _gap(axis) if across else 0.0
    return any(begin < end + gap for (_, end), (begin, _) in pairwise(ends))
