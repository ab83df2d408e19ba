"""The time, as a value that is handed in: nothing below the command line looks at the clock by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

#: The moment, aware and in UTC.
Clock = Callable[[], datetime]
#: By as much may the clocks of hosts that share a store differ; what is dated further ahead is of a clock that was set
#: back since.
CLOCK_SKEW = timedelta(minutes=5)


def utc_now() -> datetime:
    return datetime.now(UTC)


def has_elapsed(span: timedelta, since: datetime, now: datetime) -> bool:
    """Whether `span` is over since then; always where that is in the future by more than `CLOCK_SKEW`, or what a clock
    that was ahead has dated would be waited for."""
    return not -CLOCK_SKEW <= now - since < span
