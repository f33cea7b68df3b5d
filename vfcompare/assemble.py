"""From plain configuration to objects: `_target_` names what is called, `_partial_` what waits for more.

Hydra's `instantiate` does the same for values that its configuration can hold. Here a value may be anything,
also a number that JAX traces.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any


def assemble(node: Any, **more: Any) -> Any:
    """Call what a configuration names, innermost first.

    Args:
      node: plain data; a mapping with `_target_` is a call with its other entries, bound if `_partial_` is
        true.
      more: further arguments of the outermost call.
    """
    if isinstance(node, list | tuple):
        return [assemble(item) for item in node]
    if not isinstance(node, Mapping):
        return node
    parts = {
        key: assemble(item) for key, item in node.items() if key not in ("_target_", "_partial_")
    }
    if "_target_" not in node:
        return parts
    target = locate(str(node["_target_"]))
    return partial(target, **parts, **more) if node.get("_partial_") else target(**parts, **more)


def locate(path: str) -> Callable[..., Any]:
    """The function or class of a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)
