"""Who is told of an event of an incident, and when it is told again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from msgspec import Struct
from sqlalchemy import Connection

from config.alert_settings import SEVERITIES, IncidentKind, Severity
from config.settings import Settings
from monitoring.incident_events import EventKind
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

    def followed_up(self, monitor: Monitor, event: EventKind, heard: Mapping[str, Sequence[EventKind]]) -> list[str]:
        """Names of those who are told that it is over, once an incident, or that it is back, when they last heard that
        it is over; so an incident that comes and goes ends in silence, and with nobody who thinks that it is over."""
        if monitor.paused or not self.settings.alerts.tell_resolved:
            return []
        told = {name: events for name, events in heard.items() if self.settings.alerts.channel(name) is not None}
        if event == "resolved":
            return [name for name, events in told.items() if "resolved" not in events]
        return [name for name, events in told.items() if events[-1] == "resolved"]

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
