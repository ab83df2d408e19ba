"""Errors, latency and age: told when the figures leave no doubt, resolved when they are well again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from config.settings import Settings
from monitoring.alerts import Alerts
from monitoring.incidents import Incidents
from monitoring.monitors import Monitors, monitor_for
from monitoring.serving_rules import ServingFigures, error_finding, latency_finding, settle_serving, stale_finding
from monitoring.store import Store
from tests.alerting import NOON, later


def figures(requests: int, errors: int = 0, p95_ms: float | None = None) -> ServingFigures:
    return ServingFigures(requests=requests, errors=errors, p95_ms=p95_ms)


@pytest.mark.parametrize(("requests", "errors"), [(0, 0), (100, 0), (1000, 50), (1000, 60), (60, 5)])
def test_a_rate_that_may_be_tolerable_is_not_told(requests: int, errors: int) -> None:
    assert error_finding(figures(requests, errors), 0.05) is None


@pytest.mark.parametrize(
    ("errors", "severity"), [(80, "medium"), (100, "high"), (499, "high"), (500, "critical"), (1000, "critical")]
)
def test_too_many_failures_are_told_by_how_many_they_are(errors: int, severity: str) -> None:
    found = error_finding(figures(1000, errors), 0.05, "3")
    assert found is not None
    assert (found.kind, found.severity, found.score, found.model_version) == ("serving", severity, errors / 1000, "3")
    assert f"{errors / 10:.1f}% of 1,000 requests" in found.cause


def test_the_bound_is_that_of_scipy() -> None:
    for errors in range(1, 200):
        lowest = binomtest(errors, 1000).proportion_ci(0.98, "wilson").low
        assert (error_finding(figures(1000, errors), 0.05) is not None) == (lowest > 0.05)


def test_a_server_at_the_limit_is_told_in_at_most_one_look_of_fifty() -> None:
    """The chance of an alarm at a true rate of 5 %, summed over all outcomes; Wilson's interval is not exact."""
    for requests in (50, 100, 1000, 10_000):
        errors = np.arange(requests + 1)
        alarms = np.array([error_finding(figures(requests, int(one)), 0.05) is not None for one in errors])
        assert binom.pmf(errors, requests, 0.05)[alarms].sum() <= 0.02


@pytest.mark.parametrize(
    ("p95", "severity"), [(None, None), (500.0, None), (500.1, "medium"), (999, "medium"), (1000, "high")]
)
def test_slow_answers_are_told_once_they_pass_the_limit(p95: float | None, severity: str | None) -> None:
    found = latency_finding(figures(1000, p95_ms=p95), 500.0)
    assert (found.severity if found else None) == severity


@pytest.mark.parametrize(("days", "stale"), [(29.9, False), (30, False), (30.1, True), (-5, False)])
def test_a_model_is_stale_after_its_days(days: float, stale: bool) -> None:
    found = stale_finding("3", NOON - timedelta(days=days), NOON, 30.0)
    assert (found is not None) == stale
    assert found is None or (found.severity, found.next) == ("low", "python main.py retrain")


@pytest.fixture
def opened(store: Store, home: Path) -> Store:
    """With a state root in force, for the files of alerts."""
    del home
    return store


def settle(store: Store, found: ServingFigures, hours: float) -> list[str]:
    monitor = monitor_for(store, Settings(), "serving", "production_model", "3")
    settle_serving(Alerts.of(Settings(), store), found, monitor, later(hours))
    return [f"{one.cause:.12}" for one in Incidents(store).unresolved()]


def test_both_are_opened_counted_and_resolved_on_their_own(opened: Store) -> None:
    assert settle(opened, figures(100, 50, 900.0), 0) == ["50.0% of 100", "5 of 100 pre"]
    assert settle(opened, figures(100, 0, 900.0), 1) == ["5 of 100 pre"]
    assert settle(opened, figures(100, 0, None), 2) == ["5 of 100 pre"]
    assert settle(opened, figures(100, 0, 10.0), 3) == []


def test_a_night_of_few_requests_opens_and_resolves_nothing(opened: Store) -> None:
    assert settle(opened, figures(49, 49, 9000.0), 0) == []
    settle(opened, figures(100, 50, 10.0), 1)
    assert settle(opened, figures(0), 2) == ["50.0% of 100"]


def test_a_paused_monitor_does_not_look(opened: Store) -> None:
    Monitors(opened, Settings()).set("serving", None, NOON, "ada", status="paused")
    assert settle(opened, figures(100, 100, 9000.0), 0) == []
