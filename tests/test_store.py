"""The store: its migrations, its transactions, and what the repositories on it promise; on SQLite and on PostgreSQL."""

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
from sqlalchemy.exc import IntegrityError

from config.home import PROJECT_ROOT
from monitoring import migrations
from monitoring.data_files import DataFiles
from monitoring.drift_checks import DriftChecks
from monitoring.incidents import Finding, Incidents
from monitoring.job_records import JobRecords
from monitoring.plain_json import encode
from monitoring.promotion_history import Promotion, PromotionHistory, PromotionKind
from monitoring.run_records import RunRecords
from monitoring.store import Store, StoreError
from monitoring.tables import metadata
from tests.filled_stores import downgrade

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def later(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


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
    code = (
        "import sys; from monitoring.store import Store; print('ready', flush=True); input(); Store(sys.argv[1]).open()"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, url],
            env=environment, cwd="/", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    results = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], results


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


# Runs


def test_a_run_goes_from_running_to_its_end(store: Store) -> None:
    runs = RunRecords(store)
    runs.start("r1", "manual", NOON, pid=7, host="here")
    runs.note("r1", rows=100, data_source="a.csv")
    assert runs.finish("r1", "succeeded", later(5), decision={"decision": "promote"}, model_version="3")
    run = runs.get("r1")
    assert run is not None
    assert (run.status, run.rows, run.data_source, run.model_version) == ("succeeded", 100, "a.csv", "3")
    assert (run.decision, run.finished_at) == ({"decision": "promote"}, later(5))


def test_the_first_end_of_a_run_stands(store: Store) -> None:
    runs = RunRecords(store)
    runs.start("r1", "manual", NOON, pid=7, host="here")
    assert runs.finish("r1", "interrupted", later(1))
    assert not runs.finish("r1", "succeeded", later(2))
    assert runs.latest()[0].status == "interrupted"


def test_two_runs_cannot_share_an_id(store: Store) -> None:
    RunRecords(store).start("r1", "manual", NOON, pid=7, host="here")
    with pytest.raises(IntegrityError):
        RunRecords(store).start("r1", "manual", NOON, pid=8, host="here")


def test_steps_keep_their_order_and_end_with_their_run(store: Store) -> None:
    runs = RunRecords(store)
    runs.start("r1", "first", NOON, pid=7, host="here")
    for minute, name in enumerate(["ingest", "train", "gate"]):
        runs.start_step("r1", name, later(minute))
    runs.finish_step("r1", "ingest", "succeeded", later(1), {"rows": 10})
    runs.finish("r1", "failed", later(9), error="no memory")
    found = [(step.name, step.status, step.detail) for step in runs.steps("r1")]
    assert found == [("ingest", "succeeded", {"rows": 10}), ("train", "failed", None), ("gate", "failed", None)]


def test_a_step_started_again_starts_over_in_its_place(store: Store) -> None:
    runs = RunRecords(store)
    runs.start("r1", "first", NOON, pid=7, host="here")
    runs.start_step("r1", "a", NOON)
    runs.finish_step("r1", "a", "failed", later(1))
    runs.start_step("r1", "b", later(1))
    runs.start_step("r1", "a", later(2))
    assert [(step.name, step.status, step.finished_at) for step in runs.steps("r1")] == [
        ("a", "running", None),
        ("b", "running", None),
    ]


def test_runs_whose_process_is_gone_become_interrupted(store: Store) -> None:
    runs = RunRecords(store)
    for pid in (1, 2):
        runs.start(f"r{pid}", "schedule", later(pid), pid=pid, host="here")
        runs.start_step(f"r{pid}", "train", later(pid))
    assert [run.run_id for run in runs.interrupt_orphans(lambda run: run.pid == 1, later(9))] == ["r2"]
    assert [(run.run_id, run.status) for run in runs.latest()] == [("r2", "interrupted"), ("r1", "running")]
    assert [step.status for step in runs.steps("r2")] == ["interrupted"]


# Promotions


def promoted(history: PromotionHistory, before: str | None, after: str, kind: PromotionKind, at: datetime) -> Promotion:
    entry = history.intend(before, after, kind, at, who="tests", why="to see", evidence={"gain": 0.01})
    history.mark_done(entry.id, at)
    return entry


def test_what_served_at_a_time_is_one_question(store: Store) -> None:
    history = PromotionHistory(store)
    promoted(history, None, "1", "first", later(0))
    promoted(history, "1", "2", "promote", later(10))
    history.intend("2", "3", "promote", later(15), who="tests", why="killed before the alias moved")
    promoted(history, "2", "1", "rollback", later(20))
    assert [history.serving_at(later(minute)) for minute in (-1, 0, 9, 10, 16, 99)] == [None, "1", "1", "2", "2", "1"]


def test_an_intent_stays_pending_until_it_is_done_or_abandoned(store: Store) -> None:
    history = PromotionHistory(store)
    first, second, third = (history.intend(None, str(n), "promote", NOON, who="w", why="y") for n in range(3))
    history.mark_done(first.id, later(1))
    history.abandon(second.id)
    assert history.pending() == [third]
    assert [entry.status for entry in history.latest()] == ["intended", "abandoned", "done"]


def test_what_is_done_cannot_be_abandoned(store: Store) -> None:
    history = PromotionHistory(store)
    entry = promoted(history, None, "1", "first", NOON)
    history.abandon(entry.id)
    assert history.serving_at(NOON) == "1"


def test_each_rollback_goes_one_version_further_back(store: Store) -> None:
    history = PromotionHistory(store)
    assert history.rollback_target("1") is None
    for before, after in ((None, "1"), ("1", "2"), ("2", "3")):
        promoted(history, before, after, "promote", NOON)
    assert history.rollback_target("3") == "2"
    promoted(history, "3", "2", "rollback", NOON)
    assert history.rollback_target("2") == "1"
    promoted(history, "2", "1", "rollback", NOON)
    assert history.rollback_target("1") is None


def test_a_rollback_after_a_move_that_nobody_recorded_returns_to_what_was_recorded(store: Store) -> None:
    history = PromotionHistory(store)
    promoted(history, None, "1", "first", NOON)
    assert history.rollback_target("7") == "1"


# Jobs, archives, drift checks


def test_a_job_keeps_what_is_not_told_anew(store: Store) -> None:
    jobs = JobRecords(store)
    jobs.schedule("monitor", later(60))
    jobs.started("monitor", later(60))
    jobs.finished("monitor", "failed", later(61), later(120))
    jobs.started("monitor", later(120))
    job = jobs.get("monitor")
    assert job is not None
    assert (job.last_status, job.last_started_at, job.last_finished_at) == ("running", later(120), later(61))
    assert job.next_due_at == later(120)
    assert jobs.get("retrain") is None


def test_archives_are_listed_in_the_order_of_their_coming(store: Store) -> None:
    files = DataFiles(store)
    files.add("b.csv", "bb", 2, later(1), run_id="r1")
    files.add("a.csv", "aa", 1, later(2))
    files.add("b.csv", "bb", 3, later(1))  # the same run, repeated
    assert [(file.path, file.rows) for file in files.all()] == [("b.csv", 3), ("a.csv", 1)]


def test_a_file_that_was_delivered_before_is_recognised_by_its_content(store: Store) -> None:
    files = DataFiles(store)
    first = files.add("a.csv", "aa", 1, NOON)
    files.add("a-2.csv", "aa", 1, later(1))
    assert files.with_content("aa") == first
    assert files.with_content("bb") is None


def test_drift_checks_are_kept_by_model_version(store: Store) -> None:
    checks = DriftChecks(store)
    checks.add("1", NOON, 100, {"drift_score": 0.1}, window_from=later(-60), window_to=NOON)
    checks.add("2", later(1), 50, {})
    assert [check.rows for check in checks.latest("1", limit=5)] == [100]
    assert [check.model_version for check in checks.latest(limit=5)] == ["2", "1"]


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
