"""Who reads the logs: a command to the end, `sync --watch` beside its work; a store that is away stops nobody."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.home import PROJECT_ROOT
from config.settings import load_settings
from monitoring.log_ingestion import IngestionReport
from monitoring.log_source import sole_reader, source_path, source_uuid
from monitoring.prediction_log import PredictionLog
from monitoring.store import Store, StoreError
from pipeline import log_jobs
from pipeline.log_jobs import BUSY_SECONDS, RETRY_SECONDS, PatientReader, ingestion_of, read_to_end, reading_logs
from pipeline.patience import Patience
from tests.command_line import json_of, run_command
from tests.logged import count_of, prediction_lines
from tests.states import deployment_in_force, environment_of, planned, state

__all__ = ["state"]


class Turns:
    """Stands where an ingestion does, and reports what it is told to."""

    def __init__(self, *reports: IngestionReport | Exception) -> None:
        self.reports = list(reports)

    def run_once(self, seconds: float | None = None, rows: int | None = None) -> IngestionReport:
        report = self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]
        if isinstance(report, Exception):
            raise report
        return report


def log_now(home: Path, rows: int, seed: int = 1) -> None:
    log = PredictionLog(home / "logs")
    log.append(prediction_lines(rows, seed, datetime.now(UTC) - timedelta(seconds=1)))
    log.close()


def wait_until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Turns


def test_a_command_reads_to_the_end_and_speaks_after_two_seconds() -> None:
    unfinished = IngestionReport(rows=100, lag_bytes=3 * 2**20, finished=False)
    moments, told = iter([0.0, 1.0, 2.1, 3.2]), list[str]()
    turns = Turns(unfinished, unfinished, IngestionReport(rows=7, joined=2))
    read = read_to_end(turns, told.append, lambda: next(moments))  # type: ignore[arg-type]
    assert (read.rows, read.joined, read.finished, read.lag_bytes) == (207, 2, True, 0)
    assert told == ["reading the logs: 200 lines, 3 MB to go"]


def test_a_command_waits_for_the_one_that_reads_and_goes_on_without_it_in_the_end() -> None:
    busy, waited = IngestionReport(busy=True, finished=False), list[float]()
    assert read_to_end(Turns(busy, busy, IngestionReport(rows=1)), sleep=waited.append).rows == 1  # type: ignore[arg-type]
    assert len(waited) == 2
    assert read_to_end(Turns(busy), sleep=waited.append).busy  # type: ignore[arg-type]
    assert sum(waited) == pytest.approx(BUSY_SECONDS, abs=0.5)


def test_a_store_that_failed_is_left_alone_for_a_while() -> None:
    now = [0.0]
    turns = Turns(StoreError("locked"), IngestionReport(rows=1))
    reader = PatientReader(turns, Patience(RETRY_SECONDS, seconds=lambda: now[0]))  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        reader.turn()
    assert reader.turn() is None
    now[0] = RETRY_SECONDS
    assert reader.turn() == IngestionReport(rows=1)


def test_a_turn_within_a_budget_says_that_more_is_there(state: Path) -> None:
    log_now(state, 300)
    settings = load_settings()
    with Store(settings.store_address) as store:
        ingestion = ingestion_of(settings, store)
        assert not ingestion.run_once(rows=0).finished
        assert ingestion.run_once().finished


# Commands


def test_monitor_reads_what_was_just_logged(state: Path) -> None:
    log_now(state, 60)
    answer = json_of("monitor")
    assert (answer["rows"], answer["ingestion"]["rows"], answer["ingestion"]["finished"]) == (60, 60, True)
    assert json_of("monitor")["ingestion"]["rows"] == 0


def test_monitor_says_that_another_process_was_reading(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_jobs, "BUSY_SECONDS", 0.0)
    source_uuid(source_path())
    with sole_reader(source_path()):
        text = run_command("monitor").stdout
    assert "Another process was reading the logs: the newest rows may not be in these figures." in text


# sync --watch


def test_the_watch_reads_logs_beside_its_work(state: Path) -> None:
    log_now(state, 20)
    settings = load_settings()
    with Store(settings.store_address) as store, reading_logs(settings):
        wait_until(lambda: count_of(store, "predictions") == 20)
    with sole_reader(source_path()) as alone:
        assert alone


@pytest.mark.integration
@pytest.mark.parametrize("store", ["locked", "unreachable"])
def test_a_store_that_is_away_does_not_keep_the_watch_from_following(state: Path, store: str) -> None:
    log_now(state, 5)
    variables = {"MLOPS_STORE__URL": "postgresql://127.0.0.1:1/none"} if store == "unreachable" else {}
    with closing(sqlite3.connect(state / "mlops.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        watch = subprocess.Popen(
            [sys.executable, "main.py", "sync", "--watch"], cwd=PROJECT_ROOT, env=environment_of(state, **variables),
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: (state / "source_id").exists() or store == "unreachable")
            with deployment_in_force() as deployment:
                deployment.registry.set_champion("2")
            wait_until(lambda: planned() == "2")
            assert watch.poll() is None
        finally:
            watch.send_signal(signal.SIGTERM)
            assert watch.wait(20) is not None
