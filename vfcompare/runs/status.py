"""What has become of every planned cell of a study: from its files, and from SLURM where it was used."""

import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from vfcompare import failure
from vfcompare.runs import clock, plan, slurm, store
from vfcompare.runs.claim import Claim
from vfcompare.words import counted, cut_middle

DONE = ("completed", "diverged")
"""What is trained to its end."""

FAILED = ("diverged", "crashed", "out of memory", "timed out", "lost", "damaged")
"""What `vfcompare status` does not end with 0 for."""

UNSETTLED = ("running", "lost", "preempted", "interrupted")
"""What a process may have left behind that SLURM ended."""

SAVED = ("COMPLETED", "FAILED", "PREEMPTED")
"""How a task ends that was told to stop and could save; what it wrote says more."""

STILL = 1800.0
"""Seconds after which a running cell that has saved nothing may hang: saving is due every few minutes."""

UNREAD = "run.json cannot be read"
"""How the note of a `damaged` cell begins that may be whole, so that nothing of it is to be removed."""

MAGIC = b"PAR1"
"""Begins and ends a file of Parquet; between them stands the length of its footer, in as many bytes."""

ENDS = {"evaluation.parquet": MAGIC, "metrics.parquet": MAGIC, "config.yaml": b"\n"}
"""What files of a completed run end with; the evaluations are what is compared, and must be there."""

NOTE = 100
"""Most characters of a note."""

NAMED = 2
"""Seeds that a note names."""

END = 500
"""Bytes at the end of a log that are of the end of a task, and not of an earlier attempt."""


class CellStatus(NamedTuple):
    """One cell of a study.

    Attributes:
      id: its folder.
      status: `planned`, `queued`, `running`, `completed`, `diverged`, `crashed`, `out of memory`,
        `timed out`, `preempted`, `interrupted`, `cancelled`, `lost` or `damaged`.
      seeds: planned.
      done: seeds that completed.
      diverged: seeds that diverged.
      note: a reason, or seconds.
      task: of SLURM, that has the cell now.
      gone: task of SLURM that had the cell and, SLURM says, has ended, or trains another copy of the study.
      perhaps: the job that may have the cell, where SLURM does not answer.
      beside: whether there is a plan, and the cell is not in it.
    """

    id: str
    status: str
    seeds: int
    done: int
    diverged: int
    note: str
    task: str = ""
    gone: str = ""
    perhaps: str = ""
    beside: bool = False


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


def read(study: Path) -> list[CellStatus]:
    """The status of every planned or found cell; asks SLURM once if some cell was sent there and is open."""
    return read_with_jobs(study)[0]


def read_with_jobs(study: Path) -> tuple[list[CellStatus], slurm.Answer]:
    """The same, and what SLURM said of the jobs that it was asked about, those with an open cell."""
    planned = plan.cells(study)
    found = {path.name: path for path in plan.runs(study)}
    records = {name: _record(path) for name, path in found.items()}
    names = [*planned, *(name for name in found if name not in planned)]
    settled = {name for name, record in records.items() if record["status"] == "completed"}
    jobs = slurm.jobs(study)
    answer = slurm.ask(
        [job for job in jobs if not job.copied and not settled.issuperset(chain(*job.groups))]
    )
    here, tasks = answer
    sent = {
        name: Place(job, index)
        for job in here
        for index, group in enumerate(job.groups)
        for name in group
    }
    copied = {job.slurm: job.folder for job in jobs if job.slurm and job.copied}
    standing = [
        _cell(
            study / name, planned.get(name, {}), records.get(name), sent.get(name), tasks, copied
        )._replace(beside=bool(planned) and name not in planned)
        for name in names
    ]
    return standing, answer


def _record(path: Path) -> dict[str, Any]:
    """What `run.json` says, with the status of each seed; else why not, as one that is `damaged`."""
    try:
        record = store.read_json(path / "run.json")
        if told := store.later(record):
            why = f"{UNREAD}: it {told}"
        elif all(isinstance(seed, dict) and "status" in seed for seed in record["seeds"].values()):
            return record | {"status": str(record["status"])}
        else:
            why = "a seed has no status"
    except OSError as error:
        why = f"{UNREAD}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        why = failure.describe(error)
    return {"status": "damaged", "message": why, "seeds": {}}


def torn(path: Path) -> str:
    """Which file of a completed run is missing or has lost its end, in words; empty if none has.

    By last bytes alone, which are written last, so that thousands of runs take no time: whatever else is
    wrong, the report finds.
    """
    for name, end in ENDS.items():
        try:
            with store.opened(path / name, sys.maxsize) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(-min(size, len(end)), os.SEEK_END)
                if (end == MAGIC and size <= 3 * len(MAGIC)) or file.read() != end:
                    return f"{name} has lost its end"
        except FileNotFoundError:
            if name == "evaluation.parquet":
                return f"{name} is missing"
        except ValueError as error:
            return f"{name}: {error}"
        except OSError:
            continue
    return ""


def _task(record: Mapping[str, Any]) -> str:
    task = str(record.get("task") or "")
    return task if task.replace("_", "").isdecimal() else ""


def _cell(
    path: Path,
    planned: Mapping[str, Any],
    record: dict[str, Any] | None,
    place: Place | None,
    tasks: Mapping[str, slurm.ArrayTask] | None,
    copied: Mapping[str, str],
) -> CellStatus:
    words = Counter(str(seed["status"]) for seed in (record or {"seeds": {}})["seeds"].values())
    listed = planned.get("seeds")
    seeds = (len(listed) if isinstance(listed, list) else 0) or sum(words.values())
    status, note = _on_disk(path, record)
    task = gone = perhaps = ""
    if status not in (*DONE, "damaged"):
        record = record or {}
        own = _task(record)
        there = copied.get(own.split("_")[0])
        if there is not None:
            record = record | {"task": ""}
            if status == "running":
                status, note = "lost", f"task {own} trains it in {there}, copied from there"
        status, note, task, gone = _at_slurm(status, note, record, place, tasks)
        gone = own if there is not None else gone
        if tasks is None and place is not None and not place.job.cancelled:
            perhaps = place.job.slurm or place.job.name
    # The end of a path says most.
    note = cut_middle(_printable(note, " "), NOTE, end=NOTE // 3, gap="...")
    return CellStatus(
        path.name, status, seeds, words["completed"], words["diverged"], note, task, gone, perhaps
    )


def _printable(text: str, instead: str) -> str:
    return "".join(letter if letter.isprintable() else instead for letter in text)


def _on_disk(path: Path, record: dict[str, Any] | None) -> tuple[str, str]:
    """Status and note of a cell, as its own files have it."""
    if record is None:
        return "planned", ""
    status, message = record["status"], str(record.get("message") or "")
    if status == "completed":
        if broken := torn(path):
            return "damaged", broken
        diverged = _divergence(record["seeds"])
        seconds = record.get("seconds")
        total = seconds.get("total") if isinstance(seconds, dict) else None
        note = f"{total:.0f} s" if isinstance(total, int | float) and 0 <= total < 1e12 else ""
        status = "diverged" if diverged else "completed"
        return status, ", ".join(filter(None, (diverged, note)))
    if status == "crashed" and failure.of_memory(message):
        return "out of memory", message
    if status != "running":
        return status, message
    claim = Claim(path)
    status, why = claim.liveness(record)
    if status == "damaged":
        return status, why
    last = f"last sign of life {max(claim.silence(record), 0.0):,.0f} s ago"
    # The claim of a process that hangs is renewed, and its record is not.
    still = clock.age(record["heartbeat"])
    last += f", nothing written for {still / 60:,.0f} min" if still > STILL else ""
    return status, f"{why}, {last}" if why else f"{_share(record)}{last}"


def _divergence(seeds: Mapping[str, Mapping[str, Any]]) -> str:
    """Which seeds have diverged and when, in words, the first few by name; empty if none has."""
    lost = [(name, seed) for name, seed in seeds.items() if seed["status"] == "diverged"]
    told = [f"seed {name} diverged in update {seed.get('update', '?')}" for name, seed in lost]
    more = [f"{len(told) - NAMED} more seeds"] if len(told) > NAMED else []
    return ", ".join([*told[:NAMED], *more])


def _share(record: Mapping[str, Any]) -> str:
    """How much of the training of a running cell is saved, in words, where its record says so."""
    budget, steps = record.get("budget"), record.get("env_steps")
    of_seed = budget.get("env_steps") if isinstance(budget, dict) else None
    if not isinstance(of_seed, int) or not isinstance(steps, int) or of_seed < 1:
        return ""
    whole = of_seed * max(len(record["seeds"]), 1)
    return f"{100 * (min(max(steps, 0), whole) / whole):.0f} % saved, "


def _at_slurm(
    status: str,
    note: str,
    record: Mapping[str, Any],
    place: Place | None,
    tasks: Mapping[str, slurm.ArrayTask] | None,
) -> tuple[str, str, str, str]:
    """What SLURM says of an open cell, beside what is on disk.

    Args:
      status: by its own files.
      note: likewise.
      record: its `run.json`, empty where there is none.
      place: where it was last sent, if it was.
      tasks: what SLURM says, by name of the task; None where it does not answer.

    Returns:
      `(status, note, task, gone)` of its `CellStatus`.
    """
    own, task = _task(record), place.task if place else ""
    if tasks is None:
        asked = f"{f'task {task}' if task else 'sent'}; SLURM does not answer"
        told = asked if place is not None and status == "planned" else note
        status, told = _after_cancel(status, told, own, place)
        return status, told, "", ""
    had = tasks.get(own)
    if had is not None and had.state == "SUSPENDED":
        return "preempted", f"SLURM: task {own} SUSPENDED, goes on by itself", own, ""
    if own and had is None and status == "running":
        # It may not list what lives, and a task that it forgot and that is gone falls silent.
        return status, f"{note}; SLURM does not know task {own}", "", ""
    if had is not None and not had.live and _killed(status, had.state):
        status, note = slurm.ENDED[had.state], f"SLURM: task {own} {had.state}"
        if place is not None and own == task and (said := _memory(place)):
            status, note = "out of memory", said
    elif had is not None and had.live and not had.waits and status == "lost":
        status = "running"
    gone = own if own and (had is None or not had.live or had.waits) else ""
    if own and not gone and status == "running":
        return status, note, own, ""
    has, elsewhere = tasks.get(task), own != task and status == "running"
    if has is not None and has.waits and not elsewhere:
        after = ", after it was preempted" if status == "preempted" else ""
        return "queued", f"task {task}: {has.reason}{after}", task, gone
    new = own != task and not elsewhere
    if has is not None and has.live and new:
        return "running", f"task {task} is starting", task, gone
    if has is not None and not has.live and new and _older(record, place):
        status = "crashed" if has.state == "FAILED" else slurm.ENDED[has.state]
        note = f"SLURM: task {task} {has.state} before it began training"
        if place is not None and place.log.exists():
            note += f", see jobs/{place.log.name}"
    status, note = _after_cancel(status, note, own, place)
    return status, note, "", gone


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


def _older(record: Mapping[str, Any], place: Place | None) -> bool:
    """Whether a record was written before its cell was sent to SLURM."""
    return place is not None and str(record.get("started") or "") < place.job.created


def _after_cancel(status: str, note: str, own: str, place: Place | None) -> tuple[str, str]:
    """Status and note, with those of a cancelled job for what has not begun in it or was preempted."""
    mine = place is not None and place.job.cancelled and own in ("", place.task)
    if place is not None and mine and status in ("planned", "preempted"):
        return "cancelled", f"job {place.job.slurm}"
    return status, note


def show(study: Path, cells: Sequence[CellStatus]) -> str:
    """A line for each cell, and a count."""
    rows = [("cell", "status", "seeds", "")]
    for cell in cells:
        seeds = f"{cell.done}/{cell.seeds}"
        rows.append((_printable(cell.id, "?"), _printable(cell.status, "?"), seeds, cell.note))
    wide = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = (
        "  ".join([*(t.ljust(w) for t, w in zip(row[:3], wide, strict=True)), row[3]]).rstrip()
        for row in rows
    )
    counts = Counter(_printable(cell.status, "?") for cell in cells)
    total = ", ".join(f"{number} {status}" for status, number in counts.items()) or "nothing"
    if beside := sum(cell.beside for cell in cells):
        total += f"; {beside} not in the plan, to which their sweep, given again, adds them"
    return "\n".join([f"{study} ({counted(len(cells), 'cell')})", *lines, total])


def as_json(study: Path, cells: Sequence[CellStatus]) -> str:
    """The same for programs: keys stay, later versions may add some."""
    content = {
        "schema": store.SCHEMA,
        "study": str(study),
        "counts": Counter(cell.status for cell in cells),
        "cells": [
            {
                "id": cell.id,
                "status": cell.status,
                "seeds": cell.seeds,
                "completed": cell.done,
                "diverged": cell.diverged,
                "task": cell.task or None,
                "note": cell.note,
                "in_plan": not cell.beside,
            }
            for cell in cells
        ],
    }
    return json.dumps(content, indent=1)
