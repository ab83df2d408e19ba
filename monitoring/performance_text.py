"""The performance report as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from monitoring.intervals import Interval
from monitoring.performance import METRIC_NAMES, DayPerformance, LabelDelay, ModelPerformance
from monitoring.report_data import Report, ReportedIncident

_METRIC_HEADINGS = ("", "value", "95 % interval", "at training")
_DAY_HEADINGS = (
    *("day", "predictions", "labels", "accuracy", "f1_score", "mean ms", "p95 ms"),
    *("error rate", "cpu s", "memory MB"),
)
_TREND_WORDS = {
    "improving": "the accuracy is improving",
    "declining": "the accuracy is declining",
    "stable": "the accuracy is stable",
}


def performance_text(report: Report) -> str:
    """Figures of each version with their intervals and baselines, the days, and the incidents."""
    title = f"PERFORMANCE REPORT of the last {_counted(report.days, 'day')}"
    lines = [title, "=" * len(title), f"{report.timestamp:%Y-%m-%d %H:%M} UTC"]
    if not report.models:
        lines += ["", "No predictions were logged in these days."]
    for model in report.models:
        lines += ["", *_model(model)]
    lines += ["", *_incidents(report.incidents)]
    return "\n".join(lines) + "\n"


def _model(model: ModelPerformance) -> list[str]:
    head = f"Version {model.model_version}: {_counted(model.predictions, 'prediction')}"
    if not model.predictions and not model.labels:
        return [f"{head} in these days."]
    lines = [f"{head}, {_labels(model)}"]
    if model.mean_latency_ms is not None:
        lines.append(f"Latency: mean {model.mean_latency_ms:.2f} ms, p95 {_number(model.p95_latency_ms, '.2f')} ms")
    if model.unknown_labels:
        lines.append(f"{_counted(model.unknown_labels, 'label')} of no class that the model knows: counted as wrong.")
    if not model.labels:
        return [*lines, "How good the answers were is not known: no outcome has come back.", "", *_days(model.by_day)]
    if model.sampled_labels < model.labels:
        lines.append(f"Rankings, calibration and delays are of a sample of {model.sampled_labels:,} labelled rows.")
    return [*lines, f"Trend: {_trend(model)}", "", *_metrics(model), "", *_days(model.by_day)]


def _labels(model: ModelPerformance) -> str:
    coverage = "" if model.coverage is None else f" ({model.coverage:.1%})"
    return f"{_counted(model.labels, 'label')}{coverage}{_delay(model.delay)}"


def _delay(delay: LabelDelay) -> str:
    if delay.mean_seconds is None:
        return ""
    rest = f", p95 {_duration(delay.p95_seconds)}" if delay.p95_seconds is not None else ""
    return f", after {_duration(delay.mean_seconds)} on average{rest}"


def _trend(model: ModelPerformance) -> str:
    trend = model.trend
    if trend.slope is None or trend.p_value is None:
        return "not known, fewer than three days have enough labels"
    slope = f"{trend.slope * 100:+.2f} points a day over {trend.windows} days, p = {trend.p_value:.2g}"
    return f"{_TREND_WORDS[trend.direction]} ({slope})"


def _metrics(model: ModelPerformance) -> list[str]:
    rows = [
        (
            name,
            _number(model.metrics[name]),
            _interval(model.intervals[name]),
            _number(model.baseline[name]),
        )
        for name in METRIC_NAMES
    ]
    return _table([_METRIC_HEADINGS, *rows])


def _days(days: Sequence[DayPerformance]) -> list[str]:
    return _table([_DAY_HEADINGS, *(_day(day) for day in days)]) if days else []


def _day(day: DayPerformance) -> tuple[str, ...]:
    server = day.server
    memory = server.peak_memory_bytes if server else None
    return (
        day.day.isoformat(),
        f"{day.predictions:,}",
        f"{day.labels:,}",
        _number(day.metrics["accuracy"]),
        _number(day.metrics["f1_score"]),
        _number(day.mean_latency_ms, ".2f"),
        _number(day.p95_latency_ms, ".2f"),
        _number(server.error_rate if server else None, ".2%"),
        _number(server.cpu_seconds if server else None, ".1f"),
        _number(None if memory is None else memory / 2**20, ".0f"),
    )


def _incidents(incidents: Sequence[ReportedIncident]) -> list[str]:
    if not incidents:
        return ["No incidents."]
    lines = [_counted(len(incidents), "incident") + ":"]
    for one in incidents:
        lines.append(f"  - {one.severity} {one.kind} ({one.status}) since {one.opened_at:%Y-%m-%d %H:%M}: {one.cause}")
        if one.status != "resolved":
            lines.append(f"    next: {one.next}")
    return lines


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The first column to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _number(value: float | None, form: str = ".4f") -> str:
    return "–" if value is None else format(value, form)


def _interval(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
