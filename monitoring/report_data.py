"""A report over some days: figures of each model version, the latest drift check, incidents; plain values to print,
to write, or to draw."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec import Struct

from monitoring.drift_checks import DriftCheck, DriftChecks
from monitoring.incidents import Incident, Incidents
from monitoring.performance import ModelPerformance
from monitoring.performance_metrics import performance_by_version
from monitoring.store import Store


class ReportedIncident(Struct, frozen=True, kw_only=True):
    id: int
    kind: str
    severity: str
    status: str
    model_version: str | None
    opened_at: datetime
    cause: str
    features: tuple[str, ...]
    next: str


class Report(Struct, frozen=True, kw_only=True):
    """What `report --json` prints."""

    days: int
    models: tuple[ModelPerformance, ...]
    #: The report of the latest drift check, as it was stored; None when there was none.
    drift: dict[str, Any] | None
    #: Those that are open, and those that were seen or resolved in these days; newest first.
    incidents: tuple[ReportedIncident, ...]
    timestamp: datetime


def build_report(
    days: int,
    now: datetime,
    models: Iterable[ModelPerformance],
    drift: DriftCheck | None,
    incidents: Iterable[Incident],
) -> Report:
    """Puts together what was read; reads nothing itself."""
    return Report(
        days=days,
        models=tuple(models),
        drift=None if drift is None else drift.report,
        incidents=tuple(_reported(incident) for incident in incidents),
        timestamp=now,
    )


def read_report(store: Store, registry: Path, now: datetime, days: int, version: str | None = None) -> Report:
    """The report of the last `days` times 24 hours; of one version, what is of that version or of none."""
    since = now - timedelta(days=days)
    models = performance_by_version(store, registry, since, now, version)
    drift = DriftChecks(store).latest(version)
    incidents = Incidents(store).since(since)
    if version is not None:
        incidents = [one for one in incidents if one.model_version in (None, version)]
    return build_report(days, now, models, drift[0] if drift else None, incidents)


def _reported(incident: Incident) -> ReportedIncident:
    return ReportedIncident(**{name: getattr(incident, name) for name in ReportedIncident.__struct_fields__})
