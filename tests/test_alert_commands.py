"""`incidents`, `alerts` and `monitors` on the command line, as people and scripts type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.settings import load_settings
from monitoring.alerts import Alerts
from monitoring.store import Store
from tests.alerting import NOON, drift, later
from tests.command_line import failure, json_of, run_command
from tests.receivers import webhook

FIELDS = {"id", "kind", "severity", "status", "model_version", "opened_at", "cause", "features", "next"}
CHANNELS = '[{"name": "hook", "url_env": "HOOK_URL"}, {"name": "spare", "url_env": "SPARE_URL"}]'


@pytest.fixture
def known(home: Path, store: Store, store_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One incident that is open and one that is resolved."""
    monkeypatch.setenv("MLOPS_STORE__URL", store_url)
    monkeypatch.setenv("MLOPS_ALERTS__CHANNELS", CHANNELS)
    monkeypatch.setenv("MLOPS_ALERTS__ESCALATE_AFTER_HOURS", "null")
    alerts = Alerts.of(load_settings(), store)
    alerts.report(drift("medium"), NOON)
    alerts.report(drift(subject="over"), NOON)
    alerts.resolve(2, later(1), "ada", "the source was mended")
    return home


def test_incidents_are_listed_with_the_fields_of_the_interface(known: Path) -> None:
    [listed] = json_of("incidents", "list")
    assert listed.keys() >= FIELDS
    assert (listed["id"], listed["status"], listed["features"]) == (1, "open", ["Income", "Zürich"])
    assert [one["id"] for one in json_of("incidents", "list", "--all")] == [2, 1]
    shown = run_command("incidents", "list").stdout
    assert "2 of 12 features have drifted" in shown
    assert "next: python main.py incidents show ID" in shown


def test_without_a_store_there_is_nothing_to_list_and_none_is_made(home: Path) -> None:
    assert json_of("incidents", "list") == []
    assert run_command("incidents", "list").stdout == "no incidents\n"
    assert list(home.iterdir()) == []


def test_an_incident_is_shown_with_its_history_and_its_alerts(known: Path) -> None:
    detail = json_of("incidents", "show", "2")
    assert detail["incident"].keys() >= FIELDS
    assert [(one["event"], one["who"]) for one in detail["history"]] == [("opened", None), ("resolved", "ada")]
    assert [(one["channel"], one["status"]) for one in detail["deliveries"]] == [
        ("hook", "waiting"),
        ("spare", "waiting"),
    ] * 2  # that it began, and that it is over
    shown = run_command("incidents", "show", "2").stdout
    for words in ("2 of 12 features have drifted", "the source was mended", "drift score", "python main.py retrain"):
        assert words in shown


def test_a_person_acknowledges_and_resolves_with_who_and_why(known: Path) -> None:
    acknowledged = json_of("incidents", "acknowledge", "1", "--who", "ada", "--why", "a new supplier")
    assert acknowledged["status"] == "acknowledged"
    assert json_of("incidents", "resolve", "1")["status"] == "resolved"
    events = [(one["event"], one["who"], one["detail"]) for one in json_of("incidents", "show", "1")["history"][1:]]
    assert events[0] == ("acknowledged", "ada", {"why": "a new supplier"})
    assert events[1][0] == "resolved"
    assert events[1][1]
    assert '"status": "resolved"' in next((known / "alerts").glob("alert_*_1_*.json")).read_text()


def test_what_cannot_be_changed_is_said_in_a_sentence(known: Path) -> None:
    assert failure("incidents", "show", "9") == "there is no incident 9; see python main.py incidents list --all"
    assert failure("incidents", "resolve", "2") == "incident 2 cannot be resolved: it is resolved already"
    assert "it is resolved already" in failure("incidents", "acknowledge", "2")


def test_a_test_message_says_what_happened_at_each_channel(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARE_URL", raising=False)
    with webhook() as hook:
        monkeypatch.setenv("HOOK_URL", hook.url)
        trials = json_of("alerts", "test", code=1)
        assert json_of("alerts", "test", "--channel", "hook") == trials[:1]
        assert hook.titles == ["[TEST] alerts of the model in production"] * 2
    assert [(one["channel"], one["error"]) for one in trials] == [
        ("hook", None),
        ("spare", "the environment variable SPARE_URL is not set"),
    ]


def test_a_channel_that_is_not_configured_is_a_mistake_of_the_caller(
    known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "names no channel pager; it names hook, spare" in failure("alerts", "test", "--channel", "pager", code=2)
    monkeypatch.delenv("MLOPS_ALERTS__CHANNELS")
    assert failure("alerts", "test", code=2).startswith("there are no channels")


def test_what_waits_is_sent_without_a_scheduler(known: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARE_URL", raising=False)
    with webhook() as hook:
        monkeypatch.setenv("HOOK_URL", hook.url)
        assert json_of("alerts", "send") == {"sent": 3, "waiting": 3, "failed": 0}
        assert len(hook.received) == 3
        assert "Resolved: 2026-03-01 13:00 UTC" in hook.received[1]["message"]


def test_a_monitor_is_set_paused_resumed_and_reset(known: Path) -> None:
    changed = json_of(
        "monitors", "set", "serving", "--version", "3", "--threshold", "latency_ms=80", "--threshold", "error_rate=0.2",
        "--frequency", "1", "--channels", "hook",
    )  # fmt: skip
    assert changed["thresholds"] == {"error_rate": 0.2, "latency_ms": 80, "stale_after_days": 30}
    assert (changed["frequency_hours"], changed["channels"], changed["model_version"]) == (1, ["hook"], "3")
    assert json_of("monitors", "pause", "serving", "--version", "3")["status"] == "paused"
    listed = json_of("monitors", "list")
    assert [(one["kind"], one["status"]) for one in listed if one["set_by"]] == [("serving", "paused")]
    assert "latency_ms=80" in run_command("monitors", "list").stdout
    assert json_of("monitors", "resume", "serving", "--version", "3")["status"] == "active"
    assert json_of("monitors", "set", "serving", "--version", "3", "--channels", "all")["channels"] is None
    assert json_of("monitors", "reset", "serving", "--version", "3")["set_by"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("set", "serving"), "nothing to set"),
        (("set", "serving", "--threshold", "latency_ms"), "expected NAME=VALUE with a number"),
        (("set", "serving", "--threshold", "latency_ms=-1"), "expected over 0"),
        (("set", "serving", "--channels", "pager"), "there is no channel pager"),
        (("pause", "latency"), "there is no monitor latency"),
    ],
)
def test_a_monitor_that_cannot_be_set_is_a_mistake_of_the_caller(
    known: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert said in failure("monitors", *arguments, code=2)
