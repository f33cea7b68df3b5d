"""From Hydra's errors to words that help: the setting, what is allowed, the nearest valid choice."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.resources.abc import Traversable
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationKeyError
from yaml import MarkedYAMLError, YAMLError

from vfcompare.commands.catalogue import ERRORS, files, groups
from vfcompare.commands.lookup import choices, chosen_by, or_own, own_folders, places, ways
from vfcompare.errors import closest, nearest
from vfcompare.schema.settings import SEARCHPATH, key_of, value_of
from vfcompare.schema.tree import leaves

parser = OverridesParser.create()

OPTIONAL = ("agent.penalty", "agent.prior", "agent.judge", "agent.lab")
"""Parts that an agent may be without."""


def explain(
    error: Exception,
    settings: Sequence[str],
    typed: Sequence[str] | None = None,
    jobs: Sequence[Sequence[str]] = (),
) -> str:
    """What Hydra found wrong, with the nearest valid choice.

    Args:
      error: one of `ERRORS`.
      settings: as typed, or of the cell where it was found.
      typed: for a whole sweep, if that is known to be more.
      jobs: settings of every cell of the sweep.
    """
    return (
        unreadable_file(error)
        or no_setting(error)
        or unreadable(settings)
        or ambiguous(error)
        or unread(error)
        or circular(error, settings)
        or unknown_choice(error, settings)
        or without_plus(error, settings)
        or set_together(error, settings, typed or settings, jobs)
        or unknown_key(error, settings, typed or settings, jobs)
        or next(typed_words(settings), None)
        or str(error).splitlines()[0]
    )


def words_for_parts(cfg: DictConfig) -> Iterator[str]:
    """What to say where a word stands in place of a part that has a file, wherever it was written.

    Args:
      cfg: composed, not resolved: what reads a part that is not there cannot be.
    """
    for place, key in places().items():
        with suppress(*ERRORS):
            node = OmegaConf.select(cfg, place)
            if node is not None and not isinstance(node, DictConfig):
                word = str(node)
                yield word_for_part(place, word, f"{key}={word}")


def typed_words(settings: Sequence[str]) -> Iterator[str]:
    """The same as `words_for_parts`, of settings of which nothing could be composed."""
    for text in settings:
        place, word = key_of(text), value_of(text)
        if place in places() and re.fullmatch(r"\w+", word) and word != "null":
            yield word_for_part(place, word, f"{places()[place]}={word}")


def replaced_parts(cfg: DictConfig, values: Sequence[Override]) -> Iterator[str]:
    """What to say of values that stand in place of whole parts, also of those that have no file.

    Args:
      cfg: composed without them.
      values: of settings.
    """
    for one in values:
        key, value = one.key_or_group, one.value()
        with suppress(*ERRORS):
            node = OmegaConf.select(cfg, key)
            if isinstance(node, DictConfig) and not isinstance(value, dict) and key not in OPTIONAL:
                inner = ", ".join(f"{key}.{name}" for name in map(str, node))
                way = places().get(key)
                word = one.get_value_string()
                yield word_for_part(key, word, f"{way}={word}" if way and value else inner)


def word_for_part(place: str, word: str, allowed: str) -> str:
    """What to say of a word that stands where a part should."""
    why = "nothing works without" if word == "null" else "a word where a part stands"
    return f"{place}={word} is not allowed: {why}; allowed: {allowed}"


def unreadable_file(error: Exception) -> str | None:
    """For a file that is no YAML."""
    if not isinstance(error, YAMLError):
        return None
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    if mark is None:
        return f"a file is no YAML: {str(error).splitlines()[0]}"
    return f"{mark.name}:{mark.line + 1} is no YAML: {getattr(error, 'problem', '')}"


def unreadable(settings: Sequence[str]) -> str | None:
    """For a value that Hydra cannot parse, such as a list that the shell took apart."""
    for index, text in enumerate(settings):
        try:
            parser.parse_override(text)
        except HydraException as error:
            reason, key = str(error).splitlines()[-1], key_of(text)
            if not value_of(text).startswith("["):
                return (
                    f"{text} cannot be read ({reason}); allowed: '{key}=\"...\"', words in quotes"
                )
            items = re.findall(r"[^\s,\[\]]+", " ".join([value_of(text), *_rest(settings[index:])]))
            return (
                f"{text} cannot be read ({reason}); allowed: a list with commas, and in quotes where it "
                f"has blanks; did you mean '{key}=[{','.join(items)}]'?"
            )
    return None


def _rest(settings: Sequence[str]) -> Iterator[str]:
    """The pieces into which a shell took a list, behind the first."""
    for text in settings[1:]:
        if "=" in text:
            return
        yield text
        if text.endswith("]"):
            return


def ambiguous(error: Exception) -> str | None:
    """For several values where Hydra answers for one cell."""
    found = re.match(
        r"(?:Ambiguous value for argument|Sweep parameters) '(.*)'", str(error).splitlines()[0]
    )
    if not found:
        return None
    return (
        f"{found.group(1)} has several values, and this is of one cell; allowed: one value, or "
        f"vfcompare plan -m ... {found.group(1)}"
    )


def no_setting(error: Exception) -> str | None:
    """For a word that is none, such as a name alone."""
    found = re.search(r"Error parsing override '([^'=]+)'", str(error))
    if not found:
        return None
    return _no_setting(found.group(1), found.group(1))


def no_key(one: Override) -> str | None:
    """For a value without a name before it."""
    if one.key_or_group:
        return None
    return _no_setting(str(one.input_line), value_of(str(one.input_line)))


def _no_setting(text: str, word: str) -> str:
    group = next((group for group in ("agent", "env") if word in files(group)), None)
    known = f"; did you mean '{group}={word}'?" if group else ""
    return f"{text} is no setting; allowed: key=value, such as env=maze{known}"


def no_group(one: Override, own: Sequence[Traversable]) -> str | None:
    """For a part of a group that does not exist; `own` as of `catalogue.files`."""
    group, place = one.key_or_group, one.package
    if place is None or choices(group, own):
        return None
    known, text = groups(own), str(one.input_line)
    meant = places().get(place, "").partition("@")[0].lstrip("+") or closest(group, known)
    hint = f"; did you mean '{text.replace(group, meant, 1)}'?" if meant else ""
    return f"{text} is not allowed: {group} is no group; allowed: {', '.join(known)}{hint}"


def unread(error: Exception) -> str | None:
    """For a part that reads a number of another part, which has no such number."""
    found = re.search(r"Interpolation key '([\w.]+)' not found\s+full_key: (\S+)", str(error))
    if not isinstance(error, InterpolationKeyError) or not found:
        return None
    part, _, number = found.group(1).rpartition(".")
    place = found.group(2).rpartition(".")[0]
    way = places().get(place, "").lstrip("+")
    more = f", or {way}=NAME that reads none" if way else ""
    allowed = f"{part} with {number}{more}"
    if part == "agent":
        allowed = "a file of conf/agent that begins with a recipe, '- /recipe@_here_: matched'"
    return f"{found.group(2)} reads {found.group(1)}, which is not there; allowed: {allowed}"


def circular(error: Exception, settings: Sequence[str]) -> str | None:
    """For a part that reads the place where it stands, as a critic's optimiser in the policy's."""
    found = re.search(r"Recursive interpolation detected\s+full_key: (\S+)", str(error))
    for place, key in places().items():
        text = next((s for s in settings if s.startswith(f"{key}=")), None)
        if found and text and found.group(1).startswith(f"{place}."):
            names = (name for name in files(key.partition("@")[0]) if name != value_of(text))
            return f"{text} is not allowed: it reads {found.group(1)}, itself; allowed: {', '.join(names)}"
    return None


def without_plus(error: Exception, settings: Sequence[str]) -> str | None:
    """For a group that is not chosen from unless it is asked for, such as a study."""
    found = re.search(r"Could not override '([\w@/.]+)'", str(error))
    text = found and next((s for s in settings if s.startswith(f"{found.group(1)}=")), None)
    if not found or not text or not files(found.group(1).split("@")[0], own_folders(settings)):
        return None
    key, name = key_of(text), value_of(text)
    if name.startswith("{"):
        return None
    if wrong := misplaced(text, settings):
        return wrong
    uses = [way.replace("NAME", name) for way in ways(key.split("@")[0])]
    if use := next((way for way in uses if way.split()[-1] == text), None):
        return f"{text} is not allowed: this agent has no {key.rpartition('.')[2]}; allowed: {use}"
    return f"{text} is not part of the configuration yet; allowed: {chosen_by(key, name) or f'+{text}'}"


def misplaced(text: str, settings: Sequence[str]) -> str | None:
    """For a part at a place where none stands, and none would be read."""
    group, at, place = key_of(text).partition("@")
    keys = [key for key in places().values() if key.lstrip("+").partition("@")[0] == group]
    node = chosen([other for other in settings if other != text]) if at and keys else None
    if node is None or place in places():
        return None
    above, _, last = place.rpartition(".")
    with suppress(*ERRORS):
        part = OmegaConf.select(node, above) if above else node
        if isinstance(part, DictConfig) and last in part:
            return None
    allowed = ", ".join(f"{key}={value_of(text)}" for key in keys)
    return f"{text} is not allowed: there is no {place or 'such place'}; allowed: {allowed}"


def unknown_choice(error: Exception, settings: Sequence[str]) -> str | None:
    """For an agent, environment or part that does not exist."""
    found = re.search(r"(?:Could not find|Could not load) '([\w@/.]+)/([^'/]+)'", str(error))
    if not found:
        return None
    group, name = found.group(1).split("@")[0], found.group(2).removesuffix(".yaml")
    own = own_folders(settings)
    names = choices(group, own)
    if not names:
        return None
    allowed = f"{', '.join(names)}{or_own(own)}"
    return f"{group}={name} does not exist; allowed: {allowed}{nearest(name, names)}"


def set_together(
    error: Exception,
    settings: Sequence[str],
    typed: Sequence[str],
    jobs: Sequence[Sequence[str]],
) -> str | None:
    """For settings in braces, as if each were typed by itself; see `explain`."""
    found = re.search(r"Could not override '([\w.]+)'", str(error))
    text = found and next((s for s in settings if s.startswith(f"{found.group(1)}={{")), None)
    value = parser.parse_override(text).value() if text else None
    if not found or not isinstance(value, dict):
        return None
    inner = [f"{path}={value}" for path, _, value in leaves(value, found.group(1))]
    others = [*(other for other in settings if other != text), *inner]
    wrong = (HydraException(f"Could not override '{key_of(one)}'") for one in inner)
    told = (unknown_key(one, others, [*typed, *inner], jobs) for one in wrong)
    return next(filter(None, told), None)


def unknown_key(
    error: Exception,
    settings: Sequence[str],
    typed: Sequence[str],
    jobs: Sequence[Sequence[str]],
) -> str | None:
    """For a setting that does not exist, or not for every cell of a sweep; see `explain`."""
    text = str(error)
    found = re.search(r"full_key: (\S+)", text) or re.search(r"Could not override '([^']+)'", text)
    node: Any = found and chosen(settings)
    if not found or node is None:
        return None
    path, whole = found.group(1), node
    value = next((value_of(s) for s in settings if s.startswith(f"{path}=")), "")
    swept = of_study(path, typed)
    parts = path.split(".")
    for depth, part in enumerate(parts):
        keys = [str(key) for key in node] if isinstance(node, DictConfig) else []
        if part not in keys:
            where = ".".join(parts[:depth]) or "the configuration"
            reason = " (this agent has no critic)" if part == "critic" else ""
            known = ", ".join(key for key in keys if not key.startswith("_")) or "no settings"
            other = has(path, settings, jobs)
            here = f" for {whose(settings)}" if other or swept else ""
            more = nearest(part, keys) or ("" if depth else inside(whole, part))
            if other:
                more = f"; allowed: cells that have it, such as {other}; in a command of their own, with the "
                more += "same study.name, they come into the same study"
            return f"{path}={value}{swept} does not exist{here}{reason}: {where} has {known}{more}"
        if OmegaConf.is_interpolation(node, part) and depth + 1 < len(parts):
            return borrowed(f"{path}={value}", ".".join(parts[: depth + 1]), node._get_node(part))
        node = node[part]
    return None


def of_study(path: str, typed: Sequence[str]) -> str:
    """That a setting is swept and was not typed, as a clause."""
    if any(key_of(text) == path for text in typed):
        return ""
    study = next((value_of(text) for text in typed if key_of(text) == "study"), "")
    return f", which study {study} sweeps," if study else ""


def has(path: str, settings: Sequence[str], jobs: Sequence[Sequence[str]]) -> str:
    """The first cell of a sweep whose agent, or environment, has a setting of it; nothing where none has."""
    part, place, key = path.partition(".")[0], *path.rpartition(".")[::2]
    tried = [whose(settings, part)]
    for job in jobs:
        if part in ("agent", "env") and whose(job, part) not in tried:
            tried.append(whose(job, part))
            with suppress(*ERRORS):
                node = OmegaConf.select(chosen(job) or OmegaConf.create(), place)
                if isinstance(node, DictConfig) and key in node:
                    return whose(job)
    return ""


def whose(settings: Sequence[str], *parts: str) -> str:
    """The agent and the environment of a cell, or one of them, as far as its settings choose them."""
    return " ".join(text for text in settings if key_of(text) in (parts or ("agent", "env")))


def borrowed(setting: str, place: str, node: Any) -> str:
    """For a setting of a part that is another one's, as a critic's network is the policy's."""
    owner = str(node._value())[2:-1]
    group = places().get(owner, "").lstrip("+").partition("@")[0]
    way = f"; allowed: with +{group}@{place}=NAME before it" if group else ""
    return f"{setting} is not allowed: {place} is {owner}{way}"


def chosen(settings: Sequence[str]) -> DictConfig | None:
    """The configuration of what settings choose, without values; of several choices that of the first."""
    words = []
    for text in settings:
        key, value = key_of(text), value_of(text)
        if text.startswith(SEARCHPATH):
            words.append(text)
        elif files(key.partition("@")[0], own_folders(settings)) and not value.startswith("{"):
            words.append(f"{text.partition('=')[0]}={value.split(',')[0]}")
    GlobalHydra.instance().clear()
    with suppress(*ERRORS), initialize_config_module("vfcompare.conf", version_base="1.3"):
        return compose("config", words)
    return None


def inside(config: DictConfig, word: str) -> str:
    """The setting within an agent or environment that a word may mean, as a clause."""
    tree: Any = OmegaConf.to_container(config, resolve=False)
    found: dict[str, str] = {}
    for path, key, _ in leaves({name: tree[name] for name in ("agent", "env")}):
        found.setdefault(key, path)
    meant = closest(word, found)
    return f"; did you mean {found[meant]!r}?" if meant else ""
