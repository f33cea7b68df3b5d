"""How long a run takes, in words."""

import pytest

from vfcompare.progress import duration


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
