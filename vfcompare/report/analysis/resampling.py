"""How often, at which level and from which seed everything in the report is resampled."""

import zlib

import numpy as np

SEED = 20_260_101
REPS = 2000
PAIR_REPS = 10_000
ALPHA = 0.05


def generator(name: str) -> np.random.Generator:
    """A stream of its own for each number, so that adding an arm changes no other interval."""
    return np.random.default_rng([SEED, zlib.crc32(name.encode())])
