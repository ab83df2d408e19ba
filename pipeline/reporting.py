"""The `report` command: reads the logs and the store, and leaves the report under `reports/`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from config.clock import utc_now
from config.home import under_home
from config.settings import load_settings, registry_directory
from monitoring.alerts import write_whole
from monitoring.drift_report import DriftReport
from monitoring.performance_text import performance_text
from monitoring.plain_json import encode_pretty
from monitoring.report_data import Report, read_report
from monitoring.report_page import report_page
from monitoring.report_pictures import report_picture
from monitoring.reports import drift_text
from monitoring.store import Store
from pipeline.errors import InputError
from pipeline.log_jobs import ingestion_of, read_to_end

log = logging.getLogger(__name__)
_NO_CHECK = "No drift check was made yet; next: python main.py monitor"
_OTHER_RELEASE = "The latest drift check was made by another release; next: python main.py monitor"


class Written(Struct, frozen=True):
    """The page of a report, which lies beside its other files, and why it has no picture, if it has none."""

    page: Path
    undrawn: str | None


def report_now(
    days: int, version: str | None = None, tell: Callable[[str], None] | None = None
) -> tuple[Report, Written]:
    """The report of the last days, and what was written of it; `tell` hears how far the reading is.

    Raises InputError for a version of which nothing is known here.
    """
    settings = load_settings()
    with Store(settings.store_address) as store:
        read_to_end(ingestion_of(settings, store), tell)
        report = read_report(store, registry_directory(), utc_now(), days, version)
    if version is not None and not _is_known(report, version):
        raise InputError(f"nothing is known here of a version {version}; see python main.py models list")
    return report, write_report(report, under_home("reports"), version)


def _is_known(report: Report, version: str) -> bool:
    """Whether there is something of it in these days, or a bundle."""
    seen = any(model.predictions or model.labels for model in report.models) or bool(report.incidents)
    return seen or (registry_directory() / _plain(version)).is_dir()


def write_report(report: Report, directory: Path, version: str | None = None) -> Written:
    """Replaces the files of the same day, each at once, the drawn ones last. A picture that cannot be drawn is left
    out, and that of an earlier report with it."""
    day = f"{report.timestamp:%Y%m%d}" + ("" if version is None else f"_version_{_plain(version)}")
    write_whole(directory / f"report_{day}.json", encode_pretty(report))
    write_whole(directory / f"performance_report_{day}.txt", performance_text(report).encode())
    write_whole(directory / f"drift_report_{day}.txt", latest_drift_text(report).encode())
    picture, undrawn = _drawn(report)
    page, drawing = directory / f"report_{day}.html", directory / f"report_{day}.png"
    if picture is None:
        drawing.unlink(missing_ok=True)
    else:
        write_whole(drawing, picture)
    write_whole(page, report_page(report, latest_drift(report), picture).encode())
    return Written(page, undrawn)


def _drawn(report: Report) -> tuple[bytes | None, str | None]:
    """The picture, or why there is none: the figures are worth having without it."""
    try:
        return report_picture(report), None
    except Exception as error:  # matplotlib's are of every kind
        log.debug("drawing failed", exc_info=error)
        return None, f"the picture could not be drawn: {type(error).__name__}: {error}"


def latest_drift_text(report: Report) -> str:
    """The drift report of the latest check, or that there was none."""
    drift = latest_drift(report)
    return f"DRIFT REPORT\n============\n{drift}\n" if isinstance(drift, str) else drift_text(drift)


def latest_drift(report: Report) -> DriftReport | str:
    """The latest check, or a sentence that says why there is none to show."""
    if report.drift is None:
        return _NO_CHECK
    try:
        return msgspec.convert(report.drift, DriftReport)
    except msgspec.ValidationError:
        return _OTHER_RELEASE


def _plain(version: str) -> str:
    """A version as a part of a file's name, whatever was typed."""
    return "".join(letter if letter.isalnum() or letter in "-." else "_" for letter in version)[:64]
