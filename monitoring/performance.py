"""How one model version does, from what was counted of it: a pure function from records to figures.

A figure that nothing is known of is None, never made up. Days are those of the predictions, in UTC.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from msgspec import Struct
from numpy.random import Generator

from models.schema import ClassLabel
from monitoring.confusion import COUNT_METRICS, ClassIndex, Confusion, confusion_of
from monitoring.intervals import Interval, wilson_interval
from monitoring.labelled_sample import LabelledSample
from monitoring.outcome_records import OutcomeCount
from monitoring.performance_trend import DayCount, Trend, trend_of
from monitoring.score_metrics import SCORE_METRICS, loss_sums, score_figures, score_intervals
from monitoring.server_hours import ServerFigures
from monitoring.window_records import ServedHours

#: Live metrics; `f1_score` is called `f1` at training.
METRIC_NAMES = (*COUNT_METRICS, *SCORE_METRICS)
TRAINED_NAMES = {name: "f1" if name == "f1_score" else name for name in METRIC_NAMES}
CONFIDENCE_BINS = 10


class LabelDelay(Struct, frozen=True, kw_only=True):
    """From a prediction to the arrival of its (last) outcome; mean of all labels, quantiles of the sample."""

    mean_seconds: float | None
    median_seconds: float | None
    p95_seconds: float | None


class ConfidenceBin(Struct, frozen=True, kw_only=True):
    """Sampled labelled rows by the highest probability of their answer; `low` <= confidence < `high`."""

    low: float
    high: float
    rows: int
    mean_confidence: float
    accuracy: float
    accuracy_interval: Interval


class DayPerformance(Struct, frozen=True, kw_only=True):
    """One line of the daily performance log. `server` is of all that the servers did that day, whatever the version."""

    day: date
    predictions: int
    labels: int
    coverage: float | None
    metrics: dict[str, float | None]
    #: Of the metrics of counts.
    intervals: dict[str, Interval | None]
    delay: LabelDelay
    mean_latency_ms: float | None
    p95_latency_ms: float | None
    mean_max_probability: float | None
    warned_share: float | None
    server: ServerFigures | None


class ModelPerformance(Struct, frozen=True, kw_only=True):
    """One version over a window; `since` is the first moment of its first hour."""

    model_version: str
    since: datetime
    predictions: int
    #: Answers whose outcome has come back, and their share of all.
    labels: int
    coverage: float | None
    #: Labels that are no class of the model: wrong answers, in all but `balanced_accuracy` and `f1_macro`.
    unknown_labels: int
    #: Labelled rows that rankings, calibration and quantiles of delays are of; fewer than `labels` when these are many.
    sampled_labels: int
    #: `precision`, `recall` and `f1_score` are averages over classes weighted by their rows.
    metrics: dict[str, float | None]
    #: 95 %.
    intervals: dict[str, Interval | None]
    #: The same metrics on the test part at training; None where the bundle is not here.
    baseline: dict[str, float | None]
    delay: LabelDelay
    mean_latency_ms: float | None
    p95_latency_ms: float | None
    mean_max_probability: float | None
    #: Share of rows with a missing, unseen or far value.
    warned_share: float | None
    confidence: tuple[ConfidenceBin, ...]
    #: Of the accuracy.
    trend: Trend
    by_day: tuple[DayPerformance, ...]


@dataclass(frozen=True)
class VersionRecords:
    """What the store and the registry hold of one version in a window; counts and volumes by day."""

    version: str
    since: datetime
    counts: Sequence[OutcomeCount]
    sample: LabelledSample
    #: Of the whole window, and by day.
    served: ServedHours | None = None
    served_days: Mapping[date, ServedHours] = field(default_factory=dict)
    #: Of the bundle; empty when it is not here.
    classes: tuple[ClassLabel, ...] = ()
    trained_metrics: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def index(self) -> ClassIndex:
        return ClassIndex(self.classes, (count.predicted for count in self.counts))


def performance_of(
    records: VersionRecords, server: Mapping[date, ServerFigures], random: Generator
) -> ModelPerformance:
    """The figures of one version; `random` weighs rows for the intervals."""
    confusion, losses = confusion_of(records.counts, records.index), loss_sums(records.counts)
    days = _by_day(records, server, random)
    served, labels = records.served, confusion.rows
    predictions = served.predictions if served else 0
    return ModelPerformance(
        model_version=records.version,
        since=records.since,
        predictions=predictions,
        labels=labels,
        coverage=_share(labels, predictions),
        unknown_labels=confusion.unknown,
        sampled_labels=len(records.sample),
        metrics=confusion.figures() | score_figures(losses, records.sample),
        intervals=confusion.intervals(random) | score_intervals(losses, records.sample, random),
        baseline={name: records.trained_metrics.get(f"test_{TRAINED_NAMES[name]}") for name in METRIC_NAMES},
        delay=_delay(records.counts, records.sample),
        mean_latency_ms=served.mean_latency_ms if served else None,
        p95_latency_ms=served.p95_latency_ms if served else None,
        mean_max_probability=served.mean_max_probability if served else None,
        warned_share=_share(served.warned_rows, predictions) if served else None,
        confidence=_confidence(records.sample),
        trend=trend_of([_day_count(day, counts, records.index) for day, counts in _days_of(records.counts).items()]),
        by_day=days,
    )


def _by_day(
    records: VersionRecords, server: Mapping[date, ServerFigures], random: Generator
) -> tuple[DayPerformance, ...]:
    counts, index = _days_of(records.counts), records.index
    days = sorted({*counts, *records.served_days})
    return tuple(_day(records, day, counts.get(day, []), index, server.get(day), random) for day in days)


def _day(
    records: VersionRecords,
    day: date,
    counts: list[OutcomeCount],
    index: ClassIndex,
    server: ServerFigures | None,
    random: Generator,
) -> DayPerformance:
    confusion, sample = confusion_of(counts, index), records.sample.of_day(day)
    served = records.served_days.get(day)
    predictions = served.predictions if served else 0
    return DayPerformance(
        day=day,
        predictions=predictions,
        labels=confusion.rows,
        coverage=_share(confusion.rows, predictions),
        metrics=confusion.figures() | score_figures(loss_sums(counts), sample),
        intervals=confusion.intervals(random),
        delay=_delay(counts, sample),
        mean_latency_ms=served.mean_latency_ms if served else None,
        p95_latency_ms=served.p95_latency_ms if served else None,
        mean_max_probability=served.mean_max_probability if served else None,
        warned_share=_share(served.warned_rows, predictions) if served else None,
        server=server,
    )


def _days_of(counts: Iterable[OutcomeCount]) -> dict[date, list[OutcomeCount]]:
    found: defaultdict[date, list[OutcomeCount]] = defaultdict(list)
    for count in counts:
        found[count.since.date()].append(count)
    return found


def _day_count(day: date, counts: list[OutcomeCount], index: ClassIndex) -> DayCount:
    confusion: Confusion = confusion_of(counts, index)
    return DayCount(day.toordinal(), confusion.rows, confusion.right)


def _delay(counts: Sequence[OutcomeCount], sample: LabelledSample) -> LabelDelay:
    rows = sum(count.rows for count in counts)
    known = len(sample) > 0
    return LabelDelay(
        mean_seconds=sum(count.delay_seconds for count in counts) / rows if rows else None,
        median_seconds=float(np.median(sample.delay_seconds)) if known else None,
        p95_seconds=float(np.quantile(sample.delay_seconds, 0.95)) if known else None,
    )


def _confidence(sample: LabelledSample) -> tuple[ConfidenceBin, ...]:
    """Ten bins of equal width, the empty ones left out; a label that the model does not know is a wrong answer."""
    rows = sample.where(np.isfinite(sample.confidence))
    places = np.clip((rows.confidence * CONFIDENCE_BINS).astype(np.int64), 0, CONFIDENCE_BINS - 1)
    return tuple(_confidence_bin(int(place), rows.where(places == place)) for place in np.unique(places))


def _confidence_bin(place: int, rows: LabelledSample) -> ConfidenceBin:
    right = int(rows.right.sum())
    return ConfidenceBin(
        low=place / CONFIDENCE_BINS,
        high=(place + 1) / CONFIDENCE_BINS,
        rows=len(rows),
        mean_confidence=float(rows.confidence.mean()),
        accuracy=right / len(rows),
        accuracy_interval=wilson_interval(right, len(rows)),
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
