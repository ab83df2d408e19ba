"""The first fault that msgspec meets, as one of ours: for what is refused before, or without, collecting all faults."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from api.faults import ABSENT, MAX_NAME, REQUIRED, UNKNOWN, Fault, child, expected
from models.schema import Feature

_JSON_TYPES = {"str": "string", "bool": "boolean", "int": "number", "float": "number", "null": "null"}
_GOT = re.compile(r", got `(\w+)`$")
_EXPECTED = re.compile(r"Expected `(\w+)`")
_FIELD = re.compile(r"Object (contains unknown|missing required) field `(.*)`", re.DOTALL)


def struct_fault(error: msgspec.ValidationError, features: Sequence[Feature] = ()) -> Fault:
    """The fault that an error tells of; of a value of one of `features`, with that feature's rule. Never a value."""
    text, _, path = str(error).rpartition(" - at ")
    text, path = (text, path.strip("`")) if text else (path, "$")
    field = _FIELD.fullmatch(text)
    if field is not None:
        rule, got = (UNKNOWN, "present") if field[1] == "contains unknown" else (REQUIRED, ABSENT)
        return Fault(child(path, field[2]), rule, got)
    # Without another type, the value is of the expected one, and breaks a bound; or it is a number out of range.
    found = _GOT.search(text) or _EXPECTED.match(text)
    got = _JSON_TYPES.get(found[1], found[1]) if found else "number"
    # The longest name first: a shorter one may be its end.
    for feature in sorted(features, key=lambda feature: -len(feature.name)):
        if path.endswith(f".{feature.name}"):
            return Fault(child(path[: -len(feature.name) - 1], feature.name), expected(feature), got)
    rule = _GOT.sub("", text)[:MAX_NAME]
    return Fault(path[:MAX_NAME] or "$", rule[:1].lower() + rule[1:], got)
