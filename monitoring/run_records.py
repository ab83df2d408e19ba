"""Runs of the pipeline and their steps, as the store keeps them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from msgspec import Struct
from sqlalchemy import func, insert, select, update

from monitoring.store import Store, to_record, upsert
from monitoring.tables import run_steps, runs

Trigger = Literal["first", "manual", "schedule", "new_data", "drift", "degradation"]
RunStatus = Literal["running", "succeeded", "failed", "interrupted", "refused"]
StepStatus = Literal["running", "succeeded", "failed", "interrupted", "skipped"]


class RunRecord(Struct, frozen=True, kw_only=True):
    run_id: str
    trigger: Trigger
    status: RunStatus
    started_at: datetime
    finished_at: datetime | None
    #: The process that runs it, and where; a pid means something on its own host only.
    pid: int
    host: str
    data_source: str | None
    rows: int | None
    #: The version that the run registered, promoted or not.
    model_version: str | None
    decision: dict[str, Any] | None
    error: str | None


class StepRecord(Struct, frozen=True, kw_only=True):
    run_id: str
    name: str
    position: int
    status: StepStatus
    started_at: datetime
    finished_at: datetime | None
    detail: dict[str, Any] | None


class RunRecords:
    def __init__(self, store: Store) -> None:
        self._store = store

    def start(
        self, run_id: str, trigger: Trigger, at: datetime, *, pid: int, host: str, data_source: str | None = None
    ) -> RunRecord:
        """Raises sqlalchemy's IntegrityError when there is a run of that id."""
        values = {"run_id": run_id, "trigger": trigger, "status": "running", "started_at": at, "pid": pid}
        with self._store.writing() as connection:
            row = connection.execute(
                insert(runs).values(**values, host=host, data_source=data_source).returning(*runs.c)
            ).one()
        return to_record(row, RunRecord)

    def note(
        self,
        run_id: str,
        *,
        rows: int | None = None,
        data_source: str | None = None,
        model_version: str | None = None,
        decision: dict[str, Any] | None = None,
    ) -> None:
        """Records what is known by now; what is None stays as it was."""
        given = {"rows": rows, "data_source": data_source, "model_version": model_version, "decision": decision}
        values = {name: value for name, value in given.items() if value is not None}
        if values:
            with self._store.writing() as connection:
                connection.execute(update(runs).where(runs.c.run_id == run_id).values(**values))

    def finish(
        self,
        run_id: str,
        status: RunStatus,
        at: datetime,
        *,
        error: str | None = None,
        decision: dict[str, Any] | None = None,
        model_version: str | None = None,
    ) -> bool:
        """Ends a running run, and as failed or interrupted the steps that still run.

        Returns False, and changes nothing, when the run has ended already: the first word stands.
        """
        values: dict[str, Any] = {"status": status, "finished_at": at, "error": error}
        values |= {} if decision is None else {"decision": decision}
        values |= {} if model_version is None else {"model_version": model_version}
        with self._store.writing() as connection:
            ended = connection.execute(
                update(runs).where(runs.c.run_id == run_id, runs.c.status == "running").values(**values)
            )
            if ended.rowcount == 1:
                connection.execute(
                    update(run_steps)
                    .where(run_steps.c.run_id == run_id, run_steps.c.status == "running")
                    .values(status="interrupted" if status == "interrupted" else "failed", finished_at=at)
                )
            return ended.rowcount == 1

    def interrupt_orphans(self, is_alive: Callable[[RunRecord], bool], at: datetime) -> list[RunRecord]:
        """Marks the running runs whose process is gone as interrupted, and returns them as they are now."""
        orphans = [run for run in self.running() if not is_alive(run)]
        error = "the process that ran it ended without a word"
        ended = [run.run_id for run in orphans if self.finish(run.run_id, "interrupted", at, error=error)]
        return [run for run in map(self.get, ended) if run is not None]

    def start_step(self, run_id: str, name: str, at: datetime) -> None:
        """Steps are in the order of their first start; starting one again starts it over."""
        with self._store.writing() as connection:
            position = connection.execute(
                select(func.count())
                .select_from(run_steps)
                .where(run_steps.c.run_id == run_id, run_steps.c.name != name)
            ).scalar_one()
            values = {"status": "running", "started_at": at, "finished_at": None, "detail": None, "position": position}
            upsert(connection, run_steps, {"run_id": run_id, "name": name}, values)

    def finish_step(
        self, run_id: str, name: str, status: StepStatus, at: datetime, detail: dict[str, Any] | None = None
    ) -> None:
        with self._store.writing() as connection:
            connection.execute(
                update(run_steps)
                .where(run_steps.c.run_id == run_id, run_steps.c.name == name)
                .values(status=status, finished_at=at, detail=detail)
            )

    def get(self, run_id: str) -> RunRecord | None:
        with self._store.reading() as connection:
            row = connection.execute(select(runs).where(runs.c.run_id == run_id)).one_or_none()
        return None if row is None else to_record(row, RunRecord)

    def latest(self, limit: int = 20, status: RunStatus | None = None) -> list[RunRecord]:
        """Newest first."""
        query = select(runs).order_by(runs.c.started_at.desc(), runs.c.run_id.desc()).limit(limit)
        if status is not None:
            query = query.where(runs.c.status == status)
        with self._store.reading() as connection:
            return [to_record(row, RunRecord) for row in connection.execute(query)]

    def running(self) -> list[RunRecord]:
        return self.latest(limit=1000, status="running")

    def steps(self, run_id: str) -> list[StepRecord]:
        query = select(run_steps).where(run_steps.c.run_id == run_id).order_by(run_steps.c.position)
        with self._store.reading() as connection:
            return [to_record(row, StepRecord) for row in connection.execute(query)]
