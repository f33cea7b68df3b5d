"""One cell from its configuration to its files: an agent on an environment, with all its seeds."""

import io
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

from vfcompare import certificate, store
from vfcompare.errors import InputError
from vfcompare.validate import leaves

PRIVATE = ("root", "study", "hydra")
"""Keys that say where a run is kept and not what it is."""


class Cell(NamedTuple):
    """What is to be run.

    Attributes:
      agent: name of its preset.
      env: name of its preset.
      settings: overrides beyond the two, `key: value` as typed.
      config: resolved and plain.
    """

    agent: str
    env: str
    settings: dict[str, str]
    config: dict[str, Any]

    @property
    def identity(self) -> dict[str, Any]:
        """The part of the configuration that determines the result."""
        return {key: value for key, value in self.config.items() if key not in PRIVATE}

    @property
    def id(self) -> str:
        """Name of the run's folder."""
        return store.cell_id(self.agent, self.env, self.settings, self.identity)

    @property
    def seeds(self) -> list[int]:
        """The seeds to train."""
        first = self.config["first_seed"]
        return list(range(first, first + self.config["seeds"]))

    @property
    def study(self) -> Path:
        """Folder of the study."""
        return Path(self.config["root"]) / store.slug(str(self.config["study"]["name"]))

    def planned(self) -> dict[str, Any]:
        """What `plan.json` says of this cell."""
        return {
            "id": self.id,
            "agent": self.agent,
            "env": self.env,
            "settings": self.settings,
            "seeds": self.seeds,
        }


def prepare_devices() -> None:
    """Give JAX one single-threaded device per core, unless the user chose otherwise.

    XLA's own threads gain nothing on small networks and collapse when the machine is shared; devices do
    neither. This must happen before JAX starts. Programs that matched agents have in common, and reruns,
    are compiled once.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if "host_platform_device_count" not in flags:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        flags += f" --xla_force_host_platform_device_count={cores}"
        flags += " --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = flags.strip()
    import jax

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vfcompare" / "jax"
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def build(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Instantiate the environment and the learner of a configuration.

    Returns:
      `(env, learner)`.

    Raises:
      InputError: where a part refuses its parameters.
    """
    import jax
    import jax.numpy as jnp
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        env = instantiate(config["env"])
        learner = instantiate(config["agent"], env=env)
        # Traced, not run: what parts refuse of each other shows before anything is written.
        key = jax.random.key(0)
        state = jax.eval_shape(learner.init, key)
        jax.eval_shape(learner.update, state, key, jnp.float32(0.0))
    except InstantiationException as error:
        raise InputError(str(error.__cause__ or error)) from error
    except ValueError as error:
        raise InputError(str(error)) from error
    return env, learner


def execute(cell: Cell, command: str) -> str:
    """Train a cell unless it is done, and leave all its files.

    Returns:
      `completed`, `skipped` (it was done before) or `diverged` (some seed did).
    """
    folder = store.RunFolder(cell.study / cell.id)
    if folder.completed:
        print(f"{cell.id}: done before, kept as it is")
        return "skipped"
    prepare_devices()
    env, learner = build(cell.config)
    watch = store.Stopwatch()
    folder.begin(
        id=cell.id,
        study=cell.config["study"]["name"],
        agent=cell.agent,
        env=cell.env,
        settings=cell.settings,
        command=command,
        config_hash=store.digest(cell.identity),
        versions=store.versions(),
        git=store.git_state(),
        reference=env.reference._asdict(),
        budget={"env_steps": cell.config["env_steps"]},
        seeds={str(seed): {"status": "running"} for seed in cell.seeds},
    )
    store.write_bytes(
        folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(cell.config)).encode()
    )
    try:
        return _train(cell, learner, folder, watch)
    except KeyboardInterrupt:
        folder.update(status="interrupted", ended=store.now())
        raise
    except Exception as error:
        folder.update(
            status="crashed", ended=store.now(), message=f"{type(error).__name__}: {error}"
        )
        (folder.path / "traceback.txt").write_text(traceback.format_exc())
        raise


def _train(cell: Cell, learner: Any, folder: store.RunFolder, watch: store.Stopwatch) -> str:
    import jax

    from vfcompare.progress import Progress
    from vfcompare.train import Trainer

    config = cell.config
    trainer = Trainer(learner, cell.seeds, config["env_steps"], config["lanes"])
    log = Log(cell, folder)
    point = log.restore(trainer)
    if point is None:
        write_certificate(cell, trainer, folder)
        log.evaluation(trainer, 0)
        point = 0
    progress = Progress(cell.id, len(cell.seeds) * config["env_steps"], sys.stderr)
    seconds = 0.0
    for index in range(point + 1, config["evaluations"] + 1):
        target = -(-config["env_steps"] * index // config["evaluations"])
        for chunk in trainer.chunks(target):
            log.chunk(trainer, chunk)
            seconds += chunk.seconds
            steps = np.minimum(trainer.standing("env_steps"), config["env_steps"])
            progress.show(int(steps.sum()), seconds)
        log.evaluation(trainer, index)
        log.save(trainer, index)
    log.maps(trainer, config["evaluations"])
    finite = trainer.standing("finite")
    updates = trainer.standing("updates")
    status: dict[int, dict[str, Any]] = {
        seed: {"status": "completed"} if good else {"status": "diverged", "update": int(update)}
        for seed, good, update in zip(cell.seeds, finite, updates, strict=True)
    }
    log.close({seed: str(words["status"]) for seed, words in status.items()})
    total = int(trainer.standing("env_steps").sum())
    folder.update(
        status="completed",
        ended=store.now(),
        seeds={str(seed): words for seed, words in status.items()},
        seconds={
            "compile": round(trainer.compile_seconds, 3),
            "train": round(seconds, 3),
            "total": round(watch(), 3),
        },
        env_steps=total,
        device=device(jax, trainer.devices),
    )
    lost = sum(not good for good in finite)
    progress.done(total, seconds, trainer.compile_seconds, lost)
    return "diverged" if lost else "completed"


def device(jax: Any, number: int) -> dict[str, Any]:
    """What the run was computed on."""
    first = jax.local_devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "used": number}


def hyperparameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The plain numbers and words of the agent and the environment, by path."""
    chosen = {name: config[name] for name in ("agent", "env")}
    return {
        path: value
        for path, key, value in leaves(chosen)
        if not key.startswith("_") and isinstance(value, str | int | float)
    }


class Log:
    """The tables of a run in the making, and their TensorBoard view."""

    def __init__(self, cell: Cell, folder: store.RunFolder) -> None:
        """Begin with empty tables."""
        from vfcompare.events import View

        self._seeds = np.array(cell.seeds)
        self._folder = folder
        self._metrics: list[store.Table] = []
        self._evaluation: list[store.Table] = []
        settings = {"agent": cell.agent, "env": cell.env, **hyperparameters(cell.config)}
        self._view = View(folder.path / "tb", cell.id, settings, cell.seeds)

    def restore(self, trainer: Any) -> int | None:
        """Continue after the last checkpoint; returns its evaluation point, None if there is none."""
        from flax import serialization

        found = self._folder.load_checkpoint()
        if found is None:
            return None
        point, data = found
        path = self._folder.path
        metrics = store.read_table(path / "metrics.parquet")
        evaluation = store.read_table(path / "evaluation.parquet")
        # Tables are written before the checkpoint, so they may hold rows of a later point.
        reached = serialization.from_bytes(trainer.run, data)
        updates = dict(zip(self._seeds, np.asarray(reached.updates), strict=False))
        keep = metrics["update"] < np.array([updates[seed] for seed in metrics["seed"]])
        trainer.run = trainer.place(reached)
        self._metrics = [{name: column[keep] for name, column in metrics.items()}]
        keep = evaluation["point"] <= point
        self._evaluation = [{name: column[keep] for name, column in evaluation.items()}]
        self._view.add("evaluation", self._evaluation[0])
        return point

    def chunk(self, trainer: Any, chunk: Any) -> None:
        """Take in what a chunk did."""
        rows = chunk.rows
        seeds = np.repeat(self._seeds, rows)
        last = trainer.standing("updates")
        update = np.concatenate([np.arange(n - r, n) for n, r in zip(last, rows, strict=True)])
        take = lambda x: np.concatenate([x[i, :r] for i, r in enumerate(rows)])  # noqa: E731
        table = {name: take(column) for name, column in chunk.metrics.items()}
        self._metrics.append({"seed": seeds, "update": update.astype(np.int64), **table})

    def evaluation(self, trainer: Any, point: int) -> None:
        """Evaluate, and write both tables."""
        number = len(self._seeds)
        run = {
            name: trainer.standing(name).astype(np.int64)
            for name in ("updates", "env_steps", "episodes")
        }
        table = {
            "seed": self._seeds,
            "point": np.full(number, point),
            "update": run["updates"],
            "env_steps": run["env_steps"],
            "episodes": run["episodes"],
            **trainer.evaluate(point),
        }
        # A diverged policy still acts; what it scores is not a result.
        finite = trainer.standing("finite")
        for name in ("return_sampled", "return_greedy"):
            table[name] = np.where(finite, table[name], np.nan)
        self._evaluation.append(table)
        self._view.add("evaluation", {k: v for k, v in table.items() if k != "point"})
        self.write()

    def maps(self, trainer: Any, point: int) -> None:
        """Write what can be drawn of the last evaluation, `oracle.npz`, where the lab is switched on."""
        arrays = trainer.maps(point)
        if arrays:
            content = io.BytesIO()
            np.savez_compressed(content, **arrays)
            store.write_bytes(self._folder.path / "oracle.npz", content.getvalue())

    def write(self) -> None:
        """Write both tables whole."""
        if self._metrics:
            self._metrics = [store.order(store.concatenate(self._metrics), "seed", "update")]
            store.write_table(self._folder.path / "metrics.parquet", self._metrics[0])
            self._view.add("train", self._last_rows(self._metrics[0]))
        self._evaluation = [store.order(store.concatenate(self._evaluation), "seed", "point")]
        store.write_table(self._folder.path / "evaluation.parquet", self._evaluation[0])

    def _last_rows(self, table: store.Table) -> store.Table:
        last = [np.flatnonzero(table["seed"] == seed)[-1:] for seed in self._seeds]
        rows = np.concatenate(last)
        return {name: column[rows] for name, column in table.items()}

    def save(self, trainer: Any, point: int) -> None:
        """Keep where training stands, after the tables that lead there."""
        from flax import serialization

        self._folder.save_checkpoint(point, serialization.to_bytes(trainer.run))
        self._folder.update(point=point)

    def close(self, status: Mapping[int, str]) -> None:
        """Finish the view."""
        self._view.close(status)


def write_certificate(cell: Cell, trainer: Any, folder: store.RunFolder) -> None:
    """Hash the starting point of every seed, and write down the protocol."""
    import jax

    seeds = {}
    for seed, state, rollout in trainer.starts():
        content = {name: getattr(rollout, name) for name in ("obs", "action", "reward", "mask")}
        seeds[seed] = {
            "policy": hash_tree(state.params["policy"]),
            "environment": hash_tree(jax.tree.map(lambda x: x[:, :, 0], rollout.state)),
            "rollout": hash_tree(content),
        }
    store.write_json(
        folder.path / "certificate.json",
        certificate.make(
            config=cell.identity,
            agent=cell.agent,
            env=cell.env,
            seeds=seeds,
            parameters={
                name: sum(leaf.size for leaf in jax.tree.leaves(params))
                for name, params in state.params.items()
            },
            facts={
                "privilege": "exact values" if trainer.learner.privileged else "none",
                "lanes": trainer.lanes,
                "devices": f"{trainer.devices} {jax.local_devices()[0].device_kind}",
                **store.versions(),
            },
        ),
    )


def hash_tree(tree: Any) -> str:
    """SHA-256 of the arrays of a tree, with their paths."""
    import jax

    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return certificate.hash_arrays((jax.tree_util.keystr(k), np.asarray(v)) for k, v in paths)
