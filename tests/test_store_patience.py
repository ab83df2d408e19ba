"""How long the store waits: for a lock, for a server that is gone without a word, and what it leaves behind there."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from monitoring import store as store_module
from monitoring.store import SILENCE_SECONDS, Store, StoreError
from tests.logged import Host, count_of, prediction_lines, write_version
from tests.parts import wait_for
from tests.small_disks import small_disk


def shown(store: Store, name: str) -> str:
    with store.reading() as connection:
        return str(connection.execute(text(f"SHOW {name}")).scalar())


def test_both_sides_give_up_a_silent_connection_and_statements_are_bounded(postgres_url: str) -> None:
    with Store(postgres_url) as store:
        names = ("tcp_user_timeout", "statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        assert [shown(store, name) for name in names] == [f"{SILENCE_SECONDS}000", "2min", "10s", "5min"]
        assert shown(store, "tcp_keepalives_idle") == "4"
        with store.reading() as connection:
            parameters = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    assert (parameters["connect_timeout"], parameters["keepalives_idle"]) == ("5", "4")
    assert parameters["tcp_user_timeout"] == str(SILENCE_SECONDS * 1000)


def test_a_store_to_which_much_is_sent_ends_no_silence_and_asks_whether_the_server_lives(postgres_url: str) -> None:
    with Store(postgres_url, ends_silence=False) as store:
        assert [shown(store, name) for name in ("tcp_user_timeout", "tcp_keepalives_idle")] == ["0", "4"]
        with store.reading() as connection:
            parameters = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    assert (parameters["tcp_user_timeout"], parameters["keepalives_idle"]) == ("0", "4")


def test_the_url_may_say_otherwise(postgres_url: str) -> None:
    with Store(f"{postgres_url}?connect_timeout=30") as store, store.reading() as connection:
        parameters = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
    assert parameters["connect_timeout"] == "30"


def test_a_lock_that_somebody_holds_is_waited_for_and_given_up(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOCK_WAIT_SECONDS", 1.0)
    with Store(postgres_url) as store, psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(StoreError, match="lock timeout"), store.writing() as connection:
            connection.execute(text("DELETE FROM jobs"))
        other.rollback()
        with store.writing() as connection:
            connection.execute(text("DELETE FROM jobs"))


def test_a_migration_waits_for_another_one_however_long_it_takes(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LOCK_WAIT_SECONDS", 1.0)
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'advisory' AND now() - query_start > interval '2 s'"
    with psycopg.connect(postgres_url) as other, ThreadPoolExecutor() as pool:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [store_module._MIGRATION_LOCK])
        opened = pool.submit(Store(postgres_url).open)
        with psycopg.connect(postgres_url, autocommit=True) as watcher:
            wait_for(lambda: watcher.execute(waiting).fetchone(), "it has waited for twice the time of a lock")
        other.rollback()
        opened.result(60).close()


def test_reading_the_logs_goes_on_where_it_was_when_a_full_disk_has_room_again(tmp_path: Path) -> None:
    """The store is a SQLite file there; what did not fit is read again, and counted once."""
    with small_disk(tmp_path / "disk", 4 * 2**20) as disk, Store(f"sqlite:///{disk / 'mlops.db'}") as store:
        host = Host(tmp_path, store)
        write_version(host.registry)
        host.log(prediction_lines(200, 1))
        host.ingestion.run_once()
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))
        host.log(prediction_lines(3000, 2))
        with pytest.raises(StoreError, match="full"):
            host.ingestion.run_once()
        ballast.unlink()
        host.ingestion.run_once()
        assert count_of(store, "predictions") == 3200
