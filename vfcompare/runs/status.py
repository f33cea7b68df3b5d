"""What has become of every planned cell of a study: from its files, and from SLURM where it was used."""

from collections import Counter
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from vfcompare import failure
from vfcompare.runs import clock, plan, slurm, slurm_status, store
from vfcompare.runs.claim import Claim
from vfcompare.runs.run_folder import torn
from vfcompare.runs.slurm_status import Standing
from vfcompare.words import cut_middle, printable

DONE = ("completed", "diverged")
"""What is trained to its end."""

FAILED = ("diverged", "crashed", "out of memory", "timed out", "lost", "damaged")
"""What `vfcompare status` does not end with 0 for."""

STILL = 1800.0
"""Seconds after which a running cell that has saved nothing may hang: saving is due every few minutes."""

UNREAD = "run.json cannot be read"
"""How the note of a `damaged` cell begins that may be whole, so that nothing of it is to be removed."""

NOTE = 100
"""Most characters of a note."""

NAMED = 2
"""Seeds that a note names."""


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
    known = slurm_status.known(jobs, answer)
    standing = [
        _cell(study / name, planned.get(name, {}), records.get(name), known)._replace(
            beside=bool(planned) and name not in planned
        )
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


def _cell(
    path: Path,
    planned: Mapping[str, Any],
    record: dict[str, Any] | None,
    known: slurm_status.Known,
) -> CellStatus:
    words = Counter(str(seed["status"]) for seed in (record or {"seeds": {}})["seeds"].values())
    listed = planned.get("seeds")
    seeds = (len(listed) if isinstance(listed, list) else 0) or sum(words.values())
    standing = Standing(*_on_disk(path, record))
    if standing.status not in (*DONE, "damaged"):
        standing = slurm_status.standing(path.name, standing, record or {}, known)
    return CellStatus(
        id=path.name,
        status=standing.status,
        seeds=seeds,
        done=words["completed"],
        diverged=words["diverged"],
        # The end of a path says most.
        note=cut_middle(printable(standing.note, " "), NOTE, end=NOTE // 3, gap="..."),
        task=standing.task,
        gone=standing.gone,
        perhaps=standing.perhaps,
    )


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
