"""One monitoring cycle: reads what the server logged, compares it with the champion's reference, opens and closes
incidents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice

import numpy as np
from msgspec import Struct

from config.home import under_home
from config.settings import Settings, logs_directory, registry_directory
from models.bundle import REFERENCE, Bundle, BundleError, read_bundle
from models.raw_rows import raw_column
from models.reference import decode_reference
from models.serving_plan import ServingPlan, read_plan
from monitoring.alerts import Alerts
from monitoring.drift_checks import DriftChecks
from monitoring.drift_detection import DriftDetector
from monitoring.drift_report import DriftReport, DriftThresholds
from monitoring.incidents import SEVERITIES, Finding, Incident, IncidentKind, Incidents, Severity
from monitoring.plain_json import encode
from monitoring.prediction_log import PredictionLine, read_predictions
from monitoring.store import Store
from monitoring.window_profile import Profiler, WindowProfile, merge

#: How far back a cycle looks when its frequency is shorter: a night's few rows say little.
LEAST_WINDOW = timedelta(hours=24)
_CHUNK_ROWS = 10_000


class CycleOutcome(Struct, frozen=True, kw_only=True):
    """What a cycle found; `monitor --json` prints it."""

    timestamp: datetime
    model_version: str | None
    window_from: datetime
    window_to: datetime
    rows: int
    #: Lines of the log that are no prediction: remains of writes cut short.
    fragments: int
    drift: DriftReport | None
    note: str
    #: Those that are unresolved now.
    incidents: list[Incident]


def run_cycle(settings: Settings, store: Store, now: datetime) -> CycleOutcome:
    """Checks the champion's live rows. Raises `BundleError` or `PlanError` when what is in service cannot be read."""
    since = now - max(LEAST_WINDOW, timedelta(hours=settings.monitoring.drift_detection_frequency))
    plan = read_plan(registry_directory())
    alerts = Alerts(Incidents(store), under_home("alerts"))
    report, rows, fragments, version = None, 0, 0, None
    note = "nothing is in service yet; next: python main.py run"
    if plan is not None and plan.champion is not None:
        version = plan.champion.version
        bundle = service_bundle(plan)
        lines = read_predictions(logs_directory(), since, now)
        detector = detector_of(settings, bundle)
        window = _profile(detector, bundle, (line for line in lines if line.model_version == version))
        rows, fragments = window.rows, lines.fragments
        report = detector.detect(window, now)
        note = report.note
        _record(settings, store, alerts, version, report, since, now)
    return CycleOutcome(
        timestamp=now,
        model_version=version,
        window_from=since,
        window_to=now,
        rows=rows,
        fragments=fragments,
        drift=report,
        note=note,
        incidents=Incidents(store).unresolved(),
    )


def service_bundle(plan: ServingPlan | None) -> Bundle:
    """The verified bundle of the plan's champion; raises `BundleError` when there is none."""
    if plan is None or plan.champion is None:
        raise BundleError("nothing is in service yet, so there is no reference; next: python main.py run")
    return read_bundle(registry_directory() / plan.champion.version, plan.champion.manifest_sha256, REFERENCE)


def detector_of(settings: Settings, bundle: Bundle) -> DriftDetector:
    """The detector with the reference of a bundle."""
    return DriftDetector(decode_reference(bundle.extra[REFERENCE]), DriftThresholds.from_settings(settings))


def _profile(detector: DriftDetector, bundle: Bundle, lines: Iterator[PredictionLine]) -> WindowProfile:
    profiler = Profiler(detector.reference)
    return merge([profiler.empty(), *(_profile_chunk(profiler, bundle, chunk) for chunk in _chunks(lines))])


def _chunks(lines: Iterator[PredictionLine]) -> Iterator[list[PredictionLine]]:
    while chunk := list(islice(lines, _CHUNK_ROWS)):
        yield chunk


def _profile_chunk(profiler: Profiler, bundle: Bundle, lines: list[PredictionLine]) -> WindowProfile:
    raw = [
        raw_column(feature, [line.input_data.get(feature.name) for line in lines]) for feature in bundle.schema.features
    ]
    probabilities = np.array([line.probability for line in lines], dtype=np.float64)
    return profiler.profile(raw, probabilities)


def _record(
    settings: Settings,
    store: Store,
    alerts: Alerts,
    version: str,
    report: DriftReport,
    since: datetime,
    now: datetime,
) -> None:
    import msgspec

    plain = msgspec.json.decode(encode(report))
    DriftChecks(store).add(version, now, report.rows, plain, window_from=since, window_to=now)
    alerts.resolve_superseded(version, now)
    if report.status == "not_enough_data":
        return
    checked: tuple[IncidentKind, ...] = ("data_drift", "prediction_drift")
    alerts.settle(checked, version, _findings(settings, version, report), now)


def _findings(settings: Settings, version: str, report: DriftReport) -> Iterable[Finding]:
    if report.overall_drift:
        words = [report.feature_scores[name].words or name for name in report.drifted_features[:5]]
        share = f"{len(report.drifted_features)} of {len(report.feature_scores)}"
        yield Finding(
            kind="data_drift",
            severity=_severity(report.severity, report.drift_score, settings),
            cause=f"{share} features have drifted: {'; '.join(words)}",
            next="python main.py retrain, once rows like these have their outcomes",
            model_version=version,
            features=tuple(report.drifted_features),
            evidence={"drift_score": report.drift_score, "rows": report.rows},
        )
    prediction = report.prediction_drift
    if prediction is not None and prediction.overall_drift:
        words = [prediction.scores[name].words or name for name in prediction.drifted_scores[:5]]
        yield Finding(
            kind="prediction_drift",
            severity=_severity(prediction.severity, prediction.drift_score, settings),
            cause=f"the model's answers have drifted: {'; '.join(words)}",
            next="python main.py status",
            model_version=version,
            evidence={"drift_score": prediction.drift_score, "rows": prediction.rows},
        )


def _severity(found: str, score: float, settings: Settings) -> Severity:
    """By the largest effect; at least high when the mean over all features passes the configured score."""
    severity: Severity = "low" if found == "none" else found  # type: ignore[assignment]
    if score > settings.monitoring.alert_thresholds.drift_score and SEVERITIES.index(severity) < 2:
        return "high"
    return severity
