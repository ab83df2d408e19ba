"""Metrics of counted outcomes against scikit-learn, and how often their intervals hold the truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from models.schema import ClassLabel
from monitoring.confusion import COUNT_METRICS, ClassIndex, Confusion, confusion_of
from monitoring.intervals import percentile_interval, wilson_interval
from monitoring.outcome_records import OutcomeCount

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def counts_of(actual: Sequence[ClassLabel], predicted: Sequence[ClassLabel]) -> list[OutcomeCount]:
    return [
        OutcomeCount(
            since=NOON, model_version="1", predicted=guess, actual=truth, rows=rows,
            delay_seconds=0, scored_rows=0, log_loss=0.0, brier=0.0,
        )
        for (truth, guess), rows in Counter(zip(actual, predicted, strict=True)).items()
    ]  # fmt: skip


def counted(actual: Sequence[ClassLabel], predicted: Sequence[ClassLabel], classes: Sequence[ClassLabel]) -> Confusion:
    return confusion_of(counts_of(actual, predicted), ClassIndex(classes, predicted))


def of_matrix(rows: Sequence[Sequence[int]]) -> Confusion:
    return Confusion(np.pad(np.array(rows, dtype=np.int64), ((0, 1), (0, 1))))


@pytest.mark.parametrize("classes", [("no", "yes"), ("a", "b", "c", "d")])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_scikit_learn(classes: tuple[str, ...], seed: int) -> None:
    draw = np.random.default_rng(seed)
    actual = draw.choice(classes, 200).tolist()
    predicted = [truth if keep else guess for truth, keep, guess in zip(
        actual, draw.random(200) < 0.7, draw.choice(classes, 200).tolist(), strict=True
    )]  # fmt: skip
    weighted = {"average": "weighted", "zero_division": 0}
    assert counted(actual, predicted, classes).figures() == pytest.approx(
        {
            "accuracy": reference.accuracy_score(actual, predicted),
            "precision": reference.precision_score(actual, predicted, **weighted),
            "recall": reference.recall_score(actual, predicted, **weighted),
            "f1_score": reference.f1_score(actual, predicted, **weighted),
            "f1_macro": reference.f1_score(actual, predicted, average="macro"),
            "balanced_accuracy": reference.balanced_accuracy_score(actual, predicted),
        }
    )


def test_without_rows_nothing_is_known() -> None:
    nothing = counted([], [], ("no", "yes"))
    assert nothing.figures() == dict.fromkeys(COUNT_METRICS)
    assert nothing.intervals(np.random.default_rng(0)) == dict.fromkeys(COUNT_METRICS)


def test_a_label_of_no_known_class_is_a_wrong_answer_and_no_class_of_its_own() -> None:
    actual, predicted = ["no"] * 6 + ["yes"] * 3 + ["maybe"], ["no"] * 6 + ["yes"] * 3 + ["yes"]
    confusion = counted(actual, predicted, ("no", "yes"))
    figures = confusion.figures()
    assert (confusion.unknown, figures["accuracy"], figures["balanced_accuracy"]) == (1, 0.9, 1.0)
    expected = reference.f1_score(actual, predicted, average="weighted", zero_division=0)
    assert figures["f1_score"] == pytest.approx(expected)


def test_labels_that_python_takes_for_equal_are_told_apart() -> None:
    labels: tuple[ClassLabel, ...] = (1, True, "1")
    counts = [count for label in labels for count in counts_of([label], [1])]
    assert confusion_of(counts, ClassIndex((1,))).unknown == 2


def test_what_was_predicted_is_known_although_the_bundle_is_not_here() -> None:
    assert counted(["a", "b"], ["a", "a"], ()).figures()["accuracy"] == 0.5
    assert counted(["a", "b"], ["a", "a"], ()).unknown == 1


def test_with_one_class_alone_each_figure_and_interval_is_defined() -> None:
    only = of_matrix([[40, 0], [0, 0]])
    assert only.figures() == dict.fromkeys(COUNT_METRICS, 1.0)
    intervals = only.intervals(np.random.default_rng(0))
    assert intervals.pop("precision") is None  # nothing else that could have been taken for the class
    for interval in intervals.values():
        assert interval is not None
        assert 0.8 < interval[0] < interval[1] == pytest.approx(1.0)


@given(cells=st.lists(st.integers(0, 40), min_size=9, max_size=9))
def test_an_interval_holds_its_figure_and_stays_between_zero_and_one(cells: list[int]) -> None:
    confusion = of_matrix(np.array(cells).reshape(3, 3).tolist())
    figures = confusion.figures()
    for name, interval in confusion.intervals(np.random.default_rng(1)).items():
        figure = figures[name]
        if figure is not None and interval is not None:
            assert -1e-9 <= interval[0] <= figure + 1e-9
            assert figure - 1e-9 <= interval[1] <= 1 + 1e-9


@pytest.mark.parametrize("rows", [200, 1000])
@pytest.mark.parametrize(
    "shares",
    [
        ((0.6, 0.05), (0.1, 0.25)),
        ((0.9, 0.02), (0.03, 0.05)),
        ((0.3, 0.05, 0.02), (0.05, 0.28, 0.02), (0.05, 0.03, 0.2)),
    ],
)  # fmt: skip
def test_intervals_hold_the_truth_in_95_of_100_simulations(rows: int, shares: tuple[tuple[float, ...], ...]) -> None:
    draw = np.random.default_rng(rows)
    truth = of_matrix((np.array(shares) * 10**8).round().astype(int).tolist()).figures()
    held: Counter[str] = Counter()
    for _ in range(400):
        drawn = draw.multinomial(rows, np.ravel(shares)).reshape(np.shape(shares))
        for name, interval in of_matrix(drawn.tolist()).intervals(draw).items():
            held[name] += interval is not None and interval[0] <= (truth[name] or 0.0) <= interval[1]
    assert all(0.91 <= held[name] / 400 <= 0.985 for name in COUNT_METRICS), held


@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_the_interval_of_a_share_holds_it_and_stays_between_zero_and_one(trials: int, share: float) -> None:
    successes = round(share * trials)
    low, high = wilson_interval(successes, trials)
    assert 0.0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1.0


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Against scipy's own (`binomtest(...).proportion_ci(method="wilson")`)."""
    from scipy.stats import binomtest

    for successes, trials in ((0, 10), (3, 17), (50, 100), (999, 1000), (7, 7)):
        expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
        assert wilson_interval(successes, trials) == pytest.approx((expected.low, expected.high))


def test_draws_that_do_not_differ_give_no_interval() -> None:
    assert percentile_interval(1.0, [1.0] * 50) is None
    assert percentile_interval(1.0, [0.5]) is None
    assert percentile_interval(1.0, [0.5, float("nan")]) is None
