"""From trained candidates to a registered version: the bundle, MLflow's run and model, and the version itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import msgspec
import numpy as np
from threadpoolctl import threadpool_limits

from config.settings import Settings
from models.bundle import CHECKS, ESTIMATOR, MODEL, REFERENCE, SCHEMA, Manifest, write_bundle
from models.metrics import evaluate
from models.mlflow_runs import RunLog
from models.reference import Reference, encode_reference, with_answers
from models.row_warnings import WarningRules
from pipeline.deployment import Deployment
from pipeline.feature_importance import evenly, feature_importance
from pipeline.model_training import CandidateResult, select
from pipeline.packaging import Packaged, answer, library_versions, package_best, package_errors
from pipeline.steps import Prepared, Trained
from pipeline.training_tasks import job_count

Metrics = dict[str, float | None]
#: Held-out rows, evenly spaced, in which warnings are counted.
MOST_WARNED_ROWS = 5_000


@dataclass(frozen=True)
class Registered:
    packaged: Packaged
    manifest: Manifest
    version: str
    mlflow_run_id: str

    @property
    def metrics(self) -> Metrics:
        return self.manifest.metrics


def register(
    settings: Settings,
    run_id: str,
    runs: RunLog,
    deployment: Deployment,
    prepared: Prepared,
    trained: Trained,
    now: datetime,
) -> Registered:
    """Packages the best candidate that can be served, logs everything to MLflow and creates the version.

    Raises:
        TrainingError: no candidate can be served.
        RegistryError: MLflow cannot be reached.
    """
    schema = prepared.schema
    packaged = package_best(select(trained.results), schema, prepared.test_raw)
    manifest = _manifest(settings, run_id, prepared, packaged, now)
    staged = deployment.staging(run_id)
    tags = {"algorithm": packaged.result.name}
    mlflow_run_id = runs.start(run_id, params=_params(settings, prepared, packaged), tags=tags)
    with _meanwhile(runs) as submit:  # MLflow takes the model while the error model is fitted here
        logged = submit(runs.log_sklearn_model, mlflow_run_id, packaged.result.pipeline, schema, prepared.examples)
        digest = write_bundle(staged, manifest, _bundle_files(settings, packaged, prepared, manifest.metrics))
        model_uri = logged()
    runs.log(mlflow_run_id, metrics=manifest.metrics)
    log_candidates(runs, mlflow_run_id, trained.results, {**trained.failures(), **packaged.left_aside})
    runs.log_bundle(mlflow_run_id, staged)
    runs.log_files(mlflow_run_id, prepared.quality_report, "quality")
    version = deployment.registry.create_version(
        mlflow_run_id,
        run_id=run_id,
        manifest_sha256=digest,
        algorithm=packaged.result.name,
        metrics=manifest.metrics,
        model_uri=model_uri,
    )
    deployment.adopt(run_id, version)
    return Registered(packaged, manifest, version, mlflow_run_id)


@contextmanager
def _meanwhile(runs: RunLog) -> Iterator[Callable[..., Callable[[], str]]]:
    """What is submitted in the block goes on beside it where another process does the work, else when it is asked for:
    here, both at once would take the memory of both."""
    if not runs.is_elsewhere:
        yield lambda call, *arguments: lambda: call(*arguments)
        return
    # Sums that are spread over all cores wait for the one that the other process has.
    spare_core = max(1, job_count(-1) - 1)
    with ThreadPoolExecutor(1) as pool, threadpool_limits(spare_core, user_api="blas"):
        yield lambda call, *arguments: pool.submit(call, *arguments).result


def _manifest(settings: Settings, run_id: str, prepared: Prepared, packaged: Packaged, now: datetime) -> Manifest:
    return Manifest(
        registered_name=settings.registered_model_name,
        run_id=run_id,
        created_at=now.isoformat(timespec="seconds"),
        task="classification",
        classes=prepared.schema.classes,
        algorithm=packaged.result.name,
        metrics=_metrics(packaged, prepared),
        split=prepared.rule,
        data_source=prepared.source,
        sample=prepared.sample,
        libraries=library_versions(),
    )


def _metrics(packaged: Packaged, prepared: Prepared) -> Metrics:
    trained = answer(packaged.session, prepared.matrix).astype(np.float64)
    tested = packaged.test_probabilities.astype(np.float64)
    return {
        **evaluate(prepared.train.target, trained, "train_"),
        **evaluate(prepared.test.target, tested, "test_"),
    }


def _bundle_files(settings: Settings, packaged: Packaged, prepared: Prepared, metrics: Metrics) -> dict[str, bytes]:
    reference = _reference(settings, packaged, prepared, metrics)
    files = {
        SCHEMA: msgspec.json.encode(prepared.schema),
        MODEL: packaged.model,
        CHECKS: msgspec.json.encode(packaged.checks),
    }
    train, test, seed = prepared.train.target, prepared.test.target, settings.data_split.random_state
    errors = package_errors(packaged, prepared.schema, prepared.matrix, train, prepared.test_raw, test, seed)
    if errors is not None:
        files[ESTIMATOR], profile = errors
        reference = msgspec.structs.replace(reference, error_model=profile)
    return {**files, REFERENCE: encode_reference(reference)}


def _reference(settings: Settings, packaged: Packaged, prepared: Prepared, metrics: Metrics) -> Reference:
    """The profile of the training rows, with all that the held-out rows tell of the model."""
    schema, test = prepared.schema, prepared.test
    tested = {name.removeprefix("test_"): value for name, value in metrics.items() if name.startswith("test_")}
    reference = with_answers(prepared.reference, schema, packaged.test_probabilities, test.target, tested)
    seed = settings.data_split.random_state
    return msgspec.structs.replace(
        reference,
        importance=feature_importance(packaged.session.run, schema, prepared.test_raw, test.target, seed),
        warned=WarningRules(schema).count(evenly(prepared.test_raw, MOST_WARNED_ROWS)),
    )


def _params(settings: Settings, prepared: Prepared, packaged: Packaged) -> dict[str, object]:
    return {
        "data_source": prepared.source,
        "target": settings.target_column,
        "train_rows": len(prepared.train.rows),
        "test_rows": len(prepared.test.rows),
        "split": prepared.rule.method,
        "metric": settings.model_selection.metric,
        "winner": packaged.result.name,
    }


def log_candidates(
    runs: RunLog, mlflow_run_id: str, results: list[CandidateResult], left_aside: Mapping[str, str]
) -> None:
    """A child run for each candidate, with its folds as steps."""
    for result in results:
        folds = {f"fold_{name}": [fold[name] for fold in result.fold_metrics] for name in result.mean_metrics}
        runs.log_candidate(
            mlflow_run_id,
            result.name,
            params=result.parameters,
            metrics={f"cv_{name}": value for name, value in result.mean_metrics.items()},
            fold_metrics={name: [value for value in values if value is not None] for name, values in folds.items()},
            seconds=result.seconds,
            failure=left_aside.get(result.name),
        )
