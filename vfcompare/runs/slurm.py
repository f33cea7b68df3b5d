"""What SLURM knows of the jobs of a study: asked once, in at most a few seconds, and never relied upon.

<study>/jobs/<n>.json      groups of cells, one for each task of an array; the job's name and number at SLURM
<study>/jobs/<n>.sh        the script that was submitted
<study>/jobs/<n>-<i>.log   what task i printed, over all its attempts
"""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vfcompare.errors import InputError
from vfcompare.runs import naming, store

PATIENCE = 5.0
"""Seconds for each question."""

PREFIX = "vfcompare-"
"""Of the names of our jobs."""

WAITING = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}

ENDED = {
    "COMPLETED": "lost",
    "FAILED": "lost",
    "NODE_FAIL": "lost",
    "BOOT_FAIL": "lost",
    "REVOKED": "lost",
    "OUT_OF_MEMORY": "out of memory",
    "TIMEOUT": "timed out",
    "DEADLINE": "timed out",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
}
"""States after which a task does not run, and what has become of a cell that it left unfinished.

A process that fails by itself says so in `run.json`; one that could not was killed.
"""


class Job(NamedTuple):
    """An array that was handed to SLURM.

    Attributes:
      file: its description.
      slurm: its number there; empty where `sbatch` did not answer.
      created: when.
      groups: names of the cells of each task.
      cancelled: whether `vfcompare cancel` has seen it.
      name: at SLURM, which no other job has; empty where an earlier version submitted it.
      folder: of the study that it was submitted from.
    """

    file: Path
    slurm: str
    created: str
    groups: list[list[str]]
    cancelled: bool
    name: str
    folder: str

    def task(self, index: int) -> str:
        """SLURM's name of a task."""
        return f"{self.slurm}_{index}" if self.slurm else ""

    @property
    def copied(self) -> bool:
        """Whether the file is a copy, with the study around it: the tasks train what it was copied from.

        A folder that is gone was moved, and took its jobs along.
        """
        try:
            return not os.path.samefile(self.folder, self.file.parent.parent)
        except PermissionError:
            return True
        except OSError:
            return False

    def has(self, name: str, folder: str) -> bool:
        """Whether a job at SLURM with this job's number is this job: numbers begin anew, on every cluster.

        Args:
          name: of that job. Where that is not one of ours, or of an earlier version, its folder decides.
          folder: that it was submitted from.
        """
        if self.name and name.startswith(PREFIX):
            return name == self.name
        return folder == self.folder


class ArrayTask(NamedTuple):
    """What SLURM says of a task.

    Attributes:
      state: in SLURM's words.
      reason: why it waits.
    """

    state: str
    reason: str

    @property
    def waits(self) -> bool:
        """Whether it has not begun, or not begun again."""
        return self.state in WAITING

    @property
    def live(self) -> bool:
        """Whether it runs or will."""
        return self.state not in ENDED


class Answer(NamedTuple):
    """What SLURM says of some jobs.

    Attributes:
      jobs: the same, with the numbers of those whose `sbatch` did not answer, if SLURM has them.
      tasks: of these jobs, by name; None where SLURM does not answer.
    """

    jobs: list[Job]
    tasks: dict[str, ArrayTask] | None


def new_name(study: str) -> str:
    """A name for a job of a study, which no other job has."""
    return f"{PREFIX}{naming.slug(study)}-{secrets.token_hex(4)}"


def read_job(file: Path) -> Job:
    """A job from its file.

    Raises:
      InputError: if the file is not such a description.
    """
    try:
        content: dict[str, Any] = store.read_json(file)
        number = str(content.get("slurm") or "")
        groups = [[str(name) for name in group] for group in content["groups"]]
        if not re.fullmatch(r"\d*", number, re.ASCII):
            raise ValueError(f"slurm={number!r} is not a number")
        name = str(content.get("name") or "")
        if name and not re.fullmatch(r"[A-Za-z0-9=._-]+", name):
            raise ValueError(f"name={name!r} is not the name of a job")
        folder = str(content.get("folder") or file.parent.parent.resolve())
        if b"\0" in os.fsencode(folder):
            raise ValueError(f"folder={folder!r} is no folder")
        created, cancelled = str(content["created"]), bool(content.get("cancelled"))
        return Job(file, number, created, groups, cancelled, name, folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is not the description of a job: {error}") from error


def jobs(study: Path) -> list[Job]:
    """The jobs of a study, oldest first; a file that is damaged is none."""
    found = []
    numbered = (file for file in (study / "jobs").glob("*.json") if file.stem.isdecimal())
    for file in sorted(numbered, key=lambda file: int(file.stem)):
        try:
            found.append(read_job(file))
        except InputError:
            continue
    return found


def own_task() -> str:
    """The task that this process is, or nothing outside of SLURM."""
    job, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{job}_{index}" if job and index else os.environ.get("SLURM_JOB_ID", "")


def ask(jobs: Sequence[Job]) -> Answer:
    """All tasks of some jobs.

    The queue knows what waits, runs and ended minutes ago; accounting, where there is any, knows the rest. A
    number alone is not enough, see `Job.has`.

    Args:
      jobs: of one study, or of several.
    """
    found = _numbered(jobs)
    if found is None:
        return Answer([*jobs], None)
    mine = {job.slurm: job for job in found if job.slurm}
    if not mine:
        return Answer(found, {})
    listed = ",".join(sorted(mine))
    queue = call("squeue", "-h", "-r", "-t", "all", "-j", listed, "-o", "%F_%K|%T|%r|%j|%Z")
    if queue is None or (queue.returncode and "Invalid job id" not in queue.stderr):
        return Answer(found, None)
    tasks: dict[str, ArrayTask] = {}

    def note(task: str, state: str, reason: str, name: str, folder: str) -> None:
        job = mine.get(task.partition("_")[0])
        if job is not None and job.has(name, folder):
            tasks[task] = ArrayTask(state, "" if reason == "None" else reason)

    past = call("sacct", "-n", "-P", "-X", "-j", listed, "-o", "JobID,State,JobName,WorkDir")
    if past is not None and past.returncode == 0:
        for task, state, name, folder in _fields(past.stdout, 4):
            note(task, state.split()[0] if state else "", "", name, folder)
    for task, state, reason, name, folder in _fields(queue.stdout, 5):
        note(task, state, reason, name, folder)
    return Answer(found, tasks)


def _numbered(jobs: Sequence[Job]) -> list[Job] | None:
    """The same, with numbers that `sbatch` did not tell, found by name; None where SLURM does not answer."""
    names = [job.name for job in jobs if job.name and not job.slurm]
    if not names:
        return [*jobs]
    queue = call("squeue", "-h", "-t", "all", "--name", ",".join(names), "-o", "%F|%j")
    if queue is None or queue.returncode:
        return None
    known = {name: number for number, name in _fields(queue.stdout, 2)}
    return [job._replace(slurm=job.slurm or known.get(job.name, "")) for job in jobs]


def _fields(text: str, number: int) -> Iterable[list[str]]:
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|", number - 1)]
        if len(fields) == number:
            yield fields


def call(
    *command: str, cwd: Path | None = None, patience: float = PATIENCE
) -> subprocess.CompletedProcess[str] | None:
    """Run one of SLURM's commands; None if it is not there, or does not answer."""
    if shutil.which(command[0]) is None:
        return None
    try:
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, errors="replace", timeout=patience
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def words(done: "subprocess.CompletedProcess[str] | None", command: Sequence[str]) -> str:
    """What a command that failed had to say, in one line."""
    if done is None:
        return f"{command[0]} did not answer"
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return "; ".join(lines)[:300] or f"{command[0]} ended with {done.returncode}"
