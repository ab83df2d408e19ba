"""The store: one database of what happened (runs, promotions, incidents), SQLite by default, PostgreSQL by URL.

    StoreError              the store cannot be used: unreachable, locked, damaged, or made by a newer release

The tables stand in `monitoring/tables.py`; who reads and writes them, in the modules beside (`run_records`,
`promotion_history`, `incidents`, …). A process opens its own store: connections do not survive a fork.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from sqlalchemy import URL, Connection, Engine, Row, Table, create_engine, event, inspect, make_url, text
from sqlalchemy import exc as sql_errors
from sqlalchemy.dialects import postgresql, sqlite

from config.errors import ProductError, mend
from monitoring import migrations
from monitoring.plain_json import encode

#: How long a writer waits for another one, and a connection for its server.
LOCK_WAIT_SECONDS = 10.0
CONNECT_SECONDS = 5
#: A connection whose other side is gone without a word is given up after this long, by either side (up to three times
#: as long, by how the kernel tries again). Else it would be a quarter of an hour, and two hours for the locks there.
SILENCE_SECONDS = 10
#: No statement of the product takes this long (a migration may), nor rests a transaction of it so long.
STATEMENT_SECONDS, IDLE_SECONDS = 120, 300
_KEEPALIVE = {"idle": 4, "interval": 3, "count": 2}
_MIGRATION_LOCK = 0x6D6C6F7073  # PostgreSQL advisory lock: 'mlops'
Record = TypeVar("Record")


class StoreError(ProductError):
    """The store cannot be used; the message says which one, why, and what to do."""


class Store:
    """A connection pool on one store. Safe to share between the threads of one process."""

    def __init__(self, url: str, *, ends_silence: bool = True) -> None:
        """`ends_silence=False`: for a connection over which much is sent at once. PostgreSQL may live and read nothing
        for longer than `SILENCE_SECONDS` then, say in a checkpoint; whether it lives is asked all the same."""
        self._url = _supported_url(url)
        self._silence_seconds = SILENCE_SECONDS if ends_silence else 0
        self._engine: Engine | None = None

    @property
    def address(self) -> str:
        """The URL, without its password."""
        return self._url.difference_update_query(["password"]).render_as_string(hide_password=True)

    @property
    def is_postgresql(self) -> bool:
        return self._url.drivername != "sqlite"

    def open(self) -> Self:
        """Connects and brings the tables up to this release; safe when several processes do it at once.

        Raises:
            StoreError: unreachable, or made by a newer release.
        """
        if self._engine is not None:
            return self
        self._engine = self._connectable()
        try:
            if self._revision() != migrations.HEAD:
                self._migrate()
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def table_names(self) -> set[str]:
        """The tables of the database, whoever made them; makes none itself."""
        if self._engine is None:
            self._engine = self._connectable()
            try:
                return self.table_names()
            finally:
                self.close()
        with self.reading() as connection:
            return set(inspect(connection).get_table_names())

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that only reads."""
        with self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes: all or nothing, committed at the end of the block."""
        with self._transaction(writes=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        if self._engine is None:
            raise StoreError(f"the store {self.address} is not open")
        try:
            with self._engine.execution_options(writes=writes).begin() as connection:
                yield connection
        except (sql_errors.DatabaseError, sql_errors.InterfaceError) as error:
            if isinstance(error, sql_errors.IntegrityError | sql_errors.ProgrammingError | sql_errors.DataError):
                raise
            next_step = mend(_reason(error), "check `store.url`")
            raise StoreError(f"the store {self.address} cannot be used: {_reason(error)}; {next_step}") from error

    def _connectable(self) -> Engine:
        try:
            if self._url.drivername == "sqlite":
                return _sqlite_engine(self._url)
            return _postgresql_engine(self._url, self._silence_seconds)
        except OSError as error:
            raise StoreError(f"the store {self.address} cannot be made: {error.strerror}; check `store.url`") from error
        except ImportError as error:
            raise StoreError(
                f"the store {self.address} needs psycopg ({error}): pip install 'psycopg[binary]'"
            ) from error

    def _revision(self) -> str | None:
        with self.reading() as connection:
            return _stored_revision(connection)

    def _migrate(self) -> None:
        with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0"))
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            revision = _stored_revision(connection)  # again: another process may have been first
            if revision is not None and not migrations.is_known(revision):
                raise StoreError(
                    f"the store {self.address} was made by a newer release, or is the database of another program "
                    f"(revision {revision}, this release knows {migrations.HEAD}); upgrade this installation, or give "
                    "the store a database of its own"
                )
            if revision != migrations.HEAD:
                migrations.upgrade(connection)


def upsert(connection: Connection, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Inserts the row, or updates `values` of the one that has the same unique `key`."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**key, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=list(key), set_=dict(values)))


def lock_writers(connection: Connection, table: Table) -> None:
    """Until the transaction ends nobody else writes to `table`, so what was read decides what is written."""
    if connection.dialect.name == "postgresql":  # on SQLite every writing transaction is alone already
        connection.execute(text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))


def to_record(row: Row[Any], kind: type[Record]) -> Record:
    """A row as a typed record whose fields have the names of the columns."""
    return msgspec.convert({str(name): value for name, value in row._mapping.items()}, kind)


def _supported_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (sql_errors.ArgumentError, ValueError):  # the latter of a port that is no number
        raise StoreError("`store.url` is no database URL; expected sqlite:///… or postgresql://…") from None
    if parsed.drivername in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "postgresql+psycopg" or (parsed.drivername == "sqlite" and parsed.database):
        return parsed
    raise StoreError(f"`store.url` names {parsed.drivername}; expected sqlite:///… with a file, or postgresql://…")


def _sqlite_engine(url: URL) -> Engine:
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": LOCK_WAIT_SECONDS}, **_json_options())
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _postgresql_engine(url: URL, silence_seconds: int) -> Engine:
    """`silence_seconds`: 0 for no end of a connection over which nothing gets through."""
    own = {name: value for name, value in _postgresql_patience(silence_seconds).items() if name not in url.query}
    engine = create_engine(url.update_query_dict(own), pool_pre_ping=True, **_json_options())
    event.listen(engine, "connect", lambda connection, _record: _bound_session(connection, silence_seconds))
    return engine


def _postgresql_patience(silence_seconds: int) -> dict[str, str]:
    """libpq's own parameters of a connection; the URL may say otherwise."""
    return {
        "connect_timeout": str(CONNECT_SECONDS),
        "tcp_user_timeout": str(silence_seconds * 1000),
        **{f"keepalives_{name}": str(value) for name, value in _KEEPALIVE.items()},
    }


def _bound_session(connection: Any, silence_seconds: int) -> None:
    """The same on the server's side, which else keeps the locks of a host that is gone; and bounds for a statement."""
    bounds = {
        "tcp_user_timeout": f"{silence_seconds}s",
        **{f"tcp_keepalives_{name}": str(value) for name, value in _KEEPALIVE.items()},
        "lock_timeout": f"{LOCK_WAIT_SECONDS:.0f}s",
        "statement_timeout": f"{STATEMENT_SECONDS}s",
        "idle_in_transaction_session_timeout": f"{IDLE_SECONDS}s",
    }
    with connection.cursor() as cursor:
        cursor.execute("; ".join(f"SET {name} = '{value}'" for name, value in bounds.items()))
    connection.commit()


def _json_options() -> dict[str, Any]:
    return {"json_serializer": lambda value: encode(value).decode(), "json_deserializer": msgspec.json.decode}


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says, not where the driver guesses
    for pragma in ("foreign_keys = ON", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}")
    _use_wal(connection)


def _use_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for its busy timeout when two processes turn WAL on at once; so this does."""
    deadline = time.monotonic() + LOCK_WAIT_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once when another has written between; IMMEDIATE waits.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _stored_revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _reason(error: sql_errors.DBAPIError) -> str:
    return " ".join(str(error.orig).split())
