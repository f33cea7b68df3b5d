"""Families of agents, by where the values come from that their advantage reads."""

from collections.abc import Mapping
from typing import Any

from vfcompare.schema.needs import NEEDED_BY
from vfcompare.schema.tree import made_by

CRITIC, OUTCOME_ONLY = "critic", "outcome-only"

SIDES = (CRITIC, OUTCOME_ONLY)
"""What a contrast may name in place of agents: those that read learned values, and those that read none."""

UNLEARNED = {
    "exact values": NEEDED_BY["exact values"].keys(),
    "simulated values": {"estimators.simulated"},
}
"""Families that read values which no critic learns, by the parts that give these values."""

CRITIC_AGENTS = frozenset({"a2c", "ppo", "reinforce_v"})
"""Of which it is known without their configuration that they learn values."""


def family(agent: str, estimator: Mapping[str, Any]) -> str:
    """One of `SIDES`, or of `UNLEARNED`, which stand on neither side.

    Args:
      agent: name of its preset, which decides where nothing is known of its estimator.
      estimator: that part of its configuration, or nothing.
    """
    if not estimator:
        return CRITIC if agent in CRITIC_AGENTS else OUTCOME_ONLY
    made = {target.removeprefix("vfcompare.") for target in made_by(estimator).values()}
    # A critic that is never read is a control.
    learned = bool(estimator.get("critic")) and "estimators.auxiliary" not in made
    side = CRITIC if learned else OUTCOME_ONLY
    return next((kind for kind, parts in UNLEARNED.items() if made & parts), side)
