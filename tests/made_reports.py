"""Reports of made-up outcomes, through the code that makes real ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta

import numpy as np

from monitoring.labelled_sample import LabelledSample
from monitoring.outcome_records import OutcomeCount
from monitoring.performance import ModelPerformance, VersionRecords, performance_of
from monitoring.report_data import Report, build_report
from monitoring.window_records import ServedHours
from tests.logged import NOON

TRAINED = {"test_accuracy": 0.87, "test_f1": 0.87, "test_precision": 0.86, "test_recall": 0.87, "test_roc_auc": 0.93}
CLASSES = ("no", "yes")


def made_model(
    version: str, volumes: Mapping[int, tuple[int, int]], shift: float = 0.0, now: datetime = NOON
) -> ModelPerformance:
    """A version with (predictions, labels) by day, in days before `now`; `shift` makes it surer than it is right."""
    random = np.random.default_rng([len(version), *version.encode()])
    samples = {
        (now - timedelta(days=back)).date(): _sample(random, (now - timedelta(days=back)).date(), labels, shift)
        for back, (_, labels) in volumes.items()
    }
    served = {
        (now - timedelta(days=back)).date(): _served(version, now - timedelta(days=back), predictions)
        for back, (predictions, _) in volumes.items()
    }
    records = VersionRecords(
        version=version,
        since=now - timedelta(days=max(volumes, default=0)),
        counts=[count for day, sample in samples.items() for count in _counts(version, day, sample)],
        sample=_joined(list(samples.values())) if samples else _sample(random, now.date(), 0, 0.0),
        served=_served(version, now, sum(predictions for predictions, _ in volumes.values())) if volumes else None,
        served_days=served,
        classes=CLASSES,
        trained_metrics=TRAINED,
    )
    return performance_of(records, {}, np.random.default_rng(1))


def made_report(models: Sequence[ModelPerformance], days: int = 7) -> Report:
    return build_report(days, NOON, models, None, [])


def month() -> Report:
    """Two versions over thirty days: the second follows the first; days without labels and without anything."""
    first = {back: (900 + 20 * back, 500) for back in range(12, 30)} | {20: (800, 0), 19: (850, 0)}
    second = {back: (1200 + 15 * back, 700) for back in range(3, 15) if back != 8} | dict.fromkeys(range(3), (1300, 0))
    return made_report([made_model("3", first, 0.6), made_model("4", second)], days=30)


def _sample(random: np.random.Generator, day: date, rows: int, shift: float) -> LabelledSample:
    log_odds = random.normal(0.0, 2.2, rows)
    yes = 1.0 / (1.0 + np.exp(-log_odds))
    actual = (random.random(rows) < 1.0 / (1.0 + np.exp(-log_odds * (1.0 - shift)))).astype(np.int64)
    p = np.column_stack([1.0 - yes, yes])
    of_actual = p[np.arange(rows), actual]
    return LabelledSample(
        of_rows=rows,
        days=np.full(rows, day.toordinal()),
        delay_seconds=random.exponential(7_200.0, rows),
        right=p.argmax(axis=1) == actual,
        confidence=p.max(axis=1),
        actual=actual,
        probability=p,
        log_loss=-np.log(of_actual),
        brier=2.0 * (1.0 - of_actual) ** 2,
    )


def _joined(samples: Sequence[LabelledSample]) -> LabelledSample:
    names = ("days", "delay_seconds", "right", "confidence", "actual", "probability", "log_loss", "brier")
    arrays = {name: np.concatenate([getattr(sample, name) for sample in samples]) for name in names}
    return LabelledSample(of_rows=len(arrays["days"]), **arrays)


def _counts(version: str, day: date, sample: LabelledSample) -> list[OutcomeCount]:
    answers = sample.probability.argmax(axis=1)
    since = datetime(day.year, day.month, day.day, tzinfo=NOON.tzinfo)
    return [
        OutcomeCount(
            since=since, model_version=version, predicted=CLASSES[predicted],
            actual=CLASSES[actual], rows=int(cell.sum()), delay_seconds=int(sample.delay_seconds[cell].sum()),
            scored_rows=int(cell.sum()), log_loss=float(sample.log_loss[cell].sum()),
            brier=float(sample.brier[cell].sum()),
        )
        for predicted in (0, 1)
        for actual in (0, 1)
        if (cell := (answers == predicted) & (sample.actual == actual)).any()
    ]  # fmt: skip


def _served(version: str, since: datetime, predictions: int) -> ServedHours:
    return ServedHours(
        since=since, model_version=version, predictions=predictions,
        warned_rows=predictions // 50, warnings={}, fallback_rows=0, mean_latency_ms=2.4, p95_latency_ms=5.1,
        mean_max_probability=0.84,
    )  # fmt: skip
