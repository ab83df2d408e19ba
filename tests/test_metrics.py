from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from models.metrics import CALIBRATION_BINS, METRICS, evaluate, score


def _rows(classes: int, rows: int = 200, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Random answers with ties among the scores."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, rows)
    raw = np.round(generator.random((rows, classes)) + 0.5 * np.eye(classes)[y], 1) + 0.05
    return y, raw / raw.sum(axis=1, keepdims=True)


def _by_scikit_learn(y: NDArray[np.int64], p: NDArray[np.float64]) -> dict[str, float]:
    classes, two = p.argmax(axis=1), p.shape[1] == 2
    weighted = {"average": "weighted", "zero_division": 0}
    truth = np.eye(p.shape[1])[y]
    return {
        "accuracy": reference.accuracy_score(y, classes),
        "balanced_accuracy": reference.balanced_accuracy_score(y, classes),
        "precision": reference.precision_score(y, classes, **weighted),
        "recall": reference.recall_score(y, classes, **weighted),
        "f1": reference.f1_score(y, classes, **weighted),
        "f1_macro": reference.f1_score(y, classes, average="macro", zero_division=0),
        "roc_auc": reference.roc_auc_score(y, p[:, 1] if two else p, multi_class="ovr"),
        "pr_auc": reference.average_precision_score(y if two else truth, p[:, 1] if two else p),
        "log_loss": reference.log_loss(y, p),
        "brier": reference.brier_score_loss(y, p),
    }


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_metric_equals_scikit_learns(classes: int, seed: int) -> None:
    y, p = _rows(classes, seed=seed)
    ours = evaluate(y, p)
    for name, expected in _by_scikit_learn(y, p).items():
        assert ours[name] == pytest.approx(expected, abs=1e-12), name


def test_calibration_error_equals_its_definition_bin_by_bin() -> None:
    y, p = _rows(3)
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    total = 0.0
    for low in np.arange(CALIBRATION_BINS) / CALIBRATION_BINS:
        inside = (confidence > low) & (confidence <= low + 1 / CALIBRATION_BINS)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert score("ece", y, p) == pytest.approx(total)


def test_fault_12_accuracy_never_stands_alone_and_the_others_see_a_useless_model() -> None:
    """One positive in twenty and a model that always says no: accuracy praises it, the others do not."""
    y = np.zeros(1000, dtype=np.int64)
    y[::20] = 1
    found = evaluate(y, np.tile([0.95, 0.05], (1000, 1)))
    assert found["accuracy"] == 0.95
    assert found["balanced_accuracy"] == found["roc_auc"] == 0.5
    assert found["pr_auc"] == pytest.approx(0.05)
    assert set(found) >= {"log_loss", "brier", "ece"}


@pytest.mark.parametrize("classes", [2, 4])
def test_rows_of_one_class_have_no_roc_and_nothing_is_nan(classes: int) -> None:
    p = _rows(classes)[1][:10]
    found = evaluate(np.ones(10, dtype=np.int64), p)
    assert found["roc_auc"] is None
    assert all(value is None or np.isfinite(value) for value in found.values())


def test_two_classes_without_a_positive_have_no_precision_recall_curve() -> None:
    assert score("pr_auc", np.zeros(10, dtype=np.int64), _rows(2)[1][:10]) is None


def test_no_rows_define_no_metric() -> None:
    assert set(evaluate(np.zeros(0, dtype=np.int64), np.zeros((0, 2))).values()) == {None}


def test_a_probability_of_zero_for_the_truth_costs_much_but_not_infinitely_much() -> None:
    found = score("log_loss", np.array([0]), np.array([[0.0, 1.0]]))
    assert found == pytest.approx(36.04, abs=0.01)


def test_prefix_names_the_part_that_was_scored() -> None:
    assert set(evaluate(*_rows(2), prefix="test_")) == {f"test_{name}" for name in METRICS}


@given(rows=st.integers(1, 60), classes=st.integers(2, 6), seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_every_metric_stays_in_its_range(rows: int, classes: int, seed: int) -> None:
    highest = {"log_loss": 36.1, "brier": 2.0}
    for name, value in evaluate(*_rows(classes, rows, seed)).items():
        assert value is None or -1e-12 <= value <= highest.get(name, 1.0) + 1e-12
