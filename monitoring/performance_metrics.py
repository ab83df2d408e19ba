"""The performance check: the figures of each version from joined feedback, and an incident where one has dropped.

A version is compared with its own test metrics at training. Labels come late, so the check looks back until it has
enough of them; what is a drop is said by the interval, not by one noisy day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec import Struct

from config.settings import Settings
from models.serving_plan import PlanError, read_plan
from monitoring.alert_policy import AlertPolicy
from monitoring.alerts import Alerts
from monitoring.estimation_check import EstimationReport
from monitoring.incidents import LOSS, Finding, Incident, Incidents, Severity
from monitoring.monitors import monitor_for
from monitoring.outcome_records import labels_by_hour
from monitoring.performance import TRAINED_NAMES, ModelPerformance, performance_of
from monitoring.performance_records import by_number, read_records
from monitoring.server_hours import ServerFigures, server_days
from monitoring.store import Store
from monitoring.window_records import hour_start, served_versions

#: Fewer labels open no incident, whatever their share; the check looks back until it has `WANTED_LABELS`.
LEAST_LABELS, WANTED_LABELS = 50, 500
KIND: Literal["performance_drift"] = "performance_drift"
#: Drops, in allowed ones, at which each severity begins.
_SEVERITY_STEPS: tuple[tuple[float, Severity], ...] = ((3.0, "critical"), (2.0, "high"), (0.0, "medium"))
#: Weighs rows for the intervals: the same data have the same ones.
SEED = 20_260_301


class PerformanceReport(Struct, frozen=True, kw_only=True):
    timestamp: datetime
    #: Where the newest window begins; that of a version whose labels are few or late begins before it.
    window_from: datetime
    models: list[ModelPerformance]
    incidents: list[Incident]
    #: What is told without outcomes; None when nothing is in service.
    estimation: EstimationReport | None = None


def check_performance(
    settings: Settings, store: Store, registry: Path, alerts_directory: Path, now: datetime
) -> PerformanceReport:
    """Figures by version over the last `performance_check_frequency` hours, and further back while labels are few.

    Incidents are of the version in service alone, or of all where no plan says which that is.
    """
    since = now - timedelta(hours=settings.monitoring.performance_check_frequency)
    in_service = _in_service(registry)
    starts = window_starts(store, since, now, settings.labels.window_days, in_service)
    models = [
        model
        for version, start in starts.items()
        for model in performance_by_version(store, registry, start, now, version)
    ]
    alerts = Alerts(Incidents(store, AlertPolicy(settings)), alerts_directory)
    for model in models:
        if model.labels >= LEAST_LABELS and in_service in (None, model.model_version):
            monitor = monitor_for(store, settings, KIND, settings.registered_model_name, model.model_version)
            if not monitor.paused:
                allowed = monitor.thresholds["accuracy_drop"]
                alerts.settle((KIND,), model.model_version, findings(model, settings, allowed), now)
    incidents = Incidents(store).unresolved((KIND,))
    return PerformanceReport(timestamp=now, window_from=since, models=models, incidents=incidents)


def performance_by_version(
    store: Store, registry: Path, since: datetime, until: datetime, version: str | None = None
) -> list[ModelPerformance]:
    """The figures of all versions, or of one, over the hours that touch [since, until)."""
    server: Mapping[date, ServerFigures] = server_days(store, since, until)
    return [
        performance_of(records, server, np.random.default_rng(SEED))
        for records in read_records(store, registry, since, until, version)
    ]


def window_starts(
    store: Store, since: datetime, now: datetime, most_days: int, in_service: str | None
) -> dict[str, datetime]:
    """Where the window begins of each version that predicted after `since`, and of the one in service: there, or at
    the hour further back at which it has `WANTED_LABELS`, `most_days` back at most."""
    earliest = min(since, now - timedelta(days=most_days))
    labels = labels_by_hour(store, earliest, now)
    recent = {one.model_version for one in served_versions(store, since, now, by_day=False)}
    if in_service is not None and in_service in labels:
        recent.add(in_service)
    return {version: _start(labels.get(version, {}), since) for version in sorted(recent, key=by_number)}


def findings(model: ModelPerformance, settings: Settings, allowed: float) -> Iterator[Finding]:
    """One finding when the accuracy, or the metric that models are selected by, has dropped: the one that fell most.

    It has when its whole interval lies below the baseline less the allowed drop.
    """
    drops = {name: drop for name in _checked(settings) if (drop := _drop(model, name, allowed)) is not None}
    if not drops:
        return
    name = max(drops, key=lambda one: drops[one])
    figure, trained = model.metrics[name], model.baseline[name]
    yield Finding(
        kind=KIND,
        severity=_severity(drops[name], allowed),
        cause=f"{name} is {figure:.3f} on {model.labels} outcomes, {trained:.3f} at training",
        next="python main.py retrain",
        model_version=model.model_version,
        score=drops[name],
        evidence={
            "metric": name,
            "value": figure,
            "interval": model.intervals[name],
            "baseline": trained,
            "drops": drops,
            "labels": model.labels,
            "coverage": model.coverage,
            "since": model.since,
            LOSS: drops.get("accuracy", drops[name]),
        },
    )


def _checked(settings: Settings) -> Iterable[str]:
    """The accuracy, and the configured metric where more of it is better."""
    live = {trained: name for name, trained in TRAINED_NAMES.items()}
    return dict.fromkeys(("accuracy", live[settings.model_selection.metric])).keys() - {"log_loss", "brier"}


def _drop(model: ModelPerformance, name: str, allowed: float) -> float | None:
    figure, interval, trained = model.metrics[name], model.intervals[name], model.baseline[name]
    if figure is None or interval is None or trained is None or interval[1] >= trained - allowed:
        return None
    return trained - figure


def _severity(drop: float, allowed: float) -> Severity:
    """By the drop in allowed ones; where none is allowed, in those of the default."""
    unit = allowed or 0.05
    return next(severity for least, severity in _SEVERITY_STEPS if drop >= least * unit)


def _start(labels: Mapping[datetime, int], since: datetime) -> datetime:
    start, found = since, sum(rows for hour, rows in labels.items() if hour >= hour_start(since))
    for hour in sorted((hour for hour in labels if hour < hour_start(since)), reverse=True):
        if found >= WANTED_LABELS:
            break
        start, found = hour, found + labels[hour]
    return start


def _in_service(registry: Path) -> str | None:
    try:
        plan = read_plan(registry)
    except PlanError:
        return None
    return plan.champion.version if plan is not None and plan.champion is not None else None
