"""`start` and `serve`: the processes of one machine, started, watched and ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import click

from config.errors import ProductError
from config.home import PROJECT_ROOT, under_home
from config.settings import Settings, load_settings, logs_directory
from pipeline.shutdown import Interrupted

STOP_SECONDS = 15.0
#: A service that dies this often within this time is given up, and everything ends.
MAXIMUM_DEATHS, DEATH_WINDOW_SECONDS = 5, 60.0


class ServiceError(ProductError):
    """The services of this machine cannot run; the message says which one and what to do."""


@dataclass
class Service:
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

    def revive(self, now: float) -> None:
        """Starts the service again after it has died; raises `ServiceError` when it keeps dying."""
        self.deaths = [death for death in self.deaths if now - death < DEATH_WINDOW_SECONDS] + [now]
        if len(self.deaths) >= MAXIMUM_DEATHS:
            raise ServiceError(f"{self.name} keeps ending; its last words:\n{_last_words(self.log)}")
        click.echo(f"{self.name} ended and is started again; see {self.log}", err=True)
        self.launch()


def exec_server() -> None:
    """Becomes the server: gunicorn with config/gunicorn.conf.py."""
    settings = load_settings()
    _require_free_port(settings.deployment.model_serve_host, settings.deployment.model_serve_port, "server")
    arguments = ["-m", "gunicorn", "--config", str(PROJECT_ROOT / "config" / "gunicorn.conf.py")]
    os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - this very interpreter


def run_all() -> int:
    """Starts everything, prints the URLs, and stays until a signal. Returns the exit code."""
    settings = load_settings()
    _require_free_port(settings.deployment.model_serve_host, settings.deployment.model_serve_port, "server")
    services = [Service("server", [*_MAIN, "serve"]), Service("scheduler", _MAIN)]
    mlflow = _mlflow_service(settings)
    try:
        for service in services:
            service.launch()
        if mlflow is not None:
            if not _is_made(settings):  # two processes that make MLflow's database at once break each other
                _wait_for_model(settings, services)
            mlflow.launch()
            services.append(mlflow)
        _announce(settings, services)
        while True:
            _revive_dead(services)
            time.sleep(0.5)
    except Interrupted:
        click.echo("ending …", err=True)
        return 0
    finally:
        _stop(services)


_MAIN = [sys.executable, str(PROJECT_ROOT / "main.py")]
_MLFLOW_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _mlflow_service(settings: Settings) -> Service | None:
    """The MLflow UI on this machine's own database; None when a tracking server runs elsewhere."""
    if settings.mlflow_uri.startswith("http"):
        return None
    port = settings.deployment.mlflow_port
    _require_free_port("127.0.0.1", port, "MLflow UI")
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", settings.mlflow_address),
        *("--default-artifact-root", under_home("mlartifacts").as_uri()),
    ]
    return Service("mlflow", command, _MLFLOW_ENVIRONMENT)


def _is_made(settings: Settings) -> bool:
    address = settings.mlflow_address
    return not address.startswith("sqlite:///") or Path(address.removeprefix("sqlite:///")).exists()


def _announce(settings: Settings, services: list[Service]) -> None:
    """Prints the URLs as soon as they answer."""
    _wait_for_model(settings, services)
    server = f"http://127.0.0.1:{settings.deployment.model_serve_port}"
    mlflow = settings.mlflow_uri
    if not mlflow.startswith("http"):
        mlflow = f"http://127.0.0.1:{settings.deployment.mlflow_port}"
        _wait_until(f"{mlflow}/health", lambda: "starting the MLflow UI", services)
    click.echo(f"predictions  {server}/predict\nhealth       {server}/health")
    click.echo(f"MLflow UI    {mlflow}\nlogs         {logs_directory()}\nCtrl-C ends all.")


def _wait_for_model(settings: Settings, services: list[Service]) -> None:
    server = f"http://127.0.0.1:{settings.deployment.model_serve_port}"
    _wait_until(f"{server}/ready", lambda: _what_happens(services[1]), services)


def _what_happens(scheduler: Service) -> str:
    """What the training child said last, or why it failed."""
    from commands.status import last_failure

    failure = last_failure()
    if failure:
        return f"the last run failed: {failure}"
    words = _last_words(scheduler.log, 1).strip()
    return f"the first model: {words}" if words else "the first model"


def _wait_until(url: str, doing: Callable[[], str], services: list[Service]) -> None:
    """Waits until the address answers, and tells what happens meanwhile: on one line, or a line for each change."""
    live, told, started = sys.stderr.isatty(), "", time.monotonic()
    while not _answers(url):
        _revive_dead(services)
        waited, text = time.monotonic() - started, doing()
        if waited > 1.0 and (live or text != told):
            told = text
            click.echo(f"\r\033[K{text[:100]} ({waited:.0f} s)" if live else text, err=True, nl=not live)
        time.sleep(0.25)
    if live and told:
        click.echo("\r\033[K", err=True, nl=False)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except OSError:
        return False


def _revive_dead(services: list[Service]) -> None:
    for service in services:
        if service.process is not None and service.process.poll() is not None:
            service.revive(time.monotonic())


def _stop(services: list[Service]) -> None:
    alive = [service.process for service in services if service.process and service.process.poll() is None]
    for process in alive:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for process in alive:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return


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


def _last_words(log: Path, lines: int = 8) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
