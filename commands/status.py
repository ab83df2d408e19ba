"""What is in service, what ran last and runs next, what is wrong: from the plan, the logs and the store alone.

It answers in under a second and while MLflow is down, so it never asks MLflow.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import Struct

from config.home import state_home
from config.settings import load_settings, logs_directory, registry_directory
from config.state_lock import lock_holder
from models.bundle import BundleError, read_manifest
from models.serving_plan import PlanError, read_plan
from monitoring.incidents import Incident, Incidents
from monitoring.job_records import JobRecord, JobRecords
from monitoring.run_records import RunRecord, RunRecords
from monitoring.store import Store, StoreError


class InService(Struct, frozen=True, kw_only=True):
    model_name: str
    model_version: str | None
    algorithm: str | None
    generation: int
    plan_digest: str
    trained_at: str | None
    problem: str | None


class Status(Struct, frozen=True, kw_only=True):
    timestamp: datetime
    home: str
    in_service: InService | None
    scheduler: str | None
    pipeline: str | None
    last_run: RunRecord | None
    jobs: list[JobRecord]
    incidents: list[Incident]
    last_prediction_at: datetime | None
    store_problem: str | None


def current_status() -> Status:
    settings = load_settings()
    last_run, jobs, incidents, problem = None, list[JobRecord](), list[Incident](), None
    try:
        with Store(settings.store_address) as store:
            last_run = next(iter(RunRecords(store).latest(1)), None)
            jobs, incidents = JobRecords(store).all(), Incidents(store).unresolved()
    except StoreError as error:
        problem = str(error)
    return Status(
        timestamp=datetime.now(UTC),
        home=str(state_home()),
        in_service=_in_service(),
        scheduler=lock_holder("scheduler"),
        pipeline=lock_holder("pipeline"),
        last_run=last_run,
        jobs=jobs,
        incidents=incidents,
        last_prediction_at=_last_prediction(),
        store_problem=problem,
    )


def last_failure() -> str | None:
    """Why the last run failed, when the last run failed."""
    try:
        with Store(load_settings().store_address) as store:
            run = next(iter(RunRecords(store).latest(1)), None)
    except StoreError:
        return None
    return run.error if run is not None and run.status in ("failed", "refused") else None


def _in_service() -> InService | None:
    try:
        plan = read_plan(registry_directory())
    except PlanError as error:
        return InService(
            model_name="",
            model_version=None,
            algorithm=None,
            generation=0,
            plan_digest="",
            trained_at=None,
            problem=str(error),
        )
    if plan is None:
        return None
    algorithm = trained_at = problem = None
    if plan.champion is not None:
        try:
            manifest, _ = read_manifest(registry_directory() / plan.champion.version)
            algorithm, trained_at = manifest.algorithm, manifest.created_at
        except BundleError as error:
            problem = str(error)
    return InService(
        model_name=plan.registered_name,
        model_version=plan.champion.version if plan.champion else None,
        algorithm=algorithm,
        generation=plan.generation,
        plan_digest=plan.digest,
        trained_at=trained_at,
        problem=problem,
    )


def _last_prediction() -> datetime | None:
    files = sorted(logs_directory().glob("predictions_*.jsonl"))
    return datetime.fromtimestamp(files[-1].stat().st_mtime, UTC) if files else None
