"""A run of the pipeline, step by step: ingest, check, train, package, register, compare, promote.

Each step is recorded in the store with its time, so that what a kill interrupted can be seen; the next run repairs what
it left.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
from msgspec import Struct

from config.home import under_home
from config.settings import Settings, load_settings
from config.state_lock import state_lock
from models.mlflow_connection import MlflowConnection, preload
from models.mlflow_registry import Registry
from models.mlflow_runs import RunLog
from monitoring.run_records import RunRecords, RunStatus, Trigger
from monitoring.store import Store
from pipeline.deployment import Deployment
from pipeline.errors import InputError
from pipeline.progress import Progress, Silent
from pipeline.shutdown import Interrupted, last_act

if TYPE_CHECKING:
    from pipeline.steps import Compared, Prepared, Registered, Trained
    from pipeline.table_reading import Table


class RunOutcome(Struct, frozen=True, kw_only=True):
    """What a run came to; `run --json` prints it."""

    status: RunStatus
    run_id: str
    model_version: str
    model_name: str
    promoted: bool
    decision: dict[str, Any]
    metrics: dict[str, float | None]
    cross_validation: dict[str, Any]
    duration_seconds: float
    quality_report: str
    mlflow_run_id: str
    left_aside: dict[str, str]


def run_now(source: str | None, target: str | None, progress: Progress | None = None) -> RunOutcome:
    """One run on the given or the configured table.

    Raises:
        InputError: the table cannot be used.
        TrainingError: nothing could be trained or served.
        StateLockedError: another run is at work.
    """
    settings = load_settings()
    if target is not None:
        settings = msgspec.structs.replace(settings, target_column=target)
    with (
        state_lock("pipeline", "main.py run"),
        Store(settings.store_address) as store,
        PipelineRun(settings, store, progress or Silent(), trigger="manual") as run,
    ):
        return run.execute(lambda: _read(settings, source))


def _read(settings: Settings, source: str | None) -> Table:
    from pipeline.data_processing import read_data

    return read_data(settings, source)


class PipelineRun:
    """One run, recorded from its beginning to however it ends. The caller holds the pipeline's lock."""

    def __init__(self, settings: Settings, store: Store, progress: Progress, trigger: Trigger) -> None:
        self.settings = settings
        self.progress = progress
        self.trigger: Trigger = trigger
        self.records = RunRecords(store)
        connection = MlflowConnection(settings.mlflow_address)
        self.runs = RunLog(connection, settings.experiment_name)
        self.deployment = Deployment.of(settings, store, Registry(connection, settings.registered_model_name))
        self.run_id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self.records.interrupt_orphans(lambda _: False, _now())
        self.records.start(self.run_id, self.trigger, _now(), pid=os.getpid(), host=socket.gethostname())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.records.finish(self.run_id, _status_of(error), _now(), error=_sentence(error))

    def execute(self, read: Callable[[], Table]) -> RunOutcome:
        """Runs every step; raises as `run_now`."""
        with last_act(lambda: self._mark_interrupted()):
            from pipeline import steps

            self.deployment.recover()
            with self._step("ingest", "reading the table"):
                table = read()
            with self._step("check", f"checking {len(table.frame):,} rows of {table.source}"):
                prepared = steps.prepare_data(self.settings, self.run_id, table, self.deployment)
                self.records.note(self.run_id, rows=len(table.frame), data_source=table.source)
            preload()  # MLflow's import takes seconds; it goes on while the cores train
            with self._step("train", f"training {len(self.settings.training.candidates)} candidates"):
                trained = steps.train(self.settings, prepared, self.progress)
            with self._step("register", "packaging and registering the best"):
                registered = steps.register(self.settings, self.run_id, self.runs, self.deployment, prepared, trained)
            with self._step("compare", "comparing with the model in service"):
                compared = steps.compare(self.settings, self.deployment, prepared, registered)
            if compared.promotes:
                with self._step("promote", f"putting version {registered.version} in service"):
                    steps.promote(self.deployment, registered, compared)
            steps.leave_pictures(self.settings, self.run_id, prepared, registered)
            return self._finish(prepared, trained, registered, compared)

    def _finish(self, prepared: Prepared, trained: Trained, registered: Registered, compared: Compared) -> RunOutcome:
        decision = msgspec.to_builtins(compared.decision)
        self.runs.log(
            registered.mlflow_run_id, tags={"decision": compared.decision.decision, "reason": compared.decision.reason}
        )
        self.runs.finish(registered.mlflow_run_id)
        self.records.finish(self.run_id, "succeeded", _now(), decision=decision, model_version=registered.version)
        return RunOutcome(
            status="succeeded",
            run_id=self.run_id,
            model_version=registered.version,
            model_name=self.settings.registered_model_name,
            promoted=compared.promotes,
            decision=decision,
            metrics=registered.metrics,
            cross_validation=trained.summary(registered.packaged.result),
            duration_seconds=round(time.monotonic() - self._began, 3),
            quality_report=str(prepared.quality_report),
            mlflow_run_id=registered.mlflow_run_id,
            left_aside={**trained.failures(), **dict(registered.packaged.left_aside)},
        )

    @contextmanager
    def _step(self, name: str, text: str) -> Iterator[None]:
        self.progress.step(name, text)
        self.records.start_step(self.run_id, name, _now())
        yield
        self.records.finish_step(self.run_id, name, "succeeded", _now())

    def _mark_interrupted(self) -> None:
        self.records.finish(self.run_id, "interrupted", _now(), error="interrupted")


def _status_of(error: BaseException) -> RunStatus:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    return "refused" if isinstance(error, InputError) else "failed"


def _sentence(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _now() -> datetime:
    return datetime.now(UTC)


def quality_report_path(run_id: str) -> Path:
    return under_home("reports") / f"quality_{run_id}.json"
