"""From the words of a command line to checked cells."""

import copy
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, OverrideType
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from vfcompare.commands.catalogue import ERRORS, PACKAGE, files
from vfcompare.commands.explain import (
    chosen_by,
    explain,
    own_folders,
    replaced_parts,
    words_for_parts,
)
from vfcompare.errors import InputError, nearest
from vfcompare.families import SIDES
from vfcompare.runs import plan, store
from vfcompare.settings import PRIVATE, key_of, value_of
from vfcompare.training.cell import Cell
from vfcompare.validate import check, natural, takes_a_list
from vfcompare.words import counted

USUAL: Any = OmegaConf.create(resources.files(PACKAGE).joinpath("config.yaml").read_text("utf-8"))
"""What one cell is, before anything is chosen."""

KNOWN = ("agent", "env", *(key for key in USUAL if key not in ("defaults", "hydra")))
"""What a cell has settings for."""

PLAIN = {key for key, value in USUAL.items() if not OmegaConf.is_config(value)}
"""Settings beside parts: numbers and words."""

SILENCE = 3.0
"""Seconds after which those who wait are told how far it is."""

MOST_CELLS = 20_000
"""Of one sweep."""

OF_A_STUDY = (*USUAL.study, "tune", "tuning", "tuned")
"""What a study has settings for: the usual ones, and what has to do with tuning."""

OURS = "hydra_plugins.vfcompare.Planned"
"""The sweeper that is there unless another one is chosen."""

STARTING = 300
"""Seconds that a task may need before it trains; shorter ones would hear of their end before they begin."""

SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
"""Hydra's launcher on a cluster."""

SWEEPER = ("_target_", "params", "max_batch_size")
"""What it is given."""

NAMED = {"agent", "env", "seeds", "env_steps", "evaluations", "lanes"}
"""Settings that a run's name does not repeat."""


def plain(node: Any) -> dict[str, Any]:
    """A composed configuration, resolved, as plain data."""
    content = OmegaConf.to_container(node, resolve=True)
    if not isinstance(content, dict):
        raise InputError("the configuration is not a mapping")
    return {str(key): value for key, value in content.items()}


def to_cell(cfg: DictConfig, overrides: Sequence[str], choices: Mapping[str, Any]) -> Cell:
    """A composed configuration as a cell, checked.

    Args:
      cfg: the configuration of the task.
      overrides: of which it was composed.
      choices: names of what was chosen, by group.

    Raises:
      InputError: if a value is not allowed.
    """
    for wrong in words_for_parts(cfg):
        raise InputError(wrong)
    config = natural(plain(cfg))
    for name in sorted(config.keys() - KNOWN):
        typed = (value_of(text) for text in overrides if key_of(text) == name)
        way = chosen_by(name, next(typed, ""))
        more = f"; did you mean '{way}'?" if way else nearest(name, KNOWN)
        raise InputError(f"{name} is no setting; allowed: {', '.join(KNOWN)}{more}")
    known_study(config["study"])
    check(config, lambda path: read_by(cfg, path))
    told = ((key_of(text), value_of(text)) for text in overrides if "=" in text)
    settings = {k: v for k, v in told if k not in NAMED and k.split(".")[0] not in PRIVATE}
    return Cell(str(choices["agent"]), str(choices["env"]), settings, config, tuple(overrides))


def read_by(cfg: DictConfig, path: str) -> str:
    """The words with which a value reads others, `${agent.gamma}`; none where it stands itself."""
    place, _, key = path.rpartition(".")
    part = OmegaConf.select(cfg, place)
    if not isinstance(part, DictConfig) or not OmegaConf.is_interpolation(part, key):
        return ""
    words: Any = OmegaConf.to_container(part, resolve=False)
    return str(words[key])


def known_study(study: Any) -> None:
    """Refuse what a study has no settings for: it counts as decided, and nobody would read it.

    Raises:
      InputError: that names the nearest one, or how a study's file begins.
    """
    if not isinstance(study, Mapping):
        raise InputError(f"study={study} is not allowed; allowed: +study=NAME")
    for name in sorted(study.keys() - OF_A_STUDY):
        if name in (*KNOWN, "hydra"):
            more = "; is '# @package _global_' missing in the first line of the study's file?"
        else:
            more = nearest(name, OF_A_STUDY)
        raise InputError(
            f"study.{name} is no setting of a study; allowed: {', '.join(OF_A_STUDY)}{more}"
        )


def cells(settings: list[str], *, sweep: bool) -> list[Cell]:
    """Every cell of a command line once, composed and checked before any is started.

    Args:
      settings: overrides, as typed.
      sweep: whether values may be lists.

    Raises:
      InputError: for the first cell that is not right.
    """
    with composing(settings) as composer:
        parsed = OverridesParser.create().parse_overrides(settings)
        refuse(parsed)
        if not sweep:
            refuse_sweeps(parsed)
        wanted = list(jobs(parsed)) if sweep else [settings]
        found = [composer.cell(job) for job in watched(wanted)]
    own = own_folders(settings)
    contrasted(found, {*files("agent", own), *(cell.agent for cell in found)})
    referred(found, {*files("env", own), *(cell.env for cell in found)})
    named = as_known(found)
    told_of_copies([cell.id for cell in found], [cell.id for cell in named])
    return list({cell.id: cell for cell in named}.values())


def watched(wanted: Sequence[list[str]]) -> Iterator[list[str]]:
    """The overrides of every cell, one by one, and every few seconds a line that says how far it is."""
    said = time.monotonic()
    for number, job in enumerate(wanted):
        if time.monotonic() - said > SILENCE:
            print(f"vfcompare: checked {number:,} of {len(wanted):,} cells", file=sys.stderr)
            said = time.monotonic()
        yield job


def told_of_copies(typed: Sequence[str], named: Sequence[str]) -> None:
    """Say which cells of a command line are another one of it, or of its study.

    Args:
      typed: their names by the words that were typed.
      named: the names that they have.
    """
    others = [(one, name) for one, name in zip(typed, named, strict=True) if one != name]
    if others:
        more = f"; {len(others) - 1} more cells likewise" if len(others) > 1 else ""
        told = f"{others[0][0]} is {others[0][1]} in other words, and is trained once{more}"
        print(f"vfcompare: {told}", file=sys.stderr)
    twice = [name for name, times in Counter(typed).items() if times > 1]
    if twice:
        more = f"; {counted(len(twice) - 1, 'more cell')} likewise" if len(twice) > 1 else ""
        print(
            f"vfcompare: {twice[0]} is typed more than once, and is trained once{more}",
            file=sys.stderr,
        )


def as_known(found: Sequence[Cell]) -> list[Cell]:
    """The same cells, by the names that their study has for them: a typed default makes no other cell.

    Of those that are new and the same, all have the name of the first.

    Args:
      found: of one study.

    Raises:
      InputError: if the study's plan is damaged.
    """
    known: dict[str, dict[str, Any]] = {}
    # Who cannot read a place cannot write to it either, and is told so before anything begins.
    with suppress(OSError):
        known = plan.known(found[0].study)
    names: dict[tuple[str, ...], tuple[str, Any]] = {}
    for name, entry in known.items():
        who = str(entry.get("agent")), str(entry.get("env"))
        names.setdefault((*who, store.hash_of(name)), (name, entry.get("settings")))
    named = []
    for cell in found:
        own = cell.id
        first = names.setdefault((cell.agent, cell.env, store.hash_of(own)), (own, cell.settings))
        if own in known:
            # Long names are cut off, so that other words may have made it.
            first = own, known[own].get("settings")
        named.append(called(cell, *first))
    return named


def called(cell: Cell, name: str, settings: Any) -> Cell:
    """A cell by a name, if it has that name in the words of some settings; else as it is."""
    words = settings if isinstance(settings, dict) else cell.settings
    other = cell._replace(settings={key: str(value) for key, value in words.items()})
    return other if other.id == name else cell


def refuse(settings: Sequence[Override]) -> None:
    """Refuse what Hydra has no words for, or what a sweep would silently do otherwise than it says.

    Raises:
      InputError: for what is typed twice, for parts that are null, for sweeps over several studies or places,
        and for a change of place between what is checked and what is trained.
    """
    typed: dict[str, str] = {}
    for one in settings:
        key = one.key_or_group
        if one.type == OverrideType.CHANGE:
            name = one.get_key_element()
            if name in typed:
                raise InputError(
                    f"{typed[name]} and {one.input_line} are typed together; allowed: one of them"
                )
            typed[name] = str(one.input_line)
        names = files(key)
        if names and not is_value(one) and one.package is None and one.value() is None:
            raise InputError(f"{key}=null is not allowed; allowed: {', '.join(names)}")
        if key == "hydra.job.chdir" and one.value():
            raise InputError(
                f"{one.input_line} is not allowed: root, priors and folders of your own are meant from where "
                "the command is typed; allowed: hydra.job.chdir=false, and root=FOLDER for another place"
            )
        if one.is_sweep_override() and key.split(".")[0] in PRIVATE:
            raise InputError(
                f"{one.input_line} is not allowed: a sweep is of one study, in one place; allowed: one "
                "value, and a command for each"
            )


def refuse_launchers(settings: Sequence[str], instead: str) -> None:
    """Refuse who is to train, where a command decides on that itself; as `fused` does it, it does anyway.

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


def contrasted(found: Sequence[Cell], agents: set[str]) -> None:
    """Refuse a contrast of agents that do not exist: a study cannot take back what it has decided.

    Raises:
      InputError: that names the nearest one.
    """
    known = agents | {*SIDES}
    for side in found[0].config["study"].get("contrast") or ():
        for name in side if isinstance(side, list) else [side]:
            if name not in known:
                raise InputError(
                    f"study.contrast: {name} is no agent; allowed: {', '.join(sorted(known))}"
                    f"{nearest(name, known)}"
                )


def referred(found: Sequence[Cell], known: set[str]) -> None:
    """Refuse returns of environments that do not exist, for the same reason.

    Raises:
      InputError: that names the nearest one.
    """
    for name in found[0].config["study"].get("reference") or ():
        if name not in known:
            raise InputError(
                f"study.reference: {name} is no environment; allowed: {', '.join(sorted(known))}"
                f"{nearest(name, known)}"
            )


def recompose(overrides: Sequence[Sequence[str]], own: Sequence[str] = ()) -> list[Cell]:
    """Cells from what each was composed of, checked like those of a command line.

    Args:
      overrides: of each cell.
      own: what `goes_along`, as typed.

    Raises:
      InputError: for the first that is not right.
    """
    with composing([]) as composer:
        return [composer.cell([*one, *own]) for one in overrides]


@contextmanager
def composing(settings: list[str]) -> "Iterator[Composer]":
    """Hydra at work on our configuration; what it cannot make sense of becomes an `InputError`."""
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("vfcompare.conf", version_base="1.3"):
            yield Composer(lambda chosen: compose("config", chosen, return_hydra_config=True))
    except ERRORS as error:
        raise InputError(explain(error, settings)) from error
    except RecursionError as error:
        raise InputError("a setting is nested too deeply; allowed: some ten levels") from error


class Composer:
    """Composes cells; files that many of them share are read and merged once.

    Hydra applies values (`agent.gamma=0.9`) after it has merged what was chosen (`agent=ppo`), so that cells
    of the same choices begin with the same configuration. That takes 75 ms, and a value less than one.
    """

    def __init__(self, compose: Callable[[list[str]], DictConfig]) -> None:
        """Begin with nothing composed.

        Args:
          compose: `(overrides) -> configuration`, with Hydra's own.
        """
        self._compose = compose
        self._parse = cache(OverridesParser.create().parse_override)
        self._chosen: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]]] = {}

    def cell(self, overrides: Sequence[str]) -> Cell:
        """One cell, checked; see `to_cell`."""
        values = [self._parse(text) for text in overrides if is_value(self._parse(text))]
        cfg, choices = self._choose(
            tuple(text for text in overrides if not is_value(self._parse(text)))
        )
        for wrong in replaced_parts(cfg, values):
            raise InputError(wrong)
        cfg = copy.deepcopy(cfg)
        ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
        ours = [text for text in overrides if not self._parse(text).is_hydra_override()]
        return to_cell(cfg, ours, choices)

    def _choose(self, choices: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
        if choices not in self._chosen:
            cfg = self._compose(list(choices))
            HydraConfig.instance().set_config(cfg)
            names = dict(cfg.hydra.runtime.choices)
            with open_dict(cfg):
                del cfg["hydra"]
            self._chosen[choices] = cfg, names
        return self._chosen[choices]


def is_value(override: Override) -> bool:
    """Whether an override sets a value within what was chosen, rather than choose, add or remove."""
    key = override.key_or_group
    inside = "." in key and "/" not in key and not key.startswith("hydra.")
    changes = override.type == OverrideType.CHANGE and override.package is None
    return changes and (inside or key in PLAIN)


def jobs(settings: Sequence[Override]) -> Iterator[list[str]]:
    """The overrides of every job of a sweep, as Hydra's own sweeper will make them."""
    swept = OverridesParser.create().parse_overrides(swept_by_default(settings))
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
        if one.is_discrete_sweep() and not isinstance(one.value(), Glob):
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


def least_minutes(signal_delay: int) -> int:
    """Shortest time limit of a task of SLURM that trains before it is told to stop.

    Args:
      signal_delay: seconds between the notice and the end.
    """
    return (signal_delay + STARTING) // 60 + 1


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
