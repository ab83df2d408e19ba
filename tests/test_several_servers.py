"""Three hosts that only serve, one PostgreSQL, one MLflow: the same plan everywhere, and totals that are exact."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from commands.model_versions import promote_version
from config.home import PROJECT_ROOT
from models.serving_plan import read_plan
from monitoring.outcome_records import counted_outcomes
from monitoring.store import Store
from monitoring.tables import labelled_rows, log_sources, outcomes, predictions, server_hours, window_profiles
from pipeline.orchestrator import run_now
from tests.mlflow_servers import MlflowServer, mlflow_database, reach, running
from tests.ports import free_port
from tests.states import environment_of, new_state
from tests.stores import migrated_postgres
from tests.tables import small_table
from tests.trained import in_force

pytestmark = pytest.mark.integration
HOSTS, REQUESTS, ROWS = 3, 5, 4
PROMISED_SECONDS = 5.0


class ServingHost:
    """A machine with a server and `sync --watch`: a state root, and two addresses that it knows."""

    def __init__(self, home: Path, mlflow: str, store: str) -> None:
        self.home, self.port = home, free_port()
        home.mkdir()
        self.environment = environment_of(
            home, MLOPS_MLFLOW_URI=mlflow, MLOPS_STORE__URL=store, MLOPS_DEPLOYMENT__WORKERS="1",
            MLOPS_DEPLOYMENT__MODEL_SERVE_PORT=str(self.port),
        )  # fmt: skip
        self.processes: list[subprocess.Popen[bytes]] = []

    @contextmanager
    def at_work(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        with (self.home / "output").open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, str(PROJECT_ROOT / "main.py"), *command],
                env=self.environment, stdout=output, stderr=output,
            )  # fmt: skip
        self.processes.append(process)
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    def post(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            return json.loads(reply.read())

    def serves(self, version: str) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2) as reply:
            return bool(json.loads(reply.read())["model_version"] == version)
        return False

    def plan(self) -> tuple[str, str] | None:
        """Version and digest of what this host has been told to serve."""
        plan = read_plan(self.home / "models/registry")
        return None if plan is None or plan.champion is None else (plan.champion.version, plan.digest)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 90.0) -> float:
    """Seconds that it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() < started + seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - started


@pytest.fixture
def store_address(postgres_server: str) -> Iterator[str]:
    with migrated_postgres(postgres_server) as url:
        yield url


@pytest.fixture
def mlflow(postgres_server: str, tmp_path: Path) -> Iterator[MlflowServer]:
    with mlflow_database(postgres_server) as backend:
        folder = tmp_path / "mlflow"
        with running(MlflowServer(folder, backend, str(folder / "artifacts"), {})) as server:
            yield server


@pytest.fixture
def trainer(mlflow: MlflowServer, mlflow_template: Path, store_address: str, tmp_path: Path) -> Iterator[None]:
    """The host that trains, in force: version 1 is in service, version 2 is registered."""
    with in_force(new_state(tmp_path / "trainer", mlflow_template)) as patch:
        reach(patch, mlflow, user=False)
        patch.setenv("MLOPS_STORE__URL", store_address)
        assert run_now(None, None).promoted
        assert not run_now(None, None).promoted
        yield


def rows_to_send() -> list[dict[str, Any]]:
    table = small_table(ROWS * REQUESTS).drop(columns="target")
    rows: list[dict[str, Any]] = json.loads(table.to_json(orient="records"))
    return rows


def ask(host: ServingHost) -> list[str]:
    """Identifiers of the predictions of a few requests."""
    rows = rows_to_send()
    batches = [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
    return [id_ for batch in batches for id_ in host.post("/predict", batch)["prediction_id"]]


def counts(store: Store) -> dict[str, int]:
    with store.reading() as connection:
        number = {
            table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one())
            for table in (predictions, outcomes, labelled_rows, log_sources)
        }
        profiled = connection.execute(select(func.sum(window_profiles.c.rows))).scalar()
        requests = connection.execute(select(func.sum(server_hours.c.requests))).scalar()
    return {**number, "window_profiles": int(profiled or 0), "requests": int(requests or 0)}


def test_all_hosts_follow_a_promotion_within_seconds_and_every_row_is_counted_once(
    trainer: None, mlflow: MlflowServer, store_address: str, tmp_path: Path
) -> None:
    hosts = [ServingHost(tmp_path / name, mlflow.url, store_address) for name in ("a", "b", "c")]
    with ExitStack() as watching, Store(store_address) as store:
        for host in hosts:
            watching.enter_context(host.at_work("sync", "--watch"))
        with ExitStack() as serving:
            for host in hosts:
                serving.enter_context(host.at_work("serve"))
            wait_for(lambda: all(host.serves("1") for host in hosts), "version 1 is in service everywhere")
            asked = [ask(host) for host in hosts]
            delays = [promote_and_wait(version, hosts) for version in ("2", "1", "2")]
            asked = [ids + ask(host) for ids, host in zip(asked, hosts, strict=True)]
            for position, host in enumerate(hosts):  # the outcome of a prediction arrives at another host
                host.post("/feedback", [{"prediction_id": id_, "actual": 1} for id_ in asked[position - 1]])
        total = HOSTS * 2 * REQUESTS * ROWS
        expected = {
            "predictions": total, "outcomes": total, "labelled_rows": total, "window_profiles": total,
            "log_sources": HOSTS, "requests": HOSTS * 2 * REQUESTS,
        }  # fmt: skip
        with suppress(AssertionError):
            wait_for(lambda: counts(store) == expected, "everything is counted")
        assert counts(store) == expected
        now = datetime.now(UTC)
        counted: Counter[str] = Counter()
        for one in counted_outcomes(store, now - timedelta(hours=3), now + timedelta(hours=1)):
            counted[one.model_version] += one.rows
        assert counted == {"1": total // 2, "2": total // 2}
    assert min(delays) <= PROMISED_SECONDS, delays  # a busy machine may be late once


def promote_and_wait(version: str, hosts: list[ServingHost]) -> float:
    """Seconds until every host has the same plan with this version and answers with it."""
    promote_version(version, "to see", force=True)
    started = time.monotonic()
    wait_for(lambda: len({host.plan() for host in hosts} | {planned(version)}) == 1, "the same plan everywhere")
    wait_for(lambda: all(host.serves(version) for host in hosts), f"version {version} answers everywhere")
    return time.monotonic() - started


def planned(version: str) -> tuple[str, str]:
    """The plan of the host that promoted."""
    from config.settings import registry_directory

    plan = read_plan(registry_directory())
    assert plan is not None and plan.champion is not None and plan.champion.version == version
    return version, plan.digest
