"""MLflow's SQLite file survives what happens while it is made."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config.home import PROJECT_ROOT
from models import mlflow_database
from models.mlflow_connection import MlflowConnection
from models.mlflow_database import is_made, make_database
from models.mlflow_registry import Registry, RegistryError

MAKE = (
    "import sys; from pathlib import Path; from models.mlflow_database import make_database as m; m(Path(sys.argv[1]))"
)


def making(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", MAKE, str(path)], cwd=PROJECT_ROOT, stderr=subprocess.DEVNULL)


@pytest.mark.integration
def test_a_kill_in_the_middle_spoils_nothing_and_two_at_once_make_one(tmp_path: Path) -> None:
    path, unfinished = tmp_path / "mlflow.db", tmp_path / ".mlflow.db.unfinished"
    with making(path) as first:
        deadline = time.monotonic() + 60
        while not is_made(unfinished):
            assert time.monotonic() < deadline and first.poll() is None
            time.sleep(0.01)
        with making(path) as second:  # waits for the first one, and has to begin anew
            time.sleep(0.3)
            os.kill(first.pid, signal.SIGKILL)
            assert second.wait(120) == 0
    assert Registry(f"sqlite:///{path}", "m").versions() == []
    assert {found.name for found in tmp_path.iterdir()} == {"mlflow.db", ".mlflow.db.lock"}


def test_a_database_that_cannot_be_finished_leaves_nothing_and_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        path.write_bytes(b"half")
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(mlflow_database, "_make_tables", full)
    with pytest.raises(RegistryError, match=r"disk is full; free some space on that disk$"):
        Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", "m").champion()
    assert [found.name for found in tmp_path.iterdir()] == [".mlflow.db.lock"]


def test_one_that_is_there_is_left_alone(tmp_path: Path, mlflow_template: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(mlflow_template.read_bytes())
    make_database(path)
    assert path.read_bytes() == mlflow_template.read_bytes()
    assert MlflowConnection(f"sqlite:///{path}").client.search_experiments() != []
