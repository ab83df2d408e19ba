"""`start` and `serve`: the processes of one machine, started, watched and ended together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import click

from config.home import PROJECT_ROOT, state_home, under_home
from config.settings import Settings, load_settings, logs_directory
from pipeline.shutdown import Interrupted

STOP_SECONDS = 15.0
#: A service that dies this often within this time is given up, and everything ends.
MAXIMUM_DEATHS, DEATH_WINDOW_SECONDS = 5, 60.0


class ServiceError(Exception):
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
    os.execv(sys.executable, [sys.executable, *arguments])


def run_all() -> int:
    """Starts everything, prints the URLs, and stays until a signal. Returns the exit code."""
    settings = load_settings()
    services = _services(settings)
    _require_free_port(settings.deployment.model_serve_host, settings.deployment.model_serve_port, "server")
    if len(services) > 2:
        _require_free_port("127.0.0.1", settings.deployment.mlflow_port, "MLflow UI")
    try:
        for service in services:
            service.launch()
        _announce(settings, services)
        while True:
            _revive_dead(services)
            time.sleep(0.5)
    except Interrupted:
        click.echo("ending …", err=True)
        return 0
    finally:
        _stop(services)


def _services(settings: Settings) -> list[Service]:
    main = [sys.executable, str(PROJECT_ROOT / "main.py")]
    services = [Service("server", [*main, "serve"]), Service("scheduler", main)]
    if not settings.mlflow_uri.startswith("http"):
        services.append(Service("mlflow", _mlflow_command(settings), _MLFLOW_ENVIRONMENT))
    return services


_MLFLOW_ENVIRONMENT = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}


def _mlflow_command(settings: Settings) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
        *("--port", str(settings.deployment.mlflow_port), "--workers", "1"),
        *("--backend-store-uri", settings.mlflow_address),
        *("--default-artifact-root", under_home("mlartifacts").as_uri()),
    ]


def _announce(settings: Settings, services: list[Service]) -> None:
    """Prints the URLs as soon as they answer, with what is waited for until then."""
    server = f"http://127.0.0.1:{settings.deployment.model_serve_port}"
    mlflow = settings.mlflow_uri
    if len(services) > 2:
        mlflow = f"http://127.0.0.1:{settings.deployment.mlflow_port}"
    click.echo(f"state in {state_home()}", err=True)
    _wait_until_answers(f"{server}/health", "the server", services, accept_503=True)
    _wait_until_answers(f"{server}/ready", "the first model (training)", services)
    if mlflow.startswith("http"):
        _wait_until_answers(f"{mlflow}/health", "MLflow", services)
    click.echo(f"predictions  {server}/predict\nhealth       {server}/health")
    click.echo(f"MLflow       {mlflow}\nlogs         {logs_directory()}\nCtrl-C ends all.")


def _wait_until_answers(url: str, what: str, services: list[Service], accept_503: bool = False) -> None:
    started, told = time.monotonic(), 0.0
    while not _answers(url, accept_503):
        _revive_dead(services)
        waited = time.monotonic() - started
        if waited - told >= 2.0:
            told = waited
            click.echo(f"waiting for {what} … {waited:.0f} s{_training_trouble()}", err=True)
        time.sleep(0.2)


def _training_trouble() -> str:
    """What the scheduler says of a first run that failed, so that nobody waits for nothing."""
    from commands.status import last_failure

    failure = last_failure()
    return f"\n  the last run failed: {failure}" if failure else ""


def _answers(url: str, accept_503: bool) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310 - our own address
            return bool(reply.status == 200)
    except urllib.error.HTTPError as error:
        return accept_503 and error.code == 503
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
