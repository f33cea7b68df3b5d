"""The devices that a process trains on."""

import functools
import hashlib
import os
import re
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

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vfcompare" / "jax"
    if getattr(jax.config, "jax_compilation_cache_dir", None) is None:
        jax.config.update("jax_compilation_cache_dir", str(cache))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


INSTRUCTIONS = re.compile(r"s?sse|avx|fma|f16c|amx|asimd|fp|sve|bf16")
"""How the instructions that compute with floats begin, by the names that Linux gives them."""


@functools.cache
def kind() -> str:
    """The first device: what of it decides the bits of a program and, behind a comma, its model.

    JAX calls every CPU `cpu`. What XLA makes of a program, the order of a sum or a fused multiplication,
    depends on the instructions that a CPU has.
    """
    import jax

    first = jax.local_devices()[0]
    return first.device_kind if first.platform != "cpu" else _cpu(Path("/proc/cpuinfo"))


def _cpu(file: Path) -> str:
    """`cpu`, a hash of its instructions, and its model, as far as they are known."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n\n")[0].splitlines()
    except OSError:
        return "cpu"
    said = {name.strip(): text.strip() for name, _, text in (line.partition(":") for line in lines)}
    words = said.get("flags", said.get("Features", "")).split()
    # The others, such as what guards against an attack, come and go with the kernel.
    known = sorted(word for word in words if INSTRUCTIONS.match(word))
    if not known:
        return "cpu"
    model = said.get("model name", "unknown model")
    return f"cpu {hashlib.sha256(' '.join(known).encode()).hexdigest()[:8]}, {model}"


def alike(before: object, now: str) -> bool:
    """Whether programs have the same bits on two devices, each called as by `kind`.

    Earlier versions called every CPU `cpu`, which may have been any.
    """
    one, other = str(before).partition(",")[0], now.partition(",")[0]
    return one == other or (one == "cpu" and other.startswith("cpu "))


def describe(number: int) -> dict[str, Any]:
    """What a run was computed on, using so many of them."""
    import jax

    first = jax.local_devices()[0]
    return {"platform": first.platform, "kind": first.device_kind, "used": number}
