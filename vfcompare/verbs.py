"""The words that a command line may begin with: what each takes, and what it does."""

import sys
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple

from vfcompare.errors import InputError, nearest
from vfcompare.words import counted

OK, SOME_FAILED, BAD_INPUT, UNFINISHED, DAMAGED, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""Exit codes."""

SWEEPS = ("-m", "--multirun")
"""Options of Hydra that mean a sweep, which these commands take for granted."""

SETTINGS = "as for vfcompare -m"

STUDY = "folder of a study, such as runs/compare"


class Verb(NamedTuple):
    """A command.

    Attributes:
      run: does it, and returns the exit code; its docstring is the command's description.
      options: adds what it takes to a parser.
    """

    run: Callable[[Namespace], int]
    options: Callable[[ArgumentParser], None]


def run(name: str, args: Sequence[str]) -> int:
    """Run a command; returns the exit code.

    Raises:
      InputError: if there is none of this name.
    """
    verb = VERBS.get(name)
    if verb is None:
        known = [known for known in VERBS if known != "work"]
        raise InputError(
            f"unknown command {name!r}; allowed: {', '.join(known)}, or settings like agent=ppo"
            f"{nearest(name, known)}"
        )
    parser = ArgumentParser(
        prog=f"vfcompare {name}", description=verb.run.__doc__, allow_abbrev=False
    )
    verb.options(parser)
    # `trials=32` reads like a setting, and is meant as the option.
    words = [f"--{arg}" if arg.startswith("trials=") else arg for arg in args if arg not in SWEEPS]
    return verb.run(parser.parse_intermixed_args(words))


def must_be_a_study(folder: Path) -> None:
    """Refuse a study that is not there, and a folder that is none."""
    if not folder.is_dir():
        siblings = [str(p) for p in folder.parent.glob("*") if p.is_dir()]
        raise InputError(
            f"{folder} is not a folder; allowed: the folder of a study{nearest(str(folder), siblings)}"
        )
    if not any(next(folder.glob(file), None) for file in ("plan.json", "*/run.json")):
        if (folder / "run.json").exists():
            study = folder.absolute().parent if folder.name in ("", "..") else folder.parent
            raise InputError(f"{folder} is a cell of the study {study}; allowed: {study}")
        within = sorted(str(file.parent) for file in folder.glob("*/plan.json"))
        raise InputError(
            f"{folder} has neither a plan nor runs; allowed: the folder of a study"
            + (f", such as {', '.join(within[:5])}" if within else "")
        )


def exit_code(study: Path, names: Collection[str]) -> int:
    """The exit code of cells by what they left on disk: launchers may train in processes of their own.

    Args:
      study: its folder.
      names: of the cells.
    """
    from vfcompare.runs.status import read

    # What SLURM has is its to answer for; what another process has is not finished.
    cells = [cell for cell in read(study) if cell.id in names and not cell.task]
    found = Counter(cell.status for cell in cells if cell.status != "completed")
    if not found:
        return OK
    words = ", ".join(f"{number} {status}" for status, number in found.items())
    print(f"vfcompare: {words}; `vfcompare status {study}` says which", file=sys.stderr)
    return DAMAGED if "damaged" in found else SOME_FAILED


def _study(parser: ArgumentParser) -> None:
    parser.add_argument("study", type=Path, help=STUDY)


def _settings(parser: ArgumentParser) -> None:
    parser.add_argument("settings", nargs="*", help=SETTINGS)


def _list_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "words",
        nargs="*",
        metavar="word",
        help="what to list, such as agents (default: all), and one of them, to be shown in full; "
        "hydra.searchpath=[file:///FOLDER] for parts of your own",
    )


def list_choices(options: Namespace) -> int:
    """List agents, environments, studies and every other part that can be chosen."""
    from vfcompare.commands.listing import show
    from vfcompare.commands.trust import folders
    from vfcompare.schema.settings import SEARCHPATH

    own = [word for word in options.words if word.startswith(SEARCHPATH)]
    words = [word for word in options.words if word not in own]
    if len(words) > 2:
        raise InputError(f"cannot list {' '.join(words)!r}; allowed: a group, and one of its parts")
    if isinstance(sys.stdout, TextIOWrapper):
        # Formulas have Greek letters, which not every terminal can show.
        sys.stdout.reconfigure(errors="replace")
    group, name = [*words, None, None][:2]
    print(show(group, name, own=list(folders(own))))
    return OK


def plan(options: Namespace) -> int:
    """List the cells of a command line, what is done of them, and what the rest will cost; start nothing."""
    from vfcompare.commands.compose import cells
    from vfcompare.commands.planning import show

    return DAMAGED if show(cells(options.settings, sweep=True)) else OK


def _own(parser: ArgumentParser) -> None:
    where = "hydra.searchpath=[file:///FOLDER], as for the sweep, if it has parts of your own; resume=anyway"
    parser.add_argument("own", nargs="*", metavar="setting", help=where)


def _resume_options(parser: ArgumentParser) -> None:
    _study(parser)
    _own(parser)


def resume(options: Namespace) -> int:
    """Train what a study has planned and not finished; what is finished is left alone."""
    from vfcompare.commands import resume
    from vfcompare.runs import plan
    from vfcompare.runs.disk import must_be_writable
    from vfcompare.training.sweep import train

    must_be_a_study(options.study)
    cells = resume.unfinished(options.study, options.own)
    if cells:
        must_be_writable(options.study)
    print(f"{options.study}: {counted(len(cells), 'cell')} to go")
    train(cells)
    return exit_code(options.study, plan.cells(options.study))


def _submit_options(parser: ArgumentParser) -> None:
    from vfcompare.commands import cluster

    usual = cluster.Options()
    what = f"{SETTINGS}, or the folder of a study that was begun"
    parser.add_argument("settings", nargs="+", help=what)
    parser.add_argument("--partition", help="SLURM partition (default: the cluster's)")
    parser.add_argument("--account", help="SLURM account (default: yours)")
    numbers = {
        "minutes": ("MINUTES", "time limit of a task; longer ones save and requeue themselves"),
        "cpus": ("CORES", "cores of a task"),
        "mem_gb": ("GB", "memory of a task"),
        "parallel": ("TASKS", "tasks of the array that may run at once"),
        "signal_delay": ("SECONDS", "from the notice (SIGUSR2) to the time limit"),
        "max_seeds": ("SEEDS", "most seeds that one task trains, over all its cells"),
    }
    for name, (unit, text) in numbers.items():
        parser.add_argument(
            cluster.option(name),
            dest=name,
            metavar=unit,
            type=int,
            default=getattr(usual, name),
            help=f"{text} (default: %(default)s)",
        )
    more = "an option of sbatch, such as --extra=--qos=long; may be repeated"
    parser.add_argument("--extra", action="append", default=[], metavar="OPTION", help=more)
    parser.add_argument("--dry-run", action="store_true", help="print the script, and do nothing")


def submit(options: Namespace) -> int:
    """Hand the unfinished cells of a sweep over to SLURM, and return at once."""
    from vfcompare.commands import cluster

    given = vars(options)
    settings, dry_run = given.pop("settings"), given.pop("dry_run")
    asked = cluster.Options(**{**given, "extra": tuple(given["extra"])})
    asked.check()
    if not dry_run:
        cluster.needs("sbatch")
    if cluster.names_a_study(settings):
        must_be_a_study(Path(settings[0]))
    study, cells, own = cluster.chosen(settings, dry_run=dry_run)
    if not cells:
        print(f"{study}: nothing to submit")
    elif dry_run:
        print(cluster.preview(study, cells, asked, own), end="")
    else:
        number = cluster.submit(study, cells, asked, own)
        print(
            f"{study}: {counted(len(cells), 'cell')} in SLURM's job {number}; `vfcompare status {study}`"
        )
    return OK


def _prior_options(parser: ArgumentParser) -> None:
    rungs = "agent.prior.rung=0.01,0.05 asks for other rungs than the usual ones"
    parser.add_argument("settings", nargs="*", help=f"{SETTINGS}; {rungs}")


def prior(options: Namespace) -> int:
    """Pretrain a policy on demonstrations until it has each rung's pass@1, unless that was done before."""
    from vfcompare.commands.compose import cells
    from vfcompare.schema.settings import key_of
    from vfcompare.training import devices, judges, priors

    usual = {
        "prior@agent.prior": "+prior@agent.prior=ladder",
        "agent.prior.rung": f"agent.prior.rung={','.join(f'{rung:g}' for rung in priors.RUNGS)}",
        "network@agent.network": "network@agent.network=transformer",
        "env": "env=addition",
    }
    told = {key_of(setting) for setting in options.settings}
    if any(name.partition("/")[0] == "study" for name in told):
        usual = {}  # a study says itself where its policies begin
    added = [text for name, text in usual.items() if name not in told]
    planned = cells([*added, *options.settings], sweep=True)
    devices.prepare()
    print(priors.table(priors.ensure(cell.config for cell in planned)))
    for made in judges.ensure(cell.config for cell in planned):
        print(f"judge of {made.name.split('-')[0]}: {judges.summary(made)}")
    return OK


def _tune_options(parser: ArgumentParser) -> None:
    from vfcompare.tuning import ledger, search

    usual = search.Options()
    parser.add_argument("settings", nargs="+", help=f"{SETTINGS}; lists of agent and env")
    words = {
        "sampler": f"one of {', '.join(search.SAMPLERS)} (default: %(default)s)",
        "metric": f"what is maximised: {', '.join(ledger.METRICS)} (default: %(default)s)",
        "space": "what is tried: a name in conf/tune, or a YAML file (default: the study's, or matched)",
    }
    for name, text in words.items():
        parser.add_argument(f"--{name}", default=getattr(usual, name), help=text)
    numbers = {
        "trials": "of each agent on each environment, the preset included (default: 32, or the grid)",
        "round": "trials that tpe proposes at once (default: %(default)s)",
        "levels": "of each range in a grid (default: %(default)s)",
        "sampler-seed": "what the sampler's draws depend on (default: %(default)s)",
    }
    for name, text in numbers.items():
        field = name.replace("-", "_")
        parser.add_argument(
            f"--{name}", type=int, metavar="N", default=getattr(usual, field), help=text
        )


def tune(options: Namespace) -> int:
    """Try settings of agents, as many for each, on seeds that no report uses; the same command continues."""
    from vfcompare.tuning import command, search

    given = vars(options)
    settings = given.pop("settings")
    return OK if command.tune(settings, search.Options(**given)) else SOME_FAILED


def cancel(options: Namespace) -> int:
    """Take the jobs of a study back from SLURM; what they saved stays."""
    from vfcompare.commands import cluster

    must_be_a_study(options.study)
    print(f"{options.study}: {cluster.cancel(options.study)}")
    return OK


def _drop_options(parser: ArgumentParser) -> None:
    _study(parser)
    parser.add_argument("cells", nargs="+", metavar="cell", help="its name, as status shows it")


def drop(options: Namespace) -> int:
    """Take cells of which nothing has begun out of a plan, such as one that was mistyped."""
    from vfcompare.runs import disk, plan, status

    must_be_a_study(options.study)
    disk.must_be_writable(options.study)
    for cell in status.read(options.study):
        if cell.id in options.cells and cell.task:
            raise InputError(
                f"{cell.id} is {cell.status} at SLURM; allowed: after `vfcompare cancel`"
            )
        if cell.id in options.cells and cell.perhaps:
            raise InputError(
                f"{cell.id} may wait at SLURM, in {cell.perhaps}, and SLURM does not answer; allowed: once "
                "it does"
            )
    plan.drop(options.study, options.cells)
    print(f"{options.study}: {counted(len(options.cells), 'cell')} dropped from the plan")
    return OK


def _work_options(parser: ArgumentParser) -> None:
    parser.add_argument("study", type=Path, help=STUDY)
    parser.add_argument("job_file", type=Path, help="what the job was submitted with")
    parser.add_argument("index", type=int, help="of the task in the job's array")
    _own(parser)


def work(options: Namespace) -> int:
    """Train one task of a job; what the scripts of `vfcompare submit` call."""
    from vfcompare.commands import cluster

    return cluster.work(**vars(options))


def _status_options(parser: ArgumentParser) -> None:
    _study(parser)
    parser.add_argument("--json", action="store_true", help="for programs, see docs/cluster.md")
    ends = "end with 3 while something is unfinished, if nothing has failed"
    parser.add_argument("--check", action="store_true", help=ends)


def status(options: Namespace) -> int:
    """What is planned, done and missing in a study; ends with 1 if something failed, 4 if it is damaged."""
    from vfcompare.commands import standing
    from vfcompare.runs import status

    must_be_a_study(options.study)
    cells = status.read(options.study)
    print((standing.as_json if options.json else standing.show)(options.study, cells))
    if any(cell.status == "damaged" for cell in cells):
        return DAMAGED
    if any(cell.status in status.FAILED for cell in cells):
        return SOME_FAILED
    unfinished = any(cell.status not in status.DONE for cell in cells)
    return UNFINISHED if options.check and unfinished else OK


def _look(parser: ArgumentParser) -> None:
    parser.add_argument("--venue", help="whose width figures take, such as neurips2024")
    called = "YAML file that says what agents and environments are called, such as ppo: PPO"
    parser.add_argument("--names", type=Path, metavar="FILE", help=called)
    _anonymous(parser)


def _chosen_look(options: Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in ("venue", "names", "anonymous")}


def _anonymous(parser: ArgumentParser) -> None:
    hidden = "leave out hosts, users, paths, commands and commits"
    parser.add_argument("--anonymous", action="store_true", help=hidden)


def _studies(parser: ArgumentParser) -> None:
    parser.add_argument("studies", nargs="+", type=Path, metavar="study", help=STUDY)


def _out(parser: ArgumentParser, said: str, usual: Path | None = None) -> None:
    what = f"to write to (default: {said})"
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=usual, help=what)


def _report_options(parser: ArgumentParser) -> None:
    _studies(parser)
    _out(parser, "`report` in the study's own")
    _look(parser)


def report(options: Namespace) -> int:
    """Write figures, tables and a page about a study, or about several as one, from files only."""
    from vfcompare.report import write

    may_be_reported(options.studies)
    print(write(options.studies, options.out, **_chosen_look(options)))
    return OK


def _figure_options(parser: ArgumentParser) -> None:
    _study(parser)
    names = "as in the report's folder `figures`, such as pairs or learning"
    parser.add_argument("name", help=names)
    _out(parser, "this one", Path())
    _look(parser)


def figure(options: Namespace) -> int:
    """Write one figure of a report as SVG, PDF and PNG, its data, and its caption for LaTeX."""
    from vfcompare.report import write_figure

    may_be_reported([options.study])
    paths = write_figure([options.study], options.name, options.out, **_chosen_look(options))
    print(*paths, sep="\n")
    return OK


def _export_options(parser: ArgumentParser) -> None:
    _studies(parser)
    formats = "csv, parquet, latex or marl-eval (default: %(default)s)"
    parser.add_argument("--format", dest="kind", default="csv", metavar="FORMAT", help=formats)
    _out(parser, "this one", Path())
    _anonymous(parser)


def export(options: Namespace) -> int:
    """Write the runs of a study for other programs: tables, LaTeX, or the JSON of marl-eval."""
    from vfcompare.report import write_export

    may_be_reported(options.studies)
    paths = write_export(options.studies, options.kind, options.out, anonymous=options.anonymous)
    print(*paths, sep="\n")
    return OK


def may_be_reported(studies: Sequence[Path]) -> None:
    """Refuse folders that are none or named twice, and runs that have chosen settings.

    Raises:
      InputError: that says which.
    """
    from vfcompare.tuning.ledger import has_tuning_seeds

    known: dict[Path, Path] = {}
    for study in studies:
        must_be_a_study(study)
        if (first := known.setdefault(study.resolve(), study)) is not study:
            raise InputError(
                f"{first} and {study} are one folder, whose runs would count twice; allowed: each study once"
            )
        if has_tuning_seeds(study):
            raise InputError(
                f"{study}: these runs have chosen the settings, and a report on them would be optimistic; "
                "allowed: a report on the commands that `vfcompare tune` printed, which take fresh seeds"
            )


def _tb_options(parser: ArgumentParser) -> None:
    _study(parser)
    parser.add_argument(
        "--port", type=int, default=6006, help="of the server (default: %(default)s)"
    )
    parser.add_argument("--seeds", action="store_true", help="each seed as a run by itself")


def tb(options: Namespace) -> int:
    """Serve a study's curves with TensorBoard, to this machine only: means and bands over seeds."""
    from vfcompare.runs.board import serve

    must_be_a_study(options.study)
    return serve(options.study, options.port, seeds=options.seeds)


VERBS = {
    "list": Verb(list_choices, _list_options),
    "plan": Verb(plan, _settings),
    "resume": Verb(resume, _resume_options),
    "submit": Verb(submit, _submit_options),
    "prior": Verb(prior, _prior_options),
    "tune": Verb(tune, _tune_options),
    "cancel": Verb(cancel, _study),
    "drop": Verb(drop, _drop_options),
    "status": Verb(status, _status_options),
    "report": Verb(report, _report_options),
    "figure": Verb(figure, _figure_options),
    "export": Verb(export, _export_options),
    "tb": Verb(tb, _tb_options),
    "work": Verb(work, _work_options),
}
