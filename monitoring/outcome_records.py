"""What outcomes said, by model version and day: counts of predicted × actual, and the scores behind them.

Days and hours are those of the predictions, in UTC, so that labels over predictions is a coverage. What nobody has
sent an outcome for is in none of these.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import case, func, select

from models.schema import ClassLabel
from monitoring.labelled_rows import label_of
from monitoring.store import Store
from monitoring.tables import outcome_counts
from monitoring.window_records import day_start, hour_start

_SUMS = ("rows", "delay_seconds", "scored_rows", "log_loss_millionths", "brier_millionths")


class OutcomeCount(Struct, frozen=True, kw_only=True):
    """Rows of one version and day, that were predicted as one class and turned out to be another.

    An actual class that has over 160 characters of JSON is cut here, and told apart by a digest.
    """

    since: datetime
    model_version: str
    predicted: ClassLabel
    actual: ClassLabel
    rows: int
    #: Sum over the rows of the seconds from the prediction to the arrival of its (last) outcome.
    delay_seconds: int
    #: Rows whose probability for the actual class is known, and sums over them: -ln p, and Σ(p - is)², 0 to 2.
    scored_rows: int
    log_loss: float
    brier: float


def counted_outcomes(store: Store, since: datetime, until: datetime, version: str | None = None) -> list[OutcomeCount]:
    """Counts by day of the predictions in all hours that touch [since, until), over hosts and arms, oldest first."""
    t = outcome_counts.c
    query = select(outcome_counts).where(t.hour >= hour_start(since), t.hour < until)
    if version is not None:
        query = query.where(t.model_version == version)
    sums: defaultdict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * len(_SUMS))
    with store.reading() as connection:
        for row in connection.execute(query):
            total = sums[day_start(row.hour), row.model_version, row.predicted, row.actual]
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


def _outcome_count(key: tuple[Any, ...], total: list[int]) -> OutcomeCount:
    since, version, predicted, actual = key
    rows, delay, scored, log_loss, brier = total
    return OutcomeCount(
        since=since,
        model_version=version,
        predicted=label_of(predicted),
        actual=label_of(actual),
        rows=rows,
        delay_seconds=delay,
        scored_rows=scored,
        log_loss=log_loss / 1e6,
        brier=brier / 1e6,
    )
