"""Configurations as trees of plain data: their leaves and numbers, and what a part is made by."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a plain number: Python counts true and false among them."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite(value: object) -> float | None:
    """A finite number as a float, None for anything else: a whole one may be too long to be a float."""
    if not is_number(value):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def leaves(
    config: Mapping[str, Any], path: str = "", *, lists: bool = False
) -> Iterator[tuple[str, str, Any]]:
    """Every value of a configuration as `(path, key, value)`; a list is one, or with `lists` each in it."""
    for key, value in config.items():
        here = f"{path}.{key}" if path else str(key)
        inner: Any = dict(enumerate(value)) if lists and isinstance(value, list | tuple) else value
        if isinstance(inner, Mapping):
            yield from leaves(inner, here, lists=lists)
        else:
            yield here, str(key), value


def at(config: Mapping[str, Any], path: str) -> Any:
    """A leaf of a configuration."""
    found: Any = config
    for key in path.split("."):
        found = found[key]
    return found


def replaced(node: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """The same tree with one leaf replaced."""
    key, rest = path[0], path[1:]
    return {**node, key: replaced(node[key], rest, value) if rest else value}


def function(part: Mapping[str, Any] | None) -> str:
    """Name of the function that makes a part, without its module; empty where there is none."""
    return str((part or {}).get("_target_", "")).rpartition(".")[2]


def made_by(config: Mapping[str, Any], *, lists: bool = False) -> dict[str, str]:
    """What makes each part of a configuration, by the path of its `_target_`; `lists` as for `leaves`."""
    found = leaves(config, lists=lists)
    return {path: str(value) for path, key, value in found if key == "_target_"}
