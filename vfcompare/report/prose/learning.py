"""Whether agents learned, how much was left to learn, and whether they lost it: what claims rest on."""

from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from vfcompare import statistics
from vfcompare.report.analysis import Contrast, Results
from vfcompare.report.prose.sentences import Sentence
from vfcompare.report.reading.cells import held_still
from vfcompare.report.reading.files import Array
from vfcompare.report.scoring import Task, column
from vfcompare.report.table import join

LEARNED, SOLVED = 0.1, 0.95
"""Mean scores below which an agent has learned nothing, and above which it has no more to learn."""

CLEAR = 2.0
"""Standard errors that a mean must exceed to be more than the noise of evaluations."""

WAY = f"{LEARNED:.0%} of the way from the random policy to the optimal one"


def idle(task: Task, arms: Sequence[str]) -> str:
    """Which of two signs say that these arms have learned nothing, in words; empty if they learned.

    A run reached its final score, or, if it collapsed, the best before. The signs: the mean of that over
    arms is below `LEARNED`; or, as where policies begin with a prior, its rise over the run's own untrained
    policy, over all runs, is no more than noise. Without a scale of scores nothing is said.
    """
    reached = _means(task, arms, "reached")
    if not task.normalised or not reached:
        return ""
    if np.mean(reached) < LEARNED:
        return f"stays below {WAY}"
    return "" if _gains(task, arms) else "does not rise above the first evaluation"


def _means(task: Task, arms: Iterable[str], name: str) -> list[float]:
    """Mean over runs of each arm that has some."""
    found = (column(task, arm, name) for arm in arms)
    return [float(np.mean(list(values.values()))) for values in found if values]


def _gains(task: Task, arms: Iterable[str]) -> bool:
    """Whether runs rose above their untrained policy by `LEARNED`, or by `CLEAR` standard errors."""
    gains = np.array([*chain.from_iterable(_rise(task, arm, "reached") for arm in arms)])
    return gains.size < 2 or gains.mean() >= LEARNED or gains.mean() > CLEAR * _error(gains)


def _rise(task: Task, arm: str, name: str) -> list[float]:
    """How much more than its untrained policy's score each run has, where that was evaluated."""
    first, then = column(task, arm, "first"), column(task, arm, name)
    return [then[seed] - first[seed] for seed in first.keys() & then.keys()]


def _error(values: Array) -> float:
    """Standard error of a mean."""
    return float(np.std(values, ddof=1) / np.sqrt(values.size)) if values.size > 1 else 0.0


def ahead(results: Results, contrast: Contrast) -> str:
    """Why the side with the larger area may not have learned faster, in words; empty if it did.

    Its untrained policies scored clearly more already, by half of the difference in area or more; or its
    area is not above them; or runs failed or collapsed, which an area counts as slowness; or it took more
    steps to the threshold.
    """
    if contrast.metric != "auc" or contrast.better is None:
        return ""
    tasks = [*map(results.task, contrast.tasks)]
    sides = results.sides.both if contrast.verdict == "first" else results.sides.both[::-1]
    better, other = ([arm.name for arm in side] for side in sides)
    told = _headstart(tasks, better, other, abs(contrast.interval.estimate))
    return told or _lost(tasks, [*better, *other]) or _later(tasks, better, other)


def _headstart(
    tasks: Sequence[Task], better: Sequence[str], other: Sequence[str], size: float
) -> str:
    """That untrained policies already made the difference, or that nobody rises; empty otherwise."""
    found = [lead for task in tasks if (lead := _lead(task, better, other))]
    if len(found) < len(tasks):
        return ""
    leads, errors = np.array(found).T
    noise = CLEAR * np.linalg.norm(errors) / len(found)
    if leads.mean() > max(noise, size / 2):
        return " Most of it was there before training."
    rises = [np.mean(rise) for task in tasks for arm in better if (rise := _rise(task, arm, "auc"))]
    return "" if np.mean(rises) > 0 else " Neither side rises on average."


def _lost(tasks: Iterable[Task], arms: Sequence[str]) -> str:
    """How many runs failed or collapsed, in words; empty if none did."""
    scores = [score for task in tasks for arm in arms for score in task.scores.get(arm, ())]
    bad = sum(score.collapsed or score.status != "completed" for score in scores)
    if not bad:
        return ""
    return (
        f" {bad} of {len(scores)} runs failed or collapsed, which lowers an area as slowness does."
    )


def _later(tasks: Iterable[Task], better: Sequence[str], other: Sequence[str]) -> str:
    """That the better side takes more steps to the threshold on most environments; empty otherwise."""
    pairs = [(_steps(task, better), _steps(task, other)) for task in tasks]
    for place, name in enumerate(("median", "restricted mean")):
        votes = sum((x[place] > y[place]) - (x[place] < y[place]) for x, y in pairs)
        if votes > 0:
            return f" But it takes more steps to the threshold ({name})."
    return ""


def _steps(task: Task, arms: Iterable[str]) -> tuple[float, float]:
    """Median and restricted mean steps to the threshold of all runs of some arms; NaN where not known."""
    runs = [run for arm in arms for run in task.arrivals.get(arm, ())]
    if not runs:
        return np.nan, np.nan
    _, steps, reached = zip(*runs, strict=True)
    survival = statistics.kaplan_meier(steps, reached)
    return statistics.survival_median(survival), statistics.restricted_mean(survival, task.end)


def _lead(task: Task, better: Iterable[str], other: Iterable[str]) -> tuple[float, float] | None:
    """By how much untrained policies of one side scored more than the other's, with its standard error."""
    firsts = [
        np.array([*chain.from_iterable(column(task, arm, "first").values() for arm in side)])
        for side in (better, other)
    ]
    if not all(values.size for values in firsts):
        return None
    one, two = firsts
    return float(one.mean() - two.mean()), float(np.hypot(_error(one), _error(two)))


def unlearned(results: Results) -> list[Task]:
    """Environments on which no agent has learned anything, although there was something to learn."""
    done = solved(results)
    return [
        task
        for task in _meant(results)
        if task.name not in done and all(idle(task, [arm]) for arm in _scored(task))
    ]


def lessons(results: Results) -> Iterable[Sentence]:
    """Where agents learned nothing, or lost all that they had learned."""
    below = [
        task for task in _meant(results) if max(_means(task, _scored(task), "final")) < LEARNED
    ]
    nothing = unlearned(results)
    never = [task for task in nothing if task in below]
    if never:
        yield Sentence(
            f"On {join(task.name for task in never)} no agent ends {WAY} (mean final score"
            f"{_exceptions(never)}). Agents that have learned nothing are equal whatever they are.",
            "warning",
            "Nothing learned",
        )
    unmoved = [task for task in nothing if task not in below]
    if unmoved:
        yield Sentence(
            f"On {join(task.name for task in unmoved)} no agent ends above where it began (mean final "
            f"score and first evaluation{_exceptions(unmoved)}). Agents that have learned nothing are as "
            "alike as they began.",
            "warning",
            "Nothing learned",
        )
    lost = [task for task in below if task not in nothing]
    if lost:
        yield Sentence(
            f"On {join(task.name for task in lost)} every agent ends below {WAY} (mean final score), but "
            f"{join(map(_collapsed, lost))} had learned more and lost it.",
            "warning",
            "Collapsed",
        )


def solved(results: Results) -> list[str]:
    """Environments on which every agent's mean final score leaves nothing to learn."""
    meant = _meant(results)
    return [task.name for task in meant if min(_means(task, _scored(task), "final")) > SOLVED]


def _scored(task: Task) -> list[str]:
    return [arm for arm, scores in task.scores.items() if scores]


def _meant(results: Results) -> list[Task]:
    """Environments with normalised scores where policies were meant to learn."""
    return [t for t in results.tasks if t.normalised and not t.empty and not _on_purpose(t)]


def _on_purpose(task: Task) -> bool:
    """Whether the policies were held still; of a cell that has not begun that is not known."""
    configs = [cell.config for cell in task.cells.values() if cell.config]
    return bool(configs) and all(map(held_still, configs))


def _exceptions(tasks: Iterable[Task]) -> str:
    """In words, how many runs reached the threshold although agents learned nothing on average."""
    parts = []
    for task in tasks:
        reached = [yes for arrivals in task.arrivals.values() for _, _, yes in arrivals]
        if any(reached):
            parts.append(f"{sum(reached)} of {len(reached)} runs on {task.name}")
    return f"; the threshold was reached by {join(parts)}" if parts else ""


def _collapsed(task: Task) -> str:
    found = [score.collapsed for scores in task.scores.values() for score in scores]
    return f"{sum(found)} of {len(found)} runs on {task.name}"
