"""MLflow in a process of its own: used as if it were here, and gone with the one that started it."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.mlflow_connection import RegistryError
from models.mlflow_process import MlflowProcess


def test_calls_and_errors_cross_over_and_the_process_ends_with_its_pipe(home: Path) -> None:
    there = MlflowProcess(f"sqlite:///{home}/mlflow.db", "trial", "production_model")
    assert there.registry.registered_name == "production_model"
    assert there.registry.champion() is None
    assert there.runs.start("a-run")
    with pytest.raises(RegistryError, match="no version 9"):
        there.registry.download_bundle("9", home / "bundle")
    assert there.registry.versions() == []  # after an error, too
    there.close()
    assert there._process.wait(20) == 0


def test_a_process_that_died_is_told_in_a_sentence(home: Path) -> None:
    there = MlflowProcess(f"sqlite:///{home}/mlflow.db", "trial", "production_model")
    there._process.kill()
    there._process.wait()
    with pytest.raises(RegistryError, match="has ended"):
        there.registry.champion()
    there.close()
