"""How the served model does: volume and latency from the prediction log, and accuracy where outcomes have come back.

A figure that nothing is known of is null, never made up. Figures are kept by model version, and a live accuracy is
compared with the baseline of the version that gave the answers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from config.home import under_home
from config.settings import Settings, logs_directory, registry_directory
from models.bundle import BundleError, read_manifest
from models.schema import ClassLabel
from monitoring.alerts import Alerts
from monitoring.incidents import Finding, Incident, Incidents
from monitoring.prediction_log import read_predictions
from monitoring.store import Store

#: Two-sided 95 %.
_Z = 1.959963984540054
#: Fewer outcomes open no incident, whatever their share.
LEAST_LABELS = 50
KIND: Literal["performance_drift"] = "performance_drift"


class ModelPerformance(Struct, frozen=True, kw_only=True):
    model_version: str
    predictions: int
    #: Answers whose outcome has come back, and their share of all.
    labels: int
    coverage: float
    accuracy: float | None
    #: 95 % Wilson interval of the accuracy.
    accuracy_interval: tuple[float, float] | None
    #: Accuracy on the test part, at training.
    baseline_accuracy: float | None
    mean_latency_ms: float | None
    p95_latency_ms: float | None
    mean_max_probability: float | None
    #: Share of rows with a missing, unseen or far value.
    warned_share: float


class PerformanceReport(Struct, frozen=True, kw_only=True):
    timestamp: datetime
    window_from: datetime
    models: list[ModelPerformance]
    incidents: list[Incident]


@dataclass
class _Tally:
    predictions: int = 0
    warned: int = 0
    latencies: list[float] = field(default_factory=list)
    confidence: float = 0.0
    labels: int = 0
    right: int = 0


class FeedbackLine(Struct, frozen=True, kw_only=True):
    prediction_id: str
    actual: ClassLabel | None = None


def check_performance(settings: Settings, store: Store, now: datetime) -> PerformanceReport:
    """Figures of the last `performance_check_frequency` hours by model version; a drop opens an incident."""
    since = now - timedelta(hours=settings.monitoring.performance_check_frequency)
    tallies = _tally(since, now, _outcomes(logs_directory()))
    models = [_performance(version, tallies[version]) for version in sorted(tallies, key=_by_number)]
    alerts = Alerts(Incidents(store), under_home("alerts"))
    drop = settings.monitoring.alert_thresholds.accuracy_drop
    for model in models:
        if model.labels >= LEAST_LABELS:
            alerts.settle((KIND,), model.model_version, _findings(model, drop), now)
    return PerformanceReport(
        timestamp=now, window_from=since, models=models, incidents=Incidents(store).unresolved((KIND,))
    )


def wilson_interval(successes: int, trials: int, z: float = _Z) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson, 1927): right at 0 and 1, where the normal one is empty.

    (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n); `trials` must be positive.
    """
    share, shrink = successes / trials, z * z / trials
    centre = share + shrink / 2
    margin = z * math.sqrt(share * (1 - share) / trials + shrink / (4 * trials))
    return max(0.0, (centre - margin) / (1 + shrink)), min(1.0, (centre + margin) / (1 + shrink))


def _tally(since: datetime, now: datetime, outcomes: dict[str, ClassLabel]) -> dict[str, _Tally]:
    tallies: dict[str, _Tally] = defaultdict(_Tally)
    for line in read_predictions(logs_directory(), since, now):
        tally = tallies[line.model_version]
        tally.predictions += 1
        tally.warned += bool(line.warnings)
        tally.latencies.append(line.latency_ms)
        tally.confidence += line.max_probability
        actual = outcomes.get(line.prediction_id)
        if actual is not None:
            tally.labels += 1
            tally.right += actual == line.prediction
    return tallies


def _outcomes(directory: Path) -> dict[str, ClassLabel]:
    """The last word on each prediction, from `feedback_*.jsonl`."""
    return {line.prediction_id: line.actual for line in _feedback(directory) if line.actual is not None}


def _feedback(directory: Path) -> Iterator[FeedbackLine]:
    decoder = msgspec.json.Decoder(FeedbackLine)
    for path in sorted(directory.glob("feedback_*.jsonl")):
        with path.open("rb") as stream:
            for content in stream:
                if content.strip():
                    try:
                        yield decoder.decode(content)
                    except ValueError:  # the remains of a write cut short
                        continue


def _performance(version: str, tally: _Tally) -> ModelPerformance:
    latencies = sorted(tally.latencies)
    return ModelPerformance(
        model_version=version,
        predictions=tally.predictions,
        labels=tally.labels,
        coverage=tally.labels / tally.predictions,
        accuracy=tally.right / tally.labels if tally.labels else None,
        accuracy_interval=wilson_interval(tally.right, tally.labels) if tally.labels else None,
        baseline_accuracy=_baseline(version),
        mean_latency_ms=sum(latencies) / len(latencies),
        p95_latency_ms=latencies[min(len(latencies) - 1, math.ceil(0.95 * len(latencies)) - 1)],
        mean_max_probability=tally.confidence / tally.predictions,
        warned_share=tally.warned / tally.predictions,
    )


def _baseline(version: str) -> float | None:
    try:
        return read_manifest(registry_directory() / version)[0].metrics.get("test_accuracy")
    except BundleError:
        return None


def _findings(model: ModelPerformance, drop: float) -> Iterable[Finding]:
    """A drop is one when the whole interval lies below the baseline less the allowed drop, not on one noisy day."""
    if model.accuracy is None or model.accuracy_interval is None or model.baseline_accuracy is None:
        return
    if model.accuracy_interval[1] < model.baseline_accuracy - drop:
        yield Finding(
            kind=KIND,
            severity="high",
            cause=(
                f"accuracy is {model.accuracy:.3f} on {model.labels} outcomes, "
                f"{model.baseline_accuracy:.3f} at training"
            ),
            next="python main.py retrain",
            model_version=model.model_version,
            evidence={"accuracy": model.accuracy, "interval": list(model.accuracy_interval), "labels": model.labels},
        )


def _by_number(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdigit() else (0, version)
