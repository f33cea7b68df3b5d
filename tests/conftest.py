"""JAX for the tests: CPU, one host device per core, as training itself runs."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEVICES = min(os.cpu_count() or 1, 2)
FLAGS = f"--xla_force_host_platform_device_count={DEVICES} --xla_cpu_multi_thread_eigen=false"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Has no effect once JAX has started, hence before its import.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
# Tests compile far more than they compute. With the emitters that `make compare` is compiled by, each
# program would take half as much again; `XLA_FLAGS=--xla_cpu_use_fusion_emitters=true make test` has them.
for flag in ("--xla_backend_optimization_level=0", "--xla_cpu_use_fusion_emitters=false"):
    if flag.partition("=")[0] not in os.environ["XLA_FLAGS"]:
        os.environ["XLA_FLAGS"] += f" {flag}"
# Many tests run the same programs, and most are run again; `make clean` forgets them.
CACHE = Path(__file__).resolve().parents[1] / ".pytest_cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("MPLBACKEND", "agg")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

# Traces make many objects that stay, and to look over them every 700 is up to a tenth of the time.
gc.set_threshold(100_000)

import hydra  # noqa: E402
import hypothesis  # noqa: E402
import jax  # noqa: E402
import pytest  # noqa: E402

from tests.helpers import write_files  # noqa: E402
from vfcompare.commands.compose import plain  # noqa: E402

# How long an example takes says more of the machine than of us.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

CONF = Path(__file__).resolve().parents[1] / "conf"
AGENTS = sorted(path.stem for path in (CONF / "agent").glob("*.yaml"))
"""Every preset."""
MATCHED = [
    name
    for name in AGENTS
    if (CONF / "agent" / f"{name}.yaml")
    .read_text()
    .startswith("defaults:\n  - /recipe@_here_: matched\n  - /estimator@estimator: ")
]
"""Agents that are the matched recipe and an estimator, and nothing else."""
PRIVILEGED = ("oracle_v", "oracle_td", "oracle_v0", "mixed")
"""Agents that ask for exact values, and so need an enumerable environment."""


@pytest.fixture
def key() -> jax.Array:
    """A key; the same in every test, so that a failure repeats."""
    return jax.random.key(0)


def compose(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of one cell, as plain data."""
    with hydra.initialize_config_module("vfcompare.conf", version_base="1.3"):
        return plain(hydra.compose("config", list(overrides)))


@pytest.fixture(scope="session")
def build() -> Callable[..., tuple[Any, Any]]:
    """`(overrides) -> (env, learner)`, as the command line builds them."""
    from vfcompare.training import cell, tasks

    def made(*overrides: str) -> tuple[Any, Any]:
        config = compose(*overrides)
        return tasks.make(config["env"]), cell.build(config)

    return made


@pytest.fixture(scope="session")
def config() -> Callable[..., dict[str, Any]]:
    """`(overrides) -> resolved configuration`."""
    return compose


OWN = {
    "conf/agent/half.yaml": "defaults: [/recipe@_here_: matched, /estimator@estimator: half]",
    "conf/estimator/half.yaml": "defaults: [monte_carlo]\n"
    "advantage: {baseline: {_target_: mine.half_mean}}",
    "conf/hydra/launcher/mine.yaml": "_target_: mine.launcher",
    "mine.py": "from vfcompare.baselines import group_mean\n"
    "def half_mean(sample): return group_mean(sample) / 2",
}
"""An agent that is not ours."""


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """The setting that names a folder with the agent `half`, whose code new processes find."""
    folder = tmp_path_factory.mktemp("own")
    write_files(folder, OWN)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return f"hydra.searchpath=[file://{folder}/conf]"
