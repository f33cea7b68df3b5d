"""Parameters that were made once for everybody, and what was measured of them.

<folder>/<name>.msgpack               the parameters
<folder>/<name>.json                  what was measured of them, their recipe, and their SHA-256
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfcompare.errors import Damaged, InputError
from vfcompare.runs import clock, origin, store


@dataclass(frozen=True)
class Artifact:
    """One of them on disk.

    Attributes:
      folder: where it is kept.
      name: of its two files.
    """

    folder: Path
    name: str

    @property
    def params(self) -> Path:
        """Where its parameters are."""
        return self.folder / f"{self.name}.msgpack"

    @property
    def facts(self) -> Path:
        """Where it says what was measured of it."""
        return self.folder / f"{self.name}.json"

    def write(self, params: Any, facts: Mapping[str, Any]) -> None:
        """Keep it; what is not whole does not count, since the facts come last."""
        from flax import serialization

        data = serialization.to_bytes(params)
        said = {"sha256": hashlib.sha256(data).hexdigest(), "versions": origin.versions()}
        store.write_bytes(self.params, data)
        store.write_json(self.facts, {**facts, **said, "made": clock.now()})

    def read(self) -> dict[str, Any]:
        """What was measured.

        Raises:
          InputError: if it was not made.
        """
        try:
            return store.read_json(self.facts)
        except FileNotFoundError as error:
            raise InputError(
                f"{self.facts} is not there; allowed: `vfcompare prior` with the same settings makes it"
            ) from error

    def load(self) -> Any:
        """Its parameters, verified.

        Raises:
          InputError: if they were not made.
          Damaged: if they are not those that were measured.
        """
        from flax import serialization

        facts, data = self.read(), self.params.read_bytes()
        if hashlib.sha256(data).hexdigest() != facts["sha256"]:
            raise Damaged(
                f"{self.params} is damaged: its SHA-256 is not that in {self.facts.name}; remove both, and "
                "they are made anew"
            )
        return serialization.msgpack_restore(data)


def describe(made: Artifact | None) -> str:
    """One in a few words, for a certificate: two runs that say the same began with the same."""
    return "none" if made is None else f"{made.name} {made.read()['sha256'][:12]}"
