"""Metrics of probabilities over labelled rows, and their intervals: rankings, losses, calibration.

They are of rows whose probability for the class that it was is known. `roc_auc` and `pr_auc` are, for more than two
classes, the mean over the classes against the rest, as they are at training.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from msgspec import Struct
from numpy.random import Generator
from numpy.typing import NDArray

from models.metrics import (
    CALIBRATION_BINS,
    RANKINGS,
    RankedClass,
    expected_calibration_error,
    predicted,
    ranked_classes,
    ranking_score,
)
from monitoring.intervals import Interval, Numbers, percentile_interval
from monitoring.labelled_sample import LabelledSample
from monitoring.outcome_records import OutcomeCount

DRAWS = 400
SCORE_METRICS = ("roc_auc", "pr_auc", "log_loss", "brier", "ece")
#: Rankings of more classes have no interval: it would take too long.
_MOST_RANKED = 16


class LossSums(Struct, frozen=True):
    """Sums over the scored rows that the counts know of: -ln p, and Σ(p - is)², 0 to 2."""

    rows: int = 0
    log_loss: float = 0.0
    brier: float = 0.0


def loss_sums(counts: Iterable[OutcomeCount]) -> LossSums:
    found = list(counts)
    return LossSums(
        sum(one.scored_rows for one in found), sum(one.log_loss for one in found), sum(one.brier for one in found)
    )


def score_figures(sums: LossSums, sample: LabelledSample) -> dict[str, float | None]:
    """Each of `SCORE_METRICS`: losses of all rows, the others of the sample; None where the rows do not define it."""
    kept = sample.where(sample.scored)
    figures: dict[str, float | None] = dict.fromkeys(SCORE_METRICS)
    if len(kept):
        classes = ranked_classes(kept.actual, kept.probability)
        figures |= {name: ranking_score(rank, classes, np.ones(len(kept))) for name, rank in RANKINGS.items()}
        figures["ece"] = expected_calibration_error(kept.actual, kept.probability)
    if sums.rows:
        figures["log_loss"] = sums.log_loss / sums.rows
        figures["brier"] = sums.brier / sums.rows / _brier_unit(sample)
    return figures


def score_intervals(sums: LossSums, sample: LabelledSample, random: Generator) -> dict[str, Interval | None]:
    """95 %, by weighing the sample's rows anew `DRAWS` times; of the losses, narrowed to the rows that they are of.

    That of the calibration error is a safe one, which holds the true error at least so often: the figure ± d, where
    the weighed gaps of the bins differ from those found by less than d, summed up, in 97.5 % of the draws. (Its own
    quantiles would not do: the error of finitely many rows is too large on average, and that of a weighing more so.)
    """
    kept = sample.where(sample.scored)
    figures, found = score_figures(sums, sample), dict[str, Interval | None].fromkeys(SCORE_METRICS)
    if len(kept) < 2:
        return found
    draws = _Draws(kept)
    for _ in range(DRAWS):
        draws.add(random.standard_exponential(len(kept)))
    scale = {"log_loss": (len(kept) / max(sums.rows, len(kept))) ** 0.5}
    scale["brier"] = scale["log_loss"]
    for name, values in draws.values.items():
        figure = figures[name]
        if figure is not None and len(values) == DRAWS:
            shift = figure - draws.figures[name] if name in draws.figures else 0.0
            found[name] = percentile_interval(figure, np.array(values) + shift, scale.get(name, 1.0))
    if figures["ece"] is not None:
        reach = float(np.quantile(draws.gap_changes, 0.975))
        found["ece"] = (max(0.0, figures["ece"] - reach), min(1.0, figures["ece"] + reach))
    return found


class _Draws:
    """Figures of weighings of the same rows."""

    def __init__(self, rows: LabelledSample) -> None:
        unit = _brier_unit(rows)
        self._losses = {"log_loss": rows.log_loss, "brier": rows.brier / unit}
        #: Of the rows unweighed.
        self.figures = {name: float(losses.mean()) for name, losses in self._losses.items()}
        self._ranked: list[RankedClass] = []
        if rows.probability.shape[1] <= _MOST_RANKED:
            self._ranked = ranked_classes(rows.actual, rows.probability)
        confidence = rows.probability.max(axis=1)
        self._over = (predicted(rows.probability) == rows.actual) - confidence
        bins = np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1
        self._bins: NDArray[np.int64] = np.clip(bins, 0, CALIBRATION_BINS - 1)
        self._gaps = self._weighed_gaps(np.ones(len(rows)))
        self.values: dict[str, list[float]] = {name: [] for name in (*RANKINGS, *self._losses)}
        self.gap_changes: list[float] = []

    def add(self, weights: Numbers) -> None:
        total = weights.sum()
        for name, losses in self._losses.items():
            self.values[name].append(float(weights @ losses / total))
        for name, rank in RANKINGS.items():
            figure = ranking_score(rank, self._ranked, weights) if self._ranked else None
            if figure is not None:
                self.values[name].append(figure)
        self.gap_changes.append(float(np.abs(self._weighed_gaps(weights) - self._gaps).sum()))

    def _weighed_gaps(self, weights: Numbers) -> Numbers:
        gaps = np.bincount(self._bins, weights=weights * self._over, minlength=CALIBRATION_BINS)
        return np.asarray(gaps / weights.sum())


def _brier_unit(rows: LabelledSample) -> float:
    """With two classes the Brier score is (p of positive - truth)², which is half the sum over both."""
    return 2.0 if rows.probability.shape[1] == 2 else 1.0
