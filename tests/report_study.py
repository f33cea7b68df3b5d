"""Studies on disk for the tests of the report, and a reader of its page."""

import json
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vfcompare.report.analysis import resampling
from vfcompare.report.figures import output

AGENTS = {"reinforce": 0.8, "rloo": 1.2, "grpo": 1.1, "a2c": 1.7, "ppo": 1.8}
ENVS = {
    "cartpole": (20.0, 200.0, 160_000),
    "maze": (0.0, 1.0, 40_000),
    "chain": (-10.0, 0.0, 80_000),
}

HOSTILE = {
    "<script>alert(1)</script>": 1.0,
    "a$\\bad{$": 1.2,
    "=cmd|' /C calc'!A0": 1.1,
    "x" * 5000: 1.3,
    "\u202eevil\u0000\n| **bold**": 1.4,
    "שלום עולם": 1.5,
    "\ud800 lone": 1.6,
    "{{ 7*7 }}": 1.7,
    "a_b^c&d%e$f#g~h": 1.8,
}


def quick(reps: int, pair_reps: int, *, svg: bool = False) -> Any:
    """A fixture of a whole module: few resamples, and figures in one format alone where drawing takes long.

    Args:
      reps: resamples of an interval.
      pair_reps: of a comparison of two agents.
      svg: whether that is the only format.
    """

    @pytest.fixture(autouse=True)
    def made(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(resampling, "REPS", reps)
        monkeypatch.setattr(resampling, "PAIR_REPS", pair_reps)
        if svg:
            monkeypatch.setattr(output, "FORMATS", {"svg": output.FORMATS["svg"]})

    return made


class Row(NamedTuple):
    """A row of a certificate comparison."""

    item: str
    verdict: str
    values: dict[str, str]


def compare(certificates: dict[str, dict[str, Any]]) -> list[Row]:
    rows = []
    for item in ("initial policy", "first rollout", "estimator"):
        values = {name: str(c.get(item, "")) for name, c in certificates.items()}
        same = len(set(values.values())) == 1
        verdict = "equal" if same else ("by design" if item == "estimator" else "different")
        rows.append(Row(item, verdict, values))
    return rows


def write_study(
    root: Path,
    *,
    agents: dict[str, float] | None = None,
    envs: dict[str, tuple[float, float, int]] | None = None,
    seeds: int = 4,
    points: int = 12,
    plan: bool = True,
    question: str = "Does a critic help?",
    decided: dict[str, Any] | None = None,
    reference: bool = True,
) -> Path:
    """A synthetic study whose critics learn faster; `agents` maps names to learning speeds."""
    rng = np.random.default_rng(0)
    study = root / "compare"
    cells = []
    for env, (low, high, budget) in (ENVS if envs is None else envs).items():
        for agent, speed in (AGENTS if agents is None else agents).items():
            cell: dict[str, Any] = {
                "id": f"{env}-{agent}-1a2b3c4d"[:200],
                "agent": agent,
                "env": env,
                "settings": {},
            }
            cell["seeds"] = list(range(seeds))
            cells.append(cell)
            known = {"random": low, "optimal": high, "threshold": None} if reference else {}
            write_cell(study, cell, rng, speed, (low, high, budget), points, known)
    if plan:
        content = {"schema": 1, "study": "compare", "question": question, "cells": cells}
        content["decided"] = decided
        (study / "plan.json").write_text(json.dumps(content | {"created": "2026-11-23T18:00:00Z"}))
    return study


def write_hostile_study(root: Path) -> Path:
    """A study whose agents, environments, name and question all try to be more than text."""
    study = write_study(root, agents={"ppo": 1.8}, envs={"maze": ENVS["maze"]}, seeds=3)
    template = json.loads((study / "plan.json").read_text())["cells"][0]
    cells = [template]
    rng = np.random.default_rng(1)
    for i, (name, speed) in enumerate(HOSTILE.items()):
        cell = {**template, "id": f"maze-{i}", "agent": name, "env": "<img src=x onerror=alert(1)>"}
        write_cell(study, cell, rng, speed, ENVS["maze"], 12, {"random": 0.0, "optimal": 1.0})
        cells.append(cell)
    content = {"cells": cells, "study": "</title><script>", "question": "$\\bad{$ <b>?"}
    (study / "plan.json").write_text(json.dumps(content))
    return study


def write_cell(
    study: Path,
    cell: dict[str, Any],
    rng: np.random.Generator,
    speed: float,
    scale: tuple[float, float, int],
    points: int,
    known: dict[str, Any],
) -> Path:
    folder = study / cell["id"]
    folder.mkdir(parents=True)
    low, high, budget = scale
    steps = np.linspace(0, budget, points).round()
    columns = ("seed", "update", "env_steps", *RETURNS, "return_split")
    rows: dict[str, list[Any]] = {k: [] for k in columns}
    halves = np.random.default_rng(1)
    for seed in cell["seeds"]:
        own = speed * np.exp(0.25 * rng.normal())
        share = 0.95 * (1 - np.exp(-3 * own * steps / budget)) + rng.normal(0, 0.04, points)
        rows["seed"] += [seed] * points
        rows["update"] += list(range(points))
        rows["env_steps"] += list(steps)
        rows["return_sampled"] += list(low + (high - low) * share)
        rows["return_greedy"] += list(low + (high - low) * np.minimum(share + 0.02, 1))
        rows["return_split"] += list((high - low) * halves.normal(0, 0.04, points))
    write_parquet(folder / "evaluation.parquet", rows)
    updates: dict[str, list[float]] = {
        "seed": [0.0] * 50,
        "update": list(range(50)),
        "entropy": list(np.linspace(1, 0.1, 50)),
    }
    write_parquet(folder / "metrics.parquet", updates)
    critic = "{critic: {lr: 0.001}}" if cell["agent"] in {"a2c", "ppo"} else "{gamma: 1.0}"
    (folder / "config.yaml").write_text(f"agent: {{estimator: {critic}}}\n")
    certificate = {"initial policy": "ab12", "first rollout": "cd34"}
    certificate["estimator"] = cell["agent"]
    (folder / "certificate.json").write_text(json.dumps(certificate))
    set_info(folder, cell, known)
    return folder


RETURNS = ("return_sampled", "return_greedy")


def write_parquet(path: Path, rows: Mapping[str, Any]) -> None:
    pq.write_table(pa.table({key: pa.array(value) for key, value in rows.items()}), path)


def set_info(folder: Path, cell: dict[str, Any], known: dict[str, Any], **changes: Any) -> None:
    info = {
        "schema": 1,
        **{key: cell[key] for key in ("id", "agent", "env", "settings")},
        "study": "compare",
        "status": "completed",
        "seeds": {str(seed): {"status": "completed"} for seed in cell["seeds"]},
        "seconds": {"compile": 3.0, "train": 12.5},
        "device": {"kind": "cpu", "count": 2},
        "versions": {"vfcompare": "0.1.0", "jax": "0.10.2"},
        "git": {"commit": "0123456789abcdef", "dirty": False},
        "command": "vfcompare -m agent=ppo",
        "config_hash": "f00d",
        "reference": known,
    }
    (folder / "run.json").write_text(json.dumps(info | changes))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_returns(folder: Path, change: Callable[[dict[str, np.ndarray]], object]) -> None:
    table = pq.read_table(folder / "evaluation.parquet")
    columns = {name: table.column(name).to_numpy().copy() for name in table.column_names}
    change(columns)
    write_parquet(folder / "evaluation.parquet", columns)


class Page(HTMLParser):
    """Texts of tables, captions and verdicts, and whatever could run."""

    def __init__(self, text: str) -> None:
        """Reads a page."""
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.tags: set[str] = set()
        self.handlers: set[str] = set()
        self.captions: list[str] = []
        self._table = self._target = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Notes where we are."""
        named = dict(attrs)
        self.tags.add(tag)
        self.handlers |= {name for name in named if name.startswith("on")}
        if tag == "table":
            self._table = str(named["id"]).removeprefix("t-")
            self.tables[self._table] = []
        if tag == "tr":
            self.tables[self._table].append([])
        if tag == "td":
            self.tables[self._table][-1].append("")
            self._target = "td"
        if named.get("class") == "caption":
            self.captions.append("")
            self._target = "caption"

    def handle_endtag(self, tag: str) -> None:
        """Leaves a cell or a caption."""
        if tag in {"td", "span"}:
            self._target = ""

    def handle_data(self, data: str) -> None:
        """Collects text."""
        if self._target == "td":
            self.tables[self._table][-1][-1] += data
        if self._target == "caption":
            self.captions[-1] += data


def read(page: Path) -> tuple[Page, dict[str, Any], str]:
    text = page.read_text()
    return Page(text), json.loads((page.parent / "report.json").read_text()), text


def column(table: dict[str, Any], name: str) -> list[Any]:
    return [row[table["columns"].index(name)] for row in table["rows"]]
