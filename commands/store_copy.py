"""What `store copy` does: while nobody else is at work, and without a password in an argument."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from typing import ClassVar

import click
from msgspec import Struct
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from commands.store_group import TARGET_VARIABLE
from config.home import is_absent_sqlite
from config.settings import load_settings
from config.state_lock import state_lock
from monitoring.store import Store
from monitoring.store_copy import CopyError, TableCopy, copy_store

_COMMAND = "main.py store copy"


class TargetError(CopyError):
    """The address is no target of a copy."""

    exit_code: ClassVar[int] = 2


class CopyOutcome(Struct, frozen=True, kw_only=True):
    status: str
    source: str
    target: str
    rows: int
    tables: list[TableCopy]
    seconds: float
    next: str


def copy_to(argument: str | None, tell: Callable[[str], None] | None) -> CopyOutcome:
    """Copies the configured store to the argument's URL, or to that of the variable.

    Raises:
        TargetError: no URL, one that is not PostgreSQL's, or an argument that holds a password.
        CopyError: there is nothing to copy, or it cannot be copied there.
        StateLockedError: a scheduler or a run is at work in this state root.
    """
    target = _target(argument)
    address = load_settings().store_address
    source = Store(address)
    if source.is_postgresql:
        raise CopyError(f"the store is on PostgreSQL already ({source.address}); pg_dump copies such a database")
    if is_absent_sqlite(address):
        raise CopyError(f"there is no store at {source.address}: nothing to copy; set `store.url` to {target.address}")
    with state_lock("scheduler", _COMMAND), state_lock("pipeline", _COMMAND), source, closing(target):
        copied = copy_store(source, target, tell)
    return CopyOutcome(
        status="copied",
        source=copied.source,
        target=copied.target,
        rows=copied.rows,
        tables=copied.tables,
        seconds=copied.seconds,
        next=f"set store.url (or MLOPS_STORE__URL) to {copied.target} wherever a scheduler, a sync or a command of "
        f"this system runs, and start them again; {copied.source} is left as it was",
    )


def _target(argument: str | None) -> Store:
    text = argument or os.environ.get(TARGET_VARIABLE, "").strip()
    if not text:
        raise TargetError(f"where to? give --to URL, or set {TARGET_VARIABLE}")
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        raise TargetError("the target is no database URL; expected postgresql+psycopg://USER@HOST/DATABASE") from None
    if argument and (url.password is not None or "password" in url.query):
        raise TargetError(
            f"--to holds a password, and what runs here can be read by others; set {TARGET_VARIABLE} to the URL "
            "instead, or leave the password to PGPASSWORD or ~/.pgpass"
        )
    if not url.drivername.startswith("postgres"):
        raise TargetError(f"the target names {url.drivername}; expected postgresql+psycopg://USER@HOST/DATABASE")
    return Store(text, ends_silence=False)


def print_copy(outcome: CopyOutcome) -> None:
    for table in outcome.tables:
        click.echo(f"{table.rows:>12,}  {table.table}")
    click.echo(f"{outcome.rows:>12,}  rows, the same in both, in {outcome.seconds:,.1f} s")
    click.echo(f"next: {outcome.next}")
