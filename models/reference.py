"""The monitoring profile of a model version: what its training rows and its scores on held-out rows looked like.

Counts and edges only, never rows, stored as `reference.json` in the bundle. Any later window is counted in these bins,
so no check needs the training data again.

    ReferenceFormatError    a reference that cannot be read: torn, or of a newer format
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from config.errors import ProductError
from models.binning import Binner, Bins, Numbers, learn_bins
from models.encoding import RawColumn
from models.error_model import ErrorModelProfile
from models.schema import ClassLabel, Feature, Kind, Level, Schema

REFERENCE_FORMAT = 1
#: The commonest levels are counted one by one, those after them together; still later ones count as unseen.
SEPARATE_LEVELS = 4096
KNOWN_LEVELS = 100_000
CALIBRATION_BINS = 10
#: Score distributions are kept for each class up to this many, and always for the highest probability.
SCORED_CLASSES = 16


class ReferenceFormatError(ProductError):
    """The reference cannot be used; the message says why."""


class NumericProfile(Struct, frozen=True, kw_only=True):
    """Finite values of one column; all but `bins` and `counts` are 0 where there were none."""

    bins: Bins
    counts: tuple[int, ...]
    mean: float
    sd: float
    minimum: float
    maximum: float


class LevelProfile(Struct, frozen=True, kw_only=True):
    """Levels, commonest first, with their counts; `rare_rows` is the count behind Good and Turing's unseen share."""

    levels: tuple[Level, ...]
    counts: tuple[int, ...]
    #: Rows whose level occurs once, and rows of levels beyond `KNOWN_LEVELS`.
    rare_rows: int

    @property
    def separate(self) -> int:
        return min(len(self.levels), SEPARATE_LEVELS)


class DateProfile(Struct, frozen=True, kw_only=True):
    """Hours of the day and weekdays (Monday first) in UTC; lags, in seconds, to the moment or the row's latest date."""

    hours: tuple[int, ...]
    weekdays: tuple[int, ...]
    earliest: float
    latest: float
    lag: NumericProfile | None = None


class FeatureProfile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One raw feature; exactly one of `numbers`, `levels`, `flags` and `dates` is there, by its kind."""

    name: str
    kind: Kind
    missing: int = 0
    infinite: int = 0
    numbers: NumericProfile | None = None
    levels: LevelProfile | None = None
    #: Boolean: rows that are false, rows that are true.
    flags: tuple[int, int] | None = None
    dates: DateProfile | None = None


class CalibrationBin(Struct, frozen=True):
    """Held-out rows by their highest probability: how sure the model was, and how often it was right."""

    rows: int
    mean_confidence: float
    share_right: float


class ScoreProfile(Struct, frozen=True, kw_only=True):
    """The model's answers on held-out rows."""

    rows: int
    classes: tuple[ClassLabel, ...]
    predicted: tuple[int, ...]
    #: Probability of the last class when there are two, else of each class and the highest one.
    scores: dict[str, NumericProfile]
    calibration: tuple[CalibrationBin, ...] = ()


class WarnedRows(Struct, frozen=True, kw_only=True):
    """Held-out rows, and how many of them a server would warn of, by the warning's code (a row may have several)."""

    rows: int
    codes: dict[str, int]


class Reference(Struct, frozen=True, kw_only=True):
    rows: int
    features: tuple[FeatureProfile, ...]
    scores: ScoreProfile | None = None
    #: Metrics of the test part: what performance is later compared with.
    metrics: dict[str, float | None] = {}
    #: What the `estimator.onnx` beside it was fitted on; None when there is none.
    error_model: ErrorModelProfile | None = None
    #: Lags were taken to a moment given for each row (else to the latest of the row's own dates).
    lag_to_moment: bool = False
    #: How much each feature matters to the model, in shares of all, by name; empty in bundles of older releases.
    importance: dict[str, float] = {}
    #: None in bundles of older releases.
    warned: WarnedRows | None = None
    format_version: int = REFERENCE_FORMAT


def build_reference(
    schema: Schema,
    raw: Sequence[RawColumn],
    probabilities: NDArray[np.floating[Any]] | None = None,
    actual: NDArray[np.integer[Any]] | None = None,
    metrics: Mapping[str, float | None] | None = None,
    moments: Numbers | None = None,
) -> Reference:
    """Profiles training rows (`raw`, in the schema's order) and the model's answers on held-out ones.

    Args:
        probabilities: (held-out rows, classes), or None when the model has no answers yet.
        actual: class index of each held-out row, for the calibration bins.
        metrics: metrics of the test part by name.
        moments: when each training row was observed, seconds since 1970 UTC, for the lags of dates.
    """
    rows = len(raw[0]) if raw else 0
    bases = lag_bases(schema.features, raw, moments)
    features = tuple(
        _profile_feature(feature, values, bases) for feature, values in zip(schema.features, raw, strict=True)
    )
    return Reference(
        rows=rows,
        features=features,
        scores=None if probabilities is None else _profile_scores(schema.classes, probabilities, actual),
        metrics={name: _finite_or_none(value) for name, value in (metrics or {}).items()},
        lag_to_moment=moments is not None,
    )


def with_answers(
    reference: Reference,
    schema: Schema,
    probabilities: NDArray[np.floating[Any]],
    actual: NDArray[np.integer[Any]] | None = None,
    metrics: Mapping[str, float | None] | None = None,
) -> Reference:
    """A reference of training rows with a model's answers on held-out ones, which come later; see `build_reference`."""
    return msgspec.structs.replace(
        reference,
        scores=_profile_scores(schema.classes, probabilities, actual),
        metrics={name: _finite_or_none(value) for name, value in (metrics or {}).items()},
    )


def encode_reference(reference: Reference) -> bytes:
    return msgspec.json.encode(reference)


def decode_reference(content: bytes) -> Reference:
    """Raises `ReferenceFormatError` when the content is not a reference, or one of a newer format."""
    try:
        reference = msgspec.json.decode(content, type=Reference)
    except msgspec.MsgspecError as error:
        raise ReferenceFormatError(f"reference.json is not valid: {error}") from None
    if reference.format_version > REFERENCE_FORMAT:
        raise ReferenceFormatError(
            f"reference.json has format {reference.format_version}, this release reads up to {REFERENCE_FORMAT}"
        )
    return reference


def lag_bases(
    features: Sequence[Feature | FeatureProfile], raw: Sequence[RawColumn | None], moments: Numbers | None
) -> Numbers | None:
    """What each row's lags are taken to: its moment, else the latest of its dates; None with one date or none."""
    if moments is not None:
        return np.asarray(moments, dtype=np.float64)
    dates = [
        np.asarray(values, dtype=np.float64)
        for feature, values in zip(features, raw, strict=True)
        if feature.kind == "datetime" and values is not None
    ]
    return np.fmax.reduce(dates) if len(dates) > 1 else None


def lags_to(bases: Numbers, seconds: Numbers) -> Numbers:
    """Seconds from each date to its base; NaN where either is missing or infinite."""
    usable = np.isfinite(bases) & np.isfinite(seconds)
    lags: Numbers = np.subtract(bases, seconds, out=np.full(len(seconds), np.nan), where=usable)
    return lags


def hour_counts(seconds: Numbers) -> NDArray[np.int64]:
    """Counts of the 24 hours (UTC) of finite times."""
    hours = (seconds % 86_400.0 // 3_600.0).astype(np.int64)
    return np.bincount(np.minimum(hours, 23), minlength=24)


def weekday_counts(seconds: Numbers) -> NDArray[np.int64]:
    """Counts of the 7 weekdays (UTC) of finite times, Monday first; 1970-01-01 was a Thursday."""
    return np.bincount(((np.floor(seconds / 86_400.0) + 3.0) % 7.0).astype(np.int64), minlength=7)


def score_columns(classes: int, probabilities: NDArray[np.floating[Any]]) -> list[Numbers]:
    """The score columns of (rows, classes) probabilities, in the order of `score_names`."""
    table = np.asarray(probabilities, dtype=np.float64)
    if classes == 2:
        return [np.ascontiguousarray(table[:, 1])]
    columns = [np.ascontiguousarray(table[:, i]) for i in range(classes)] if classes <= SCORED_CLASSES else []
    return [table.max(axis=1) if len(table) else np.empty(0), *columns]


def score_names(classes: Sequence[ClassLabel]) -> list[str]:
    if len(classes) == 2:
        return [f"probability of {classes[1]}"]
    each = [f"probability of {label}" for label in classes] if len(classes) <= SCORED_CLASSES else []
    return ["highest probability", *each]


def predicted_counts(classes: int, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    if not len(probabilities):
        return np.zeros(classes, dtype=np.int64)
    return np.bincount(np.argmax(probabilities, axis=1), minlength=classes)


def level_counts(values: Sequence[Level | None]) -> tuple[Counter[Level], int]:
    """Counts of the levels, and how many are missing (None or NaN)."""
    counts: Counter[Any] = Counter(values.tolist() if isinstance(values, np.ndarray) else values)
    missing = sum(counts.pop(level) for level in [level for level in counts if level is None or level != level])
    return counts, missing


def _profile_feature(feature: Feature, values: RawColumn, bases: Numbers | None) -> FeatureProfile:
    if feature.kind == "categorical":
        counts, missing = level_counts(values)  # type: ignore[arg-type]
        return FeatureProfile(name=feature.name, kind=feature.kind, missing=missing, levels=_profile_levels(counts))
    numbers = np.asarray(values, dtype=np.float64)
    finite = np.isfinite(numbers)
    missing, infinite = int(np.isnan(numbers).sum()), int(np.isinf(numbers).sum())
    common = {"name": feature.name, "kind": feature.kind, "missing": missing, "infinite": infinite}
    if feature.kind == "boolean":
        true = int(np.count_nonzero(numbers[finite]))
        return FeatureProfile(**common, flags=(int(finite.sum()) - true, true))  # type: ignore[arg-type]
    if feature.kind == "datetime":
        lags = None if bases is None else lags_to(bases, numbers)
        return FeatureProfile(**common, dates=_profile_dates(numbers[finite], lags))  # type: ignore[arg-type]
    return FeatureProfile(**common, numbers=_profile_numbers(numbers))  # type: ignore[arg-type]


def _profile_levels(counts: Counter[Level]) -> LevelProfile:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    known, beyond = ranked[:KNOWN_LEVELS], ranked[KNOWN_LEVELS:]
    singletons = sum(count == 1 for _, count in known)
    return LevelProfile(
        levels=tuple(level for level, _ in known),
        counts=tuple(count for _, count in known),
        rare_rows=singletons + sum(count for _, count in beyond),
    )


def _profile_dates(seconds: Numbers, lags: Numbers | None) -> DateProfile:
    return DateProfile(
        hours=tuple(hour_counts(seconds).tolist()),
        weekdays=tuple(weekday_counts(seconds).tolist()),
        earliest=float(seconds.min(initial=math.inf)) if len(seconds) else 0.0,
        latest=float(seconds.max(initial=-math.inf)) if len(seconds) else 0.0,
        lag=None if lags is None else _profile_numbers(lags),
    )


def _profile_numbers(values: Numbers) -> NumericProfile:
    finite = values[np.isfinite(values)]
    bins = learn_bins(finite)
    if not len(finite):
        return NumericProfile(bins=bins, counts=(0,), mean=0.0, sd=0.0, minimum=0.0, maximum=0.0)
    # Scaled first, so that values near the largest double do not overflow their own mean.
    scale = float(np.abs(finite).max()) or 1.0
    scaled = finite / scale if scale > 1e100 else finite
    unscale = scale if scale > 1e100 else 1.0
    return NumericProfile(
        bins=bins,
        counts=tuple(Binner(bins).count(finite).bins.tolist()),
        mean=float(scaled.mean()) * unscale,
        sd=float(scaled.std()) * unscale,
        minimum=float(finite.min()),
        maximum=float(finite.max()),
    )


def _profile_scores(
    classes: tuple[ClassLabel, ...],
    probabilities: NDArray[np.floating[Any]],
    actual: NDArray[np.integer[Any]] | None,
) -> ScoreProfile:
    columns = score_columns(len(classes), probabilities)
    return ScoreProfile(
        rows=len(probabilities),
        classes=classes,
        predicted=tuple(predicted_counts(len(classes), probabilities).tolist()),
        scores={name: _profile_numbers(values) for name, values in zip(score_names(classes), columns, strict=True)},
        calibration=() if actual is None else _calibration(probabilities, actual),
    )


def _calibration(
    probabilities: NDArray[np.floating[Any]], actual: NDArray[np.integer[Any]]
) -> tuple[CalibrationBin, ...]:
    """Bins of equal width over the highest probability, the empty ones left out."""
    if not len(probabilities):
        return ()
    confidence = np.asarray(probabilities, dtype=np.float64).max(axis=1)
    right = np.argmax(probabilities, axis=1) == actual
    where = np.clip((confidence * CALIBRATION_BINS).astype(np.int64), 0, CALIBRATION_BINS - 1)
    return tuple(
        CalibrationBin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean()))
        for inside in (where == i for i in range(CALIBRATION_BINS))
        if inside.any()
    )


def _finite_or_none(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
