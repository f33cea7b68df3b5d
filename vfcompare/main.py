"""The command line: a word in first place is a verb, anything else is for Hydra."""

import argparse
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from vfcompare.errors import InputError, nearest

USAGE = """\
vfcompare agent=grpo env=maze                   train one agent on one environment, all seeds at once
vfcompare -m agent=rloo,grpo,a2c,ppo env=maze   a sweep (Hydra multirun)
vfcompare -m +study=compare                     a study: question and sweep in one file
vfcompare status runs/NAME                      what is planned, done and missing
vfcompare report runs/NAME                      figures, tables and a page, from files only
vfcompare tb runs/NAME                          TensorBoard on this machine
vfcompare --help                                agents, environments and all settings
"""

OK, SOME_FAILED, BAD_INPUT, DAMAGED, INTERRUPTED = 0, 1, 2, 4, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args:
        print(USAGE, end="")
        return OK
    try:
        if not args[0].startswith("-") and "=" not in args[0]:
            return verb(args)
        return train(args)
    except InputError as error:
        print(f"vfcompare: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("vfcompare: interrupted; the same command continues", file=sys.stderr)
        return INTERRUPTED


def verb(args: list[str]) -> int:
    """Run one of the commands that read what is on disk."""
    verbs = {"status": status, "report": report, "tb": tensorboard}
    if args[0] not in verbs:
        raise InputError(
            f"unknown command {args[0]!r}; allowed: {', '.join(verbs)}, or settings like agent=ppo"
            f"{nearest(args[0], verbs)}"
        )
    parser = argparse.ArgumentParser(prog=f"vfcompare {args[0]}", description=verbs[args[0]].__doc__)
    parser.add_argument("study", type=Path, help="folder of a study, such as runs/compare")
    if args[0] == "tb":
        parser.add_argument("--port", type=int, default=6006)
    options = parser.parse_args(args[1:])
    if not options.study.is_dir():
        siblings = [str(p) for p in options.study.parent.glob("*") if p.is_dir()]
        raise InputError(
            f"{options.study} is not a folder; allowed: the folder of a study"
            f"{nearest(str(options.study), siblings)}"
        )
    return verbs[args[0]](**vars(options))


def status(study: Path) -> int:
    """What is planned, done and missing in a study."""
    from vfcompare.status import show

    return SOME_FAILED if show(study) else OK


def report(study: Path) -> int:
    """Write figures, tables and a page about a study, from files only."""
    from vfcompare.report import write

    print(write(study))
    return OK


def tensorboard(study: Path, port: int) -> int:
    """Serve a study's curves with TensorBoard, to this machine only."""
    from tensorboard import program

    server = program.TensorBoard()
    server.configure(argv=[None, "--logdir", str(study), "--host", "127.0.0.1", "--port", str(port)])
    return int(server.main() or OK)


def train(args: list[str]) -> int:
    """Hand over to Hydra, after every cell of the sweep was checked."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    settings = [arg for arg in args if not arg.startswith("-")]
    options = [arg for arg in args if arg.startswith("-")]
    asks = {"--help", "-h", "--hydra-help", "--version", "--cfg", "-c", "--info", "-i"}
    asks |= {"--shell-completion", "-sc", "--resolve", "--package", "-p"}
    # Hydra would print a traceback for some errors and exit with 1 for all.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    outcomes: list[str] = []
    if not any(option.split("=")[0] in asks for option in options):
        plan(settings, sweep=bool({"-m", "--multirun"} & set(options)))
    sys.argv = ["vfcompare", *args]
    try:
        hydra.main(version_base="1.3", config_path="pkg://vfcompare.conf", config_name="config")(
            lambda cfg: outcomes.append(run(cfg))
        )()
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error, settings)) from error
    return SOME_FAILED if "diverged" in outcomes else OK


def run(cfg: Any) -> str:
    """Train one cell."""
    from hydra.core.hydra_config import HydraConfig

    from vfcompare.cell import execute

    job = HydraConfig.get()
    cell = to_cell(cfg, dict(job.runtime.choices), list(job.overrides.task))
    return execute(cell, command=shlex.join(["vfcompare", *sys.argv[1:]]))


def to_cell(cfg: Any, choices: dict[str, Any], overrides: list[str]) -> Any:
    """A composed configuration as a cell, checked."""
    from omegaconf import OmegaConf

    from vfcompare.cell import PRIVATE, Cell
    from vfcompare.validate import check

    config = OmegaConf.to_container(cfg, resolve=True)
    config.pop("hydra", None)
    check(config)
    told = (override.lstrip("+~").split("=", 1) for override in overrides)
    named = {"agent", "env", "seeds", "first_seed", "env_steps", "evaluations", "lanes", *PRIVATE}
    settings = {k: v for k, v in told if k not in named and k.split(".")[0] not in PRIVATE}
    return Cell(str(choices["agent"]), str(choices["env"]), settings, config)


def plan(settings: list[str], *, sweep: bool) -> None:
    """Compose and check every cell before any is started, and write down what is planned."""
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from vfcompare import store

    GlobalHydra.instance().clear()
    try:
        with initialize_config_module("vfcompare.conf", version_base="1.3"):
            cells = []
            for overrides in cells_of(settings) if sweep else [settings]:
                cfg = compose("config", overrides, return_hydra_config=True)
                HydraConfig.instance().set_config(cfg)
                task = list(cfg.hydra.overrides.task)
                choices = dict(cfg.hydra.runtime.choices)
                del cfg._content["hydra"]
                cells.append(to_cell(cfg, choices, task))
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(explain(error, settings)) from error
    if not sweep:
        from vfcompare.cell import build, prepare_devices

        prepare_devices()
        build(cells[0].config)
    study = cells[0].config["study"]
    planned = [cell.planned() for cell in {cell.id: cell for cell in cells}.values()]
    store.write_plan(cells[0].study, study["name"], study["question"], planned)


def cells_of(settings: list[str]) -> Iterator[list[str]]:
    """The overrides of every cell of a sweep, in Hydra's order."""
    from hydra import compose
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()
    fixed = [o.input_line for o in parser.parse_overrides(settings) if not o.is_sweep_override()]
    params = compose("config", fixed, return_hydra_config=True).hydra.sweeper.params or {}
    told = {o.get_key_element() for o in parser.parse_overrides(settings)}
    swept = [f"{key}={value}" for key, value in params.items() if key not in told]
    overrides = parser.parse_overrides(swept + settings)
    for batch in BasicSweeper.split_arguments(overrides, None):
        yield from (list(job) for job in batch)


def explain(error: Exception, settings: list[str]) -> str:
    """What Hydra found wrong, with the nearest valid choice."""
    for describe in (unknown_choice, unknown_key):
        found = describe(error, settings)
        if found:
            return found
    return str(error).splitlines()[0]


def choices_of(group: str) -> list[str]:
    """Files of a configuration group."""
    folder = resources.files("vfcompare.conf") / group
    return sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))


def unknown_choice(error: Exception, settings: list[str]) -> str | None:
    """For an agent, environment or part that does not exist."""
    del settings
    found = re.search(r"(?:Could not find|Could not load) '([\w@/.]+)/([^'/]+)'", str(error))
    if not found:
        return None
    group, name = found.group(1).split("@")[0], found.group(2).removesuffix(".yaml")
    try:
        names = choices_of(group)
    except FileNotFoundError:
        return None
    return f"{group}={name} does not exist; allowed: {', '.join(names)}{nearest(name, names)}"


def unknown_key(error: Exception, settings: list[str]) -> str | None:
    """For a setting that does not exist."""
    found = re.search(r"Could not override '([^']+)'|Key '([^']+)' (?:is )?not in", str(error))
    if not found:
        return None
    from hydra import compose

    groups = [s for s in settings if s.split("=")[0].lstrip("+") in ("agent", "env")]
    groups = [s for s in groups if "," not in s]
    full = re.search(r"full_key: (\S+)", str(error))
    path = (full.group(1) if full else None) or found.group(1) or found.group(2)
    value = next((s.split("=", 1)[1] for s in settings if s.startswith(f"{path}=")), "")
    from hydra import initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_module("vfcompare.conf", version_base="1.3"):
        node: Any = compose("config", groups)
    parts = path.split(".")
    for depth, part in enumerate(parts):
        keys = [str(k) for k in node] if hasattr(node, "keys") else []
        if part not in keys:
            where = ".".join(parts[:depth]) or "the configuration"
            close = nearest(part, keys)
            critic = "; this agent has no critic" if part == "critic" else ""
            return f"{path}={value} does not exist: {where} has {', '.join(keys)}{critic}{close}"
        node = node[part]
    return None


if __name__ == "__main__":
    sys.exit(main())
