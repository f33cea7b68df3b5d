"""Pretrained policies, kept as the rungs of ladders: how good each is at its task before it is rewarded.

priors/<env>-<hash>/                    the hash is of the task, the network and the supervised training
  0.05.msgpack                          parameters that answer 5 % of held-out prompts right
  0.05.json                             what was measured of them, see vfcompare.runs.artifacts

A rung is a function of its recipe: whoever asks for it first makes it, everybody else finds it.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vfcompare.errors import InputError
from vfcompare.runs import naming, store
from vfcompare.runs.artifacts import Artifact
from vfcompare.training import supervised
from vfcompare.types import Prior

RUNGS = (0.001, 0.01, 0.05, 0.2, 0.5)
"""pass@1 of the rungs of the usual ladder."""

OURS = ("rung", "critic", "entropy", "seed", "updates")
"""Settings of a prior that are read here, and not by its supervised learner."""

UNSEEN = ("noise", "partial")
"""Settings of a task that change only its rewards, on which supervised learning does not depend."""

FIRST, GROWTH = 8, 1.25
"""Updates before the first measurement, and their ratio from one to the next."""

CLOSE = 0.1
"""A rung is found where `|log(pass@1 / rung)|` is below this."""

ENTROPY_CLOSE = 0.02
"""A rung's entropy is found where it differs by a smaller share from what is asked."""

SHARPEST = 64.0
"""Largest factor by which logits are multiplied, or divided, to bring an entropy about."""

SHARDS = 8
"""Parts of a measurement, each on a random stream of its own; they spread over the devices."""


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that the policies of a ladder depend on, whose hash names its folder.

    Args:
      config: resolved and plain, of a cell that asks for a prior.
    """
    agent, kept = config["agent"], ("rung", "critic")
    return {
        "env": seen(config["env"]),
        "network": agent["network"],
        "policy": agent["policy"],
        "training": {key: value for key, value in agent["prior"].items() if key not in kept},
    }


def seen(env: Mapping[str, Any]) -> dict[str, Any]:
    """A task's settings without those that are `UNSEEN`, also of the tasks in it."""
    kept = {key: value for key, value in env.items() if key not in UNSEEN}
    return {key: seen(x) if isinstance(x, Mapping) else x for key, x in kept.items()}


class Rung(Artifact):
    """One pretrained policy on disk, named by the pass@1 that it was asked to have."""

    @property
    def share(self) -> float:
        """The pass@1 that was asked for."""
        return float(self.name)


def rung_of(config: Mapping[str, Any]) -> Rung | None:
    """The rung on which a cell's policy begins, if any, whether or not it has been made.

    Args:
      config: resolved and plain.
    """
    prior = config["agent"].get("prior")
    if prior is None:
        return None
    name = str(config["env"]["_target_"]).rsplit(".", 2)[-2]
    ladder = f"{name}-{naming.digest([store.SCHEMA, identity(config)])[:10]}"
    return Rung(Path(config.get("priors", "priors")) / ladder, f"{float(prior['rung']):g}")


def load_prior(config: Mapping[str, Any], *, rehearsal: bool) -> Prior | None:
    """The prior with which a learner begins, if any, read from disk.

    Args:
      config: resolved and plain.
      rehearsal: whether shapes are enough, so that it need not have been made; its parameters are None then.
    """
    rung = rung_of(config)
    if rung is None:
        return None
    return Prior(None if rehearsal else rung.load(), config["agent"]["prior"]["critic"] == "body")


def ensure(configs: Iterable[Mapping[str, Any]]) -> list[Rung]:
    """Make the rungs that cells ask for, unless they are there; others who ask meanwhile wait.

    Args:
      configs: resolved and plain, of cells with and without a prior.

    Returns:
      Each rung once, in the order of its ladder.

    Raises:
      InputError: if a task has no such rung.
    """
    found = {rung: config for config in configs if (rung := rung_of(config)) is not None}
    climbers: dict[Path, Climber] = {}

    def climb(rung: Rung) -> None:
        if rung.folder not in climbers:
            climbers[rung.folder] = Climber(found[rung])
        make(found[rung], rung, climbers[rung.folder])

    rungs = sorted(found, key=lambda rung: (rung.folder, rung.share))
    for rung in rungs:
        supervised.ensure(rung, partial(climb, rung))
    return rungs


def make(config: Mapping[str, Any], rung: Rung, climber: "Climber") -> None:
    """Pretrain until a rung is found, measure it on a stream of its own, and write it."""
    params, updates = climber.find(rung.share)
    found = climber.measure(params, "final")
    facts = {
        "rung": rung.share,
        **{name: round(float(np.mean(each)), 6) for name, each in found.items()},
        "standard_error": round(float(np.std(found["pass_at_1"], ddof=1)) / SHARDS**0.5, 6),
        "updates": updates,
        "recipe": identity(config),
    }
    rung.write(params, facts)


def table(rungs: Sequence[Rung]) -> str:
    """What was measured of rungs, as lines of text."""
    rows = [["rung", "pass@1", "pass@16", "greedy", "nats a token", "updates", "kept in"]]
    for rung in rungs:
        facts = rung.read()
        most = max((name for name in facts if name.startswith("pass_at_")), key=_attempts)
        rows[0][2] = most.replace("pass_at_", "pass@")
        rows.append(
            [
                f"{rung.share:g}",
                f"{facts['pass_at_1']:.2%} ± {facts['standard_error']:.2%}",
                f"{facts[most]:.1%}",
                f"{facts['return_greedy']:.1%}",
                f"{facts['entropy']:.2f}",
                str(facts["updates"]),
                str(rung.params),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _attempts(name: str) -> int:
    return int(name.removeprefix("pass_at_"))


class Climber:
    """Supervised training of one policy, which keeps the points it has passed and can go on from each."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Compile training and measuring.

        Args:
          config: resolved and plain.

        Raises:
          InputError: where the task cannot be learned from demonstrations.
        """
        import jax

        from vfcompare.streams import root_key, stream
        from vfcompare.training.sharding import over_seeds

        prior = config["agent"]["prior"]
        shard = -(-prior["prompts"] // SHARDS)
        learner = supervised.learner(config, "prior", OURS, prompts=shard)
        key = stream(root_key(prior["seed"]), "prior")
        self._most = int(prior["updates"])
        self._entropy, self._sharpen = prior["entropy"], learner.sharpen
        if self._entropy is not None and self._sharpen is None:
            raise InputError(
                f"agent.prior.entropy={self._entropy:g} is not allowed: this network has no number that "
                "sharpens it; allowed: null, or network@agent.network=transformer"
            )
        devices = max(n for n in (1, 2, 4, 8) if n <= jax.local_device_count())
        self._train = jax.jit(partial(supervised.updated, learner, key))
        self._measure = over_seeds(
            lambda name, shard, params: learner.measure(
                params, jax.random.fold_in(jax.random.fold_in(key, name), shard)
            ),
            devices,
            1,
        )
        # After so many updates: where training stands, the policy it leaves, and its pass@1.
        self._points: dict[int, tuple[Any, Any, float]] = {}
        self._keep(0, jax.jit(learner.init)(stream(key, "init")))

    def measure(self, params: Any, name: str) -> dict[str, np.ndarray]:
        """What a policy can do on the prompts of a named stream, `[SHARDS]` each."""
        from zlib import crc32

        import jax

        names = np.full(SHARDS, crc32(name.encode()), np.uint32)
        each = jax.tree.map(
            lambda x: np.broadcast_to(x, (SHARDS, *x.shape)), jax.device_get(params)
        )
        found = self._measure(names, np.arange(SHARDS, dtype=np.uint32), each)
        return {key: np.asarray(x, np.float64) for key, x in found.items()}

    def find(self, share: float) -> tuple[Any, int]:
        """The first policy on the way whose pass@1 is near `share`, and after how many updates.

        Measured after ever more updates until it is passed, then between the last two points, by halves.

        Raises:
          InputError: if it is passed before training, or not within the updates that are allowed.
        """
        low, high, step, best = 0, 0, float(FIRST), self._passed(0, 0)
        if best >= share and not near(best, share):
            raise InputError(
                f"agent.prior.rung={share:g} is not allowed: without any training {best:.2g} of the "
                f"answers are right; allowed: a share from {best:.2g} to 1"
            )
        while not reached(self._passed(high, low), share):
            if high >= self._most:
                raise InputError(
                    f"agent.prior.rung={share:g} is not allowed: after {high} updates at most {best:.2g} "
                    "of the answers were right; allowed: a lower one, a larger agent.prior.updates, or "
                    "another agent.network"
                )
            low, high = high, min(max(int(step), high + 1), self._most)
            best, step = max(best, self._passed(high, low)), step * GROWTH
        while not near(self._passed(high, low), share) and high - low > 1:
            middle = (low + high) // 2
            if reached(self._passed(middle, low), share):
                high = middle
            else:
                low = middle
        params = self._points[high][1]
        self._require_entropy(params, share)
        return params, high

    def _passed(self, updates: int, begin: int) -> float:
        """pass@1 after so many updates, which are made from a point that was seen before."""
        if updates not in self._points:
            passed = self._keep(updates, self._train(self._points[begin][0], begin, updates))
            print(f"prior: {updates} updates, pass@1 {passed:.2g}", file=sys.stderr, flush=True)
        return self._points[updates][2]

    def _keep(self, updates: int, state: Any) -> float:
        params = state[0] if self._entropy is None else self._matched(state[0])
        passed = float(self.measure(params, "search")["pass_at_1"].mean())
        self._points[updates] = state, params, passed
        return passed

    def _matched(self, params: Any) -> Any:
        """The policy sharpened, or blurred, until its entropy is what is asked, or as near as it comes."""
        from scipy.optimize import brentq

        assert self._sharpen is not None
        sharpen = self._sharpen

        def excess(logarithm: float) -> float:
            found = self.measure(sharpen(params, np.float32(math.exp(logarithm))), "search")
            return math.log(max(float(found["entropy"].mean()), 1e-9) / self._entropy)

        # Its entropy falls as a policy is sharpened.
        low, high = -math.log(SHARPEST), math.log(SHARPEST)
        if excess(low) <= 0:
            best = low
        elif excess(high) >= 0:
            best = high
        else:
            best = brentq(excess, low, high, xtol=ENTROPY_CLOSE / 4)
        return sharpen(params, np.float32(math.exp(best)))

    def _require_entropy(self, params: Any, share: float) -> None:
        if self._entropy is None:
            return
        found = float(self.measure(params, "search")["entropy"].mean())
        if abs(math.log(max(found, 1e-9) / self._entropy)) > ENTROPY_CLOSE:
            raise InputError(
                f"agent.prior.entropy={self._entropy:g} is not allowed with agent.prior.rung={share:g}: "
                f"the nearest that was found is {found:.2g} nats a token; allowed: one nearer to it, or null"
            )


def reached(passed: float, share: float) -> bool:
    """Whether a measured share is as high as one that is sought, or close to it."""
    return passed >= share or near(passed, share)


def near(passed: float, share: float) -> bool:
    """Whether a measured share is close to one that is sought."""
    return passed > 0 and abs(math.log(passed / share)) < CLOSE
