"""What parts of an agent need, and why: said to users, and checked before a run."""

from collections.abc import Mapping
from typing import Any

from vfcompare.schema.tree import leaves, made_by

NEEDS: dict[str, str] = {
    "groups": "several rollouts that are compared with each other",
    "resets": "to begin several episodes in the same state",
    "extra episodes": "beside those that are learned from, charged to the budget",
    "critic": "a value function that is learned beside the policy",
    "memory": "of what earlier batches returned",
    "exact values": "the truth, by dynamic programming: only for tasks whose states can be listed",
    "whole episodes": "not fragments (collector@agent.collector=fragments)",
}
"""What an agent can need, in the words of the legend."""

NEEDED_BY: dict[str, dict[str, str]] = {
    "groups": {
        "baselines.group_mean": "the mean of the group",
        "baselines.leave_one_out": "the mean of the other rollouts of the group",
        "baselines.length_weighted": "the mean of the group, weighed by length",
        "baselines.optimal_token": "the mean of the group, weighed by scores",
        "baselines.step_mean": "the mean of the others of the group at the same step",
        "baselines.bin_mean": "where nobody else was, the mean of the others of the group",
        "baselines.second_best": "the second best of the group",
        "scales.group_std": "the deviation of the group",
        "scales.group_mean": "the mean of the group",
        "advantages.above_others": "values along the other rollouts of the group",
        "targets.others_mean": "returns of the other rollouts of the group",
        "surrogates.preference": "pairs of rollouts of the same prompt",
        "collect.informative": "groups whose returns are all equal are drawn again",
    },
    "resets": {
        "estimators.greedy": "a greedy episode from the start of each",
        "estimators.simulated": "fresh episodes from every visited state, also in the middle",
    },
    "extra episodes": {
        "estimators.greedy": "a greedy one for each prompt",
        "estimators.simulated": "several from every visited state",
        "collect.informative": "groups that were drawn in vain",
    },
    "memory": {"estimators.tracked": "of earlier returns, of each prompt or of all"},
    "exact values": {
        "estimators.exact": "instead of a critic's",
        "estimators.mixed": "beside a critic's",
        "lesions.another": "of another policy",
    },
    "whole episodes": {
        "estimators.value_free": "all steps are credited with what the episode returns",
        "estimators.greedy": "to begin another where one began",
        "estimators.tracked": "returns of a prompt",
        "estimators.gated": "returns, where the critic explains nothing",
        "estimators.auxiliary": "all steps are credited with what the episode returns",
        "estimators.exact": "values depend on the time left",
        "estimators.mixed": "exact values depend on the time left",
        "estimators.simulated": "to go on where a rollout was",
        "advantages.above_start": "the value of the start",
        "advantages.above_others": "returns",
        "targets.others_mean": "returns",
        "advantages.length_adaptive_gae": "their length",
        "surrogates.episode_clipped": "one ratio an episode",
        "surrogates.gspo": "one ratio an episode",
        "surrogates.gmpo": "one ratio an episode",
        "surrogates.preference": "one ratio an episode",
        "collect.informative": "their returns",
    },
}
"""Which function needs what, and why.

A critic is seen in the configuration itself, and resets follow from groups with a shared start.
"""

MIDWAY = "estimators.simulated"
"""Of what resets, that which begins episodes where others are under way."""


def resets(agent: Mapping[str, Any]) -> str:
    """Where an agent's configuration has episodes begin a second time, as far as the environment lets it."""
    made = {target.removeprefix("vfcompare.") for target in made_by(agent).values()}
    if MIDWAY in made:
        return "in mid-episode"
    collector = {key: value for _, key, value in leaves(agent.get("collector") or {})}
    groups = collector.get("start") == "shared" and collector.get("group", 1) > 1
    return "to the start" if groups or made & NEEDED_BY["resets"].keys() else "none"
