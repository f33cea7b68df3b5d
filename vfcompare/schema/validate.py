"""Check a resolved configuration before anything is started: every problem at once.

Ranges are attached to the names of keys, which mean the same wherever they stand (`vfcompare` calls one
thing by one name); parts of the user's own have names of their own. What only an environment can know, its
constructor checks.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from vfcompare.errors import InputError, nearest
from vfcompare.schema.needs import NEEDED_BY
from vfcompare.schema.pairings import critic_of, refused, rows_to_divide
from vfcompare.schema.tree import finite, function, leaves, made_by

TUNING_SEEDS = 1_000_000
"""Seeds from here on are for `vfcompare tune` and nothing else: what chose settings must not judge them."""


class Rule(NamedTuple):
    """What a value may be.

    Attributes:
      allowed: in words.
      holds: whether a value is allowed.
      choices: the words to choose from, if it is a word.
      whole: whether its numbers are whole ones, and stay `int`.
    """

    allowed: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    whole: bool = False


def _number(value: Any) -> bool:
    return finite(value) is not None


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _above(value: Any) -> bool:
    """Whether a whole number, or one of a list of such, is above `MOST`."""
    return any(each > MOST for each in (value if isinstance(value, list) else [value]) if each)


def _counts(value: Any) -> bool:
    return isinstance(value, list) and all(_integer(each) and each >= 1 for each in value)


def _or_null(rule: Rule) -> Rule:
    allowed = f"{rule.allowed}, or null"
    return Rule(allowed, lambda value: value is None or rule.holds(value), whole=rule.whole)


def _whole(allowed: str, holds: Callable[[int], bool]) -> Rule:
    return Rule(allowed, lambda value: _integer(value) and holds(value), whole=True)


def _word(*choices: str) -> Rule:
    return Rule(" or ".join(choices), lambda value: value in choices, choices)


POSITIVE = Rule("a finite number above 0", lambda value: _number(value) and value > 0)
NOT_NEGATIVE = Rule("a finite number, 0 or more", lambda value: _number(value) and value >= 0)
SHARE = Rule("a number from 0 to 1", lambda value: _number(value) and 0 <= value <= 1)
COUNT = _whole("a whole number, 1 or more", lambda value: value >= 1)
INDEX = _whole("a whole number, 0 or more", lambda value: value >= 0)
FINITE = Rule("a finite number", _number)
SWITCH = Rule("true or false", lambda value: isinstance(value, bool), ("true", "false"))

COUNTS = Rule("a list of whole numbers, 1 or more", _counts, whole=True)

ACTIVATIONS = (
    *("tanh", "relu", "gelu", "silu", "swish", "elu", "celu", "selu", "sigmoid", "softplus"),
    *("soft_sign", "relu6", "leaky_relu", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh"),
    "log_sigmoid",
)
"""Functions of `flax.linen` that networks may be given."""

MOST = 2**32
"""No whole number of ours is above: JAX counts in 32 bits."""

MOST_STEPS = 2_000_000_000
"""Steps are counted in 32 bits, and the last update may go beyond the budget."""

FIGURES = (
    *("families", "phase", "overview", "learning", "costs", "scores", "aggregate", "profile"),
    *("settings", "knobs", "sensitivity", "speed", "pairs", "by-environment"),
    *("improvement", "stability", "oracle", "maps", "paths"),
)
"""Kinds of figures of a report; of some kinds it has several."""


def _two_sides(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, list) or len(value) != 2:
        return False
    sides = [side if isinstance(side, list) else [side] for side in value]
    words = [name for side in sides for name in side]
    named = all(isinstance(name, str) and name for name in words)
    return all(sides) and named and not set(sides[0]) & set(sides[1])


def _figures(value: Any) -> bool:
    return isinstance(value, list) and all(name in FIGURES for name in value)


RULES: dict[str, Rule] = {
    "learning_rate": POSITIVE,
    "eps": POSITIVE,
    "eps_of_variance": POSITIVE,
    "epsilon": _or_null(POSITIVE),
    "epsilon_high": _or_null(POSITIVE),
    "max_grad_norm": _or_null(POSITIVE),
    "clip": _or_null(POSITIVE),
    "clip_advantage": POSITIVE,
    "norm": _word("own", "joint"),
    "gain": NOT_NEGATIVE,
    "temperature": POSITIVE,
    "coef": NOT_NEGATIVE,
    "entropy_coef": NOT_NEGATIVE,
    "gamma": SHARE,
    "lambda_": SHARE,
    "slip": SHARE,
    "success_rate": SHARE,
    "eta": SHARE,
    "sharpness": NOT_NEGATIVE,
    "std": NOT_NEGATIVE,
    "batches": _whole("a whole number, 2 or more", lambda value: value >= 2),
    "starts": COUNT,
    "fade": _or_null(SHARE),
    "warmup": SHARE,
    "after": SHARE,
    "refresh": COUNT,
    "on_reward": SWITCH,
    "trunk": _word("own", "shared", "stopped"),
    "explained": Rule("a number, at most 1", lambda value: _number(value) and value <= 1),
    "updates": COUNT,
    "bins": _whole("a whole number from 1 to 1023", lambda value: 1 <= value < 1024),
    "quantiles": _whole("a whole number from 1 to 1023", lambda value: 1 <= value < 1024),
    "sigma": POSITIVE,
    "huber": NOT_NEGATIVE,
    "alpha": POSITIVE,
    "decay": SHARE,
    "leak": SHARE,
    "attempts": COUNT,
    "slots": COUNT,
    "width": COUNT,
    "layers": COUNT,
    "heads": COUNT,
    "expansion": COUNT,
    "channels": COUNTS,
    "hidden": Rule(
        f"{COUNT.allowed}, or a list of such",
        lambda value: COUNT.holds(value) or _counts(value),
        whole=True,
    ),
    "activation": _word(*ACTIVATIONS),
    "low": FINITE,
    "high": FINITE,
    "by": FINITE,
    "above": FINITE,
    "prior_mean": FINITE,
    "resolution": POSITIVE,
    "half": POSITIVE,
    "keep_low": SHARE,
    "keep_high": SHARE,
    "prior_count": NOT_NEGATIVE,
    "success": _or_null(
        Rule("a number above 0 and below 1", lambda value: _number(value) and 0 < value < 1)
    ),
    "columns": _or_null(COUNT),
    "loops": SHARE,
    "anneal": SWITCH,
    "epochs": COUNT,
    "minibatches": COUNT,
    "size": _or_null(COUNT),
    "block": COUNT,
    "prompts": COUNT,
    "group": COUNT,
    "number": COUNT,
    "chunk": COUNT,
    "length": _or_null(COUNT),
    "rollouts": COUNT,
    "n": COUNT,
    "ddof": INDEX,
    "evaluation_episodes": COUNT,
    "evaluation_attempts": COUNT,
    "rung": Rule("a number above 0 and below 1", lambda value: _number(value) and 0 < value < 1),
    "correct": SHARE,
    "entropy": _or_null(POSITIVE),
    "batch": COUNT,
    "metric": _word("auc", "final", "drawdown"),
    "margin": POSITIVE,
    "threshold": _or_null(
        Rule("a number above 0, at most 1", lambda value: _number(value) and 0 < value <= 1)
    ),
    "contrast": Rule("two agents, or two lists of agents, that share none; or null", _two_sides),
    "figures": Rule(f"a list of {', '.join(FIGURES)}", _figures, FIGURES),
    "minutes": _or_null(POSITIVE),
    "seeds_apart": SWITCH,
    "seeds": COUNT,
    "first_seed": INDEX,
    "seed": INDEX,
    "env_steps": _whole(
        f"a whole number from 1 to {MOST_STEPS:,}", lambda value: 1 <= value <= MOST_STEPS
    ),
    "evaluations": COUNT,
    "lanes": _or_null(COUNT),
    "save_seconds": Rule(
        "a number from 0 to 300", lambda value: _number(value) and 0 <= value <= 300
    ),
    "resume": _word("strict", "anyway"),
    "rows_of": _word("steps", "episodes", "groups"),
    "dual": _or_null(POSITIVE),
    "ceiling": _or_null(POSITIVE),
    "tau": POSITIVE,
    "beta": POSITIVE,
    "tau_negative": POSITIVE,
    "start": _word("shared", "independent"),
    "time_limit": _word("truncates", "terminates"),
    "head": _word("auto", "categorical", "gaussian"),
}

RULES_OF: dict[str, dict[str, Rule]] = {
    "Mlp": {"hidden": COUNTS},
    "Cnn": {"hidden": COUNT},
    "Gru": {"hidden": COUNT},
}
"""What functions of ours say more narrowly than `RULES`."""

PARTS = (
    *("network", "policy", "collector", "estimator", "surrogate", "aggregate", "optimizer"),
    "batching",
)
"""Parts of an agent without which there is none."""

OF_AN_AGENT = (
    *(
        *PARTS,
        "_target_",
        "gamma",
        "rows_of",
        "entropy_coef",
        "evaluation_episodes",
        "warmup",
        "refresh",
    ),
    *("evaluation_attempts", "penalty", "prior", "judge", "lab"),
)
"""What an agent of ours is made of: no less and no more."""

ROWS_OF = {
    "groups": ("compares the episodes of a group", ("groups",)),
    "whole episodes": ("looks at whole episodes", ("episodes", "groups")),
}
"""For each need, what a surrogate with it does, and the `rows_of` it works with; errors name the first."""


def ruled(part: Mapping[str, Any], within: bool = True) -> bool:
    """Whether `RULES` hold for the keys of a node: those of our own parts, and of mappings within them.

    Args:
      part: a node of a configuration.
      within: whether they hold around it, which decides where the node has no `_target_` of its own.
    """
    return str(part["_target_"]).startswith("vfcompare.") if "_target_" in part else within


def natural(node: Any, key: str = "", ours: bool = True) -> Any:
    """A configuration whose numbers have the types of their rules: `int` for a typed 1e6, `float` for 1.

    Args:
      node: a configuration, or what is within it.
      key: of the node, by which it has a rule.
      ours: see `ruled`.
    """
    if isinstance(node, Mapping):
        ours = ruled(node, ours)
        return {name: natural(value, str(name), ours) for name, value in node.items()}
    rule = RULES.get(key) if ours else None
    if rule is None or not _number(node) or not rule.holds(int(node)):
        return node
    if not rule.whole:
        return float(node)
    return int(node) if node == int(node) else node


def takes_a_list(key: str) -> bool:
    """Whether a setting of this name may be a list: those whose rule allows one, and those without a rule."""
    return key not in RULES or RULES[key].holds([1])


def check(config: Mapping[str, Any], reads: Callable[[str], str] = lambda path: "") -> None:
    """Check ranges, and the rules that tie several values together.

    Args:
      config: resolved and plain.
      reads: from the path of a value to the words with which it reads others; none where it reads none.

    Raises:
      InputError: with one line per problem.
    """
    problems = [*_agent(config["agent"])] or [*_ranges(config, reads)] or [*_ties(config)]
    if problems:
        raise InputError("\n".join(problems))


def _agent(agent: Mapping[str, Any]) -> Iterator[str]:
    """Keys that an agent of ours lacks, and keys that it has and nothing would read."""
    if not ruled(agent):
        return
    if lacking := [name for name in OF_AN_AGENT if name not in agent]:
        yield (
            f"this agent has no {', '.join(lacking)}; allowed: a file of conf/agent that begins with a "
            "recipe, '- /recipe@_here_: matched'"
        )
    for name in sorted(agent.keys() - OF_AN_AGENT):
        allowed = ", ".join(key for key in OF_AN_AGENT if key != "_target_")
        yield f"agent.{name} is no setting; allowed: {allowed}{nearest(name, OF_AN_AGENT)}"


def _ranges(config: Mapping[str, Any], reads: Callable[[str], str]) -> Iterator[str]:
    for part in PARTS:
        if part in config["agent"] and config["agent"][part] is None:
            yield f"agent.{part}=null is not allowed: no agent is without; allowed: leave it as it is"
    yield from _scales(config["study"].get("reference"))
    wrong: dict[str, str] = {}
    told, made = set(), made_by(config)
    for path, key, value in leaves(_known(config)):
        part = made.get(f"{path.removesuffix(key)}_target_", "").rpartition(".")[2]
        rule = RULES_OF.get(part, {}).get(key) or RULES.get(key)
        if path.startswith("study.reference."):
            continue
        # A critic may read the number of the policy: what is wrong with both is said once.
        if rule is None or (key, str(value)) in told:
            continue
        if not rule.holds(value):
            told.add((key, str(value)))
            hint = nearest(str(value), rule.choices)
            typed = "null" if value is None else value
            wrong[path] = f"{path}={typed} is not allowed; allowed: {rule.allowed}{hint}"
        elif rule.whole and _above(value):
            told.add((key, str(value)))
            wrong[path] = f"{path}={value} is not allowed; allowed: at most {MOST:,}"
    for path, problem in wrong.items():
        read = reads(path) if len(wrong) > 1 else ""
        if not any(f"{{{source}}}" in read for source in wrong):
            yield problem


def _known(node: Mapping[str, Any], ours: bool = True) -> dict[str, Any]:
    """The tree without the values of parts of the user's own, whose names are theirs."""
    ours = ruled(node, ours)
    return {
        key: _known(value, ours) if isinstance(value, Mapping) else value
        for key, value in node.items()
        if ours or isinstance(value, Mapping)
    }


def _scales(reference: Any) -> Iterator[str]:
    """Problems of `study.reference`, whose keys are names of environments and have no rules."""
    allowed = "[random, optimal], two finite numbers, the second above the first"
    if reference is not None and not isinstance(reference, Mapping):
        yield f"study.reference={reference} is not allowed; allowed: {{env: {allowed}}}, or null"
        return
    for env, pair in (reference or {}).items():
        numbers = isinstance(pair, list) and len(pair) == 2 and all(map(_number, pair))
        if not numbers or not pair[0] < pair[1]:
            yield f"study.reference.{env}={pair} is not allowed; allowed: {allowed}"


def _ties(config: Mapping[str, Any]) -> Iterator[str]:
    name = str(config["study"]["name"])
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", name):
        yield (
            f"study.name={name[:80]} is not allowed; allowed: up to 80 letters, digits and ._- that "
            "begin with a letter or digit"
        )
    if config["first_seed"] + config["seeds"] > 2**32:
        yield f"first_seed={config['first_seed']} is not allowed; allowed: seeds below {2**32}"
    elif config["study"].get("tuning"):
        if config["first_seed"] < TUNING_SEEDS:
            yield (
                f"first_seed={config['first_seed']} is not allowed for tuning; allowed: {TUNING_SEEDS} or "
                "more, which no report uses"
            )
    elif config["first_seed"] + config["seeds"] > TUNING_SEEDS:
        yield (
            f"first_seed={config['first_seed']} is not allowed; allowed: seeds below {TUNING_SEEDS}, since "
            "those from there on choose settings (`vfcompare tune`) and must not judge them"
        )
    agent = config["agent"]
    prior = agent.get("prior")
    if prior is not None and prior["critic"] not in ("body", "fresh"):
        yield (
            f"agent.prior.critic={prior['critic']} is not allowed; allowed: body or fresh"
            f"{nearest(str(prior['critic']), ('body', 'fresh'))}"
        )
    collector, estimator = agent.get("collector"), agent.get("estimator")
    if not isinstance(collector, Mapping) or not isinstance(estimator, Mapping):
        return
    yield from refused(agent)
    yield from _rows(agent)
    if function(collector) == "fragments":
        yield from _fragments(agent, collector, estimator, config["env_steps"])
    else:
        yield from _episodes(agent, collector, estimator)


def _needy(agent: Mapping[str, Any], estimator: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an agent that may need whole episodes or groups, by name."""
    return {
        "estimator": estimator,
        "surrogate": agent.get("surrogate"),
        "collector": agent["collector"],
    }


def _needs(parts: Mapping[str, Any], need: str) -> Iterator[tuple[str, str, str]]:
    """`(part, function, reason)` of every function within some parts that has a need of `NEEDED_BY`."""
    for path, made in made_by({name: part for name, part in parts.items() if part}).items():
        target = made.removeprefix("vfcompare.")
        if target in NEEDED_BY[need]:
            yield path.split(".")[-2], target.rpartition(".")[2], NEEDED_BY[need][target]


def _rows(agent: Mapping[str, Any]) -> Iterator[str]:
    for need, (does, allowed) in ROWS_OF.items():
        for part, name, _ in _needs({"surrogate": agent.get("surrogate")}, need):
            if agent["rows_of"] not in allowed:
                yield (
                    f"agent.rows_of={agent['rows_of']} is not allowed: the {part} {name} {does}; "
                    f"allowed: {allowed[0]}"
                )
                # Who compares episodes looks at whole ones, too: one line is enough.
                return


def _fragments(
    agent: Mapping[str, Any],
    collector: Mapping[str, Any],
    estimator: Mapping[str, Any],
    budget: int,
) -> Iterator[str]:
    if collector["length"] is None:
        yield "agent.collector.length=null is not allowed; allowed: a whole number, 1 or more"
        return
    batch = collector["number"] * collector["length"]
    yield from _divisible(agent)
    if batch > budget:
        yield (
            f"env_steps={budget} is less than one update of {batch} steps "
            f"(agent.collector.number x length); allowed: {batch} or more"
        )
    if function(critic_of(estimator).get("scaling")) == "running_range":
        yield (
            "agent.estimator.critic.scaling=running_range is not allowed with fragments, which end before "
            "all is paid: larger values could not be said; allowed: collector@agent.collector=episodes"
        )
    for part, name, reason in _needs(_needy(agent, estimator), "whole episodes"):
        yield (
            f"agent.collector=fragments is not allowed: the {part} {name} needs whole episodes ({reason}); "
            "allowed: collector@agent.collector=episodes"
        )


def _episodes(
    agent: Mapping[str, Any], collector: Mapping[str, Any], estimator: Mapping[str, Any]
) -> Iterator[str]:
    yield from _divisible(agent)
    if collector["group"] >= 2:
        return
    for part, name, reason in _needs(_needy(agent, estimator), "groups"):
        yield (
            f"agent.collector.group={collector['group']} is not allowed: the {part} {name} needs a group "
            f"({reason}); allowed: 2 or more"
        )


def _divisible(agent: Mapping[str, Any]) -> Iterator[str]:
    rows, cut = rows_to_divide(agent), agent["batching"]["minibatches"]
    if rows is None or agent["batching"].get("size") is not None:
        return
    unit, path, batch = rows
    if batch % cut:
        valid = [n for n in range(1, batch + 1) if batch % n == 0]
        closest = min(valid, key=lambda n: abs(n - cut))
        yield (
            f"agent.batching.minibatches={cut} does not divide a batch of {batch} {unit} ({path}); "
            f"allowed: {', '.join(map(str, valid[:12]))}; did you mean {closest}?"
        )
