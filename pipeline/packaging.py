"""From fitted candidates to what a server needs: the best one whose ONNX form gives the same answers."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from models.bundle import BundleError, Checks
from models.encoding import Encoder, Matrix, RawColumn
from models.error_model import ErrorModelProfile
from models.frame import json_rows
from models.metrics import Labels
from models.raw_rows import raw_columns
from models.runtime import OnnxSession
from models.schema import Schema
from pipeline.error_training import AnsweredRows, fit_error_model, held_out
from pipeline.model_training import CandidateResult, TrainingError, class_probabilities
from pipeline.onnx_export import ConversionError, check_parity, edge_columns, export_onnx

#: Test rows, and edge rows, whose answers are stored with the model.
CHECKED_ROWS, CHECKED_EDGES = 20, 60
LIBRARIES = ("scikit-learn", "numpy", "pandas", "onnx", "onnxruntime")
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Packaged:
    """The candidate that will be registered, in its served form."""

    result: CandidateResult
    model: bytes
    session: OnnxSession
    checks: Checks
    #: Its answers on the test rows, (rows, classes).
    test_probabilities: Scores
    #: Better candidates that were left aside, each with the reason.
    left_aside: Mapping[str, str]


def package_best(ranked: list[CandidateResult], schema: Schema, test: list[RawColumn]) -> Packaged:
    """Takes the candidates best first; one that does not convert, or answers otherwise in ONNX, is left aside.

    Raises:
        TrainingError: none can be served; the message holds each reason.
    """
    rows = Encoder(schema).encode(test)
    left_aside: dict[str, str] = {}
    for result in ranked:
        try:
            model = export_onnx(result.pipeline, schema)
            session = OnnxSession(model)
            check_parity(session.run, result.pipeline, schema, rows)
        except (ConversionError, BundleError) as error:
            left_aside[result.name] = str(error)
            continue
        checks = checks_of(result.pipeline, schema, test)
        return Packaged(result, model, session, checks, answer(session, rows), left_aside)
    reasons = "; ".join(f"{name}: {reason}" for name, reason in left_aside.items())
    raise TrainingError(f"no candidate can be served: {reasons}")


def package_errors(
    packaged: Packaged,
    schema: Schema,
    matrix: Matrix,
    train: Labels,
    test: list[RawColumn],
    actual: Labels,
    seed: int,
) -> tuple[bytes, ErrorModelProfile] | None:
    """`estimator.onnx` of a packaged candidate and what is known of it; None where there is too little to learn from.

    Args:
        matrix: (training rows, width), encoded, with their classes `train`.
        test: The rows of `packaged.test_probabilities`, with their classes `actual`.
    """
    answers = packaged.result.answers
    if answers is None:
        return None
    out_of_fold = AnsweredRows(matrix[answers.rows], answers.answers, train[answers.rows])
    held = held_out(Encoder(schema).encode(test), packaged.test_probabilities, actual, seed)
    fitted = fit_error_model(schema, out_of_fold, held, len(train))
    return None if fitted is None else (fitted[0].export(), fitted[1])


def answer(session: OnnxSession, matrix: Matrix, chunk: int = 50_000) -> Scores:
    """Probabilities of many rows, a chunk at a time, so that memory stays bounded."""
    if not len(matrix):
        return session.run(matrix)
    return np.concatenate([session.run(matrix[start : start + chunk]) for start in range(0, len(matrix), chunk)])


def checks_of(pipeline: Pipeline, schema: Schema, test: list[RawColumn]) -> Checks:
    """Some test rows and some edge rows as requests would hold them, with the fitted pipeline's answers."""
    edges = json_rows(schema, edge_columns(schema))
    rows: list[dict[str, Any]] = json_rows(schema, [column[:CHECKED_ROWS] for column in test])
    rows += edges[:: max(1, len(edges) // CHECKED_EDGES)]
    matrix = Encoder(schema).encode(raw_columns(schema, rows))
    return Checks(rows=rows, probability=class_probabilities(pipeline[1:], matrix, len(schema.classes)).tolist())


def library_versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in LIBRARIES}
