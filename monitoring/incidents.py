"""Incidents: one for each cause that is wrong now, however often it is seen, with its history.

    IncidentError           an incident that is not there, or is over

What befalls an incident, its history, the alerts that it deserves and the detection are one transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, field
from sqlalchemy import Connection, insert, select, update

from config.alert_settings import SEVERITIES, IncidentKind, Severity
from config.clock import has_elapsed
from config.errors import ProductError
from monitoring.alert_policy import AlertPolicy
from monitoring.deliveries import add_deliveries, heard
from monitoring.detections import add_detection
from monitoring.incident_events import (
    ALERTED,
    FOLLOWED_UP,
    EventKind,
    IncidentEvent,
    add_event,
    escalations_since_news,
    events_of,
    is_worse_than_seen,
    last_told,
)
from monitoring.store import Store, lock_writers, to_record
from monitoring.tables import incidents

__all__ = ["SEVERITIES", "IncidentKind", "Severity"]


class IncidentError(ProductError):
    """There is no such incident, or it is over."""


#: In a finding's evidence: how much accuracy the model has lost; absent or null where that is not known.
LOSS = "loss"


class Finding(Struct, frozen=True, kw_only=True):
    """What a check found wrong. Two findings with the same fingerprint are one incident."""

    kind: IncidentKind
    severity: Severity
    #: One sentence: what is wrong.
    cause: str
    #: The next command to type.
    next: str
    model_version: str | None = None
    #: Tells causes of one kind and model apart (a job's name, a file); figures that change from check to check do not
    #: belong here.
    subject: str = ""
    features: tuple[str, ...] = ()
    #: What the check measures, as one number (docs/alerts.md says which).
    score: float | None = None
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.kind, self.model_version, self.subject)


class Incident(Struct, frozen=True, kw_only=True):
    id: int
    kind: IncidentKind
    severity: Severity
    status: Literal["open", "acknowledged", "resolved"]
    model_version: str | None
    fingerprint: str
    opened_at: datetime
    #: When it was last seen.
    updated_at: datetime
    resolved_at: datetime | None
    cause: str
    features: tuple[str, ...]
    next: str
    #: How many checks have seen it.
    count: int
    evidence: dict[str, Any]


class Incidents:
    """`policy` says who is told; without one nobody is, and the history is kept all the same."""

    def __init__(self, store: Store, policy: AlertPolicy | None = None) -> None:
        self._store = store
        self._policy = policy or AlertPolicy()

    def report(self, finding: Finding, at: datetime) -> Incident:
        """Opens an incident, or counts the finding into the one of the same fingerprint.

        That is the unresolved one, or one that was resolved less than the cool-down ago, which is then open again. The
        newest cause, features, evidence and severity stand; an acknowledged one that grows worse is open again.
        """
        with self._store.writing() as connection:
            lock_writers(connection, incidents)
            known = self._known(connection, finding.fingerprint, at)
            if known is None:
                incident, event = self._open(connection, finding, at)
            else:
                incident, event = self._see_again(connection, finding, known, at)
            self._detect(connection, finding, incident, event, at)
            return incident

    def escalate(self, now: datetime) -> list[Incident]:
        """Tells again of what is open, high or critical, and was not acknowledged for the configured time."""
        query = select(incidents).where(incidents.c.status == "open", incidents.c.severity.in_(("high", "critical")))
        escalated = []
        for candidate in self._records(query.order_by(incidents.c.id)):
            with self._store.reading() as connection:
                if not self._is_overdue(connection, candidate, now):
                    continue
            with self._store.writing() as connection:
                lock_writers(connection, incidents)
                row = connection.execute(query.where(incidents.c.id == candidate.id)).one_or_none()
                if row is not None and self._is_overdue(connection, to_record(row, Incident), now):
                    self._note(connection, to_record(row, Incident), "escalated", now)
                    escalated.append(to_record(row, Incident))
        return escalated

    def acknowledge(
        self, incident_id: int, at: datetime, who: str | None = None, why: str | None = None
    ) -> Incident | None:
        """Somebody works on it; None when there is no open incident of that id."""
        values = {"status": "acknowledged"}
        return self._change(incident_id, ("open",), "acknowledged", at, who, why, values)

    def resolve(
        self, incident_id: int, at: datetime, who: str | None = None, why: str | None = None
    ) -> Incident | None:
        """None when there is no unresolved incident of that id. `who` is None when a check did it."""
        values = {"status": "resolved", "resolved_at": at}
        return self._change(incident_id, ("open", "acknowledged"), "resolved", at, who, why, values)

    def record_action(self, incident_id: int, at: datetime, action: str, **detail: Any) -> None:
        """What was done about it, in a few words ('retrained: version 4 was promoted'), with plain JSON details."""
        with self._store.writing() as connection:
            row = connection.execute(select(incidents).where(incidents.c.id == incident_id)).one_or_none()
            if row is None:
                raise IncidentError(f"there is no incident {incident_id}; see python main.py incidents list --all")
            self._note(connection, to_record(row, Incident), "action", at, detail={"action": action, **detail})

    def get(self, incident_id: int) -> Incident | None:
        found = self._records(select(incidents).where(incidents.c.id == incident_id))
        return found[0] if found else None

    def unresolved(self, kinds: Collection[IncidentKind] | None = None) -> list[Incident]:
        """Open and acknowledged ones, of all kinds or of these; oldest first."""
        query = select(incidents).where(incidents.c.status != "resolved").order_by(incidents.c.id)
        return self._records(query if kinds is None else query.where(incidents.c.kind.in_(kinds)))

    def latest(self, limit: int = 1000) -> list[Incident]:
        """Newest first, resolved ones too."""
        return self._records(select(incidents).order_by(incidents.c.id.desc()).limit(limit))

    def since(self, time: datetime) -> list[Incident]:
        """All that are unresolved, or were seen or resolved at or after `time`; newest first."""
        recent = (
            (incidents.c.status != "resolved") | (incidents.c.updated_at >= time) | (incidents.c.resolved_at >= time)
        )
        return self._records(select(incidents).where(recent).order_by(incidents.c.id.desc()))

    def _known(self, connection: Connection, fingerprint: str, at: datetime) -> Incident | None:
        """The newest of a cause, unless it was resolved longer ago than the cool-down."""
        query = select(incidents).where(incidents.c.fingerprint == fingerprint).order_by(incidents.c.id.desc())
        row = connection.execute(query.limit(1)).one_or_none()
        if row is None:
            return None
        newest = to_record(row, Incident)
        over = newest.resolved_at if newest.status == "resolved" else None
        return newest if over is None or over > at - self._policy.cool_down else None

    def _open(self, connection: Connection, finding: Finding, at: datetime) -> tuple[Incident, IncidentEvent | None]:
        values = _values(finding) | {"status": "open", "opened_at": at, "updated_at": at, "count": 1}
        row = connection.execute(insert(incidents).values(**values).returning(*incidents.c)).one()
        incident = to_record(row, Incident)
        return incident, self._note(connection, incident, "opened", at, detail={"cause": finding.cause})

    def _see_again(
        self, connection: Connection, finding: Finding, known: Incident, at: datetime
    ) -> tuple[Incident, IncidentEvent | None]:
        back = known.status == "resolved"
        worse = is_worse_than_seen(finding.severity, events_of(connection, known.id))
        values = _values(finding) | {"count": known.count + 1, "updated_at": max(at, known.updated_at)}
        values |= {"status": "open"} if back or worse else {}
        values |= {"resolved_at": None} if back else {}
        counted = update(incidents).where(incidents.c.id == known.id).values(**values)
        incident = to_record(connection.execute(counted.returning(*incidents.c)).one(), Incident)
        event = None
        if worse:
            if back:  # which the alert of the next event tells
                add_event(connection, incident.id, "reopened", incident.severity, at, detail={"cause": finding.cause})
            detail = {"cause": finding.cause, "before": known.severity}
            event = self._note(connection, incident, "worse", at, detail=detail)
        elif back:
            event = self._note(connection, incident, "reopened", at, detail={"cause": finding.cause})
        return incident, event

    def _detect(
        self, connection: Connection, finding: Finding, incident: Incident, event: IncidentEvent | None, at: datetime
    ) -> None:
        add_detection(
            connection,
            kind=finding.kind,
            model_version=finding.model_version,
            monitor=self._policy.monitor(connection, finding.kind, finding.model_version).name,
            at=at,
            score=finding.score,
            severity=finding.severity,
            features=list(finding.features),
            details={"cause": finding.cause, **finding.evidence},
            incident=incident.id,
            event=event.id if event else None,
        )

    def _note(
        self,
        connection: Connection,
        incident: Incident,
        event: EventKind,
        at: datetime,
        who: str | None = None,
        detail: dict[str, Any] | None = None,
    ) -> IncidentEvent:
        """Adds to the history, and puts the alerts that the event deserves into the outbox."""
        added = add_event(connection, incident.id, event, incident.severity, at, who=who, detail=detail)
        add_deliveries(connection, incident.id, added.id, self._channels(connection, incident, event), at)
        return added

    def _channels(self, connection: Connection, incident: Incident, event: EventKind) -> list[str]:
        if event not in (*ALERTED, *FOLLOWED_UP):
            return []
        monitor = self._policy.monitor(connection, incident.kind, incident.model_version)
        if event in ALERTED:
            return self._policy.channels(monitor, incident.severity)
        return self._policy.followed_up(monitor, event, heard(connection, incident.id))

    def _is_overdue(self, connection: Connection, incident: Incident, now: datetime) -> bool:
        if self._policy.escalate_after is None:
            return False
        events = events_of(connection, incident.id)
        told = last_told(events)
        return (
            told is not None
            and has_elapsed(self._policy.escalate_after, told, now)
            and escalations_since_news(events) < self._policy.escalations
        )

    def _change(
        self,
        incident_id: int,
        from_status: tuple[str, ...],
        event: EventKind,
        at: datetime,
        who: str | None,
        why: str | None,
        values: dict[str, Any],
    ) -> Incident | None:
        statement = update(incidents).where(incidents.c.id == incident_id, incidents.c.status.in_(from_status))
        with self._store.writing() as connection:
            row = connection.execute(statement.values(**values).returning(*incidents.c)).one_or_none()
            if row is None:
                return None
            incident = to_record(row, Incident)
            self._note(connection, incident, event, at, who, {"why": why} if why else None)
            return incident

    def _records(self, query: Any) -> list[Incident]:
        with self._store.reading() as connection:
            return [to_record(row, Incident) for row in connection.execute(query)]


def fingerprint_of(kind: IncidentKind, model_version: str | None, subject: str) -> str:
    parts = "\0".join((kind, model_version or "", subject))
    return hashlib.sha256(parts.encode("utf-8", "replace")).hexdigest()[:16]


def _values(finding: Finding) -> dict[str, Any]:
    """The columns that the newest finding decides."""
    names = ("kind", "severity", "model_version", "cause", "next", "evidence", "fingerprint")
    return {name: getattr(finding, name) for name in names} | {"features": list(finding.features)}
