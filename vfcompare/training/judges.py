"""Reward models, kept beside the priors whose answers they judge.

priors/<env>-<hash>/
  0.05-judge-<hash>.msgpack             a model that has learned from the answers of the rung 0.05
  0.05-judge-<hash>.json                what was measured of it, see vfcompare.runs.artifacts
"""

import sys
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np

from vfcompare.errors import InputError
from vfcompare.runs import naming, store
from vfcompare.runs.artifacts import Artifact, describe
from vfcompare.training import priors, supervised
from vfcompare.types import Judge

OURS = ("seed", "updates")
"""Settings of a judge that are read here, and not by its supervised learner."""


def artifact_of(config: Mapping[str, Any]) -> Artifact | None:
    """The reward model that pays in a cell, if any, whether or not it has been made.

    Args:
      config: resolved and plain.

    Raises:
      InputError: if there is no policy whose answers it could have learned from.
    """
    judge, rung = config["agent"].get("judge"), priors.rung_of(config)
    if judge is None:
        return None
    if rung is None:
        raise InputError(
            "agent.judge learns from the answers of a prior; allowed: with +prior@agent.prior=ladder, or null"
        )
    return Artifact(
        rung.folder, f"{rung.name}-judge-{naming.digest([store.SCHEMA, dict(judge)])[:10]}"
    )


def learner(config: Mapping[str, Any], env: Any = None) -> Any:
    """The learner of a cell's reward model, see `vfcompare.agents.judging.Judging`.

    Args:
      config: resolved and plain.
      env: the task, where it is at hand.

    Raises:
      InputError: where it refuses its task or its settings.
    """
    return supervised.learner(config, "judge", OURS, env)


def load_judge(config: Mapping[str, Any], env: Any, *, rehearsal: bool) -> Judge | None:
    """The reward model that pays in place of the verifier, if any, read from disk.

    Args:
      config: resolved and plain.
      env: the task.
      rehearsal: whether shapes are enough, so that it need not have been made; it pays nothing then.
    """
    made = artifact_of(config)
    if made is None:
        return None
    score = learner(config, env).score
    if rehearsal:
        return Judge(lambda tokens: np.float32(0.0) * tokens[0])
    params = made.load()
    return Judge(lambda tokens: score(params, tokens))


def ensure(configs: Iterable[Mapping[str, Any]]) -> list[Artifact]:
    """Make the reward models that cells ask for, unless they are there; their priors must be.

    Raises:
      InputError: where a task has no verifier.
    """
    found = {made: config for config in configs if (made := artifact_of(config)) is not None}
    for made, config in found.items():
        supervised.ensure(made, partial(make, config, made))
    return list(found)


def make(config: Mapping[str, Any], made: Artifact) -> None:
    """Learn from the prior's answers, measure on held-out prompts, and write it."""
    import jax

    from vfcompare.streams import root_key, stream

    judge, rung = config["agent"]["judge"], priors.rung_of(config)
    assert rung is not None
    judging = learner(config)
    key, prior = stream(root_key(judge["seed"]), "judge"), rung.load()

    def train(prior: Any) -> Any:
        state = judging.init(prior, stream(key, "init"))
        return judging.finish(supervised.updated(judging, key, state, 0, judge["updates"]))

    params = jax.device_get(jax.jit(train)(prior))
    measured = jax.jit(judging.measure)(params, prior, stream(key, "final"))
    facts = {name: round(float(x), 6) for name, x in measured.items()}
    if not facts["pairs"]:
        raise InputError(
            "agent.judge: no prompt had a right and a wrong answer; allowed: a larger agent.judge.prompts or "
            "agent.judge.attempts, or a higher agent.prior.rung"
        )
    made.write(params, {**facts, "rung": describe(rung), "recipe": dict(judge)})
    print(f"judge: {summary(made)}", file=sys.stderr, flush=True)


def summary(made: Artifact) -> str:
    """What was measured of a reward model, as a line of text."""
    facts = made.read()
    return (
        f"tells {facts['accuracy']:.1%} of held-out pairs apart, {facts['accuracy_seen']:.1%} of the "
        f"{facts['pairs']:,.0f} it has seen; kept in {made.params}"
    )
