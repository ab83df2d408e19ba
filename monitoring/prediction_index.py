"""Which predictions are known, by id: what outcomes are joined to, and how a line that comes twice is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, or_, select, update

from models.schema import ClassLabel
from monitoring.hour_tallies import EPOCH
from monitoring.labelled_rows import label_text
from monitoring.log_lines import Batch, LoggedOutcome, LoggedPrediction, digest_of
from monitoring.plain_json import valid_text
from monitoring.store import Store
from monitoring.tables import outcomes, predictions

_MICROSECOND = timedelta(microseconds=1)
_IDS_A_QUERY = 5000
#: Rows that one transaction forgets.
PRUNED_ROWS = 20_000


class RepeatedLineError(Exception):
    """Some of the lines are known already; the transaction must be undone, and those be left out."""


def moments_of(lines: Sequence[LoggedPrediction] | Sequence[LoggedOutcome]) -> list[int]:
    """Microseconds since 1970 UTC; lines of one request share their moment, and most of the work."""
    known: dict[datetime, int] = {}
    moments = []
    for line in lines:
        moment = known.get(line.timestamp)
        if moment is None:
            moment = known[line.timestamp] = (line.timestamp - EPOCH) // _MICROSECOND
        moments.append(moment)
    return moments


def add_predictions(
    connection: Connection,
    source: int,
    file: int,
    batch: Batch[LoggedPrediction],
    moments: Sequence[int],
    estimates: Sequence[int | None],
) -> None:
    """Raises `RepeatedLineError` unless every line is new; `estimates` are in millionths."""
    labels = _LabelTexts()
    rows = [
        (
            id_,
            source,
            file,
            place,
            line.model_version,
            line.experiment or "",
            line.arm or "",
            labels.of(line.prediction),
            line.probability[1] if len(line.probability) == 2 else line.max_probability,
            moment,
            estimate,
        )
        for id_, place, line, moment, estimate in zip(
            batch.ids, batch.places, batch.lines, moments, estimates, strict=True
        )
    ]
    if rows and _insert(connection, predictions.name, [column.name for column in predictions.c], rows) != len(rows):
        raise RepeatedLineError


def add_outcomes(connection: Connection, source: int, batch: Batch[LoggedOutcome], moments: Sequence[int]) -> None:
    """Outcomes that are known already change nothing."""
    rows = [
        (
            id_,
            moment,
            digest_of(line),
            source,
            None if line.actual is None else label_text(line.actual),
            line.value,
            None if line.observed_at is None else valid_text(line.observed_at),
            1,
        )
        for id_, line, moment in zip(batch.ids, batch.lines, moments, strict=True)
    ]
    if rows:
        _insert(connection, outcomes.name, [column.name for column in outcomes.c], rows)


def known_ids(store: Store, ids: Sequence[bytes]) -> set[bytes]:
    """Those of the ids that are in the index, from whichever source."""
    found: set[bytes] = set()
    with store.reading() as connection:
        for start in range(0, len(ids), _IDS_A_QUERY):
            wanted = ids[start : start + _IDS_A_QUERY]
            found.update(connection.scalars(select(predictions.c.id).where(predictions.c.id.in_(wanted))))
    return found


def point_to(connection: Connection, source: int, file: int, places: Sequence[tuple[bytes, int]]) -> None:
    """Tells where lines that are known stand now."""
    if places:
        p = predictions.c
        of_line = (p.id == bindparam("known_id"), p.source == source)
        values = [{"known_id": id_, "new_byte": place} for id_, place in places]
        statement = update(predictions).where(*of_line).values(file=file, byte=bindparam("new_byte"))
        connection.execute(statement, values)


def first_id(moment: datetime) -> bytes:
    """The smallest UUIDv7 of a moment: identifiers made before it sort before this one."""
    milliseconds = (moment - EPOCH) // timedelta(milliseconds=1)
    return max(0, milliseconds).to_bytes(6, "big") + bytes(10)


def prune(store: Store, before: datetime) -> int:
    """Forgets some predictions made before a moment, and gives up waiting for them; returns how many, 0 at the end."""
    p, o, limit = predictions.c, outcomes.c, first_id(before)
    # Other hosts forget the same rows at the same time: PostgreSQL passes over those that they have in hand.
    oldest = select(p.id).where(p.id < limit).order_by(p.id).limit(PRUNED_ROWS).with_for_update(skip_locked=True)
    received = (before - EPOCH) // _MICROSECOND
    with store.writing() as connection:
        gone = connection.execute(delete(predictions).where(p.id.in_(oldest))).rowcount
        late = (o.waiting == 1, or_(o.prediction_id < limit, o.received < received))
        connection.execute(update(outcomes).where(*late).values(waiting=2))
    return gone


class _LabelTexts:
    """`label_text` of few labels many times."""

    def __init__(self) -> None:
        self._texts: dict[tuple[type, ClassLabel], str] = {}

    def of(self, label: ClassLabel) -> str:
        key = (label.__class__, label)
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = label_text(label)
        return text


def _insert(connection: Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> int:
    """Inserts rows whose key is new, and returns how many; by the driver itself, which is three times faster."""
    place = "%s" if connection.dialect.name == "postgresql" else "?"
    names, places = ", ".join(columns), ", ".join([place] * len(columns))
    statement = f"INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608 - our own names
    return connection.exec_driver_sql(statement, list(rows)).rowcount
