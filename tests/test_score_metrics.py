"""Metrics of live probabilities against scikit-learn, and how often their intervals hold the truth."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.random import Generator
from sklearn import metrics as reference

from monitoring.intervals import Numbers
from monitoring.labelled_sample import LabelledSample, empty_sample
from monitoring.score_metrics import SCORE_METRICS, LossSums, score_figures, score_intervals


def draw_rows(rows: int, draw: Generator, classes: int = 2, sharpness: float = 1.0) -> tuple[Numbers, Numbers]:
    """Classes drawn by true probabilities, and the model's, which are those to the power of `sharpness`."""
    raw = np.exp(1.5 * draw.normal(size=(rows, classes)))
    true = raw / raw.sum(1, keepdims=True)
    actual = (true.cumsum(1) > draw.random((rows, 1))).argmax(1)
    given = true**sharpness
    return actual, given / given.sum(1, keepdims=True)


def sample_of(actual: Numbers, probability: Numbers) -> tuple[LossSums, LabelledSample]:
    y, rows = actual.astype(np.int64), len(actual)
    truth = np.eye(probability.shape[1])[y]
    loss, brier = -np.log(probability[np.arange(rows), y]), np.square(probability - truth).sum(1)
    sample = LabelledSample(
        of_rows=rows, days=np.zeros(rows, np.int64), delay_seconds=np.zeros(rows),
        right=probability.argmax(1) == y, confidence=probability.max(1), actual=y, probability=probability,
        log_loss=loss, brier=brier,
    )  # fmt: skip
    return LossSums(rows, float(loss.sum()), float(brier.sum())), sample


@pytest.mark.parametrize("seed", range(3))
def test_with_two_classes_metrics_are_those_of_scikit_learn(seed: int) -> None:
    actual, probability = draw_rows(400, np.random.default_rng(seed))
    figures = score_figures(*sample_of(actual, probability))
    scores = probability[:, 1]
    assert figures["roc_auc"] == pytest.approx(reference.roc_auc_score(actual, scores))
    assert figures["pr_auc"] == pytest.approx(reference.average_precision_score(actual, scores))
    assert figures["log_loss"] == pytest.approx(reference.log_loss(actual, probability))
    assert figures["brier"] == pytest.approx(reference.brier_score_loss(actual, scores))


@pytest.mark.parametrize("seed", range(3))
def test_with_many_classes_metrics_are_those_of_scikit_learn(seed: int) -> None:
    actual, probability = draw_rows(400, np.random.default_rng(seed), 4)
    figures = score_figures(*sample_of(actual, probability))
    assert figures["roc_auc"] == pytest.approx(
        reference.roc_auc_score(actual, probability, multi_class="ovr", average="macro")
    )
    truth = np.eye(4)[actual.astype(int)]
    assert figures["pr_auc"] == pytest.approx(reference.average_precision_score(truth, probability))
    assert figures["brier"] == pytest.approx(np.square(probability - truth).sum(1).mean())


def test_the_calibration_error_is_that_of_a_plain_loop() -> None:
    actual, probability = draw_rows(500, np.random.default_rng(1), 3, 2.0)
    confidence, right = probability.max(1), probability.argmax(1) == actual
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15)
        expected += abs(right[inside].sum() - confidence[inside].sum()) / 500
    assert score_figures(*sample_of(actual, probability))["ece"] == pytest.approx(expected)


def test_without_rows_nothing_is_known() -> None:
    nothing = LossSums(), empty_sample()
    assert score_figures(*nothing) == dict.fromkeys(SCORE_METRICS)
    assert score_intervals(*nothing, np.random.default_rng(0)) == dict.fromkeys(SCORE_METRICS)


def test_one_class_alone_has_no_ranking_and_no_interval_of_one() -> None:
    _, probability = draw_rows(50, np.random.default_rng(0))
    sums, sample = sample_of(np.zeros(50), probability)
    figures, intervals = score_figures(sums, sample), score_intervals(sums, sample, np.random.default_rng(0))
    assert (figures["roc_auc"], intervals["roc_auc"]) == (None, None)
    assert figures["log_loss"] is not None and intervals["log_loss"] is not None


def test_a_perfect_ranking_has_no_interval_that_resampling_could_tell() -> None:
    actual = np.repeat([0.0, 1.0], 20)
    sums, sample = sample_of(actual, np.where(actual[:, None] == [0, 1], 0.9, 0.1))
    assert score_figures(sums, sample)["roc_auc"] == 1.0
    assert score_intervals(sums, sample, np.random.default_rng(0))["roc_auc"] is None


def test_losses_of_all_rows_have_narrower_intervals_than_those_of_the_sample() -> None:
    sums, sample = sample_of(*draw_rows(300, np.random.default_rng(2)))
    all_rows = LossSums(sums.rows * 100, sums.log_loss * 100, sums.brier * 100)
    few, many = (score_intervals(one, sample, np.random.default_rng(0))["log_loss"] for one in (sums, all_rows))
    assert few is not None and many is not None
    assert (many[1] - many[0]) * 10 == pytest.approx(few[1] - few[0])


@pytest.mark.parametrize(("classes", "sharpness"), [(2, 1.0), (2, 2.0), (3, 1.5)])
def test_intervals_hold_the_truth_in_95_of_100_simulations(classes: int, sharpness: float) -> None:
    """Of the calibration error at least so often. Its truth for a calibrated model is 0."""
    draw = np.random.default_rng(classes)
    truth = score_figures(*sample_of(*draw_rows(500_000, draw, classes, sharpness)))
    truth["ece"] = 0.0 if sharpness == 1.0 else truth["ece"]
    held: Counter[str] = Counter()
    rounds = 200 if classes == 2 else 80
    for _ in range(rounds):
        intervals = score_intervals(*sample_of(*draw_rows(500, draw, classes, sharpness)), draw)
        for name, interval in intervals.items():
            held[name] += interval is not None and interval[0] <= (truth[name] or 0.0) <= interval[1]
    assert held["ece"] >= 0.93 * rounds
    assert all(0.89 <= held[name] / rounds <= 0.99 for name in SCORE_METRICS if name != "ece"), held
