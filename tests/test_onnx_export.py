from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline

from models.encoding import Encoder
from models.frame import frame_to_raw
from models.runtime import TOLERANCE, OnnxSession
from models.schema import Feature, Schema
from pipeline.candidates import CANDIDATES, matrix_pipeline
from pipeline.data_processing import prepare
from pipeline.onnx_export import ConversionError, check_parity, edge_columns, edge_matrix, export_onnx, parity
from pipeline.onnx_graph import GROUPED_TREES
from pipeline.onnx_trees import rounded_down
from pipeline.table_reading import read_table
from tests.made_tables import MadeTable, made_table, numeric_schema, quick_settings
from tests.pipelines import candidate_pipeline, train_candidates

NAMES = tuple(CANDIDATES)
SMALL = {"random_forest": "n_estimators", "gradient_boosting": "n_estimators", "hist_gradient_boosting": "max_iter"}
#: What float32 answers can differ by when everything before them is equal.
LAST_DIGIT = 1.5e-7


def _fitted(name: str, table: MadeTable, **parameters: object) -> Pipeline:
    small = {SMALL[name]: 6} if name in SMALL else {}
    return candidate_pipeline(name, table.schema, {**small, **parameters}, seed=0).fit(table.frame, table.y)


@pytest.mark.parametrize("classes", [2, 3, 26])
@pytest.mark.parametrize("name", NAMES)
def test_onnx_answers_as_scikit_learn_does_on_test_rows_and_edge_rows(name: str, classes: int) -> None:
    fitted = _fitted(name, made_table(rows=400, classes=classes))
    unseen_rows = made_table(rows=500, classes=classes, seed=1)
    session = OnnxSession(export_onnx(fitted, unseen_rows.schema))
    assert check_parity(session.run, fitted, unseen_rows.schema, unseen_rows.matrix) <= LAST_DIGIT


@pytest.mark.parametrize("classes", [2, 3])
def test_a_forest_of_several_groups_answers_as_scikit_learn_does(classes: int) -> None:
    fitted = _fitted("random_forest", made_table(rows=300, classes=classes), n_estimators=2 * GROUPED_TREES + 3)
    unseen_rows = made_table(rows=500, classes=classes, seed=1)
    session = OnnxSession(export_onnx(fitted, unseen_rows.schema))
    assert check_parity(session.run, fitted, unseen_rows.schema, unseen_rows.matrix) <= 5e-7


def test_a_threshold_rounded_down_decides_every_float32_alike() -> None:
    random = np.random.default_rng(0)
    exact = random.normal(size=500) * 10.0 ** random.integers(-30, 30, 500)
    near = exact.astype(np.float32)
    for inputs in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))):
        np.testing.assert_array_equal(inputs <= rounded_down(exact), inputs.astype(np.float64) <= exact)


@pytest.mark.parametrize(("file", "target"), [("credit.csv", "Status"), ("penguins_raw.csv", "Species")])
def test_onnx_answers_as_scikit_learn_does_on_every_test_row_of_real_tables(
    file: str, target: str, real_tables: Path
) -> None:
    settings = quick_settings()
    settings = msgspec.structs.replace(settings, target_column=target)
    data = prepare(read_table(settings.data, real_tables / file), settings)
    train, test = data.split.train, data.split.test
    matrix = Encoder(data.schema).encode(frame_to_raw(data.schema, data.frame.take(test)))
    for result in train_candidates(data.frame.take(train), data.target[train], data.schema, settings):
        assert result.pipeline is not None
        session = OnnxSession(export_onnx(result.pipeline, data.schema))
        assert check_parity(session.run, result.pipeline, data.schema, matrix) <= LAST_DIGIT


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", NAMES)
def test_parity_holds_on_generated_matrices_of_any_scale(name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    width = int(generator.integers(1, 7))
    scales = 10.0 ** generator.integers(-20, 20, width)
    x = (generator.normal(size=(300, width)) * scales).astype(np.float32)
    x[generator.random(x.shape) < 0.1] = np.nan
    y = generator.integers(0, 3, 300)
    schema = numeric_schema(width, classes=3)
    fitted = matrix_pipeline(name, schema, {SMALL[name]: 5} if name in SMALL else {}, seed=0).fit(x, y)
    session = OnnxSession(export_onnx(fitted, schema))
    assert check_parity(session.run, fitted, schema, x) <= LAST_DIGIT


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting", "hist_gradient_boosting"])
def test_values_beside_a_threshold_fall_on_the_same_side(name: str) -> None:
    """Thresholds lie between neighbouring float32 values, where rounding them would move rows across."""
    steps = np.float32(1e6) + np.arange(200, dtype=np.float32) * np.spacing(np.float32(1e6))
    y = np.arange(200) % 2
    schema = numeric_schema(1)
    fitted = matrix_pipeline(name, schema, {"min_samples_leaf": 1}, seed=0).fit(steps[:, None], y)
    session = OnnxSession(export_onnx(fitted, schema))
    assert parity(session.run, fitted, steps[:, None]) <= LAST_DIGIT


def test_a_thousand_trees_do_not_drift() -> None:
    table = made_table()
    fitted = _fitted("random_forest", table, n_estimators=1000, max_depth=3)
    session = OnnxSession(export_onnx(fitted, table.schema))
    assert parity(session.run, fitted, table.matrix) <= LAST_DIGIT


@pytest.mark.parametrize("classes", [2, 4])
def test_other_losses_and_starts_of_boosting_convert(classes: int) -> None:
    table = made_table(classes=classes)
    fitted = _fitted("gradient_boosting", table, init="zero", **({"loss": "exponential"} if classes == 2 else {}))
    session = OnnxSession(export_onnx(fitted, table.schema))
    assert check_parity(session.run, fitted, table.schema, table.matrix) <= LAST_DIGIT


@pytest.mark.parametrize("name", NAMES)
def test_a_class_without_training_rows_gets_a_column_of_zeros(name: str) -> None:
    table = made_table(classes=3)
    table.y[table.y == 1] = 2
    fitted = _fitted(name, table)
    answers = OnnxSession(export_onnx(fitted, table.schema)).run(table.matrix)
    assert answers.shape == (300, 3) and not answers[:, 1].any()
    np.testing.assert_allclose(answers.sum(axis=1), 1.0, atol=1e-6)


def test_the_model_has_one_input_one_output_and_known_operators_only() -> None:
    table = made_table()
    model = onnx.load_from_string(export_onnx(_fitted("random_forest", table), table.schema))
    onnx.checker.check_model(model)
    assert [(value.name, len(value.type.tensor_type.shape.dim)) for value in model.graph.input] == [("X", 2)]
    assert [value.name for value in model.graph.output] == ["probabilities"]
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 21, "ai.onnx.ml": 3}


def test_one_row_is_answered_as_it_is_among_many() -> None:
    table = made_table()
    session = OnnxSession(export_onnx(_fitted("logistic_regression", table), table.schema))
    np.testing.assert_array_equal(session.run(table.matrix[:1]), session.run(table.matrix)[:1])


def test_an_estimator_that_is_not_known_is_a_conversion_error() -> None:
    table = made_table()
    fitted = _fitted("random_forest", table)
    fitted.steps[-1] = ("model", ExtraTreesClassifier(2).fit(np.zeros((4, 1)), [0, 1, 0, 1]))
    with pytest.raises(ConversionError, match="ExtraTreesClassifier has no ONNX form"):
        export_onnx(fitted, table.schema)


def test_categorical_splits_are_refused_instead_of_converted_wrong() -> None:
    codes = np.arange(100, dtype=np.float32)[:, None] % 4
    model = HistGradientBoostingClassifier(max_iter=2, categorical_features=[0]).fit(codes, codes[:, 0] % 2)
    with pytest.raises(ConversionError, match="categorical splits"):
        export_onnx(Pipeline([("model", model)]), numeric_schema(1))


def test_answers_that_differ_are_refused_with_the_difference() -> None:
    table = made_table()
    fitted = _fitted("logistic_regression", table)
    session = OnnxSession(export_onnx(fitted, table.schema))
    with pytest.raises(ConversionError, match=r"differ by 2e-05 on the test rows"):
        check_parity(lambda rows: session.run(rows) + 2 * TOLERANCE, fitted, table.schema, table.matrix)


def test_an_answer_that_is_no_number_never_passes() -> None:
    table = made_table()
    fitted = _fitted("logistic_regression", table)
    assert parity(lambda rows: np.full((len(rows), 2), np.nan), fitted, table.matrix) == np.inf


def test_edge_rows_hold_missing_unseen_and_extreme_alone_and_together() -> None:
    features = (
        Feature(name="n", kind="numeric", range=(0.0, 10.0)),
        Feature(name="c", kind="categorical", categories=("a", "b")),
    )
    rows = Encoder(Schema(target="y", classes=(0, 1), features=features)).encode(
        edge_columns(Schema(target="y", classes=(0, 1), features=features))
    )
    ordinary, unseen = (5.0, 0.0), -1.0
    assert tuple(rows[0]) == ordinary
    assert any(np.isnan(n) and c == 0 for n, c in rows) and any(np.isnan(n) and c == unseen for n, c in rows)
    assert any(n == 5 and c == unseen for n, c in rows) and any(n == 110 for n, _ in rows)


def test_edge_rows_encode_to_finite_or_missing_values_for_every_kind() -> None:
    matrix = edge_matrix(made_table().schema)
    assert not np.isinf(matrix).any() and len(matrix) > 40
