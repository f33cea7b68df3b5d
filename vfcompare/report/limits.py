"""What limits the answer, in sentences: what failed, is missing, was too little or decides nothing."""

from collections.abc import Iterable, Mapping, Sequence

from vfcompare import statistics
from vfcompare.report.analysis import Arm, Results
from vfcompare.report.analysis.arms import settings_in
from vfcompare.report.analysis.contrasts import planned_seeds
from vfcompare.report.budgets import cautions
from vfcompare.report.cells import STATUSES
from vfcompare.report.files import clean
from vfcompare.report.learning import SOLVED, lessons, solved
from vfcompare.report.scoring import Task, failed, late
from vfcompare.report.sentences import MOST, Sentence, missing_references
from vfcompare.report.table import join


def alarms(results: Results) -> Iterable[Sentence]:
    """What a reader must know before the claims."""
    if results.rule_changes:
        changes = results.rule_changes
        text = "A verdict depends on how failed runs are treated. " + "; ".join(changes[:MOST])
        more = f"; and {len(changes) - MOST} more verdicts" if len(changes) > MOST else ""
        yield Sentence(f"{text}{more}.", "warning", "Depends on a rule")
    yield from lessons(results)


def incomplete(results: Results) -> Iterable[Sentence]:
    """That a side's mean is not of all its agents everywhere, or that there is no difference at all."""
    sides = (results.sides.first, results.sides.second)
    scored = [task for task in results.tasks if not task.empty]
    left = [task.name for task in scored if all(sides) and task.name not in results.family_by_task]
    absent = [
        (results.called(arm.name), task.name)
        for side in sides
        for task in scored
        for arm in side
        if arm.name in task.cells and not task.scores[arm.name]
    ]
    parts = []
    if absent:
        parts.append(f"Without scores: {join(f'{arm} on {task}' for arm, task in absent)}.")
    if any(task not in left for _, task in absent):
        parts.append("Means of its side are of the other agents there.")
    if left:
        parts.append(f"No seed has scores on both sides on {join(left)}, which is left out.")
    if parts:
        yield Sentence(" ".join(parts), "warning", "Incomplete")
    uneven = [task.name for task in scored if any(_uneven(results, task, side) for side in sides)]
    if uneven:
        text = (
            f"Not every agent of a side was planned with every seed on {join(uneven)}: its mean is, seed "
            "by seed, of those that were."
        )
        yield Sentence(text, "warning", "Uneven seeds")


def _uneven(results: Results, task: Task, side: Sequence[Arm]) -> bool:
    """Whether a side's mean is not of the same agents at every seed that is compared."""
    contrast = results.family_by_task.get(task.name)
    arms = [arm for arm in side if task.scores.get(arm.name)]
    if contrast is None:
        return False
    every = {seed for arm in arms for seed in planned_seeds(task, arm.name)}
    used = every if contrast.strangers else contrast.values[task.name]
    members = {
        frozenset(
            (arm.agent, *arm.tuned.items()) for arm in arms if seed in planned_seeds(task, arm.name)
        )
        for seed in used
    }
    return len(members) > 1


def caveats(results: Results) -> Iterable[Sentence]:
    """What a reader must know after the claims."""
    yield _failures(results)
    yield from _unscored(results)
    yield from _disputed(results)
    sizes = [len(task.scores.get(arm.name, ())) for task in results.tasks for arm in results.arms]
    few = min((size for size in sizes if size), default=0)
    if 0 < few < statistics.FEW_RUNS:
        text = f"The smallest group has n = {few}: {_covered(few)}"
        yield Sentence(text, "warning", "Few seeds")
    yield from cautions(results)
    yield from _own_code(results)
    numbers = tried(results)
    if len(set(numbers.values())) > 1:
        each = join(f"{n} setting{'s' * (n > 1)} of {agent}" for agent, n in numbers.items())
        text = f"Unequal numbers were tried: {each}. The best of more is more optimistic."
        yield Sentence(text, "warning", "Unequal tuning")
    done = solved(results)
    if done:
        finals = [results.family.get("final"), *results.pairs["final"]]
        apart = any(c and c.better and {*c.tasks} <= {*done} for c in finals)
        only = "little but" if apart else "only"
        text = (
            f"On {join(done)} every agent ends above {SOLVED:g} (mean final score): {only} how fast can "
            "differ there."
        )
        yield Sentence(text, "plain", "Solved")
    unscaled = [task for task in results.tasks if not task.normalised]
    if unscaled and len(results.tasks) > 1:
        text = f"Not aggregated: {missing_references(unscaled)}."
        yield Sentence(text, "plain", "Scale")


def _own_code(results: Results) -> Iterable[Sentence]:
    """Modules of the user's own that were not the same in all runs, as their hashes say."""
    found: dict[str, set[str]] = {}
    for folder in (part for cell in results.study.cells for part in cell.folders):
        own = folder.info.get("own")
        for module, digest in own.items() if isinstance(own, Mapping) else ():
            found.setdefault(clean(module), set()).add(str(digest))
    changed = [f"{name} ({len(seen)} versions)" for name, seen in found.items() if len(seen) > 1]
    if changed:
        text = (
            f"Not the same in all runs: {join(changed)}. They may differ in more than settings say."
        )
        yield Sentence(text, "warning", "Code of one's own")


def _failures(results: Results) -> Sentence:
    """How many of the planned runs there are, and what became of the others."""
    planned = sum(fate.planned for fate in results.attrition)
    fates = [fate for fate in results.attrition if fate.cell.planned]
    counts = {status: sum(fate.counts[status] for fate in fates) for status in STATUSES}
    done = counts.pop("completed")
    others = [f"{count} {status}" for status, count in counts.items() if count]
    noun = "planned" if results.study.has_plan else "found"
    text = f"{done} of {planned} {noun} runs completed"
    if others:
        text += f"; {', '.join(others)}"
    tone = "warning" if others else "plain"
    return Sentence(text + ".", tone, "Runs")


def _disputed(results: Results) -> Iterable[Sentence]:
    """Seeds that two cells of one agent trained, and that did not become the same."""
    cells = [cell for cell in results.study.cells if cell.disputed]
    found = [
        f"{results.called(c.arm)} on {c.task} (seeds {join(map(str, c.disputed))})" for c in cells
    ]
    if found:
        text = (
            f"Some seeds were trained in two cells, and their curves are not the same: {join(found)}. The "
            "cell that was planned first counts, of one that diverged the other."
        )
        yield Sentence(text, "warning", "Seeds twice")


def _unscored(results: Results) -> Iterable[Sentence]:
    """Environments of which no number of the report knows."""
    empty = [task for task in results.tasks if task.empty]
    lost = [task for task in empty if any(_failed(task))]
    if lost:
        text = (
            f"No run completed on {join(task.name for task in lost)} and no budget is recorded, so that "
            f"no range can be compared: {sum(map(sum, map(_failed, lost)))} failed runs are in no score."
        )
        yield Sentence(text, "warning", "Left out")
    beyond = [task for task in empty if task not in lost and _late(task)]
    if beyond:
        text = (
            f"On {join(task.name for task in beyond)} no run was evaluated after an update within the steps "
            "that are compared: there are no scores."
        )
        yield Sentence(text, "warning", "Left out")
    others = [task.name for task in empty if task not in (*lost, *beyond)]
    if others and len(empty) < len(results.tasks):
        text = f"Of no run on {join(others)} the outcome is known: it is in no score."
        yield Sentence(text, "warning", "Left out")


def _late(task: Task) -> bool:
    return any(late(run, task.end) for cell in task.cells.values() for run in cell.runs)


def _failed(task: Task) -> list[bool]:
    return [failed(run) for cell in task.cells.values() for run in cell.runs]


def _covered(runs: int) -> str:
    """What an interval of so few runs is worth."""
    if runs < statistics.MIN_RUNS:
        return f"below {statistics.MIN_RUNS} there are no intervals."
    known = statistics.known_coverage("mean", runs)
    normal, bimodal = (f"{known.shares[law]:.0%}" for law in ("normal", "bimodal"))
    return (
        f"at {known.runs} runs a nominal 95% interval of a mean covers {normal} for normal scores, and "
        f"{bimodal} where a fifth of the runs collapse."
    )


def tried(results: Results) -> dict[str, int]:
    """The most settings that each agent has on one environment."""
    found: dict[str, int] = {}
    for task in results.tasks:
        groups: dict[str, list[Arm]] = {}
        for arm in results.arms:
            if arm.name in task.cells:
                groups.setdefault(arm.agent, []).append(arm)
        for agent, arms in groups.items():
            found[agent] = max(found.get(agent, 0), settings_in(arms))
    return found
