"""What SLURM adds to what is on disk of the cells of a study that are open."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vfcompare.runs import slurm

UNSETTLED = ("running", "lost", "preempted", "interrupted")
"""What a process may have left behind that SLURM ended."""

SAVED = ("COMPLETED", "FAILED", "PREEMPTED")
"""How a task ends that was told to stop and could save; what it wrote says more."""

END = 500
"""Bytes at the end of a log that are of the end of a task, and not of an earlier attempt."""


class Place(NamedTuple):
    """Where a cell was last sent.

    Attributes:
      job: the newest with this cell.
      number: of its task.
    """

    job: slurm.Job
    number: int

    @property
    def task(self) -> str:
        """SLURM's name of the task."""
        return self.job.task(self.number)

    @property
    def log(self) -> Path:
        """Where it prints; not there before it has begun."""
        return self.job.file.with_name(f"{self.job.file.stem}-{self.number}.log")


class Known(NamedTuple):
    """What the jobs of a study and SLURM tell of its cells.

    Attributes:
      tasks: what SLURM says, by name of the task; None where it does not answer.
      sent: where each cell was last sent, by its name.
      copied: the folder that a job trains, by its number, where its file is a copy.
    """

    tasks: Mapping[str, slurm.ArrayTask] | None
    sent: Mapping[str, Place]
    copied: Mapping[str, str]


class Standing(NamedTuple):
    """How it stands with a cell; each as in `vfcompare.runs.status.CellStatus`.

    Attributes:
      status: one of its words.
      note: a reason.
      task: of SLURM, that has the cell now.
      gone: that had the cell.
      perhaps: the job that may have the cell.
    """

    status: str
    note: str
    task: str = ""
    gone: str = ""
    perhaps: str = ""


def known(jobs: Sequence[slurm.Job], answer: slurm.Answer) -> Known:
    """What is known of a study with these jobs, after SLURM was asked about those with an open cell."""
    sent = {
        name: Place(job, index)
        for job in answer.jobs
        for index, group in enumerate(job.groups)
        for name in group
    }
    copied = {job.slurm: job.folder for job in jobs if job.slurm and job.copied}
    return Known(answer.tasks, sent, copied)


def standing(name: str, here: Standing, record: Mapping[str, Any], known: Known) -> Standing:
    """How it stands with an open cell.

    Args:
      name: of the cell.
      here: by its own files.
      record: its `run.json`, empty where there is none.
      known: of its study.
    """
    own, place = _task(record), known.sent.get(name)
    folder = known.copied.get(own.split("_")[0])
    if folder is None:
        return _asked(own, here, record, place, known.tasks)
    # SLURM was not asked about a job that is another study's.
    if here.status == "running":
        here = Standing("lost", f"task {own} trains it in {folder}, copied from there")
    return _asked("", here, record, place, known.tasks)._replace(gone=own)


def _task(record: Mapping[str, Any]) -> str:
    task = str(record.get("task") or "")
    return task if task.replace("_", "").isdecimal() else ""


def _asked(
    own: str,
    here: Standing,
    record: Mapping[str, Any],
    place: Place | None,
    tasks: Mapping[str, slurm.ArrayTask] | None,
) -> Standing:
    """The same, with the task that last trained the cell as `own`, if SLURM may know it by that name."""
    if tasks is None:
        return here if place is None else _unanswered(own, here, place)
    task = tasks.get(own)
    if task is not None and task.state == "SUSPENDED":
        return Standing("preempted", f"SLURM: task {own} SUSPENDED, goes on by itself", own)
    if own and task is None and here.status == "running":
        # It may not list what lives, and a task that it forgot and that is gone falls silent.
        return here._replace(note=f"{here.note}; SLURM does not know task {own}")
    here = _of_trainer(own, here, task, place)
    if own and not here.gone and here.status == "running":
        return here._replace(task=own)
    return here if place is None else _of_sent(own, here, record, place, tasks.get(place.task))


def _unanswered(own: str, here: Standing, place: Place) -> Standing:
    """Where SLURM does not answer."""
    if here.status == "planned":
        task = f"task {place.task}" if place.task else "sent"
        here = here._replace(note=f"{task}; SLURM does not answer")
    perhaps = "" if place.job.cancelled else place.job.slurm or place.job.name
    return _after_cancel(own, here, place)._replace(perhaps=perhaps)


def _of_trainer(
    own: str, here: Standing, task: slurm.ArrayTask | None, place: Place | None
) -> Standing:
    """What the task that last trained the cell says of it: how it ended, or that it still runs."""
    status, note = here.status, here.note
    if task is not None and not task.live and _killed(status, task.state):
        status, note = slurm.ENDED[task.state], f"SLURM: task {own} {task.state}"
        if place is not None and own == place.task and (said := _memory(place)):
            status, note = "out of memory", said
    elif task is not None and task.live and not task.waits and status == "lost":
        status = "running"
    has_left = task is None or not task.live or task.waits
    return Standing(status, note, gone=own if has_left else "")


def _of_sent(
    own: str,
    here: Standing,
    record: Mapping[str, Any],
    place: Place,
    task: slurm.ArrayTask | None,
) -> Standing:
    """What the task that the cell was last sent to says of it: that it waits, begins, or never began."""
    name, elsewhere = place.task, own != place.task and here.status == "running"
    if task is not None and task.waits and not elsewhere:
        after = ", after it was preempted" if here.status == "preempted" else ""
        note = f"task {name}: {task.reason}{after}"
        return here._replace(status="queued", note=note, task=name)
    new = own != name and not elsewhere
    if task is not None and task.live and new:
        return here._replace(status="running", note=f"task {name} is starting", task=name)
    if task is not None and not task.live and new and _older(record, place):
        status = "crashed" if task.state == "FAILED" else slurm.ENDED[task.state]
        note = f"SLURM: task {name} {task.state} before it began training"
        if place.log.exists():
            note += f", see jobs/{place.log.name}"
        here = here._replace(status=status, note=note)
    return _after_cancel(own, here, place)


def _memory(place: Place) -> str:
    """What SLURM printed last of a task about its memory: where it has no cgroups, the task just failed."""
    try:
        with place.log.open("rb") as log:
            log.seek(-min(END, log.seek(0, os.SEEK_END)), os.SEEK_END)
            lines = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in lines if "slurm" in line and "exceeded memory limit" in line), "")


def _killed(status: str, state: str) -> bool:
    """Whether SLURM's word on the end of a task says more than what the task wrote."""
    return status in ("running", "lost") or (status in UNSETTLED and state not in SAVED)


def _older(record: Mapping[str, Any], place: Place) -> bool:
    """Whether a record was written before its cell was sent to SLURM."""
    return str(record.get("started") or "") < place.job.created


def _after_cancel(own: str, here: Standing, place: Place) -> Standing:
    """The same, but cancelled where that job was, and the cell has not begun in it or was preempted."""
    mine = place.job.cancelled and own in ("", place.task)
    if mine and here.status in ("planned", "preempted"):
        return here._replace(status="cancelled", note=f"job {place.job.slurm}")
    return here
