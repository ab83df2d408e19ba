"""Reports for people, as plain text. The JSON of the same values is `msgspec.json.encode(report)`."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import UNSET

from monitoring.drift_report import DriftReport, DriftScore, PredictionDrift

_HEADINGS = ("", "kind", "effect", "importance", "severity", "p (adjusted)", "test", "missing")
_WIDEST_NAME = 40


def drift_text(report: DriftReport, model: str = "", source: str = "", most: int = 20) -> str:
    """The drift report as text: verdict, what drifted in words, and a table ranked by effect and importance.

    Args:
        model: what the window was compared with, for the title ("production_model 3").
        source: where the rows came from.
        most: rows of the table; drifted features are never cut off.
    """
    title = " of ".join(filter(None, ["DRIFT REPORT", source])) + (f" against {model}" if model else "")
    lines = [
        title,
        "=" * len(title),
        f"{report.timestamp}   {report.rows:,} rows, {report.reference_rows:,} in training",
    ]
    lines += ["", verdict_text(report)]
    if report.note:
        lines.append(report.note[:1].upper() + report.note[1:] + ".")
    if report.withheld:
        lines.append(f"Not compared, as the log hashes or drops them: {', '.join(report.withheld)}.")
    lines += _words(report.feature_scores, report.drifted_features)
    if report.rows:
        lines += ["", *_table(report.feature_scores, most)]
    if report.prediction_drift is not None:
        lines += ["", *_predictions(report.prediction_drift, most)]
    return "\n".join(lines) + "\n"


def verdict_text(report: DriftReport) -> str:
    if report.status == "not_enough_data":
        return "Drift: not known"
    count, total = len(report.drifted_features), len(report.feature_scores)
    if not report.overall_drift:
        return f"Drift: no (score {report.drift_score:.3f}, none of {total} features)"
    return f"Drift: YES, {report.severity} (score {report.drift_score:.3f}, {count} of {total} features)"


def _words(scores: Mapping[str, DriftScore], drifted: list[str]) -> list[str]:
    return [f"  - {scores[name].words} ({scores[name].severity})" for name in drifted]


def _predictions(drift: PredictionDrift, most: int) -> list[str]:
    words = _words(drift.scores, drift.drifted_scores)
    return [prediction_verdict_text(drift), *words, "", *_table(drift.scores, most)]


def prediction_verdict_text(drift: PredictionDrift) -> str:
    answer = "not known" if drift.status == "not_enough_data" else "YES" if drift.overall_drift else "no"
    return f"Prediction drift: {answer} ({drift.rows:,} answers, {drift.reference_rows:,} on held-out rows)"


def score_rows(scores: Mapping[str, DriftScore], most: int) -> tuple[list[tuple[str, ...]], int]:
    """Headings and a row a feature, ranked by effect and importance; and how many without drift were left out."""
    ranked = sorted(sorted(scores.items()), key=lambda item: (item[1].drift_detected, item[1].weight), reverse=True)
    shown = [item for place, item in enumerate(ranked) if place < most or item[1].drift_detected]
    return _without_empty_columns([_HEADINGS, *(_row(name, score) for name, score in shown)]), len(ranked) - len(shown)


def _table(scores: Mapping[str, DriftScore], most: int) -> list[str]:
    rows, left_out = score_rows(scores, most)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, f"… and {left_out} more without drift"] if left_out else lines


def _without_empty_columns(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Importances are not known of every model, and gaps are no matter of scores."""
    kept = [place for place in range(len(rows[0])) if place == 0 or any(row[place] for row in rows[1:])]
    return [tuple(row[place] for place in kept) for row in rows]


def _row(name: str, score: DriftScore) -> tuple[str, ...]:
    short = name if len(name) <= _WIDEST_NAME else name[: _WIDEST_NAME - 1] + "…"
    missing = "" if not score.missing else f"{score.missing.reference:.1%} to {score.missing.window:.1%}"
    importance = "" if score.importance is UNSET else f"{score.importance:.1%}"
    if not score.compared and not score.drift_detected:
        return (short, score.kind, "", importance, "", "", "too few values", missing)
    return (
        short,
        score.kind,
        f"{score.effect:.3f}",
        importance,
        score.severity if score.drift_detected else "-",
        f"{score.adjusted_p_value:.2g}",
        score.test,
        missing,
    )
