"""The registry and the log of runs, against a real MLflow on SQLite."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import Pipeline

from config.home import PROJECT_ROOT
from models.mlflow_connection import MlflowConnection, RegistryError, set_environment
from models.mlflow_errors import without_passwords
from models.mlflow_registry import Registry, VersionInfo
from models.mlflow_runs import KNOWN_TYPES, RunLog
from models.schema import Feature, Schema
from pipeline.candidates import CANDIDATES
from tests.pipelines import candidate_pipeline

SCHEMA = Schema(
    target="y",
    classes=("no", "yes"),
    features=(
        Feature(name="Length (mm)", kind="numeric", range=(0.0, 1.0), nullable=True),
        Feature(name="count", kind="numeric", range=(0.0, 9.0), integer=True),
        Feature(name="Ort", kind="categorical", categories=("Zürich", "Köln"), nullable=True),
        Feature(name="code", kind="categorical", categories=tuple(range(40)), encoding="target"),
        Feature(name="member", kind="boolean"),
        Feature(name="day", kind="datetime", range=(0.0, 1e9), parts=("month", "weekday")),
    ),
)


def table(rows: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "Length (mm)": np.where(rng.random(rows) < 0.1, np.nan, rng.random(rows)),
            "count": rng.integers(0, 10, rows),
            "Ort": pd.Series(np.array(["Zürich", "Köln", None])[rng.integers(0, 3, rows)], dtype="str"),
            "code": rng.integers(0, 40, rows),
            "member": rng.random(rows) < 0.5,
            "day": pd.Timestamp("2026-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D"),
        }
    )


def fitted(name: str = "logistic_regression") -> Pipeline:
    frame = table()
    small = {"random_forest": "n_estimators", "gradient_boosting": "n_estimators", "hist_gradient_boosting": "max_iter"}
    parameters = {small[name]: 5} if name in small else {}
    return candidate_pipeline(name, SCHEMA, parameters, seed=1).fit(frame, (frame["count"] > 4).astype(int).to_numpy())


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> MlflowConnection:
    """One MLflow for all tests: to make its database takes seconds. Its path has a space in it."""
    folder = tmp_path_factory.mktemp("ml flow")
    return MlflowConnection(f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture(scope="module")
def runs(connection: MlflowConnection, tmp_path_factory: pytest.TempPathFactory) -> RunLog:
    return RunLog(connection, "tests", tmp_path_factory.mktemp("ml artifacts"))


@pytest.fixture
def registry(connection: MlflowConnection) -> Registry:
    """A registered model of its own for each test."""
    return Registry(connection, f"model-{uuid.uuid4().hex[:8]}")


def register(registry: Registry, runs: RunLog, run_id: str = "r", model_uri: str | None = None) -> str:
    return registry.create_version(
        runs.start(run_id), run_id=run_id, manifest_sha256="ab12", algorithm="random_forest",
        metrics={"test_f1": 0.9, "test_roc_auc": None}, model_uri=model_uri,
    )  # fmt: skip


def found(registry: Registry, version: str) -> VersionInfo:
    info = registry.version(version)
    assert info is not None
    return info


# Versions and aliases


def test_before_the_first_version_there_is_nothing_and_no_error(registry: Registry) -> None:
    assert (registry.champion(), registry.versions()) == (None, [])
    assert registry.find_version_by_run("r1") is None
    assert registry.version("1") is None


def test_a_version_keeps_what_it_was_registered_with(registry: Registry, runs: RunLog) -> None:
    version = register(registry, runs, "run-7")
    info = found(registry, version)
    assert version == "1"
    assert (info.run_id, info.manifest_sha256, info.algorithm) == ("run-7", "ab12", "random_forest")
    assert (info.metrics, info.stage, info.aliases) == ({"test_f1": 0.9, "test_roc_auc": None}, "development", ())
    assert info.created_at.tzinfo is not None


def test_versions_are_strings_newest_first_also_past_nine(registry: Registry, runs: RunLog) -> None:
    for _ in range(10):
        register(registry, runs)
    assert [info.version for info in registry.versions()] == [str(number) for number in range(10, 0, -1)]


def test_a_version_is_found_by_its_run(registry: Registry, runs: RunLog) -> None:
    register(registry, runs, "run-a")
    version = register(registry, runs, "run-b")
    assert registry.find_version_by_run("run-b") == version
    assert registry.find_version_by_run("run-c") is None


def test_stages_follow_the_champion(registry: Registry, runs: RunLog) -> None:
    first, second = register(registry, runs), register(registry, runs)
    registry.set_champion(first)
    registry.set_champion(second)
    assert registry.champion() == second
    assert [(info.version, info.stage, info.aliases) for info in registry.versions()] == [
        (second, "production", ("champion",)),
        (first, "archived", ()),
    ]


def test_a_promoted_challenger_is_no_challenger_any_more(registry: Registry, runs: RunLog) -> None:
    first, second = register(registry, runs), register(registry, runs)
    registry.set_champion(first)
    registry.connection.client.set_registered_model_alias(registry.registered_name, "challenger", second)
    registry.align_stages()
    assert (found(registry, second).aliases, found(registry, second).stage) == (("challenger",), "staging")
    registry.set_champion(second)
    assert (found(registry, second).aliases, found(registry, second).stage) == (("champion",), "production")


def test_stages_follow_an_alias_that_was_moved_in_mlflows_own_pages(registry: Registry, runs: RunLog) -> None:
    first, second = register(registry, runs), register(registry, runs)
    registry.set_champion(first)
    registry.connection.client.set_registered_model_alias(registry.registered_name, "champion", second)
    registry.align_stages()
    assert [info.stage for info in registry.versions()] == ["production", "archived"]


def test_a_version_that_does_not_exist_cannot_be_champion(registry: Registry, runs: RunLog) -> None:
    register(registry, runs)
    with pytest.raises(RegistryError, match="could not move the alias"):
        registry.set_champion("99")
    assert registry.champion() is None


def test_a_version_made_by_other_means_is_listed_without_a_bundle(registry: Registry, runs: RunLog) -> None:
    client = registry.connection.client
    client.create_registered_model(registry.registered_name)
    client.create_model_version(registry.registered_name, "file:///elsewhere", tags={"stage": "odd", "metrics": "good"})
    [info] = registry.versions()
    assert (info.manifest_sha256, info.run_id, info.stage, info.metrics) == (None, None, "development", {})


def test_a_name_with_a_quote_is_a_name(connection: MlflowConnection, runs: RunLog) -> None:
    registry = Registry(connection, f"owner's model {uuid.uuid4().hex[:8]}")
    version = register(registry, runs, "run-q")
    assert registry.find_version_by_run("run-q") == version


# Bundles


def test_a_bundle_comes_back_as_it_was_logged(registry: Registry, runs: RunLog, tmp_path: Path) -> None:
    bundle = tmp_path / "staged"
    bundle.mkdir()
    (bundle / "manifest.json").write_text("{}")
    (bundle / "model.onnx").write_bytes(bytes(range(256)))
    version = register(registry, runs)
    runs.log_bundle(str(found(registry, version).mlflow_run_id), bundle)
    registry.download_bundle(version, tmp_path / "registry" / "1")
    assert (tmp_path / "registry" / "1" / "model.onnx").read_bytes() == bytes(range(256))
    assert [path.name for path in (tmp_path / "registry").iterdir()] == ["1"]


def test_who_fetches_a_bundle_waits_until_mlflow_has_it_from_its_storage(
    registry: Registry, runs: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(**_: str) -> str:
        waits.append(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"])
        raise OSError("no bytes came")

    waits: list[str] = []
    version = register(registry, runs)
    usual = os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fetch)
    with pytest.raises(RegistryError, match="could not fetch a bundle"):
        registry.download_bundle(version, tmp_path / "registry" / "1")
    assert (waits, os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]) == (["120"], usual)


def test_a_bundle_that_is_not_there_is_refused_and_leaves_nothing(
    registry: Registry, runs: RunLog, tmp_path: Path
) -> None:
    register(registry, runs)
    for version in ("1", "2"):
        with pytest.raises(RegistryError):
            registry.download_bundle(version, tmp_path / "registry" / version)
    assert list((tmp_path / "registry").iterdir()) == []


# Runs


def test_a_run_holds_a_child_for_each_candidate(runs: RunLog) -> None:
    run = runs.start("run-1", params={"folds": 5}, tags={"trigger": "first"})
    child = runs.log_candidate(
        run, "random_forest", params={"n_estimators": 100}, metrics={"f1": 0.8, "roc_auc": None},
        fold_metrics={"fold_f1": [0.7, 0.8, 0.9]}, seconds=12.5,
    )  # fmt: skip
    runs.log_candidate(run, "logistic_regression", params={}, metrics={}, seconds=1.0, failure="did not converge")
    runs.finish(run)
    client = runs.connection.client
    logged = client.get_run(child)
    assert logged.data.params == {"n_estimators": "100"}
    assert logged.data.metrics == {"f1": 0.8, "fold_f1": 0.9, "duration_seconds": 12.5}
    assert [point.value for point in client.get_metric_history(child, "fold_f1")] == [0.7, 0.8, 0.9]
    assert logged.info.end_time - logged.info.start_time == 12_500
    children = client.search_runs([runs.ensure_experiment()], f"tags.`mlflow.parentRunId` = '{run}'")
    assert sorted(found.info.status for found in children) == ["FAILED", "FINISHED"]


def test_more_than_a_batch_odd_names_and_long_values_are_logged(runs: RunLog) -> None:
    run = runs.start("run-2")
    params = {f"p{number}": "x" * 7000 for number in range(150)} | {"a|b\nc": 1}
    runs.log(run, params=params, metrics={f"m:{number}%": float(number) for number in range(1200)})
    logged = runs.connection.client.get_run(run).data
    assert (len(logged.params), len(logged.metrics)) == (151, 1200)
    assert logged.params["a_b_c"] == "1"
    assert len(logged.params["p1"]) == 6000


def test_a_run_that_was_killed_is_ended_in_mlflow_too(runs: RunLog) -> None:
    killed, other = runs.start("killed-run"), runs.start("other-run")
    runs.finish_interrupted("killed-run")
    statuses = [runs.connection.client.get_run(run).info.status for run in (killed, other)]
    assert statuses == ["KILLED", "RUNNING"]


def test_a_deleted_experiment_is_brought_back(connection: MlflowConnection, tmp_path: Path) -> None:
    first = RunLog(connection, "to be deleted", tmp_path).ensure_experiment()
    connection.client.delete_experiment(first)
    assert RunLog(connection, "to be deleted", tmp_path).ensure_experiment() == first


def test_artifacts_of_a_local_mlflow_are_under_the_state_root(connection: MlflowConnection, home: Path) -> None:
    runs = RunLog(connection, "at home")
    (home / "plots").mkdir()
    (home / "plots" / "a.txt").write_text("x")
    runs.log_files(runs.start("run-3"), home / "plots", "plots")
    assert [path.name for path in (home / "mlartifacts").rglob("*.txt")] == ["a.txt"]


@pytest.mark.parametrize("name", sorted(CANDIDATES))
def test_every_candidates_model_loads_back_from_the_registry_with_equal_answers(
    name: str, registry: Registry, runs: RunLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow.sklearn

    # All types are in KNOWN_TYPES, so that no model is dumped twice.
    monkeypatch.setattr("models.mlflow_runs._types_in", lambda _: pytest.fail("KNOWN_TYPES lacks a type"))
    pipeline, frame = fitted(name), table()
    uri = runs.log_sklearn_model(runs.start("r"), pipeline, SCHEMA, frame)
    registry.set_champion(register(registry, runs, model_uri=uri))
    loaded = mlflow.sklearn.load_model(f"models:/{registry.registered_name}@champion")
    np.testing.assert_array_equal(loaded.predict_proba(frame), pipeline.predict_proba(frame))


def test_a_logged_model_has_a_signature_and_an_example_and_answers_a_table_with_gaps(runs: RunLog) -> None:
    import mlflow.pyfunc

    frame = table()
    loaded = mlflow.pyfunc.load_model(runs.log_sklearn_model(runs.start("r"), fitted(), SCHEMA, frame))
    assert loaded.metadata.signature.inputs.input_names() == list(SCHEMA.feature_names)
    assert loaded.input_example is not None
    assert set(np.unique(loaded.predict(frame))) <= {0, 1}


def test_a_pipeline_of_other_types_is_logged_all_the_same(runs: RunLog, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow.sklearn

    monkeypatch.setattr("models.mlflow_runs.KNOWN_TYPES", KNOWN_TYPES[1:2])
    uri = runs.log_sklearn_model(runs.start("r"), fitted(), SCHEMA, table())
    assert mlflow.sklearn.load_model(uri).predict(table()).shape == (200,)


def test_a_pipeline_that_skops_cannot_hold_is_refused_with_the_reason(runs: RunLog) -> None:
    pipeline = fitted()
    pipeline.steps[-1][1].extra_ = threading.Lock()
    with pytest.raises(RegistryError, match="cannot be stored as a scikit-learn model"):
        runs.log_sklearn_model(runs.start("r"), pipeline, SCHEMA, table())


# The connection


def test_fault_09_the_address_is_set_before_a_client_is_made(connection: MlflowConnection) -> None:
    """The sketch made its client first, so that it spoke to another store than the one configured."""
    import mlflow

    mlflow.set_tracking_uri("http://127.0.0.1:9")
    assert MlflowConnection(connection.address).client.tracking_uri == connection.address
    assert (mlflow.get_tracking_uri(), mlflow.get_registry_uri()) == (connection.address, connection.address)
    assert mlflow.MlflowClient().tracking_uri == connection.address


def test_mlflow_is_quiet_and_leaves_the_programs_logging_alone(tmp_path: Path) -> None:
    code = (
        "import logging, sys; from pathlib import Path\n"
        "logging.basicConfig(level=logging.INFO); handlers = logging.getLogger().handlers[:]\n"
        "from models.mlflow_connection import MlflowConnection; from models.mlflow_runs import RunLog\n"
        "from models.mlflow_registry import Registry\n"
        "connection = MlflowConnection('sqlite:///' + sys.argv[1] + '/mlflow.db')\n"
        "runs = RunLog(connection, 'e', Path(sys.argv[1])); run = runs.start('r')\n"
        "Path(sys.argv[1], 'b').mkdir(); Path(sys.argv[1], 'b', 'f').write_text('x')\n"
        "runs.log_bundle(run, Path(sys.argv[1], 'b')); registry = Registry(connection, 'm')\n"
        "version = registry.create_version(run, run_id='r', manifest_sha256='a', algorithm='x', metrics={})\n"
        "registry.set_champion(version); registry.download_bundle(version, Path(sys.argv[1], 'c'))\n"
        "assert logging.getLogger().handlers == handlers, logging.getLogger().handlers"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment | {"PYTHONPATH": str(PROJECT_ROOT)}, cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_the_registry_does_not_import_mlflow() -> None:
    code = "import sys, models.mlflow_registry, models.mlflow_runs; print({'mlflow', 'pandas'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_the_users_own_timeouts_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_DISABLE_TELEMETRY", raising=False)
    set_environment()
    assert (os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"], os.environ["MLFLOW_DISABLE_TELEMETRY"]) == ("77", "true")


class FakeServer(BaseHTTPRequestHandler):
    """A tracking server that knows one run, and answers everything else but `/health` with an error."""

    def do_GET(self) -> None:
        run = b'{"run": {"info": {"run_id": "a", "run_name": "a", "experiment_id": "1", "status": "RUNNING"}}}'
        known = self.path == "/health" or self.path.startswith("/api/2.0/mlflow/runs/")
        self.send_response(200 if known else 503)
        self.send_header("Retry-After", "600")
        self.send_header("Content-Length", str(len(run)))
        self.end_headers()
        self.wfile.write(run)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def fake_server(connection: MlflowConnection) -> Iterator[str]:
    import mlflow

    server = HTTPServer(("127.0.0.1", 0), FakeServer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    mlflow.set_tracking_uri(connection.address)
    mlflow.set_registry_uri(connection.address)


def test_a_server_that_fails_is_reported_at_once(fake_server: str) -> None:
    started = time.monotonic()
    with pytest.raises(RegistryError, match="could not tell which version is the champion"):
        Registry(fake_server, "m").champion()
    assert time.monotonic() - started < 5


def test_nothing_is_printed_when_a_run_ends_on_a_server(fake_server: str, capfd: pytest.CaptureFixture[str]) -> None:
    RunLog(MlflowConnection(fake_server), "e").finish("a")
    assert capfd.readouterr() == ("", "")


def test_a_server_that_takes_connections_and_hangs_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.mlflow_connection.CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(RegistryError, match="no answer in time"):
            Registry(address, "m").champion()


def test_a_server_that_hangs_later_is_given_up_soon(fake_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(FakeServer, "do_GET", lambda _: threading.Event().wait(1.5))
    monkeypatch.setattr("models.mlflow_connection._check_server", lambda _: None)
    with pytest.raises(RegistryError, match="no answer in time"):
        Registry(fake_server, "m").champion()


@pytest.mark.parametrize(
    "address",
    ["http://user:secret@127.0.0.1:9", "postgresql://user:secret@127.0.0.1:9/mlflow", "sqlite:////proc/no/m.db"],
)
def test_an_address_where_nothing_is_says_so_at_once_and_shows_no_password(address: str) -> None:
    started = time.monotonic()
    with pytest.raises(RegistryError, match="cannot be reached") as caught:
        Registry(address, "m").champion()
    assert "secret" not in str(caught.value)
    assert time.monotonic() - started < 2


def test_an_address_without_a_password_is_shown_as_it_is() -> None:
    assert without_passwords("http://user@host:1/a") == "http://user@host:1/a"


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    with pytest.raises(RegistryError, match="not a database"):
        Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", "m").champion()


def test_errors_of_our_own_are_not_blamed_on_mlflow(connection: MlflowConnection) -> None:
    with pytest.raises(ZeroDivisionError), connection.errors_explained("divide"):
        _ = 1 / 0


def test_waiting_for_a_hanging_server_takes_ten_seconds_at_most() -> None:
    from models.mlflow_connection import ENVIRONMENT

    tries = 1 + int(ENVIRONMENT["MLFLOW_HTTP_REQUEST_MAX_RETRIES"])
    assert tries * int(ENVIRONMENT["MLFLOW_HTTP_REQUEST_TIMEOUT"]) <= 10
    assert logging.getLogger("mlflow").level in (logging.NOTSET, logging.WARNING)
