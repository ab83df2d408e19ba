"""Shows the figures of monitoring to Prometheus beside the work of a process: `/metrics` on `monitoring.metrics_port`.

Two threads of its own, so that a store or a reader that hangs holds up neither a job nor a scrape.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Any

from config.clock import Clock
from config.settings import Settings
from monitoring.exported_metrics import ExportedMetrics
from monitoring.metric_samples import TEXT_TYPE
from monitoring.store import Store

log = logging.getLogger(__name__)
#: Between two questions to the store; longer where two in a row took long, so that they take a twentieth of the time at
#: most. One alone that did has met a store that hung, and tells nothing of the next.
REFRESH_SECONDS, REST_TIMES = 5.0, 20
#: Whoever asks is answered at once; more readers than this at a time are sent away, and a silent one is.
MOST_READERS, SILENT_SECONDS = 16, 5.0
_STOP_SECONDS = 1.0
_QUERY_CANCELED = "57014"  # of the SQLSTATEs of PostgreSQL


@contextmanager
def exporting(settings: Settings, clock: Clock, jobs: Collection[str] | None = None) -> Iterator[None]:
    """Within the block the metrics are shown, where `monitoring.metrics_port` is set.

    A port that cannot be had is logged, and the work goes on without.

    Args:
        jobs: names of the scheduler's jobs, which shows the figures of all hosts; None where this is no scheduler.
    """
    if not settings.monitoring.metrics_port:
        yield
        return
    metrics, ended = ExportedMetrics(settings, clock, jobs), threading.Event()
    server = _listening(settings, metrics)
    if server is None:
        yield
        return
    answering = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
    asking = threading.Thread(target=_refresh, args=(settings, metrics, ended), name="metrics-store", daemon=True)
    for thread in (answering, asking):
        thread.start()
    try:
        yield
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        asking.join(_STOP_SECONDS)


def _listening(settings: Settings, metrics: ExportedMetrics) -> _MetricsServer | None:
    host, port = settings.monitoring.metrics_host, settings.monitoring.metrics_port or 0
    try:
        server = _MetricsServer(host, port, metrics)
    except OSError as error:
        log.error(
            "no metrics are shown: %s:%d: %s; free it or set monitoring.metrics_host and monitoring.metrics_port",
            host, port, error.strerror or error,
        )  # fmt: skip
        return None
    log.info("metrics are shown on %s:%d/metrics", host, port)
    return server


def _refresh(settings: Settings, metrics: ExportedMetrics, ended: threading.Event) -> None:
    told, before = "", 0.0
    store = Store(settings.store_address)
    while not ended.is_set():
        took, began = 0.0, time.monotonic()
        try:
            took = metrics.refresh(store)
            told = ""
        except Exception as error:
            if str(error) != told:
                log.error("the metrics of the store stay as they were: %s", error)
            told = str(error)
            if _was_at_work(error):
                took = time.monotonic() - began
        ended.wait(max(REFRESH_SECONDS, REST_TIMES * min(before, took)))
        before = took
    store.close()


def _was_at_work(error: Exception) -> bool:
    """Whether the store has worked in vain until `statement_timeout`, rather than been away."""
    return getattr(getattr(error.__cause__, "orig", None), "sqlstate", None) == _QUERY_CANCELED


class _MetricsServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, host: str, port: int, metrics: ExportedMetrics) -> None:
        self.metrics = metrics
        self.address_family = AF_INET6 if ":" in host else AF_INET
        self._room = threading.BoundedSemaphore(MOST_READERS)
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a reader of the metrics went away", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _MetricsServer
    server_version, sys_version = "metrics", ""
    timeout = SILENT_SECONDS

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(404, "the metrics are at /metrics")
            return
        text = self.server.metrics.text()
        self.send_response(200)
        self.send_header("Content-Type", TEXT_TYPE)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the base class
        """A scrape every few seconds is no news."""
