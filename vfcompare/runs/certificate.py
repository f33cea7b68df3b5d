"""What makes two runs comparable, written down by each run and compared by the report.

The certificate covers the starting point, the streams and the protocol. It does not cover what happens
after the first update, where agents diverge by design.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vfcompare.runs.naming import digest
from vfcompare.runs.store import SCHEMA
from vfcompare.schema.tree import function

FLOPS = "FLOPs of a step"

TIME_LIMIT = "time limit"
SHOWN, CUTS = "part of the task", "cuts episodes off"

RESETS = "resets"
BODY = "policy's body"

LATER = (TIME_LIMIT, RESETS, BODY)
"""Facts that certificates of earlier versions do not tell: they are compared where they are told."""

UNTOLD = "not told"

BY_DESIGN = ("estimator", "critic parameters", "privilege", RESETS, FLOPS)
"""Items that may differ between the agents of a study: they are what is compared."""

MADE = {"prior": "prior as made", "judge": "judge as made"}
"""Facts about what a part of the same name makes, and what these items are called beside the part."""

PER_SEED = {
    "policy": "initial policy",
    "environment": "initial environment states",
    "rollout": "first rollout",
}


class Row(NamedTuple):
    """One item of the comparison.

    Attributes:
      item: what is compared.
      verdict: `equal`, `by design`, `different` or `not compared`.
      values: run id to a short text.
    """

    item: str
    verdict: str
    values: dict[str, str]


def hash_arrays(arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    """SHA-256 of named arrays: names, types, shapes and bytes, in the order given."""
    total = hashlib.sha256()
    for name, array in arrays:
        array = np.ascontiguousarray(array)
        total.update(f"{name} {array.dtype} {array.shape};".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def make(
    *,
    config: Mapping[str, Any],
    agent: str,
    env: str,
    seeds: Mapping[int, Mapping[str, str]],
    parameters: Mapping[str, int],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a run's certificate.

    Args:
      config: the resolved configuration.
      agent: name of the agent.
      env: name of the environment.
      seeds: for each seed the hashes of `PER_SEED`.
      parameters: number of parameters of `policy` and `critic`.
      facts: versions, device, lanes and whatever else must agree.
    """
    parts = {f"agent.{name}": part for name, part in config["agent"].items()}
    parts |= {name: config[name] for name in ("env", "env_steps", "evaluations")}
    return {
        "schema": SCHEMA,
        "agent": agent,
        "env": env,
        "seeds": {str(seed): dict(hashes) for seed, hashes in seeds.items()},
        "parts": {
            name: {"sha256": digest(part), "text": brief(part)} for name, part in parts.items()
        },
        "parameters": dict(parameters),
        "facts": dict(facts),
    }


def brief(part: Any) -> str:
    """A part of the configuration in a few words."""
    if not isinstance(part, Mapping):
        return str(part)
    name = function(part)
    plain = [f"{k}={v}" for k, v in part.items() if k[0] != "_" and not isinstance(v, Mapping)]
    inner = [brief(v) for v in part.values() if isinstance(v, Mapping)]
    return " ".join([name, *plain, *(f"[{text}]" for text in inner)]).strip()


def compare(certificates: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Compare the certificates of runs that share an environment.

    Args:
      certificates: run id to certificate.

    Returns:
      A row per item, those that differ against the design first.
    """
    rows = [*_seed_rows(certificates), *_part_rows(certificates), *_number_rows(certificates)]
    return sorted(rows, key=lambda row: row.verdict != "different")


def _verdict(item: str, values: Iterable[str]) -> str:
    if len(set(values)) <= 1:
        return "equal"
    return "by design" if item in BY_DESIGN else "different"


def _seed_rows(certificates: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Agreement seed by seed, over the seeds that any two runs share.

    It is not compared where some run shares no seed with any other.
    """
    rows = []
    seeds = Counter(seed for certificate in certificates.values() for seed in certificate["seeds"])
    alone = any(all(seeds[s] == 1 for s in c["seeds"]) for c in certificates.values())
    for key, item in PER_SEED.items():
        found: dict[str, set[str]] = {}
        for certificate in certificates.values():
            for seed, hashes in certificate["seeds"].items():
                found.setdefault(seed, set()).add(hashes[key])
        broken = sorted((seed for seed, hashes in found.items() if len(hashes) > 1), key=int)
        values = {
            name: digest({seed: h[key] for seed, h in certificate["seeds"].items()})[:8]
            for name, certificate in certificates.items()
        }
        if broken:
            item = f"{item} (seeds {', '.join(broken)})"
        verdict = "not compared" if alone else "equal"
        rows.append(Row(item, "different" if broken else verdict, values))
    return rows


def _part_rows(certificates: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    names = dict.fromkeys(name for c in certificates.values() for name in c["parts"])
    rows = []
    for name in names:
        item = name.removeprefix("agent.")
        parts = {
            run: c["parts"].get(name, {"sha256": "", "text": "none"})
            for run, c in certificates.items()
        }
        verdict = _verdict(item, (part["sha256"] for part in parts.values()))
        rows.append(Row(item, verdict, {run: part["text"] for run, part in parts.items()}))
    return rows


def _number_rows(certificates: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    rows = []
    for section, suffix in (("parameters", " parameters"), ("facts", "")):
        names = dict.fromkeys(name for c in certificates.values() for name in c[section])
        for name in names:
            lacking = UNTOLD if name in LATER else "none"
            values = {run: str(c[section].get(name, lacking)) for run, c in certificates.items()}
            told = [value for value in values.values() if value != UNTOLD]
            item = MADE.get(name, name) + suffix
            rows.append(Row(item, _verdict(item, told), values))
    return rows
