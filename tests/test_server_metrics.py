"""What /metrics says, over all workers, and that it never goes backwards whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.faults import Fault
from api.metrics import BUCKETS, REFUSALS, REQUESTS, Metrics
from api.reloading import ReloadStatus
from api.shared_counters import OVERFLOW, SLOTS, SharedCounters, hold, remove_idle
from config.settings import decode_settings
from models.row_warnings import RowWarning
from tests.bundles import promote, sample_bundle, sample_row, serve_sample

PROJECT = Path(__file__).resolve().parent.parent
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: bytes) -> Samples:
    """Every sample by name and labels, as Prometheus reads it."""
    families = text_string_to_metric_families(text.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(text: bytes, name: str, **labels: str) -> float:
    return parsed(text).get((name, frozenset(labels.items())), 0.0)


def make_app(folder: Path, **deployment: Any) -> Flask:
    serve_sample(folder / "registry")
    app = create_app(decode_settings({"deployment": deployment}), registry=folder / "registry", logs=folder / "logs")
    app.extensions["mlops"].reloader.ensure_running = lambda: None
    app.extensions["mlops"].reloader.look()
    return app


@pytest.fixture
def client(tmp_path: Path) -> FlaskClient:
    return make_app(tmp_path, max_prediction_batch_size=5).test_client()


def scrape(client: FlaskClient) -> bytes:
    reply = client.get("/metrics")
    assert reply.content_type is not None and reply.content_type.startswith("text/plain; version=0.0.4")
    return bytes(reply.data)


def worker(folder: Path, program: str) -> subprocess.Popen[str]:
    """A process that counts into `folder`; it prints `ready` when it has."""
    source = f"""
import sys, time
from pathlib import Path
from api.metrics import Metrics
metrics = Metrics()
metrics.attach(Path({str(folder)!r}))
{program}
print("ready", flush=True)
sys.stdin.read()
"""
    return subprocess.Popen(
        [sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT
    )


def wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def finish(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=20)


# What is counted


def test_requests_by_route_and_code(client: FlaskClient) -> None:
    for row in (sample_row(), sample_row(), sample_row(age="x")):
        client.post("/predict", json=row)
    client.get("/health")
    for path in ("/a", "/b", "/c" * 500):
        client.get(path)
    client.get("/predict")
    text = scrape(client)
    assert value(text, "mlops_requests_total", route="/predict", code="200") == 2
    assert value(text, "mlops_requests_total", route="/predict", code="422") == 1
    assert value(text, "mlops_requests_total", route="/health", code="200") == 1
    assert value(text, "mlops_requests_total", route="unmatched", code="404") == 3


def test_latency_is_a_histogram_that_prometheus_accepts(client: FlaskClient) -> None:
    for _ in range(7):
        client.post("/predict", json=sample_row())
    samples = parsed(scrape(client))
    buckets = [
        samples["mlops_request_seconds_bucket", frozenset({("route", "/predict"), ("le", bound)})]
        for bound in [f"{bound:g}" for bound in BUCKETS] + ["+Inf"]
    ]
    assert buckets == sorted(buckets) and buckets[-1] == 7
    assert samples["mlops_request_seconds_count", frozenset({("route", "/predict")})] == 7
    assert 0 < samples["mlops_request_seconds_sum", frozenset({("route", "/predict")})] < 7


@pytest.mark.parametrize(
    ("seconds", "bound"), [(0.0, "0.0005"), (0.0005, "0.0005"), (0.00051, "0.001"), (1.0, "1"), (1.1, "+Inf")]
)
def test_a_time_falls_into_its_bucket(seconds: float, bound: str) -> None:
    metrics = Metrics()
    metrics.route("/r").end(200, seconds)
    samples = parsed(metrics.text())
    first = next(
        shown
        for shown in [f"{edge:g}" for edge in BUCKETS] + ["+Inf"]
        if samples["mlops_request_seconds_bucket", frozenset({("route", "/r"), ("le", shown)})]
    )
    assert first == bound


def test_rows_and_warnings_by_model_version(client: FlaskClient) -> None:
    client.post("/predict", json=[sample_row(), sample_row(age=None, city="Bonn"), sample_row(age=None)])
    text = scrape(client)
    assert value(text, "mlops_predictions_total", model_version="1", arm="") == 3
    assert value(text, "mlops_prediction_requests_total", model_version="1", arm="") == 1
    labels = {"model_version": "1", "arm": ""}
    assert value(text, "mlops_warnings_total", field="age", code="missing", **labels) == 2
    assert value(text, "mlops_warnings_total", field="city", code="unseen_category", **labels) == 1


def test_refusals_by_field_and_rule_name_no_field_that_only_the_client_knows(client: FlaskClient) -> None:
    row = sample_row(age="x", visits=None, zz=1, churned="yes") | {"Culmen Length (mm)": []}
    del row["city"]
    client.post("/predict", json=[row, 5])
    text = scrape(client)
    found = {
        (dict(labels)["field"], dict(labels)["rule"]): count
        for (name, labels), count in parsed(text).items()
        if name == REFUSALS.name
    }
    assert found == {
        ("age", "type"): 1,
        ("visits", "null"): 1,
        ("Culmen Length (mm)", "type"): 1,
        ("city", "absent"): 1,
        ("other", "unknown"): 1,
        ("other", "target"): 1,
        ("other", "type"): 1,
    }
    assert value(text, "mlops_refused_requests_total", problem="invalid-rows") == 1


def test_each_problem_is_counted_by_name(client: FlaskClient) -> None:
    client.post("/predict", data=b"{", content_type="application/json")
    client.post("/predict", json=[sample_row()] * 6)
    client.get("/health", headers={"Host": "evil.example"})
    text = scrape(client)
    for problem in ("not-json", "too-many-rows", "foreign-host"):
        assert value(text, "mlops_refused_requests_total", problem=problem) == 1


def test_the_model_in_service_and_what_became_of_the_others(client: FlaskClient, tmp_path: Path) -> None:
    registry, reloader = tmp_path / "registry", client.application.extensions["mlops"].reloader
    promote(registry, "2", sample_bundle(registry / "2", seed=1))
    reloader.look()
    promote(registry, "3", "0" * 64)
    reloader.look()
    text = scrape(client)
    assert value(text, "mlops_serving_workers", model="production_model", model_version="2") == 1
    assert ("mlops_serving_workers", frozenset({("model", "production_model"), ("model_version", "1")})) not in parsed(
        text
    )
    assert value(text, "mlops_plan_generation") == 2
    assert value(text, "mlops_reloads_total") == 2
    assert value(text, "mlops_refused_bundles_total") == 1
    assert value(text, "mlops_reload_problem_workers") == 1
    assert value(text, "mlops_model_loaded_timestamp_seconds") > 1.7e9


def test_a_server_without_a_plan_says_that_it_has_a_problem(tmp_path: Path) -> None:
    app = create_app(registry=tmp_path / "none", logs=tmp_path / "logs")
    reloader = app.extensions["mlops"].reloader
    reloader._prepare = lambda: None  # it shares no memory with others here
    assert value(app.test_client().get("/metrics").data, "mlops_reload_problem_workers") == 1
    reloader.stop()


def test_a_log_that_fails_is_counted(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file in the way")
    assert client.post("/predict", json=sample_row()).status_code == 503
    assert value(scrape(client), "mlops_log_failures_total", log="predictions", outcome="refused") == 1


@pytest.mark.parametrize("name", ['say "hi"', "back\\slash", "new\nline", "Köln", "a.b", "$[0]", "x" * 120])
def test_a_field_of_any_name_is_a_label_that_prometheus_reads(name: str) -> None:
    metrics = Metrics()
    metrics.predictions("1").add(1, [RowWarning(0, name, "missing")])
    assert value(metrics.text(), "mlops_warnings_total", model_version="1", arm="", field=name, code="missing") == 1


def test_faults_of_a_field_with_a_strange_name_are_counted_under_it() -> None:
    metrics, known = Metrics(), ("a b", 'q"x', "plain")
    metrics.refused([Fault('$[3]["a b"]', "r", "string"), Fault('$["q\\"x"]', "r", "null")], known)
    metrics.refused([Fault("$.plain", "r", "string"), Fault('$["torn', "r", "null"), Fault("$", "r", "array")], known)
    counted = {dict(k[1])["field"]: v for k, v in parsed(metrics.text()).items() if k[0] == REFUSALS.name}
    assert counted["a b"] == counted['q"x'] == counted["plain"] == 1


def test_more_series_than_there_is_room_for_are_counted_as_such() -> None:
    metrics = Metrics()
    for number in range(SLOTS + 10):
        metrics.count(REQUESTS, f"/{number}", "200")
    assert value(metrics.text(), OVERFLOW[0]) >= 10
    assert value(metrics.text(), "mlops_requests_total", route="/7", code="200") == 1


def test_counts_of_threads_are_exact() -> None:
    metrics = Metrics()
    meter = metrics.route("/predict")

    def count() -> None:
        for _ in range(5000):
            meter.end(200, 0.001)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value(metrics.text(), "mlops_requests_total", route="/predict", code="200") == 20_000


def test_a_request_is_counted_in_microseconds() -> None:
    """About 1 µs; the bound is wide, for busy machines."""
    metrics = Metrics()
    route, counts = metrics.route("/predict"), metrics.predictions("1")
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(2000):
            counts.add(1)
            route.end(200, 0.001)
        best = min(best, time.perf_counter() - started)
    assert best / 2000 < 10e-6


# Over workers


def test_workers_add_up(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.attach(tmp_path)
    metrics.route("/predict").end(200, 0.001)
    other = worker(tmp_path, "metrics.route('/predict').end(200, 0.001); metrics.predictions('1').add(5)")
    wait_ready(other)
    try:
        assert value(metrics.text(), "mlops_requests_total", route="/predict", code="200") == 2
        assert value(metrics.text(), "mlops_predictions_total", model_version="1", arm="") == 5
    finally:
        finish(other)
        metrics.counters.release()


def test_a_killed_worker_loses_no_count_and_its_successor_goes_on(tmp_path: Path) -> None:
    held = hold(tmp_path)
    count = "[metrics.route('/predict').end(200, 0.001) for _ in range(10)]"
    gauge = "metrics.counters.set(metrics.counters.slot('mlops_requests_in_flight'), 3)"
    first = worker(tmp_path, f"{count}; {gauge}")
    wait_ready(first)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    second = worker(tmp_path, count)
    wait_ready(second)
    reader = Metrics()
    reader.attach(tmp_path)
    try:
        assert value(reader.text(), "mlops_requests_total", route="/predict", code="200") == 20
        assert value(reader.text(), "mlops_requests_in_flight") == 0
        assert len(list(tmp_path.glob("*.counters"))) == 2  # the second worker took the first one's
    finally:
        finish(second)
        reader.counters.release()
        assert held is not None
        os.close(held)


def test_gauges_of_the_dead_do_not_count(tmp_path: Path) -> None:
    held = hold(tmp_path)
    dead = worker(
        tmp_path, "from api.reloading import ReloadStatus\nmetrics.reloaded(ReloadStatus(generation=9), 'm', '4')"
    )
    wait_ready(dead)
    reader = Metrics()
    reader.attach(tmp_path)
    reader.reloaded(ReloadStatus(generation=2), "m", "4")
    assert value(reader.text(), "mlops_serving_workers", model="m", model_version="4") == 2
    assert value(reader.text(), "mlops_plan_generation") == 9
    finish(dead)
    assert value(reader.text(), "mlops_serving_workers", model="m", model_version="4") == 1
    assert value(reader.text(), "mlops_plan_generation") == 2
    reader.counters.release()
    assert held is not None
    os.close(held)


def test_a_worker_that_nobody_holds_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "counters"
    folder.mkdir(mode=0o700)
    finish(worker(folder, ""))
    assert not folder.exists()


def test_the_last_worker_leaves_no_file_and_one_of_several_leaves_all(tmp_path: Path) -> None:
    folder = tmp_path / "counters"
    folder.mkdir(mode=0o700)
    held = hold(folder)
    finish(worker(folder, "metrics.route('/predict').end(200, 0.001)"))
    assert [path.name for path in folder.glob("*.counters")] == ["0.counters"]
    assert held is not None
    os.close(held)
    remove_idle(folder)
    assert not folder.exists()


def test_a_block_that_is_torn_or_of_another_make_is_left_out(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.attach(tmp_path)
    metrics.count(REQUESTS, "/r", "200")
    (tmp_path / "7.counters").write_bytes(b"torn")
    (tmp_path / "8.counters").write_bytes(os.urandom(300_000))
    assert value(metrics.text(), "mlops_requests_total", route="/r", code="200") == 1
    metrics.counters.release()


def test_without_a_folder_to_share_a_worker_counts_for_itself(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.attach(tmp_path / "absent" / "folder")
    metrics.count(REQUESTS, "/r", "200")
    assert value(metrics.text(), "mlops_requests_total", route="/r", code="200") == 1


def test_meters_follow_when_the_block_changes_under_them(tmp_path: Path) -> None:
    before = SharedCounters()
    before.attach(tmp_path)
    for name in ("x", "y", "z"):
        before.slot(name)
    before.release()
    metrics = Metrics()
    meter = metrics.route("/predict")
    metrics.attach(tmp_path)
    meter.end(200, 0.001)
    assert value(metrics.text(), "mlops_requests_total", route="/predict", code="200") == 1
    metrics.counters.release()
