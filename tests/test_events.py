"""What TensorBoard is shown of all seeds together."""

import subprocess
import sys

import numpy as np
import pytest

from vfcompare.runs import board, events


def evaluation(returns, steps):
    """A table of two points of each seed, in the order of the seeds."""
    seeds, points = np.shape(returns)
    return {
        "seed": np.repeat(np.arange(seeds), points),
        "point": np.tile(np.arange(points), seeds),
        "env_steps": np.ravel(steps).astype(np.int64),
        "return_sampled": np.ravel(returns),
        "return_greedy": np.ravel(returns),
        "entropy": np.ones(seeds * points),
    }


DIVERGED = evaluation([[0.0, 1.0], [0.2, 3.0], [0.1, np.nan]], [[0, 1000], [0, 1010], [0, 10]])


def test_means_are_of_the_seeds_that_have_not_diverged():
    first, second = events._means(DIVERGED)
    assert first["return_sampled"] == pytest.approx(0.1)
    assert (second["return_sampled"], second["env_steps"]) == (2.0, 1005.0)


def test_a_point_where_all_have_diverged_is_left_out():
    table = evaluation([[0.0, np.nan], [0.5, np.nan]], [[0, 10], [0, 20]])
    (only,) = events._means(table)
    assert only["env_steps"] == 0.0


def test_the_band_stands_where_the_seeds_in_it_stand():
    steps = [step for step, _ in events._bands("maze", DIVERGED)]
    assert steps == [0, 1005]


def test_columns_of_numbers_have_a_range_and_others_their_words():
    rates = board._domain(["1e-4", "0.01"])
    assert (rates.min_value, rates.max_value) == (1e-4, 1e-2)
    assert board._domain(["ppo", "rloo", "ppo"]).values == ["ppo", "rloo"]
    assert board._domain(["null", "0.5"]).values == ["0.5", "null"]


def test_tensorboard_is_fed_without_jax():
    code = "import sys, vfcompare.runs.board; sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
