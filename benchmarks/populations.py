"""Scores whose own numbers are known, and simulations of them on all cores."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
from scipy import stats

from vfcompare.statistics import Array

SEED = 20_261_124
SIZE = 50_000


def _grid(size: int) -> Array:
    return np.asarray((np.arange(size) + 0.5) / size)


NORMAL = stats.norm.ppf(_grid(SIZE))
POPULATIONS: dict[str, Array] = {
    "normal": 0.6 + 0.1 * NORMAL,
    "bimodal": np.concatenate(
        [
            0.1 + 0.05 * stats.norm.ppf(_grid(SIZE // 5)),
            0.9 + 0.05 * stats.norm.ppf(_grid(SIZE - SIZE // 5)),
        ]
    ),
    "heavy": 0.6 + 0.1 * stats.t.ppf(_grid(SIZE), 3),
    "skewed": 0.3 * np.exp(NORMAL),
}
"""Finite populations, drawn from with replacement, so that their own numbers are exact.

Normal; 80% at 0.9 and 20% collapsed at 0.1; Student's t with 3 degrees; lognormal with sigma 1.
"""


def in_parallel(function: Callable[[Any], Any], jobs: Sequence[Any]) -> list[Any]:
    """`[function(job) for job in jobs]` in as many processes as there are cores.

    The function is inherited by forking, so it need not be importable by name.
    """
    global _work
    _work = function
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("fork")) as pool:
        return list(pool.map(_call, jobs, chunksize=2))


def _call(job: Any) -> Any:
    return _work(job)


_work: Callable[[Any], Any]
