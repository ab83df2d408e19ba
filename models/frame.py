"""Tables to raw columns and to the model's matrix: the pandas side of `models.encoding`; no server imports it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from models.encoding import Encoder, FactorisedLevels, Matrix, RawColumn
from models.schema import Feature, Level, Schema


def frame_to_raw(schema: Schema, frame: pd.DataFrame) -> list[RawColumn]:
    """Raw columns of the schema's features, in its order; other columns of the frame are not looked at.

    Raises KeyError when a feature is absent.
    """
    return [series_to_raw(feature, frame[feature.name]) for feature in schema.features]


def series_to_raw(feature: Feature, series: pd.Series[Any]) -> RawColumn:
    """One raw column; what cannot be read as the feature's kind counts as missing."""
    if feature.kind == "categorical":
        return _levels(feature, series)
    if feature.kind == "datetime":
        return epoch_seconds(series)
    if feature.kind == "boolean" and series.dtype != bool:
        return _truth(series)
    return pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def epoch_seconds(series: pd.Series[Any]) -> NDArray[np.float64]:
    """Seconds since 1970 UTC of dates, or of ISO 8601 text; NaN where there is none."""
    moments = pd.to_datetime(series, errors="coerce", utc=True, format=None if _is_moment(series) else "ISO8601")
    # Microseconds: what ISO 8601 text in JSON keeps, and what still holds 9999-12-31, as files write 'never'.
    microseconds = moments.dt.as_unit("us").to_numpy(dtype="datetime64[us]").view(np.int64)
    return np.where(moments.isna().to_numpy(), np.nan, microseconds / 1e6)


def _is_moment(series: pd.Series[Any]) -> bool:
    return pd.api.types.is_datetime64_any_dtype(series.dtype)


def _truth(series: pd.Series[Any]) -> NDArray[np.float64]:
    known = {True: 1.0, False: 0.0, "true": 1.0, "false": 0.0}
    codes, levels = pd.factorize(series.astype(object))
    values = [known.get(level.strip().lower() if isinstance(level, str) else level, np.nan) for level in levels]
    return np.array([*values, np.nan])[codes]


def _levels(feature: Feature, series: pd.Series[Any]) -> FactorisedLevels:
    codes, levels = pd.factorize(series)
    whole = bool(feature.categories) and isinstance(feature.categories[0], int)
    known: list[Level | None] = [_level(level, whole) for level in levels]
    return FactorisedLevels([*known, None], np.where(codes < 0, len(known), codes))


def _level(value: Any, whole: bool) -> Level:
    """A cell as a level: whole numbers stay numbers where the feature's levels are, everything else is its text."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        value = int(value)
    if whole and isinstance(value, (int, np.integer)):
        return int(value)
    return str(value)


class TableEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The first step of every model: a table of raw values to the float32 matrix, as the server makes it from requests.

    It fits nothing: its whole state is the schema, as JSON text, so that it is stored without a pickle.
    """

    def __init__(self, schema_json: str) -> None:
        self.schema_json = schema_json

    @classmethod
    def of(cls, schema: Schema) -> TableEncoder:
        return cls(msgspec.json.encode(schema).decode())

    def fit(self, frame: pd.DataFrame, y: object = None) -> TableEncoder:
        return self

    def transform(self, frame: pd.DataFrame) -> Matrix:
        encoder = Encoder(msgspec.json.decode(self.schema_json, type=Schema))
        return encoder.encode(frame_to_raw(encoder.schema, frame))

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> NDArray[np.object_]:
        schema = msgspec.json.decode(self.schema_json, type=Schema)
        return np.array([column.name for column in Encoder(schema).columns], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True


def json_rows(schema: Schema, raw: Sequence[RawColumn]) -> list[dict[str, Any]]:
    """Raw columns as the rows that a request would hold; `raw_rows.raw_columns` reads them back to the same matrix."""
    columns = [_json_values(feature, values) for feature, values in zip(schema.features, raw, strict=True)]
    return [dict(zip(schema.feature_names, row, strict=True)) for row in zip(*columns, strict=True)]


def _json_values(feature: Feature, values: RawColumn) -> list[Any]:
    if feature.kind == "categorical":
        return list(values)
    return [_json_number(feature, float(value)) if np.isfinite(value) else None for value in np.asarray(values)]


def _json_number(feature: Feature, value: float) -> Any:
    if feature.kind == "boolean":
        return bool(value)
    if feature.kind == "datetime":
        return datetime.fromtimestamp(value, UTC).isoformat()
    return int(value) if feature.integer and value.is_integer() else value
