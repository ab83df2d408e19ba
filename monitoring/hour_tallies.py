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
from typing import Any, TypeVar

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
Whole = TypeVar("Whole", int, NDArray[np.int64])


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
    #: Rows with an estimate c of the chance that the answer is right, the sum of c, and of c(1 - c), in millionths.
    estimated_rows: int = 0
    estimate_millionths: int = 0
    estimate_variance_millionths: int = 0

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
        self.estimated_rows += other.estimated_rows
        self.estimate_millionths += other.estimate_millionths
        self.estimate_variance_millionths += other.estimate_variance_millionths


class Tallied(Struct, frozen=True):
    """What a batch of lines adds to the hours, and for each line the estimate that its answer is right, in millionths
    (None where there is none)."""

    tallies: dict[HourKey, HourTally]
    estimates: list[int | None]


def tally_lines(lines: Sequence[LoggedPrediction], moments: Sequence[int], models: KnownModels) -> Tallied:
    """Counts lines; `moments` are their times in microseconds since 1970 UTC."""
    tallies: dict[HourKey, HourTally] = {}
    estimates: list[int | None] = [None] * len(lines)
    for key, positions in _groups(lines, moments):
        whole = len(positions) == len(lines)
        of_key = lines if whole else [lines[position] for position in positions]
        times = np.array([moments[position] for position in positions]) / _MILLION
        tallies[key], found = _tally(of_key, times, models.get(key.model_version))
        if whole:
            estimates = found
        else:
            for position, estimate in zip(positions, found, strict=True):
                estimates[position] = estimate
    return Tallied(tallies, estimates)


def estimate_variance(millionths: Whole) -> Whole:
    """c(1 - c) of a row, or of each, in millionths, of c in millionths: what a row adds wherever it is counted."""
    return (millionths * (_MILLION - millionths) + _MILLION // 2) // _MILLION


def latency_quantile(counts: Counts, share: float) -> float | None:
    """The latency in ms under which this share of the rows lies, to a tenth of itself; None without rows."""
    total = int(counts.sum())
    if not total:
        return None
    position = int(np.searchsorted(np.cumsum(counts), max(1, math.ceil(share * total))))
    return float(LATENCY_EDGES[min(position, len(LATENCY_EDGES) - 1)])


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


def _tally(
    lines: Sequence[LoggedPrediction], times: Numbers, model: KnownModel | None
) -> tuple[HourTally, list[int | None]]:
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
        return tally, [None] * len(lines)
    raw = _raw_columns(lines, model)
    tally.withheld = {name for name, column in zip(model.schema.feature_names, raw, strict=True) if column is None}
    probabilities = _probabilities(lines, len(model.schema.classes))
    tally.profile = model.profiler.profile(raw, probabilities, times, len(lines))
    return tally, _count_estimates(tally, model.estimates(raw, probabilities))


def _count_estimates(tally: HourTally, estimates: Numbers | None) -> list[int | None]:
    """Adds the rows' estimates to the tally and gives them back in millionths."""
    if estimates is None:
        return [None] * tally.rows
    known = np.isfinite(estimates)
    millionths = np.rint(estimates[known] * _MILLION).astype(np.int64)
    tally.estimated_rows = len(millionths)
    tally.estimate_millionths = int(millionths.sum())
    tally.estimate_variance_millionths = int(estimate_variance(millionths).sum())
    found: list[int] = millionths.tolist()
    if known.all():
        return list(found)
    following = iter(found)
    return [next(following) if is_known else None for is_known in known]


def _raw_columns(lines: Sequence[LoggedPrediction], model: KnownModel) -> list[RawColumn | None]:
    """The lines' features; None for one that the field policy withholds."""
    columns = model.columns([line.input_data for line in lines])
    return [raw_values(feature, values) for feature, values in zip(model.schema.features, columns, strict=True)]


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
