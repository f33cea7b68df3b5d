"""Runs that theory can say something about in advance, read from their resolved configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vfcompare.oracle import theory
from vfcompare.schema.tree import finite
from vfcompare.schema.untrusted import part, setting

MAX_LENGTH = 100_000

LESIONS = (
    "agent.estimator.lesion",
    "agent.estimator.critic.lesion",
    "agent.estimator.critic.part.lesion",
)
"""Where damage may stand: that to exact values, to what a critic says, and to what two halves of one say."""

SIZES = {"bias": "by", "noise": "std"}
"""Lesions that may be of size 0, and what their size is called."""


@dataclass(frozen=True)
class Chain:
    """A lock with a tabular policy, of which theory predicts P1 to P3; see `vfcompare.oracle.theory`.

    Attributes:
      q: probability that a step is right.
      length: number of steps of an episode.
      decisive: how many of them must be right.
      where: whether these are the first, `early`, or the last, `late`.
      each: whether every right decision pays at once.
      group: rollouts from one start.
    """

    q: float
    length: int
    decisive: int
    where: str
    each: bool
    group: int

    @property
    def spread_out(self) -> bool:
        """Whether reward is for single steps or for some of them, not only for all steps together."""
        return self.each or self.decisive < self.length

    @property
    def variance(self) -> dict[str, float]:
        """Variance of the gradient estimate of one episode, by kind of baseline."""
        if self.each:
            return theory.additive_variance(self.q, self.length)
        if self.decisive < self.length:
            return theory.decisive_variance(self.q, self.length, self.decisive, self.where)
        found = theory.lock_variance(self.q, self.length)
        if self.group > 1:
            found["group"] = theory.lock_group_variance(self.q, self.length, self.group)
        return found


def chain(config: Mapping[str, Any]) -> Chain | None:
    """The chain that a run begins with; None where its task or policy is not of that model."""
    model = (
        setting(config, "env._target_") == "vfcompare.envs.lock.Lock"
        and setting(config, "env.combination") is None
        and setting(config, "env.actions") == 2
        and setting(config, "agent._target_") == "vfcompare.agents.policy_gradient.make"
        and setting(config, "agent.gamma") == 1
        and part(config, "agent.policy") == "table"
        and setting(config, "agent.policy.columns") == setting(config, "env.length")
    )
    success, length = (finite(setting(config, k)) for k in ("agent.policy.success", "env.length"))
    group = finite(setting(config, "agent.collector.group")) or 1
    if not model or success is None or length is None:
        return None
    if not (0 < success < 1 and 1 <= length <= MAX_LENGTH):
        return None
    return Chain(
        q=success ** (1.0 / length),
        length=int(length),
        decisive=int(finite(setting(config, "env.decisive")) or length),
        where=str(setting(config, "env.where")),
        each=setting(config, "env.reward") == "each",
        group=int(group),
    )


def begins_with(config: Mapping[str, Any]) -> float | None:
    """P3: variance of the gradient that an agent begins with; any critic is taken to be perfect.

    None where theory does not say it, as of a critic that was damaged on purpose, or of the exact values of
    another policy.
    """
    model, advantage = chain(config), "agent.estimator.advantage"
    if model is None or model.spread_out or any(damaged(config, lesion) for lesion in LESIONS):
        return None
    if setting(config, "agent.estimator.sharpness") not in {None, 1}:
        return None
    if part(config, "agent.estimator") not in {"exact", "value_based"}:
        return model.variance.get(plain_baseline(config) or "")
    if part(config, advantage) == "above_start":
        return model.variance["start"]
    decay = finite(setting(config, f"{advantage}.lambda_"))
    if decay is None or part(config, advantage) != "gae":
        return None
    return theory.lock_gae_variance(model.q, model.length, decay)


def damaged(config: Mapping[str, Any], lesion: str) -> bool:
    """Whether the lesion at a path does anything; one that is not there does nothing."""
    name = part(config, lesion)
    if name in SIZES:
        return finite(setting(config, f"{lesion}.{SIZES[name]}")) != 0
    return name not in {"", "none"}


def plain_baseline(config: Mapping[str, Any]) -> str | None:
    """What an agent without values subtracts: `none`, or the mean of the rest of the `group`."""
    advantage = "agent.estimator.advantage"
    names = {"none": "none", "leave_one_out": "group"}
    plain = (
        part(config, "agent.estimator") == "value_free"
        and part(config, advantage) == "relative"
        and part(config, f"{advantage}.scale") == "unscaled"
    )
    return names.get(part(config, f"{advantage}.baseline")) if plain else None
