"""Rows with answers that are wrong where the model cannot know it, and the error model of the logged rows' schema."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.encoding import Encoder
from models.error_model import ErrorModelProfile, answer_columns
from models.schema import Schema
from pipeline.error_training import AnsweredRows, FittedErrors, fit_error_model
from tests import drift_rows
from tests.made_tables import made_table


def answered(rows: int, classes: int, seed: int) -> tuple[Schema, AnsweredRows]:
    """Every kind of column; answers are right in most rows, less often the less sure they are."""
    table = made_table(rows, classes, seed=seed)
    random = np.random.default_rng(seed)
    return table.schema, AnsweredRows(table.matrix, answer_columns(unsure(table.y, classes, random)), table.y)


def unsure(actual: NDArray[np.int64], classes: int, random: np.random.Generator) -> NDArray[np.float64]:
    """(rows, classes) probabilities that lean to the actual class."""
    raw = 2.0 * (np.arange(classes) == actual[:, None]) + random.normal(0, 1.5, (len(actual), classes))
    shares = np.exp(raw)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


@lru_cache
def logged_errors() -> tuple[FittedErrors, ErrorModelProfile]:
    """Fitted on rows as `tests.logged` logs them, whose outcomes follow the model's probabilities."""
    out_of_fold, held = _logged_rows(3_000, 101), _logged_rows(1_000, 102)
    found = fit_error_model(drift_rows.SCHEMA, out_of_fold, held, 3_000)
    assert found is not None
    return found


def _logged_rows(rows: int, seed: int) -> AnsweredRows:
    matrix = Encoder(drift_rows.SCHEMA).encode(list(drift_rows.draw(rows, seed).values()))
    probabilities = drift_rows.probabilities(rows, seed)
    actual = (np.random.default_rng(seed + 1).random(rows) < probabilities[:, 1]).astype(np.int64)
    return AnsweredRows(matrix, answer_columns(probabilities), actual)
