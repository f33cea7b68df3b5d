"""What is compiled of a cell, as functions of its learner and one seed."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vfcompare.masked import choose
from vfcompare.streams import root_key, stream
from vfcompare.training.sharding import count_side_by_side
from vfcompare.types import Array, Key, Learner, LearnerState, Metrics, Rollout

ROWS = 256
"""Most updates of one chunk."""


class SeedState(struct.PyTreeNode):
    """One seed in training; in a sharded batch every leaf has a leading axis of seeds.

    Attributes:
      learner: the learner's state.
      updates: how many it has made.
      env_steps: how many environment steps they took, simulated ones included.
      episodes: how many episodes ended.
      finite: whether all losses so far were finite; training stops where they are not.
    """

    learner: LearnerState
    updates: Array
    env_steps: Array
    episodes: Array
    finite: Array


def update_key(seed: Array, update: Array) -> Key:
    """The key of one update: it depends on the seed and the count alone, so that a resumed run repeats."""
    return jax.random.fold_in(stream(root_key(seed), "update"), update)


def lab_key(seed: Array, point: Array) -> Key:
    """The key of what is measured against the truth at an evaluation point."""
    return jax.random.fold_in(stream(root_key(seed), "lab"), point)


def init(learner: Learner, seed: Array) -> SeedState:
    """A seed before its first update."""
    zero = jnp.int32(0)
    state = learner.init(stream(root_key(seed), "init"))
    return SeedState(state, zero, zero, zero, jnp.bool_(True))


def rollout(learner: Learner, seed: Array, run: SeedState) -> Rollout:
    """What the present policy would collect in the next update, also where an older one does."""
    params, collector = run.learner.params["policy"], run.learner.collector
    return learner.rollout(params, collector, update_key(seed, run.updates))


def evaluate(learner: Learner, seed: Array, params: Any, point: Array) -> Metrics:
    """Evaluate a policy on the stream of an evaluation point."""
    return learner.evaluate(params, jax.random.fold_in(stream(root_key(seed), "evaluation"), point))


def examine(learner: Learner, seed: Array, run: SeedState, point: Array, *, budget: int) -> Metrics:
    """Hold a learner's estimates against the truth."""
    assert learner.examine is not None
    return learner.examine(run.learner, lab_key(seed, point), run.env_steps / budget)


def maps(learner: Learner, seed: Array, run: SeedState, point: Array) -> Any:
    """What can be drawn of a learner's networks."""
    assert learner.maps is not None
    return learner.maps(run.learner, lab_key(seed, point))


def train(
    learner: Learner,
    seed: Array,
    run: SeedState,
    target: Array,
    limit: Array,
    *,
    budget: int,
    lanes: int,
) -> tuple[SeedState, Array, Metrics]:
    """Update until `target` environment steps are reached, at most `limit` times.

    Seeds side by side go on together, until the first of those that had something to do is at its end or has
    diverged: a loop in which each had an end of its own would copy the states of all in every update.

    Returns:
      The run, the number of updates, and their metrics, `[ROWS]` each.
    """

    # Jitted by itself so that it is traced once, although its shapes are asked for first.
    @jax.jit
    def update(run: SeedState) -> tuple[SeedState, Metrics]:
        progress = run.env_steps / budget
        made = learner.update(run.learner, update_key(seed, run.updates), progress)
        run = SeedState(
            learner=made.state,
            updates=run.updates + 1,
            env_steps=run.env_steps + made.env_steps.astype(jnp.int32),
            episodes=run.episodes + made.episodes.astype(jnp.int32),
            finite=made.finite,
        )
        return run, made.metrics | {"env_steps": run.env_steps, "episodes": run.episodes}

    # One array of each type: what a small update costs is the number of arrays it touches.
    shapes = jax.eval_shape(update, run)[1]
    types = dict.fromkeys(x.dtype for x in shapes.values())
    columns = {t: [name for name, x in shapes.items() if x.dtype == t] for t in types}

    def body(loop: tuple[SeedState, Array, list[Array]]) -> tuple[SeedState, Array, list[Array]]:
        run, row, tables = loop
        run, metrics = update(run)
        rows = [jnp.stack([metrics[name] for name in names]) for names in columns.values()]
        tables = [table.at[row].set(new) for table, new in zip(tables, rows, strict=True)]
        return run, row + 1, tables

    def unfinished(run: SeedState) -> Array:
        return (run.env_steps < target) & run.finite

    begun, before = unfinished(run), run
    number = count_side_by_side(begun, lanes)

    def going(loop: tuple[SeedState, Array, list[Array]]) -> Array:
        run, row, _ = loop
        going_on = begun & unfinished(run) & (row < limit)
        return (number > 0) & (count_side_by_side(going_on, lanes) == number)

    empty = [jnp.zeros((ROWS, len(names)), t) for t, names in columns.items()]
    run, row, tables = jax.lax.while_loop(going, body, (run, jnp.int32(0), empty))
    # The others were carried along, and what they did is undone.
    run, row = choose(begun, (run, row), (before, jnp.int32(0)))
    found = {
        name: table[:, column]
        for table, names in zip(tables, columns.values(), strict=True)
        for column, name in enumerate(names)
    }
    return run, row, found
