"""Drift as findings, in the words of an incident."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from monitoring.drift_report import DriftReport
from monitoring.incidents import LOSS, SEVERITIES, Finding, IncidentKind, Severity


def drift_findings(
    version: str, report: DriftReport, scores: Mapping[IncidentKind, float], loss: float | None
) -> Iterable[Finding]:
    """What has drifted, of the rows and of the answers to them.

    Args:
        scores: the mean effect above which a kind is at least of high severity.
        loss: how much accuracy the model is estimated to have lost on these rows; None where that is not known.
    """
    if report.overall_drift:
        words = [report.feature_scores[name].words or name for name in report.drifted_features[:5]]
        share = f"{len(report.drifted_features)} of {len(report.feature_scores)}"
        yield Finding(
            kind="data_drift",
            severity=_severity(report.severity, report.drift_score, scores["data_drift"]),
            cause=f"{share} features have drifted: {'; '.join(words)}",
            next="python main.py retrain, once rows like these have their outcomes",
            model_version=version,
            features=tuple(report.drifted_features),
            score=report.drift_score,
            evidence={"drift_score": report.drift_score, "rows": report.rows, LOSS: loss},
        )
    prediction = report.prediction_drift
    if prediction is not None and prediction.overall_drift:
        words = [prediction.scores[name].words or name for name in prediction.drifted_scores[:5]]
        yield Finding(
            kind="prediction_drift",
            severity=_severity(prediction.severity, prediction.drift_score, scores["prediction_drift"]),
            cause=f"the model's answers have drifted: {'; '.join(words)}",
            next="python main.py status",
            model_version=version,
            score=prediction.drift_score,
            evidence={"drift_score": prediction.drift_score, "rows": prediction.rows, LOSS: loss},
        )


def _severity(found: str, score: float, high: float) -> Severity:
    """By the largest effect; at least high when the mean over all features passes `high`."""
    severity: Severity = "low" if found == "none" else found  # type: ignore[assignment]
    if score > high and SEVERITIES.index(severity) < 2:
        return "high"
    return severity
