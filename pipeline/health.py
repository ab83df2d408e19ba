"""Watches this machine's server from the scheduler, and opens an incident when one that was ready no longer answers."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from config.settings import Settings
from monitoring.alerts import Alerts
from monitoring.incidents import Finding

#: One missed answer is a restart; this many in a row are an outage.
FAILURES_TO_ALERT = 3
TIMEOUT_SECONDS = 5.0
#: An outage is written down when it begins or its cause changes, and then so seldom, however often one looks.
REPORTED_AGAIN = timedelta(hours=1)


@dataclass
class HealthWatch:
    """A server that was never ready is not missed: the scheduler may be the only process here."""

    alerts: Alerts
    probe: Callable[[], str | None]
    was_ready: bool = False
    failures: int = 0
    #: When each problem of this outage was last reported.
    _reported: dict[str, datetime] = field(default_factory=dict)

    def look(self, now: datetime) -> None:
        problem = self.probe()
        if problem is None:
            self.was_ready, self.failures = True, 0
            self._reported.clear()
            self.alerts.settle(("serving",), None, (), now, subject="server")
            return
        self.failures += 1
        if self.was_ready and self.failures >= FAILURES_TO_ALERT and self._is_news(problem, now):
            finding = Finding(
                kind="serving",
                severity="critical",
                cause=f"the server does not answer predictions: {problem}",
                next="python main.py doctor",
                subject="server",
                score=float(self.failures),
                evidence={"looks_without_answer": self.failures},
            )
            self.alerts.report(finding, now)
            self._reported[problem] = now

    def _is_news(self, problem: str, now: datetime) -> bool:
        last = self._reported.get(problem)
        return last is None or now - last >= REPORTED_AGAIN


def server_address(settings: Settings) -> str:
    """Where this machine reaches its server."""
    host = settings.deployment.model_serve_host
    if host in ("0.0.0.0", "::"):  # noqa: S104 - every interface, so also this one
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.deployment.model_serve_port}"


def readiness_problem(settings: Settings) -> str | None:
    """None when the server would answer a prediction, else why not."""
    url = f"{server_address(settings)}/ready"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS):  # noqa: S310 - our own address
            return None
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}"
    except OSError as error:
        return f"{url}: {getattr(error, 'reason', error)}"
