"""What every test shares: where the real tables are, and a state root of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_tables() -> Path:
    """The folder with credit.csv, elec2.csv and penguins_raw.csv (`MLOPS_TEST_DATA` names another)."""
    folder = Path(os.environ.get("MLOPS_TEST_DATA", PROJECT.parent / "shared" / "data"))
    assert (folder / "credit.csv").is_file(), f"{folder} holds no test tables; set MLOPS_TEST_DATA"
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state root, in force for the test."""
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    monkeypatch.delenv("MLOPS_CONFIG", raising=False)
    return tmp_path
