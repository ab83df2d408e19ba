"""A real MLflow on SQLite in this process, and a tracking server that answers little."""

from __future__ import annotations

import shutil
import uuid
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from models.mlflow_connection import MlflowConnection
from models.mlflow_registry import Registry
from models.mlflow_runs import RunLog
from tests.live_server import serving


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory, mlflow_template: Path) -> MlflowConnection:
    """One MLflow for all tests of a file. Its path has a space in it."""
    path = tmp_path_factory.mktemp("ml flow") / "mlflow.db"
    shutil.copy(mlflow_template, path)
    return MlflowConnection(f"sqlite:///{path}")


@pytest.fixture(scope="module")
def runs(connection: MlflowConnection, tmp_path_factory: pytest.TempPathFactory) -> RunLog:
    return RunLog(connection, "tests", tmp_path_factory.mktemp("ml artifacts"))


@pytest.fixture
def registry(connection: MlflowConnection) -> Registry:
    """A registered model of its own for each test."""
    return Registry(connection, f"model-{uuid.uuid4().hex[:8]}")


def register(registry: Registry, runs: RunLog, run_id: str = "r", model_uri: str | None = None) -> str:
    return registry.create_version(
        runs.start(run_id), run_id=run_id, manifest_sha256="ab12", algorithm="random_forest",
        metrics={"test_f1": 0.9, "test_roc_auc": None}, model_uri=model_uri,
    )  # fmt: skip


class FakeServer(BaseHTTPRequestHandler):
    """A tracking server that knows one run, and answers everything else but `/health` with an error."""

    def do_GET(self) -> None:
        run = b'{"run": {"info": {"run_id": "a", "run_name": "a", "experiment_id": "1", "status": "RUNNING"}}}'
        known = self.path == "/health" or self.path.startswith("/api/2.0/mlflow/runs/")
        self.send_response(200 if known else 503)
        self.send_header("Retry-After", "600")
        self.send_header("Content-Length", str(len(run)))
        self.end_headers()
        self.wfile.write(run)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


def failing_server() -> AbstractContextManager[int]:
    """The port at which a `FakeServer` answers on 127.0.0.1 within the block."""
    return serving(HTTPServer(("127.0.0.1", 0), FakeServer))
