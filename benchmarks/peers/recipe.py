"""What every side of the speed comparison is asked to run, and what it hands back.

Only the standard library is imported here: the peers live in an environment of their own.
"""

import argparse
import json
from collections.abc import Callable
from typing import NamedTuple, TypedDict

NUM_ENVS = 4
NUM_STEPS = 128
HIDDEN = (64, 64)
LEARNING_RATE = 2.5e-4
GAMMA = 0.99
GAE_LAMBDA = 0.95
CLIP = 0.2
ENTROPY_COEF = 0.01
VALUE_COEF = 0.5
MAX_GRAD_NORM = 0.5
ADAM_EPS = 1e-5


class Shape(NamedTuple):
    """How often one rollout is used.

    Attributes:
      epochs: passes over a rollout.
      minibatches: gradient steps of one pass.
    """

    epochs: int
    minibatches: int


SHAPES = {"ppo": Shape(epochs=4, minibatches=4), "a2c": Shape(epochs=1, minibatches=1)}


class Request(NamedTuple):
    """One measurement.

    Attributes:
      seeds: independent trainings, run the fastest way that the side offers.
      steps: environment steps of each seed, a multiple of `NUM_ENVS * NUM_STEPS`.
      shape: a key of `SHAPES`.
      evaluate: whether to measure what was learned, after the clock has stopped.
      threads: for sides whose number of threads is a free choice.
    """

    seeds: int
    steps: int
    shape: str
    evaluate: bool
    threads: int

    @property
    def updates(self) -> int:
        """Updates of each seed."""
        return self.steps // (NUM_ENVS * NUM_STEPS)

    @property
    def gradient_steps(self) -> int:
        """Gradient steps of each seed, over which the learning rate falls to zero."""
        epochs, minibatches = SHAPES[self.shape]
        return self.updates * epochs * minibatches


class Measurement(TypedDict):
    """What one process hands back.

    Attributes:
      steps_per_second: over all seeds, after a warm-up, without trace and compile; zero where only the
        returns were asked for.
      compile_seconds: trace and compile; zero where nothing is compiled.
      final_returns: mean undiscounted return of the final policy, one number a seed; empty unless asked.
    """

    steps_per_second: float
    compile_seconds: float
    final_returns: list[float]


def serve(run: Callable[[Request], Measurement]) -> None:
    """Answer the request on the command line with one line of JSON, the last of standard output."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=65_536)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="ppo")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    print(json.dumps(run(Request(**vars(parser.parse_args())))), flush=True)
