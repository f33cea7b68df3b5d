"""What a search has found: the best settings, the commands that judge them, and what tuning buys."""

import hashlib
import shlex
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from vfcompare.runs import store
from vfcompare.settings import key_of
from vfcompare.tuning import ledger
from vfcompare.tuning.ledger import LEDGER, Rated, Sensitivity
from vfcompare.tuning.search import Player, Search
from vfcompare.tuning.space import overrides

SEEDS = 20
"""Of the commands that are printed."""


def show(search: Search, rated: Sequence[Rated]) -> None:
    """Write `tuned.json`, and print it."""
    found = outcome(search, rated)
    store.write_json(search.study / "tuned.json", found)
    console = Console()
    scaled = all(known.scaled for known in search.references.values())
    unit = (
        "random policy 0, optimum 1" if scaled else "return, or 0 to 1 where the optimum is known"
    )
    print(f"\n{search.options.metric} ({unit}), median of {found['n']} tuning seeds")
    table = Table(box=None)
    for heading in ("agent", "env", "preset", "best", "trial", "trials", "failed"):
        left = heading in ("agent", "env")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for one in found["best"]:
        preset, best = f"{one['preset_score']:.3f}", f"{one['score']:.3f}"
        counts = (str(one["trial"]), str(search.trials), str(one["failed"]))
        table.add_row(one["agent"], one["env"], preset, best, *counts)
    console.print(table)
    for one in found["best"]:
        for path in one["at_the_end"]:
            value = f"{one['agent']} on {one['env']} has {path}={one['values'][path]}"
            print(f"{value}, at an end of what was tried: better ones may lie beyond")
    print(
        f"\nThe best of {search.trials} is better than it will be again. To judge it, on seeds that chose "
        "nothing:"
    )
    for one in found["best"]:
        print(one["command"])
    if found["shared"]:
        print("\nOr one setting of each agent for all environments, the best on average:")
        for one in found["shared"]:
            print(one["command"])
    print()
    if isinstance(found["sensitivity"], str):
        print(f"Sensitivity: {found['sensitivity']}")
    else:
        print(
            "Sensitivity (Adkins et al., 2024), of mean scores on the scale 5th percentile 0, 95th 1 of all\n"
            "agents and settings of an environment; the best of noisy means is biased upwards"
        )
        console.print(sensitivity_table(found["sensitivity"]))
    print(f"\nEvery trial: {search.study / LEDGER}; the above: {search.study / 'tuned.json'}")


def outcome(search: Search, rated: Sequence[Rated]) -> dict[str, Any]:
    """What was found, as plain data."""
    sheet = (search.study / LEDGER).read_bytes()
    measures = measure(search, rated)
    return {
        "schema": store.SCHEMA,
        "ledger_sha256": hashlib.sha256(sheet).hexdigest(),
        "metric": search.options.metric,
        "trials": search.trials,
        "tuning_seeds": search.players[0].preset.seeds,
        "n": len(search.players[0].preset.seeds),
        "best": [best(search, rated, player) for player in search.players],
        "shared": shared(search, rated),
        "sensitivity": measures
        if isinstance(measures, str)
        else {agent: found._asdict() for agent, found in measures.items()},
    }


def best(search: Search, rated: Sequence[Rated], player: Player) -> dict[str, Any]:
    """The best trial of a player; of equals the first, which may be the preset."""
    name = player.name
    mine = [one for one in rated if one.trial.name == name]
    chosen = max(mine, key=lambda one: (_score(one), -one.trial.number))
    preset = next(one for one in mine if one.trial.number == 0)
    return {
        "agent": name[0],
        "env": name[1],
        "trial": chosen.trial.number,
        "values": chosen.trial.values,
        "at_the_end": [
            knob.path
            for knob in player.knobs
            if knob.path in chosen.trial.values and knob.ends_at(chosen.trial.values[knob.path])
        ],
        "score": chosen.score,
        "preset_score": preset.score,
        "failed": sum(one.status != "completed" for one in mine),
        "command": command(search, name[0], [name[1]], chosen),
    }


def shared(search: Search, rated: Sequence[Rated]) -> list[dict[str, Any]]:
    """For each agent the setting with the best mean score over environments, where they tried the same.

    Returns of environments whose optimum is not known have no common scale: nothing then.
    """
    comparable = all(known.scaled for known in search.references.values())
    if len(search.envs) < 2 or search.options.sampler == "tpe" or not comparable:
        return []
    found = []
    for agent in search.agents:
        mine = [one for one in rated if one.trial.cell.agent == agent]
        totals: dict[int, float] = {}
        for one in mine:
            totals[one.trial.number] = totals.get(one.trial.number, 0.0) + _score(one)
        number = max(totals, key=lambda trial: (totals[trial], -trial))
        chosen = next(one for one in mine if one.trial.number == number)
        found.append(
            {
                "agent": agent,
                "trial": number,
                "values": chosen.trial.values,
                "score": totals[number] / len(search.envs),
                "command": command(search, agent, search.envs, chosen),
            }
        )
    return found


def command(search: Search, agent: str, envs: Sequence[str], chosen: Rated) -> str:
    """The command line that trains a setting with fresh seeds; its runs remember where it comes from."""
    replaced = ("agent", "env", "study.name", "resume")
    settings = [text for text in search.settings if key_of(text) not in replaced]
    # Always a sweep: a study's own parameters, which trials had, are those of its sweep.
    words = ["vfcompare", "-m", f"agent={agent}"]
    words += [f"env={','.join(envs)}", *settings, *overrides(chosen.trial.values)]
    words += ["first_seed=0", f"seeds={SEEDS}"]
    # In a study of its own: in one study an agent with two settings on an environment is two agents.
    tuned = f"{search.name}-tuned" if len(envs) == 1 else f"{search.name}-tuned-once"
    words += [f"study.name={tuned}", f"+study.tuned={search.study.name}"]
    return shlex.join(words)


def measure(search: Search, rated: Sequence[Rated]) -> dict[str, Sensitivity] | str:
    """The measures of Adkins et al., or why there are none."""
    if len(search.envs) < 2:
        return "not from one environment: it is what tuning on each of several buys; allowed: env=A,B,..."
    if search.options.sampler == "tpe":
        return (
            "not from tpe, which tries other settings on each environment; allowed: random or grid"
        )
    try:
        return ledger.sensitivities(
            ledger.matrix(rated, search.agents, search.envs), search.shapes()
        )
    except ValueError as error:
        return f"cannot be computed: {error}"


def sensitivity_table(found: dict[str, dict[str, float | None]]) -> Table:
    """The measures, a line for each agent."""
    table = Table(box=None)
    for heading in ("agent", "performance", "sensitivity", "dimensionality"):
        table.add_column(heading, justify="left" if heading == "agent" else "right")
    for agent, one in found.items():
        dimensionality = one["dimensionality"]
        shown = "needs --sampler grid" if dimensionality is None else f"{dimensionality:.2f}"
        table.add_row(agent, f"{one['performance']:.3f}", f"{one['sensitivity']:.3f}", shown)
    return table


def _score(one: Rated) -> float:
    return float("-inf") if one.score is None else one.score
