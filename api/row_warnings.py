"""Warnings about rows that are answered all the same: a gap, a level or a value that training did not see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

from msgspec import Struct

from api.row_decoder import Row
from models.schema import Feature, Schema

Code = Literal["missing", "unseen_category", "out_of_range"]


class RowWarning(Struct, frozen=True):
    """`row` counts from 0 within the request."""

    row: int
    field: str
    code: Code


class WarningRules:
    """What is worth a warning under one schema.

    Dates have no trained range here: a served model reads their parts, and today is always later than training.
    """

    def __init__(self, schema: Schema) -> None:
        self._levels = [(f.name, frozenset(f.categories)) for f in schema.features if f.kind == "categorical"]
        self._ranges = [(f.name, *_range(f)) for f in schema.features if f.kind == "numeric"]
        self._others = [f.name for f in schema.features if f.kind in ("boolean", "datetime")]

    def of(self, rows: Sequence[Row]) -> list[RowWarning]:
        return [RowWarning(index, name, code) for index, row in enumerate(rows) for name, code in self._of_row(row)]

    def _of_row(self, row: dict[str, Any]) -> Iterator[tuple[str, Code]]:
        for name, low, high in self._ranges:
            value = row[name]
            if value is None:
                yield name, "missing"
            elif not low <= value <= high:
                yield name, "out_of_range"
        for name, levels in self._levels:
            value = row[name]
            if value is None:
                yield name, "missing"
            elif value not in levels:
                yield name, "unseen_category"
        for name in self._others:
            if row[name] is None:
                yield name, "missing"


def _range(feature: Feature) -> tuple[float, float]:
    return feature.range or (float("-inf"), float("inf"))
