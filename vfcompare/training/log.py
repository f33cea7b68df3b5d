"""What a cell leaves while it is trained: tables, checkpoints, certificate, and their TensorBoard view."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from vfcompare.errors import InputError
from vfcompare.runs import certificate, pictures, store
from vfcompare.runs.artifacts import describe
from vfcompare.runs.tables import Growing
from vfcompare.training import circumstances, judges, priors, starts
from vfcompare.training.cell import Member
from vfcompare.tree import leaves

if TYPE_CHECKING:
    from vfcompare.training.train import Chunk, Run, Trainer


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain numbers and words of the agent and the environment, by path."""
    chosen = {name: config[name] for name in ("agent", "env")}
    return {
        path: value
        for path, key, value in leaves(chosen)
        if not key.startswith("_") and isinstance(value, str | int | float)
    }


class Log:
    """The tables of a cell in the making, and their TensorBoard view.

    Whatever writes raises `ClaimLost` where the run is another process's by now; nothing is written then.

    Attributes:
      member: what is trained.
      env: it is trained in.
      rows: which of the trainer's seeds are the cell's.
      exact: whether it goes on under the circumstances of its checkpoint.
    """

    def __init__(
        self, member: Member, env: Any, trainer: "Trainer", rows: slice, traced: Sequence[str]
    ) -> None:
        """Begin with empty tables; nothing is written before `open`."""
        self.member, self.env, self.rows, self._traced = member, env, rows, list(traced)
        self._before: dict[str, float] = {}
        self._cell, self._folder, self._checkpoint = member
        self._seeds = np.array(self._cell.seeds)
        self._trainer = trainer
        self._metrics = Growing("seed", "update")
        self._evaluation = Growing("seed", "point")
        self.exact = True

    def open(self) -> None:
        """Begin the view."""
        from vfcompare.runs.events import View

        self._folder.claim.must_hold()
        cell = self._cell
        settings = {"agent": cell.agent, "env": cell.env, **hyperparameters(cell.config)}
        self._view = View(self._folder.path / "tb", cell.id, settings, cell.seeds)

    @cached_property
    def circumstances(self) -> dict[str, Any]:
        """What must be the same for training to go on bit by bit."""
        return circumstances.present(
            self._trainer.held(self.rows), self._trainer.lanes, self._traced
        )

    def flops(self) -> float | None:
        """Of all seeds together, since the beginning."""
        work = self._trainer.work
        if work is None or not self._metrics:
            return None
        table = self._metrics.whole()
        sums = {name: float(x.sum(dtype=np.float64)) for name, x in table.items()}
        steps, episodes = (float(self.counter(name).sum()) for name in ("env_steps", "episodes"))
        episodes += sums.get("simulated_episodes", 0.0)
        return float(work.total(steps, episodes, sums["collected_steps"]))

    def compare(self) -> None:
        """Refuse to go on under other circumstances than those of the checkpoint, if there is one.

        Raises:
          InputError: see `vfcompare.training.circumstances.compare`.
        """
        found = self._checkpoint
        if found is not None and found.circumstances:
            held = self._trainer.held(self.rows)
            self.exact = circumstances.compare(self._cell, found, self.circumstances, held)

    def reached(self) -> "Run":
        """The runs of the checkpoint, from memory alone."""
        from flax import serialization

        assert self._checkpoint is not None
        return serialization.from_bytes(self._trainer.held(self.rows), self._checkpoint.state)

    def restore(self) -> None:
        """Take the tables up to the checkpoint, from which the trainer goes on already."""
        assert self._checkpoint is not None
        self._folder.claim.must_hold()
        point = self._checkpoint.point
        self._before = self._checkpoint.seconds
        path = self._folder.path
        tables = {
            name: store.read_table(path / f"{name}.parquet") for name in ("metrics", "evaluation")
        }
        # Tables are written before the checkpoint, so they may hold rows of a later point.
        updates = dict(zip(self._seeds, self.counter("updates"), strict=True))
        reached_by = np.array([updates[seed] for seed in tables["metrics"]["seed"]])
        kept = {
            "metrics": tables["metrics"]["update"] < reached_by,
            "evaluation": tables["evaluation"]["point"] <= point,
        }
        expected = {
            "metrics": sum(map(int, updates.values())),
            "evaluation": len(updates) * (1 + point),
        }
        for name, keep in kept.items():
            if keep.sum() != expected[name]:
                raise InputError(
                    f"{path}/{name}.parquet has {keep.sum()} rows up to the checkpoint, which "
                    f"{expected[name]} led to; remove the folder to begin it anew"
                )
        metrics, evaluation = (
            {name: column[keep] for name, column in tables[which].items()}
            for which, keep in kept.items()
        )
        self._metrics.add(metrics)
        self._evaluation.add(evaluation)
        seen = _pairs(evaluation["seed"], evaluation["update"] - 1)
        shown = np.isin(_pairs(metrics["seed"], metrics["update"]), seen)
        self._view.add("train", {name: column[shown] for name, column in metrics.items()})
        self._view.add("evaluation", evaluation)

    def counter(self, name: str) -> np.ndarray:
        """See `vfcompare.training.train.Trainer.counter`."""
        return self._trainer.counter(name)[self.rows]

    @property
    def taken(self) -> int:
        """Environment steps of all seeds together."""
        return int(self.counter("env_steps").sum())

    @property
    def final(self) -> float:
        """Mean of `return_sampled` at the last evaluation, diverged seeds left out; NaN if all are."""
        table = self._evaluation.whole()
        last = table["return_sampled"][table["point"] == table["point"].max()]
        good = last[np.isfinite(last)]
        return float(good.mean()) if good.size else math.nan

    @property
    def place(self) -> str:
        """Where it is written."""
        return str(self._folder.path)

    def chunk(self, chunk: "Chunk") -> None:
        """Take in what a chunk did."""
        rows, last = chunk.rows[self.rows], self.counter("updates")
        if not rows.any():
            return
        seeds = np.repeat(self._seeds, rows)
        update = np.concatenate([np.arange(n - r, n) for n, r in zip(last, rows, strict=True)])
        columns = {name: column[self.rows] for name, column in chunk.metrics.items()}
        take = lambda x: np.concatenate([x[i, :r] for i, r in enumerate(rows)])  # noqa: E731
        table = {name: take(column) for name, column in columns.items()}
        self._metrics.add({"seed": seeds, "update": update.astype(np.int64), **table})

    def evaluation(self, point: int, metrics: store.Table) -> None:
        """Add an evaluation, and to the view also the updates that it came after."""
        number = len(self._seeds)
        run = {
            name: self.counter(name).astype(np.int64)
            for name in ("updates", "env_steps", "episodes")
        }
        table = {
            "seed": self._seeds,
            "point": np.full(number, point),
            "update": run["updates"],
            "env_steps": run["env_steps"],
            "episodes": run["episodes"],
            **metrics,
        }
        # A diverged policy still acts; what it scores is not a result.
        finite = self.counter("finite")
        for name in table:
            if name.startswith(("return_", "pass_at_")):
                table[name] = np.where(finite, table[name], np.nan)
        self._evaluation.add(table)
        self._view.add("evaluation", table)
        if point == 0:
            self.write()
        else:
            self._view.add("train", self._metrics.latest(self._seeds))

    def maps(self, point: int) -> None:
        """Write what can be drawn of the last evaluation, `oracle.npz`, where the lab is switched on."""
        self._folder.claim.must_hold()
        arrays = self._trainer.maps(point, self.rows.start)
        if arrays:
            store.write_arrays(self._folder.path / "oracle.npz", arrays)

    def paths(self) -> None:
        """Write `paths.npz`: what the median and the worst run do in the end."""
        self._folder.claim.must_hold()
        table = self._evaluation.whole()
        last = table["point"] == table["point"].max()
        content: dict[str, np.ndarray] = {}
        for name, index in pictures.ranked(table["return_sampled"][last]).items():
            rollout = self._trainer.rollout(self.rows.start + index)
            drawn = pictures.draw(self.env, rollout)
            if drawn:
                seed, step = int(self._seeds[index]), int(table["env_steps"][last][index])
                self._view.picture(seed, step, f"picture/{name} run", drawn["frames"])
                drawn["seed"] = self._seeds[index]
            content |= {f"{name}_{key}": value for key, value in drawn.items()}
        if content:
            store.write_arrays(self._folder.path / "paths.npz", content)

    def write(self) -> None:
        """Write both tables whole, and what the view has of them."""
        self._folder.claim.must_hold()
        if self._metrics:
            store.write_table(self._folder.path / "metrics.parquet", self._metrics.whole())
        store.write_table(self._folder.path / "evaluation.parquet", self._evaluation.whole())
        self._view.flush()

    def seconds(self, spent: Mapping[str, float]) -> dict[str, float]:
        """The cell's share of what the trainer has spent, and what led to where that went on from."""
        share = len(self._seeds) / len(self._trainer.seeds)
        return {
            name: round(self._before.get(name, 0.0) + share * x, 3) for name, x in spent.items()
        }

    def save(self, point: int, spent: Mapping[str, float]) -> None:
        """Keep where training stands, after the tables that lead there.

        Args:
          point: the last evaluation that was made.
          spent: seconds of all cells since this process began.
        """
        from flax import serialization

        self.write()
        state = serialization.to_bytes(self._trainer.held(self.rows))
        self._folder.save_checkpoint(point, state, self.circumstances, self.seconds(spent))
        self._folder.update(point=point, env_steps=self.taken)

    def certificate(self, known: dict[tuple[float, ...], dict[str, str]]) -> None:
        """Hash the starting point of every seed, and write down the protocol.

        Args:
          known: see `vfcompare.training.starts.hashes`.
        """
        import jax

        self._folder.claim.must_hold()
        cell, trainer = self._cell, self._trainer
        work = trainer.work
        parameters = {
            name: sum(leaf.size for leaf in jax.tree.leaves(params))
            for name, params in trainer.state(self.rows.start).params.items()
        }
        written = certificate.make(
            config=cell.identity,
            agent=cell.agent,
            env=cell.env,
            seeds=starts.hashes(trainer, cell.seeds, self.rows.start, known),
            parameters=parameters,
            facts={
                "privilege": "exact values" if trainer.learner.privileged else "none",
                "prior": describe(priors.asked(cell.config)),
                "judge": describe(judges.asked(cell.config)),
                certificate.FLOPS: "unknown" if work is None else work.told(),
                "lanes": trainer.lanes,
                "devices": f"{trainer.devices} {jax.local_devices()[0].device_kind}",
                **store.versions(),
            },
        )
        store.write_json(self._folder.path / "certificate.json", written)

    def finish(self, spent: Mapping[str, float], device: Mapping[str, Any]) -> str:
        """Write down how each seed ended; returns `completed` or `diverged`."""
        self._folder.claim.must_hold()
        finite, updates = self.counter("finite"), self.counter("updates")
        status: dict[int, dict[str, Any]] = {
            seed: {"status": "completed"} if good else {"status": "diverged", "update": int(update)}
            for seed, good, update in zip(self._cell.seeds, finite, updates, strict=True)
        }
        ends = {seed: str(words["status"]) for seed, words in status.items()}
        self._view.close(ends, self._evaluation.whole())
        self._folder.update(
            status="completed",
            ended=store.now(),
            seeds={str(seed): words for seed, words in status.items()},
            seconds=self.seconds(spent),
            env_steps=self.taken,
            flops=self.flops(),
            device=dict(device),
        )
        return "completed" if finite.all() else "diverged"


def _pairs(seeds: np.ndarray, updates: np.ndarray) -> np.ndarray:
    """One number for each pair."""
    return seeds.astype(np.int64) << 40 | updates.astype(np.int64)
