"""What `vfcompare list` prints of the catalogue."""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from textwrap import wrap
from typing import Any

from omegaconf import OmegaConf

from vfcompare.commands.catalogue import (
    ERRORS,
    GROUPS,
    HEADINGS,
    PACKAGE,
    Config,
    Preset,
    describe,
    differences,
    files,
    groups,
    heading,
    needs,
    neighbours,
    presets,
    short,
)
from vfcompare.commands.lookup import or_own, without_groups
from vfcompare.errors import InputError, nearest
from vfcompare.schema.needs import NEEDS
from vfcompare.schema.settings import SEARCHPATH
from vfcompare.schema.tree import at, finite, function
from vfcompare.training.progress import duration

SHOWN = 3
"""Differences that are named one by one in a list."""


def plural(word: str) -> str:
    """The plural of a group's name."""
    if word.endswith("s"):
        return word
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def show(
    group: str | None = None,
    name: str | None = None,
    width: int | None = None,
    own: Sequence[Traversable] = (),
) -> str:
    """What `vfcompare list` prints.

    Args:
      group: what to list, in singular or plural; by default all that can be listed.
      name: one of them, to be shown in full.
      width: columns; by default those of the terminal, at least 80.
      own: folders like `conf/` whose parts are listed, too.

    Raises:
      InputError: if there is no such group or name.
    """
    width = width or max(80, shutil.get_terminal_size((80, 24)).columns)
    if name is None:
        for told in without_groups(own):
            print(f"vfcompare: {told}", file=sys.stderr)
    if group is None:
        return overview(width, own)
    known = groups(own)
    singular = next((one for one in known if group in (one, plural(one))), None)
    if singular is None:
        words = [plural(one) for one in known]
        raise InputError(
            f"cannot list {group!r}; allowed: {', '.join(words)}{nearest(group, words)}"
        )
    found = files(singular, own)
    if name is not None and name not in found:
        raise InputError(
            f"{singular}={name} does not exist; allowed: {', '.join(found)}{or_own(own)}"
            f"{nearest(name, found)}"
        )
    if singular == "agent":
        return agents(width, own) if name is None else agent(name, width, own)
    return entries(singular, width, own) if name is None else entry(singular, name, own)


def overview(width: int, own: Sequence[Traversable]) -> str:
    """All groups: how many there are in each, and what they are."""
    lines = []
    for group in groups(own):
        head = f"  {plural(group):<12}{len(files(group, own)):>3}  "
        lines += _fill(next(iter(GROUPS.get(group, ())), "-"), width, head, " " * len(head))
    lines += [
        "",
        "vfcompare list agents        every agent: formula, needs, nearest relative",
        "vfcompare list agents ppo    one of them in full; so with every other word above",
    ]
    return "\n".join(lines)


def _uses(group: str, patch: bool = False) -> list[str]:
    """How one of a group is chosen; a patch changes what others have chosen."""
    uses = [f"+{group}=NAME"] if patch else GROUPS.get(group, ())[1:]
    return [f"vfcompare {use}" for use in uses]


def _is_patch(group: str, file: Traversable) -> bool:
    return group != "study" and file.read_text("utf-8").startswith("# @package _global_")


def entries(group: str, width: int, own: Sequence[Traversable]) -> str:
    """A group by name, each with the first comment of its file."""
    found = files(group, own)
    indent = max(map(len, found)) + 4
    lines = []
    for name, file in found.items():
        text, more = file.read_text("utf-8"), ""
        try:
            words = describe(text)
            more = decided(text) if group == "study" else ""
        except ERRORS as error:
            words = f"cannot be read: {' '.join(str(error).split())[:200]}"
        lines += _fill(words or "-", width, f"  {name}".ljust(indent), " " * indent)
        lines += _fill(more, width, " " * indent, " " * indent)
    example = f"vfcompare list {plural(group)} {next(iter(found))}"
    patches = [name for name, file in found.items() if _is_patch(group, file)]
    uses = [*_uses(group), *(f"vfcompare +{group}={name}    on top of it" for name in patches)]
    lines += ["", *uses, f"{example}    one of them in full"]
    return "\n".join(lines)


def entry(group: str, name: str, own: Sequence[Traversable]) -> str:
    """One file of a group as it is, and those of the group that it begins with.

    Their comments say what the settings mean.
    """
    file = files(group, own)[name]
    place = found_with(file, own)
    uses = [
        f"{use.replace('NAME', name)}{place}"
        for use in _uses(group, _is_patch(group, file))
        if "NAME" in use
    ]
    return "\n".join([f"{name}    {_place(group, name, file)}", *uses, *_texts(group, file, own)])


def _texts(
    group: str, file: Traversable, own: Sequence[Traversable], shown: Sequence[Traversable] = ()
) -> Iterator[str]:
    """A file of a group, and behind it what it begins with, ours or the user's own; each once."""
    text = file.read_text("utf-8").rstrip()
    yield from ("", text)
    names: list[str] = []
    # One that cannot be read is shown nevertheless.
    with suppress(*ERRORS):
        defaults: Any = OmegaConf.select(OmegaConf.create(text), "defaults") or ()
        names = [word.partition("@")[0] for word in defaults if isinstance(word, str)]
    for name in names:
        places = (place / group / f"{name}.yaml" for place in (resources.files(PACKAGE), *own))
        other = next((place for place in places if place.is_file()), file)
        if other not in (file, *shown):
            yield from ("", f"It begins with {name}:", *_texts(group, other, own, (*shown, file)))


def sound(own: Sequence[Traversable], wanted: str | None = None) -> dict[str, Preset]:
    """Every preset that can be composed; says which cannot.

    Raises:
      InputError: if the one that is wanted cannot.
    """
    broken: dict[str, str] = {}
    found = presets(own, broken)
    if wanted in broken:
        raise InputError(f"agent={wanted} cannot be composed: {broken[wanted]}")
    for name, words in broken.items():
        print(f"vfcompare: agent={name} is left out: {words}", file=sys.stderr)
    return found


def found_with(file: Traversable, own: Sequence[Traversable]) -> str:
    """What a command needs beside the name of a part to find it: nothing for ours."""
    paths = [str(place) for place in own if Path(str(file)).is_relative_to(str(place))]
    return f" '{SEARCHPATH}[{','.join(f'file://{path}' for path in paths)}]'" if paths else ""


def agents(width: int, own: Sequence[Traversable]) -> str:
    """Every preset in short, under the heading of its family."""
    found = sound(own)
    near = neighbours(found)
    families: dict[str, list[Preset]] = {words: [] for words in HEADINGS}
    for preset in found.values():
        families[heading(preset)].append(preset)
    lines: list[str] = []
    for words, members in families.items():
        if members:
            lines += [f"{words.upper()}: {HEADINGS[words]}", ""]
            for preset in members:
                relative = found[near[preset.name][0]] if near[preset.name] else None
                lines += [f"  {preset.name}", *_about(preset, relative, width), ""]
    lines.append("NEEDS")
    for need, words in NEEDS.items():
        lines += _fill(words, width, f"  {need}".ljust(18), " " * 18)
    lines += [
        "",
        "vfcompare agent=NAME env=maze",
        "vfcompare list agents NAME    one of them in full",
    ]
    return "\n".join(lines)


def _about(preset: Preset, relative: Preset | None, width: int) -> list[str]:
    lines = _fill(preset.comment, width, "    ", "    ") if preset.comment else []
    lines += _labelled("advantage", preset.formula, width)
    lines += _labelled("needs", ", ".join(needs(preset.config)) or "nothing special", width)
    if relative is not None:
        lines += _labelled(
            "nearest", f"{relative.name}; {difference_clause(preset, relative)}", width
        )
    return lines


def decided(text: str) -> str:
    """What a study decides before its first run, and what it takes, as its file says."""
    file: Any = OmegaConf.to_container(OmegaConf.create(text))
    study = file.get("study") if isinstance(file, dict) else None
    contrast, figures, minutes = (
        study.get(key) if isinstance(study, dict) else None
        for key in ("contrast", "figures", "minutes")
    )
    sides = contrast if isinstance(contrast, list) else []
    named = [" + ".join(map(str, side)) if isinstance(side, list) else str(side) for side in sides]
    words = [f"judged: {' against '.join(named)}"] if named else []
    if isinstance(figures, list):
        words.append(f"shows first: {', '.join(map(str, figures))}")
    if (taken := finite(minutes)) is not None:
        words.append(f"about {duration(60 * taken)} on two cores")
    return "; ".join(words)


def difference_clause(mine: Preset, other: Preset) -> str:
    """In what an agent differs from another, as a clause."""
    found = differences(mine, other)
    if not found:
        return "the same under another name"
    words = [f"{d.path} ({d.mine} instead of {d.other})" for d in found[:SHOWN]]
    more = [f"+{len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return f"differs in {', '.join(words + more)}"


def agent(name: str, width: int, own: Sequence[Traversable]) -> str:
    """One preset in full: where it is written, what it needs and why, its nearest, and its parts."""
    found, file = sound(own, name), files("agent", own)[name]
    preset, near = found[name], neighbours(found)[name]
    lines = [f"{name}    {_place('agent', name, file)}"]
    lines += _fill(preset.comment, width, "", "") if preset.comment else []
    lines += ["", "ADVANTAGE", *_fill(preset.formula, width, "  ", "  ")]
    lines += ["", "NEEDS"]
    needed = needs(preset.config)
    for need, reasons in needed.items():
        lines += _fill("; ".join(dict.fromkeys(reasons)), width, f"  {need}".ljust(18), " " * 18)
    lines += [] if needed else ["  nothing special"]
    if near:
        lines += ["", f"NEAREST: {near[0]}"]
        for d in differences(preset, found[near[0]]):
            lines += _fill(f"{d.path}: {d.mine} instead of {d.other}", width, "  ", "    ")
        if not differences(preset, found[near[0]]):
            lines.append("  the same under another name")
        if near[1:]:
            lines += _fill(f"as near: {', '.join(near[1:])}", width, "  ", "    ")
    lines += ["", f"PARTS, from the recipe {preset.choices.get('', '?')}"]
    rows = [(path or "agent", " ".join(words)) for path, *words in parts(preset)]
    indent = max(len(path) for path, _ in rows) + 4
    for path, words in rows:
        lines += _fill(words, width, f"  {path}".ljust(indent), " " * (indent + 2))
    command = f"vfcompare agent={name} env=maze{found_with(file, own)}"
    lines += ["", command, f"{command} agent.gamma=1    numbers by their paths"]
    return "\n".join(lines)


def parts(preset: Preset) -> Iterator[list[str]]:
    """Each part of an agent: its path, the file or function it comes from, and its settings.

    What a part takes over from the agent is left out, and a part that is the agent's own is named as such.
    """
    yield from _parts(preset, preset.written, "")


def _parts(preset: Preset, part: Config, path: str) -> Iterator[list[str]]:
    made = [function(part)] if path and "_target_" in part else []
    chosen = [preset.choices[path]] if path and path in preset.choices else made
    settings = [
        f"{key}={short(value)}"
        for key, value in part.items()
        if key not in ("_target_", "_partial_")
        and not isinstance(value, Mapping)
        and not _borrowed(value)
    ]
    yield [path, *chosen, *settings]
    for key, value in part.items():
        here = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from _parts(preset, value, here)
        elif _borrowed(value) and isinstance(at(preset.config, here), Mapping):
            yield [here, f"the same as {str(value)[2:-1]}"]


def _borrowed(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")


def _place(group: str, name: str, file: Traversable) -> str:
    ours = file == resources.files(PACKAGE) / group / f"{name}.yaml"
    return f"conf/{group}/{name}.yaml, of the package {PACKAGE}" if ours else str(file)


def _labelled(label: str, text: str, width: int) -> list[str]:
    return _fill(text, width, f"    {label}: ".ljust(15), " " * 15)


def _fill(text: str, width: int, first: str, rest: str) -> list[str]:
    """Wrap words, never within one: formulas and paths stay whole."""
    return wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
