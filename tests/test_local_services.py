"""`start` and `serve`: every process of one machine begins, is watched, and ends together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from commands import local_services
from commands.first_model import PATIENCE, FirstModel
from commands.local_services import Service, ServiceError
from config.home import PROJECT_ROOT
from config.settings import load_settings
from config.state_lock import state_lock
from monitoring.run_records import RunRecords
from monitoring.store import Store
from tests.command_line import failure
from tests.states import copy_of_tiny, environment_of, new_state, state
from tests.test_kill import read_until, wait_for
from tests.trained import in_force

__all__ = ["state"]


def free_ports(count: int) -> list[int]:
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(listener.getsockname()[1]) for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2) as reply:
        return bool(reply.status == 200)
    return False


def processes_of(home: Path) -> dict[int, str]:
    """Every living process that works on a state root, with its command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"MLOPS_HOME={home}\0".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


@pytest.mark.integration
def test_start_runs_everything_revives_what_dies_and_leaves_nothing_behind(tiny: Path, tmp_path: Path) -> None:
    """In a path with a space in it."""
    home, (port, mlflow) = copy_of_tiny(tiny, tmp_path / "state root"), free_ports(2)
    ports = {"MLOPS_DEPLOYMENT__MODEL_SERVE_PORT": str(port), "MLOPS_DEPLOYMENT__MLFLOW_PORT": str(mlflow)}
    start = subprocess.Popen(
        [sys.executable, str(PROJECT_ROOT / "main.py"), "start"],
        env=environment_of(home, MLOPS_DEPLOYMENT__WORKERS="1", **ports),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed = read_until(start, "Ctrl-C ends all.")
        assert f"http://127.0.0.1:{port}/predict" in printed
        assert f"http://127.0.0.1:{mlflow}" in printed
        assert answers(f"http://127.0.0.1:{port}/ready")
        assert answers(f"http://127.0.0.1:{mlflow}/health")
        (server,) = (pid for pid, command in processes_of(home).items() if "gunicorn" in command and leads(pid))
        os.kill(server, signal.SIGKILL)
        read_until(start, "the server has ended and is started again")
        wait_for(lambda: answers(f"http://127.0.0.1:{port}/ready"))
        start.send_signal(signal.SIGINT)
        told, _ = start.communicate(timeout=30)
        assert start.returncode == 0
        assert "Traceback" not in told
        assert processes_of(home) == {}
    finally:
        for pid in processes_of(home):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        start.communicate()


def leads(pid: int) -> bool:
    return os.getsid(pid) == pid


@pytest.mark.parametrize("command", ["start", "serve"])
def test_a_port_in_use_is_a_sentence_with_the_setting(state: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.MonkeyPatch.context() as patch:
        port = listener.getsockname()[1]
        patch.setenv("MLOPS_DEPLOYMENT__MODEL_SERVE_PORT", str(port))
        sentence = failure(command)
    assert f"the server cannot use port {port} of 127.0.0.1" in sentence
    assert "MLOPS_DEPLOYMENT__MODEL_SERVE_PORT" in sentence


def test_the_port_of_the_mlflow_ui_is_looked_at_before_anything_starts(state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_DEPLOYMENT__MLFLOW_PORT", str(listener.getsockname()[1]))
        patch.setenv("MLOPS_DEPLOYMENT__MODEL_SERVE_PORT", str(free_ports(1)[0]))
        assert "MLOPS_DEPLOYMENT__MLFLOW_PORT" in failure("start")
        patch.setenv("MLOPS_DEPLOYMENT__MLFLOW_PORT", os.environ["MLOPS_DEPLOYMENT__MODEL_SERVE_PORT"])
        assert "cannot share port" in failure("start")


def service(code: str) -> Service:
    return Service("server", [sys.executable, "-S", "-c", code])


def test_a_service_that_keeps_dying_is_given_up_with_its_last_words(home: Path) -> None:
    dying = service("import sys; sys.exit('no such model')")
    dying.launch()
    with pytest.raises(ServiceError, match=r"(?s)the server keeps ending.*no such model"):
        for moment in range(100):
            assert dying.process is not None
            dying.process.wait(10)
            dying.watch(float(moment))


def test_a_service_that_dies_now_and_then_is_started_again_each_time(home: Path) -> None:
    dying = service("")
    dying.launch()
    for moment in range(10):
        assert dying.process is not None
        dying.process.wait(10)
        dying.watch(moment * 3600.0)


def test_what_a_service_prints_is_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_services, "MAXIMUM_LOG_BYTES", 1000)
    chatty = service("while True: print('x' * 99, flush=True)")
    chatty.launch()
    try:
        for _ in range(20):
            wait_for(lambda: chatty.log.stat().st_size > 1000)
            chatty.watch(0.0)
        assert {path.name for path in chatty.log.parent.iterdir()} == {"server.out", "server.out.1"}
    finally:
        chatty.signal(signal.SIGKILL)
        assert chatty.process is not None
        chatty.process.wait()


def test_what_ignores_the_signal_is_killed_with_all_that_it_started(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local_services, "STOP_SECONDS", 0.3)
    code = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); os.fork(); print('up', flush=True); time.sleep(60)"
    )
    stubborn = service(code)
    stubborn.launch()
    wait_for(lambda: stubborn.log.read_text().count("up") == 2)
    local_services._stop([stubborn])
    assert "did not end in time" in capsys.readouterr().err
    wait_for(lambda: not group_lives(stubborn), 5)


def group_lives(service: Service) -> bool:
    assert service.process is not None
    states = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            states += [fields[0]] if int(fields[2]) == service.process.pid else []
    return any(letter != "Z" for letter in states)


# What `start` waits for.


def first_model() -> FirstModel:
    return FirstModel(load_settings(), datetime.now(UTC))


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commands.first_model.readiness_problem", lambda _: None)


@pytest.fixture
def not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commands.first_model.readiness_problem", lambda _: "it answers 503")


def test_a_model_in_service_is_not_waited_for(state: Path, ready: None) -> None:
    assert first_model().is_settled()
    assert first_model().problem() is None


def test_a_server_that_has_not_loaded_it_yet_is_waited_for(state: Path, not_ready: None) -> None:
    assert not first_model().is_settled()


def test_without_a_table_nothing_is_waited_for_and_the_mend_is_said(
    tmp_path: Path, mlflow_template: Path, not_ready: None
) -> None:
    home = new_state(tmp_path / "empty", mlflow_template)
    (home / "table.csv").unlink()
    with in_force(home):
        assert first_model().is_settled()
        assert "main.py init --data FILE --target COLUMN" in str(first_model().problem())


def test_a_first_run_that_fails_ends_the_waiting_with_its_reason(
    tmp_path: Path, mlflow_template: Path, not_ready: None
) -> None:
    with in_force(new_state(tmp_path / "empty", mlflow_template)):
        waiting = first_model()
        assert not waiting.is_settled()
        with Store(load_settings().store_address) as store, state_lock("pipeline", "main.py run"):
            RunRecords(store).start("r", "manual", datetime.now(UTC), pid=1, host="here")
            assert not waiting.is_settled()
            assert waiting.doing("training 1 candidate") == "the first model: training 1 candidate"
            RunRecords(store).finish("r", "refused", datetime.now(UTC), error="table.csv: has one class")
        assert waiting.is_settled()
        assert "refused: table.csv: has one class" in str(waiting.problem())


def test_a_first_run_that_never_begins_is_not_waited_for_forever(
    tmp_path: Path, mlflow_template: Path, not_ready: None
) -> None:
    with in_force(new_state(tmp_path / "empty", mlflow_template)):
        waiting = FirstModel(load_settings(), datetime.now(UTC) - PATIENCE)
        assert waiting.is_settled()
        assert "status" in str(waiting.problem())


def test_the_samples_model_is_waited_out_where_a_table_of_ones_own_is_configured(
    state: Path, ready: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commands.first_model.gives_way", lambda *_: True)
    assert not first_model().is_settled()
