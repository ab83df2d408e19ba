"""`main.py monitor --self-test`: the configured drift check tried on the champion's reference."""

from __future__ import annotations

import time
from collections.abc import Callable

from config.clock import utc_now
from config.settings import load_settings, registry_directory
from models.bundle import REFERENCE
from models.reference import decode_reference
from models.serving_plan import read_plan
from monitoring.cycle import live_since, service_bundle
from monitoring.drift_detection import DriftDetector
from monitoring.drift_report import DriftThresholds
from monitoring.monitors import Monitor, monitor_for
from monitoring.self_test import DEFAULT_ROWS, DEFAULT_WINDOWS, RowsFrom, SelfTest, SelfTester, run_self_test
from monitoring.store import Store
from monitoring.window_records import window


def self_test_now(
    rows: int | None = None, windows: int | None = None, tell: Callable[[str], None] | None = None
) -> SelfTest:
    """Tries windows of `rows` rows; when left out, of as many as the live one holds.

    A live window of too few rows to be judged is no measure: then it is `DEFAULT_ROWS`. The thresholds are those of the
    monitor in force, and features that the log withholds take no part, as in the live check. Raises `BundleError` when
    nothing is in service.
    """
    settings, now = load_settings(), utc_now()
    plan = read_plan(registry_directory())
    reference = decode_reference(service_bundle(plan).extra[REFERENCE])
    version = plan.champion.version if plan is not None and plan.champion is not None else ""
    with Store(settings.store_address) as store:
        monitor = monitor_for(store, settings, "data_drift", settings.registered_model_name, version)
        detector = DriftDetector(reference, _thresholds(monitor))
        live = window(store, detector.layout, version, live_since(settings, store, version, now), now)
    size, source = _window_rows(rows, live.rows - live.unprofiled_rows, detector.thresholds.least_rows)
    return run_self_test(
        SelfTester(detector, size, withheld=live.withheld),
        version,
        now,
        rows_from=source,
        windows=windows or DEFAULT_WINDOWS,
        clock=time.monotonic,
        tell=tell,
    )


def _thresholds(monitor: Monitor) -> DriftThresholds:
    """Those that the live check goes by: as configured, but for what the monitor of data drift sets."""
    known = monitor.thresholds
    return DriftThresholds(p_value=known["p_value"], effect=known["effect"], share_effect=known["share_effect"])


def _window_rows(asked: int | None, live: int, least: int) -> tuple[int, RowsFrom]:
    if asked is not None:
        return asked, "option"
    return (live, "live window") if live >= least else (DEFAULT_ROWS, "default")
