"""Which rows are held out: by a keyed hash of their content, so that a row keeps its side for ever, or by time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from config.settings import Settings
from models.bundle import SplitRule
from models.encoding import RawColumn
from models.frame import series_to_raw
from models.row_hash import held_out, row_hashes
from models.schema import Feature, Schema
from pipeline import text_values
from pipeline.column_values import Levels, is_text, typed
from pipeline.errors import InputError

Rows = NDArray[np.intp]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    rule: SplitRule
    #: Row positions of each side, ascending.
    train: Rows
    test: Rows


class LazyRaw(Mapping[str, RawColumn]):
    """Raw columns of a frame, each made when it is asked for, so that a large table is not held twice."""

    def __init__(self, frame: pd.DataFrame, features: Sequence[Feature]) -> None:
        self._frame = frame
        self._features = {feature.name: feature for feature in features}

    def __getitem__(self, name: str) -> RawColumn:
        return series_to_raw(self._features[name], self._frame[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)


def held_out_by(
    rule: SplitRule, frame: pd.DataFrame, schema: Schema, time: NDArray[np.float64] | None = None
) -> Mask | None:
    """Whether each row stood on the test side of a rule; None when that cannot be told.

    `schema` is the one that the rule was learnt with, `frame` a table conformed to it (the hash is of typed values);
    `time` is the rule's time column as numbers, by default taken from the frame.
    """
    if rule.method == "time":
        if time is None and rule.time_column in frame.columns:
            time = time_values(frame[str(rule.time_column)], "the table", str(rule.time_column))
        return None if time is None or rule.cut is None else time >= rule.cut
    features = [feature for feature in schema.features if feature.name in set(rule.columns)]
    if len(features) < len(rule.columns) or not all(feature.name in frame.columns for feature in features):
        return None
    return held_out(row_hashes(LazyRaw(frame, features), rule.key), rule.test_size)


def hash_rule(features: Sequence[Feature], settings: Settings, previous: SplitRule | None) -> SplitRule:
    """The rule for these features; the previous rule's columns where they are all still here, so that sides stay."""
    names = tuple(feature.name for feature in features)
    if previous is not None and previous.method == "hash" and set(previous.columns) <= set(names):
        names = previous.columns
    return SplitRule(
        method="hash", test_size=settings.data_split.test_size, key=settings.data_split.random_state, columns=names
    )


def time_rule(time: NDArray[np.float64], settings: Settings, source: str) -> SplitRule:
    """Cuts so that the latest `test_size` of the rows is held out; rows of one moment stay together."""
    column, share = settings.data_split.time_column, settings.data_split.test_size
    moments, counts = np.unique(time, return_counts=True)
    if len(moments) < 2:
        raise InputError(f"{source}: the time column '{column}' holds one value only; a split by time needs more")
    tested = counts[::-1].cumsum()[::-1][1:]  # rows at or after each moment but the first
    cut = moments[1:][int(np.abs(tested - share * len(time)).argmin())]
    return SplitRule(method="time", test_size=share, time_column=column, cut=float(cut))


def apply_rule(
    rule: SplitRule, frame: pd.DataFrame, features: Sequence[Feature], time: NDArray[np.float64] | None
) -> Split:
    if time is not None and rule.cut is not None:
        test = time >= rule.cut
    else:
        used = [feature for feature in features if feature.name in set(rule.columns)]
        test = held_out(row_hashes(LazyRaw(frame, used), rule.key), rule.test_size)
    return Split(rule, np.flatnonzero(~test), np.flatnonzero(test))


def time_values(series: pd.Series[Any], source: str, name: str) -> NDArray[np.float64]:
    """Numbers, or seconds since 1970 UTC of dates; NaN where there is no value.

    Raises InputError when the column holds neither.
    """
    if is_text(series):
        levels = Levels.of(series)
        known = ~text_values.junk(levels.levels)
        readers: list[Callable[[], NDArray[np.float64]]] = []
        if text_values.looks_numeric(levels.levels, known, levels.counts):
            readers.append(lambda: typed(series, "numeric", levels).values.to_numpy())
        elif text_values.date_format(levels.levels, known, levels.counts):
            readers.append(lambda: _seconds(typed(series, "datetime", levels).values))
        if not readers:
            raise InputError(f"{source}: the time column '{name}' holds neither numbers nor dates that can be read")
        return readers[0]()
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return _seconds(typed(series, "datetime").values)
    return typed(series, "numeric").values.to_numpy()


def _seconds(moments: pd.Series[Any]) -> NDArray[np.float64]:
    values = moments.to_numpy(dtype="datetime64[us]")
    return np.where(np.isnat(values), np.nan, values.astype(np.int64) / 1e6)
