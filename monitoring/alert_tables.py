"""The tables of alerts: what befell incidents, what is to be sent, what is watched, what was found."""

from __future__ import annotations

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, String, Table, text

from monitoring.column_types import PlainJson, UtcDateTime, ValidText, metadata

incident_events = Table(
    "incident_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("incident", Integer, ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False),
    Column("at", UtcDateTime, nullable=False),
    Column("event", String(16), nullable=False),
    #: Of the incident at that moment.
    Column("severity", String(16), nullable=False),
    Column("who", ValidText),
    Column("detail", PlainJson),
    Index("ix_incident_events_incident", "incident", "id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("incident", Integer, ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False, index=True),
    #: The event that deserves the alert.
    Column("event", Integer, ForeignKey("incident_events.id", ondelete="CASCADE"), nullable=False),
    Column("channel", String(40), nullable=False),
    Column("status", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    #: In our own words: an address and what a receiver says may hold secrets.
    Column("last_error", ValidText),
    Column("sent_at", UtcDateTime),
    Index("uq_deliveries_event_channel", "event", "channel", unique=True),
)
Index(
    "ix_deliveries_waiting",
    deliveries.c.next_attempt_at,
    sqlite_where=text("status = 'waiting'"),
    postgresql_where=text("status = 'waiting'"),
)

monitors = Table(
    "monitors",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("model_name", String(250), nullable=False),
    #: '' is any version, since it is a part of a key.
    Column("model_version", String(64), nullable=False),
    #: Only those that differ from the configuration; so with the columns that are null.
    Column("thresholds", PlainJson, nullable=False),
    Column("frequency_hours", Double),
    Column("channels", PlainJson),
    Column("status", String(16)),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("changed_by", ValidText, nullable=False),
    Index("uq_monitors_kind_model_name_model_version", "kind", "model_name", "model_version", unique=True),
)

detections = Table(
    "detections",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("model_version", String(64)),
    Column("monitor", ValidText, nullable=False),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("score", Double),
    Column("severity", String(16), nullable=False),
    Column("features", PlainJson, nullable=False),
    Column("details", PlainJson, nullable=False),
    Column("incident", Integer, ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False, index=True),
    #: The event that it was for the incident; null when it only was one more of the same.
    Column("event", Integer, ForeignKey("incident_events.id", ondelete="CASCADE")),
)
