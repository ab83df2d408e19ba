"""When a job is due, told from when it was last started: every so often, or at a time of the day or week."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Protocol

from config.clock import CLOCK_SKEW, has_elapsed

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class Times(Protocol):
    """All times are aware. A start further ahead than clocks differ is of one that was set back since: it is due."""

    def first(self, now: datetime) -> datetime:
        """When a job that was never run is due."""

    def next(self, now: datetime) -> datetime:
        """When a job that is started now is due again."""

    def is_due(self, last_start: datetime, now: datetime) -> bool: ...


@dataclass(frozen=True)
class Every:
    period: timedelta

    def first(self, now: datetime) -> datetime:
        return now

    def next(self, now: datetime) -> datetime:
        return now + self.period

    def is_due(self, last_start: datetime, now: datetime) -> bool:
        return has_elapsed(self.period, last_start, now)


@dataclass(frozen=True)
class AtMoments:
    """`retraining.schedule`: `daily 04:30` or `sunday 02:00`, in the local time of the host, as people write it.

    A moment that a change of the clocks leaves out is an hour later, and one that comes twice counts at the first.
    """

    schedule: str

    def first(self, now: datetime) -> datetime:
        return self.next(now)

    def next(self, now: datetime) -> datetime:
        return next(moment for days in range(-1, 9) if (moment := self._moment(now, days)) is not None and moment > now)

    def previous(self, now: datetime) -> datetime:
        """The last moment at or before `now`."""
        return next(
            moment for days in range(1, -9, -1) if (moment := self._moment(now, days)) is not None and moment <= now
        )

    def is_due(self, last_start: datetime, now: datetime) -> bool:
        return not self.previous(now) <= last_start <= now + CLOCK_SKEW

    def _moment(self, now: datetime, days: int) -> datetime | None:
        """The moment on the day so many days after that of `now`, if that day has one."""
        name, _, clock = self.schedule.partition(" ")
        day = now.astimezone().date() + timedelta(days=days)
        if name not in ("daily", WEEKDAYS[day.weekday()]):
            return None
        return datetime.fromtimestamp(datetime.combine(day, time.fromisoformat(clock)).timestamp(), UTC)
