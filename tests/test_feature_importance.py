"""How much each feature matters to a model: what shuffling costs, in bounded work."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression

from models.bundle import REFERENCE
from models.encoding import Encoder, Matrix, RawColumn
from models.reference import decode_reference
from models.schema import DatePart, Feature, Schema
from pipeline.feature_importance import LEAST_ROWS, MOST_ANSWERS, MOST_ROWS, evenly, feature_importance, rows_for
from tests.trained import TrainedState, bundle_in

Answers = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


def numeric_schema(features: int) -> Schema:
    named = tuple(Feature(name=f"f{index}", kind="numeric") for index in range(features))
    return Schema(target="y", classes=(0, 1), features=named)


def table(
    rows: int, features: int, seed: int = 0
) -> tuple[list[RawColumn], np.ndarray[tuple[int], np.dtype[np.int64]]]:
    draw = np.random.default_rng(seed)
    columns: list[RawColumn] = [draw.normal(size=rows) for _ in range(features)]
    score = 2.0 * np.asarray(columns[0], dtype=np.float64) + np.asarray(columns[1], dtype=np.float64)
    return columns, (score + draw.logistic(size=rows) > 0).astype(np.int64)


def answers_of(model: LogisticRegression) -> object:
    return lambda matrix: model.predict_proba(matrix).astype(np.float32)


def test_it_is_that_of_scikit_learn_within_the_noise_of_one_shuffle() -> None:
    raw, y = table(1_000, 4)
    matrix = Encoder(numeric_schema(4)).encode(raw)
    model = LogisticRegression().fit(matrix, y)
    found = feature_importance(answers_of(model), numeric_schema(4), raw, y, 1)  # type: ignore[arg-type]
    means = permutation_importance(
        model, matrix, y, scoring="neg_log_loss", n_repeats=30, random_state=0
    ).importances_mean
    wanted = np.maximum(means, 0.0) / np.maximum(means, 0.0).sum()
    assert list(found.values()) == pytest.approx(wanted.tolist(), abs=0.05)
    assert sum(found.values()) == pytest.approx(1.0)


def test_a_feature_that_the_model_does_not_read_has_none_and_a_constant_model_gives_all_zero() -> None:
    raw, y = table(500, 3)
    one = feature_importance(lambda m: squash(m[:, 0]), numeric_schema(3), raw, y, 1)
    assert (one["f1"], one["f2"], one["f0"]) == (0.0, 0.0, 1.0)
    none = feature_importance(lambda m: squash(0.0 * m[:, 0]), numeric_schema(3), raw, y, 1)
    assert none == {"f0": 0.0, "f1": 0.0, "f2": 0.0}


def test_all_columns_of_a_feature_move_together() -> None:
    """The model reads month times weekday of one date; a shuffle of one part alone would cost it too."""
    parts: tuple[DatePart, ...] = ("month", "weekday")
    schema = Schema(
        target="y", classes=(0, 1),
        features=(Feature(name="x", kind="numeric"), Feature(name="day", kind="datetime", parts=parts)),
    )  # fmt: skip
    draw = np.random.default_rng(2)
    raw: list[RawColumn] = [draw.normal(size=400), draw.uniform(1.5e9, 1.6e9, 400)]
    seen: list[Matrix] = []

    def answer(matrix: Matrix) -> Answers:
        seen.append(matrix.copy())
        return squash(matrix[:, 0])

    feature_importance(answer, schema, raw, np.arange(400) % 2, 3)
    before, of_x, of_day = seen
    assert np.array_equal(of_x[:, 1:], before[:, 1:]) and not np.array_equal(of_x[:, 0], before[:, 0])
    pairs = {tuple(row) for row in before[:, 1:].tolist()}
    assert {tuple(row) for row in of_day[:, 1:].tolist()} == pairs


def test_the_same_seed_gives_the_same_shares() -> None:
    raw, y = table(300, 3)
    runs = [feature_importance(lambda m: squash(m[:, 0] + m[:, 1]), numeric_schema(3), raw, y, 5) for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.parametrize("features", [2, 10, 200, 1_500])
def test_the_work_is_bounded_however_many_features_there_are(features: int) -> None:
    raw, y = table(3_000, features)[0], np.arange(3_000) % 2
    answered: list[int] = []

    def answer(matrix: Matrix) -> Answers:
        answered.append(len(matrix))
        return squash(matrix[:, 0])

    feature_importance(answer, numeric_schema(features), raw, y, 1)
    assert max(answered) <= MOST_ROWS
    assert sum(answered) <= max(MOST_ANSWERS, LEAST_ROWS * features) + rows_for(features)


def test_rows_of_a_sorted_table_are_taken_from_all_of_it() -> None:
    (taken,) = evenly([np.arange(2_500.0)], 1_000)
    assert (len(taken), taken[0], taken[-1]) == (834, 0.0, 2_499.0)
    assert evenly([], 10) == []


def test_one_row_tells_nothing() -> None:
    assert feature_importance(lambda m: squash(m[:, 0]), numeric_schema(1), [np.ones(1)], np.zeros(1, int), 1) == {}


def test_a_registered_version_knows_what_its_model_reads_and_how_often_rows_are_warned_of(sample: TrainedState) -> None:
    reference = decode_reference(bundle_in(sample.home, "1", REFERENCE).extra[REFERENCE])
    assert reference.importance.keys() == set(sample.schema.feature_names)
    assert sum(reference.importance.values()) == pytest.approx(1.0)
    assert reference.warned is not None and reference.warned.rows == len(sample.prepared.test.rows)


def squash(score: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Answers:
    yes = 1.0 / (1.0 + np.exp(-2.0 * score))
    return np.column_stack([1.0 - yes, yes]).astype(np.float32)
