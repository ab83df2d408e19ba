"""The connection to MLflow: quiet, bounded in time, and its errors are sentences that show no password."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.home import PROJECT_ROOT
from models.mlflow_connection import MlflowConnection, RegistryError, set_environment
from models.mlflow_errors import without_passwords
from models.mlflow_registry import Registry
from models.mlflow_runs import RunLog
from tests.local_mlflow import FakeServer, connection, failing_server

__all__ = ["connection"]


@pytest.fixture
def fake_server(connection: MlflowConnection) -> Iterator[str]:
    import mlflow

    with failing_server() as port:
        yield f"http://127.0.0.1:{port}"
    mlflow.set_tracking_uri(connection.address)
    mlflow.set_registry_uri(connection.address)


def test_fault_09_the_address_is_set_before_a_client_is_made(connection: MlflowConnection) -> None:
    """The sketch made its client first, so that it spoke to another store than the one configured."""
    import mlflow

    mlflow.set_tracking_uri("http://127.0.0.1:9")
    assert MlflowConnection(connection.address).client.tracking_uri == connection.address
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == (connection.address, connection.address)
    assert mlflow.MlflowClient().tracking_uri == connection.address


def test_mlflow_is_quiet_and_leaves_the_programs_logging_alone(tmp_path: Path) -> None:
    code = (
        "import logging, sys; from pathlib import Path\n"
        "logging.basicConfig(level=logging.INFO); handlers = logging.getLogger().handlers[:]\n"
        "from models.mlflow_connection import MlflowConnection; from models.mlflow_runs import RunLog\n"
        "from models.mlflow_registry import Registry\n"
        "connection = MlflowConnection('sqlite:///' + sys.argv[1] + '/mlflow.db')\n"
        "runs = RunLog(connection, 'e', Path(sys.argv[1])); run = runs.start('r')\n"
        "Path(sys.argv[1], 'b').mkdir(); Path(sys.argv[1], 'b', 'f').write_text('x')\n"
        "runs.log_bundle(run, Path(sys.argv[1], 'b')); registry = Registry(connection, 'm')\n"
        "version = registry.create_version(run, run_id='r', manifest_sha256='a', algorithm='x', metrics={})\n"
        "registry.set_champion(version); registry.download_bundle(version, Path(sys.argv[1], 'c'))\n"
        "assert logging.getLogger().handlers == handlers, logging.getLogger().handlers"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment | {"PYTHONPATH": str(PROJECT_ROOT)}, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_registry_does_not_import_mlflow() -> None:
    code = "import sys, models.mlflow_registry, models.mlflow_runs; print({'mlflow', 'pandas'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_the_users_own_timeouts_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    set_environment()
    assert (os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], os.environ["MLFLOW_DISABLE_TELEMETRY"]) == ("77", "true")


def test_a_server_that_fails_is_reported_at_once(fake_server: str) -> None:
    started = time.monotonic()
    with pytest.raises(RegistryError, match="could not tell which version is the champion"):
        Registry(fake_server, "m").champion()
    assert time.monotonic() - started < 5


def test_nothing_is_printed_when_a_run_ends_on_a_server(fake_server: str, capfd: pytest.CaptureFixture[str]) -> None:
    RunLog(MlflowConnection(fake_server), "e").finish("a")
    assert capfd.readouterr() == ("", "")


def test_a_server_that_takes_connections_and_hangs_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.mlflow_connection.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(RegistryError, match="no answer in time"):
            Registry(address, "m").champion()


def test_a_server_that_hangs_later_is_given_up_soon(fake_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(FakeServer, "do_GET", lambda _: threading.Event().wait(1.5))
    monkeypatch.setattr("models.mlflow_connection._check_server", lambda _: None)
    with pytest.raises(RegistryError, match="no answer in time"):
        Registry(fake_server, "m").champion()


@pytest.mark.parametrize(
    "address",
    ["http://user:secret@127.0.0.1:9", "postgresql://user:secret@127.0.0.1:9/mlflow", "sqlite:////proc/no/m.db"],
)
def test_an_address_where_nothing_is_says_so_at_once_and_shows_no_password(address: str) -> None:
    started = time.monotonic()
    with pytest.raises(RegistryError, match="cannot be reached") as caught:
        Registry(address, "m").champion()
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 2


def test_an_address_without_a_password_is_shown_as_it_is() -> None:
    assert without_passwords("http://user@host:1/a") == "http://user@host:1/a"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RegistryError, match="not a database"):
        Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", "m").champion()


def test_errors_of_our_own_are_not_blamed_on_mlflow(connection: MlflowConnection) -> None:
    with pytest.raises(ZeroDivisionError), connection.errors_explained("divide"):
        _ = 1 / 0


def test_waiting_for_a_hanging_server_takes_ten_seconds_at_most() -> None:
    from models.mlflow_connection import ENVIRONMENT

    tries = 1 + int(ENVIRONMENT["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    assert tries * int(ENVIRONMENT["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 10
    assert logging.getLogger("mlflow").level in (logging.NOTSET, logging.WARNING)
