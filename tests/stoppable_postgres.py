"""A PostgreSQL server of a test's own, in any network: stopped, started again and held still while others use it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.parts import Holdable
from tests.ports import free_port
from tests.postgres import _programs


def _as_server_user(*command: str, prefix: Sequence[str] = ()) -> None:
    """PostgreSQL refuses to run as root, so there its commands run as `postgres`."""
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    subprocess.run(
        [*prefix, *as_user, *command],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
    )


@dataclass(frozen=True)
class Cluster(Holdable):
    """A server that can be stopped and started again. `prefix` goes before its start: a network namespace to be in."""

    folder: Path
    programs: Path
    port: int
    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        """Without a database's name at its end."""
        return f"postgresql://tester@{self.address}:{self.port}"

    @property
    def local_url(self) -> str:
        """The same server by its socket, in whatever network it is; `{}` stands for the name of a database."""
        return f"postgresql://tester@/{{}}?host={self.folder}&port={self.port}"

    def start(self) -> None:
        settings = f"-p {self.port} -k {self.folder} -c listen_addresses={self.address} -c fsync=off"
        self._control("-o", settings, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            self._control("-m", mode, "-w", "stop")

    def signal(self, number: signal.Signals) -> None:
        """To the server and all of its processes, such as SIGSTOP: connections are accepted, and never answered."""
        parent = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for process in (parent, *map(int, children)):
            os.kill(process, number)

    def revive(self) -> None:
        """Starts what was stopped, and lets go on what was held still."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.signal(signal.SIGCONT)
        else:
            self.start()

    def _control(self, *arguments: str) -> None:
        data = str(self.folder / "data")
        _as_server_user(str(self.programs / "pg_ctl"), "-D", data, *arguments, prefix=self.prefix)


@contextmanager
def running_cluster(address: str = "127.0.0.1", prefix: Sequence[str] = ()) -> Iterator[Cluster]:
    """A new, started cluster; skips where PostgreSQL is not installed."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL's server programs are not installed")
    folder = Path(tempfile.mkdtemp(prefix="mlops-postgres-"))
    if os.geteuid() == 0:
        os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
        folder.chmod(0o755)
    cluster, data = Cluster(folder, programs, free_port(), address, tuple(prefix)), str(folder / "data")
    try:
        _as_server_user(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "tester", "-E", "UTF8", "--no-sync")
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
