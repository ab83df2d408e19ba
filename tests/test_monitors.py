"""Monitors: as configured, but for what was set for the model, but for what was set for the version."""

from __future__ import annotations

from typing import Any

import pytest

from config.settings import Settings, decode_settings
from monitoring.monitors import ALL_CHANNELS, KINDS, Monitor, MonitorError, Monitors, monitor_for
from monitoring.store import Store
from tests.alerting import NOON, alerting, channel

PLAIN = Settings()


def drift_monitor(store: Store, version: str | None, settings: Settings = PLAIN) -> Monitor:
    return monitor_for(store, settings, "data_drift", "production_model", version)


def test_nothing_needs_to_be_stored(store: Store) -> None:
    tree = {
        "data_quality": {"drift_threshold": 0.02},
        "monitoring": {"drift_detection_frequency": 3, "alert_thresholds": {"drift_score": 0.4}},
    }
    monitor = drift_monitor(store, "3", decode_settings(tree))
    assert monitor.thresholds == {"p_value": 0.02, "effect": 0.05, "share_effect": 0.2, "drift_score": 0.4}
    assert (monitor.frequency_hours, monitor.channels, monitor.paused, monitor.set_by) == (3, None, False, ())


def test_each_kind_has_a_monitor_with_its_configured_thresholds(store: Store) -> None:
    found = {monitor.kind: monitor for monitor in Monitors(store, PLAIN).all()}
    assert tuple(found) == KINDS
    assert found["performance_drift"].thresholds == {"accuracy_drop": 0.05}
    assert found["serving"].thresholds == {"error_rate": 0.05, "latency_ms": 500, "stale_after_days": 30}
    assert found["pipeline"].frequency_hours is None


def test_a_version_inherits_from_its_model_what_is_not_set_for_it(store: Store) -> None:
    monitors = Monitors(store, PLAIN)
    monitors.set("data_drift", None, NOON, "ada", thresholds={"effect": 0.1, "p_value": 0.001}, frequency_hours=12)
    monitors.set("data_drift", "3", NOON, "ada", thresholds={"effect": 0.2})
    monitors.set("data_drift", "3", NOON, "ada", status="paused")
    third, other = drift_monitor(store, "3"), drift_monitor(store, "4")
    assert (third.thresholds["effect"], third.thresholds["p_value"], third.frequency_hours) == (0.2, 0.001, 12)
    assert (other.thresholds["effect"], other.frequency_hours) == (0.1, 12)
    assert (third.paused, other.paused) == (True, False)
    assert third.set_by == ("data_drift/production_model", "data_drift/production_model/3")


def test_a_version_may_be_told_to_all_channels_though_the_model_is_not(store: Store) -> None:
    settings = alerting(channel("a"), channel("b"))
    monitors = Monitors(store, settings)
    monitors.set("data_drift", None, NOON, "ada", channels=("a",))
    monitors.set("data_drift", "3", NOON, "ada", channels=ALL_CHANNELS)
    assert drift_monitor(store, "4", settings).channels == ("a",)
    assert drift_monitor(store, "3", settings).channels is None


def test_one_that_is_reset_is_as_configured_again(store: Store) -> None:
    monitors = Monitors(store, PLAIN)
    monitors.set("serving", None, NOON, "ada", thresholds={"latency_ms": 50})
    monitors.set("serving", "3", NOON, "ada", status="paused")
    assert monitors.reset("serving", "3").thresholds["latency_ms"] == 50
    assert monitors.reset("serving", None).set_by == ()
    assert len(monitors.all()) == len(KINDS)


def test_what_is_set_for_another_model_does_not_count(store: Store) -> None:
    other = decode_settings({"registered_model_name": "other"})
    Monitors(store, other).set("data_drift", None, NOON, "ada", status="paused")
    assert not drift_monitor(store, None).paused


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        ("drift", {"status": "paused"}, "there is no monitor drift; there are data_drift"),
        ("data_drift", {"thresholds": {"psi": 1.0}}, "has no threshold psi; it has p_value"),
        ("pipeline", {"thresholds": {"psi": 1.0}}, "it has none"),
        ("data_drift", {"thresholds": {"p_value": 0.0}}, "p_value of data_drift: expected over 0, up to 1, got 0"),
        ("data_drift", {"thresholds": {"effect": float("nan")}}, "expected 0, up to 1, got nan"),
        ("data_drift", {"frequency_hours": 0.0}, "expected over 0, up to 8760 hours"),
        ("pipeline", {"frequency_hours": 1.0}, "has no frequency"),
        ("data_drift", {"channels": ("pager",)}, "there is no channel pager; `alerts.channels` names team"),
    ],
)
def test_what_there_is_none_of_is_refused_and_nothing_is_stored(
    store: Store, kind: str, given: dict[str, Any], said: str
) -> None:
    monitors = Monitors(store, alerting(channel("team")))
    with pytest.raises(MonitorError, match=said):
        monitors.set(kind, None, NOON, "ada", **given)
    assert [monitor.set_by for monitor in monitors.all()] == [()] * len(KINDS)
