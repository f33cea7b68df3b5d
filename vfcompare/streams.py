"""Named random streams: adding a part that draws shifts no other part's numbers."""

from zlib import crc32

import jax

from vfcompare.types import Array, Key


def stream(key: Key, name: str) -> Key:
    """The stream `name` of a key, independent of which other streams are ever used."""
    return jax.random.fold_in(key, crc32(name.encode()))


def root_key(seed: Array) -> Key:
    """The key that all streams of a seed come from."""
    return jax.random.key(seed)
