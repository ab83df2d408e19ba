"""The serving core: which model answers, and how a row becomes a logged answer. It knows no HTTP.

    NoModelError            nothing is in service yet

A request takes the reference to the served model once and keeps it, so an answer in flight when the model is swapped
finishes on the old one. The old model goes when its last request has ended.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
from msgspec import UNSET, Struct, UnsetType

from api.records import Record, RecordReader
from api.row_decoder import RowDecoder
from models.bundle import BundleError, read_bundle
from models.encoding import Matrix
from models.raw_rows import raw_column
from models.row_packing import RowPacker
from models.row_warnings import RowWarning, WarningRules
from models.runtime import ModelRuntime, Probabilities, SingleRun
from models.schema import ClassLabel, Feature, Schema
from models.serving_plan import PlannedBundle
from monitoring.ids import IdSource
from monitoring.prediction_log import LoggedWarning, PredictionLine

#: Facts of the manifest that stay on the host: addresses of data, the key of the split, digests of single files.
_UNPUBLISHED = ("data_source", "split", "files", "format_version")

#: A version names a folder, and stands in every line of the log.
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

#: Up to so many rows are packed one by one; from there on columns are faster.
FEW_ROWS = 32


class NoModelError(Exception):
    """Nothing is in service yet."""


class Reply(Struct, frozen=True, kw_only=True):
    """The answer to one request; lists run parallel to its rows, each row of `probability` to `classes`."""

    prediction: list[ClassLabel]
    probability: list[list[float]]
    classes: tuple[ClassLabel, ...]
    prediction_id: list[str]
    model_name: str
    model_version: str
    timestamp: datetime
    warnings: list[RowWarning] | UnsetType = UNSET


class Scores(Struct, frozen=True, gc=False):
    """What a model says of some rows: `winners` are positions among the classes, `top` their probabilities."""

    probability: list[list[float]]
    winners: list[int]
    top: list[float]
    warnings: list[RowWarning]


class ServedModel:
    """One model version with all that answering needs, made at load. Safe to share between threads."""

    def __init__(self, version: str, runtime: ModelRuntime, max_rows: int) -> None:
        self.version = version
        self.name = runtime.manifest.registered_name
        self.manifest_sha256 = runtime.manifest_sha256
        self.schema = runtime.schema
        self.decoder = RowDecoder(runtime.schema, max_rows)
        self.info: bytes = msgspec.json.encode(_info(version, runtime))
        self._runtime = runtime
        self._rules = WarningRules(runtime.schema)
        self._packer = RowPacker(runtime.schema)
        self._reader = RecordReader(runtime.schema, self._packer.feature_of_cell)
        # As many as there have been threads at once: each is taken out while it is in use.
        self._singles: list[SingleRun] = [runtime.single()]

    def score(self, records: Sequence[Record]) -> Scores:
        """Answers validated rows."""
        if len(records) == 1:
            probability = self._of_ordinary(records[0])
            if probability is not None:
                top = max(probability)
                return Scores([probability], [probability.index(top)], [top], [])
        elif len(records) <= FEW_ROWS:
            matrix = self._packed(records)
            if matrix is not None:
                return _scores(self._runtime.probabilities(matrix), [])
        return self._of_any(records)

    def _packed(self, records: Sequence[Record]) -> Matrix | None:
        """The matrix of rows that hold nothing to warn of, row by row; None when one is not such a row."""
        matrix = np.empty((len(records), self._runtime.encoder.width), dtype=np.float32)
        pack, cells = self._packer.pack_into, self._reader.cells
        for record, row in zip(records, matrix, strict=True):
            if not pack(row, cells(record)):
                return None
        return matrix

    def _of_ordinary(self, record: Record) -> list[float] | None:
        """The short way for one row that holds nothing to warn of; None when it is not such a one."""
        try:
            single = self._singles.pop()
        except IndexError:
            single = self._runtime.single()
        try:
            return single.run() if self._packer.pack_into(single.row, self._reader.cells(record)) else None
        finally:
            self._singles.append(single)

    def _of_any(self, records: Sequence[Record]) -> Scores:
        columns = self._reader.columns(records)
        raw = [raw_column(feature, values) for feature, values in zip(self.schema.features, columns, strict=True)]
        answers = self._runtime.probabilities(self._runtime.encoder.encode(raw))
        return _scores(answers, self._rules.of(raw))


def _scores(answers: Probabilities, warnings: list[RowWarning]) -> Scores:
    top = np.ascontiguousarray(answers.T).max(axis=0)  # class by class: many times faster than row by row
    return Scores(answers.tolist(), answers.argmax(axis=1).tolist(), top.tolist(), warnings)


class PredictionWriter(Protocol):
    """What takes the lines of one request; raises `LogError` unless all of them are whole in the log."""

    def append(self, lines: Sequence[PredictionLine]) -> None: ...


class ModelServer:
    """Answers rows with the model in service and logs every answer before it is given."""

    def __init__(
        self,
        log: PredictionWriter,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        ids: IdSource | None = None,
        answered: Callable[[Reply], None] = lambda _: None,
    ) -> None:
        """`answered` is told of each answer that is in the log."""
        self._log = log
        self._answered = answered
        self._clock = clock
        self._ids = ids or IdSource()
        self._served: ServedModel | None = None

    @property
    def served(self) -> ServedModel | None:
        return self._served

    def serve(self, model: ServedModel) -> None:
        """Swaps the model in service: one assignment, which threads see whole."""
        self._served = model

    def current(self) -> ServedModel:
        """The model in service; raises `NoModelError`."""
        model = self._served
        if model is None:
            raise NoModelError("no model is in service yet")
        return model

    def now(self) -> datetime:
        return self._clock()

    def predict(self, body: bytes, request_id: str, started: float | None = None) -> Reply:
        """Answers a JSON body; raises `NoModelError`, `RequestError` or `LogError`. See `answer`."""
        started = time.perf_counter() if started is None else started
        model = self.current()
        return self.answer(model, model.decoder.records(body), request_id, started)

    def answer(self, model: ServedModel, rows: Sequence[Record], request_id: str, started: float) -> Reply:
        """Answers validated rows with `model`; `started` is the request's start by `time.perf_counter`.

        A request without an id of its own (`""`) is logged under that of its first prediction. When this returns, each
        row's line is whole in the log. Raises `LogError` otherwise.
        """
        scores = model.score(rows)
        classes = model.schema.classes
        ids = self._ids.take(len(rows))
        reply = Reply(
            prediction=[classes[index] for index in scores.winners],
            probability=scores.probability,
            classes=classes,
            prediction_id=ids,
            model_name=model.name,
            model_version=model.version,
            timestamp=self._clock(),
            warnings=scores.warnings or UNSET,
        )
        latency = round((time.perf_counter() - started) * 1000.0, 3)
        self._log.append(_lines(reply, rows, scores, request_id or ids[0], latency))
        self._answered(reply)
        return reply


def load_model(registry: Path, planned: PlannedBundle, max_rows: int) -> ServedModel:
    """Reads a planned bundle, verifies its digests and makes it answer its stored rows; raises `BundleError`."""
    if not _VERSION.fullmatch(planned.version):
        raise BundleError("the plan's version is no name of a bundle")
    runtime = ModelRuntime(read_bundle(registry / planned.version, planned.manifest_sha256))
    runtime.check()
    return ServedModel(planned.version, runtime, max_rows)


def _lines(
    reply: Reply, rows: Sequence[Any], scores: Scores, request_id: str, latency_ms: float
) -> list[PredictionLine]:
    if len(rows) == 1 and not scores.warnings:
        head = (reply.prediction_id[0], reply.timestamp, request_id, reply.model_version)
        return [PredictionLine(*head, rows[0], reply.prediction[0], reply.probability[0], scores.top[0], latency_ms)]
    noted: list[list[LoggedWarning]] = []
    if scores.warnings:
        noted = [[] for _ in rows]
        for warning in scores.warnings:
            noted[warning.row].append(LoggedWarning(warning.field, warning.code))
    return list(
        map(
            PredictionLine,  # its fields in their order
            reply.prediction_id,
            repeat(reply.timestamp),
            repeat(request_id),
            repeat(reply.model_version),
            rows,
            reply.prediction,
            reply.probability,
            scores.top,
            repeat(latency_ms),
            *(repeat(absent) for absent in (None, None, None, False)),  # experiment, arm, unit, fallback
            noted or repeat([]),
        )
    )


def _info(version: str, runtime: ModelRuntime) -> dict[str, Any]:
    """What /model_info answers: the manifest's facts and the schema that a request must fit."""
    manifest: dict[str, Any] = msgspec.to_builtins(runtime.manifest)
    facts = {key: value for key, value in manifest.items() if key not in _UNPUBLISHED}
    return {
        "model_name": facts.pop("algorithm"),
        "version": version,
        "manifest_sha256": runtime.manifest_sha256,
        **facts,
        "schema": _published(runtime.schema),
    }


def _published(schema: Schema) -> dict[str, Any]:
    return {
        "target": schema.target,
        "features": [_published_feature(feature) for feature in schema.features],
        "ignored": [msgspec.to_builtins(column) for column in schema.ignored],
    }


def _published_feature(feature: Feature) -> dict[str, Any]:
    """A null is answered wherever it is not `required`; `nullable` says that training saw one."""
    shown: dict[str, Any] = {"name": feature.name, "kind": feature.kind, "nullable": not feature.required}
    if feature.kind == "categorical":
        shown["categories"] = feature.categories
    if feature.kind == "numeric":
        shown["integer"] = feature.integer
    if feature.range is not None:
        shown["range"] = [_shown_bound(feature, bound) for bound in feature.range]
    return shown


def _shown_bound(feature: Feature, bound: float) -> float | str:
    if feature.kind != "datetime":
        return bound
    return datetime.fromtimestamp(bound, UTC).isoformat().replace("+00:00", "Z")
