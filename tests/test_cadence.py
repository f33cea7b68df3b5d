"""When a checkpoint is due, by a clock that stands still where nobody moves it."""

import pytest

from vfcompare.training.cadence import LONGEST, SOON, SPARE, Cadence


class Clock:
    """Seconds, in place of those of `clock.Stopwatch`."""

    now = 0.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """What stopwatches read from now on."""
    clock = Clock()
    monkeypatch.setattr("vfcompare.runs.clock.time", clock)
    return clock


def save(cadence: Cadence, clock: Clock, took: float) -> None:
    with cadence.saving():
        clock.now += took


@pytest.mark.parametrize(
    ("save_seconds", "passed", "in_training", "after_evaluation"),
    [
        (0, 0.0, False, True),
        (0, SOON, False, True),
        (0, SOON + 1, True, True),
        (2, 1.0, False, False),
        (2, 2.0, False, True),
        (2, SOON + 1, True, True),
        (30, 29.0, False, False),
        (30, 30.0, False, True),
        (30, 31.0, True, True),
    ],
)
def test_a_checkpoint_is_due_when_what_was_asked_for_has_passed_and_not_soon_within_training(
    clock: Clock, save_seconds: float, passed: float, in_training: bool, after_evaluation: bool
) -> None:
    cadence = Cadence(save_seconds)
    for _ in range(2):
        clock.now += passed
        assert cadence.due_between_evaluations() == in_training
        assert cadence.due_after_evaluation() == after_evaluation
        save(cadence, clock, 0.0)


@pytest.mark.parametrize(
    ("took", "pause"), [(4.0, SPARE * 4.0), (LONGEST / SPARE + 1, LONGEST), (LONGEST + 1, LONGEST)]
)
def test_one_that_took_long_is_followed_by_a_pause_that_is_bounded(
    clock: Clock, took: float, pause: float
) -> None:
    seldom, always = Cadence(1), Cadence(0)
    for cadence in (seldom, always):
        save(cadence, clock, took)
        begin = clock.now
        clock.now = begin + pause - 1
        assert not cadence.due_between_evaluations()
        assert cadence.due_after_evaluation() == (cadence is always)
        clock.now = begin + pause
        assert cadence.due_after_evaluation()
        clock.now = begin + pause + 1
        assert cadence.due_between_evaluations()


def test_one_that_failed_leaves_the_next_as_due_as_it_was(clock: Clock) -> None:
    cadence = Cadence(30)
    clock.now += 31
    with pytest.raises(OSError, match="full"), cadence.saving():
        raise OSError("the disk is full")
    assert cadence.due_between_evaluations()
