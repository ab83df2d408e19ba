"""What nothing else looks after: jobs that were missed while no scheduler was at work, and a model that grows old."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from config.settings import Settings
from monitoring.alerts import Alerts
from monitoring.detections import Detections
from monitoring.incidents import Finding
from monitoring.job_records import JobRecord, JobRecords
from monitoring.monitors import monitor_for
from monitoring.promotion_history import PromotionHistory
from monitoring.serving_rules import stale_finding
from monitoring.store import Store
from pipeline.monitored_times import version_in_service

#: A job that starts later than this was missed.
TOLERATED_DELAY = timedelta(hours=1)
#: Detections are kept as long; incidents and their history are kept for good.
DETECTIONS_KEPT = timedelta(days=365)
MISSED, STALE = "missed jobs", "stale model"


class Watches:
    """`jobs` says which jobs there are: the store may remember others."""

    def __init__(self, settings: Settings, store: Store, alerts: Alerts, jobs: Callable[[], Collection[str]]) -> None:
        self._settings = settings
        self._store = store
        self._alerts = alerts
        self._jobs = jobs

    def begin(self, now: datetime) -> None:
        """At the start of the scheduler, before it catches up."""
        if late := self._overdue(now):
            self._alerts.report(missed_finding(late, now), now)

    def look(self, now: datetime) -> None:
        """Now and then."""
        if not self._overdue(now):
            self._alerts.settle(("pipeline",), None, (), now, subject=MISSED)
        self._look_at_the_age(now)
        Detections(self._store).forget(now - DETECTIONS_KEPT)

    def _overdue(self, now: datetime) -> list[JobRecord]:
        jobs = self._jobs()
        return overdue((record for record in JobRecords(self._store).all() if record.name in jobs), now)

    def _look_at_the_age(self, now: datetime) -> None:
        version = version_in_service()
        since = None if version is None else PromotionHistory(self._store).in_service_since(version)
        if version is None or since is None:
            return
        monitor = monitor_for(self._store, self._settings, "serving", self._settings.registered_model_name, version)
        if not monitor.paused:
            stale = stale_finding(version, since, now, monitor.thresholds["stale_after_days"])
            self._alerts.settle(("serving",), None, [stale] if stale else [], now, subject=STALE)


def overdue(records: Iterable[JobRecord], now: datetime) -> list[JobRecord]:
    """Jobs that should have begun more than an hour ago."""
    return [
        record
        for record in records
        if record.next_due_at is not None
        and record.last_status != "running"
        and now - record.next_due_at > TOLERATED_DELAY
    ]


def missed_finding(late: Iterable[JobRecord], now: datetime) -> Finding:
    delays = {record.name: _hours(now - record.next_due_at) for record in late if record.next_due_at is not None}
    listed = ", ".join(f"{name} {hours:,.1f} h late" for name, hours in delays.items())
    return Finding(
        kind="pipeline",
        severity="medium",
        cause=f"no scheduler was at work when jobs were due: {listed}",
        next="python main.py status; let the system keep `python main.py` running",
        subject=MISSED,
        score=max(delays.values()),
        evidence={"hours_late": delays},
    )


def _hours(time: timedelta) -> float:
    return round(time / timedelta(hours=1), 2)
