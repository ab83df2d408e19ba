"""From a request's body to validated rows: one decode-and-validate pass into a struct that is built from the schema.

RequestError            the caller's mistake
├── NotJsonError        the body is not JSON
├── InvalidRowsError    the rows break the schema; carries the faults
│   └── InvalidOutcomesError  outcomes are no outcomes (`api.feedback`)
└── TooManyRowsError    more rows than one request may have
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from api.faults import Fault, collect_faults, has_integer_levels, is_datetime
from api.records import Record, Row, attributes_getter, field_name, forget
from api.struct_faults import struct_fault
from models.schema import Feature, Schema

#: Up to this size all faults of a body are collected, which decodes it without a schema: `{}` a few million times over
#: would take a hundred times its own memory.
COLLECTED_BYTES = 4 * 2**20


class RequestError(Exception):
    """The request cannot be answered as it is."""


class NotJsonError(RequestError):
    pass


class InvalidRowsError(RequestError):
    detail = "the rows do not fit the model's schema"

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__(self.detail)
        self.faults = tuple(faults)


class InvalidOutcomesError(InvalidRowsError):
    """Its faults are of the outcomes' own fields, whatever features the model has."""

    detail = "the outcomes are not as they must be"


class TooManyRowsError(RequestError):
    def __init__(self, limit: int) -> None:
        super().__init__(f"one request may hold up to {limit} rows")


class RowDecoder:
    """Decodes bodies for one schema. Immutable after construction and safe to share between threads."""

    def __init__(self, schema: Schema, max_rows: int) -> None:
        self._schema = schema
        self._max_rows = max_rows
        self._names = schema.feature_names
        dates = [field_name(index) for index, feature in enumerate(schema.features) if feature.kind == "datetime"]
        self._dates_of = attributes_getter(dates) if dates else None
        self._forgotten = [_ignored_name(index) for index, _ in enumerate(_ignored(schema))]
        self._whole = tuple(feature.name for feature in schema.features if feature.kind == "numeric")
        self._strict = _struct_decoder(schema)
        # Numbers that overflow a float become infinite here, so that they are named as faults like any other.
        self._plain = msgspec.json.Decoder(float_hook=float)

    def records(self, body: bytes) -> Sequence[Record]:
        """The rows of one object or a list of objects; of a repeated key the last one counts. Raises `RequestError`."""
        strict = self._strict
        records = self._decode_plainly(body) if strict is None else self._decode_strictly(body, strict)
        if len(records) > self._max_rows:
            raise TooManyRowsError(self._max_rows)
        return records

    def document(self, body: bytes) -> Any:
        """The JSON of a body, its rows not yet checked; `validate` does that. Raises `RequestError`."""
        try:
            return self._plain.decode(body)
        except msgspec.ValidationError as error:
            raise InvalidRowsError([struct_fault(error)]) from None
        except RecursionError:
            raise NotJsonError("the body is nested too deeply") from None
        except ValueError as error:
            raise _not_json(error) from None

    def validate(self, items: Sequence[Any]) -> list[Row]:
        """The rows of a list of objects that has been decoded already, by the same rules. Raises `RequestError`."""
        if len(items) > self._max_rows:
            raise TooManyRowsError(self._max_rows)
        if faults := collect_faults(self._schema, items):
            raise InvalidRowsError(faults)
        return self._rows(items)

    def _decode_strictly(self, body: bytes, decoder: msgspec.json.Decoder[Any]) -> Sequence[Record]:
        try:
            decoded = decoder.decode(body)
        except (msgspec.ValidationError, RecursionError) as error:
            return self._without_the_struct(body, error)
        except ValueError as error:
            raise _not_json(error) from None
        structs = decoded if isinstance(decoded, list) else [decoded]
        dates = self._dates_of
        if not structs or (dates is not None and not all(_are_dates(dates(struct)) for struct in structs)):
            return self._without_the_struct(body, None)
        if self._forgotten:
            forget(self._forgotten, structs)
        return structs

    def _decode_plainly(self, body: bytes) -> list[Row]:
        """The same for schemas with a name that no struct field can carry: checked in Python, slower."""
        return self._checked(self.document(body))

    def _rows(self, items: Sequence[dict[str, Any]]) -> list[Row]:
        rows = [{name: item[name] for name in self._names} for item in items]
        for row in rows:
            row.update({name: float(row[name]) for name in self._whole if row[name] is not None})
        return rows

    def _without_the_struct(self, body: bytes, error: msgspec.ValidationError | RecursionError | None) -> list[Row]:
        """Why the strict pass has failed: every fault, or of a large body the one that msgspec met first.

        There is no fault where a repeated key had a wrong value before its last one; then these are the rows.
        """
        first = error if isinstance(error, msgspec.ValidationError) else None
        if first is not None and len(body) > COLLECTED_BYTES:
            raise InvalidRowsError([struct_fault(first, self._schema.features)])
        try:
            document = self.document(body)
        except InvalidRowsError:  # not even decodable without a schema; the strict pass knows the path
            if first is None:
                raise
            raise InvalidRowsError([struct_fault(first, self._schema.features)]) from None
        return self._checked(document)

    def _checked(self, document: Any) -> list[Row]:
        if faults := collect_faults(self._schema, document):
            raise self._refused(document, faults)
        return self._rows(_items(document))

    def _refused(self, document: Any, faults: list[Fault]) -> RequestError:
        if isinstance(document, list) and len(document) > self._max_rows:
            return TooManyRowsError(self._max_rows)
        return InvalidRowsError(faults)


def _struct_decoder(schema: Schema) -> msgspec.json.Decoder[Any] | None:
    """None when a name holds a quote, a backslash or a control character: msgspec cannot give it to a field."""
    ignored = _ignored(schema)
    # In this order: who reads a struct's values takes the features from the front.
    fields: list[Any] = [(field_name(i), _value_type(feature)) for i, feature in enumerate(schema.features)]
    fields += [(_ignored_name(i), Raw | UnsetType, UNSET) for i in range(len(ignored))]
    names = dict(zip((name for name, *_ in fields), [*schema.feature_names, *ignored], strict=True))
    try:
        row: type[Struct] = msgspec.defstruct(
            "Row", fields, rename=names, forbid_unknown_fields=True, kw_only=True, gc=False
        )
    except ValueError:
        return None
    return msgspec.json.Decoder(row | list[row])  # type: ignore[valid-type]


def _value_type(feature: Feature) -> Any:
    level = int if has_integer_levels(feature) else str
    kind = {"numeric": float, "boolean": bool, "datetime": str}.get(feature.kind, level)
    return kind if feature.required else kind | None


def _ignored(schema: Schema) -> list[str]:
    return [column.name for column in schema.ignored if column.name != schema.target]


def _ignored_name(position: int) -> str:
    return f"x{position}"


def _are_dates(values: Sequence[Any]) -> bool:
    return all(value is None or is_datetime(value) for value in values)


def _items(document: Any) -> list[dict[str, Any]]:
    return document if isinstance(document, list) else [document]


def _not_json(error: Exception) -> NotJsonError:
    if isinstance(error, UnicodeDecodeError):
        return NotJsonError("the body is not UTF-8")
    return NotJsonError(str(error))
