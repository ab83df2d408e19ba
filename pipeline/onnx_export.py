"""A fitted pipeline as `model.onnx`, and the proof that both give the same answers.

ConversionError         the pipeline does not convert, or its ONNX answers differ; the next-best candidate is taken
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline

from models.encoding import Encoder, Matrix, RawColumn
from models.runtime import TOLERANCE
from models.schema import Feature, Schema
from pipeline.onnx_graph import ConversionError, Graph, add_classes, add_model, add_step
from pipeline.training_tasks import class_probabilities

__all__ = ["ConversionError", "check_parity", "edge_columns", "edge_matrix", "export_onnx", "parity"]

#: Rows compared at a time: bounds the memory of wide tables.
CHUNK = 20_000
Run = Callable[[Matrix], NDArray[np.floating[Any]]]


def export_onnx(pipeline: Pipeline, schema: Schema) -> bytes:
    """The steps after `encode`: input `X` float32 (rows, width), output `probabilities` float32 (rows, classes).

    Raises:
        ConversionError: a step or a parameter that has no ONNX form here.
    """
    graph = Graph()
    steps = [step for name, step in pipeline.steps if name != "encode"]
    result = graph.double("X")
    for step in steps[:-1]:
        result = add_step(graph, step, result)
    probabilities = add_model(graph, steps[-1], result)
    known = np.asarray(steps[-1].classes_, dtype=np.int64)
    spread = add_classes(graph, probabilities, known, len(schema.classes))
    content: bytes = graph.model(spread, Encoder(schema).width, len(schema.classes)).SerializeToString()
    return content


def parity(run: Run, pipeline: Pipeline, matrix: Matrix) -> float:
    """The largest absolute difference between the probabilities of `run` (an ONNX session) and of the fitted pipeline
    on an encoded matrix; infinite where either is not a number or the shapes differ, 0 for no rows."""
    fitted = pipeline[1:] if pipeline.steps[0][0] == "encode" else pipeline
    worst = 0.0
    for start in range(0, len(matrix), CHUNK):
        rows = matrix[start : start + CHUNK]
        answers = np.asarray(run(rows), dtype=np.float64)
        expected = class_probabilities(fitted, rows, answers.shape[1])
        difference = (
            float(np.max(np.abs(answers - expected), initial=0.0)) if answers.shape == expected.shape else np.inf
        )
        worst = max(worst, difference if np.isfinite(difference) else np.inf)
    return worst


def check_parity(run: Run, pipeline: Pipeline, schema: Schema, matrix: Matrix) -> float:
    """Parity on the given rows and on the edge rows; raises `ConversionError` when it is above the tolerance."""
    worst = 0.0
    for what, rows in (("the test rows", matrix), ("the edge rows", edge_matrix(schema))):
        difference = parity(run, pipeline, rows)
        if not difference <= TOLERANCE:
            raise ConversionError(f"ONNX and scikit-learn differ by {difference:.2g} on {what} (allowed {TOLERANCE:g})")
        worst = max(worst, difference)
    return worst


def edge_matrix(schema: Schema) -> Matrix:
    """`edge_columns`, encoded."""
    return Encoder(schema).encode(edge_columns(schema))


def edge_columns(schema: Schema) -> list[RawColumn]:
    """Rows at the edges, as raw columns: an ordinary row; every edge of each feature alone (missing, unseen category,
    both ends of the range and beyond, zero); and the edges of all features together."""
    edges = [list(_edges(feature)) for feature in schema.features]
    ordinary = [values[0] for values in edges]
    rows = [ordinary]
    for position, values in enumerate(edges):
        rows += [[*ordinary[:position], value, *ordinary[position + 1 :]] for value in values[1:]]
    for depth in range(max(map(len, edges), default=0)):
        rows.append([values[depth % len(values)] for values in edges])
    columns = zip(*rows, strict=True)
    return [_raw(feature, list(values)) for feature, values in zip(schema.features, columns, strict=True)]


def _edges(feature: Feature) -> Iterator[Any]:
    """The middle of what training saw, then missing, then the extremes."""
    if feature.kind == "categorical":
        yield from [feature.categories[0] if feature.categories else None, None, "\x00 never seen", -(2**62)]
        yield from feature.categories[-1:]
        return
    low, high = feature.range or (0.0, 1.0)
    yield from [low / 2 + high / 2, np.nan, low, high, 0.0]
    if feature.kind != "boolean":
        yield from [np.nextafter(low, -np.inf), np.nextafter(high, np.inf), *_far(feature.kind)]


def _far(kind: str) -> list[float]:
    # Seconds that a calendar can hold: the years 1 and 9999.
    return [-62_135_596_800.0, 253_402_300_799.0] if kind == "datetime" else [-1e300, 1e300, np.inf]


def _raw(feature: Feature, values: list[Any]) -> RawColumn:
    return values if feature.kind == "categorical" else np.array(values, dtype=np.float64)
