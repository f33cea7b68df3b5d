"""What there is to choose from: presets read as data, what each needs, and how it differs from its nearest.

Nothing is instantiated and JAX is not imported, so that the answer is there at once.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

from hydra import initialize_config_module
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.config_search_path import SearchPathElement
from hydra.core.default_element import ResultDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vfcompare.schema.families import learns
from vfcompare.schema.needs import NEEDED_BY, NEEDS
from vfcompare.schema.tree import function, leaves, made_by

Config = Mapping[str, Any]

ERRORS = (HydraException, OmegaConfBaseException, YAMLError)
"""What is raised where Hydra cannot make sense of its input."""

GROUPS: dict[str, tuple[str, ...]] = {
    "agent": ("who learns: whole recipes", "agent=NAME"),
    "env": ("what is to be learned: tasks", "env=NAME"),
    "study": ("questions, each with the sweep that answers it", "-m +study=NAME"),
    "recipe": ("all of an agent but its estimator", "recipe@agent=NAME"),
    "estimator": ("how advantages are made", "estimator@agent.estimator=NAME"),
    "advantage": (
        "advantages made of values",
        "agent=ppo advantage@agent.estimator.advantage=NAME",
    ),
    "target": ("what a critic is fitted to", "agent=ppo target@agent.estimator.target=NAME"),
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

WRAPPED = ("part",)
"""Keys of a part that another one wraps, as two critics do where others have one."""

HEADINGS: dict[str, str] = {
    "Outcome-only": "the return of an episode, and a baseline made of other returns",
    "With a learned critic": "values that are learned beside the policy",
    "Simulated": "a baseline or values by extra episodes of the present policy",
    "Privileged": "with exact values: a yardstick, not a method",
    "Published recipes": "whole recipes, not matched to the other agents",
    "Controls": "what a critic brings beside its advice",
}
"""Headings of the presets, in order."""

PACKAGE = "vfcompare.conf"


class Preset(NamedTuple):
    """One agent, as data.

    Attributes:
      name: of its file.
      comment: what its file says of it, empty for matched agents.
      formula: what the file of its estimator says.
      config: composed and resolved.
      written: composed, with interpolations as they are written.
      choices: which file each of its parts was taken from, by the part's path; the recipe's is empty. A part
        whose function was replaced is of no file.
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


def files(group: str, own: Sequence[Traversable] = ()) -> dict[str, Traversable]:
    """The YAML files of a group by name; none where there is no such group.

    Args:
      group: a folder of `conf/`.
      own: folders like `conf/` that a user names; as with Hydra, what ours has is not replaced.
    """
    found: dict[str, Traversable] = {}
    for place in (*reversed(own), resources.files(PACKAGE)):
        folder = place / group
        if folder.is_dir():
            found |= {p.name[:-5]: p for p in folder.iterdir() if p.name.endswith(".yaml")}
    return dict(sorted(found.items()))


def groups(own: Sequence[Traversable] = ()) -> list[str]:
    """Every folder of `conf/` that one can choose from, the well-known ones first; `own` as of `files`."""
    places = (resources.files(PACKAGE), *own)
    folders = {p.name for place in places for p in place.iterdir() if p.is_dir()}
    found = sorted(name for name in folders if not name.startswith("_") and files(name, own))
    return [name for name in GROUPS if name in found] + [n for n in found if n not in GROUPS]


def presets(
    own: Sequence[Traversable] = (), broken: dict[str, str] | None = None
) -> dict[str, Preset]:
    """Every agent by name, composed.

    As `hydra.compose` would, for a third of its time: without Hydra's own settings, and with each file read
    once for all.

    Args:
      own: as of `files`.
      broken: where to note what is wrong with agents of the user's own that cannot be composed, by name.
    """
    GlobalHydra.instance().clear()
    found = {}
    # Hydra warns of files that leave `_self_` out, when they are composed alone; in a group they may.
    with initialize_config_module(PACKAGE, version_base="1.3"), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        path = loader.get_search_path()
        for place in own:
            # The last one is Hydra's own, and has to be.
            entry = SearchPathElement("user", f"file://{place}")
            path.get_path().insert(-1, entry)
        repository = CachingConfigRepository(ConfigRepository(path))
        estimators = files("estimator", own)
        for name, file in files("agent", own).items():
            try:
                found[name] = _preset(name, file, loader, repository, estimators)
            except ERRORS as error:
                if broken is None:
                    raise
                broken[name] = f"{file}: {str(error).splitlines()[0]}"
    return found


def _preset(
    name: str,
    file: Traversable,
    loader: ConfigLoaderImpl,
    repository: CachingConfigRepository,
    estimators: Mapping[str, Traversable],
) -> Preset:
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
    chosen = ((*key.partition("@agent"), of) for key, of in tree.overrides.known_choices.items())
    choices = {path.removeprefix("."): str(of) for _, at, path, of in chosen if at}
    called = made_by(config["agent"])
    for path, target in _targets(tree.defaults, repository).items():
        if called.get(f"{path}._target_", target) != target:
            choices.pop(path, None)
    formula = ""
    if estimator := estimators.get(choices.get("estimator", "")):
        formula = comment(estimator.read_text("utf-8"))
    said = comment(file.read_text("utf-8"))
    return Preset(name, said, formula, config["agent"], written["agent"], choices)


def _targets(
    defaults: Sequence[ResultDefault], repository: CachingConfigRepository
) -> dict[str, str]:
    """What each part of an agent calls by its own files, by the part's path."""
    found = {}
    for default in defaults:
        loaded = repository.load_config(str(default.config_path))
        path = str(default.package).removeprefix("agent.")
        if loaded is not None and "_target_" in loaded.config:
            found[path] = str(loaded.config["_target_"])
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
            names = function(one) or "?", function(two) or "?"
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


def short(value: Any) -> str:
    """A value as YAML has it; a part by its function."""
    if isinstance(value, Mapping):
        return function(value) or "?"
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
    for target in made_by(config).values():
        part = target.removeprefix("vfcompare.")
        for need, reasons in NEEDED_BY.items():
            if part in reasons:
                found[need].append(f"{reasons[part]} ({part.rsplit('.', 1)[-1]})")
    estimator, collector = config.get("estimator") or {}, unwrap(config.get("collector") or {})
    if learns(estimator):
        unread = str(estimator["_target_"]).endswith(".auxiliary")
        found["critic"].append("it learns and is never read" if unread else "its values are read")
    if found["groups"] and collector.get("start") == "shared":
        found["resets"].append("the rollouts of a group begin in the same state (start=shared)")
    return {need: reasons for need, reasons in found.items() if reasons}


def heading(preset: Preset) -> str:
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
