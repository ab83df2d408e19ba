"""A store of the release before, with incidents in it, is brought up without a loss and without an alert."""

from __future__ import annotations

from sqlalchemy import text

from monitoring import migrations
from monitoring.deliveries import Outbox
from monitoring.incident_events import history
from monitoring.incidents import Incidents
from monitoring.monitors import Monitors
from monitoring.store import Store
from tests.alerting import NOON, alerting, channel, drift, incidents_of, later
from tests.filled_stores import downgrade

TEAM = alerting(channel())
KEPT = "id, kind, severity, status, model_version, fingerprint, opened_at, resolved_at, cause, features, next, count"


def as_before(store: Store) -> list[object]:
    """Incidents in each state in a store that knows nothing of a history."""
    incidents = Incidents(store)
    for subject in ("open", "acknowledged", "resolved"):
        incidents.report(drift(subject=subject), NOON)
    incidents.acknowledge(2, later(1))
    incidents.resolve(3, later(2))
    with store.writing() as connection:
        downgrade(connection, "0002")
        return list(connection.execute(text(f"SELECT {KEPT} FROM incidents ORDER BY id")))


def test_incidents_are_kept_and_their_history_begins_with_what_is_known(store: Store) -> None:
    before = as_before(store)
    with store.writing() as connection:
        migrations.upgrade(connection)
        assert list(connection.execute(text(f"SELECT {KEPT} FROM incidents ORDER BY id"))) == before
    told = {incident: [(one.event, one.at) for one in history(store, incident)] for incident in (1, 2, 3)}
    assert told == {
        1: [("opened", NOON)],
        2: [("opened", NOON)],
        3: [("opened", NOON), ("resolved", later(2))],
    }
    assert Outbox(store, TEAM.alerts).counts() == {"waiting": 0, "sent": 0, "failed": 0}


def test_a_known_incident_goes_on_where_it_was(store: Store) -> None:
    as_before(store)
    with store.writing() as connection:
        migrations.upgrade(connection)
    incidents = incidents_of(store, TEAM)
    assert incidents.report(drift("high", subject="open"), later(3)).count == 2
    assert incidents.report(drift("critical", subject="acknowledged"), later(3)).status == "open"
    assert incidents.report(drift(subject="resolved"), later(3)).id == 3
    assert [one.incident for name in ("team",) if (one := Outbox(store, TEAM.alerts).claim(name, later(3)))] == [2]
    assert [one.id for one in incidents.escalate(later(5))] == [1, 2, 3]


def test_what_is_new_is_gone_after_the_way_back_and_comes_again_empty(store: Store) -> None:
    Monitors(store, TEAM).set("data_drift", None, NOON, "ada", status="paused")
    as_before(store)
    with store.writing() as connection:
        migrations.upgrade(connection)
    assert {monitor.status for monitor in Monitors(store, TEAM).all()} == {"active"}
