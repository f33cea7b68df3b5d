"""How fast vfcompare learns on tokens beside TRL's GRPOTrainer, on this machine, in one run.

`make bench-tokens` runs it. Sides alternate, each measurement a process of its own; a round in which
anything else kept the cores busy is discarded and repeated. See benchmarks/README.md.
"""

import argparse
import functools
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import speed
from benchmarks.peers import token_recipe as recipe
from vfcompare.runs.store import write_bytes

PEER_PYTHON = speed.ROOT / ".trl-venv" / "bin" / "python"
PIECES = (1, 2, 4)
"""Into how many parts TRL cuts its batch; the fastest counts, of one and two threads."""

AIMS = {"cache": 15.0, "step": 2.5}


def ours(steps: int) -> dict[str, Any]:
    """Measure our side."""
    return answer([sys.executable, "-m", "benchmarks.peers.tokens_ours", f"--steps={steps}"])


def peer(steps: int, threads: int, pieces: int) -> dict[str, Any]:
    """Measure TRL."""
    settings = [f"--steps={steps}", f"--threads={threads}", f"--pieces={pieces}"]
    return answer([str(PEER_PYTHON), "-m", "benchmarks.peers.trl_grpo", *settings])


def answer(command: Sequence[str]) -> dict[str, Any]:
    """What a process says in its last line."""
    done = subprocess.run(
        command,
        cwd=speed.ROOT,
        env=speed.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    if done.returncode:
        raise SystemExit(f"{command!r} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def play(rounds: int, steps: int) -> dict[str, Any]:
    """Measure in turns; a round that others disturbed is thrown away, up to a bound."""
    speed.wait_until_quiet()
    trials = {
        (threads, pieces): peer(4, threads, pieces)["step"]
        for threads in (1, 2)
        for pieces in PIECES
    }
    best = max(trials, key=lambda trial: trials[trial])
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
    discarded = 0
    while len(kept) < rounds and discarded < speed.MAX_TRIES * rounds:
        print(f"round {len(kept) + 1} of {rounds}", flush=True)
        speed.wait_until_quiet()
        sides = [functools.partial(ours, steps), functools.partial(peer, steps, *best)]
        order = [0, 1] if len(kept) % 2 == 0 else [1, 0]
        found, foreign = speed.foreign_share(lambda: {i: sides[i]() for i in order})  # noqa: B023
        if foreign > speed.MAX_FOREIGN_SHARE:
            print(f"  discarded: others used {foreign:.0%} of the cores", flush=True)
            discarded += 1
            continue
        kept.append((found[0], found[1]))
    if not kept:
        raise SystemExit("no round was quiet enough to count")
    return {
        "threads": best[0],
        "pieces": best[1],
        "discarded": discarded,
        "ours": [one for one, _ in kept],
        "trl": [other for _, other in kept],
    }


def as_markdown(results: dict[str, Any]) -> str:
    """The committed table."""
    where, played, ours = results["machine"], results["rounds"], results["rounds"]["ours"]
    rate = {
        name: np.array([one[name] for one in ours])
        for name in ("sampling", "without_cache", "step")
    }
    trl = np.array([one["step"] for one in played["trl"]])
    cache = speed.ratio_of_medians(rate["sampling"], rate["without_cache"])
    step = speed.ratio_of_medians(rate["step"], trl)
    work, cores = ours[0]["work"], where["cores"]
    core = np.median([one["limit"] for one in ours]) / cores
    tokens = recipe.PROMPTS * recipe.GROUP * recipe.NEW
    lines = [
        "# Tokens per second",
        "",
        f"Made by `make bench-tokens` on {results['date']}: {where['cpu']}, {where['cores']} cores, "
        f"{where['system']}, Python {where['python']}.",
        f"{recipe.PROMPTS} prompts x {recipe.GROUP} answers of {recipe.NEW} tokens after {recipe.PROMPT}; "
        f"{recipe.LAYERS} layers of width {recipe.WIDTH}. Medians of {len(ours)} rounds "
        f"({played['discarded']} discarded); ratios of medians with {speed.spread([len(ours)])}.",
        "",
        "| | thousand tokens/s | against | ratio | aim |",
        "|---|---|---|---|---|",
        row(
            "sampling with a cache",
            rate["sampling"],
            f"without, {np.median(rate['without_cache']) / 1e3:.1f}",
            cache,
            AIMS["cache"],
        ),
        row(
            "sampling and one update",
            rate["step"],
            f"TRL's GRPOTrainer, {np.median(trl) / 1e3:.1f}",
            step,
            AIMS["step"],
        ),
        "",
        f"TRL ran with {played['threads']} threads and its batch in {played['pieces']} pieces, the fastest "
        "of those tried. Ours is one seed on each core.",
        "",
        "## How far a step is from its multiplications",
        "",
        "Seconds that a step of one core would take if it did nothing but the products of its matrices, at "
        f"the speed of the perceptron's own ({2 * core / 1e9:.0f} GFLOP/s a core, measured in the same run):",
        "",
        "| | multiply-adds | seconds |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {count:.2e} | {count / core:.3f} |" for name, count in work.items()]
    total = sum(work.values())
    whole = tokens / (np.median(rate["step"]) / cores)
    lines += [
        f"| all of them | {total:.2e} | {total / core:.3f} |",
        f"| a step as it is | | {whole:.3f}, {whole * core / total:.1f} times as long |",
    ]
    return "\n".join(lines) + "\n"


def row(title: str, rates: Any, other: str, ratio: speed.Ratio, aim: float) -> str:
    """One line of the table."""
    met = "met" if ratio.value >= aim else "not met"
    return f"| {title} | {np.median(rates) / 1e3:.1f} | {other} | {ratio} | {aim:g} ({met}) |"


def main() -> int:
    """Measure, write the tables, and return 1 if an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--output", type=Path, default=speed.ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    results = {
        "machine": speed.machine(),
        "date": time.strftime("%Y-%m-%d"),
        "rounds": play(arguments.rounds, arguments.steps),
    }
    text = as_markdown(results)
    write_bytes(arguments.output / "tokens.json", (json.dumps(results, indent=1) + "\n").encode())
    write_bytes(arguments.output / "tokens.md", text.encode())
    print(text)
    return 1 if "not met" in text else 0


if __name__ == "__main__":
    sys.exit(main())
