"""What an alert says: short enough for a telephone, whole enough to act on, plain text that every receiver shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from msgspec import Struct

from config.alert_settings import Severity
from monitoring.incident_events import IncidentEvent
from monitoring.incidents import Incident

#: Longer ones are cut: a cause may hold another program's error message.
LONGEST_CAUSE = 1000
MOST_FEATURES = 10
MOST_EVIDENCE = 8


class Message(Struct, frozen=True, kw_only=True):
    title: str
    body: str
    #: None of a test message.
    severity: Severity | None = None
    #: It tells that something is over.
    good_news: bool = False


def alert_message(incident: Incident, event: IncidentEvent, model_name: str) -> Message:
    """What the event deserves: its severity and cause are those of its moment, the rest is as the incident is now."""
    model = f"{model_name} version {incident.model_version}" if incident.model_version else model_name
    if event.event == "resolved":
        return _resolved_message(incident, event, model)
    title = f"[{event.severity.upper()}] {_words(incident.kind)}: {model}{_news(event)}"
    lines = [_shortened(str((event.detail or {}).get("cause", incident.cause))), "", *_facts(incident, model)]
    lines += [f"Next: {incident.next}", f"To acknowledge: python main.py incidents acknowledge {incident.id}"]
    return Message(title=title, body="\n".join(lines), severity=event.severity)


def _resolved_message(incident: Incident, event: IncidentEvent, model: str) -> Message:
    why = (event.detail or {}).get("why")
    said = f"It is over: {_shortened(str(why))}" if why else "It is over"
    lines = [f"{said}{f' ({event.who})' if event.who else ''}", f"It was: {_shortened(incident.cause)}", ""]
    lines += [
        *_facts(incident, model),
        f"Next: nothing to do; python main.py incidents show {incident.id} tells it all",
    ]
    title = f"[RESOLVED] {_words(incident.kind)}: {model}"
    return Message(title=title, body="\n".join(lines), severity=event.severity, good_news=True)


def trial_message(channel: str) -> Message:
    """What `alerts test` sends."""
    body = f"This is a test of the channel {channel}: alerts arrive here. Nothing is wrong.\nNext: nothing to do"
    return Message(title="[TEST] alerts of the model in production", body=body)


def _news(event: IncidentEvent) -> str:
    if event.event == "escalated":
        return " (nobody has acknowledged it yet)"
    if event.event == "reopened":
        return " (is back)"
    return f" (was {event.detail['before']})" if event.event == "worse" and event.detail else ""


def _facts(incident: Incident, model: str) -> Iterator[str]:
    yield f"Incident {incident.id}: {_words(incident.kind)}, {incident.severity}, {incident.status}"
    yield f"Model: {model}"
    seen = f", seen {incident.count} times, last {_moment(incident.updated_at)}" if incident.count > 1 else ""
    yield f"Since: {_moment(incident.opened_at)}{seen}"
    if incident.resolved_at is not None:
        yield f"Resolved: {_moment(incident.resolved_at)}"
    if incident.features:
        yield f"Features: {_listed(incident.features, MOST_FEATURES)}"
    figures = ((_words(name), _figure(value)) for name, value in incident.evidence.items())
    if evidence := [f"{name} {figure}" for name, figure in figures if figure]:
        yield f"Evidence: {_listed(evidence, MOST_EVIDENCE)}"


def _figure(value: Any) -> str:
    """A number, text or short list of them in words; '' for what is too much for an alert."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, str):
        return value if len(value) <= 80 else ""
    if isinstance(value, list) and 0 < len(value) <= 4:
        parts = [_figure(one) for one in value if not isinstance(one, list)]
        return " to ".join(parts) if len(parts) == 2 else ", ".join(parts)
    return ""


def _listed(items: Iterable[str], most: int) -> str:
    names = list(items)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_CAUSE else text[: LONGEST_CAUSE - 1] + "…"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _moment(value: datetime) -> str:
    """Receivers may sit in another time zone than the host."""
    return f"{value:%Y-%m-%d %H:%M} UTC"
