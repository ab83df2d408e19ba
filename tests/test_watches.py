"""What the scheduler looks after besides its jobs: jobs that were missed, a model that grows old, alerts to send."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from config.settings import Settings, load_settings
from monitoring.alerts import Alerts
from monitoring.detections import Detections
from monitoring.incidents import Incident, Incidents
from monitoring.job_records import JobRecords
from monitoring.monitors import Monitors
from monitoring.promotion_history import PromotionHistory
from monitoring.store import Store
from pipeline.monitored_times import AsMonitored
from pipeline.watches import DETECTIONS_KEPT, Watches
from tests.alerting import NOON, drift, later
from tests.states import state

__all__ = ["state"]


def watches(store: Store) -> Watches:
    settings = Settings()
    return Watches(settings, store, Alerts.of(settings, store), lambda: ["drift", "retrain"])


def open_incidents(store: Store) -> list[Incident]:
    return Incidents(store).unresolved()


def test_jobs_that_were_missed_are_told_at_the_start_and_settled_when_they_are_done(store: Store, home: Path) -> None:
    jobs, watch = JobRecords(store), watches(store)
    jobs.finished("drift", "succeeded", later(-20), later(-14))
    jobs.finished("retrain", "succeeded", later(-20), later(30))
    jobs.finished("of a release before", "succeeded", later(-2000), later(-1999))
    watch.begin(NOON)
    [missed] = open_incidents(store)
    assert (missed.kind, missed.severity) == ("pipeline", "medium")
    assert missed.cause == "no scheduler was at work when jobs were due: drift 14.0 h late"
    watch.look(NOON)
    assert len(open_incidents(store)) == 1
    jobs.finished("drift", "succeeded", NOON, later(6))
    watch.look(NOON)
    assert open_incidents(store) == []


@pytest.mark.parametrize("due", [later(-0.9), later(6), None])
def test_a_restart_is_no_missed_job(store: Store, home: Path, due: datetime | None) -> None:
    JobRecords(store).finished("drift", "succeeded", later(-6), due)
    watches(store).begin(NOON)
    assert open_incidents(store) == []


def test_old_detections_go_after_a_year(store: Store, home: Path) -> None:
    Incidents(store).report(drift(), NOON)
    watches(store).look(NOON + DETECTIONS_KEPT)
    assert len(Detections(store).latest()) == 1
    watches(store).look(NOON + DETECTIONS_KEPT + timedelta(seconds=1))
    assert Detections(store).latest() == []


def in_service_since(store: Store) -> datetime:
    since = PromotionHistory(store).in_service_since("1")
    assert since is not None
    return since


def test_a_stale_model_is_a_low_incident_until_another_one_serves(state: Path) -> None:
    with Store(load_settings().store_address) as store:
        watch, since = watches(store), in_service_since(store)
        watch.look(since + timedelta(days=30))
        assert open_incidents(store) == []
        watch.look(since + timedelta(days=45))
        [stale] = open_incidents(store)
        assert (stale.kind, stale.severity, stale.next) == ("serving", "low", "python main.py retrain")
        assert stale.cause == "version 1 has been in service for 45 days; it is stale after 30"
        history = PromotionHistory(store)
        move = history.intend("1", "1", "promote", since + timedelta(days=46), who="ada", why="to see")
        history.mark_done(move.id, since + timedelta(days=46))
        watch.look(since + timedelta(days=47))
        assert open_incidents(store) == []


def test_a_check_is_due_as_often_as_its_monitors_say(state: Path) -> None:
    settings = load_settings()
    with Store(settings.store_address) as store:
        times, monitors = AsMonitored(settings, store, ("data_drift", "prediction_drift")), Monitors(store, settings)
        assert times.next(NOON) == later(6)
        monitors.set("prediction_drift", None, NOON, "ada", frequency_hours=2)
        assert times.next(NOON) == later(2)
        monitors.set("data_drift", "1", NOON, "ada", frequency_hours=1)
        assert (times.is_due(NOON, later(0.9)), times.is_due(NOON, later(1))) == (False, True)
        monitors.set("data_drift", "2", NOON, "ada", frequency_hours=0.1)
        assert times.next(NOON) == later(1)
