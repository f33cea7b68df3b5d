"""Configurations of unknown origin, in which nothing need be what it should: what is not there is empty.

What the project itself has resolved and checked is read with `vfcompare.schema.tree`, which raises.
"""

from collections.abc import Mapping
from typing import Any


def tree(config: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """A part of a configuration, `agent.policy`; empty where it is anything else."""
    found: Any = config
    for key in path.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def setting(config: Mapping[str, Any], path: str) -> str | float | bool | None:
    """A value of a configuration, `agent.policy.success`; None where there is none.

    Configurations are files of unknown origin: what is no plain value counts as none.
    """
    parent, _, key = path.rpartition(".")
    found = tree(config, parent).get(key)
    return found if isinstance(found, str | int | float) else None


def part(config: Mapping[str, Any], path: str) -> str:
    """Name of the function or class that stands there, without its package."""
    return str(setting(config, f"{path}._target_") or "").rpartition(".")[2]
