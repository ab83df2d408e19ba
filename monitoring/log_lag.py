"""How far reading is behind writing, told from the files and the store alone; changes nothing and reads one line."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from sqlalchemy import select

from monitoring.log_places import LogPlaces
from monitoring.log_tail import LogFile, log_files
from monitoring.store import Store
from monitoring.tables import log_sources

#: More than this without a newline is taken for lines.
_GLANCE_BYTES = 256 * 1024


class LogLag(Struct, frozen=True, kw_only=True):
    """What of this host's logs is not in the store; a last line without its newline, perhaps being written, is not."""

    unread_bytes: int
    unread_files: int
    #: When the oldest line that waits was written, and how long ago that is.
    oldest_unread_at: datetime | None
    oldest_unread_seconds: float | None
    #: When this host's logs were last read; None when they never were.
    last_read_at: datetime | None


class _Moment(Struct):
    timestamp: datetime


def log_lag(store: Store | None, logs: Path, source_file: Path, now: datetime) -> LogLag:
    """`store` is None when there is none yet: then nothing is read."""
    read_at, offsets = (None, {}) if store is None else _read_so_far(store, source_file)
    waiting = [
        (file, size, moment) for file in log_files(logs) for size, moment in _waiting(file, offsets.get(file.name, 0))
    ]
    oldest = min((moment for _, _, moment in waiting), default=None)
    return LogLag(
        unread_bytes=sum(size for _, size, _ in waiting),
        unread_files=len(waiting),
        oldest_unread_at=oldest,
        oldest_unread_seconds=None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        last_read_at=read_at,
    )


def _read_so_far(store: Store, source_file: Path) -> tuple[datetime | None, dict[str, int]]:
    """When this source was last read, and how far by file."""
    try:
        source = str(uuid.UUID(source_file.read_text().strip()))
    except (OSError, ValueError):
        return None, {}
    with store.reading() as connection:
        s = log_sources.c
        row = connection.execute(select(s.id, s.read_at).where(s.uuid == source)).one_or_none()
    if row is None:
        return None, {}
    return row.read_at, {name: place.offset for name, place in LogPlaces(store, row.id).all().items()}


def _waiting(file: LogFile, offset: int) -> Iterator[tuple[int, datetime]]:
    """Bytes past the offset, and when the first line among them was written; nothing where no whole line is."""
    try:
        state = file.path.stat()
        offset = offset if offset <= state.st_size else 0  # another file by now
        with file.path.open("rb") as stream:
            stream.seek(offset)
            content = stream.read(_GLANCE_BYTES)
    except FileNotFoundError:
        return
    line, newline, _ = content.lstrip(b"\n").partition(b"\n")
    if newline or len(content) == _GLANCE_BYTES:
        yield state.st_size - offset, _moment_of(line) or datetime.fromtimestamp(state.st_mtime, UTC)


def _moment_of(line: bytes) -> datetime | None:
    try:
        moment = msgspec.json.decode(line, type=_Moment).timestamp
    except ValueError:
        return None
    return moment if moment.tzinfo else None
