"""An open store of each kind, for tests of what reads and writes it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from monitoring.store import Store
from tests.postgres import postgres_server, postgres_url

__all__ = ["migrated_sqlite", "postgres_server", "postgres_url", "store", "url"]


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlops.db"
    Store(f"sqlite:///{path}").open().close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(request: pytest.FixtureRequest, url: str) -> Iterator[Store]:
    """SQLite's is a copy of one that was migrated once, for speed."""
    if url.startswith("sqlite"):
        shutil.copy(request.getfixturevalue("migrated_sqlite"), url.removeprefix("sqlite:///"))
    with Store(url) as opened:
        yield opened
