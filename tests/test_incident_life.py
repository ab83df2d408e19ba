"""The life of an incident: one for a cause, a history that tells it, and alerts for what deserves one."""

from __future__ import annotations

from typing import Any

import pytest

from config.settings import Settings
from monitoring.alert_tables import deliveries
from monitoring.deliveries import Outbox
from monitoring.detections import Detections
from monitoring.incident_events import history
from monitoring.incidents import IncidentError, Incidents
from monitoring.monitors import Monitors
from monitoring.store import Store
from tests.alerting import NOON, alerting, channel, drift, incidents_of, later

TEAM = alerting(channel())


def told(store: Store, incident_id: int = 1) -> list[str]:
    """The events of an incident that an alert was put into the outbox for, in order."""
    events = {event.id: event.event for event in history(store, incident_id)}
    return [events[one.event] for one in Outbox(store, TEAM.alerts).of_incident(incident_id)]


def story(store: Store, incident_id: int = 1) -> list[str]:
    return [event.event for event in history(store, incident_id)]


def channels_told(store: Store, settings: Settings, **finding: Any) -> list[str]:
    incident = incidents_of(store, settings).report(drift(**finding), NOON)
    return [one.channel for one in Outbox(store, settings.alerts).of_incident(incident.id)]


def test_a_cause_that_is_seen_a_hundred_times_is_told_once(store: Store) -> None:
    incidents = incidents_of(store, TEAM)
    for hour in range(100):
        incidents.report(drift(), later(hour))
    assert told(store) == ["opened"]
    assert story(store) == ["opened"]
    assert [incident.count for incident in incidents.unresolved()] == [100]


def test_it_is_told_again_when_it_is_worse_than_ever_seen_and_not_when_it_swings(store: Store) -> None:
    incidents = incidents_of(store, TEAM)
    for hour, severity in enumerate(("medium", "high", "medium", "high", "critical", "low", "critical")):
        incidents.report(drift(severity), later(hour))  # type: ignore[arg-type]
    assert told(store) == ["opened", "worse", "worse"]
    assert [event.severity for event in history(store, 1)] == ["medium", "high", "critical"]


def test_a_cause_that_comes_back_within_the_cool_down_goes_on_as_the_same_incident(store: Store) -> None:
    incidents = incidents_of(store, TEAM)
    for round_ in range(5):
        incident = incidents.report(drift(), later(12 * round_))
        assert incident.status == "open"
        assert incidents.resolve(incident.id, later(12 * round_ + 6)) is not None
    assert [one.id for one in incidents.latest()] == [1]
    assert told(store) == ["opened", "resolved", "reopened"]
    assert story(store) == ["opened", "resolved"] + ["reopened", "resolved"] * 4


def test_one_that_comes_back_worse_within_the_cool_down_is_told(store: Store) -> None:
    incidents = incidents_of(store, TEAM)
    incidents.report(drift("medium"), NOON)
    incidents.resolve(1, later(1))
    back = incidents.report(drift("critical"), later(2))
    assert (back.id, back.resolved_at, back.opened_at) == (1, None, NOON)
    assert told(store) == ["opened", "resolved", "worse"]
    assert story(store)[-2:] == ["reopened", "worse"]


def test_those_who_were_told_are_told_once_that_it_is_over(store: Store) -> None:
    settings = alerting(channel("team"), channel("pager", minimum_severity="critical"))
    incidents, outbox = incidents_of(store, settings), Outbox(store, settings.alerts)
    incidents.report(drift("high"), NOON)
    incidents.report(drift("low"), later(1))
    incidents.resolve(1, later(2), why="a check no longer finds it")
    assert incidents.resolve(1, later(3)) is None
    assert [(one.channel, one.created_at) for one in outbox.of_incident(1)] == [("team", NOON), ("team", later(2))]


def test_who_never_heard_of_it_does_not_hear_that_it_is_over(store: Store) -> None:
    incidents, outbox = incidents_of(store, TEAM), Outbox(store, TEAM.alerts)
    incidents.report(drift("high"), NOON)
    incidents.report(drift("low", subject="b"), NOON)
    claimed = outbox.claim("team", NOON)
    assert claimed is not None
    outbox.refuse(claimed, NOON, "no attempt can help")
    assert [incidents.resolve(number, later(1)) is not None for number in (1, 2)] == [True, True]
    assert (told(store), told(store, 2)) == (["opened"], [])


@pytest.mark.parametrize("settings", [alerting(channel(), tell_resolved=False), alerting(channel("other"))])
def test_nobody_is_told_where_that_is_off_or_the_channel_is_gone(store: Store, settings: Settings) -> None:
    incidents_of(store, TEAM).report(drift(), NOON)
    incidents = incidents_of(store, settings)
    incidents.resolve(1, later(1))
    incidents.report(drift(), later(2))
    assert told(store) == ["opened"]


def test_a_paused_monitor_does_not_tell_that_it_is_over(store: Store) -> None:
    incidents_of(store, TEAM).report(drift(), NOON)
    Monitors(store, TEAM).set("data_drift", None, NOON, "ada", status="paused")
    incidents_of(store, TEAM).resolve(1, later(1))
    assert told(store) == ["opened"]


def test_after_the_cool_down_it_is_a_new_incident_and_a_new_alert(store: Store) -> None:
    incidents = incidents_of(store, TEAM)
    incidents.report(drift(), NOON)
    incidents.resolve(1, NOON)
    assert incidents.report(drift(), later(24)).id == 2
    assert told(store) == ["opened", "resolved"]
    assert told(store, 2) == ["opened"]


def test_what_nobody_acknowledges_is_told_again_a_bounded_number_of_times(store: Store) -> None:
    incidents = incidents_of(store, TEAM)
    incidents.report(drift("high"), NOON)
    moments = [hour for hour in range(48) if incidents.escalate(later(hour))]
    assert moments == [2, 4, 6]
    assert told(store) == ["opened", "escalated", "escalated", "escalated"]


@pytest.mark.parametrize("ahead", [3, 240])
def test_one_that_a_host_whose_clock_is_ahead_has_opened_is_told_again_after_the_time_only(
    store: Store, ahead: int
) -> None:
    """Hosts that share a store do not agree to the second."""
    incidents = incidents_of(store, TEAM)
    incidents.report(drift("high"), later(seconds=ahead))
    assert [second for second in range(0, ahead + 5, 5) if incidents.escalate(later(seconds=second))] == []
    assert [hour for hour in range(1, 8) if incidents.escalate(later(hour, seconds=ahead))] == [2, 4, 6]


def test_one_that_grows_worse_after_all_escalations_is_told_and_escalated_anew(store: Store) -> None:
    incidents = incidents_of(store, alerting(channel(), escalations=1))
    incidents.report(drift("high"), NOON)
    incidents.escalate(later(2))
    incidents.report(drift("critical"), later(10))
    incidents.escalate(later(12))
    incidents.escalate(later(14))
    assert told(store) == ["opened", "escalated", "worse", "escalated"]


@pytest.mark.parametrize("severity", ["low", "medium"])
def test_a_lesser_incident_is_not_escalated(store: Store, severity: Any) -> None:
    incidents = incidents_of(store, TEAM)
    incidents.report(drift(severity), NOON)
    assert incidents.escalate(later(100)) == []


def test_an_acknowledged_incident_is_not_told_again(store: Store) -> None:
    incidents = incidents_of(store, TEAM)
    incidents.report(drift("high"), NOON)
    incidents.acknowledge(1, later(1), "ada", "a new supplier of data")
    assert incidents.escalate(later(100)) == []
    assert incidents.report(drift("high"), later(2)).status == "acknowledged"
    assert told(store) == ["opened"]
    acknowledged = history(store, 1)[-1]
    assert (acknowledged.who, acknowledged.detail) == ("ada", {"why": "a new supplier of data"})


def test_escalation_can_be_switched_off(store: Store) -> None:
    incidents = incidents_of(store, alerting(channel(), escalate_after_hours=None))
    incidents.report(drift("critical"), NOON)
    assert incidents.escalate(later(1000)) == []


def test_a_channel_is_told_of_its_severity_and_kinds_only(store: Store) -> None:
    settings = alerting(
        channel("all", minimum_severity="low"),
        channel("pager", minimum_severity="critical"),
        channel("ops", minimum_severity="low", kinds=("serving", "pipeline")),
    )
    assert channels_told(store, settings, severity="high") == ["all"]
    assert channels_told(store, settings, severity="critical", subject="b") == ["all", "pager"]
    assert channels_told(store, settings, severity="low", kind="serving") == ["all", "ops"]


def test_a_monitor_says_who_is_told_and_a_paused_one_tells_nobody(store: Store) -> None:
    settings = alerting(channel("a"), channel("b"))
    monitors = Monitors(store, settings)
    monitors.set("data_drift", None, NOON, "ada", channels=("b",))
    assert channels_told(store, settings) == ["b"]
    monitors.set("data_drift", "3", NOON, "ada", channels=("a",))
    assert channels_told(store, settings, subject="of version 3") == ["a"]
    assert channels_told(store, settings, model_version="4") == ["b"]
    monitors.set("data_drift", "3", NOON, "ada", status="paused")
    assert channels_told(store, settings, subject="while paused") == []


def test_an_event_and_its_alerts_are_written_together_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("monitoring.incidents.add_deliveries", killed)
    with pytest.raises(RuntimeError):
        incidents_of(store, TEAM).report(drift(), NOON)
    assert Incidents(store).latest() == []
    assert history(store, 1) == []
    assert Detections(store).latest() == []


def test_every_finding_is_a_detection_with_what_came_of_it(store: Store) -> None:
    incidents, detections = incidents_of(store, TEAM), Detections(store)
    for hour in range(3):
        incidents.report(drift(), later(hour))
    newest, _, first = detections.latest(kind="data_drift", model_version="3")
    assert (first.score, first.severity, first.features, first.at) == (0.31, "high", ("Income", "Zürich"), NOON)
    assert first.monitor == "data_drift/production_model/3"
    assert first.details["rows"] == 5120
    assert (first.alert_sent, first.action_taken, newest.event) == (False, None, None)
    outbox = Outbox(store, TEAM.alerts)
    claimed = outbox.claim("team", NOON)
    assert claimed is not None
    outbox.sent(claimed, later(3))
    incidents.record_action(1, later(1.5), "retrained: version 4 was promoted", model_version="4")
    assert [(one.alert_sent, one.action_taken) for one in detections.latest(incident=1)] == [
        (False, None),
        (False, "retrained: version 4 was promoted"),
        (True, "retrained: version 4 was promoted"),
    ]


def test_old_detections_are_forgotten_and_their_incident_is_not(store: Store) -> None:
    incidents = incidents_of(store, TEAM)
    incidents.report(drift(), NOON)
    incidents.report(drift(), later(24))
    assert Detections(store).forget(later(24)) == 1
    assert [one.at for one in Detections(store).latest()] == [later(24)]
    assert story(store) == ["opened"]


def test_an_action_for_no_incident_is_refused(store: Store) -> None:
    with pytest.raises(IncidentError, match="there is no incident 7"):
        incidents_of(store, TEAM).record_action(7, NOON, "retrained")


def test_a_history_is_kept_without_any_channel(store: Store) -> None:
    incidents = Incidents(store)
    incidents.report(drift(), NOON)
    incidents.resolve(1, later(1), why="a check no longer finds it")
    assert story(store) == ["opened", "resolved"]
    with store.reading() as connection:
        assert connection.execute(deliveries.select()).all() == []
