"""Logged rows by hour, model version and arm: their profile in the reference's bins, and figures beside it.

All figures are whole numbers (sums in microseconds and millionths), so that what is added in any order, in batches of
any size, comes to exactly the same.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import numpy as np
from msgspec import UNSET, Struct
from numpy.typing import NDArray

from models.binning import Counts, Numbers
from models.encoding import RawColumn
from models.raw_rows import parse_datetime
from models.schema import Feature
from monitoring.known_models import KnownModel, KnownModels
from monitoring.log_lines import LoggedPrediction
from monitoring.log_policy import HASH_PREFIX
from monitoring.window_profile import WindowProfile

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_SECONDS = 3600
#: Upper edges of the latency bins in milliseconds, a tenth apart: 0.05 ms to 100 s; the last bin is open.
LATENCY_EDGES: Numbers = 0.05 * np.power(1.1, np.arange(153.0))
#: More kinds of warnings than a server knows are counted together.
_MOST_CODES, _OTHER_CODES = 16, "other"
_MILLION = 1_000_000


class HourKey(Struct, frozen=True, order=True):
    """`hour` is its first moment, in UTC; no experiment and no arm are ''."""

    hour: datetime
    model_version: str
    experiment: str = ""
    arm: str = ""


@dataclass
class HourTally:
    """What was counted for one key; `add` merges another."""

    rows: int = 0
    unprofiled_rows: int = 0
    profile: WindowProfile | None = None
    withheld: set[str] = field(default_factory=set)
    warned_rows: int = 0
    #: Rows by the code of a warning; a row with several codes counts for each once.
    warnings: Counter[str] = field(default_factory=Counter)
    fallback_rows: int = 0
    latency_counts: Counts = field(default_factory=lambda: np.zeros(len(LATENCY_EDGES) + 1, dtype=np.int64))
    latency_microseconds: int = 0
    confidence_millionths: int = 0

    def add_figures(self, other: HourTally) -> None:
        """Adds all but the profile."""
        self.rows += other.rows
        self.unprofiled_rows += other.unprofiled_rows
        self.withheld |= other.withheld
        self.warned_rows += other.warned_rows
        self.warnings = _bounded(self.warnings + other.warnings)
        self.fallback_rows += other.fallback_rows
        self.latency_counts += other.latency_counts
        self.latency_microseconds += other.latency_microseconds
        self.confidence_millionths += other.confidence_millionths


def tally_lines(
    lines: Sequence[LoggedPrediction], moments: Sequence[int], models: KnownModels
) -> dict[HourKey, HourTally]:
    """Counts lines; `moments` are their times in microseconds since 1970 UTC."""
    tallies: dict[HourKey, HourTally] = {}
    for key, positions in _groups(lines, moments):
        of_key = lines if len(positions) == len(lines) else [lines[position] for position in positions]
        times = np.array([moments[position] for position in positions]) / _MILLION
        tallies[key] = _tally(of_key, times, models.get(key.model_version))
    return tallies


def latency_quantile(counts: Counts, share: float) -> float | None:
    """The latency in ms under which this share of the rows lies, to a tenth of itself; None without rows."""
    total = int(counts.sum())
    if not total:
        return None
    position = int(np.searchsorted(np.cumsum(counts), max(1, math.ceil(share * total))))
    return float(LATENCY_EDGES[min(position, len(LATENCY_EDGES) - 1)])


def hour_of(moment: int) -> datetime:
    """The first moment of the hour that holds this one (microseconds since 1970)."""
    return EPOCH + timedelta(hours=moment // (HOUR_SECONDS * _MILLION))


def _groups(lines: Sequence[LoggedPrediction], moments: Sequence[int]) -> Iterator[tuple[HourKey, Sequence[int]]]:
    length = HOUR_SECONDS * _MILLION
    keys = [
        (moment // length, line.model_version, line.experiment or "", line.arm or "")
        for moment, line in zip(moments, lines, strict=True)
    ]
    distinct = set(keys)
    if len(distinct) == 1:
        found: dict[Any, list[int]] = {keys[0]: list(range(len(keys)))}
    else:
        found = {}
        for position, key in enumerate(keys):
            found.setdefault(key, []).append(position)
    for (hour, *names), positions in found.items():
        yield HourKey(EPOCH + timedelta(hours=hour), *names), positions


def _tally(lines: Sequence[LoggedPrediction], times: Numbers, model: KnownModel | None) -> HourTally:
    tally = HourTally(rows=len(lines), fallback_rows=sum([line.fallback for line in lines]))
    warned = [line.warnings for line in lines if line.warnings]
    tally.warned_rows = len(warned)
    tally.warnings = _bounded(Counter(chain.from_iterable([{one.code for one in warnings} for warnings in warned])))
    latency = _finite([line.latency_ms for line in lines])
    tally.latency_counts += np.bincount(np.searchsorted(LATENCY_EDGES, latency), minlength=len(LATENCY_EDGES) + 1)
    tally.latency_microseconds = _whole_sum(latency * 1000.0)
    tally.confidence_millionths = _whole_sum(_finite([line.max_probability for line in lines]) * _MILLION)
    if model is None:
        tally.unprofiled_rows = len(lines)
    else:
        tally.profile, tally.withheld = _profile(lines, times, model)
    return tally


def _profile(lines: Sequence[LoggedPrediction], times: Numbers, model: KnownModel) -> tuple[WindowProfile, set[str]]:
    columns = model.columns([line.input_data for line in lines])
    raw: list[RawColumn | None] = []
    withheld = set()
    for feature, values in zip(model.schema.features, columns, strict=True):
        column = raw_values(feature, values)
        raw.append(column)
        if column is None:
            withheld.add(feature.name)
    probabilities = _probabilities(lines, len(model.schema.classes))
    return model.profiler.profile(raw, probabilities, times, len(lines)), withheld


def raw_values(feature: Feature, values: Sequence[Any]) -> RawColumn | None:
    """One raw column from logged values, what is no value of the kind being missing.

    None when the field policy has hashed or dropped it in any of the rows.
    """
    if feature.kind == "categorical":
        return _levels(values)
    if feature.kind != "datetime":
        try:  # the way of all rows but few
            return np.frombuffer(struct.pack(f"{len(values)}d", *values))
        except (struct.error, OverflowError):
            pass
    if any(value is UNSET or (isinstance(value, str) and value.startswith(HASH_PREFIX)) for value in values):
        return None
    to_number = _seconds if feature.kind == "datetime" else _number
    return np.array([to_number(value) for value in values], dtype=np.float64)


def _levels(values: Sequence[Any]) -> RawColumn | None:
    try:
        distinct = set(values)
    except TypeError:  # objects or lists
        values = [value if isinstance(value, str | int) else None for value in values]
        distinct = set(values)
    if any(level is UNSET or (isinstance(level, str) and level.startswith(HASH_PREFIX)) for level in distinct):
        return None
    return values


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.inf


def _seconds(value: Any) -> float:
    try:
        return parse_datetime(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def _probabilities(lines: Sequence[LoggedPrediction], classes: int) -> NDArray[np.float64] | None:
    """(rows, classes), or None where a line has another number of them."""
    if {len(line.probability) for line in lines} != {classes}:
        return None
    values = list(chain.from_iterable([line.probability for line in lines]))
    return np.array(values, dtype=np.float64).reshape(len(lines), classes)


def _finite(values: Sequence[float | None]) -> Numbers:
    numbers = np.array(values, dtype=np.float64)
    return np.maximum(numbers[np.isfinite(numbers)], 0.0)


def _whole_sum(values: Numbers) -> int:
    """Rounded one by one, so that the sum does not depend on how rows were divided into batches."""
    return int(np.rint(np.minimum(values, 1e12)).astype(np.int64).sum())


def _bounded(codes: Counter[str]) -> Counter[str]:
    if len(codes) <= _MOST_CODES:
        return codes
    ranked = sorted(codes.items(), key=lambda item: (item[0] == _OTHER_CODES, -item[1], item[0]))
    kept = Counter(dict(ranked[: _MOST_CODES - 1]))
    kept[_OTHER_CODES] += sum(count for _, count in ranked[_MOST_CODES - 1 :])
    return kept
