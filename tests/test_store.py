"""The store: how it is opened and migrated, its transactions, and the values in it; on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from config.home import PROJECT_ROOT
from monitoring import migrations
from monitoring.drift_checks import DriftChecks
from monitoring.incidents import Finding, Incidents
from monitoring.job_records import JobRecords
from monitoring.plain_json import encode
from monitoring.run_records import RunRecords
from monitoring.store import Store, StoreError
from monitoring.tables import metadata
from tests.filled_stores import downgrade, open_at_once

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Opening and migrating


def test_opening_an_empty_database_brings_it_to_head(url: str) -> None:
    with Store(url) as store, store.reading() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == migrations.HEAD
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())


def test_migrations_go_down_to_nothing_and_up_again(url: str) -> None:
    with Store(url) as store:
        with store.writing() as connection:
            downgrade(connection)
        with store.reading() as connection:
            assert set(inspect(connection).get_table_names()) == {"alembic_version"}
    with Store(url) as store:
        assert RunRecords(store).latest() == []


def test_tables_in_code_are_the_tables_of_the_migrations(store: Store) -> None:
    with store.reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_head_is_the_newest_migration() -> None:
    assert ScriptDirectory(str(PROJECT_ROOT / "monitoring" / "migrations")).get_current_head() == migrations.HEAD


def test_a_store_of_a_newer_release_is_refused_and_left_alone(store: Store, store_url: str) -> None:
    with store.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match="newer release"):
        Store(store_url).open()
    with store.reading() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"


def test_opening_a_store_that_is_up_to_date_does_not_import_alembic(migrated_sqlite: Path) -> None:
    code = (
        "import sys, time; from monitoring.store import Store\n"
        "started = time.perf_counter(); Store(sys.argv[1]).open()\n"
        "assert 'alembic' not in sys.modules; print(time.perf_counter() - started)"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, "-c", code, f"sqlite:///{migrated_sqlite}"]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.25  # about 5 ms on a quiet machine


def test_processes_that_open_an_empty_store_at_once_all_succeed(url: str) -> None:
    open_at_once(url)
    with Store(url) as store:
        assert RunRecords(store).latest() == []


def test_a_migration_that_fails_leaves_nothing_behind(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real_upgrade = migrations.upgrade

    def half_upgrade(connection: object) -> None:
        real_upgrade(connection)  # type: ignore[arg-type]
        raise RuntimeError("killed")

    monkeypatch.setattr(migrations, "upgrade", half_upgrade)
    with pytest.raises(RuntimeError):
        Store(url).open()
    monkeypatch.undo()
    with Store(url) as store:
        assert RunRecords(store).latest() == []


def test_paths_with_spaces_and_percent_signs_hold_a_store(tmp_path: Path) -> None:
    path = tmp_path / "a folder" / "100%.db"
    Store(f"sqlite:///{path}").open().close()
    assert path.is_file()


def test_sqlite_is_in_wal_mode_with_foreign_keys(tmp_path: Path) -> None:
    with Store(f"sqlite:///{tmp_path / 'a.db'}") as store, store.reading() as connection:
        pragmas = ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
        assert values == ["wal", 1, 1, 10_000]


@pytest.mark.parametrize(
    ("bad_url", "reason"),
    [
        ("mysql://u:secret@h/d", "expected sqlite"),
        ("nonsense", "no database URL"),
        ("postgresql://u:p@h:54x/d", "no database URL"),
        ("sqlite://", "expected sqlite"),
        ("postgresql://u:secret@127.0.0.1:1/d", "cannot be used"),
        ("sqlite:////proc/nowhere/a.db", "cannot be made"),
    ],
)
def test_a_store_that_cannot_be_used_says_so_in_one_sentence(bad_url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason) as caught:
        Store(bad_url).open()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    """Without a file system of its own: SQLite says the same of a file that may not grow."""
    with Store(f"sqlite:///{tmp_path / 's.db'}") as store:
        with store.writing() as connection:
            connection.execute(text("CREATE TABLE filler (t TEXT)"))
        with pytest.raises(StoreError, match="disk is full; free some space"), store.writing() as connection:
            connection.execute(text("PRAGMA max_page_count = 1"))
            connection.execute(text("INSERT INTO filler VALUES (hex(zeroblob(500000)))"))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store(f"sqlite:///{tmp_path / 'a.db'}").open()


def test_fifty_rounds_of_open_and_close_leave_no_descriptor(migrated_sqlite: Path) -> None:
    Store(f"sqlite:///{migrated_sqlite}").open().close()
    before = open_descriptors()
    for _ in range(50):
        with Store(f"sqlite:///{migrated_sqlite}") as store:
            RunRecords(store).latest()
    assert open_descriptors() <= before


# Transactions and values


def test_a_block_that_raises_writes_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError), store.writing() as connection:
        connection.execute(text("INSERT INTO jobs (name) VALUES ('a')"))
        raise RuntimeError
    assert JobRecords(store).all() == []


def test_writers_in_many_threads_lose_no_update(store: Store) -> None:
    finding = Finding(kind="pipeline", severity="low", cause="c", next="n")
    threads = [
        threading.Thread(target=lambda: [Incidents(store).report(finding, NOON) for _ in range(5)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [incident.count for incident in Incidents(store).unresolved()] == [20]


def test_moments_come_back_as_utc(store: Store) -> None:
    tokyo = datetime(2026, 3, 1, 21, 0, 0, 123456, tzinfo=timezone(timedelta(hours=9)))
    JobRecords(store).started("a", tokyo)
    record = JobRecords(store).get("a")
    assert record is not None
    assert record.last_started_at == tokyo
    assert record.last_started_at.utcoffset() == timedelta(0)


def test_a_moment_without_a_time_zone_is_refused(store: Store) -> None:
    with pytest.raises(Exception, match="no time zone"):
        JobRecords(store).started("a", datetime(2026, 3, 1))  # noqa: DTZ001
    assert JobRecords(store).all() == []


def test_reports_with_numpy_values_nans_and_broken_text_are_stored_as_plain_json(store: Store) -> None:
    report = {
        "drift": np.bool_(True),
        "n": np.int64(3),
        "p": np.float32("nan"),
        "bins": np.arange(2),
        "x": "\ud800a\x00",
    }
    DriftChecks(store).add("1", NOON, 10, report)
    stored = DriftChecks(store).latest("1")[0].report
    assert {**stored, "x": ""} == {"drift": True, "n": 3, "p": None, "bins": [0, 1], "x": ""}


def test_dates_classes_and_paths_in_a_report_are_plain_json_too() -> None:
    report = {"at": pd.Timestamp("2026-03-01", tz="UTC"), "none": pd.NaT, "file": Path("a.csv")}
    counts = {True: 1, None: 2, 3: 4, np.str_("a"): 5, np.int64(6): np.uint8(7)}
    assert json.loads(encode(report)) == {"at": "2026-03-01T00:00:00+00:00", "none": None, "file": "a.csv"}
    assert json.loads(encode(counts)) == {"true": 1, "null": 2, "3": 4, "a": 5, "6": 7}
    with pytest.raises(TypeError, match="object has no JSON form"):
        encode({"what": object()})


def test_a_locked_store_is_waited_for(tmp_path: Path, migrated_sqlite: Path) -> None:
    path = tmp_path / "locked.db"
    shutil.copy(migrated_sqlite, path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with Store(f"sqlite:///{path}") as store:
        release = threading.Timer(0.2, other.execute, ["COMMIT"])
        release.start()
        JobRecords(store).started("a", NOON)
        release.join()
        other.close()
        assert JobRecords(store).get("a") is not None
