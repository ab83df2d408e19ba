"""When the scheduler's jobs last ran and are next due, so that what was missed while it was down is caught up."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import select

from monitoring.store import Store, to_record, upsert
from monitoring.tables import jobs

JobStatus = Literal["running", "succeeded", "failed", "interrupted"]


class JobRecord(Struct, frozen=True, kw_only=True):
    name: str
    last_started_at: datetime | None
    last_finished_at: datetime | None
    last_status: JobStatus | None
    next_due_at: datetime | None


class JobRecords:
    def __init__(self, store: Store) -> None:
        self._store = store

    def started(self, name: str, at: datetime) -> None:
        self._set(name, last_started_at=at, last_status="running")

    def finished(self, name: str, status: JobStatus, at: datetime, next_due_at: datetime | None) -> None:
        self._set(name, last_finished_at=at, last_status=status, next_due_at=next_due_at)

    def schedule(self, name: str, next_due_at: datetime | None) -> None:
        """Moves only when the job is due."""
        self._set(name, next_due_at=next_due_at)

    def get(self, name: str) -> JobRecord | None:
        return next((job for job in self.all() if job.name == name), None)

    def all(self) -> list[JobRecord]:
        """By name."""
        with self._store.reading() as connection:
            return [to_record(row, JobRecord) for row in connection.execute(select(jobs).order_by(jobs.c.name))]

    def _set(self, name: str, **values: Any) -> None:
        with self._store.writing() as connection:
            upsert(connection, jobs, {"name": name}, values)
