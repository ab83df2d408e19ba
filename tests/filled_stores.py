"""Stores of any revision with rows in all their tables, made from the tables as they are in the database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from alembic import command
from sqlalchemy import JSON, Column, Connection, DateTime, Float, Integer, LargeBinary, MetaData, String, types

from config.home import PROJECT_ROOT
from monitoring import migrations
from monitoring.store import Store

ROWS = 4
#: Rows of each table, by its name; each in the order of its columns, and they in the order of their texts.
Contents = dict[str, list[str]]
_NOON = datetime(2026, 3, 1, 12, 34, 56, 789012, tzinfo=UTC)


def at_revision(url: str, revision: str) -> Store:
    """A store as an older release made it, which is open without being brought up to this one."""
    store = Store(url)
    store._engine = store._connectable()
    with store.writing() as connection:
        migrations.upgrade(connection, revision)
    return store


def downgrade(connection: Connection, revision: str = "base") -> None:
    """Back to an older release, in the caller's transaction. Rows of dropped tables are lost."""
    command.downgrade(migrations.alembic_configuration(connection), revision)


def fill(connection: Connection, first: int = 0, tables: MetaData | None = None) -> None:
    """`ROWS` rows in every table, or in those of a release, from number `first` on: nulls where they may be, the
    largest numbers, any text."""
    for table in (tables or tables_of(connection)).sorted_tables:
        rows = [
            {column.name: _value(connection, column, number) for column in table.columns if _is_given(column)}
            for number in range(first, first + ROWS)
        ]
        connection.execute(table.insert(), rows)


def contents(connection: Connection, only: MetaData | None = None) -> Contents:
    """Every value of every table, or of the tables and columns of `only` alone."""
    found = {}
    for table in (only or tables_of(connection)).sorted_tables:
        found[table.name] = sorted(repr(tuple(row)) for row in connection.execute(table.select()))
    return found


def tables_of(connection: Connection) -> MetaData:
    known = MetaData()
    known.reflect(connection)
    known.remove(known.tables["alembic_version"])
    return known


def _is_given(column: Column[Any]) -> bool:
    """Numbers that the database gives are left to it."""
    return column.table.autoincrement_column is not column or bool(column.foreign_keys)


def _value(connection: Connection, column: Column[Any], number: int) -> Any:
    position = list(column.table.columns).index(column)
    if column.nullable and (number + position) % 3 == 0:
        return None
    if column.foreign_keys:
        [key] = column.foreign_keys
        return number + 1 if isinstance(column.type, Integer) else _value(connection, key.column, number)
    make = next(make for kind, make in _MAKERS if isinstance(column.type, kind))
    value = make(column, number)
    return value.replace(tzinfo=None) if isinstance(value, datetime) and connection.dialect.name == "sqlite" else value


def _text(column: Column[Any], number: int) -> str:
    length = getattr(column.type, "length", None) or 200
    return f"{number} \"ß✓' {column.name}\n\t\\N"[:length]


def _integer(column: Column[Any], number: int) -> int:
    return (2**62 if isinstance(column.type, types.BigInteger) else 2**31 - 1) - number


_MAKERS: list[tuple[type[Any], Callable[[Column[Any], int], Any]]] = [
    (JSON, lambda column, number: {"ß✓": [number, None, 2.5, "\\", {"a": str(column.name)}], "z": 0, "b": True}),
    (DateTime, lambda _, number: _NOON + timedelta(hours=number)),
    (Float, lambda _, number: [0.1, -1e300, 2.5e-310, float("inf")][number % 4] + number * 0.0),
    (Integer, _integer),
    (LargeBinary, lambda _, number: bytes([number, 0, 255, 10, 92, 9, 34, 39])),
    (String, _text),
]


def started(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that runs this code of Python, and is talked to through pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}, cwd="/",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def open_at_once(url: str) -> None:
    """Two processes open, and so migrate, one store at the same moment; both must succeed."""
    code = (
        "import sys; from monitoring.store import Store; print('ready', flush=True); input(); Store(sys.argv[1]).open()"
    )
    processes = [started(code, url) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results
