"""Names of runs: what each is, in words, and a hash of its whole configuration."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from vfcompare.runs.store import SCHEMA


def digest(content: Any) -> str:
    """SHA-256 of anything that JSON can say, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def slug(text: str, limit: int = 80) -> str:
    """A name that is safe as a folder: letters, digits, `=._-`; anything else becomes a dash."""
    return re.sub(r"[^A-Za-z0-9=._-]+", "-", text).strip("-.")[:limit] or "run"


def cell_id(agent: str, env: str, settings: Mapping[str, str], config: Mapping[str, Any]) -> str:
    """The folder of a run: what it is, in words, and a hash of its whole configuration."""
    words = [env, agent, *(f"{key}={value}" for key, value in sorted(settings.items()))]
    return f"{slug('-'.join(words))}-{digest([SCHEMA, config])[:10]}"


def hash_of(name: str) -> str:
    """The hash in the name of a run."""
    return name.rpartition("-")[2]
