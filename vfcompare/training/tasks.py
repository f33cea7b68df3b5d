"""The one way to an environment, from its part of a configuration."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vfcompare.assemble import assemble
from vfcompare.tree import made_by


def make(config: Mapping[str, Any]) -> Any:
    """Make an environment; one of the user's own, or around it, is asked whether it does what it says.

    Raises:
      ValueError: where it does not.
    """
    from vfcompare.contract import require_task

    env = assemble(config, "env")
    if "_target_" not in config or own(config):
        require_task(env)
    return env


def shared(config: Mapping[str, Any]) -> Any:
    """An environment that cells share, and what was computed of it."""
    return _shared(json.dumps(config))


@lru_cache(maxsize=8)
def _shared(config: str) -> Any:
    return make(json.loads(config))


def own(config: Mapping[str, Any]) -> list[str]:
    """The parts of the user's own, with what makes them."""
    return [
        f"{path.rpartition('.')[0]} ({target})"
        for path, target in made_by(config).items()
        if not target.startswith("vfcompare.")
    ]
