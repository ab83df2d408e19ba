"""How sure the difference of two models on the same rows is: the paired bootstrap, for each family of metrics.

Rows are drawn with replacement, the same ones for both models, and the gain of the metric is taken anew (Efron and
Tibshirani 1993, chapter 13). What is drawn depends on the family, the distribution does not:

    counts      how often each combination (true class, champion's, challenger's) falls: one multinomial draw, exact
    rows        rows, of whose differences the mean is taken
    ranking     rows as weights over a ranking that is sorted once

Work is bounded (`BUDGET`): where rows times resamples are more, m of the n rows are drawn from, and the spread is
narrowed by sqrt(m / n), as the standard error of a sample of n is smaller by that (Bickel, Götze and van Zwet 1997).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.metrics import (
    COUNTS,
    RANKINGS,
    ROWS,
    Labels,
    Metric,
    Numbers,
    Probabilities,
    Tally,
    predicted,
    ranked_classes,
    ranking_score,
)

#: Elements touched at most: resamples times rows, for rankings times what a ranked row costs for each ranked column.
BUDGET = 50_000_000
RANKING_COST = 3
#: But no fewer rows than this.
FEWEST_ROWS = 1_000
#: Elements in memory at a time.
CHUNK = 2_000_000


@dataclass(frozen=True)
class Pair:
    """Two models on the same rows: `y` (n,) class indices, probabilities (n, k) in one order of classes."""

    y: Labels
    champion: Probabilities
    challenger: Probabilities

    def __len__(self) -> int:
        return len(self.y)

    @property
    def classes(self) -> int:
        return int(self.champion.shape[1])

    def take(self, rows: NDArray[np.int64]) -> Pair:
        return Pair(self.y[rows], self.champion[rows], self.challenger[rows])

    def gain(self, metric: Metric) -> float:
        """Positive where the challenger is better; NaN where the rows do not define the metric."""
        before, after = metric.score(self.y, self.champion), metric.score(self.y, self.challenger)
        return float("nan") if before is None or after is None else float(metric.gain(before, after))


def resampled_gains(metric: Metric, pair: Pair, samples: int, seed: int) -> Numbers:
    """(samples,) gains from champion to challenger; NaN where a resample does not define the metric."""
    generator = np.random.default_rng(seed)
    if metric.family == "counts":
        return _counts(metric, pair, samples, generator)
    resample = _rows if metric.family == "rows" else _rankings
    columns = 1 if pair.classes == 2 else pair.classes
    cost = 1 if metric.family == "rows" else 2 * columns * RANKING_COST
    most = max(FEWEST_ROWS, BUDGET // (samples * cost))
    if len(pair) <= most:
        return resample(metric, pair, samples, generator)
    part = pair.take(generator.choice(len(pair), most, replace=False))
    spread = resample(metric, part, samples, generator) - part.gain(metric)
    return np.asarray(pair.gain(metric) + spread * np.sqrt(most / len(pair)))


def _counts(metric: Metric, pair: Pair, samples: int, generator: np.random.Generator) -> Numbers:
    k = pair.classes
    combinations = np.column_stack([pair.y, predicted(pair.champion), predicted(pair.challenger)])
    cells, counts = np.unique(combinations, axis=0, return_counts=True)
    step = max(1, CHUNK // (len(cells) + 6 * k))
    gains = []
    for size in _chunks(samples, step):
        drawn = generator.multinomial(len(pair), counts / len(pair), size=size).astype(np.float64)
        before, after = (_tallies(cells[:, 0], cells[:, model], drawn, k) for model in (1, 2))
        gains.append(metric.gain(COUNTS[metric.name](before), COUNTS[metric.name](after)))
    return np.concatenate(gains)


def _chunks(samples: int, step: int) -> list[int]:
    return [min(step, samples - start) for start in range(0, samples, step)]


def _tallies(actual: Labels, classes: Labels, drawn: Numbers, k: int) -> Tally:
    """Tallies of resamples: `drawn` (samples, cells) says how often each cell fell."""
    is_actual, is_predicted = (values[:, None] == np.arange(k) for values in (actual, classes))
    return Tally(
        right=drawn @ (is_actual & is_predicted).astype(np.float64),
        actual=drawn @ is_actual.astype(np.float64),
        predicted=drawn @ is_predicted.astype(np.float64),
    )


def _rows(metric: Metric, pair: Pair, samples: int, generator: np.random.Generator) -> Numbers:
    rows, function = len(pair), ROWS[metric.name]
    gains = metric.gain(function(pair.y, pair.champion), function(pair.y, pair.challenger))
    chunks = _chunks(samples, max(1, CHUNK // rows))
    return np.concatenate([gains[generator.integers(0, rows, (size, rows))].mean(axis=1) for size in chunks])


def _rankings(metric: Metric, pair: Pair, samples: int, generator: np.random.Generator) -> Numbers:
    ranking = RANKINGS[metric.name]
    both = ranked_classes(pair.y, pair.champion), ranked_classes(pair.y, pair.challenger)
    gains = np.full(samples, np.nan)
    for sample in range(samples):
        weights = _weights(len(pair), generator)
        before, after = (ranking_score(ranking, classes, weights) for classes in both)
        if before is not None and after is not None:
            gains[sample] = metric.gain(before, after)
    return gains


def _weights(rows: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """How often each row falls in one resample of the same size."""
    return np.bincount(generator.integers(0, rows, rows), minlength=rows).astype(np.float64)
