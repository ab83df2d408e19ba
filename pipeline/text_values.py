"""What text stands for: numbers, truth values or moments, decided level by level, so that a long column costs little.

A column of text is first reduced to its distinct levels; every function here takes those, and their counts of rows.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Stand for 'no value' in a column whose other values are numbers, truth values or moments (lower case).
JUNK = frozenset(
    {
        "",
        "?",
        "-",
        "--",
        "---",
        ".",
        "..",
        "...",
        "*",
        "na",
        "n/a",
        "#n/a",
        "n.a.",
        "nan",
        "null",
        "none",
        "nil",
        "<na>",
    }
    | {"missing", "unknown", "not available", "#value!", "#div/0!", "#ref!", "#num!", "0000-00-00", "00/00/0000"}
)
#: A column is what this share of its values (junk aside) reads as.
AGREEMENT = 0.99
_PROBE = 200
_GROUPED = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_UNITS = re.compile(r"^\s*[$€£]?\s*|\s*[%$€£]?\s*$")
_ZERO_LED = re.compile(r"[+-]?0\d+")
_DATE_LIKE = re.compile(r"\s*\d{1,4}[-/. ]([A-Za-z]{3,9}|\d{1,2})[-/. ,]+\d{1,4}|\s*[A-Za-z]{3,9} \d{1,2},? \d{4}")
_ISO = re.compile(r"\s*\d{4}-\d{2}-\d{2}")
_DAY_FORMATS = (
    "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%d.%m.%y",
    "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %d, %Y", "%B %d, %Y", "%d %B %Y", "%b %d %Y",
)  # fmt: skip
_TIME_FORMATS = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p")
#: The first and last moments that fit 64-bit nanoseconds; `9999-12-31` and its like stand for 'no date'.
FIRST_MOMENT, LAST_MOMENT = np.datetime64("1678-01-01"), np.datetime64("2262-01-01")


def junk(levels: pd.Index[Any]) -> Mask:
    return np.fromiter((level.strip().lower() in JUNK for level in levels), dtype=bool, count=len(levels))


def agrees(fits: Mask, known: Mask, counts: NDArray[np.int64]) -> bool:
    """Whether `fits` covers `AGREEMENT` of the known rows, and known rows are at least half of all."""
    rows = int(counts[known].sum())
    return rows > 0 and 2 * rows >= int(counts.sum()) and int(counts[known & fits].sum()) >= AGREEMENT * rows


def as_numbers(levels: pd.Index[Any]) -> Numbers:
    """Each level as a number, NaN where it is none; takes `1,234.5`, `12 %` (as 12) and `$3`."""
    numbers = np.array(pd.to_numeric(levels.to_series(), errors="coerce"), dtype=np.float64)
    for position in np.flatnonzero(np.isnan(numbers)).tolist():
        text = _UNITS.sub("", levels[position])
        if text[:1].isdigit() or text[:1] in "+-.":
            numbers[position] = _number(text.replace(",", "") if _GROUPED.fullmatch(text) else text)
    return numbers


def _number(text: str) -> float:
    try:
        return float(text) if "_" not in text else np.nan
    except ValueError:
        return np.nan


def looks_numeric(levels: pd.Index[Any], known: Mask, counts: NDArray[np.int64]) -> bool:
    """Whether the column is one of numbers; digits with leading zeros are a code, not a number."""
    probe = levels[known][:_PROBE]
    if len(probe) == 0 or any(_ZERO_LED.fullmatch(level.strip()) for level in probe):
        return False
    if np.isnan(as_numbers(probe)).mean() > 0.5:
        return False
    return agrees(~np.isnan(as_numbers(levels)), known, counts)


def as_truth(levels: pd.Index[Any]) -> Numbers:
    """1 for true, 0 for false, NaN for anything else."""
    known = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}
    return np.array([known.get(str(level).strip().lower(), np.nan) for level in levels], dtype=np.float64)


def looks_boolean(levels: pd.Index[Any], known: Mask) -> bool:
    """`true` and `false`, in any case, and nothing else."""
    return {level.strip().lower() for level in levels[known][:_PROBE]} == {"true", "false"} and int(
        known.sum()
    ) < _PROBE


def date_format(levels: pd.Index[Any], known: Mask, counts: NDArray[np.int64]) -> str | None:
    """`ISO8601` or a strptime format that (nearly) all known levels have, or None.

    Where `03/04/2020` could be either, the American order is taken unless some level contradicts it.
    """
    probe = levels[known][:_PROBE]
    if len(probe) == 0 or sum(_DATE_LIKE.match(level) is not None for level in probe) < 0.9 * len(probe):
        return None
    for candidate in _candidate_formats(probe[0]):
        if pd.isna(_moments(probe, candidate)).mean() > 0.05:
            continue
        if agrees(~pd.isna(as_moments(levels, candidate)), known, counts):
            return candidate
    return None


def ambiguous_dates(levels: pd.Index[Any], chosen: str) -> bool:
    """Whether swapping day and month reads every level just as well."""
    if not chosen.startswith(("%m/%d", "%d/%m", "%m-%d", "%d-%m")):
        return False
    swapped = chosen.replace("%m", "%x").replace("%d", "%m").replace("%x", "%d")
    return bool((pd.isna(_moments(levels, chosen)) >= pd.isna(_moments(levels, swapped))).all())


def _candidate_formats(example: str) -> list[str]:
    if _ISO.match(example):
        return ["ISO8601"]
    clock = [ending for ending in _TIME_FORMATS if bool(ending) == (":" in example)]
    return [day + ending for day in _DAY_FORMATS for ending in clock]


def as_moments(levels: pd.Index[Any], written: str) -> NDArray[np.datetime64]:
    """Moments in UTC, microseconds; NaT for what is no moment or none that nanoseconds can hold."""
    moments = _moments(levels, written)
    return within_range(moments)


def within_range(moments: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    with np.errstate(invalid="ignore"):
        inside = (moments >= FIRST_MOMENT) & (moments < LAST_MOMENT)
    return np.where(inside, moments, np.datetime64("NaT"))


def _moments(levels: pd.Index[Any], written: str) -> NDArray[np.datetime64]:
    parsed = pd.to_datetime(levels.to_series().str.strip(), format=written, errors="coerce", utc=True)
    return parsed.dt.tz_localize(None).to_numpy(dtype="datetime64[us]")
