"""From raw values to the float32 matrix that a model reads: one function, shared by training and serving.

A raw column is what both sides can make cheaply (see `RawColumn`); `Encoder.encode` turns a list of them, in the order
of the schema, into a matrix. Nothing here is fitted: all that it knows is data in the schema. Imputation, scaling,
one-hot and target encoding are fitted inside the model's pipeline, and live in `model.onnx`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, overload

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from models.schema import DatePart, Feature, Level, Schema

#: numeric, boolean (0/1) and datetime (seconds since 1970 UTC): float64 with NaN for missing;
#: categorical: a sequence of levels, None for missing.
RawColumn = NDArray[np.float64] | Sequence[Level | None]
Matrix = NDArray[np.float32]
Role = Literal["numeric", "one_hot", "target"]

UNSEEN = -1
_BYTE = 256


class FactorisedLevels(Sequence[Level | None]):
    """A categorical column as distinct levels and an index into them: what a large table makes cheaply.

    Reads as the plain sequence that it stands for; whoever can work level by level uses `levels` and `positions`.
    """

    def __init__(self, levels: Sequence[Level | None], positions: NDArray[np.intp]) -> None:
        self.levels = levels
        self.positions = positions

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, position: int) -> Level | None: ...
    @overload
    def __getitem__(self, position: slice) -> FactorisedLevels: ...
    def __getitem__(self, position: int | slice) -> Level | FactorisedLevels | None:
        if isinstance(position, slice):
            return FactorisedLevels(self.levels, self.positions[position])
        return self.levels[int(self.positions[position])]

    def take(self, rows: NDArray[np.intp]) -> FactorisedLevels:
        return FactorisedLevels(self.levels, self.positions[rows])


#: Values are clipped this many trained ranges beyond the trained range: trees cannot tell, a linear model stays finite.
CLIP_RANGES = 10.0
#: And no further than this from zero: a float32 that overflows to infinity is no input for a model.
LARGEST = 1e37


class EncodedColumn(Struct, frozen=True):
    """One column of the matrix: `levels` is the number of codes of a categorical one (0 for numeric)."""

    name: str
    role: Role
    levels: int = 0


class Encoder:
    """Encodes rows of one schema. Immutable after construction and safe to share between threads."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.columns: tuple[EncodedColumn, ...] = tuple(
            column for feature in schema.features for column in encoded_columns(feature)
        )
        self._codes: list[dict[Level | None, int]] = [_level_codes(feature) for feature in schema.features]

    @property
    def width(self) -> int:
        return len(self.columns)

    def encode(self, raw: Sequence[RawColumn]) -> Matrix:
        """Raw columns in the schema's order to a C-contiguous (rows, width) float32 matrix; missing numbers are NaN."""
        rows = len(raw[0]) if raw else 0
        matrix = np.empty((rows, self.width), dtype=np.float32)
        position = 0
        for feature, codes, values in zip(self.schema.features, self._codes, raw, strict=True):
            if feature.kind == "categorical":
                matrix[:, position] = _codes_of(codes, values)
                position += 1
                continue
            numbers = np.asarray(values, dtype=np.float64)
            for column in _numeric_columns(feature, numbers):
                matrix[:, position] = column
                position += 1
        return matrix


def encoded_columns(feature: Feature) -> list[EncodedColumn]:
    """The matrix columns that one feature becomes, in order."""
    if feature.kind == "categorical":
        return [EncodedColumn(feature.name, feature.encoding, len(feature.categories) + int(feature.nullable))]
    parts = feature.parts if feature.kind == "datetime" else ("",)
    columns = [EncodedColumn(f"{feature.name}.{part}" if part else feature.name, "numeric") for part in parts]
    if feature.nullable:
        columns.append(EncodedColumn(f"{feature.name}.missing", "numeric"))
    return columns


def _level_codes(feature: Feature) -> dict[Level | None, int]:
    codes: dict[Level | None, int] = {level: code for code, level in enumerate(feature.categories)}
    if feature.nullable:
        codes[None] = len(codes)
    return codes


def _codes_of(codes: dict[Level | None, int], values: RawColumn) -> NDArray[np.float32] | NDArray[np.uint8]:
    if isinstance(values, FactorisedLevels):
        known = np.array([codes.get(level, UNSEEN) for level in values.levels], dtype=np.float32)
        return known[values.positions] if len(known) else np.empty(0, dtype=np.float32)
    if len(codes) <= _BYTE:
        with suppress(KeyError):  # a level that is unseen
            return np.frombuffer(bytes(map(codes.__getitem__, values)), dtype=np.uint8)
    return np.array([codes.get(value, UNSEEN) for value in values], dtype=np.float32)


def _numeric_columns(feature: Feature, numbers: NDArray[np.float64]) -> list[NDArray[np.floating]]:
    columns: list[NDArray[np.floating]]
    if feature.kind != "datetime" and len(numbers):
        low, high = clip_bounds(feature)
        if numbers.min() >= low and numbers.max() <= high:  # most columns: nothing missing (NaN), nothing to clip
            return [numbers, np.zeros(len(numbers), dtype=np.float32)] if feature.nullable else [numbers]
    missing = ~np.isfinite(numbers)
    if feature.kind == "datetime":
        columns = [_date_part(numbers, missing, part) for part in feature.parts]
    else:
        columns = [np.clip(np.where(missing, np.nan, numbers), *clip_bounds(feature))]
    if feature.nullable:
        columns.append(missing.astype(np.float32))
    return columns


def clip_bounds(feature: Feature) -> tuple[float, float]:
    """Between these a number is encoded as it is."""
    low, high = feature.range or (-np.inf, np.inf)
    margin = CLIP_RANGES * (high - low)
    return max(low - margin, -LARGEST), min(high + margin, LARGEST)


def _date_part(seconds: NDArray[np.float64], missing: NDArray[np.bool_], part: DatePart) -> NDArray[np.float64]:
    known = np.where(missing, 0.0, seconds)
    if part == "hour":
        values = known % 86_400.0 // 3_600.0
    elif part == "minute":
        values = known % 3_600.0 // 60.0
    else:
        values = _calendar_part(np.floor(known / 86_400.0).astype(np.int64), part).astype(np.float64)
    return np.where(missing, np.nan, values)


def _calendar_part(days: NDArray[np.int64], part: DatePart) -> NDArray[np.int64]:
    if part == "weekday":  # Monday is 0; 1970-01-01 was a Thursday
        return np.asarray((days + 3) % 7)
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    if part == "year":
        return dates.astype("datetime64[Y]").astype(np.int64) + 1970
    if part == "month":
        return months.astype(np.int64) % 12 + 1
    return np.asarray((dates - months.astype("datetime64[D]")).astype(np.int64) + 1)
