"""What can be wrong with a request's rows: every fault, up to a bound, with its path and never with a value.

This is the plain statement of the rules. `api.row_decoder` applies the same rules in one pass through msgspec, and
comes here only after that pass has failed; a test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from models.raw_rows import parse_datetime
from models.schema import Feature, Schema

MAX_FAULTS = 20
#: A client's own field names stand in paths; longer ones are cut.
MAX_NAME = 120
ABSENT = "absent"
REQUIRED, UNKNOWN, TARGET = "required field", "unknown field", "the target is not sent"
#: The rules by the short names under which refusals are counted.
_RULE_NAMES = {REQUIRED: "absent", UNKNOWN: "unknown", TARGET: "target"}


class Fault(Struct, frozen=True):
    """`path` is a JSONPath (`$[2].age`), `got` a JSON type; `field` is what it is about where the path does not end in
    that, and may be a client's own name."""

    path: str
    rule: str
    got: str
    field: str | UnsetType = UNSET


def collect_faults(schema: Schema, document: Any) -> list[Fault]:
    """The faults of a decoded request body, in the order of rows and features, at most `MAX_FAULTS`."""
    if isinstance(document, dict):
        return list(islice(_row_faults(schema, document, "$"), MAX_FAULTS))
    if not isinstance(document, list):
        return [Fault("$", "expected an object or a list of objects", json_type(document))]
    if not document:
        return [Fault("$", "expected at least one row", "array")]
    faults = (fault for index, row in enumerate(document) for fault in _row_faults(schema, row, f"$[{index}]"))
    return list(islice(faults, MAX_FAULTS))


def accepted_names(schema: Schema) -> set[str]:
    """The names of the fields that a row may have."""
    return {*schema.feature_names, *(column.name for column in schema.ignored)} - {schema.target}


def field_of(fault: Fault, known: Collection[str]) -> str | None:
    """The field that a fault is about, when it is one of `known`; never a name that only the client knows."""
    if isinstance(fault.field, str):
        return fault.field if fault.field in known else None
    _, _, name = fault.path.removeprefix("$").rpartition(".")
    if name in known:
        return name
    quoted = fault.path.find('["')
    if quoted >= 0:
        try:
            name = msgspec.json.decode(fault.path[quoted + 1 : -1], type=str)
        except ValueError:
            return None
    return name if name in known else None


def rule_name(fault: Fault) -> str:
    """`absent`, `unknown`, `target`, `null` or `type`."""
    return _RULE_NAMES.get(fault.rule) or ("null" if fault.got == "null" else "type")


def is_datetime(text: str) -> bool:
    try:
        parse_datetime(text)
    except (ValueError, OverflowError):
        return False
    return True


def is_finite_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # a whole number beyond what a float holds
        return False


def expected(feature: Feature) -> str:
    """The rule for one feature's value, in words."""
    kinds = {"numeric": "a finite number", "boolean": "true or false", "datetime": "an ISO 8601 date or time as text"}
    level = "a whole number" if has_integer_levels(feature) else "text"
    return f"expected {kinds.get(feature.kind, level)}{'' if feature.required else ' or null'}"


def has_integer_levels(feature: Feature) -> bool:
    return any(isinstance(level, int) for level in feature.categories)


def json_type(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    names = ((int | float, "number"), (str, "string"), (list, "array"))
    return next((name for kind, name in names if isinstance(value, kind)), "object")


def _row_faults(schema: Schema, row: Any, path: str) -> Iterator[Fault]:
    if not isinstance(row, dict):
        yield Fault(path, "expected an object", json_type(row))
        return
    for feature in schema.features:
        if feature.name not in row:
            yield Fault(child(path, feature.name), REQUIRED, ABSENT)
        elif not _is_valid(feature, row[feature.name]):
            yield Fault(child(path, feature.name), expected(feature), json_type(row[feature.name]))
    known = accepted_names(schema)
    for name in row:
        if name not in known:
            rule = TARGET if name == schema.target else UNKNOWN
            yield Fault(child(path, name), rule, json_type(row[name]))


def _is_valid(feature: Feature, value: Any) -> bool:
    if value is None:
        return not feature.required
    if feature.kind == "boolean":
        return isinstance(value, bool)
    if feature.kind == "datetime":
        return isinstance(value, str) and is_datetime(value)
    if feature.kind == "numeric":
        return is_finite_number(value)
    if has_integer_levels(feature):
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str)


def child(path: str, name: str) -> str:
    """`$.age`, or `$["Culmen Length (mm)"]` where the name is no identifier."""
    if name.isidentifier() and len(name) <= MAX_NAME:
        return f"{path}.{name}"
    shown = name if len(name) <= MAX_NAME else name[:MAX_NAME] + "…"
    return f"{path}[{msgspec.json.encode(shown).decode()}]"
