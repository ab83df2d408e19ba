"""Settings of alerts, and the words that incidents are sorted by."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from config.section import Section

Severity = Literal["low", "medium", "high", "critical"]
IncidentKind = Literal[
    "data_drift", "prediction_drift", "performance_drift", "concept_drift", "data_quality", "serving", "pipeline"
]
SEVERITIES: tuple[Severity, ...] = ("low", "medium", "high", "critical")


class AlertChannel(Section, frozen=True):
    """A receiver. Its address holds secrets, so it stands in an environment variable; only the name of that is here."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
    #: `MLOPS_…` are the names of settings, so an address cannot stand in one.
    url_env: Annotated[str, Meta(pattern=r"^(?!MLOPS_)[A-Z][A-Z0-9_]*$")]
    minimum_severity: Severity = "medium"
    #: Empty means all.
    kinds: tuple[IncidentKind, ...] = ()


class AlertSettings(Section, frozen=True):
    channels: tuple[AlertChannel, ...] = ()
    cool_down_hours: Annotated[float, Meta(ge=0.0, le=8760.0)] = 24.0
    escalate_after_hours: Annotated[float, Meta(gt=0.0, le=8760.0)] | None = 2.0
    escalations: Annotated[int, Meta(ge=0, le=100)] = 3
    tell_resolved: bool = True
    attempts: Annotated[int, Meta(ge=1, le=100)] = 12
    retry_seconds: Annotated[float, Meta(gt=0.0, le=86400.0)] = 30.0
    tolerated_outage_minutes: Annotated[float, Meta(ge=0.0, le=1440.0)] = 5.0
    timeout_seconds: Annotated[float, Meta(gt=0.0, le=300.0)] = 20.0

    def __post_init__(self) -> None:
        names = [channel.name for channel in self.channels]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"expected one channel of each name, and there are several named {', '.join(twice)}")

    def channel(self, name: str) -> AlertChannel | None:
        return next((channel for channel in self.channels if channel.name == name), None)
