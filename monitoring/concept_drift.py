"""Concept drift: rows turn out wrong more often than the same rows should, so it is what they mean that has changed.

z = (realised - estimated) / √(Σc(1 - c)/n² + a(1 - a)/N), on rows that have both an estimate c and an outcome; a and N
are those of the error model (`monitoring.performance_estimation`). It is an alarm when the one-sided p is under 0.001
and the drop over 2 points (or what its monitor says). A change of the rows alone moves realised and estimated together,
and is no alarm; where data have drifted far from what the error model knows, the two cannot be told apart, and it says
so.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Literal

from msgspec import Struct

from models.error_model import ErrorModelProfile
from monitoring.incidents import LOSS, Finding, IncidentKind, Incidents, Severity
from monitoring.performance_estimation import LabelledEstimates, labelled_estimates
from monitoring.store import Store

ALPHA = 0.001
LEAST_DROP = 0.02
#: Fewer labelled rows give no answer: the normal approximation needs some of both outcomes.
LEAST_LABELS = 100
_SEVERITIES: tuple[tuple[float, Severity], ...] = ((0.10, "critical"), (0.05, "high"), (0.0, "medium"))

ConceptStatus = Literal["none", "drift", "not_separable", "not_enough_data", "no_error_model"]


class ConceptDrift(Struct, frozen=True, kw_only=True):
    """The verdict on the labelled rows of a window; figures are None without labels or an error model."""

    timestamp: datetime
    model_version: str
    window_from: datetime
    window_to: datetime
    status: ConceptStatus
    labels: int
    realised: float | None = None
    estimated: float | None = None
    #: Estimated less realised accuracy.
    drop: float | None = None
    z: float | None = None
    p_value: float | None = None
    words: str


def check_concept_drift(
    store: Store,
    version: str,
    since: datetime,
    until: datetime,
    now: datetime,
    profile: ErrorModelProfile | None,
    *,
    strong_data_drift: bool,
    alpha: float = ALPHA,
    least_drop: float = LEAST_DROP,
) -> ConceptDrift:
    """Compares realised with estimated accuracy on the rows predicted in all hours that touch [since, until).

    `profile` is `error_model` of the version's reference; `strong_data_drift` as `strong_data_drift_is_open` tells.
    """
    found = labelled_estimates(store, version, since, until)
    when = {"timestamp": now, "model_version": version, "window_from": since, "window_to": until}
    if profile is None:
        words = f"Version {version} has no error model, so concept drift cannot be told from data drift."
        return ConceptDrift(**when, status="no_error_model", labels=found.labels, words=words)  # type: ignore[arg-type]
    if found.labels < LEAST_LABELS:
        words = f"{found.labels} rows with an estimate and an outcome are too few; {LEAST_LABELS} are needed."
        return ConceptDrift(**when, status="not_enough_data", labels=found.labels, words=words)  # type: ignore[arg-type]
    z = found.z(profile)
    status: ConceptStatus = "none"
    if is_drop(found, z, alpha, least_drop):
        status = "not_separable" if strong_data_drift else "drift"
    return ConceptDrift(
        **when,  # type: ignore[arg-type]
        status=status,
        labels=found.labels,
        realised=found.realised,
        estimated=found.estimated,
        drop=found.estimated - found.realised,
        z=z if math.isfinite(z) else None,
        p_value=lower_tail(z),
        words=_words(found, status),
    )


def concept_drift_finding(found: ConceptDrift) -> Finding | None:
    """The finding of a drift; None for every other status. `none` closes an incident, the others say nothing."""
    if found.status != "drift" or found.drop is None:
        return None
    drop = found.drop
    return Finding(
        kind="concept_drift",
        severity=next(severity for least, severity in _SEVERITIES if drop >= least),
        cause=found.words.removesuffix("."),
        next="python main.py retrain",
        model_version=found.model_version,
        score=drop,
        evidence={
            "realised": found.realised,
            "estimated": found.estimated,
            "labels": found.labels,
            "z": found.z,
            "p_value": found.p_value,
            LOSS: drop,
        },
    )


def strong_data_drift_is_open(store: Store, version: str) -> bool:
    """Whether an incident of data drift of this version, high or critical, is unresolved."""
    kinds: tuple[IncidentKind, ...] = ("data_drift",)
    return any(
        incident.model_version == version and incident.severity in ("high", "critical")
        for incident in Incidents(store).unresolved(kinds)
    )


def is_drop(found: LabelledEstimates, z: float, alpha: float = ALPHA, least_drop: float = LEAST_DROP) -> bool:
    """The rule: no accident (p < alpha), and more than so much."""
    return lower_tail(z) < alpha and found.estimated - found.realised > least_drop


def lower_tail(z: float) -> float:
    """P(Z <= z) of a standard normal."""
    return 0.5 * math.erfc(-z / math.sqrt(2.0))


def _words(found: LabelledEstimates, status: ConceptStatus) -> str:
    figures = (
        f"{found.realised:.1%} of {found.labels:,} answers turned out right, where these rows should give "
        f"{found.estimated:.1%}"
    )
    if status == "drift":
        return f"{figures}: the same inputs now mean something else."
    if status == "not_separable":
        return f"{figures}; with data drift this strong, a change of the concept is not separable from it."
    return f"{figures}: no sign that the concept has changed."
