"""The devices that a process trains on."""

import os
from pathlib import Path
from typing import Any


def prepare() -> None:
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


def describe(number: int) -> dict[str, Any]:
    """What a run was computed on, using so many of them."""
    import jax

    first = jax.local_devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "used": number}
