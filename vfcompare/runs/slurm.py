"""What SLURM knows of the jobs of a study: asked once, in at most a few seconds, and never relied upon.

<study>/jobs/<n>.json      groups of cells, one for each task of an array, and the job's number at SLURM
<study>/jobs/<n>.sh        the script that was submitted
<study>/jobs/<n>-<i>.log   what task i printed, over all its attempts
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vfcompare.errors import InputError
from vfcompare.runs import store

PATIENCE = 5.0
"""Seconds for each of two questions."""

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
    """

    file: Path
    slurm: str
    created: str
    groups: list[list[str]]
    cancelled: bool

    def task(self, index: int) -> str:
        """SLURM's name of a task."""
        return f"{self.slurm}_{index}" if self.slurm else ""


class Task(NamedTuple):
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
        return Job(file, number, str(content["created"]), groups, bool(content.get("cancelled")))
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


def ask(numbers: Iterable[str]) -> dict[str, Task] | None:
    """All tasks of some jobs, by name; None where SLURM does not answer.

    The queue knows what waits, runs and ended minutes ago; accounting, where there is any, knows the rest.

    Args:
      numbers: of the jobs.
    """
    listed = ",".join(sorted(set(numbers)))
    if not listed:
        return {}
    queue = call("squeue", "-h", "-r", "-t", "all", "-j", listed, "-o", "%F_%K|%T|%r")
    if queue is None or (queue.returncode and "Invalid job id" not in queue.stderr):
        return None
    tasks: dict[str, Task] = {}
    past = call("sacct", "-n", "-P", "-X", "-j", listed, "-o", "JobID,State")
    if past is not None and past.returncode == 0:
        for name, state in _fields(past.stdout, 2):
            tasks[name] = Task(state.split()[0] if state else "", "")
    for name, state, reason in _fields(queue.stdout, 3):
        tasks[name] = Task(state, "" if reason == "None" else reason)
    return tasks


def _fields(text: str, number: int) -> Iterable[list[str]]:
    for line in text.splitlines():
        fields = [field.strip() for field in line.split("|")]
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
