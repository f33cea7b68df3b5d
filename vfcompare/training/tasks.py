"""The one way to an environment, from its part of a configuration."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from vfcompare.assemble import assemble
from vfcompare.schema.tree import made_by


def make(config: Mapping[str, Any]) -> Any:
    """Make an environment; one of the user's own, or a wrapper of one, is checked to be a task.

    Raises:
      ValueError: where it is none, see `vfcompare.contract.require_task`.
    """
    from vfcompare.contract import require_task

    env = assemble(config, "env")
    if "_target_" not in config or own(config):
        require_task(env)
    return env


def shared(config: Mapping[str, Any]) -> Any:
    """Make an environment, or find the one made before of the same configuration, with what it has cached.

    Raises:
      ValueError: as `make`.
    """
    return _shared(json.dumps(config))


@lru_cache(maxsize=8)
def _shared(config: str) -> Any:
    return make(json.loads(config))


def reference(config: Mapping[str, Any]) -> Any:
    """Returns that what is learned on an environment is compared with, `vfcompare.envs.base.Reference`.

    Raises:
      ValueError: as `make`, and where one of the user's own says no scale, see
        `vfcompare.contract.require_reference`.
    """
    from vfcompare.contract import require_reference

    known = shared(config).held_out().reference
    if own(config):
        require_reference(known)
    return known


def own(config: Mapping[str, Any]) -> list[str]:
    """Parts of a configuration that are the user's own: those whose `_target_` is not in vfcompare.

    Returns:
      Each as `path (target)`, such as `env (mine.Lake)`.
    """
    return [
        f"{path.rpartition('.')[0]} ({target})"
        for path, target in made_by(config).items()
        if not target.startswith("vfcompare.")
    ]
