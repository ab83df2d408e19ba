"""Findings, channels and clocks for tests of alerts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from config.alert_settings import AlertChannel, AlertSettings
from config.settings import Settings
from monitoring.alert_policy import AlertPolicy
from monitoring.incidents import Finding, Incidents, Severity
from monitoring.store import Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def later(hours: float = 0.0, seconds: float = 0.0) -> datetime:
    return NOON + timedelta(hours=hours, seconds=seconds)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, **time: float) -> None:
        self.now += timedelta(**time)


def channel(name: str = "team", **more: Any) -> AlertChannel:
    return AlertChannel(name=name, url_env=more.pop("url_env", f"{name.upper()}_URL"), **more)


def alerting(*channels: AlertChannel, **more: Any) -> Settings:
    return Settings(alerts=AlertSettings(channels=channels, **more))


def drift(severity: Severity = "high", **changed: Any) -> Finding:
    finding: dict[str, Any] = {
        "kind": "data_drift",
        "severity": severity,
        "cause": "2 of 12 features have drifted: Income up: median 129 to 171",
        "next": "python main.py retrain",
        "model_version": "3",
        "features": ("Income", "Zürich"),
        "score": 0.31,
        "evidence": {"drift_score": 0.31, "rows": 5120},
    }
    return Finding(**{**finding, **changed})


def incidents_of(store: Store, settings: Settings) -> Incidents:
    return Incidents(store, AlertPolicy(settings))
