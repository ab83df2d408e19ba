"""One monitoring cycle: what the store holds of the champion's live rows against its reference; opens and closes
incidents."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

import msgspec
from msgspec import Struct, structs

from config.settings import Settings, registry_directory
from models.bundle import REFERENCE, Bundle, BundleError, read_bundle
from models.reference import Reference, decode_reference
from models.serving_plan import ServingPlan, read_plan
from monitoring.alerts import Alerts
from monitoring.drift_checks import DriftChecks
from monitoring.drift_detection import DriftDetector
from monitoring.drift_findings import drift_findings
from monitoring.drift_report import DriftReport, DriftThresholds
from monitoring.incidents import Finding, Incident, IncidentKind, Incidents
from monitoring.live_quality import FRAGMENTS, fragment_findings, quality_findings, unprofiled_words
from monitoring.log_ingestion import IngestionReport
from monitoring.log_places import line_counts
from monitoring.monitors import Monitor, monitor_for
from monitoring.performance_estimation import PerformanceEstimate, estimate_performance
from monitoring.performance_metrics import PerformanceReport
from monitoring.plain_json import encode
from monitoring.profile_codec import merge_encoded
from monitoring.refusal_findings import refusal_findings
from monitoring.store import Store
from monitoring.window_records import Window, start_of, window

#: How far back a cycle looks when its frequency is shorter: a night's few rows say little. While those are fewer than
#: are worth judging, it looks further back, but not beyond what is still called live.
LEAST_WINDOW, MOST_WINDOW = timedelta(hours=24), timedelta(days=14)
#: What a cycle looks for.
KINDS: tuple[IncidentKind, ...] = ("data_drift", "prediction_drift", "data_quality")


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
    #: The accuracy of these rows, told without their outcomes.
    estimate: PerformanceEstimate | None
    note: str
    #: Sentences on what the figures leave out.
    remarks: list[str]
    #: What was read into the store for this cycle; None when others do that.
    ingestion: IngestionReport | None
    #: Those that are unresolved now.
    incidents: list[Incident]
    #: What outcomes say, where that was checked too.
    performance: PerformanceReport | None = None


def run_cycle(settings: Settings, store: Store, now: datetime, read: IngestionReport | None = None) -> CycleOutcome:
    """Checks the champion's live rows as far as they are in the store; `read` is what was just read into it.

    Raises `BundleError` or `PlanError` when what is in service cannot be read.
    """
    plan = read_plan(registry_directory())
    alerts = Alerts.of(settings, store)
    report, seen, version, estimate = None, None, None, None
    if plan is not None and plan.champion is not None:
        version = plan.champion.version
    since = live_since(settings, store, version or "", now)
    lines, fragments = line_counts(store, since, now)
    watched = _Watched.of(settings, store, version)
    if "data_quality" in watched.kinds:
        alerts.settle(("data_quality",), None, fragment_findings(lines, fragments), now, subject=FRAGMENTS)
    if version is not None:
        detector = watched.detector(decode_reference(service_bundle(plan).extra[REFERENCE]))
        seen = window(store, detector.layout, version, since, now)
        estimate = estimate_performance(store, version, since, now, now, detector.reference.error_model)
        report = _check(store, alerts, detector, watched, version, seen, since, now)
        found = [*_findings(watched, version, report, seen, detector, estimate)]
        if "data_quality" in watched.kinds:
            found += _refused(store, version, since, now, detector)
        alerts.settle(watched.decided(report), version, found, now)
    return CycleOutcome(
        timestamp=now,
        model_version=version,
        window_from=since,
        window_to=now,
        rows=seen.rows if seen else 0,
        unprofiled_rows=seen.unprofiled_rows if seen else 0,
        fragments=fragments,
        drift=report,
        estimate=estimate,
        note=report.note if report else "nothing is in service yet; next: python main.py run",
        remarks=[*watched.remarks(), *_remarks(seen, read)],
        ingestion=read,
        incidents=Incidents(store).unresolved(),
    )


def live_since(settings: Settings, store: Store, version: str, now: datetime) -> datetime:
    """Where the window of live rows begins: as far back as the last check, a day at least, and further while it holds
    fewer rows than a verdict is worth."""
    least = max(LEAST_WINDOW, timedelta(hours=settings.monitoring.drift_detection_frequency))
    return start_of(store, version, now, least, max(least, MOST_WINDOW), DriftThresholds().advised_rows)


def service_bundle(plan: ServingPlan | None) -> Bundle:
    """The verified bundle of the plan's champion; raises `BundleError` when there is none."""
    if plan is None or plan.champion is None:
        raise BundleError("nothing is in service yet, so there is no reference; next: python main.py run")
    return read_bundle(registry_directory() / plan.champion.version, plan.champion.manifest_sha256, REFERENCE)


def detector_of(settings: Settings, bundle: Bundle) -> DriftDetector:
    """The detector with the reference of a bundle."""
    return DriftDetector(decode_reference(bundle.extra[REFERENCE]), DriftThresholds.from_settings(settings))


@dataclass(frozen=True)
class _Watched:
    """The monitors of a cycle, by kind."""

    monitors: dict[IncidentKind, Monitor]

    @classmethod
    def of(cls, settings: Settings, store: Store, version: str | None) -> Self:
        model = settings.registered_model_name
        return cls({kind: monitor_for(store, settings, kind, model, version) for kind in KINDS})

    @property
    def kinds(self) -> tuple[IncidentKind, ...]:
        """Those that are looked for: not paused."""
        return tuple(kind for kind, monitor in self.monitors.items() if not monitor.paused)

    def thresholds(self, kind: IncidentKind) -> DriftThresholds:
        known = self.monitors[kind].thresholds
        return DriftThresholds(p_value=known["p_value"], effect=known["effect"], share_effect=known["share_effect"])

    def detector(self, reference: Reference) -> DriftDetector:
        return DriftDetector(reference, self.thresholds("data_drift"))

    def scores(self) -> dict[IncidentKind, float]:
        return {kind: self.monitors[kind].thresholds["drift_score"] for kind in ("data_drift", "prediction_drift")}

    def decided(self, report: DriftReport) -> tuple[IncidentKind, ...]:
        """What the check could tell: a night's few rows resolve nothing."""
        return () if report.status == "not_enough_data" else self.kinds

    def remarks(self) -> Iterator[str]:
        for kind, monitor in self.monitors.items():
            if monitor.paused:
                yield f"the monitor of {kind} is paused; python main.py monitors resume {kind}"


def _check(
    store: Store,
    alerts: Alerts,
    detector: DriftDetector,
    watched: _Watched,
    version: str,
    seen: Window,
    since: datetime,
    now: datetime,
) -> DriftReport:
    """The verdict on a window, kept in the store."""
    profile = seen.profile if seen.profile is not None else merge_encoded((), detector.layout)
    report = detector.detect(profile, now, seen.withheld)
    of_answers = watched.thresholds("prediction_drift")
    if of_answers != detector.thresholds:
        other = DriftDetector(detector.reference, of_answers).detect(profile, now, seen.withheld)
        report = structs.replace(report, prediction_drift=other.prediction_drift)
    plain = msgspec.json.decode(encode(report))
    DriftChecks(store).add(version, now, report.rows, plain, window_from=since, window_to=now)
    alerts.resolve_superseded(version, now)
    return report


def _findings(
    watched: _Watched,
    version: str,
    report: DriftReport,
    seen: Window,
    detector: DriftDetector,
    estimate: PerformanceEstimate,
) -> Iterator[Finding]:
    trained = detector.reference.metrics.get("accuracy")
    loss = None if trained is None or estimate.accuracy is None else trained - estimate.accuracy
    found = [
        *drift_findings(version, report, watched.scores(), loss),
        *quality_findings(version, seen, detector.reference, detector.thresholds),
    ]
    yield from (finding for finding in found if finding.kind in watched.kinds)


def _refused(store: Store, version: str, since: datetime, now: datetime, detector: DriftDetector) -> Iterator[Finding]:
    reference, open_ones = detector.reference, Incidents(store).unresolved(KINDS)
    features = [feature.name for feature in reference.features]
    return refusal_findings(store, version, since, now, features, reference.rows, detector.thresholds, open_ones)


def _remarks(seen: Window | None, read: IngestionReport | None) -> Iterator[str]:
    if seen is not None and seen.unprofiled_rows:
        yield unprofiled_words(seen)
    if seen is not None and seen.withheld:
        names = ", ".join(sorted(seen.withheld))
        yield f"the log hashes or drops {names} (logging.fields), so these features take no part in drift"
    if read is not None and not read.finished:
        held = "another process was reading the logs" if read.busy else f"{read.lag_bytes:,} bytes of the logs wait"
        yield f"{held}: the newest rows may not be in these figures"
