"""A report as one HTML file that needs nothing else: no network, no script, its picture within."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from datetime import timedelta
from html import escape

from monitoring.drift_report import DriftReport, DriftScore
from monitoring.performance import ModelPerformance
from monitoring.performance_text import (
    DAY_HEADINGS,
    METRIC_HEADINGS,
    counted,
    day_cells,
    interval_text,
    labels_text,
    metric_rows,
    model_sentences,
    number_text,
)
from monitoring.plain_json import valid_text
from monitoring.report_data import Report, ReportedIncident
from monitoring.report_style import STYLE
from monitoring.reports import prediction_verdict_text, score_rows, verdict_text

#: Rows of a drift table; drifted features are never cut off.
_MOST_ROWS = 40
_ALT = "F1 by day, accuracy against confidence, predictions by day, and all metrics, by model version"


def report_page(report: Report, drift: DriftReport | str, picture: bytes | None) -> str:
    """The page.

    Args:
        drift: the latest drift check, or a sentence that says why there is none.
        picture: PNG; None when there is none, which the page says.
    """
    since = (report.timestamp - timedelta(days=report.days)).date()
    title = f"Model report of the last {counted(report.days, 'day')}"
    body = [
        f"<header><h1>{title}</h1>",
        f"<p>{since} to {report.timestamp.date()}, made {report.timestamp:%Y-%m-%d %H:%M} UTC</p></header>",
        _cards(report.models),
        _picture(picture),
        "<h2>Incidents</h2>",
        *(map(_incident, report.incidents) if report.incidents else ["<p>No incidents.</p>"]),
        "<h2>Drift</h2>",
        *(_drift(drift) if isinstance(drift, DriftReport) else [f"<p>{_text(drift)}</p>"]),
        "<h2>Performance</h2>",
        *(map(_model, report.models) if report.models else ["<p>No predictions were logged in these days.</p>"]),
    ]
    return valid_text(_PAGE.format(title=title, style=STYLE, body="\n".join(filter(None, body))))


def _picture(picture: bytes | None) -> str:
    if picture is None:
        return '<p class="bad">There is no picture: it could not be drawn. The figures below are whole.</p>'
    return (
        f'<div class="wide"><img alt="{_ALT}" src="data:image/png;base64,{base64.b64encode(picture).decode()}"></div>'
    )


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _cards(models: Iterable[ModelPerformance]) -> str:
    cards = "\n".join(_card(model) for model in models)
    return f'<div class="cards">\n{cards}\n</div>' if cards else ""


def _card(model: ModelPerformance) -> str:
    accuracy, interval = model.metrics["accuracy"], model.intervals["accuracy"]
    figure = "not known" if accuracy is None else f"{accuracy:.1%}"
    span = "" if interval is None else f"95 % interval {interval[0]:.1%} to {interval[1]:.1%}, "
    trained = "" if model.baseline["accuracy"] is None else f"{model.baseline['accuracy']:.1%} at training"
    return (
        f'<div class="card"><b>Version {_text(model.model_version)}</b>'
        f'<span class="figure">{figure}</span><span>accuracy</span>'
        f"<small>{(span + trained).removesuffix(', ')}</small>"
        f"<small>{counted(model.predictions, 'prediction')}, {_text(labels_text(model))}</small></div>"
    )


def _model(model: ModelPerformance) -> str:
    lines = [f"<h3>Version {_text(model.model_version)}</h3>"]
    if not model.predictions and not model.labels:
        return "\n".join([*lines, "<p>No predictions in these days.</p>"])
    lines.append(f"<p>{counted(model.predictions, 'prediction')}, {_text(labels_text(model))}</p>")
    lines += [f"<p>{_text(sentence)}</p>" for sentence in model_sentences(model)]
    if model.labels:
        lines.append(_table([("metric", *METRIC_HEADINGS[1:]), *metric_rows(model)]))
    days: list[tuple[str, ...]] = [(*DAY_HEADINGS[:4], "95 % interval", *DAY_HEADINGS[4:], "coverage")]
    for day in model.by_day:
        cells = day_cells(day)
        days.append(
            (*cells[:4], interval_text(day.intervals["accuracy"]), *cells[4:], number_text(day.coverage, ".1%"))
        )
    return "\n".join([*lines, f"<details open><summary>By day</summary>{_table(days)}</details>"])


def _drift(drift: DriftReport) -> list[str]:
    lines = [
        f'<p class="{"bad" if drift.overall_drift else "good"}">{_text(verdict_text(drift))}</p>',
        f"<p>{_text(drift.timestamp)}: {drift.rows:,} rows, {drift.reference_rows:,} in training</p>",
    ]
    if drift.note:
        lines.append(f"<p>{_text(drift.note[:1].upper() + drift.note[1:])}.</p>")
    if drift.withheld:
        lines.append(f"<p>Not compared, as the log hashes or drops them: {_text(', '.join(drift.withheld))}.</p>")
    lines += _scores(drift.feature_scores, drift.drifted_features)
    if drift.prediction_drift is not None:
        lines.append(f"<h3>{_text(prediction_verdict_text(drift.prediction_drift))}</h3>")
        lines += _scores(drift.prediction_drift.scores, drift.prediction_drift.drifted_scores)
    return lines


def _scores(scores: dict[str, DriftScore], drifted: Sequence[str]) -> list[str]:
    """What drifted in words, and the table."""
    words = "".join(f"<li>{_badge(scores[name].severity)} {_text(scores[name].words or name)}</li>" for name in drifted)
    rows, left_out = score_rows(scores, _MOST_ROWS)
    return [
        f"<ul>{words}</ul>" if words else "",
        _table(rows, numbers=False),
        f"<p>… and {left_out} more without drift</p>" if left_out else "",
    ]


def _incident(one: ReportedIncident) -> str:
    version = "" if one.model_version is None else f", version {_text(one.model_version)}"
    head = f"{_badge(one.severity)} <b>{_text(one.kind)}</b> {_text(one.status)}, opened {one.opened_at:%Y-%m-%d %H:%M}"
    following = "" if one.status == "resolved" else f"<p>next: <code>{_text(one.next)}</code></p>"
    return f'<div class="card incident"><p>{head}{version}</p><p>{_text(one.cause)}</p>{following}</div>'


def _badge(severity: str) -> str:
    return f'<span class="badge {_text(severity)}">{_text(severity)}</span>'


def _table(rows: Sequence[tuple[str, ...]], numbers: bool = True) -> str:
    """The first row holds the headings, the first column names; `numbers` stand to the right."""
    head = "".join(f"<th>{_text(cell)}</th>" for cell in rows[0])
    body = "\n".join(
        "<tr>" + f"<th>{_text(row[0])}</th>" + "".join(f"<td>{_text(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows[1:]
    )
    kind = "numbers" if numbers else "words"
    return f'<div class="wide"><table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(text: str) -> str:
    return escape(text)
