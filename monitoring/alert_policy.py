"""Who is told of an event of an incident, and when it is told again."""

from __future__ import annotations

from datetime import timedelta

from msgspec import Struct
from sqlalchemy import Connection

from config.alert_settings import SEVERITIES, IncidentKind, Severity
from config.settings import Settings
from monitoring.monitors import Monitor, effective, stored_monitors


class AlertPolicy(Struct, frozen=True):
    """`alerts` of the configuration, with the monitors of the store."""

    settings: Settings = Settings()

    @property
    def cool_down(self) -> timedelta:
        return timedelta(hours=self.settings.alerts.cool_down_hours)

    @property
    def escalate_after(self) -> timedelta | None:
        hours = self.settings.alerts.escalate_after_hours
        return None if hours is None else timedelta(hours=hours)

    @property
    def escalations(self) -> int:
        return self.settings.alerts.escalations

    def monitor(self, connection: Connection, kind: IncidentKind, model_version: str | None) -> Monitor:
        model = self.settings.registered_model_name
        return effective(
            self.settings, kind, model, model_version, stored_monitors(connection, kind, model, model_version)
        )

    def channels(self, monitor: Monitor, severity: Severity) -> list[str]:
        """Names of those that want such an alert; none while the monitor is paused."""
        if monitor.paused:
            return []
        level = SEVERITIES.index(severity)
        return [
            channel.name
            for channel in self.settings.alerts.channels
            if SEVERITIES.index(channel.minimum_severity) <= level
            and (not channel.kinds or monitor.kind in channel.kinds)
            and (monitor.channels is None or channel.name in monitor.channels)
        ]
