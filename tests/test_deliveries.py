"""The outbox: an alert that is to be sent is sent, however often the sender fails, is killed, or has a twin."""

from __future__ import annotations

from datetime import datetime, timedelta

from monitoring.deliveries import Delivery, Outbox
from monitoring.incident_events import history
from monitoring.store import Store
from tests.alerting import NOON, alerting, channel, drift, incidents_of, later

SETTINGS = alerting(channel("a"), channel("b"), attempts=4, retry_seconds=60)


def outbox_with(store: Store, subjects: int = 1) -> Outbox:
    for number in range(subjects):
        incidents_of(store, SETTINGS).report(drift(subject=str(number)), NOON)
    return Outbox(store, SETTINGS.alerts)


def claimed(outbox: Outbox, channel: str, at: datetime) -> Delivery:
    delivery = outbox.claim(channel, at)
    assert delivery is not None
    return delivery


def test_each_channel_gets_each_alert_once(store: Store) -> None:
    outbox = outbox_with(store, 3)
    for name in ("a", "b"):
        incidents = []
        while delivery := outbox.claim(name, NOON):
            outbox.sent(delivery, NOON)
            incidents.append(delivery.incident)
        assert incidents == [1, 2, 3]
    assert outbox.counts() == {"waiting": 0, "sent": 6, "failed": 0}
    assert outbox.due_channels(later(1000)) == []


def test_two_senders_never_hold_the_same_alert(store: Store) -> None:
    first, second = outbox_with(store, 2), Outbox(store, SETTINGS.alerts)
    held = [claimed(first, "a", NOON).id, claimed(second, "a", NOON).id]
    assert len(set(held)) == 2
    assert first.claim("a", NOON) is None


def test_a_failure_is_tried_again_later_and_later_and_given_up_in_the_end(store: Store) -> None:
    outbox, now, waits = outbox_with(store), NOON, []
    while delivery := outbox.claim("a", now):
        outbox.failed(delivery, now, "the receiver answered 500")
        [kept] = [one for one in outbox.of_incident(1) if one.channel == "a"]
        if kept.status == "failed":
            break
        waits.append((kept.next_attempt_at - now) / timedelta(seconds=1))
        assert outbox.claim("a", kept.next_attempt_at - timedelta(seconds=1)) is None
        now = kept.next_attempt_at
    assert waits == [60, 120, 240]
    assert (kept.attempts, kept.last_error) == (4, "the receiver answered 500")
    failed = history(store, 1)[-1]
    assert (failed.event, failed.detail) == (
        "alert_failed",
        {"channel": "a", "attempts": 4, "error": "the receiver answered 500"},
    )
    assert outbox.due_channels(later(1000)) == ["b"]


def test_no_wait_is_longer_than_an_hour(store: Store) -> None:
    settings = alerting(channel("a"), attempts=100, retry_seconds=30)
    incidents_of(store, settings).report(drift(), NOON)
    outbox, now = Outbox(store, settings.alerts), NOON
    for _ in range(99):
        outbox.failed(claimed(outbox, "a", now), now, "no")
        [kept] = outbox.of_incident(1)
        assert kept.next_attempt_at - now <= timedelta(hours=1)
        now = kept.next_attempt_at


def test_a_sender_that_is_killed_leaves_its_alert_to_be_tried_again(store: Store) -> None:
    outbox = outbox_with(store)
    claimed(outbox, "a", NOON)
    assert outbox.claim("a", later(seconds=49)) is None  # it may still be at work: the time-out and a margin
    again = claimed(outbox, "a", later(seconds=60))
    assert again.attempts == 2
    outbox.sent(again, later(seconds=61))
    assert [event.event for event in history(store, 1)] == ["opened", "alert_sent"]


def test_the_word_of_a_sender_that_was_given_up_for_dead_changes_nothing(store: Store) -> None:
    outbox = outbox_with(store)
    slow = claimed(outbox, "a", NOON)
    quick = claimed(outbox, "a", later(1))
    outbox.sent(quick, later(1))
    outbox.failed(slow, later(2), "late")
    outbox.sent(slow, later(2))
    [kept] = [one for one in outbox.of_incident(1) if one.channel == "a"]
    assert (kept.status, kept.sent_at, kept.last_error) == ("sent", later(1), None)
    assert [event.event for event in history(store, 1)] == ["opened", "alert_sent"]


def test_a_sender_that_is_killed_at_every_attempt_ends_it_too(store: Store) -> None:
    outbox = outbox_with(store)
    for hour in range(4):
        claimed(outbox, "a", later(hour))
    assert outbox.claim("a", later(9)) is None
    [kept] = [one for one in outbox.of_incident(1) if one.channel == "a"]
    assert (kept.status, kept.attempts, kept.last_error) == ("failed", 4, "ended while it was being sent")
