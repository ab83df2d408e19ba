"""A real PostgreSQL server for tests: a cluster of its own on a free port, gone afterwards.

Skips where the server's programs are not installed (`apt-get install postgresql`). `MLOPS_TEST_POSTGRES` names the URL
of a server to use instead; its user must be allowed to create databases.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian does not put it on the PATH."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _as_server_user(*command: str) -> None:
    """PostgreSQL refuses to run as root, so there its commands run as `postgres`."""
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run(
        [*prefix, *command], check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60
    )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a running server, without a database's name at its end."""
    if configured := os.environ.get("MLOPS_TEST_POSTGRES"):
        yield configured.rsplit("/", 1)[0]
        return
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    cluster, port = Path(tempfile.mkdtemp(prefix="mlops-postgres-")), _free_port()
    if os.geteuid() == 0:
        os.chown(cluster, pwd.getpwnam("postgres").pw_uid, -1)
    pg_ctl, data = str(programs / "pg_ctl"), str(cluster / "data")
    settings = f"-p {port} -k {cluster} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        _as_server_user(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "tester", "-E", "UTF8", "--no-sync")
        _as_server_user(pg_ctl, "-D", data, "-o", settings, "-l", str(cluster / "log"), "-w", "start")
        yield f"postgresql://tester@127.0.0.1:{port}"
    finally:
        if (cluster / "data" / "postmaster.pid").exists():
            _as_server_user(pg_ctl, "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(cluster, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"{postgres_server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        yield f"{postgres_server}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
