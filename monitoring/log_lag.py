"""How far reading is behind writing, told from the files and the store alone; changes nothing and reads one line."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct
from sqlalchemy import select

from monitoring import tables
from monitoring.daily_files import KINDS, Kind, LogFile, log_files
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


class ReadSoFar(Struct, frozen=True, kw_only=True):
    """How far this host's logs are in the store."""

    #: When they were last read; None when they never were.
    at: datetime | None = None
    #: Bytes by the file's name.
    offsets: dict[str, int] = {}
    #: Whole lines, and fragments, that were ever read, of files that are deleted by now too.
    lines: dict[Kind, int] = {}
    fragments: dict[Kind, int] = {}


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
    return lag_behind(ReadSoFar() if store is None else read_so_far(store, source_file), logs, now)


def lag_behind(read: ReadSoFar, logs: Path, now: datetime, kind: Kind | None = None) -> LogLag:
    """What of the logs, or of one kind of them, is written past the places where reading stands."""
    files = [file for file in log_files(logs) if kind in (None, file.kind)]
    waiting = [one for file in files if (one := _waiting(file, read.offsets.get(file.name, 0))) is not None]
    first_day = [one for one in waiting if one.file.day == waiting[0].file.day]
    oldest = min(map(_moment_of, first_day), default=None)
    return LogLag(
        unread_bytes=sum(one.size - one.offset for one in waiting),
        unread_files=len(waiting),
        oldest_unread_at=oldest,
        oldest_unread_seconds=None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        last_read_at=read.at,
    )


def read_so_far(store: Store, source_file: Path) -> ReadSoFar:
    """Of this state root, whose UUID stands in `source_file`; nothing when there is none yet."""
    try:
        source = str(uuid.UUID(source_file.read_text().strip()))
    except (OSError, ValueError):
        return ReadSoFar()
    sources, files = tables.log_sources.c, tables.log_files.c
    with store.reading() as connection:
        row = connection.execute(select(sources.id, sources.read_at).where(sources.uuid == source)).one_or_none()
        if row is None:
            return ReadSoFar()
        columns = (files.name, files.offset, files.lines, files.fragments)
        places = connection.execute(select(*columns).where(files.source == row.id)).all()
    return ReadSoFar(
        at=row.read_at,
        offsets={place.name: place.offset for place in places},
        lines={kind: sum(place.lines for place in places if place.name.startswith(kind)) for kind in KINDS},
        fragments={kind: sum(place.fragments for place in places if place.name.startswith(kind)) for kind in KINDS},
    )


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
