"""Alerts reach real receivers: a webhook and a mail server, that work, fail, hang, are down and come back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.settings import Settings
from monitoring.alert_delivery import AlertDelivery
from monitoring.alert_sending import reason, send
from monitoring.alert_text import trial_message
from monitoring.deliveries import Delivery, Outbox
from monitoring.incident_events import history
from monitoring.store import Store
from monitoring.tables import metadata
from tests.alerting import Clock, alerting, channel, drift, incidents_of
from tests.logged import rows_of
from tests.ports import free_port
from tests.receivers import mail_server, webhook

HOOK = channel("hook", url_env="HOOK_URL", minimum_severity="low")
MAIL = channel("mail", url_env="MAIL_URL", minimum_severity="low")


class Work:
    """What a scheduler does about alerts, one look at a time, at a clock of its own."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store, self.settings, self.clock = store, settings, Clock()
        self.incidents = incidents_of(store, settings)
        self.outbox = Outbox(store, settings.alerts)
        self.delivery = AlertDelivery(settings, store, self.clock)

    def look(self) -> None:
        self.delivery.look()
        self.delivery.wait(60)

    def deliveries(self, incident: int = 1) -> list[Delivery]:
        return self.outbox.of_incident(incident)


@contextmanager
def at_work(store: Store, settings: Settings) -> Iterator[Work]:
    work = Work(store, settings)
    try:
        yield work
    finally:
        work.delivery.stop()


def test_a_webhook_gets_one_alert_for_one_cause_with_all_that_is_needed_to_act(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook, at_work(store, alerting(HOOK)) as work:
        monkeypatch.setenv("HOOK_URL", hook.url)
        for _ in range(3):
            work.incidents.report(drift(), work.clock())
            work.look()
            work.clock.go_on(minutes=10)
        [received] = hook.received
        assert [event.event for event in history(work.store, 1)] == ["opened", "alert_sent"]
    assert received["title"] == "[HIGH] data drift: production_model version 3"
    assert received["type"] == "failure"
    lines = received["message"].splitlines()
    assert lines[0] == "2 of 12 features have drifted: Income up: median 129 to 171"
    assert "Since: 2026-03-01 12:00 UTC" in lines
    assert "Features: Income, Zürich" in lines
    assert "Evidence: drift score 0.31, rows 5,120" in lines
    assert lines[-2:] == ["Next: python main.py retrain", "To acknowledge: python main.py incidents acknowledge 1"]


def test_a_mail_reaches_a_mail_server(store: Store, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with mail_server() as (server, address), at_work(store, alerting(MAIL)) as work:
        monkeypatch.setenv("MAIL_URL", address)
        work.incidents.report(drift(cause="a column is <b>missing</b> & Größe is 3.5 %"), work.clock())
        work.look()
        [mail] = server.received
    assert mail["Subject"] == "[HIGH] data drift: production_model version 3"
    assert "a column is <b>missing</b> & Größe is 3.5 %" in mail.get_content()
    assert "Next: python main.py retrain" in mail.get_content()


def test_an_escalation_and_a_turn_for_the_worse_say_so(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook, at_work(store, alerting(HOOK)) as work:
        monkeypatch.setenv("HOOK_URL", hook.url)
        work.incidents.report(drift("high"), work.clock())
        work.look()
        work.clock.go_on(hours=2)
        work.look()
        work.incidents.report(drift("critical"), work.clock())
        work.look()
    head = "data drift: production_model version 3"
    assert hook.titles == [
        f"[HIGH] {head}",
        f"[HIGH] {head} (nobody has acknowledged it yet)",
        f"[CRITICAL] {head} (was high)",
    ]


def test_the_end_of_an_incident_is_good_news_with_its_reason(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook, at_work(store, alerting(HOOK)) as work:
        monkeypatch.setenv("HOOK_URL", hook.url)
        work.incidents.report(drift(), work.clock())
        work.look()
        work.clock.go_on(hours=1)
        work.incidents.resolve(1, work.clock(), "ada", "the supplier mended it")
        work.look()
        work.incidents.report(drift(), work.clock())
        work.look()
    head = "data drift: production_model version 3"
    assert hook.titles == [f"[HIGH] {head}", f"[RESOLVED] {head}", f"[HIGH] {head} (is back)"]
    assert [one["type"] for one in hook.received] == ["failure", "success", "failure"]
    lines = hook.received[1]["message"].splitlines()
    assert lines[:2] == [
        "It is over: the supplier mended it (ada)",
        "It was: 2 of 12 features have drifted: Income up: median 129 to 171",
    ]
    assert "Resolved: 2026-03-01 13:00 UTC" in lines
    assert not any("acknowledge" in line for line in lines)


def test_a_receiver_that_is_down_and_comes_back_gets_each_alert_once(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HOOK_URL", f"json://127.0.0.1:{port}/")
    with at_work(store, alerting(HOOK, retry_seconds=60)) as work:
        work.incidents.report(drift(), work.clock())
        for _ in range(3):
            work.look()
            work.clock.go_on(minutes=5)
        [waiting] = work.deliveries()
        assert (waiting.status, waiting.attempts) == ("waiting", 3)
        assert waiting.last_error == "the receiver cannot be reached"
        with webhook(port) as hook:
            for _ in range(3):
                work.look()
                work.clock.go_on(minutes=60)
            assert len([title for title in hook.titles if "acknowledged" not in title]) == 1
        assert work.deliveries()[0].status == "sent"


def test_a_receiver_that_fails_is_tried_again_and_its_answer_is_kept(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook, mail_server() as (server, address), at_work(store, alerting(HOOK, MAIL)) as work:
        monkeypatch.setenv("HOOK_URL", hook.url)
        monkeypatch.setenv("MAIL_URL", address)
        hook.answers, server.refuses = [500, 503], True
        work.incidents.report(drift("medium"), work.clock())
        work.look()
        assert [one.last_error for one in work.deliveries()] == [
            "the receiver answered 500",
            "the mail server answered 451",
        ]
        server.refuses = False
        for _ in range(2):
            work.clock.go_on(minutes=10)
            work.look()
        assert [(one.status, one.attempts, one.last_error) for one in work.deliveries()] == [
            ("sent", 3, None),
            ("sent", 2, None),
        ]
        assert (len(hook.received), len(server.received)) == (1, 1)


def test_a_receiver_that_hangs_holds_up_neither_the_look_nor_the_other_channels(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = alerting(HOOK, MAIL, timeout_seconds=60)
    with webhook() as hook, mail_server() as (server, address), at_work(store, settings) as work:
        monkeypatch.setenv("HOOK_URL", hook.url)
        monkeypatch.setenv("MAIL_URL", address)
        hook.hangs.set()
        work.incidents.report(drift(), work.clock())
        began = time.monotonic()
        work.delivery.look()
        work.delivery.look()
        assert time.monotonic() - began < 2
        assert hook.asked.wait(30)
        wait_for(lambda: work.outbox.counts()["sent"] == 1)
        began = time.monotonic()
        work.delivery.stop()
        assert time.monotonic() - began < 2
        assert {one.channel: one.status for one in work.deliveries()} == {"hook": "waiting", "mail": "sent"}
        assert len(server.received) == 1


def test_a_receiver_that_hangs_is_given_up_after_the_time_out(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with webhook() as hook, at_work(store, alerting(HOOK, timeout_seconds=1.5)) as work:
        monkeypatch.setenv("HOOK_URL", hook.url)
        hook.hangs.set()
        work.incidents.report(drift(), work.clock())
        began = time.monotonic()
        work.look()
        assert 1.4 < time.monotonic() - began < 10
        assert work.deliveries()[0].last_error == "the receiver did not answer within 1.5 s"
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("alerts to")] == []


@pytest.mark.parametrize(
    "address", [None, "", "nonsense", "nothing://secret-word", "json://", "mailto://x:secret-word"]
)
def test_an_address_that_is_absent_or_wrong_is_told_without_it(
    store: Store, home: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    monkeypatch.delenv("HOOK_URL", raising=False)
    if address is not None:
        monkeypatch.setenv("HOOK_URL", address)
    with at_work(store, alerting(HOOK)) as work:
        work.incidents.report(drift(), work.clock())
        work.look()
        error = work.deliveries()[0].last_error
    assert error is not None
    assert "HOOK_URL is not set" in error if not address else "address" in error or "receiver" in error
    assert "secret" not in error


def test_a_secret_is_in_no_log_store_file_or_alert(
    store: Store,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    with webhook() as hook, mail_server() as (server, address), at_work(store, alerting(HOOK, MAIL)) as work:
        monkeypatch.setenv("HOOK_URL", hook.url)
        monkeypatch.setenv("MAIL_URL", address)
        hook.answers, server.refuses = [500], True
        work.incidents.report(drift(), work.clock())
        for _ in range(2):
            work.look()
            work.clock.go_on(hours=1)
        said = [record.getMessage() for record in caplog.records if record.name.startswith("monitoring")]
    files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert "secret" not in repr([files, *(rows_of(store, name) for name in metadata.tables)])
    assert said
    assert "secret" not in "".join([*said, *capfd.readouterr(), str(hook.received)])


def test_an_alert_to_a_channel_that_is_gone_is_given_up(store: Store, home: Path) -> None:
    with at_work(store, alerting(HOOK)) as before:
        before.incidents.report(drift(), before.clock())
    with at_work(store, alerting()) as work:
        work.look()
        [kept] = work.deliveries()
    assert (kept.status, kept.last_error) == ("failed", "the channel hook is no longer configured")


def test_what_a_receiver_says_is_never_repeated() -> None:
    assert reason(["Failed to send JSON POST notification: token=secret, error=403."]) == "the receiver answered 403"
    assert reason(["Socket Exception: https://user:secret@host"]) == "the receiver cannot be reached"
    assert reason(["(535, b'secret not accepted')"]) == "the mail server answered 535"
    assert reason(["secret"]) == reason([]) == "the receiver did not take it"


def test_a_test_message_is_sent_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with webhook() as hook:
        monkeypatch.setenv("HOOK_URL", hook.url)
        assert send("HOOK_URL", trial_message("hook"), 20) is None
        assert hook.received[0]["type"] == "info"


def wait_for(condition: object, seconds: float = 30.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
