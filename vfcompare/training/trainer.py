"""Train an agent on many seeds at once: sharded over devices, cut into chunks between which the host looks.

Seeds are sharded over the local devices and, on each, trained one after another or a few side by side inside
one compiled program. Whole episodes are fastest one after another, where every seed takes just the steps that
its own episodes need; fragments, which all cost the same, gain a third from a few side by side.
"""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.extend.core import Var
from jax.sharding import Mesh, PartitionSpec

from vfcompare.streams import stream
from vfcompare.training.stopping import COMPILER
from vfcompare.types import Array, Key, Learner, LearnerState, Metrics, Rollout, Work

CHUNK_SECONDS = 5.0
"""How long the host may go without a look: for progress, divergence, checkpoints and signals."""

ROWS = 256
"""Most updates of one chunk."""

MOST_LANES = 5
"""Most seeds side by side on a device: with more, what they work on leaves the fast caches."""

BITLESS = ("xla_force_host_platform_device_count", "xla_cpu_multi_thread_eigen", "xla_dump_")
"""How flags of XLA begin on which no result depends."""

ONCE = ("init", "rollout", "maps")
"""Programs that run once, or once a seed."""


class Run(struct.PyTreeNode):
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


def effort(program: str) -> dict[str, Any]:
    """Compiler options of a program, each unless `XLA_FLAGS` has it.

    On CPUs the first level compiles in five sixths of the time of XLA's default and runs as fast; what runs
    once is not worth even that. XLA's default uses half the width of AVX-512; CPUs without ignore it.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {
        "xla_backend_optimization_level": 0 if program in ONCE else 1,
        "xla_cpu_prefer_vector_width": 512,
    }
    chosen = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if name not in chosen}


def compiler_options() -> str:
    """All that XLA is told of training, by us or in `XLA_FLAGS`, that may move the last bits of a result."""
    chosen = [flag.lstrip("-") for flag in os.environ.get("XLA_FLAGS", "").split()]
    ours = [f"{name}={value}" for name, value in effort("advance").items()]
    return " ".join(sorted(option for option in chosen + ours if not option.startswith(BITLESS)))


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
    """The largest divisor of a device's share of the seeds that is not above `MOST_LANES`."""
    return max(lanes for lanes in range(1, MOST_LANES + 1) if share % lanes == 0)


def lanes_for(learner: Learner, seeds: int) -> int:
    """How many seeds a device trains side by side where a cell has so many, alone or among others."""
    devices = min(jax.local_device_count(), seeds)
    return side_by_side(-(-seeds // devices)) if learner.even_cost else 1


def init(learner: Learner, budget: int, seed: Array) -> Run:
    """A seed before its first update."""
    del budget
    zero = jnp.int32(0)
    state = learner.init(stream(root_key(seed), "init"))
    return Run(state, zero, zero, zero, jnp.bool_(True))


def update_key(seed: Array, update: Array) -> Key:
    """The key of one update: it depends on the seed and the count alone, so that a resumed run repeats."""
    return jax.random.fold_in(stream(root_key(seed), "update"), update)


def lab_key(seed: Array, point: Array) -> Key:
    """The key of what is measured against the truth at an evaluation point."""
    return jax.random.fold_in(stream(root_key(seed), "lab"), point)


def evaluate(learner: Learner, budget: int, seed: Array, params: Any, point: Array) -> Metrics:
    """Evaluate a policy on the stream of an evaluation point."""
    del budget
    return learner.evaluate(params, jax.random.fold_in(stream(root_key(seed), "evaluation"), point))


def examine(learner: Learner, budget: int, seed: Array, run: Run, point: Array) -> Metrics:
    """Hold a learner's estimates against the truth."""
    assert learner.examine is not None
    return learner.examine(run.learner, lab_key(seed, point), run.env_steps / budget)


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
        made = learner.update(run.learner, update_key(seed, run.updates), progress)
        run = Run(
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


def depends(f: Callable[..., Any], *args: Any) -> list[bool]:
    """On which leaves of its arguments a function's result depends, by the operations that are traced.

    An operation's results count as depending on all that it is given.
    """
    traced = jax.make_jaxpr(f)(*args).jaxpr
    needed = {x for x in traced.outvars if isinstance(x, Var)}
    for operation in reversed(traced.eqns):
        if needed.intersection(operation.outvars):
            needed.update(x for x in operation.invars if isinstance(x, Var))
    return [x in needed for x in traced.invars]


Numbers = dict[str, Array]
"""Numbers in which seeds differ, by the path of each in the configuration."""


class Varied(NamedTuple):
    """Learners that differ in numbers alone, so that one program trains them all.

    Attributes:
      make: `(numbers) -> Learner`; the numbers may be traced.
      numbers: `[seeds]` each.
    """

    make: Callable[[Numbers], Learner]
    numbers: dict[str, np.ndarray]


class Trainer:
    """The compiled programs of one cell, or of several that differ in numbers, and where their seeds stand.

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
        varied: Varied | None = None,
    ) -> None:
        """Initialise all seeds.

        Args:
          learner: the agent; of several, any one of them.
          seeds: one training each.
          budget: environment steps of each seed.
          lanes: seeds that a device trains side by side; by default a few where all updates cost the same.
          most: updates of one chunk, at most `ROWS`.
          varied: what differs between the seeds beside their randomness, or None.
        """
        self.learner, self.seeds, self.budget = learner, seeds, budget
        self.devices = min(jax.local_device_count(), len(seeds))
        self.lanes = lanes or lanes_for(learner, len(seeds))
        # Whole rows of lanes: the bits of a seed depend on how many stand beside it.
        self._padding = -len(seeds) % (self.devices * self.lanes)
        # The last seed fills up the shards; what it does there is thrown away.
        self._seeds = jnp.array(self._pad(np.array(seeds, np.uint32)))
        self._numbers: Numbers = {}
        if varied is not None:
            self._numbers = {n: jnp.array(self._pad(x)) for n, x in varied.numbers.items()}
        self._make = varied.make if self._numbers and varied else lambda numbers: learner
        self.compile_seconds = 0.0
        self._limit, self._most = 1, most
        self._functions: dict[str, Any] = {
            "init": self._over_seeds(init, 1),
            "advance": self._over_seeds(advance, self.lanes),
            "evaluate": self._over_seeds(evaluate, self.lanes),
            "examine": self._over_seeds(examine, 1),
            "rollout": jax.jit(self._rollout),
            "maps": jax.jit(self._maps),
        }
        self._programs: dict[str, Any] = {}
        self.run: Run = self._call("init", self._seeds, self._numbers)

    def _over_seeds(self, f: Callable[..., Any], lanes: int) -> Callable[..., Any]:
        def one(seed: Array, numbers: Numbers, *args: Any) -> Any:
            return f(self._make(numbers), self.budget, seed, *args)

        return over_seeds(one, self.devices, lanes)

    def _pad(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.repeat(x[-1:], self._padding, 0)])

    def compile(self, *, start: bool) -> None:
        """Compile what training calls, side by side: one program keeps one core busy.

        Args:
          start: whether `starts` is called, too.
        """
        known, each = (self._seeds, self._numbers), self._each(0)
        calls: dict[str, tuple[Any, ...]] = {
            "advance": (*known, self.run, each, each),
            "evaluate": (*known, self.run.learner.params["policy"], each),
        }
        if self.learner.examine is not None:
            calls["examine"] = (*known, self.run, each)
        if start:
            calls["rollout"] = self._alone(0)
        begin = time.perf_counter()
        with ThreadPoolExecutor(thread_name_prefix=COMPILER) as pool:
            done = pool.map(self._compiled, calls, calls.values())
        self._programs |= dict(zip(calls, done, strict=True))
        self.compile_seconds += time.perf_counter() - begin

    def _compiled(self, name: str, args: tuple[Any, ...]) -> Any:
        return self._functions[name].lower(*args).compile(effort(name))

    def _call(self, name: str, *args: Any) -> Any:
        """Run a program, compiling it the first time, with compile time kept apart."""
        if name not in self._programs:
            begin = time.perf_counter()
            self._programs[name] = self._compiled(name, args)
            self.compile_seconds += time.perf_counter() - begin
        return self._programs[name](*args)

    def _each(self, number: int) -> Array:
        return jnp.full(len(self._seeds), number, jnp.int32)

    def restore(self, parts: list[Run]) -> None:
        """Go on from runs that were read from disk, in the order of the seeds and without padding."""
        whole = jax.tree.map(lambda *xs: self._pad(np.concatenate(xs)), *parts)
        self.run = jax.tree.map(lambda x, old: jax.device_put(x, old.sharding), whole, self.run)

    def held(self, rows: slice) -> Run:
        """The state of some seeds, on the host; arrays remember their copies, so that many may ask."""
        return jax.tree.map(lambda x: x[rows], jax.device_get(self.run))

    @cached_property
    def work(self) -> Work | None:
        """What the agent's networks compute, the same for every cell; None where it is not known."""
        return None if self.learner.work is None else self.learner.work()

    def beginning(self, index: int) -> tuple[float, ...]:
        """What determines where a seed starts and what it collects first: itself, and some of its numbers."""
        return (
            self.seeds[index],
            *(float(self._numbers[name][index]) for name in self._decisive),
        )

    @cached_property
    def _decisive(self) -> list[str]:
        """Numbers on which the first rollouts depend, for which most of what is swept is not yet used."""

        def first(numbers: Numbers, seed: Array) -> tuple[Run, Rollout]:
            run = init(self._make(numbers), self.budget, seed)
            return run, self._rollout(seed, numbers, run)

        numbers = {name: x[0] for name, x in self._numbers.items()}
        used = depends(first, numbers, self._seeds[0]) if numbers else []
        return [name for name, matters in zip(sorted(numbers), used, strict=False) if matters]

    def state(self, index: int) -> LearnerState:
        """The present state of one seed's learner, on the host."""
        return self._alone(index)[-1].learner

    def rollout(self, index: int) -> Rollout:
        """What the next update of one seed would collect, on the host."""
        return jax.device_get(self._call("rollout", *self._alone(index)))

    def _alone(self, index: int) -> tuple[np.uint32, Numbers, Run]:
        """One seed, the numbers of its cell, and where it stands."""
        run = jax.tree.map(lambda x: x[0], self.held(slice(index, index + 1)))
        numbers = {name: np.asarray(x)[index] for name, x in self._numbers.items()}
        return np.uint32(self.seeds[index]), numbers, run

    def _rollout(self, seed: Array, numbers: Numbers, run: Run) -> Rollout:
        params, collector = run.learner.params["policy"], run.learner.collector
        return self._make(numbers).rollout(params, collector, update_key(seed, run.updates))

    def evaluate(self, point: int) -> dict[str, np.ndarray]:
        """Evaluate, and examine, every seed's present policy; `point` names the random stream."""
        known, at = (self._seeds, self._numbers), self._each(point)
        policy = self.run.learner.params["policy"]
        metrics = self._call("evaluate", *known, policy, at)
        if self.learner.examine is not None:
            metrics |= self._call("examine", *known, self.run, at)
        return {name: np.asarray(x)[: len(self.seeds)] for name, x in metrics.items()}

    def maps(self, point: int, index: int = 0) -> dict[str, np.ndarray]:
        """The maps of one seed's present networks; nothing where there is nothing to draw."""
        if self.learner.maps is None or not bool(self.counter("finite")[index]):
            return {}
        found = self._call("maps", *self._alone(index), np.int32(point))
        return {name: np.asarray(x) for name, x in found.items()}

    def _maps(self, seed: Array, numbers: Numbers, run: Run, point: Array) -> Any:
        draw = self._make(numbers).maps
        assert draw is not None
        return draw(run.learner, lab_key(seed, point))

    def chunks(self, target: int) -> Iterator[Chunk]:
        """Train every seed up to `target` environment steps, a bounded time at once."""
        while bool(np.any(self._unfinished(target))):
            args = (self._seeds, self._numbers, self.run, self._each(target))
            if "advance" not in self._programs:
                self._call("advance", *args, self._each(0))
            begin = time.perf_counter()
            # A host that waits in `block_until_ready` hears signals; one that copies does not.
            result = jax.block_until_ready(self._call("advance", *args, self._each(self._limit)))
            seconds = time.perf_counter() - begin
            self.run, rows, table = result
            kept = slice(0, len(self.seeds))
            yield Chunk(
                np.asarray(rows)[kept], {n: np.asarray(x)[kept] for n, x in table.items()}, seconds
            )
            per_update = seconds / max(1, int(np.asarray(rows).max()))
            self._limit = int(np.clip(CHUNK_SECONDS / max(per_update, 1e-6), 1, self._most))

    def counter(self, name: str) -> np.ndarray:
        """One of `updates`, `env_steps`, `episodes` or `finite` of each seed."""
        return np.asarray(getattr(self.run, name))[: len(self.seeds)]

    def _unfinished(self, target: int) -> np.ndarray:
        return np.asarray(self.run.finite) & (np.asarray(self.run.env_steps) < target)
