"""Configurations on disk, of unknown origin, read as plain data."""

from pathlib import Path
from typing import Any

import yaml

from vfcompare.runs import store

TEXT_BYTES = 8_000_000
DEPTH = 64

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The parser in C, where PyYAML was built with it, takes a tenth of the time."""


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping of bounded size and depth, parsed without any constructor beyond plain data."""
    text = store.bounded(path, TEXT_BYTES).decode("utf-8")
    try:
        _must_be_shallow(text)
        loader = LOADER(text)
        node = loader.get_single_node()
        _must_say_once(node)
        return _mapping(None if node is None else loader.construct_document(node))
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("not plain YAML") from error


def _must_be_shallow(text: str) -> None:
    """Refuses aliases, which a resolved config has not and which grow without bound, and deep nesting.

    The parser in C composes by recursion, and overflows the stack where Python would raise.
    """
    depth = 0
    for event in yaml.parse(text, LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent) or depth > DEPTH:
            raise yaml.YAMLError("aliases and deep nesting are refused")


def _must_say_once(node: Any) -> None:
    """Refuses a key that a mapping has twice, of which YAML keeps the last without a word."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _must_say_once(item)
    if isinstance(node, yaml.MappingNode):
        said = set()
        for key, value in node.value:
            word = str(key.value)
            if word in said:
                raise ValueError(
                    f"{word[:80]} stands there twice, in line {key.start_mark.line + 1} again"
                )
            said.add(word)
            _must_say_once(value)


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("not a mapping")
    return value
