"""Rows that the servers refused, by hour, model version, field and rule.

The server writes them to `logs/refusals_YYYYMMDD.jsonl` (`api/refusal_log.py`); an hour's rows here are the sums of its
lines (`monitoring/daily_sums.py`), so that each line counts once however often it is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from msgspec import Struct
from sqlalchemy import func, select

from monitoring.daily_sums import ChangedFiles, whole_lines
from monitoring.refusal_lines import ALL, REFUSALS_LOG, RefusalLine
from monitoring.store import Store, upsert
from monitoring.tables import refused_hours
from monitoring.window_records import hour_start

_Key = tuple[datetime, str, str, str]


class RefusedHour(Struct, frozen=True, kw_only=True):
    """Of one hour and version, over all hosts; `field` and `rule` as in `refusal_lines`, where `ALL` is every row."""

    hour: datetime
    model_version: str
    field: str
    rule: str
    rows: int
    requests: int


class RefusalReader:
    """Brings one state root's log of refusals into the store."""

    def __init__(self, store: Store, logs: Path) -> None:
        self._store = store
        self._files = ChangedFiles(logs, REFUSALS_LOG)

    def read(self, source: int) -> int:
        """Reads the files that have changed; returns how many. `source` is the state root's number in the store."""
        return self._files.read(lambda content: self._store_hours(source, whole_lines(content, RefusalLine)))

    def _store_hours(self, source: int, lines: Iterable[RefusalLine]) -> None:
        rows: Counter[_Key] = Counter()
        requests: Counter[_Key] = Counter()
        for line in lines:
            hour, version = hour_start(line.timestamp), line.model_version
            counts = [(*ALL, line.rows, line.requests), *((f.field, f.rule, f.rows, f.requests) for f in line.fields)]
            for field, rule, of_rows, of_requests in counts:
                rows[hour, version, field, rule] += of_rows
                requests[hour, version, field, rule] += of_requests
        with self._store.writing() as connection:
            for hour, version, field, rule in sorted(rows):
                key = (hour, version, field, rule)
                values = {"rows": rows[key], "requests": requests[key]}
                names = {"source": source, "hour": hour, "model_version": version, "field": field, "rule": rule}
                upsert(connection, refused_hours, names, values)


def refused(store: Store, since: datetime, until: datetime) -> list[RefusedHour]:
    """What was refused in the hours that touch [since, until), oldest first."""
    t = refused_hours.c
    key = (t.hour, t.model_version, t.field, t.rule)
    query = (
        select(*key, func.sum(t.rows).label("rows"), func.sum(t.requests).label("requests"))
        .where(t.hour >= hour_start(since), t.hour < until)
        .group_by(*key)
        .order_by(*key)
    )
    with store.reading() as connection:
        rows = connection.execute(query).mappings().all()
    return [RefusedHour(**{**row, "rows": int(row["rows"]), "requests": int(row["requests"])}) for row in rows]
