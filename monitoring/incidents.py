"""Incidents: one for each cause that is wrong now, however often it is seen."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct, field
from sqlalchemy import insert, select, update

from monitoring.store import Store, lock_writers, to_record
from monitoring.tables import incidents

Severity = Literal["low", "medium", "high", "critical"]
IncidentKind = Literal[
    "data_drift", "prediction_drift", "performance_drift", "concept_drift", "data_quality", "serving", "pipeline"
]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")


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
    def __init__(self, store: Store) -> None:
        self._store = store

    def report(self, finding: Finding, at: datetime) -> Incident:
        """Opens an incident, or counts the finding into the unresolved one of the same fingerprint.

        The newest cause, features, evidence and severity stand; an acknowledged one that grows worse is open again.
        """
        values = {
            name: getattr(finding, name) for name in ("kind", "severity", "model_version", "cause", "next", "evidence")
        } | {"fingerprint": finding.fingerprint, "features": list(finding.features), "updated_at": at}
        with self._store.writing() as connection:
            lock_writers(connection, incidents)
            row = connection.execute(
                select(incidents).where(
                    incidents.c.fingerprint == finding.fingerprint, incidents.c.status != "resolved"
                )
            ).one_or_none()
            if row is None:
                opened = insert(incidents).values(**values, status="open", opened_at=at, count=1)
                return to_record(connection.execute(opened.returning(*incidents.c)).one(), Incident)
            known = to_record(row, Incident)
            values |= {"count": known.count + 1, "updated_at": max(at, known.updated_at)}
            values |= {"status": "open"} if _worse(finding.severity, known.severity) else {}
            counted = update(incidents).where(incidents.c.id == known.id).values(**values)
            return to_record(connection.execute(counted.returning(*incidents.c)).one(), Incident)

    def acknowledge(self, incident_id: int) -> Incident | None:
        """Somebody works on it; None when there is no open incident of that id."""
        return self._change(incident_id, ("open",), status="acknowledged")

    def resolve(self, incident_id: int, at: datetime) -> Incident | None:
        """None when there is no unresolved incident of that id."""
        return self._change(incident_id, ("open", "acknowledged"), status="resolved", resolved_at=at)

    def get(self, incident_id: int) -> Incident | None:
        found = self._records(select(incidents).where(incidents.c.id == incident_id))
        return found[0] if found else None

    def unresolved(self, kinds: Collection[IncidentKind] | None = None) -> list[Incident]:
        """Open and acknowledged ones, of all kinds or of these; oldest first."""
        query = select(incidents).where(incidents.c.status != "resolved").order_by(incidents.c.id)
        return self._records(query if kinds is None else query.where(incidents.c.kind.in_(kinds)))

    def since(self, time: datetime) -> list[Incident]:
        """All that are unresolved, or were seen or resolved at or after `time`; newest first."""
        recent = (
            (incidents.c.status != "resolved") | (incidents.c.updated_at >= time) | (incidents.c.resolved_at >= time)
        )
        return self._records(select(incidents).where(recent).order_by(incidents.c.id.desc()))

    def _change(self, incident_id: int, from_status: tuple[str, ...], **values: Any) -> Incident | None:
        statement = update(incidents).where(incidents.c.id == incident_id, incidents.c.status.in_(from_status))
        with self._store.writing() as connection:
            row = connection.execute(statement.values(**values).returning(*incidents.c)).one_or_none()
        return None if row is None else to_record(row, Incident)

    def _records(self, query: Any) -> list[Incident]:
        with self._store.reading() as connection:
            return [to_record(row, Incident) for row in connection.execute(query)]


def fingerprint_of(kind: IncidentKind, model_version: str | None, subject: str) -> str:
    parts = "\0".join((kind, model_version or "", subject))
    return hashlib.sha256(parts.encode("utf-8", "replace")).hexdigest()[:16]


def _worse(new: Severity, old: Severity) -> bool:
    return SEVERITIES.index(new) > SEVERITIES.index(old)
