"""The server as people run it: real processes on a free port, a model that changes and workers that die under load."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import promote, sample_bundle, sample_row, serve_sample
from tests.log_reading import logged_lines
from tests.ports import free_port

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parent.parent
GUNICORN = ("-m", "gunicorn", "-c", str(PROJECT / "config" / "gunicorn.conf.py"))


class Server:
    """A running server and its state root."""

    def __init__(self, home: Path, port: int, process: subprocess.Popen[bytes]) -> None:
        self.home = home
        self.port = port
        self.process = process
        self.registry = home / "models" / "registry"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, Any]:
        return exchange(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10), "GET", path)

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def versions(self) -> set[str]:
        """The versions that several connections in a row are answered with, which reach all workers."""
        return {str(self.get("/health")[1]["model_version"]) for _ in range(12)}

    def log(self) -> str:
        return (self.home / "output").read_text()


def exchange(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    reply = connection.getresponse()
    return reply.status, json.loads(reply.read())


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Polls until it holds; fails after the bound."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition():
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.02)
    pytest.fail(f"not within {seconds:.0f} s: {what}")


@contextmanager
def running(home: Path, *command: str, folder: str = "/") -> Iterator[Server]:
    """A server process of a state root of its own, ended with SIGTERM; it must answer and end within bounds."""
    home.mkdir(parents=True, exist_ok=True)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    environment |= {"MLOPS_HOME": os.path.relpath(home, folder), "MLOPS_DEPLOYMENT__MODEL_SERVE_PORT": str(port)}
    with (home / "output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    server = Server(home, port, process)
    try:
        wait_for(lambda: server.get("/health")[0] == 200 or process.poll() is not None, "the server answers")
        assert process.poll() is None, server.log()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=10)
        finally:
            process.kill()


class Traffic:
    """Clients that send rows until the block ends; answers and failures are kept."""

    def __init__(self, server: Server, clients: int = 4, rows: int = 1, row: dict[str, Any] | None = None) -> None:
        self.replies: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self._server = server
        self._body = [row or sample_row()] * rows
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(clients)]

    @property
    def ids(self) -> list[str]:
        return [prediction_id for reply in self.replies for prediction_id in reply["prediction_id"]]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def wait_for_replies(self, more: int) -> None:
        target = len(self.replies) + more
        wait_for(lambda: len(self.replies) >= target, f"{more} more replies")

    def _send(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
        while not self._stop.is_set():
            try:
                status, reply = exchange(connection, "POST", "/predict", self._body)
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                self.failures.append(repr(error))
                continue
            if status == 200:
                self.replies.append(reply)
            else:
                self.failures.append(f"{status}: {reply}")
        connection.close()


def try_api(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROJECT / "test_api.py"), "--url", server.url, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """gunicorn with two workers and version 1 in service, started from a folder that is not the project's."""
    home = tmp_path_factory.mktemp("with a space") / "home"
    serve_sample(home / "models" / "registry")
    with running(home, *GUNICORN) as server:
        yield server


def test_fault_19_gunicorn_serves_from_any_folder(server: Server) -> None:
    assert server.get("/ready")[0] == 200
    wait_for(lambda: len(server.workers()) == 2, "both workers")


def test_nothing_is_written_outside_the_state_root(server: Server) -> None:
    assert {path.name for path in server.home.iterdir()} == {"models", "logs", "output"}
    opened = os.popen(f"ls -l /proc/{server.process.pid}/fd").read()  # noqa: S605
    assert "gunicorn.ctl" not in opened


def test_the_trial_script_passes_a_good_server(server: Server) -> None:
    done = try_api(server, "--requests", "60", "--batch", "7", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    load = json.loads(done.stdout)["load"]
    assert (load["success_rate"], load["succeeded"]) == (1.0, 60)
    assert 0 < load["latency_ms"]["p50"] <= load["latency_ms"]["p99"]
    assert "success rate 100.00%" in try_api(server, "--requests", "5").stdout


@pytest.mark.parametrize("size", [5_000_000, 17 * 2**20])
def test_a_body_that_is_refused_unread_still_gets_its_reply(server: Server, size: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for path, status in (("/nowhere", 404), ("/predict", 400 if size < 2**24 else 413)):
        connection.request("POST", path, b" " * size, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        assert (reply.status, json.loads(reply.read())["status"]) == (status, status)
    assert exchange(connection, "POST", "/predict", sample_row())[0] == 200


def test_fault_16_models_are_swapped_under_load_and_no_request_is_dropped(server: Server) -> None:
    digests = {"1": sample_bundle(server.registry / "1"), "2": sample_bundle(server.registry / "2", seed=1)}
    with Traffic(server) as traffic:
        for version in ("2", "1", "2"):
            traffic.wait_for_replies(20)
            promote(server.registry, version, digests[version])
            wait_for(lambda version=version: server.versions() == {version}, f"version {version}")  # type: ignore[misc]
        traffic.wait_for_replies(20)
    assert traffic.failures == []
    answers = {(reply["model_version"], tuple(reply["probability"][0])) for reply in traffic.replies}
    assert sorted(version for version, _ in answers) == ["1", "2"]


def test_fault_18_answers_are_in_the_log_once_though_workers_are_killed(server: Server, soak: bool) -> None:
    choose = random.Random(0)
    with Traffic(server, rows=25) as traffic:
        for _ in range(30 if soak else 4):
            traffic.wait_for_replies(30)
            victim = choose.choice(server.workers())
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda victim=victim: victim not in server.workers(), "the worker is replaced")  # type: ignore[misc]
            wait_for(lambda: len(server.workers()) == 2, "two workers")
        traffic.wait_for_replies(30)
    logged = Counter(line.prediction_id for line in logged_lines(server.home / "logs"))
    assert traffic.ids
    assert {logged[prediction_id] for prediction_id in traffic.ids} == {1}
    assert max(logged.values()) == 1
    assert not any(failure.startswith("5") for failure in traffic.failures)


def test_fault_15_it_starts_without_a_model_and_serves_the_first_one(tmp_path: Path) -> None:
    with running(tmp_path / "home", *GUNICORN) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        assert server.get("/ready")[0] == 503
        assert exchange(connection, "POST", "/predict", sample_row())[0] == 503
        assert try_api(server).returncode == 1
        serve_sample(server.registry)
        wait_for(lambda: server.get("/ready")[0] == 200, "the first model is in service")
        # The kept connection stays with its worker, which looks at the plan in its own time.
        wait_for(lambda: exchange(connection, "POST", "/predict", sample_row())[0] == 200, "in that worker, too")
        connection.close()
    assert server.process.returncode == 0


def test_fault_19_the_script_serves_from_any_folder(tmp_path: Path) -> None:
    serve_sample(tmp_path / "models" / "registry")
    with running(tmp_path, str(PROJECT / "api" / "app.py"), folder="/usr") as server:
        assert try_api(server, "--requests", "10").returncode == 0
    assert server.process.returncode == 0


def test_gunicorn_by_module_name_needs_no_configuration_of_ours(tmp_path: Path) -> None:
    serve_sample(tmp_path / "models" / "registry")
    port = free_port()
    bind = ("--bind", f"127.0.0.1:{port}", "--no-control-socket", "api.app:app")
    environment = os.environ | {"MLOPS_HOME": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", *bind], cwd=PROJECT, env=environment, stderr=subprocess.DEVNULL
    )
    server = Server(tmp_path, port, process)
    try:
        wait_for(lambda: server.get("/ready")[0] == 200, "a model in service")
        assert server.get("/health")[1]["model_version"] == "1"
    finally:
        process.terminate()
        process.wait(timeout=10)


def test_a_wrong_configuration_ends_with_2_and_a_sentence(tmp_path: Path) -> None:
    environment = os.environ | {"MLOPS_HOME": str(tmp_path), "MLOPS_DEPLOYMENT__MODEL_SERVE_HOST": "0.0.0.0"}
    for command in (GUNICORN, (str(PROJECT / "api" / "app.py"),)):
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, check=False, timeout=30
        )
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "open_without_keys" in done.stderr


def test_the_trial_script_fails_where_nothing_answers(tmp_path: Path) -> None:
    nobody = Server(tmp_path, free_port(), subprocess.Popen([sys.executable, "-c", ""]))
    nobody.process.wait()
    done = try_api(nobody)
    assert (done.returncode, done.stderr.count("\n"), "Traceback" in done.stderr) == (1, 1, False)
