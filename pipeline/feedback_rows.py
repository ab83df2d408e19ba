"""Outcomes that came back, as rows of the training table.

A logged row holds the features of the model that answered it, as requests send them: dates in ISO 8601, booleans as
JSON. So the columns of the table that write those in another way are typed first, by the schema of the model in
service; the hash that keeps a row on its side of the split is of typed values, and stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from msgspec import Struct
from numpy.typing import NDArray

from models.schema import Feature, Schema
from monitoring.hour_tallies import raw_values
from monitoring.labelled_reading import LabelledRow
from pipeline.column_values import is_text, typed
from pipeline.data_split import time_values

#: Features whose text in a training file need not be what a request sends.
_REWRITTEN = ("datetime", "boolean")
#: Numbers beyond the largest double become infinite, as ingestion reads them.
_PLAIN = msgspec.json.Decoder(float_hook=float)


class Feedback(Struct, frozen=True):
    """Labelled rows, oldest first, and the schema of the model in service, which tells what they hold."""

    rows: list[LabelledRow]
    schema: Schema

    def left_out(self, time_column: str | None) -> list[str]:
        """Columns of the table that no row here has, because the model does not read them."""
        return [column.name for column in self.schema.ignored if column.name not in (self.schema.target, time_column)]

    def joined(self, base: pd.DataFrame | None, time_column: str | None, source: str) -> pd.DataFrame:
        """The table with these rows after its own; `base` None stands for no rows.

        Rows get a value of the time column where they lack it, because the model does not read it: dates the moment of
        their prediction, numbers a place after the last of the table, in the order of the predictions.

        Raises InputError when the time column holds neither numbers nor dates.
        """
        frame = self._frame()
        lacks_time = time_column is not None and time_column not in frame.columns
        if base is None:
            return frame.assign(**{str(time_column): _moments(self.rows)}) if lacks_time else frame
        before = base.copy(deep=False)
        for feature in self.schema.features:
            if feature.kind in _REWRITTEN and feature.name in before.columns:
                values = typed(before[feature.name], feature.kind, date_format=feature.date_format).values
                before[feature.name] = values
        if time_column is not None and lacks_time and time_column in before.columns:
            before[time_column], frame[time_column] = _times(before[time_column], self.rows, source, time_column)
        return pd.concat([before, frame], ignore_index=True)

    def _frame(self) -> pd.DataFrame:
        """The features, typed, and the target; one that the field policy hashes or drops is missing in all rows."""
        inputs = [_PLAIN.decode(row.input_data) for row in self.rows]
        objects = [values if isinstance(values, dict) else {} for values in inputs]
        columns: dict[str, Any] = {
            feature.name: _series(feature, [values.get(feature.name) for values in objects])
            for feature in self.schema.features
        }
        columns[self.schema.target] = pd.Series([msgspec.json.decode(row.actual) for row in self.rows])
        return pd.DataFrame(columns)


def _series(feature: Feature, logged: list[Any]) -> pd.Series[Any]:
    values = raw_values(feature, logged)
    if values is None:
        return pd.Series([None] * len(logged), dtype=object)
    if feature.kind == "categorical":
        return pd.Series(list(values), dtype=object)
    numbers = np.asarray(values, dtype=np.float64)
    known = np.isfinite(numbers)
    if feature.kind == "boolean":
        return pd.Series(pd.arrays.BooleanArray(np.where(known, numbers, 0.0) == 1.0, ~known))
    return pd.Series(_dates(numbers) if feature.kind == "datetime" else numbers)


def _times(
    before: pd.Series[Any], rows: Sequence[LabelledRow], source: str, name: str
) -> tuple[pd.Series[Any], pd.Series[Any]]:
    """The time column of the table and of the labelled rows, of one type."""
    seconds = time_values(before, source, name)
    if _holds_dates(before):
        return pd.Series(_dates(seconds), index=before.index), _moments(rows)
    last = np.nanmax(seconds) if np.isfinite(seconds).any() else 0.0
    return pd.Series(seconds, index=before.index), pd.Series(last + 1.0 + np.arange(len(rows)))


def _holds_dates(series: pd.Series[Any]) -> bool:
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return True
    return is_text(series) and bool(typed(series, "numeric").values.isna().all())


def _moments(rows: Sequence[LabelledRow]) -> pd.Series[Any]:
    return pd.Series(_dates(np.array([row.predicted_at.timestamp() for row in rows], dtype=np.float64)))


def _dates(seconds: NDArray[np.float64]) -> NDArray[np.datetime64]:
    """Microseconds, as typed columns hold dates; NaT where there is no finite value."""
    known = np.isfinite(seconds)
    whole = np.rint(np.where(known, seconds, 0.0) * 1e6).astype("datetime64[us]")
    return np.where(known, whole, np.datetime64("NaT", "us"))
