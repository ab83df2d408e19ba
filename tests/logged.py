"""Logs as a server writes them, a registry with the bundle of the model that it served, and their ingestion."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import pytest
from sqlalchemy import func, select

from config.settings import LoggingSettings, Settings
from models.bundle import CHECKS, MODEL, REFERENCE, SCHEMA, Checks, Manifest, SplitRule, write_bundle
from models.reference import encode_reference
from monitoring.ids import IdSource
from monitoring.labelled_reading import LabelledRows
from monitoring.log_ingestion import Ingestion
from monitoring.log_tail import Limits
from monitoring.prediction_log import DailyLog, LoggedWarning, PredictionLine, PredictionLog
from monitoring.store import Store
from monitoring.tables import metadata
from monitoring.window_profile import Profiler
from monitoring.window_records import window
from tests import drift_rows

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
REFERENCE_OF_ROWS = drift_rows.reference()
PROFILER = Profiler(REFERENCE_OF_ROWS)


def write_version(
    registry: Path, version: str = "1", metrics: dict[str, float | None] | None = None, **more: bytes
) -> None:
    """A bundle with all that ingestion reads of one; `more` are files by stem (`estimator=b"…"`)."""
    manifest = Manifest(
        registered_name="production_model", run_id="r", created_at="2026-02-01T00:00:00Z", task="classification",
        classes=drift_rows.SCHEMA.classes, algorithm="a", metrics=metrics or {},
        split=SplitRule(method="hash", test_size=0.2), data_source="d", libraries={},
    )  # fmt: skip
    registry.mkdir(parents=True, exist_ok=True)
    files = {
        SCHEMA: msgspec.json.encode(drift_rows.SCHEMA),
        REFERENCE: encode_reference(REFERENCE_OF_ROWS),
        MODEL: b"",
        CHECKS: msgspec.json.encode(Checks(rows=[], probability=[])),
        **{f"{stem}.onnx": content for stem, content in more.items()},
    }
    write_bundle(registry / version, manifest, files)


def prediction_lines(
    rows: int, seed: int = 1, moment: datetime = NOON, version: str = "1", **fields: Any
) -> list[PredictionLine]:
    """Rows of one request."""
    milliseconds = int(moment.timestamp() * 1000)
    draw = np.random.default_rng([seed, milliseconds])
    ids = IdSource(lambda: milliseconds, draw.bytes).take(rows)
    scores = drift_rows.probabilities(rows, seed).tolist()
    return [
        PredictionLine(
            prediction_id=id_, timestamp=moment, request_id="q", model_version=version, input_data=row,
            prediction=drift_rows.SCHEMA.classes[score[1] > score[0]], probability=score,
            max_probability=max(score), latency_ms=2.5, **fields,
        )
        for id_, row, score in zip(ids, input_rows(rows, seed), scores, strict=True)
    ]  # fmt: skip


def input_rows(rows: int, seed: int) -> list[dict[str, Any]]:
    """The rows of `drift_rows.draw` as requests send them."""
    columns = [_as_json(name, values) for name, values in drift_rows.draw(rows, seed).items()]
    return [dict(zip(drift_rows.NAMES, values, strict=True)) for values in zip(*columns, strict=True)]


def _as_json(name: str, values: Any) -> Sequence[Any]:
    if name in ("ordered", "due"):
        return [datetime.fromtimestamp(value, UTC).isoformat() for value in values]
    if name == "owner":
        return [bool(value) for value in values]
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    return [None if value is None or value != value else value for value in plain]


class Host:
    """One state root: its logs, its registry, its clock, and the ingestion of it into a store."""

    def __init__(
        self, home: Path, store: Store, settings: Settings | None = None, limits: Limits | None = None
    ) -> None:
        self.home = home
        self.logs = home / "logs"
        self.registry = home / "registry"
        self.store = store
        self.settings = settings or Settings()
        self.now = NOON + timedelta(hours=1)
        self.limits = limits or Limits()
        self.logs.mkdir(parents=True, exist_ok=True)
        self.ingestion = self.restarted()

    def restarted(self) -> Ingestion:
        """A new process's ingestion."""
        self.ingestion = Ingestion(
            self.settings, self.store, self.logs, self.registry, lambda: self.now,
            source_file=self.home / "source_id", limits=self.limits,
        )  # fmt: skip
        return self.ingestion

    def log(self, lines: Sequence[PredictionLine]) -> None:
        log = PredictionLog(self.logs)
        log.append(lines)
        log.close()

    def predictions_file(self, moment: datetime = NOON) -> Path:
        """The file of that day."""
        return self.logs / f"predictions_{moment:%Y%m%d}.jsonl"

    def raw_log(self) -> IO[bytes]:
        """The same, to write to as no server does."""
        return self.predictions_file().open("ab")

    def feed_back(self, *outcomes: tuple[str, Any], moment: datetime = NOON + timedelta(minutes=5)) -> None:
        """Outcomes by prediction id, in one request."""
        log = DailyLog(self.logs, "feedback")
        lines = [
            msgspec.json.encode({"prediction_id": id_, "actual": actual, "timestamp": moment, "request_id": "q"})
            for id_, actual in outcomes
        ]
        log.append(lines, moment)
        log.close()


@pytest.fixture
def host(store: Store, tmp_path: Path) -> Host:
    """A host whose logs are read into a store of each kind."""
    host = Host(tmp_path / "a", store)
    write_version(host.registry)
    return host


def rows_of(store: Store, table: str) -> list[dict[str, Any]]:
    """Everything in a table."""
    with store.reading() as connection:
        rows = connection.execute(select(metadata.tables[table])).mappings().all()
    return [dict(row) for row in rows]


def count_of(store: Store, table: str) -> int:
    with store.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(metadata.tables[table])).scalar_one())


def served_rows(store: Store) -> int:
    """How many rows of version 1 are counted, in the six months around `NOON`."""
    return window(store, PROFILER.layout, "1", NOON - 90 * DAY, NOON + 90 * DAY).rows


def inputs_to_train_on(store: Store) -> list[dict[str, object]]:
    """What retraining is given, newest first."""
    return [json.loads(row.input_data) for row in LabelledRows(store).newest(1000)]


def keeping(days: int) -> Settings:
    return Settings(logging=LoggingSettings(retention_days=days))


WARNED = [LoggedWarning("income", "missing")]
