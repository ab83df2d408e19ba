"""How often a check is due by the monitors of what it looks for, as they are now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from config.alert_settings import IncidentKind
from config.settings import Settings, registry_directory
from models.serving_plan import PlanError, read_plan
from monitoring.monitors import monitor_for
from monitoring.store import Store
from pipeline.job_times import Every


@dataclass(frozen=True)
class AsMonitored:
    """One check may look for several kinds: the one that is due most often decides."""

    settings: Settings
    store: Store
    kinds: tuple[IncidentKind, ...]

    def first(self, now: datetime) -> datetime:
        return self._every().first(now)

    def next(self, now: datetime) -> datetime:
        return self._every().next(now)

    def is_due(self, last_start: datetime, now: datetime) -> bool:
        return self._every().is_due(last_start, now)

    def _every(self) -> Every:
        model, version = self.settings.registered_model_name, version_in_service()
        monitors = [monitor_for(self.store, self.settings, kind, model, version) for kind in self.kinds]
        return Every(timedelta(hours=min(one.frequency_hours for one in monitors if one.frequency_hours is not None)))


def version_in_service() -> str | None:
    """By this host's plan; None when there is none, or it cannot be read."""
    try:
        plan = read_plan(registry_directory())
    except PlanError:
        return None
    return plan.champion.version if plan and plan.champion else None
