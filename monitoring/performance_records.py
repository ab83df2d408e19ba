"""Reads from the store and the registry what the figures of each model version are made of."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import TypeVar

from models.bundle import BundleError, Manifest, read_manifest
from monitoring.labelled_sample import empty_sample, read_sample
from monitoring.outcome_records import OutcomeCount, counted_outcomes
from monitoring.performance import VersionRecords
from monitoring.store import Store
from monitoring.window_records import ServedHours, hour_start, served_versions

Record = TypeVar("Record", OutcomeCount, ServedHours)


def read_records(
    store: Store, registry: Path, since: datetime, until: datetime, version: str | None = None
) -> list[VersionRecords]:
    """What is known of each version that predicted in the hours that touch [since, until), by version.

    With `version` only that one, also when it has predicted nothing.
    """
    since = hour_start(since)
    counts = _by_version(counted_outcomes(store, since, until, version))
    totals = _by_version(served_versions(store, since, until, version, by_day=False))
    days = _by_version(served_versions(store, since, until, version))
    found = {*counts, *totals} if version is None else {version}
    return [
        _records(store, registry, name, (since, until), counts.get(name, []), totals.get(name, []), days.get(name, []))
        for name in sorted(found, key=by_number)
    ]


def by_number(version: str) -> tuple[int, str]:
    """Sorts versions as the numbers that they are."""
    return (int(version), "") if version.isdigit() else (0, version)


def _records(
    store: Store,
    registry: Path,
    version: str,
    window: tuple[datetime, datetime],
    counts: list[OutcomeCount],
    totals: list[ServedHours],
    days: list[ServedHours],
) -> VersionRecords:
    manifest, labels = _manifest(registry, version), sum(count.rows for count in counts)
    classes = manifest.classes if manifest else ()
    by_day: dict[date, ServedHours] = {one.since.date(): one for one in days}
    return VersionRecords(
        version=version,
        since=window[0],
        counts=counts,
        sample=read_sample(store, version, *window, labels, classes) if labels else empty_sample(),
        served=totals[0] if totals else None,
        served_days=by_day,
        classes=classes,
        trained_metrics=manifest.metrics if manifest else {},
    )


def _manifest(registry: Path, version: str) -> Manifest | None:
    if not version or Path(version).name != version:  # a log is no place to take paths from
        return None
    try:
        return read_manifest(registry / version)[0]
    except BundleError:
        return None


def _by_version(records: list[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.model_version, []).append(record)
    return found
