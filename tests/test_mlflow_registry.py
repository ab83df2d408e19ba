"""The registry, against a real MLflow on SQLite."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from models.mlflow_connection import MlflowConnection, RegistryError
from models.mlflow_registry import Registry, VersionInfo
from models.mlflow_runs import RunLog
from tests.local_mlflow import connection, register, registry, runs

__all__ = ["connection", "registry", "runs"]


def found(registry: Registry, version: str) -> VersionInfo:
    info = registry.version(version)
    assert info is not None
    return info


# Versions and aliases


def test_before_the_first_version_there_is_nothing_and_no_error(registry: Registry) -> None:
    assert (registry.champion(), registry.versions()) == (None, [])
    assert registry.find_version_by_run("r1") is None
    assert registry.version("1") is None


def test_a_version_keeps_what_it_was_registered_with(registry: Registry, runs: RunLog) -> None:
    version = register(registry, runs, "run-7")
    info = found(registry, version)
    assert version == "1"
    assert (info.run_id, info.manifest_sha256, info.algorithm) == ("run-7", "ab12", "random_forest")
    assert (info.metrics, info.stage, info.aliases) == ({"test_f1": 0.9, "test_roc_auc": None}, "development", ())
    assert info.created_at.tzinfo is not None


def test_versions_are_strings_newest_first_also_past_nine(registry: Registry, runs: RunLog) -> None:
    for _ in range(10):
        register(registry, runs)
    assert [info.version for info in registry.versions()] == [str(number) for number in range(10, 0, -1)]


def test_a_version_is_found_by_its_run(registry: Registry, runs: RunLog) -> None:
    register(registry, runs, "run-a")
    version = register(registry, runs, "run-b")
    assert registry.find_version_by_run("run-b") == version
    assert registry.find_version_by_run("run-c") is None


def test_stages_follow_the_champion(registry: Registry, runs: RunLog) -> None:
    first, second = register(registry, runs), register(registry, runs)
    registry.set_champion(first)
    registry.set_champion(second)
    assert registry.champion() == second
    assert [(info.version, info.stage, info.aliases) for info in registry.versions()] == [
        (second, "production", ("champion",)),
        (first, "archived", ()),
    ]


def test_a_promoted_challenger_is_no_challenger_any_more(registry: Registry, runs: RunLog) -> None:
    first, second = register(registry, runs), register(registry, runs)
    registry.set_champion(first)
    registry.connection.client.set_registered_model_alias(registry.registered_name, "challenger", second)
    registry.align_stages()
    assert (found(registry, second).aliases, found(registry, second).stage) == (("challenger",), "staging")
    registry.set_champion(second)
    assert (found(registry, second).aliases, found(registry, second).stage) == (("champion",), "production")


def test_stages_follow_an_alias_that_was_moved_in_mlflows_own_pages(registry: Registry, runs: RunLog) -> None:
    first, second = register(registry, runs), register(registry, runs)
    registry.set_champion(first)
    registry.connection.client.set_registered_model_alias(registry.registered_name, "champion", second)
    registry.align_stages()
    assert [info.stage for info in registry.versions()] == ["production", "archived"]


def test_a_version_that_does_not_exist_cannot_be_champion(registry: Registry, runs: RunLog) -> None:
    register(registry, runs)
    with pytest.raises(RegistryError, match="could not move the alias"):
        registry.set_champion("99")
    assert registry.champion() is None


def test_a_version_made_by_other_means_is_listed_without_a_bundle(registry: Registry, runs: RunLog) -> None:
    client = registry.connection.client
    client.create_registered_model(registry.registered_name)
    client.create_model_version(registry.registered_name, "file:///elsewhere", tags={"stage": "odd", "metrics": "good"})
    [info] = registry.versions()
    assert (info.manifest_sha256, info.run_id, info.stage, info.metrics) == (None, None, "development", {})


def test_a_name_with_a_quote_is_a_name(connection: MlflowConnection, runs: RunLog) -> None:
    registry = Registry(connection, f"owner's model {uuid.uuid4().hex[:8]}")
    version = register(registry, runs, "run-q")
    assert registry.find_version_by_run("run-q") == version


# Bundles


def test_a_bundle_comes_back_as_it_was_logged(registry: Registry, runs: RunLog, tmp_path: Path) -> None:
    bundle = tmp_path / "staged"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    (bundle / "model.onnx").write_bytes(bytes(range(256)))
    version = register(registry, runs)
    runs.log_bundle(str(found(registry, version).mlflow_run_id), bundle)
    registry.download_bundle(version, tmp_path / "registry" / "1")
    assert (tmp_path / "registry" / "1" / "model.onnx").read_bytes() == bytes(range(256))
    assert [path.name for path in (tmp_path / "registry").iterdir()] == ["1"]


def test_who_fetches_a_bundle_waits_until_mlflow_has_it_from_its_storage(
    registry: Registry, runs: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(**_: str) -> str:
        waits.append(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
        raise OSError("no bytes came")

    waits: list[str] = []
    version = register(registry, runs)
    usual = os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fetch)
    with pytest.raises(RegistryError, match="could not fetch a bundle"):
        registry.download_bundle(version, tmp_path / "registry" / "1")
    assert (waits, os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) == (["120"], usual)


def test_a_bundle_that_is_not_there_is_refused_and_leaves_nothing(
    registry: Registry, runs: RunLog, tmp_path: Path
) -> None:
    register(registry, runs)
    for version in ("1", "2"):
        with pytest.raises(RegistryError):
            registry.download_bundle(version, tmp_path / "registry" / version)
    assert list((tmp_path / "registry").iterdir()) == []
