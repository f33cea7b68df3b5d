"""One table, however it is shown: typed cells, and the one way a number is printed."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vfcompare.statistics import MIN_RUNS, Interval
from vfcompare.words import cut_middle

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
PRINTED = 60
"""Rows of a longer table that the page prints; the files have all."""

SMALLEST = 0.0005
"""Size from which three decimals show a number."""

P_VALUE = "adjusted p"
"""Heading of a column whose numbers are p-values."""

Value = str | int | float | Interval | None


@dataclass(frozen=True)
class Table:
    """A table with typed cells.

    Attributes:
      id: name of its file.
      title: what it shows.
      columns: headings.
      rows: texts, counts, numbers and intervals.
      note: what a reader must know to read it.
      marks: class of a row, by index: `bad` or `good`.
      head: number of its first rows that the page prints; `PRINTED` of them if None.
      letters: how many of a text the page prints, by column; the files have all.
    """

    id: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""
    marks: Mapping[int, str] = field(default_factory=dict)
    head: int | None = None
    letters: Mapping[str, int] = field(default_factory=dict)

    @property
    def printed(self) -> tuple[tuple[Value, ...], ...]:
        """The rows that the page prints."""
        return self.rows[: PRINTED if self.head is None else self.head]

    @property
    def rest(self) -> str:
        """What is said where not all rows are printed."""
        if len(self.printed) == len(self.rows):
            return ""
        return f"{len(self.printed):,} of {len(self.rows):,} rows; the files have all."

    def texts(self) -> list[list[str]]:
        """What is printed in each cell."""
        return [
            [
                cut_middle(show(value, name), self.letters.get(name, math.inf))
                for name, value in zip(self.columns, row, strict=True)
            ]
            for row in self.printed
        ]

    def only(self, columns: Sequence[str]) -> "Table":
        """The same table with some of its columns."""
        places = [self.columns.index(name) for name in columns]
        rows = tuple(tuple(row[place] for place in places) for row in self.rows)
        return replace(self, columns=tuple(columns), rows=rows)

    def numeric(self, index: int) -> bool:
        """Whether a column holds numbers, and is set flush right."""
        return any(not isinstance(row[index], str | None) for row in self.rows)


def show(value: Value, heading: str = "") -> str:
    """The one way a number is printed in this report, of p-values as their column's heading says."""
    if value is None:
        return NONE
    if heading == P_VALUE and isinstance(value, float):
        return show_p_value(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Interval):
        return show_interval(value)
    if isinstance(value, int):
        return f"{value:,}"
    return show_float(value)


def show_float(value: float) -> str:
    """Three decimals where numbers are about one, four digits otherwise; a true minus sign."""
    if math.isnan(value):
        return NONE
    if math.isinf(value):
        return "never" if value > 0 else f"{MINUS}\N{INFINITY}"
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size >= 10:
        text = f"{value:.1f}"
    elif size >= SMALLEST or size == 0:
        text = f"{value:.3f}"
    else:
        text = f"{value:.1e}"
    return text.replace("-", MINUS)


def show_p_value(p: float) -> str:
    """`0.004`, or `< 0.001`: without false precision."""
    return "< 0.001" if p < 0.001 else show_float(p)


def show_interval(interval: Interval) -> str:
    """`estimate [low, high]`, or `never` where nothing else is possible.

    An estimate too small for three decimals is zero beside an end that is not. Without an interval,
    `estimate (insufficient)` of too few runs, else the estimate alone.
    """
    if interval.low is None or interval.high is None:
        few = " (insufficient)" * (interval.n < MIN_RUNS)
        return f"{show_float(interval.estimate)}{few}"
    if interval.low == interval.high == math.inf:
        return show_float(math.inf)
    ends = f"[{show_float(interval.low)}, {show_float(interval.high)}]"
    small = abs(interval.estimate) < SMALLEST <= max(abs(interval.low), abs(interval.high))
    return f"{show_float(0.0 if small else interval.estimate)} {ends}"


def by_size(text: str) -> tuple[bool, float]:
    """Key by which values of a setting are sorted: numbers by size, and words after them."""
    try:
        return False, float(text)
    except ValueError:
        return True, 0.0


def join(names: Iterable[str], most: int = 6) -> str:
    """`a, b and c`; of more than `most` names the first, and how many more there are."""
    items = list(names)
    if len(items) > most:
        items = [*items[: most - 1], f"{len(items) - most + 1} more"]
    return " and ".join([*filter(None, [", ".join(items[:-1])]), *items[-1:]])
