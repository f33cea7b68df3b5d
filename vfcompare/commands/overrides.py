"""What the words of a command line ask for: one cell, or a sweep of them."""

import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import islice
from typing import Any

from hydra import compose
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    OverrideType,
    QuotedString,
    RangeSweep,
    Transformer,
    ValueType,
)
from omegaconf import ListConfig, OmegaConf

from vfcompare.commands.catalogue import PACKAGE, files
from vfcompare.commands.explain import no_group, no_key
from vfcompare.commands.lookup import choices
from vfcompare.errors import InputError, nearest
from vfcompare.schema.settings import PRIVATE, key_of
from vfcompare.schema.validate import takes_a_list

USUAL: Any = OmegaConf.create(resources.files(PACKAGE).joinpath("config.yaml").read_text("utf-8"))
"""`conf/config.yaml`: the configuration of a cell before anything is typed."""

PLAIN = {key for key, value in USUAL.items() if not OmegaConf.is_config(value)}
"""Its keys that are single values, and no parts."""

MOST_CELLS = 20_000
"""Most cells of one sweep."""

OURS = "hydra_plugins.vfcompare.Planned"
"""The sweeper that is there unless another one is chosen."""

SWEEPER = ("_target_", "params", "max_batch_size")
"""Keys of its configuration."""

SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
"""Hydra's launcher on a cluster."""

FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
"""Settings by which Hydra would have its folders elsewhere than the runs that they are of."""

SWEPT = "hydra.sweeper.params."
"""Before a setting in a study's file: what the study sweeps."""

STARTING = 300
"""Seconds that a task may need before it trains; shorter ones would hear of their end before they begin."""


def is_value(override: Override) -> bool:
    """Whether an override sets a value within what was chosen, rather than choose, add or remove."""
    key = override.key_or_group
    inside = "." in key and "/" not in key and not key.startswith("hydra.")
    changes = override.type == OverrideType.CHANGE and override.package is None
    return changes and (inside or key in PLAIN)


def read(settings: Sequence[str], own: Sequence[Traversable]) -> list[Override]:
    """Settings as Hydra reads them, with what `glob(...)` matches in its place.

    Args:
      settings: as typed.
      own: folders with parts of the user's own.

    Raises:
      InputError: for a sweep whose values cannot be counted, and for a number that Python does not read.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(list(settings))
    except ValueError as error:
        longest = max(settings, key=len)
        raise InputError(
            f"{longest[:60]}... is too long for a number; allowed: {sys.get_int_max_str_digits():,} digits"
        ) from error
    return [_countable(one, own) for one in parsed]


def _countable(one: Override, own: Sequence[Traversable]) -> Override:
    text, value = one.input_line, one.value()
    listed = "a list, range(...) or choice(...)"
    if isinstance(value, IntervalSweep):
        raise InputError(
            f"{text} is not allowed: nobody can count its values; allowed: {listed}; to search, "
            "`vfcompare tune` with a space"
        )
    if isinstance(value, RangeSweep) and not value.step:
        raise InputError(f"{text} is not allowed: it has no end; allowed: a step above or below 0")
    if not isinstance(value, Glob):
        return one
    known = [] if is_value(one) else choices(one.key_or_group, own)
    if not known:
        raise InputError(f"{text} is not allowed: only parts have names; allowed: {listed}")
    names = value.filter([*known])
    if not names:
        raise InputError(f"{text} matches nothing; allowed: {', '.join(known)}")
    return replace(one, value_type=ValueType.CHOICE_SWEEP, _value=ChoiceSweep(list=[*names]))


def _values(one: Override) -> Iterator[Any]:
    """The values of a setting; of a range, which has numbers alone, the first."""
    if one.is_sweep_override():
        return islice(one.sweep_iterator(), 1 if one.is_range_sweep() else None)
    return iter([one._value])


def refuse(settings: Sequence[Override], own: Sequence[Traversable]) -> None:
    """Refuse what Hydra has no words for, or what a sweep would silently do otherwise than it says.

    Args:
      settings: see `read`.
      own: folders with parts of the user's own.

    Raises:
      InputError: for what is typed twice, for parts that are no names, for sweeps over several studies or
        places, and for a change of place between what is checked and what is trained.
    """
    typed: dict[str, str] = {}
    for one in settings:
        key = one.key_or_group
        for wrong in (no_key(one), no_group(one, own)):
            if wrong:
                raise InputError(wrong)
        if one.type == OverrideType.CHANGE:
            name = one.get_key_element()
            if name in typed:
                raise typed_twice(typed[name], str(one.input_line))
            typed[name] = str(one.input_line)
        names = () if is_value(one) else choices(key, own)
        for value in _values(one):
            text = str(one.input_line)
            if one.is_sweep_override():
                text = f"{one.get_key_element()}={Transformer.str(value)}"
            if names and not _chooses(one, value):
                raise InputError(f"{text} is not allowed; allowed: {', '.join(names)}")
            if value == "???":
                raise InputError(
                    f"{text} is not allowed: ??? stands for no value; allowed: a value"
                )
        if key == "hydra.job.chdir" and one.value():
            raise InputError(
                f"{one.input_line} is not allowed: root, priors and folders of your own are meant from where "
                "the command is typed; allowed: hydra.job.chdir=false, and root=FOLDER for another place"
            )
        if key in FOLDERS:
            raise InputError(
                f"{one.input_line} is not allowed: what a study has is in one folder; allowed: root=FOLDER, "
                "study.name=NAME"
            )
        swept = key.removeprefix(SWEPT)
        # Typed, the dot within would make a part of `agent`; in a study's file it is of the name.
        if swept != key and (one.is_sweep_override() or "." in swept):
            value = (
                one._value.text if isinstance(one._value, QuotedString) else one.get_value_string()
            )
            raise InputError(
                f"{one.input_line} is not allowed: that is for a study's file; allowed: {swept}={value}"
            )
        if one.is_sweep_override() and key.split(".")[0] in PRIVATE:
            raise InputError(
                f"{one.input_line} is not allowed: a sweep is of one study, in one place; allowed: one "
                "value, and a command for each"
            )


def _chooses(one: Override, value: Any) -> bool:
    """Whether the value of a setting of a group is a name; what is deleted in one place needs none."""
    name = value.text if isinstance(value, QuotedString) else value
    if one.is_delete() and one.package is not None and name is None:
        return True
    # Values of a part may be set together, and several files make up one part.
    several = (isinstance(name, dict) and one.package is None) or (
        isinstance(name, list) and one.key_or_group not in ("agent", "env")
    )
    return several or (isinstance(name, str) and bool(name))


def typed_twice(first: str, second: str) -> InputError:
    """What is said of two settings of one thing, of which the last would count without a word."""
    return InputError(f"{first} and {second} are typed together; allowed: one of them")


def refuse_sweeps(settings: Sequence[Override]) -> None:
    """Refuse several cells where one was asked for: of a study, its first would be trained and look right.

    Raises:
      InputError: that says how a sweep is typed.
    """
    for one in settings:
        if one.is_sweep_override():
            raise InputError(
                f"{one.input_line} has several values, and this is no sweep; allowed: one value, or "
                f"vfcompare -m ... {one.input_line}"
            )
    studies = [
        one for one in settings if one.key_or_group == "study" or "study/" in one.key_or_group
    ]
    if studies and swept_by_default(settings):
        raise InputError(
            f"{studies[0].input_line} is a sweep; allowed: vfcompare -m {studies[0].input_line}"
        )


def refuse_launchers(settings: Sequence[str], instead: str) -> None:
    """Refuse settings of launchers where a command has its own way to train, which is that of `fused`.

    Args:
      settings: as typed.
      instead: what is allowed.

    Raises:
      InputError: that names the setting.
    """
    for text in settings:
        key = key_of(text)
        if text != "hydra/launcher=fused" and re.match(r"hydra[./]launcher\b", key):
            raise InputError(f"{text} does nothing here; allowed: {instead}")


def jobs(settings: Sequence[Override], own: Sequence[Traversable]) -> Iterator[list[str]]:
    """The overrides of every job of a sweep, as Hydra's own sweeper will make them; `own` as of `read`."""
    swept = read(swept_by_default(settings), own)
    refuse_number([*swept, *settings])
    for batch in BasicSweeper.split_arguments([*swept, *settings], None):
        yield from (list(job) for job in batch)


def refuse_number(settings: Sequence[Override]) -> None:
    """Refuse sweeps of no cells, and of more than anybody means.

    Raises:
      InputError: with their number.
    """
    numbers = []
    for one in settings:
        if one.is_sweep_override():
            # A range may be endless.
            numbers.append(sum(1 for _ in islice(one.sweep_iterator(), MOST_CELLS + 1)))
            if not numbers[-1]:
                raise InputError(f"{one.input_line} has no value; allowed: one or more")
    if math.prod(numbers) > MOST_CELLS:
        raise InputError(
            f"a sweep of {math.prod(numbers):,} cells or more is not allowed; allowed: {MOST_CELLS:,} at most"
        )


def swept_by_default(settings: Sequence[Override]) -> list[str]:
    """What the configuration, such as a study, sweeps and the settings do not set."""
    # Values are for the agents that are swept, not for the one that is chosen by default.
    one = [o for o in settings if not o.is_sweep_override()]
    fixed = [str(o.input_line) for o in one if o.key_or_group in PLAIN or not is_value(o)]
    composed = compose("config", fixed, return_hydra_config=True).hydra
    refuse_limits(composed.launcher)
    sweeper = composed.sweeper
    if sweeper.get("_target_") == OURS:
        for name in sorted({str(key) for key in sweeper} - {*SWEEPER}):
            raise InputError(
                f"hydra.sweeper.{name} is no setting of the sweep; allowed: "
                f"{', '.join(SWEEPER[1:])}{nearest(name, SWEEPER)}"
            )
    told = {o.get_key_element() for o in settings}
    return [one_of(key, value) for key, value in (sweeper.params or {}).items() if key not in told]


def one_of(key: str, value: Any) -> str:
    """One parameter of a sweep as it would be typed.

    Raises:
      InputError: for a YAML list where one value is wanted, which is one value and no sweep.
    """
    chooses = bool(files(key.partition("@")[0]))
    if isinstance(value, ListConfig) and (chooses or not takes_a_list(key.rpartition(".")[2])):
        raise InputError(
            f"hydra.sweeper.params.{key}={value} is one value, a list; allowed: {key}: "
            f"{','.join(map(str, value))}, as a sweep is written"
        )
    return f"{key}={value}"


def refuse_limits(launcher: Any) -> None:
    """Refuse limits with which Hydra's launcher on a cluster loses work.

    Args:
      launcher: its settings.

    Raises:
      InputError: for tasks that end before they train, or are given up at their limit.
    """
    if launcher.get("_target_") != SLURM:
        return
    for name, least, why in (
        ("timeout_min", least_minutes(launcher.signal_delay_s), "is told to stop before it trains"),
        ("max_num_timeout", 1, "is given up at its limit, or if it is preempted"),
    ):
        if launcher[name] < least:
            raise InputError(
                f"hydra.launcher.{name}={launcher[name]} is not allowed: a task {why}; allowed: {least} or "
                "more, or hydra/launcher=slurm as it is"
            )


def least_minutes(signal_delay: int) -> int:
    """Shortest time limit of a task of SLURM that trains before it is told to stop.

    Args:
      signal_delay: seconds between the notice and the end.
    """
    return (signal_delay + STARTING) // 60 + 1
