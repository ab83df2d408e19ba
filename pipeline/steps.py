"""The steps of a run up to its candidates, and the one after its end; the orchestrator calls them in turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from config.home import under_home
from config.settings import Settings
from models.bundle import SplitRule
from models.encoding import Encoder, Matrix, RawColumn
from models.frame import frame_to_raw
from models.metrics import Labels
from models.reference import Reference, build_reference
from models.schema import Schema
from monitoring.alerts import write_whole
from monitoring.plain_json import encode_pretty
from pipeline.data_processing import Preparation, QualityError, prepare
from pipeline.data_quality import QualityReport, write_quarantine
from pipeline.data_split import Rows
from pipeline.deployment import Deployment
from pipeline.model_training import CandidateResult, train_on_matrix
from pipeline.pictures import DRAWN_ROWS, Drawing, draw_in_background, leave_for_drawing
from pipeline.progress import Progress
from pipeline.table_reading import Table

if TYPE_CHECKING:
    from pipeline.registration import Registered

#: Rows of MLflow's input example.
EXAMPLES = 3


@dataclass(frozen=True)
class Side:
    """The rows of one side of the split."""

    #: Their positions in the table as it was read.
    rows: Rows
    target: Labels
    #: When they were, where the split is by time.
    time: NDArray[np.float64] | None


@dataclass(frozen=True)
class Prepared:
    """What the later steps need of a table. The rest of it is let go: training needs the memory."""

    source: str
    #: Every row is of the generated sample.
    sample: bool
    schema: Schema
    rule: SplitRule
    train: Side
    test: Side
    #: The training rows, encoded; and their profile, for monitoring.
    matrix: Matrix
    reference: Reference
    #: The test rows in the schema's order of columns.
    test_raw: list[RawColumn]
    #: The test rows as they were read, for the champion to read in its own way.
    test_table: Table
    #: The first training rows, typed.
    examples: pd.DataFrame
    quality_report: Path


@dataclass(frozen=True)
class Trained:
    results: list[CandidateResult]
    folds: int

    def failures(self) -> dict[str, str]:
        return {result.name: result.reason or "" for result in self.results if result.status != "ok"}

    def summary(self, winner: CandidateResult, left_aside: Mapping[str, str]) -> dict[str, Any]:
        """`cross_validation` of `run --json`; `left_aside` are candidates that trained but cannot be served."""
        return {
            "metric": winner.metric,
            "folds": self.folds,
            "winner": winner.name,
            "winner_metrics": winner.mean_metrics,
            "candidates": [_summary(result, left_aside.get(result.name)) for result in self.results],
        }


def prepare_data(settings: Settings, run_id: str, table: Table, deployment: Deployment) -> Prepared:
    """Checks and splits the table, writes the quality report, sets rows aside.

    Raises:
        InputError: the table cannot be trained on.
    """
    serving = deployment.manifest_in_service()
    try:
        data = prepare(table, settings, previous=serving.split if serving else None)
    except QualityError as error:
        _write_report(run_id, error.report)
        raise
    report = _write_report(run_id, data.quality)
    if len(data.quarantine):
        write_quarantine(data.quarantine, under_home("data/quarantine"), run_id)
    train, test = _side(data, data.split.train), _side(data, data.split.test)
    raw = frame_to_raw(data.schema, data.frame.take(data.split.train))
    return Prepared(
        source=table.source,
        sample=table.sample,
        schema=data.schema,
        rule=data.split.rule,
        train=train,
        test=test,
        matrix=Encoder(data.schema).encode(raw),
        reference=build_reference(data.schema, raw),
        test_raw=frame_to_raw(data.schema, data.frame.take(data.split.test)),
        test_table=replace(table, frame=table.frame.take(test.rows)),
        examples=data.frame.take(data.split.train[:EXAMPLES]),
        quality_report=report,
    )


def _side(data: Preparation, rows: Rows) -> Side:
    return Side(data.rows[rows], data.target[rows], None if data.time is None else data.time[rows])


def train(settings: Settings, prepared: Prepared, progress: Progress) -> Trained:
    """Cross-validates and refits every candidate on the training part; raises `TrainingError`."""
    side = prepared.train
    results = train_on_matrix(prepared.matrix, side.target, prepared.schema, settings, progress, time=side.time)
    return Trained(results, settings.model_selection.cross_validation_folds)


def leave_pictures(settings: Settings, run_id: str, prepared: Prepared, registered: Registered) -> None:
    """Has the winner's pictures drawn by a process of its own."""
    drawing = Drawing(
        mlflow_address=settings.mlflow_address,
        experiment_name=settings.experiment_name,
        mlflow_run_id=registered.mlflow_run_id,
        metric=settings.model_selection.metric,
        seed=settings.data_split.random_state,
        schema=prepared.schema,
    )
    test, packaged = prepared.test, registered.packaged
    matrix = Encoder(prepared.schema).encode([column[:DRAWN_ROWS] for column in prepared.test_raw])
    draw_in_background(
        leave_for_drawing(run_id, drawing, test.target, packaged.test_probabilities, matrix, packaged.model)
    )


def quality_report_path(run_id: str) -> Path:
    return under_home("reports") / f"quality_{run_id}.json"


def _write_report(run_id: str, report: QualityReport) -> Path:
    path = quality_report_path(run_id)
    write_whole(path, encode_pretty(report))
    return path


def _summary(result: CandidateResult, unservable: str | None) -> dict[str, Any]:
    return {
        "name": result.name,
        "status": "left_aside" if unservable else result.status,
        "mean": result.mean,
        "std": result.std,
        "seconds": round(result.seconds, 3),
        "reason": unservable or result.reason,
        "sampled_rows": result.sampled_rows,
        "parameters": result.parameters,
    }
