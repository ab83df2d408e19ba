"""What is in service, what ran last and runs next, what is wrong: from the plan, the logs and the store alone.

It answers in under a second and while MLflow is down, so it never asks MLflow.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from config.clock import CLOCK_SKEW
from config.home import is_absent_sqlite, state_home
from config.settings import load_settings, logs_directory, registry_directory
from config.state_lock import lock_holder
from models.bundle import BundleError, read_manifest
from models.serving_plan import PlanError, read_plan
from monitoring.incidents import Incident, Incidents
from monitoring.job_records import JobRecord, JobRecords
from monitoring.log_lag import LogLag, log_lag
from monitoring.log_source import source_path
from monitoring.registry_contact import RegistryContact, read_contact
from monitoring.run_records import RunRecord, RunRecords
from monitoring.store import Store, StoreError


class InService(Struct, frozen=True, kw_only=True):
    """What the serving plan of this host says; a `problem` is why it, or the bundle that it names, cannot be read."""

    model_name: str | None = None
    model_version: str | None = None
    algorithm: str | None = None
    trained_at: str | None = None
    generation: int = 0
    plan_digest: str | None = None
    problem: str | None = None


class Status(Struct, frozen=True, kw_only=True):
    timestamp: datetime
    home: str
    in_service: InService | None
    #: When the registry last told this host what should be in service, and what stands in the way now.
    registry: RegistryContact | None
    scheduler: str | None
    pipeline: str | None
    last_run: RunRecord | None
    jobs: list[JobRecord]
    incidents: list[Incident]
    last_prediction_at: datetime | None
    #: What of this host's logs is not in the store yet; all of it when the store cannot be read.
    log: LogLag
    store_problem: str | None


def current_status() -> Status:
    settings, now = load_settings(), datetime.now(UTC)
    recorded = _recorded(settings.store_address, now)
    if _ended_without_a_word(recorded.last_run):  # or has it ended well between two looks?
        recorded = _recorded(settings.store_address, now)
    return Status(
        timestamp=now,
        home=str(state_home()),
        in_service=_in_service(),
        registry=read_contact(),
        scheduler=lock_holder("scheduler"),
        pipeline=lock_holder("pipeline"),
        last_run=_as_it_is(recorded.last_run),
        jobs=recorded.jobs,
        incidents=recorded.incidents,
        last_prediction_at=_last_prediction(),
        log=recorded.log or log_lag(None, logs_directory(), source_path(), now),
        store_problem=recorded.problem,
    )


class _Recorded(Struct, frozen=True, kw_only=True):
    """What the store holds; empty when it is not made yet or cannot be read."""

    last_run: RunRecord | None = None
    jobs: list[JobRecord] = []
    incidents: list[Incident] = []
    log: LogLag | None = None
    problem: str | None = None


def _recorded(address: str, now: datetime) -> _Recorded:
    if is_absent_sqlite(address):
        return _Recorded()
    try:
        with Store(address) as store:
            return _Recorded(
                last_run=next(iter(RunRecords(store).latest(1)), None),
                jobs=JobRecords(store).all(),
                incidents=Incidents(store).unresolved(),
                log=log_lag(store, logs_directory(), source_path(), now),
            )
    except StoreError as error:
        return _Recorded(problem=str(error))


def _ended_without_a_word(run: RunRecord | None) -> bool:
    """Whether a run of this host is recorded as running and nobody is at work: the next run says so in the store."""
    running = run is not None and run.status == "running" and run.host == socket.gethostname()
    return running and lock_holder("pipeline") is None


def _as_it_is(run: RunRecord | None) -> RunRecord | None:
    if run is None or not _ended_without_a_word(run):
        return run
    error = "its process ended without a word; the next run repairs what it left"
    return msgspec.structs.replace(run, status="interrupted", error=error)


def _in_service() -> InService | None:
    try:
        plan = read_plan(registry_directory())
    except PlanError as error:
        return InService(problem=f"{error}; python main.py sync makes it anew")
    if plan is None or plan.champion is None:
        return None
    service = InService(
        model_name=plan.registered_name,
        model_version=plan.champion.version,
        generation=plan.generation,
        plan_digest=plan.digest,
    )
    try:
        manifest, _ = read_manifest(registry_directory() / plan.champion.version)
    except BundleError as error:
        return msgspec.structs.replace(service, problem=f"{error}; python main.py sync fetches it again")
    return msgspec.structs.replace(service, algorithm=manifest.algorithm, trained_at=manifest.created_at)


def _last_prediction() -> datetime | None:
    """By the times of the files; one ahead by more than clocks differ is of a clock that has been set back since."""
    times = []
    for path in logs_directory().glob("predictions_*.jsonl"):
        with suppress(FileNotFoundError):  # deleted just now, as it was old
            times.append(datetime.fromtimestamp(path.stat().st_mtime, UTC))
    latest = datetime.now(UTC) + CLOCK_SKEW  # of now: predictions go on while the store is read
    return max((time for time in times if time <= latest), default=min(times, default=None))
