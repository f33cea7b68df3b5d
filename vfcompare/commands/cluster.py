"""A study on a SLURM cluster: hand it over and go, train one task of it, take it back.

Nothing waits for the jobs. What they are and how they stand is on disk (see `vfcompare.runs.slurm`), so that
any shell can ask, go on or cancel.
"""

import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vfcompare.commands import compose, overrides, planning, resume, trust
from vfcompare.errors import Damaged, InputError
from vfcompare.runs import claim, clock, disk, plan, run_folder, slurm, slurm_status, status, store
from vfcompare.schema.settings import goes_along
from vfcompare.training import devices, sweep
from vfcompare.training.cell import Cell
from vfcompare.training.fuse import groups
from vfcompare.training.stopping import Stopped, remember_until_training
from vfcompare.words import counted

ANSWER = 60.0
"""Seconds that sbatch is waited for."""

DYING = 20.0
"""Seconds that cancelled tasks are given to save; SLURM's own patience is 30 and seldom needed."""

TRY_AGAIN = 75
"""Exit code of a task that could not requeue itself."""


class Options(NamedTuple):
    """What is asked of SLURM for each task.

    Attributes:
      partition: None for the cluster's default.
      account: None for the user's default.
      minutes: time limit; a task that needs more saves, requeues itself and goes on.
      cpus: cores.
      mem_gb: memory.
      parallel: tasks at a time.
      signal_delay: seconds between the notice and the end.
      extra: options of sbatch, as they are.
      max_seeds: of one task, over all its cells.
    """

    partition: str | None = None
    account: str | None = None
    minutes: int = 240
    cpus: int = 2
    mem_gb: int = 4
    parallel: int = 256
    signal_delay: int = 120
    extra: tuple[str, ...] = ()
    max_seeds: int = sweep.MAX_SEEDS

    def check(self) -> None:
        """Refuse what cannot work.

        Raises:
          InputError: that names the option.
        """
        for name in ("minutes", "cpus", "mem_gb", "parallel", "signal_delay", "max_seeds"):
            value = getattr(self, name)
            if value < 1:
                raise InputError(f"{option(name)} {value} is not allowed; allowed: 1 or more")
        least = overrides.least_minutes(self.signal_delay)
        if self.minutes < least:
            raise InputError(
                f"--time {self.minutes} is too short for --signal-delay {self.signal_delay}: a task would be "
                f"told to stop before it trains; allowed: --time {least} or more"
            )
        for name in ("partition", "account"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[\w.,@+=:-]+", value):
                raise InputError(f"{option(name)} {value!r} is not allowed; allowed: its name")
        for text in self.extra:
            if not text.startswith("-") or not text.isprintable() or not _words(text):
                raise InputError(
                    f"--extra {text!r} is not allowed; allowed: an option of sbatch, such as "
                    "--extra=--qos=long"
                )
            if text.startswith(("-J", "--job-name")):
                raise InputError(
                    f"--extra {text!r} is not allowed: a job is known by the name that it is given here; "
                    "allowed: another study.name, which is part of it"
                )


def _words(text: str) -> list[str]:
    """An option as a shell reads it, which is how sbatch reads those of a script; none if it cannot."""
    try:
        return shlex.split(text)
    except ValueError:
        return []


def option(name: str) -> str:
    """How a field of `Options` is typed."""
    return "--time" if name == "minutes" else f"--{name.replace('_', '-')}"


def needs(command: str) -> None:
    """Refuse to go on without one of SLURM's commands.

    Raises:
      InputError: if it is not on the path.
    """
    if shutil.which(command) is None:
        raise InputError(
            f"{command} is not on PATH; allowed: a machine from which SLURM can be reached, or a local "
            "launcher such as hydra/launcher=joblib"
        )


def sbatch_options(name: str, number: int, tasks: int, options: Options) -> list[str]:
    """The options of sbatch, each as a line of a script has it.

    Args:
      name: of the job; last, since of several the last counts.
      number: of the job's files.
      tasks: how many.
      options: what is asked of SLURM.
    """
    wanted = {
        "array": f"0-{tasks - 1}%{options.parallel}",
        "partition": options.partition,
        "account": options.account,
        "time": options.minutes,
        "cpus-per-task": options.cpus,
        "mem": f"{options.mem_gb}G",
        "signal": f"B:USR2@{options.signal_delay}",
        "output": f"jobs/{number}-%a.log",
        "open-mode": "append",
    }
    lines = [f"--{key}={value}" for key, value in wanted.items() if value is not None]
    return [*lines, "--requeue", *options.extra, f"--job-name={name}"]


def script(study: Path, number: int, lines: Sequence[str], own: Sequence[str] = ()) -> str:
    """What sbatch is given, from the study's folder, so that no path needs SLURM's quoting.

    Args:
      study: its folder.
      number: of the job's files.
      lines: see `sbatch_options`.
      own: what `goes_along`, as typed.
    """
    folder = study.absolute()
    work = shlex.join([sys.executable, "-m", "vfcompare", "work", str(folder)])
    job = shlex.quote(str(folder / "jobs" / f"{number}.json"))
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {line}" for line in lines),
            "# The signal reaches Python itself, since exec leaves no shell in between.",
            f"cd -- {shlex.quote(str(Path.cwd()))} || exit",
            " ".join(["exec", work, job, '"$SLURM_ARRAY_TASK_ID"', *map(shlex.quote, own)]),
            "",
        ]
    )


def names_a_study(settings: Sequence[str]) -> bool:
    """Whether what was typed is the folder of a study, and not a sweep."""
    return "=" not in settings[0] and not settings[0].startswith("+")


def chosen(settings: Sequence[str], *, dry_run: bool) -> tuple[Path, list[Cell], list[str]]:
    """The study that was typed, its cells that are neither done nor anybody's, and what `goes_along`.

    Args:
      settings: of a sweep, which is written into the plan, or the folder of a study.
      dry_run: write nothing.

    Raises:
      InputError: for what a task would not call, see `vfcompare.commands.trust`.
    """
    if names_a_study(settings):
        study, own = Path(settings[0]), list(settings[1:])
        return study, resume.unfinished(study, own, release=not dry_run), own
    overrides.refuse_launchers(
        settings, "options, see vfcompare submit --help, or vfcompare -m ... with this setting"
    )
    own = [text for text in settings if goes_along(text)]
    planned = compose.cells(list(settings), sweep=True)
    study = planned[0].study
    for path in trust.foreign_targets(planned, trust.targets(trust.parts(own))):
        raise InputError(
            f"{path} is not allowed here: tasks run what configurations name, and not what is typed; "
            "allowed: vfcompare -m"
        )
    if dry_run:
        plan.check(study, planned[0].config["study"])
        taken = {cell.id for cell in status.read(study) if not resume.is_open(cell)}
        return study, [cell for cell in planned if cell.id not in taken], own
    planning.begin(planned)
    waiting = set(resume.waiting(study))
    return study, [cell for cell in planned if cell.id in waiting], own


def split(study: Path, cells: Sequence[Cell], options: Options) -> list[list[str]]:
    """Names of the cells of each task.

    Raises:
      InputError: for a folder that SLURM cannot write to.
    """
    folder = str(study.absolute())
    if "%" in folder or "\n" in f"{folder}{Path.cwd()}":
        raise InputError(
            f"{folder!r} has a % or a line break, which SLURM takes for its own; allowed: other names"
        )
    devices.prepare()
    return [[cell.id for cell in group.cells] for group in groups(cells, options.max_seeds)]


def preview(study: Path, cells: Sequence[Cell], options: Options, own: Sequence[str]) -> str:
    """The script that `submit` would hand over; writes nothing."""
    known = [int(job.file.stem) for job in slurm.jobs(study)]
    number, tasks = max(known, default=-1) + 1, len(split(study, cells, options))
    lines = sbatch_options(slurm.new_name(study.name), number, tasks, options)
    return script(study, number, lines, own)


def submit(study: Path, cells: Sequence[Cell], options: Options, own: Sequence[str] = ()) -> str:
    """Hand cells over to SLURM as one array; returns the job's number.

    Args:
      study: its folder.
      cells: of it.
      options: what is asked of SLURM.
      own: what `goes_along`, as typed.

    Raises:
      InputError: for a folder that cannot be written, and what sbatch refuses; nothing is left behind then.
        Where sbatch does not answer, the job's files are.
      OSError: for a full disk, likewise.
    """
    folder = study / "jobs"
    disk.stay_inside(folder)
    disk.must_be_writable(folder)
    tasks = split(study, cells, options)
    store.make_folder(folder)
    store.sweep_up(folder, older=store.ABANDONED_AFTER)
    number = next(n for n in itertools.count() if _take(folder / f"{n}.json"))
    file, text = folder / f"{number}.json", folder / f"{number}.sh"
    name = slurm.new_name(study.name)
    lines = sbatch_options(name, number, len(tasks), options)
    # Also here, since variables of the shell, such as SBATCH_PARTITION, beat what a script says.
    command = ["sbatch", "--parsable", *(word for line in lines for word in _words(line))]
    command.append(f"jobs/{number}.sh")
    content = {
        "schema": store.SCHEMA,
        "created": clock.now(),
        "command": command,
        "options": options._asdict() | {"extra": list(options.extra)},
        "name": name,
        "folder": str(study.resolve()),
        "slurm": "",
        "groups": tasks,
    }
    try:
        store.write_json(file, content)
        store.write_bytes(text, script(study, number, lines, own).encode())
    except OSError:
        _forget(file, text)
        raise
    done = _hand_over(
        command, study, f"the job ({counted(len(tasks), 'task')}): {file} is kept for it"
    )
    found = re.match(r"\d+", done.stdout) if done.returncode == 0 else None
    if found is None:
        _forget(file, text)
        why = slurm.words(done, command)
        hint = "; a larger --max-seeds makes fewer" if "array" in why else ""
        raise InputError(f"{why} ({counted(len(tasks), 'task')}{hint})")
    store.write_json(file, content | {"slurm": found.group()})
    return found.group()


def _hand_over(
    command: Sequence[str], study: Path, perhaps: str
) -> "subprocess.CompletedProcess[str]":
    """Call sbatch; without an answer the job's files stay, since its tasks need them, if there are any.

    Args:
      command: with its options.
      study: its folder.
      perhaps: what it may have taken without an answer.

    Raises:
      InputError: if it does not answer.
    """
    try:
        done = slurm.call(*command, cwd=study, patience=ANSWER)
    except KeyboardInterrupt:
        told = f"sbatch may have taken {perhaps}, and `vfcompare status` looks for it"
        print(f"vfcompare: {told}", file=sys.stderr)
        raise
    if done is None:
        raise InputError(
            f"sbatch did not answer within {ANSWER:.0f} s and may have taken {perhaps}; allowed: the same "
            "command again, which looks for it"
        )
    return done


def _forget(*files: Path) -> None:
    """Remove the files of a job that nobody has."""
    for file in files:
        file.unlink(missing_ok=True)
    if not any(files[0].parent.iterdir()):
        files[0].parent.rmdir()


def _take(file: Path) -> bool:
    """Create the file of a job, and so take its number; whether the number was free."""
    try:
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def work(study: Path, job_file: Path, index: int, own: Sequence[str] = ()) -> int:
    """Train the cells of one task; returns the exit code.

    A notice that the time is up, or that others need the machine, is answered by saving and going back into
    the queue.
    """
    remember_until_training()
    job = slurm.read_job(job_file)
    if not 0 <= index < len(job.groups):
        raise InputError(f"{job_file} has no task {index}; allowed: 0 to {len(job.groups) - 1}")
    task = slurm.own_task()
    os.environ[claim.TASK] = task
    number = os.environ.get("SLURM_ARRAY_JOB_ID", "")
    if number and not job.slurm:
        # Whoever submitted it had no answer.
        job = job._replace(slurm=number)
        store.write_json(job_file, store.read_json(job_file) | {"slurm": number})
    planned = plan.cells(study)
    names = [name for name in job.groups[index] if name in planned]
    if len(names) < len(job.groups[index]):
        dropped = ", ".join(name for name in job.groups[index] if name not in planned)
        print(f"vfcompare: not planned any more, left alone: {dropped}", file=sys.stderr)
    cells = resume.rebuild(study, names, own)
    try:
        outcomes = sweep.train(cells, max_seeds=sum(len(cell.seeds) for cell in cells))
    except Stopped as stopped:
        # Not every cluster gives notice by SIGUSR2. One that has taken a task back does not call it running.
        term = stopped.signal == "SIGTERM" and running(job, task)
        if task and (stopped.signal == "SIGUSR2" or term):
            return requeue(task)
        if slurm.read_job(job_file).cancelled:
            _mark_cancelled(study, names)
        print(
            f"vfcompare: stopped by {stopped.signal}; `vfcompare resume` goes on", file=sys.stderr
        )
        return 128 + signal.Signals[stopped.signal]
    return 1 if {"crashed", "refused", "damaged"} & set(outcomes.values()) else 0


def running(job: slurm.Job, task: str) -> bool:
    """Whether SLURM calls a task of a job running."""
    tasks = slurm.ask([job]).tasks or {}
    return task in tasks and tasks[task].state == "RUNNING"


def requeue(task: str) -> int:
    """Send a task of SLURM, which is this process, back into the queue; returns the exit code."""
    done = slurm.call("scontrol", "requeue", task, patience=60.0)
    if done is not None and done.returncode == 0:
        print(f"vfcompare: saved; {task} goes on when SLURM starts it again", file=sys.stderr)
        return 0
    why = slurm.words(done, ["scontrol"])
    print(
        f"vfcompare: saved, but not requeued ({why}); `vfcompare resume` goes on", file=sys.stderr
    )
    return TRY_AGAIN


def cancel(study: Path) -> str:
    """Take back all jobs of a study that have not ended; returns what was done, in words.

    Raises:
      InputError: if SLURM does not say which jobs are this study's, or if scancel cannot be had, or fails.
    """
    standing, (jobs, tasks) = status.read_with_jobs(study)
    if tasks is None:
        raise InputError(
            "squeue does not answer, and by its number alone a job may be somebody else's; allowed: once "
            "it does"
        )
    live = {name.split("_")[0] for name, task in tasks.items() if task.live}
    jobs = [job for job in jobs if job.slurm in live]
    if not jobs:
        return "no job of this study waits or runs"
    needs("scancel")
    disk.stay_inside(study / "jobs")
    disk.must_be_writable(study / "jobs")
    for job in jobs:
        # Before scancel, since a task that is stopped looks here for the reason.
        said = {"slurm": job.slurm, "cancelled": clock.now()}
        store.write_json(job.file, store.read_json(job.file) | said)
    numbers = [job.slurm for job in jobs]
    command = ["scancel", *numbers]
    done = slurm.call(*command, patience=60.0)
    if done is None or (done.returncode and "nvalid job id" not in done.stderr):
        raise InputError(slurm.words(done, command))
    taken = [c for c in standing if c.task.split("_")[0] in numbers]
    _await_end(jobs)
    _mark_cancelled(study, [cell.id for cell in taken])
    queued = sum(cell.status == "queued" for cell in taken)
    told = f"{counted(queued, 'cell')} queued, {len(taken) - queued} running"
    return f"cancelled job {', '.join(numbers)}: {told}; `vfcompare resume` goes on"


def _await_end(jobs: Sequence[slurm.Job]) -> None:
    deadline = time.monotonic() + DYING
    while time.monotonic() < deadline:
        tasks = slurm.ask(jobs).tasks
        if tasks is None or not any(task.live for task in tasks.values()):
            return
        time.sleep(0.5)


def _mark_cancelled(study: Path, names: Sequence[str]) -> None:
    """Say in `run.json` of cells that nobody trains any more that they were cancelled."""
    known = {path.name for path in plan.runs(study)}
    for name in names:
        if name not in known:
            continue
        # One that is damaged stays so.
        with contextlib.suppress(Damaged):
            folder = run_folder.RunFolder(study / name)
            if folder.record.get("status") in slurm_status.UNSETTLED and not folder.claim.held:
                folder.update(status="cancelled", message="vfcompare cancel", ended=clock.now())
