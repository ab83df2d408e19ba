"""Every upgrade keeps what is there: from any revision, two at once, killed in the middle; SQLite and PostgreSQL."""

from __future__ import annotations

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, text

from config.home import PROJECT_ROOT
from monitoring import migrations
from monitoring.store import Store
from tests.filled_stores import ROWS, Contents, at_revision, contents, downgrade, fill, open_at_once, started, tables_of

_SCRIPTS = ScriptDirectory(str(PROJECT_ROOT / "monitoring" / "migrations"))
REVISIONS = sorted(script.revision for script in _SCRIPTS.walk_revisions())
BEFORE = REVISIONS[-2]
#: Opens a store; is killed by itself in the transaction that upgrades it: after so many statements, or before the end.
KILLED = """
import os, signal, sys
from sqlalchemy import Engine, event
from monitoring import migrations
from monitoring.store import Store
left = int(sys.argv[2])
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def count(connection, cursor, statement, *_):
    global left
    left -= statement.lstrip().upper().startswith(("CREATE", "ALTER", "INSERT", "UPDATE"))
    if left == 0:
        die()
real = migrations.upgrade
def upgrade(connection):
    event.listen(Engine, "after_cursor_execute", count)
    event.listen(Engine, "commit", die)
    real(connection)
migrations.upgrade = upgrade
Store(sys.argv[1]).open()
"""


def filled(url: str, revision: str) -> tuple[MetaData, Contents]:
    """A store of that revision with rows in it: its tables, and what they hold."""
    store = at_revision(url, revision)
    with store.writing() as connection:
        fill(connection)
        tables = tables_of(connection)
        found = contents(connection, tables)
    store.close()
    assert all(found.values())
    return tables, found


def held(url: str, tables: MetaData) -> Contents:
    """What an upgraded store holds in those tables."""
    with Store(url) as store, store.reading() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == migrations.HEAD
        return contents(connection, tables)


@pytest.mark.parametrize("revision", REVISIONS)
def test_an_upgrade_from_any_revision_and_the_way_back_lose_nothing(url: str, revision: str) -> None:
    tables, before = filled(url, revision)
    assert held(url, tables) == before
    with Store(url) as store, store.writing() as connection:
        downgrade(connection, revision)
        assert tables_of(connection).tables.keys() == tables.tables.keys()
        assert contents(connection) == before
    assert held(url, tables) == before


def test_a_program_of_the_release_before_that_still_runs_goes_on_writing(url: str) -> None:
    """Several hosts are upgraded one after the other; the first one brings the store up."""
    old = at_revision(url, BEFORE)
    with old.writing() as connection:
        fill(connection)
        tables = tables_of(connection)
    Store(url).open().close()
    with old.writing() as connection:
        fill(connection, first=ROWS, tables=tables)
    old.close()
    assert {len(rows) for rows in held(url, tables).values()} == {2 * ROWS}


def test_processes_that_upgrade_at_once_all_succeed(url: str) -> None:
    tables, before = filled(url, BEFORE)
    open_at_once(url)
    assert held(url, tables) == before


@pytest.mark.parametrize("statements", [1, 12, 1_000_000], ids=["at the beginning", "in the middle", "before its end"])
def test_a_kill_in_an_upgrade_leaves_the_store_as_it_was_and_the_next_start_upgrades(url: str, statements: int) -> None:
    tables, before = filled(url, REVISIONS[0])
    with started(KILLED, url, str(statements)) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == -9, errors
    left = at_revision(url, REVISIONS[0])
    with left.reading() as connection:
        assert contents(connection) == before
    left.close()
    assert held(url, tables) == before
