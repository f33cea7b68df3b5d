"""What a search has found: the best settings, the commands that judge them, and what tuning buys."""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from rich.console import Console
from rich.table import Table

from vfcompare import statistics
from vfcompare.runs import store
from vfcompare.schema.settings import key_of
from vfcompare.statistics import Array
from vfcompare.tuning.ledger import LEDGER, Rated
from vfcompare.tuning.search import Player, Search
from vfcompare.tuning.space import overrides

SEEDS = 20
"""Of the commands that are printed."""


class Measures(TypedDict):
    """How much an agent depends on its settings (Adkins, Bowling & White, 2024, arXiv 2412.07165).

    Attributes:
      performance: mean over environments of the best setting's score on each.
      sensitivity: what tuning on each environment buys over the best single setting.
      dimensionality: how many knobs must be tuned on each environment for 95 % of the performance, linearly
        between whole numbers; None without a grid.
    """

    performance: float
    sensitivity: float
    dimensionality: float | None


def show(search: Search, rated: Sequence[Rated]) -> None:
    """Write `tuned.json`, and print it."""
    found = result(search, rated)
    store.write_json(search.study / "tuned.json", found)
    console = Console()
    scaled = all(scale.known for scale in search.scales.values())
    unit = (
        "random policy 0, optimum 1" if scaled else "return, or 0 to 1 where the optimum is known"
    )
    print(f"\n{search.options.metric} ({unit}), mean of {found['n']} tuning seeds")
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
            "Sensitivity (Adkins et al., 2024), of scores on the scale 5th percentile 0, 95th 1 of all\n"
            "agents and settings of an environment; the best of noisy means is biased upwards"
        )
        console.print(sensitivity_table(found["sensitivity"]))
    print(f"\nEvery trial: {search.study / LEDGER}; the above: {search.study / 'tuned.json'}")


def result(search: Search, rated: Sequence[Rated]) -> dict[str, Any]:
    """What was found, as plain data."""
    sheet = (search.study / LEDGER).read_bytes()
    return {
        "schema": store.SCHEMA,
        "ledger_sha256": hashlib.sha256(sheet).hexdigest(),
        "metric": search.options.metric,
        "trials": search.trials,
        "tuning_seeds": search.players[0].preset.seeds,
        "n": len(search.players[0].preset.seeds),
        "best": [best(search, rated, player) for player in search.players],
        "shared": shared(search, rated),
        "sensitivity": measure(search, rated),
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
    comparable = all(scale.known for scale in search.scales.values())
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


def measure(search: Search, rated: Sequence[Rated]) -> dict[str, Measures] | str:
    """How much each agent depends on its settings, or why that cannot be told."""
    if len(search.envs) < 2:
        return "not from one environment: it is what tuning on each of several buys; allowed: env=A,B,..."
    if search.options.sampler == "tpe":
        return (
            "not from tpe, which tries other settings on each environment; allowed: random or grid"
        )
    try:
        return sensitivities(_means(rated, search.agents, search.envs), search.shapes())
    except ValueError as error:
        return f"cannot be computed: {error}"


def sensitivities(
    scores: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]] | None
) -> dict[str, Measures]:
    """The measures of each agent, on the scale of `vfcompare.statistics.percentile_scaled`.

    Args:
      scores: `[envs, settings]`, mean over seeds, by agent.
      shapes: the numbers of levels whose product the settings are, by agent, where they are a grid.

    Raises:
      ValueError: where they cannot be computed, and why.
    """
    scaled = statistics.percentile_scaled(list(scores.values()))
    found = statistics.sensitivity(scaled)
    return {
        agent: {
            "performance": float(found.per_env_tuned[i]),
            "sensitivity": float(found.sensitivity[i]),
            "dimensionality": None
            if shapes is None
            else statistics.effective_dimensionality(scaled[i].reshape(-1, *shapes[agent])),
        }
        for i, agent in enumerate(scores)
    }


def _means(rated: Sequence[Rated], agents: Sequence[str], envs: Sequence[str]) -> dict[str, Array]:
    """`[envs, settings]`, mean over seeds by agent; the presets, which nobody drew, are left out."""
    means = {(*one.trial.name, one.trial.number): one.score for one in rated}
    numbers = sorted({number for _, _, number in means if number})
    return {
        agent: np.array([[means[agent, env, number] for number in numbers] for env in envs], float)
        for agent in agents
    }


def sensitivity_table(found: Mapping[str, Measures]) -> Table:
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
