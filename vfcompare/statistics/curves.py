"""One number for a learning curve."""

import numpy as np
import numpy.typing as npt

from vfcompare.statistics.scores import finite


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
    inside = (x > start) & (x < end)
    knots = np.concatenate([[start], x[inside], [end]])
    heights = np.concatenate([[np.interp(start, x, y)], y[inside], [np.interp(end, x, y)]])
    return float(np.trapezoid(heights, knots) / (end - start))
