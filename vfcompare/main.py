"""The command line: a word in first place is a verb, anything else is for Hydra."""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfcompare.errors import InputError, nearest
from vfcompare.training.stopping import (
    abandon_compiler,
    ending_at_second_interrupt,
    spare_until_training,
)

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
vfcompare prior env=addition                    policies that have learned demonstrations, to begin with
vfcompare tune agent=rloo,ppo env=maze          as many trials for each agent, on seeds of their own
vfcompare resume runs/NAME                      go on with what is not finished
vfcompare report runs/NAME                      figures, tables and a page, from files only
vfcompare figure runs/NAME learning             one figure of it, for a paper with --venue neurips2024
vfcompare export runs/NAME --format marl-eval   its runs for other programs
vfcompare tb runs/NAME [--seeds]                TensorBoard on this machine
vfcompare --help                                agents, environments and all settings
"""

OK, SOME_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

ASKS = {"--help", "-h", "--hydra-help", "--version", "--shell-completion", "-sc"}
ASKS |= {"--cfg", "-c", "--info", "-i", "--resolve"}
"""Options with which Hydra answers a question and runs nothing."""

SWEEPS = {"-m", "--multirun"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args:
        print(USAGE, end="")
        return OK
    spare_until_training()
    try:
        with ending_at_second_interrupt():
            if not args[0].startswith(("-", "+", "~")) and "=" not in args[0]:
                return verb(args)
            return train(args)
    except InputError as error:
        print(f"vfcompare: {error}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        from vfcompare.runs.store import no_room

        told = no_room(error)
        if not told:
            raise
        print(f"vfcompare: {told}", file=sys.stderr)
        return SOME_FAILED
    except KeyboardInterrupt:
        print("vfcompare: interrupted; the same command continues", file=sys.stderr)
        abandon_compiler(INTERRUPTED)
        return INTERRUPTED


def verb(args: list[str]) -> int:
    """Run one of the commands that read what is on disk."""
    verbs: dict[str, Callable[..., int]] = {
        "list": catalogue,
        "plan": show_plan,
        "resume": resume,
        "submit": submit,
        "prior": prior,
        "tune": tune,
        "cancel": cancel,
        "status": status,
        "report": report,
        "figure": figure,
        "export": export,
        "tb": tensorboard,
    }
    if args[0] == "work":
        return work(args[1:])
    chosen = verbs.get(args[0])
    if chosen is None:
        raise InputError(
            f"unknown command {args[0]!r}; allowed: {', '.join(verbs)}, or settings like agent=ppo"
            f"{nearest(args[0], verbs)}"
        )
    if chosen in (show_plan, submit, prior, tune, report, figure, export):
        return chosen(args[1:])
    parser = argparse.ArgumentParser(prog=f"vfcompare {args[0]}", description=chosen.__doc__)
    if chosen is catalogue:
        parser.add_argument("group", nargs="?", help="what to list, such as agents; all by default")
        parser.add_argument("name", nargs="?", help="one of them, to be shown in full")
        return chosen(**vars(parser.parse_args(args[1:])))
    parser.add_argument("study", type=Path, help="folder of a study, such as runs/compare")
    if chosen is tensorboard:
        parser.add_argument("--port", type=int, default=6006)
        parser.add_argument("--seeds", action="store_true", help="each seed as a run by itself")
    options = parser.parse_args(args[1:])
    must_be_a_folder(options.study)
    return chosen(**vars(options))


def must_be_a_folder(study: Path) -> None:
    """Refuse a study that is not there."""
    if not study.is_dir():
        siblings = [str(p) for p in study.parent.glob("*") if p.is_dir()]
        raise InputError(
            f"{study} is not a folder; allowed: the folder of a study{nearest(str(study), siblings)}"
        )


def catalogue(group: str | None, name: str | None) -> int:
    """List agents, environments, studies and every other part that can be chosen."""
    from vfcompare.commands.catalogue import show

    if isinstance(sys.stdout, TextIOWrapper):
        # Formulas have Greek letters, which not every terminal can show.
        sys.stdout.reconfigure(errors="replace")
    try:
        print(show(group, name), flush=True)
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def show_plan(args: list[str]) -> int:
    """List the cells of a command line, what is done of them, and what the rest will cost; start nothing."""
    from vfcompare.commands.compose import cells
    from vfcompare.commands.planning import show

    settings = [arg for arg in args if not arg.startswith("-")]
    show(cells(settings, sweep=True))
    return OK


def resume(study: Path) -> int:
    """Train what a study has planned and not finished; what is finished is left alone."""
    from vfcompare.commands import resume

    cells = resume.unfinished(study)
    print(f"{study}: {len(cells)} cells to go")
    return ended(resume.train(cells).values())


def submit(args: list[str]) -> int:
    """Hand the unfinished cells of a sweep over to SLURM, and return at once."""
    from vfcompare.commands import cluster, resume
    from vfcompare.commands.compose import cells
    from vfcompare.runs.status import read

    given = vars(submit_parser().parse_args([arg for arg in args if arg not in SWEEPS]))
    settings, dry_run = given.pop("settings"), given.pop("dry_run")
    options = cluster.Options(**{**given, "extra": tuple(given["extra"])})
    options.check()
    if not dry_run:
        cluster.needs("sbatch")
    if len(settings) == 1 and "=" not in settings[0] and not settings[0].startswith("+"):
        study = Path(settings[0])
        must_be_a_folder(study)
        chosen = resume.unfinished(study)
    else:
        planned = cells(settings, sweep=True)
        study = planned[0].study
        for path in resume.foreigners(planned):
            raise InputError(
                f"{path} is not allowed here: tasks run our own configuration alone; allowed: vfcompare -m"
            )
        if dry_run:
            taken = {cell.id for cell in read(study) if not resume.is_open(cell)}
            chosen = [cell for cell in planned if cell.id not in taken]
        else:
            write_plan(planned)
            waiting = set(resume.waiting(study))
            chosen = [cell for cell in planned if cell.id in waiting]
    if not chosen:
        print(f"{study}: nothing to submit")
        return OK
    if dry_run:
        print(cluster.preview(study, chosen, options), end="")
        return OK
    number = cluster.submit(study, chosen, options)
    print(f"{study}: {len(chosen)} cells are SLURM's job {number}; `vfcompare status {study}`")
    return OK


def submit_parser() -> argparse.ArgumentParser:
    """The options of `vfcompare submit`."""
    parser = argparse.ArgumentParser(
        prog="vfcompare submit", description=submit.__doc__, allow_abbrev=False
    )
    what = "as for vfcompare -m, or the folder of a study that was begun"
    parser.add_argument("settings", nargs="+", help=what)
    parser.add_argument("--partition", help="the cluster's default")
    parser.add_argument("--account", help="your default")
    time = "limit; longer ones save and requeue themselves (240)"
    numbers = {
        "time": ("MINUTES", 240, time),
        "cpus": ("CORES", 2, "of a task (2)"),
        "mem-gb": ("GB", 4, "memory of a task (4)"),
        "parallel": ("TASKS", 256, "at a time, at most (256)"),
        "signal-delay": ("SECONDS", 120, "between the notice and the end (120)"),
        "most": ("SEEDS", 512, "of one task, over all its cells (512)"),
    }
    for name, (unit, default, text) in numbers.items():
        dest = "minutes" if name == "time" else name.replace("-", "_")
        parser.add_argument(
            f"--{name}", dest=dest, metavar=unit, type=int, default=default, help=text
        )
    more = "an option of sbatch, such as --extra=--qos=long; may be repeated"
    parser.add_argument("--extra", action="append", default=[], metavar="OPTION", help=more)
    parser.add_argument("--dry-run", action="store_true", help="print the script, and do nothing")
    return parser


def prior(args: list[str]) -> int:
    """Pretrain a policy on demonstrations until it has each rung's pass@1, unless that was done before."""
    from vfcompare.commands.compose import cells
    from vfcompare.training import devices, judges, priors

    parser = argparse.ArgumentParser(
        prog="vfcompare prior", description=prior.__doc__, allow_abbrev=False
    )
    what = (
        "as for vfcompare -m; agent.prior.rung=0.01,0.05 asks for other rungs than the usual ones"
    )
    parser.add_argument("settings", nargs="*", help=what)
    given = vars(parser.parse_args([arg for arg in args if arg not in SWEEPS]))["settings"]
    usual = {
        "prior@agent.prior": "+prior@agent.prior=ladder",
        "agent.prior.rung": f"agent.prior.rung={','.join(f'{rung:g}' for rung in priors.RUNGS)}",
        "network@agent.network": "network@agent.network=transformer",
        "env": "env=addition",
    }
    told = {setting.split("=")[0].lstrip("+") for setting in given}
    if any(key.partition("/")[0] == "study" for key in told):
        usual = {}  # a study says itself where its policies begin
    settings = [*(text for key, text in usual.items() if key not in told), *given]
    planned = cells(settings, sweep=True)
    devices.prepare()
    print(priors.table(priors.ensure(cell.config for cell in planned)))
    for made in judges.ensure(cell.config for cell in planned):
        print(f"judge of {made.name.split('-')[0]}: {judges.told(made)}")
    return OK


def tune(args: list[str]) -> int:
    """Try settings of agents, as many for each, on seeds that no report uses; the same command continues."""
    from vfcompare.tuning import ledger, search

    parser = argparse.ArgumentParser(
        prog="vfcompare tune", description=tune.__doc__, allow_abbrev=False
    )
    parser.add_argument("settings", nargs="+", help="as for vfcompare -m; lists of agent and env")
    numbers = {
        "trials": "of each agent on each environment, the preset included (32, or the grid)",
        "round": "trials that tpe proposes at once (8)",
        "levels": "of each range in a grid (3)",
        "draws": "seed of the draws (0)",
    }
    words = {
        "sampler": f"{', '.join(search.SAMPLERS)} (random)",
        "metric": f"{', '.join(ledger.METRICS)} (auc)",
        "space": "what is tried: a name in conf/tune, or a YAML file (the study's, or matched)",
    }
    for name, text in words.items():
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, help=text)
    for name, text in numbers.items():
        parser.add_argument(
            f"--{name}", type=int, metavar="N", default=argparse.SUPPRESS, help=text
        )
    # `trials=32` reads like a setting, and is meant as the option.
    args = [f"--{arg}" if arg.startswith("trials=") else arg for arg in args if arg not in SWEEPS]
    given = vars(parser.parse_intermixed_args(args))
    settings = given.pop("settings")
    return OK if search.tune(settings, search.Options(**given)) else SOME_FAILED


def cancel(study: Path) -> int:
    """Take the jobs of a study back from SLURM; what they saved stays."""
    from vfcompare.commands import cluster

    print(f"{study}: {cluster.cancel(study)}")
    return OK


def work(args: list[str]) -> int:
    """Train one task of a job; what the scripts of `vfcompare submit` call."""
    from vfcompare.commands import cluster

    parser = argparse.ArgumentParser(prog="vfcompare work", description=work.__doc__)
    parser.add_argument("study", type=Path)
    parser.add_argument("job_file", type=Path)
    parser.add_argument("index", type=int)
    return cluster.work(**vars(parser.parse_args(args)))


def status(study: Path) -> int:
    """What is planned, done and missing in a study."""
    from vfcompare.runs.status import show

    return SOME_FAILED if show(study) else OK


def report(args: list[str]) -> int:
    """Write figures, tables and a page about a study, or about several as one, from files only."""
    from vfcompare.report import write

    parser = reader("report", report, several=True)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="the study's own folder `report`"
    )
    options = parser.parse_args(args)
    may_be_judged(options.studies)
    look = {"anonymous": options.anonymous, "venue": options.venue}
    print(write(options.studies, options.out, **look))
    return OK


def figure(args: list[str]) -> int:
    """Write one figure of a report with its data, as SVG, PDF, PNG and CSV."""
    from vfcompare.report import write_figure

    parser = reader("figure", figure, several=False)
    parser.add_argument(
        "name", help="as in the report's folder `figures`, such as pairs or learning"
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=Path(), help="this one")
    options = parser.parse_args(args)
    may_be_judged([options.study])
    look = {"anonymous": options.anonymous, "venue": options.venue}
    print(*write_figure([options.study], options.name, options.out, **look), sep="\n")
    return OK


def export(args: list[str]) -> int:
    """Write the runs of a study for other programs: tables, LaTeX, or the JSON of marl-eval."""
    from vfcompare.report import write_export

    parser = reader("export", export, several=True)
    formats = "csv, parquet, latex or marl-eval"
    parser.add_argument("--format", dest="kind", default="csv", metavar="FORMAT", help=formats)
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=Path(), help="this one")
    options = parser.parse_args(args)
    may_be_judged(options.studies)
    paths = write_export(options.studies, options.kind, options.out, anonymous=options.anonymous)
    print(*paths, sep="\n")
    return OK


def reader(name: str, chosen: Callable[..., int], *, several: bool) -> argparse.ArgumentParser:
    """The options of the verbs that read results."""
    parser = argparse.ArgumentParser(
        prog=f"vfcompare {name}", description=chosen.__doc__, allow_abbrev=False
    )
    what = "folder of a study, such as runs/compare"
    if several:
        parser.add_argument("studies", nargs="+", type=Path, metavar="study", help=what)
    else:
        parser.add_argument("study", type=Path, help=what)
    hidden = "no hosts, users, paths, commands or commits"
    parser.add_argument("--anonymous", action="store_true", help=hidden)
    if name != "export":
        parser.add_argument("--venue", help="whose width figures take, such as neurips2024")
    return parser


def may_be_judged(studies: Sequence[Path]) -> None:
    """Refuse folders that are none, and seeds that have chosen settings."""
    from vfcompare.tuning.ledger import judged

    for study in studies:
        must_be_a_folder(study)
        if judged(study):
            raise InputError(
                f"{study}: its seeds have chosen settings and must not judge them; allowed: the commands of "
                "`vfcompare tune`, on fresh seeds, and a report of those"
            )


def tensorboard(study: Path, port: int, *, seeds: bool) -> int:
    """Serve a study's curves with TensorBoard, to this machine only: means and bands over seeds."""
    from vfcompare.runs.board import serve

    return serve(study, port, seeds=seeds)


def train(args: list[str]) -> int:
    """Hand over to Hydra, after every cell was checked and written into the plan."""
    import hydra

    from vfcompare.commands import compose, launcher

    planned: list[Cell] = []
    settings = [arg for arg in args if not arg.startswith("-")]
    options = {arg.split("=")[0] for arg in args if arg.startswith("-")}
    if options & ASKS:
        # Hydra answers for one cell alone.
        args = [arg for arg in args if arg not in SWEEPS]
    else:
        planned = plan(settings, sweep=bool(options & SWEEPS))
        if options & SWEEPS:
            launcher.register(left(planned), ["vfcompare", *args])
    # Otherwise Hydra prints a traceback for some errors, and exits with 1 for all.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    if options & SWEEPS and not any(arg.startswith("hydra/sweeper") for arg in args):
        # Hydra would look for these in the agent and the environment that are chosen by default.
        args = [arg for arg in args if not arg.startswith(("agent.", "env."))]
    sys.argv = ["vfcompare", *args]
    entry = hydra.main(version_base="1.3", config_path="pkg://vfcompare.conf", config_name="config")
    try:
        entry(run)()
    except compose.ERRORS as error:
        raise InputError(compose.explain(error, settings)) from error
    return standing(planned)


def standing(cells: "Sequence[Cell]") -> int:
    """The exit code of cells by what they left on disk: launchers may train in processes of their own."""
    from vfcompare.runs.status import read

    if not cells:
        return OK
    names, study = {cell.id for cell in cells}, cells[0].study
    # What another process or SLURM has is theirs to answer for.
    fine = ("completed", "running", "queued")
    found = Counter(cell.status for cell in read(study) if cell.id in names)
    words = [f"{number} {status}" for status, number in found.items() if status not in fine]
    if not words:
        return OK
    print(f"vfcompare: {', '.join(words)}; `vfcompare status {study}` says which", file=sys.stderr)
    return SOME_FAILED


def ended(outcomes: Iterable[str]) -> int:
    """The exit code of cells that ended in some ways."""
    return OK if set(outcomes) <= {"completed", "skipped"} else SOME_FAILED


def plan(settings: list[str], *, sweep: bool) -> "list[Cell]":
    """Check every cell, trace the first, and write down what is going to be done; returns the cells."""
    from vfcompare.commands.compose import cells

    planned = cells(settings, sweep=sweep)
    write_plan(planned)
    return planned


def write_plan(planned: "Sequence[Cell]") -> None:
    """Trace the first cell that is not done, and write down what is going to be done."""
    from vfcompare.runs import store
    from vfcompare.training import devices
    from vfcompare.training.cell import rehearse

    first = next((cell for cell in planned if not cell.done), None)
    if first is not None:
        devices.prepare()
        rehearse(first.config)
    described = [cell.planned() for cell in planned]
    store.write_plan(planned[0].study, planned[0].config["study"], described)


def left(planned: "Sequence[Cell]") -> "list[Cell]":
    """The cells that are not done; says how many are."""
    waiting = [cell for cell in planned if not cell.done]
    done = len(planned) - len(waiting)
    if done:
        print(f"{done} of {len(planned)} cells were done before, kept as they are")
    return waiting


def run(cfg: Any) -> str:
    """Train one cell, which Hydra composed."""
    from hydra.core.hydra_config import HydraConfig

    from vfcompare.commands.compose import to_cell
    from vfcompare.training.execute import execute

    job = HydraConfig.get()
    cell = to_cell(cfg, job.overrides.task, job.runtime.choices)
    return execute([cell])[cell.id]


if __name__ == "__main__":
    sys.exit(main())
