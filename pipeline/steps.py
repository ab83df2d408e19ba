"""The steps of a run, each a function from what came before to what comes next; the orchestrator calls them in turn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from config.home import under_home
from config.settings import Settings
from models.bundle import CHECKS, MODEL, REFERENCE, SCHEMA, Bundle, Manifest, SplitRule, write_bundle
from models.encoding import Encoder, RawColumn
from models.frame import frame_to_raw
from models.mlflow_runs import RunLog
from models.reference import build_reference, encode_reference
from models.runtime import ModelRuntime
from monitoring.alerts import write_whole
from monitoring.plain_json import encode_pretty
from monitoring.promotion_history import PromotionKind
from pipeline.data_processing import Preparation, conform, held_out_of_table, prepare
from pipeline.data_quality import QualityError, write_quarantine
from pipeline.deployment import Deployment, DeploymentError
from pipeline.metrics import Labels, evaluate
from pipeline.model_comparison import fit_between
from pipeline.model_evaluation import GateDecision, compare_on_rows, first_decision, refused_decision
from pipeline.model_training import CandidateResult, select, train_candidates
from pipeline.packaging import Packaged, answer, library_versions, package_best
from pipeline.pictures import DRAWN_ROWS, Drawing, draw_in_background, leave_for_drawing
from pipeline.progress import Progress
from pipeline.sample_data import is_sample
from pipeline.table_reading import Table


@dataclass(frozen=True)
class Prepared:
    table: Table
    data: Preparation
    #: Raw columns of each side, in the schema's order.
    train: list[RawColumn]
    test: list[RawColumn]
    quality_report: Path

    @property
    def train_target(self) -> Labels:
        return self.data.target[self.data.split.train]

    @property
    def test_target(self) -> Labels:
        return self.data.target[self.data.split.test]


@dataclass(frozen=True)
class Trained:
    results: list[CandidateResult]
    folds: int

    def failures(self) -> dict[str, str]:
        return {result.name: result.reason or "" for result in self.results if result.status != "ok"}

    def summary(self, winner: CandidateResult) -> dict[str, Any]:
        """`cross_validation` of `run --json`."""
        return {
            "metric": winner.metric,
            "folds": self.folds,
            "winner": winner.name,
            "winner_metrics": winner.mean_metrics,
            "candidates": [_candidate_summary(result) for result in self.results],
        }


@dataclass(frozen=True)
class Registered:
    packaged: Packaged
    manifest: Manifest
    version: str
    mlflow_run_id: str
    metrics: dict[str, float | None]


@dataclass(frozen=True)
class Compared:
    decision: GateDecision

    @property
    def promotes(self) -> bool:
        return self.decision.decision in ("promote", "first")


def prepare_data(settings: Settings, run_id: str, table: Table, deployment: Deployment) -> Prepared:
    """Checks and splits the table, writes the quality report, sets rows aside; raises `InputError`."""
    report = under_home("reports") / f"quality_{run_id}.json"
    try:
        data = prepare(table, settings, previous=_split_in_service(deployment))
    except QualityError as error:
        write_whole(report, encode_pretty(error.report))
        raise
    write_whole(report, encode_pretty(data.quality))
    if len(data.quarantine):
        write_quarantine(data.quarantine, under_home("data/quarantine"), run_id)
    sides = [frame_to_raw(data.schema, data.frame.take(rows)) for rows in (data.split.train, data.split.test)]
    return Prepared(table, data, sides[0], sides[1], report)


def train(settings: Settings, prepared: Prepared, progress: Progress) -> Trained:
    """Cross-validates and refits every candidate on the training part; raises `TrainingError`."""
    data = prepared.data
    rows = data.split.train
    time = None if data.time is None else data.time[rows]
    results = train_candidates(data.frame.take(rows), prepared.train_target, data.schema, settings, progress, time=time)
    return Trained(results, settings.model_selection.cross_validation_folds)


def register(
    settings: Settings, run_id: str, runs: RunLog, deployment: Deployment, prepared: Prepared, trained: Trained
) -> Registered:
    """Packages the best candidate that can be served, logs everything to MLflow and creates the version."""
    schema = prepared.data.schema
    packaged = package_best(select(trained.results), schema, prepared.test)
    metrics = _metrics(packaged, prepared)
    manifest = Manifest(
        registered_name=settings.registered_model_name,
        run_id=run_id,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        task="classification",
        classes=schema.classes,
        algorithm=packaged.result.name,
        metrics=metrics,
        split=prepared.data.split.rule,
        data_source=prepared.table.source,
        sample=is_sample(prepared.table.source),
        libraries=library_versions(),
    )
    staged = deployment.staging(run_id)
    digest = write_bundle(staged, manifest, _served_files(packaged, prepared, metrics))
    mlflow_run_id = _log(settings, run_id, runs, prepared, trained, packaged, metrics, staged)
    sample = prepared.data.frame.take(prepared.data.split.train[:3])
    model_uri = runs.log_sklearn_model(mlflow_run_id, packaged.result.pipeline, schema, sample)
    version = deployment.registry.create_version(
        mlflow_run_id,
        run_id=run_id,
        manifest_sha256=digest,
        algorithm=packaged.result.name,
        metrics=metrics,
        model_uri=model_uri,
    )
    deployment.adopt(run_id, version)
    return Registered(packaged, manifest, version, mlflow_run_id, metrics)


def compare(settings: Settings, deployment: Deployment, prepared: Prepared, registered: Registered) -> Compared:
    """The gate: whether the new version takes the place of the champion."""
    champion = deployment.registry.champion()
    if champion is None:
        return Compared(first_decision(settings, "nothing was in service"))
    try:
        bundle = deployment.bundle(champion)
    except DeploymentError as error:
        return Compared(first_decision(settings, f"the champion, version {champion}, cannot be served: {error}"))
    verdict = fit_between(bundle.schema, prepared.data.schema)
    if verdict.fit != "comparable":
        if bundle.manifest.sample and not registered.manifest.sample:
            return Compared(first_decision(settings, "the champion was trained on the generated sample"))
        return Compared(refused_decision(settings, verdict.fit, verdict.reason, registered.version))
    rows = _rows_both_held_out(bundle, prepared)
    y = prepared.test_target[rows]
    return Compared(
        compare_on_rows(
            settings,
            y,
            _champion_answers(bundle, prepared, rows),
            registered.packaged.test_probabilities[rows],
            champion_age_days=_age_days(bundle.manifest),
        )
    )


def promote(deployment: Deployment, registered: Registered, compared: Compared) -> None:
    kind: PromotionKind = "first" if compared.decision.decision == "first" else "promote"
    deployment.promote(
        registered.version,
        kind,
        who="pipeline",
        why=compared.decision.reason,
        evidence=msgspec.to_builtins(compared.decision),
    )


def leave_pictures(settings: Settings, run_id: str, prepared: Prepared, registered: Registered) -> None:
    """Has the winner's pictures drawn by a process of its own."""
    drawing = Drawing(
        mlflow_address=settings.mlflow_address,
        experiment_name=settings.experiment_name,
        mlflow_run_id=registered.mlflow_run_id,
        metric=settings.model_selection.metric,
        seed=settings.data_split.random_state,
        schema=prepared.data.schema,
    )
    matrix = Encoder(prepared.data.schema).encode([column[:DRAWN_ROWS] for column in prepared.test])
    answers = registered.packaged.test_probabilities
    draw_in_background(
        leave_for_drawing(run_id, drawing, prepared.test_target, answers, matrix, registered.packaged.model)
    )


def _split_in_service(deployment: Deployment) -> SplitRule | None:
    """The split rule of the version in service on this host, so that rows keep their side."""
    manifest = deployment.manifest_in_service()
    return manifest.split if manifest is not None else None


def _metrics(packaged: Packaged, prepared: Prepared) -> dict[str, float | None]:
    matrix = Encoder(prepared.data.schema).encode(prepared.train)
    trained = answer(packaged.session, matrix).astype(np.float64)
    tested = packaged.test_probabilities.astype(np.float64)
    return {
        **evaluate(prepared.train_target, trained, "train_"),
        **evaluate(prepared.test_target, tested, "test_"),
    }


def _served_files(packaged: Packaged, prepared: Prepared, metrics: dict[str, float | None]) -> dict[str, bytes]:
    schema = prepared.data.schema
    tested = {name.removeprefix("test_"): value for name, value in metrics.items() if name.startswith("test_")}
    reference = build_reference(
        schema, prepared.train, packaged.test_probabilities, actual=prepared.test_target, metrics=tested
    )
    return {
        SCHEMA: msgspec.json.encode(schema),
        MODEL: packaged.model,
        CHECKS: msgspec.json.encode(packaged.checks),
        REFERENCE: encode_reference(reference),
    }


def _log(
    settings: Settings,
    run_id: str,
    runs: RunLog,
    prepared: Prepared,
    trained: Trained,
    packaged: Packaged,
    metrics: dict[str, float | None],
    staged: Path,
) -> str:
    """The run, a child for each candidate, the bundle and the quality report; returns the id of MLflow's run."""
    split = prepared.data.split
    params = {
        "data_source": prepared.table.source,
        "target": settings.target_column,
        "train_rows": len(split.train),
        "test_rows": len(split.test),
        "split": split.rule.method,
        "metric": settings.model_selection.metric,
        "winner": packaged.result.name,
    }
    mlflow_run_id = runs.start(run_id, params=params, tags={"algorithm": packaged.result.name})
    runs.log(mlflow_run_id, metrics=metrics)
    left_aside = {**trained.failures(), **dict(packaged.left_aside)}
    for result in trained.results:
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
    runs.log_bundle(mlflow_run_id, staged)
    runs.log_files(mlflow_run_id, prepared.quality_report, "quality")
    return mlflow_run_id


def _candidate_summary(result: CandidateResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "status": result.status,
        "mean": result.mean,
        "std": result.std,
        "seconds": round(result.seconds, 3),
        "reason": result.reason,
        "sampled_rows": result.sampled_rows,
        "parameters": result.parameters,
    }


def _rows_both_held_out(bundle: Bundle, prepared: Prepared) -> NDArray[np.intp]:
    """Positions in the test part of the rows that the champion held out too."""
    rows = prepared.data.rows[prepared.data.split.test]
    mask = held_out_of_table(bundle.manifest.split, prepared.table, rows, bundle.schema)
    return np.flatnonzero(mask) if mask is not None else np.empty(0, dtype=np.intp)


def _champion_frame(bundle: Bundle, prepared: Prepared) -> Any:
    rows = prepared.data.rows[prepared.data.split.test]
    return conform(prepared.table.frame.take(rows), bundle.schema, prepared.table.source)


def _champion_answers(bundle: Bundle, prepared: Prepared, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """The champion's probabilities on test rows, its classes in the challenger's order."""
    runtime = ModelRuntime(bundle)
    frame = _champion_frame(bundle, prepared).take(rows)
    given = runtime.probabilities(runtime.encoder.encode(frame_to_raw(bundle.schema, frame)))
    order = [bundle.schema.classes.index(label) for label in prepared.data.schema.classes]
    return given[:, order].astype(np.float64)


def _age_days(manifest: Manifest) -> float:
    made = datetime.fromisoformat(manifest.created_at)
    return (datetime.now(UTC) - made).total_seconds() / 86_400.0
