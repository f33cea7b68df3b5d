"""Environments over two of their settings: who is ahead where, and who should be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vfcompare.report.analysis import Contrast, Results
from vfcompare.report.chains import begins_with
from vfcompare.report.reading.cells import Cell
from vfcompare.report.table import by_size


@dataclass(frozen=True)
class Plane:
    """One environment over two of its settings.

    Attributes:
      env: its name.
      knobs: names of the two settings, across and up.
      across: values of the first, in order.
      up: values of the second.
      effects: the first side minus the second by (across, up), where there is one.
      expected: by place, the first side's variance relative to the second's, where theory says it (P3).
    """

    env: str
    knobs: tuple[str, str]
    across: tuple[str, ...]
    up: tuple[str, ...]
    effects: Mapping[tuple[str, str], Contrast]
    expected: Mapping[tuple[str, str], float]

    @property
    def told(self) -> list[bool]:
        """At each decided place with a prediction, whether the side with less variance is ahead."""
        return [
            (self.expected[at] < 1.0) == (contrast.verdict == "first")
            for at, contrast in self.effects.items()
            if contrast.better is not None and at in self.expected
        ]


def planes(results: Results) -> Iterator[Plane]:
    """One for each environment of which two settings were varied."""
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
        places = {
            (cell.posed[first], cell.posed[second]): cell.task
            for cell in mine
            if varied.keys() <= cell.posed.keys() and cell.task in results.family_by_task
        }
        if places:
            across, up = (
                tuple(sorted(varied[key], key=lambda value: (by_size(value), value)))
                for key in (first, second)
            )
            effects = {at: results.family_by_task[task] for at, task in places.items()}
            foreseen = ((at, _expected(results, mine, task)) for at, task in places.items())
            expected = {at: ratio for at, ratio in foreseen if ratio is not None}
            yield Plane(env, (first, second), across, up, effects, expected)


def _expected(results: Results, cells: Sequence[Cell], task: str) -> float | None:
    """P3, where each side is one agent on a chain."""
    variances = [
        begins_with(cell.config)
        for side in results.sides.both
        for cell in cells
        if cell.task == task and cell.arm in {arm.name for arm in side}
    ]
    if len(variances) != 2 or variances[0] is None or not variances[1]:
        return None
    return variances[0] / variances[1]
