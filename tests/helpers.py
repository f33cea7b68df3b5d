"""What several tests ask of an estimator, and of an enumerable task; and files that they write."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from vfcompare.oracle import exact
from vfcompare.schema.settings import key_of
from vfcompare.types import Access

KEY = jax.random.key(0)
GOLDEN = {
    vector["name"]: vector
    for vector in json.loads((Path(__file__).parent / "data" / "golden.json").read_text())
}
"""Inputs, outputs and tolerances by other libraries' own code and by enumeration; see `tests/data`."""

PARQUET = b"PAR1" + bytes(8) + b"PAR1"
"""What has the ends of a table, which is all that `vfcompare status` looks at."""


def vfcompare(*args, cwd, env=None, timeout=300):
    """Run the command line in a folder."""
    command = [sys.executable, "-m", "vfcompare", *args]
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout
    )


def write_files(folder, files):
    """Write texts by their paths below a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def settings_with(usual, *told):
    """Settings of a command line: the usual ones but for those that are told, and these."""
    keys = {key_of(text) for text in told}
    return [*(text for text in usual if key_of(text) not in keys), *told]


def refuse(*args, **options):
    raise AssertionError("this was not to be asked for")


def access(**known):
    """Access to what is given, and to nothing else."""
    nothing = {
        "simulate": refuse,
        "exact_value": refuse,
        "log_prob": refuse,
        "squared_score": refuse,
    }
    still = {"progress": jnp.float32(1.0), "moved": jnp.float32(0.0)}
    return Access(**{**nothing, **still, **known})


def ask(estimator, rollout, reach=None, networks=None, key=KEY):
    """The estimate of an estimator that has not seen anything before."""
    networks = networks or {}
    memory = estimator.init(networks)
    return estimator.estimate(memory, networks, rollout, reach or access(), key)


def optimum(env, start, *, gamma):
    """`V*_t(s) = max_a Q*_t(s, a)` over legal actions, `[T + 1, S]` (Bellman, 1957)."""

    def backward(value, time):
        legal = exact.observations(env, start, time)[1]
        action_value = exact.backup(env.outcomes(start, time), value, gamma)
        if legal is not None:
            action_value = jnp.where(legal, action_value, -jnp.inf)
        value = action_value.max(-1)
        return value, value

    end = jnp.zeros(env.places)
    _, value = jax.lax.scan(backward, end, jnp.arange(env.horizon), reverse=True)
    return jnp.concatenate([value, end[None]])


def start_value(env, log_probs, start, *, gamma):
    """`J = V_0(s_0)`, a scalar."""
    return exact.evaluate(env, log_probs, start, gamma=gamma).value[0, env.place(start)]
