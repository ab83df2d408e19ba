"""The monitoring jobs of the scheduler and of `main.py monitor`, at the real clock and on the configured store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from config.home import under_home
from config.settings import load_settings
from monitoring.alerts import write_whole
from monitoring.cycle import CycleOutcome, run_cycle
from monitoring.performance_metrics import PerformanceReport, check_performance
from monitoring.plain_json import encode_pretty
from monitoring.store import Store
from pipeline.log_jobs import ingestion_of, read_to_end


def monitor_now(tell: Callable[[str], None] | None = None) -> CycleOutcome:
    """One cycle, over all that is logged by now; `tell` hears how far the reading is when that takes long."""
    settings = load_settings()
    with Store(settings.store_address) as store:
        read = read_to_end(ingestion_of(settings, store), tell)
        return run_cycle(settings, store, datetime.now(UTC), read)


def performance_now() -> PerformanceReport:
    """One performance check, kept as `reports/performance_YYYYMMDD.json`."""
    settings, now = load_settings(), datetime.now(UTC)
    with Store(settings.store_address) as store:
        report = check_performance(settings, store, now)
    write_whole(under_home("reports") / f"performance_{now:%Y%m%d}.json", encode_pretty(report))
    return report
