"""Rules over how the server answers, and over the age of what it answers with: pure functions of figures."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct

from config.alert_settings import Severity
from monitoring.alerts import Alerts
from monitoring.incidents import Finding
from monitoring.intervals import wilson_interval
from monitoring.monitors import Monitor

#: Fewer requests open and resolve nothing: one failure in ten, or the slowest of ten, is no rate.
LEAST_REQUESTS = 50
#: One-sided 99 %: looked at every few hours for years, a lower level would cry wolf.
_Z = 2.3263478740408408
#: From this share of failed requests on, nobody is served.
CRITICAL_ERROR_RATE = 0.5


class ServingFigures(Struct, frozen=True, kw_only=True):
    """Of all requests for predictions in a stretch of time, over all servers."""

    requests: int
    #: Answered with 500 or above.
    errors: int
    #: 95th percentile of the time to answer; None when it is not known.
    p95_ms: float | None


def error_finding(figures: ServingFigures, limit: float, model_version: str | None = None) -> Finding | None:
    """Too many failures: the lower end of Wilson's one-sided 99 % interval of their share is over `limit`."""
    if figures.requests == 0 or figures.errors == 0:
        return None
    lowest, _ = wilson_interval(figures.errors, figures.requests, _Z)
    if lowest <= limit:
        return None
    rate = figures.errors / figures.requests
    severity: Severity = "critical" if rate >= CRITICAL_ERROR_RATE else "high" if rate >= 2 * limit else "medium"
    return Finding(
        kind="serving",
        severity=severity,
        cause=f"{rate:.1%} of {figures.requests:,} requests for predictions failed; {limit:.1%} are tolerated",
        next="python main.py doctor",
        model_version=model_version,
        subject="errors",
        score=rate,
        evidence={"error_rate": rate, "errors": figures.errors, "requests": figures.requests, "limit": limit},
    )


def latency_finding(figures: ServingFigures, limit_ms: float, model_version: str | None = None) -> Finding | None:
    """Too slow: the 95th percentile is over `limit_ms`."""
    if figures.p95_ms is None or figures.p95_ms <= limit_ms:
        return None
    return Finding(
        kind="serving",
        severity="high" if figures.p95_ms >= 2 * limit_ms else "medium",
        cause=f"5 of 100 predictions take {figures.p95_ms:,.0f} ms or longer; the limit is {limit_ms:,.0f} ms",
        next="python main.py status",
        model_version=model_version,
        subject="latency",
        score=figures.p95_ms,
        evidence={"p95_ms": figures.p95_ms, "requests": figures.requests, "limit_ms": limit_ms},
    )


def settle_serving(alerts: Alerts, figures: ServingFigures, monitor: Monitor, now: datetime) -> None:
    """Opens, counts and resolves the incidents of errors and latency; with too few requests all stays as it is.

    Args:
        figures: of the stretch since the last look, or of the last hours.
        monitor: `monitor_for(store, settings, "serving", model_name, model_version)`.
    """
    if monitor.paused or figures.requests < LEAST_REQUESTS:
        return
    version, limits = monitor.model_version, monitor.thresholds
    errors = error_finding(figures, limits["error_rate"], version)
    alerts.settle(("serving",), version, [errors] if errors else [], now, subject="errors")
    if figures.p95_ms is not None:
        latency = latency_finding(figures, limits["latency_ms"], version)
        alerts.settle(("serving",), version, [latency] if latency else [], now, subject="latency")


def stale_finding(model_version: str, since: datetime, now: datetime, days: float) -> Finding | None:
    """The model in service serves since more than `days` days. The finding is of whatever is in service, so that a
    new model resolves it."""
    age = now - since
    if age <= timedelta(days=days):
        return None
    return Finding(
        kind="serving",
        severity="low",
        cause=f"version {model_version} has been in service for {age.days} days; it is stale after {days:g}",
        next="python main.py retrain",
        subject="stale model",
        score=age / timedelta(days=1),
        evidence={"model_version": model_version, "age_days": age.days, "stale_after_days": days},
    )
