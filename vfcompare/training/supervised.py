"""What priors and reward models share: they are learned once, from examples, and kept for everybody."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from vfcompare.assemble import assemble
from vfcompare.errors import InputError
from vfcompare.runs import lock
from vfcompare.runs.artifacts import Artifact
from vfcompare.training import tasks


def learner(
    config: Mapping[str, Any], part: str, untold: Collection[str], env: Any = None, **numbers: Any
) -> Any:
    """The learner of a prior or a reward model, with the network and policy of the agent that uses it.

    Args:
      config: resolved and plain.
      part: `prior` or `judge`.
      untold: settings of the part that are not the learner's.
      env: the task, where it is at hand.
      numbers: settings that the learner has instead of those of the part.

    Raises:
      InputError: where it refuses its task or its settings.
    """
    agent = config["agent"]
    told = {key: value for key, value in agent[part].items() if key not in untold}
    told |= {"network": agent["network"], "policy": agent["policy"], **numbers}
    try:
        env = tasks.make(config["env"]) if env is None else env
        return assemble(told, f"agent.{part}", env=env)
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(str(error)) from error


def updated(learner: Any, key: Any, state: Any, begin: Any, end: Any) -> Any:
    """The learner's state after its updates `begin` to `end - 1`, each on a random stream of its own."""
    import jax

    from vfcompare.streams import stream

    def body(i: Any, state: Any) -> Any:
        return learner.update(state, jax.random.fold_in(stream(key, "update"), i))[0]

    return jax.lax.fori_loop(begin, end, body, state)


def ensure(made: Artifact, make: Callable[[], None]) -> None:
    """Make an artifact unless it is on disk; other processes that ask meanwhile wait.

    Args:
      made: where it is, or will be.
      make: writes it.
    """
    if made.facts.exists():
        return
    with lock.guard(made.folder):
        if not made.facts.exists():
            make()
