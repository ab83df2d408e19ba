"""From columns to rows, for the protocols that send a table column by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from api.faults import ABSENT, MAX_FAULTS, REQUIRED, TARGET, UNKNOWN, Fault, accepted_names, child, json_type
from api.row_decoder import InvalidRowsError
from models.schema import Schema


def rows_of_columns(schema: Schema, columns: Mapping[str, Any], path: str) -> list[dict[str, Any]]:
    """One dictionary a row, its values not yet checked; `path` is the JSONPath of `columns`.

    Raises `InvalidRowsError` when a column is absent, unknown, no list, or not as long as the first.
    """
    refuse_any(name_faults(schema, columns, path))
    refuse_any(_length_faults(columns, path))
    names = tuple(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def name_faults(schema: Schema, names: Iterable[str], path: str, got: str = "array") -> Iterator[Fault]:
    """Absent features and names that the model does not know: once for the table, not once a row."""
    given = set(names)
    known = accepted_names(schema)
    for name in schema.feature_names:
        if name not in given:
            yield Fault(child(path, name), REQUIRED, ABSENT)
    for name in names:
        if name not in known:
            yield Fault(child(path, name), TARGET if name == schema.target else UNKNOWN, got)


def refuse_any(faults: Iterable[Fault]) -> None:
    """Raises `InvalidRowsError` when there is a fault."""
    if found := list(islice(faults, MAX_FAULTS)):
        raise InvalidRowsError(found)


def _length_faults(columns: Mapping[str, Any], path: str) -> Iterator[Fault]:
    rows: int | None = None
    for name, values in columns.items():
        if not isinstance(values, list):
            yield Fault(child(path, name), "expected a list with one value a row", json_type(values))
        elif rows is None:
            rows = len(values)
        elif len(values) != rows:
            yield Fault(child(path, name), f"expected {rows} values, as in the first column", "array")
