"""What discounts and time limits do to what steps are credited with, in sentences."""

from collections.abc import Iterable, Mapping
from typing import Any

from vfcompare.report.analysis import Results
from vfcompare.report.prose.sentences import Sentence, capital
from vfcompare.report.reading.cells import Cell
from vfcompare.report.scoring import Task
from vfcompare.report.table import join
from vfcompare.runs import certificate
from vfcompare.schema import families
from vfcompare.schema.pairings import fades, fading, untold
from vfcompare.schema.tree import finite
from vfcompare.schema.untrusted import part, setting, tree


def credited(results: Results) -> Iterable[Sentence]:
    """What a reader must know of how agents are credited, beyond what is matched."""
    scored = [task for task in results.tasks if not task.empty]
    yield from _outcomes(scored)
    yield from _fading(results, scored)
    yield from _cut_off(results, scored)


def discount(config: Mapping[str, Any]) -> float | None:
    """An agent's γ where it is below 1; None where it is 1 or not known."""
    gamma = finite(setting(config, "agent.gamma"))
    return gamma if gamma is not None and gamma < 1 else None


def _outcomes(tasks: Iterable[Task]) -> Iterable[Sentence]:
    """Environments that pay the whole return at the end, where a discount changes the objective."""
    found: dict[str, list[float]] = {}
    for task in tasks:
        for cell in task.cells.values():
            gamma = discount(cell.config)
            if gamma is not None and part(cell.config, "env") == "OutcomeOnly":
                found.setdefault(task.name, []).append(gamma)
    if found:
        gammas = sorted({gamma for each in found.values() for gamma in each})
        text = (
            f"On {join(found)} the whole return is paid at the end, where a discount "
            f"({join(f'{gamma:g}' for gamma in gammas)}) shrinks it with every step: agents are paid for "
            "early ends of episodes that return more than zero and for late ends of others, not for the "
            "return that is judged. With agent.gamma=1 they are paid for it."
        )
        yield Sentence(text, "warning", "Discounted outcomes")


def _fading(results: Results, tasks: Iterable[Task]) -> Iterable[Sentence]:
    """Agents with γ^t in their gradient beside agents without, and those whose code may have it."""
    compared = [cell for task in tasks for cell in _compared(results, task)]
    discounted = [cell for cell in compared if discount(cell.config) is not None]
    weighed, others, own = (
        [cell for cell in discounted if _fades(cell) is wanted] for wanted in (True, False, None)
    )
    weigh = "weigh the gradient of step t by γ^t"
    told = []
    if weighed:
        told.append(
            f"returns that are discounted from the start {weigh} ({_who(results, weighed)})"
        )
    if others:
        does_not = "other credit does not" if weighed else f"credit does not {weigh}"
        told.append(f"{does_not} ({_who(results, others)})")
    if own:
        told.append(f"of {_who(results, own)}, credited by code of one's own, it is not known")
    if len(told) > 1:
        text = (
            f"{capital(', '.join(told))}. The difference may be due to this discounting. Rerun with "
            "agent.gamma=1 to rule it out."
        )
        yield Sentence(text, "warning" if weighed and others else "plain", "Discount")


def _cut_off(results: Results, tasks: Iterable[Task]) -> Iterable[Sentence]:
    """Time limits where a critic estimates what would have followed, and returns stop."""
    where, with_values, without = [], [], []
    for task in tasks:
        compared = [cell for cell in _compared(results, task) if _cuts(cell)]
        goes_on = [cell for cell in compared if _bootstraps(results, cell)]
        ends = [cell for cell in compared if _ends(results, cell)]
        if goes_on and ends:
            where.append(task.name)
            with_values += goes_on
            without += ends
    if where:
        single = len({cell.arm for cell in with_values}) == 1
        text = (
            f"On {join(where)} a time limit truncates episodes: {_who(results, with_values)} "
            f"{'bootstraps from its' if single else 'bootstrap from their'} value estimate at truncation; "
            f"the returns of {_who(results, without)} count nothing after it."
        )
        yield Sentence(text, "plain", "Time limits")


def _compared(results: Results, task: Task) -> list[Cell]:
    """The scored cells of the two sides, where both have some."""
    sides = [
        [task.cells[arm.name] for arm in side if task.scores.get(arm.name)]
        for side in results.sides.both
    ]
    return [cell for side in sides for cell in side] if all(sides) else []


def _fades(cell: Cell) -> bool | None:
    """Whether γ^t is in its gradient; None where that is for code of the user's own to say."""
    estimator = tree(cell.config, "agent.estimator")
    return None if untold(estimator) else fades(estimator)


def _cuts(cell: Cell) -> bool:
    """Whether a certificate says that the clock ends episodes which the task would have gone on with."""
    facts = (tree(folder.certificate or {}, "facts") for folder in cell.folders)
    return any(each.get(certificate.TIME_LIMIT) == certificate.CUTS for each in facts)


def _bootstraps(results: Results, cell: Cell) -> bool:
    """Whether a learned value stands in for what the clock cut off, of two estimators in that with values."""
    estimator = tree(cell.config, "agent.estimator")
    ends = setting(cell.config, "agent.collector.time_limit") == "terminates"
    known = not untold(estimator) and not fading(estimator)[0]
    return results.arm(cell.arm).critic and known and not ends


def _ends(results: Results, cell: Cell) -> bool:
    """Whether what the clock cut off is worth nothing to its returns."""
    outcome_only = results.arm(cell.arm).family == families.OUTCOME_ONLY
    return outcome_only and not untold(tree(cell.config, "agent.estimator"))


def _who(results: Results, cells: Iterable[Cell]) -> str:
    return join(dict.fromkeys(results.called(cell.arm) for cell in cells))
