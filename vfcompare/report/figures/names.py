"""What things are called in figures: short, and told apart wherever their names differ."""

import re
from collections.abc import Iterable, Sequence

from vfcompare.report.analysis import Arm, Results
from vfcompare.report.figures.sizes import WIDTH, paper
from vfcompare.report.table import by_size
from vfcompare.words import cut_middle

LABEL, PER_INCH = 24, 6
"""Letters of a name beside a panel, and how many of them an inch of the figure allows."""
SETTING = re.compile(r"(?<=\s)([\w.]+)=(\S*?)(?=,?\s|$)")
"""A setting in the name of an arm."""
NUMBERED = re.compile(r"… (\d+)$")
"""The end of a name that is cut and told apart by its number."""


def shorten(name: str, limit: int = LABEL) -> str:
    """A name that fits beside a mark; the tables have it in full."""
    name = _bare(name)
    return name if len(name) <= limit else f"{name[: limit - 1]}…"


def shortened(names: Sequence[str], limit: int | None = None) -> list[str]:
    """The names of one figure: short, and different wherever the names are.

    Where they are too long, settings that all share are left out, then the names of settings; then they are
    cut at the end or in the middle. Where that makes two equal they may take twice the room, and where that
    does not help either those that are cut are numbered, see `explained`.
    """
    limit = letters() if limit is None else limit
    whole, own, brief = uncut(names)
    for found in (whole, own, brief):
        if max(map(len, found), default=0) <= limit and _as_many(found, names):
            return found
    for room in (limit, 2 * limit):
        for cut in (shorten, cut_middle):
            found = [cut(name, room) for name in brief]
            if _as_many(found, names):
                return found
    meant: dict[str, set[str]] = {}
    for name, text in zip(names, brief, strict=True):
        meant.setdefault(text, set()).add(name)
    alone = {text for text, whose in meant.items() if len(text) <= limit and len(whose) == 1}
    pairs = list(zip(names, brief, strict=True))
    order = list(dict.fromkeys(name for name, text in pairs if text not in alone))
    return [
        text if text in alone else f"{text[: limit - 5]}… {order.index(name) + 1}"
        for name, text in pairs
    ]


def letters() -> int:
    """Most letters of a name beside a panel."""
    return min(LABEL, int(PER_INCH * (paper() or WIDTH)))


def uncut(names: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Names in full, without settings that all share, and without the names of settings."""
    whole = list(map(_bare, names))
    own = _unshared(whole)
    return whole, own, [SETTING.sub(r"\2", name) for name in own]


def explained(names: Sequence[str], shown: Sequence[str]) -> str:
    """Whose values stand in short names without the name of their setting, and whom numbers stand for.

    Args:
      names: of one figure, in full.
      shown: what the figure has instead of each.
    """
    _, own, _ = uncut(names)
    pairs = dict(zip(own, shown, strict=True))
    numbers = {name: m[1] for name, brief in pairs.items() if (m := NUMBERED.search(brief))}
    found = [
        (k, v)
        for name, brief in pairs.items()
        for k, v in SETTING.findall(name)
        if f"{k}=" not in brief and name not in numbers
    ]
    what = "Values" if any(by_size(value)[0] for _, value in found) else "Numbers"
    told = f"{what} behind names: {', '.join(dict(found))}. " if found else ""
    order = sorted(numbers, key=lambda name: int(numbers[name]))
    key = "; ".join(f"{numbers[name]} is {name}" for name in order)
    return f"{told}Names that are cut: {key}. " if key else told


def explained_rows(results: Results, limit: int | None = None) -> str:
    """The same of the arms that have a row or a line, as `called` and `rows_axis` name them."""
    names = row_names(results, results.shown.rows)
    return explained(names, shortened(names, limit))


def _bare(name: str) -> str:
    """A name without what isolates its direction."""
    return name.replace("\N{FIRST STRONG ISOLATE}", "").replace("\N{POP DIRECTIONAL ISOLATE}", "")


def _as_many(found: Sequence[str], names: Sequence[str]) -> bool:
    return len(set(found)) == len(set(names))


def _unshared(names: Sequence[str]) -> list[str]:
    """Names without the settings that all of them have with one value."""
    values: dict[str, set[str]] = {}
    for key, value in (pair for name in names for pair in SETTING.findall(name)):
        values.setdefault(key, set()).add(value)
    everywhere = [{key for key, _ in SETTING.findall(name)} for name in names]
    shared = (
        {key for key in set.intersection(*everywhere) if len(values[key]) == 1} if names else ()
    )
    for text in (re.escape(f"{key}={next(iter(values[key]))}") for key in shared):
        names = [re.sub(rf"(?<=\s){text}, |,? {text}(?=\s|$)", "", name) for name in names]
    return list(names)


def brief_names(tasks: Sequence[str]) -> dict[str, str]:
    """Tasks without the name of the environment, where all are the same one in several settings."""
    parts = [name.partition(" ") for name in tasks]
    alike = len(parts) > 1 and len({env for env, _, _ in parts}) == 1
    whole = not alike or not all(rest for _, _, rest in parts)
    return {name: name if whole else rest for name, (_, _, rest) in zip(tasks, parts, strict=True)}


def row_names(results: Results, arms: Sequence[Arm]) -> list[str]:
    """What the arms are called in figures."""
    return [results.called(arm.name) for arm in arms]


def called(results: Results, arms: Iterable[str], limit: int = LABEL) -> dict[str, str]:
    """What a figure calls these arms: short, and told apart from all that are drawn anywhere."""
    wanted = list(arms)
    # in the order that captions number them in
    names = list(dict.fromkeys([*(arm.name for arm in results.shown.rows), *wanted]))
    brief = dict(zip(names, shortened([*map(results.called, names)], limit), strict=True))
    return {name: brief[name] for name in wanted}
