"""From the words of a command line to checked cells, and from Hydra's errors to words that help."""

import copy
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from hydra import compose, initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from vfcompare.commands.catalogue import GROUPS, files
from vfcompare.errors import InputError, nearest
from vfcompare.runs import plan, store
from vfcompare.settings import PRIVATE, key_of, value_of
from vfcompare.training.cell import Cell
from vfcompare.validate import FAMILIES, check, natural

ERRORS = (HydraException, OmegaConfBaseException)
"""What Hydra raises when it cannot make sense of its input."""

KNOWN = (
    *("agent", "env", "seeds", "first_seed", "env_steps", "evaluations", "lanes"),
    *("root", "priors", "save_seconds", "resume", "study"),
)
"""What a cell has settings for."""

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
    config = natural(plain(cfg))
    for name in config.keys() - KNOWN:
        typed = (value_of(text) for text in overrides if key_of(text) == name)
        way = chosen_by(name, next(typed, ""))
        more = f"; did you mean '{way}'?" if way else nearest(name, KNOWN)
        raise InputError(f"{name} is no setting; allowed: {', '.join(KNOWN)}{more}")
    check(config)
    told = ((key_of(text), value_of(text)) for text in overrides if "=" in text)
    settings = {k: v for k, v in told if k not in NAMED and k.split(".")[0] not in PRIVATE}
    return Cell(str(choices["agent"]), str(choices["env"]), settings, config, tuple(overrides))


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
        found = [composer.cell(job) for job in (jobs(parsed) if sweep else [settings])]
    contrasted(found)
    referred(found)
    named = as_known(found)
    others = [(typed.id, cell.id) for typed, cell in zip(found, named, strict=True)]
    others = [(typed, name) for typed, name in others if typed != name]
    if others:
        more = f"; {len(others) - 1} more cells likewise" if len(others) > 1 else ""
        told = f"{others[0][0]} is {others[0][1]} in other words, and is trained once{more}"
        print(f"vfcompare: {told}", file=sys.stderr)
    return list({cell.id: cell for cell in named}.values())


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
      InputError: for parts that are null, for sweeps over several studies or places, and for a change of
        place between what is checked and what is trained.
    """
    for one in settings:
        key = one.key_or_group
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


def contrasted(found: Sequence[Cell]) -> None:
    """Refuse a contrast of agents that do not exist: a study cannot take back what it has decided.

    Raises:
      InputError: that names the nearest one.
    """
    known = {*files("agent"), *FAMILIES, *(cell.agent for cell in found)}
    for side in found[0].config["study"].get("contrast") or ():
        for name in side if isinstance(side, list) else [side]:
            if name not in known:
                raise InputError(
                    f"study.contrast: {name} is no agent; allowed: {', '.join(sorted(known))}"
                    f"{nearest(name, known)}"
                )


def referred(found: Sequence[Cell]) -> None:
    """Refuse returns of environments that do not exist, for the same reason.

    Raises:
      InputError: that names the nearest one.
    """
    known = {*files("env"), *(cell.env for cell in found)}
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
        values = [text for text in overrides if is_value(self._parse(text))]
        cfg, choices = self._choose(tuple(text for text in overrides if text not in values))
        cfg = copy.deepcopy(cfg)
        ConfigLoaderImpl._apply_overrides_to_config([self._parse(text) for text in values], cfg)
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
    return override.type == OverrideType.CHANGE and override.package is None and inside


def jobs(settings: Sequence[Override]) -> Iterator[list[str]]:
    """The overrides of every job of a sweep, as Hydra's own sweeper will make them."""
    swept = OverridesParser.create().parse_overrides(swept_by_default(settings))
    for batch in BasicSweeper.split_arguments([*swept, *settings], None):
        yield from (list(job) for job in batch)


def swept_by_default(settings: Sequence[Override]) -> list[str]:
    """What the configuration, such as a study, sweeps and the settings do not set."""
    # Values are for the agents that are swept, not for the one that is chosen by default.
    fixed = [str(o.input_line) for o in settings if not o.is_sweep_override() and not is_value(o)]
    params = compose("config", fixed, return_hydra_config=True).hydra.sweeper.params or {}
    told = {o.get_key_element() for o in settings}
    return [f"{key}={value}" for key, value in params.items() if key not in told]


def explain(error: Exception, settings: list[str]) -> str:
    """What Hydra found wrong, with the nearest valid choice."""
    return (
        no_setting(error)
        or unknown_choice(error)
        or without_plus(error, settings)
        or unknown_key(error, settings)
        or str(error).splitlines()[0]
    )


def no_setting(error: Exception) -> str | None:
    """For a word that is none, such as a name alone."""
    found = re.search(r"Error parsing override '([^'=]+)'", str(error))
    if not found:
        return None
    word = found.group(1)
    group = next((group for group in ("agent", "env") if word in files(group)), None)
    known = f"; did you mean '{group}={word}'?" if group else ""
    return f"{word} is no setting; allowed: key=value, such as env=maze{known}"


def without_plus(error: Exception, settings: list[str]) -> str | None:
    """For a group that is not chosen from unless it is asked for, such as a study."""
    found = re.search(r"Could not override '([\w@/.]+)'", str(error))
    text = found and next((s for s in settings if s.startswith(f"{found.group(1)}=")), None)
    if not found or not text or not files(found.group(1).split("@")[0]):
        return None
    way = chosen_by(key_of(text), value_of(text)) or f"+{text}"
    return f"{text} is not part of the configuration yet; allowed: {way}"


def chosen_by(group: str, name: str) -> str:
    """The words that choose a part, where there is such a group; else none."""
    words = (word for use in GROUPS.get(group, ())[1:] for word in use.split())
    ways = (word.partition("=")[0] for word in words)
    own = (way for way in ways if way.lstrip("+").partition("@")[0] == group)
    return next((f"{way}={name}" for way in own), "")


def unknown_choice(error: Exception) -> str | None:
    """For an agent, environment or part that does not exist."""
    found = re.search(r"(?:Could not find|Could not load) '([\w@/.]+)/([^'/]+)'", str(error))
    if not found:
        return None
    group, name = found.group(1).split("@")[0], found.group(2).removesuffix(".yaml")
    names: Collection[str] = files(group)
    if group.startswith("hydra/"):
        # Plugins have some more.
        with initialize_config_module("vfcompare.conf", version_base="1.3"):
            names = GlobalHydra.instance().config_loader().get_group_options(group)
    if not names:
        return None
    return f"{group}={name} does not exist; allowed: {', '.join(names)}{nearest(name, names)}"


def unknown_key(error: Exception, settings: list[str]) -> str | None:
    """For a setting that does not exist."""
    text = str(error)
    found = re.search(r"full_key: (\S+)", text) or re.search(r"Could not override '([^']+)'", text)
    if not found:
        return None
    path = found.group(1)
    typed = next((value_of(s) for s in settings if s.startswith(f"{path}=")), "")
    chosen = [s for s in settings if key_of(s) in ("agent", "env") and "," not in s]
    GlobalHydra.instance().clear()
    with initialize_config_module("vfcompare.conf", version_base="1.3"):
        node: Any = compose("config", chosen)
    parts = path.split(".")
    for depth, part in enumerate(parts):
        keys = [str(key) for key in node] if isinstance(node, DictConfig) else []
        if part not in keys:
            where = ".".join(parts[:depth]) or "the configuration"
            reason = " (this agent has no critic)" if part == "critic" else ""
            return (
                f"{path}={typed} does not exist{reason}: {where} has {', '.join(keys)}"
                f"{nearest(part, keys)}"
            )
        node = node[part]
    return None
