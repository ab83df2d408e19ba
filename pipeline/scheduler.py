"""The scheduler: follows the registry, monitors, looks for new data, and trains in a child process.

Each job's last run is kept in the store, so that what was missed while the scheduler was down is caught up with at its
start. A job that fails is logged and recorded; the others go on.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import schedule

from config.home import PROJECT_ROOT, under_home
from config.settings import Settings, load_settings
from config.state_lock import state_lock
from monitoring.alerts import Alerts
from monitoring.incidents import Finding, Incidents
from monitoring.job_records import JobRecords, JobStatus
from monitoring.store import Store
from pipeline.deployment import Deployment
from pipeline.health import HealthWatch, readiness_problem
from pipeline.monitoring_jobs import monitor_now, performance_now
from pipeline.retraining import data_available
from pipeline.sample_data import is_sample
from pipeline.shutdown import Interrupted

log = logging.getLogger(__name__)
Clock = Callable[[], datetime]
#: A training child gets this long to end by itself after SIGTERM; systemd, compose and people wait ten seconds.
CHILD_STOP_SECONDS = 6.0
TICK_SECONDS = 0.2
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class Job:
    """Something short that is done every so often, here in the scheduler's process."""

    name: str
    period: timedelta
    action: Callable[[], object]


class Scheduler:
    """Runs jobs when they are due. Whatever is long runs in the training child, so no job waits for it."""

    def __init__(self, settings: Settings, store: Store, deployment: Deployment, clock: Clock) -> None:
        self.settings = settings
        self.deployment = deployment
        self.clock = clock
        self.records = JobRecords(store)
        self.alerts = Alerts(Incidents(store), under_home("alerts"))
        self.health = HealthWatch(self.alerts, lambda: readiness_problem(settings))
        self.timetable = schedule.Scheduler()
        self.child: subprocess.Popen[bytes] | None = None
        self.child_job = ""
        self._told: dict[str, str] = {}

    def prepare(self) -> None:
        """Fills the timetable and does at once what was missed while no scheduler was at work."""
        deployment, monitoring = self.settings.deployment, self.settings.monitoring
        self._every(deployment.sync_interval, "sync", lambda: self.deployment.sync(record_moves=True))
        self._every(deployment.health_check_interval, "health", lambda: self.health.look(self.clock()))
        drift = Job("drift", timedelta(hours=monitoring.drift_detection_frequency), monitor_now)
        performance = Job("performance", timedelta(hours=monitoring.performance_check_frequency), performance_now)
        for job in (drift, performance):
            self._every(job.period.total_seconds(), job.name, partial(self._run_recorded, job))
            last = self.records.get(job.name)
            if last is None or last.last_started_at is None or self.clock() - last.last_started_at >= job.period:
                self._guarded(job.name, partial(self._run_recorded, job))
        self._guarded("sync", lambda: self.deployment.sync(record_moves=True))
        self._plan_retraining()
        if needs_first_run(self.settings, self.deployment):
            self.train("run", "the first run")

    def tick(self) -> None:
        """Does what is due and looks after the child; never raises for a job."""
        self.timetable.run_pending()
        self._reap_child()

    def train(self, command: str, why: str) -> None:
        """Starts `main.py <command>` as a child, so that a crash or an out-of-memory kill is an ordinary failed run."""
        if self.child is not None:
            log.info("%s waits: the one before is still at work", why)
            return
        log.info("%s starts", why)
        self.child_job = command
        self.records.started(command, self.clock())
        arguments = [sys.executable, str(PROJECT_ROOT / "main.py"), command]
        self.child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=sys.stderr)

    def stop(self) -> None:
        """Ends the child; the run is marked interrupted."""
        if self.child is None:
            return
        self.child.terminate()
        try:
            self.child.wait(CHILD_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.records.finished(self.child_job, "interrupted", self.clock(), None)
        self.child = None

    def _plan_retraining(self) -> None:
        """`schedule` keeps the times; the store knows when it was last done, which tells what was missed."""
        moment = self.settings.retraining.schedule
        day, _, hour = moment.partition(" ")
        unit = self.timetable.every().day if day == "daily" else getattr(self.timetable.every(), day)
        unit.at(hour).do(self._guarded, "retrain", lambda: self.train("retrain", "the retraining by schedule"))
        last = self.records.get("retrain")
        if last is None or last.last_started_at is None:
            self.records.started("retrain", self.clock())
            self.records.finished("retrain", "succeeded", self.clock(), next_moment(moment, self.clock()))
        elif last.last_started_at < previous_moment(moment, self.clock()):
            self.train("retrain", "the retraining that was missed")

    def _every(self, seconds: float, name: str, action: Callable[[], object]) -> None:
        self.timetable.every(max(1, round(seconds))).seconds.do(self._guarded, name, action)

    def _run_recorded(self, job: Job) -> None:
        self.records.started(job.name, self.clock())
        status: JobStatus = "failed"
        try:
            job.action()
            status = "succeeded"
        finally:
            self.records.finished(job.name, status, self.clock(), self.clock() + job.period)

    def _guarded(self, name: str, action: Callable[[], object]) -> None:
        """One failing job never stops the others; the same failure is told once."""
        try:
            action()
            self._told.pop(name, None)
        except Exception as error:
            if self._told.get(name) != str(error):
                log.error("job %s failed: %s", name, error, exc_info=log.isEnabledFor(logging.DEBUG))
            self._told[name] = str(error)

    def _reap_child(self) -> None:
        if self.child is None or self.child.poll() is None:
            return
        code, self.child = self.child.returncode, None
        status: JobStatus = "succeeded" if code == 0 else "failed"
        due = next_moment(self.settings.retraining.schedule, self.clock()) if self.child_job == "retrain" else None
        self.records.finished(self.child_job, status, self.clock(), due)
        self._guarded("alerts", lambda: self._report_child(code))
        self._guarded("sync", lambda: self.deployment.sync(record_moves=True))

    def _report_child(self, code: int) -> None:
        if code == 0:
            self.alerts.settle(("pipeline",), None, (), self.clock(), subject=self.child_job)
            return
        why = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        cause = f"the {self.child_job} {why}"
        log.error("%s; `python main.py status` says more", cause)
        finding = Finding(
            kind="pipeline", severity="high", cause=cause, next="python main.py status", subject=self.child_job
        )
        self.alerts.report(finding, self.clock())


def needs_first_run(settings: Settings, deployment: Deployment) -> bool:
    """Whether there is data and nothing in service that was made of it: nothing at all, or the sample's model."""
    if not data_available(settings):
        return False
    if deployment.registry.champion() is None:
        return True
    serving = deployment.manifest_in_service()
    source = str(under_home(settings.data.source)) if "://" not in settings.data.source else settings.data.source
    return serving is not None and serving.sample and not is_sample(source)


def previous_moment(moment: str, now: datetime) -> datetime:
    """The last time before `now` that `retraining.schedule` names (local time, as people write it)."""
    upcoming = next_moment(moment, now)
    return upcoming - timedelta(days=1 if moment.startswith("daily") else 7)


def next_moment(moment: str, now: datetime) -> datetime:
    """The first time after `now` that `retraining.schedule` names (local time, as people write it)."""
    day, _, clock = moment.partition(" ")
    hour, minute = map(int, clock.split(":"))
    local = now.astimezone()
    at = local.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if day != "daily":
        at += timedelta(days=(WEEKDAYS.index(day) - at.weekday()) % 7)
    if at <= local:
        at += timedelta(days=1 if day == "daily" else 7)
    return at.astimezone(UTC)


def run_scheduler() -> None:
    """Works until a signal. Raises `StateLockedError` when another scheduler works on this state."""
    settings = load_settings()
    with state_lock("scheduler", "main.py"), Store(settings.store_address) as store:
        scheduler = Scheduler(settings, store, Deployment.of(settings, store), lambda: datetime.now(UTC))
        try:
            scheduler.prepare()
            log.info("the scheduler is at work; SIGTERM or Ctrl-C ends it")
            while True:
                scheduler.tick()
                time.sleep(TICK_SECONDS)
        except Interrupted as signal:
            log.info("the scheduler ends: %s", signal)
        finally:
            scheduler.stop()
