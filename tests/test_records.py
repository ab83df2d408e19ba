"""What the records of runs, promotions, jobs, archives and drift checks promise; on SQLite and on PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from monitoring.data_files import DataFiles
from monitoring.drift_checks import DriftChecks
from monitoring.job_records import JobRecords
from monitoring.promotion_history import Promotion, PromotionHistory, PromotionKind
from monitoring.run_records import RunRecords
from monitoring.store import Store

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def later(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


# Runs


def test_a_run_goes_from_running_to_its_end(store: Store) -> None:
    runs = RunRecords(store)
    runs.start("r1", "manual", NOON, pid=7, host="here")
    runs.note("r1", rows=100, data_source="a.csv")
    assert runs.finish("r1", "succeeded", later(5), decision={"decision": "promote"}, model_version="3")
    run = runs.get("r1")
    assert run is not None
    assert (run.status, run.rows, run.data_source, run.model_version) == ("succeeded", 100, "a.csv", "3")
    assert (run.decision, run.finished_at) == ({"decision": "promote"}, later(5))


def test_the_first_end_of_a_run_stands(store: Store) -> None:
    runs = RunRecords(store)
    runs.start("r1", "manual", NOON, pid=7, host="here")
    assert runs.finish("r1", "interrupted", later(1))
    assert not runs.finish("r1", "succeeded", later(2))
    assert runs.latest()[0].status == "interrupted"


def test_two_runs_cannot_share_an_id(store: Store) -> None:
    RunRecords(store).start("r1", "manual", NOON, pid=7, host="here")
    with pytest.raises(IntegrityError):
        RunRecords(store).start("r1", "manual", NOON, pid=8, host="here")


def test_steps_keep_their_order_and_end_with_their_run(store: Store) -> None:
    runs = RunRecords(store)
    runs.start("r1", "first", NOON, pid=7, host="here")
    for minute, name in enumerate(["ingest", "train", "gate"]):
        runs.start_step("r1", name, later(minute))
    runs.finish_step("r1", "ingest", "succeeded", later(1), {"rows": 10})
    runs.finish("r1", "failed", later(9), error="no memory")
    found = [(step.name, step.status, step.detail) for step in runs.steps("r1")]
    assert found == [("ingest", "succeeded", {"rows": 10}), ("train", "failed", None), ("gate", "failed", None)]


def test_a_step_started_again_starts_over_in_its_place(store: Store) -> None:
    runs = RunRecords(store)
    runs.start("r1", "first", NOON, pid=7, host="here")
    runs.start_step("r1", "a", NOON)
    runs.finish_step("r1", "a", "failed", later(1))
    runs.start_step("r1", "b", later(1))
    runs.start_step("r1", "a", later(2))
    assert [(step.name, step.status, step.finished_at) for step in runs.steps("r1")] == [
        ("a", "running", None),
        ("b", "running", None),
    ]


def test_runs_whose_process_is_gone_become_interrupted(store: Store) -> None:
    runs = RunRecords(store)
    for pid in (1, 2):
        runs.start(f"r{pid}", "schedule", later(pid), pid=pid, host="here")
        runs.start_step(f"r{pid}", "train", later(pid))
    assert [run.run_id for run in runs.interrupt_orphans(lambda run: run.pid == 1, later(9))] == ["r2"]
    assert [(run.run_id, run.status) for run in runs.latest()] == [("r2", "interrupted"), ("r1", "running")]
    assert [step.status for step in runs.steps("r2")] == ["interrupted"]


# Promotions


def promoted(history: PromotionHistory, before: str | None, after: str, kind: PromotionKind, at: datetime) -> Promotion:
    entry = history.intend(before, after, kind, at, who="tests", why="to see", evidence={"gain": 0.01})
    history.mark_done(entry.id, at)
    return entry


def test_what_served_at_a_time_is_one_question(store: Store) -> None:
    history = PromotionHistory(store)
    promoted(history, None, "1", "first", later(0))
    promoted(history, "1", "2", "promote", later(10))
    history.intend("2", "3", "promote", later(15), who="tests", why="killed before the alias moved")
    promoted(history, "2", "1", "rollback", later(20))
    assert [history.serving_at(later(minute)) for minute in (-1, 0, 9, 10, 16, 99)] == [None, "1", "1", "2", "2", "1"]


def test_an_intent_stays_pending_until_it_is_done_or_abandoned(store: Store) -> None:
    history = PromotionHistory(store)
    first, second, third = (history.intend(None, str(n), "promote", NOON, who="w", why="y") for n in range(3))
    history.mark_done(first.id, later(1))
    history.abandon(second.id)
    assert history.pending() == [third]
    assert [entry.status for entry in history.latest()] == ["intended", "abandoned", "done"]


def test_what_is_done_cannot_be_abandoned(store: Store) -> None:
    history = PromotionHistory(store)
    entry = promoted(history, None, "1", "first", NOON)
    history.abandon(entry.id)
    assert history.serving_at(NOON) == "1"


def test_each_rollback_goes_one_version_further_back(store: Store) -> None:
    history = PromotionHistory(store)
    assert history.rollback_target("1") is None
    for before, after in ((None, "1"), ("1", "2"), ("2", "3")):
        promoted(history, before, after, "promote", NOON)
    assert history.rollback_target("3") == "2"
    promoted(history, "3", "2", "rollback", NOON)
    assert history.rollback_target("2") == "1"
    promoted(history, "2", "1", "rollback", NOON)
    assert history.rollback_target("1") is None


def test_a_rollback_after_a_move_that_nobody_recorded_returns_to_what_was_recorded(store: Store) -> None:
    history = PromotionHistory(store)
    promoted(history, None, "1", "first", NOON)
    assert history.rollback_target("7") == "1"


# Jobs, archives, drift checks


def test_a_job_keeps_what_is_not_told_anew(store: Store) -> None:
    jobs = JobRecords(store)
    jobs.schedule("monitor", later(60))
    jobs.started("monitor", later(60))
    jobs.finished("monitor", "failed", later(61), later(120))
    jobs.started("monitor", later(120))
    job = jobs.get("monitor")
    assert job is not None
    assert (job.last_status, job.last_started_at, job.last_finished_at) == ("running", later(120), later(61))
    assert job.next_due_at == later(120)
    assert jobs.get("retrain") is None


def test_archives_are_listed_in_the_order_of_their_coming(store: Store) -> None:
    files = DataFiles(store)
    files.add("b.csv", "bb", 2, later(1), run_id="r1")
    files.add("a.csv", "aa", 1, later(2))
    files.add("b.csv", "bb", 3, later(1))  # the same run, repeated
    assert [(file.path, file.rows) for file in files.all()] == [("b.csv", 3), ("a.csv", 1)]


def test_a_file_that_was_delivered_before_is_recognised_by_its_content(store: Store) -> None:
    files = DataFiles(store)
    first = files.add("a.csv", "aa", 1, NOON)
    files.add("a-2.csv", "aa", 1, later(1))
    assert files.with_content("aa") == first
    assert files.with_content("bb") is None


def test_drift_checks_are_kept_by_model_version(store: Store) -> None:
    checks = DriftChecks(store)
    checks.add("1", NOON, 100, {"drift_score": 0.1}, window_from=later(-60), window_to=NOON)
    checks.add("2", later(1), 50, {})
    assert [check.rows for check in checks.latest("1", limit=5)] == [100]
    assert [check.model_version for check in checks.latest(limit=5)] == ["2", "1"]
