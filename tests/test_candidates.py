from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.schema import Feature, Schema
from pipeline.candidates import CANDIDATES, check_search_space, matrix_pipeline, unreadable_columns
from pipeline.errors import InputError
from tests.made_tables import MadeTable, made_table
from tests.pipelines import candidate_pipeline

NAMES = tuple(CANDIDATES)
SMALL = {"random_forest": "n_estimators", "gradient_boosting": "n_estimators", "hist_gradient_boosting": "max_iter"}


@pytest.fixture(scope="module")
def table() -> MadeTable:
    return made_table()


def _small(name: str) -> dict[str, int]:
    return {SMALL[name]: 5} if name in SMALL else {}


@pytest.mark.parametrize("name", NAMES)
def test_fault_01_one_fitted_pipeline_answers_raw_rows_with_several_categorical_columns(
    name: str, table: MadeTable
) -> None:
    fitted = candidate_pipeline(name, table.schema, _small(name), seed=1).fit(table.frame, table.y)
    answers = fitted.predict_proba(table.frame.iloc[:5])
    assert answers.shape == (5, 2)
    np.testing.assert_allclose(answers.sum(axis=1), 1.0)


@pytest.mark.parametrize("encoding", ["one_hot", "target"])
@pytest.mark.parametrize("name", NAMES)
def test_fault_02_the_order_of_the_alphabet_decides_nothing(name: str, encoding: str) -> None:
    """Renaming the categories so that they sort the other way round leaves every answer as it was."""
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 4, 400)
    y = (generator.random(400) < np.array([0.9, 0.1, 0.8, 0.2])[codes]).astype(np.int64)

    def answers(levels: tuple[str, ...]) -> np.ndarray:
        feature = Feature(name="c", kind="categorical", categories=tuple(sorted(levels)), encoding=encoding)  # type: ignore[arg-type]
        schema = Schema(target="y", classes=(0, 1), features=(feature,))
        frame = pd.DataFrame({"c": np.array(levels)[codes]})
        parameters = {"max_features": None, "n_estimators": 5} if name == "random_forest" else _small(name)
        fitted = candidate_pipeline(name, schema, parameters, seed=0).fit(frame, y)
        return np.asarray(fitted.predict_proba(frame))

    np.testing.assert_allclose(answers(("a", "b", "c", "d")), answers(("d", "c", "b", "a")), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_fault_03_a_category_never_seen_predicts(name: str, table: MadeTable) -> None:
    fitted = candidate_pipeline(name, table.schema, _small(name), seed=1).fit(table.frame, table.y)
    strange = table.frame.iloc[:1].assign(city="Atlantis", shop="never heard of")
    assert np.isfinite(fitted.predict_proba(strange)).all()


@pytest.mark.parametrize("name", ["random_forest", "logistic_regression"])
def test_fault_05_gaps_are_filled_with_training_medians(name: str, table: MadeTable) -> None:
    """A gap is answered like the training median, whatever the other rows of the request hold."""
    fitted = candidate_pipeline(name, table.schema, _small(name), seed=1).fit(table.frame, table.y)
    row = table.frame.iloc[:1]
    gap, other = row.assign(amount=np.nan), row.assign(amount=1e6)
    alone = fitted.predict_proba(gap)[0]
    together = fitted.predict_proba(pd.concat([gap, other, other]))[0]
    at_median = fitted.predict_proba(row.assign(amount=table.frame["amount"].median()))[0]
    np.testing.assert_array_equal(alone, together)
    np.testing.assert_allclose(alone, at_median, atol=1e-6)


def test_only_the_linear_model_is_scaled(table: MadeTable) -> None:
    scaled = [name for name in NAMES if "StandardScaler" in str(matrix_pipeline(name, table.schema, {}, seed=0))]
    assert scaled == ["logistic_regression"]


def test_histogram_boosting_reads_missing_numbers_itself(table: MadeTable) -> None:
    assert "SimpleImputer" not in str(matrix_pipeline("hist_gradient_boosting", table.schema, {}, seed=0))


def test_an_unknown_parameter_is_refused_with_candidate_and_name(table: MadeTable) -> None:
    with pytest.raises(InputError, match=r"training\.parameters\.random_forest\.trees: there is no such parameter"):
        candidate_pipeline("random_forest", table.schema, {"trees": 10}, seed=0)


def test_a_value_that_scikit_learn_refuses_is_refused_before_any_fit(table: MadeTable) -> None:
    with pytest.raises(InputError, match=r"training\.parameters\.gradient_boosting\.n_estimators: .* Got -5"):
        candidate_pipeline("gradient_boosting", table.schema, {"n_estimators": -5}, seed=0)


@pytest.mark.parametrize("parameter", ["random_state", "n_jobs", "categorical_features"])
def test_parameters_that_the_product_manages_are_refused(parameter: str, table: MadeTable) -> None:
    name = "hist_gradient_boosting" if parameter == "categorical_features" else "random_forest"
    with pytest.raises(InputError, match=parameter):
        candidate_pipeline(name, table.schema, {parameter: 1}, seed=0)


def test_an_empty_search_space_means_the_candidates_own() -> None:
    assert check_search_space("logistic_regression", {}) == CANDIDATES["logistic_regression"].search_space


@pytest.mark.parametrize(
    ("space", "message"), [({"C": []}, "list of values"), ({"C": [-1.0]}, "C"), ({"depth": [1]}, "depth")]
)
def test_a_wrong_search_space_is_refused(space: dict[str, list[float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_search_space("logistic_regression", space)


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_a_default_search_space_is_accepted(name: str) -> None:
    assert check_search_space(name, {}) == CANDIDATES[name].search_space


def test_columns_without_any_value_are_left_out_where_nothing_imputes() -> None:
    matrix = np.array([[1, np.nan], [2, np.nan]], dtype=np.float32)
    assert unreadable_columns("hist_gradient_boosting", matrix) == [1]
    assert unreadable_columns("random_forest", matrix) == []
