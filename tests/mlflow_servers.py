"""MLflow as a team runs it: a server of its own on PostgreSQL, which alone holds the keys of the artifacts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

import pytest

from models.mlflow_connection import set_environment
from tests.ports import free_port
from tests.postgres import database, template

USER, PASSWORD = "admin", "a-long-pass-word"
#: What names a storage or its key; no process of the product has any of them.
STORAGE_VARIABLES = ("AWS_", "MLFLOW_S3_")


@contextmanager
def mlflow_database(postgres: str) -> Iterator[str]:
    """The address of an empty MLflow database, as MLflow is told it."""
    name = f"mlflow_{version('mlflow').replace('.', '_')}"
    with database(postgres, template(postgres, name, _make_tables)) as url:
        yield with_driver(url)


def with_driver(url: str) -> str:
    """Plain `postgresql://` means psycopg2 to SQLAlchemy 2.0, and psycopg 3, which this product installs, to 2.1."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def _make_tables(url: str) -> None:
    """What the first start of `mlflow server` takes ten seconds for."""
    set_environment()
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    engine = create_sqlalchemy_engine(with_driver(url))
    _initialize_tables(engine)
    engine.dispose()


class MlflowServer:
    """`mlflow server` in a process of its own."""

    def __init__(self, folder: Path, backend: str, artifacts: str, variables: Mapping[str, str]) -> None:
        self.folder, self.backend, self.artifacts, self.variables = folder, backend, artifacts, dict(variables)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *, basic_auth: bool = False) -> None:
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", self.backend),
            *("--serve-artifacts", "--artifacts-destination", self.artifacts),
            *(("--app-name", "basic-auth") if basic_auth else ()),
        ]
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment(basic_auth), stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "output").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def _environment(self, basic_auth: bool) -> dict[str, str]:
        own = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        if basic_auth:
            users = self.folder / "basic_auth.ini"
            users.write_text(
                f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{self.folder / 'users.db'}\n"
                f"admin_username = {USER}\nauth_cache_ttl_seconds = 60\n"
            )
            own |= {
                "MLFLOW_AUTH_CONFIG_PATH": str(users),
                "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-a-test",
            }
        return os.environ | own | self.variables

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=2) as reply:
            return bool(reply.status == 200)
        return False


@contextmanager
def running(server: MlflowServer, *, basic_auth: bool = False) -> Iterator[MlflowServer]:
    try:
        server.start(basic_auth=basic_auth)
        yield server
    finally:
        server.stop()


def reach(patch: pytest.MonkeyPatch, server: MlflowServer, *, user: bool) -> None:
    """The environment of a process of the product: where MLflow is, perhaps who asks, and nothing of a storage."""
    for name in [name for name in os.environ if name.startswith(STORAGE_VARIABLES)]:
        patch.delenv(name)
    patch.setenv("MLOPS_MLFLOW_URI", server.url)
    for name, value in (("MLFLOW_TRACKING_USERNAME", USER), ("MLFLOW_TRACKING_PASSWORD", PASSWORD)):
        if user:
            patch.setenv(name, value)
        else:
            patch.delenv(name, raising=False)
