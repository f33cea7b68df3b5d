"""The command line: a word in first place is a verb, anything else is for Hydra."""

import gc
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import TYPE_CHECKING, Any

from vfcompare import failure, verbs
from vfcompare.errors import ClaimLost, Damaged, InputError, nearest
from vfcompare.schema.settings import SEARCHPATH, quoted
from vfcompare.training.stopping import (
    Stopped,
    ending_at_second_interrupt,
    leave_at_once,
    spare_until_training,
)
from vfcompare.verbs import BAD_INPUT, DAMAGED, INTERRUPTED, OK, SOME_FAILED, SWEEPS
from vfcompare.words import name_files

if TYPE_CHECKING:
    from vfcompare.training.cell import Cell

USAGE = """\
vfcompare agent=grpo env=maze                   train one agent on one environment, all seeds at once
vfcompare -m agent=rloo,grpo,a2c,ppo env=maze   a sweep (Hydra multirun)
vfcompare -m +study=compare                     a study: question and sweep in one file
vfcompare list agents                           formula, needs and nearest relative of every agent
vfcompare plan -m ...                           the cells of a sweep, and what they cost; starts nothing
vfcompare submit --time 240 agent=rloo,ppo ...  the same sweep on a SLURM cluster; returns at once
vfcompare status runs/NAME                      what is planned, queued, running, done and missing
vfcompare cancel runs/NAME                      take its jobs back from the cluster
vfcompare drop runs/NAME CELL                   take a cell that has not begun out of the plan
vfcompare prior env=addition                    policies that have learned demonstrations, to begin with
vfcompare tune agent=rloo,ppo env=maze          as many trials for each agent, on seeds of their own
vfcompare resume runs/NAME                      go on with what is not finished
vfcompare report runs/NAME                      figures, tables and a page, from files only
vfcompare figure runs/NAME learning             one figure of it, for a paper with --venue neurips2024
vfcompare export runs/NAME --format marl-eval   its runs for other programs
vfcompare tb runs/NAME [--seeds]                TensorBoard on this machine
vfcompare help report                           the options of one of these commands
vfcompare --help                                these lines, agents, environments and all settings
"""

ASKS = {"--help", "-h", "--hydra-help", "--version", "--shell-completion", "-sc"}
ASKS |= {"--cfg", "-c", "--info", "-i", "--resolve"}
"""Options with which Hydra answers a question and runs nothing."""

TAKING = {"--cfg", "-c", "--info", "-i", "--package", "-p"}
"""Options of Hydra behind which a word of theirs stands."""

WITHIN = {"--package", "-p"}
"""Those that say of which part a question is."""

RUNS = {"--run", "-r"}
"""Options of Hydra that change nothing."""

SHOWN = (*SWEEPS, "--run", "-r", "--cfg", "--info", "--help", "--hydra-help", "--version")
"""Options that are told to those who typed another one."""

ELSEWHERE = {"--config-dir", "-cd", "--config-path", "-cp"}
"""Options of Hydra in whose place a setting says where else configurations are."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = [quoted(arg) for arg in (sys.argv[1:] if argv is None else argv)]
    if not args:
        print(USAGE, end="")
        return OK
    if argv is None:
        # Imports and traces make millions of objects that stay: by default they are looked over every 700,
        # which is a tenth of the time until training begins.
        gc.set_threshold(100_000)
    failure.say_where()
    name_files(sys.stderr)
    spare_until_training()
    try:
        with ending_at_second_interrupt():
            if args == ["--version"]:
                print(f"vfcompare {metadata.version('vfcompare')}")
                return OK
            if args[0] == "help":
                args = [*args[1:2], "--help"]
            if args[0] in ("--help", "-h"):
                print(USAGE, flush=True)
            verb = not args[0].startswith(("-", "+", "~")) and "=" not in args[0]
            ended = verbs.run(args[0], args[1:]) if verb else hand_over(args)
            sys.stdout.flush()
            return ended
    except InputError as error:
        print(f"vfcompare: {error}", file=sys.stderr)
        return DAMAGED if isinstance(error, Damaged) else BAD_INPUT
    except BrokenPipeError:
        # Who reads, such as `head`, has read enough; what is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SOME_FAILED
    except OSError as error:
        from vfcompare.runs.disk import no_room

        told = no_room(error)
        if not told:
            raise
        print(f"vfcompare: {told}", file=sys.stderr)
        return SOME_FAILED
    except ClaimLost as lost:
        print(f"vfcompare: {lost}", file=sys.stderr)
        return SOME_FAILED
    except KeyboardInterrupt as error:
        print("vfcompare: interrupted; the same command continues", file=sys.stderr)
        # Launchers put away what their workers shared.
        if not (isinstance(error, Stopped) and error.elsewhere):
            leave_at_once(INTERRUPTED)
        return INTERRUPTED


def hand_over(args: list[str]) -> int:
    """Hand over to Hydra, after every cell was checked and written into the plan.

    For `vfcompare -m ...`, in this order:

    1. `compose.cells` composes, checks and names every cell of the command line.
    2. `planning.begin` traces one of them and writes all into the plan.
    3. `launcher.register` makes the plugins `Planned` and `Fused` known to Hydra, and leaves a `Handover` for
       them: the cells that are not done, and the whole command line.
    4. `hydra.main` reads `sys.argv`, from which values of the swept agents and environments are left out.
    5. Hydra calls `Planned.sweep`. It sets `sys.argv` to the whole command line, which runs remember, and
       gives the overrides of each cell to the launcher.
    6. `Fused.launch` finds the cells of these overrides and trains them in this process. Hydra's other
       launchers compose each anew and call `run`, most of them in other processes.

    Without `-m` Hydra calls `run` for the one cell, after 1, 2 and 4. Where it is asked a question, such as
    `--cfg job`, nothing is planned.

    Args:
      args: options of Hydra and overrides, as typed.

    Returns:
      The exit code, by what the cells have left on disk.

    Raises:
      InputError: for what is not allowed, before anything is trained.
    """
    import hydra

    from vfcompare.commands import catalogue, compose, explain, launcher, planning, trust

    planned: list[Cell] = []
    words = [word for before, word in zip(["", *args], args, strict=False) if before not in TAKING]
    settings = [word for word in words if not word.startswith("-")]
    options = [arg for arg in args if arg.startswith("-")]
    names = {option.split("=")[0] for option in options}
    sweep = not names.isdisjoint(SWEEPS)
    asks = not names.isdisjoint(ASKS)
    for name in sorted(names - {*SWEEPS} - RUNS - (ASKS | WITHIN if asks else set())):
        raise no_option(name)
    if asks:
        for _ in trust.folders([text for text in settings if text.startswith(SEARCHPATH)]):
            pass
        # Hydra answers for one cell alone.
        args = [arg for arg in args if arg not in SWEEPS]
    else:
        # Behind a setting Hydra takes those that follow an option for unknown.
        args = [*options, *settings]
        planned = compose.cells(settings, sweep=sweep)
        planning.begin(planned)
        if sweep:
            launcher.register(launcher.Handover(not_done(planned), ["vfcompare", *args]))
    # Otherwise Hydra prints a traceback for some errors, and exits with 1 for all.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    if sweep and not any(arg.startswith("hydra/sweeper") for arg in args):
        # Hydra would look for these in the agent and the environment that are chosen by default.
        args = [arg for arg in args if not arg.startswith(("agent.", "env."))]
    sys.argv = ["vfcompare", *args]
    entry = hydra.main(version_base="1.3", config_path="pkg://vfcompare.conf", config_name="config")
    try:
        entry(run)()
    except catalogue.ERRORS as error:
        raise InputError(explain.explain(error, settings)) from error
    except ValueError as error:
        # How Hydra refuses its own options.
        if planned:
            raise
        raise InputError(str(error).splitlines()[0]) from error
    except SystemExit as ended:
        # It has said why: --package is of what is not there.
        if planned or ended.code != 1:
            raise
        return BAD_INPUT
    if not planned:
        return OK
    return verbs.exit_code(planned[0].study, {cell.id for cell in planned})


def no_option(name: str) -> InputError:
    """Refuses an option that is none, or one of Hydra's that has no place here."""
    if name in ELSEWHERE:
        return InputError(f"{name} is no option; allowed: '{SEARCHPATH}[file:///FOLDER]'")
    return InputError(f"{name} is no option; allowed: {', '.join(SHOWN)}{nearest(name, SHOWN)}")


def not_done(planned: "Sequence[Cell]") -> "list[Cell]":
    """The cells that are to be trained; says how many are done, which by other code, and what is damaged."""
    from vfcompare.training import attempts
    from vfcompare.training.cell import whole

    opened = whole(planned)
    done = [member.folder for member in opened if member.folder.completed]
    if done:
        print(f"{len(done)} of {len(planned)} cells were done before, kept as they are")
        attempts.tell_of_code_since(done)
    return [member.cell for member in opened if not member.folder.completed]


def run(cfg: Any) -> str:
    """Train one cell, which Hydra composed."""
    from hydra.core.hydra_config import HydraConfig

    from vfcompare.commands.compose import to_cell
    from vfcompare.commands.naming import as_known
    from vfcompare.training.execute import execute

    job = HydraConfig.get()
    (cell,) = as_known([to_cell(cfg, job.overrides.task, job.runtime.choices)])
    return execute([cell])[cell.id]
