"""One number for a learning curve."""

import numpy as np
import numpy.typing as npt

from vfcompare.statistics.scores import Array, finite

FINAL_SHARE = 0.1
"""Of the range of steps, at its end: what counts as final."""


def area_under_curve(
    steps: npt.ArrayLike, values: npt.ArrayLike, start: float, end: float
) -> float:
    """Mean height of a learning curve over `[start, end]`: trapezoid area over the range of steps.

    The curve is linear between evaluations. It must cover the range: there is no extrapolation.
    """
    x, y = finite(steps, "steps"), finite(values, "values")
    if end <= start:
        raise ValueError(f"empty range of steps: {start} to {end}")
    if x.size == 0 or x[0] > start or x[-1] < end:
        covered = "nothing" if x.size == 0 else f"{x[0]:g} to {x[-1]:g}"
        raise ValueError(f"the curve covers {covered}, not {start:g} to {end:g}")
    knots, heights = restrict(x, y, start, end)
    return float(np.trapezoid(heights, knots) / (end - start))


def restrict(
    steps: npt.ArrayLike, values: npt.ArrayLike, start: float, end: float
) -> tuple[Array, Array]:
    """A learning curve over `[start, end]`: its evaluations inside, and its values at both ends.

    The curve is linear between evaluations. A budget is overshot by what the last update collects, so that
    without its value at the end a curve would lose its last evaluation.
    """
    x, y = finite(steps, "steps"), finite(values, "values")
    inside = (x > start) & (x < end)
    knots = np.concatenate([[start], x[inside], [end]])
    heights = np.concatenate([[np.interp(start, x, y)], y[inside], [np.interp(end, x, y)]])
    return knots, heights


def final(steps: npt.ArrayLike, values: npt.ArrayLike, start: float, end: float) -> float:
    """Mean of the evaluations in the last tenth of `[start, end]`, the value at its end among them."""
    knots, heights = restrict(steps, values, start, end)
    return float(heights[-final_points(knots, start, end) :].mean())


def final_points(knots: Array, start: float, end: float) -> int:
    """How many evaluations `final` averages, of those that `restrict` returns."""
    return int((knots > end - FINAL_SHARE * (end - start)).sum())
