"""Predictions and their outcomes brought together: labelled rows, and counts of predicted × actual by hour.

An outcome may come before its prediction, again, corrected, and from any host; whichever it was, the row ends the same.
Only the host whose log holds the prediction joins it, because only that one has the line: each row has one writer.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from models.schema import ClassLabel
from monitoring.hour_tallies import EPOCH, estimate_variance
from monitoring.known_models import KnownModels
from monitoring.line_reader import LineReader
from monitoring.log_lines import LoggedPrediction
from monitoring.plain_json import valid_text
from monitoring.store import Store
from monitoring.tables import labelled_rows, outcome_counts, outcomes, predictions

#: Predictions joined in one transaction, and waiting outcomes looked at in one step.
JOIN_ROWS = 1000
_MILLION = 1_000_000
_LEAST_PROBABILITY = 1e-15
_LONGEST_LABEL, _HEAD_OF_LABEL = 160, 60
_SUMS = (
    "rows", "delay_seconds", "scored_rows", "log_loss_millionths", "brier_millionths",
    "estimated_rows", "estimate_millionths", "estimate_variance_millionths",
)  # fmt: skip
_COUNT_KEY = ("source", "hour", "model_version", "experiment", "arm", "predicted", "actual")


class FinalOutcome(Struct, frozen=True, kw_only=True):
    """What counts of all outcomes of a prediction: the last actual and the last value that were given."""

    actual: str | None
    value: float | None
    observed_at: str | None
    received: int
    outcomes: int


class Joiner:
    """Joins the predictions of one source. One at a time a source (`log_ingestion` sees to that)."""

    def __init__(self, store: Store, source: int, logs: Path, models: KnownModels) -> None:
        self._store = store
        self._source = source
        self._logs = logs
        self._models = models
        #: How far the look at all waiting outcomes has come; it goes round for ever.
        self._looked_at = b""

    def join_waiting(self) -> tuple[int, bool]:
        """One step of the round over waiting outcomes: how many rows were joined, and whether the round is over."""
        t = outcomes.c
        query = select(t.prediction_id).where(t.waiting == 1, t.prediction_id > self._looked_at).distinct()
        with self._store.reading() as connection:
            waiting = connection.scalars(query.order_by(t.prediction_id).limit(JOIN_ROWS)).all()
        joined = self.join(waiting)
        over = len(waiting) < JOIN_ROWS
        self._looked_at = b"" if over else waiting[-1]
        return joined, over

    def join(self, ids: Sequence[bytes]) -> int:
        """Joins those of `ids` whose prediction and outcome are both known; returns how many."""
        return sum(self._join(ids[start : start + JOIN_ROWS]) for start in range(0, len(ids), JOIN_ROWS))

    def _join(self, ids: Sequence[bytes]) -> int:
        p = predictions.c
        with self._store.reading() as connection:
            found = connection.execute(select(predictions).where(p.id.in_(ids), p.source == self._source)).all()
        if not found:
            return 0
        with self._store.writing() as connection, LineReader(connection, self._logs) as reader:
            finals = _take(connection, [row.id for row in found])
            before = _labelled(connection, list(finals))
            changes = _Changes()
            for row in found:
                if row.id in finals:
                    self._join_one(row, finals[row.id], before.get(row.id), reader, changes)
            changes.store(connection, self._source)
        return len(finals)

    def _join_one(
        self, row: Row[Any], final: FinalOutcome, before: Row[Any] | None, reader: LineReader, changes: _Changes
    ) -> None:
        values = _outcome_values(row, final)
        if before is None:
            line = reader.read(row.file, row.byte, row.id)
            probability = None if line is None else line.probability
            values |= self._losses(row.model_version, probability, final.actual)
            changes.new.append({"prediction_id": row.id, **values, **_prediction_values(row, line)})
        else:
            probability = None if before.probability is None else msgspec.json.decode(before.probability)
            values |= self._losses(row.model_version, probability, final.actual)
            changes.corrected.append({"corrected_id": row.id, **values})
            changes.count(before, -1)
        changes.count(_Labelled(row, values), 1)

    def _losses(
        self, version: str, probability: Sequence[float | None] | None, actual: str | None
    ) -> dict[str, int | None]:
        """-ln p of the class that it was, and the squared distance of the answer from it (0 to 2), in millionths."""
        nothing: dict[str, int | None] = {"log_loss_millionths": None, "brier_millionths": None}
        model = self._models.get(version)
        if model is None or actual is None or not probability or any(share is None for share in probability):
            return nothing
        labels = [label_text(label) for label in model.schema.classes]
        if actual not in labels or len(labels) != len(probability):
            return nothing
        shares = [share or 0.0 for share in probability]
        of_actual = shares[labels.index(actual)]
        brier = sum(share * share for share in shares) - of_actual**2 + (1.0 - of_actual) ** 2
        loss = -math.log(min(1.0, max(of_actual, _LEAST_PROBABILITY)))
        return {"log_loss_millionths": round(loss * _MILLION), "brier_millionths": round(brier * _MILLION)}


def label_text(label: ClassLabel) -> str:
    """A label as JSON, which tells `1` from `"1"` and from `true`."""
    return valid_text(msgspec.json.encode(label).decode())


def label_of(text: str) -> ClassLabel:
    label: ClassLabel = msgspec.json.decode(text)
    return label


def count_key(label: str) -> str:
    """A label as a part of a key: one that is too long for that is cut, and told apart by its digest."""
    if len(label) <= _LONGEST_LABEL:
        return label
    return msgspec.json.encode(f"{label[1:_HEAD_OF_LABEL]}… {hashlib.sha256(label.encode()).hexdigest()[:16]}").decode()


class _Labelled:
    """What `_Changes.count` reads of a row that is being written."""

    def __init__(self, row: Row[Any], values: Mapping[str, Any]) -> None:
        self.model_version, self.experiment, self.arm = row.model_version, row.experiment, row.arm
        self.predicted, self.predicted_at = row.predicted, moment_of(row.moment)
        self.actual: str | None = values["actual"]
        self.delay_seconds: int = values["delay_seconds"]
        self.log_loss_millionths: int | None = values["log_loss_millionths"]
        self.brier_millionths: int | None = values["brier_millionths"]
        self.estimate_millionths: int | None = row.estimate_millionths


class _Changes:
    """What a transaction writes: rows, and what they add to the counts, summed up first."""

    def __init__(self) -> None:
        self.new: list[dict[str, Any]] = []
        self.corrected: list[dict[str, Any]] = []
        self._sums: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(_SUMS))

    def count(self, row: _Labelled | Row[Any], sign: int) -> None:
        if row.actual is None:
            return
        hour = row.predicted_at.replace(minute=0, second=0, microsecond=0)
        names = (row.model_version, row.experiment, row.arm, count_key(row.predicted), count_key(row.actual))
        sums = self._sums[hour, *names]
        scored, estimate = row.log_loss_millionths is not None, row.estimate_millionths
        of_row = (
            *(1, row.delay_seconds, int(scored), row.log_loss_millionths or 0, row.brier_millionths or 0),
            *((0, 0, 0) if estimate is None else (1, estimate, estimate_variance(estimate))),
        )
        for position, value in enumerate(of_row):
            sums[position] += sign * value

    def store(self, connection: Connection, source: int) -> None:
        if self.new:
            connection.execute(insert(labelled_rows), self.new)
        if self.corrected:
            of_row = labelled_rows.c.prediction_id == bindparam("corrected_id")
            connection.execute(update(labelled_rows).where(of_row), self.corrected)
        added = [
            dict(zip((*_COUNT_KEY, *_SUMS), (source, *names, *sums), strict=True))
            for names, sums in sorted(self._sums.items())
            if any(sums)
        ]
        if added:
            _add_counts(connection, added)


def _add_counts(connection: Connection, rows: list[dict[str, Any]]) -> None:
    insert_or = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    statement = insert_or(outcome_counts)
    sums = {name: outcome_counts.c[name] + statement.excluded[name] for name in _SUMS}
    connection.execute(statement.on_conflict_do_update(index_elements=list(_COUNT_KEY), set_=sums), rows)


def _take(connection: Connection, ids: Sequence[bytes]) -> dict[bytes, FinalOutcome]:
    """What counts for each prediction. Marked as joined first: an outcome that comes in between waits for the next."""
    t = outcomes.c
    connection.execute(update(outcomes).where(t.prediction_id.in_(ids), t.waiting != 0).values(waiting=0))
    query = select(outcomes).where(t.prediction_id.in_(ids)).order_by(t.prediction_id, t.received, t.digest)
    found: defaultdict[bytes, list[Row[Any]]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.prediction_id].append(row)
    return {prediction_id: final_outcome(rows) for prediction_id, rows in found.items()}


def final_outcome(rows: Sequence[Any]) -> FinalOutcome:
    """What counts of one prediction's outcomes, given in the order of their arrival."""
    return FinalOutcome(
        actual=_last(row.actual for row in rows),
        value=_last(row.value for row in rows),
        observed_at=_last(row.observed_at for row in rows),
        received=rows[-1].received,
        outcomes=len(rows),
    )


def _last(values: Iterable[Any]) -> Any:
    found = [value for value in values if value is not None]
    return found[-1] if found else None


def _labelled(connection: Connection, ids: Sequence[bytes]) -> dict[bytes, Row[Any]]:
    query = select(labelled_rows).where(labelled_rows.c.prediction_id.in_(ids))
    return {row.prediction_id: row for row in connection.execute(query)}


def _outcome_values(row: Row[Any], final: FinalOutcome) -> dict[str, Any]:
    return {
        "actual": final.actual,
        "value": final.value,
        "observed_at": final.observed_at,
        "received_at": moment_of(final.received),
        "outcomes": final.outcomes,
        "delay_seconds": max(0, (final.received - row.moment) // _MILLION),
    }


def _prediction_values(row: Row[Any], line: LoggedPrediction | None) -> dict[str, Any]:
    names = ("source", "model_version", "experiment", "arm", "predicted", "score", "estimate_millionths")
    values = {name: getattr(row, name) for name in names} | {"predicted_at": moment_of(row.moment)}
    return values | {
        "unit": None if line is None or line.unit is None else valid_text(line.unit),
        "input_data": None if line is None else bytes(line.input_data).decode(),
        "probability": None if line is None else msgspec.json.encode(line.probability).decode(),
    }


def moment_of(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)
