"""Types a new table as a schema that exists says: for drift of a file, for scoring, for the gate's champion."""

from __future__ import annotations

from typing import Any

import pandas as pd

from models.schema import Feature, Schema
from pipeline.column_kinds import listed
from pipeline.column_values import Levels, typed
from pipeline.errors import InputError


def conform(frame: pd.DataFrame, schema: Schema, source: str = "the table") -> pd.DataFrame:
    """The schema's features, typed as it says, in its order; levels that it does not know are kept.

    Raises InputError that names the features which are absent.
    """
    absent = [feature.name for feature in schema.features if feature.name not in frame.columns]
    if absent:
        raise InputError(
            f"{source}: lacks {listed(absent)}, which the model reads; columns: {listed(list(frame.columns))}"
        )
    columns = {feature.name: conform_column(frame[feature.name], feature) for feature in schema.features}
    return pd.DataFrame(columns, copy=False)


def conform_column(series: pd.Series[Any], feature: Feature) -> pd.Series[Any]:
    if feature.kind != "categorical":
        return typed(series, feature.kind, date_format=feature.date_format).values
    whole = bool(feature.categories) and isinstance(feature.categories[0], int)
    levels = Levels.of(series)
    return typed(series, "categorical", _respelled(levels, feature), whole_levels=whole).values


def _respelled(levels: Levels, feature: Feature) -> Levels:
    """`True` read as a truth value is the level `True`, `TRUE` or `true` again, whichever the schema knows."""
    spellings = {
        str(known).lower(): str(known) for known in feature.categories if str(known).lower() in ("true", "false")
    }
    if not spellings:
        return levels
    known = set(feature.categories)
    renamed = [level if level in known else spellings.get(level, level) for level in levels.levels]
    return Levels(levels.codes, pd.Index(renamed, dtype=object), levels.counts)
