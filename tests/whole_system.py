"""The whole system as its parts run apart: a host of servers and one of stores, every part a process that may fail.

On the host of the servers: the server and `sync --watch` on one state root, the scheduler on another. On that of the
stores: PostgreSQL, and the MLflow server that keeps its records there. The former tell the time by a clock that a test
may set.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from config.home import PROJECT_ROOT
from monitoring.store import Store
from tests.networks import Host, Network
from tests.set_clock import SetClock
from tests.stoppable_postgres import Cluster
from tests.tables import small_table
from tests.trained import FAST, configure

MAIN = (sys.executable, str(PROJECT_ROOT / "main.py"))
MODEL = "production_model"


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60.0) -> float:
    """Polls until it holds; fails after the bound. Returns the seconds that it took."""
    start = time.monotonic()
    while True:
        with suppress(OSError, http.client.HTTPException):
            if condition():
                return time.monotonic() - start
        assert time.monotonic() - start < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


@dataclass
class Part:
    """A process with all that it starts; started again, it appends to the same output."""

    name: str
    host: Host
    command: tuple[str, ...]
    environment: dict[str, str]
    output: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.host.command(*self.command), env=self.environment, cwd="/", stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """To the process and to all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def stop(self, seconds: float = 30.0) -> None:
        assert self.process is not None
        self.process.terminate()
        self.process.wait(seconds)

    def kill(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait(30)

    def lives(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def words(self) -> str:
        return self.output.read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """Of the process alone, without what it has started."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class System:
    network: Network
    folder: Path
    postgres: Cluster
    port: int
    mlflow_port: int
    clock: SetClock
    parts: dict[str, Part] = field(default_factory=dict)

    @property
    def server_home(self) -> Path:
        return self.folder / "servers"

    @property
    def trainer_home(self) -> Path:
        return self.folder / "trainer"

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

    def status(self, home: Path) -> dict[str, Any]:
        """`main.py status --json` of a host."""
        command = self.network.servers.command(*MAIN, "status", "--json")
        done = subprocess.run(
            command, env=self.environment(home), capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def incidents(self, *, unresolved: bool = False) -> list[tuple[str, str, str]]:
        """Kind, status and cause, oldest first."""
        where = "WHERE status <> 'resolved'" if unresolved else ""
        with self.database() as connection:
            rows = connection.execute(f"SELECT kind, status, cause FROM incidents {where} ORDER BY id").fetchall()
        return [(str(kind), str(status), str(cause)) for kind, status, cause in rows]

    # What is counted

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[Any]]:
        """The store by its socket, which no cut cable concerns."""
        with psycopg.connect(self.postgres.local_url.format("store"), autocommit=True) as connection:
            yield connection

    def store(self) -> Store:
        return Store(self.postgres.local_url.format("store"))

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
        for path in (self.server_home / "logs").glob("predictions_*.jsonl"):
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

    def environment(self, home: Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
        return kept | {"MLOPS_HOME": str(home), "PYTHONUNBUFFERED": "1"}

    def move_champion(self, version: str) -> None:
        """As somebody does it in MLflow's pages."""
        body = json.dumps({"name": MODEL, "alias": "champion", "version": version}).encode()
        request = urllib.request.Request(
            f"{self.mlflow_url}/api/2.0/mlflow/registered-models/alias", body, {"Content-Type": "application/json"}
        )
        with self.network.stores.entered(), urllib.request.urlopen(request, timeout=30) as reply:
            assert reply.status == 200

    def answers_mlflow(self) -> bool:
        with self.network.stores.entered(), urllib.request.urlopen(f"{self.mlflow_url}/health", timeout=2) as reply:
            return bool(reply.status == 200)


class Load:
    """Clients that ask for a prediction now and then until the block ends; answers and failures are kept."""

    def __init__(self, system: System, clients: int = 2, pause: float = 0.04) -> None:
        self._system = system
        self._pause = pause
        self._stop = threading.Event()
        self._row = json.dumps(small_table(1).drop(columns="target").to_dict("records")[0])
        self._threads = [threading.Thread(target=self._send) for _ in range(clients)]
        self.ids: list[str] = []
        #: Status or error of each request that was not answered with 200, with its moment.
        self.failures: list[tuple[float, str]] = []
        self.answered_at: list[float] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    @property
    def answered(self) -> set[str]:
        return {prediction_id.replace("-", "") for prediction_id in list(self.ids)}

    @property
    def kinds(self) -> Counter[str]:
        return Counter(kind for _, kind in self.failures)

    def goes_on(self, more: int = 20) -> None:
        target = len(self.ids) + more
        wait_for(lambda: len(self.ids) >= target, f"{more} more answers", 30)

    def _send(self) -> None:
        with self._system.network.servers.entered():
            connection = http.client.HTTPConnection("127.0.0.1", self._system.port, timeout=10)
            while not self._stop.wait(self._pause):
                try:
                    connection.request("POST", "/predict", self._row, {"Content-Type": "application/json"})
                    reply = connection.getresponse()
                    content = reply.read()
                except (OSError, http.client.HTTPException) as error:
                    connection.close()
                    self.failures.append((time.monotonic(), type(error).__name__))
                    continue
                if reply.status == 200:
                    self.ids += json.loads(content)["prediction_id"]
                    self.answered_at.append(time.monotonic())
                else:
                    self.failures.append((time.monotonic(), str(reply.status)))
            connection.close()


def make_system(network: Network, folder: Path, postgres: Cluster, port: int, mlflow_port: int) -> System:
    """Every part defined, none started."""
    system = System(network, folder, postgres, port, mlflow_port, SetClock(folder / "clock"))
    common: dict[str, Any] = {
        "target_column": "target",
        "mlflow_uri": system.mlflow_url,
        "store": {"url": f"{postgres.url}/store"},
        "deployment": {"model_serve_port": port, "health_check_interval": 1.0, "sync_interval": 1.0, "workers": 2},
        "data": {"source": "table.csv"},
    }
    for home in (system.server_home, system.trainer_home):
        configure(home, FAST, common)
    small_table(300).to_csv(system.trainer_home / "table.csv", index=False)
    _add_mlflow(system)
    for name, home, words in (
        ("server", system.server_home, ("serve",)),
        ("sync", system.server_home, ("sync", "--watch")),
        ("scheduler", system.trainer_home, ()),
    ):
        environment = system.environment(home) | system.clock.environment
        output = folder / f"{name}.out"
        system.parts[name] = Part(name, network.servers, (*MAIN, *words), environment, output)
    return system


def _add_mlflow(system: System) -> None:
    records = f"{system.postgres.url.replace('postgresql', 'postgresql+psycopg')}/mlflow"
    command = (
        *(sys.executable, "-m", "mlflow", "server", "--host", system.network.stores.address),
        *("--port", str(system.mlflow_port), "--workers", "1", "--backend-store-uri", records),
        *("--artifacts-destination", str(system.folder / "artifacts"), "--allowed-hosts", "*"),
    )
    variables = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    system.parts["mlflow"] = Part(
        "mlflow", system.network.stores, command, {**os.environ, **variables}, system.folder / "mlflow.out"
    )
