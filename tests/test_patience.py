"""What has failed is left alone, for longer each time; what is due every few seconds is so by the monotonic clock."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pipeline.patience import Patience
from pipeline.timetable import Timetable


class Seconds:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def fail(patience: Patience, seconds: Seconds, took: float = 0.0, error: type[Exception] = OSError) -> float:
    """The wait after a failed attempt."""
    with pytest.raises(error), patience.attempt(OSError):
        seconds.now += took
        raise error
    return patience.left


def test_each_failure_doubles_the_wait_up_to_the_longest_and_a_success_ends_it() -> None:
    seconds = Seconds()
    patience = Patience(2.0, 10.0, seconds)
    assert patience.left == 0.0
    assert [fail(patience, seconds) for _ in range(4)] == [2.0, 4.0, 8.0, 10.0]
    seconds.now += 9.0
    assert patience.left == 1.0
    with patience.attempt():
        pass
    assert (patience.left, fail(patience, seconds)) == (0.0, 2.0)


def test_what_hangs_is_left_alone_for_as_long_as_it_took() -> None:
    seconds = Seconds()
    assert fail(Patience(2.0, 30.0, seconds), seconds, took=8.0) == 8.0
    assert fail(Patience(2.0, 30.0, seconds), seconds, took=60.0) == 30.0


def test_the_longest_wait_is_never_under_the_shortest() -> None:
    assert fail(Patience(60.0, 30.0, seconds := Seconds()), seconds) == 60.0


def test_an_error_of_another_kind_is_no_failure() -> None:
    seconds = Seconds()
    patience = Patience(2.0, 30.0, seconds)
    fail(patience, seconds)
    assert fail(patience, seconds, error=ValueError) == 0.0


def test_the_timetable_does_each_thing_once_however_often_it_was_missed() -> None:
    seconds, done = Seconds(), list[str]()
    timetable = Timetable(seconds)
    timetable.every(2.0, "often", lambda: done.append("often"))
    timetable.every(50.0, "seldom", lambda: done.append("seldom"))
    timetable.run_due()
    assert done == []
    seconds.now += 20.0
    timetable.run_due()
    timetable.run_due()
    assert done == ["often"]
    seconds.now += 30.0
    timetable.run_due()
    assert done == ["often", "often", "seldom"]


def test_what_takes_long_is_due_its_whole_time_after_it_has_ended() -> None:
    seconds, done = Seconds(), list[float]()
    timetable = Timetable(seconds)

    def slow() -> None:
        done.append(seconds.now)
        seconds.now += 8.0

    timetable.every(3.0, "slow", slow)
    for _ in range(200):
        seconds.now += 0.1
        timetable.run_due()
    assert [after - before for before, after in pairwise(done)] == pytest.approx([11.0] * 5, abs=0.2)
