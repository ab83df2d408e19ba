"""The scheduler: what is due is done once, and one failure stops nothing else."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.settings import load_settings, registry_directory
from config.state_lock import StateLockedError, state_lock
from models.mlflow_connection import RegistryError
from models.mlflow_registry import Registry
from monitoring.job_records import JobRecords
from monitoring.prediction_log import PredictionLog
from monitoring.run_records import RunRecords
from monitoring.store import Store
from pipeline import scheduler as scheduler_module
from pipeline.deployment import DeploymentError
from pipeline.scheduler import Scheduler, run_scheduler
from tests.command_line import json_of
from tests.logged import count_of, prediction_lines
from tests.states import deployment_in_force, planned, state
from tests.traffic import drifted_rows, serve
from tests.trained import TrainedState, copy_of, in_force
from tests.watched_scheduler import Clock, clock, incidents, jobs, scheduler

__all__ = ["clock", "state"]


# What is due.


def test_the_first_start_monitors_and_waits_for_the_weekly_look_at_new_data(state: Path, clock: Clock) -> None:
    with scheduler(clock) as work:
        work.prepare()
        assert work.done == ["drift", "performance", "serving"]
    assert jobs()["retrain"].next_due_at is not None
    assert jobs()["retrain"].last_started_at is None


def test_a_restart_repeats_nothing_that_is_not_due(state: Path, clock: Clock) -> None:
    for _ in range(3):
        with scheduler(clock) as work:
            work.prepare()
        clock.go_on(minutes=10)
    assert work.done == []


def test_jobs_missed_while_it_was_down_are_caught_up_with_once(state: Path, clock: Clock) -> None:
    with scheduler(clock) as work:
        work.prepare()
    clock.go_on(days=30)  # four Sundays, 120 drift checks
    with scheduler(clock) as work:
        work.prepare()
        assert work.done == ["drift", "performance", "serving", "retrain"]
        work.finish_child()
        work.look()
        assert work.done == ["drift", "performance", "serving", "retrain"]
    assert jobs()["retrain"].last_status == "succeeded"


def test_a_month_of_work_runs_each_job_as_often_as_the_settings_say(state: Path, clock: Clock) -> None:
    with scheduler(clock) as work:
        for _ in range(28 * 24):
            work.look()
            if work.child is not None:
                work.finish_child()
            clock.go_on(hours=1)
        assert {name: work.done.count(name) for name in set(work.done)} == {
            "drift": 28 * 4,
            "performance": 28,
            "serving": 28 * 4,
            "retrain": 4,
        }


def test_one_failing_job_stops_no_other_and_is_an_incident(state: Path, clock: Clock) -> None:
    def fail() -> None:
        raise ValueError("a figure is wrong")

    with scheduler(clock) as work:
        first, *others = work.jobs
        work.jobs = [scheduler_module.Job(first.name, first.times, fail), *others]
        work.prepare()
        work.tick()
        assert work.done == ["performance", "serving"]
        assert [(one.kind, one.cause) for one in incidents()] == [
            ("pipeline", "the drift job failed: a figure is wrong")
        ]
        assert jobs()["drift"].last_status == "failed"
        work.jobs = [scheduler_module.Job(first.name, first.times, lambda: None), *others]
        clock.go_on(hours=6)
        work.look()
        assert incidents() == []


def test_a_failing_job_is_told_to_a_channel_while_the_work_goes_on(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.receivers import webhook

    monkeypatch.setenv("MLOPS_ALERTS__CHANNELS", '[{"name": "hook", "url_env": "HOOK_URL"}]')
    with webhook() as hook, scheduler(clock) as work:
        monkeypatch.setenv("HOOK_URL", hook.url)
        first, *others = work.jobs
        work.jobs = [scheduler_module.Job(first.name, first.times, broken), *others]
        work.prepare()
        work.timetable._scheduler.run_all()
        work.delivery.wait(30)
        assert hook.titles == ["[HIGH] pipeline: production_model"]
        assert "the drift job failed: the store is away" in hook.received[0]["message"]


def test_a_store_that_is_down_stops_nothing(state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    with scheduler(clock, "import time; time.sleep(30)") as work:
        work.train("run")
        monkeypatch.setattr("monitoring.store.LOCK_WAIT_SECONDS", 0.1)
        for name in ("get", "all", "started", "finished", "schedule"):
            monkeypatch.setattr(JobRecords, name, broken)
        monkeypatch.setattr(RunRecords, "running", broken)
        work.prepare()
        work.tick()
        work.stop()
    assert planned() == "1"


def broken(*_: object, **__: object) -> None:
    from monitoring.store import StoreError

    raise StoreError("the store is away")


def test_a_store_that_is_away_does_not_keep_the_scheduler_from_following(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scheduler(clock) as work, deployment_in_force() as deployment:
        deployment.registry.set_champion("2")
        monkeypatch.setattr(Store, "reading", broken)
        monkeypatch.setattr(Store, "writing", broken)
        work._guarded("sync", work.follow)
        assert planned() == "2"


def test_an_outage_of_mlflow_is_over_when_it_answers_with_a_champion_that_cannot_be_served(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with scheduler(clock) as work:
        work.troubles.tolerated, work.patience.seconds = 0.0, lambda: 1e12
        with monkeypatch.context() as away:
            away.setattr(Registry, "champion", mlflow_away)
            with pytest.raises(RegistryError):
                work.follow()
        assert "the registry is not followed" in incidents()[0].cause
        monkeypatch.setattr(Registry, "champion", lambda _: "3")
        work.patience.seconds = lambda: 2e12
        with pytest.raises(DeploymentError, match="there is no version 3"):
            work.follow()
        (told,) = incidents()
        assert "the champion is not put in service" in told.cause


def mlflow_away(_: Registry) -> None:
    raise RegistryError("MLflow is away")


# The logs.


def test_logs_are_read_every_few_seconds_and_by_the_next_scheduler_from_there(state: Path, clock: Clock) -> None:
    for seed, rows in ((1, 30), (2, 12)):
        log_rows(state, clock, rows, seed)
        with scheduler(clock) as work:
            work.prepare()
            before = 35 if seed == 2 else 0
            assert count_of(work.store, "predictions") == rows + before
            log_rows(state, clock, 5, seed + 10)
            work.timetable._scheduler.run_all()
            assert count_of(work.store, "predictions") == rows + before + 5


def test_logs_that_cannot_be_read_are_told_when_it_lasts_and_stop_no_other_job(state: Path, clock: Clock) -> None:
    log_rows(state, clock, 3)
    (state / "source_id").write_text("no uuid")
    with scheduler(clock) as work:
        work.prepare()
        assert work.done == ["drift", "performance", "serving"]
        assert incidents() == []
        work.logs.patience.seconds = work.troubles.seconds = lambda: 1e12
        work._guarded("logs", work.read_logs)
        (told,) = incidents()
        assert "the logs are not read: " in told.cause and "is no UUID" in told.cause
        (state / "source_id").unlink()
        work.logs.patience.seconds = lambda: 2e12
        work.read_logs()
        assert incidents() == []
        assert count_of(work.store, "predictions") == 3


def test_what_the_scheduler_read_is_what_monitor_finds_drift_in(sample: TrainedState, tmp_path: Path) -> None:
    home, now = copy_of(sample, tmp_path), datetime.now(UTC)
    with in_force(home):
        serve(home, sample, drifted_rows(sample), now - timedelta(minutes=1))
        settings = load_settings()
        with Store(settings.store_address) as store:
            work = Scheduler(settings, store, lambda: datetime.now(UTC))
            work.read_logs()
            found = work.monitor()
        assert found.drift is not None and found.drift.overall_drift
        answer = json_of("monitor")
    assert (answer["rows"], answer["ingestion"]["rows"]) == (2000, 0)
    assert set(answer["drift"]["drifted_features"]) == {"monthly_charge", "support_calls", "region"}
    assert {incident["kind"] for incident in answer["incidents"]} >= {"data_drift", "prediction_drift"}


def log_rows(home: Path, clock: Clock, rows: int, seed: int = 1) -> None:
    log = PredictionLog(home / "logs")
    log.append(prediction_lines(rows, seed, clock() - timedelta(seconds=1)))
    log.close()


# The registry.


def test_the_scheduler_follows_a_moved_alias(state: Path, clock: Clock) -> None:
    with scheduler(clock) as work, deployment_in_force() as deployment:
        work.prepare()
        deployment.registry.set_champion("2")
        work.follow()
        assert deployment.history.latest(1)[0].kind == "follow"
    assert planned() == "2"


def test_a_champion_that_cannot_be_served_is_an_incident_until_it_is_mended(state: Path, clock: Clock) -> None:
    with scheduler(clock) as work, deployment_in_force() as deployment:
        client = deployment.registry.connection.client
        client.create_model_version(deployment.registry.registered_name, source="/nowhere")
        deployment.registry.set_champion("3")
        for _ in range(3):
            work.prepare()
        assert planned() == "1"
        (told,) = incidents()
        assert "version 3 has no bundle" in told.cause
        assert told.count == 1  # it is looked at every few seconds, and told when it begins
        deployment.registry.set_champion("2")
        work.follow()
        assert incidents() == []
    assert planned() == "2"


def test_an_mlflow_that_is_down_stops_no_job_and_is_told_when_it_lasts(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Registry) -> str:
        raise RegistryError("MLflow cannot be reached")

    with scheduler(clock) as work:
        monkeypatch.setattr(Registry, "champion", away)
        work.prepare()
        assert work.done == ["drift", "performance", "serving"]
        assert incidents() == []
        work.patience.seconds = work.troubles.seconds = lambda: 1e12
        work._guarded("sync", work.follow)
        assert ["MLflow cannot be reached" in one.cause for one in incidents()] == [True]
        monkeypatch.undo()
    with in_force(state), scheduler(clock) as work:
        work.follow()
        assert incidents() == []


def test_a_hanging_mlflow_is_given_up_soon(state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("models.mlflow_connection.CONNECT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setenv("MLOPS_MLFLOW_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with scheduler(clock) as work:
            began = time.monotonic()
            work.prepare()
            assert time.monotonic() - began < 5
            assert work.done == ["drift", "performance", "serving"]


# The process.


def test_a_second_scheduler_is_refused_and_told_who_is_at_work(state: Path) -> None:
    with state_lock("scheduler", "main.py"), pytest.raises(StateLockedError, match=r"`main.py` \(process \d+\)"):
        run_scheduler()


def test_nothing_is_in_the_plan_that_the_scheduler_did_not_verify(state: Path, clock: Clock) -> None:
    (registry_directory() / "serving.json").unlink()
    with scheduler(clock) as work:
        work.prepare()
    assert planned() == "1"
