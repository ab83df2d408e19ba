"""`incidents`: what is wrong, its history, and the word of a person on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

from msgspec import Struct

from commands.people import user_name
from commands.tables import moment, say, show_table
from config.home import is_absent_sqlite
from config.settings import Settings, load_settings
from monitoring.alerts import Alerts
from monitoring.deliveries import Delivery, Outbox
from monitoring.incident_events import IncidentEvent, history
from monitoring.incidents import Incident, IncidentError, Incidents
from monitoring.store import Store


class IncidentDetail(Struct, frozen=True, kw_only=True):
    incident: Incident
    #: Oldest first.
    history: list[IncidentEvent]
    deliveries: list[Delivery]


def list_incidents(everything: bool) -> list[Incident]:
    """Newest first; those that are not resolved, or all."""
    address = load_settings().store_address
    if is_absent_sqlite(address):
        return []
    with Store(address) as store:
        incidents = Incidents(store)
        return incidents.latest() if everything else incidents.unresolved()[::-1]


def show_incident(incident_id: int) -> IncidentDetail:
    """Raises IncidentError when there is none of that id."""
    with _opened() as (settings, store):
        incident = _required(Incidents(store), incident_id)
        deliveries = Outbox(store, settings.alerts).of_incident(incident_id)
        return IncidentDetail(incident=incident, history=history(store, incident_id), deliveries=deliveries)


def acknowledge_incident(incident_id: int, who: str | None, why: str | None) -> Incident:
    """Raises IncidentError when it is not there, or not open."""
    with _opened() as (settings, store):
        known = _required(Incidents(store), incident_id)
        changed = Alerts.of(settings, store).acknowledge(incident_id, datetime.now(UTC), who or user_name(), why)
        if changed is None:
            raise IncidentError(f"incident {incident_id} cannot be acknowledged: it is {known.status} already")
        return changed


def resolve_incident(incident_id: int, who: str | None, why: str | None) -> Incident:
    """Raises IncidentError when it is not there, or over."""
    with _opened() as (settings, store):
        _required(Incidents(store), incident_id)
        changed = Alerts.of(settings, store).resolve(incident_id, datetime.now(UTC), who or user_name(), why)
        if changed is None:
            raise IncidentError(f"incident {incident_id} cannot be resolved: it is resolved already")
        return changed


def print_incidents(incidents: Sequence[Incident]) -> None:
    if not incidents:
        say("no incidents")
        return
    rows = [
        (str(one.id), one.severity, one.kind, one.status, one.model_version or "–", moment(one.opened_at), one.cause)
        for one in incidents
    ]
    show_table(rows, ("id", "severity", "kind", "status", "version", "since", "cause"), right=(0, 4))
    say("next: python main.py incidents show ID")


def print_detail(detail: IncidentDetail) -> None:
    incident = detail.incident
    say(f"incident {incident.id}: {incident.severity} {incident.kind}, {incident.status}")
    say(incident.cause)
    rows = [
        ("model version", incident.model_version or "–"),
        ("since", moment(incident.opened_at)),
        ("last seen", f"{moment(incident.updated_at)}, {incident.count} times in all"),
        *([("resolved", moment(incident.resolved_at))] if incident.resolved_at else []),
        *([("features", ", ".join(incident.features))] if incident.features else []),
        *((name.replace("_", " "), str(value)) for name, value in incident.evidence.items()),
        ("next", incident.next),
    ]
    show_table(rows)
    say("")
    show_table([_event_row(event) for event in detail.history], ("when", "what", "severity", "by", ""))
    waiting = [one for one in detail.deliveries if one.status == "waiting"]
    if waiting:
        say("")
        show_table(
            [(one.channel, str(one.attempts), moment(one.next_attempt_at), one.last_error or "") for one in waiting],
            ("waiting for", "attempts", "next attempt", "last error"),
        )


def print_changed(incident: Incident) -> None:
    say(f"incident {incident.id} is {incident.status}: {incident.cause}")


def _event_row(event: IncidentEvent) -> tuple[str, ...]:
    detail = event.detail or {}
    words = "; ".join(f"{name} {value}" if name != "cause" else str(value) for name, value in detail.items())
    return moment(event.at), event.event.replace("_", " "), event.severity, event.who or "–", words


def _required(incidents: Incidents, incident_id: int) -> Incident:
    incident = incidents.get(incident_id)
    if incident is None:
        raise IncidentError(f"there is no incident {incident_id}; see python main.py incidents list --all")
    return incident


@contextmanager
def _opened() -> Iterator[tuple[Settings, Store]]:
    settings = load_settings()
    with Store(settings.store_address) as store:
        yield settings, store
