"""Warnings about rows that are answered all the same: a gap, a level or a value that training did not see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from msgspec import Struct

from models.encoding import RawColumn
from models.reference import WarnedRows
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
        rules = [_Rule(feature) for feature in schema.features]
        # Numbers first, then levels, then the others: the order of a row's warnings.
        order = {"numeric": 0, "categorical": 1}
        ranks = sorted(range(len(rules)), key=lambda position: order.get(rules[position].kind, 2))
        self._rules = [(position, rules[position]) for position in ranks]

    def of(self, raw: Sequence[RawColumn]) -> list[RowWarning]:
        """The warnings of raw columns in the schema's order, by row."""
        found = [
            (row, rank, RowWarning(row, rule.name, code))
            for rank, (position, rule) in enumerate(self._rules)
            for row, code in rule.of(raw[position])
        ]
        found.sort(key=lambda entry: entry[:2])
        return [warning for _, _, warning in found]

    def count(self, raw: Sequence[RawColumn]) -> WarnedRows:
        """How many of the rows have each code at least once."""
        rows = len(raw[0]) if raw else 0
        warned: dict[str, set[int]] = {}
        if rows:
            for position, rule in self._rules:
                for row, code in rule.of(raw[position]):
                    warned.setdefault(code, set()).add(row)
        return WarnedRows(rows=rows, codes={code: len(found) for code, found in sorted(warned.items())})


class _Rule:
    """The rule for one feature: a whole column without anything to warn of is passed at a glance."""

    def __init__(self, feature: Feature) -> None:
        self.name = feature.name
        self.kind = feature.kind
        self._levels = frozenset(feature.categories)
        ranged = feature.kind == "numeric" and feature.range is not None
        self._low, self._high = feature.range if ranged and feature.range else (-np.inf, np.inf)

    def of(self, values: RawColumn) -> Iterator[tuple[int, Code]]:
        if self.kind == "categorical":
            if not self._levels.issuperset(values):
                yield from self._of_levels(values)
            return
        numbers = np.asarray(values, dtype=np.float64)
        # A gap is NaN, and so are then the minimum and the comparison false.
        if not (numbers.min() >= self._low and numbers.max() <= self._high):
            for row in np.flatnonzero(~((numbers >= self._low) & (numbers <= self._high))).tolist():
                yield row, "missing" if np.isnan(numbers[row]) else "out_of_range"

    def _of_levels(self, values: RawColumn) -> Iterator[tuple[int, Code]]:
        for row, value in enumerate(values):
            if value is None:
                yield row, "missing"
            elif value not in self._levels:
                yield row, "unseen_category"
