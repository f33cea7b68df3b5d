"""What there is to choose from: presets read as data, what each needs, and how it differs from its nearest.

Nothing is instantiated and JAX is not imported, so that the answer is there at once.
"""

import shutil
import warnings
from collections.abc import Iterator, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from textwrap import wrap
from typing import Any, NamedTuple

from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from vfcompare.errors import InputError, nearest
from vfcompare.needs import NEEDED_BY, NEEDS
from vfcompare.training.progress import duration
from vfcompare.validate import leaves

Config = Mapping[str, Any]

GROUPS: dict[str, tuple[str, ...]] = {
    "agent": ("who learns: whole recipes", "agent=NAME"),
    "env": ("what is to be learned: tasks", "env=NAME"),
    "study": ("questions, each with the sweep that answers it", "-m +study=NAME"),
    "recipe": ("all of an agent but its estimator", "recipe@agent=NAME"),
    "estimator": ("how advantages are made", "estimator@agent.estimator=NAME"),
    "returns": (
        "advantages made of values, and what a critic is fitted to",
        "agent=ppo returns@agent.estimator.advantage=NAME",
        "agent=ppo returns@agent.estimator.target=NAME",
    ),
    "critic": ("learned value functions", "agent=ppo critic@agent.estimator.critic=NAME"),
    "value_head": (
        "what a critic puts out",
        "agent=ppo value_head@agent.estimator.critic.head=NAME",
    ),
    "scaling": (
        "the unit that a critic learns in",
        "agent=ppo scaling@agent.estimator.critic.scaling=NAME",
    ),
    "lesion": (
        "damage to what a critic says, or to exact values",
        "agent=ppo lesion@agent.estimator.critic.lesion=NAME",
        "agent=oracle_v lesion@agent.estimator.lesion=NAME",
    ),
    "collector": ("how experience is gathered", "collector@agent.collector=NAME"),
    "surrogate": ("the policy's loss at one step", "surrogate@agent.surrogate=NAME"),
    "aggregate": ("how the losses of steps become one", "aggregate@agent.aggregate=NAME"),
    "penalty": ("the price of leaving the initial policy", "+penalty@agent.penalty=NAME"),
    "prior": ("what a policy has learned before it is rewarded", "+prior@agent.prior=NAME"),
    "judge": (
        "what pays in place of the verifier",
        "+prior@agent.prior=ladder +judge@agent.judge=NAME",
    ),
    "network": ("bodies of policy and critic", "network@agent.network=NAME"),
    "policy": ("distributions over actions", "policy@agent.policy=NAME"),
    "optimizer": (
        "of the policy, and of a critic",
        "optimizer@agent.optimizer=adam",
        "agent=ppo optimizer@agent.estimator.critic.optimizer=NAME",
    ),
    "tune": ("search spaces: `vfcompare tune --space NAME`",),
    "lab": ("what is held against the truth at each evaluation", "+lab@agent.lab=NAME"),
}
"""Folders of `conf/`: what is in them, and the words that choose one of it."""

WRAPPED = ("inner", "part")
"""Keys of a part that another one wraps: a collector that draws again, two critics instead of one."""

FAMILIES: dict[str, str] = {
    "Outcome-only": "the return of an episode, and a baseline made of other returns",
    "With a learned critic": "values that are learned beside the policy",
    "Simulated": "a baseline or values by extra episodes of the present policy",
    "Privileged": "with exact values: a yardstick, not a method",
    "Published recipes": "whole recipes, not matched to the other agents",
    "Controls": "what a critic brings beside its advice",
}
"""Headings of the presets, in order."""

PACKAGE = "vfcompare.conf"
SHOWN = 3
"""Differences that are named one by one in a list."""


class Preset(NamedTuple):
    """One agent, as data.

    Attributes:
      name: of its file.
      comment: what its file says of it, empty for matched agents.
      formula: what the file of its estimator says.
      config: composed and resolved.
      written: composed, with interpolations as they are written.
      choices: which file each of its parts was taken from, by the part's path; the recipe's is empty.
    """

    name: str
    comment: str
    formula: str
    config: dict[str, Any]
    written: dict[str, Any]
    choices: dict[str, str]


class Difference(NamedTuple):
    """A part or setting in which two agents differ.

    Attributes:
      path: below `agent`.
      mine: of the one.
      other: of the other.
    """

    path: str
    mine: str
    other: str


def comment(text: str) -> str:
    """The leading comment of a YAML file as one line."""
    words = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            words.append(line[1:].strip())
    return " ".join(words)


def describe(text: str) -> str:
    """What a YAML file is: its leading comment, or the question of a study."""
    found = comment(text)
    if not found:
        found = str(OmegaConf.select(OmegaConf.create(text), "study.question", default=""))
    return found


def decided(text: str) -> str:
    """What a study decides before its first run, and what it takes, as its file says."""
    file: Any = OmegaConf.to_container(OmegaConf.create(text))
    study = file["study"]
    sides = [
        " + ".join(side) if isinstance(side, list) else side for side in study.get("contrast") or ()
    ]
    words = [f"judged: {' against '.join(sides)}"] if sides else []
    words += [f"shows first: {', '.join(study['figures'])}"] if "figures" in study else []
    words += [f"about {duration(60 * study['minutes'])} on two cores"] if "minutes" in study else []
    return "; ".join(words)


def files(group: str) -> dict[str, Traversable]:
    """The YAML files of a group by name; none where there is no such group."""
    folder = resources.files(PACKAGE) / group
    if not folder.is_dir():
        return {}
    found = {p.name[:-5]: p for p in folder.iterdir() if p.name.endswith(".yaml")}
    return dict(sorted(found.items()))


def groups() -> list[str]:
    """Every folder of `conf/` that one can choose from, the well-known ones first."""
    folders = [p.name for p in resources.files(PACKAGE).iterdir() if p.is_dir()]
    found = sorted(name for name in folders if not name.startswith("_") and files(name))
    return [name for name in GROUPS if name in found] + [n for n in found if n not in GROUPS]


def plural(word: str) -> str:
    """The plural of a group's name."""
    if word.endswith("s"):
        return word
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def presets() -> dict[str, Preset]:
    """Every agent by name, composed.

    As `hydra.compose` would, for a third of its time: without Hydra's own settings, and with each file read
    once for all.
    """
    GlobalHydra.instance().clear()
    found = {}
    # Hydra warns of files that leave `_self_` out, when they are composed alone; in a group they may.
    with initialize_config_module(PACKAGE, version_base="1.3"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        repository = CachingConfigRepository(loader.repository)
        for name, file in files("agent").items():
            tree = create_defaults_list(
                repo=repository,
                config_name=f"agent/{name}",
                overrides_list=[],
                prepend_hydra=False,
                skip_missing=False,
            )
            composed = loader._compose_config_from_defaults_list(tree.defaults, repository)
            config: Any = OmegaConf.to_container(composed, resolve=True)
            written: Any = OmegaConf.to_container(composed)
            chosen = (
                (*key.partition("@agent"), of) for key, of in tree.overrides.known_choices.items()
            )
            choices = {path.removeprefix("."): str(of) for _, at, path, of in chosen if at}
            formula = ""
            if estimator := files("estimator").get(choices.get("estimator", "")):
                formula = comment(estimator.read_text("utf-8"))
            said = comment(file.read_text("utf-8"))
            found[name] = Preset(name, said, formula, config["agent"], written["agent"], choices)
    return found


def unwrap(config: Config) -> dict[str, Any]:
    """A configuration in which what a part wraps stands in its place: two agents then have the same paths."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key == "_partial_":
            continue
        if not isinstance(value, Mapping):
            found[key] = value
        elif key in WRAPPED:
            found |= {k: v for k, v in unwrap(value).items() if k not in ("_target_", *config)}
        else:
            found[key] = unwrap(value)
    return found


def flatten(config: Config) -> dict[str, Any]:
    """Every value of an unwrapped configuration by its path."""
    return {path: value for path, _, value in leaves(unwrap(config))}


def distance(one: Config, two: Config) -> int:
    """How many leaves of two flat configurations differ, including those that only one of them has."""
    missing = object()
    return sum(one.get(path, missing) != two.get(path, missing) for path in one.keys() | two.keys())


def neighbours(found: Mapping[str, Preset]) -> dict[str, list[str]]:
    """For each preset those that differ from it in the fewest leaves, by name; several where they tie."""
    flat = {name: flatten(preset.config) for name, preset in found.items()}
    near = {}
    for name, mine in flat.items():
        far = {other: distance(mine, theirs) for other, theirs in flat.items() if other != name}
        least = min(far.values(), default=0)
        near[name] = sorted(other for other in far if far[other] == least)
    return near


def differences(mine: Preset, other: Preset) -> list[Difference]:
    """In what two agents differ, part by part.

    Where a function is replaced, what only one of the two takes goes without saying.
    """
    return list(_differences(mine, other, unwrap(mine.config), unwrap(other.config), ""))


def _differences(
    mine: Preset, other: Preset, one: Config, two: Config, path: str
) -> Iterator[Difference]:
    replaced = one.get("_target_") != two.get("_target_")
    if replaced:
        names = mine.choices.get(path), other.choices.get(path)
        if None in names or names[0] == names[1]:
            names = function(one), function(two)
        yield Difference(path, str(names[0]), str(names[1]))
    for key in [*one, *(key for key in two if key not in one)]:
        here = f"{path}.{key}" if path else key
        if key == "_target_" or (replaced and not (key in one and key in two)):
            continue
        a, b = one.get(key), two.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _differences(mine, other, a, b, here)
        elif a != b or (key in one) != (key in two):
            yield Difference(here, short(a), short(b))


def function(part: Config) -> str:
    """Name of the function that a part is made by."""
    return str(part.get("_target_", "?")).rsplit(".", 1)[-1]


def short(value: Any) -> str:
    """A value as YAML has it; a part by its function."""
    if isinstance(value, Mapping):
        return function(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(short, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def needs(config: Config) -> dict[str, list[str]]:
    """What an agent needs, and why, in the order of `NEEDS`."""
    found: dict[str, list[str]] = {need: [] for need in NEEDS}
    for _, key, target in leaves(config):
        if key == "_target_":
            part = str(target).removeprefix("vfcompare.")
            for need, reasons in NEEDED_BY.items():
                if part in reasons:
                    found[need].append(f"{reasons[part]} ({part.rsplit('.', 1)[-1]})")
    estimator, collector = config.get("estimator") or {}, unwrap(config.get("collector") or {})
    if "critic" in estimator:
        unread = str(estimator["_target_"]).endswith(".auxiliary")
        found["critic"].append("it learns and is never read" if unread else "its values are read")
    if found["groups"] and collector.get("start") == "shared":
        found["resets"].append("the rollouts of a group begin in the same state (start=shared)")
    return {need: reasons for need, reasons in found.items() if reasons}


def family(preset: Preset) -> str:
    """The heading that a preset stands under."""
    needed, estimator = needs(preset.config), preset.config.get("estimator") or {}
    if preset.comment.startswith("Control:"):
        return "Controls"
    if preset.choices.get("") != "matched":
        return "Published recipes"
    if "exact values" in needed:
        return "Privileged"
    if "critic" in needed:
        return "With a learned critic"
    target = str(estimator.get("_target_", "")).removeprefix("vfcompare.")
    return "Simulated" if target in NEEDED_BY["extra episodes"] else "Outcome-only"


def show(group: str | None = None, name: str | None = None, width: int | None = None) -> str:
    """What `vfcompare list` prints.

    Args:
      group: what to list, in singular or plural; by default all that can be listed.
      name: one of them, to be shown in full.
      width: columns; by default those of the terminal, at least 80.

    Raises:
      InputError: if there is no such group or name.
    """
    width = width or max(80, shutil.get_terminal_size((80, 24)).columns)
    if group is None:
        return overview(width)
    known = groups()
    singular = next((one for one in known if group in (one, plural(one))), None)
    if singular is None:
        words = [plural(one) for one in known]
        raise InputError(
            f"cannot list {group!r}; allowed: {', '.join(words)}{nearest(group, words)}"
        )
    found = files(singular)
    if name is not None and name not in found:
        raise InputError(
            f"{singular}={name} does not exist; allowed: {', '.join(found)}{nearest(name, found)}"
        )
    if singular == "agent":
        return agents(width) if name is None else agent(name, width)
    return entries(singular, width) if name is None else entry(singular, name)


def overview(width: int) -> str:
    """All groups: how many there are in each, and what they are."""
    lines = []
    for group in groups():
        head = f"  {plural(group):<12}{len(files(group)):>3}  "
        lines += _fill(next(iter(GROUPS.get(group, ())), "-"), width, head, " " * len(head))
    lines += [
        "",
        "vfcompare list agents        every agent: formula, needs, nearest relative",
        "vfcompare list agents ppo    one of them in full; so with every other word above",
    ]
    return "\n".join(lines)


def _uses(group: str) -> list[str]:
    return [f"vfcompare {use}" for use in GROUPS.get(group, ())[1:]]


def entries(group: str, width: int) -> str:
    """A group by name, each with the first comment of its file."""
    found = files(group)
    told = {name: describe(file.read_text("utf-8")) for name, file in found.items()}
    indent = max(map(len, found)) + 4
    lines = []
    for name, words in told.items():
        lines += _fill(words or "-", width, f"  {name}".ljust(indent), " " * indent)
        if group == "study":
            more = decided(found[name].read_text("utf-8"))
            lines += _fill(more, width, " " * indent, " " * indent)
    example = f"vfcompare list {plural(group)} {next(iter(found))}"
    lines += ["", *_uses(group), f"{example}    one of them in full"]
    return "\n".join(lines)


def entry(group: str, name: str) -> str:
    """One file of a group as it is: its comments say what its settings mean."""
    text = files(group)[name].read_text("utf-8").rstrip()
    uses = [use.replace("NAME", name) for use in _uses(group) if "NAME" in use]
    return "\n".join([f"{name}    {_place(group, name)}", *uses, "", text])


def agents(width: int) -> str:
    """Every preset in short, under the heading of its family."""
    found = presets()
    near = neighbours(found)
    families: dict[str, list[Preset]] = {heading: [] for heading in FAMILIES}
    for preset in found.values():
        families[family(preset)].append(preset)
    lines: list[str] = []
    for heading, members in families.items():
        if members:
            lines += [f"{heading.upper()}: {FAMILIES[heading]}", ""]
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
        lines += _labelled("nearest", f"{relative.name}; {told(preset, relative)}", width)
    return lines


def told(mine: Preset, other: Preset, most: int = SHOWN) -> str:
    """In what an agent differs from another, as a clause."""
    found = differences(mine, other)
    if not found:
        return "the same under another name"
    words = [f"{d.path} ({d.mine} instead of {d.other})" for d in found[:most]]
    more = [f"+{len(found) - most} more"] if len(found) > most else []
    return f"differs in {', '.join(words + more)}"


def agent(name: str, width: int) -> str:
    """One preset in full: where it is written, what it needs and why, its nearest, and its parts."""
    found = presets()
    preset, near = found[name], neighbours(found)[name]
    lines = [f"{name}    {_place('agent', name)}"]
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
    lines += ["", f"vfcompare agent={name} env=maze"]
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
        elif _borrowed(value) and isinstance(_at(preset.config, here), Mapping):
            yield [here, f"the same as {str(value)[2:-1]}"]


def _borrowed(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")


def _at(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config[key]
    return config


def _place(group: str, name: str) -> str:
    return f"conf/{group}/{name}.yaml, of the package {PACKAGE}"


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
