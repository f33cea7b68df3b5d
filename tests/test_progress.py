"""How long a run takes, in words."""

import io

import pytest

from vfcompare.training.progress import HEARTBEAT, Progress, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "0 s"),
        (60, "60 s"),
        (600, "10 minutes"),
        (5000, "83 minutes"),
        (5400, "2 hours"),
        (102_000, "28 hours"),
        (172_800, "2 days"),
    ],
)
def test_a_time_is_said_in_the_unit_that_makes_it_short(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_after_a_resume_speed_and_time_left_are_those_of_what_is_done_now() -> None:
    out = io.StringIO()
    progress = Progress("cell", 1_000, out, begun=500)
    progress._shown -= HEARTBEAT
    progress.show(600, 10.0)
    progress.done(1_000, 50.0, 1.0, 0)
    shown, done = out.getvalue().splitlines()
    assert shown == "cell:  60%  10 steps/s  40 s left"
    assert done == "cell: 500 steps in 50.0 s (10/s), compiled in 1.0 s"
