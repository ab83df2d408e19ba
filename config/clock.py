"""The time, as a value that is handed in: nothing below the command line looks at the clock by itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

#: The moment, aware and in UTC.
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(UTC)
