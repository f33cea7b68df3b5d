"""Train an agent on many seeds at once, in compiled programs and in chunks between which the host looks."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vfcompare.training import programs
from vfcompare.training.compiler import effort
from vfcompare.training.programs import ROWS, SeedState
from vfcompare.training.sharding import lanes_for, over_seeds
from vfcompare.types import Array, Learner, LearnerState, Rollout, Work

CHUNK_SECONDS = 5.0
"""How long the host may go without a look: for progress, divergence, checkpoints and signals."""


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


Numbers = dict[str, Array]
"""Numbers in which seeds differ, by the path of each in the configuration."""


class Varied(NamedTuple):
    """Learners that differ in numbers alone, so that one program trains them all.

    Attributes:
      make: `(numbers) -> Learner`; numbers may be traced, and those that are not given are as configured.
      numbers: `[seeds]` each.
    """

    make: Callable[[Numbers], Learner]
    numbers: dict[str, np.ndarray]


class Trainer:
    """The compiled programs of one cell, or of several that differ in numbers, and where their seeds stand.

    Attributes:
      learner: the agent with its numbers as configured; what is read of it depends on none of them.
      seeds: the seeds, without padding.
      make: `(numbers) -> Learner`, of a seed.
      numbers: in which the seeds differ, with padding.
      run: their state.
      compile_seconds: spent tracing and compiling so far.
      devices: how many the seeds are sharded over.
      lanes: how many seeds each of them trains side by side.
    """

    def __init__(
        self, learner: Learner | Varied, seeds: list[int], budget: int, lanes: int | None = None
    ) -> None:
        """Initialise all seeds.

        Args:
          learner: the agent, the same for all seeds or varied between them.
          seeds: one training each.
          budget: environment steps of each seed.
          lanes: seeds that a device trains side by side; by default a few where all updates cost the same.
        """
        self.make, numbers = (
            learner if isinstance(learner, Varied) else Varied(lambda _: learner, {})
        )
        self.learner, self.seeds = self.make({}), seeds
        self.devices = min(jax.local_device_count(), len(seeds))
        self.lanes = lanes or lanes_for(self.learner, len(seeds))
        # Whole rows of lanes: the bits of a seed depend on how many stand beside it.
        self._padding = -len(seeds) % (self.devices * self.lanes)
        # The last seed fills up the shards; what it does there is thrown away.
        self._seeds = jnp.array(self._pad(np.array(seeds, np.uint32)))
        self.numbers: Numbers = {name: jnp.array(self._pad(x)) for name, x in numbers.items()}
        self.compile_seconds = 0.0
        self._limit = 1
        self._functions: dict[str, Any] = {
            "init": self._over_seeds(programs.init, 1),
            "train": self._over_seeds(
                partial(programs.train, budget=budget, lanes=self.lanes), self.lanes
            ),
            "evaluate": self._over_seeds(programs.evaluate, self.lanes),
            "examine": self._over_seeds(partial(programs.examine, budget=budget), 1),
            "rollout": jax.jit(self._of_one(programs.rollout)),
            "maps": jax.jit(self._of_one(programs.maps)),
        }
        self._programs: dict[str, Any] = {}
        self.run: SeedState = self._call("init", self._seeds, self.numbers)

    def _of_one(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """`f(learner, seed, ...)` as a function of the seed and of the numbers that make its learner."""

        def one(seed: Array, numbers: Numbers, *args: Any) -> Any:
            return f(self.make(numbers), seed, *args)

        return one

    def _over_seeds(self, f: Callable[..., Any], lanes: int) -> Callable[..., Any]:
        return over_seeds(self._of_one(f), self.devices, lanes)

    def _pad(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([x, np.repeat(x[-1:], self._padding, 0)])

    def compile(self, *, start: bool) -> None:
        """Compile the programs that training calls, the largest while Python traces the others.

        Args:
          start: whether `rollout` is called, too.
        """
        calls = self._calls()
        if start:
            calls["rollout"] = self._alone(0)
        begin = time.perf_counter()
        with ThreadPoolExecutor() as pool:
            # Python traces one program at a time, and XLA compiles without it.
            compiling = {
                name: pool.submit(self._functions[name].lower(*args).compile, effort())
                for name, args in calls.items()
            }
            _ = self.work
        self._programs |= {name: one.result() for name, one in compiling.items()}
        self.compile_seconds += time.perf_counter() - begin

    def _calls(self) -> dict[str, tuple[Any, ...]]:
        """What the programs are given that every training calls, by name."""
        known, each = (self._seeds, self.numbers), self._each(0)
        calls: dict[str, tuple[Any, ...]] = {
            "train": (*known, self.run, each, each),
            "evaluate": (*known, self.run.learner.params["policy"], each),
        }
        if self.learner.examine is not None:
            calls["examine"] = (*known, self.run, each)
        return calls

    @cached_property
    def columns(self) -> dict[str, set[str]]:
        """What updates and evaluations are going to measure, by table; `compile` need not trace it again."""
        begin = time.perf_counter()
        found = {
            name: jax.eval_shape(self._functions[name], *args)
            for name, args in self._calls().items()
        }
        self.compile_seconds += time.perf_counter() - begin
        evaluation = {*found["evaluate"], *found.get("examine", ())}
        return {"metrics": {*found["train"][-1]}, "evaluation": evaluation}

    def _call(self, name: str, *args: Any) -> Any:
        """Run a program, compiling it the first time, with compile time kept apart."""
        if name not in self._programs:
            begin = time.perf_counter()
            self._programs[name] = self._functions[name].lower(*args).compile(effort())
            self.compile_seconds += time.perf_counter() - begin
        return self._programs[name](*args)

    def _each(self, number: int) -> Array:
        return jnp.full(len(self._seeds), number, jnp.int32)

    def restore(self, parts: list[SeedState]) -> None:
        """Go on from runs that were read from disk, in the order of the seeds and without padding."""
        whole = jax.tree.map(lambda *xs: self._pad(np.concatenate(xs)), *parts)
        self.run = jax.tree.map(lambda x, old: jax.device_put(x, old.sharding), whole, self.run)

    def held(self, rows: slice) -> SeedState:
        """The state of some seeds, on the host; JAX copies an array once, however often it is asked for."""
        return jax.tree.map(lambda x: x[rows], jax.device_get(self.run))

    @cached_property
    def work(self) -> Work | None:
        """What the agent's networks compute, the same for every cell; None where it is not known."""
        return None if self.learner.work is None else self.learner.work()

    def state(self, index: int) -> LearnerState:
        """The present state of one seed's learner, on the host."""
        return self._alone(index)[-1].learner

    def rollout(self, index: int) -> Rollout:
        """What one seed's present policy would collect in its next update, on the host."""
        return jax.device_get(self._call("rollout", *self._alone(index)))

    def _alone(self, index: int) -> tuple[np.uint32, Numbers, SeedState]:
        """One seed, the numbers of its cell, and where it stands."""
        run = jax.tree.map(lambda x: x[0], self.held(slice(index, index + 1)))
        numbers = {name: np.asarray(x)[index] for name, x in self.numbers.items()}
        return np.uint32(self.seeds[index]), numbers, run

    def evaluate(self, point: int) -> dict[str, np.ndarray]:
        """Evaluate, and examine, every seed's present policy; `point` names the random stream."""
        known, at = (self._seeds, self.numbers), self._each(point)
        policy = self.run.learner.params["policy"]
        metrics = self._call("evaluate", *known, policy, at)
        if self.learner.examine is not None:
            metrics |= self._call("examine", *known, self.run, at)
        return {name: np.asarray(x)[: len(self.seeds)] for name, x in metrics.items()}

    def maps(self, index: int, point: int) -> dict[str, np.ndarray]:
        """The maps of one seed's present networks; nothing where there is nothing to draw."""
        if self.learner.maps is None or not bool(self.counter("finite")[index]):
            return {}
        found = self._call("maps", *self._alone(index), np.int32(point))
        return {name: np.asarray(x) for name, x in found.items()}

    def chunks(self, target: int) -> Iterator[Chunk]:
        """Train every seed up to `target` environment steps, a bounded time at once."""
        while bool(np.any(self._unfinished(target))):
            args = (self._seeds, self.numbers, self.run, self._each(target))
            if "train" not in self._programs:
                self._call("train", *args, self._each(0))
            begin = time.perf_counter()
            # A host that waits in `block_until_ready` hears signals; one that copies does not.
            result = jax.block_until_ready(self._call("train", *args, self._each(self._limit)))
            seconds = time.perf_counter() - begin
            self.run, rows, table = result
            kept = slice(0, len(self.seeds))
            yield Chunk(
                np.asarray(rows)[kept], {n: np.asarray(x)[kept] for n, x in table.items()}, seconds
            )
            per_update = seconds / max(1, int(np.asarray(rows).max()))
            self._limit = int(np.clip(CHUNK_SECONDS / max(per_update, 1e-6), 1, ROWS))

    def counter(self, name: str) -> np.ndarray:
        """One of `updates`, `env_steps`, `episodes` or `finite` of each seed."""
        return np.asarray(getattr(self.run, name))[: len(self.seeds)]

    def _unfinished(self, target: int) -> np.ndarray:
        return np.asarray(self.run.finite) & (np.asarray(self.run.env_steps) < target)
