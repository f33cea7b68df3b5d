"""Search spaces: which numbers of which agents are tried, and how values are drawn."""

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vfcompare.commands.catalogue import files
from vfcompare.errors import InputError, nearest
from vfcompare.runs.naming import digest
from vfcompare.schema.tree import finite, is_number, leaves

KINDS = ("log_uniform", "uniform", "choice")
"""Distributions."""

COMMON, CRITIC = "common", "critic"
"""Blocks of a space: of every agent, and of those with a learned critic; others are of one preset."""

LEARNED = "agent.estimator.critic"
"""Where a critic stands."""

DIGITS = 4
"""Significant ones of a drawn number: it is typed in commands."""

NEAR = 0.05
"""Share of a range, from its end, within which a best value says that the range may be too short."""

WHERE_PRESENT = "where_present"
"""Key of a knob that says that it is of those agents which have the setting."""

Values = dict[str, Any]
"""What a trial sets, by path."""


class Knob(NamedTuple):
    """A setting that is tried.

    Attributes:
      path: of the setting.
      kind: one of `KINDS`.
      options: the two ends of a range, or the choices.
      also: further paths that are set to the same value.
      where_present: whether an agent without the path is tuned without the knob, and not refused.
      stream: path by which its draws are known, where that is not `path`.
    """

    path: str
    kind: str
    options: tuple[Any, ...]
    also: tuple[str, ...] = ()
    where_present: bool = False
    stream: str = ""

    def at(self, share: float) -> Any:
        """The value below which a share in [0, 1] of the distribution lies."""
        if self.kind == "choice":
            return self.options[min(int(share * len(self.options)), len(self.options) - 1)]
        low, high = self.options
        if self.kind == "log_uniform":
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        return self.shown(value)

    def shown(self, value: Any) -> Any:
        """A value as a trial has it: a number of few digits, within the range."""
        if self.kind == "choice":
            return value
        low, high = self.options
        return min(max(float(f"{value:.{DIGITS}g}"), low), high)

    def draws(self, seed: int, number: int) -> list[Any]:
        """The values of trials 1, 2, ...

        Each path has a stream of its own: agents that share it draw the same, one more knob shifts no other,
        and more trials begin with the same ones.
        """
        name = self.stream or self.path
        stream = np.random.default_rng([seed, int(digest(name)[:16], 16)])
        return [self.at(share) for share in stream.random(number)]

    def levels(self, number: int) -> list[Any]:
        """The choices, or evenly spaced values from end to end."""
        if self.kind == "choice":
            return list(self.options)
        return [self.at(index / (number - 1)) for index in range(number)]

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the distribution's."""
        if self.kind == "choice":
            return value in self.options
        low, high = self.options
        return is_number(value) and low <= value <= high

    def ends_at(self, value: Any) -> bool:
        """Whether a value is so near an end of what may be tried that there may be too little of it."""
        if self.kind == "choice":
            numbers = [x for x in self.options if is_number(x)]
            return len(numbers) == len(self.options) > 2 and value in (min(numbers), max(numbers))
        scale = math.log if self.kind == "log_uniform" else float
        low, high = map(scale, self.options)
        return not NEAR <= (scale(value) - low) / (high - low) <= 1.0 - NEAR

    def set(self, value: Any) -> Values:
        """The settings that give it a value."""
        return dict.fromkeys((self.path, *self.also), value)

    def of(self, known: Collection[str]) -> "Knob":
        """The same knob of an agent that has these settings, drawn as every agent's; see `within`."""
        path, *also = (within(text, known) for text in (self.path, *self.also))
        return self._replace(path=path, also=tuple(also), stream=self.path)


class Space(NamedTuple):
    """What is tried.

    Attributes:
      name: file it stands in.
      written: as it stands there.
      blocks: knobs by whose they are.
    """

    name: str
    written: dict[str, Any]
    blocks: dict[str, tuple[Knob, ...]]

    def of(self, agent: str, config: Mapping[str, Any]) -> tuple[Knob, ...]:
        """The knobs of an agent.

        Raises:
          InputError: if it does not have a path of its blocks.
        """
        known = settings_of(config)
        found: dict[str, Knob] = {}
        for block, knob in self._asked(agent, config):
            if knob.path in self.without(agent, config):
                continue
            for path in (knob.path, *knob.also):
                if path not in known:
                    raise InputError(
                        f"{self.name}: {block}: {path} is not a setting of agent={agent}; allowed: those of "
                        f"`vfcompare agent={agent} --cfg job` below agent{nearest(path, known)}"
                    )
                if path in found:
                    raise InputError(f"{self.name}: agent={agent} has {path} twice; allowed: once")
                found[path] = knob
        if not found:
            raise InputError(
                f"{self.name} has nothing for agent={agent}; allowed: a knob in the block {COMMON!r} or "
                f"{agent!r}"
            )
        return tuple(dict.fromkeys(found.values()))

    def without(self, agent: str, config: Mapping[str, Any]) -> list[str]:
        """The paths of knobs that are tried where an agent has them, and that this one has not."""
        known = settings_of(config)
        knobs = (knob for _, knob in self._asked(agent, config) if knob.where_present)
        return [knob.path for knob in knobs if knob.path not in known]

    def _asked(self, agent: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Knob]]:
        """The knobs that are meant for an agent, each with its block."""
        known = settings_of(config)
        estimator = config["agent"].get("estimator") or {}
        for block in (COMMON, *([CRITIC] if estimator.get("critic") else []), agent):
            for knob in self.blocks.get(block, ()):
                yield block, knob.of(known)


def settings_of(config: Mapping[str, Any]) -> list[str]:
    """The paths of an agent's settings."""
    return [path for path, _, _ in leaves({"agent": config["agent"]})]


def within(path: str, known: Collection[str]) -> str:
    """A path of the critic as it is in each of two critics, where these have it and the pair has not."""
    inner = path.replace(f"{LEARNED}.", f"{LEARNED}.part.", 1)
    return (
        inner if path.startswith(f"{LEARNED}.") and inner in known and path not in known else path
    )


def tried(written: Mapping[str, Any]) -> dict[str, Any]:
    """A space as far as it decides what a search tries of agents that it refused none of."""
    return {
        block: {
            path: {key: value for key, value in knob.items() if key != WHERE_PRESENT}
            for path, knob in knobs.items()
        }
        for block, knobs in written.items()
    }


def load(name: str, own: Sequence[Traversable] = ()) -> Space:
    """A space of `conf/tune/` or of the user's own folders, or a file.

    Args:
      name: of the space, or of its file.
      own: folders like `conf/` that a user names.

    Raises:
      InputError: if there is none, or it is not a space.
    """
    known = files("tune", own)
    typed = name.endswith((".yaml", ".yml"))
    file = Path(name) if typed else known.get(name)
    if file is None or not file.is_file():
        raise InputError(
            f"--space {name} does not exist; allowed: {', '.join(known)}, or a YAML file"
            f"{nearest(name, known)}"
        )
    try:
        text = file.read_text(encoding="utf-8")
        written = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except (OSError, ValueError, YAMLError, OmegaConfBaseException) as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"--space {name} cannot be read: {first}") from error
    return parse(name if typed else f"conf/tune/{name}.yaml", written, own)


def parse(name: str, written: Any, own: Sequence[Traversable] = ()) -> Space:
    """A space from plain data.

    Args:
      name: to be told in errors.
      written: `{block: {path: {kind: options}}}`.
      own: folders like `conf/` that a user names, whose agents may have blocks, too.

    Raises:
      InputError: if it is not a space.
    """
    if not isinstance(written, Mapping) or not written:
        raise InputError(f"{name} is not a space; allowed: blocks {COMMON}, {CRITIC}, or presets")
    blocks = {}
    for block, knobs in written.items():
        allowed = [COMMON, CRITIC, *files("agent", own)]
        if block not in allowed:
            raise InputError(
                f"{name}: {block} is not a block; allowed: {COMMON}, {CRITIC}, or the name of an agent"
                f"{nearest(str(block), allowed)}"
            )
        if not isinstance(knobs, Mapping) or not knobs:
            raise InputError(f"{name}: {block} is empty; allowed: paths of settings")
        blocks[str(block)] = tuple(_knob(f"{name}: {block}", str(k), v) for k, v in knobs.items())
    return Space(name, {str(key): value for key, value in written.items()}, blocks)


def _knob(where: str, path: str, written: Any) -> Knob:
    where = f"{where}: {path}"
    if not path.startswith("agent."):
        raise InputError(f"{where} is not of the agent, and tuning must not change the problem")
    if not isinstance(written, Mapping):
        raise InputError(
            f"{where}={written} is not a distribution; allowed: {', '.join(KINDS)} with values, such as "
            "{log_uniform: [1.0e-4, 1.0e-2]}"
        )
    kinds = [str(key) for key in written if key not in ("also", WHERE_PRESENT)]
    if len(kinds) != 1 or kinds[0] not in KINDS:
        told = ", ".join(kinds) or "nothing"
        hint = nearest(kinds[0], KINDS) if kinds else ""
        raise InputError(f"{where}: {told}; allowed: one of {', '.join(KINDS)}{hint}")
    options, also = written[kinds[0]], written.get("also", [])
    if not isinstance(also, list) or not all(isinstance(text, str) for text in also):
        raise InputError(f"{where}: also={also} is not allowed; allowed: a list of paths")
    where_present = written.get(WHERE_PRESENT, False)
    if not isinstance(where_present, bool):
        raise InputError(
            f"{where}: {WHERE_PRESENT}={where_present} is not allowed; allowed: true or false"
        )
    if kinds[0] == "choice":
        _check_choices(where, options)
    else:
        _check_range(where, kinds[0], options)
    return Knob(path, kinds[0], tuple(options), tuple(also), where_present)


def _check_choices(where: str, options: Any) -> None:
    plain = isinstance(options, list) and all(
        isinstance(option, str | int | float | bool | None) for option in options
    )
    if not plain or len(options) < 2 or len({digest(option) for option in options}) < len(options):
        raise InputError(
            f"{where}: choice={options} is not allowed; allowed: two or more different numbers or words"
        )


def _check_range(where: str, kind: str, options: Any) -> None:
    ends = options if isinstance(options, list) else []
    numbers = [x for each in ends if (x := finite(each)) is not None]
    good = len(ends) == len(numbers) == 2
    if not good or not numbers[0] < numbers[1] or (kind == "log_uniform" and numbers[0] <= 0):
        above = " above 0" if kind == "log_uniform" else ""
        raise InputError(
            f"{where}: {kind}={options} is not allowed; allowed: two numbers{above}, the lower one first"
        )


def corners(knobs: tuple[Knob, ...]) -> Iterator[Values]:
    """The ends of every range and every choice, one at a time: what a setting refuses shows here."""
    for knob in knobs:
        for value in knob.levels(2):
            yield knob.set(value)


def drawn(knobs: tuple[Knob, ...], trials: int, seed: int) -> list[Values]:
    """Trial 0, the preset, and random ones."""
    columns = {knob: knob.draws(seed, trials - 1) for knob in knobs}
    rows = range(trials - 1)
    return [{}, *(combine({knob: columns[knob][row] for knob in knobs}) for row in rows)]


def grid(knobs: tuple[Knob, ...], levels: int) -> list[Values]:
    """Trial 0, the preset, and every combination of levels, the last knob's changing fastest."""
    product = itertools.product(*(knob.levels(levels) for knob in knobs))
    return [{}, *(combine(dict(zip(knobs, values, strict=True))) for values in product)]


def overrides(values: Values) -> list[str]:
    """The settings of a trial as Hydra reads them."""
    words = {None: "null", True: "true", False: "false"}
    told = {
        path: words[v] if v is None or v is True or v is False else v for path, v in values.items()
    }
    return [f"{path}={value}" for path, value in told.items()]


def combine(values: Mapping[Knob, Any]) -> Values:
    """The settings of several knobs."""
    return {path: v for knob, value in values.items() for path, v in knob.set(value).items()}
