"""What the server uses and how it answers: from the workers' counters to a line a minute, to hours and days."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from api.app import create_app
from api.metrics import Metrics
from api.server_usage import LONGEST_SECONDS, WRITE_SECONDS, UsageMeter, resident_bytes
from api.shared_counters import hold, remove_idle
from config.settings import LoggingSettings, Settings, decode_settings
from monitoring.daily_sums import whole_lines
from monitoring.log_retention import delete_expired
from monitoring.server_hours import ServerFigures, UsageReader, server_days
from monitoring.store import Store
from monitoring.usage_lines import UsageLine
from tests.bundles import sample_row, serve_sample
from tests.logged import Host, rows_of

PROJECT = Path(__file__).resolve().parent.parent
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MEGABYTE = 2**20


class Worker:
    """One worker's counters and meter, with clocks of its own."""

    def __init__(self, logs: Path, shared: Path | None = None) -> None:
        self.metrics = Metrics()
        if shared is not None:
            self.metrics.counters.attach(shared)
        self.now, self.seconds, self.cpu, self.memory = NOON, 1000.0, 0.0, 40 * MEGABYTE
        self.meter = UsageMeter(
            self.metrics.counters, logs, lambda: self.now,
            monotonic=lambda: self.seconds, cpu_seconds=lambda: self.cpu, memory_bytes=lambda: self.memory,
        )  # fmt: skip

    def go_on(self, seconds: float) -> None:
        self.seconds += seconds
        self.now += timedelta(seconds=seconds)

    def answer(self, count: int, code: int = 200, route: str = "/predict") -> None:
        for _ in range(count):
            self.metrics.route(route).end(code, 0.001)


def written(logs: Path) -> list[UsageLine]:
    return [line for path in sorted(logs.glob("usage_*.jsonl")) for line in whole_lines(path.read_bytes(), UsageLine)]


# The server's side


def test_a_minute_is_a_line_of_what_came_since_the_one_before(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.meter.tick()
    assert written(tmp_path) == []
    worker.answer(7)
    worker.answer(2, 503)
    worker.answer(5, 422)
    worker.answer(100, route="/health")
    worker.cpu = 12.5
    worker.go_on(WRITE_SECONDS)
    worker.meter.tick()
    worker.answer(1)
    worker.go_on(WRITE_SECONDS)
    worker.meter.tick()
    first, second = written(tmp_path)
    assert (first.requests, first.errors, first.cpu_milliseconds, first.seconds) == (14, 2, 12_500, 60.0)
    assert (first.memory_bytes, first.workers, first.timestamp) == (40 * MEGABYTE, 1, NOON + timedelta(minutes=1))
    assert (second.requests, second.errors, second.cpu_milliseconds) == (1, 0, 0)


def test_between_lines_the_files_are_left_alone(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    for _ in range(59):
        worker.meter.tick()
        worker.go_on(1.0)
    assert list(tmp_path.iterdir()) == []


def test_workers_add_up_and_one_of_them_writes(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)
    workers = [Worker(tmp_path, shared), Worker(tmp_path, shared)]
    for worker in workers:
        worker.meter.tick()
        worker.answer(10)
        worker.cpu = 3.0
        worker.go_on(WRITE_SECONDS - 1)
        worker.meter.tick()
        worker.go_on(1)
    for worker in workers:
        worker.go_on(WRITE_SECONDS)
        worker.meter.tick()
    [line] = written(tmp_path)
    assert (line.requests, line.cpu_milliseconds, line.memory_bytes, line.workers) == (20, 6000, 80 * MEGABYTE, 2)
    for worker in workers:
        worker.metrics.counters.release()


def test_a_killed_worker_takes_nothing_along_and_nothing_is_told_twice(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)
    held = hold(shared)
    program = f"""
import sys, os
from pathlib import Path
from tests.test_server_usage import Worker
worker = Worker(Path({str(tmp_path)!r}), Path({str(shared)!r}))
worker.meter.tick()
worker.answer(6)
worker.go_on(100)
worker.meter.tick()
worker.answer(4)
print("ready", flush=True)
sys.stdin.read()
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    next_worker = Worker(tmp_path, shared)
    next_worker.go_on(300)
    next_worker.answer(1)
    next_worker.meter.tick()
    assert [line.requests for line in written(tmp_path)] == [6, 5]
    next_worker.metrics.counters.release()
    assert held is not None
    os.close(held)
    remove_idle(shared)
    assert not shared.exists()


def test_a_log_that_cannot_be_written_loses_nothing(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.write_text("a file in the way")
    worker = Worker(logs)
    worker.meter.tick()
    worker.answer(3)
    worker.go_on(WRITE_SECONDS)
    worker.meter.tick()
    logs.unlink()
    worker.answer(2)
    worker.go_on(10)
    worker.meter.tick()
    [line] = written(logs)
    assert (line.requests, line.seconds) == (5, 70.0)


def test_the_last_line_is_written_when_a_worker_ends(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.meter.tick()
    worker.answer(3)
    worker.go_on(7)
    worker.meter.close()
    assert [(line.requests, line.seconds) for line in written(tmp_path)] == [(3, 7.0)]


def test_time_in_which_nobody_ran_is_nobodys(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.meter.tick()
    worker.go_on(86_400)
    worker.meter.tick()
    assert written(tmp_path)[0].seconds == LONGEST_SECONDS


def test_the_server_counts_its_own_processor_time_and_memory(tmp_path: Path) -> None:
    serve_sample(tmp_path / "registry")
    app = create_app(decode_settings({}), registry=tmp_path / "registry", logs=tmp_path / "logs", clock=lambda: NOON)
    reloader = app.extensions["mlops"].reloader
    reloader.ensure_running = lambda: None
    reloader.look()
    client = app.test_client()
    client.post("/predict", json=sample_row())
    reloader._tick()
    text = client.get("/metrics").data.decode()
    samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(samples["process_cpu_seconds_total"]) > 0.0
    assert float(samples["process_resident_memory_bytes"]) == pytest.approx(resident_bytes(), rel=0.5)


# Monitoring's side


def line(minute: float, **changes: float) -> bytes:
    values = {"seconds": 60.0, "requests": 10, "errors": 1, "cpu_milliseconds": 6000, "memory_bytes": MEGABYTE}
    given = values | changes | {"workers": 2, "timestamp": NOON + timedelta(minutes=minute)}
    return msgspec.json.encode(given) + b"\n"


def test_an_hour_is_the_sum_of_its_lines_however_often_it_is_read(store: Store, tmp_path: Path) -> None:
    log = tmp_path / "usage_20260304.jsonl"
    log.write_bytes(line(1) + line(2, memory_bytes=5 * MEGABYTE) + b'\n{"timestamp":"2026-03' + b"\n" + line(61))
    reader = UsageReader(store, tmp_path)
    assert (reader.read(1), reader.read(1), UsageReader(store, tmp_path).read(1)) == (1, 0, 1)
    first, second = rows_of(store, "server_hours")
    assert (first["hour"], first["requests"], first["errors"]) == (NOON, 20, 2)
    assert (first["cpu_milliseconds"], first["peak_memory_bytes"]) == (12_000, 5 * MEGABYTE)
    assert second["requests"] == 10
    with log.open("ab") as stream:
        stream.write(line(62))
    assert reader.read(1) == 1
    assert rows_of(store, "server_hours")[1]["requests"] == 20


def test_days_add_up_over_hosts(store: Store, tmp_path: Path) -> None:
    for source, memory in ((1, 2), (2, 7)):
        logs = tmp_path / str(source)
        logs.mkdir()
        (logs / "usage_20260304.jsonl").write_bytes(line(1, memory_bytes=memory * MEGABYTE) + line(90))
        UsageReader(store, logs).read(source)
    expected = ServerFigures(
        requests=40, errors=4, error_rate=0.1, cpu_seconds=24.0, mean_cpus=0.1, peak_memory_bytes=7 * MEGABYTE
    )
    assert server_days(store, NOON, NOON + timedelta(days=1)) == {date(2026, 3, 4): expected}
    assert server_days(store, NOON + timedelta(days=1), NOON + timedelta(days=2)) == {}


def test_without_requests_there_is_no_error_rate_and_unknown_memory_is_none(store: Store, tmp_path: Path) -> None:
    (tmp_path / "usage_20260304.jsonl").write_bytes(line(1, requests=0, errors=0, memory_bytes=0))
    UsageReader(store, tmp_path).read(1)
    [figures] = server_days(store, NOON, NOON + timedelta(hours=1)).values()
    assert (figures.error_rate, figures.peak_memory_bytes) == (None, None)


def test_log_ingestion_reads_it_and_retention_deletes_it(store: Store, tmp_path: Path) -> None:
    host = Host(tmp_path / "a", store)
    log = host.logs / "usage_20260304.jsonl"
    log.write_bytes(line(1))
    host.ingestion.run_once()
    assert rows_of(store, "server_hours")[0]["requests"] == 10
    settings = Settings(logging=LoggingSettings(retention_days=1))
    assert delete_expired(host.logs, settings, NOON + timedelta(days=3)) == [log]
