"""Learns what every column is: numeric, categorical, boolean or datetime, or why it is left out.

Rules, in order; the configuration (`features.*`) goes before all of them:

    left out     named in `features.drop`; the time column; every value missing; one value only; more than
                 `missing_threshold` missing; holds lists or objects; an identifier; free text
    boolean      the type, or text that is `true` and `false`
    numeric      the type, or text of which 99 % reads as numbers (`1,234`, `12 %`, `$3`), known junk aside
    datetime     the type, or text of which 99 % reads as ISO 8601 or one common date format
    categorical  other text

A column with one value and gaps is kept where at least 1 % is missing: that a value is there may tell something.
An **identifier** tells rows apart and nothing else: text of which nearly every value is distinct (half, when the name
says `id`), UUIDs, whole numbers that are all distinct and number the rows (in file order, without holes, or named).
Real numbers are never identifiers, nor is text whose values repeat, however many there are.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from config.settings import Settings
from models.schema import Kind
from pipeline import text_values
from pipeline.column_values import Levels, Typed, is_text, typed
from pipeline.errors import InputError
from pipeline.findings import Finding, refuse, warn

#: Below this many values 'nearly all distinct' says nothing.
IDENTIFIER_ROWS = 20
NEARLY_DISTINCT = 0.95
NAMED_DISTINCT = 0.5
CONSTANT_GAPS = 0.01
FREE_TEXT_WORDS = 4.0
FREE_TEXT_CHARACTERS = 50.0
_NAMED_ID = re.compile(
    r"(?:^|[^a-z])(?:id|ids|uuid|guid|rowid|index|idx|key|nr|no)$|^(?:id|uuid|guid)(?:[^a-z]|$)", re.IGNORECASE
)
_CAMEL_ID = re.compile(r"[a-z](?:Id|ID|Key|Uuid|UUID)$")
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class Column:
    """What was learnt of one column."""

    name: str
    dtype: str
    missing: int
    distinct: int
    #: None for a column that is left out.
    kind: Kind | None = None
    code: str | None = None
    reason: str | None = None
    #: How text wrote dates, where that is not ISO 8601.
    date_format: str | None = None
    #: Typed by kind; None for a column that is left out.
    values: pd.Series[Any] | None = None
    findings: tuple[Finding, ...] = field(default=())


@dataclass(frozen=True)
class Rules:
    """The settings that decide about columns."""

    drop: frozenset[str]
    forced: dict[str, Kind]
    missing_threshold: float
    refuse_missing: bool
    time_column: str | None

    @classmethod
    def of(cls, settings: Settings, columns: Collection[str]) -> Rules:
        """Raises InputError when the configuration names a feature that is no column, or names it twice."""
        features = settings.features
        forced: dict[str, Kind] = {}
        kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (
            ("categorical", features.categorical), ("numeric", features.numeric), ("datetime", features.datetime)
        )  # fmt: skip
        for kind, names in kinds:
            for name in names:
                if name not in columns:
                    raise InputError(f"features.{kind} names '{name}', which is no column; columns: {listed(columns)}")
                if name in forced or name in features.drop:
                    raise InputError(
                        f"features: '{name}' stands in more than one of drop, categorical, numeric, datetime"
                    )
                forced[name] = kind
        hidden = None if features.use_time_column else settings.data_split.time_column
        quality = settings.data_quality
        return cls(
            frozenset(features.drop), forced, quality.missing_threshold, quality.missing_policy == "refuse", hidden
        )


def listed(names: Collection[str], limit: int = 12) -> str:
    shown = ", ".join(f"'{' '.join(name.split())}'" for name in list(names)[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def learn_column(name: str, series: pd.Series[Any], rules: Rules) -> Column:
    """Kind, typed values and findings of one column, by the rules at the head of this module."""
    plain = _plain(series)
    if plain is None:
        return Column(name, str(series.dtype), int(series.isna().sum()), 0, None, "nested", "holds lists or objects")
    levels = Levels.of(plain) if is_text(plain) else None
    missing = int((levels.codes < 0).sum()) if levels else int(plain.isna().sum())
    distinct = len(levels.levels) if levels else int(plain.nunique())
    about = Column(name, str(series.dtype), missing, distinct)
    if name in rules.drop:
        return _left_out(about, "configured", "named in features.drop")
    if name == rules.time_column:
        return _left_out(about, "time_column", "orders the rows (data_split.time_column)")
    if distinct == 0:
        return _left_out(about, "all_missing", "every value is missing")
    if name in rules.forced:
        return _forced(about, plain, levels, rules.forced[name])
    return _learnt(about, plain, levels, rules)


def _left_out(column: Column, code: str, reason: str, findings: tuple[Finding, ...] = ()) -> Column:
    return replace(column, kind=None, code=code, reason=reason, values=None, findings=findings)


def _plain(series: pd.Series[Any]) -> pd.Series[Any] | None:
    """The column without object cells where that can be; None for lists, dictionaries and their like."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        of_numbers = pd.api.types.is_numeric_dtype(series.cat.categories.dtype)
        return _plain(series.astype(np.float64 if of_numbers else object))
    if pd.api.types.is_timedelta64_dtype(series.dtype):
        seconds: pd.Series[Any] = series.dt.total_seconds()
        return seconds
    if pd.api.types.is_complex_dtype(series.dtype):
        return None
    if series.dtype != object:
        return series
    inferred = pd.api.types.infer_dtype(series, skipna=True)
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal"):
        numbers: pd.Series[Any] = pd.to_numeric(series, errors="coerce").astype(np.float64)
        return numbers
    if inferred == "boolean":
        return series.astype("boolean")
    if inferred in ("datetime", "datetime64", "date"):
        moments: pd.Series[Any] = pd.to_datetime(series, errors="coerce", utc=True).dt.tz_localize(None)
        return moments
    simple = series.map(lambda cell: not isinstance(cell, (list, dict, tuple, set, np.ndarray, bytes)))
    return series if bool(simple.all()) else None


def _forced(about: Column, series: pd.Series[Any], levels: Levels | None, kind: Kind) -> Column:
    result = typed(series, kind, levels)
    present = len(series) - about.missing
    if result.unreadable > present / 2:
        raise InputError(
            f"features.{kind} names '{about.name}', but {result.unreadable} of its {present} values are no "
            f"{_NOUNS[kind]}; take it off that list"
        )
    return _kept(about, kind, result, None)


_NOUNS = {"numeric": "numbers", "datetime": "dates", "categorical": "levels", "boolean": "truth values"}


def _learnt(about: Column, series: pd.Series[Any], levels: Levels | None, rules: Rules) -> Column:
    rows = len(series)
    share = about.missing / rows
    if share > rules.missing_threshold:
        reason = f"{share:.0%} of its values are missing, more than data_quality.missing_threshold"
        if not rules.refuse_missing:
            return _left_out(about, "missing", reason)
        message = f"column '{about.name}': {reason}; drop it by features.drop or raise the threshold"
        return _left_out(about, "missing", reason, (refuse("missing", message, about.name),))
    if about.distinct == 1 and about.missing < CONSTANT_GAPS * rows:
        return _left_out(about, "constant", "holds one value only")
    kind, written = _kind(series, levels)
    result = typed(series, kind, levels, date_format=written)
    identifier = _identifier(about, kind, result, levels)
    if identifier is not None:
        return _left_out(about, *identifier)
    column = _kept(about, kind, result, written)
    if written is not None and levels is not None and text_values.ambiguous_dates(levels.levels, written):
        message = f"column '{column.name}': dates read as {written} could as well have day and month swapped"
        column = replace(column, findings=(*column.findings, warn("ambiguous_dates", message, column.name)))
    if column.missing > rules.missing_threshold * rows:
        return _left_out(about, "missing", f"{column.missing / rows:.0%} of its values are missing or unreadable")
    return column


def _kind(series: pd.Series[Any], levels: Levels | None) -> tuple[Kind, str | None]:
    """The kind, and for dates in text the format."""
    if levels is None:
        if pd.api.types.is_bool_dtype(series.dtype):
            return "boolean", None
        return ("datetime" if pd.api.types.is_datetime64_any_dtype(series.dtype) else "numeric"), None
    known = ~text_values.junk(levels.levels)
    if text_values.looks_boolean(levels.levels, known):
        return "boolean", None
    if text_values.looks_numeric(levels.levels, known, levels.counts):
        return "numeric", None
    written = text_values.date_format(levels.levels, known, levels.counts)
    return ("categorical", None) if written is None else ("datetime", written)


def _identifier(about: Column, kind: Kind, result: Typed, levels: Levels | None) -> tuple[str, str] | None:
    present = len(result.values) - about.missing
    if present < IDENTIFIER_ROWS:
        return None
    if kind == "numeric":
        return _row_number(about, result.values)
    return _text_identifier(about, levels, present) if kind == "categorical" and levels is not None else None


def _row_number(about: Column, values: pd.Series[Any]) -> tuple[str, str] | None:
    numbers = values.to_numpy()
    numbers = numbers[~np.isnan(numbers)]
    if about.distinct < len(numbers) or not len(numbers) or not np.equal(np.floor(numbers), numbers).all():
        return None
    steps = np.diff(numbers)
    span = float(numbers.max() - numbers.min()) + 1.0
    if (steps > 0).all() or (steps < 0).all():
        return "identifier", "numbers the rows: whole numbers, all distinct, in file order"
    if span == len(numbers):
        return "identifier", "numbers the rows: whole numbers, all distinct, without holes"
    if named_identifier(about.name) or float(np.abs(numbers).max()) >= 1e15:
        return "identifier", "names the rows: whole numbers, all distinct"
    return None


def _text_identifier(about: Column, levels: Levels, present: int) -> tuple[str, str] | None:
    share = about.distinct / present
    if share < NAMED_DISTINCT:
        return None
    probe = [str(level) for level in levels.levels[:1000]]
    if all(_UUID.fullmatch(level.strip()) for level in probe):
        return "identifier", "holds UUIDs"
    words = sum(len(level.split()) for level in probe) / len(probe)
    length = sum(map(len, probe)) / len(probe)
    if words >= FREE_TEXT_WORDS or length >= FREE_TEXT_CHARACTERS:
        return "free_text", f"is free text: {share:.0%} of its values are distinct, {words:.0f} words each"
    if share >= NEARLY_DISTINCT or named_identifier(about.name):
        return "identifier", f"names the rows: {share:.0%} of its values are distinct"
    return None


def named_identifier(name: str) -> bool:
    return _NAMED_ID.search(name) is not None or _CAMEL_ID.search(name) is not None


def _kept(about: Column, kind: Kind, result: Typed, written: str | None) -> Column:
    findings: list[Finding] = []
    if result.unreadable:
        message = f"column '{about.name}': {result.unreadable} values are no {_NOUNS[kind]} and count as missing"
        findings.append(warn("unreadable_values", message, about.name))
    if result.infinite:
        message = f"column '{about.name}': {result.infinite} infinite values count as missing"
        findings.append(warn("infinite_values", message, about.name))
    return replace(
        about,
        kind=kind,
        missing=int(result.values.isna().sum()),
        date_format=None if written == "ISO8601" else written,
        values=result.values,
        findings=tuple(findings),
    )
