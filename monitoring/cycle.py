"""One monitoring cycle: what the store holds of the champion's live rows against its reference; opens and closes
incidents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from config.home import under_home
from config.settings import Settings, registry_directory
from models.bundle import REFERENCE, Bundle, BundleError, read_bundle
from models.reference import decode_reference
from models.serving_plan import ServingPlan, read_plan
from monitoring.alerts import Alerts
from monitoring.drift_checks import DriftChecks
from monitoring.drift_detection import DriftDetector
from monitoring.drift_report import DriftReport, DriftThresholds
from monitoring.incidents import SEVERITIES, Finding, Incident, IncidentKind, Incidents, Severity
from monitoring.live_quality import FRAGMENTS, fragment_findings, quality_findings, unprofiled_words
from monitoring.log_ingestion import IngestionReport
from monitoring.log_places import line_counts
from monitoring.plain_json import encode
from monitoring.profile_codec import merge_encoded
from monitoring.store import Store
from monitoring.window_records import Window, hour_start, window

#: How far back a cycle looks when its frequency is shorter: a night's few rows say little.
LEAST_WINDOW = timedelta(hours=24)


class CycleOutcome(Struct, frozen=True, kw_only=True):
    """What a cycle found; `monitor --json` prints it."""

    timestamp: datetime
    model_version: str | None
    #: The window is of whole hours: every hour is counted that touches the configured stretch.
    window_from: datetime
    window_to: datetime
    #: Rows that the version answered, on all hosts and in all arms; some of them may be in no profile.
    rows: int
    unprofiled_rows: int
    #: Lines of the logs of these days that are none: remains of writes cut short.
    fragments: int
    drift: DriftReport | None
    note: str
    #: Sentences on what the figures leave out.
    remarks: list[str]
    #: What was read into the store for this cycle; None when others do that.
    ingestion: IngestionReport | None
    #: Those that are unresolved now.
    incidents: list[Incident]


def run_cycle(settings: Settings, store: Store, now: datetime, read: IngestionReport | None = None) -> CycleOutcome:
    """Checks the champion's live rows as far as they are in the store; `read` is what was just read into it.

    Raises `BundleError` or `PlanError` when what is in service cannot be read.
    """
    since = hour_start(now - max(LEAST_WINDOW, timedelta(hours=settings.monitoring.drift_detection_frequency)))
    plan = read_plan(registry_directory())
    alerts = Alerts(Incidents(store), under_home("alerts"))
    lines, fragments = line_counts(store, since, now)
    alerts.settle(("data_quality",), None, fragment_findings(lines, fragments), now, subject=FRAGMENTS)
    report, seen, version = None, None, None
    if plan is not None and plan.champion is not None:
        version = plan.champion.version
        detector = detector_of(settings, service_bundle(plan))
        seen = window(store, detector.layout, version, since, now)
        report = _check(store, alerts, detector, version, seen, since, now)
        alerts.settle(_decided(report), version, _findings(settings, version, report, seen, detector), now)
    return CycleOutcome(
        timestamp=now,
        model_version=version,
        window_from=since,
        window_to=now,
        rows=seen.rows if seen else 0,
        unprofiled_rows=seen.unprofiled_rows if seen else 0,
        fragments=fragments,
        drift=report,
        note=report.note if report else "nothing is in service yet; next: python main.py run",
        remarks=list(_remarks(seen, read)),
        ingestion=read,
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


def _check(
    store: Store, alerts: Alerts, detector: DriftDetector, version: str, seen: Window, since: datetime, now: datetime
) -> DriftReport:
    """The verdict on a window, kept in the store."""
    profile = seen.profile if seen.profile is not None else merge_encoded((), detector.layout)
    report = detector.detect(profile, now, seen.withheld)
    plain = msgspec.json.decode(encode(report))
    DriftChecks(store).add(version, now, report.rows, plain, window_from=since, window_to=now)
    alerts.resolve_superseded(version, now)
    return report


def _decided(report: DriftReport) -> tuple[IncidentKind, ...]:
    """What the check could tell: a night's few rows resolve nothing."""
    if report.status == "not_enough_data":
        return ()
    return "data_drift", "prediction_drift", "data_quality"


def _findings(
    settings: Settings, version: str, report: DriftReport, seen: Window, detector: DriftDetector
) -> Iterator[Finding]:
    yield from _drift_findings(settings, version, report)
    yield from quality_findings(version, seen, detector.reference, detector.thresholds)


def _remarks(seen: Window | None, read: IngestionReport | None) -> Iterator[str]:
    if seen is not None and seen.unprofiled_rows:
        yield unprofiled_words(seen)
    if seen is not None and seen.withheld:
        names = ", ".join(sorted(seen.withheld))
        yield f"the log hashes or drops {names} (logging.fields), so these features take no part in drift"
    if read is not None and not read.finished:
        held = "another process was reading the logs" if read.busy else f"{read.lag_bytes:,} bytes of the logs wait"
        yield f"{held}: the newest rows may not be in these figures"


def _drift_findings(settings: Settings, version: str, report: DriftReport) -> Iterable[Finding]:
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
