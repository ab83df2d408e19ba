"""`start` and `serve`: the processes of one machine, started, watched and ended together."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click

from commands.first_model import FirstModel
from config.errors import ProductError
from config.home import PROJECT_ROOT, is_absent_sqlite, under_home
from config.settings import Settings, load_settings, logs_directory
from pipeline.health import server_address
from pipeline.shutdown import Interrupted

STOP_SECONDS = 15.0
#: A service that dies this often within this time is given up, and everything ends.
MAXIMUM_DEATHS, DEATH_WINDOW_SECONDS = 5, 60.0
#: What a service prints is kept up to here, and once more as the file before it.
MAXIMUM_LOG_BYTES = 10_000_000
TAIL_BYTES = 4_000
WATCH_SECONDS = 0.5


class ServiceError(ProductError):
    """The services of this machine cannot run; the message says which one and what to do."""


@dataclass
class Service:
    """One process and all that it starts, in a session of its own."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    deaths: list[float] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return logs_directory() / f"{self.name}.out"

    def launch(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                cwd=PROJECT_ROOT,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def watch(self, now: float) -> None:
        """Starts the service again when it has died, and bounds its log; raises `ServiceError` when it keeps dying."""
        if self.process is None:
            return
        if self.log.stat().st_size > MAXIMUM_LOG_BYTES:
            shutil.copyfile(self.log, self.log.with_suffix(".out.1"))
            os.truncate(self.log, 0)  # the service appends, so it goes on at the new end
        if self.process.poll() is None:
            return
        self.deaths = [death for death in self.deaths if now - death < DEATH_WINDOW_SECONDS] + [now]
        if len(self.deaths) >= MAXIMUM_DEATHS:
            raise ServiceError(f"the {self.name} keeps ending; its last words in {self.log}:\n{self.last_words()}")
        click.echo(f"the {self.name} has ended and is started again; see {self.log}", err=True)
        self.signal(signal.SIGKILL)  # what it may have left behind still holds the port
        self.launch()

    def last_words(self, lines: int = 8) -> str:
        with self.log.open("rb") as stream:
            stream.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            return "\n".join(stream.read().decode(errors="replace").strip().splitlines()[-lines:])

    def signal(self, number: int) -> None:
        """To the process and all that it has started."""
        if self.process is not None:
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                return


def exec_server() -> None:
    """Becomes the server: gunicorn with config/gunicorn.conf.py."""
    settings = load_settings()
    _require_free_port(settings.deployment.model_serve_host, settings.deployment.model_serve_port, "server")
    arguments = ["-m", "gunicorn", "--config", str(PROJECT_ROOT / "config" / "gunicorn.conf.py")]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - this very interpreter


def run_all() -> None:
    """Starts everything, prints the URLs, and stays until a signal."""
    settings = load_settings()
    first_model = FirstModel(settings, datetime.now(UTC))
    _require_free_port(settings.deployment.model_serve_host, settings.deployment.model_serve_port, "server")
    mlflow = _mlflow_service(settings)
    scheduler = Service("scheduler", _MAIN)
    services = [Service("server", [*_MAIN, "serve"]), scheduler]
    try:
        if is_absent_sqlite(settings.mlflow_address):  # two processes that make it at once break each other
            click.echo("making MLflow's database; it takes some seconds, once", err=True)
            subprocess.run([*_MAIN, "sync"], check=False, capture_output=True)
        for service in services:
            service.launch()
        server = server_address(settings)
        _wait(lambda: _answers(f"{server}/health"), lambda: "starting the server", services)
        _wait(first_model.is_settled, lambda: first_model.doing(scheduler.last_words(1)), services)
        if mlflow is not None:
            services.append(mlflow)
            mlflow.launch()
            _wait(lambda: _answers(f"{_mlflow_url(settings)}/health"), lambda: "starting the MLflow UI", services)
        _announce(settings, first_model.problem())
        while True:
            _watch(services)
            time.sleep(WATCH_SECONDS)
    except Interrupted:
        click.echo("ending …", err=True)
    finally:
        _stop(services)


_MAIN = [sys.executable, str(PROJECT_ROOT / "main.py")]
_MLFLOW_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _mlflow_service(settings: Settings) -> Service | None:
    """The MLflow UI on this machine's own database; None when a tracking server runs elsewhere."""
    if settings.mlflow_uri.startswith("http"):
        return None
    port = settings.deployment.mlflow_port
    if port == settings.deployment.model_serve_port:
        raise ServiceError(f"the server and the MLflow UI cannot share port {port}; set deployment.mlflow_port")
    _require_free_port("127.0.0.1", port, "MLflow UI")
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", settings.mlflow_address),
        *("--default-artifact-root", under_home("mlartifacts").as_uri()),
    ]
    return Service("mlflow", command, _MLFLOW_ENVIRONMENT)


def _mlflow_url(settings: Settings) -> str:
    local = f"http://127.0.0.1:{settings.deployment.mlflow_port}"
    return settings.mlflow_uri if settings.mlflow_uri.startswith("http") else local


def _announce(settings: Settings, problem: str | None) -> None:
    server = server_address(settings)
    click.echo(f"predictions  {server}/predict\nhealth       {server}/health")
    click.echo(f"MLflow UI    {_mlflow_url(settings)}\nlogs         {logs_directory()}")
    if problem:
        click.echo(f"no model yet {problem}")
    click.echo("Ctrl-C ends all.")


def _wait(is_done: Callable[[], bool], doing: Callable[[], str], services: Sequence[Service]) -> None:
    """Waits, and tells what happens meanwhile: on one line of a terminal, or a line for each change elsewhere."""
    live, told, started = sys.stderr.isatty(), "", time.monotonic()
    while not is_done():
        _watch(services)
        waited = time.monotonic() - started
        text = doing() if waited > 1.0 else told
        if live and text:
            width = shutil.get_terminal_size().columns - 12
            click.echo(f"\r\033[K{text[:width]} ({waited:.0f} s)", err=True, nl=False)
        elif text != told:
            click.echo(text, err=True)
        told = text
        time.sleep(WATCH_SECONDS)
    if live and told:
        click.echo("\r\033[K", err=True, nl=False)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except OSError:
        return False


def _watch(services: Sequence[Service]) -> None:
    for service in services:
        service.watch(time.monotonic())


def _stop(services: Sequence[Service]) -> None:
    """Ends every service and whatever it has started, by force what does not end in time."""
    for service in services:
        service.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for service in services:
        if service.process is not None:
            try:
                service.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                click.echo(f"the {service.name} did not end in time and is killed", err=True)
        service.signal(signal.SIGKILL)


def _require_free_port(host: str, port: int, what: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            key = "mlflow_port" if what.startswith("MLflow") else "model_serve_port"
            raise ServiceError(
                f"the {what} cannot use port {port} of {host} ({error.strerror}); end what uses it, or set "
                f"MLOPS_DEPLOYMENT__{key.upper()} to a free port"
            ) from None
