"""The tables of the store. `monitoring/migrations` makes them; a test holds the two to each other."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from monitoring.plain_json import valid_text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC; a naive one is refused, for nobody knows when it was."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class ValidText(TypeDecorator[str]):
    """Text of any length; what a database would refuse in it is replaced (error messages hold anything)."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else valid_text(value)


# Absent JSON is SQL NULL, not the JSON word null.
_json = JSON(none_as_null=True)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(64), primary_key=True),
    Column("trigger", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False, index=True),
    Column("finished_at", UtcDateTime),
    Column("pid", Integer, nullable=False),
    Column("host", ValidText, nullable=False),
    Column("data_source", ValidText),
    Column("rows", Integer),
    Column("model_version", String(64)),
    Column("decision", _json),
    Column("error", ValidText),
)

run_steps = Table(
    "run_steps",
    metadata,
    Column("run_id", String(64), ForeignKey("runs.run_id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("position", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("finished_at", UtcDateTime),
    Column("detail", _json),
)

promotions = Table(
    "promotions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("from_version", String(64)),
    Column("to_version", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("who", ValidText, nullable=False),
    Column("why", ValidText, nullable=False),
    Column("evidence", _json),
    Column("intended_at", UtcDateTime, nullable=False),
    Column("done_at", UtcDateTime, index=True),
    Column("status", String(16), nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("last_started_at", UtcDateTime),
    Column("last_finished_at", UtcDateTime),
    Column("last_status", String(16)),
    Column("next_due_at", UtcDateTime),
)

data_files = Table(
    "data_files",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("path", ValidText, nullable=False, unique=True),
    Column("sha256", String(64), nullable=False, index=True),
    Column("rows", Integer, nullable=False),
    Column("added_at", UtcDateTime, nullable=False),
    Column("run_id", String(64)),
)

incidents = Table(
    "incidents",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("status", String(16), nullable=False),
    Column("model_version", String(64)),
    Column("fingerprint", String(64), nullable=False),
    Column("opened_at", UtcDateTime, nullable=False, index=True),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("resolved_at", UtcDateTime),
    Column("cause", ValidText, nullable=False),
    Column("features", _json, nullable=False),
    Column("next", ValidText, nullable=False),
    Column("count", Integer, nullable=False),
    Column("evidence", _json, nullable=False),
)

_unresolved = text("status <> 'resolved'")
#: One cause has one incident at a time, whoever reports it.
Index(
    "uq_incidents_unresolved",
    incidents.c.fingerprint,
    unique=True,
    sqlite_where=_unresolved,
    postgresql_where=_unresolved,
)

drift_checks = Table(
    "drift_checks",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("checked_at", UtcDateTime, nullable=False),
    Column("model_version", String(64), nullable=False),
    Column("window_from", UtcDateTime),
    Column("window_to", UtcDateTime),
    Column("rows", Integer, nullable=False),
    Column("report", _json, nullable=False),
    Index("ix_drift_checks_model_version_checked_at", "model_version", "checked_at"),
)
