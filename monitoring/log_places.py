"""Up to where each log file of a source is read, in the store, and what was set aside in it.

PlaceTakenError         another process has read on from the same place; what was read here must not be kept
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, func, insert, select, update

from monitoring.daily_files import Kind
from monitoring.log_lines import Fragment
from monitoring.store import Store, to_record
from monitoring.tables import log_files, log_fragments

#: The newest fragments of a source are kept to be looked at, so many of one batch at most.
KEPT_FRAGMENTS = 1000
_FRAGMENTS_OF_BATCH = 100


class PlaceTakenError(Exception):
    """Somebody else reads the same log; the transaction must be undone."""


class Place(Struct, frozen=True, kw_only=True):
    """How far a file is read. Counters are totals of the file: whole lines, fragments, lines known already."""

    id: int
    name: str
    offset: int
    mark: bytes
    generation: int
    lines: int
    fragments: int
    repeated: int
    deleted_at: datetime | None


class LogPlaces:
    """The places of one source."""

    def __init__(self, store: Store, source: int) -> None:
        self._store = store
        self._source = source

    def all(self) -> dict[str, Place]:
        """By the file's name."""
        names = [log_files.c[name] for name in Place.__struct_fields__]
        with self._store.reading() as connection:
            rows = connection.execute(select(*names).where(log_files.c.source == self._source)).all()
        return {row.name: to_record(row, Place) for row in rows}

    def begin(self, name: str) -> Place:
        """The place of a file that is new."""
        values = {"name": name, "offset": 0, "mark": b"", "generation": 0, "lines": 0, "fragments": 0, "repeated": 0}
        with self._store.writing() as connection:
            statement = insert(log_files).values(source=self._source, **values).returning(log_files.c.id)
            identifier = connection.execute(statement).scalar_one()
        return Place(id=identifier, deleted_at=None, **values)  # type: ignore[arg-type]

    def begin_again(self, place: Place) -> Place:
        """The place of a file that is another one than the one that had been read."""
        moved = msgspec.structs.replace(place, offset=0, mark=b"", generation=place.generation + 1, deleted_at=None)
        with self._store.writing() as connection:
            move(connection, place, moved)
        return moved

    def set_aside(self, connection: Connection, place: Place, fragments: Sequence[Fragment], now: datetime) -> None:
        """Keeps the beginnings of fragments, the newest ones of the source only."""
        if not fragments:
            return
        common = {"source": self._source, "file": place.id, "seen_at": now}
        kept = fragments[-_FRAGMENTS_OF_BATCH:]
        connection.execute(insert(log_fragments), [common | msgspec.structs.asdict(one) for one in kept])
        f = log_fragments.c
        newest = select(f.id).where(f.source == self._source).order_by(f.id.desc()).offset(KEPT_FRAGMENTS).limit(1)
        last = connection.scalar(newest)
        if last is not None:
            connection.execute(delete(log_fragments).where(f.source == self._source, f.id <= last))

    def mark_deleted(self, names: Sequence[str], now: datetime) -> None:
        with self._store.writing() as connection:
            of_files = (log_files.c.source == self._source, log_files.c.name.in_(names))
            connection.execute(update(log_files).where(*of_files).values(deleted_at=now))


def line_counts(store: Store, since: datetime, until: datetime) -> tuple[int, int]:
    """Whole lines, and fragments, in the files of the days (UTC) of a period, of all hosts."""
    days = (until.astimezone(UTC).date() - since.astimezone(UTC).date()).days + 1
    names = [
        f"{kind}_{since.astimezone(UTC) + timedelta(days=day):%Y%m%d}.jsonl"
        for kind in get_args(Kind)
        for day in range(days)
    ]
    f = log_files.c
    with store.reading() as connection:
        sums = select(func.sum(f.lines), func.sum(f.fragments)).where(f.name.in_(names))
        lines, fragments = connection.execute(sums).one()
    return int(lines or 0), int(fragments or 0)


def move(connection: Connection, before: Place, after: Place) -> None:
    """The first statement of a transaction that keeps what was read between the two; raises `PlaceTakenError`."""
    f = log_files.c
    unmoved = (f.id == before.id, f.offset == before.offset, f.generation == before.generation)
    values = msgspec.structs.asdict(after)
    moved = {name: values[name] for name in values if name not in ("id", "name")}
    if connection.execute(update(log_files).where(*unmoved).values(**moved)).rowcount != 1:
        raise PlaceTakenError
