"""Rows whose outcome has come back, as retraining reads them."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct
from sqlalchemy import ColumnElement, func, select

from monitoring.store import Store
from monitoring.tables import labelled_rows

_OF_ROW = labelled_rows.c


class LabelledRow(Struct, frozen=True):
    """`input_data` is the row as it was logged and `actual` the class that it was, both as JSON."""

    input_data: str
    actual: str
    predicted_at: datetime


class LabelledRows:
    """Those that can be trained on: the row's own line was found, and its class is known."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def count_since(self, moment: datetime | None) -> int:
        """How many have had their newest outcome at or after a moment; all of them for None."""
        query = select(func.count()).select_from(labelled_rows).where(*_usable())
        if moment is not None:
            query = query.where(_OF_ROW.received_at >= moment)
        with self._store.reading() as connection:
            return connection.execute(query).scalar_one()

    def newest(self, most: int) -> list[LabelledRow]:
        """The newest `most` by the time of their prediction, oldest first."""
        query = select(_OF_ROW.input_data, _OF_ROW.actual, _OF_ROW.predicted_at).where(*_usable())
        query = query.order_by(_OF_ROW.predicted_at.desc(), _OF_ROW.prediction_id.desc()).limit(most)
        with self._store.reading() as connection:
            rows = connection.execute(query).all()
        return [LabelledRow(row.input_data, row.actual, row.predicted_at) for row in reversed(rows)]


def _usable() -> tuple[ColumnElement[bool], ...]:
    return (_OF_ROW.input_data.is_not(None), _OF_ROW.actual.is_not(None))
