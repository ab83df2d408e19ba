"""A state root that has seen traffic, drift, outcomes and failures, and what its metrics say."""

from __future__ import annotations

import socket
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from config.settings import load_settings
from monitoring.exported_metrics import ExportedMetrics
from monitoring.job_records import JobRecords
from monitoring.run_records import RunRecords
from monitoring.store import Store
from tests.command_line import json_of
from tests.traffic import drifted_rows, send_outcomes, serve
from tests.trained import TrainedState

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


def make_busy(home: Path, state: TrainedState) -> None:
    """Two thousand drifted rows, outcomes of a quarter of them, a check that found it, a job that failed and a run."""
    now, rows = datetime.now(UTC), drifted_rows(state)
    ids = serve(home, state, rows, now - timedelta(minutes=3))
    send_outcomes(home, ids[:500], rows["target"][:500].tolist(), now - timedelta(minutes=2))
    json_of("monitor")
    with Store(load_settings().store_address) as store:
        jobs = JobRecords(store)
        for name, status in (("drift", "succeeded"), ("performance", "failed")):
            jobs.started(name, now - timedelta(seconds=100))
            jobs.finished(name, status, now - timedelta(seconds=60), now + timedelta(hours=6))  # type: ignore[arg-type]
        RunRecords(store).start("failed", "manual", now, pid=1, host=socket.gethostname())
        RunRecords(store).finish("failed", "failed", now, error="for the test")


def exported(*, of_scheduler: bool = True) -> ExportedMetrics:
    """Of the state root in force."""
    jobs = ("drift", "performance", "retrain", "run") if of_scheduler else None
    return ExportedMetrics(load_settings(), utc_now, jobs)


def refreshed(metrics: ExportedMetrics) -> Samples:
    """What they say right after the store was asked."""
    with Store(load_settings().store_address) as store:
        metrics.refresh(store)
    return parsed(metrics.text())


def parsed(text: bytes) -> Samples:
    """Every sample by name and labels, as Prometheus reads it."""
    families = text_string_to_metric_families(text.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def names(samples: Samples) -> set[str]:
    return {name for name, _ in samples}


def scraped(port: int, timeout: float = 5.0) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout) as reply:
        assert reply.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return bytes(reply.read())


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.1)


def utc_now() -> datetime:
    return datetime.now(UTC)
