"""The history of an incident: what befell it, when, and who did it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import Connection, insert, select

from config.alert_settings import SEVERITIES, Severity
from monitoring.alert_tables import incident_events
from monitoring.store import Store, to_record

EventKind = Literal[
    "opened", "worse", "reopened", "escalated", "acknowledged", "alert_sent", "alert_failed", "action", "resolved"
]
#: Events that deserve an alert.
ALERTED: tuple[EventKind, ...] = ("opened", "worse", "escalated")
#: Events that are told to those who were told before: that it is over, and that it is back when they think so.
FOLLOWED_UP: tuple[EventKind, ...] = ("resolved", "reopened")
_SEEN: tuple[EventKind, ...] = ("opened", "worse", "reopened")


class IncidentEvent(Struct, frozen=True, kw_only=True):
    id: int
    incident: int
    at: datetime
    event: EventKind
    #: Of the incident at that moment.
    severity: Severity
    who: str | None
    detail: dict[str, Any] | None


def add_event(
    connection: Connection,
    incident_id: int,
    event: EventKind,
    severity: Severity,
    at: datetime,
    *,
    who: str | None = None,
    detail: dict[str, Any] | None = None,
) -> IncidentEvent:
    """In the transaction of what it tells of."""
    values = {"incident": incident_id, "event": event, "severity": severity, "at": at, "who": who, "detail": detail}
    statement = insert(incident_events).values(**values).returning(*incident_events.c)
    return to_record(connection.execute(statement).one(), IncidentEvent)


def events_of(connection: Connection, incident_id: int) -> list[IncidentEvent]:
    """Oldest first."""
    query = select(incident_events).where(incident_events.c.incident == incident_id).order_by(incident_events.c.id)
    return [to_record(row, IncidentEvent) for row in connection.execute(query)]


def history(store: Store, incident_id: int) -> list[IncidentEvent]:
    """Oldest first."""
    with store.reading() as connection:
        return events_of(connection, incident_id)


def is_worse_than_seen(severity: Severity, events: list[IncidentEvent]) -> bool:
    """Whether it is above all that was seen of the incident: one that goes up and down is told once a step."""
    seen = [SEVERITIES.index(one.severity) for one in events if one.event in _SEEN]
    return SEVERITIES.index(severity) > max(seen, default=-1)


def last_told(events: list[IncidentEvent]) -> datetime | None:
    """When people last heard of it, or when it last came back: of `events`, oldest first, by their order, as a clock
    that was ahead may have dated an earlier one later."""
    return next((one.at for one in reversed(events) if one.event in ALERTED or one.event == "reopened"), None)


def escalations_since_news(events: list[IncidentEvent]) -> int:
    """How often it was told again since it opened or grew worse."""
    news = max((place for place, one in enumerate(events) if one.event in ("opened", "worse")), default=-1)
    return sum(one.event == "escalated" for one in events[news + 1 :])
