"""`status`: from the plan, the locks and the store alone, whatever else is down."""

from __future__ import annotations

import os
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commands import status
from config.settings import load_settings
from config.state_lock import state_lock
from monitoring.incidents import Finding, Incidents
from monitoring.job_records import JobRecords
from monitoring.prediction_log import PredictionLine, PredictionLog
from monitoring.run_records import RunRecords
from monitoring.store import Store
from tests.command_line import json_of, run_command
from tests.logged import prediction_lines
from tests.states import state
from tests.trained import in_force

__all__ = ["state"]


def test_it_says_what_is_in_service_and_what_ran_last(state: Path) -> None:
    answer = json_of("status")
    assert answer["in_service"]["model_version"] == "1"
    assert answer["in_service"]["algorithm"] == "logistic_regression"
    assert (answer["last_run"]["status"], answer["last_run"]["model_version"]) == ("succeeded", "2")
    assert (answer["scheduler"], answer["pipeline"], answer["store_problem"]) == (None, None, None)
    text = run_command("status").stdout
    assert "version 1 of production_model: logistic_regression, made 20" in text
    assert "not running; python main.py starts it" in text


def test_it_says_who_is_at_work(state: Path) -> None:
    with state_lock("scheduler", "main.py"), state_lock("pipeline", "main.py run"):
        answer = json_of("status")
    assert answer["scheduler"].startswith("`main.py` (process ")
    assert answer["pipeline"].startswith("`main.py run` (process ")


def test_a_run_whose_process_is_gone_is_not_called_running(state: Path) -> None:
    with Store(load_settings().store_address) as store, state_lock("pipeline", "main.py run"):
        RunRecords(store).start("killed", "manual", datetime.now(UTC), pid=1, host=socket.gethostname())
        assert json_of("status")["last_run"]["status"] == "running"
    assert json_of("status")["last_run"]["status"] == "interrupted"
    assert "the next run repairs what it left" in run_command("status").stdout


def test_it_shows_jobs_and_incidents_with_the_next_command(state: Path) -> None:
    now = datetime(2026, 7, 15, 12, tzinfo=UTC)
    with Store(load_settings().store_address) as store:
        JobRecords(store).started("drift", now)
        JobRecords(store).finished("drift", "succeeded", now, now)
        Incidents(store).report(
            Finding(kind="pipeline", severity="high", cause="the retraining failed", next="look"), now
        )
    text = run_command("status").stdout
    assert "job drift" in text
    assert "high pipeline (open): the retraining failed" in text
    assert "next: look" in text
    assert [incident["cause"] for incident in json_of("status")["incidents"]] == ["the retraining failed"]


def test_it_asks_neither_mlflow_nor_the_server(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_MLFLOW_URI", "http://127.0.0.1:1")
    assert json_of("status")["in_service"]["model_version"] == "1"


def test_a_store_that_is_down_is_told_beside_the_rest(state: Path) -> None:
    (state / "mlops.db").write_bytes(b"no database" * 500)
    answer = json_of("status")
    assert "mlops.db" in answer["store_problem"]
    assert answer["in_service"]["model_version"] == "1"


def test_an_empty_state_root_is_no_error_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    with in_force(tmp_path / "nothing"):
        answer = json_of("status")
        assert answer["in_service"] is None
        assert "next: python main.py run" in run_command("status").stdout
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("name", ["serving.json", "1/manifest.json"])
def test_what_cannot_be_read_is_said_with_the_mend(state: Path, name: str) -> None:
    (state / "models/registry" / name).write_text("{")
    problem = json_of("status")["in_service"]["problem"]
    assert Path(name).name in problem
    assert "python main.py sync" in problem
    assert run_command("sync").exit_code == 0
    assert json_of("status")["in_service"]["problem"] is None


# The logs


def test_it_says_what_waits_to_be_read_since_when_and_when_was_read_last(state: Path) -> None:
    logged = datetime.now(UTC) - timedelta(hours=3)
    assert run_command("status").stdout.split("\nlogs")[1].split() == ["none"]
    log(state, prediction_lines(4, moment=logged))
    lag = json_of("status")["log"]
    assert (lag["unread_bytes"], lag["unread_files"]) == (sum(log_sizes(state)), 1)
    assert lag["oldest_unread_seconds"] == pytest.approx(3 * 3600, abs=60)
    assert "never read" in run_command("status").stdout
    json_of("monitor")
    lag = json_of("status")["log"]
    assert (lag["unread_bytes"], lag["oldest_unread_at"]) == (0, None)
    assert datetime.fromisoformat(lag["last_read_at"]) > logged
    log(state, prediction_lines(2, seed=2, moment=logged + timedelta(hours=1)))
    assert json_of("status")["log"]["oldest_unread_seconds"] == pytest.approx(2 * 3600, abs=60)


def test_predictions_that_go_on_while_the_store_is_read_are_the_last_ones(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    log(state, prediction_lines(1, moment=yesterday))
    os.utime(next((state / "logs").glob("predictions_*.jsonl")), (yesterday.timestamp(),) * 2)
    read = status._recorded

    def meanwhile(address: str, now: datetime) -> status._Recorded:
        log(state, prediction_lines(1, moment=datetime.now(UTC)))
        return read(address, now)

    monkeypatch.setattr(status, "_recorded", meanwhile)
    told = status.current_status()
    assert told.last_prediction_at is not None and told.last_prediction_at > yesterday + timedelta(hours=23)


def test_a_file_that_retention_deletes_meanwhile_is_passed_over(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log(state, prediction_lines(1, moment=datetime.now(UTC)))
    folder = type("Listed", (), {"glob": lambda _, pattern: [*(state / "logs").glob(pattern), state / "deleted"]})
    monkeypatch.setattr(status, "logs_directory", folder)
    assert status._last_prediction() is not None


def test_a_line_that_is_being_written_does_not_wait(state: Path) -> None:
    log(state, prediction_lines(1, moment=datetime.now(UTC)))
    json_of("monitor")
    with next((state / "logs").glob("*.jsonl")).open("ab") as stream:
        stream.write(b'\n{"prediction_id": "01')
    assert json_of("status")["log"]["unread_files"] == 0


def test_it_answers_in_under_a_second_beside_years_of_unread_files(state: Path) -> None:
    (state / "logs").mkdir()
    for day in range(3_000):
        moment = datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=day)
        (state / "logs" / f"predictions_{moment:%Y%m%d}.jsonl").write_bytes(b"\n{}\n")
    began = time.process_time()
    assert json_of("status")["log"]["unread_files"] == 3_000
    assert time.process_time() - began < 1.0


def log(home: Path, lines: list[PredictionLine]) -> None:
    writer = PredictionLog(home / "logs")
    writer.append(lines)
    writer.close()


def log_sizes(home: Path) -> list[int]:
    return [path.stat().st_size for path in (home / "logs").glob("*.jsonl")]
