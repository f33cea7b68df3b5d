"""Options with which XLA compiles the programs of training."""

import os
from typing import Any

import jax

BITLESS = ("xla_force_host_platform_device_count", "xla_cpu_multi_thread_eigen", "xla_dump_")
"""Prefixes of the flags of XLA on which no bit of a result depends."""


def effort() -> dict[str, Any]:
    """Compiler options, each unless `XLA_FLAGS` has it.

    On CPUs the first level compiles in five sixths of the time of XLA's default and runs as fast, and level 0
    would take five times as long for initial weights. XLA's default uses half the width of AVX-512; CPUs
    without ignore it.
    """
    if jax.default_backend() != "cpu":
        return {}
    options = {
        "xla_backend_optimization_level": 1,
        "xla_cpu_prefer_vector_width": 512,
    }
    chosen = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if name not in chosen}


def options() -> str:
    """All that XLA is told of training, by us or in `XLA_FLAGS`, that may move the last bits of a result."""
    chosen = [flag.lstrip("-") for flag in os.environ.get("XLA_FLAGS", "").split()]
    ours = [f"{name}={value}" for name, value in effort().items()]
    return " ".join(sorted(option for option in chosen + ours if not option.startswith(BITLESS)))
