"""Counts of one window of rows in the bins of a reference; they add up over hours, hosts and files.

    ProfileError            a profile that belongs to another reference, or a stored one that is torn

A profile is a few flat vectors. The `Layout` of a reference says which stretch of them belongs to what; it is the same
for all profiles of a reference, so that merging is adding.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.binning import Binner, Bins, Counts, Numbers
from models.encoding import RawColumn
from models.reference import (
    FeatureProfile,
    LevelProfile,
    NumericProfile,
    Reference,
    hour_counts,
    lag_bases,
    lags_to,
    level_counts,
    predicted_counts,
    score_columns,
    weekday_counts,
)
from models.schema import Level

PartName = Literal["values", "levels", "hour", "weekday", "lag", "score", "class"]
_CHUNK_ROWS = 65_536
#: Bytes of the digest that names a reference's layout.
IDENTITY_BYTES = 8


class ProfileError(Exception):
    """A profile cannot be read or does not belong to this reference; the message says which."""


@dataclass(frozen=True)
class Part:
    """One distribution: a stretch of the flat counts.

    Level parts end in two cells that are always pooled: known levels that are not counted one by one, and unseen ones.
    """

    name: PartName
    #: The feature's or the score's name.
    owner: str
    #: Position of the feature in the schema; -1 for scores and classes.
    feature: int
    counts: tuple[int, ...]
    numbers: NumericProfile | None = None
    levels: LevelProfile | None = None
    #: Names of the cells of booleans and classes.
    labels: tuple[str, ...] = ()
    start: int = 0

    @property
    def stop(self) -> int:
        return self.start + len(self.counts)

    @property
    def ordered(self) -> bool:
        return self.numbers is not None


class Layout:
    """Which stretch of a profile's vectors belongs to what, for one reference."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        parts: list[Part] = []
        start = 0
        for part in _parts(reference):
            parts.append(replace(part, start=start))
            start += len(part.counts)
        self.parts = tuple(parts)
        self.cells = start
        self.counts: Counts = np.array([count for part in parts for count in part.counts], dtype=np.int64)
        self.identity = _identity(self.parts)

    @cached_property
    def missing(self) -> Counts:
        """Reference rows without a usable value, by feature: missing and infinite ones, as the model sees them."""
        return np.array([f.missing + f.infinite for f in self.reference.features], dtype=np.int64)


@dataclass
class WindowProfile:
    """Counts of one window; made by `Profiler`, added up by `merge`."""

    identity: bytes
    rows: int
    scored_rows: int
    counts: Counts
    missing: Counts
    infinite: Counts
    #: By part: sum of the values, each clipped to the reference's range (0 for parts that are not ordered).
    sums: Numbers
    #: By feature: earliest and latest date (infinite the wrong way round where there is none).
    earliest: Numbers
    latest: Numbers


class Profiler:
    """Counts rows in the bins of one reference. Keep it: its look-up tables are made once."""

    def __init__(self, reference: Reference) -> None:
        self.layout = Layout(reference)
        self._reference = reference
        self._binners = {
            index: Binner(part.numbers.bins) for index, part in enumerate(self.layout.parts) if part.numbers is not None
        }
        self._positions = {
            index: _level_positions(part.levels)
            for index, part in enumerate(self.layout.parts)
            if part.levels is not None
        }

    def empty(self) -> WindowProfile:
        features = len(self._reference.features)
        return WindowProfile(
            identity=self.layout.identity,
            rows=0,
            scored_rows=0,
            counts=np.zeros(self.layout.cells, dtype=np.int64),
            missing=np.zeros(features, dtype=np.int64),
            infinite=np.zeros(features, dtype=np.int64),
            sums=np.zeros(len(self.layout.parts)),
            earliest=np.full(features, np.inf),
            latest=np.full(features, -np.inf),
        )

    def profile(
        self,
        raw: Sequence[RawColumn | None],
        probabilities: NDArray[np.floating[Any]] | None = None,
        moments: Numbers | None = None,
        rows: int | None = None,
    ) -> WindowProfile:
        """Counts raw columns in the schema's order; None is a column that the window lacks (all missing).

        Args:
            probabilities: (rows, classes) answers of the model; left aside when the reference has no scores.
            moments: when each row was observed, in seconds since 1970 UTC.
            rows: needed only when every column is None.
        """
        window = self.empty()
        lengths = {len(values) for values in raw if values is not None}
        if len(lengths) > 1:
            raise ValueError(f"columns of one window differ in length: {sorted(lengths)}")
        window.rows = lengths.pop() if lengths else (rows or 0)
        bases = self._lag_bases(raw, moments)
        for index, part in enumerate(self.layout.parts):
            if part.feature >= 0:
                self._count_part(window, index, part, raw[part.feature], bases)
        if probabilities is not None and self._reference.scores is not None:
            self._count_scores(window, probabilities)
        return window

    def _lag_bases(self, raw: Sequence[RawColumn | None], moments: Numbers | None) -> Numbers | None:
        if self._reference.lag_to_moment:
            return moments
        return lag_bases(self._reference.features, raw, None)

    def _count_part(
        self, window: WindowProfile, index: int, part: Part, values: RawColumn | None, bases: Numbers | None
    ) -> None:
        if values is None:
            window.missing[part.feature] = window.rows
        elif part.name == "values":
            self._count_numbers(window, index, part, np.asarray(values, dtype=np.float64))
        elif part.levels is not None:
            counts, window.missing[part.feature] = level_counts(values)  # type: ignore[arg-type]
            self._count_levels(window, index, part, counts)
        elif part.name == "levels":
            _count_flags(window, part, np.asarray(values, dtype=np.float64))
        elif part.name == "lag":
            if bases is not None:
                self._count_into(window, index, part, lags_to(bases, np.asarray(values, dtype=np.float64)))
        else:
            _count_dates(window, part, np.asarray(values, dtype=np.float64))

    def _count_numbers(self, window: WindowProfile, index: int, part: Part, values: Numbers) -> None:
        missing, infinite = self._count_into(window, index, part, values)
        window.missing[part.feature], window.infinite[part.feature] = missing, infinite

    def _count_into(self, window: WindowProfile, index: int, part: Part, values: Numbers) -> tuple[int, int]:
        counted = self._binners[index].count(values)
        window.counts[part.start : part.stop] = counted.bins
        window.sums[index] = counted.clipped_sum
        return counted.missing, counted.infinite

    def _count_levels(self, window: WindowProfile, index: int, part: Part, counts: dict[Level, int]) -> None:
        positions, unseen = self._positions[index], len(part.counts) - 1
        for level, count in counts.items():
            window.counts[part.start + positions.get(level, unseen)] += count

    def _count_scores(self, window: WindowProfile, probabilities: NDArray[np.floating[Any]]) -> None:
        window.scored_rows = len(probabilities)
        classes = probabilities.shape[1]
        columns = iter(score_columns(classes, probabilities))
        for index, part in enumerate(self.layout.parts):
            if part.name == "score":
                self._count_into(window, index, part, next(columns))
            elif part.name == "class":
                window.counts[part.start : part.stop] = predicted_counts(classes, probabilities)


def profile(
    reference: Reference,
    raw: Sequence[RawColumn | None],
    probabilities: NDArray[np.floating[Any]] | None = None,
    moments: Numbers | None = None,
) -> WindowProfile:
    """`Profiler(reference).profile(…)`, for callers that count one window."""
    return Profiler(reference).profile(raw, probabilities, moments)


def merge(profiles: Iterable[WindowProfile]) -> WindowProfile:
    """The profile of all rows together; raises ValueError for none, ProfileError for ones of different references."""
    total: WindowProfile | None = None
    for one in profiles:
        if total is None:
            total = copy.deepcopy(one)
        elif one.identity != total.identity:
            raise ProfileError("profiles of different references do not add up")
        else:
            _add_to(total, one)
    if total is None:
        raise ValueError("there is no profile to merge")
    return total


def _add_to(total: WindowProfile, one: WindowProfile) -> None:
    total.rows += one.rows
    total.scored_rows += one.scored_rows
    total.counts += one.counts
    total.missing += one.missing
    total.infinite += one.infinite
    total.sums += one.sums
    np.minimum(total.earliest, one.earliest, out=total.earliest)
    np.maximum(total.latest, one.latest, out=total.latest)


def _parts(reference: Reference) -> Iterable[Part]:
    for index, feature in enumerate(reference.features):
        yield from _feature_parts(index, feature)
    if reference.scores is not None:
        for name, numbers in reference.scores.scores.items():
            yield Part("score", name, -1, numbers.counts, numbers=numbers)
        labels = tuple(str(label) for label in reference.scores.classes)
        yield Part("class", "predicted class", -1, reference.scores.predicted, labels=labels)


def _feature_parts(index: int, feature: FeatureProfile) -> Iterable[Part]:
    if feature.numbers is not None:
        yield Part("values", feature.name, index, feature.numbers.counts, numbers=feature.numbers)
    elif feature.levels is not None:
        separate, counts = feature.levels.separate, feature.levels.counts
        beyond = feature.levels.rare_rows - sum(count == 1 for count in counts)
        cells = (*counts[:separate], sum(counts[separate:]), beyond)
        yield Part("levels", feature.name, index, cells, levels=feature.levels)
    elif feature.flags is not None:
        yield Part("levels", feature.name, index, feature.flags, labels=("false", "true"))
    elif feature.dates is not None:
        yield Part("hour", feature.name, index, feature.dates.hours)
        yield Part("weekday", feature.name, index, feature.dates.weekdays)
        if feature.dates.lag is not None:
            yield Part("lag", feature.name, index, feature.dates.lag.counts, numbers=feature.dates.lag)


def _identity(parts: Sequence[Part]) -> bytes:
    digest = hashlib.blake2b(digest_size=IDENTITY_BYTES)
    for part in parts:
        bins = part.numbers.bins if part.numbers is not None else Bins()
        levels = part.levels.levels if part.levels is not None else ()
        digest.update(repr((part.name, part.owner, len(part.counts), bins.edges, levels)).encode())
    return digest.digest()


def _level_positions(profile: LevelProfile) -> dict[Level, int]:
    """Cell of each known level; those after the separate ones share the cell that follows them."""
    return {level: min(position, profile.separate) for position, level in enumerate(profile.levels)}


def _count_flags(window: WindowProfile, part: Part, values: Numbers) -> None:
    missing, infinite = int(np.count_nonzero(np.isnan(values))), int(np.count_nonzero(np.isinf(values)))
    zero = int(np.count_nonzero(values == 0.0))
    window.missing[part.feature], window.infinite[part.feature] = missing, infinite
    window.counts[part.start : part.stop] = (zero, len(values) - missing - infinite - zero)


def _count_dates(window: WindowProfile, part: Part, values: Numbers) -> None:
    missing = infinite = 0
    count = hour_counts if part.name == "hour" else weekday_counts
    for start in range(0, len(values), _CHUNK_ROWS):
        chunk = values[start : start + _CHUNK_ROWS]
        missing += int(np.count_nonzero(np.isnan(chunk)))
        infinite += int(np.count_nonzero(np.isinf(chunk)))
        chunk = chunk[np.isfinite(chunk)]
        window.counts[part.start : part.stop] += count(chunk)
        if len(chunk):
            window.earliest[part.feature] = min(window.earliest[part.feature], chunk.min())
            window.latest[part.feature] = max(window.latest[part.feature], chunk.max())
    window.missing[part.feature], window.infinite[part.feature] = missing, infinite
