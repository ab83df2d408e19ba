"""The error model: what it is fitted on and judged by, and that its ONNX form answers as scikit-learn does."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.model_selection import cross_val_predict

from models.error_model import ErrorModel, answer_columns, error_inputs
from models.runtime import TOLERANCE
from models.schema import Schema
from pipeline import error_basis, error_training
from pipeline.candidates import matrix_pipeline
from pipeline.error_basis import learn_basis
from pipeline.error_training import MOST_ROWS, AnsweredRows, fit_error_model, held_out, kept_rows
from pipeline.folds import make_folds
from pipeline.model_training import train_on_matrix
from pipeline.onnx_export import edge_matrix
from tests.made_errors import answered, unsure
from tests.made_tables import made_table, numeric_schema, quick_settings


@pytest.mark.parametrize("classes", [2, 3, 14])
def test_onnx_and_scikit_learn_estimate_alike(classes: int) -> None:
    schema, rows = answered(3_000, classes, 1)
    held = answered(1_000, classes, 2)[1]
    found = fit_error_model(schema, rows, held, len(rows))
    assert found is not None
    errors = ErrorModel(found[0].export())
    edges = edge_matrix(schema)
    for matrix in (held.matrix, edges):
        p = unsure(np.arange(len(matrix)) % classes, classes, np.random.default_rng(3))
        p[0] = 0.0
        p[0, -1] = 1.0  # as sure as can be
        estimates = errors.estimates(matrix, p)
        assert np.max(np.abs(estimates - found[0].estimate(error_inputs(matrix, p)))) < TOLERANCE
        assert estimates.min() >= 0 and estimates.max() <= 1


def test_many_rows_are_fitted_in_little_memory_and_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    schema, rows = answered(3_000, 2, 1)
    held = answered(1_000, 2, 2)[1]
    estimates = []
    for limit in (error_training._MOST_NEWTON_BYTES, 0):
        monkeypatch.setattr(error_training, "_MOST_NEWTON_BYTES", limit)
        found = fit_error_model(schema, rows, held, len(rows))
        assert found is not None
        estimates.append((found[0].model.solver, found[0].estimate(held.inputs)))
    (exact, first), (frugal, second) = estimates
    assert (exact, frugal) == ("newton-cholesky", "lbfgs")
    assert np.max(np.abs(first - second)) < 0.01


def test_it_tells_wrong_answers_better_than_the_models_own_probability() -> None:
    random = np.random.default_rng(5)

    def draw(rows: int) -> AnsweredRows:
        x = random.normal(size=(rows, 3)).astype(np.float32)
        actual = (random.random(rows) < 1 / (1 + np.exp(-2 * x[:, 0] - 2 * x[:, 1] * x[:, 2]))).astype(np.int64)
        second = 1 / (1 + np.exp(-2 * x[:, 0].astype(np.float64)))  # a model that has not seen the product
        return AnsweredRows(x, answer_columns(np.column_stack([1 - second, second])), actual)

    found = fit_error_model(numeric_schema(3), draw(6_000), draw(2_000), 6_000)
    assert found is not None
    profile = found[1]
    assert profile.brier < 0.9 * profile.confidence_brier < profile.constant_brier
    assert (profile.rows, profile.out_of_fold_rows, profile.held_out_rows) == (8_000, 6_000, 2_000)
    assert abs(profile.held_out_gap) < 0.03


def test_it_is_judged_on_rows_that_it_was_not_fitted_on() -> None:
    random = np.random.default_rng(6)

    def noise(rows: int) -> AnsweredRows:
        second = random.uniform(0.3, 0.7, rows)
        actual = random.integers(0, 2, rows)  # nothing tells which answers are right
        matrix = random.normal(size=(rows, 20)).astype(np.float32)
        return AnsweredRows(matrix, answer_columns(np.column_stack([1 - second, second])), actual)

    assert fit_error_model(numeric_schema(20), noise(500), noise(500), 500) is None


def test_with_too_few_mistakes_there_is_none() -> None:
    schema, rows = answered(400, 2, 7)
    right = np.flatnonzero(rows.right)
    perfect = AnsweredRows(rows.matrix[right], rows.answers[right], rows.actual[right])
    assert fit_error_model(schema, rows, perfect, 400) is None
    assert fit_error_model(schema, perfect, rows, 400) is None
    nothing = AnsweredRows(rows.matrix[:0], rows.answers[:0], rows.actual[:0])
    assert fit_error_model(schema, rows, nothing, 400) is None


def test_of_many_rows_a_bounded_random_part_is_kept() -> None:
    assert np.array_equal(kept_rows(7, 1), np.arange(7))
    kept = kept_rows(300_000, 1)
    assert len(kept) == MOST_ROWS and np.all(np.diff(kept) > 0) and kept[-1] > 290_000
    many = held_out(np.zeros((50_000, 1), np.float32), np.full((50_000, 2), 0.5), np.zeros(50_000, np.int64), 1)
    assert len(many) == MOST_ROWS


def test_out_of_fold_answers_are_those_of_cross_validation() -> None:
    table = made_table(300, seed=3)
    settings = quick_settings(candidates=["logistic_regression"])
    result = train_on_matrix(table.matrix, table.y, table.schema, settings)[0]
    assert result.answers is not None
    order = np.argsort(result.answers.rows)
    assert np.array_equal(result.answers.rows[order], np.arange(300))
    seed = settings.data_split.random_state
    model = matrix_pipeline("logistic_regression", table.schema, {}, seed)
    folds = [(fold.train, fold.test) for fold in make_folds(table.y, 3, seed)]
    p = cross_val_predict(model, table.matrix, table.y, cv=folds, method="predict_proba")
    assert np.allclose(result.answers.answers[order], answer_columns(p), atol=1e-4)


def test_going_forward_in_time_only_folds_that_learnt_from_half_of_the_rows_speak() -> None:
    table = made_table(400, seed=4)
    settings = quick_settings(candidates=["logistic_regression"])
    result = train_on_matrix(table.matrix, table.y, table.schema, settings, time=np.arange(400.0))[0]
    assert result.answers is not None
    assert result.answers.rows.min() == 200 and len(result.answers.rows) == 200


def test_the_second_classes_logit_is_signed_and_more_classes_give_their_highest() -> None:
    two = answer_columns(np.array([[0.9, 0.1], [0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]))
    assert two[:, 0] == pytest.approx(np.log([1 / 9, 3, 1, 1e-6 / (1 - 1e-6)]), abs=1e-5)
    assert two[:, 1].tolist() == [0, 1, 0, 0]
    three = answer_columns(np.array([[0.2, 0.6, 0.2]]))
    assert three[0].tolist() == pytest.approx([np.log(1.5), 1.0])
    assert answer_columns(np.empty((0, 3))).shape == (0, 2)


def test_an_answer_that_is_no_number_has_no_estimate() -> None:
    schema, rows = answered(2_000, 2, 8)
    found = fit_error_model(schema, rows, answered(500, 2, 9)[1], 2_000)
    assert found is not None
    estimates = ErrorModel(found[0].export()).estimates(rows.matrix[:2], np.array([[np.nan, 0.5], [0.5, 0.5]]))
    assert np.isnan(estimates[0]) and 0 <= estimates[1] <= 1
    assert ErrorModel(found[0].export()).estimates(rows.matrix[:0], np.empty((0, 2))).shape == (0,)


def test_columns_that_say_nothing_are_left_out_and_many_are_not_all_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(10)
    matrix = random.normal(size=(500, 6)).astype(np.float32)
    matrix[:, 1], matrix[:, 2] = 7.0, np.nan
    target = matrix[:, 4] * matrix[:, 4] > 1
    inputs = np.hstack([matrix, random.normal(size=(500, 2)).astype(np.float32)])
    basis = learn_basis(numeric_schema(6), inputs, target)
    assert basis.numbers.tolist() == [0, 3, 4, 5] and len(basis.first) == 10
    monkeypatch.setattr(error_basis, "MOST_CROSSED", 1)
    few = learn_basis(numeric_schema(6), inputs, target)
    assert few.numbers[few.first].tolist() == few.numbers[few.second].tolist() == [4]
    assert np.isfinite(basis.design(inputs)).all()


def test_a_row_of_nothing_but_its_answer_still_has_an_estimate() -> None:
    random = np.random.default_rng(11)

    def rows(count: int) -> AnsweredRows:
        second = random.random(count)
        actual = (random.random(count) < second).astype(np.int64)
        answers = answer_columns(np.column_stack([1 - second, second]))
        return AnsweredRows(np.full((count, 1), 3.0, np.float32), answers, actual)

    found = fit_error_model(Schema(target="y", classes=(0, 1), features=numeric_schema(1).features), rows(4_000),
                            rows(1_000), 4_000)  # fmt: skip
    assert found is not None
    p = np.array([[0.1, 0.9], [0.7, 0.3]])
    estimates = ErrorModel(found[0].export()).estimates(np.full((2, 1), 3.0, np.float32), p)
    assert estimates == pytest.approx([0.9, 0.7], abs=0.03)
