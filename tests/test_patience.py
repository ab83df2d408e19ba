"""What has failed is left alone, for longer each time; what is due every few seconds is so by the monotonic clock."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace

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
    patience = Patience(2.0, 10.0, seconds)
    assert [fail(patience, seconds, took) for took in (8.0, 240.0, 40.0)] == [8.0, 240.0, 40.0]
    assert fail(patience, seconds) == 10.0  # what fails at once is asked again soon, however long others took


def test_the_longest_wait_is_never_under_the_shortest() -> None:
    assert fail(Patience(60.0, 30.0, seconds := Seconds()), seconds) == 60.0


def test_an_error_of_another_kind_is_no_failure() -> None:
    seconds = Seconds()
    patience = Patience(2.0, 30.0, seconds)
    fail(patience, seconds)
    assert fail(patience, seconds, error=ValueError) == 0.0


def test_a_wall_clock_that_was_set_back_holds_nothing_up() -> None:
    """It stands still while an hour goes by, as seen from a clock that was set back by an hour."""
    seconds, done = Seconds(), list[str]()
    timetable = Timetable(seconds)
    timetable.every(2.0, lambda: done.append("often"))
    timetable.every(3600.0, lambda: done.append("seldom"))
    timetable.run_due()
    assert done == []
    seconds.now += 1800.0
    timetable.run_due()
    timetable.run_due()
    assert done == ["often"]
    seconds.now += 1801.0
    timetable.run_due()
    assert done == ["often", "often", "seldom"]


class Wall(datetime):
    """A wall clock that goes on with the other one, and may be set."""

    seconds = Seconds()
    ahead = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        assert tz is None
        return datetime(2026, 3, 1, 12) + timedelta(seconds=cls.seconds.now) + cls.ahead  # noqa: DTZ001


@pytest.mark.parametrize("days", [1, -1])
def test_a_wall_clock_that_is_set_while_an_action_runs_stops_no_job_and_repeats_none(
    monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    monkeypatch.setattr("schedule.datetime", SimpleNamespace(datetime=Wall, timedelta=timedelta))
    monkeypatch.setattr("pipeline.timetable.datetime", Wall)
    monkeypatch.setattr(Wall, "seconds", seconds := Seconds())
    monkeypatch.setattr(Wall, "ahead", timedelta())
    done = list[str]()

    def work() -> None:
        done.append("often")
        if len(done) == 1:
            Wall.ahead = timedelta(days=days)

    timetable = Timetable(seconds)
    timetable.every(2.0, work)
    timetable.every(5.0, lambda: done.append("seldom"))
    for _ in range(9):
        seconds.now += 1.0
        timetable.run_due()
    assert done == ["often", "often", "seldom", "often", "often"]
