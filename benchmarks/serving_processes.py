"""The servers that `serving.py` measures, as processes: how each is started, and what its tree of processes takes."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving_setup import RIVAL

PROJECT = Path(__file__).resolve().parent.parent
CONFIGURATION = PROJECT / "config" / "gunicorn.conf.py"
RIVALS = "benchmarks.serving_rivals"
WORKERS = 2
#: Our settings of gunicorn for another application: what belongs to ours alone is taken out.
_BORROWED = """
__file__ = {configuration!r}
exec(compile(open(__file__).read(), __file__, "exec"))
wsgi_app = {application!r}
def post_worker_init(worker):
    prepare_worker()
"""
#: What a typical handler gets: gunicorn's threads.
_PLAIN = """
wsgi_app = {application!r}
workers, worker_class, threads, keepalive, preload_app = {workers}, "gthread", 4, 75, False
bind = "127.0.0.1:{port}"
control_socket_disable = True
loglevel = "error"
"""
_PSS = re.compile(r"^Pss:\s+(\d+)", re.MULTILINE)
Command = tuple[str, str]
#: By name: the kind of process, and its application.
SERVERS: dict[str, Command] = {
    "ours": ("gunicorn", ""),
    "echo": ("gunicorn borrowed", f"{RIVALS}:echo"),
    "flask echo": ("gunicorn borrowed", f"{RIVALS}:flask_echo_app"),
    "typical": ("gunicorn plain", f"{RIVALS}:typical_app"),
    "fastapi": ("uvicorn", f"{RIVALS}:fastapi_app"),
    "ours granian": ("granian", "api.app:app"),
    "echo granian": ("granian", f"{RIVALS}:echo"),
    "flask echo granian": ("granian", f"{RIVALS}:flask_echo_app"),
}


class Running:
    """A server that has given a good answer."""

    def __init__(self, command: Command, home: Path, body: bytes) -> None:
        self.port = _free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="server-")
        variables = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
        variables |= {
            "MLOPS_HOME": str(home),
            "MLOPS_DEPLOYMENT__MODEL_SERVE_PORT": str(self.port),
            "MLOPS_DEPLOYMENT__WORKERS": str(WORKERS),
            "MLOPS_LOGGING__LEVEL": "WARNING",
            "RIVAL_MODEL": str(home / RIVAL),
            "PYTHONPATH": str(PROJECT),
        }
        self._output = Path(self._folder.name) / "output"
        began = time.perf_counter()
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *_arguments(command, self.port, Path(self._folder.name))],
                env=variables,
                cwd=PROJECT,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        while not self._answers(body):
            if self._process.poll() is not None or time.perf_counter() - began > 60:
                self.stop()
                raise SystemExit(f"{command} does not answer:\n{self._words}")
            time.sleep(0.005)
        self.launch_seconds = time.perf_counter() - began

    def pss_megabytes(self) -> float:
        """Proportional memory of the whole tree of processes."""
        texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in _tree(self._process.pid)]
        return sum(int(kilobytes) for text in texts for kilobytes in _PSS.findall(text)) / 1024

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._words = self._output.read_text()[-3000:]
        self._folder.cleanup()

    def _answers(self, body: bytes) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@contextmanager
def running(command: Command, home: Path, body: bytes) -> Iterator[Running]:
    server = Running(command, home, body)
    try:
        yield server
    finally:
        server.stop()


def _arguments(command: Command, port: int, folder: Path) -> list[str]:
    kind, application = command
    if kind == "uvicorn":
        options = ["--workers", str(WORKERS), "--port", str(port), "--log-level", "error"]
        return ["uvicorn", *options, application]
    if kind == "granian":
        options = ["--interface", "wsgi", "--workers", str(WORKERS), "--port", str(port), "--no-log"]
        return ["granian", *options, application]
    if kind == "gunicorn":
        return ["gunicorn", "-c", str(CONFIGURATION)]
    template = _BORROWED if kind == "gunicorn borrowed" else _PLAIN
    settings = folder / "settings.py"
    settings.write_text(
        template.format(configuration=str(CONFIGURATION), application=application, port=port, workers=WORKERS)
    )
    return ["gunicorn", "-c", str(settings)]


def _tree(pid: int) -> list[int]:
    found = [pid]
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            found += _tree(int(child))
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
