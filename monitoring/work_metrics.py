"""What the store holds of the work of all hosts: jobs, runs, incidents, deliveries, the model in service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import get_args

from sqlalchemy import func, select

from config.alert_settings import SEVERITIES
from config.settings import Settings
from monitoring.deliveries import Outbox
from monitoring.incidents import Incidents
from monitoring.job_records import JobRecord, JobRecords, JobStatus
from monitoring.metric_samples import Definition, Sample
from monitoring.monitors import KINDS, monitor_for
from monitoring.promotion_history import PromotionHistory
from monitoring.run_records import RunStatus
from monitoring.store import Store
from monitoring.tables import runs

JOB_STATUS = Definition(
    "mlops_job_status", "gauge", "scheduler", "1 for the status of the job's last start, 0 for the others.",
    ("job_name", "status"),
)  # fmt: skip
JOB_SUCCESS = Definition(
    "mlops_job_last_success_timestamp_seconds", "gauge", "scheduler", "When the job last ended well.", ("job_name",)
)
JOB_SECONDS = Definition(
    "mlops_job_duration_seconds", "gauge", "scheduler", "How long the job took when it last ended.", ("job_name",)
)
JOB_DUE = Definition(
    "mlops_job_next_due_timestamp_seconds", "gauge", "scheduler", "When the job is due again.", ("job_name",)
)
RUNS = Definition("mlops_runs_total", "counter", "scheduler", "Training runs that ended, by how.", ("status",))
INCIDENTS = Definition(
    "mlops_incidents_unresolved", "gauge", "scheduler", "Incidents that are open or acknowledged.",
    ("kind", "severity", "status"),
)  # fmt: skip
DELIVERIES_FAILED = Definition(
    "mlops_deliveries_failed_total", "counter", "scheduler", "Alerts that were given up: no receiver took them."
)
DELIVERIES_SENT = Definition("mlops_deliveries_sent_total", "counter", "scheduler", "Alerts that a receiver took.")
DELIVERIES_WAITING = Definition("mlops_deliveries_waiting", "gauge", "scheduler", "Alerts that are to be sent.")
SERVING_SINCE = Definition(
    "mlops_model_in_service_timestamp_seconds", "gauge", "scheduler", "When the version was put in service.",
    ("model_version",),
)  # fmt: skip
STALE_AFTER = Definition(
    "mlops_model_stale_after_seconds", "gauge", "scheduler", "Age in service from which on a version is called stale.",
    ("model_version",),
)  # fmt: skip

WORK_METRICS = (
    *(JOB_STATUS, JOB_SUCCESS, JOB_SECONDS, JOB_DUE, RUNS, INCIDENTS),
    *(DELIVERIES_SENT, DELIVERIES_FAILED, DELIVERIES_WAITING, SERVING_SINCE, STALE_AFTER),
)
_ENDED: tuple[RunStatus, ...] = ("succeeded", "failed", "interrupted", "refused")


class JobMetrics:
    """Remembers how a job last ended well: the store knows only its last start, which may be at work or have failed."""

    def __init__(self, names: Collection[str]) -> None:
        """Of these jobs alone: the store may remember others, which nobody does any more."""
        self._names = names
        self._success: dict[str, datetime] = {}
        self._duration: dict[str, timedelta] = {}

    def samples(self, store: Store) -> Iterator[Sample]:
        for record in JobRecords(store).all():
            if record.name in self._names:
                self._remember(record)
                yield from self._samples_of(record)

    def _remember(self, record: JobRecord) -> None:
        began, ended = record.last_started_at, record.last_finished_at
        if began is None or ended is None or ended < began or record.last_status == "running":
            return
        self._duration[record.name] = ended - began
        if record.last_status == "succeeded":
            self._success[record.name] = ended

    def _samples_of(self, record: JobRecord) -> Iterator[Sample]:
        name = record.name
        for status in get_args(JobStatus):
            yield from JOB_STATUS.of(status == record.last_status, name, status)
        yield from JOB_SUCCESS.of(self._success.get(name), name)
        if name in self._duration:
            yield from JOB_SECONDS.of(self._duration[name].total_seconds(), name)
        yield from JOB_DUE.of(record.next_due_at, name)


def run_samples(store: Store) -> Iterator[Sample]:
    with store.reading() as connection:
        rows = connection.execute(select(runs.c.status, func.count().label("ended")).group_by(runs.c.status)).all()
    found = {row.status: row.ended for row in rows}
    for status in _ENDED:
        yield from RUNS.of(found.get(status, 0), status)


def incident_samples(store: Store) -> Iterator[Sample]:
    """Zeros too: an alert can tell what is not there from what is not known."""
    found = Counter((one.kind, one.severity, one.status) for one in Incidents(store).unresolved())
    for kind in KINDS:
        for severity in SEVERITIES:
            yield from INCIDENTS.of(found[kind, severity, "open"], kind, severity, "open")
            yield from INCIDENTS.of(found[kind, severity, "acknowledged"], kind, severity, "acknowledged")


def delivery_samples(store: Store, settings: Settings) -> Iterator[Sample]:
    counts = Outbox(store, settings.alerts).counts()
    yield from DELIVERIES_SENT.of(counts["sent"])
    yield from DELIVERIES_FAILED.of(counts["failed"])
    yield from DELIVERIES_WAITING.of(counts["waiting"])


def age_samples(store: Store, settings: Settings, version: str | None) -> Iterator[Sample]:
    """`version` is the one in service, or None."""
    if version is None:
        return
    yield from SERVING_SINCE.of(PromotionHistory(store).in_service_since(version), version)
    monitor = monitor_for(store, settings, "serving", settings.registered_model_name, version)
    days = monitor.thresholds["stale_after_days"]
    yield from STALE_AFTER.of(timedelta(days=min(days, 1e6)).total_seconds(), version)
