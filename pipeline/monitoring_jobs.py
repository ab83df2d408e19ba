"""The monitoring jobs of the scheduler and of `main.py monitor`, at the real clock and on the configured store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from config.clock import utc_now
from config.home import under_home
from config.settings import Settings, load_settings, registry_directory
from monitoring.alerts import Alerts, write_whole
from monitoring.cycle import CycleOutcome, run_cycle
from monitoring.estimation_check import check_estimation
from monitoring.incidents import Incidents
from monitoring.performance_metrics import PerformanceReport, check_performance
from monitoring.plain_json import encode_pretty
from monitoring.serving_check import check_serving
from monitoring.store import Store
from pipeline.log_jobs import ingestion_of, read_to_end
from pipeline.monitored_times import version_in_service


def monitor_now(tell: Callable[[str], None] | None = None) -> CycleOutcome:
    """One cycle and one performance check, over all that is logged by now; `tell` hears how far the reading is when
    that takes long."""
    settings = load_settings()
    with Store(settings.store_address) as store:
        read = read_to_end(ingestion_of(settings, store), tell)
        performance = check_performance_at(settings, store, utc_now())
        return msgspec.structs.replace(run_cycle(settings, store, utc_now(), read), performance=performance)


def performance_now() -> PerformanceReport:
    """One performance check of what is in the store, kept as `reports/performance_YYYYMMDD.json`."""
    settings, now = load_settings(), utc_now()
    with Store(settings.store_address) as store:
        report = check_performance_at(settings, store, now)
    write_whole(under_home("reports") / f"performance_{now:%Y%m%d}.json", encode_pretty(report))
    return report


def check_performance_at(settings: Settings, store: Store, now: datetime) -> PerformanceReport:
    """What outcomes say of the versions, what is told without them of the one in service; how servers answer."""
    registry = registry_directory()
    report = check_performance(settings, store, registry, under_home("alerts"), now)
    serving = version_in_service()
    since = next((model.since for model in report.models if model.model_version == serving), report.window_from)
    alerts = Alerts.of(settings, store)
    estimation = check_estimation(settings, store, registry, alerts, since, now)
    check_serving(settings, store, alerts, now)
    unresolved = Incidents(store).unresolved(("performance_drift", "concept_drift", "serving"))
    return msgspec.structs.replace(report, estimation=estimation, incidents=unresolved)
