"""The whole system as its parts run apart: a host of servers and one of stores, every part a process that may fail.

On the host of the servers: the server and `sync --watch` on one state root, the scheduler on another. On that of the
stores: PostgreSQL, and the MLflow server that keeps its records there. The former tell the time by a clock that a test
may set. Beside them a Prometheus watches as in production.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg

from config.home import PROJECT_ROOT
from monitoring.prediction_log import PredictionLog
from tests.logged import prediction_lines
from tests.networks import Network, two_hosts
from tests.parts import Part, wait_for
from tests.ports import free_port
from tests.prometheus import prometheus
from tests.set_clock import SetClock
from tests.steady_load import Load
from tests.stoppable_postgres import Cluster, running_cluster
from tests.tables import small_table
from tests.trained import FAST, configure
from tests.watched import Watched

MAIN = (sys.executable, str(PROJECT_ROOT / "main.py"))
MODEL = "production_model"
#: The files whose tests break one part of it each; one worker of pytest-xdist gets all of them (tests/conftest.py).
FILES = ("store_failures", "mlflow_failures", "host_failures", "clock_jumps", "network_cuts")
#: Of the state root of the servers.
DISK_BYTES = 48 * 2**20


@dataclass
class System:
    network: Network
    folder: Path
    postgres: Cluster
    #: By job, as Prometheus knows them; `scheduler` and `sync` listen for it alone.
    ports: dict[str, int]
    watched: Watched
    mlflow_port: int
    clock: SetClock
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.ports["api"]

    @property
    def server_home(self) -> Path:
        return self.folder / "servers"

    @property
    def trainer_home(self) -> Path:
        return self.folder / "trainer"

    @property
    def has_own_disk(self) -> bool:
        return self.server_home.is_mount()

    @property
    def mlflow_url(self) -> str:
        return f"http://{self.network.stores.address}:{self.mlflow_port}"

    def __getitem__(self, name: str) -> Part:
        return self.parts[name]

    # What the parts say

    def get(self, path: str) -> tuple[int, bytes]:
        """What the server answers."""
        with self.network.servers.entered():
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
            connection.request("GET", path)
            reply = connection.getresponse()
            content = reply.read()
            connection.close()
            return reply.status, content

    def metric(self, name: str) -> float:
        """The sum of a metric of the server over its labels."""
        text = self.get("/metrics")[1].decode()
        return sum(
            float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith((name + " ", name + "{"))
        )

    def served(self) -> set[str]:
        return {str(json.loads(self.get("/health")[1])["model_version"]) for _ in range(8)}

    def status(self) -> dict[str, Any]:
        """What `main.py status` says on the host of the servers."""
        return self.run_main(self.server_home, "status")

    def incident(self, words: str) -> str | None:
        """The status of the newest incident whose cause has these words."""
        query = "SELECT status FROM incidents WHERE cause LIKE %s ORDER BY id DESC LIMIT 1"
        with self.database() as connection:
            row = connection.execute(query, [f"%{words}%"]).fetchone()
        return None if row is None else str(row[0])

    def incidents_open(self) -> list[str]:
        """The causes of those that are not resolved."""
        with self.database() as connection:
            rows = connection.execute("SELECT cause FROM incidents WHERE status <> 'resolved'").fetchall()
        return [str(row[0]) for row in rows]

    # What is counted

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[Any]]:
        """The store by its socket, which no cut cable concerns."""
        with psycopg.connect(self.postgres.local_url.format("store"), autocommit=True) as connection:
            yield connection

    def stored_ids(self) -> set[str]:
        with self.database() as connection:
            rows = connection.execute("SELECT encode(id, 'hex') FROM predictions").fetchall()
        return {str(row[0]) for row in rows}

    def counted(self) -> tuple[int, int]:
        """Predictions by the index, and by the hourly profiles."""
        with self.database() as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM predictions), (SELECT coalesce(sum(rows), 0) FROM window_profiles)"
            ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def logged(self) -> Counter[str]:
        """Lines of the log by prediction, as the store writes ids."""
        found: Counter[str] = Counter()
        for home in (self.server_home, self.trainer_home):
            for path in (home / "logs").glob("predictions_*.jsonl"):
                for line in path.read_bytes().splitlines():
                    with suppress(ValueError, KeyError):
                        found[json.loads(line)["prediction_id"].replace("-", "")] += 1
        return found

    def caught_up(self, answered: set[str], seconds: float = 60.0) -> float:
        """Waits until all of these answers are in the store; the seconds that it took."""
        return wait_for(lambda: answered <= self.stored_ids(), "every answer is in the store", seconds)

    def assert_counted_once(self) -> None:
        """Once nobody predicts any more, each line of the log is in the index and in the profiles, once."""
        logged = self.logged()
        assert set(logged.values()) <= {1}
        wait_for(lambda: self.counted() == (len(logged), len(logged)), f"{len(logged)} lines are counted once", 60)
        assert self.stored_ids() == set(logged)

    # What is done

    def load(self, clients: int = 2) -> Load:
        """Of the rows that the model was trained on: no drift."""
        rows = small_table(300).drop(columns="target").to_dict("records")
        return Load(self.network.servers, self.port, rows, clients)

    def environment(self, home: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
        return kept | {"MLOPS_HOME": str(home), "PYTHONUNBUFFERED": "1"}

    def run_main(self, home: Path, *words: str) -> dict[str, Any]:
        """The JSON that a command prints on the host of the servers."""
        command = self.network.servers.command(*MAIN, *words, "--json")
        done = subprocess.run(
            command, env=self.environment(home), capture_output=True, text=True, check=False, timeout=90
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def log_beside_the_scheduler(self) -> set[str]:
        """Lines in the scheduler's own state root, which it reads itself: a sign that it does its work."""
        log = PredictionLog(self.trainer_home / "logs")
        lines = prediction_lines(5, moment=datetime.now(UTC))
        log.append(lines)
        log.close()
        return {line.prediction_id.replace("-", "") for line in lines}

    def set_champion(self, version: str) -> None:
        """As somebody does it in MLflow's pages."""
        body = json.dumps({"name": MODEL, "alias": "champion", "version": version}).encode()
        request = urllib.request.Request(
            f"{self.mlflow_url}/api/2.0/mlflow/registered-models/alias", body, {"Content-Type": "application/json"}
        )
        with self.network.stores.entered(), urllib.request.urlopen(request, timeout=30) as reply:
            assert reply.status == 200

    def move_champion(self, version: str, seconds: float) -> float:
        """The seconds until every worker of the server serves another champion."""
        self.set_champion(version)
        return wait_for(lambda: self.served() == {version}, f"version {version} serves", seconds)

    @contextmanager
    def full_disk(self) -> Iterator[None]:
        """Within the block no byte fits on the disk of the servers' state root."""
        ballast = self.server_home / "ballast"
        with suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        try:
            yield
        finally:
            ballast.unlink()

    def start_mlflow(self) -> None:
        self["mlflow"].start()
        wait_for(self.answers_mlflow, "MLflow answers")

    def start_server(self) -> float:
        """The seconds until it answers predictions."""
        self["server"].start()
        return wait_for(lambda: self.get("/ready")[0] == 200, "the server is ready")

    def start_scheduler(self) -> None:
        said = self["scheduler"].words().count("is at work")
        self["scheduler"].start()
        wait_for(lambda: self["scheduler"].words().count("is at work") > said, "the scheduler is at work")

    def answers_mlflow(self) -> bool:
        with self.network.stores.entered(), urllib.request.urlopen(f"{self.mlflow_url}/health", timeout=2) as reply:
            return bool(reply.status == 200)

    def mend(self) -> None:
        """After a test that may have failed: everything runs again, by the real time."""
        self.clock.set_ahead(0)
        if self.network.has_cable:
            self.network.mend()
        (self.server_home / "ballast").unlink(missing_ok=True)
        self.postgres.revive()
        for part in self.parts.values():
            part.signal(signal.SIGCONT)
        starts = {"mlflow": self.start_mlflow, "server": self.start_server, "scheduler": self.start_scheduler}
        for name, part in self.parts.items():
            if not part.lives():
                starts.get(name, part.start)()


@contextmanager
def running_system(folder: Path) -> Iterator[System]:
    """All of it at work, with version 1 in service and version 2 registered; gone afterwards."""
    with ExitStack() as stack:
        network = stack.enter_context(two_hosts())
        postgres = stack.enter_context(running_cluster(network.stores.address, network.stores.command()))
        ports = {job: free_port() for job in ("api", "scheduler", "sync")}
        running = stack.enter_context(prometheus(folder / "prometheus", ports, "none is needed", network.servers))
        system = _system(network, folder, postgres, ports, Watched(running, ports))
        for part in system.parts.values():
            stack.callback(part.kill)
        stack.enter_context(_own_disk(system.server_home))
        _configure(system)
        with psycopg.connect(postgres.local_url.format("postgres"), autocommit=True) as connection:
            for name in ("store", "mlflow"):
                connection.execute(f"CREATE DATABASE {name}")
        system.start_mlflow()
        system.run_main(system.trainer_home, "run")
        for name in ("sync", "server"):
            system[name].start()
        assert not system.run_main(system.trainer_home, "run")["promoted"]
        system.start_scheduler()
        wait_for(lambda: system.get("/ready")[0] == 200, "the server is ready")
        system.watched.shows_no_longer("TargetDown", "up", api=1, scheduler=1, sync=1)
        yield system


def _system(network: Network, folder: Path, postgres: Cluster, ports: dict[str, int], watched: Watched) -> System:
    """Every part defined, none started."""
    system = System(network, folder, postgres, ports, watched, free_port(), SetClock(folder / "clock"))
    _add_mlflow(system)
    for name, home, words in (
        ("server", system.server_home, ("serve",)),
        ("sync", system.server_home, ("sync", "--watch")),
        ("scheduler", system.trainer_home, ()),
    ):
        environment = system.environment(home) | system.clock.environment | {"MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}
        part = Part(name, network.servers, (*MAIN, *words), environment, folder / f"{name}.out")
        system.parts[name] = part
    return system


def _add_mlflow(system: System) -> None:
    records = f"{system.postgres.url.replace('postgresql', 'postgresql+psycopg')}/mlflow"
    command = (
        *(sys.executable, "-m", "mlflow", "server", "--host", system.network.stores.address),
        *("--port", str(system.mlflow_port), "--workers", "1", "--backend-store-uri", records),
        *("--artifacts-destination", str(system.folder / "artifacts"), "--allowed-hosts", "*"),
    )
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment = {**os.environ, **variables}
    system.parts["mlflow"] = Part("mlflow", system.network.stores, command, environment, system.folder / "mlflow.out")


def _configure(system: System) -> None:
    common: dict[str, Any] = {
        "target_column": "target",
        "mlflow_uri": system.mlflow_url,
        "store": {"url": f"{system.postgres.url}/store"},
        "deployment": {"model_serve_port": system.port, "health_check_interval": 1.0, "sync_interval": 1.0},
        "alerts": {"tolerated_outage_minutes": 0.03},
        "data": {"source": "table.csv"},
    }
    for home, job in ((system.server_home, "sync"), (system.trainer_home, "scheduler")):
        configure(home, FAST, common, {"monitoring": {"metrics_port": system.ports[job]}})
    small_table(300).to_csv(system.trainer_home / "table.csv", index=False)


@contextmanager
def _own_disk(folder: Path) -> Iterator[None]:
    """A small one, where one may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield
        return
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
