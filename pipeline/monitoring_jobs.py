"""The monitoring jobs of the scheduler and of `main.py monitor`, at the real clock and on the configured store."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from config.home import under_home
from config.settings import load_settings, registry_directory
from models.serving_plan import read_plan
from monitoring.alerts import write_whole
from monitoring.cycle import LEAST_WINDOW, CycleOutcome, detector_of, run_cycle, service_bundle
from monitoring.performance_metrics import PerformanceReport, check_performance
from monitoring.plain_json import encode_pretty
from monitoring.self_test import DEFAULT_ROWS, DEFAULT_WINDOWS, RowsFrom, SelfTest, SelfTester, run_self_test
from monitoring.store import Store
from monitoring.window_records import window
from pipeline.log_jobs import ingestion_of, read_to_end


def monitor_now(tell: Callable[[str], None] | None = None) -> CycleOutcome:
    """One cycle, over all that is logged by now; `tell` hears how far the reading is when that takes long."""
    settings = load_settings()
    with Store(settings.store_address) as store:
        read = read_to_end(ingestion_of(settings, store), tell)
        return run_cycle(settings, store, datetime.now(UTC), read)


def self_test_now(
    rows: int | None = None, windows: int | None = None, tell: Callable[[str], None] | None = None
) -> SelfTest:
    """Tries the configured drift check on windows of `rows` rows; when left out, of as many as the live one holds.

    A live window of too few rows to be judged is no measure: then it is `DEFAULT_ROWS`. Features that the log withholds
    take no part, as in the live check. Raises `BundleError` when nothing is in service.
    """
    settings, now = load_settings(), datetime.now(UTC)
    plan = read_plan(registry_directory())
    detector = detector_of(settings, service_bundle(plan))
    version = plan.champion.version if plan is not None and plan.champion is not None else ""
    since = now - max(LEAST_WINDOW, timedelta(hours=settings.monitoring.drift_detection_frequency))
    with Store(settings.store_address) as store:
        live = window(store, detector.layout, version, since, now)
    size, source = _self_test_rows(rows, live.rows - live.unprofiled_rows, detector.thresholds.least_rows)
    return run_self_test(
        SelfTester(detector, size, withheld=live.withheld),
        version,
        now,
        rows_from=source,
        windows=windows or DEFAULT_WINDOWS,
        clock=time.monotonic,
        tell=tell,
    )


def _self_test_rows(asked: int | None, live: int, least: int) -> tuple[int, RowsFrom]:
    if asked is not None:
        return asked, "option"
    return (live, "live window") if live >= least else (DEFAULT_ROWS, "default")


def performance_now() -> PerformanceReport:
    """One performance check, kept as `reports/performance_YYYYMMDD.json`."""
    settings, now = load_settings(), datetime.now(UTC)
    with Store(settings.store_address) as store:
        report = check_performance(settings, store, now)
    write_whole(under_home("reports") / f"performance_{now:%Y%m%d}.json", encode_pretty(report))
    return report
