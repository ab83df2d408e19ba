"""Drift checks that were made, with their reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import insert, select

from monitoring.store import Store, to_record
from monitoring.tables import drift_checks


class DriftCheck(Struct, frozen=True, kw_only=True):
    id: int
    checked_at: datetime
    model_version: str
    #: The time that the rows came from; None for a file.
    window_from: datetime | None
    window_to: datetime | None
    rows: int
    report: dict[str, Any]


class DriftChecks:
    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self,
        model_version: str,
        at: datetime,
        rows: int,
        report: dict[str, Any],
        *,
        window_from: datetime | None = None,
        window_to: datetime | None = None,
    ) -> DriftCheck:
        values = {"model_version": model_version, "checked_at": at, "rows": rows, "report": report}
        statement = insert(drift_checks).values(**values, window_from=window_from, window_to=window_to)
        with self._store.writing() as connection:
            return to_record(connection.execute(statement.returning(*drift_checks.c)).one(), DriftCheck)

    def latest(self, model_version: str | None = None, limit: int = 1) -> list[DriftCheck]:
        """Newest first, of one model version or of all."""
        query = select(drift_checks).order_by(drift_checks.c.checked_at.desc(), drift_checks.c.id.desc()).limit(limit)
        if model_version is not None:
            query = query.where(drift_checks.c.model_version == model_version)
        with self._store.reading() as connection:
            return [to_record(row, DriftCheck) for row in connection.execute(query)]
