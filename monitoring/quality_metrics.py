"""What the store holds of the model's quality: drift as last checked, accuracy from outcomes and without them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from config.settings import Settings
from models.bundle import REFERENCE, BundleError, Manifest, read_manifest, read_verified
from models.error_model import ErrorModelProfile
from models.reference import ReferenceFormatError, decode_reference
from monitoring.cycle import live_since
from monitoring.drift_checks import DriftChecks
from monitoring.metric_samples import Definition, Sample
from monitoring.outcome_records import right_answers
from monitoring.performance_estimation import estimate_performance
from monitoring.performance_metrics import window_starts
from monitoring.store import Store
from monitoring.window_records import served_versions

_VERSION = ("model_version",)
DRIFT_CHECKED = Definition(
    "mlops_drift_checked_timestamp_seconds", "gauge", "scheduler", "When drift was last looked for.", _VERSION
)
DRIFT_ROWS = Definition("mlops_drift_rows", "gauge", "scheduler", "Rows of the last drift check.", _VERSION)
DRIFT_DETECTED = Definition(
    "mlops_drift_detected", "gauge", "scheduler",
    "1 when the last check found drift of the rows (kind data) or of the answers (prediction), else 0.",
    ("model_version", "kind"),
)  # fmt: skip
DRIFT_SCORE = Definition(
    "mlops_drift_score_ratio", "gauge", "scheduler", "Mean effect of drift, 0 to 1, by the last check.",
    ("model_version", "kind"),
)  # fmt: skip
DRIFTED_FEATURES = Definition(
    "mlops_drifted_features", "gauge", "scheduler", "Features that have drifted, by the last check.", _VERSION
)
PREDICTIONS = Definition(
    "mlops_window_predictions", "gauge", "scheduler", "Predictions in the window of the performance check.", _VERSION
)
LABELS = Definition(
    "mlops_window_labels", "gauge", "scheduler", "Of these, those whose outcome has come back.", _VERSION
)
COVERAGE = Definition(
    "mlops_label_coverage_ratio", "gauge", "scheduler", "Share of the window's predictions with an outcome.", _VERSION
)
ACCURACY = Definition("mlops_accuracy_ratio", "gauge", "scheduler", "Accuracy on the window's outcomes.", _VERSION)
TRAINED_ACCURACY = Definition(
    "mlops_trained_accuracy_ratio", "gauge", "scheduler", "Accuracy on the held-out rows at training.", _VERSION
)
ESTIMATED_ACCURACY = Definition(
    "mlops_estimated_accuracy_ratio", "gauge", "scheduler",
    "Accuracy of the live rows as told without outcomes; absent while labels have proved that wrong.", _VERSION,
)  # fmt: skip

QUALITY_METRICS = (
    *(DRIFT_CHECKED, DRIFT_ROWS, DRIFT_DETECTED, DRIFT_SCORE, DRIFTED_FEATURES),
    *(PREDICTIONS, LABELS, COVERAGE, ACCURACY, TRAINED_ACCURACY, ESTIMATED_ACCURACY),
)


def drift_samples(store: Store, version: str | None) -> Iterator[Sample]:
    """Of the version in service. Where the rows were too few for a verdict there is none here either."""
    latest = DriftChecks(store).latest(version) if version is not None else []
    for check in latest:
        yield from DRIFT_CHECKED.of(check.checked_at, check.model_version)
        yield from DRIFT_ROWS.of(check.rows, check.model_version)
        for kind, report in (("data", check.report), ("prediction", check.report.get("prediction_drift"))):
            if report is not None and report["status"] != "not_enough_data":
                yield from DRIFT_DETECTED.of(report["overall_drift"], check.model_version, kind)
                yield from DRIFT_SCORE.of(report["drift_score"], check.model_version, kind)
        if check.report["status"] != "not_enough_data":
            yield from DRIFTED_FEATURES.of(len(check.report["drifted_features"]), check.model_version)


class PerformanceMetrics:
    """The window of each version is that of the performance check. Keep it: profiles of bundles are remembered."""

    def __init__(self, settings: Settings, registry: Path) -> None:
        self._settings = settings
        self._registry = registry
        self._profiles: dict[str, ErrorModelProfile | None] = {}

    def samples(self, store: Store, version: str | None, now: datetime) -> Iterator[Sample]:
        """Of each version that predicted lately; `version` is the one in service, or None."""
        since = now - timedelta(hours=self._settings.monitoring.performance_check_frequency)
        starts = window_starts(store, since, now, self._settings.labels.window_days, version)
        for name, start in starts.items():
            yield from self._realised(store, name, start, now)
        if version is not None and (manifest := self._manifest(version)) is not None:
            since = live_since(self._settings, store, version, now)
            estimate = estimate_performance(store, version, since, now, now, self._profile(version, manifest))
            yield from ESTIMATED_ACCURACY.of(estimate.accuracy, version)

    def _realised(self, store: Store, version: str, since: datetime, now: datetime) -> Iterator[Sample]:
        labels, right = right_answers(store, since, now, version)
        served = served_versions(store, since, now, version, by_day=False)
        predictions = sum(one.predictions for one in served)
        yield from PREDICTIONS.of(predictions, version)
        yield from LABELS.of(labels, version)
        yield from COVERAGE.of(labels / predictions if predictions else None, version)
        yield from ACCURACY.of(right / labels if labels else None, version)
        manifest = self._manifest(version)
        yield from TRAINED_ACCURACY.of(manifest.metrics.get("test_accuracy") if manifest else None, version)

    def _manifest(self, version: str) -> Manifest | None:
        if not version or Path(version).name != version:  # a log is no place to take paths from
            return None
        try:
            return read_manifest(self._registry / version)[0]
        except BundleError:
            return None

    def _profile(self, version: str, manifest: Manifest) -> ErrorModelProfile | None:
        key = f"{version} {manifest.run_id}"
        if key not in self._profiles:
            self._profiles = {key: self._read_profile(version, manifest)}
        return self._profiles[key]

    def _read_profile(self, version: str, manifest: Manifest) -> ErrorModelProfile | None:
        try:
            reference = decode_reference(read_verified(self._registry / version, manifest, REFERENCE))
        except (BundleError, ReferenceFormatError):
            return None
        return reference.error_model
