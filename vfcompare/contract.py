"""What parts promise, asked while they are traced: what does not fit would train, and mean something else."""

from collections.abc import Callable, Iterator
from dataclasses import fields
from numbers import Integral
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from gymnasium.experimental.functional import FuncEnv
from gymnasium.spaces import Box, Discrete

from vfcompare.schema.tree import finite
from vfcompare.types import Access, Env, Lesson, members
from vfcompare.valuation import Estimate, Estimator

WRITTEN = ("initial", "transition", "observation", "reward", "terminal")
"""Functions that each task writes for itself; those that it inherits from Gymnasium do nothing."""


def require_task(env: Any) -> None:
    """Refuse what is no task, or does not do what its spaces say.

    Traced without being run: `initial`, `transition`, `observation`, `reward` and `terminal`, once each.

    Raises:
      ValueError: with the field, what it is and what is allowed.
    """
    for asked in (_lacking, _spaces, _shapes):
        for wrong in asked(env):
            raise ValueError(wrong)


def require_reference(known: Any) -> None:
    """Refuse returns to compare with that are no scale: scores would be raw returns, and nothing says why.

    Args:
      known: see `vfcompare.envs.base.Reference`.

    Raises:
      ValueError: with the field, what it is and what is allowed.
    """
    numbers = known._asdict() if hasattr(known, "_asdict") else {}
    if numbers.keys() != {"random", "optimal", "threshold"}:
        raise ValueError(
            f"env.reference is a {type(known).__name__}; allowed: "
            "vfcompare.envs.base.Reference(random, optimal, threshold)"
        )
    for field, number in numbers.items():
        if number is not None and finite(number) is None:
            raise ValueError(
                f"env.reference.{field}={number!r} is not allowed; allowed: None, or a finite number"
            )
    random, optimal = numbers["random"], numbers["optimal"]
    if None not in (random, optimal) and not random < optimal:
        raise ValueError(
            f"env.reference: random={random:g} and optimal={optimal:g} are not allowed; allowed: the second "
            "above the first, or None where it is not known"
        )


def require_shape(part: str, what: str, made: Any, like: jax.Array) -> None:
    """Raise a ValueError where a part makes anything but one number for each step."""
    if getattr(made, "shape", None) != like.shape:
        raise ValueError(
            f"agent.{part}: {what} is {_formed(made)}; allowed: {like.shape}, a number for each step"
        )


def require_baseline(made: Any, like: jax.Array) -> None:
    """Raise a ValueError where a baseline is neither one number nor `[B, G, T]`, each axis whole or of one.

    JAX aligns shapes at their ends: `[B, G]` would be taken for groups and steps.
    """
    shape: Any = () if isinstance(made, int | float) else getattr(made, "shape", None)
    fits = shape is not None and len(shape) == like.ndim
    fits = fits and all(n in (1, whole) for n, whole in zip(shape, like.shape, strict=True))
    if shape != () and not fits:
        each = (*like.shape[:2], 1)
        raise ValueError(
            f"agent.estimator.advantage.baseline: it is {_formed(made)}; allowed: {each}, [prompts, group, "
            f"1], as of means with keepdims=True, {like.shape} with steps, or 1 for any axis"
        )


def require_critic(estimator: Estimator) -> None:
    """Raise a ValueError where an estimator learns anything by another name than `critic`."""
    if other := estimator.critics.keys() - {"critic"}:
        raise ValueError(
            f"agent.estimator: its critics are named {', '.join(sorted(other))}; allowed: one, critic; "
            "several are parts of one Critic, as vfcompare.agents.critics.halves has them"
        )


def require_lesson(estimator: Estimator, lesson: Lesson | None, like: jax.Array) -> None:
    """Raise a ValueError where a critic has no lesson, or one of anything but a number for each step."""
    if lesson is None:
        if estimator.critics:
            raise ValueError(
                "agent.estimator: it has a critic and no lesson; allowed: "
                "Estimate(..., lesson=Lesson(target, old, episode))"
            )
        return
    for field in fields(lesson):
        made = getattr(lesson, field.name)
        require_shape("estimator", f"Lesson.{field.name}", made, like)


def noting(access: Access, asked: set[str]) -> Access:
    """The same access, which notes the name of `simulate` or `exact_value` in `asked` where one is traced."""

    def noted(name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            asked.add(name)
            return answer(*args, **more)

        return call

    return access._replace(
        simulate=noted("simulate", access.simulate),
        exact_value=noted("exact_value", access.exact_value),
    )


def require_declared(estimator: Estimator, estimate: Estimate, asked: set[str]) -> None:
    """Refuse an estimator that takes more than it says: certificates and budgets go by what it says.

    Args:
      estimator: that was asked.
      estimate: what it said.
      asked: what it asked for, see `noting`.

    Raises:
      ValueError: for episodes that it simulates and does not charge, and exact values it does not own up to.
    """
    if "simulate" in asked and estimate.charge is None:
        raise ValueError(
            "agent.estimator: it simulates episodes that no budget pays for; allowed: "
            "Estimate(..., charge=vfcompare.estimators.charged(episodes))"
        )
    if "exact_value" in asked and not estimator.privileged:
        raise ValueError(
            "agent.estimator: it reads exact values and does not say so; allowed: privileged=True of the "
            "Estimator, or of the Lesion that reads them"
        )


def _formed(made: Any) -> str:
    """The shape of what a part made, or what else it is."""
    shape = getattr(made, "shape", None)
    return f"a {type(made).__name__}" if shape is None else f"of shape {shape}"


def _lacking(env: Any) -> Iterator[str]:
    if isinstance(env, dict | list):
        yield "env is no task: its file has no _target_; allowed: _target_: module.Class"
        return
    lacking = [name for name in members(Env) if _lacks(env, name)]
    if lacking:
        yield (
            f"env: {type(env).__name__} has no {', '.join(lacking)}; allowed: a subclass of "
            "vfcompare.envs.base.Task that has them"
        )
    elif isinstance(env.horizon, bool) or not isinstance(env.horizon, Integral) or env.horizon < 1:
        yield f"env.horizon={env.horizon} is not allowed; allowed: a whole number, 1 or more"


def _lacks(env: Any, name: str) -> bool:
    """Whether a member of a task is missing, or is a function that Gymnasium leaves to it."""
    if not hasattr(env, name):
        return True
    found = getattr(env, name)
    return name in WRITTEN and getattr(found, "__func__", found) is getattr(FuncEnv, name)


def _spaces(env: Any) -> Iterator[str]:
    """Observations that no network reads, and actions that no policy takes.

    Actions that the chosen policy alone does not take it refuses itself.
    """
    seen, done = env.observation_space, env.action_space
    if not isinstance(seen, Box):
        yield (
            f"env.observation_space={seen} is not allowed; allowed: a Box of float32, such as a one-hot "
            "vector in place of a number"
        )
    elif env.layout is None and not np.issubdtype(seen.dtype, np.floating):
        yield (
            f"env.observation_space has the type {seen.dtype}; allowed: float32, such as pixels / 255 in "
            "a Box from 0 to 1"
        )
    if isinstance(done, Discrete) and done.start != 0:
        yield f"env.action_space={done} is not allowed; allowed: Discrete({done.n}), which begins with 0"
    if isinstance(done, Box) and len(done.shape) != 1:
        yield f"env.action_space={done} is not allowed; allowed: a Box of shape (n,)"


def _shapes(env: Any) -> Iterator[str]:
    space: Any = env.action_space
    if not isinstance(space, Discrete | Box):
        return
    action = jnp.int32(0) if isinstance(space, Discrete) else jnp.zeros(space.shape)

    def step(key: Any) -> dict[str, Any]:
        state = env.initial(key)
        after = env.transition(state, action, key)
        return {
            "state": state,
            "after": after,
            "observation": env.observation(state, key),
            "reward": env.reward(state, action, after, key),
            "terminal": env.terminal(after, key),
            "legal": env.state_info(state).get("action_mask"),
        }

    said = jax.eval_shape(step, jax.random.key(0))
    yield from _observation(env.observation_space, said["observation"])
    yield from _state(said["state"], said["after"])
    for name in ("reward", "terminal"):
        if getattr(said[name], "shape", None) != ():
            yield f"env: {name} is {_told(said[name])}; allowed: one number, of shape ()"
    if said["legal"] is not None and said["legal"].shape != (getattr(space, "n", None),):
        yield f"env: action_mask is {_told(said['legal'])}; allowed: one truth value for each of {space}"


def _observation(space: Any, seen: Any) -> Iterator[str]:
    kind = jax.dtypes.canonicalize_dtype(space.dtype)
    if getattr(seen, "shape", None) != space.shape or seen.dtype != kind:
        yield f"env: observation is {_told(seen)}; allowed: {kind}{[*space.shape]}, as observation_space"


def _state(before: Any, after: Any) -> Iterator[str]:
    old, form = jax.tree_util.tree_flatten_with_path(before)
    new, other = jax.tree_util.tree_flatten_with_path(after)
    if str(form) != str(other):
        yield f"env: transition makes a state of the form {other}; allowed: {form}, as initial"
        return
    for (path, was), (_, now) in zip(old, new, strict=True):
        if (was.shape, was.dtype) != (now.shape, now.dtype):
            name = f"state{jax.tree_util.keystr(path)}"
            yield f"env: transition makes {name} {_told(now)}; allowed: {_told(was)}, as initial"


def _told(value: Any) -> str:
    """Type and shape of an array as `float32[3]`, or the kind of anything else."""
    if hasattr(value, "shape"):
        return f"{value.dtype}{[*value.shape]}"
    return f"a {type(value).__name__}"
