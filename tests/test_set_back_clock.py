"""A clock that was ahead and has been set back: what it has dated into the future holds up nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from config.settings import decode_settings, load_settings
from monitoring.deliveries import Outbox
from monitoring.prediction_log import PredictionLog
from monitoring.promotion_history import PromotionHistory
from monitoring.store import Store
from monitoring.tables import window_profiles
from monitoring.window_records import window
from tests.alerting import NOON, alerting, channel, drift, incidents_of, later
from tests.command_line import json_of
from tests.logged import PROFILER, Host, prediction_lines, write_version
from tests.states import deployment_in_force, state
from tests.test_retraining_policy import incident, labels, policy, trained

__all__ = ["state"]
TOMORROW = NOON + timedelta(days=1)


def test_an_alert_dated_tomorrow_is_sent_now(store: Store) -> None:
    settings = alerting(channel("a"))
    incidents_of(store, settings).report(drift(), TOMORROW)
    outbox = Outbox(store, settings.alerts)
    assert outbox.due_channels(NOON) == ["a"]
    assert outbox.claim("a", NOON) is not None
    assert outbox.claim("a", later(seconds=1)) is None  # but not by two at once


def test_an_incident_told_tomorrow_is_told_again_a_bounded_number_of_times(store: Store) -> None:
    incidents = incidents_of(store, alerting(channel(), escalations=3))
    incidents.report(drift("high"), TOMORROW)
    moments = [hour for hour in range(12) if incidents.escalate(later(hour))]
    assert moments == [0, 2, 4]


def test_a_run_dated_tomorrow_holds_up_no_retraining(store: Store) -> None:
    trained(store, TOMORROW)
    labels(store, 3, received=TOMORROW)
    incident(store)
    assert policy(store).reason("1", NOON) is not None


def test_a_promotion_dated_tomorrow_is_what_serves_and_is_recorded_once(state: Path) -> None:
    with Store(load_settings().store_address) as store, deployment_in_force() as deployment:
        history, tomorrow = PromotionHistory(store), datetime.now(UTC) + timedelta(days=1)
        move = history.intend("1", "2", "promote", tomorrow, who="ada", why="to see")
        deployment.registry.set_champion("2")
        history.mark_done(move.id, tomorrow)
        for _ in range(2):
            deployment.sync(record_moves=True)
        assert (history.serving(), len(history.latest())) == ("2", 2)


def test_status_tells_the_last_prediction_by_the_files_that_are_not_of_tomorrow(state: Path) -> None:
    now = datetime.now(UTC)
    for days in (0, 1):
        moment = now + timedelta(days=days, minutes=-5)
        log = PredictionLog(state / "logs")
        log.append(prediction_lines(1, moment=moment))
        log.close()
        os.utime(state / f"logs/predictions_{moment:%Y%m%d}.jsonl", (moment.timestamp(), moment.timestamp()))
    told = datetime.fromisoformat(json_of("status")["last_prediction_at"])
    assert timedelta(minutes=4) < now - told < timedelta(minutes=6)


def test_rows_dated_tomorrow_are_counted_once_at_their_hour_and_never_in_a_window_of_today(
    store: Store, tmp_path: Path
) -> None:
    host = Host(tmp_path / "host", store)
    write_version(host.registry)
    host.now = TOMORROW + timedelta(hours=1)
    host.log(prediction_lines(40, 1, TOMORROW))
    host.ingestion.run_once()
    host.now = NOON + timedelta(hours=1)
    host.log(prediction_lines(25, 2, NOON))
    host.ingestion.run_once()
    day = timedelta(days=1)
    today = window(store, PROFILER.layout, "1", host.now - day, host.now)
    both = window(store, PROFILER.layout, "1", host.now - day, host.now + day)
    assert (today.rows, both.rows) == (25, 65)
    with store.reading() as connection:
        assert connection.execute(select(func.sum(window_profiles.c.rows))).scalar() == 65


@pytest.mark.parametrize("ahead", [1, 40])
def test_logs_that_are_not_read_survive_a_jump_beyond_their_time(store: Store, tmp_path: Path, ahead: int) -> None:
    """Retention deletes by the clock, but only what is in the store."""
    host = Host(tmp_path / "host", store)
    write_version(host.registry)
    host.settings = decode_settings({"logging": {"retention_days": 1}})
    host.restarted()
    host.log(prediction_lines(30, 1, NOON))
    host.now = NOON + timedelta(days=ahead)
    assert host.ingestion.run_once(rows=0).deleted == 0
    assert host.predictions_file().exists()
    host.now = NOON + timedelta(hours=1)
    read = host.ingestion.run_once()
    assert (read.rows, read.deleted) == (30, 0)
