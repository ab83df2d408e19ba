"""Rows as requests send them (JSON values by feature name) to raw columns, for the server and for stored checks."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from models.encoding import RawColumn
from models.schema import Feature, Schema


def raw_columns(schema: Schema, rows: Sequence[dict[str, Any]]) -> list[RawColumn]:
    """Raw columns in the schema's order, one value a row. The rows have been validated: every feature is there."""
    return [raw_column(feature, [row[feature.name] for row in rows]) for feature in schema.features]


def raw_column(feature: Feature, values: Sequence[Any]) -> RawColumn:
    """One raw column from JSON values; None is missing."""
    if feature.kind == "categorical":
        return values
    if feature.kind == "datetime":
        values = [None if value is None else parse_datetime(value) for value in values]
    try:  # twice as fast as numpy's own way from a sequence
        return np.frombuffer(struct.pack(f"{len(values)}d", *values))
    except struct.error:
        return np.array(values, dtype=np.float64)  # None becomes NaN


def parse_datetime(text: str) -> float:
    """Seconds since 1970 UTC of an ISO 8601 text; without an offset it is read as UTC.

    Raises ValueError when it is no such text.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
