"""From the words of a command line to checked cells."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from vfcompare.commands.catalogue import ERRORS, files
from vfcompare.commands.explain import explain, replaced_parts, words_for_parts
from vfcompare.commands.lookup import chosen_by, own_folders
from vfcompare.commands.naming import as_known, warn_of_copies
from vfcompare.commands.overrides import USUAL, is_value, jobs, read, refuse, refuse_sweeps
from vfcompare.errors import InputError, nearest
from vfcompare.schema.families import SIDES
from vfcompare.schema.settings import PRIVATE, key_of, value_of
from vfcompare.schema.validate import check, natural
from vfcompare.training.cell import Cell

KNOWN = ("agent", "env", *(key for key in USUAL if key not in ("defaults", "hydra")))
"""Top-level keys of a cell's configuration."""

OF_A_STUDY = (*USUAL.study, "tune", "tuning", "tuned")
"""Keys below `study`: the usual ones, and those of tuning."""

NAMED = {"agent", "env", "seeds", "env_steps", "evaluations", "lanes"}
"""Settings that a run's name does not repeat."""

SILENCE = 3.0
"""Seconds after which those who wait are told how far it is."""


def cells(settings: list[str], *, sweep: bool) -> list[Cell]:
    """Every cell of a command line once, composed and checked before any is started.

    Args:
      settings: overrides, as typed.
      sweep: whether values may be lists.

    Raises:
      InputError: for the first cell that is not right.
    """
    own = own_folders(settings, strict=True)
    with composing(settings) as composer:
        parsed = read(settings, own)
        refuse(parsed, own)
        if not sweep:
            refuse_sweeps(parsed)
        wanted = list(jobs(parsed, own)) if sweep else [settings]
        composer.jobs = wanted
        found = [composer.cell([*job]) for job in watched(wanted)]
    contrasted(found, {*files("agent", own), *(cell.agent for cell in found)})
    referred(found, {*files("env", own), *(cell.env for cell in found)})
    named = as_known(found)
    warn_of_copies([cell.id for cell in found], [cell.id for cell in named])
    return list({cell.id: cell for cell in named}.values())


def recompose(overrides: Sequence[Sequence[str]], own: Sequence[str]) -> list[Cell]:
    """Cells from what each was composed of, checked like those of a command line.

    Args:
      overrides: of each cell.
      own: what `goes_along`, as typed.

    Raises:
      InputError: for the first that is not right.
    """
    with composing([]) as composer:
        return [composer.cell([*one, *own]) for one in watched(overrides)]


def watched(wanted: Sequence[Sequence[str]]) -> Iterator[Sequence[str]]:
    """The overrides of every cell, one by one, and every few seconds a line that says how far it is."""
    said = time.monotonic()
    for number, job in enumerate(wanted):
        if time.monotonic() - said > SILENCE:
            print(f"vfcompare: checked {number:,} of {len(wanted):,} cells", file=sys.stderr)
            said = time.monotonic()
        yield job


@contextmanager
def composing(settings: list[str]) -> "Iterator[Composer]":
    """Hydra at work on our configuration; what it cannot make sense of becomes an `InputError`."""
    GlobalHydra.instance().clear()
    composer = Composer(lambda chosen: compose("config", chosen, return_hydra_config=True))
    try:
        with initialize_config_module("vfcompare.conf", version_base="1.3"):
            yield composer
    except ERRORS as error:
        job = composer.job or settings
        raise InputError(explain(error, job, settings, composer.jobs)) from error
    except RecursionError as error:
        raise InputError("a setting is nested too deeply; allowed: some ten levels") from error


class Composer:
    """Composes cells; files that many of them share are read and merged once.

    Hydra applies values (`agent.gamma=0.9`) after it has merged what was chosen (`agent=ppo`), so that cells
    of the same choices begin with the same configuration. That takes 75 ms, and a value less than one.

    Attributes:
      jobs: overrides of all cells, where they are known beforehand.
      job: overrides of the cell that was composed last, or could not be.
    """

    jobs: Sequence[Sequence[str]] = ()
    job: Sequence[str] = ()

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
        self.job = overrides
        values = [self._parse(text) for text in overrides if is_value(self._parse(text))]
        cfg, choices = self._choose(
            tuple(text for text in overrides if not is_value(self._parse(text)))
        )
        for wrong in replaced_parts(cfg, values):
            raise InputError(wrong)
        ours = [text for text in overrides if not self._parse(text).is_hydra_override()]
        with put_back(cfg, [one.key_or_group for one in values]):
            ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
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


@contextmanager
def put_back(cfg: DictConfig, paths: Sequence[str]) -> Iterator[None]:
    """Restore values of a configuration when the context ends: a copy of it would take as long as the rest.

    Args:
      cfg: whose values are set meanwhile.
      paths: of these values.
    """
    before = {}
    for path in paths:
        place, _, key = path.rpartition(".")
        part = OmegaConf.select(cfg, place) if place else cfg
        if isinstance(part, DictConfig) and key in part:
            alone: Any = OmegaConf.to_container(OmegaConf.masked_copy(part, key), resolve=False)
            before[path] = alone[key]
    try:
        yield
    finally:
        for path, value in before.items():
            OmegaConf.update(cfg, path, value, merge=False)


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
    """The interpolation by which a value reads others, such as `${agent.gamma}`; empty if it reads none."""
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
