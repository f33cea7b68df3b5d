"""From plain configuration to objects: `_target_` names what is called, `_partial_` what waits for more.

Hydra's `instantiate` does the same for values that its configuration can hold. Here a value may be anything,
also a number that JAX traces.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any

from vfcompare.errors import InputError, NotAllowed, error_text, nearest, user_frame

KINDS: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    int | float: "a number",
    str: "a word",
    bool: "true or false",
}
"""What a parameter of this type takes; null stands for none of them."""


def assemble(node: Any, place: str = "", /, **more: Any) -> Any:
    """Call what a configuration names, innermost first.

    Args:
      node: plain data; a mapping with `_target_` is a call with its other entries, bound if `_partial_` is
        true.
      place: where it stands, as `agent.estimator`, to be told where something is wrong with it.
      more: further arguments of the outermost call.

    Raises:
      InputError: where a part is not there, is not given what it takes, or is the user's own and raises.
    """
    if isinstance(node, list | tuple):
        return [assemble(item, f"{place}.{i}") for i, item in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    name, bound = str(node.get("_target_", "")), bool(node.get("_partial_"))
    for key, item in node.items():
        if name.startswith("vfcompare.") and isinstance(item, Mapping) and "_target_" not in item:
            raise InputError(
                f"{place}.{key} has no _target_; allowed: _target_: module.name in its file"
            )
    parts = {
        key: assemble(item, f"{place}.{key}" if place else str(key))
        for key, item in node.items()
        if key not in ("_target_", "_partial_")
    }
    if "_target_" not in node:
        return parts
    target = locate(name, place)
    _must_take(target, {**parts, **more}, f"{place} ({name})", bound=bound)
    if bound:
        return partial(target, **parts, **more)
    try:
        return target(**parts, **more)
    except NotAllowed as error:
        raise InputError(f"{place}.{error}".lstrip(".")) from error
    except (Exception, SystemExit) as error:
        if isinstance(error, InputError) or name.startswith("vfcompare."):
            raise
        raise InputError(f"{place} ({name}): {error_text(error)}{user_frame(error)}") from error


def locate(path: str, place: str) -> Callable[..., Any]:
    """The function or class of a dotted path.

    Raises:
      InputError: where there is none.
    """
    module, _, name = path.rpartition(".")
    field = f"{place}._target_={path}"
    if not module:
        raise InputError(f"{field} is not allowed; allowed: module.name")
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        ours = str(error.name) in (module, module.partition(".")[0])
        hint = "; is its folder on PYTHONPATH?" if ours else user_frame(error)
        raise InputError(f"{field}: {error}{hint}") from error
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{field} cannot be imported: {error_text(error)}{user_frame(error)}"
        ) from error
    if not hasattr(found, name):
        raise InputError(f"{field}: {module} has no {name}{nearest(name, dir(found))}")
    target: Callable[..., Any] = getattr(found, name)
    return target


@cache
def _signature(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


def _must_take(
    target: Callable[..., Any], given: Mapping[str, Any], who: str, *, bound: bool
) -> None:
    """Refuse what a part does not take, and what it lacks if it is called at once."""
    try:
        known = _signature(target)
    except (TypeError, ValueError):
        return
    named = {
        name: one
        for name, one in known.items()
        if one.kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    }
    if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values()):
        for key in sorted(given.keys() - named.keys()):
            allowed = ", ".join(named) or "nothing"
            raise InputError(f"{who} takes no {key}; allowed: {allowed}{nearest(key, named)}")
    for key, value in given.items():
        kind = KINDS.get(named[key].annotation) if key in named and value is None else None
        if kind:
            raise InputError(f"{who}: {key}=null is not allowed; allowed: {kind}")
    lacks = [
        name
        for name, one in named.items()
        if one.default is inspect.Parameter.empty and name not in given
    ]
    if lacks and not bound:
        raise InputError(
            f"{who} is not given {', '.join(lacks)}; allowed: _partial_: true, where it is called later with "
            "them, or values for them"
        )
