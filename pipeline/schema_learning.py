"""Learns the schema of a model from its training rows, and from those alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from config.settings import Settings
from models.encoding import Encoder
from models.frame import epoch_seconds
from models.schema import ClassLabel, DatePart, Encoding, Feature, Ignored, Level, Schema
from pipeline.column_kinds import Column
from pipeline.errors import InputError

#: All one-hot columns of a model together; categoricals beyond it get target encoding, the smallest are served first.
MOST_ONE_HOT_COLUMNS = 512


def learn_schema(
    frame: pd.DataFrame,
    columns: Sequence[Column],
    classes: tuple[ClassLabel, ...],
    train: NDArray[np.intp],
    settings: Settings,
) -> tuple[Schema, dict[str, str]]:
    """The schema, and the features (with the reason) that the training rows say nothing about.

    `frame` holds typed features (see `pipeline.column_values`), `train` the positions of the training rows. Raises
    InputError when `features.required` names what is no feature.
    """
    required = frozenset(settings.features.required)
    for name in required:
        if name not in frame.columns:
            raise InputError(f"features.required names '{name}', which is no feature here; take it off that list")
    by_name = {column.name: column for column in columns}
    learnt: list[Feature] = []
    empty: dict[str, str] = {}
    for name in frame.columns:
        column = by_name[name]
        values = frame[name].take(train)
        if values.isna().all():
            empty[name] = "no training row has a value"
            continue
        feature = _feature(column, values)
        if feature.kind == "datetime" and not feature.parts and not feature.nullable:
            empty[name] = "its dates do not vary in the training rows"
            continue
        learnt.append(msgspec.structs.replace(feature, required=name in required))
    ignored = [Ignored(name=column.name, reason=column.reason or "") for column in columns if column.kind is None]
    features = _with_encodings(learnt, settings.features.one_hot_limit)
    return Schema(target=settings.target_column, classes=classes, features=features, ignored=tuple(ignored)), empty


def _feature(column: Column, values: pd.Series[Any]) -> Feature:
    name, kind = column.name, column.kind
    nullable = bool(values.isna().any())
    if kind == "categorical":
        return Feature(name=name, kind="categorical", nullable=nullable, categories=_levels(values))
    if kind == "boolean":
        return Feature(name=name, kind="boolean", nullable=nullable)
    if kind == "datetime":
        seconds = epoch_seconds(values)
        return Feature(
            name=name,
            kind="datetime",
            nullable=nullable,
            range=_range(seconds),
            parts=_parts(seconds),
            date_format=column.date_format,
        )
    numbers = values.to_numpy(dtype=np.float64)
    known = numbers[~np.isnan(numbers)]
    whole = bool((np.floor(known) == known).all())
    return Feature(name=name, kind="numeric", nullable=nullable, range=_range(numbers), integer=whole)


def _levels(values: pd.Series[Any]) -> tuple[Level, ...]:
    used = values.cat.categories[np.unique(values.cat.codes[values.notna()])]
    return tuple(sorted(int(level) if isinstance(level, (int, np.integer)) else str(level) for level in used))


def _range(numbers: NDArray[np.float64]) -> tuple[float, float]:
    return float(np.nanmin(numbers)), float(np.nanmax(numbers))


def _parts(seconds: NDArray[np.float64]) -> tuple[DatePart, ...]:
    """The parts of the dates that take more than one value."""
    every: tuple[DatePart, ...] = get_args(DatePart)
    feature = Feature(name="date", kind="datetime", parts=every)
    known = seconds[~np.isnan(seconds)]
    matrix = Encoder(Schema(target="", classes=(), features=(feature,))).encode([known])
    return tuple(part for part, column in zip(every, matrix.T, strict=True) if column.min() < column.max())


def _with_encodings(features: Sequence[Feature], one_hot_limit: int) -> tuple[Feature, ...]:
    """One-hot for few levels, smallest feature first, while `MOST_ONE_HOT_COLUMNS` lasts; else target encoding."""
    left = MOST_ONE_HOT_COLUMNS
    chosen: dict[str, Encoding] = {}
    for feature in sorted(features, key=lambda feature: len(feature.categories)):
        if feature.kind != "categorical":
            continue
        width = len(feature.categories) + int(feature.nullable)
        fits = len(feature.categories) <= one_hot_limit and width <= left
        chosen[feature.name] = "one_hot" if fits else "target"
        left -= width if fits else 0
    return tuple(
        msgspec.structs.replace(feature, encoding=chosen[feature.name]) if feature.name in chosen else feature
        for feature in features
    )
