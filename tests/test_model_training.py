from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.preprocessing import StandardScaler

from config.settings import Settings
from models.encoding import Matrix
from models.metrics import METRICS
from pipeline.errors import InputError
from pipeline.folds import make_folds, stratified_sample
from pipeline.model_training import CandidateResult, TrainingError, select, train_on_matrix
from pipeline.progress import Silent
from tests.made_tables import MadeTable, made_table, numeric_schema, quick_settings
from tests.pipelines import train_candidates


@pytest.fixture(scope="module")
def table() -> MadeTable:
    return made_table()


@pytest.fixture(scope="module")
def results(table: MadeTable) -> list[CandidateResult]:
    return train_candidates(table.frame, table.y, table.schema, quick_settings())


def _result(name: str, mean: float | None, metric: str = "f1", std: float = 0.1, status: str = "ok") -> CandidateResult:
    return CandidateResult(name=name, status=status, metric=metric, parameters={}, mean=mean, std=std)


def _only(name: str, **training: Any) -> Settings:
    return quick_settings(candidates=[name], **training)


def test_every_candidate_comes_back_fitted_with_every_metric_of_every_fold(results: list[CandidateResult]) -> None:
    assert [result.status for result in results] == ["ok"] * 4
    for result in results:
        assert [set(fold) for fold in result.fold_metrics] == [set(METRICS)] * 3
        assert result.pipeline is not None and result.seconds > 0
        assert result.mean == pytest.approx(np.mean([fold["log_loss"] for fold in result.fold_metrics]))


def test_the_pipeline_that_comes_back_answers_a_raw_table(table: MadeTable, results: list[CandidateResult]) -> None:
    for result in results:
        assert result.pipeline is not None
        assert result.pipeline.predict_proba(table.frame.iloc[:7]).shape == (7, 2)


def test_training_again_gives_the_same_answers_on_any_number_of_threads(
    table: MadeTable, results: list[CandidateResult]
) -> None:
    again = train_candidates(table.frame, table.y, table.schema, quick_settings(jobs=2))
    assert [result.fold_metrics for result in again] == [result.fold_metrics for result in results]


def test_fault_04_what_is_fitted_sees_the_training_part_of_each_fold_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scaler's mean in each fit is that of the fold's own training rows, and of all rows in the final one."""
    seen: list[float] = []
    fit = StandardScaler.fit

    def watched(self: StandardScaler, matrix: Matrix, y: object = None) -> StandardScaler:
        seen.append(float(np.mean(matrix[:, 0])))
        return fit(self, matrix, y)

    monkeypatch.setattr(StandardScaler, "fit", watched)
    x = np.arange(90, dtype=np.float32)[:, None] ** 2
    y = np.arange(90) % 2
    train_on_matrix(x, y, numeric_schema(1), _only("logistic_regression"))
    parts = [fold.train for fold in make_folds(y, 3, seed=42)]
    assert sorted(seen) == pytest.approx(sorted([*(float(x[rows].mean()) for rows in parts), float(x.mean())]))


def test_fault_06_selection_reads_cross_validation_and_nothing_else() -> None:
    """Labels without any meaning: a forest knows its training rows by heart and is ranked by the folds."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(300, 4)).astype(np.float32), generator.integers(0, 2, 300)
    settings = quick_settings(candidates=["random_forest", "logistic_regression"])
    forest, linear = results = train_on_matrix(x, y, numeric_schema(4), settings)
    assert [result.name for result in select(results)] == ["logistic_regression", "random_forest"]
    for fitted, bound in ((forest.pipeline, 0.95), (linear.pipeline, 0.0)):
        assert fitted is not None and fitted[1:].score(x, y) > bound
    assert linear.mean is not None and forest.mean is not None and 0.6 < linear.mean < forest.mean


def test_lower_is_better_for_losses() -> None:
    ranked = select([_result("a", 0.7, "log_loss"), _result("b", 0.2, "log_loss")])
    assert [result.name for result in ranked] == ["b", "a"]


def test_of_equals_the_less_varying_comes_first() -> None:
    assert select([_result("a", 0.7, std=0.2), _result("b", 0.7, std=0.1)])[0].name == "b"


def test_what_failed_or_has_no_score_is_not_selected() -> None:
    assert select([_result("a", None), _result("b", 0.9, status="failed")]) == []


def test_a_candidate_that_fails_is_reported_and_the_others_go_on(
    table: MadeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **named: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(RandomForestClassifier, "fit", broken)
    found = {result.name: result for result in train_candidates(table.frame, table.y, table.schema, quick_settings())}
    assert found["random_forest"].status == "failed" and found["random_forest"].pipeline is None
    assert found["random_forest"].reason == "RuntimeError: out of luck"
    assert [result.status for name, result in found.items() if name != "random_forest"] == ["ok"] * 3


def test_all_candidates_failing_names_each_reason(table: MadeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **named: object) -> None:
        raise MemoryError

    monkeypatch.setattr(RandomForestClassifier, "fit", broken)
    with pytest.raises(TrainingError, match="random_forest: not enough memory"):
        train_candidates(table.frame, table.y, table.schema, _only("random_forest"))


def test_a_wrong_parameter_stops_before_the_first_fit(table: MadeTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomForestClassifier, "fit", lambda *_, **__: pytest.fail("fitted"))
    with pytest.raises(InputError, match="trees"):
        train_candidates(
            table.frame, table.y, table.schema, _only("random_forest", parameters={"random_forest": {"trees": 3}})
        )


def test_a_slow_candidate_learns_from_a_sample_and_says_so() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2500, 2)).astype(np.float32)
    y = (x[:, 0] > 1).astype(np.int64)
    settings = quick_settings(candidates=["random_forest", "hist_gradient_boosting"], slow_candidate_rows=1000)
    slow, fast = train_on_matrix(x, y, numeric_schema(2), settings)
    assert slow.sampled_rows == pytest.approx(1000, abs=2) and fast.sampled_rows is None
    assert (
        slow.pipeline is not None
        and slow.pipeline["model"].estimators_[0].tree_.weighted_n_node_samples[0] == slow.sampled_rows
    )


def test_a_sample_keeps_the_share_of_each_class_and_a_row_of_the_rarest() -> None:
    y = np.repeat([0, 1, 2], [9000, 999, 1])
    sample = stratified_sample(y, 1000, seed=0)
    assert np.bincount(y[sample]).tolist() == [900, 100, 1]


def test_a_search_finds_better_parameters_and_counts_what_it_tried(table: MadeTable) -> None:
    space = {"hist_gradient_boosting": {"max_iter": [30], "learning_rate": [0.1, 0.2]}}
    settings = _only(
        "hist_gradient_boosting",
        search=space,
        parameters={"hist_gradient_boosting": {"max_iter": 1}},
        search_iterations=5,
    )
    (result,) = train_candidates(table.frame, table.y, table.schema, settings)
    assert result.settings_tried == 3 and result.parameters["max_iter"] == 30
    assert result.pipeline is not None and result.pipeline["model"].n_iter_ == 30


def test_one_broken_setting_of_a_search_does_not_break_the_candidate(
    table: MadeTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = RandomForestClassifier.fit

    def fails_when_deep(self: RandomForestClassifier, *args: Any, **named: Any) -> Any:
        if self.max_depth == 9:
            raise RuntimeError("too deep")
        return fit(self, *args, **named)

    monkeypatch.setattr(RandomForestClassifier, "fit", fails_when_deep)
    settings = _only("random_forest", search={"random_forest": {"max_depth": [2, 9]}})
    (result,) = train_candidates(table.frame, table.y, table.schema, settings)
    assert result.status == "ok" and result.parameters.get("max_depth") != 9


def test_rows_split_by_time_are_never_scored_by_a_model_of_later_rows() -> None:
    time = np.random.default_rng(0).permutation(np.repeat(np.arange(25.0), 4))
    folds = make_folds(np.arange(100) % 2, 4, seed=0, time=time)
    assert len(folds) == 4
    assert all(time[fold.train].max() < time[fold.test].min() for fold in folds)


def test_one_moment_for_all_rows_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match=r"fewer than two of the 3 cross-validation folds by time"):
        make_folds(np.arange(10) % 2, 3, seed=0, time=np.zeros(10))


def test_a_class_with_fewer_rows_than_folds_still_trains() -> None:
    generator = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [40, 40, 2])
    x = (y[:, None] + generator.normal(size=(82, 2))).astype(np.float32)
    results = train_on_matrix(x, y, numeric_schema(2, classes=3), quick_settings())
    assert [result.status for result in results] == ["ok"] * 4


def test_a_column_with_values_in_one_fold_only_fails_nobody() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(90, 2)).astype(np.float32)
    x[1:, 1] = np.nan
    results = train_on_matrix(x, (x[:, 0] > 0).astype(np.int64), numeric_schema(2), quick_settings())
    assert [result.reason for result in results] == [None] * 4


def test_a_linear_model_that_did_not_converge_says_so(table: MadeTable) -> None:
    settings = _only("logistic_regression", parameters={"logistic_regression": {"max_iter": 1}})
    (result,) = train_candidates(table.frame, table.y, table.schema, settings)
    assert result.notes and "did not converge in 1 iterations" in result.notes[0]


def test_the_display_hears_of_each_fold_and_each_candidate_once(table: MadeTable) -> None:
    class Heard(Silent):
        def __init__(self) -> None:
            self.started: dict[str, int] = {}
            self.folds: list[tuple[str, int]] = []
            self.done: list[str] = []

        def candidate_started(self, name: str, fits: int) -> None:
            self.started[name] = fits

        def fold_done(self, name: str, fold: int, score: float | None, seconds: float) -> None:
            self.folds.append((name, fold))

        def candidate_done(self, result: CandidateResult) -> None:
            self.done.append(result.name)

    settings = quick_settings(candidates=["logistic_regression", "hist_gradient_boosting"], jobs=2)
    heard = Heard()
    train_candidates(table.frame, table.y, table.schema, settings, heard)
    assert heard.started == {"logistic_regression": 4, "hist_gradient_boosting": 4}
    assert sorted(heard.folds) == [(name, fold) for name in sorted(heard.started) for fold in range(3)]
    assert sorted(heard.done) == sorted(heard.started)
