"""Fits the error model of a registration: which answers are right, learnt where the model had not seen the rows.

Training rows are taken with the answers of cross-validation, held-out rows with the served model's own. With two
classes a logistic regression corrects the model's own logit by the row (it tells the second class, and the chance of
being right follows from the answer); with more it tells 'right' from the logit, the answered class and the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.encoding import Matrix
from models.error_model import ErrorModelProfile, answer_columns
from models.metrics import Labels
from models.schema import Schema
from pipeline.error_basis import Basis, learn_basis
from pipeline.folds import Indices
from pipeline.onnx_errors import export_error_model

#: Rows taken of each kind: more cost time and memory, and the estimate is no better for them.
MOST_ROWS = 10_000
#: With fewer mistakes (or right answers) there is nothing to learn from.
LEAST_MISTAKES = 30
#: Inverse strength of the penalty.
_C = 0.1
#: Newton's steps are few and exact, but each copies the design, and takes time by the square of its columns.
_MOST_NEWTON_BYTES = 32 * 2**20


@dataclass(frozen=True)
class AnsweredRows:
    """Rows that the answering model had not seen: (rows, width) encoded, (rows, 2) `answer_columns`, actual classes."""

    matrix: Matrix
    answers: Matrix
    actual: Labels

    @property
    def inputs(self) -> Matrix:
        return np.hstack([self.matrix, self.answers])

    @property
    def right(self) -> NDArray[np.bool_]:
        return np.asarray(self.answers[:, 1] == self.actual)

    def __len__(self) -> int:
        return len(self.actual)


@dataclass(frozen=True)
class FittedErrors:
    """A fitted error model; `estimate` is what its ONNX form answers."""

    basis: Basis
    model: LogisticRegression
    width: int
    two_classes: bool

    def estimate(self, inputs: Matrix) -> NDArray[np.float64]:
        """(rows,) chances that the answers are right."""
        told: NDArray[np.float64] = self.model.predict_proba(self.basis.design(inputs))[:, 1]
        if not self.two_classes:
            return told
        return np.where(inputs[:, self.basis.logit] > 0, told, 1.0 - told)

    def export(self) -> bytes:
        return export_error_model(self.basis, self.model, self.width, two_classes=self.two_classes)


def kept_rows(rows: int, seed: int) -> Indices:
    """Sorted positions of the training rows, at most `MOST_ROWS`, whose out-of-fold answers are kept."""
    if rows <= MOST_ROWS:
        return np.arange(rows)
    return np.sort(np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False))


def held_out(matrix: Matrix, probabilities: NDArray[np.floating[Any]], actual: Labels, seed: int) -> AnsweredRows:
    """The held-out rows with the served model's answers, a random part of very many."""
    rows = kept_rows(len(actual), seed)
    return AnsweredRows(matrix[rows], answer_columns(probabilities[rows]), actual[rows])


def fit_error_model(
    schema: Schema, out_of_fold: AnsweredRows, held: AnsweredRows, training_rows: int
) -> tuple[FittedErrors, ErrorModelProfile] | None:
    """The error model of all rows and what is known of it; None when there are too few mistakes, or right answers, on
    either side to fit one and to judge it, or when it is no better on the held-out rows than a constant."""
    if min(map(_rarer, (out_of_fold, held))) < LEAST_MISTAKES:
        return None
    basis = learn_basis(schema, out_of_fold.inputs, _target(schema, out_of_fold))
    design = basis.design(out_of_fold.inputs)
    largest = (len(out_of_fold) + len(held)) * design.shape[1] * design.itemsize
    solver = "newton-cholesky" if largest <= _MOST_NEWTON_BYTES else "lbfgs"
    model = LogisticRegression(C=_C, solver=solver, max_iter=200, warm_start=True)
    fitted = FittedErrors(basis, model, held.inputs.shape[1], len(schema.classes) == 2)
    model.fit(design, _target(schema, out_of_fold))
    del design
    profile = _judged(fitted, schema, out_of_fold, held, training_rows)
    if profile.brier >= profile.constant_brier:
        return None
    both = np.vstack([out_of_fold.inputs, held.inputs])
    model.fit(basis.design(both), np.concatenate([_target(schema, out_of_fold), _target(schema, held)]))
    return fitted, profile


def _rarer(rows: AnsweredRows) -> int:
    right = int(rows.right.sum())
    return min(right, len(rows) - right)


def _target(schema: Schema, rows: AnsweredRows) -> NDArray[np.int64]:
    return np.asarray(rows.actual == 1 if len(schema.classes) == 2 else rows.right, dtype=np.int64)


def _judged(
    fitted: FittedErrors, schema: Schema, out_of_fold: AnsweredRows, held: AnsweredRows, training_rows: int
) -> ErrorModelProfile:
    """On the held-out rows, which the model is not fitted on yet."""
    right = held.right.astype(np.float64)
    estimates = fitted.estimate(held.inputs)
    share = float(out_of_fold.right.mean())
    rows = len(out_of_fold) + len(held)
    return ErrorModelProfile(
        rows=rows,
        out_of_fold_rows=len(out_of_fold),
        held_out_rows=len(held),
        training_rows=training_rows,
        accuracy=(float(out_of_fold.right.sum()) + float(right.sum())) / rows,
        brier=float(np.mean((estimates - right) ** 2)),
        constant_brier=float(np.mean((share - right) ** 2)),
        confidence_brier=float(np.mean((_confidence(schema, held) - right) ** 2)),
        held_out_gap=float(estimates.mean() - right.mean()),
    )


def _confidence(schema: Schema, rows: AnsweredRows) -> NDArray[np.float64]:
    """The highest probability."""
    logit = rows.answers[:, 0].astype(np.float64)
    return 1.0 / (1.0 + np.exp(-(np.abs(logit) if len(schema.classes) == 2 else logit)))
