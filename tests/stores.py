"""A store of each kind, for tests of what reads and writes it; `tests/conftest.py` hands the fixtures to every test."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from config.home import PROJECT_ROOT
from monitoring.store import Store
from tests.postgres import database, template

SQLITE = "sqlite:///"


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "mlops.db"
    _migrate(f"{SQLITE}{path}")
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def store_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(request: pytest.FixtureRequest, store_kind: str, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if store_kind == "sqlite":
        return f"{SQLITE}{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store_url(request: pytest.FixtureRequest, store_kind: str, tmp_path: Path) -> Iterator[str]:
    """An empty store of each kind: a copy of one that was migrated once, for speed."""
    if store_kind == "sqlite":
        path = tmp_path / "store.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        yield f"{SQLITE}{path}"
        return
    with migrated_postgres(request.getfixturevalue("postgres_server")) as address:
        yield address


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with Store(store_url) as opened:
        yield opened


@contextmanager
def migrated_postgres(server: str) -> Iterator[str]:
    """The URL of an empty store on PostgreSQL."""
    versions = sorted((PROJECT_ROOT / "monitoring" / "migrations" / "versions").glob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in versions)).hexdigest()
    with database(server, template(server, f"store_{digest[:16]}", _migrate)) as address:
        yield address


def _migrate(address: str) -> None:
    Store(address).open().close()
