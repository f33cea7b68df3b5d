"""Parts that do not go together: each would train, and measure or learn something else than it says."""

from collections.abc import Iterator, Mapping
from typing import Any

from vfcompare.schema.families import OURS, UNLEARNED, family
from vfcompare.schema.tree import function, leaves, made_by

Part = Mapping[str, Any]

DISCOUNTED = ("outcome", "remaining")
"""Credits that are discounted from the start of the episode, and not from the step."""

HELD = ("freeze", "reset", "delay")
"""Lesions that have an earlier critic read instead of the present one."""

OTHERWISE = "otherwise."
"""Where an estimator has another one, whose advantage it takes in some batches."""

MEMORY = ("Gru", "Transformer")
"""Networks that read episodes, and not each step by itself."""

ABOVE_VALUE = ("above_start", "above_others")
"""Advantages that take values off the return of the episode, and look at none on the way."""


def critic_of(estimator: Part) -> Part:
    """What learns values, of `halves` each of the two; empty where nothing does."""
    critic: Part = estimator.get("critic") or {}
    return critic.get("part", critic)


def remembers(agent: Part) -> tuple[bool, bool]:
    """Whether the policy and the critic look at more than one step at a time, by networks of their own."""
    critic = critic_of(agent.get("estimator") or {})
    policy, own = (function(part.get("network")) in MEMORY for part in (agent, critic))
    reads = function(agent.get("policy")) != "table"
    return policy and reads, own and critic.get("trunk", "own") == "own"


def rows_to_divide(agent: Part) -> tuple[str, str, int] | None:
    """What minibatches are equal shares of, which must divide it: its unit, what sets it, and how many.

    None where they need not: the steps of whole episodes are cut wherever they are, for their number is
    not known beforehand.
    """
    collector, rows_of = agent["collector"], agent["rows_of"]
    if rows_of == "steps" and any(remembers(agent)):
        rows_of = "episodes"
    if function(collector) == "fragments":
        number, length = collector["number"], collector["length"]
        if rows_of == "steps":
            return "steps", "agent.collector.length", number * length
        return "environments", "agent.collector.number", number
    prompts, group = collector["prompts"], collector["group"]
    return {
        "groups": ("groups", "agent.collector.prompts", prompts),
        "episodes": ("episodes", "agent.collector.group", prompts * group),
    }.get(rows_of)


def policys_body(agent: Part) -> str:
    """Whether the policy's body learns from a critic's loss, too, however deep in the estimator it stands."""
    found = leaves(agent.get("estimator") or {}, lists=True)
    shared = any(key == "trunk" and value == "shared" for _, key, value in found)
    return "also the critic's" if shared else "its own"


def fading(estimator: Part) -> tuple[bool, ...]:
    """Whether γ^t is in the gradient of step t: credit is discounted from the start of the episode.

    Of an estimator that takes another one's advantage in some batches, such as `gated`: of itself, and of the
    other one.
    """
    made = {path: target.rpartition(".")[2] for path, target in made_by(estimator).items()}
    others = [OTHERWISE] if any(path.startswith(OTHERWISE) for path in made) else []

    def within(place: str) -> bool:
        credits = (made.get(f"{place}{path}credit._target_") for path in ("advantage.", ""))
        above = made.get(f"{place}advantage._target_") in ABOVE_VALUE
        return above or any(credit in DISCOUNTED for credit in credits)

    return tuple(map(within, ["", *others]))


def fades(estimator: Part) -> bool:
    """Whether γ^t is in the gradient of step t, in some batches at least; see `fading`."""
    return any(fading(estimator))


def untold(estimator: Part) -> bool:
    """Whether `fades` is a guess: an estimator, its advantage or its credit is code of the user's own."""
    ends = [f"{path}_target_" for path in ("", "credit.", "advantage.", "advantage.credit.")]
    deciding = {*ends, *(f"{OTHERWISE}{end}" for end in ends)}
    made = made_by(estimator)
    return any(not made[path].startswith(OURS) for path in deciding & made.keys())


def refused(agent: Part) -> Iterator[str]:
    """What is wrong with an agent's choices, taken together; one line each."""
    estimator = agent["estimator"]
    yield from _pair(agent)
    yield from _judge(agent)
    yield from _halves(agent, estimator.get("critic") or {})
    yield from _ratios(agent, estimator)
    yield from _lessons(agent, estimator)
    yield from _lesions(estimator)
    if agent.get("lab") is not None:
        yield from _fade(agent, estimator)
        yield from _lab(agent, estimator)
    if (agent.get("penalty") or {}).get("on_reward"):
        yield from _penalty(agent, estimator)


def _pair(agent: Part) -> Iterator[str]:
    body = function(agent.get("network"))
    if function(agent.get("policy")) == "pair" and body in MEMORY:
        yield (
            f"agent.network={body} is not allowed with policy=pair, which sets two networks without a memory "
            "side by side; allowed: network@agent.network=mlp or cnn"
        )


def _ratios(agent: Part, estimator: Part) -> Iterator[str]:
    surrogate = function(agent.get("surrogate"))
    old = agent["refresh"] > 1 and function(estimator) == "off_policy"
    if old and surrogate != "policy_gradient":
        yield (
            f"agent.refresh={agent['refresh']} is not allowed with surrogate={surrogate}: the advantage has "
            "the ratio to the policy that collected in it, and this surrogate multiplies by it again; "
            "allowed: 1, or surrogate@agent.surrogate=policy_gradient"
        )
    forgets = estimator.get("keep_low") != estimator.get("keep_high")
    if agent["refresh"] > 1 and function(estimator) == "tracked" and forgets:
        yield (
            f"agent.refresh={agent['refresh']} is not allowed with estimator=tracked: it forgets by how far "
            "the policy went from the one that collected, which would be counted once each update; allowed: 1"
        )


def _lessons(agent: Part, estimator: Part) -> Iterator[str]:
    if remembers(agent) == (False, True) and agent["rows_of"] == "steps":
        yield (
            "agent.rows_of=steps is not allowed where the critic alone has a memory: minibatches would be of "
            "whole episodes, the policy's too; allowed: episodes, for each agent that it is compared with"
        )
    surrogate, aggregate = function(agent.get("surrogate")), function(agent.get("aggregate"))
    if surrogate in ("preference", "episode_clipped") and aggregate != "episodes":
        yield (
            f"agent.aggregate={aggregate} is not allowed: the surrogate {surrogate} has the gradient of "
            "the whole episode at each of its steps, so that long ones would count more; "
            "allowed: aggregate@agent.aggregate=episodes"
        )


def _lesions(estimator: Part) -> Iterator[str]:
    kind, lesion = function(estimator), function(estimator.get("lesion"))
    if kind == "exact" and lesion in HELD:
        yield (
            f"agent.estimator.lesion={lesion} is not allowed: exact values are not learned, so that it would "
            "do nothing; allowed: a lesion of values, such as noise or shuffle"
        )
    lesion = function(critic_of(estimator).get("lesion"))
    if kind == "auxiliary" and lesion not in ("", "none"):
        yield (
            f"agent.estimator.critic.lesion={lesion} is not allowed: nobody reads this critic, so that it "
            "would do nothing; allowed: none"
        )
    trunk = critic_of(estimator).get("trunk")
    if lesion in HELD and trunk not in (None, "own"):
        yield (
            f"agent.estimator.critic.lesion={lesion} is not allowed with trunk={trunk}: it holds the "
            "critic's last layer, which would go on reading the policy's body as that learns; allowed: a "
            "lesion of values, such as noise or shuffle, or agent.estimator.critic.trunk=own"
        )


def _lab(agent: Part, estimator: Part) -> Iterator[str]:
    collector = function(agent["collector"])
    if collector in ("fragments", "informative"):
        yield (
            f"agent.lab is not allowed with collector={collector}: the lab draws whole episodes, and none a "
            "second time; allowed: null, or collector@agent.collector=episodes"
        )
    if (agent.get("penalty") or {}).get("on_reward") and "critic" in estimator:
        yield (
            "agent.lab is not allowed with agent.penalty.on_reward=True: this critic learns what is left of "
            "the reward, and the truth is of the whole; allowed: null, or agent.penalty.on_reward=False"
        )


def _penalty(agent: Part, estimator: Part) -> Iterator[str]:
    advantage = estimator.get("advantage") or {}
    looks_ahead = function(advantage) not in ABOVE_VALUE and advantage.get("lambda_") != 1
    if looks_ahead and (kind := family("", estimator)) in UNLEARNED:
        yield (
            f"agent.penalty.on_reward=True is not allowed with estimator={function(estimator)}: its {kind} "
            "know nothing of what is taken off the reward later; allowed: agent.penalty.on_reward=False, or "
            "agent.estimator.advantage.lambda_=1"
        )
    if function(advantage.get("credit")) == "success":
        yield (
            "agent.penalty.on_reward=True is not allowed with estimator=successes: what is taken off the "
            "reward would make failures of successes; allowed: agent.penalty.on_reward=False"
        )


def _judge(agent: Part) -> Iterator[str]:
    if agent.get("judge") is not None and function(agent["collector"]) == "informative":
        yield (
            "agent.judge is not allowed with collector=informative, which draws again by what the verifier "
            "pays; allowed: null, or collector@agent.collector=episodes"
        )


def _fade(agent: Part, estimator: Part) -> Iterator[str]:
    fade, gamma = agent["lab"]["fade"], agent["gamma"]
    faded = fades(estimator)
    known = gamma != 1 and not untold(estimator)
    if known and faded != all(fading(estimator)):
        yield (
            f"agent.lab is not allowed with agent.gamma={gamma}: the factor γ^t is in the gradient of "
            "agent.estimator or of its otherwise, and not of both, so that no fade is right; allowed: "
            "agent.gamma=1"
        )
    elif fade not in (1, None):
        yield f"agent.lab.fade={fade} is not allowed; allowed: 1, or null for γ"
    elif known and (fade is None) != faded:
        typed = "null" if fade is None else fade
        told, allowed = ("in", "null") if faded else ("not in", "1")
        yield (
            f"agent.lab.fade={typed} is not allowed with agent.gamma={gamma}: the factor γ^t is {told} this "
            f"agent's gradient; allowed: {allowed}, or agent.gamma=1"
        )


def _halves(agent: Part, critic: Part) -> Iterator[str]:
    if function(critic) != "halves":
        return
    part, body = critic.get("part") or {}, function(agent.get("network"))
    # Hydra merges the small network into the policy's, and would leave its settings there.
    if function(part.get("network")) == "Mlp" != body:
        yield (
            f"agent.network={body} is not allowed with critic=halves, whose two small critics are fully "
            "connected; allowed: network@agent.network=mlp"
        )
    head = part.get("head") or {}
    if head.get("clip") is not None:
        yield (
            f"agent.estimator.critic.part.head.clip={head['clip']} is not allowed with critic=halves: before "
            "a fit only the mean of the two is known, and each would be kept near that; allowed: null"
        )
    collector = agent.get("collector") or {}
    if (group := collector.get("group", 2)) % 2:
        yield (
            f"agent.collector.group={group} is not allowed with critic=halves, each of which learns from "
            "half of a prompt's rollouts; allowed: even numbers"
        )
