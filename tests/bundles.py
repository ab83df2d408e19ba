"""Small bundles of a real model, for tests of what reads bundles: a logistic regression over every kind of feature."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models.bundle import CHECKS, MODEL, REFERENCE, SCHEMA, Checks, Manifest, SplitRule, write_bundle
from models.encoding import Encoder
from models.raw_rows import raw_columns
from models.runtime import OnnxSession
from models.schema import Feature, Ignored, Schema
from models.serving_plan import PlanError, PlannedBundle, ServingPlan, read_plan, write_plan

SAMPLE_SCHEMA = Schema(
    target="churned",
    classes=("no", "yes"),
    features=(
        Feature(name="age", kind="numeric", range=(18.0, 80.0), integer=True, nullable=True),
        Feature(name="Culmen Length (mm)", kind="numeric", range=(30.0, 60.0)),
        Feature(name="city", kind="categorical", categories=("Berlin", "Köln", "Ulm"), nullable=True),
        Feature(name="plan", kind="categorical", categories=(1, 2, 3)),
        Feature(name="member", kind="boolean"),
        Feature(name="joined", kind="datetime", parts=("month", "weekday"), range=(1.5e9, 1.6e9)),
        Feature(name="visits", kind="numeric", range=(0.0, 40.0), required=True),
    ),
    ignored=(Ignored(name="customer id", reason="identifier"), Ignored(name="remark", reason="free text")),
)


def sample_row(**changes: Any) -> dict[str, Any]:
    """A row that the sample schema answers without a warning."""
    row: dict[str, Any] = {
        "age": 41,
        "Culmen Length (mm)": 44.5,
        "city": "Köln",
        "plan": 2,
        "member": True,
        "joined": "2019-05-06T12:00:00Z",
        "visits": 7,
    }
    return row | changes


def random_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        sample_row(
            age=int(random.integers(18, 80)),
            city=str(random.choice(["Berlin", "Köln", "Ulm"])),
            plan=int(random.integers(1, 4)),
            member=bool(random.integers(2)),
            visits=float(random.uniform(0, 40)),
        )
        for _ in range(count)
    ]


@lru_cache
def sample_model(seed: int = 0) -> bytes:
    """ONNX of a model fitted to rows and labels drawn from `seed`."""
    return train_onnx(SAMPLE_SCHEMA, random_rows(120, seed), np.random.default_rng(seed).integers(0, 2, 120))


def train_onnx(schema: Schema, rows: list[dict[str, Any]], labels: np.ndarray[Any, Any]) -> bytes:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    encoder = Encoder(schema)
    pipeline = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression())
    pipeline.fit(encoder.encode(raw_columns(schema, rows)), labels)
    kinds = [("X", FloatTensorType([None, encoder.width]))]
    graph = convert_sklearn(pipeline, initial_types=kinds, options={"zipmap": False})
    return bytes(select_model_inputs_outputs(graph, ["probabilities"]).SerializeToString())


def sample_bundle(directory: Path, seed: int = 0, **changes: bytes) -> str:
    """Writes a bundle of the sample model; `changes` replace files by stem (`model=b"…"`). The manifest's sha256."""
    rows = random_rows(5, seed=99)
    matrix = Encoder(SAMPLE_SCHEMA).encode(raw_columns(SAMPLE_SCHEMA, rows))
    checks = Checks(rows=rows, probability=OnnxSession(sample_model(seed)).run(matrix).tolist())
    files = {
        SCHEMA: changes.get("schema", msgspec.json.encode(SAMPLE_SCHEMA)),
        MODEL: changes.get("model", sample_model(seed)),
        REFERENCE: changes.get("reference", b"{}"),
        CHECKS: changes.get("checks", msgspec.json.encode(checks)),
    }
    return write_bundle(directory, _manifest(seed), files)


def promote(registry: Path, version: str, digest: str) -> None:
    """Puts a bundle of `registry` in service on this host."""
    registry.mkdir(parents=True, exist_ok=True)
    champion = PlannedBundle(version=version, manifest_sha256=digest)
    generation = _generation(registry) + 1
    write_plan(registry, ServingPlan(registered_name="production_model", champion=champion, generation=generation))


def serve_sample(registry: Path, version: str = "1", seed: int = 0) -> None:
    """Writes a sample bundle and puts it in service."""
    promote(registry, version, sample_bundle(registry / version, seed))


def _generation(registry: Path) -> int:
    try:
        plan = read_plan(registry)
    except PlanError:
        return 0
    return plan.generation if plan else 0


def _manifest(seed: int) -> Manifest:
    return Manifest(
        registered_name="production_model",
        run_id=f"run{seed}",
        created_at="2026-01-02T03:04:05Z",
        task="classification",
        classes=SAMPLE_SCHEMA.classes,
        algorithm="logistic_regression",
        metrics={"test_accuracy": 0.5, "test_roc_auc": None},
        split=SplitRule(method="hash", test_size=0.2),
        data_source="/secret/training.csv",
        libraries={"scikit-learn": "1.9.1"},
    )
