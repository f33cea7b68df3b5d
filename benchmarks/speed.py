"""How fast vfcompare trains beside rejax and Stable-Baselines3, on this machine, in one run.

`make bench` runs it. Every measurement is a process of its own; sides alternate; a round in which
anything else kept the cores busy is discarded and repeated. See benchmarks/README.md.
"""

import argparse
import functools
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.peers import recipe
from vfcompare.runs.store import write_bytes

ROOT = Path(__file__).resolve().parent.parent
PEER_PYTHON = ROOT / ".bench-venv" / "bin" / "python"
BATCH = recipe.NUM_ENVS * recipe.NUM_STEPS
GATE_STEPS = 977 * BATCH
GATE_RETURN = 475.0
GATE_SEEDS = {"ours": 16, "rejax": 16, "sb3": 4}
MAX_FOREIGN_SHARE = 0.08
MAX_TRIES = 4
QUIET_SECONDS = 2.0
QUIET_TRIES = 30
RESAMPLES = 10_000
FEW = 5
"""Rounds below which a bootstrap is no interval: of 3, "95 %" covers 73 % of ratios whose truth is known."""
SIDES = {
    "ours": (sys.executable, "benchmarks.peers.ours"),
    "rejax": (str(PEER_PYTHON), "benchmarks.peers.rejax_ppo"),
    "sb3": (str(PEER_PYTHON), "benchmarks.peers.sb3_ppo"),
}
Result = TypeVar("Result")


@dataclass(frozen=True)
class Case:
    """One comparison with a peer.

    Attributes:
      title: what the table says.
      peer: a key of `SIDES`.
      shape: a key of `recipe.SHAPES`.
      seeds: seeds of our side.
      steps: environment steps of each of our seeds.
      peer_seeds: seeds of one of the peer's processes.
      peer_steps: environment steps of each of the peer's seeds.
      peer_processes: processes of the peer that run at the same time.
      threshold: the ratio that the project aims at, if it has one.
    """

    title: str
    peer: str
    shape: str
    seeds: int
    steps: int
    peer_seeds: int
    peer_steps: int
    peer_processes: int = 1
    threshold: float | None = None


CASES = {
    "rejax-1": Case("PPO, 1 seed", "rejax", "ppo", 1, 512 * BATCH, 1, 512 * BATCH, threshold=1.3),
    "rejax-16": Case(
        "PPO, 16 seeds", "rejax", "ppo", 16, 128 * BATCH, 16, 128 * BATCH, threshold=2.5
    ),
    "rejax-16-a2c": Case(
        "A2C-shaped, 16 seeds", "rejax", "a2c", 16, 256 * BATCH, 16, 256 * BATCH, threshold=2.5
    ),
    # Seeds of Stable-Baselines3 run in turn, so that its rate for 16 seeds is its rate for one.
    "sb3-1": Case("PPO, 1 seed", "sb3", "ppo", 1, 512 * BATCH, 1, 48 * BATCH, threshold=25.0),
    "sb3-16": Case(
        "PPO, 16 seeds, the peer's in turn",
        *("sb3", "ppo", 16, 128 * BATCH, 1, 48 * BATCH),
        threshold=60.0,
    ),
    "sb3-16-parallel": Case(
        "PPO, 16 seeds, the peer's in 2 processes",
        *("sb3", "ppo", 16, 128 * BATCH, 1, 48 * BATCH),
        peer_processes=2,
    ),
}


@dataclass
class Rounds:
    """Steps per second of the rounds that count, and how many did not.

    Attributes:
      ours: one number a round, after the warm-up.
      peer: likewise.
      ours_cold: the same with trace and compile.
      peer_cold: likewise.
      discarded: rounds in which other processes used the cores.
    """

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    ours_cold: list[float] = field(default_factory=list)
    peer_cold: list[float] = field(default_factory=list)
    discarded: int = 0


@dataclass(frozen=True)
class Ratio:
    """A ratio of medians with its 95 % bootstrap interval over rounds; of fewer than `FEW`, their range."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return `value [low, high]`."""
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def jiffies() -> tuple[float, float]:
    """Return busy and total time of all cores so far, or zeros where Linux's /proc is missing."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    except FileNotFoundError:
        return 0.0, 0.0
    user, nice, system, idle, iowait, irq, softirq, steal = map(float, fields)
    busy = user + nice + system + irq + softirq + steal
    return busy, busy + idle + iowait


def own_seconds() -> float:
    """Return CPU seconds of this process and of its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def foreign_share(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return the work's result and the share of the cores that others used meanwhile."""
    busy, total = jiffies()
    own = own_seconds()
    result = work()
    busy, total = (after - before for after, before in zip(jiffies(), (busy, total), strict=True))
    own = (own_seconds() - own) * os.sysconf("SC_CLK_TCK")
    return result, max(0.0, busy - own) / total if total else 0.0


def wait_until_quiet() -> None:
    """Wait, a bounded time, until nothing else uses the cores: a busy round would be thrown away."""
    for _ in range(QUIET_TRIES):
        _, foreign = foreign_share(lambda: time.sleep(QUIET_SECONDS))
        if foreign <= MAX_FOREIGN_SHARE:
            return


def environment() -> dict[str, str]:
    """Return the environment of every side: no compilation cache, no flags of ours."""
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    return kept | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_COMPILATION_CACHE": "false"}


def launch(side: str, request: recipe.Request) -> subprocess.Popen[str]:
    """Start one side as its own process."""
    python, module = SIDES[side]
    command = [python, "-m", module, f"--seeds={request.seeds}", f"--steps={request.steps}"]
    command += [f"--shape={request.shape}", f"--threads={request.threads}"]
    command += ["--evaluate"] if request.evaluate else []
    return subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True)


def collect(process: subprocess.Popen[str], timeout: float) -> recipe.Measurement:
    """Return what the process measured; kill it when it hangs."""
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    if process.returncode:
        raise SystemExit(f"{process.args!r} failed with {process.returncode}")
    measurement: recipe.Measurement = json.loads(output.splitlines()[-1])
    return measurement


def measure(
    side: str, request: recipe.Request, *, processes: int = 1, timeout: float = 600.0
) -> list[recipe.Measurement]:
    """Run one side, in several processes at the same time if asked.

    A mapped initialiser that calls LAPACK can deadlock jaxlib's thread pool on two cores, so a side that
    hangs is killed and tried once more.
    """
    try:
        running = [launch(side, request) for _ in range(processes)]
        return [collect(process, timeout) for process in running]
    except subprocess.TimeoutExpired:
        print(f"  {side} hung for {timeout:.0f} s: killed, once more", flush=True)
        return [collect(launch(side, request), timeout) for _ in range(processes)]


def rates(request: recipe.Request, measured: Sequence[recipe.Measurement]) -> tuple[float, float]:
    """Return steps per second of all processes together, warm and with trace and compile."""
    steps = request.seeds * request.steps
    warm = [result["steps_per_second"] for result in measured]
    cold = [
        steps / (steps / rate + result["compile_seconds"])
        for rate, result in zip(warm, measured, strict=True)
    ]
    return sum(warm), sum(cold)


def play_round(case: Case, rounds: Rounds, threads: int, *, peer_first: bool) -> bool:
    """Measure both sides once; return whether the machine was quiet enough to count it."""
    ours = recipe.Request(case.seeds, case.steps, case.shape, evaluate=False, threads=1)
    peer = recipe.Request(
        case.peer_seeds, case.peer_steps, case.shape, evaluate=False, threads=threads
    )
    jobs = [("ours", ours, 1), (case.peer, peer, case.peer_processes)]
    measured = {}
    for side, request, processes in reversed(jobs) if peer_first else jobs:
        work = functools.partial(measure, side, request, processes=processes)
        results, foreign = foreign_share(work)
        if foreign > MAX_FOREIGN_SHARE:
            print(f"  discarded: others used {foreign:.0%} of the cores beside {side}", flush=True)
            rounds.discarded += 1
            return False
        measured[side] = rates(request, results)
    for side, warm, cold in (
        ("ours", rounds.ours, rounds.ours_cold),
        (case.peer, rounds.peer, rounds.peer_cold),
    ):
        warm.append(measured[side][0])
        cold.append(measured[side][1])
    return True


def ratio_of_medians(ours: npt.ArrayLike, peer: npt.ArrayLike) -> Ratio:
    """Return the ratio of the medians; the interval resamples whole rounds, or is the range of a few."""
    pairs = np.array([ours, peer], float)
    value = float(np.median(pairs[0]) / np.median(pairs[1]))
    if pairs.shape[1] < FEW:
        ratios = pairs[0] / pairs[1]
        # A ratio of medians mixes rounds, and may lie outside of their ratios.
        return Ratio(value, min(value, float(ratios.min())), max(value, float(ratios.max())))
    generator = np.random.default_rng(0)
    picks = generator.integers(pairs.shape[1], size=(RESAMPLES, pairs.shape[1]))
    medians = np.median(pairs[:, picks], axis=2)
    low, high = np.quantile(medians[0] / medians[1], [0.025, 0.975])
    return Ratio(value, float(low), float(high))


def spread(rounds: Sequence[int]) -> str:
    """Say what stands in brackets behind ratios of so many rounds."""
    few = [f"the range of {n} rounds" for n in sorted(set(rounds)) if n < FEW]
    many = ["95 % bootstrap intervals over rounds"] if not few or max(rounds) >= FEW else []
    return " or ".join(many + few)


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean of the middle half."""
    ordered = np.sort(np.asarray(values, dtype=float))
    cut = len(ordered) // 4
    return float(ordered[cut : len(ordered) - cut].mean())


def learning_gate(side: str, threads: int) -> dict[str, Any]:
    """Train to the end once, to show that what is timed also learns."""
    print(f"gate: {side}, {GATE_SEEDS[side]} seeds x {GATE_STEPS} steps", flush=True)
    request = recipe.Request(GATE_SEEDS[side], GATE_STEPS, "ppo", evaluate=True, threads=threads)
    (result,) = measure(side, request, timeout=1800.0)
    iqm = interquartile_mean(result["final_returns"])
    print(f"  IQM of final returns {iqm:.1f}", flush=True)
    return {"iqm": iqm, "returns": result["final_returns"], "passed": iqm >= GATE_RETURN}


def best_threads() -> int:
    """Return the number of threads with which PyTorch is faster here, one or two."""
    request = recipe.Request(1, 32 * BATCH, "ppo", evaluate=False, threads=1)
    (one,) = measure("sb3", request)
    (two,) = measure("sb3", request._replace(threads=2))
    return 1 if one["steps_per_second"] >= two["steps_per_second"] else 2


def machine() -> dict[str, Any]:
    """Describe the machine in words that name nobody."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    except FileNotFoundError:
        names = []
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }


def run_cases(names: Sequence[str], count: int, threads: int) -> dict[str, Rounds]:
    """Play the rounds; cases take turns, so that a slow quarter of an hour touches all alike."""
    played = {name: Rounds() for name in names}
    for index in range(count):
        for name, rounds in played.items():
            case = CASES[name]
            peer_threads = 1 if case.peer_processes > 1 else threads
            print(f"round {index + 1} of {count}: {case.peer}, {case.title}", flush=True)
            for _ in range(MAX_TRIES):
                wait_until_quiet()
                if play_round(case, rounds, peer_threads, peer_first=bool(index % 2)):
                    break
    return played


def summarise(played: dict[str, Rounds]) -> dict[str, Any]:
    """Return the figures of every case that has rounds."""
    table = {}
    for name, rounds in played.items():
        if not rounds.ours:
            continue
        case = CASES[name]
        warm = ratio_of_medians(rounds.ours, rounds.peer)
        table[name] = {
            **asdict(case),
            "rounds": asdict(rounds),
            "ratio": asdict(warm),
            "ratio_cold": asdict(ratio_of_medians(rounds.ours_cold, rounds.peer_cold)),
            "met": None if case.threshold is None else warm.value >= case.threshold,
        }
    return table


def row(entry: dict[str, Any]) -> str:
    """Return one line of the Markdown table."""
    threshold = entry["threshold"]
    aim = "" if threshold is None else f"{threshold:g} ({'met' if entry['met'] else 'not met'})"
    rounds = entry["rounds"]
    ours, peer = (f"{np.median(rounds[side]) / 1e3:,.1f}" for side in ("ours", "peer"))
    cells = [
        f"{entry['title']}, against {entry['peer']}",
        *(ours, peer, str(Ratio(**entry["ratio"])), aim, str(Ratio(**entry["ratio_cold"]))),
        f"{len(rounds['ours'])} ({rounds['discarded']})",
    ]
    return "| " + " | ".join(cells) + " |"


def as_markdown(results: dict[str, Any]) -> str:
    """Return the committed table."""
    where = results["machine"]
    counts = [len(entry["rounds"]["ours"]) for entry in results["cases"].values()]
    lines = [
        "# Speed beside other systems",
        "",
        f"Made by `make bench` on {results['date']}: {where['cpu']}, {where['cores']} cores, "
        f"{where['system']}, Python {where['python']}.",
        "Thousand environment steps per second over all seeds, medians; ratios of medians with "
        f"{spread(counts)}. *Cold* includes trace and compile of this amount of work.",
        "",
        "| | vfcompare, k/s | peer, k/s | ratio | aim | ratio, cold | rounds (discarded) |",
        "|---|---|---|---|---|---|---|",
        *(row(entry) for entry in results["cases"].values()),
    ]
    if results["gates"]:
        lines += ["", f"Learning gate, IQM of final returns >= {GATE_RETURN:g}:", ""]
        lines += [
            f"* {side}: {gate['iqm']:.1f} over {len(gate['returns'])} seeds, "
            f"{'passed' if gate['passed'] else '**not passed**'}"
            for side, gate in results["gates"].items()
        ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure, write the tables, and return 1 if a gate or an aim was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=sorted(CASES), default=list(CASES))
    parser.add_argument(
        "--skip-gate", action="store_true", help="do not check that the sides learn"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    sides = ["ours", *dict.fromkeys(CASES[name].peer for name in arguments.cases)]
    threads = best_threads() if "sb3" in sides else 1
    gates = {} if arguments.skip_gate else {side: learning_gate(side, threads) for side in sides}
    cases = summarise(run_cases(arguments.cases, arguments.rounds, threads))
    results = {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "sb3_threads": threads,
        "gates": gates,
        "cases": cases,
    }
    write_bytes(arguments.output / "speed.json", (json.dumps(results, indent=1) + "\n").encode())
    write_bytes(arguments.output / "speed.md", as_markdown(results).encode())
    print(as_markdown(results))
    missed = [entry for entry in cases.values() if entry["met"] is False]
    failed = [gate for gate in gates.values() if not gate["passed"]]
    return 1 if missed or failed else 0


if __name__ == "__main__":
    sys.exit(main())
