"""From a server that fails to an incident, and back: the application's own counts, read into a store and judged."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from api.app import create_app
from config.settings import Settings, decode_settings, load_settings
from monitoring.alerts import Alerts
from monitoring.incidents import Incidents
from monitoring.monitors import Monitors, monitor_for
from monitoring.server_hours import UsageReader
from monitoring.serving_check import check_serving, serving_figures
from monitoring.serving_rules import ServingFigures
from monitoring.store import Store
from monitoring.usage_lines import USAGE_LOG
from pipeline.log_jobs import ingestion_of
from pipeline.monitoring_jobs import check_performance_at
from tests.alerting import NOON, later
from tests.bundles import sample_row, serve_sample
from tests.logged import Host, prediction_lines, write_version
from tests.test_server_usage import line

HALF_AN_HOUR = timedelta(minutes=30)


class Served:
    """A server of the state root in force, at a clock of the test's."""

    def __init__(self, home: Path) -> None:
        self.logs = home / "logs"
        self.now = NOON
        registry = home / "models" / "registry"
        serve_sample(registry)
        self._app = create_app(decode_settings({}), registry=registry, logs=self.logs, clock=lambda: self.now)
        self._reloader = self._app.extensions["mlops"].reloader
        self._reloader.ensure_running = lambda: None
        self._reloader.look()

    def answer(self, requests: int, at: datetime) -> set[int]:
        """Statuses of so many requests, all of which are in the usage log when it returns."""
        self.now = at
        client = self._app.test_client()
        found = {client.post("/predict", json=sample_row()).status_code for _ in range(requests)}
        self._app.extensions["mlops"].usage.write()
        return found


def causes_at(now: datetime) -> list[str]:
    """What the performance check has open after it has looked, all that is logged having been read."""
    settings = load_settings()
    with Store(settings.store_address) as opened:
        ingestion_of(settings, opened, lambda: now).run_once()
        check_performance_at(settings, opened, now)
        return [one.cause for one in Incidents(opened).unresolved() if one.kind == "serving"]


def test_a_full_disk_is_an_incident_until_predictions_are_answered_again(home: Path) -> None:
    server = Served(home)
    assert server.answer(60, NOON) == {200}
    assert causes_at(NOON + HALF_AN_HOUR) == []
    in_the_way = server.logs / f"predictions_{later(9):%Y%m%d}.jsonl"
    in_the_way.unlink()
    in_the_way.symlink_to("/dev/full")
    assert server.answer(60, later(9)) == {503}
    in_the_way.unlink()
    assert causes_at(later(9.5)) == ["100.0% of 60 requests for predictions failed; 5.0% are tolerated"]
    assert server.answer(60, later(16)) == {200}
    assert causes_at(later(16.5)) == []


def test_slow_predictions_are_an_incident_of_their_own(store: Store, home: Path) -> None:
    host = Host(home, store)
    write_version(host.registry)
    (host.logs / f"{USAGE_LOG}_20260301.jsonl").write_bytes(line_at(later(0.1), requests=200, errors=0))
    host.log(prediction_lines(150, moment=NOON))
    host.ingestion.run_once()
    figures = look(store, later(0.5))
    assert (figures.requests, figures.errors) == (200, 0)
    assert figures.p95_ms == pytest.approx(2.5, rel=0.1)
    assert Incidents(store).unresolved() == []
    Monitors(store, Settings()).set("serving", None, NOON, "ada", thresholds={"latency_ms": 1.0})
    look(store, later(0.6))
    [slow] = Incidents(store).unresolved()
    assert (slow.kind, slow.model_version, slow.cause.split(" or ")[0]) == (
        "serving",
        None,
        "5 of 100 predictions take 3 ms",
    )


def line_at(moment: datetime, **figures: int) -> bytes:
    return line((moment - datetime(2026, 3, 4, 12, tzinfo=moment.tzinfo)) / timedelta(minutes=1), **figures)


def look(store: Store, now: datetime) -> ServingFigures:
    return check_serving(Settings(), store, Alerts.of(Settings(), store), now)


def in_window(store: Store, logs: Path, *hours: tuple[float, int, int]) -> ServingFigures:
    """The figures at noon of hours that lie so far back, with requests and errors."""
    logs.mkdir()
    lines = [line_at(later(-back), requests=requests, errors=errors) for back, requests, errors in hours]
    for number, one in enumerate(lines):
        (logs / f"{USAGE_LOG}_2026030{number + 1}.jsonl").write_bytes(one)
    UsageReader(store, logs).read(1)
    return serving_figures(store, monitor_for(store, Settings(), "serving", "production_model", None), NOON)


def test_a_look_is_at_the_hours_since_the_last_one(store: Store, tmp_path: Path) -> None:
    found = in_window(store, tmp_path / "logs", (0.5, 40, 1), (5.5, 40, 2), (6.5, 1000, 1000))
    assert (found.requests, found.errors) == (80, 3)


def test_where_those_hold_few_requests_it_goes_back_by_hours_up_to_a_day(store: Store, tmp_path: Path) -> None:
    found = in_window(store, tmp_path / "logs", (0.5, 10, 1), (8.5, 30, 2), (12.5, 10, 4), (14.5, 500, 500))
    assert (found.requests, found.errors) == (50, 7)


def test_what_is_older_than_a_day_is_no_news(store: Store, tmp_path: Path) -> None:
    found = in_window(store, tmp_path / "logs", (0.5, 10, 1), (25.5, 500, 500))
    assert (found.requests, found.errors) == (10, 1)


def test_without_a_server_there_is_no_verdict_and_what_is_open_stays(store: Store, home: Path) -> None:
    assert look(store, NOON) == ServingFigures(requests=0, errors=0, p95_ms=None)
    (home / "logs").mkdir()
    (home / "logs" / f"{USAGE_LOG}_20260301.jsonl").write_bytes(line_at(later(-0.5), requests=100, errors=100))
    UsageReader(store, home / "logs").read(1)
    look(store, NOON)
    look(store, later(48))
    assert [one.status for one in Incidents(store).unresolved()] == ["open"]
