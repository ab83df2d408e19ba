"""The performance report as people read it."""

from __future__ import annotations

from collections.abc import Sequence

from monitoring.intervals import Interval
from monitoring.performance import METRIC_NAMES, DayPerformance, LabelDelay, ModelPerformance
from monitoring.report_data import Report, ReportedIncident

METRIC_HEADINGS = ("", "value", "95 % interval", "at training")
DAY_HEADINGS = (
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
    title = f"PERFORMANCE REPORT of the last {counted(report.days, 'day')}"
    lines = [title, "=" * len(title), f"{report.timestamp:%Y-%m-%d %H:%M} UTC"]
    if not report.models:
        lines += ["", "No predictions were logged in these days."]
    for model in report.models:
        lines += ["", *_model(model)]
    lines += ["", *_incidents(report.incidents)]
    return "\n".join(lines) + "\n"


def _model(model: ModelPerformance) -> list[str]:
    head = f"Version {model.model_version}: {counted(model.predictions, 'prediction')}"
    if not model.predictions and not model.labels:
        return [f"{head} in these days."]
    lines = [f"{head}, {labels_text(model)}", *model_sentences(model)]
    if not model.labels:
        return [*lines, "", *_days(model.by_day)]
    return [*lines, "", *_table([METRIC_HEADINGS, *metric_rows(model)]), "", *_days(model.by_day)]


def model_sentences(model: ModelPerformance) -> list[str]:
    """Latency, what the figures are of, and the trend."""
    lines = []
    if model.mean_latency_ms is not None:
        mean, p95 = number_text(model.mean_latency_ms, ".2f"), number_text(model.p95_latency_ms, ".2f")
        lines.append(f"Latency: mean {mean} ms, p95 {p95} ms")
    if model.unknown_labels:
        lines.append(f"{counted(model.unknown_labels, 'label')} of no class that the model knows: counted as wrong.")
    if not model.labels:
        return [*lines, "How good the answers were is not known: no outcome has come back."]
    if model.sampled_labels < model.labels:
        lines.append(f"Rankings, calibration and delays are of a sample of {model.sampled_labels:,} labelled rows.")
    return [*lines, f"Trend: {trend_text(model)}"]


def labels_text(model: ModelPerformance) -> str:
    coverage = "" if model.coverage is None else f" ({model.coverage:.1%})"
    return f"{counted(model.labels, 'label')}{coverage}{_delay(model.delay)}"


def _delay(delay: LabelDelay) -> str:
    if delay.mean_seconds is None:
        return ""
    rest = f", p95 {_duration(delay.p95_seconds)}" if delay.p95_seconds is not None else ""
    return f", after {_duration(delay.mean_seconds)} on average{rest}"


def trend_text(model: ModelPerformance) -> str:
    trend = model.trend
    if trend.slope is None or trend.p_value is None:
        return "not known, fewer than three days have enough labels"
    slope = f"{trend.slope * 100:+.2f} points a day over {trend.windows} days, p = {trend.p_value:.2g}"
    return f"{_TREND_WORDS[trend.direction]} ({slope})"


def metric_rows(model: ModelPerformance) -> list[tuple[str, ...]]:
    """Cells under `METRIC_HEADINGS`."""
    return [
        (
            name,
            number_text(model.metrics[name]),
            interval_text(model.intervals[name]),
            number_text(model.baseline[name]),
        )
        for name in METRIC_NAMES
    ]


def _days(days: Sequence[DayPerformance]) -> list[str]:
    return _table([DAY_HEADINGS, *(day_cells(day) for day in days)]) if days else []


def day_cells(day: DayPerformance) -> tuple[str, ...]:
    """Cells under `DAY_HEADINGS`."""
    server = day.server
    memory = server.peak_memory_bytes if server else None
    return (
        day.day.isoformat(),
        f"{day.predictions:,}",
        f"{day.labels:,}",
        number_text(day.metrics["accuracy"]),
        number_text(day.metrics["f1_score"]),
        number_text(day.mean_latency_ms, ".2f"),
        number_text(day.p95_latency_ms, ".2f"),
        number_text(server.error_rate if server else None, ".2%"),
        number_text(server.cpu_seconds if server else None, ".1f"),
        number_text(None if memory is None else memory / 2**20, ".0f"),
    )


def _incidents(incidents: Sequence[ReportedIncident]) -> list[str]:
    if not incidents:
        return ["No incidents."]
    lines = [counted(len(incidents), "incident") + ":"]
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


def number_text(value: float | None, form: str = ".4f") -> str:
    return "–" if value is None else format(value, form)


def interval_text(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}"


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for unit, length in (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
