"""A team's MLflow: its server on PostgreSQL, artifacts in S3 through it, with and without users."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands.model_versions import sync_now
from config.settings import registry_directory
from models.bundle import verify_bundle
from models.mlflow_registry import RegistryError
from pipeline.orchestrator import run_now
from tests.mlflow_servers import MlflowServer, mlflow_database, reach, running
from tests.s3 import BUCKET, S3Server, s3_server
from tests.states import new_state, planned
from tests.trained import in_force

pytestmark = pytest.mark.integration


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def server(postgres_server: str, s3: S3Server, tmp_path: Path) -> Iterator[MlflowServer]:
    """Not started yet."""
    with mlflow_database(postgres_server) as backend:
        yield MlflowServer(tmp_path / "mlflow", backend, f"s3://{BUCKET}/of-mlflow", s3.variables)


@contextmanager
def host(home: Path, server: MlflowServer, *, user: bool = False) -> Iterator[pytest.MonkeyPatch]:
    """A state root in force, which knows MLflow by its address alone."""
    home.mkdir(parents=True, exist_ok=True)
    with in_force(home) as patch:
        reach(patch, server, user=user)
        yield patch


def test_a_run_registers_promotes_and_syncs_through_a_server_with_users(
    server: MlflowServer, s3: S3Server, mlflow_template: Path, tmp_path: Path
) -> None:
    trainer = new_state(tmp_path / "trainer", mlflow_template)
    (trainer / "mlflow.db").unlink()
    with running(server, basic_auth=True):
        with host(trainer, server, user=True):
            assert run_now(None, None).promoted
        with host(tmp_path / "other", server, user=True):
            plan = sync_now().plan
            assert plan is not None and plan.champion is not None
            assert planned() == "1"
            assert verify_bundle(registry_directory() / "1") == plan.champion.manifest_sha256
        with host(tmp_path / "stranger", server), pytest.raises(RegistryError) as refused:
            sync_now()
        assert "MLFLOW_TRACKING_USERNAME" in str(refused.value)
    stored = {name.rpartition("/")[2] for name in s3.objects()}
    assert stored >= {"manifest.json", "model.onnx", "reference.json"}
    assert not (trainer / "mlflow.db").exists() and not (trainer / "mlartifacts").exists()


def test_a_storage_that_is_away_or_refuses_the_key_stops_no_host_that_serves_and_the_others_catch_up(
    server: MlflowServer, s3: S3Server, mlflow_template: Path, tmp_path: Path
) -> None:
    with running(server):
        with host(new_state(tmp_path / "trainer", mlflow_template), server):
            assert run_now(None, None).promoted
        kept = s3.objects()
        assert "is down" in refusal_of_sync(tmp_path / "late", server, s3.stop)
        with host(tmp_path / "trainer", server):
            assert sync_now().plan is not None and planned() == "1"
        s3.start()
        s3.open_bucket(kept)
        with host(tmp_path / "late", server):
            sync_now()
            assert planned() == "1"
        assert "refuses its key" in refusal_of_sync(tmp_path / "locked out", server, s3.change_key)
        with host(tmp_path / "trainer", server), pytest.raises(RegistryError, match="refuses its key"):
            run_now(None, None)


def refusal_of_sync(home: Path, server: MlflowServer, after: Callable[[], None]) -> str:
    """The sentence that a host without the bundle is told; it serves nothing then."""
    after()
    with host(home, server), pytest.raises(RegistryError) as refused:
        sync_now()
    assert not (home / "models/registry/serving.json").exists()
    return str(refused.value)
