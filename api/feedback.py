"""Outcomes: what really happened, by prediction id. Checked, and in `logs/feedback_YYYYMMDD.jsonl` before the reply.

An outcome may arrive at any host, before or after its prediction's line is read, so nothing is looked up here. To send
one again changes nothing; to send another for the same id corrects it: all are kept, and the last one counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from api.faults import ABSENT, MAX_FAULTS, REQUIRED, UNKNOWN, Fault, child, is_datetime, is_finite_number, json_type
from api.guarded_log import Outage
from api.row_decoder import InvalidOutcomesError, NotJsonError, TooManyRowsError
from api.struct_faults import struct_fault
from models.schema import ClassLabel, Schema
from monitoring.prediction_log import DailyLog, LogError

FEEDBACK = "feedback"
_FIELDS = ("prediction_id", "actual", "value", "observed_at")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LONGEST_CLASS = 1000


class Outcome(Struct, frozen=True, kw_only=True):
    """`actual` is the class that it turned out to be, `value` what it was worth; `observed_at` as it was sent."""

    prediction_id: str
    actual: ClassLabel | None = None
    value: float | None = None
    observed_at: str | None = None


class OutcomeLine(Outcome, frozen=True, kw_only=True):
    """A line of the log; `timestamp` is when the outcome arrived here."""

    timestamp: datetime
    request_id: str


class OutcomeWarning(Struct, frozen=True):
    row: int
    field: str
    code: Literal["unknown_class"]


class Accepted(Struct, frozen=True, kw_only=True):
    """The reply."""

    accepted: int
    timestamp: datetime
    warnings: list[OutcomeWarning] | UnsetType = UNSET


class FeedbackLog:
    """Takes outcomes in. Safe to share between threads."""

    def __init__(self, directory: Path, outage: Outage, *, fsync: bool = False) -> None:
        self._log = DailyLog(directory, FEEDBACK, fsync=fsync)
        self._outage = outage
        self._encoder = msgspec.json.Encoder()

    def accept(self, body: bytes, max_rows: int, schema: Schema | None, request_id: str, moment: datetime) -> Accepted:
        """Checks a JSON body and writes its outcomes; `schema` is that of the model in service, if there is one.

        Raises `RequestError`, or `LogError` when an outcome is not whole in the log.
        """
        outcomes = decode_outcomes(body, max_rows)
        lines = [
            OutcomeLine(timestamp=moment, request_id=request_id, **msgspec.structs.asdict(outcome))
            for outcome in outcomes
        ]
        try:
            self._log.append([self._encoder.encode(line) for line in lines], moment)
        except LogError as error:  # refused whatever logging.when_full says: there is nothing to answer but 'kept'
            self._outage.failed(error)
            raise
        self._outage.over()
        warnings = _warnings(outcomes, schema) if schema is not None else []
        return Accepted(accepted=len(outcomes), timestamp=moment, warnings=warnings or UNSET)


def decode_outcomes(body: bytes, max_rows: int) -> list[Outcome]:
    """The outcomes of one object or a list of objects; raises `RequestError` with every fault found."""
    try:
        document = msgspec.json.Decoder(float_hook=float).decode(body)
    except RecursionError:
        raise NotJsonError("the body is nested too deeply") from None
    except msgspec.ValidationError as error:  # a whole number of thousands of digits
        raise InvalidOutcomesError([struct_fault(error)]) from None
    except ValueError as error:
        raise NotJsonError("the body is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)) from None
    items = document if isinstance(document, list) else [document]
    if len(items) > max_rows:
        raise TooManyRowsError(max_rows)
    if not items:
        raise InvalidOutcomesError([Fault("$", "expected at least one outcome", "array")])
    paths = [f"$[{index}]" for index in range(len(items))] if isinstance(document, list) else ["$"]
    faults = (fault for item, path in zip(items, paths, strict=True) for fault in _faults(item, path))
    if found := list(islice(faults, MAX_FAULTS)):
        raise InvalidOutcomesError(found)
    return [Outcome(**item) for item in items]


def _faults(item: Any, path: str) -> Iterator[Fault]:
    if not isinstance(item, dict):
        yield Fault(path, "expected an object", json_type(item))
        return
    for name, value in item.items():
        rule = _rule_broken(name, value) if name in _FIELDS else UNKNOWN
        if rule is not None:
            yield Fault(child(path, name), rule, json_type(value))
    if "prediction_id" not in item:
        yield Fault(child(path, "prediction_id"), REQUIRED, ABSENT)
    if item.get("actual") is None and item.get("value") is None:
        yield Fault(path, "expected actual or value, or both", "object")


def _rule_broken(name: str, value: Any) -> str | None:
    """The rule that a value breaks, None for none."""
    if name == "prediction_id":
        is_id = isinstance(value, str) and _ID.fullmatch(value) is not None
        return None if is_id else "expected the prediction_id of a reply"
    if value is None:
        return None
    if name == "actual":
        is_class = isinstance(value, str | bool | int) and len(str(value)) <= _LONGEST_CLASS
        return None if is_class else "expected a class: text, a whole number, true or false"
    if name == "value":
        return None if is_finite_number(value) else "expected a finite number"
    is_date = isinstance(value, str) and is_datetime(value)
    return None if is_date else "expected an ISO 8601 date or time as text"


def _warnings(outcomes: list[Outcome], schema: Schema) -> list[OutcomeWarning]:
    known = {(type(label), label) for label in schema.classes}
    return [
        OutcomeWarning(row, "actual", "unknown_class")
        for row, outcome in enumerate(outcomes)
        if outcome.actual is not None and (type(outcome.actual), outcome.actual) not in known
    ]
