"""When jobs are due: periods, and moments of the week in local time, over changes of the clocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from config.clock import CLOCK_SKEW
from pipeline.job_times import AtMoments, Every, Times

SUNDAY = AtMoments("sunday 02:00")
DAILY = AtMoments("daily 02:30")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Clocks there go forward on 29 March 2026 at 02:00 and back on 25 October 2026 at 03:00."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("now", "previous", "upcoming"),
    [
        ("2026-07-15 12:00", "2026-07-12 00:00", "2026-07-19 00:00"),  # a Wednesday in summer
        ("2026-07-12 00:00", "2026-07-12 00:00", "2026-07-19 00:00"),  # at the moment itself
        ("2026-07-11 23:59", "2026-07-05 00:00", "2026-07-12 00:00"),  # a minute before
        ("2026-01-03 23:30", "2025-12-28 01:00", "2026-01-04 01:00"),  # over the year's end, in winter
        ("2026-03-28 12:00", "2026-03-22 01:00", "2026-03-29 01:00"),  # 02:00 does not exist: 03:00 summer time
        ("2026-10-24 12:00", "2026-10-18 00:00", "2026-10-25 00:00"),  # 02:00 comes twice: the first
        ("2026-10-25 01:30", "2026-10-25 00:00", "2026-11-01 01:00"),  # after the second 02:00
    ],
)
def test_moments_of_the_week_are_local(now: str, previous: str, upcoming: str) -> None:
    assert SUNDAY.previous(utc(now)) == utc(previous)
    assert SUNDAY.next(utc(now)) == utc(upcoming)


def test_a_weekly_job_runs_once_a_week_over_a_year() -> None:
    now, last, starts = utc("2026-01-01 00:00"), utc("2026-01-01 00:00"), []
    while now < utc("2027-01-01 00:00"):
        if SUNDAY.is_due(last, now):
            starts.append(now)
            last = now
        now += timedelta(minutes=30)
    assert len(starts) == 52
    assert {start.astimezone().weekday() for start in starts} == {6}


def test_a_daily_job_runs_once_a_day_over_the_changes_of_the_clocks() -> None:
    for first in ("2026-03-27 12:00", "2026-10-23 12:00"):
        now = last = utc(first)
        starts = []
        for _ in range(5 * 96):
            now += timedelta(minutes=15)
            if DAILY.is_due(last, now):
                starts.append(now.astimezone().date())
                last = now
        assert len(starts) == len(set(starts)) == 5


def test_what_was_missed_is_due_once() -> None:
    last, now = utc("2026-07-01 12:00"), utc("2026-07-29 12:00")  # down for four Sundays
    assert SUNDAY.is_due(last, now)
    assert not SUNDAY.is_due(now, now)


def test_a_weekly_job_that_was_never_run_waits_for_its_moment() -> None:
    now = utc("2026-07-15 12:00")
    assert SUNDAY.first(now) == utc("2026-07-19 00:00")
    assert Every(timedelta(hours=6)).first(now) == now


def test_a_period_counts_from_the_last_start() -> None:
    six, start = Every(timedelta(hours=6)), utc("2026-07-15 12:00")
    assert not six.is_due(start, start + timedelta(hours=5, minutes=59))
    assert six.is_due(start, start + timedelta(hours=6))
    assert six.next(start) == start + timedelta(hours=6)


def test_a_clock_that_was_set_back_delays_no_job() -> None:
    now = utc("2026-07-15 12:00")
    assert Every(timedelta(hours=6)).is_due(now + timedelta(days=300), now)
    assert SUNDAY.is_due(now + timedelta(days=300), now)


@pytest.mark.parametrize("times", [Every(timedelta(hours=6)), DAILY, SUNDAY])
def test_a_start_that_a_clock_a_little_ahead_has_noted_is_not_due_at_once(times: Times) -> None:
    now = utc("2026-07-15 12:00")
    assert not times.is_due(now + timedelta(seconds=3), now)
    assert not times.is_due(now + CLOCK_SKEW, now)
    assert times.is_due(now + CLOCK_SKEW + timedelta(seconds=1), now)
