"""A run of the pipeline, step by step: ingest, check, train, package, register, compare, promote.

Each step is recorded in the store with its time, so that what a kill interrupted can be seen; the next run repairs what
it left.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec
from msgspec import Struct

from config.clock import Clock, utc_now
from config.garbage import uncollected
from config.home import under_home
from config.settings import Settings, load_settings
from config.state_lock import state_lock
from models.mlflow_connection import MlflowConnection, RegistryError, preload
from models.mlflow_process import MlflowProcess
from models.mlflow_registry import Registry
from models.mlflow_runs import EndStatus, RunLog
from monitoring.run_records import RunRecords, RunStatus, Trigger
from monitoring.store import Store
from pipeline.deployment import Deployment
from pipeline.errors import InputError
from pipeline.memory import release_memory, return_large_blocks
from pipeline.progress import Progress, Silent
from pipeline.recovery import Recovery
from pipeline.sample_data import is_sample
from pipeline.shutdown import Interrupted, last_act

if TYPE_CHECKING:
    from pipeline.model_evaluation import GateDecision
    from pipeline.registration import Registered
    from pipeline.steps import Trained
    from pipeline.table_reading import Table

log = logging.getLogger(__name__)
#: Decisions of the gate that put the new version in service.
PROMOTING = ("promote", "first")
#: Above it the fits take so long that MLflow's import is nothing beside them, and the memory counts more.
SMALL_TABLE_BYTES = 16 * 2**20


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

    @property
    def quality_report(self) -> str:
        """The file of the run's quality report."""
        from pipeline.steps import quality_report_path

        return str(quality_report_path(self.run_id))

    @property
    def left_aside(self) -> dict[str, str]:
        """Candidates that failed or cannot be served, with the reason."""
        candidates = self.cross_validation["candidates"]
        return {candidate["name"]: candidate["reason"] for candidate in candidates if candidate["reason"]}


def run_now(
    source: str | None, target: str | None, progress: Progress | None = None, clock: Clock = utc_now
) -> RunOutcome:
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
        PipelineRun(settings, store, progress or Silent(), trigger="manual", source=source, clock=clock) as run,
    ):
        return run.execute(lambda: _read(settings, source))


def _mlflow_process(settings: Settings, source: str | None) -> MlflowProcess | None:
    """A process for MLflow where that saves time and the memory for it is small beside the table's."""
    path = under_home(source or settings.data.source)
    if "mlflow" in sys.modules or not path.is_file() or path.stat().st_size > SMALL_TABLE_BYTES:
        return None
    return MlflowProcess(settings.mlflow_address, settings.experiment_name, settings.registered_model_name)


def _read(settings: Settings, source: str | None) -> Table:
    from pipeline.data_processing import read_data

    table = read_data(settings, source)
    return dataclasses.replace(table, sample=is_sample(table.source))


class PipelineRun:
    """One run, recorded from its beginning to however it ends. The caller holds the pipeline's lock."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        progress: Progress,
        trigger: Trigger,
        source: str | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.settings = settings
        self.progress = progress
        self.trigger: Trigger = trigger
        self.clock = clock
        self.records = RunRecords(store)
        self._mlflow = _mlflow_process(settings, source)
        connection = MlflowConnection(settings.mlflow_address)
        self.runs = self._mlflow.runs if self._mlflow else RunLog(connection, settings.experiment_name)
        registry = self._mlflow.registry if self._mlflow else Registry(connection, settings.registered_model_name)
        self.deployment = Deployment.of(settings, store, registry, clock)
        self.run_id = f"{clock():%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self.recovery = Recovery.of(settings, store, self.runs, self.deployment)
        self._began = time.monotonic()
        #: From here on there may be a run of ours in MLflow that has to be ended.
        self._in_mlflow = False

    def __enter__(self) -> Self:
        if self.recovery.needed():
            self.recovery.repair()
        self.records.start(self.run_id, self.trigger, self.clock(), pid=os.getpid(), host=socket.gethostname())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None:
                self._failed(error)
        finally:
            if self._mlflow is not None:
                self._mlflow.close()

    def _failed(self, error: BaseException) -> None:
        self.records.finish(self.run_id, _status_of(error), self.clock(), error=_sentence(error))
        if self._in_mlflow:
            self._end_in_mlflow(self.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")

    def execute(self, read: Callable[[], Table]) -> RunOutcome:
        """Runs every step; raises as `run_now`."""
        with last_act(self._mark_interrupted):
            with uncollected():
                from pipeline import candidates, gate, registration, steps

            candidates.check_candidates(self.settings.training)
            return_large_blocks()
            with self._step("ingest", "reading the table"):
                table = read()
            release_memory()
            with self._step("check", f"checking {len(table.frame):,} rows of {table.source}"):
                self.records.note(self.run_id, rows=len(table.frame), data_source=table.source)
                prepared = steps.prepare_data(self.settings, self.run_id, table, self.deployment)
            del table
            release_memory()
            if self._mlflow is None:
                preload()  # MLflow's import takes seconds; it goes on while the cores train
            with self._step("train", f"training {_counted(len(self.settings.training.candidates), 'candidate')}"):
                trained = steps.train(self.settings, prepared, self.progress)
            release_memory()
            with self._step("register", "packaging and registering the best"):
                self._in_mlflow = True
                registered = registration.register(
                    self.settings, self.run_id, self.runs, self.deployment, prepared, trained, self.clock()
                )
            with self._step("compare", "comparing with the model in service"):
                decision = gate.compare(self.settings, self.deployment, prepared, registered, self.clock())
            if decision.decision in PROMOTING:
                with self._step("promote", f"putting version {registered.version} in service"):
                    self._promote(registered, decision)
            outcome = self._finish(trained, registered, decision)
            del trained
            release_memory()  # the pictures' process begins beside this one
            try:
                steps.leave_pictures(self.settings, self.run_id, prepared, registered)
            except OSError as error:
                log.warning("run %s has no pictures: %s", self.run_id, error)
            return outcome

    def _end_in_mlflow(self, run_id: str, status: EndStatus) -> None:
        try:
            self.runs.finish_interrupted(run_id, status)
        except RegistryError as error:
            log.warning("run %s stays running in MLflow: %s", run_id, error)

    def _promote(self, registered: Registered, decision: GateDecision) -> None:
        self.deployment.promote(
            registered.version,
            "first" if decision.decision == "first" else "promote",
            who="pipeline",
            why=decision.reason,
            evidence=msgspec.to_builtins(decision),
        )

    def _finish(self, trained: Trained, registered: Registered, decision: GateDecision) -> RunOutcome:
        evidence = msgspec.to_builtins(decision)
        self.runs.log(registered.mlflow_run_id, tags={"decision": decision.decision, "reason": decision.reason})
        self.runs.finish(registered.mlflow_run_id)
        self.records.finish(self.run_id, "succeeded", self.clock(), decision=evidence, model_version=registered.version)
        packaged = registered.packaged
        return RunOutcome(
            status="succeeded",
            run_id=self.run_id,
            model_version=registered.version,
            model_name=self.settings.registered_model_name,
            promoted=decision.decision in PROMOTING,
            decision=evidence,
            metrics=registered.metrics,
            cross_validation=trained.summary(packaged.result, packaged.left_aside),
            duration_seconds=round(time.monotonic() - self._began, 3),
        )

    @contextmanager
    def _step(self, name: str, text: str) -> Iterator[None]:
        self.progress.step(name, text)
        self.records.start_step(self.run_id, name, self.clock())
        yield
        self.records.finish_step(self.run_id, name, "succeeded", self.clock())

    def _mark_interrupted(self) -> None:
        self.records.finish(self.run_id, "interrupted", self.clock(), error="interrupted")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _status_of(error: BaseException) -> RunStatus:
    if isinstance(error, Interrupted | KeyboardInterrupt):
        return "interrupted"
    return "refused" if isinstance(error, InputError) else "failed"


def _sentence(error: BaseException) -> str:
    return str(error) or type(error).__name__
