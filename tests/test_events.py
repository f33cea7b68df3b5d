"""What TensorBoard is shown of all seeds together."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vfcompare.errors import InputError
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


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk here is always full")
def test_a_full_disk_is_told_with_the_file_that_it_had_no_room_for(tmp_path):
    file = events.EventFile(tmp_path)
    file._path.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as told:
        file.flush()
    assert told.value.filename == str(file._path)


def test_a_port_that_somebody_has_is_refused_by_its_number(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            InputError, match=f"--port {port} cannot be had: Address already in use"
        ):
            board.serve(tmp_path, port, seeds=False)
    with pytest.raises(InputError, match="--port 70000 cannot be had: no number of a port"):
        board.serve(tmp_path, 70000, seeds=False)


def test_columns_of_numbers_have_a_range_and_others_their_words():
    rates = board._domain(["1e-4", "0.01"])
    assert (rates.min_value, rates.max_value) == (1e-4, 1e-2)
    assert board._domain(["ppo", "rloo", "ppo"]).values == ["ppo", "rloo"]
    assert board._domain(["null", "0.5"]).values == ["0.5", "null"]


def test_tensorboard_is_fed_without_jax():
    code = "import sys, vfcompare.runs.board; sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
