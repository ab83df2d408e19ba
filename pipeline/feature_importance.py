"""How much each feature matters to a served model: by how much its log loss rises when the feature is shuffled.

Permutation importance (Breiman 2001, Random Forests, section 10; for any model Fisher, Rudin and Dominici 2019, All
Models are Wrong, but Many are Useful): I_f = L(rows, values of f permuted among them) − L(rows), on held-out rows. It
tells what *this model* reads, not what the outcome depends on: of two features that say the same, the model may read
one or halve it between them, and both shares are then small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from models.encoding import Encoder, Matrix, RawColumn, encoded_columns
from models.metrics import Labels, log_losses
from models.runtime import Probabilities
from models.schema import Schema

#: Rows in which a feature is shuffled: as many as this in few features, fewer in many, so that the work is bounded.
MOST_ROWS, LEAST_ROWS = 1_000, 50
#: Rows that the model answers, over all features.
MOST_ANSWERS = 50_000


def feature_importance(
    run: Callable[[Matrix], Probabilities], schema: Schema, raw: Sequence[RawColumn], target: Labels, seed: int
) -> dict[str, float]:
    """Each feature's share (0 to 1) of all that shuffling costs; they sum to 1, or are all 0 where nothing costs.

    A feature whose shuffling makes the model no worse has 0. All matrix columns of a feature move together. Without two
    rows nothing is known: empty.

    Args:
        run: (rows, width) encoded rows to (rows, classes) probabilities.
        raw: held-out rows in the schema's order; some of them, evenly spaced, are used.
        target: the class index of each of them.
    """
    most = rows_for(len(schema.features))
    matrix = Encoder(schema).encode(evenly(raw, most))
    y = target[:: _step(len(target), most)]
    if len(y) < 2:
        return {}
    before = _loss(run, matrix, y)
    rises = {}
    start = 0
    for position, feature in enumerate(schema.features):
        columns = slice(start, start := start + len(encoded_columns(feature)))
        kept = matrix[:, columns].copy()
        matrix[:, columns] = kept[np.random.default_rng([seed, position]).permutation(len(y))]
        rises[feature.name] = max(0.0, _loss(run, matrix, y) - before)
        matrix[:, columns] = kept
    total = sum(rises.values())
    return {name: rise / total if total > 0.0 else 0.0 for name, rise in rises.items()}


def rows_for(features: int) -> int:
    """In how many rows each feature is shuffled."""
    return min(MOST_ROWS, max(LEAST_ROWS, MOST_ANSWERS // max(1, features)))


def evenly(raw: Sequence[RawColumn], most: int) -> list[RawColumn]:
    """At most so many of the rows, evenly spaced: a table may be sorted."""
    step = _step(len(raw[0]) if raw else 0, most)
    return [column[::step] for column in raw]


def _step(rows: int, most: int) -> int:
    return max(1, math.ceil(rows / most))


def _loss(run: Callable[[Matrix], Probabilities], matrix: Matrix, y: Labels) -> float:
    return float(log_losses(y, run(matrix).astype(np.float64)).mean())
