"""Copies an SQLite store to PostgreSQL, and proves that everything has arrived.

    CopyError               the target cannot be used, or is not what was read; it is left as empty as it was

All of it is one transaction of the target, in which the tables are read back and compared with what was read: by the
number of rows, and by a digest of their contents that does not depend on their order (databases sort text differently).
The source is held for as long, so that nothing is written there which the copy would lack.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import JSON, Connection, Table, func, select, text

from config.errors import ProductError, mend
from monitoring.plain_json import encode
from monitoring.store import Store
from monitoring.tables import metadata

#: Rows that are held in memory at once.
CHUNK_ROWS = 2000
_DIGEST_BITS = 128
_TELL_SECONDS = 2.0


class CopyError(ProductError):
    """The store cannot be copied there; the message says why, and what to do."""


class TableCopy(Struct, frozen=True, kw_only=True):
    table: str
    rows: int
    #: Of the contents in any order: hexadecimal sum of the digests of the rows, modulo 2^128.
    digest: str


class StoreCopy(Struct, frozen=True, kw_only=True):
    """What was copied; addresses are without their passwords."""

    source: str
    target: str
    tables: list[TableCopy]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


def copy_store(source: Store, target: Store, tell: Callable[[str], None] | None = None) -> StoreCopy:
    """Copies every table of `source` (SQLite, open) to `target` (PostgreSQL), which is opened and must hold nothing.

    Args:
        tell: hears a sentence now and then while it works.

    Raises:
        CopyError: the target holds something, refuses a row, or does not hold what was read in the end.
        StoreError: one of the two cannot be used.
    """
    started, progress = time.monotonic(), _Progress(tell)
    _refuse_other_tables(target)
    with source.writing() as reading, target.open().writing() as writing:
        _take_for_itself(writing, target)
        tables = [_copy_table(table, reading, writing, progress) for table in metadata.sorted_tables]
        for table, copied in zip(metadata.sorted_tables, tables, strict=True):
            _compare(table, copied, writing, progress)
    seconds = time.monotonic() - started
    return StoreCopy(source=source.address, target=target.address, tables=tables, seconds=seconds)


def _refuse_other_tables(target: Store) -> None:
    """A database of another program, say MLflow's, which has tables of the same names."""
    found = target.table_names()
    if others := sorted(found - set(metadata.tables) - {"alembic_version"}):
        raise CopyError(
            f"{target.address} holds tables of something else, such as {others[0]}; make a database for the store alone"
        )


def _take_for_itself(connection: Connection, target: Store) -> None:
    """Until the end nobody else writes to the target, and the copy may take as long as it takes, unlike what else is
    done with a store; raises `CopyError` when somebody has written there."""
    names = ", ".join(metadata.tables)
    connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"))
    connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))
    for table in metadata.sorted_tables:
        if connection.execute(select(table).limit(1)).first() is not None:
            raise CopyError(
                f"{target.address} is not empty: its table {table.name} holds rows; make an empty database for the copy"
            )


def _copy_table(table: Table, reading: Connection, writing: Connection, progress: _Progress) -> TableCopy:
    import psycopg

    summary = _Summary()
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    cursor = writing.connection.cursor()
    try:
        with cursor.copy(f'COPY "{table.name}" ({columns}) FROM STDIN') as copy:
            for chunk in _chunks(table, reading):
                for row in chunk:
                    copy.write_row(row)
                summary.add(chunk)
                progress.tell(f"copying {table.name}: {summary.rows:,} rows")
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise CopyError(
            f"the table {table.name} cannot be copied: {reason}; {mend(reason, 'the target is left empty')}"
        ) from error
    _continue_numbers(table, writing)
    return TableCopy(table=str(table.name), rows=summary.rows, digest=summary.digest)


def _continue_numbers(table: Table, connection: Connection) -> None:
    """Rows that are added later get numbers after those that were copied."""
    column = table.autoincrement_column
    if column is None:
        return
    highest = connection.execute(select(func.max(column))).scalar()
    if highest is not None:
        sequence = func.pg_get_serial_sequence(table.name, column.name)
        connection.execute(select(func.setval(sequence, highest)))


def _compare(table: Table, copied: TableCopy, writing: Connection, progress: _Progress) -> None:
    """Raises `CopyError` unless the target's table, read back, is what was read."""
    summary = _Summary()
    for chunk in _chunks(table, writing):
        summary.add(chunk)
        progress.tell(f"comparing {table.name}: {summary.rows:,} of {copied.rows:,} rows")
    if (summary.rows, summary.digest) != (copied.rows, copied.digest):
        found = f"{summary.rows:,} rows" if summary.rows != copied.rows else "other contents"
        raise CopyError(
            f"the copy of the table {table.name} has {found} where {copied.rows:,} rows were read; the target is left "
            "empty, the source as it was"
        )


def _chunks(table: Table, connection: Connection) -> Iterator[list[tuple[Any, ...]]]:
    """A table's rows, JSON as its text; a bounded number at a time, of which neither database's driver holds more."""
    texts = [position for position, column in enumerate(table.columns) if isinstance(column.type, JSON)]
    options = {"stream_results": True, "yield_per": CHUNK_ROWS}
    with connection.execute(select(table), execution_options=options) as result:
        for rows in result.partitions():
            yield [_with_texts(row, texts) for row in rows]


def _with_texts(row: Sequence[Any], positions: Sequence[int]) -> tuple[Any, ...]:
    if not positions:
        return tuple(row)
    values = list(row)
    for position in positions:
        values[position] = None if values[position] is None else encode(values[position]).decode()
    return tuple(values)


class _Summary:
    """The number of rows and the digest of their contents."""

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0
        self._encoder = msgspec.msgpack.Encoder()

    def add(self, rows: Sequence[tuple[Any, ...]]) -> None:
        for row in rows:
            content = self._encoder.encode(row)
            self._sum += int.from_bytes(hashlib.blake2b(content, digest_size=_DIGEST_BITS // 8).digest())
        self.rows += len(rows)

    @property
    def digest(self) -> str:
        return f"{self._sum % 2**_DIGEST_BITS:0{_DIGEST_BITS // 4}x}"


class _Progress:
    """Tells at most every `_TELL_SECONDS`, and nothing of what is over by then."""

    def __init__(self, tell: Callable[[str], None] | None) -> None:
        self._tell = tell
        self._due = time.monotonic() + _TELL_SECONDS

    def tell(self, sentence: str) -> None:
        if self._tell is not None and time.monotonic() >= self._due:
            self._tell(sentence)
            self._due = time.monotonic() + _TELL_SECONDS
