"""Labelled rows one by one, for what counts cannot tell: rankings, calibration, intervals of losses, delays.

The work is bounded: of many rows a sample is taken, by the last four bytes of their identifiers. Those are drawn at
random for each row when it is predicted (`monitoring.ids`), so the sample is a fair one, and the same each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import LargeBinary, func, select

from models.schema import ClassLabel
from monitoring.confusion import ClassIndex
from monitoring.intervals import Numbers
from monitoring.labelled_rows import label_of
from monitoring.store import Store
from monitoring.tables import labelled_rows

SAMPLED_ROWS = 20_000
#: Probabilities that are held at once; a model of very many classes gets fewer rows.
_MOST_PROBABILITIES, _LEAST_ROWS = 400_000, 2_000
_TAIL_BYTES = 4
_PROBABILITIES = msgspec.json.Decoder(list[list[float | None] | None])


@dataclass(frozen=True)
class LabelledSample:
    """Rows of one version, by time; arrays of one length."""

    #: All labelled rows that these stand for.
    of_rows: int
    #: `date.toordinal` of the UTC day of the prediction.
    days: NDArray[np.int64]
    delay_seconds: Numbers
    right: NDArray[np.bool_]
    #: Highest probability; NaN where it is not known.
    confidence: Numbers
    #: Class index in the manifest's order; -1 where the model does not know it, or no probabilities are known.
    actual: NDArray[np.int64]
    #: (rows, classes); zeros where they are not known.
    probability: Numbers
    #: -ln p and Σ(p - is)², 0 to 2; NaN where `actual` is -1.
    log_loss: Numbers
    brier: Numbers

    def __len__(self) -> int:
        return len(self.days)

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Rows whose probability for the class that it was is known."""
        return self.actual >= 0

    def of_day(self, day: date) -> LabelledSample:
        return self.where(self.days == day.toordinal())

    def where(self, kept: NDArray[np.bool_]) -> LabelledSample:
        share = float(kept.mean()) if len(kept) else 0.0
        arrays = {name: getattr(self, name)[kept] for name in _ARRAYS}
        return LabelledSample(of_rows=round(self.of_rows * share), **arrays)


_ARRAYS = ("days", "delay_seconds", "right", "confidence", "actual", "probability", "log_loss", "brier")


def read_sample(
    store: Store, version: str, since: datetime, until: datetime, of_rows: int, classes: Sequence[ClassLabel]
) -> LabelledSample:
    """A sample of the version's labelled predictions made in [since, until).

    Args:
        of_rows: how many there are, from the counts.
        classes: the model's; without them no probability can be told to be of a class.
    """
    most = min(SAMPLED_ROWS, max(_LEAST_ROWS, _MOST_PROBABILITIES // max(1, len(classes))))
    t = labelled_rows.c
    columns = (t.predicted_at, t.predicted, t.actual, t.probability, t.delay_seconds)
    query = select(*columns, t.log_loss_millionths, t.brier_millionths).where(
        t.model_version == version, t.predicted_at >= since, t.predicted_at < until, t.actual.is_not(None)
    )
    if of_rows > most:
        end = int(most / of_rows * 256**_TAIL_BYTES).to_bytes(_TAIL_BYTES, "big")
        query = query.where(func.substr(t.prediction_id, 17 - _TAIL_BYTES, _TAIL_BYTES, type_=LargeBinary) < end)
    with store.reading() as connection:
        rows: Sequence[Any] = connection.execute(query.order_by(t.prediction_id).limit(2 * most)).all()
    return _sample(rows, max(of_rows, len(rows)), classes)


def empty_sample() -> LabelledSample:
    return _sample([], 0, ())


def _sample(rows: Sequence[Any], of_rows: int, classes: Sequence[ClassLabel]) -> LabelledSample:
    index, texts = ClassIndex(classes), {row.actual for row in rows}
    places = {text: index.place(label_of(text)) for text in texts}
    probability, known = _probabilities(rows, len(classes))
    actual = np.array([places[row.actual] for row in rows], dtype=np.int64)
    scored = known & (actual < len(classes))
    return LabelledSample(
        of_rows=of_rows,
        days=np.array([row.predicted_at.toordinal() for row in rows], dtype=np.int64),
        delay_seconds=np.array([row.delay_seconds for row in rows], dtype=np.float64),
        right=np.array([row.predicted == row.actual for row in rows], dtype=np.bool_),
        confidence=np.where(known, probability.max(axis=1, initial=0.0), np.nan),
        actual=np.where(scored, actual, -1),
        probability=probability,
        log_loss=np.where(scored, _millionths([row.log_loss_millionths for row in rows]), np.nan),
        brier=np.where(scored, _millionths([row.brier_millionths for row in rows]), np.nan),
    )


def _probabilities(rows: Sequence[Any], classes: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    texts = ",".join("null" if row.probability is None else row.probability for row in rows)
    found = _PROBABILITIES.decode(f"[{texts}]")
    known = np.array([one is not None and 0 < len(one) == classes and None not in one for one in found], dtype=np.bool_)
    nothing = [0.0] * classes
    table = [one if is_known else nothing for one, is_known in zip(found, known, strict=True)]
    return np.array(table, dtype=np.float64).reshape(len(rows), classes), known


def _millionths(values: Sequence[int | None]) -> Numbers:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64) / 1e6
