"""What limits the answer, in sentences: what failed, is missing, was too little or decides nothing."""

from collections.abc import Iterable, Sequence

from vfcompare import statistics
from vfcompare.report.analysis import Arm, Results
from vfcompare.report.analysis.arms import settings_in
from vfcompare.report.analysis.contrasts import seeds_of
from vfcompare.report.fates import failed, late
from vfcompare.report.prose.budgets import cautions
from vfcompare.report.prose.credit import credited
from vfcompare.report.prose.learning import SOLVED, lessons, solved
from vfcompare.report.prose.sentences import MOST, Sentence, missing_references
from vfcompare.report.reading.cells import STATUSES, own_code
from vfcompare.report.reading.files import clean
from vfcompare.report.scoring import Task
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
    """Agents that are missing on an environment, and environments that have no difference of the sides."""
    scored = [task for task in results.tasks if not task.empty]
    whole = all(results.sides.both)
    left = [task.name for task in scored if whole and task.name not in results.family_by_task]
    unplanned, absent = _lacking(results, scored)
    parts = []
    if whole and (never := _never(results)):
        parts.append(f"Decided on, but never planned: {join(never)}.")
    for what, found in (("Not planned", unplanned), ("Without scores", absent)):
        if found:
            who = [f"{results.called(arm)} on {join(names)}" for arm, names in found.items()]
            parts.append(f"{what}: {'; '.join(who[:MOST])}{_more(who)}.")
    if any(not {*on} <= {*left} for found in (unplanned, absent) for on in found.values()):
        told = "Means of a side are of its other agents there"
        several = len(scored) - len(left) > 1
        parts.append(f"{told}{', so that environments differ in who is compared, too' * several}.")
    if left:
        are = "is" if len(left) == 1 else "are"
        parts.append(f"No seed has scores on both sides on {join(left)}, which {are} left out.")
    if parts:
        yield Sentence(" ".join(parts), "warning", "Incomplete")
    yield from _uneven(results, scored)
    yield from _few_pairs(results)


def _more(names: Sequence[str]) -> str:
    return f"; and {len(names) - MOST} more" if len(names) > MOST else ""


def _never(results: Results) -> list[str]:
    """Agents that were to be compared and of which no cell was planned."""
    chosen = results.study.contrast if results.sides.chosen else None
    known = {name for arm in results.arms for name in (arm.preset, arm.family)}
    return [name for side in chosen or () for name in side if name not in known]


def _lacking(
    results: Results, tasks: Sequence[Task]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """By arm of the two sides, the environments where it was not planned, and where it has no scores."""
    unplanned: dict[str, list[str]] = {}
    absent: dict[str, list[str]] = {}
    for task in tasks:
        for side in results.sides.both:
            here = {arm.identity for arm in side if arm.name in task.cells}
            for arm in side:
                if arm.identity not in here:
                    unplanned.setdefault(arm.name, []).append(task.name)
                elif arm.name in task.cells and not task.scores[arm.name]:
                    absent.setdefault(arm.name, []).append(task.name)
    return unplanned, absent


def _uneven(results: Results, tasks: Sequence[Task]) -> Iterable[Sentence]:
    """Environments where agents of one side have different seeds; a seed's mean must be of all of them."""
    some: list[str] = []
    none: list[str] = []
    for task in tasks:
        for side in results.sides.both:
            any_, every = seeds_of(task, [arm for arm in side if task.scores.get(arm.name)])
            if any_ != every:
                (some if every else none).append(task.name)
    if some:
        text = (
            f"Not every agent of a side was planned with every seed on {join(dict.fromkeys(some))}: "
            "seeds that one of them lacks are left out of its mean."
        )
        yield Sentence(text, "warning", "Uneven seeds")
    if none:
        text = (
            f"No seed was planned with all agents of a side on {join(dict.fromkeys(none))}: its mean is, "
            "seed by seed, of those that were, and nothing is claimed of it."
        )
        yield Sentence(text, "warning", "Uneven seeds")


def _few_pairs(results: Results) -> Iterable[Sentence]:
    """Contrasts that leave out at least as many seeds as they compare, for want of a partner."""
    question = results.family.get("auc")
    pairs = [c for c in results.pairs["auc"] if {c.first, c.second} != results.sides.pair]
    found = [c for c in ([question] if question else []) + pairs if 0 < c.pairs <= c.unpaired]
    if found:
        each = [
            f"{c.first} and {c.second} ({c.pairs} of {c.pairs + c.unpaired} seeds)" for c in found
        ]
        few = min(contrast.plain.n for contrast in found)
        worth = f"; {_covered(few)}" if few < statistics.FEW_RUNS else "."
        text = (
            f"Few seeds have a partner, without which they are not compared: {'; '.join(each[:MOST])}"
            f"{_more(each)}{worth}"
        )
        yield Sentence(text, "warning", "Few pairs")


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
    yield from credited(results)
    yield from _own_code(results)
    yield from _other_code(results)
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
    # Where nothing has scores it is not known, either, which returns the environment says.
    unscaled = [task for task in results.tasks if not (task.normalised or task.empty)]
    if unscaled and len(results.tasks) > 1:
        text = f"Not aggregated: {missing_references(unscaled)}."
        yield Sentence(text, "plain", "Scale")


def _own_code(results: Results) -> Iterable[Sentence]:
    """Modules of the user's own that were not the same in all runs, as their hashes say."""
    found: dict[str, set[str]] = {}
    for folder in (part for cell in results.study.cells for part in cell.folders):
        for module, digests in own_code(folder.info).items():
            found.setdefault(clean(module), set()).update(digests)
    changed = [f"{name} ({len(seen)} versions)" for name, seen in found.items() if len(seen) > 1]
    if changed:
        text = (
            f"Not the same in all runs: {join(changed)}. They may differ in more than settings say."
        )
        yield Sentence(text, "warning", "Code of one's own")


def _other_code(results: Results) -> Iterable[Sentence]:
    """How many runs went on under other code or circumstances than they were begun with."""
    folders = [part for cell in results.study.cells if cell.planned for part in cell.folders]
    number = sum(len(part.runs) for part in folders if part.info.get("bit_exact") is False)
    if number:
        every = sum(len(part.runs) for part in folders)
        text = (
            f"{number} of {every} runs went on with other code, or under other circumstances, than they "
            "were begun with (`bit_exact` in run.json): undisturbed they might have ended otherwise."
        )
        yield Sentence(text, "plain", "Continued")


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
    text += "."
    if counts["damaged"]:
        text += (
            " What is damaged stands under 'What went wrong'; without its folder `vfcompare resume` trains "
            "the cell anew."
        )
    if counts["missing"]:
        text += (
            " What is missing was not begun, or its folder is elsewhere: the same command or `vfcompare "
            "resume` trains it, and `vfcompare drop` takes out of the plan what was mistyped."
        )
    return Sentence(text, "warning" if others else "plain", "Runs")


def _disputed(results: Results) -> Iterable[Sentence]:
    """Seeds that were trained in two cells of one agent, with different curves."""
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
    """Environments without a scored run, and why."""
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
