"""What one request's rows are after validation, and how their values are taken out.

A record is a struct built from the schema, or a dictionary where there is none: for a schema with a name that no struct
field can carry, and for rows that came in the envelope of another protocol. Both encode as the same JSON object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, TypeAlias

from msgspec import UNSET, Struct
from msgspec.structs import astuple

from models.row_packing import values_getter
from models.schema import Schema

#: A feature's value by its name, in the schema's order, and nothing else.
Row = dict[str, Any]
Record: TypeAlias = Struct | Row


class RecordReader:
    """Takes values out of the records of one schema. Immutable and safe to share between threads."""

    def __init__(self, schema: Schema, feature_of_cell: Sequence[int]) -> None:
        self._names = schema.feature_names
        self._cells_of_row = values_getter([self._names[position] for position in feature_of_cell])
        self._cells_of_struct = attributes_getter([field_name(position) for position in feature_of_cell])

    def cells(self, record: Record) -> tuple[Any, ...]:
        """The values that `RowPacker.pack_into` takes."""
        return self._cells_of_row(record) if isinstance(record, dict) else self._cells_of_struct(record)

    def columns(self, records: Sequence[Record]) -> Sequence[Sequence[Any]]:
        """One sequence of values a feature, in the schema's order."""
        if isinstance(records[0], dict):
            return [[record[name] for record in records] for name in self._names]  # type: ignore[index]
        # The features come first in the struct; what is ignored comes after them.
        return list(zip(*map(astuple, records), strict=True))[: len(self._names)]  # type: ignore[arg-type]


def forget(fields: Sequence[str], structs: Iterable[Struct]) -> None:
    """Takes the values of ignored fields out of records, so that nobody logs them."""
    for struct in structs:
        for field in fields:
            setattr(struct, field, UNSET)


def field_name(position: int) -> str:
    """The struct's field for the feature at this position of the schema."""
    return f"f{position}"


def attributes_getter(fields: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """`operator.attrgetter` that gives a tuple also for one field or none."""
    if len(fields) > 1:
        return attrgetter(*fields)
    return lambda struct: tuple(getattr(struct, field) for field in fields)
