"""What the servers used and how they answered, by hour: requests, errors, processor time and memory.

The server appends a line a minute to `logs/usage_YYYYMMDD.jsonl` (`api/server_usage.py`), each with what came since
the line before. An hour's row is the sum of its lines in the file, written whole at each reading, so that reading a
file again changes nothing. What is torn is passed over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct
from sqlalchemy import Row, func, select

from monitoring.daily_sums import ChangedFiles, whole_lines
from monitoring.store import Store, upsert
from monitoring.tables import server_hours
from monitoring.usage_lines import USAGE_LOG, UsageLine
from monitoring.window_records import day_start, hour_start

_SUMS = ("seconds", "requests", "errors", "cpu_milliseconds")


class ServerFigures(Struct, frozen=True, kw_only=True):
    """All servers together over a day. Memory is the highest that one server was seen with."""

    requests: int
    errors: int
    #: Share of the requests for predictions that were answered with 500 or above; None without requests.
    error_rate: float | None
    cpu_seconds: float
    #: Processors in use on average, while a server ran.
    mean_cpus: float | None
    peak_memory_bytes: int | None


class UsageReader:
    """Brings one state root's usage log into the store."""

    def __init__(self, store: Store, logs: Path) -> None:
        self._store = store
        self._files = ChangedFiles(logs, USAGE_LOG)

    def read(self, source: int) -> int:
        """Reads the files that have changed; returns how many. `source` is the state root's number in the store."""
        return self._files.read(lambda content: self._store_hours(source, whole_lines(content, UsageLine)))

    def _store_hours(self, source: int, lines: Iterable[UsageLine]) -> None:
        hours: defaultdict[datetime, list[UsageLine]] = defaultdict(list)
        for line in lines:
            hours[hour_start(line.timestamp)].append(line)
        with self._store.writing() as connection:
            for hour, of_hour in sorted(hours.items()):
                values = {name: sum(getattr(line, name) for line in of_hour) for name in _SUMS}
                values |= {"peak_memory_bytes": max(line.memory_bytes for line in of_hour)}
                upsert(connection, server_hours, {"source": source, "hour": hour}, values)


class HourOfRequests(Struct, frozen=True, kw_only=True):
    """Requests for predictions of one hour over all servers, and those of them answered with 500 or above."""

    hour: datetime
    requests: int
    errors: int


def server_requests(store: Store, since: datetime, until: datetime) -> list[HourOfRequests]:
    """The hours that touch [since, until) and had a server, newest first, over all hosts."""
    t = server_hours.c
    query = (
        select(t.hour, func.sum(t.requests).label("requests"), func.sum(t.errors).label("errors"))
        .where(t.hour >= hour_start(since), t.hour < until)
        .group_by(t.hour)
        .order_by(t.hour.desc())
    )
    with store.reading() as connection:
        rows = connection.execute(query).all()
    return [HourOfRequests(hour=row.hour, requests=int(row.requests), errors=int(row.errors)) for row in rows]


def server_days(store: Store, since: datetime, until: datetime) -> dict[date, ServerFigures]:
    """Figures by day (UTC) of all hours that touch [since, until), over all hosts."""
    t = server_hours.c
    days: defaultdict[date, list[Row[Any]]] = defaultdict(list)
    with store.reading() as connection:
        query = select(server_hours).where(t.hour >= hour_start(since), t.hour < until)
        for row in connection.execute(query):
            days[day_start(row.hour).date()].append(row)
    return {day: _figures(rows) for day, rows in sorted(days.items())}


def _figures(rows: list[Row[Any]]) -> ServerFigures:
    seconds, requests, errors, milliseconds = (sum(getattr(row, name) for row in rows) for name in _SUMS)
    cpu = timedelta(milliseconds=milliseconds).total_seconds()
    return ServerFigures(
        requests=requests,
        errors=errors,
        error_rate=errors / requests if requests else None,
        cpu_seconds=cpu,
        mean_cpus=cpu / seconds if seconds else None,
        peak_memory_bytes=max(row.peak_memory_bytes for row in rows) or None,
    )
