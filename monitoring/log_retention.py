"""Deletes log files that are older than `logging.retention_days`; off by default.

A file is deleted when its day has been over for that long, so no line is younger. Only log ingestion calls this, and
names the files that it has not read to their end.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from config.settings import Settings

_NAME = re.compile(r"(?:predictions|feedback|usage|refusals)_(\d{8})\.jsonl")


def expired_logs(directory: Path, settings: Settings, now: datetime) -> list[Path]:
    """The files past their time, oldest first; none when nothing is to be deleted."""
    days = settings.logging.retention_days
    if days is None:
        return []
    last = now.astimezone(UTC).date() - timedelta(days=days + 1)
    dated = [(day, path) for path in directory.glob("*.jsonl") if (day := _day(path)) is not None]
    return [path for day, path in sorted(dated) if day <= last]


def delete_expired(directory: Path, settings: Settings, now: datetime, unread: Collection[Path] = ()) -> list[Path]:
    """Deletes the files past their time but those that are still `unread`, and returns what is gone."""
    gone = [path for path in expired_logs(directory, settings, now) if path not in unread]
    for path in gone:
        path.unlink(missing_ok=True)
    return gone


def _day(path: Path) -> date | None:
    found = _NAME.fullmatch(path.name)
    try:
        return datetime.strptime(found[1], "%Y%m%d").replace(tzinfo=UTC).date() if found else None
    except ValueError:
        return None
