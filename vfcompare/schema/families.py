"""Families of agents, by where the values come from that their advantage reads."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from vfcompare.schema.needs import NEEDED_BY
from vfcompare.schema.tree import made_by

OURS = "vfcompare."
"""Before the name of what is not the user's own."""

CRITIC, OUTCOME_ONLY = "critic", "outcome-only"

SIDES = (CRITIC, OUTCOME_ONLY)
"""What a contrast may name in place of agents: those that read learned values, and those that read none."""

EXACT, SIMULATED = "exact values", "simulated values"

UNLEARNED = {EXACT: NEEDED_BY["exact values"].keys(), SIMULATED: {"estimators.simulated"}}
"""Families that read values which no critic learns, by the parts that give these values."""

CRITIC_AGENTS = frozenset({"a2c", "ppo", "reinforce_v"})
"""Of which it is known without their configuration that they learn values."""


CRITICS = {"agents.critics.learned"}
"""Parts that learn values; whatever else does is made of one, or stands under the key `critic`."""


class Shown(NamedTuple):
    """What a run shows of an estimator, whatever its configuration says.

    Attributes:
      learns: whether anything is learned beside the policy.
      exact: whether it asks for exact values.
      simulates: whether it takes episodes beside those that it learns from.
    """

    learns: bool
    exact: bool
    simulates: bool


def learns(estimator: Mapping[str, Any]) -> bool:
    """Whether an estimator learns values, as far as its configuration tells."""
    made = {target.removeprefix(OURS) for target in made_by(estimator, lists=True).values()}
    return bool(estimator.get("critic")) or bool(made & CRITICS)


def family(agent: str, estimator: Mapping[str, Any], shown: Shown | None = None) -> str:
    """One of `SIDES`, or of `UNLEARNED`, which stand on neither side.

    Names tell what parts of ours read. Of the user's own code they tell nothing: there the run does.

    Args:
      agent: name of its preset, which decides where nothing is known of its estimator.
      estimator: that part of its configuration, or nothing.
      shown: by a run that has begun.
    """
    if not estimator:
        return CRITIC if agent in CRITIC_AGENTS else OUTCOME_ONLY
    targets = made_by(estimator, lists=True).values()
    made = {target.removeprefix(OURS) for target in targets}
    learned = learns(estimator)
    if shown is not None and not all(target.startswith(OURS) for target in targets):
        learned = shown.learns
        # Parts of ours that simulate are known by name.
        if shown.exact or (shown.simulates and not made & NEEDED_BY["extra episodes"].keys()):
            return EXACT if shown.exact else SIMULATED
    # A critic that is never read is a control.
    side = CRITIC if learned and "estimators.auxiliary" not in made else OUTCOME_ONLY
    return next((kind for kind, parts in UNLEARNED.items() if made & parts), side)
