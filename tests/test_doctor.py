"""`doctor`: whatever is wrong is a line with the next command; it exits 1 only for what keeps it from working."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from commands.doctor import Finding, diagnose
from config.settings import registry_directory
from models.bundle import read_bundle
from monitoring.prediction_log import PredictionLog
from tests.command_line import run_command
from tests.logged import prediction_lines
from tests.states import deployment_in_force, state
from tests.trained import in_force

__all__ = ["state"]


def finding(subject: str) -> Finding:
    return next(one for one in reversed(diagnose()) if one.subject == subject)


def test_a_good_state_has_no_errors_and_a_next_step_for_each_warning(state: Path) -> None:
    findings = diagnose()
    assert [one for one in findings if one.level == "error"] == []
    assert all(one.next for one in findings if one.level == "warn")
    assert finding("serving plan").message == "version 1 is whole and answers its stored rows"
    assert run_command("doctor").exit_code == 0


def test_an_empty_state_root_is_no_error_and_mlflow_is_not_made_there(tmp_path: Path) -> None:
    tmp_path.joinpath("home").mkdir()
    with in_force(tmp_path / "home"):
        assert [one for one in diagnose() if one.level == "error"] == []
        assert "generate_sample_data.py" in finding("data").next
    assert not (tmp_path / "home" / "mlflow.db").exists()


def test_a_state_root_that_is_not_made_yet_is_no_error(tmp_path: Path) -> None:
    with in_force(tmp_path / "new" / "home"):
        assert (finding("state root").level, run_command("doctor").exit_code) == ("ok", 0)


def test_a_wrong_configuration_is_an_error_that_names_the_key(state: Path) -> None:
    (state / "pipeline_config.yaml").write_text("nonsense: 1\n")
    assert "$.nonsense: unknown key" in finding("configuration").message
    assert run_command("doctor").exit_code == 1


def test_a_home_that_cannot_be_written_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_HOME", "/proc/nowhere")
    assert (finding("state root").level, finding("store").level) == ("error", "error")


def test_an_altered_bundle_in_service_is_an_error_that_sync_mends(state: Path) -> None:
    (state / "models/registry/1/model.onnx").write_bytes(b"altered")
    told = finding("serving plan")
    assert (told.level, told.next) == ("error", "python main.py sync")
    assert run_command("doctor").exit_code == 1
    assert run_command("sync").exit_code == 0
    assert finding("serving plan").level == "ok"


def test_a_host_that_lags_behind_the_registry_is_told(state: Path) -> None:
    with deployment_in_force() as deployment:
        deployment.registry.set_champion("2")
    messages = [one.message for one in diagnose()]
    assert "the champion is version 2, this host serves 1" in messages


def test_an_mlflow_that_refuses_is_an_error_that_names_it(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_MLFLOW_URI", "http://user:secret@127.0.0.1:1")
    told = finding("mlflow")
    assert told.level == "error"
    assert "secret" not in told.message


def test_a_port_in_use_by_something_else_is_told(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        monkeypatch.setenv("MLOPS_DEPLOYMENT__MODEL_SERVE_PORT", str(listener.getsockname()[1]))
        monkeypatch.setattr("commands.doctor.SERVER_SECONDS", 0.2)
        told = finding("server")
    assert "is in use by something else" in told.message
    assert "MLOPS_DEPLOYMENT__MODEL_SERVE_PORT" in told.next


def test_a_server_that_is_not_there_is_a_warning_with_the_command(state: Path) -> None:
    assert finding("server").next == "python main.py serve"


def test_logs_that_nobody_reads_are_a_warning_until_they_are_read(state: Path) -> None:
    log = PredictionLog(state / "logs")
    log.append(prediction_lines(3, moment=datetime.now(UTC) - timedelta(minutes=30)))
    log.close()
    told = finding("logs")
    assert (told.level, "30 min" in told.message, "python main.py monitor" in told.next) == ("warn", True, True)
    assert run_command("monitor").exit_code == 0
    assert (finding("logs").level, finding("logs").message) == ("ok", "read into the store")


def test_features_that_the_log_withholds_are_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "log fields" not in {one.subject for one in diagnose()}
    names = read_bundle(registry_directory() / "1").schema.feature_names
    monkeypatch.setenv("MLOPS_LOGGING__FIELDS", json.dumps({names[0]: "hash", names[1]: "keep", "remark": "drop"}))
    told = finding("log fields")
    assert told.level == "warn"
    assert told.message.endswith(f": {names[0]}")
