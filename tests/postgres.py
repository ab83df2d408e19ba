"""A real PostgreSQL server for tests: one for all workers of a session, on a free port, gone with the last of them.

Skips where the server's programs are not installed (`apt-get install postgresql`). `MLOPS_TEST_POSTGRES` names the URL
of a server to use instead; its user must be allowed to create databases. A server that a test stops is its own:
`own_server`.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tests.ports import free_port


def _programs() -> Path | None:
    """The folder of initdb and pg_ctl; Debian does not put it on the PATH."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).parent] if on_path else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


@dataclass(frozen=True)
class PostgresServer:
    """A cluster in a folder of its own; trusts everybody on this machine, and promises nothing after a power loss."""

    programs: Path
    cluster: Path
    port: int = field(default_factory=free_port)

    @classmethod
    def made(cls) -> PostgresServer:
        programs = _programs()
        if programs is None:
            pytest.skip("PostgreSQL's server programs are not installed")
        server = cls(programs, Path(tempfile.mkdtemp(prefix="mlops-postgres-")))
        if os.geteuid() == 0:
            os.chown(server.cluster, pwd.getpwnam("postgres").pw_uid, -1)
        server._run("initdb", "-A", "trust", "-U", "tester", "-E", "UTF8", "--no-sync")
        return server

    @property
    def url(self) -> str:
        """Without a database's name at its end."""
        return f"postgresql://tester@127.0.0.1:{self.port}"

    def start(self) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "max_connections": 200,
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        self._run("pg_ctl", "-o", f"-p {self.port} -k {self.cluster} {options}", "-l", self._log, "-w", "start")

    def stop(self) -> None:
        if (self.cluster / "data" / "postmaster.pid").exists():
            self._run("pg_ctl", "-m", "immediate", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.cluster, ignore_errors=True)

    def remove_after(self, users: Path, *files: Path) -> None:
        """Leaves a process behind that does so when nobody has a lock on `users` any more."""
        stop = shlex.join(self._command("pg_ctl", "-m", "immediate", "stop"))
        remove = shlex.join(["rm", "-rf", str(self.cluster), *map(str, files)])
        command = ["flock", str(users), "sh", "-c", f"{stop}; {remove}"]
        quiet = subprocess.DEVNULL
        subprocess.Popen(command, cwd="/", stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)

    @property
    def _log(self) -> str:
        return str(self.cluster / "log")

    def _run(self, program: str, *arguments: str) -> None:
        command = self._command(program, *arguments)
        subprocess.run(
            command, check=True, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60
        )  # fmt: skip

    def _command(self, program: str, *arguments: str) -> list[str]:
        """PostgreSQL refuses to run as root, so there its commands run as `postgres`."""
        prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        return [*prefix, str(self.programs / program), "-D", str(self.cluster / "data"), *arguments]


@contextmanager
def own_server() -> Iterator[PostgresServer]:
    """A running server that the caller may stop and start again."""
    server = PostgresServer.made()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@contextmanager
def _shared_server(folder: Path) -> Iterator[str]:
    """The server of all processes that name this folder: the first one starts it, and it goes with the last one.

    Everybody holds a shared lock for as long as it uses the server. A guard waits for the exclusive one, which the
    kernel gives it when nobody is left, also when they were killed.
    """
    noted, users = folder / "postgres.server", folder / "postgres.users"
    with (folder / "postgres.turn").open("a") as turn, users.open("a") as using:
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(using, fcntl.LOCK_SH)
        if not noted.exists():
            server = PostgresServer.made()
            server.start()
            noted.write_text(server.url)
            server.remove_after(users, noted)
        fcntl.flock(turn, fcntl.LOCK_UN)
        yield noted.read_text()


def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all workers of this session."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a running server, without a database's name at its end."""
    if configured := os.environ.get("MLOPS_TEST_POSTGRES"):
        yield configured.rsplit("/", 1)[0]
        return
    with _shared_server(shared_folder(tmp_path_factory)) as url:
        yield url


@contextmanager
def database(server: str, template: str = "template1") -> Iterator[str]:
    """The URL of a database, empty or a copy of another one that nobody is connected to; dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        try:
            yield f"{server}/{name}"
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def template(server: str, name: str, fill: Callable[[str], object]) -> str:
    """The name of a database that `fill` was called on, once a server, whichever process asks first."""
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(hashtext(%s))", [name])
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if known is None:
            unfinished = f"{name}_unfinished"
            connection.execute(f"DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")
            connection.execute(f"CREATE DATABASE {unfinished}")
            fill(f"{server}/{unfinished}")
            connection.execute(f"ALTER DATABASE {unfinished} RENAME TO {name}")
    return name


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The URL of an empty database, dropped afterwards."""
    with database(postgres_server) as url:
        yield url
