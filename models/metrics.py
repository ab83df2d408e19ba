"""How good class probabilities are: one table of metrics, one function each, for two and for many classes.

Throughout, `y` is (n,) int64 class indices below k and `p` is (n, k) float64 probabilities, rows summing to 1; the
predicted class is the most probable one (the first of equals). With two classes, 'positive' is the second class. A
metric that the rows do not define (no rows, one class alone for a ranking) is None, never NaN.

Metrics of counts work on a `Tally`, or on many at once: the bootstrap of the gate resamples counts, not rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int64]
Probabilities = NDArray[np.float64]
Numbers = NDArray[np.float64]
Family = Literal["counts", "rows", "ranking", "bins"]

CALIBRATION_BINS = 15
_SMALLEST = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Metric:
    """One row of the table. `family` says what the metric is made of, and so how it can be resampled."""

    name: str
    family: Family
    greater_is_better: bool
    score: Callable[[Labels, Probabilities], float | None]

    def gain(self, champion: Any, challenger: Any) -> Any:
        """The improvement from champion to challenger: positive is better, whatever the metric's direction."""
        return challenger - champion if self.greater_is_better else champion - challenger


def predicted(p: Probabilities) -> Labels:
    """The most probable class of each row."""
    chosen: Labels = np.argmax(p, axis=1).astype(np.int64)
    return chosen


@dataclass(frozen=True)
class Tally:
    """Rows counted by class, each (..., k): predicted right, truly of the class, predicted as the class."""

    right: Numbers
    actual: Numbers
    predicted: Numbers

    @property
    def recalls(self) -> Numbers:
        return np.asarray(self.right / np.maximum(self.actual, 1.0))

    @property
    def precisions(self) -> Numbers:
        return np.asarray(self.right / np.maximum(self.predicted, 1.0))

    @property
    def f1s(self) -> Numbers:
        return np.asarray(2 * self.right / np.maximum(self.actual + self.predicted, 1.0))


def tally(y: Labels, classes: Labels, k: int) -> Tally:
    """Counts true classes `y` against the predicted `classes`, of k."""
    counted = (np.bincount(rows, minlength=k).astype(np.float64) for rows in (y[y == classes], y, classes))
    return Tally(*counted)


# --- counts: functions of a tally, (..., k) -> (...)


def accuracy(counts: Tally) -> Numbers:
    """Share of rows predicted right; 0 to 1, higher is better."""
    return _ratio(counts.right.sum(-1), counts.actual.sum(-1))


def precision(counts: Tally) -> Numbers:
    """Right among those predicted as a class (0 where none is), averaged over classes by their share of the rows;
    0 to 1, higher is better (scikit-learn: `average="weighted", zero_division=0`)."""
    return _weighted(counts.precisions, counts)


def recall(counts: Tally) -> Numbers:
    """Found among the rows of a class, averaged over classes by their share of the rows: the same number as accuracy;
    0 to 1, higher is better."""
    return _weighted(counts.recalls, counts)


def f1(counts: Tally) -> Numbers:
    """Harmonic mean of precision and recall per class, averaged by the class's share of the rows; 0 to 1, higher is
    better."""
    return _weighted(counts.f1s, counts)


def f1_macro(counts: Tally) -> Numbers:
    """As `f1`, each class that occurs among rows or predictions weighing the same; 0 to 1, higher is better."""
    occurs = (counts.actual + counts.predicted) > 0
    return _ratio((counts.f1s * occurs).sum(-1), occurs.sum(-1))


def balanced_accuracy(counts: Tally) -> Numbers:
    """Mean recall of the classes that occur among the rows; 0 to 1, 1/k by chance, higher is better."""
    occurs = counts.actual > 0
    return _ratio((counts.recalls * occurs).sum(-1), occurs.sum(-1))


def _weighted(per_class: Numbers, counts: Tally) -> Numbers:
    return _ratio((per_class * counts.actual).sum(-1), counts.actual.sum(-1))


def _ratio(numerator: Any, denominator: Any) -> Numbers:
    return np.asarray(numerator / denominator, dtype=np.float64)


# --- rows: a number for each row, of which the metric is the mean


def log_losses(y: Labels, p: Probabilities) -> Numbers:
    """-ln of the probability given to the true class, which counts as 2.2e-16 at least; 0 to 36, lower is better."""
    return -np.log(np.clip(p[np.arange(len(y)), y], _SMALLEST, 1.0))


def briers(y: Labels, p: Probabilities) -> Numbers:
    """Squared distance of the probabilities from the truth (Brier 1950); lower is better.

    Summed over classes, 0 to 2; with two classes the half of it, 0 to 1, which is (p of positive - truth)^2, as
    scikit-learn's `brier_score_loss` has it.
    """
    truth = np.zeros_like(p)
    truth[np.arange(len(y)), y] = 1.0
    total: Numbers = np.square(p - truth).sum(axis=1)
    return total / 2 if p.shape[1] == 2 else total


# --- rankings: of one column of scores, rows weighted by how often a resample holds them


def weighted_auc(positive: NDArray[np.bool_], weights: Numbers, ends: NDArray[np.int64]) -> float | None:
    """Area under the ROC curve: the chance that a positive row is ranked above a negative one, ties counting half.

    Rows come sorted by score, ascending; `ends` are the positions of the last row of each group of equal scores.
    """
    positives, everything = _cumulated(positive, weights, ends)
    negatives = everything - positives
    if positives[-1] <= 0 or negatives[-1] <= 0:
        return None
    new_positives = np.diff(positives, prepend=0.0)
    middle = negatives - np.diff(negatives, prepend=0.0) / 2
    return float(new_positives @ middle / (positives[-1] * negatives[-1]))


def weighted_average_precision(positive: NDArray[np.bool_], weights: Numbers, ends: NDArray[np.int64]) -> float | None:
    """Area under the precision-recall curve as average precision, the sum of (R_i - R_(i-1)) P_i from the top score
    down; the base rate by chance. Arguments as for `weighted_auc`."""
    positives, everything = _cumulated(positive, weights, ends)
    if positives[-1] <= 0:
        return None
    gained = np.diff(positives, prepend=0.0)
    above = positives[-1] - positives + gained
    rows_above = everything[-1] - everything + np.diff(everything, prepend=0.0)
    return float(gained @ (above / np.maximum(rows_above, 1e-300)) / positives[-1])


def _cumulated(positive: NDArray[np.bool_], weights: Numbers, ends: NDArray[np.int64]) -> tuple[Numbers, Numbers]:
    return np.cumsum(weights * positive)[ends], np.cumsum(weights)[ends]


Ranking = Callable[[NDArray[np.bool_], Numbers, NDArray[np.int64]], float | None]
RANKINGS: dict[str, Ranking] = {"roc_auc": weighted_auc, "pr_auc": weighted_average_precision}


@dataclass(frozen=True)
class RankedClass:
    """Rows sorted by the score of one class, so that resamples need not be sorted again."""

    order: NDArray[np.int64]
    positive: NDArray[np.bool_]
    ends: NDArray[np.int64]


def ranked_classes(y: Labels, p: Probabilities) -> list[RankedClass]:
    """The positive class of two, each class against the rest of many; classes that no row has are left out."""
    columns = [1] if p.shape[1] == 2 else range(p.shape[1])
    return [_ranked(y == column, p[:, column]) for column in columns if p.shape[1] == 2 or np.any(y == column)]


def _ranked(positive: NDArray[np.bool_], scores: Numbers) -> RankedClass:
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    return RankedClass(order, positive[order], ends)


def ranking_score(ranking: Ranking, classes: list[RankedClass], weights: Numbers) -> float | None:
    """The mean over the classes for which the weighted rows define it (macro, one against the rest); None if none."""
    scores = [ranking(ranked.positive, weights[ranked.order], ranked.ends) for ranked in classes]
    defined = [score for score in scores if score is not None]
    return float(np.mean(defined)) if defined else None


# --- bins


def expected_calibration_error(y: Labels, p: Probabilities) -> float:
    """Mean gap between confidence (the highest probability) and accuracy, in 15 bins of confidence of equal width,
    weighted by their rows; 0 to 1, lower is better (Guo et al. 2017, On Calibration of Modern Neural Networks)."""
    confidence = p.max(axis=1)
    right = predicted(p) == y
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(y))


# --- the table

COUNTS: dict[str, Callable[[Tally], Numbers]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "f1_macro": f1_macro,
}
ROWS: dict[str, Callable[[Labels, Probabilities], Numbers]] = {"log_loss": log_losses, "brier": briers}


def _of_counts(function: Callable[[Tally], Numbers]) -> Callable[[Labels, Probabilities], float | None]:
    return lambda y, p: float(function(tally(y, predicted(p), p.shape[1])))


def _of_rows(function: Callable[[Labels, Probabilities], Numbers]) -> Callable[[Labels, Probabilities], float | None]:
    return lambda y, p: float(function(y, p).mean())


def _of_ranking(ranking: Ranking) -> Callable[[Labels, Probabilities], float | None]:
    return lambda y, p: ranking_score(ranking, ranked_classes(y, p), np.ones(len(y)))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *(Metric(name, "counts", True, _of_counts(function)) for name, function in COUNTS.items()),
        *(Metric(name, "ranking", True, _of_ranking(ranking)) for name, ranking in RANKINGS.items()),
        *(Metric(name, "rows", False, _of_rows(function)) for name, function in ROWS.items()),
        Metric("ece", "bins", False, expected_calibration_error),
    )
}


def score(name: str, y: Labels, p: Probabilities) -> float | None:
    """One metric by name; None where the rows do not define it."""
    return METRICS[name].score(y, p) if len(y) else None


def evaluate(y: Labels, p: Probabilities, prefix: str = "") -> dict[str, float | None]:
    """Every metric of the table, by `prefix` and name."""
    return {f"{prefix}{name}": score(name, y, p) for name in METRICS}
