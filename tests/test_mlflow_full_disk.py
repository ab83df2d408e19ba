"""A disk that fills up while files come from an MLflow server: the server, which knows nothing of it, is not blamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.mlflow_connection import RegistryError, set_environment
from models.mlflow_registry import Registry
from tests.mlflow_servers import MlflowServer, running
from tests.small_disks import small_disk

RUN_FILES = 4_000_000


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """With room for less than the files of a run."""
    with small_disk(tmp_path / "disk", 2**20) as folder:
        yield folder


@pytest.mark.integration
def test_a_full_disk_is_not_blamed_on_the_storage_of_the_server(full_disk: Path, tmp_path: Path) -> None:
    server = MlflowServer(tmp_path / "mlflow", f"sqlite:///{tmp_path / 'm.db'}", str(tmp_path / "files"), {})
    with running(server):
        registry = registry_with_a_bundle(server.url, tmp_path / "model.onnx")
        with pytest.raises(RegistryError, match=r"could not fetch a bundle: .*No space left.*free some space"):
            registry.download_bundle("1", full_disk / "1")
        registry.download_bundle("1", tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere/model.onnx").stat().st_size == RUN_FILES


def registry_with_a_bundle(url: str, file: Path) -> Registry:
    set_environment()
    file.write_bytes(os.urandom(RUN_FILES))
    registry = Registry(url, "m")
    client = registry.connection.client
    run = client.create_run("0").info.run_id
    client.log_artifact(run, str(file), "bundle")
    registry.create_version(run, run_id="r", manifest_sha256="0", algorithm="a", metrics={})
    return registry
