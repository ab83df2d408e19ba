"""The scheduler: follows the registry, reads the logs, monitors, looks for new data, and trains in a child process.

When each job was last started is kept in the store, and a job is due by that alone; so what was missed while the
scheduler was down is caught up with at its start. A job that fails is logged, recorded and reported; the others go on.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from config.clock import Clock, utc_now
from config.home import PROJECT_ROOT
from config.settings import Settings, load_settings
from config.state_lock import lock_holder, state_lock
from models.mlflow_connection import RegistryError
from models.mlflow_runs import RunLog
from monitoring.alert_delivery import AlertDelivery
from monitoring.alerts import Alerts
from monitoring.cycle import CycleOutcome, run_cycle
from monitoring.job_records import JobRecords, JobStatus
from monitoring.run_records import RunRecords
from monitoring.serving_check import check_serving
from monitoring.store import Store
from pipeline.deployment import Deployment, DeploymentError
from pipeline.first_run import FirstRun
from pipeline.health import HealthWatch, readiness_problem
from pipeline.job_times import AtMoments, Times
from pipeline.log_jobs import PAUSE_SECONDS, PatientReader, ingestion_of
from pipeline.metrics_exporter import exporting
from pipeline.monitored_times import AsMonitored
from pipeline.monitoring_jobs import performance_now
from pipeline.patience import Patience
from pipeline.recovery import Recovery
from pipeline.retraining_watch import RetrainingWatch
from pipeline.shutdown import Interrupted
from pipeline.timetable import Timetable
from pipeline.troubles import Troubles
from pipeline.watches import Watches

log = logging.getLogger(__name__)
#: A training child gets this long to end by itself after SIGTERM; its own grace is shorter.
CHILD_STOP_SECONDS = 6.0
#: The scheduler has ended by then, whatever happens: systemd, compose and people wait ten seconds.
STOP_SECONDS = 9.0
TICK_SECONDS = 0.2
#: Between two looks at whether a job is due.
LOOK_SECONDS = 5
#: How long a check may read before it looks at what is in the store.
CHECK_READING_SECONDS = 5.0
#: Between two looks at what changes in hours.
WATCH_SECONDS = 600


@dataclass(frozen=True)
class Job:
    """Something short that is done now and then, here in the scheduler's process."""

    name: str
    times: Times
    action: Callable[[], object]


class Scheduler:
    """Runs jobs when they are due. Whatever is long runs in the training child, so no job waits for it."""

    def __init__(self, settings: Settings, store: Store, clock: Clock, deployment: Deployment | None = None) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock
        self.deployment = deployment or Deployment.of(settings, store)
        runs = RunLog(self.deployment.registry.connection, settings.experiment_name)
        shared = not settings.store_address.startswith("sqlite")
        self.recovery = Recovery(RunRecords(store), runs, self.deployment, clock, shared)
        self.records = JobRecords(store)
        alerts = Alerts.of(settings, store)
        self.delivery = AlertDelivery(settings, store, clock)
        self.watches = Watches(settings, store, alerts, lambda: [*(job.name for job in self.jobs), "retrain"])
        self.troubles = Troubles(alerts, settings.alerts.tolerated_outage_minutes * 60.0)
        self.health = HealthWatch(alerts, lambda: readiness_problem(settings))
        self.first_run = FirstRun(settings, self.deployment)
        self.logs = PatientReader(ingestion_of(settings, store, clock))
        drift = AsMonitored(settings, store, ("data_drift", "prediction_drift", "data_quality"))
        performance = AsMonitored(settings, store, ("performance_drift", "concept_drift"))
        serving = AsMonitored(settings, store, ("serving",))
        self.jobs = [
            Job("drift", drift, self.monitor),
            Job("performance", performance, performance_now),
            Job("serving", serving, lambda: check_serving(settings, store, alerts, self.clock())),
        ]
        self.retraining = AtMoments(settings.retraining.schedule)
        self.watch = RetrainingWatch(settings, store)
        self.timetable = Timetable()
        self.patience = Patience(settings.deployment.sync_interval)
        self.child: subprocess.Popen[bytes] | None = None
        self._child_job = ""
        self._told: dict[str, str] = {}

    @property
    def job_names(self) -> tuple[str, ...]:
        """All that is noted in the store of what it starts."""
        return (*(job.name for job in self.jobs), "retrain", "run")

    def prepare(self) -> None:
        """Repairs what was left, fills the timetable, and does at once what is due."""
        deployment = self.settings.deployment
        self._each(deployment.health_check_interval, "health", lambda: self.health.look(self.clock()))
        self._each(deployment.sync_interval, "sync", self.follow)
        self._each(PAUSE_SECONDS, "logs", self.read_logs)
        self._each(LOOK_SECONDS, "jobs", self.look)
        self._each(LOOK_SECONDS, "alerts", self.delivery.look)
        self._each(WATCH_SECONDS, "watches", lambda: self.watches.look(self.clock()))
        self._guarded("repair", self._repair_all)
        self._guarded("watches", lambda: self.watches.begin(self.clock()))
        self._guarded("sync", self.follow)
        self._guarded("logs", self.read_logs)
        self._guarded("jobs", self.look)

    def tick(self) -> None:
        """Does what is due and looks after the child; never raises for a job."""
        self.timetable.run_due()
        if self.child is not None and (code := self.child.poll()) is not None:
            self.child = None
            self._guarded("training", lambda: self._end_training(code))

    def follow(self) -> bool:
        """Repairs what a kill left, and follows the registry; what stands in the way of that is reported.

        A registry that is away or hangs is left alone for a while, so that other jobs get their time; False then.
        """
        if self.patience.left:
            return False
        now = self.clock()
        self._guarded("repair", self._repair_what_was_left)  # needs the store, and following does not
        try:
            with self.patience.attempt(RegistryError):
                self.deployment.sync(record_moves=True)
        except DeploymentError as error:
            self.troubles.settle("mlflow", now)  # it has answered
            self.troubles.report("registry", f"the champion is not put in service: {error}", "main.py models list", now)
            raise
        except RegistryError as error:
            self.troubles.tolerate("mlflow", f"the registry is not followed: {error}", "python main.py doctor", now)
            raise
        self.troubles.settle("registry", now)
        self.troubles.settle("mlflow", now)
        return True

    def read_logs(self) -> bool:
        """Reads what was logged since the last time, for a second at most; what stands in the way is reported.

        False while it waits after a failure.
        """
        now = self.clock()
        try:
            read = self.logs.turn()
        except Exception as error:
            self.troubles.tolerate("logs", f"the logs are not read: {error}", "python main.py doctor", now)
            raise
        if read is not None:
            self.troubles.settle("logs", now)
        return read is not None

    def monitor(self) -> CycleOutcome:
        """One cycle, over what is logged by now, or as much of it as can be read before others have waited long."""
        read = self.logs.ingestion.run_once(CHECK_READING_SECONDS)
        return run_cycle(self.settings, self.store, self.clock(), read)

    def look(self) -> None:
        """Runs the jobs that are due, and starts the training that is."""
        for job in self.jobs:
            if self._is_due(job.name, job.times):
                self._guarded(job.name, partial(self._run, job))
        if self.child is not None or lock_holder("pipeline") is not None:
            return  # a training that is due stays so until the one at work has ended
        if self._is_retraining_due():
            self.watch.begin(self.clock())
            self.train("retrain")
        elif not self.patience.left and self._is_first_run_due():
            self.first_run.begin()
            self.train("run")

    def _is_retraining_due(self) -> bool:
        by_schedule = "schedule" in self.settings.retraining.triggers and self._is_due("retrain", self.retraining)
        return by_schedule or self.watch.is_due(self.clock())

    def _is_first_run_due(self) -> bool:
        with self.patience.attempt(RegistryError):
            return self.first_run.is_due()

    def train(self, command: str) -> None:
        """Starts `main.py <command>` as a child, so that a crash or an out-of-memory kill is an ordinary failed run."""
        log.info("`main.py %s` starts", command)
        self.records.started(command, self.clock())
        self._child_job, self.child = command, self.launch(command)

    def launch(self, command: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, str(PROJECT_ROOT / "main.py"), command]
        return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=sys.stderr)

    def stop(self) -> None:
        """Ends the child, whose run is marked interrupted, and alerts that are on their way, which are sent later."""
        self.delivery.stop()
        if self.child is None:
            return
        self.child.terminate()
        try:
            self.child.wait(CHILD_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        self.child = None
        self._guarded("training", lambda: self._note_end("interrupted"))
        self._guarded("repair", self._repair_what_was_left)

    def _each(self, seconds: float, name: str, action: Callable[[], object]) -> None:
        self.timetable.every(seconds, partial(self._guarded, name, action))

    def _guarded(self, name: str, action: Callable[[], object]) -> None:
        """One failing job never stops the others; the same failure is logged once, until the job was done again."""
        try:
            if action() is not False:
                self._told.pop(name, None)
        except Exception as error:
            if self._told.get(name) != str(error):
                log.error("job %s failed: %s", name, error, exc_info=log.isEnabledFor(logging.DEBUG))
            self._told[name] = str(error)

    def _repair_what_was_left(self) -> None:
        if self.child is None and self.recovery.needed():
            self.recovery.repair_alone()

    def _repair_all(self) -> None:
        for record in self.records.all():
            if record.last_status == "running":  # the scheduler before this one was killed
                self.records.finished(record.name, "failed", self.clock(), record.next_due_at)
        self.recovery.repair_alone()

    def _is_due(self, name: str, times: Times) -> bool:
        now, record = self.clock(), self.records.get(name)
        if record is None:
            self.records.schedule(name, times.first(now))
            return times.first(now) <= now
        if record.last_started_at is None:
            return record.next_due_at is not None and record.next_due_at <= now
        return record.last_status == "interrupted" or times.is_due(record.last_started_at, now)

    def _run(self, job: Job) -> None:
        self.records.started(job.name, self.clock())
        status: JobStatus = "interrupted"
        try:
            job.action()
            status = "succeeded"
            self.troubles.settle(job.name, self.clock())
        except Exception as error:
            status = "failed"
            self.troubles.count(job.name, f"the {job.name} job failed: {error}", "python main.py doctor", self.clock())
            raise
        finally:
            self.records.finished(job.name, status, self.clock(), job.times.next(self.clock()))

    def _end_training(self, code: int) -> None:
        self._note_end("succeeded" if code == 0 else "failed")
        self._guarded("sync", self.follow)
        if code == 0:
            self.troubles.settle(self._child_job, self.clock())
            return
        how = f"was killed by signal {-code}" if code < 0 else f"failed with exit code {code}"
        last = self.recovery.records.latest(1)
        why = f": {last[0].error}" if last and last[0].error else ""
        cause = f"`main.py {self._child_job}` {how}{why}"
        log.error("%s", cause)
        self.troubles.count(self._child_job, cause, "python main.py status", self.clock())

    def _note_end(self, status: JobStatus) -> None:
        now = self.clock()
        by_schedule = self._child_job == "retrain" and "schedule" in self.settings.retraining.triggers
        due = self.retraining.next(now) if by_schedule else None
        self.records.finished(self._child_job, status, now, due)


def run_scheduler() -> None:
    """Works until a signal. Raises `StateLockedError` when another scheduler works on this state."""
    settings = load_settings()
    with state_lock("scheduler", "main.py"), Store(settings.store_address) as store:
        scheduler = Scheduler(settings, store, utc_now)
        try:
            with exporting(settings, utc_now, scheduler.job_names):
                scheduler.prepare()
                log.info("the scheduler is at work; SIGTERM or Ctrl-C ends it")
                while True:
                    scheduler.tick()
                    time.sleep(TICK_SECONDS)
        except Interrupted as signal:
            log.info("the scheduler ends: %s", signal)
        finally:
            scheduler.stop()
