"""One cell from its configuration to its files: an agent on an environment, with all its seeds."""

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

from vfcompare import certificate, judges, paths, priors, store
from vfcompare.assemble import assemble
from vfcompare.errors import InputError
from vfcompare.stopping import ASKED, Listener, Stopped
from vfcompare.validate import leaves

PRIVATE = ("root", "priors", "study", "hydra", "resume", "save_seconds")
"""Keys that say where a run is kept and not what it is."""

SOON = 10.0
"""Seconds between checkpoints, at least, where no evaluation has ended."""

LANES = "seeds side by side"
"""A circumstance of a checkpoint."""


class Cell(NamedTuple):
    """What is to be run.

    Attributes:
      agent: name of its preset.
      env: name of its preset.
      settings: overrides beyond the two, `key: value` as typed.
      config: resolved and plain.
      overrides: from which it was composed, as typed.
    """

    agent: str
    env: str
    settings: dict[str, str]
    config: dict[str, Any]
    overrides: tuple[str, ...] = ()

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

    @property
    def done(self) -> bool:
        """Whether it was trained to its end."""
        return store.RunFolder(self.study / self.id).completed

    def planned(self) -> dict[str, Any]:
        """What `plan.json` says of this cell."""
        return {
            "id": self.id,
            "agent": self.agent,
            "env": self.env,
            "settings": self.settings,
            "seeds": self.seeds,
            "env_steps": self.config["env_steps"],
            "overrides": list(self.overrides),
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
        # Not every cluster binds a task to the cores that it was given.
        cores = min(cores or 1, int(os.environ.get("SLURM_CPUS_PER_TASK") or cores or 1))
        flags += f" --xla_force_host_platform_device_count={cores}"
        flags += " --xla_cpu_multi_thread_eigen=false"
    os.environ["XLA_FLAGS"] = flags.strip()
    import jax

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vfcompare" / "jax"
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def build(
    config: Mapping[str, Any],
    numbers: Mapping[str, Any] | None = None,
    *,
    rehearsal: bool = False,
) -> tuple[Any, Any]:
    """Make the environment and the learner of a configuration.

    Args:
      config: resolved and plain.
      numbers: what stands in place of numbers of the configuration, by path, such as what JAX traces.
      rehearsal: whether only shapes matter, so that a prior need not have been made.

    Returns:
      `(env, learner)`.

    Raises:
      InputError: where a part refuses its parameters.
    """
    chosen = dict(config)
    for path, value in (numbers or {}).items():
        chosen = replaced(chosen, path.split("."), value)
    try:
        env = assemble(chosen["env"])
        prior = priors.given(chosen, rehearsal=rehearsal)
        judge = judges.given(chosen, env, rehearsal=rehearsal)
        agent = {k: part for k, part in chosen["agent"].items() if k not in ("prior", "judge")}
        return env, assemble(agent, env=env, prior=prior, judge=judge)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        raise InputError(str(error)) from error


def replaced(node: Mapping[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """The same tree with one leaf replaced."""
    key, rest = path[0], path[1:]
    return {**node, key: replaced(node[key], rest, value) if rest else value}


def rehearse(config: Mapping[str, Any]) -> None:
    """Trace one update without running it: what parts refuse of each other shows before anything is written.

    Raises:
      InputError: for what they refuse.
    """
    import jax
    import jax.numpy as jnp

    _, learner = build(config, rehearsal=True)
    key = jax.random.key(0)
    try:
        jax.eval_shape(learner.update, jax.eval_shape(learner.init, key), key, jnp.float32(0.0))
    except ValueError as error:
        raise InputError(str(error)) from error


def execute(cells: Sequence[Cell], command: str, traced: Sequence[str] = ()) -> dict[str, str]:
    """Train cells unless they are done, all in one program, and leave their files.

    Args:
      cells: that differ in `traced` alone.
      command: that asked for them.
      traced: paths of numbers.

    Returns:
      `completed`, `skipped` (it was done before) or `diverged` (some seed did), by the name of the cell.
    """
    folders = {cell.id: store.RunFolder(cell.study / cell.id) for cell in cells}
    outcomes = {cell.id: "skipped" for cell in cells}
    for cell in cells:
        if folders[cell.id].completed:
            print(f"{cell.id}: done before, kept as it is")
    open_cells = [cell for cell in cells if not folders[cell.id].completed]
    if open_cells:
        prepare_devices()
        priors.ensure(cell.config for cell in open_cells)
        judges.ensure(cell.config for cell in open_cells)
        with contextlib.ExitStack() as held, store.one_line_about_full_disks():
            mine = [cell for cell in open_cells if held.enter_context(folders[cell.id].claim())]
            for cell in open_cells:
                if cell not in mine:
                    print(f"{cell.id}: {folders[cell.id].owner} is training it, left alone")
            # Cells that were cut off at different points cannot go on together.
            found = {cell.id: folders[cell.id].load_checkpoint() for cell in mine}
            points = {
                name: None if one is None else (one.point, one.circumstances.get(LANES))
                for name, one in found.items()
            }
            for point in dict.fromkeys(points.values()):
                members = [cell for cell in mine if points[cell.id] == point]
                try:
                    outcomes |= _attempt(members, folders, found, command, traced)
                except store.ClaimLost as lost:
                    print(lost, file=sys.stderr)
    return outcomes


def _attempt(
    cells: list[Cell],
    folders: Mapping[str, store.RunFolder],
    checkpoints: Mapping[str, store.Checkpoint | None],
    command: str,
    traced: Sequence[str],
) -> dict[str, str]:
    """Begin, train, and write down how it ended."""
    import jax

    from vfcompare.train import Trainer, Varied, lanes_for

    config = cells[0].config
    _, learner = build(config)
    watch = store.Stopwatch()
    varied = None
    if traced:
        each = {p: [at(cell.config, p) for cell in cells for _ in cell.seeds] for p in traced}
        numbers = {path: np.array(values, np.float32) for path, values in each.items()}
        varied = Varied(lambda numbers: build(config, numbers)[1], numbers)
    seeds = [seed for cell in cells for seed in cell.seeds]
    # Not by how many cells there are: a cell has the same bits alone, among others, and after a kill.
    going_on = checkpoints[cells[0].id]
    begun = None if going_on is None else going_on.circumstances.get(LANES)
    lanes = config["lanes"] or begun or lanes_for(learner, len(cells[0].seeds))
    trainer = Trainer(learner, seeds, config["env_steps"], lanes, varied=varied)
    logs = _logs(cells, folders, trainer)
    for log in logs:
        log.compare(checkpoints[log.cell.id])
    for log in logs:
        cell = log.cell
        before = folders[cell.id].record.get("devices", trainer.devices)
        if going_on is not None and before != trainer.devices:
            print(
                f"{cell.id}: goes on over {trainer.devices} devices, before {before}; still {lanes} seeds "
                "side by side on each, so that no bit depends on it",
                file=sys.stderr,
            )
        folders[cell.id].begin(
            id=cell.id,
            study=cell.config["study"]["name"],
            agent=cell.agent,
            env=cell.env,
            settings=cell.settings,
            command=command,
            config_hash=store.digest(cell.identity),
            traced=list(traced),
            devices=trainer.devices,
            bit_exact=log.exact,
            damage=folders[cell.id].damage,
            versions=store.versions(),
            git=store.git_state(),
            reference=log.env.held_out().reference._asdict(),
            budget={"env_steps": cell.config["env_steps"]},
            seeds={str(seed): {"status": "running"} for seed in cell.seeds},
        )
        text = OmegaConf.to_yaml(OmegaConf.create(cell.config))
        store.write_bytes(folders[cell.id].path / "config.yaml", text.encode())
    try:
        outcomes = _train(logs, trainer, checkpoints, watch)
        # Programs of cells that are done would fill the memory of a long sweep; the disk has them.
        jax.clear_caches()
        return outcomes
    except store.ClaimLost:
        raise
    except KeyboardInterrupt as error:
        name = error.signal if isinstance(error, Stopped) else "SIGINT"
        for cell in cells:
            with contextlib.suppress(store.ClaimLost):
                folders[cell.id].update(status=ASKED[name], ended=store.now(), message=name)
        raise
    except Exception as error:
        message, trace = f"{type(error).__name__}: {error}", traceback.format_exc()
        # Where the disk is full this cannot be written either, and the error itself matters more.
        for cell in cells:
            folder = folders[cell.id]
            with contextlib.suppress(OSError, store.ClaimLost):
                folder.update(status="crashed", ended=store.now(), message=message)
                store.write_bytes(folder.path / "traceback.txt", trace.encode())
        raise


def at(config: Mapping[str, Any], path: str) -> Any:
    """A leaf of a configuration."""
    found: Any = config
    for key in path.split("."):
        found = found[key]
    return found


@lru_cache(maxsize=8)
def environment(config: str) -> Any:
    """Make an environment, described in JSON: cells share it, and what was computed of it."""
    return assemble(json.loads(config))


def _logs(cells: list[Cell], folders: Mapping[str, store.RunFolder], trainer: Any) -> "list[Log]":
    """One for each cell, with its share of the trainer's seeds."""
    logs: list[Log] = []
    begin = 0
    for cell in cells:
        rows = slice(begin, begin + len(cell.seeds))
        env = environment(json.dumps(cell.config["env"]))
        logs.append(Log(cell, folders[cell.id], env, trainer, rows))
        begin = rows.stop
    return logs


def _train(
    logs: "list[Log]",
    trainer: Any,
    checkpoints: Mapping[str, store.Checkpoint | None],
    watch: store.Stopwatch,
) -> dict[str, str]:
    import jax

    from vfcompare.progress import Progress

    first = logs[0].cell
    budget, evaluations = first.config["env_steps"], first.config["evaluations"]
    for log in logs:
        log.open()
    known = [checkpoints[log.cell.id] for log in logs]
    point = 0 if known[0] is None else known[0].point
    trainer.compile(start=known[0] is None)
    if known[0] is None:
        for log in logs:
            log.certificate()
        evaluate(trainer, logs, 0)
    else:
        pairs = zip(logs, known, strict=True)
        trainer.restore([log.restore(found) for log, found in pairs if found is not None])
    name = first.id if len(logs) == 1 else f"{len(logs)} cells like {first.id}"
    progress = Progress(name, len(trainer.seeds) * budget, sys.stderr)
    seconds, saved, most = 0.0, store.Stopwatch(), first.config["save_seconds"]
    with Listener() as listener:
        for index in range(point + 1, evaluations + 1):
            target = -(-budget * index // evaluations)
            for chunk in trainer.chunks(target):
                for log in logs:
                    log.chunk(chunk)
                seconds += chunk.seconds
                steps = np.minimum(trainer.standing("env_steps"), budget)
                progress.show(int(steps.sum()), seconds)
                if listener.heard or saved() > max(most, SOON):
                    save(logs, index - 1)
                    saved = store.Stopwatch()
                listener.check()
            evaluate(trainer, logs, index)
            if listener.heard or index == evaluations or saved() >= most:
                save(logs, index)
                saved = store.Stopwatch()
            listener.check()
    outcomes = {}
    for log in logs:
        log.maps(evaluations)
        log.paths()
        share = len(log.cell.seeds) / len(trainer.seeds)
        times = {
            "compile": round(trainer.compile_seconds * share, 3),
            "train": round(seconds * share, 3),
            "total": round(watch() * share, 3),
        }
        outcomes[log.cell.id] = log.finish(times, device(jax, trainer.devices))
    lost = int((~trainer.standing("finite")).sum())
    progress.done(int(trainer.standing("env_steps").sum()), seconds, trainer.compile_seconds, lost)
    return outcomes


def evaluate(trainer: Any, logs: "list[Log]", point: int) -> None:
    """Evaluate all seeds at once, and let each cell write its own."""
    metrics = trainer.evaluate(point)
    for log in logs:
        log.evaluation(point, {name: column[log.rows] for name, column in metrics.items()})


def save(logs: "list[Log]", point: int) -> None:
    """Save every cell; what another process has taken over is left to it, and is not in `logs` any more.

    Raises:
      ClaimLost: if none is left.
    """
    for log in list(logs):
        try:
            log.save(point)
        except store.ClaimLost as lost:
            logs.remove(log)
            if not logs:
                raise
            print(lost, file=sys.stderr)


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
    """The tables of a cell in the making, and their TensorBoard view.

    Attributes:
      cell: what is trained.
      env: it is trained in.
      rows: which of the trainer's seeds are the cell's.
      exact: whether it goes on under the circumstances of its checkpoint.
    """

    def __init__(
        self, cell: Cell, folder: store.RunFolder, env: Any, trainer: Any, rows: slice
    ) -> None:
        """Begin with empty tables; nothing is written before `open`."""
        self.cell, self.env, self.rows = cell, env, rows
        self._seeds = np.array(cell.seeds)
        self._folder, self._trainer = folder, trainer
        self._metrics: list[store.Table] = []
        self._evaluation: list[store.Table] = []
        self.exact = True

    def open(self) -> None:
        """Begin the view."""
        from vfcompare.events import View

        cell = self.cell
        settings = {"agent": cell.agent, "env": cell.env, **hyperparameters(cell.config)}
        self._view = View(self._folder.path / "tb", cell.id, settings, cell.seeds)

    @cached_property
    def circumstances(self) -> dict[str, Any]:
        """What must be the same for training to go on bit by bit."""
        import jax

        held = self._trainer.held(self.rows)
        paths = jax.tree_util.tree_flatten_with_path(held)[0]
        tree = [[jax.tree_util.keystr(k), str(v.dtype), list(v.shape)] for k, v in paths]
        versions = store.versions()
        return {
            "state": store.digest(tree),
            "jax": versions["jax"],
            "jaxlib": versions["jaxlib"],
            "device": jax.local_devices()[0].device_kind,
            "double precision": bool(jax.config.values["jax_enable_x64"]),
            "random numbers": str(jax.config.values["jax_default_prng_impl"]),
            LANES: self._trainer.lanes,
        }

    def flops(self) -> float | None:
        """Of all seeds together, since the beginning."""
        work = self._trainer.work
        if work is None or not self._metrics:
            return None
        collected = float(self._metrics[0]["collected_steps"].sum(dtype=np.float64))
        steps, episodes = (float(self.standing(name).sum()) for name in ("env_steps", "episodes"))
        return float(work.total(steps, episodes, collected))

    def compare(self, found: store.Checkpoint | None) -> None:
        """Refuse to go on under other circumstances than those of the checkpoint.

        Raises:
          InputError: that names them. What has another structure cannot go on at all.
        """
        if found is None or not found.circumstances:
            return
        now = self.circumstances
        if found.circumstances.get("state") != now["state"]:
            raise InputError(
                f"{self.cell.id}: its checkpoint was made by other code and does not fit: "
                f"{misfit(self._trainer.held(self.rows), found.state)}; allowed: the version that began it "
                "(run.json says which), or a new folder"
            )
        different = [
            f"{name} was {found.circumstances.get(name)}, is {value}"
            for name, value in now.items()
            if found.circumstances.get(name) != value
        ]
        if different and self.cell.config["resume"] != "anyway":
            raise InputError(
                f"{self.cell.id}: cannot go on bit by bit: {'; '.join(different)}; allowed: the former, "
                "a new folder, or resume=anyway, which the run will record"
            )
        self.exact = not different

    def restore(self, found: store.Checkpoint) -> Any:
        """Take the tables up to a checkpoint; returns its runs."""
        from flax import serialization

        point, data = found.point, found.state
        path = self._folder.path
        metrics = store.read_table(path / "metrics.parquet")
        evaluation = store.read_table(path / "evaluation.parquet")
        # Tables are written before the checkpoint, so they may hold rows of a later point.
        reached = serialization.from_bytes(self._trainer.held(self.rows), data)
        updates = dict(zip(self._seeds, np.asarray(reached.updates), strict=True))
        keep = metrics["update"] < np.array([updates[seed] for seed in metrics["seed"]])
        self._metrics = [{name: column[keep] for name, column in metrics.items()}]
        keep = evaluation["point"] <= point
        self._evaluation = [{name: column[keep] for name, column in evaluation.items()}]
        expected = {
            "metrics": sum(map(int, updates.values())),
            "evaluation": len(updates) * (1 + point),
        }
        for name, (table,) in {"metrics": self._metrics, "evaluation": self._evaluation}.items():
            if len(table["seed"]) != expected[name]:
                raise InputError(
                    f"{path}/{name}.parquet has {len(table['seed'])} rows up to the checkpoint, which "
                    f"{expected[name]} led to; remove the folder to begin it anew"
                )
        (metrics,), (evaluation,) = self._metrics, self._evaluation
        seen = _pairs(evaluation["seed"], evaluation["update"] - 1)
        shown = np.isin(_pairs(metrics["seed"], metrics["update"]), seen)
        self._view.add("train", {name: column[shown] for name, column in metrics.items()})
        self._view.add("evaluation", evaluation)
        return reached

    def standing(self, name: str) -> np.ndarray:
        """See `vfcompare.train.Trainer.standing`."""
        return self._trainer.standing(name)[self.rows]

    def chunk(self, chunk: Any) -> None:
        """Take in what a chunk did."""
        rows, last = chunk.rows[self.rows], self.standing("updates")
        if not rows.any():
            return
        seeds = np.repeat(self._seeds, rows)
        update = np.concatenate([np.arange(n - r, n) for n, r in zip(last, rows, strict=True)])
        columns = {name: column[self.rows] for name, column in chunk.metrics.items()}
        take = lambda x: np.concatenate([x[i, :r] for i, r in enumerate(rows)])  # noqa: E731
        table = {name: take(column) for name, column in columns.items()}
        self._metrics.append({"seed": seeds, "update": update.astype(np.int64), **table})

    def evaluation(self, point: int, metrics: store.Table) -> None:
        """Add an evaluation, and to the view also the updates that it came after."""
        number = len(self._seeds)
        run = {
            name: self.standing(name).astype(np.int64)
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
        finite = self.standing("finite")
        for name in table:
            if name.startswith(("return_", "pass_at_")):
                table[name] = np.where(finite, table[name], np.nan)
        self._evaluation.append(table)
        self._view.add("evaluation", table)
        if point == 0:
            self.write()
        else:
            self._view.add("train", self._latest())

    def maps(self, point: int) -> None:
        """Write what can be drawn of the last evaluation, `oracle.npz`, where the lab is switched on."""
        arrays = self._trainer.maps(point, self.rows.start)
        if arrays:
            store.write_arrays(self._folder.path / "oracle.npz", arrays)

    def paths(self) -> None:
        """Write `paths.npz`: what the median and the worst run do in the end, see `vfcompare.paths`."""
        (table,) = self._evaluation
        last = table["point"] == table["point"].max()
        content: dict[str, np.ndarray] = {}
        for name, index in paths.ranked(table["return_sampled"][last]).items():
            rollout = self._trainer.rollout(self.rows.start + index)
            drawn = paths.draw(self.env, rollout)
            if drawn:
                seed, step = int(self._seeds[index]), int(table["env_steps"][last][index])
                self._view.picture(seed, step, f"episode/{name} run", drawn["frames"])
                drawn["seed"] = self._seeds[index]
            content |= {f"{name}_{key}": value for key, value in drawn.items()}
        if content:
            store.write_arrays(self._folder.path / "paths.npz", content)

    def write(self) -> None:
        """Write both tables whole."""
        if self._metrics:
            self._metrics = [store.order(store.concatenate(self._metrics), "seed", "update")]
            store.write_table(self._folder.path / "metrics.parquet", self._metrics[0])
        self._evaluation = [store.order(store.concatenate(self._evaluation), "seed", "point")]
        store.write_table(self._folder.path / "evaluation.parquet", self._evaluation[0])

    def _latest(self) -> store.Table:
        """The last update of every seed; tables have their rows in the order of the seeds."""
        found, left = [], self._seeds
        for table in reversed(self._metrics):
            ends = np.searchsorted(table["seed"], left, side="right") - 1
            there = (ends >= 0) & (table["seed"][ends] == left)
            found.append({name: column[ends[there]] for name, column in table.items()})
            left = left[~there]
            if not len(left):
                break
        return store.concatenate(found)

    def save(self, point: int) -> None:
        """Keep where training stands, after the tables that lead there.

        Raises:
          ClaimLost: if the run is another process's by now; nothing is written then.
        """
        from flax import serialization

        self._folder.must_hold()
        self.write()
        state = serialization.to_bytes(self._trainer.held(self.rows))
        self._folder.save_checkpoint(point, state, self.circumstances)
        self._folder.update(point=point)

    def certificate(self) -> None:
        """Hash the starting point of every seed, and write down the protocol."""
        import jax

        cell, trainer, seeds = self.cell, self._trainer, {}
        work = trainer.work
        for seed, state, rollout in trainer.starts(self.rows):
            content = {name: getattr(rollout, name) for name in ("obs", "action", "reward", "mask")}
            seeds[seed] = {
                "policy": hash_tree(state.params["policy"]),
                "environment": hash_tree(jax.tree.map(lambda x: x[:, :, 0], rollout.state)),
                "rollout": hash_tree(content),
            }
            parameters = {
                name: sum(leaf.size for leaf in jax.tree.leaves(params))
                for name, params in state.params.items()
            }
        written = certificate.make(
            config=cell.identity,
            agent=cell.agent,
            env=cell.env,
            seeds=seeds,
            parameters=parameters,
            facts={
                "privilege": "exact values" if trainer.learner.privileged else "none",
                "prior": priors.describe(cell.config),
                "judge": judges.describe(cell.config),
                certificate.FLOPS: "unknown" if work is None else work.told(),
                "lanes": trainer.lanes,
                "devices": f"{trainer.devices} {jax.local_devices()[0].device_kind}",
                **store.versions(),
            },
        )
        store.write_json(self._folder.path / "certificate.json", written)

    def finish(self, seconds: Mapping[str, float], device: Mapping[str, Any]) -> str:
        """Write down how each seed ended; returns `completed` or `diverged`."""
        finite, updates = self.standing("finite"), self.standing("updates")
        status: dict[int, dict[str, Any]] = {
            seed: {"status": "completed"} if good else {"status": "diverged", "update": int(update)}
            for seed, good, update in zip(self.cell.seeds, finite, updates, strict=True)
        }
        ends = {seed: str(words["status"]) for seed, words in status.items()}
        self._view.close(ends, self._evaluation[0])
        self._folder.update(
            status="completed",
            ended=store.now(),
            seeds={str(seed): words for seed, words in status.items()},
            seconds=dict(seconds),
            env_steps=int(self.standing("env_steps").sum()),
            flops=self.flops(),
            device=dict(device),
        )
        return "completed" if finite.all() else "diverged"


def _pairs(seeds: np.ndarray, updates: np.ndarray) -> np.ndarray:
    """One number for each pair."""
    return seeds.astype(np.int64) << 40 | updates.astype(np.int64)


def misfit(held: Any, state: bytes) -> str:
    """The first array in which a stored state differs from one in memory, in words."""
    from flax import serialization, traverse_util

    def arrays(tree: Any) -> dict[str, str]:
        flat = traverse_util.flatten_dict(tree, sep=".")
        return {path: f"{np.asarray(x).dtype}{list(np.shape(x))}" for path, x in flat.items()}

    stored = arrays(serialization.msgpack_restore(state))
    wanted = arrays(serialization.to_state_dict(held))
    for path in [*wanted, *stored]:
        if stored.get(path) != wanted.get(path):
            return f"{path} was {stored.get(path, 'absent')}, is {wanted.get(path, 'absent')}"
    return "its arrays stand in another order"


def hash_tree(tree: Any) -> str:
    """SHA-256 of the arrays of a tree, with their paths."""
    import jax

    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return certificate.hash_arrays((jax.tree_util.keystr(k), np.asarray(v)) for k, v in paths)
