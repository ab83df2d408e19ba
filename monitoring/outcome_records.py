"""What outcomes said, by model version and day: counts of predicted × actual, and the scores behind them.

Days and hours are those of the predictions, in UTC, so that labels over predictions is a coverage. What nobody has
sent an outcome for is in none of these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from sqlalchemy import ColumnElement, Select, case, func, select

from models.schema import ClassLabel
from monitoring.labelled_rows import label_of
from monitoring.store import Store
from monitoring.tables import labelled_rows, outcome_counts, outcomes
from monitoring.window_records import day_start, hour_start

_ROWS_A_STEP = 10_000
_SUMS = ("rows", "delay_seconds", "scored_rows", "log_loss_millionths", "brier_millionths")


class OutcomeCount(Struct, frozen=True, kw_only=True):
    """Rows of one version, day or hour, and arm, that were predicted as one class and turned out to be another.

    An actual class that has over 160 characters of JSON is cut here, and told apart by a digest.
    """

    since: datetime
    model_version: str
    experiment: str
    arm: str
    predicted: ClassLabel
    actual: ClassLabel
    rows: int
    #: Sum over the rows of the seconds from the prediction to the arrival of its (last) outcome.
    delay_seconds: int
    #: Rows whose probability for the actual class is known, and sums over them: -ln p, and Σ(p - is)², 0 to 2.
    scored_rows: int
    log_loss: float
    brier: float


class ScoredOutcome(Struct, frozen=True, gc=False):
    """One labelled prediction. `score` is the last class's probability when there are two, else the highest."""

    model_version: str
    predicted_at: datetime
    predicted: ClassLabel
    actual: ClassLabel
    score: float | None
    probability: list[float | None] | None


class LabelledRow(Struct, frozen=True, kw_only=True):
    """A row to train on: what was sent, and what it turned out to be. Hashed and dropped fields are as in the log."""

    prediction_id: bytes
    model_version: str
    predicted_at: datetime
    received_at: datetime
    input_data: dict[str, Any]
    actual: ClassLabel
    value: float | None


def counted_outcomes(
    store: Store, since: datetime, until: datetime, version: str | None = None, *, by_day: bool = True
) -> list[OutcomeCount]:
    """Counts of the predictions in all hours that touch [since, until), over all hosts, oldest first."""
    t = outcome_counts.c
    query = select(outcome_counts).where(t.hour >= hour_start(since), t.hour < until)
    if version is not None:
        query = query.where(t.model_version == version)
    sums: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(_SUMS))
    with store.reading() as connection:
        for row in connection.execute(query):
            start = day_start(row.hour) if by_day else row.hour
            total = sums[start, row.model_version, row.experiment, row.arm, row.predicted, row.actual]
            for position, name in enumerate(_SUMS):
                total[position] += getattr(row, name)
    return [_outcome_count(key, total) for key, total in sorted(sums.items()) if total[0]]


def labels_by_hour(store: Store, since: datetime, until: datetime) -> dict[str, dict[datetime, int]]:
    """Rows with an outcome by model version and hour of the prediction, over all hosts; added up by the database."""
    t = outcome_counts.c
    query = select(t.model_version, t.hour, func.sum(t.rows).label("rows")).group_by(t.model_version, t.hour)
    found: defaultdict[str, dict[datetime, int]] = defaultdict(dict)
    with store.reading() as connection:
        for row in connection.execute(query.where(t.hour >= hour_start(since), t.hour < until)):
            found[row.model_version][row.hour] = int(row.rows)
    return found


def right_answers(store: Store, since: datetime, until: datetime, version: str) -> tuple[int, int]:
    """Rows with an outcome, and those of them that were answered right, in all hours that touch [since, until)."""
    t = outcome_counts.c
    sums = (func.sum(t.rows), func.sum(case((t.predicted == t.actual, t.rows), else_=0)))
    within = (t.model_version == version, t.hour >= hour_start(since), t.hour < until)
    with store.reading() as connection:
        rows, right = connection.execute(select(*sums).where(*within)).one()
    return int(rows or 0), int(right or 0)


def scored_outcomes(
    store: Store, since: datetime, until: datetime, version: str | None = None
) -> Iterator[ScoredOutcome]:
    """Labelled predictions made in [since, until), one by one, for what counts cannot tell: AUC, calibration."""
    t = labelled_rows.c
    columns = (t.prediction_id, t.model_version, t.predicted_at, t.predicted, t.actual, t.score, t.probability)
    for row in _labelled(store, select(*columns), since, until, version, t.actual.is_not(None)):
        yield ScoredOutcome(
            row.model_version,
            row.predicted_at,
            label_of(row.predicted),
            label_of(row.actual),
            row.score,
            None if row.probability is None else msgspec.json.decode(row.probability),
        )


def rows_to_train_on(
    store: Store, since: datetime, until: datetime, version: str | None = None
) -> Iterator[LabelledRow]:
    """Labelled rows of predictions made in [since, until) whose line was still there when the outcome came."""
    t = labelled_rows.c
    columns = (t.prediction_id, t.model_version, t.predicted_at, t.received_at, t.input_data, t.actual, t.value)
    known = t.actual.is_not(None) & t.input_data.is_not(None)
    for row in _labelled(store, select(*columns), since, until, version, known):
        yield LabelledRow(
            prediction_id=row.prediction_id,
            model_version=row.model_version,
            predicted_at=row.predicted_at,
            received_at=row.received_at,
            input_data=msgspec.json.decode(row.input_data),
            actual=label_of(row.actual),
            value=row.value,
        )


def outcome_history(store: Store, prediction_id: bytes) -> list[tuple[ClassLabel | None, float | None, int]]:
    """Every outcome of a prediction in the order of arrival: actual, value, microseconds since 1970."""
    t = outcomes.c
    query = select(t.actual, t.value, t.received).where(t.prediction_id == prediction_id)
    with store.reading() as connection:
        rows = connection.execute(query.order_by(t.received, t.digest)).all()
    return [(None if row.actual is None else label_of(row.actual), row.value, row.received) for row in rows]


def _labelled(
    store: Store,
    query: Select[Any],
    since: datetime,
    until: datetime,
    version: str | None,
    condition: ColumnElement[bool],
) -> Iterator[Any]:
    """In the order of identifiers, which is that of time; a bounded number of rows is held at once."""
    t = labelled_rows.c
    query = query.where(condition, t.predicted_at >= since, t.predicted_at < until)
    if version is not None:
        query = query.where(t.model_version == version)
    last = b""
    while True:
        step = query.where(t.prediction_id > last).order_by(t.prediction_id).limit(_ROWS_A_STEP)
        with store.reading() as connection:
            rows = connection.execute(step).all()
        yield from rows
        if len(rows) < _ROWS_A_STEP:
            return
        last = rows[-1].prediction_id


def _outcome_count(key: tuple[Any, ...], total: list[int]) -> OutcomeCount:
    since, version, experiment, arm, predicted, actual = key
    rows, delay, scored, log_loss, brier = total
    return OutcomeCount(
        since=since,
        model_version=version,
        experiment=experiment,
        arm=arm,
        predicted=label_of(predicted),
        actual=label_of(actual),
        rows=rows,
        delay_seconds=delay,
        scored_rows=scored,
        log_loss=log_loss / 1e6,
        brier=brier / 1e6,
    )
