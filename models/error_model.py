"""The error model of a bundle, `estimator.onnx`: how likely it is that an answer is right, told without its outcome.

It reads the encoded row and how sure the model was. Monitoring runs it on logged rows; a server never does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.encoding import Matrix
from models.runtime import OnnxSession

#: Probabilities are kept this far from 0 and 1, where a logit would be infinite.
LEAST_PROBABILITY = 1e-6
#: Columns that follow the encoded row: a logit and the position of the answer.
ANSWER_COLUMNS = 2
#: Rows in one run: bounds the memory of a large batch.
_CHUNK_ROWS = 8_192
Estimates = NDArray[np.float64]


class ErrorModelProfile(Struct, frozen=True, kw_only=True):
    """What an error model was fitted on, and how good it was where it had not been fitted; part of `reference.json`."""

    #: Rows that it was fitted on (N_cal): answers to training rows by models that had not seen them, and held-out rows.
    rows: int
    out_of_fold_rows: int
    held_out_rows: int
    #: Training rows that there were; of very many a random part is taken.
    training_rows: int
    #: Share of right answers among `rows` (a), 0 to 1.
    accuracy: float
    #: On held-out rows, by a model of the out-of-fold rows alone: the mean squared distance of the estimates from what
    #: was (0 to 1, lower is better); the same of a constant and of the highest probability; and estimated less realised
    #: accuracy.
    brier: float
    constant_brier: float
    confidence_brier: float
    held_out_gap: float


class ErrorModel:
    """A loaded error model; immutable, safe to share between threads. Raises `BundleError` when it is refused."""

    def __init__(self, content: bytes) -> None:
        self._session = OnnxSession(content)

    def estimates(self, matrix: Matrix, probabilities: NDArray[np.floating[Any]]) -> Estimates:
        """(rows,) chances in [0, 1] that each answer is right; NaN where a probability is not a finite number.

        Args:
            matrix: (rows, width) rows as `Encoder` makes them.
            probabilities: (rows, classes) the model's answers to them.
        """
        inputs = error_inputs(matrix, probabilities)
        found = np.empty(len(inputs))
        for start in range(0, len(inputs), _CHUNK_ROWS):
            chunk = self._session.run(inputs[start : start + _CHUNK_ROWS])
            found[start : start + _CHUNK_ROWS] = np.clip(chunk[:, 0], 0.0, 1.0)
        found[~np.isfinite(probabilities).all(axis=1)] = np.nan
        return found


def error_inputs(matrix: Matrix, probabilities: NDArray[np.floating[Any]]) -> Matrix:
    """What the error model reads: (rows, width + 2) float32."""
    return np.concatenate([matrix, answer_columns(probabilities)], axis=1)


def answer_columns(probabilities: NDArray[np.floating[Any]]) -> Matrix:
    """(rows, 2) float32 of (rows, classes) answers: the logit of the highest probability, and its position.

    With two classes the logit is that of the second one, whose sign tells the answer: the highest one's, signed.
    """
    table = np.nan_to_num(np.asarray(probabilities, dtype=np.float64))
    sure = table[:, 1] if table.shape[1] == 2 else table.max(axis=1, initial=0.0)
    sure = np.clip(sure, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
    columns: Matrix = np.empty((len(table), ANSWER_COLUMNS), dtype=np.float32)
    columns[:, 0] = np.log(sure / (1.0 - sure))
    columns[:, 1] = np.argmax(table, axis=1) if len(table) else 0
    return columns
