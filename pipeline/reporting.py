"""The `report` command: reads the logs and the store, and leaves the report under `reports/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from config.clock import utc_now
from config.home import under_home
from config.settings import load_settings, registry_directory
from monitoring.alerts import write_whole
from monitoring.drift_report import DriftReport
from monitoring.performance_text import performance_text
from monitoring.plain_json import encode_pretty
from monitoring.report_data import Report, read_report
from monitoring.reports import drift_text
from monitoring.store import Store
from pipeline.log_jobs import ingestion_of, read_to_end

_NO_CHECK = "DRIFT REPORT\n============\n"


def report_now(days: int, version: str | None = None, tell: Callable[[str], None] | None = None) -> Report:
    """The report of the last days, written as JSON and as the two texts; `tell` hears how far the reading is."""
    settings = load_settings()
    with Store(settings.store_address) as store:
        read_to_end(ingestion_of(settings, store), tell)
        report = read_report(store, registry_directory(), utc_now(), days, version)
    write_report(report, under_home("reports"), version)
    return report


def write_report(report: Report, directory: Path, version: str | None = None) -> None:
    """Replaces the files of the same day, each at once."""
    day = f"{report.timestamp:%Y%m%d}" + ("" if version is None else f"_version_{_plain(version)}")
    write_whole(directory / f"report_{day}.json", encode_pretty(report))
    write_whole(directory / f"performance_report_{day}.txt", performance_text(report).encode())
    write_whole(directory / f"drift_report_{day}.txt", latest_drift_text(report).encode())


def latest_drift_text(report: Report) -> str:
    """The drift report of the latest check, or that there was none."""
    if report.drift is None:
        return f"{_NO_CHECK}No drift check was made yet; next: python main.py monitor\n"
    try:
        return drift_text(msgspec.convert(report.drift, DriftReport))
    except msgspec.ValidationError:
        return f"{_NO_CHECK}The latest drift check was made by another release; next: python main.py monitor\n"


def _plain(version: str) -> str:
    """A version as a part of a file's name, whatever was typed."""
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in version)[:64]
