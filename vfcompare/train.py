"""Train an agent on many seeds at once: sharded over devices, cut into chunks between which the host looks.

Seeds are sharded over the local devices and, on each, trained one after another or a few side by side inside
one compiled program. Whole episodes are fastest one after another, where every seed takes just the steps that
its own episodes need; fragments, which all cost the same, gain a third from a few side by side.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh, PartitionSpec

from vfcompare.streams import stream
from vfcompare.types import Array, Key, Learner, Metrics, Rollout

CHUNK_SECONDS = 5.0
"""How long the host may go without a look: for progress, divergence, checkpoints and signals."""

ROWS = 256
"""Most updates of one chunk."""

LANES = 5
"""Most seeds side by side: with more, what they work on leaves the fast caches."""

LOSSES = ("policy_loss", "critic_loss", "policy_grad_norm", "critic_grad_norm")
"""Metrics that must stay finite."""


class Run(struct.PyTreeNode):
    """One seed in training; in a sharded batch every leaf has a leading axis of seeds.

    Attributes:
      learner: the learner's state.
      updates: how many it has made.
      env_steps: how many environment steps they took, simulated ones included.
      episodes: how many episodes ended.
      finite: whether all losses so far were finite; training stops where they are not.
    """

    learner: Any
    updates: Array
    env_steps: Array
    episodes: Array
    finite: Array


class Chunk(NamedTuple):
    """What a chunk of training did; arrays have a leading axis of seeds.

    Attributes:
      rows: how many updates each seed made.
      metrics: `[seeds, ROWS]` each; the first `rows` count.
      seconds: wall-clock.
    """

    rows: np.ndarray
    metrics: dict[str, np.ndarray]
    seconds: float


def root_key(seed: Array) -> Key:
    """The key that all streams of a seed come from."""
    return jax.random.key(seed)


def over_seeds(f: Callable[..., Any], devices: int, lanes: int) -> Callable[..., Any]:
    """Map `f` over a leading axis of seeds, sharded over devices, `lanes` at a time on each.

    The number of seeds must be a multiple of the number of devices.
    """

    def mapped(*args: Any) -> Any:
        if lanes == 1:
            return jax.lax.map(lambda xs: f(*xs), args)
        return jax.lax.map(lambda xs: f(*xs), args, batch_size=lanes)

    mesh = Mesh(np.array(jax.local_devices()[:devices]), ("seed",))
    spec = PartitionSpec("seed")
    return jax.jit(jax.shard_map(mapped, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))


def side_by_side(share: int) -> int:
    """The largest divisor of a device's share of the seeds that is not above `LANES`."""
    return max(lanes for lanes in range(1, LANES + 1) if share % lanes == 0)


def init(learner: Learner, seed: Array) -> Run:
    """A seed before its first update."""
    zero = jnp.int32(0)
    state = learner.init(stream(root_key(seed), "init"))
    return Run(state, zero, zero, zero, jnp.bool_(True))


def update_key(seed: Array, update: Array) -> Key:
    """The key of one update: it depends on the seed and the count alone, so that a resumed run repeats."""
    return jax.random.fold_in(stream(root_key(seed), "update"), update)


def advance(
    learner: Learner, budget: int, seed: Array, run: Run, target: Array, limit: Array
) -> tuple[Run, Array, Metrics]:
    """Update until `target` environment steps are reached, at most `limit` times.

    Returns:
      The run, the number of updates, and their metrics, `[ROWS]` each.
    """

    # Jitted by itself so that it is traced once, although its shapes are asked for first.
    @jax.jit
    def update(run: Run) -> tuple[Run, Metrics]:
        progress = run.env_steps / budget
        state, metrics = learner.update(run.learner, update_key(seed, run.updates), progress)
        finite = jnp.stack([jnp.isfinite(metrics[name]) for name in LOSSES if name in metrics])
        run = Run(
            learner=state,
            updates=run.updates + 1,
            env_steps=run.env_steps + metrics["env_steps"].astype(jnp.int32),
            episodes=run.episodes + metrics["episodes"].astype(jnp.int32),
            finite=finite.all(),
        )
        return run, metrics | {"env_steps": run.env_steps, "episodes": run.episodes}

    # One array of each type: what a small update costs is the number of arrays it touches.
    shapes = jax.eval_shape(update, run)[1]
    types = dict.fromkeys(x.dtype for x in shapes.values())
    columns = {t: [name for name, x in shapes.items() if x.dtype == t] for t in types}

    def body(loop: tuple[Run, Array, list[Array]]) -> tuple[Run, Array, list[Array]]:
        run, row, tables = loop
        run, metrics = update(run)
        rows = [jnp.stack([metrics[name] for name in names]) for names in columns.values()]
        tables = [table.at[row].set(new) for table, new in zip(tables, rows, strict=True)]
        return run, row + 1, tables

    def going(loop: tuple[Run, Array, list[Array]]) -> Array:
        run, row, _ = loop
        return (row < limit) & (run.env_steps < target) & run.finite

    empty = [jnp.zeros((ROWS, len(names)), t) for t, names in columns.items()]
    run, row, tables = jax.lax.while_loop(going, body, (run, jnp.int32(0), empty))
    found = {
        name: table[:, column]
        for table, names in zip(tables, columns.values(), strict=True)
        for column, name in enumerate(names)
    }
    return run, row, found


class Trainer:
    """The compiled programs of one cell, and where its seeds stand.

    Attributes:
      seeds: the seeds, without padding.
      run: their state.
      compile_seconds: spent tracing and compiling so far.
      devices: how many the seeds are sharded over.
      lanes: how many seeds each of them trains side by side.
    """

    def __init__(
        self,
        learner: Learner,
        seeds: list[int],
        budget: int,
        lanes: int | None = None,
        most: int = ROWS,
    ) -> None:
        """Initialise all seeds.

        Args:
          learner: the agent.
          seeds: distinct numbers, one training each.
          budget: environment steps of each seed.
          lanes: seeds that a device trains side by side; by default a few where updates are dense.
          most: updates of one chunk, at most `ROWS`.
        """
        self.learner, self.seeds, self.budget = learner, seeds, budget
        self.devices = min(jax.local_device_count(), len(seeds))
        padding = -len(seeds) % self.devices
        share = (len(seeds) + padding) // self.devices
        self.lanes = lanes or (side_by_side(share) if learner.dense else 1)
        # The last seed fills up the shards; what it does there is thrown away.
        self._seeds = jnp.array(seeds + seeds[-1:] * padding, jnp.uint32)
        self.compile_seconds = 0.0
        self._limit, self._most = 1, most
        self._programs: dict[str, Any] = {}
        # One seed at a time, whatever `lanes` says: see `agents.networks.dense`.
        self._init = over_seeds(partial(init, learner), self.devices, 1)
        self._advance = over_seeds(partial(advance, learner, budget), self.devices, self.lanes)
        self._evaluate = over_seeds(self._evaluate_one, self.devices, self.lanes)
        self._examine = over_seeds(self._examine_one, self.devices, 1)
        self.run: Run = self._call("init", self._init, self._seeds)

    def _evaluate_one(self, seed: Array, params: Any, point: Array) -> Metrics:
        key = jax.random.fold_in(stream(root_key(seed), "evaluation"), point)
        return self.learner.evaluate(params, key)

    def _examine_one(self, seed: Array, state: Any, point: Array) -> Metrics:
        assert self.learner.examine is not None
        key = jax.random.fold_in(stream(root_key(seed), "lab"), point)
        return self.learner.examine(state, key)

    def _call(self, name: str, function: Any, *args: Any) -> Any:
        """Run a program, compiling it the first time, with compile time kept apart."""
        if name not in self._programs:
            begin = time.perf_counter()
            self._programs[name] = function.lower(*args).compile()
            self.compile_seconds += time.perf_counter() - begin
        return self._programs[name](*args)

    def _each(self, number: int) -> Array:
        return jnp.full(len(self._seeds), number, jnp.int32)

    def place(self, run: Run) -> Run:
        """A run that was read from disk, put where the present one is."""
        return jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), run, self.run)

    def starts(self) -> Iterator[tuple[int, Any, Rollout]]:
        """For each seed: itself, its learner's state, and what its next update will collect."""
        rollout = jax.jit(
            lambda seed, update, params, state: self.learner.rollout(
                params, state, update_key(seed, update)
            )
        )
        run = jax.device_get(self.run)
        for index, seed in enumerate(self.seeds):
            one = jax.tree.map(lambda x: x[index], run)  # noqa: B023
            policy = one.learner.params["policy"]
            args = (np.uint32(seed), one.updates, policy, one.learner.collector)
            yield seed, one.learner, jax.device_get(self._call("rollout", rollout, *args))

    def evaluate(self, point: int) -> dict[str, np.ndarray]:
        """Evaluate, and examine, every seed's present policy; `point` names the random stream."""
        policy = self.run.learner.params["policy"]
        metrics = self._call("evaluate", self._evaluate, self._seeds, policy, self._each(point))
        if self.learner.examine is not None:
            args = (self._seeds, self.run.learner, self._each(point))
            metrics |= self._call("examine", self._examine, *args)
        return {name: np.asarray(x)[: len(self.seeds)] for name, x in metrics.items()}

    def maps(self, point: int) -> dict[str, np.ndarray]:
        """The maps of the first seed's present networks; nothing where there is nothing to draw."""
        finite = bool(self.standing("finite")[0])
        if self.learner.maps is None or not finite:
            return {}
        seed, state = jax.device_get(
            (self._seeds[0], jax.tree.map(lambda x: x[0], self.run.learner))
        )
        key = jax.random.fold_in(stream(root_key(seed), "lab"), point)
        found = self._call("maps", jax.jit(self.learner.maps), state, key)
        return {name: np.asarray(x) for name, x in found.items()}

    def chunks(self, target: int) -> Iterator[Chunk]:
        """Train every seed up to `target` environment steps, a bounded time at once."""
        while bool(np.any(self._unfinished(target))):
            args = (self._seeds, self.run, self._each(target), self._each(self._limit))
            if "advance" not in self._programs:
                self._call("advance", self._advance, *args[:3], self._each(0))
            begin = time.perf_counter()
            # A host that waits in `block_until_ready` hears signals; one that copies does not.
            result = jax.block_until_ready(self._call("advance", self._advance, *args))
            seconds = time.perf_counter() - begin
            self.run, rows, table = result
            kept = slice(0, len(self.seeds))
            yield Chunk(
                np.asarray(rows)[kept], {n: np.asarray(x)[kept] for n, x in table.items()}, seconds
            )
            per_update = seconds / max(1, int(np.asarray(rows).max()))
            self._limit = int(np.clip(CHUNK_SECONDS / max(per_update, 1e-6), 1, self._most))

    def standing(self, name: str) -> np.ndarray:
        """One of `updates`, `env_steps`, `episodes` or `finite` of each seed."""
        return np.asarray(getattr(self.run, name))[: len(self.seeds)]

    def _unfinished(self, target: int) -> np.ndarray:
        return np.asarray(self.run.finite) & (np.asarray(self.run.env_steps) < target)
