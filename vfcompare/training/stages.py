"""What a cell writes beside its tables: its certificate, checkpoints, pictures, and how it ended.

Whatever writes raises `ClaimLost` where the run is another process's by now; nothing is written then.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vfcompare.runs import certificate, clock, origin, pictures, store
from vfcompare.runs.artifacts import describe
from vfcompare.schema.needs import resets
from vfcompare.schema.pairings import policys_body
from vfcompare.training import judges, priors
from vfcompare.training.log import Log
from vfcompare.training.share import Share
from vfcompare.training.starts import Starts


def certify(share: Share, starts: Starts) -> None:
    """Hash the starting point of every seed, and write down the protocol.

    Raises:
      InputError: where a task does not keep its own time, see `Starts.hashes`.
    """
    import jax

    (cell, folder, _), trainer = share.member, share.trainer
    folder.claim.must_hold()
    work = trainer.work
    parameters = {
        name: sum(leaf.size for leaf in jax.tree.leaves(params))
        for name, params in trainer.state(share.rows.start).params.items()
    }
    written = certificate.make(
        config=cell.identity,
        agent=cell.agent,
        env=cell.env,
        seeds=starts.hashes(share.rows, time_aware=share.env.time_aware),
        parameters=parameters,
        facts={
            "privilege": "exact values" if trainer.learner.privileged else "none",
            certificate.RESETS: resets(cell.config["agent"]),
            certificate.BODY: policys_body(cell.config["agent"]),
            "prior": describe(priors.rung_of(cell.config)),
            "judge": describe(judges.artifact_of(cell.config)),
            certificate.FLOPS: "unknown" if work is None else work.told(),
            certificate.TIME_LIMIT: certificate.SHOWN if share.env.time_aware else certificate.CUTS,
            "lanes": trainer.lanes,
            "devices": f"{trainer.devices} {jax.local_devices()[0].device_kind}",
            **origin.versions(),
        },
    )
    store.write_json(folder.path / "certificate.json", written)


def save(log: Log, point: int, spent: Mapping[str, float]) -> None:
    """Write the tables of a cell, then a checkpoint of where they lead.

    Args:
      log: of the cell.
      point: the last evaluation that was made.
      spent: seconds of all cells since this process began.
    """
    from flax import serialization

    log.write()
    share, folder = log.share, log.share.member.folder
    state = serialization.to_bytes(share.held())
    folder.save_checkpoint(point, state, share.circumstances, share.seconds(spent))
    folder.update(point=point, env_steps=share.taken)


def maps(share: Share, point: int) -> None:
    """Write what can be drawn of the last evaluation, `oracle.npz`, where the lab is switched on."""
    folder = share.member.folder
    folder.claim.must_hold()
    arrays = share.trainer.maps(share.rows.start, point)
    if arrays:
        store.write_arrays(folder.path / "oracle.npz", arrays)


def paths(log: Log) -> None:
    """Write `paths.npz`: what the median and the worst run do in the end."""
    share, folder = log.share, log.share.member.folder
    folder.claim.must_hold()
    table = log.evaluation.whole()
    last = table["point"] == table["point"].max()
    content: dict[str, np.ndarray] = {}
    for name, index in pictures.ranked(table["return_sampled"][last]).items():
        rollout = share.trainer.rollout(share.rows.start + index)
        drawn = pictures.draw(share.env, rollout)
        if drawn:
            seed, step = (int(table[column][last][index]) for column in ("seed", "env_steps"))
            log.view.picture(seed, step, f"picture/{name} run", drawn["frames"])
            drawn["seed"] = table["seed"][last][index]
        content |= {f"{name}_{key}": value for key, value in drawn.items()}
    if content:
        store.write_arrays(folder.path / "paths.npz", content)


def finish(log: Log, spent: Mapping[str, float], device: Mapping[str, Any]) -> str:
    """Write down how each seed ended; returns `completed` or `diverged`."""
    share, (cell, folder, _) = log.share, log.share.member
    folder.claim.must_hold()
    lost = log.diverged
    status: dict[int, dict[str, Any]] = {
        seed: {"status": "diverged", "update": lost[seed]}
        if seed in lost
        else {"status": "completed"}
        for seed in cell.seeds
    }
    ends = {seed: str(words["status"]) for seed, words in status.items()}
    log.view.close(ends, log.evaluation.whole())
    folder.update(
        status="completed",
        ended=clock.now(),
        seeds={str(seed): words for seed, words in status.items()},
        seconds=share.seconds(spent),
        env_steps=share.taken,
        flops=flops(log),
        device=dict(device),
    )
    return "diverged" if lost else "completed"


def flops(log: Log) -> float | None:
    """Floating-point operations of all seeds since the beginning, or None where they are not known."""
    work = log.share.trainer.work
    if work is None or not log.metrics:
        return None
    sums = {name: float(x.sum(dtype=np.float64)) for name, x in log.metrics.whole().items()}
    steps, episodes = (float(log.share.counter(n).sum()) for n in ("env_steps", "episodes"))
    episodes += sums.get("simulated_episodes", 0.0)
    return float(work.total(steps, episodes, sums["collected_steps"]))
