"""Counts of actual × predicted class, the metrics that they give, and the intervals of these.

An actual class that the model does not know is a wrong answer to every metric of all rows. `balanced_accuracy` and
`f1_macro` weigh each class the same, so they are of the classes that the model knows: else a single mistyped label
would count as much as a class of a thousand rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from models import metrics
from models.metrics import Tally
from models.schema import ClassLabel
from monitoring.intervals import Interval, Numbers, percentile_interval, wilson_interval
from monitoring.labelled_rows import count_key, label_text
from monitoring.outcome_records import OutcomeCount

DRAWS = 1000
#: Numbers drawn at once, which bounds the memory.
_DRAWN_AT_ONCE = 2_000_000
#: Draws are scaled to this many rows a row, for a tally takes less than one row of a class as one.
_ROWS_A_ROW = 1e6
_OF_ALL: dict[str, Callable[[Tally], Numbers]] = {
    "accuracy": metrics.accuracy,
    "precision": metrics.precision,
    "recall": metrics.recall,
    "f1_score": metrics.f1,
}
_OF_KNOWN: dict[str, Callable[[Tally], Numbers]] = {
    "f1_macro": metrics.f1_macro,
    "balanced_accuracy": metrics.balanced_accuracy,
}
COUNT_METRICS = (*_OF_ALL, *_OF_KNOWN)


class ClassIndex:
    """The place of each class that a model knows, and after them one for all labels that it does not know."""

    def __init__(self, classes: Sequence[ClassLabel], predicted: Iterable[ClassLabel] = ()) -> None:
        """`classes` are those of the bundle, where it is at hand; what was ever predicted is known as well."""
        self._places: dict[str, int] = {}
        for label in (*classes, *predicted):
            self._places.setdefault(_key(label), len(self._places))

    @property
    def known(self) -> int:
        return len(self._places)

    def place(self, label: ClassLabel) -> int:
        return self._places.get(_key(label), self.known)


@dataclass(frozen=True)
class Confusion:
    """`matrix` is (known + 1, known + 1): rows by actual and predicted class, unknown ones last."""

    matrix: NDArray[np.int64]

    @property
    def rows(self) -> int:
        return int(self.matrix.sum())

    @property
    def right(self) -> int:
        return int(np.trace(self.matrix[:-1, :-1]))

    @property
    def unknown(self) -> int:
        """Rows that turned out to be of a class that the model does not know."""
        return int(self.matrix[-1].sum())

    def figures(self) -> dict[str, float | None]:
        """Each of `COUNT_METRICS`; None without rows."""
        if not self.rows:
            return dict.fromkeys(COUNT_METRICS)
        found = _metrics_of(self._tally(), self._occurring())
        return {name: _finite(values) for name, values in found.items()}

    def intervals(self, random: Generator) -> dict[str, Interval | None]:
        """95 %: Wilson's for the accuracy (and the weighted recall, which is the same), else by `_draws` of counts."""
        if not self.rows:
            return dict.fromkeys(COUNT_METRICS)
        share = wilson_interval(self.right, self.rows)
        figures, draws = self.figures(), self._draws(random)
        drawn: dict[str, Interval | None] = {
            name: None if (figure := figures[name]) is None else percentile_interval(figure, draws[name])
            for name in COUNT_METRICS
        }
        return drawn | {"accuracy": share, "recall": share}

    def _tally(self) -> Tally:
        counts = self.matrix.astype(np.float64)
        right = np.diagonal(counts).copy()
        right[-1] = 0.0
        return Tally(right, counts.sum(1), counts.sum(0))

    def _occurring(self) -> NDArray[np.int64]:
        """Places of the known classes that any row was of, or was predicted as."""
        return np.flatnonzero((self.matrix.sum(0) + self.matrix.sum(1))[:-1])

    def _draws(self, random: Generator) -> dict[str, Numbers]:
        """Each metric, (DRAWS,), with the cells' shares drawn from their posterior.

        The prior is one row: half of it right, half wrong, spread over the classes that occur. So a figure of 1 of few
        rows has an interval too, and the accuracy's would be that of Jeffreys.
        """
        actual, predicted, shapes = self._cells()
        kept = self._occurring()
        size = max(1, _DRAWN_AT_ONCE // len(shapes))
        found: list[dict[str, Numbers]] = []
        for start in range(0, DRAWS, size):
            cells = random.gamma(shapes, size=(min(size, DRAWS - start), len(shapes))) * _ROWS_A_ROW
            found.append(_metrics_of(_tallied(cells, actual, predicted, len(self.matrix)), kept))
        return {name: np.concatenate([one[name] for one in found]) for name in COUNT_METRICS}

    def _cells(self) -> tuple[NDArray[np.int64], NDArray[np.int64], Numbers]:
        """Actual class, predicted class and rows of each cell that has any, the prior's half rows included."""
        counts = self.matrix.astype(np.float64)
        happened = np.flatnonzero(self.matrix.sum(1)[:-1])
        occurring = self._occurring()
        if len(happened):
            others = {place: occurring[(at + 1) % len(occurring)] for at, place in enumerate(occurring)}
            wrong = [others[place] if others[place] != place else len(counts) - 1 for place in happened]
            counts[happened, happened] += 0.5 / len(happened)
            counts[happened, wrong] += 0.5 / len(happened)
        actual, predicted = np.nonzero(counts)
        return actual, predicted, counts[actual, predicted]


def confusion_of(counts: Iterable[OutcomeCount], index: ClassIndex) -> Confusion:
    matrix = np.zeros((index.known + 1, index.known + 1), dtype=np.int64)
    for count in counts:
        matrix[index.place(count.actual), index.place(count.predicted)] += count.rows
    return Confusion(matrix)


def _metrics_of(tally: Tally, kept: NDArray[np.int64]) -> dict[str, Numbers]:
    known = replace(tally, **{name: getattr(tally, name)[..., kept] for name in ("right", "actual", "predicted")})
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {name: function(tally) for name, function in _OF_ALL.items()}
        return found | {name: function(known) for name, function in _OF_KNOWN.items()}


def _tallied(cells: Numbers, actual: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Tally:
    """(draws, cells) weights summed up by class, (draws, classes) each."""
    right = (actual == predicted) & (actual < classes - 1)
    return Tally(
        _summed(cells[:, right], actual[right], classes),
        _summed(cells, actual, classes),
        _summed(cells, predicted, classes),
    )


def _summed(cells: Numbers, places: NDArray[np.int64], classes: int) -> Numbers:
    found = np.zeros((len(cells), classes))
    for at, place in enumerate(places):
        found[:, place] += cells[:, at]
    return found


def _finite(value: Numbers) -> float | None:
    return float(value) if np.isfinite(value) else None


def _key(label: ClassLabel) -> str:
    return count_key(label_text(label))
