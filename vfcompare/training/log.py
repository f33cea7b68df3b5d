"""The tables of a cell in the making, and their TensorBoard view."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vfcompare.errors import Damaged, InputError
from vfcompare.runs import store
from vfcompare.runs.tables import Growing, columns, misfit
from vfcompare.schema.tree import leaves
from vfcompare.training.share import Share

if TYPE_CHECKING:
    from vfcompare.training.trainer import Chunk

COUNTED = {"seed", "point", "update", "env_steps", "episodes"}
"""Columns of every table, whatever is measured."""


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain numbers and words of the agent and the environment, by path."""
    chosen = {name: config[name] for name in ("agent", "env")}
    return {
        path: value
        for path, key, value in leaves(chosen)
        if not key.startswith("_") and isinstance(value, str | int | float)
    }


def must_fit(share: Share) -> None:
    """Refuse to go on from a checkpoint where tables would have other columns from there on.

    Args:
      share: of a cell, with what its trainer is going to measure.

    Raises:
      InputError: that names them.
      ClaimLost: where the run is another process's by now.
    """
    cell, folder, checkpoint = share.member
    if checkpoint is None:
        return
    folder.claim.must_hold()
    for name, measured in share.trainer.columns.items():
        file = folder.path / f"{name}.parquet"
        if other := misfit({*columns(file)} - COUNTED, measured - COUNTED):
            raise InputError(
                f"{cell.id}: its {file.name} was made by other code and does not fit: {other}; allowed: the "
                "version that began it (run.json says which), or to train it anew, without its folder"
            )


class Log:
    """What the seeds of a cell did so far.

    Whatever writes raises `ClaimLost` where the run is another process's by now; nothing is written then.

    Attributes:
      share: the cell, and where its seeds stand.
      metrics: a row for each update of each seed.
      evaluation: a row for each evaluation of each seed.
      view: TensorBoard's, of both.
    """

    def __init__(self, share: Share) -> None:
        """Begin tables and view, with the rows that led to the checkpoint, if there is one.

        Args:
          share: the cell, with its trainer restored from its checkpoint.

        Raises:
          Damaged: where the tables on disk are not what led there.
        """
        from vfcompare.runs.events import View

        self.share = share
        cell, self._folder, checkpoint = share.member
        self._folder.claim.must_hold()
        self._seeds = np.array(cell.seeds)
        settings = {"agent": cell.agent, "env": cell.env, **hyperparameters(cell.config)}
        self.view = View(self._folder.path / "tb", cell.id, settings, cell.seeds)
        self.metrics = Growing("seed", "update")
        self.evaluation = Growing("seed", "point")
        if checkpoint is not None:
            self._restore(checkpoint.point)

    def _restore(self, point: int) -> None:
        """Take the tables up to an evaluation."""
        path = self._folder.path
        tables = {
            name: store.read_table(path / f"{name}.parquet") for name in ("metrics", "evaluation")
        }
        # Tables are written before the checkpoint, so they may hold rows of a later point.
        updates = dict(zip(self._seeds, self.share.counter("updates"), strict=True))
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
                raise Damaged(
                    f"{path}/{name}.parquet has {keep.sum()} rows up to the checkpoint, which "
                    f"{expected[name]} led to; remove the folder to begin it anew"
                )
        metrics, evaluation = (
            {name: column[keep] for name, column in tables[which].items()}
            for which, keep in kept.items()
        )
        self.metrics.add(metrics)
        self.evaluation.add(evaluation)
        seen = _pairs(evaluation["seed"], evaluation["update"] - 1)
        shown = np.isin(_pairs(metrics["seed"], metrics["update"]), seen)
        self.view.add("train", {name: column[shown] for name, column in metrics.items()})
        self.view.add("evaluation", evaluation)

    def trained(self, chunk: "Chunk") -> None:
        """Add the updates of a chunk to the metrics."""
        rows, last = chunk.rows[self.share.rows], self.share.counter("updates")
        if not rows.any():
            return
        seeds = np.repeat(self._seeds, rows)
        update = np.concatenate([np.arange(n - r, n) for n, r in zip(last, rows, strict=True)])
        columns = {name: column[self.share.rows] for name, column in chunk.metrics.items()}
        take = lambda x: np.concatenate([x[i, :r] for i, r in enumerate(rows)])  # noqa: E731
        table = {name: take(column) for name, column in columns.items()}
        self.metrics.add({"seed": seeds, "update": update.astype(np.int64), **table})

    def evaluated(self, point: int, metrics: store.Table) -> None:
        """Add an evaluation, and to the view also the updates that it came after."""
        run = {
            name: self.share.counter(name).astype(np.int64)
            for name in ("updates", "env_steps", "episodes")
        }
        table = {
            "seed": self._seeds,
            "point": np.full(len(self._seeds), point),
            "update": run["updates"],
            "env_steps": run["env_steps"],
            "episodes": run["episodes"],
            **metrics,
        }
        # A diverged policy still acts; what it scores is not a result.
        finite = self.share.counter("finite")
        for name in table:
            if name.startswith(("return_", "pass_at_")):
                table[name] = np.where(finite, table[name], np.nan)
        self.evaluation.add(table)
        self.view.add("evaluation", table)
        if point == 0:
            self.write()
        else:
            self.view.add("train", self.metrics.latest(self._seeds))

    @property
    def final(self) -> float:
        """Mean of `return_sampled` at the last evaluation, diverged seeds left out; NaN if all are."""
        table = self.evaluation.whole()
        last = table["return_sampled"][table["point"] == table["point"].max()]
        good = last[np.isfinite(last)]
        return float(good.mean()) if good.size else math.nan

    @property
    def diverged(self) -> dict[int, int]:
        """Seeds of which an evaluation returned what is not finite, as reports judge, and after which update.

        Those whose losses were not finite are among them, see `evaluated`.
        """
        table = self.evaluation.whole()
        bad = ~np.isfinite(table["return_sampled"])
        lost = np.unique(table["seed"][bad])
        return {int(s): int(table["update"][bad & (table["seed"] == s)].min()) for s in lost}

    def write(self) -> None:
        """Write both tables whole, and what the view has of them."""
        self._folder.claim.must_hold()
        if self.metrics:
            store.write_table(self._folder.path / "metrics.parquet", self.metrics.whole())
        store.write_table(self._folder.path / "evaluation.parquet", self.evaluation.whole())
        self.view.flush()


def _pairs(seeds: np.ndarray, updates: np.ndarray) -> np.ndarray:
    """One number for each pair."""
    return seeds.astype(np.int64) << 40 | updates.astype(np.int64)
