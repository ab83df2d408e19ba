"""How far reading is behind writing, told from the files and the store alone; changes nothing and reads one line."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from sqlalchemy import select

from monitoring import tables
from monitoring.daily_files import LogFile, log_files
from monitoring.store import Store

#: More than this is taken for lines without a look.
_GLANCE_BYTES = 64 * 1024


class LogLag(Struct, frozen=True, kw_only=True):
    """What of this host's logs is not in the store; a last line without its newline, perhaps being written, is not."""

    unread_bytes: int
    unread_files: int
    #: When the oldest line that waits was written, and how long ago that is.
    oldest_unread_at: datetime | None
    oldest_unread_seconds: float | None
    #: When this host's logs were last read; None when they never were.
    last_read_at: datetime | None


class _Waiting(Struct, frozen=True):
    """A file with the place from which on it is not read."""

    file: LogFile
    offset: int
    size: int
    #: Seconds since 1970.
    written_at: float


class _Moment(Struct):
    timestamp: datetime


def log_lag(store: Store | None, logs: Path, source_file: Path, now: datetime) -> LogLag:
    """`store` is None when there is none yet: then nothing is read."""
    read_at, offsets = (None, {}) if store is None else _read_so_far(store, source_file)
    waiting = [one for file in log_files(logs) if (one := _waiting(file, offsets.get(file.name, 0))) is not None]
    first_day = [one for one in waiting if one.file.day == waiting[0].file.day]
    oldest = min(map(_moment_of, first_day), default=None)
    return LogLag(
        unread_bytes=sum(one.size - one.offset for one in waiting),
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
    sources, files = tables.log_sources.c, tables.log_files.c
    with store.reading() as connection:
        row = connection.execute(select(sources.id, sources.read_at).where(sources.uuid == source)).one_or_none()
        if row is None:
            return None, {}
        places = connection.execute(select(files.name, files.offset).where(files.source == row.id)).all()
    return row.read_at, {place.name: place.offset for place in places}


def _waiting(file: LogFile, offset: int) -> _Waiting | None:
    """None where there is no whole line past the offset."""
    try:
        state = file.path.stat()
        one = _Waiting(file, offset if offset <= state.st_size else 0, state.st_size, state.st_mtime)  # another file
        return one if one.size - one.offset > _GLANCE_BYTES or b"\n" in _glance(one).lstrip(b"\n") else None
    except FileNotFoundError:
        return None


def _glance(one: _Waiting) -> bytes:
    if one.size == one.offset:
        return b""
    with one.file.path.open("rb") as stream:
        stream.seek(one.offset)
        return stream.read(_GLANCE_BYTES)


def _moment_of(one: _Waiting) -> datetime:
    """When the first line that waits was written; when the file was, where that line does not say."""
    try:
        line = _glance(one).lstrip(b"\n").partition(b"\n")[0]
        moment = msgspec.json.decode(line, type=_Moment).timestamp
    except (ValueError, FileNotFoundError):
        moment = datetime.fromtimestamp(one.written_at, UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
