"""What a monitor of each kind compares with, where its default stands, and what values it may have."""

from __future__ import annotations

from msgspec import Struct

from config.alert_settings import IncidentKind
from config.settings import Settings
from monitoring.drift_report import DriftThresholds


class Range(Struct, frozen=True):
    """Values over `low` (of shares: from it on) and up to `high`."""

    low: float
    high: float
    open_below: bool = False

    def holds(self, value: float) -> bool:
        return (self.low < value if self.open_below else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return f"{'over ' if self.open_below else ''}{self.low:.15g}, up to {self.high:.15g}"


_SHARE = Range(0.0, 1.0)
_PROBABILITY = Range(0.0, 1.0, open_below=True)
_POSITIVE = Range(0.0, 1e9, open_below=True)
_DRIFT = {"p_value": _PROBABILITY, "effect": _SHARE, "share_effect": _SHARE, "drift_score": _SHARE}

#: Kind to the names of its thresholds and their ranges. Data quality and the pipeline have none of their own.
RANGES: dict[IncidentKind, dict[str, Range]] = {
    "data_drift": _DRIFT,
    "prediction_drift": _DRIFT,
    "performance_drift": {"accuracy_drop": _SHARE},
    "concept_drift": {"alpha": _PROBABILITY, "drop": _SHARE},
    "data_quality": {},
    "serving": {"error_rate": _SHARE, "latency_ms": _POSITIVE, "stale_after_days": _POSITIVE},
    "pipeline": {},
}
#: Of the rule for concept drift, as it was simulated: significance, and the drop of accuracy that matters.
CONCEPT_ALPHA, CONCEPT_DROP = 0.001, 0.02


def default_thresholds(settings: Settings, kind: IncidentKind) -> dict[str, float]:
    """As configured."""
    drift, alert = DriftThresholds.from_settings(settings), settings.monitoring.alert_thresholds
    known = {
        "p_value": drift.p_value,
        "effect": drift.effect,
        "share_effect": drift.share_effect,
        "drift_score": alert.drift_score,
        "accuracy_drop": alert.accuracy_drop,
        "alpha": CONCEPT_ALPHA,
        "drop": CONCEPT_DROP,
        "error_rate": alert.error_rate,
        "latency_ms": alert.latency_ms,
        "stale_after_days": settings.promotion.stale_after_days,
    }
    return {name: known[name] for name in RANGES[kind]}


def default_frequency(settings: Settings, kind: IncidentKind) -> float | None:
    """Hours between two looks; None where every event is looked at."""
    if kind == "pipeline":
        return None
    if kind in ("performance_drift", "concept_drift"):
        return settings.monitoring.performance_check_frequency
    return settings.monitoring.drift_detection_frequency
