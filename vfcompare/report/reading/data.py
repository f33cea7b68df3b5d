"""Reading studies from their files, however damaged: each planned run has a status and a reason.

Links that lead out of a study are refused, and names are cleaned of control characters.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vfcompare.report.metrics import LEADING
from vfcompare.report.reading.cells import Cell
from vfcompare.report.reading.files import (
    clean,
    read_arrays,
    read_inside,
    read_json,
    read_record,
    why,
)
from vfcompare.report.reading.labels import label
from vfcompare.report.reading.runs import (
    Told,
    breaks,
    budget,
    diagnostics,
    evaluation,
    gradient_steps,
    lab,
    runs_of,
    training,
)
from vfcompare.report.reading.seeds import joined, median_over_seeds
from vfcompare.report.table import join
from vfcompare.runs import plan as plans
from vfcompare.runs.claim import Claim
from vfcompare.runs.yaml_files import read_yaml
from vfcompare.schema.families import EXACT, SIDES, Shown, family
from vfcompare.schema.tree import finite
from vfcompare.schema.untrusted import setting, tree

PROTOCOL = ("env_steps", "evaluations", "lanes")
"""Settings of how long a cell trains and how often it is evaluated; labels have them only where needed."""

LONGEST = 255
"""Letters that the name of a folder may have."""

NAMED = 3
"""Folders that are named of those which are not in the plan."""

MARGIN = 0.05
"""Margin of studies that decided on none."""

Contrasted = tuple[tuple[str, ...], tuple[str, ...]]
"""Agents or families on the two sides of a question."""


@dataclass(frozen=True)
class Study:
    """All cells of a study; the denominator is the plan where there is one.

    Attributes:
      name: name of the study.
      question: what it asks.
      has_plan: whether there was a readable plan.
      created: when the plan was made, as written.
      contrast: agents whose difference is judged, on two sides; None: those with a critic, and those without.
      metric: what is judged first, one of `LEADING`.
      margin: normalised scores that differ by less are equal in practice.
      threshold: share of the way from random to optimal that counts as arrived, or None.
      figures: that the study shows first.
      decided: whether the plan fixed metric and margin before its first run; several studies must agree.
      unlike: which of metric, margin and contrast studies decided differently, and what is used, in words.
      cells: planned cells first, in the plan's order.
      problems: what was wrong, in words.
    """

    name: str
    question: str
    has_plan: bool
    created: str
    cells: tuple[Cell, ...]
    problems: tuple[str, ...]
    metric: str = LEADING[0]
    margin: float = MARGIN
    threshold: float | None = None
    contrast: Contrasted | None = None
    figures: tuple[str, ...] = ()
    decided: bool = False
    unlike: str = ""


def load(study_dir: Path, *others: Path, places: bool = True) -> Study:
    """Reads a study, or several as one. Bad files become runs with a reason, never an exception.

    Args:
      study_dir: its folder.
      *others: those of further ones.
      places: whether studies of one name are told apart by the folders they are in, else by numbers.
    """
    folders = [Path(folder) for folder in (study_dir, *others)]
    studies = _apart([_study(folder) for folder in folders], folders, places=places)
    questions = dict.fromkeys(study.question for study in studies if study.question)
    cells, problems = label([cell for study in studies for cell in joined(study.cells)])
    several = len(studies) > 1
    metrics, thresholds, contrasts = (
        {getattr(study, name) for study in studies} for name in ("metric", "threshold", "contrast")
    )
    unlike = _unlike(studies)
    return Study(
        name=clean(" + ".join(dict.fromkeys(study.name for study in studies))),
        question=clean(" ".join(questions), limit=600),
        has_plan=all(study.has_plan for study in studies),
        created=max(study.created for study in studies),
        cells=tuple(cells),
        problems=(
            *(f"{s.name}: {text}" if several else text for s in studies for text in s.problems),
            *problems,
        ),
        metric=studies[0].metric if len(metrics) == 1 else LEADING[0],
        margin=min(study.margin for study in studies),
        threshold=studies[0].threshold if len(thresholds) == 1 else None,
        contrast=studies[0].contrast if len(contrasts) == 1 else None,
        figures=tuple(dict.fromkeys(name for study in studies for name in study.figures)),
        decided=not unlike and all(study.decided for study in studies),
        unlike=unlike,
    )


def _unlike(studies: Sequence[Study]) -> str:
    """In words, which decisions differ between studies, and what is used instead."""
    used = {
        "metric": f"{LEADING[0]} is judged first",
        "margin": "the smaller margin is used",
        "contrast": f"the question is {' against '.join(SIDES)}",
    }
    mine = [study for study in studies if study.decided]
    told: list[str] = []
    taken: list[str] = []
    for what, instead in used.items():
        values = {study.name: _in_words(getattr(study, what)) for study in mine}
        if len({*values.values()}) > 1:
            told.append(f"{what} {join(f'{value} in {name}' for name, value in values.items())}")
            taken.append(instead)
    if 0 < len(mine) < len(studies):
        told.append(f"nothing in {join(study.name for study in studies if not study.decided)}")
    return "; ".join(told) + (f". So {join(taken)}" if taken else "")


def _in_words(decision: str | float | Contrasted | None) -> str:
    if isinstance(decision, str | float):
        return f"{decision:g}" if isinstance(decision, float) else decision
    sides = decision or tuple((name,) for name in SIDES)
    return " against ".join(" + ".join(side) for side in sides)


def _apart(studies: Sequence[Study], folders: Sequence[Path], *, places: bool) -> list[Study]:
    """The studies under names of their own: `machine_b/compare`, or `compare 2` where places do not help."""
    names = [study.name for study in studies]
    parents = [folder.resolve().parent.name if places else "" for folder in folders]
    named = list(zip(parents, names, strict=True))
    result = []
    for place, (study, (parent, name)) in enumerate(zip(studies, named, strict=True)):
        if names.count(name) > 1:
            alone = named.count((parent, name)) == 1
            nth = names[: place + 1].count(name)
            name = clean(f"{parent}/{name}" if alone else f"{name} {nth}")
        cells = tuple(replace(cell, study=name) for cell in study.cells)
        result.append(replace(study, name=name, cells=cells))
    return result


def _study(root: Path) -> Study:
    problems: list[str] = []
    plan = _plan(root, problems)
    name = clean(plan.get("study") or root.resolve().name)
    cells = [_cell(root, entry, name, planned=True) for entry in plan.get("cells", [])]
    known = {cell.id for cell in cells}
    for found in _found(root):
        if clean(found, LONGEST) not in known:
            cells.append(_cell(root, {"id": found}, name, planned=not plan))
    beside = [cell.id for cell in cells if not cell.planned]
    if beside:
        named = [*beside[:NAMED], *([f"{len(beside) - NAMED} more"] if len(beside) > NAMED else [])]
        problems.append(
            f"Some folders are not in the plan; they are listed but not compared: {join(named)}. Their "
            "sweep, given again in this study, adds them to its plan and keeps what is trained."
        )
    question, created = (
        clean(plan.get("question") or "", limit=600),
        clean(plan.get("created") or ""),
    )
    told = plan.get("decided")
    decided = told if isinstance(told, dict) else {}
    margin, metric = finite(decided.get("margin")), decided.get("metric")
    share = finite(decided.get("threshold"))
    fixed = margin is not None and margin > 0 and metric in LEADING
    figures = plan.get("figures")
    return Study(
        name=name,
        question=question,
        has_plan=bool(plan),
        created=created,
        cells=tuple(cells),
        problems=tuple(problems),
        metric=str(metric) if fixed else LEADING[0],
        margin=margin if fixed and margin is not None else MARGIN,
        threshold=share if fixed and share is not None and 0 < share <= 1 else None,
        contrast=_contrasted(decided.get("contrast")) if fixed else None,
        figures=tuple(map(clean, figures)) if isinstance(figures, list) else (),
        decided=fixed,
    )


def _contrasted(value: object) -> Contrasted | None:
    """The two sides of a contrast, or None where there are none, or the default ones."""
    if not isinstance(value, list) or len(value) != 2:
        return None
    first, second = (tuple(map(clean, s if isinstance(s, list) else [s])) for s in value)
    default = (first, second) == tuple((name,) for name in SIDES)
    return (first, second) if first and second and not default else None


def _plan(root: Path, problems: list[str]) -> dict[str, Any]:
    path = root / "plan.json"
    try:
        plan = read_record(path)
        entries = plan.get("cells")
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise ValueError("no list of cells")
    except FileNotFoundError:
        problems.append("There is no plan.json: what was found on disk is the denominator.")
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"plan.json: {why(error)}; what was found on disk is the denominator.")
        return {}
    return plan


def _found(root: Path) -> list[str]:
    return [path.name for path in plans.runs(root) if path.name != "report"]


def _folder(root: Path, name: str) -> Path | None:
    """The cell's folder, or None where the name is not a plain name or leads out of the study."""
    if name in {"", ".", ".."} or "\0" in name or Path(name).name != name or len(name) > LONGEST:
        return None
    try:
        folder = (root / name).resolve()
        return folder if folder.parent == root.resolve() else None
    except (OSError, ValueError):
        return None


def _cell(root: Path, entry: Mapping[str, Any], study: str, *, planned: bool) -> Cell:
    name = str(entry.get("id", ""))
    problems: list[str] = []
    try:
        folder = _folder(root, name)
    except UnicodeError:
        folder = None
    if folder is None:
        problems.append("the id is not the name of a folder of this study")
    # A folder alone is what an attempt leaves that was refused; `vfcompare status` calls it planned.
    present = folder is not None and os.path.lexists(folder / "run.json")
    info = read_inside(folder, "run.json", read_record, problems) if present else None
    settings = entry.get("settings", (info or {}).get("settings"))
    agent = entry.get("agent", (info or {}).get("agent", "unknown"))
    config = read_inside(folder, "config.yaml", read_yaml, problems) if info is not None else None
    certificate = read_inside(folder, "certificate.json", read_json, problems) if present else None
    table, reason = evaluation(folder) if present and info is not None else ({}, "")
    updates = training(folder, problems) if present else {}
    told = Told(table, reason, breaks(updates))
    runs, trouble = runs_of(entry, _alive(folder, info), told, present=present)
    trained = diagnostics(updates)
    drawn = folder is not None and os.path.lexists(folder / "oracle.npz")
    maps = (read_inside(folder, "oracle.npz", read_arrays, problems) or {}) if drawn else {}
    return Cell(
        id=clean(name, LONGEST),
        agent=clean(agent),
        env=clean(entry.get("env", (info or {}).get("env", "unknown"))),
        settings=_settings(settings),
        family=family(
            str(agent), tree(config or {}, "agent.estimator"), shown(certificate, trained)
        ),
        planned=planned,
        runs=runs,
        info=info or {},
        certificate=certificate,
        reference=_reference(info),
        budget=budget(info),
        diagnostics=median_over_seeds(trained),
        trained=trained,
        gradient_steps=gradient_steps(updates),
        problems=tuple(problems + trouble),
        config=config or {},
        protocol=_protocol(entry, config or {}),
        lab=lab(table, runs),
        maps=maps,
        study=study,
        pictures=_pictures(folder),
    )


def shown(certificate: object, trained: Mapping[int, Mapping[str, float]]) -> Shown | None:
    """What a run shows of its estimator; None where it has no certificate that tells.

    Args:
      certificate: certificate.json, as data.
      trained: the diagnostics of each seed.
    """
    told = certificate if isinstance(certificate, Mapping) else {}
    sizes = {name: finite(size) for name, size in tree(told, "parameters").items()}
    if not sizes:
        return None
    return Shown(
        learns=any(size for name, size in sizes.items() if name != "policy"),
        exact=setting(told, "facts.privilege") == EXACT,
        simulates=any(each.get("simulated_episodes") for each in trained.values()),
    )


def _alive(folder: Path | None, info: dict[str, Any] | None) -> dict[str, Any] | None:
    """What `run.json` says; where it says running but is not, what `vfcompare status` says of its files."""
    if folder is None or info is None or info.get("status") != "running":
        return info
    status, reason = Claim(folder).liveness(info)
    return info if status == "running" else {**info, "status": status, "message": reason}


def _pictures(folder: Path | None) -> Path | None:
    """Where a cell's pictures are, unless they are a link that leads out of its folder."""
    path = None if folder is None else folder / "paths.npz"
    return path if path is not None and os.path.isfile(path) and path.resolve() == path else None


def _settings(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {
        clean(key): clean(item) for key, item in sorted(value.items(), key=lambda kv: str(kv[0]))
    }


def _protocol(entry: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, str]:
    """The settings of `PROTOCOL`: from the plan, else the configuration, else the typed overrides."""
    typed = entry.get("overrides")
    words = (
        [text.split("=", 1) for text in typed if isinstance(text, str) and "=" in text]
        if isinstance(typed, list)
        else []
    )
    told = {key.lstrip("+"): value for key, value in words} | {**config, **entry}
    return {key: clean(told[key]) for key in PROTOCOL if told.get(key) not in (None, "null")}


def _reference(info: Mapping[str, Any] | None) -> dict[str, float | None]:
    found = (info or {}).get("reference")
    known = found if isinstance(found, dict) else {}
    return {key: finite(known.get(key)) for key in ("random", "optimal", "threshold")}
