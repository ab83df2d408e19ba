"""When the scheduler does what it does every few seconds.

`schedule` goes by the wall clock: after that was set back, by hand or at the end of summer, nothing would be done until
it has caught up. So what is due moves with the clock, which is told by the monotonic one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

import schedule

#: By so much two clocks may come apart between two looks; more is a clock that was set.
_TOLERATED = timedelta(seconds=0.5)


class Timetable:
    """Intervals of whole seconds, at least one. `seconds` is the clock that nobody sets."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._scheduler = schedule.Scheduler()
        self._zero = self._zero_of_the_other_clock()

    def every(self, seconds: float, action: Callable[[], object]) -> None:
        """From now on, the first time after `seconds`."""

        def follow_clock_after() -> None:
            action()
            self._follow_clock()  # before `schedule` counts this job's next time by the clock as it is now

        self._follow_clock()
        self._scheduler.every(max(1, round(seconds))).seconds.do(follow_clock_after)

    def run_due(self) -> None:
        """Does what is due, each once, however often it was missed; the next time counts from the end of it."""
        self._follow_clock()
        self._scheduler.run_pending()

    def _follow_clock(self) -> None:
        """Moves what is due by as much as the wall clock was set since the last look."""
        moved = self._zero_of_the_other_clock() - self._zero
        if abs(moved) > _TOLERATED:
            for job in self._scheduler.jobs:
                job.next_run += moved
            self._zero += moved

    def _zero_of_the_other_clock(self) -> datetime:
        """What the local wall clock, by which `schedule` goes, showed when the other one was at 0."""
        return datetime.now() - timedelta(seconds=self._seconds())  # noqa: DTZ005 - as schedule does it
