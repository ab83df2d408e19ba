"""What is told without labels: the estimated accuracy, and whether the labels that came tell of another concept."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from msgspec import Struct

from config.settings import Settings
from models.bundle import REFERENCE, BundleError, read_bundle
from models.reference import ReferenceFormatError, decode_reference
from models.serving_plan import PlanError, read_plan
from monitoring.alerts import Alerts
from monitoring.concept_drift import (
    ConceptDrift,
    check_concept_drift,
    concept_drift_finding,
    strong_data_drift_is_open,
)
from monitoring.incidents import IncidentKind
from monitoring.monitors import monitor_for
from monitoring.performance_estimation import PerformanceEstimate, estimate_performance
from monitoring.store import Store

KIND: IncidentKind = "concept_drift"


class EstimationReport(Struct, frozen=True, kw_only=True):
    """Of the version in service."""

    estimate: PerformanceEstimate
    concept: ConceptDrift


def check_estimation(
    settings: Settings, store: Store, registry: Path, alerts: Alerts, since: datetime, now: datetime
) -> EstimationReport | None:
    """Opens and closes the incident of concept drift; None when nothing serves, or its bundle cannot be read."""
    try:
        plan = read_plan(registry)
        if plan is None or plan.champion is None:
            return None
        version = plan.champion.version
        bundle = read_bundle(registry / version, plan.champion.manifest_sha256, REFERENCE)
        profile = decode_reference(bundle.extra[REFERENCE]).error_model
    except (PlanError, BundleError, ReferenceFormatError):  # status, doctor and the cycle tell
        return None
    monitor = monitor_for(store, settings, KIND, settings.registered_model_name, version)
    concept = check_concept_drift(
        store, version, since, now, now, profile,
        strong_data_drift=strong_data_drift_is_open(store, version),
        alpha=monitor.thresholds["alpha"], least_drop=monitor.thresholds["drop"],
    )  # fmt: skip
    if not monitor.paused and concept.status in ("none", "drift"):  # the others could not tell, and close nothing
        finding = concept_drift_finding(concept)
        alerts.settle((KIND,), version, [finding] if finding else [], now)
    return EstimationReport(
        estimate=estimate_performance(store, version, since, now, now, profile),
        concept=concept,
    )
