"""The schema of a served model: what a row must hold, and how each feature becomes numbers.

It is learnt from the training rows, stored in the bundle as `schema.json`, and is the only description of the input
that training, serving and monitoring share.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["numeric", "categorical", "boolean", "datetime"]
Encoding = Literal["one_hot", "target"]
DatePart = Literal["year", "month", "day", "weekday", "hour", "minute"]
ClassLabel = str | int | bool
Level = str | int

SCHEMA_FORMAT = 1


class Feature(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One input column, by the name that requests use."""

    name: str
    kind: Kind
    #: Training rows lacked it somewhere: the model has an indicator (or a level) for 'missing'.
    nullable: bool = False
    #: A null is refused instead of imputed (`features.required`).
    required: bool = False
    #: Categorical: the known levels, all text or all integers, sorted; requests send the same JSON type.
    categories: tuple[Level, ...] = ()
    encoding: Encoding = "one_hot"
    #: Numeric: finite minimum and maximum of the training rows; datetime: the same in seconds since 1970 UTC.
    range: tuple[float, float] | None = None
    #: Numeric: every training value was a whole number.
    integer: bool = False
    #: Datetime: the parts that vary in training, which become features.
    parts: tuple[DatePart, ...] = ()
    #: Datetime: how training files wrote it, where that was not ISO 8601 (`%d/%m/%Y`); requests send ISO 8601.
    date_format: str | None = None


class Ignored(Struct, frozen=True, kw_only=True):
    """A column that training saw and left out; requests may send it, nothing reads it."""

    name: str
    reason: str


class Schema(Struct, frozen=True, kw_only=True):
    target: str
    classes: tuple[ClassLabel, ...]
    features: tuple[Feature, ...]
    ignored: tuple[Ignored, ...] = ()
    format_version: int = SCHEMA_FORMAT

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature.name for feature in self.features)
