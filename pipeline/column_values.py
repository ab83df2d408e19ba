"""Columns typed by kind: the one way from a column as it was read to what models, splits and reports work on.

numeric      float64, NaN for missing; infinite values count as missing
boolean      bool, or nullable `boolean` where there are gaps
datetime     datetime64[us] in UTC without a zone
categorical  pandas `category`; its levels are all text or all whole numbers
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.schema import Kind
from pipeline import text_values


@dataclass(frozen=True)
class Levels:
    """A column of text as distinct levels; `codes` are -1 where there is no value."""

    codes: NDArray[np.intp]
    levels: pd.Index[Any]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, series: pd.Series[Any]) -> Levels:
        """Any column as text: `3.0` is `3`, True is `true`, blank text is no value."""
        codes, found = pd.factorize(series)
        texts = [_text(level) for level in found]
        levels, positions = _merged(texts)
        codes = np.append(positions, -1)[codes] if positions is not None else codes
        counts = np.bincount(codes[codes >= 0], minlength=len(levels)).astype(np.int64)
        return cls(codes, pd.Index(levels, dtype=object), counts)

    def spread(self, values: NDArray[Any], missing: Any) -> NDArray[Any]:
        """One value a level to one value a row."""
        return np.append(values, np.array([missing], dtype=values.dtype))[self.codes]


def _text(level: Any) -> str | None:
    if isinstance(level, str):
        text = level.encode("utf-8", "replace").decode() if not level.isascii() and _lone_surrogate(level) else level
        return text if text.strip() else None
    if isinstance(level, (bool, np.bool_)):
        return str(bool(level)).lower()
    if isinstance(level, (float, np.floating)) and float(level).is_integer():
        return str(int(level))
    return str(level)


def _lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _merged(texts: list[str | None]) -> tuple[list[str], NDArray[np.intp] | None]:
    """Distinct texts, and where each entry went (None when nothing moved)."""
    if None not in texts and len(set(texts)) == len(texts):
        return [text for text in texts if text is not None], None
    places: dict[str, int] = {}
    positions = [-1 if text is None else places.setdefault(text, len(places)) for text in texts]
    return list(places), np.array(positions, dtype=np.intp)


@dataclass(frozen=True)
class Typed:
    """A column typed by kind, and how many of its values could not be taken as they were."""

    values: pd.Series[Any]
    #: Present, but not of the kind: counted as missing.
    unreadable: int = 0
    infinite: int = 0


def typed(
    series: pd.Series[Any],
    kind: Kind,
    levels: Levels | None = None,
    *,
    whole_levels: bool | None = None,
    date_format: str | None = None,
) -> Typed:
    """A column as `kind`; what cannot be read as that kind becomes missing and is counted.

    `whole_levels` says whether a categorical's levels are whole numbers; by default they are when all can be.
    `date_format` is how text writes dates; by default it is found.
    """
    if kind == "categorical":
        return Typed(_categorical(levels or Levels.of(series), series, whole_levels))
    if kind == "boolean":
        return _boolean(series, levels)
    return _datetime(series, levels, date_format) if kind == "datetime" else _numeric(series, levels)


def is_text(series: pd.Series[Any]) -> bool:
    return not pd.api.types.is_numeric_dtype(series.dtype) and not pd.api.types.is_datetime64_any_dtype(series.dtype)


def _numeric(series: pd.Series[Any], levels: Levels | None) -> Typed:
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        return Typed(_series(series, np.full(len(series), np.nan)), unreadable=int(series.notna().sum()))
    unreadable = 0
    if is_text(series):
        known = levels or Levels.of(series)
        numbers = known.spread(text_values.as_numbers(known.levels), np.nan)
        unreadable = int(((known.codes >= 0) & np.isnan(numbers)).sum())
    else:
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
    infinite = int(np.isinf(numbers).sum())
    if infinite:
        numbers = np.where(np.isinf(numbers), np.nan, numbers)
    return Typed(_series(series, numbers), unreadable, infinite)


def _boolean(series: pd.Series[Any], levels: Levels | None) -> Typed:
    if series.dtype == bool:
        return Typed(series)
    known = levels or Levels.of(series)
    truth = known.spread(text_values.as_truth(known.levels), np.nan)
    missing = np.isnan(truth)
    unreadable = int((missing & (known.codes >= 0)).sum())
    if not missing.any():
        return Typed(_series(series, truth == 1.0), unreadable)
    return Typed(_series(series, pd.arrays.BooleanArray(truth == 1.0, missing)), unreadable)


def _datetime(series: pd.Series[Any], levels: Levels | None, written: str | None) -> Typed:
    if pd.api.types.is_datetime64_any_dtype(series.dtype):
        zoned = series.dt.tz_convert("UTC").dt.tz_localize(None) if series.dt.tz is not None else series
        moments = text_values.within_range(zoned.to_numpy(dtype="datetime64[us]"))
        present = series.notna().to_numpy()
    elif is_text(series):
        known = levels or Levels.of(series)
        if written is None:
            usable = ~text_values.junk(known.levels)
            written = text_values.date_format(known.levels, usable, known.counts) or "ISO8601"
        moments = known.spread(text_values.as_moments(known.levels, written), np.datetime64("NaT"))
        present = known.codes >= 0
    else:
        moments = np.full(len(series), np.datetime64("NaT"), dtype="datetime64[us]")
        present = series.notna().to_numpy()
    return Typed(_series(series, moments), unreadable=int((np.isnat(moments) & present).sum()))


def _categorical(levels: Levels, series: pd.Series[Any], whole: bool | None) -> pd.Series[Any]:
    numbers = [_whole(level) for level in levels.levels] if whole is not False else [None]
    if None not in numbers and numbers:
        categories: pd.Index[Any] = pd.Index(numbers, dtype=np.int64)
    else:
        categories = pd.Index(levels.levels, dtype=object)
    return pd.Series(pd.Categorical.from_codes(levels.codes, categories=categories), index=series.index)


def _whole(text: str) -> int | None:
    """`12` is 12; `012`, `+12` and what does not fit 53 bits (JSON's safe range) stay text."""
    if len(text) > 16 or not text.removeprefix("-").isdecimal() or not text.isascii():
        return None
    number = int(text)
    return number if str(number) == text and abs(number) < 2**53 else None


def _series(like: pd.Series[Any], values: Any) -> pd.Series[Any]:
    return pd.Series(values, index=like.index, copy=False)
