"""Small smooth pictures in numpy: shapes are signed distances, painted with one pixel of blending.

An image is `float32[height, width, 3]` in 0 to 255; points are `(x, y)` in pixels, y downwards.
"""

import itertools
from collections.abc import Sequence

import numpy as np

Colour = tuple[int, int, int]
Point = tuple[float, float]

PAPER: Colour = (250, 249, 246)
FLOOR: Colour = (238, 236, 230)
INK: Colour = (47, 54, 64)
GREY: Colour = (168, 172, 178)
BLUE: Colour = (45, 114, 178)
GREEN: Colour = (46, 139, 87)
RED: Colour = (200, 72, 62)
GOLD: Colour = (226, 160, 40)
SKY: Colour = (198, 222, 240)


def canvas(height: int, width: int, colour: Colour = PAPER) -> np.ndarray:
    """An image of one colour."""
    return np.full((height, width, 3), colour, np.float32)


def finish(image: np.ndarray) -> np.ndarray:
    """The image as `uint8[height, width, 3]`."""
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def disk(image: np.ndarray, centre: Point, radius: float, colour: Colour) -> None:
    """Paint a filled circle."""
    image, x, y = _window(image, centre, centre, radius)
    _paint(image, np.hypot(x - centre[0], y - centre[1]) - radius, colour)


def line(image: np.ndarray, start: Point, end: Point, width: float, colour: Colour) -> None:
    """Paint a straight stroke with round ends."""
    image, x, y = _window(image, start, end, width)
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = max(dx * dx + dy * dy, 1e-12)
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / length, 0.0, 1.0)
    distance = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy)
    _paint(image, distance - width / 2, colour)


def polyline(image: np.ndarray, points: Sequence[Point], width: float, colour: Colour) -> None:
    """Paint straight strokes from point to point."""
    for start, end in itertools.pairwise(points):
        line(image, start, end, width, colour)


def box(
    image: np.ndarray,
    centre: Point,
    size: tuple[float, float],
    colour: Colour,
    angle: float = 0.0,
    corner: float = 0.0,
) -> None:
    """Paint a rectangle of `(width, height)`, turned clockwise by `angle`, with rounded corners."""
    image, x, y = _window(image, centre, centre, float(np.hypot(*size)))
    x, y = x - centre[0], y - centre[1]
    c, s = np.cos(angle), np.sin(angle)
    outside_x = np.abs(c * x + s * y) - size[0] / 2 + corner
    outside_y = np.abs(c * y - s * x) - size[1] / 2 + corner
    beyond = np.hypot(np.maximum(outside_x, 0), np.maximum(outside_y, 0))
    _paint(image, beyond + np.minimum(np.maximum(outside_x, outside_y), 0) - corner, colour)


def cell(
    image: np.ndarray,
    row: float,
    column: float,
    scale: int,
    colour: Colour,
    inset: float = 0.0,
    corner: float = 0.0,
) -> None:
    """Paint one square of a board whose squares have `scale` pixels; `inset` and `corner` are fractions."""
    if not (inset or corner or row % 1 or column % 1):
        top, left = int(row) * scale, int(column) * scale
        image[top : top + scale, left : left + scale] = colour
        return
    centre = ((column + 0.5) * scale, (row + 0.5) * scale)
    side = scale * (1 - 2 * inset)
    box(image, centre, (side, side), colour, corner=corner * scale)


def _window(
    image: np.ndarray, start: Point, end: Point, margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The part of the image around two points, as a view, and its pixel centres `[1, w]`, `[h, 1]`."""
    low = np.floor(np.minimum(start, end) - margin - 1).astype(int).clip(0)
    high = np.ceil(np.maximum(start, end) + margin + 1).astype(int).clip(0)
    view = image[low[1] : high[1], low[0] : high[0]]
    height, width = view.shape[:2]
    return view, low[0] + np.arange(width)[None] + 0.5, low[1] + np.arange(height)[:, None] + 0.5


def _paint(image: np.ndarray, distance: np.ndarray, colour: Colour) -> None:
    """Blend a colour in where the signed distance is negative."""
    cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None].astype(np.float32)
    image += cover * (np.asarray(colour, np.float32) - image)
