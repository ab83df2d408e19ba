"""Detections: every finding of a check, with the incident that it went into and what came of that."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, delete, exists, insert, select

from config.alert_settings import IncidentKind, Severity
from monitoring.alert_tables import deliveries, detections, incident_events
from monitoring.store import Store, to_record


class Detection(Struct, frozen=True, kw_only=True):
    id: int
    kind: IncidentKind
    model_version: str | None
    #: `kind/model` or `kind/model/version`.
    monitor: str
    at: datetime
    #: What the check measures, where that is one number: the drift score, the drop of accuracy, the error rate.
    score: float | None
    severity: Severity
    features: tuple[str, ...]
    #: The cause in words, and the evidence.
    details: dict[str, Any]
    incident: int
    #: The event of the incident that this was; None when it was one more of the same.
    event: int | None
    #: Whether a channel was told of it.
    alert_sent: bool
    #: What was done about its incident since, the newest first in line; None when nothing was.
    action_taken: str | None


def add_detection(connection: Connection, **values: Any) -> None:
    """In the transaction of the incident. `values` are the columns of the table."""
    connection.execute(insert(detections).values(**values))


class Detections:
    def __init__(self, store: Store) -> None:
        self._store = store

    def latest(
        self,
        limit: int = 100,
        *,
        kind: IncidentKind | None = None,
        model_version: str | None = None,
        incident: int | None = None,
    ) -> list[Detection]:
        """Newest first."""
        query: Any = select(*detections.c, _alert_sent(), _action_taken()).order_by(detections.c.id.desc()).limit(limit)
        for column, value in (("kind", kind), ("model_version", model_version), ("incident", incident)):
            if value is not None:
                query = query.where(detections.c[column] == value)
        with self._store.reading() as connection:
            return [to_record(row, Detection) for row in connection.execute(query)]

    def forget(self, before: datetime) -> int:
        """Deletes what was found before then, and returns how many; the incidents and their history stay."""
        with self._store.writing() as connection:
            return connection.execute(delete(detections).where(detections.c.at < before)).rowcount


def _alert_sent() -> Any:
    sent = exists().where(deliveries.c.event == detections.c.event, deliveries.c.status == "sent")
    return sent.label("alert_sent")


def _action_taken() -> Any:
    taken = incident_events.c.detail["action"].as_string()
    return (
        select(taken)
        .where(incident_events.c.incident == detections.c.incident, incident_events.c.event == "action")
        .where(incident_events.c.at >= detections.c.at)
        .order_by(incident_events.c.id.desc())
        .limit(1)
        .scalar_subquery()
        .label("action_taken")
    )
