"""Training by the scheduler: when there is reason to, in a child that may die."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import load_settings
from config.state_lock import state_lock
from monitoring.job_records import JobRecords
from monitoring.store import Store
from pipeline import scheduler as scheduler_module
from tests.states import new_state, state, tiny_configuration
from tests.trained import TrainedState, copy_of, in_force
from tests.watched_scheduler import Clock, clock, incidents, jobs, scheduler

__all__ = ["clock", "state"]


@pytest.fixture
def empty(tmp_path: Path, mlflow_template: Path) -> Iterator[Path]:
    """A state root with a table, where nothing was run yet."""
    with in_force(new_state(tmp_path / "empty", mlflow_template)):
        yield tmp_path / "empty"


def test_the_first_run_is_made_when_there_is_data_and_nothing_registered(empty: Path, clock: Clock) -> None:
    with scheduler(clock) as work:
        work.prepare()
        assert work.done == ["drift", "performance", "serving", "run"]


def test_no_first_run_is_made_without_data_until_it_appears(empty: Path, clock: Clock) -> None:
    table = (empty / "table.csv").rename(empty / "elsewhere.csv")
    with scheduler(clock) as work:
        work.prepare()
        assert "run" not in work.done
        table.rename(empty / "table.csv")
        work.look()
        assert work.done[-1] == "run"


def test_a_first_run_that_fails_is_tried_again_only_with_other_data(empty: Path, clock: Clock) -> None:
    with scheduler(clock, "import sys; sys.exit(2)") as work:
        work.prepare()
        work.finish_child()
        work.look()
        assert work.done.count("run") == 1
        assert "exit code 2" in incidents()[0].cause
        (empty / "table.csv").write_text("size,target\n1,2\n")
        work.look()
        assert work.done.count("run") == 2


def test_the_model_of_the_sample_gives_way_to_one_of_a_table_of_ones_own(sample: object, tmp_path: Path) -> None:
    assert isinstance(sample, TrainedState)
    clock, home = Clock(), copy_of(sample, tmp_path)
    with in_force(home), scheduler(clock) as work:
        work.prepare()
        assert "run" not in work.done
    tiny_configuration(home)
    new_table(home)
    with in_force(home), scheduler(clock) as work:
        work.prepare()
        assert work.done == ["run"]


def new_table(home: Path) -> None:
    from tests.tables import small_table

    small_table(300).to_csv(home / "table.csv", index=False)


def test_a_child_that_is_killed_is_a_failed_run_and_an_incident(state: Path, clock: Clock) -> None:
    with scheduler(clock, "import os; os.kill(os.getpid(), 9)") as work:
        work.train("retrain")
        work.finish_child()
        assert jobs()["retrain"].last_status == "failed"
        assert "killed by signal 9" in incidents()[0].cause
        work.script = "pass"
        work.train("retrain")
        work.finish_child()
        assert incidents() == []


def test_a_training_waits_for_the_one_at_work(state: Path, clock: Clock) -> None:
    with scheduler(clock) as work:
        work.prepare()
        clock.go_on(days=7)
        with state_lock("pipeline", "main.py run"):
            work.look()
            assert "retrain" not in work.done
        work.look()
        assert work.done[-1] == "retrain"


def test_a_retraining_that_no_schedule_asks_for_is_never_late(
    state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLOPS_RETRAINING__TRIGGERS", '["drift"]')
    with scheduler(clock) as work:
        work.train("retrain")
        work.finish_child()
        clock.go_on(days=30)
        work.watches.begin(clock())
    assert jobs()["retrain"].next_due_at is None
    assert incidents() == []


def test_a_retraining_interrupted_by_the_end_of_the_scheduler_is_done_again(state: Path, clock: Clock) -> None:
    with scheduler(clock, "import time; time.sleep(60)") as work:
        work.train("retrain")
    assert jobs()["retrain"].last_status == "interrupted"
    with scheduler(clock) as work:
        work.prepare()
        assert work.done[-1] == "retrain"


def test_a_retraining_that_took_the_scheduler_with_it_is_not_done_again_at_once(state: Path, clock: Clock) -> None:
    with Store(load_settings().store_address) as store:
        JobRecords(store).started("retrain", clock())
    with scheduler(clock) as work:
        work.prepare()
        assert "retrain" not in work.done
    assert jobs()["retrain"].last_status == "failed"


def test_a_child_that_ignores_the_signal_is_killed(state: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_module, "CHILD_STOP_SECONDS", 0.2)
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(60)"
    with scheduler(clock, stubborn) as work:
        work.train("run")
        child = work.child
        assert child is not None
        work.stop()
        assert child.returncode in (-signal.SIGKILL, -signal.SIGTERM)
