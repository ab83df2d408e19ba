"""What `serving.py` serves: a state root a model, the same estimator for the rivals, and rows to send.

The models are a random forest of 100 unlimited trees and a logistic regression on the generated sample of ten features;
the rows are those of its file of new customers that hold no gap.
"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import joblib
import msgspec
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from config.settings import Settings
from generate_sample_data import NEW, TRAINING
from generate_sample_data import main as generate
from models.bundle import CHECKS, MODEL, REFERENCE, SCHEMA, Manifest, SplitRule, write_bundle
from models.encoding import Encoder
from models.frame import frame_to_raw
from models.serving_plan import PlannedBundle, ServingPlan, write_plan
from pipeline.candidates import matrix_pipeline, whole_pipeline
from pipeline.data_processing import Preparation, prepare
from pipeline.onnx_export import export_onnx
from pipeline.packaging import checks_of
from pipeline.table_reading import read_table

ESTIMATORS: dict[str, Any] = {
    "random_forest": RandomForestClassifier(random_state=0),
    "logistic_regression": LogisticRegression(max_iter=1000),
}
RIVAL = "rival.joblib"


def set_up(folder: Path) -> list[dict[str, Any]]:
    """Makes a state root for each model under `folder`, with two bundles that differ; returns rows to send."""
    with redirect_stdout(sys.stderr):  # stdout is for the benchmark's own result
        generate(["--output", str(folder / "data")])
    settings = Settings()
    prepared = prepare(read_table(settings.data, str(folder / "data" / TRAINING)), settings)
    for name, estimator in ESTIMATORS.items():
        home = folder / name
        registry = home / "models" / "registry"
        digests = [_bundle(registry / version, prepared, name, seed) for seed, version in enumerate("12")]
        (home / "digests.json").write_bytes(msgspec.json.encode(digests))
        promote(home, "1", 1)
        _rival(folder / "data" / TRAINING, estimator, home / RIVAL)
    return _rows(folder / "data" / NEW)


def promote(home: Path, version: str, generation: int) -> None:
    """Puts version 1 or 2 in service."""
    digest = msgspec.json.decode((home / "digests.json").read_bytes())[int(version) - 1]
    champion = PlannedBundle(version=version, manifest_sha256=digest)
    plan = ServingPlan(registered_name="production_model", champion=champion, generation=generation)
    write_plan(home / "models" / "registry", plan)


def _bundle(directory: Path, prepared: Preparation, name: str, seed: int) -> str:
    schema, frame, split = prepared.schema, prepared.frame, prepared.split
    rows = split.train if seed == 0 else split.train[: len(split.train) * 3 // 4]
    fitted = matrix_pipeline(name, schema, {}, seed)
    fitted.fit(Encoder(schema).encode(frame_to_raw(schema, frame.take(rows))), prepared.target[rows])
    whole = whole_pipeline(fitted, schema)
    manifest = Manifest(
        registered_name="production_model",
        run_id=f"benchmark-{seed}",
        created_at="2026-01-01T00:00:00Z",
        task="classification",
        classes=schema.classes,
        algorithm=name,
        metrics={},
        split=SplitRule(method="hash", test_size=0.2),
        data_source="the generated sample",
        libraries={},
    )
    checks = checks_of(whole, schema, frame_to_raw(schema, frame.take(split.test)))
    files = {
        SCHEMA: msgspec.json.encode(schema),
        MODEL: export_onnx(whole, schema),
        REFERENCE: b"{}",
        CHECKS: msgspec.json.encode(checks),
    }
    return write_bundle(directory, manifest, files)


def _rival(source: Path, estimator: Any, target: Path) -> None:
    """The pipeline that most people write, for the same estimator."""
    table = pd.read_csv(source)
    labels = table.pop("target")
    text = ["contract", "region"]
    numbers = [name for name in table if name not in text]
    preprocess = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")), text),
    )
    pipeline: Pipeline = make_pipeline(preprocess, estimator).fit(table, labels)
    joblib.dump(pipeline, target)


def _rows(source: Path) -> list[dict[str, Any]]:
    table = pd.read_csv(source).drop(columns="target").dropna()
    return [dict(zip(table.columns, row, strict=True)) for row in table.astype(object).itertuples(index=False)]
