"""`/metrics` of the scheduler and of `sync --watch`: answered whatever the store does, never in the way of a job."""

from __future__ import annotations

import http.client
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from config.home import PROJECT_ROOT
from config.settings import Settings, load_settings
from models.mlflow_connection import RegistryError
from monitoring.exported_metrics import ExportedMetrics
from monitoring.registry_contact import RegistryContact, read_contact
from monitoring.store import Store, StoreError
from pipeline import metrics_exporter
from pipeline.metrics_exporter import MOST_READERS, exporting
from pipeline.scheduler import Scheduler
from tests.observed import exported, names, parsed, scraped, utc_now, value, wait_until
from tests.ports import free_port
from tests.states import environment_of, state

__all__ = ["state"]


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port, set as that of the metrics."""
    found = free_port()
    monkeypatch.setenv("MLOPS_MONITORING__METRICS_PORT", str(found))
    return found


@contextmanager
def shown(settings: Settings | None = None) -> Iterator[None]:
    with exporting(settings or load_settings(), utc_now, ("drift",)):
        yield


def test_the_figures_are_shown_within_moments_and_gone_afterwards(state: Path, port: int) -> None:
    with shown():
        wait_until(lambda: value(parsed(scraped(port)), "mlops_store_reachable") == 1, "the store is asked")
        assert "mlops_incidents_unresolved" in names(parsed(scraped(port)))
    with pytest.raises(OSError, match="refused"):
        scraped(port)


@pytest.mark.parametrize("off", ["null", "0"])
def test_nothing_is_shown_unless_a_port_is_set(state: Path, monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    monkeypatch.setenv("MLOPS_MONITORING__METRICS_PORT", off)
    monkeypatch.setattr(metrics_exporter, "_MetricsServer", None)  # nothing is even tried
    before = set(threading.enumerate())
    with shown():
        assert set(threading.enumerate()) <= before


def test_a_port_that_is_taken_is_told_and_the_work_goes_on(
    state: Path, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", port)), shown():
        assert "no metrics are shown: 127.0.0.1" in caplog.text
        assert "monitoring.metrics_port" in caplog.text


def test_an_address_of_the_newer_protocol_is_bound(state: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_MONITORING__METRICS_HOST", "::1")
    with shown(), urllib.request.urlopen(f"http://[::1]:{port}/metrics", timeout=5) as reply:
        assert reply.status == 200


def test_other_paths_are_not_found_and_other_methods_not_known(state: Path, port: int) -> None:
    with shown():
        for method, path, code in (("GET", "/", 404), ("POST", "/metrics", 501)):
            request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=5)
            assert refused.value.code == code


def test_readers_that_say_nothing_hold_nobody_up_and_are_sent_away(
    state: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics_exporter._Handler, "timeout", 0.5)
    with shown():
        silent = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(MOST_READERS - 1)]
        scraped(port)
        silent += [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(4)]
        assert all(one.recv(1) == b"" for one in silent)
        wait_until(lambda: _answers(port), "there is room again")


def _answers(port: int) -> bool:
    with suppress(OSError, http.client.HTTPException):
        return bool(scraped(port))
    return False


def test_a_store_that_accepts_and_never_answers_holds_up_neither_scrapes_nor_the_end(
    state: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        address = f"postgresql://nobody@127.0.0.1:{hanging.getsockname()[1]}/none"
        monkeypatch.setenv("MLOPS_STORE__URL", address)
        monkeypatch.setattr("monitoring.exported_metrics.HANGING_SECONDS", 0.5)
        with shown():
            wait_until(lambda: value(parsed(scraped(port)), "mlops_store_reachable") == 0, "the store is called away")
            began = time.monotonic()
        assert time.monotonic() - began < 5


def test_a_store_that_comes_back_is_asked_again(state: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_exporter, "REFRESH_SECONDS", 0.05)
    database, kept = state / "mlops.db", (state / "mlops.db").read_bytes()
    database.write_bytes(b"no database" * 500)
    with shown():
        wait_until(lambda: value(parsed(scraped(port)), "mlops_store_reachable") == 0, "the store is away")
        for name in ("mlops.db-wal", "mlops.db-shm"):
            (state / name).unlink(missing_ok=True)
        database.write_bytes(kept)
        wait_until(lambda: value(parsed(scraped(port)), "mlops_store_reachable") == 1, "the store is back")


def test_a_failure_of_the_store_is_logged_once(
    state: Path, port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metrics_exporter, "REFRESH_SECONDS", 0.02)
    asked: list[Store] = []

    def refresh(self: ExportedMetrics, store: Store) -> float:
        asked.append(store)
        raise StoreError("the store is away")

    monkeypatch.setattr(ExportedMetrics, "refresh", refresh)
    with caplog.at_level(logging.ERROR), shown():
        wait_until(lambda: len(asked) > 3, "it is asked again")
    assert caplog.text.count("the metrics of the store stay as they were") == 1


class _AskedTwice(threading.Event):
    """Ends after two questions, and keeps how long was to be rested after each."""

    def __init__(self) -> None:
        super().__init__()
        self.rests: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.rests.append(timeout or 0.0)
        if len(self.rests) == 2:
            self.set()
        return True


def _rests(settings: Settings) -> list[float]:
    ended = _AskedTwice()
    metrics_exporter._refresh(settings, exported(), ended)
    return ended.rests


def test_figures_that_a_store_works_on_in_vain_are_asked_for_as_seldom_as_slow_ones(
    state: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitoring.store.STATEMENT_SECONDS", 1)
    monkeypatch.setenv("MLOPS_STORE__URL", postgres_url)
    settings = load_settings()
    assert _rests(settings) == [metrics_exporter.REFRESH_SECONDS] * 2
    with psycopg.connect(postgres_url) as other:
        other.execute("LOCK TABLE incidents, jobs IN ACCESS EXCLUSIVE MODE")
        assert _rests(settings)[1] >= metrics_exporter.REST_TIMES


def test_figures_are_asked_for_again_soon_after_a_store_has_hung(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([0.1, 60.0, 60.0, 40.0])
    monkeypatch.setattr(ExportedMetrics, "refresh", lambda *_: next(took))
    soon = metrics_exporter.REFRESH_SECONDS
    assert _rests(load_settings()) == [soon, soon]
    assert _rests(load_settings()) == [soon, metrics_exporter.REST_TIMES * 40.0]


def test_a_store_that_is_away_is_asked_again_soon(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_STORE__URL", "postgresql://nobody@127.0.0.1:1/none")
    assert _rests(load_settings()) == [metrics_exporter.REFRESH_SECONDS] * 2


def test_a_scheduler_notes_whether_mlflow_answers(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(load_settings().store_address) as store:
        work = Scheduler(load_settings(), store, utc_now)
        work.follow()
        followed = read_contact()
        assert followed is not None and followed.at is not None and followed.reachable
        monkeypatch.setattr(type(work.deployment.registry), "champion", _away)
        with pytest.raises(RegistryError):
            work.follow()
        assert read_contact() == RegistryContact(at=followed.at, problem="MLflow is away", reachable=False)
        assert work.job_names[:2] == ("drift", "performance") and work.job_names[-2:] == ("retrain", "run")


def _away(*_: object) -> None:
    raise RegistryError("MLflow is away")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("arguments", "of_scheduler"), [([], True), (["sync", "--watch"], False)], ids=["scheduler", "sync"]
)
def test_the_process_shows_its_figures_and_ends_cleanly(
    state: Path, port: int, arguments: list[str], of_scheduler: bool
) -> None:
    environment = environment_of(state, MLOPS_MONITORING__METRICS_PORT=str(port))
    command = [sys.executable, str(PROJECT_ROOT / "main.py"), *arguments]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    try:
        wait_until(lambda: _answers(port) and _synced(port), "it follows the registry")
        found = parsed(scraped(port))
        assert value(found, "mlops_mlflow_reachable") == value(found, "mlops_store_reachable") == 1
        assert ("mlops_incidents_unresolved" in names(found)) is of_scheduler
        assert "process_resident_memory_bytes" in names(found)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, b"Traceback" in errors) == (0, False), errors.decode()
    finally:
        process.kill()
        process.wait()


def _synced(port: int) -> bool:
    found = parsed(scraped(port))
    return {"mlops_sync_last_success_timestamp_seconds", "mlops_figures_age_seconds"} <= names(found)
