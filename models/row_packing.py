"""The short way from one row to the matrix: `Encoder.encode` for a row that holds nothing unusual.

Most rows of most requests lie inside what training saw: no gap, no unseen level, no value beyond its range. For them
nothing is imputed, clipped or warned of, and plain Python beats array arithmetic on one row by a factor of twenty. A
row that is not like that is refused here, and takes the long way; the tests hold the two together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from operator import itemgetter
from typing import Any

from models.encoding import LARGEST
from models.raw_rows import parse_datetime
from models.schema import DatePart, Feature, Schema

#: A value to one cell of the matrix; raises one of `UNUSUAL` for what training did not see.
Cell = Callable[[Any], float]
UNUSUAL = (LookupError, TypeError, ValueError, OverflowError, AttributeError)
_BOOLEANS: Mapping[bool, float] = {False: 0.0, True: 1.0}


class RowPacker:
    """Packs ordinary rows of one schema. Immutable after construction and safe to share between threads.

    `feature_of_cell` holds, for each cell that `pack_into` is given, the position of the feature whose value it is.
    """

    def __init__(self, schema: Schema) -> None:
        cells = [(position, cell) for position, f in enumerate(schema.features) for cell in _cells(f)]
        self.feature_of_cell = tuple(position for position, _ in cells)
        self._cells = tuple(cell for _, cell in cells)
        # Each feature is looked at, or a gap in one that the model does not read would go by without its warning.
        self._is_complete = len(set(self.feature_of_cell)) == len(schema.features) > 0
        # The column that says 'missing' is 0.0 in an ordinary row: four pad bytes.
        layout = "".join("f" * len(_cells(f)) + ("4x" if _is_indicated(f) else "") for f in schema.features)
        self._pack_into = struct.Struct(f"={layout}").pack_into

    def pack_into(self, row: Any, values: Sequence[Any]) -> bool:
        """Writes one row of the float32 matrix into the buffer `row`; False, and nothing written, for an unusual one.

        `values` holds a value a cell: see `feature_of_cell`.
        """
        if not self._is_complete:
            return False
        try:
            cells = [cell(value) for cell, value in zip(self._cells, values, strict=True)]
        except UNUSUAL:
            return False
        self._pack_into(row, 0, *cells)
        return True


def values_getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What takes the values of a row that is a dictionary, as a tuple also where there is one name or none."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: tuple(row[name] for name in names)


def _is_indicated(feature: Feature) -> bool:
    return feature.nullable and feature.kind != "categorical"


def _cells(feature: Feature) -> list[Cell]:
    if feature.kind == "categorical":
        return [{level: float(code) for code, level in enumerate(feature.categories)}.__getitem__]
    if feature.kind == "boolean":
        return [_BOOLEANS.__getitem__]
    if feature.kind == "datetime":
        return [_date_cell(part) for part in feature.parts]
    return [_number_cell(*trained_range(feature))]


def trained_range(feature: Feature) -> tuple[float, float]:
    """Between these a number is neither warned of nor clipped."""
    low, high = feature.range or (-LARGEST, LARGEST)
    return max(low, -LARGEST), min(high, LARGEST)


def _number_cell(low: float, high: float) -> Cell:
    def cell(value: float) -> float:
        if low <= value <= high:
            return value
        raise ValueError

    return cell


def _date_cell(part: DatePart) -> Cell:
    read = _PARTS[part]
    return lambda text: read(parse_datetime(text))


def _day(seconds: float) -> date:
    return date.fromordinal(_EPOCH + int(seconds // 86_400.0))


_EPOCH = date(1970, 1, 1).toordinal()
_PARTS: Mapping[DatePart, Callable[[float], float]] = {
    "year": lambda seconds: float(_day(seconds).year),
    "month": lambda seconds: float(_day(seconds).month),
    "day": lambda seconds: float(_day(seconds).day),
    "weekday": lambda seconds: float(_day(seconds).weekday()),
    "hour": lambda seconds: seconds % 86_400.0 // 3_600.0,
    "minute": lambda seconds: seconds % 3_600.0 // 60.0,
}
